/* SPDX-License-Identifier: BSD-3-Clause */
#include "vdiskd/background.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"

static void wait_for(int fd, pid_t child) __attribute__((noreturn));
static void wait_for(int fd, pid_t child)
{
        char word;
        ssize_t n;
        int st;

        do
                n = read(fd, &word, 1);
        while (n < 0 && errno == EINTR);
        if (n == 1)
                _exit(0);
        while (waitpid(child, &st, 0) < 0 && errno == EINTR)
                ;
        _exit(1); /* the child has said why */
}

int background_begin(int *fd, int *null)
{
        int pipe_fds[2];
        pid_t child;

        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return err_note(-errno, "--daemonize: %s", strerror(errno));
        child = fork();
        if (child < 0)
                return err_note(-errno, "--daemonize: %s", strerror(errno));
        if (child > 0) {
                close(pipe_fds[1]);
                wait_for(pipe_fds[0], child);
        }
        close(pipe_fds[0]);
        setsid();
        *fd = pipe_fds[1];
        *null = open("/dev/null", O_RDWR | O_CLOEXEC);
        return *null < 0 ? err_note(-errno, "/dev/null: %s", strerror(errno)) : 0;
}

void background_tell(int fd, int null)
{
        ssize_t ignored = write(fd, "", 1);

        (void)ignored;
        close(fd);
        for (int std = 0; std <= 2; std++)
                dup2(null, std);
        close(null);
}
