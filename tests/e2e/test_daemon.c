/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The daemon as a program: what it refuses and how it says so, whom it keeps out, how it ends. Its path is in
 * E2E_BACK_END. Every started daemon dies with the test. Deadlines only guard against hangs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
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
#include "config.h"
#include "tests/lib/front_end.h"

#define ARGS_MAX 10
#define HANG_NS (60 * NS_PER_SEC)
#define MIB (1ull << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static char dir[] = "/tmp/vdiskd-daemon-XXXXXX";

/* @name in the test's directory. Eight results are valid at a time. */
static const char *at(const char *name)
{
        static char bufs[8][128];
        static unsigned i;
        char *buf = bufs[i++ % ARRAY_SIZE(bufs)];

        snprintf(buf, sizeof(bufs[0]), "%s/%s", dir, name);
        return buf;
}

/* "%" in an argument stands for the test's directory. */
static void expand(const char *arg, char *out, size_t len)
{
        size_t n = 0;

        for (; *arg && n + 1 < len; arg++)
                n += *arg == '%' ? (size_t)snprintf(out + n, len - n, "%s", dir) : (out[n] = *arg, (size_t)1);
        out[n] = '\0';
}

/* --- programs ------------------------------------------------------------------------------------------------------ */

struct proc {
        pid_t pid;
        char log[128]; /* what it writes to stdout and stderr */
};
struct setup {
        int fds[2];          /* become 3, 4 */
        unsigned nfds;
        const char *fdnames; /* LISTEN_FDNAMES; NULL: no activation */
        const char *notify;  /* NOTIFY_SOCKET */
        bool piped_stdin;    /* stays open as long as the test */
};

