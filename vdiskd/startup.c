/* SPDX-License-Identifier: BSD-3-Clause */
#include "startup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"

/* --- commands ------------------------------------------------------------------------------------------------------ */

struct starting {
        struct loop *loop;
        bool running; /* the loop */
        bool done;
        char error[512];
};

static void on_done(void *opaque, const char *error)
{
        struct starting *s = opaque;

        s->done = true;
        snprintf(s->error, sizeof(s->error), "%s", error ?: "");
        if (s->running)
                loop_stop(s->loop);
}

static int run_one(struct starting *s, struct control *c, const struct startup *st)
{
        AUTO(freep) char *text = json_dumps(st->args, JSON_COMPACT);
        int r = 0;

        s->done = false;
        control_run(c, st->command, json_deep_copy(st->args), on_done, s);
        s->running = true;
        while (!s->done && r == 0)
                r = loop_run(s->loop);
        s->running = false;
        err_clear();
        if (r == 0 && s->error[0])
                r = err_note(-EINVAL, "%s %s: %s", st->option, text ?: "", s->error);
        return r;
}

int startup_run(struct loop *l, struct control *c, const struct options *o)
{
        struct starting s = { .loop = l };
        int r = 0;

        for (size_t i = 0; r == 0 && i < o->nstartup; i++)
                r = run_one(&s, c, &o->startup[i]);
        return r;
}

/* --- the background ------------------------------------------------------------------------------------------------ */

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

int startup_daemonize(int *fd, int *null)
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

void startup_tell(int fd, int null)
{
        ssize_t ignored = write(fd, "", 1);

        (void)ignored;
        close(fd);
        for (int std = 0; std <= 2; std++)
                dup2(null, std);
        close(null);
}
