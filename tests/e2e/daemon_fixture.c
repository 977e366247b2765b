/* SPDX-License-Identifier: BSD-3-Clause */
#include "daemon_fixture.h"

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
#include "tests/lib/front_end.h"

#define ARGS_MAX 24

static char dir[] = "/tmp/vdiskd-daemon-XXXXXX";

/* @name in the test's directory. Eight results are valid at a time. */
const char *at(const char *name)
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
void spawn(struct proc *p, const char *program, const char *const *args, const struct setup *su)
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

const char *vdiskd(void)
{
        return getenv("E2E_BACK_END");
}

char *log_of(const struct proc *p)
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
int finish(struct proc *p)
{
        uint64_t deadline = clock_ns() + HANG_NS;
        int st;

        for (;;) {
                pid_t pid = waitpid(p->pid, &st, WNOHANG);

                if (pid > 0)
                        break; /* -1: it took over, and its parent is about to end: then it is ours */
                if (clock_ns() > deadline) {
                        kill(p->pid, SIGKILL);
                        fail_msg("it does not end; it said:\n%s", log_of(p));
                }
                usleep(2000);
        }
        p->pid = 0;
        return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

int run(const char *program, const char *const *args)
{
        struct proc p;

        spawn(&p, program, args, NULL);
        return finish(&p);
}

/* Waits until the log has @word @times times. */
void wait_for(struct proc *p, const char *word, unsigned times)
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

void start(struct proc *p, const struct setup *su, unsigned ndisks, const char *const *args)
{
        spawn(p, vdiskd(), args, su);
        wait_for(p, ": serving ", ndisks);
}

void stop(struct proc *p)
{
        kill(p->pid, SIGTERM);
        assert_int_equal(finish(p), 0);
}

void qemu_img(const char *const *args)
{
        assert_int_equal(run("qemu-img", args), 0);
}

bool exists(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0;
}

uint64_t capacity(const char *socket)
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

int listening(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
        unlink(path);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(listen(fd, 4), 0);
        return fd;
}

/* --- images -------------------------------------------------------------------------------------------------------- */

int make_images(void **state)
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

int remove_images(void **state)
{
        (void)state;
        return run("rm", ARGS("-rf", "%"));
}
