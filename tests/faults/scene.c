/* SPDX-License-Identifier: BSD-3-Clause */
#include "scene.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "formats/format.h"
#include "formats/qcow2/on_disk.h"
#include "tests/lib/tmp_image.h"

#define STUCK_NS (60 * NS_PER_SEC) /* a slow machine is no bug: what takes so long will never end */
#define SANITIZER_STATUS 99 /* ASAN_OPTIONS=exitcode */

struct fault fault;
const char *tool_path, *daemon_path, *preload_path;
const char *doing = "";
unsigned char pattern[SIZE], other[SIZE];

static void show_lines(void)
{
        char line[512];
        FILE *f = fopen("log", "r");

        while (f && fgets(line, sizeof(line), f))
                fprintf(stderr, "  | %s", line);
        if (f)
                fclose(f);
}

/* Where the fault was, and what the program said of it. */
static void show_log(void)
{
        char line[512], cmd[600];
        FILE *s = fopen("report.struck", "r");
        unsigned long at;

        if (s && fscanf(s, "%400s %lx", line, &at) == 2 &&
            (size_t)snprintf(cmd, sizeof(cmd), "addr2line -fie '%s' %#lx | sed 's/^/  ^ /' >&2", line, at - 1) < sizeof(cmd))
                (void)!system(cmd);
        if (s)
                fclose(s);
        show_lines();
}

void bug(const char *fmt, ...)
{
        FILE *f = fopen("bug", "w");
        char text[400];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        fprintf(stderr, "%s\n", text);
        show_log();
        if (f) {
                fputs(text, f);
                fclose(f);
        }
        _exit(1);
}

/* --- images ------------------------------------------------------------------------------------------------------------------ */

void quietly(const char *fmt, ...)
{
        char cmd[1024];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(cmd, sizeof(cmd), fmt, ap);
        va_end(ap);
        if (run_cmd("%s", cmd))
                bug("'%s' does not work without a fault", cmd);
}

void make_raw(const char *path, const unsigned char *bytes)
{
        if (save_file(path, bytes, SIZE) < 0)
                bug("cannot write %s", path);
}

/* The kernel may close the files of a ring, and give up their locks, only some time after its process has ended. */
static struct fmt_image *open_image(const char *path, const char *format, unsigned flags)
{
        struct fmt_open_opts how = { .format = format, .flags = flags };
        uint64_t deadline = clock_ns() + STUCK_NS;
        struct fmt_image *img;
        int r;

        while ((r = chain_open(path, &how, &img)) == -EBUSY && clock_ns() < deadline)
                usleep(1000);
        if (r < 0)
                bug("%s cannot be opened any more: %s", path, err_text(r));
        return img;
}

void make_qcow2(const char *path, const char *options, const unsigned char *bytes)
{
        struct fmt_image *img;
        int r = 0;

        quietly("%s create -q -f qcow2 %s '%s' %u", tool_path, options, path, SIZE);
        if (!bytes)
                return;
        img = open_image(path, "qcow2", 0);
        r = fmt_write_sync(img, bytes, SIZE / 2, 0); /* half of it: there is something to allocate */
        if (r == 0)
                r = fmt_settle_sync(img);
        chain_close(img);
        if (r < 0)
                bug("cannot fill %s: %s", path, err_text(r));
}

void make_leaks(const char *path)
{
        uint64_t block;
        size_t len;
        unsigned char *b = load_file(path, &len), *longer;
        uint32_t cluster = 1u << be32_get(b + QH_CLUSTER_BITS);

        longer = calloc(1, len + 4 * cluster);
        memcpy(longer, b, len);
        block = be64_get(longer + be64_get(longer + QH_REFTABLE_OFFSET));
        for (uint64_t i = 0; i < 4; i++)
                be16_put(longer + block + 2 * (len / cluster + i), 1);
        if (save_file(path, longer, len + 4 * cluster) < 0)
                bug("cannot write %s", path);
        free(longer);
        free(b);
}

/* --- programs ----------------------------------------------------------------------------------------------------------------- */

static void become(const char *const *argv)
{
        char at[64];
        int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644), null = open("/dev/null", O_RDWR);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 0);
        dup2(log, 1);
        dup2(log, 2);
        for (int fd = 3; fd < 64; fd++)
                close(fd);
        snprintf(at, sizeof(at), "%s:%lu%s", fault.kind, fault.at, fault.forever ? ":forever" : "");
        setenv("FAULT_AT", at, 1);
        setenv("FAULT_REPORT", "report", 1);
        setenv("LD_PRELOAD", preload_path, 1);
        execv(argv[0], (char *const *)argv);
        _exit(127);
}

static pid_t spawn(const char *const *argv)
{
        pid_t pid = fork();

        if (pid < 0)
                bug("cannot fork");
        if (pid == 0)
                become(argv);
        return pid;
}

/* The last "fds" line of the report. */
static int fds_left(void)
{
        FILE *f = fopen("report", "r");
        char name[16];
        int n, last = 0;

        while (f && fscanf(f, "%15s %d", name, &n) == 2)
                if (!strcmp(name, "fds"))
                        last = n;
        if (f)
                fclose(f);
        return last;
}

