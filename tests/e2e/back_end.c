/* SPDX-License-Identifier: BSD-3-Clause */
#include "back_end.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tools/vdiskctl/client.h"

#define START_TIMEOUT_MS 20000
#define ARGS_MAX 32

struct args {
        char *v[ARGS_MAX + 1];
        unsigned n;
};

static void args_add(struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void args_add(struct args *a, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        if (a->n == ARGS_MAX || vasprintf(&a->v[a->n], fmt, ap) < 0)
                abort();
        va_end(ap);
        a->v[++a->n] = NULL;
}

static void args_finish(struct args *a)
{
        for (unsigned i = 0; i < a->n; i++)
                free(a->v[i]);
}

static const char *daemon_path(void)
{
        const char *p = getenv("E2E_BACK_END");

        return p ? p : "qemu-storage-daemon";
}

bool be_is_vdiskd(void)
{
        return !strstr(daemon_path(), "qemu-storage-daemon");
}

static pid_t spawn(const struct args *a, int out_fd)
{
        pid_t parent = getpid(), pid = fork();

        if (pid != 0)
                return pid < 0 ? -errno : pid;
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that dies takes its daemon with it */
        if (getppid() != parent)
                _exit(127);
        if (out_fd >= 0)
                dup2(out_fd, STDOUT_FILENO);
        execvp(a->v[0], a->v);
        fprintf(stderr, "%s: %s\n", a->v[0], strerror(errno));
        _exit(127);
}

/* Exit status of a program that ran to its end. */
static int run(const struct args *a)
{
        AUTO(closep) int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
        pid_t pid = spawn(a, quiet);
        int st;

        if (pid < 0)
                return pid;
        while (waitpid(pid, &st, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(st) ? WEXITSTATUS(st) : -EINTR;
}

static int make_image(const struct be_disk *d)
{
        AUTO(args_finish) struct args a = { 0 };
        int r;

        args_add(&a, "qemu-img");
        args_add(&a, "create");
        args_add(&a, "-f");
        args_add(&a, "%s", d->format);
        if (d->chain) {
                args_add(&a, "-b");
                args_add(&a, "%s.base", d->path);
                args_add(&a, "-F");
                args_add(&a, "qcow2");
        }
        args_add(&a, "%s", d->path);
        args_add(&a, "%llu", (unsigned long long)d->size);
        r = run(&a);
        return r ? err_note(-EIO, "qemu-img create %s failed with %d", d->path, r) : 0;
}

static int make_base(const struct be_disk *d)
{
        AUTO(args_finish) struct args io = { 0 };
        struct be_disk base = { .format = "qcow2", .size = d->size };
        int r;

        snprintf(base.path, sizeof(base.path), "%.*s.base", (int)sizeof(base.path) - 6, d->path);
        r = make_image(&base);
        if (r < 0)
                return r;
        args_add(&io, "qemu-io");
        args_add(&io, "-f");
        args_add(&io, "qcow2");
        args_add(&io, "-c");
        args_add(&io, "write -z -u 0 %llu", (unsigned long long)d->size / 2); /* entries, and zeros as fresh disks have */
        args_add(&io, "%s", base.path);
        r = run(&io);
        return r ? err_note(-EIO, "qemu-io %s failed with %d", base.path, r) : 0;
}

static void qsd_args(const struct back_end *b, struct args *a)
{
        for (unsigned i = 0; i < b->ndisks; i++) {
                const struct be_disk *d = &b->disks[i];

                args_add(a, "--blockdev");
                args_add(a, "file,node-name=f%u,filename=%s,discard=unmap%s", i, d->path,
                         d->read_only ? ",read-only=on" : "");
                args_add(a, "--blockdev");
                args_add(a, "%s,node-name=d%u,file=f%u,discard=unmap%s", d->format, i, i,
                         d->read_only ? ",read-only=on" : "");
                args_add(a, "--export");
                args_add(a, "vhost-user-blk,id=e%u,node-name=d%u,addr.type=unix,addr.path=%s,num-queues=%u%s", i, i,
                         d->socket, d->num_queues, d->read_only ? "" : ",writable=on");
        }
}

static void vdiskd_args(const struct back_end *b, struct args *a)
{
        args_add(a, "--control=%s/control.sock", b->dir);
        if (getenv("E2E_ENGINE"))
                args_add(a, "--engine=%s", getenv("E2E_ENGINE"));
        for (unsigned i = 0; i < b->ndisks; i++) {
                const struct be_disk *d = &b->disks[i];

                args_add(a, "--disk");
                args_add(a, "path=%s,format=%s,socket=%s,num-queues=%u%s%s", d->path, d->format, d->socket,
                         d->num_queues, d->read_only ? ",read-only=on" : "", d->migratable ? ",migratable=on" : "");
        }
}

/* A socket that listens shows 00010000 (__SO_ACCEPTCON) in the flags column. */
static bool listens(const char *path)
{
        FILE *f = fopen("/proc/net/unix", "re");
        char line[256], name[128];
        unsigned flags;
        bool found = false;

        if (!f)
                return false;
        while (!found && fgets(line, sizeof(line), f))
                found = sscanf(line, "%*s %*x %*x %x %*x %*x %*u %127s", &flags, name) == 2 && flags & 0x10000 &&
                        strcmp(name, path) == 0;
        fclose(f);
        return found;
}

static int wait_listening(struct back_end *b, const char *socket)
{
        uint64_t deadline = clock_ns() + START_TIMEOUT_MS * NS_PER_MS;

        while (!listens(socket)) {
                if (!be_running(b))
                        return err_note(-ECHILD, "%s ended before it listened on %s", daemon_path(), socket);
                if (clock_ns() > deadline)
                        return err_note(-ETIMEDOUT, "%s does not listen on %s", daemon_path(), socket);
                usleep(2000);
        }
        return 0;
}

int be_start(struct back_end *b)
{
        AUTO(args_finish) struct args a = { 0 };
        int r = 0;

        args_add(&a, "%s", daemon_path());
        if (be_is_vdiskd())
                vdiskd_args(b, &a);
        else
                qsd_args(b, &a);
        for (unsigned i = 0; i < b->ndisks; i++)
                unlink(b->disks[i].socket);
        r = spawn(&a, -1);
        if (r < 0)
                return r;
        b->pid = r;
        r = 0;
        for (unsigned i = 0; r == 0 && i < b->ndisks; i++)
                r = wait_listening(b, b->disks[i].socket);
        return r;
}

int be_new(struct back_end *b, const struct be_disk *disks, unsigned n)
{
        char dir[] = "/tmp/vdiskd-e2e-XXXXXX";
        int r = 0;

        *b = (struct back_end){ .ndisks = n };
        if (!mkdtemp(dir))
                return -errno;
        memcpy(b->dir, dir, sizeof(dir));
        for (unsigned i = 0; r == 0 && i < n; i++) {
                struct be_disk *d = &b->disks[i];

                *d = disks[i];
                d->num_queues = d->num_queues ? d->num_queues : 4;
                snprintf(d->path, sizeof(d->path), "%s/disk%u.img", dir, i);
                snprintf(d->socket, sizeof(d->socket), "%s/disk%u.sock", dir, i);
                if (d->chain)
                        r = make_base(d);
                if (r == 0)
                        r = make_image(d);
        }
        if (r == 0)
                r = be_start(b);
        if (r < 0)
                be_free(b);
        return r;
}

/*
 * A daemon that took over is the child of the old one's opener, and ours when that has seen that its daemon is gone: a moment
 * after the daemon has told us.
 */
static int be_wait(struct back_end *b, int *st)
{
        pid_t pid = TAKE(b->pid, 0);
        unsigned tries = 0;

        while (waitpid(pid, st, 0) < 0) {
                if (errno != EINTR && (errno != ECHILD || ++tries > 5000))
                        return -errno;
                if (errno == ECHILD)
                        usleep(2000);
        }
        return 0;
}

int be_stop(struct back_end *b)
{
        int st, r;

        if (!b->pid)
                return 0;
        kill(b->pid, SIGTERM);
        r = be_wait(b, &st);
        if (r == 0 && !(WIFEXITED(st) && WEXITSTATUS(st) == 0))
                r = err_note(-EPROTO, "after SIGTERM the daemon ended with wait status 0x%x, not exit 0", st);
        return r;
}

/* The kernel takes down a dead process's io_uring in the background: the files registered there stay open, and locked, for a
 * moment after the process is gone, on a busy machine a long one. */
static int wait_unlocked(const char *path)
{
        uint64_t deadline = clock_ns() + START_TIMEOUT_MS * NS_PER_MS;
        int fd = open(path, O_RDWR | O_CLOEXEC), r = fd < 0 ? -errno : 0;

        while (r == 0) {
                struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

                if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
                        r = -errno;
                else if (fl.l_type == F_UNLCK)
                        break;
                else if (clock_ns() > deadline)
                        r = err_note(-ETIMEDOUT, "%s: still locked, and its daemon is dead", path);
                else
                        usleep(2000);
        }
        closep(&fd);
        return r;
}

int be_kill(struct back_end *b)
{
        int st, r;

        if (!b->pid)
                return 0;
        kill(b->pid, SIGKILL);
        r = be_wait(b, &st);
        for (unsigned i = 0; r == 0 && i < b->ndisks; i++)
                r = wait_unlocked(b->disks[i].path);
        return r;
}

int be_adopt_orphans(void)
{
        return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

int be_upgrade(struct back_end *b, const char *binary)
{
        AUTO(freep) char *path = NULL;
        struct qmp_client *c;
        json_t *ret = NULL;
        int st, r;

        if (asprintf(&path, "%s/control.sock", b->dir) < 0)
                return -ENOMEM;
        r = qmp_client_open(path, &c);
        if (r < 0)
                return r;
        r = qmp_client_call(c, "upgrade", binary ? json_pack("{s:s}", "binary", binary) : NULL, &ret);
        qmp_client_close(c);
        if (r < 0)
                return r;
        r = be_wait(b, &st);
        b->pid = (pid_t)json_integer_value(json_object_get(ret, "pid"));
        json_decref(ret);
        if (r == 0 && !(WIFEXITED(st) && WEXITSTATUS(st) == 0))
                r = err_note(-EPROTO, "the process before ended with wait status 0x%x, not exit 0", st);
        return r;
}

bool be_running(struct back_end *b)
{
        siginfo_t si = { 0 };

        /* WNOWAIT: leave the status for be_stop() */
        return b->pid && waitid(P_PID, (id_t)b->pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == 0;
}

int be_check(const struct back_end *b, unsigned disk)
{
        AUTO(args_finish) struct args a = { 0 };
        const struct be_disk *d = &b->disks[disk];
        int r;

        if (strcmp(d->format, "raw") == 0)
                return 0; /* a raw image has nothing that could be wrong */
        args_add(&a, "qemu-img");
        args_add(&a, "check");
        args_add(&a, "-f");
        args_add(&a, "%s", d->format);
        args_add(&a, "%s", d->path);
        r = run(&a);
        if (r == 0 || r == 3) /* 3: leaked clusters only */
                return 0;
        return err_note(-EPROTO, "qemu-img check %s ended with %d", d->path, r);
}

int be_count_fds(const struct back_end *b)
{
        char path[64];
        DIR *dir;
        int n = 0;

        snprintf(path, sizeof(path), "/proc/%d/fd", b->pid);
        dir = opendir(path);
        if (!dir)
                return -errno;
        while (readdir(dir))
                n++;
        closedir(dir);
        return n - 2;
}

void be_free(struct back_end *b)
{
        char path[96];

        be_kill(b);
        for (unsigned i = 0; i < b->ndisks; i++) {
                char base[128];

                snprintf(base, sizeof(base), "%s.base", b->disks[i].path);
                unlink(base);
                unlink(b->disks[i].path);
                unlink(b->disks[i].socket);
        }
        snprintf(path, sizeof(path), "%s/control.sock", b->dir);
        unlink(path);
        rmdir(b->dir);
}

static int complain(int r)
{
        if (r < 0)
                fprintf(stderr, "%s\n", err_text(r));
        return r;
}

int be_group_start(struct back_end *b, const struct be_disk *disks, unsigned n, uint64_t *seed)
{
        const char *given = getenv("E2E_SEED");

        if (seed) {
                *seed = given ? strtoull(given, NULL, 10) : (uint64_t)getpid() << 16;
                printf("E2E_SEED=%llu\n", (unsigned long long)*seed);
        }
        return complain(be_new(b, disks, n));
}

int be_group_stop(struct back_end *b)
{
        int r = be_stop(b);

        for (unsigned i = 0; r == 0 && i < b->ndisks; i++)
                r = be_check(b, i);
        be_free(b);
        return complain(r);
}

bool be_packed(void)
{
        return getenv("E2E_PACKED");
}

int be_open(const struct back_end *b, unsigned disk, struct fe_opts opts, struct front_end **ret)
{
        uint64_t deadline = clock_ns() + START_TIMEOUT_MS * NS_PER_MS;
        int r;

        opts.packed = be_packed();
        opts.path = b->disks[disk].socket;
        opts.timeout_ms = opts.timeout_ms ? opts.timeout_ms : 60000; /* a busy machine is no failure */
        /* a daemon that is still busy with the front end before us hangs up at once */
        while ((r = fe_open(&opts, ret)) == -ECONNRESET && clock_ns() < deadline) {
                err_clear();
                usleep(1000);
        }
        return r;
}
