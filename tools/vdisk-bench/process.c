/* SPDX-License-Identifier: BSD-3-Clause */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"

static void fclosep(FILE **f)
{
        if (*f)
                fclose(*f);
}

static void closedirp(DIR **d)
{
        if (*d)
                closedir(*d);
}

/* Calls @each for every thread; stops at the first error. */
static int each_thread(pid_t pid, int (*each)(pid_t tid, void *opaque), void *opaque)
{
        char path[64];
        AUTO(closedirp) DIR *dir = NULL;
        struct dirent *e;
        int r = 0;

        snprintf(path, sizeof(path), "/proc/%d/task", pid);
        dir = opendir(path);
        if (!dir)
                return err_note(-ESRCH, "--pid=%d: no such process", pid);
        while (r == 0 && (e = readdir(dir)))
                if (e->d_name[0] != '.')
                        r = each((pid_t)atoi(e->d_name), opaque);
        return r;
}

static int tracepoint_id(uint64_t *ret)
{
        static const char *const roots[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };

        for (unsigned i = 0; i < ARRAY_SIZE(roots); i++) {
                char path[128];
                AUTO(fclosep) FILE *f = NULL;

                snprintf(path, sizeof(path), "%s/events/raw_syscalls/sys_enter/id", roots[i]);
                f = fopen(path, "re");
                if (f && fscanf(f, "%" SCNu64, ret) == 1)
                        return 0;
        }
        return -ENOENT;
}

struct watch {
        struct process *p;
        uint64_t id;
};

static int watch_thread(pid_t tid, void *opaque)
{
        struct watch *w = opaque;
        struct perf_event_attr attr = {
                .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .config = w->id, .inherit = 1,
        };
        int fd;

        if (w->p->nfds == PROCESS_THREADS_MAX)
                return -E2BIG;
        fd = (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
        if (fd < 0)
                return errno == ESRCH ? 0 : -errno; /* a thread that just ended */
        w->p->fds[w->p->nfds++] = fd;
        return 0;
}

int process_watch(struct process *p, pid_t pid)
{
        struct process_cost cost;
        struct watch w = { .p = p };
        int r;

        *p = (struct process){ .pid = pid };
        r = process_read(p, &cost);
        if (r < 0)
                return r;
        if (tracepoint_id(&w.id) < 0) {
                snprintf(p->no_syscalls, sizeof(p->no_syscalls),
                         "no tracefs (mount -t tracefs none /sys/kernel/tracing)");
                return 0;
        }
        r = each_thread(pid, watch_thread, &w);
        if (r < 0) {
                process_finish(p);
                snprintf(p->no_syscalls, sizeof(p->no_syscalls), "perf_event_open: %s", strerror(-r));
        }
        return 0;
}

static int add_switches(pid_t tid, void *opaque)
{
        struct process_cost *c = opaque;
        char path[64], line[128];
        uint64_t n;

        snprintf(path, sizeof(path), "/proc/%d/status", tid);
        AUTO(fclosep) FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f))
                if (sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &n) == 1 ||
                    sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &n) == 1)
                        c->switches += n;
        return 0;
}

/* The CPU clock of another process also counts its threads that have ended. */
static int read_cpu(pid_t pid, uint64_t *ns)
{
        struct timespec ts;
        clockid_t clock;

        if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
                return err_note(-ESRCH, "--pid=%d: no such process", pid);
        *ns = (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
        return 0;
}

int process_read(const struct process *p, struct process_cost *ret)
{
        int r;

        *ret = (struct process_cost){ 0 };
        for (unsigned i = 0; i < p->nfds; i++) {
                uint64_t n;

                if (read(p->fds[i], &n, sizeof(n)) == sizeof(n))
                        ret->syscalls += n;
        }
        r = read_cpu(p->pid, &ret->cpu_ns);
        return r < 0 ? r : each_thread(p->pid, add_switches, ret);
}

void process_finish(struct process *p)
{
        for (unsigned i = 0; i < p->nfds; i++)
                close(p->fds[i]);
        p->nfds = 0;
}
