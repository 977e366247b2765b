/* SPDX-License-Identifier: BSD-3-Clause */
/* Front ends that come, go and queue up. The volume is a number, the queue threads are none (fake_qthread.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "tests/unit/fake_qthread.h"
#include "tests/unit/open_fds.h"
#include "vhost_user/session/messages.h"
#include "vhost_user_blk/export.h"

struct vol_port { int dummy; };
static unsigned stopped, attached;

uint64_t vol_size(const struct vol *v)
{
        return 10000 * 512;
}

bool vol_read_only(const struct vol *v)
{
        return false;
}

uint32_t vol_cluster_size(const struct vol *v)
{
        return 65536;
}

int port_attach(struct vol *v, struct qthread *t, struct vol_port **ret)
{
        *ret = calloc(1, sizeof(**ret));
        attached++;
        return 0;
}

void port_detach(struct vol_port *p)
{
        attached--;
        free(p);
}

void port_hurry(struct vol_port *p, bool hurry)
{
        (void)p;
        (void)hurry;
}

void port_submit(struct vol_port *p, struct blk_req *req)
{
        req->done(req, 0);
}

void port_refused(struct vol_port *p, enum blk_op op)
{
}

int vol_wake(struct vol *v, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        return -ENOMEM;
}

int vol_rest(struct vol *v, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        return -ENOMEM;
}

static struct loop *loop;
static struct qthread *threads[2];
static struct export *export;
static struct sockaddr_un addr = { .sun_family = AF_UNIX };
static char dir[] = "/tmp/test-export-XXXXXX";

static void stop_loop(struct loop_task *t)
{
        loop_stop(loop);
}

static void turn(void)
{
        struct loop_task t = { .run = stop_loop };

        for (int i = 0; i < 8; i++) {
                loop_post(loop, &t);
                loop_run(loop);
        }
}

static int listening(void)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        unlink(addr.sun_path);
        if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0)
                abort();
        return fd;
}

static int connected(void)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        return fd;
}

/* 1: it answers, 0: it was closed, -1: it waits. */
static int asks(int fd)
{
        struct vu_header h = { VU_GET_QUEUE_NUM, VU_VERSION, 0 };
        uint64_t pf = 1ull << VU_PF_MQ;
        struct {
                struct vu_header h;
                char v[8];
        } set = { .h = { VU_SET_PROTOCOL_FEATURES, VU_VERSION, sizeof(pf) } }, answer;
        ssize_t n;

        memcpy(set.v, &pf, sizeof(pf));
        (void)!send(fd, &set, sizeof(set), MSG_NOSIGNAL);
        (void)!send(fd, &h, sizeof(h), MSG_NOSIGNAL);
        turn();
        n = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return -1;
        memcpy(&pf, answer.v, sizeof(pf));
        return n == sizeof(answer) && pf == 64;
}

static void on_stopped(void *opaque)
{
        stopped++;
}

static unsigned fds_before;

static int setup(void **state)
{
        struct export_opts o = { .name = "disk", .threads = threads, .nthreads = 2, .start_thread = 1 };

        fds_before = open_fds();
        stopped = 0;
        return export_new(loop, NULL, listening(), &o, &export);
}

static int teardown(void **state)
{
        if (!stopped)
                export_stop(export, on_stopped, NULL);
        turn();
        return stopped == 1 && attached == 0 && open_fds() == fds_before ? 0 : -1;
}

static void test_come_and_go(void **state)
{
        for (int i = 0; i < 100; i++) {
                int fd = connected();

                assert_int_equal(asks(fd), 1);
                close(fd);
                if (i & 1)
                        turn();
        }
}

/* Thousands come and go at once; then they wait, for a while. (A machine on which one takes 5 ms never gets there.) */
static void test_come_and_go_without_end(void **state)
{
        int answer = 1, fd = -1;

        for (unsigned i = 0; answer == 1 && i < 6000; i++) {
                closep(&fd);
                fd = connected();
                answer = asks(fd);
                turn();
        }
        if (answer == 1)
                skip();
        assert_int_equal(answer, -1);
        usleep(20000);
        turn();
        assert_int_equal(asks(fd), 1);
        close(fd);
}

