/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * opener_serve.c - the opener's side. It trusts no question: lengths, codes and ends of text are looked at before use.
 * Nor does it work for whoever asks without end: one question at a time, a few more in the socket, and what stays on
 * the host after an answer (files, sockets, processes) has its pace. Who asks for more of it waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/pace.h"
#include "common/path.h"
#include "vdiskd/sandbox/opener_impl.h"
#include "vdiskd/upgrade/successor.h"

static pid_t spawned; /* 0: none */

/* --- what is asked for -------------------------------------------------------------------------------------------- */

static struct listen_at socket_of(const struct opener_question *q)
{
        return (struct listen_at){
                .path = q->a, .fd = -1, .mode = q->how, .owner = q->owner[0] ? q->owner : NULL,
                .group = q->group[0] ? q->group : NULL,
        };
}

static int do_change(const struct opener_question *q)
{
        const struct listener l = { .fd = -1, .path = (char *)q->a, .dev = q->dev, .ino = q->ino };
        struct listen_at at = socket_of(q);

        return listener_change(&l, &at);
}

static int do_listen(const struct opener_question *q, struct opener_answer *a)
{
        struct listen_at at = socket_of(q);
        struct listener l;
        int r = listener_open(&l, &at, NULL);

        if (r < 0)
                return r;
        a->st.st_dev = l.dev;
        a->st.st_ino = l.ino;
        free(l.path);
        return l.fd;
}

/* Of root or ours, and nobody else's to change. What is found through PATH is as good as our environment is. */
static int check_binary(const char *path)
{
        struct stat st;

        if (!strchr(path, '/'))
                return 0;
        if (stat(path, &st) < 0)
                return err_note(-errno, "%s: cannot be started: %s", path, strerror(errno));
        if ((st.st_uid && st.st_uid != geteuid()) || st.st_mode & (S_IWGRP | S_IWOTH))
                return err_note(-EPERM, "%s: others than root and the user that started vdiskd may write to it: not run by a "
                                "daemon in its sandbox", path);
        return 0;
}

/* One at a time: what has ended by itself no longer counts. */
static bool one_runs(void)
{
        if (spawned && waitpid(spawned, NULL, WNOHANG) != 0)
                spawned = 0;
        return spawned;
}

static int do_spawn(const struct opener_question *q, const struct opener_rules *rules, struct opener_answer *a)
{
        int r = one_runs() ? err_note(-EBUSY, "process %d, which was to take over, still runs", (int)spawned) : check_binary(q->a);

        if (r == 0)
                r = successor_start(q->a, rules->argv, &spawned);
        if (r >= 0)
                a->pid = spawned;
        return r;
}

static int do_end(const struct opener_question *q)
{
        if (!spawned)
                return -ESRCH;
        successor_end(spawned, q->how);
        if (q->how)
                spawned = 0;
        return 0;
}

static int do_real(const struct opener_question *q, struct opener_answer *a)
{
        AUTO(freep) char *real = NULL;
        int r = path_real(q->a, &real);

        if (r == 0 && strlen(real) >= sizeof(a->path))
                return -ENAMETOOLONG;
        if (r == 0)
                strcpy(a->path, real);
        return r;
}

/* What it leaves behind has its pace. */
static void wait_for_turn(const struct opener_question *q)
{
        static struct pace made = { .at_once = OPENER_MADE_AT_ONCE, .every_ns = OPENER_MADE_EVERY_NS };
        static struct pace started = { .at_once = OPENER_STARTED_AT_ONCE, .every_ns = OPENER_STARTED_EVERY_NS };
        bool makes = (q->op == OPENER_OPEN && q->how & O_CREAT) || q->op == OPENER_LISTEN || q->op == OPENER_SAVE;
        struct pace *p = q->op == OPENER_SPAWN ? &started : makes ? &made : NULL;

        while (p && !pace_take(p, clock_ns()))
                (void)poll(NULL, 0, (int)(p->every_ns / NS_PER_MS));
}

