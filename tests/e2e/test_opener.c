/* SPDX-License-Identifier: BSD-3-Clause */
/* test_opener.c - what a daemon that is somebody else's by now gets of the host through its opener and its starter, at most. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"
#include "vdiskd/sandbox/opener_impl.h"
#include "vdiskd/sandbox/sandbox_calls.h"

static char dir[] = "/tmp/test_opener.XXXXXX";

/* "1000" is for a program that sleeps. */
static char *arguments[] = { (char *)"vdiskd", (char *)"1000", NULL };
static struct disk_opts disk = { .path = (char *)"image", .socket = (char *)"sock", .fd = -1, .socket_mode = -1 };
static const struct options options = { .disks = &disk, .ndisks = 1, .sandbox = SANDBOX_STRICT };

static int make_dir(void **state)
{
        (void)state;
        return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
        char command[64];

        (void)state;
        snprintf(command, sizeof(command), "rm -rf %s", dir);
        return chdir("/") < 0 || system(command) != 0 ? -1 : 0;
}

/* --- the opener's own ------------------------------------------------------------------------------------------------- */

/* In a process of its own, where no assertion would be heard. */
#define HOLDS(fact) do { if (!(fact)) { fprintf(stderr, "not so: %s (%s)\n", #fact, strerror(errno)); _exit(1); } } while (0)

