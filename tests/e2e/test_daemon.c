/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The daemon as a program: what it refuses and how it says so, whom it keeps out, how it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
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
#include "common/file.h"
#include "common/sanitized.h"
#include "config.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"

/* --- what is refused ----------------------------------------------------------------------------------------------- */

static const struct refusal {
        const char *args[4], *says[3];
} refusals[] = {
        { { "--blk-file=%/none.img", "--format=raw" }, { "none.img", "No such file" } },
        { { "--blk-file=%/none.img" }, { "none.img", "No such file" } },
        { { "--blk-file=%", "--format=raw" }, { "vdiskd-daemon", "directory" } },
        { { "--blk-file=/dev/null", "--format=raw" }, { "/dev/null", "regular file" } },
        { { "--blk-file=%/zeros.img" }, { "zeros.img", "format", "raw" } },
        { { "--blk-file=%/zeros.img", "--format=qcow2" }, { "zeros.img", "qcow2" } },
        { { "--blk-file=%/empty.img" }, { "empty.img", "format" } },
        { { "--blk-file=%/short.qcow2", "--format=qcow2" }, { "short.qcow2" } },
        { { "--blk-file=%/cut.qcow2", "--format=qcow2" }, { "cut.qcow2" } },
        { { "--blk-file=%/orphan.qcow2", "--format=qcow2" }, { "gone.qcow2", "No such file" } },
        { { "--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/zeros.img" }, { "zeros.img", "no socket" } },
        { { "--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/nodir/x.sock" }, { "nodir/x.sock", "No such file" } },
        { { "--blk-file=%/d.qcow2", "--format=qcow2", "--fd=77" }, { "77", "not open" } },
        { { "--blk-file=%/d.qcow2", "--format=qcow2", "--fd=0" }, { "0", "not a listening Unix stream socket" } },
        { { "--disk", "path=%/d.qcow2,format=qcow2" }, { "no socket to listen on", "socket=PATH" } },
        { { "--disk", "path=%/d.qcow2,format=qcow2,fdname=web" }, { "fdname=web", "LISTEN_FDS" } },
        { { "--iothreads=none" }, { "--iothreads=none", "number" } },
        /* the second disk is wrong: the first leaves nothing behind */
        { { "--disk", "path=%/d.qcow2,format=qcow2,socket=%/r.sock", "--disk", "path=%/none.img,format=raw,socket=%/s.sock" },
          { "none.img", "No such file" } },
        { { "--disk", "path=%/d.qcow2,format=qcow2,socket=%/r.sock", "--disk", "path=%/zeros.img,format=raw,socket=%/no/s.sock" },
          { "no/s.sock", "No such file" } },
};

/* Lines that tell of an error, not of what went on before it. */
static unsigned error_lines(char *log, const struct refusal *row)
{
        unsigned n = 0;

        for (char *save, *line = strtok_r(log, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                bool all = true;

                for (size_t k = 0; k < ARRAY_SIZE(row->says) && row->says[k]; k++)
                        all &= strstr(line, row->says[k]) != NULL;
                n += all;
        }
        return n;
}

static void test_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
                const struct refusal *row = &refusals[i];
                const char *args[6] = { row->args[0], row->args[1], row->args[2], row->args[3] };
                unsigned n = 0;
                struct proc p;
                int st;

                while (args[n])
                        n++;
                if (n < 3 && !strncmp(args[0], "--blk", 5) && (!args[1] || strncmp(args[1], "--fd", 4)))
                        args[n] = "--socket-path=%/r.sock";
                spawn(&p, vdiskd(), args, NULL);
                st = finish(&p);
                if (st != 1)
                        fail_msg("row %zu: exit status %d, it said:\n%s", i, st, log_of(&p));
                if (error_lines(log_of(&p), row) != 1)
                        fail_msg("row %zu: expected one line with '%s', it said:\n%s", i, row->says[0], log_of(&p));
                if (exists(at("r.sock")) || exists(at("s.sock")))
                        fail_msg("row %zu: a socket was left behind", i);
        }
        assert_true(exists(at("zeros.img")));
}