static void child(const struct proc *p, char *const *argv, const struct setup *su, int in)
{
        char number[16];
        int log = open(p->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in, STDIN_FILENO);
        dup2(log, STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        for (unsigned i = 0; i < su->nfds; i++) {
                dup2(su->fds[i], 100 + (int)i);
        }
        for (unsigned i = 0; i < su->nfds; i++)
                dup2(100 + (int)i, 3 + (int)i);
        close_range(3 + su->nfds, ~0u, 0);
        if (su->fdnames) {
                snprintf(number, sizeof(number), "%d", getpid());
                setenv("LISTEN_PID", number, 1);
                snprintf(number, sizeof(number), "%u", su->nfds);
                setenv("LISTEN_FDS", number, 1);
                setenv("LISTEN_FDNAMES", su->fdnames, 1);
        }
        if (su->notify)
                setenv("NOTIFY_SOCKET", su->notify, 1);
        unsetenv("JOURNAL_STREAM");
        execvp(argv[0], argv);
        _exit(127);
}

/* @args: NULL-terminated, without the program's name. */
static void spawn(struct proc *p, const char *program, const char *const *args, const struct setup *su)
{
        static const struct setup plain;
        char text[ARGS_MAX][256], *argv[ARGS_MAX + 2] = { (char *)program };
        int in[2];

        for (unsigned i = 0; args[i]; i++) {
                assert_true(i < ARGS_MAX);
                expand(args[i], text[i], sizeof(text[i]));
                argv[i + 1] = text[i];
        }
        su = su ?: &plain;
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        snprintf(p->log, sizeof(p->log), "%s/log-XXXXXX", dir);
        close(mkstemp(p->log));
        p->pid = fork();
        assert_true(p->pid >= 0);
        if (p->pid == 0)
                child(p, argv, su, in[0]);
        close(in[0]);
        if (!su->piped_stdin)
                close(in[1]); /* else it is closed when the test ends */
}

static const char *vdiskd(void)
{
        return getenv("E2E_BACK_END");
}

static char *log_of(const struct proc *p)
{
        static char text[16384];
        FILE *f = fopen(p->log, "re");
        size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

        text[n] = '\0';
        if (f)
                fclose(f);
        return text;
}

/* Exit status, or -signal. */
static int finish(struct proc *p)
{
        uint64_t deadline = clock_ns() + HANG_NS;
        int st;

        while (waitpid(p->pid, &st, WNOHANG) == 0) {
                if (clock_ns() > deadline) {
                        kill(p->pid, SIGKILL);
                        fail_msg("it does not end; it said:\n%s", log_of(p));
                }
                usleep(2000);
        }
        p->pid = 0;
        return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

static int run(const char *program, const char *const *args)
{
        struct proc p;

        spawn(&p, program, args, NULL);
        return finish(&p);
}

/* Waits until the log has @word @times times. */
static void wait_for(struct proc *p, const char *word, unsigned times)
{
        uint64_t deadline = clock_ns() + HANG_NS;

        for (;;) {
                const char *s = log_of(p);
                unsigned seen = 0;
                siginfo_t si = { 0 };

                while ((s = strstr(s, word)))
                        seen++, s++;
                if (seen >= times)
                        return;
                waitid(P_PID, (id_t)p->pid, &si, WEXITED | WNOHANG | WNOWAIT);
                if (si.si_pid || clock_ns() > deadline)
                        fail_msg("no '%s' in its log:\n%s", word, log_of(p));
                usleep(2000);
        }
}

static void start(struct proc *p, const struct setup *su, unsigned ndisks, const char *const *args)
{
        spawn(p, vdiskd(), args, su);
        wait_for(p, ": serving ", ndisks);
}

static void stop(struct proc *p)
{
        kill(p->pid, SIGTERM);
        assert_int_equal(finish(p), 0);
}

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define ONE_DISK ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock")

static void qemu_img(const char *const *args)
{
        assert_int_equal(run("qemu-img", args), 0);
}

static bool exists(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0;
}

static uint64_t capacity(const char *socket)
{
        struct front_end *fe;
        uint64_t bytes;

        err_clear();
        if (fe_open(&(struct fe_opts){ .path = socket }, &fe) < 0)
                fail_msg("%s: %s", socket, err_text(-EIO));
        bytes = fe_disk(fe)->capacity;
        fe_close(fe);
        return bytes;
}

static int listening(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
        unlink(path);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(listen(fd, 4), 0);
        return fd;
}

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

static void test_readiness(void **state)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct setup su = { .notify = at("notify.sock") };
        char text[256] = "";
        struct proc p;

        (void)state;
        if (!HAVE_SYSTEMD) {
                print_message("built without libsystemd\n");
                skip();
        }
        strncpy(sa.sun_path, su.notify, sizeof(sa.sun_path) - 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        start(&p, &su, 1, ONE_DISK);
        assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
        assert_non_null(strstr(text, "READY=1"));
        stop(&p);
        memset(text, 0, sizeof(text));
        assert_true(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
        assert_non_null(strstr(text, "STOPPING=1"));
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

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

/* --- images -------------------------------------------------------------------------------------------------------- */

static int make_images(void **state)
{
        (void)state;
        if (!vdiskd()) {
                fprintf(stderr, "E2E_BACK_END must name vdiskd\n");
                return -1;
        }
        signal(SIGPIPE, SIG_IGN);
        if (!mkdtemp(dir))
                return -1;
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "%/d.qcow2", "64M"));
        qemu_img(ARGS("create", "-q", "-f", "raw", "%/zeros.img", "1M"));
        qemu_img(ARGS("create", "-q", "-f", "raw", "%/empty.img", "0"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "%/short.qcow2", "64M"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "%/cut.qcow2", "64M"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "%/gone.qcow2", "64M"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "-b", "%/gone.qcow2", "-F", "qcow2", "%/orphan.qcow2"));
        if (truncate(at("short.qcow2"), 50) < 0 || truncate(at("cut.qcow2"), 65536) < 0)
                return -1;
        return unlink(at("gone.qcow2"));
}

static int remove_images(void **state)
{
        (void)state;
        return run("rm", ARGS("-rf", "%"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_an_image_that_qemu_holds),
                cmocka_unit_test(test_an_image_that_we_hold),
                cmocka_unit_test(test_readers_share_an_image),
                cmocka_unit_test(test_a_socket_in_use),
                cmocka_unit_test(test_the_socket_of_a_dead_daemon),
                cmocka_unit_test(test_a_file_that_is_not_ours_stays),
                cmocka_unit_test(test_a_socket_as_descriptor),
                cmocka_unit_test(test_sockets_from_systemd),
                cmocka_unit_test(test_readiness),
                cmocka_unit_test(test_signals_end_it_clean),
                cmocka_unit_test(test_capabilities),
                cmocka_unit_test(test_version_and_help),
                cmocka_unit_test(test_idle),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
