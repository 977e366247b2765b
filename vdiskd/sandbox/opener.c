/* SPDX-License-Identifier: BSD-3-Clause */
/* opener.c - the daemon's side: questions, and descriptors that come back. */
#include "opener.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"
#include "vdiskd/sandbox/opener_impl.h"

static int socks[ROLES] = { -1, -1 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* one question at a time */

/* --- one question ------------------------------------------------------------------------------------------------- */

static int receive(int sock, struct opener_answer *a, int *fd)
{
        union {
                char buf[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { a, sizeof(*a) };
        struct msghdr mh = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
        };
        struct cmsghdr *c;
        ssize_t n;

        do
                n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
        if (c && c->cmsg_type == SCM_RIGHTS)
                memcpy(fd, CMSG_DATA(c), sizeof(*fd));
        if (n == (ssize_t)sizeof(*a) && !(mh.msg_flags & MSG_CTRUNC))
                return 0;
        closep(fd);
        *fd = -1;
        return mh.msg_flags & MSG_CTRUNC ? -EMFILE : -EPIPE;
}

static int exchange(const struct opener_question *q, struct opener_answer *a, int *fd)
{
        int r = 0, sock = socks[opener_role_of(q->op)];

        *fd = -1;
        pthread_mutex_lock(&lock);
        while (send(sock, q, sizeof(*q), MSG_NOSIGNAL) < 0 && r == 0)
                r = errno == EINTR ? 0 : -EPIPE;
        if (r == 0)
                r = receive(sock, a, fd);
        pthread_mutex_unlock(&lock);
        if (r == -EPIPE)
                return err_note(-EIO, "the process that opens files for the daemon is gone: restart the daemon");
        return r;
}

static int put(char *to, size_t room, const char *text)
{
        size_t len = text ? strlen(text) : 0;

        if (len >= room)
                return -ENAMETOOLONG;
        memcpy(to, text ?: "", len + 1);
        return 0;
}

/* The answer's result; its sentence is noted. @fd NULL: none is expected. */
static int ask(struct opener_question *q, const char *a, const char *b, struct opener_answer *answer, int *fd)
{
        int got = -1, r = put(q->a, sizeof(q->a), a);

        if (r == 0)
                r = put(q->b, sizeof(q->b), b);
        if (r == 0)
                r = exchange(q, answer, &got);
        if (r < 0)
                return r;
        if (answer->res < 0 && answer->why[0])
                return err_note(answer->res, "%.*s", (int)sizeof(answer->why) - 1, answer->why);
        if (answer->res < 0 || !fd) {
                closep(&got);
                return answer->res;
        }
        *fd = got;
        return got < 0 ? -EBADMSG : 0;
}

/* Questions have 9 KiB; stacks of queue threads have more than that, but not of everybody who calls. */
static int ask_simply(enum opener_op op, int how, mode_t mode, const char *a, const char *b, struct opener_answer *answer,
                      int *fd)
{
        AUTO(freep) struct opener_question *q = calloc(1, sizeof(*q));

        if (!q)
                return -ENOMEM;
        q->op = op;
        q->how = how;
        q->mode = mode;
        return ask(q, a, b, answer, fd);
}

static int ask_for_fd(enum opener_op op, int how, mode_t mode, const char *a, const char *b)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));
        int fd = -1, r = answer ? ask_simply(op, how, mode, a, b, answer, &fd) : -ENOMEM;

        return r < 0 ? r : fd;
}

/* --- path.h ------------------------------------------------------------------------------------------------------- */

static int there_open(const char *path, int how, mode_t mode)
{
        return ask_for_fd(OPENER_OPEN, how, mode, path, NULL);
}

static int there_open_beneath(const char *dir, const char *name, int how)
{
        return ask_for_fd(OPENER_OPEN_BENEATH, how, 0, dir, name);
}

static int there_open_allowed(const char *image, const char *path, int how)
{
        return ask_for_fd(OPENER_OPEN_ALLOWED, how, 0, image, path);
}

static int there_look(const char *path, bool follow, struct stat *st)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));
        int r = answer ? ask_simply(OPENER_LOOK, follow, 0, path, NULL, answer, NULL) : -ENOMEM;

        if (r == 0)
                *st = answer->st;
        return r;
}

static int there_real(const char *path, char **ret)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));
        int r = answer ? ask_simply(OPENER_REAL, 0, 0, path, NULL, answer, NULL) : -ENOMEM;

        *ret = r == 0 ? strndup(answer->path, sizeof(answer->path) - 1) : NULL;
        return r == 0 && !*ret ? -ENOMEM : r;
}

static int there_unlink(const char *path)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));

        return answer ? ask_simply(OPENER_UNLINK, 0, 0, path, NULL, answer, NULL) : -ENOMEM;
}

static int there_connect(const char *path)
{
        return ask_for_fd(OPENER_CONNECT, 0, 0, path, NULL);
}

static int there_save(const char *dir, const char *name, const char *text, bool replace)
{
        AUTO(freep) struct opener_question *q = calloc(1, sizeof(*q));
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));

        if (!q || !answer)
                return -ENOMEM;
        q->op = OPENER_SAVE;
        q->how = replace;
        if (put(q->text, sizeof(q->text), text) < 0)
                return err_note(-EFBIG, "%s/%s: more than %u bytes cannot be saved", dir, name, OPENER_TEXT - 1);
        return ask(q, dir, name, answer, NULL);
}