static int answer(const struct opener_question *q, const struct opener_rules *rules, enum opener_role role, struct opener_answer *a)
{
        int r = opener_check(rules, q);

        if (r < 0)
                return r;
        if (opener_role_of(q->op) != role)
                return -ENOSYS;
        wait_for_turn(q);
        switch (q->op) {
        case OPENER_OPEN:
                return path_open(q->a, q->how, q->mode);
        case OPENER_OPEN_BENEATH:
                return path_open_beneath(q->a, q->b, q->how);
        case OPENER_OPEN_ALLOWED:
                return path_open_allowed(q->a, q->b, q->how);
        case OPENER_LOOK:
                return path_look(q->a, q->how, &a->st);
        case OPENER_REAL:
                return do_real(q, a);
        case OPENER_UNLINK:
                return path_unlink(q->a);
        case OPENER_CONNECT:
                return path_connect(q->a);
        case OPENER_LISTEN:
                return do_listen(q, a);
        case OPENER_CHANGE:
                return do_change(q);
        case OPENER_SAVE:
                return path_save(q->a, q->b, q->text, q->how);
        case OPENER_REMOVE:
                return path_remove(q->a);
        case OPENER_SPAWN:
                return do_spawn(q, rules, a);
        case OPENER_END:
                return do_end(q);
        }
        return -ENOSYS;
}

static bool has_fd(uint32_t op)
{
        return op == OPENER_OPEN || op == OPENER_OPEN_BENEATH || op == OPENER_OPEN_ALLOWED || op == OPENER_CONNECT ||
               op == OPENER_LISTEN || op == OPENER_SPAWN;
}

/* --- packets ------------------------------------------------------------------------------------------------------ */

static int reply(int sock, const struct opener_answer *a, int fd)
{
        union {
                char buf[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec iov = { (void *)a, sizeof(*a) };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (fd >= 0) {
                mh.msg_control = &control;
                mh.msg_controllen = sizeof(control);
                control.align = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
        }
        do
                n = sendmsg(sock, &mh, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

/* @r: what came of it. */
static int reply_with(int sock, struct opener_answer *a, int r, int fd)
{
        a->res = r < 0 ? r : 0;
        if (r < 0 && strcmp(err_text(r), strerror(-r))) /* path.h leaves most sentences to the one who asked */
                strncpy(a->why, err_text(r), sizeof(a->why) - 1);
        r = reply(sock, a, fd);
        if (r == -EPIPE || fd < 0)
                return r;
        /* -ETOOMANYREFS: processes of our user have sent so many that nobody has taken yet. The next one may go
         * through. */
        if (r < 0) {
                a->res = r;
                r = reply(sock, a, -1);
        }
        return r;
}

static int serve_one(int sock, const struct opener_question *q, const struct opener_rules *rules, enum opener_role role,
                     struct opener_answer *a)
{
        AUTO(closep) int fd = -1;
        int r;

        memset(a, 0, sizeof(*a));
        err_clear();
        r = answer(q, rules, role, a);
        if (r >= 0 && has_fd(q->op))
                fd = r;
        return reply_with(sock, a, r, fd);
}

void opener_serve(int sock, const struct opener_rules *rules, enum opener_role role)
{
        struct opener_question *q = calloc(1, sizeof(*q));
        struct opener_answer *a = calloc(1, sizeof(*a));
        int begun = role == ROLE_OPENER ? opener_confine(rules) : 0;

        if (!a || reply_with(sock, a, begun, -1) < 0)
                _exit(0);
        while (q && begun == 0) {
                ssize_t n = recv(sock, q, sizeof(*q), 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n != (ssize_t)sizeof(*q))
                        break;
                q->a[sizeof(q->a) - 1] = q->b[sizeof(q->b) - 1] = '\0';
                q->text[sizeof(q->text) - 1] = q->owner[sizeof(q->owner) - 1] = q->group[sizeof(q->group) - 1] = '\0';
                if (serve_one(sock, q, rules, role, a) < 0)
                        break;
        }
        _exit(0);
}
