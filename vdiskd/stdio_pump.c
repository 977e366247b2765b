/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread, because standard input may be a file or a terminal, which epoll does not take or which others use, too: it
 * must stay blocking. It ends when the daemon closes its end of the socket; the end of the input is no end of the
 * daemon.
 */
#include "stdio_pump.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/thread.h"

struct stdio_pump {
        pthread_t thread;
        int fd;
};

/* False: the reader is gone. */
static bool write_all(int fd, const char *p, ssize_t n)
{
        while (n > 0) {
                ssize_t done = write(fd, p, (size_t)n);

                if (done < 0 && errno == EINTR)
                        continue;
                if (done <= 0)
                        return false;
                p += done;
                n -= done;
        }
        return true;
}

static void *pump(void *arg)
{
        struct stdio_pump *p = arg;
        struct pollfd fds[2] = { { .fd = p->fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
        char buf[4096];

        thread_begins(THREAD_WORKER);
        for (;;) {
                ssize_t n;

                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        break;
                if (fds[0].revents) {
                        n = read(p->fd, buf, sizeof(buf));
                        if (n <= 0)
                                break;
                        write_all(STDOUT_FILENO, buf, n); /* nobody reads: the daemon goes on */
                }
                if (fds[1].revents) {
                        n = read(STDIN_FILENO, buf, sizeof(buf));
                        if (n <= 0 || !write_all(p->fd, buf, n))
                                fds[1].fd = -1;
                }
        }
        return NULL;
}

int stdio_pump_start(struct stdio_pump **ret, int *fd)
{
        struct stdio_pump *p = malloc(sizeof(*p));
        int pair[2], r;

        if (!p || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
                free(p);
                return err_note(-ENOMEM, "--chardev stdio: cannot make a socket");
        }
        p->fd = pair[0];
        r = pthread_create(&p->thread, NULL, pump, p); /* signals are blocked by now */
        if (r) {
                close(pair[0]);
                close(pair[1]);
                free(p);
                return err_note(-r, "--chardev stdio: cannot start a thread: %s", strerror(r));
        }
        *fd = pair[1];
        *ret = p;
        return 0;
}

void stdio_pump_finish(struct stdio_pump *p)
{
        if (!p)
                return;
        pthread_join(p->thread, NULL);
        close(p->fd);
        free(p);
}