static void use_means(const struct opener_rules *rules)
{
        int fd = open("image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        HOLDS(fd >= 0);
        HOLDS(opener_confine(rules) == 0);
        HOLDS(lseek(fd, OPENER_MAX_FILE - 1, SEEK_SET) > 0 && write(fd, "x", 1) == 1);
        HOLDS(write(fd, "x", 1) < 0 && errno == EFBIG);
        if (!SANDBOX_RELAXED)
                HOLDS(mmap(NULL, OPENER_MAX_DATA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        _exit(0);
}

static void test_means(void **state)
{
        (void)state;
        for (int strict = 0; strict <= 1; strict++) {
                const struct opener_rules rules = { .strict = strict, .options = &options, .argv = arguments, .std_fd = -1 };
                struct rlimit core;
                pid_t pid = fork();
                int status = 0;

                if (pid == 0)
                        use_means(&rules);
                assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
                assert_int_equal(status, 0);
                unlink("image");

                assert_int_equal(opener_start(&rules), 0);
                assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0); /* the daemon's own are as they were */
                opener_stop();
        }
}

/* --- what it answers -------------------------------------------------------------------------------------------------- */

/* Neither a program nor the rights of another one, by any way that leads to it. */
static void test_no_program_is_made(void **state)
{
        static const mode_t modes[] = { 0755, 0700, 04644, 02644, 01644, 0111 };

        (void)state;
        for (int strict = 0; strict <= 1; strict++) {
                const struct opener_rules rules = { .strict = strict, .options = &options, .argv = arguments, .std_fd = -1 };
                const struct listen_at to = { .fd = -1, .mode = 0777 };
                struct listener l = { .fd = -1, .path = (char *)"made" };
                struct stat st;
                int fd;

                assert_int_equal(opener_start(&rules), 0);
                for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
                        assert_int_equal(path_open("made", O_RDWR | O_CREAT | O_CLOEXEC, modes[i]), -EPERM);
                assert_int_equal(access("made", F_OK), -1);
                fd = path_open("made", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                assert_true(fd >= 0 && fstat(fd, &st) == 0);
                l.dev = st.st_dev; /* not of a socket */
                l.ino = st.st_ino;
                assert_int_equal(opener_change(&l, &to), -ENOENT);
                assert_int_equal(fstat(fd, &st), 0);
                assert_int_equal(st.st_mode & 07777, 0600);
                assert_true(!strict || opener_spawn("./made", &(pid_t){ 0 }) == -EPERM);
                close(fd);
                unlink("made");
                opener_stop();
                err_clear();
        }
}

static void expect_gone(pid_t pid)
{
        assert_true(kill(pid, 0) < 0 && errno == ESRCH);
}

/* Processes that are to take over. What ended by itself leaves room for the next, and nothing in the table of processes. */
static void test_one_successor_at_a_time(void **state)
{
        const struct opener_rules rules = { .options = &options, .argv = arguments, .std_fd = -1 };
        pid_t first = 0, none = 0, second = 0, third = 0;
        int fd, fd2, fd3;

        (void)state;
        assert_int_equal(opener_start(&rules), 0);
        fd = opener_spawn("sleep", &first);
        assert_true(fd >= 0 && first > 0);
        for (int i = 0; i < 10; i++)
                assert_int_equal(opener_spawn("sleep", &none), -EBUSY);
        assert_non_null(strstr(err_text(-EBUSY), "still runs"));
        assert_int_equal(kill(first, 0), 0);
        opener_end_spawned(true);
        expect_gone(first);
        fd2 = opener_spawn("sleep", &second);
        assert_true(fd2 >= 0 && second != first);
        kill(second, SIGKILL);
        while ((fd3 = opener_spawn("sleep", &third)) == -EBUSY)
                usleep(20000);
        assert_true(fd3 >= 0);
        expect_gone(second);
        opener_end_spawned(true);
        opener_stop();
        close(fd);
        close(fd2);
        close(fd3);
        err_clear();
}

/* Questions as they may come from whoever has the daemon's end: each gets an answer, or the opener ends. It serves nobody else. */
static void ask_raw(int sock, const void *q, size_t len, struct opener_answer *a, bool answered)
{
        ssize_t n;

        assert_int_equal(send(sock, q, len, MSG_NOSIGNAL), len);
        n = recv(sock, a, sizeof(*a), 0);
        assert_int_equal(n, answered ? (ssize_t)sizeof(*a) : 0);
}

static pid_t raw_opener(enum opener_role role, int *sock)
{
        static const struct opener_rules rules = { .strict = true, .options = &options, .argv = arguments, .std_fd = -1 };
        struct opener_answer hello;
        int ends[2];
        pid_t pid;

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        pid = fork();
        if (pid == 0) {
                close(ends[0]);
                opener_serve(ends[1], &rules, role);
        }
        close(ends[1]);
        *sock = ends[0];
        assert_int_equal(recv(*sock, &hello, sizeof(hello), 0), sizeof(hello));
        assert_int_equal(hello.res, 0);
        return pid;
}

static void test_questions_of_any_kind(void **state)
{
        struct opener_question *q = calloc(1, sizeof(*q));
        struct opener_answer *a = calloc(1, sizeof(*a));
        int sock, status;
        pid_t pid;

        (void)state;
        assert_true(q && a);
        for (int role = 0; role < ROLES; role++) {
                pid = raw_opener((enum opener_role)role, &sock);
                for (uint32_t op = 0; op < 40; op++) {
                        memset(q, 0xff, sizeof(*q)); /* no end in any text */
                        q->op = op;
                        ask_raw(sock, q, sizeof(*q), a, true);
                        assert_true(a->res < 0);
                }
                memset(q, 0, sizeof(*q)); /* no names */
                for (uint32_t op = 0; op < 40; op++) {
                        q->op = op == OPENER_SPAWN ? 0 : op;
                        ask_raw(sock, q, sizeof(*q), a, true);
                        assert_true(a->res < 0);
                }
                ask_raw(sock, q, sizeof(*q) - 1, a, false); /* half a question is none */
                assert_true(waitpid(pid, &status, 0) == pid && status == 0);
                close(sock);
        }
        free(q);
        free(a);
}

/* What waits is bounded: a few questions in the socket, and no answer is made that has no room. */
static void test_questions_without_end(void **state)
{
        struct opener_question *q = calloc(1, sizeof(*q));
        unsigned sent = 0;
        int sock, status;
        pid_t pid;

        (void)state;
        assert_non_null(q);
        pid = raw_opener(ROLE_OPENER, &sock);
        q->op = OPENER_LOOK;
        strcpy(q->a, ".");
        kill(pid, SIGSTOP);
        while (send(sock, q, sizeof(*q), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
                assert_true(++sent < 1000);
        assert_int_equal(errno, EAGAIN);
        kill(pid, SIGCONT);
        close(sock); /* who asked is gone: so is it */
        assert_true(waitpid(pid, &status, 0) == pid && status == 0);
        free(q);
}

/* 300 descriptors on their way from us to us: more than the opener's bound lets its user have. */
static void send_many(int sock, int fd)
{
        union {
                char buf[CMSG_SPACE(100 * sizeof(int))];
                struct cmsghdr align;
        } control = { .align = { CMSG_LEN(100 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
        struct iovec iov = { (char *)"x", 1 };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

        for (int i = 0; i < 100; i++)
                memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &fd, sizeof(int));
        for (int i = 0; i < 3; i++)
                assert_int_equal(sendmsg(sock, &mh, MSG_NOSIGNAL), 1);
}

/* The kernel refuses to let a descriptor travel while others of the same user have too many under way. That is an error, not the end. */
static void test_a_crowd_under_way(void **state)
{
        struct opener_question *q = calloc(1, sizeof(*q));
        struct opener_answer *a = calloc(1, sizeof(*a));
        struct rlimit usual, small;
        int sock, status, crowd[2], fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        pid_t pid;

        (void)state;
        assert_true(q && a && fd >= 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
        small = (struct rlimit){ 256, usual.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0); /* the opener has it from us */
        pid = raw_opener(ROLE_OPENER, &sock);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, crowd), 0);
        send_many(crowd[0], fd);
        q->op = OPENER_OPEN;
        q->how = O_RDWR | O_CREAT | O_CLOEXEC;
        q->mode = 0600;
        strcpy(q->a, "image");
        ask_raw(sock, q, sizeof(*q), a, true);
        assert_int_equal(a->res, -ETOOMANYREFS);
        close(crowd[0]);
        close(crowd[1]);
        close(fd);
        while (ask_raw(sock, q, sizeof(*q), a, true), a->res == -ETOOMANYREFS) /* others of our user may have some, too */
                usleep(20000);
        assert_int_equal(a->res, 0);
        close(sock);
        assert_true(waitpid(pid, &status, 0) == pid && status == 0);
        unlink("image");
        free(q);
        free(a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_means),
                cmocka_unit_test(test_no_program_is_made),
                cmocka_unit_test(test_one_successor_at_a_time),
                cmocka_unit_test(test_questions_of_any_kind),
                cmocka_unit_test(test_questions_without_end),
                cmocka_unit_test(test_a_crowd_under_way),
        };

        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