/* An image in one directory, its base in another: by the operator's word only. */
static void test_base_elsewhere(void **state)
{
        const char *const disk[] = { "--disk", "path=%/here/top.qcow2,format=qcow2,socket=%/r.sock", "--allow-dir=%/nowhere", NULL };
        struct proc p;

        (void)state;
        assert_int_equal(mkdir(at("here"), 0700), 0);
        assert_int_equal(mkdir(at("away"), 0700), 0);
        qemu_img(ARGS("create", "-q", "-f", "qcow2", at("away/base.qcow2"), "1M"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "-b", "../away/base.qcow2", "-F", "qcow2", at("here/top.qcow2")));
        spawn(&p, vdiskd(), (const char *const[]){ disk[0], disk[1], NULL }, NULL);
        assert_int_equal(finish(&p), 1);
        assert_non_null(strstr(log_of(&p), "away/base.qcow2"));
        assert_non_null(strstr(log_of(&p), "--allow-dir=DIR"));
        spawn(&p, vdiskd(), disk, NULL);
        assert_int_equal(finish(&p), 1);
        assert_non_null(strstr(log_of(&p), "--allow-dir: directory "));
        assert_int_equal(mkdir(at("nowhere"), 0700), 0);
        spawn(&p, vdiskd(), disk, NULL);
        assert_int_equal(finish(&p), 1);
        start(&p, NULL, 1, ARGS(disk[0], disk[1], disk[2], "--allow-dir=%/away"));
        assert_int_equal(capacity(at("r.sock")), MIB);
        stop(&p);
}

/* Runs until the image is locked by @p. */
static void wait_locked(const char *path)
{
        uint64_t deadline = clock_ns() + HANG_NS;

        for (;;) {
                struct file *f = NULL;
                int r = file_open(path, 0, &f);

                err_clear();
                file_close(f);
                if (r == -EBUSY)
                        return;
                assert_true(clock_ns() < deadline);
                usleep(2000);
        }
}

static void test_an_image_that_qemu_holds(void **state)
{
        struct setup su = { .piped_stdin = true };
        struct proc holder, p;

        (void)state;
        spawn(&holder, "qemu-io", ARGS("-f", "qcow2", "%/d.qcow2"), &su);
        wait_locked(at("d.qcow2"));
        spawn(&p, vdiskd(), ONE_DISK, NULL);
        assert_int_equal(finish(&p), 1);
        assert_non_null(strstr(log_of(&p), "d.qcow2"));
        assert_non_null(strstr(log_of(&p), "in use"));
        assert_false(exists(at("d.sock")));
        kill(holder.pid, SIGKILL);
        finish(&holder);
}