static void test_one_at_a_time(void **state)
{
        int first = connected(), second;

        assert_int_equal(asks(first), 1);
        second = connected();
        assert_int_equal(asks(second), 0);
        assert_int_equal(asks(first), 1);
        close(second);
        close(first);
        second = connected(); /* before we read that the first is gone */
        assert_int_equal(asks(second), 1);
        close(second);
}

static void test_stop_with_a_front_end(void **state)
{
        int fd = connected();

        assert_int_equal(asks(fd), 1);
        export_stop(export, on_stopped, NULL);
        assert_int_equal(stopped, 0);
        turn();
        assert_int_equal(stopped, 1);
        assert_int_equal(recv(fd, &(char){ 0 }, 1, MSG_DONTWAIT), 0);
        close(fd);
}

static unsigned parked;

static void on_parked(void *opaque)
{
        parked++;
}

/* Nobody is heard and nobody uses the volume; who came meanwhile is served afterwards. */
static void test_stand_still(void **state)
{
        int first = connected(), second;

        parked = 0;
        assert_int_equal(asks(first), 1);
        export_park(export, on_parked, NULL);
        turn();
        assert_int_equal(parked, 1);
        assert_true(export_parked(export));
        assert_int_equal(attached, 0);
        assert_int_equal(asks(first), -1);
        export_resume(export, NULL);
        turn();
        assert_int_equal(asks(first), 1);
        close(first);
        turn();
        export_park(export, on_parked, NULL);
        turn();
        assert_int_equal(parked, 2);
        second = connected();
        assert_int_equal(asks(second), -1);
        export_resume(export, NULL);
        turn();
        assert_int_equal(asks(second), 1);
        close(second);
        turn();
        second = connected();
        assert_int_equal(asks(second), 1);
        export_park(export, on_parked, NULL); /* its front end hangs up while it is parked: seen afterwards */
        close(second);
        turn();
        assert_int_equal(parked, 3);
        export_resume(export, NULL);
        turn();
        second = connected();
        assert_int_equal(asks(second), 1);
        close(second);
}

/* Without a free file descriptor the front end waits in the backlog, and nothing spins. */
static void test_out_of_fds(void **state)
{
        struct rlimit old, none;
        int fd = connected();

        getrlimit(RLIMIT_NOFILE, &old);
        none = old;
        none.rlim_cur = 0;
        setrlimit(RLIMIT_NOFILE, &none);
        turn();
        setrlimit(RLIMIT_NOFILE, &old);
        assert_int_equal(asks(fd), -1);
        close(fd);
}

static const struct {
        const char *what;
        struct export_opts o;
} bad[] = {
        { "too many queues", { .num_queues = 257, .nthreads = 1 } },
        { "an odd block size", { .block_size = 1024, .nthreads = 1 } },
        { "a long serial", { .serial = "123456789012345678901", .nthreads = 1 } },
        { "no threads", { .nthreads = 0 } },
        { "a thread that is not there", { .nthreads = 2, .start_thread = 2 } },
};

static void test_bad_options(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct export_opts o = bad[i].o;
                struct export *x = NULL;
                int fd = dup(0);

                o.name = "disk";
                o.threads = threads;
                if (export_new(loop, NULL, fd, &o, &x) != -EINVAL || !strncmp(err_text(-EINVAL), "Invalid", 7))
                        fail_msg("%s: %s", bad[i].what, err_text(-EINVAL));
                err_clear();
        }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_come_and_go),
                TEST(test_come_and_go_without_end), TEST(test_one_at_a_time), TEST(test_stop_with_a_front_end),
                TEST(test_stand_still),
                TEST(test_out_of_fds),  TEST(test_bad_options),
        };
        int r;

        log_init("test", 0);
        if (!mkdtemp(dir) || loop_new(&loop) < 0)
                return 1;
        snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", dir);
        threads[0] = fake_qthread_new(loop);
        threads[1] = fake_qthread_new(loop);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        fake_qthread_free(threads[0]);
        fake_qthread_free(threads[1]);
        loop_free(loop);
        unlink(addr.sun_path);
        rmdir(dir);
        return r;
}
