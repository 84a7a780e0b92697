/* The floor: what a restart costs when nothing is done but what the kernel has to do. It binds, forks and executes the
 * server, waits for the byte that says ready, and tells the old one to stop. Whatever goes wrong, it does not notice.
 *
 *   floor COUNT PORT SERVER [ARGUMENT]...     listens on COUNT ports from PORT on, at descriptors from 3 on */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t start(char **argv, const sigset_t *none) {
    int ready[2];
    char byte, number[16];
    if (pipe(ready) != 0) exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(ready[0]);
        snprintf(number, sizeof number, "%d", ready[1]);
        setenv("READY_FD", number, 1);
        sigprocmask(SIG_SETMASK, none, NULL);
        execv(argv[0], argv);
        _exit(127);
    }
    close(ready[1]);
    while (read(ready[0], &byte, 1) < 0) {}
    close(ready[0]);
    return pid;
}

int main(int argc, char **argv) {
    int count = argc > 3 ? atoi(argv[1]) : 0, port = count ? atoi(argv[2]) : 0, on = 1, number;
    sigset_t set, none;
    for (int i = 0; i < count; i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port + i), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (fd != 3 + i) dup2(fd, 3 + i), close(fd);
        fd = 3 + i;
        if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0) return 1;
    }
    setenv("LISTEN_FDS", argv[1], 1);
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP), sigaddset(&set, SIGTERM), sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t current = start(argv + 3, &none);
    for (;;) {
        if (sigwait(&set, &number) != 0) continue;
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
        if (number == SIGCHLD) continue;
        pid_t old = current;
        if (number == SIGHUP) current = start(argv + 3, &none);
        kill(old, SIGTERM);
        if (number == SIGTERM) return waitpid(old, NULL, 0) < 0;
    }
}
