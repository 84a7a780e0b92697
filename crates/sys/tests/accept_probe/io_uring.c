/* Waits for a connection on descriptor 3 with io_uring, by raw system calls. The argument says how:
 * single, multishot, sqpoll, worker (a kernel thread blocks in accept) or fixed (the listener is registered with the
 * ring and its descriptor closed). Says "waiting" when the request is in the kernel, or "refused" if it cannot be. */
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "single";
    struct io_uring_params params = {0};
    int descriptor = 3;

    if (!strcmp(how, "sqpoll"))
        params.flags = IORING_SETUP_SQPOLL;
    int ring = syscall(__NR_io_uring_setup, 4, &params);
    if (ring < 0) {
        puts("refused");
        return 0;
    }
    char *queue = mmap(0, params.sq_off.array + params.sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE,
                       MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *request = mmap(0, params.sq_entries * sizeof *request, PROT_READ | PROT_WRITE, MAP_SHARED,
                                        ring, IORING_OFF_SQES);
    if (queue == MAP_FAILED || request == MAP_FAILED)
        return 1;

    memset(request, 0, sizeof *request);
    request->opcode = IORING_OP_ACCEPT;
    request->fd = 3;
    if (!strcmp(how, "multishot"))
        request->ioprio = IORING_ACCEPT_MULTISHOT;
    if (!strcmp(how, "worker"))
        request->flags = IOSQE_ASYNC;
    if (!strcmp(how, "fixed")) {
        if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_FILES, &descriptor, 1) < 0)
            return 1;
        close(descriptor);
        request->fd = 0;
        request->flags = IOSQE_FIXED_FILE;
    }
    ((unsigned *)(queue + params.sq_off.array))[0] = 0;
    __atomic_store_n((unsigned *)(queue + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    unsigned flags = params.flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0;
    if (syscall(__NR_io_uring_enter, ring, 1, 0, flags, 0, 0) < 0)
        return 1;
    puts("waiting");
    fflush(stdout);
    for (;;)
        pause();
}