static void test_an_image_that_we_hold(void **state)
{
        struct proc p, second;

        (void)state;
        start(&p, NULL, 1, ONE_DISK);
        spawn(&second, vdiskd(), ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/e.sock"), NULL);
        assert_int_equal(finish(&second), 1);
        assert_non_null(strstr(log_of(&second), "in use"));
        assert_int_not_equal(run("qemu-io", ARGS("-f", "qcow2", "-c", "write 0 4k", "%/d.qcow2")), 0);
        assert_int_not_equal(run("qemu-img", ARGS("resize", "%/d.qcow2", "+1G")), 0);
        assert_int_equal(capacity(at("d.sock")), 64 * MIB);
        stop(&p);
        qemu_img(ARGS("check", "-q", "%/d.qcow2"));
}

static void test_readers_share_an_image(void **state)
{
        struct proc p, second;

        (void)state;
        start(&p, NULL, 1, ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock", "--read-only"));
        start(&second, NULL, 1, ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/e.sock", "--read-only"));
        assert_int_equal(capacity(at("e.sock")), 64 * MIB);
        stop(&second);
        stop(&p);
}

/* --- life ---------------------------------------------------------------------------------------------------------- */

/* The next message to the manager that has @word, which is cut off. */
static const char *told(int fd, const char *word)
{
        static char text[256];

        for (;;) {
                const char *found;
                struct pollfd p = { .fd = fd, .events = POLLIN };

                memset(text, 0, sizeof(text));
                if (poll(&p, 1, (int)(HANG_NS / NS_PER_MS)) != 1 || recv(fd, text, sizeof(text) - 1, 0) <= 0)
                        fail_msg("the manager did not hear '%s'", word);
                found = strstr(text, word);
                if (found)
                        return found + strlen(word);
        }
}

static void test_readiness(void **state)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct setup su = { .notify = at("notify.sock") };
        struct proc p;

        (void)state;
        if (!HAVE_SYSTEMD) {
                print_message("built without libsystemd\n");
                skip();
        }
        strncpy(sa.sun_path, su.notify, sizeof(sa.sun_path) - 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        setenv("WATCHDOG_USEC", "200000", 1);
        start(&p, &su, 1, ONE_DISK);
        unsetenv("WATCHDOG_USEC");
        told(fd, "READY=1");
        told(fd, "STATUS=1 disk open");
        told(fd, "WATCHDOG=1");
        told(fd, "WATCHDOG=1");
        stop(&p);
        told(fd, "STOPPING=1");
}

/* systemd waits for the end of a reload, also of one that comes to nothing. */
static void test_a_reload_is_told(void **state)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct setup su = { .notify = at("reload-notify.sock") };
        struct proc p;
        FILE *f = fopen(at("v.conf"), "we");

        (void)state;
        assert_non_null(f);
        fprintf(f, "[disk d]\npath = %s\nformat = qcow2\nsocket = %s\n", at("d.qcow2"), at("d.sock"));
        fclose(f);
        strncpy(sa.sun_path, su.notify, sizeof(sa.sun_path) - 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        start(&p, &su, 1, ARGS("--config=%/v.conf"));
        told(fd, "READY=1");
        for (int i = 0; i < 2; i++) {
                kill(p.pid, SIGHUP);
                assert_true(strtoull(told(fd, "RELOADING=1\nMONOTONIC_USEC="), NULL, 10) > 0);
                told(fd, "READY=1");
                f = fopen(at("v.conf"), "we"); /* the next one is wrong */
                fputs("[disk\n", f);
                fclose(f);
        }
        wait_for(&p, "expected a section such as [disk NAME]", 1);
        stop(&p);
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

static void test_an_upgrade_by_signal(void **state)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct setup su = { .notify = at("upgrade-notify.sock") };
        struct front_end *fe;
        struct proc p;

        (void)state;
        if (!HAVE_SYSTEMD) {
                print_message("built without libsystemd\n");
                skip();
        }
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* the new process becomes ours */
        strncpy(sa.sun_path, su.notify, sizeof(sa.sun_path) - 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        start(&p, &su, 1, ONE_DISK);
        told(fd, "READY=1");
        assert_int_equal(fe_open(&(struct fe_opts){ .path = at("d.sock") }, &fe), 0);
        for (int i = 0; i < 3; i++) {
                pid_t pid;

                kill(p.pid, SIGUSR2);
                pid = atoi(told(fd, "MAINPID="));
                told(fd, "BARRIER=1"); /* it waits until we have read that */
                assert_int_equal(finish(&p), 0);
                p.pid = pid;
        }
        wait_for(&p, "took over 1 disk", 3);
        assert_int_equal(fe_alive(fe, 0), 0);
        fe_close(fe);
        assert_int_equal(capacity(at("d.sock")), 64 * MIB); /* the socket is the old one, too */
        stop(&p);
        assert_false(exists(at("d.sock")));
}

static void test_signals_end_it_clean(void **state)
{
        static const int signals[] = { SIGTERM, SIGINT };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
                struct front_end *fe;
                struct proc p;

                start(&p, NULL, 1, ONE_DISK);
                assert_int_equal(fe_open(&(struct fe_opts){ .path = at("d.sock") }, &fe), 0);
                kill(p.pid, signals[i]);
                kill(p.pid, SIGTERM); /* a second one tears nothing */
                assert_int_equal(finish(&p), 0);
                assert_non_null(strstr(log_of(&p), ": stopping\n"));
                assert_non_null(strstr(log_of(&p), "vdiskd: stopped\n"));
                assert_int_equal(fe_alive(fe, 5000), -ECONNRESET);
                assert_false(exists(at("d.sock")));
                fe_close(fe);
        }
        qemu_img(ARGS("check", "-q", "%/d.qcow2"));
}

static void test_capabilities(void **state)
{
        json_error_t err;
        struct proc p;
        json_t *caps;

        (void)state;
        spawn(&p, vdiskd(), ARGS("--no-such-option", "--print-capabilities", "--fd=x"), NULL);
        assert_int_equal(finish(&p), 0);
        caps = json_loads(log_of(&p), 0, &err);
        assert_non_null(caps);
        assert_string_equal(json_string_value(json_object_get(caps, "type")), "block");
        assert_int_equal(json_array_size(json_object_get(caps, "features")), 2);
        json_decref(caps);
}

static void test_version_and_help(void **state)
{
        struct proc p;

        (void)state;
        spawn(&p, vdiskd(), ARGS("--version"), NULL);
        assert_int_equal(finish(&p), 0);
        assert_string_equal(log_of(&p), "vdiskd " VDISKD_VERSION "\n");
        spawn(&p, vdiskd(), ARGS("-V"), NULL);
        assert_int_equal(finish(&p), 0);
        assert_string_equal(log_of(&p), "vdiskd " VDISKD_VERSION "\n");
        spawn(&p, vdiskd(), ARGS("-h"), NULL);
        assert_int_equal(finish(&p), 0);
        assert_non_null(strstr(log_of(&p), "--socket-path=PATH"));
        spawn(&p, vdiskd(), ARGS("--help"), NULL);
        assert_int_equal(finish(&p), 0);
        assert_non_null(strstr(log_of(&p), "--socket-path=PATH"));
}

/* --- idle ---------------------------------------------------------------------------------------------------------- */

static unsigned long cpu_ticks(pid_t pid)
{
        unsigned long user, sys;
        char path[64];
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        f = fopen(path, "re");
        assert_non_null(f);
        assert_int_equal(fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys), 2);
        fclose(f);
        return user + sys;
}

static unsigned long memory_kib(pid_t pid)
{
        char path[64], line[128];
        unsigned long kib = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/status", pid);
        f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                sscanf(line, "VmRSS: %lu", &kib);
        fclose(f);
        return kib;
}

static void test_idle(void **state)
{
        unsigned long before, after, kib;
        struct front_end *fe;
        struct proc p;

        (void)state;
        start(&p, NULL, 1, ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock", "--poll-us=100"));
        assert_int_equal(fe_open(&(struct fe_opts){ .path = at("d.sock"), .num_queues = 2 }, &fe), 0);
        usleep(200000);
        before = cpu_ticks(p.pid);
        sleep(2);
        after = cpu_ticks(p.pid);
        kib = memory_kib(p.pid);
        print_message("idle with one front end: %lu ticks of CPU in 2 s, %lu KiB resident\n", after - before, kib);
        /* A thread that spins would have 200 ticks. */
        assert_in_range(after - before, 0, 20);
        if (!SANITIZED)
                assert_in_range(kib, 1, 16 * 1024);
        fe_close(fe);
        stop(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_base_elsewhere),
                cmocka_unit_test(test_an_image_that_qemu_holds),
                cmocka_unit_test(test_an_image_that_we_hold),
                cmocka_unit_test(test_readers_share_an_image),
                cmocka_unit_test(test_readiness),
                cmocka_unit_test(test_a_reload_is_told),
                cmocka_unit_test(test_an_upgrade_by_signal),
                cmocka_unit_test(test_signals_end_it_clean),
                cmocka_unit_test(test_capabilities),
                cmocka_unit_test(test_version_and_help),
                cmocka_unit_test(test_idle),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
