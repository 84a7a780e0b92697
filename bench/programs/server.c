/* The tiny server that every candidate runs. It answers each request with its PID, and writes down when it began, could
 * serve, accepted first, was told to stop, and ended: `PID EVENT NANOSECONDS`, one write a line.
 *
 *   server --record=FILE [--fd=N | --bind=PORT] [--delay=MS] [--drain=MS]
 *
 * Without --fd and --bind its listeners are those of SERVER_STARTER_PORT or LISTEN_FDS. --delay: what it takes to become
 * ready; --drain: what it takes to end. On TERM it accepts what has come, answers what was asked, tells clients that keep
 * their connections to come back elsewhere, and ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST_LISTENERS = 1024, MOST_CLIENTS = 512, PATIENCE_MS = 500 };

static struct pollfd set[MOST_LISTENERS + MOST_CLIENTS];
static char seen[MOST_CLIENTS][4]; /* the last bytes of the request that each client is sending */
static int listeners, clients, record = -1, accepted;
static volatile sig_atomic_t stopping;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void stamp(const char *event, long long at) {
    char line[96];
    int length = snprintf(line, sizeof line, "%d %s %lld\n", (int)getpid(), event, at);
    if (record >= 0 && write(record, line, length) != length) _exit(1);
}

static void on_term(int number) {
    (void)number;
    if (!stopping) stamp("term", now());
    stopping = 1;
}

static void pause_ms(long ms) {
    long long end = now() + ms * 1000000LL;
    for (long long left; (left = end - now()) > 0;) {
        struct timespec t = {left / 1000000000, left % 1000000000};
        nanosleep(&t, NULL);
    }
}

static void listen_at(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || listeners == MOST_LISTENERS) _exit(2);
    /* All generations share this flag; but accept has no MSG_DONTWAIT, and would block where another one was faster. */
    if (!(flags & O_NONBLOCK)) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    set[listeners++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void bind_port(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0) _exit(3);
    listen_at(fd);
}

static void inherit(void) {
    const char *names = getenv("SERVER_STARTER_PORT"), *count = getenv("LISTEN_FDS");
    if (names)
        for (; (names = strchr(names, '=')); names++) listen_at(atoi(names + 1));
    else if (count)
        for (int i = 0; i < atoi(count); i++) listen_at(3 + i);
}

static void tell_ready(void) {
    const char *path = getenv("NOTIFY_SOCKET"), *number = getenv("READY_FD");
    if (number) {
        if (write(atoi(number), "\n", 1) == 1) close(atoi(number));
    } else if (path) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        strncpy(at.sun_path, path, sizeof at.sun_path - 1);
        socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(at.sun_path);
        if (at.sun_path[0] == '@') at.sun_path[0] = 0;
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&at, length);
        close(fd);
    }
}

static void accept_all(int fd) {
    while (clients < MOST_CLIENTS) {
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) return;
        if (!accepted++) stamp("accept", now());
        memset(seen[clients], 0, 4);
        set[listeners + clients++] = (struct pollfd){.fd = client, .events = POLLIN};
    }
}

static void drop(int i) {
    close(set[listeners + i].fd);
    clients--;
    set[listeners + i] = set[listeners + clients];
    memcpy(seen[i], seen[clients], 4);
}

/* Whether the client is still there. */
static int serve(int i) {
    char in[4096], body[32], out[256];
    ssize_t got = recv(set[listeners + i].fd, in, sizeof in, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return 0;
    for (ssize_t at = 0; at < got; at++) {
        memmove(seen[i], seen[i] + 1, 3);
        seen[i][3] = in[at];
        if (memcmp(seen[i], "\r\n\r\n", 4) != 0) continue;
        int last = stopping, length = snprintf(body, sizeof body, "%d\n", (int)getpid());
        int all = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", length,
                           last ? "Connection: close\r\n" : "", body);
        if (send(set[listeners + i].fd, out, all, MSG_NOSIGNAL) != all || last) return 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    long long began = now(), deadline = 0;
    long delay = 0, drain = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=') ? strchr(argv[i], '=') + 1 : "";
        if (!strncmp(argv[i], "--record=", 9)) record = open(value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (!strncmp(argv[i], "--fd=", 5)) listen_at(atoi(value));
        if (!strncmp(argv[i], "--bind=", 7)) bind_port(atoi(value));
        if (!strncmp(argv[i], "--delay=", 8)) delay = atol(value);
        if (!strncmp(argv[i], "--drain=", 8)) drain = atol(value);
    }
    stamp("main", began);
    if (!listeners) inherit();
    struct sigaction action = {.sa_handler = on_term};
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    sigdelset(&before, SIGTERM);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (delay) pause_ms(delay);
    stamp("ready", now());
    tell_ready();
    for (;;) {
        struct timespec soon = {0, 20000000};
        int ready = ppoll(set, listeners + clients, deadline ? &soon : NULL, &before);
        for (int i = clients - 1; i >= 0 && ready > 0; i--)
            if (set[listeners + i].revents && !serve(i)) drop(i);
        for (int i = 0; i < listeners && ready > 0; i++)
            if (set[i].revents) accept_all(set[i].fd);
        if (stopping && !deadline) {
            deadline = now() + PATIENCE_MS * 1000000LL;
            for (int i = 0; i < listeners; i++) {
                accept_all(set[i].fd);
                close(set[i].fd);
                set[i].fd = -1;
            }
        }
        if (deadline && (!clients || now() > deadline)) break;
    }
    if (drain) pause_ms(drain);
    stamp("exit", now());
    return 0;
}
