/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the daemon listens and to whom it connects, who may come in, and what a second front end gets to see. */
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "config.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"

/* --- sockets ------------------------------------------------------------------------------------------------------- */

static void test_a_socket_in_use(void **state)
{
        struct proc p, second;

        (void)state;
        start(&p, NULL, 1, ONE_DISK);
        spawn(&second, vdiskd(), ARGS("--blk-file=%/zeros.img", "--format=raw", "--socket-path=%/d.sock"), NULL);
        assert_int_equal(finish(&second), 1);
        assert_non_null(strstr(log_of(&second), "d.sock is in use"));
        assert_int_equal(capacity(at("d.sock")), 64 * MIB);
        stop(&p);
}

static void test_the_socket_of_a_dead_daemon(void **state)
{
        struct proc p;

        (void)state;
        start(&p, NULL, 1, ONE_DISK);
        kill(p.pid, SIGKILL);
        assert_int_equal(finish(&p), -SIGKILL);
        assert_true(exists(at("d.sock")));
        start(&p, NULL, 1, ONE_DISK);
        assert_int_equal(capacity(at("d.sock")), 64 * MIB);
        stop(&p);
        assert_false(exists(at("d.sock")));
}

static void test_a_file_that_is_not_ours_stays(void **state)
{
        struct proc p;
        int fd;

        (void)state;
        start(&p, NULL, 1, ONE_DISK);
        unlink(at("d.sock"));
        fd = listening(at("d.sock"));
        stop(&p);
        assert_true(exists(at("d.sock")));
        close(fd);
        unlink(at("d.sock"));
}

static void test_a_socket_as_descriptor(void **state)
{
        struct setup su = { .nfds = 1 };
        struct proc p;

        (void)state;
        su.fds[0] = listening(at("given.sock"));
        start(&p, &su, 1, ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--fd=3"));
        close(su.fds[0]);
        assert_int_equal(capacity(at("given.sock")), 64 * MIB);
        stop(&p);
        assert_true(exists(at("given.sock"))); /* whoever made it removes it */
        unlink(at("given.sock"));
}

static void test_sockets_from_systemd(void **state)
{
        struct setup su = { .nfds = 2, .fdnames = "beta:alpha" };
        struct proc p;

        (void)state;
        if (!HAVE_SYSTEMD) {
                print_message("built without libsystemd\n");
                skip();
        }
        su.fds[0] = listening(at("beta.sock"));
        su.fds[1] = listening(at("alpha.sock"));
        start(&p, &su, 2, ARGS("--disk", "path=%/d.qcow2,format=qcow2,fdname=alpha", "--disk", "path=%/zeros.img,format=raw"));
        close(su.fds[0]);
        close(su.fds[1]);
        assert_int_equal(capacity(at("alpha.sock")), 64 * MIB);
        assert_int_equal(capacity(at("beta.sock")), MIB);
        stop(&p);
}

static void test_permissions_and_owner(void **state)
{
        struct stat st;
        struct proc p;

        (void)state;
        start(&p, NULL, 2, ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock", "--socket-mode=0626",
                                "--disk", "path=%/zeros.img,format=raw,socket=%/z.sock"));
        assert_int_equal(stat(at("d.sock"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0626); /* whatever the umask */
        stop(&p);
        if (geteuid()) {
                print_message("only root can give files away\n");
                return;
        }
        start(&p, NULL, 1, ARGS("--disk", "path=%/d.qcow2,format=qcow2,socket=%/d.sock,socket-mode=660,socket-owner=12345,"
                                "socket-group=nogroup"));
        assert_int_equal(stat(at("d.sock"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0660);
        assert_int_equal(st.st_uid, 12345);
        assert_int_not_equal(st.st_gid, getegid());
        assert_int_equal(capacity(at("d.sock")), 64 * MIB);
        stop(&p);
        spawn(&p, vdiskd(), ARGS("--disk", "path=%/d.qcow2,format=qcow2,socket=%/d.sock,socket-group=no-such-group"), NULL);
        assert_int_equal(finish(&p), 1);
        assert_non_null(strstr(log_of(&p), "socket-group=no-such-group: there is no such group"));
        assert_false(exists(at("d.sock")));
}

static void test_a_second_front_end(void **state)
{
        struct front_end *first, *second;
        struct proc p;

        (void)state;
        start(&p, NULL, 1, ONE_DISK);
        assert_int_equal(fe_open(&(struct fe_opts){ .path = at("d.sock") }, &first), 0);
        assert_int_equal(fe_open(&(struct fe_opts){ .path = at("d.sock") }, &second), -ECONNRESET); /* not left waiting */
        wait_for(&p, "was turned away: process ", 1);
        assert_int_equal(fe_alive(first, 0), 0);
        fe_close(first);
        assert_int_equal(capacity(at("d.sock")), 64 * MIB);
        stop(&p);
}

/* The front end listens. It may come late, and go, and come again. */
static void test_we_connect(void **state)
{
        struct front_end *fe;
        struct proc p;
        int fd;

        (void)state;
        start(&p, NULL, 1, ARGS("--disk", "path=%/d.qcow2,format=qcow2,connect=%/fe.sock"));
        wait_for(&p, "trying again", 1);
        for (int i = 0; i < 3; i++) {
                fd = listening(at("fe.sock"));
                assert_int_equal(fe_open(&(struct fe_opts){ .listen_fd = fd }, &fe), 0);
                assert_int_equal(fe_disk(fe)->capacity, 64 * MIB);
                if (i == 1) { /* gone altogether */
                        close(fd);
                        unlink(at("fe.sock"));
                        fd = -1;
                }
                fe_close(fe);
                wait_for(&p, "front end disconnected", (unsigned)i + 1);
                closep(&fd);
        }
        fd = listening(at("fe.sock"));
        assert_int_equal(fe_open(&(struct fe_opts){ .listen_fd = fd }, &fe), 0);
        stop(&p);
        assert_int_equal(fe_alive(fe, 5000), -ECONNRESET);
        fe_close(fe);
        close(fd);
        assert_true(exists(at("fe.sock"))); /* theirs */
}

static void test_an_empty_disk_is_told(void **state)
{
        struct proc p;

        (void)state;
        start(&p, NULL, 1, ARGS("--blk-file=%/empty.img", "--format=raw", "--socket-path=%/e.sock"));
        wait_for(&p, "empty.img: it is empty", 1);
        stop(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_socket_in_use),
                cmocka_unit_test(test_the_socket_of_a_dead_daemon),
                cmocka_unit_test(test_a_file_that_is_not_ours_stays),
                cmocka_unit_test(test_a_socket_as_descriptor),
                cmocka_unit_test(test_sockets_from_systemd),
                cmocka_unit_test(test_permissions_and_owner),
                cmocka_unit_test(test_a_second_front_end),
                cmocka_unit_test(test_we_connect),
                cmocka_unit_test(test_an_empty_disk_is_told),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