static int there_remove(const char *path)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));

        return answer ? ask_simply(OPENER_REMOVE, 0, 0, path, NULL, answer, NULL) : -ENOMEM;
}

static const struct path_ops there = {
        .open = there_open,
        .open_beneath = there_open_beneath,
        .open_allowed = there_open_allowed,
        .look = there_look,
        .real = there_real,
        .unlink = there_unlink,
        .connect = there_connect,
        .save = there_save,
        .remove = there_remove,
};

/* --- sockets and the process that takes over ---------------------------------------------------------------------- */

/* NULL: no memory, or names that are too long for any system. */
static struct opener_question *about_socket(enum opener_op op, const struct listen_at *at)
{
        struct opener_question *q = calloc(1, sizeof(*q));

        if (!q)
                return NULL;
        q->op = op;
        q->how = at->mode;
        if (put(q->owner, sizeof(q->owner), at->owner) == 0 && put(q->group, sizeof(q->group), at->group) == 0)
                return q;
        free(q);
        return NULL;
}

int opener_listen(const struct listen_at *at, struct listener *l)
{
        AUTO(freep) struct opener_question *q = about_socket(OPENER_LISTEN, at);
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));
        AUTO(freep) char *path = strdup(at->path);
        int fd = -1, r;

        if (!q || !answer || !path)
                return -ENOMEM;
        r = ask(q, path, NULL, answer, &fd);
        if (r < 0)
                return r;
        *l = (struct listener){ .fd = fd, .path = TAKE(path, NULL), .dev = answer->st.st_dev, .ino = answer->st.st_ino };
        return 0;
}

int opener_change(const struct listener *l, const struct listen_at *at)
{
        AUTO(freep) struct opener_question *q = about_socket(OPENER_CHANGE, at);
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));

        if (!q || !answer)
                return -ENOMEM;
        q->dev = l->dev;
        q->ino = l->ino;
        return ask(q, l->path, NULL, answer, NULL);
}

int opener_spawn(const char *binary, pid_t *pid)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));
        int fd = -1, r = answer ? ask_simply(OPENER_SPAWN, 0, 0, binary, NULL, answer, &fd) : -ENOMEM;

        if (r < 0)
                return r;
        *pid = answer->pid;
        return fd;
}

void opener_end_spawned(bool kill_it)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));

        if (answer)
                (void)ask_simply(OPENER_END, kill_it, 0, NULL, NULL, answer, NULL);
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

static void become(enum opener_role role, int end, const struct opener_rules *rules) __attribute__((noreturn));
static void become(enum opener_role role, int end, const struct opener_rules *rules)
{
        int std_fd = rules->std_fd >= 0 ? fcntl(rules->std_fd, F_DUPFD_CLOEXEC, 4) : -1; /* it may be 3 */

        if (end != 3 && dup2(end, 3) < 0)
                _exit(1);
        for (int std = 0; std <= 2 && std_fd >= 0; std++)
                if (dup2(std_fd, std) < 0)
                        _exit(1);
        close_range(4, ~0u, 0);
        fcntl(3, F_SETFD, FD_CLOEXEC);
        prctl(PR_SET_DUMPABLE, 0); /* what the starter starts can be dumped again */
        prctl(PR_SET_NAME, role == ROLE_OPENER ? "vdiskd-opener" : "vdiskd-starter");
        opener_serve(3, rules, role);
}

static int start(enum opener_role role, const struct opener_rules *rules)
{
        int ends[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return err_note(-errno, "cannot make a socket for the opener: %s", strerror(errno));
        pid = fork();
        if (pid == 0)
                become(role, ends[1], rules);
        close(ends[1]);
        if (pid < 0) {
                close(ends[0]);
                return err_note(-errno, "cannot start the opener: %s", strerror(errno));
        }
        socks[role] = ends[0];
        return 0;
}

/* Its first words. */
static int hear(enum opener_role role)
{
        AUTO(freep) struct opener_answer *answer = malloc(sizeof(*answer));
        int fd, r = answer ? receive(socks[role], answer, &fd) : -ENOMEM;

        if (r == -EPIPE)
                return err_note(-EIO, "the opener ended before it began");
        if (r == 0 && answer->res < 0)
                r = err_note(answer->res, "%.*s", (int)sizeof(answer->why) - 1, answer->why);
        return r;
}

int opener_start(const struct opener_rules *rules)
{
        int r = start(ROLE_OPENER, rules);

        if (r == 0)
                r = start(ROLE_STARTER, rules);
        for (int role = 0; role < ROLES && r == 0; role++)
                r = hear((enum opener_role)role);
        if (r < 0) {
                opener_stop();
                return r;
        }
        path_use(&there);
        return 0;
}

bool opener_runs(void)
{
        return socks[ROLE_OPENER] >= 0;
}

void opener_stop(void)
{
        char byte;

        path_use(NULL);
        for (int role = 0; role < ROLES; role++) {
                if (socks[role] < 0)
                        continue;
                shutdown(socks[role], SHUT_WR);
                while (recv(socks[role], &byte, sizeof(byte), 0) > 0)
                        ;
                close(TAKE(socks[role], -1));
        }
}