static int judge(int st)
{
        struct stat log;
        int left = fds_left();

        if (WIFSIGNALED(st))
                bug("killed by signal %d (%s)", WTERMSIG(st), strsignal(WTERMSIG(st)));
        if (WEXITSTATUS(st) == SANITIZER_STATUS)
                bug("the sanitizer has something to say");
        if (WEXITSTATUS(st) == 127)
                bug("cannot be started");
        if (WEXITSTATUS(st) && (stat("log", &log) < 0 || !log.st_size))
                bug("fails (%d) without a word", WEXITSTATUS(st));
        if (left > 0)
                bug("%d descriptors are left open at the end", left);
        return WEXITSTATUS(st);
}

int run_tool(const char *const *argv)
{
        pid_t pid = spawn(argv);
        int st;

        while (waitpid(pid, &st, 0) < 0)
                if (errno != EINTR)
                        bug("cannot wait");
        return judge(st);
}

pid_t start_daemon(const char *const *argv)
{
        return spawn(argv);
}

bool daemon_runs(pid_t pid)
{
        siginfo_t si = { 0 };

        return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == 0;
}

int end_daemon(pid_t *pid)
{
        uint64_t deadline = clock_ns() + STUCK_NS;
        int st = 0, r;

        kill(*pid, SIGTERM);
        while ((r = waitpid(*pid, &st, WNOHANG)) != *pid) {
                if (r < 0 && errno != EINTR)
                        bug("cannot wait for the daemon: %s", strerror(errno));
                if (clock_ns() > deadline) {
                        kill(*pid, SIGABRT);
                        bug("does not end");
                }
                usleep(1000);
        }
        *pid = 0;
        return judge(st);
}

/* --- who took over ------------------------------------------------------------------------------------------------------------- */

#define MAX_CHILDREN 16

static unsigned children(pid_t of, pid_t *list)
{
        char path[64];
        unsigned n = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)of, (int)of);
        f = fopen(path, "r");
        while (f && n < MAX_CHILDREN && fscanf(f, "%d", &list[n]) == 1)
                n++;
        if (f)
                fclose(f);
        return n;
}

/* "vdiskd-opener", "vdiskd-starter": they open and start for a daemon, and end with it. */
static bool is_helper(pid_t pid)
{
        char path[64], name[32] = "";
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        f = fopen(path, "r");
        if (f && !fgets(name, sizeof(name), f))
                name[0] = '\0';
        if (f)
                fclose(f);
        return !strncmp(name, "vdiskd-", 7);
}

pid_t daemon_under(pid_t of)
{
        pid_t list[MAX_CHILDREN], found = 0;
        unsigned n = children(of, list);

        for (unsigned i = 0; i < n && !found; i++)
                found = is_helper(list[i]) ? daemon_under(list[i]) : list[i];
        return found;
}

pid_t adopt(void)
{
        pid_t list[MAX_CHILDREN];
        unsigned n = children(getpid(), list);

        for (unsigned i = 0; i < n; i++)
                while (is_helper(list[i]) && waitpid(list[i], NULL, 0) < 0 && errno == EINTR)
                        ;
        return daemon_under(getpid());
}

int count_fds(pid_t pid)
{
        char path[64];
        DIR *d;
        int n = 0;

        snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        d = opendir(path);
        while (d && readdir(d))
                n++;
        if (d)
                closedir(d);
        return n;
}

/* --- what is left --------------------------------------------------------------------------------------------------------------- */

bool is_there(const char *path)
{
        return access(path, F_OK) == 0;
}

static void on_finding(struct fmt_check *chk, const struct fmt_finding *f)
{
        snprintf(chk->opaque, 200, "%s", f->text);
}

void must_be_clean(const char *path, const char *format, bool leaks)
{
        char text[200] = "";
        struct fmt_check chk = { .finding = on_finding, .opaque = text };
        struct fmt_image *img = open_image(path, format, FMT_RDONLY);
        int r = img->drv->check ? img->drv->check(img, &chk) : 0;

        chain_close(img);
        if (r < 0)
                bug("%s cannot be checked: %s", path, err_text(r));
        if (chk.corruptions || chk.check_errors || (chk.leaks && !leaks))
                bug("%s is not clean: %s", path, text);
}

uint64_t disk_size(const char *path, const char *format)
{
        struct fmt_image *img = open_image(path, format, FMT_RDONLY);
        uint64_t size = img->size;

        chain_close(img);
        return size;
}

void disk_read(const char *path, const char *format, void *buf, size_t len)
{
        struct fmt_image *img = open_image(path, format, FMT_RDONLY);
        int r = chain_read_sync(img, buf, len, 0);

        chain_close(img);
        if (r < 0)
                bug("%s cannot be read: %s", path, err_text(r));
}

bool disk_is(const char *path, const char *format, const unsigned char *bytes, size_t len)
{
        AUTO(freep) unsigned char *buf = malloc(len);

        disk_read(path, format, buf, len);
        return !memcmp(buf, bytes, len);
}

bool has_snapshot(const char *path, const char *name)
{
        struct fmt_image *img = open_image(path, "qcow2", FMT_RDONLY);
        struct fmt_snapshot *list = NULL;
        bool there = false;
        size_t n = 0;

        if (img->drv->snapshot_list(img, &list, &n) < 0)
                bug("the snapshots of %s cannot be listed", path);
        for (size_t i = 0; i < n; i++)
                there |= !strcmp(list[i].name, name);
        fmt_snapshots_free(list, n);
        chain_close(img);
        return there;
}
