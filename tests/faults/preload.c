/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * preload.c - LD_PRELOAD for a whole program: its n-th allocation, file operation, mmap, socket call, thread or ring
 * submission fails, once or from then on.
 *
 *   FAULT_AT=KIND:N[:forever]   KIND as in the table below; N 0: none fails
 *   FAULT_REPORT=FILE           at the end of the process a line "KIND COUNT" for each kind is added, and "fds N": the
 *                               descriptors open beyond those that were at the beginning. FILE.struck says which call failed
 *
 * Only calls from the program and its libraries count, not those that the C library, sanitizers, libseccomp and liburcu make for themselves. It
 * begins to count when the program's constructors are through, and ends before its destructors, which are not its own: coverage writes
 * its counts there.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are wanted, pread and pread64 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { K_MALLOC, K_OPEN, K_READ, K_WRITE, K_SYNC, K_SIZE, K_MMAP, K_SOCKET, K_MESSAGE, K_POLL, K_THREAD, K_RING, KINDS };
static const struct {
        const char *name;
        int err;
} kinds[KINDS] = {
        [K_MALLOC] = { "malloc", ENOMEM }, [K_OPEN] = { "open", EMFILE },     [K_READ] = { "read", EIO },
        [K_WRITE] = { "write", ENOSPC },   [K_SYNC] = { "sync", EIO },        [K_SIZE] = { "size", ENOSPC },
        [K_MMAP] = { "mmap", ENOMEM },     [K_SOCKET] = { "socket", EMFILE }, [K_MESSAGE] = { "message", ENOBUFS },
        [K_POLL] = { "poll", ENOMEM },     [K_THREAD] = { "thread", EAGAIN }, [K_RING] = { "ring", ENOMEM },
};

/* A ring that cannot take more says "again", and has to be asked again: for ever would be a hang by definition. */
#define RING_SHORTAGE 100u

static atomic_bool counting;
static atomic_ulong hits[KINDS];
static enum kind fail_kind = KINDS;
static unsigned long fail_at;
static bool fail_forever;
static int fds_before, report_fd = -1;
static pid_t reporter;
static char *struck; /* STRUCK_LEN bytes of a file; memory, because a sandbox may refuse to write when it happens */
#define STRUCK_LEN 4096
static struct {
        uintptr_t from, to;
} quiet[16]; /* code whose calls do not count */
static unsigned nquiet;

static bool is_quiet(void *caller)
{
        for (unsigned i = 0; i < nquiet; i++)
                if ((uintptr_t)caller >= quiet[i].from && (uintptr_t)caller < quiet[i].to)
                        return true;
        return false;
}

/* For addr2line. */
static void note_struck(void *caller)
{
        Dl_info info;

        if (!struck || struck[0])
                return;
        if (dladdr(caller, &info) && info.dli_fname)
                snprintf(struck, STRUCK_LEN, "%.3000s %#lx\n", info.dli_fname, (unsigned long)((char *)caller - (char *)info.dli_fbase));
}

/* One more of @kind: does it fail? Then errno says how. */
static bool fails(enum kind kind, void *caller)
{
        unsigned long n;

        if (!atomic_load_explicit(&counting, memory_order_relaxed) || is_quiet(caller))
                return false;
        n = atomic_fetch_add(&hits[kind], 1) + 1;
        if (kind != fail_kind || !fail_at || (n != fail_at && !(fail_forever && n > fail_at)))
                return false;
        if (kind == K_RING && n > fail_at + RING_SHORTAGE)
                return false;
        note_struck(caller);
        errno = kinds[kind].err;
        return true;
}

#define FAILS(kind) fails(kind, __builtin_return_address(0))

/* The next definition of a name, looked up once. */
#define REAL(name) ({ \
                static __typeof__(name) *real_; \
                if (!real_) \
                        *(void **)&real_ = dlsym(RTLD_NEXT, #name); \
                real_; \
        })

/* --- memory -------------------------------------------------------------------------------------------------------------- */

/* dlsym() may allocate before we know where the real ones are. */
static char early[65536];
static size_t early_used;

static void *early_alloc(size_t n)
{
        void *p = early + early_used;

        early_used += (n + 15) & ~(size_t)15;
        if (early_used > sizeof(early))
                abort();
        return p;
}

static bool is_early(const void *p)
{
        return (const char *)p >= early && (const char *)p < early + sizeof(early);
}

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);
static bool looking;

static bool found(void)
{
        if (real_free)
                return true;
        if (looking)
                return false;
        looking = true;
        *(void **)&real_malloc = dlsym(RTLD_NEXT, "malloc");
        *(void **)&real_calloc = dlsym(RTLD_NEXT, "calloc");
        *(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
        *(void **)&real_free = dlsym(RTLD_NEXT, "free");
        looking = false;
        return true;
}

void *malloc(size_t n)
{
        if (!found())
                return early_alloc(n);
        return FAILS(K_MALLOC) ? NULL : real_malloc(n);
}

void *calloc(size_t n, size_t size)
{
        if (!found())
                return early_alloc(n * size);
        return FAILS(K_MALLOC) ? NULL : real_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
        void *q;

        if (found() && !is_early(p))
                return FAILS(K_MALLOC) ? NULL : real_realloc(p, n);
        q = malloc(n);
        if (q)
                memcpy(q, p, n < (size_t)(early + sizeof(early) - (char *)p) ? n : (size_t)(early + sizeof(early) - (char *)p));
        return q;
}

void free(void *p)
{
        if (p && !is_early(p) && found())
                real_free(p);
}

void *aligned_alloc(size_t align, size_t n)
{
        return FAILS(K_MALLOC) ? NULL : REAL(aligned_alloc)(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
        return FAILS(K_MALLOC) ? ENOMEM : REAL(posix_memalign)(p, align, n);
}

char *strdup(const char *s)
{
        return FAILS(K_MALLOC) ? NULL : REAL(strdup)(s);
}

char *strndup(const char *s, size_t n)
{
        return FAILS(K_MALLOC) ? NULL : REAL(strndup)(s, n);
}

int vasprintf(char **p, const char *fmt, va_list ap)
{
        return FAILS(K_MALLOC) ? -1 : REAL(vasprintf)(p, fmt, ap);
}

int asprintf(char **p, const char *fmt, ...)
{
        va_list ap;
        int r;

        if (FAILS(K_MALLOC))
                return -1;
        va_start(ap, fmt);
        r = REAL(vasprintf)(p, fmt, ap);
        va_end(ap);
        return r;
}

/* --- calls whose failure is -1 and errno -------------------------------------------------------------------------------------- */

#define CALL(type, kind, name, params, args) \
        type name params \
        { \
                return FAILS(kind) ? (type)-1 : REAL(name) args; \
        }

CALL(ssize_t, K_READ, pread, (int fd, void *buf, size_t n, off_t off), (fd, buf, n, off))
CALL(ssize_t, K_READ, pread64, (int fd, void *buf, size_t n, off64_t off), (fd, buf, n, off))
CALL(ssize_t, K_READ, preadv, (int fd, const struct iovec *v, int n, off_t off), (fd, v, n, off))
CALL(ssize_t, K_READ, preadv64, (int fd, const struct iovec *v, int n, off64_t off), (fd, v, n, off))
CALL(ssize_t, K_WRITE, pwrite, (int fd, const void *buf, size_t n, off_t off), (fd, buf, n, off))
CALL(ssize_t, K_WRITE, pwrite64, (int fd, const void *buf, size_t n, off64_t off), (fd, buf, n, off))
CALL(ssize_t, K_WRITE, pwritev, (int fd, const struct iovec *v, int n, off_t off), (fd, v, n, off))
CALL(ssize_t, K_WRITE, pwritev64, (int fd, const struct iovec *v, int n, off64_t off), (fd, v, n, off))
CALL(int, K_SYNC, fdatasync, (int fd), (fd))
CALL(int, K_SYNC, fsync, (int fd), (fd))
CALL(int, K_SIZE, ftruncate, (int fd, off_t n), (fd, n))
CALL(int, K_SIZE, ftruncate64, (int fd, off64_t n), (fd, n))
CALL(int, K_SIZE, fallocate, (int fd, int mode, off_t off, off_t n), (fd, mode, off, n))
CALL(int, K_SIZE, fallocate64, (int fd, int mode, off64_t off, off64_t n), (fd, mode, off, n))
CALL(int, K_SOCKET, socket, (int d, int t, int p), (d, t, p))
CALL(int, K_SOCKET, socketpair, (int d, int t, int p, int v[2]), (d, t, p, v))
CALL(int, K_SOCKET, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
CALL(int, K_SOCKET, listen, (int fd, int n), (fd, n))
CALL(int, K_SOCKET, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags))
CALL(int, K_SOCKET, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
CALL(ssize_t, K_MESSAGE, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
CALL(ssize_t, K_MESSAGE, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
CALL(ssize_t, K_MESSAGE, recv, (int fd, void *b, size_t n, int flags), (fd, b, n, flags))
CALL(ssize_t, K_MESSAGE, send, (int fd, const void *b, size_t n, int flags), (fd, b, n, flags))
CALL(int, K_POLL, eventfd, (unsigned n, int flags), (n, flags))
CALL(int, K_POLL, epoll_create1, (int flags), (flags))
CALL(int, K_POLL, epoll_ctl, (int fd, int op, int other, struct epoll_event *ev), (fd, op, other, ev))
CALL(int, K_POLL, timerfd_create, (clockid_t clock, int flags), (clock, flags))
CALL(int, K_POLL, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))
CALL(int, K_POLL, memfd_create, (const char *name, unsigned flags), (name, flags))

/* Looking and closing do not fail here; opening does. */
#define OPEN(name, params, args, last) \
        int name params \
        { \
                mode_t mode = 0; \
                va_list ap; \
 \
                if (FAILS(K_OPEN)) \
                        return -1; \
                if (flags & (O_CREAT | __O_TMPFILE)) { \
                        va_start(ap, last); \
                        mode = va_arg(ap, mode_t); \
                        va_end(ap); \
                } \
                return REAL(name) args; \
        }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode), flags)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), flags)
OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), flags)
OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), flags)

/* openat2() has no name of its own. */
long syscall(long n, ...)
{
        long a[6];
        va_list ap;

        if (n == SYS_openat2 && FAILS(K_OPEN))
                return -1;
        va_start(ap, n);
        for (unsigned i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        return REAL(syscall)(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#define MAP(name, off_type) \
        void *name(void *at, size_t n, int prot, int flags, int fd, off_type off) \
        { \
                return FAILS(K_MMAP) ? MAP_FAILED : REAL(name)(at, n, prot, flags, fd, off); \
        }

MAP(mmap, off_t)
MAP(mmap64, off64_t)

/* --- others -------------------------------------------------------------------------------------------------------------------- */

/*
 * liburcu's own thread. With clang's sanitizers in the program its call comes through their pthread_create, so that the program seems to be
 * the caller. liburcu calls the second by itself.
 */
static _Thread_local unsigned in_liburcu;

struct call_rcu_data;

#define OF_LIBURCU(name) \
        struct call_rcu_data *name(void); \
        struct call_rcu_data *name(void) \
        { \
                struct call_rcu_data *d; \
\
                in_liburcu++; \
                d = REAL(name)(); \
                in_liburcu--; \
                return d; \
        }

OF_LIBURCU(urcu_memb_get_default_call_rcu_data)
OF_LIBURCU(urcu_memb_get_call_rcu_data)

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
        return !in_liburcu && FAILS(K_THREAD) ? EAGAIN : REAL(pthread_create)(t, a, run, arg);
}

/* liburing answers with negative errno. Handing over fails as it does when the kernel is short of something. */
struct io_uring;
struct io_uring_params;
struct io_uring_cqe;
struct __kernel_timespec;
int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p);
int io_uring_submit(struct io_uring *ring);
int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n,
                                     struct __kernel_timespec *ts, sigset_t *mask);
int io_uring_register_files_update(struct io_uring *ring, unsigned off, const int *files, unsigned n);

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p)
{
        return FAILS(K_RING) ? -ENOMEM : REAL(io_uring_queue_init_params)(entries, ring, p);
}

int io_uring_submit(struct io_uring *ring)
{
        return FAILS(K_RING) ? -EAGAIN : REAL(io_uring_submit)(ring);
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n,
                                     struct __kernel_timespec *ts, sigset_t *mask)
{
        return FAILS(K_RING) ? -EAGAIN : REAL(io_uring_submit_and_wait_timeout)(ring, cqe, n, ts, mask);
}

int io_uring_register_files_update(struct io_uring *ring, unsigned off, const int *files, unsigned n)
{
        return FAILS(K_RING) ? -ENOMEM : REAL(io_uring_register_files_update)(ring, off, files, n);
}

/* --- begin and end ------------------------------------------------------------------------------------------------------------- */

static int add_quiet(struct dl_phdr_info *info, size_t size, void *opaque)
{
        static const char *const names[] = { "/libc.so", "/ld-linux", "/libasan", "/libubsan", "/libtsan", "/libgcc_s", "preload",
                                             "/libseccomp", "/liburcu" /* end by themselves without memory; only at the start */ };

        (void)size;
        (void)opaque;
        for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                for (unsigned k = 0; strstr(info->dlpi_name, names[i]) && k < info->dlpi_phnum; k++)
                        if (info->dlpi_phdr[k].p_type == PT_LOAD && info->dlpi_phdr[k].p_flags & PF_X && nquiet < 16) {
                                quiet[nquiet].from = info->dlpi_addr + info->dlpi_phdr[k].p_vaddr;
                                quiet[nquiet].to = quiet[nquiet].from + info->dlpi_phdr[k].p_memsz;
                                nquiet++;
                        }
        return 0;
}

static int count_fds(void)
{
        int n = 0;

        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void parse(const char *text)
{
        char name[16];

        if (!text || sscanf(text, "%15[a-z]:%lu", name, &fail_at) != 2)
                return;
        for (unsigned i = 0; i < KINDS; i++)
                if (!strcmp(name, kinds[i].name))
                        fail_kind = i;
        fail_forever = strstr(text, ":forever");
}

static void map_struck(const char *report)
{
        char path[4200];
        int fd;
        void *at;

        snprintf(path, sizeof(path), "%s.struck", report);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
                return;
        at = ftruncate(fd, STRUCK_LEN) == 0 ? mmap(NULL, STRUCK_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
        close(fd);
        struck = at == MAP_FAILED ? NULL : at;
}

__attribute__((constructor)) static void begin(void)
{
        found();
        dl_iterate_phdr(add_quiet, NULL);
        parse(getenv("FAULT_AT"));
        if (getenv("FAULT_REPORT")) { /* now: a sandbox may be closed around the program later */
                map_struck(getenv("FAULT_REPORT"));
                report_fd = open(getenv("FAULT_REPORT"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        }
        fds_before = count_fds();
        reporter = getpid();
        atomic_store(&counting, true);
}

static int (*real_main)(int, char **, char **);

void fault_preload_end(void); /* tests/lib/coverage_exit.c, too, looks for it */
void fault_preload_end(void)
{
        atomic_store(&counting, false);
}

/* The first that is asked for at exit is done last: after all that the program asks for, before the destructors. */
static int main_that_ends(int argc, char **argv, char **env)
{
        atexit(fault_preload_end);
        return real_main(argc, argv, env);
}

int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end);
int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end)
{
        real_main = program;
        return REAL(__libc_start_main)(main_that_ends, argc, argv, init, fini, loader_fini, stack_end);
}

__attribute__((destructor)) static void end(void)
{
        char text[512];
        int n = 0;

        fault_preload_end();
        if (report_fd < 0 || getpid() != reporter) /* not of helpers that were forked */
                return;
        for (unsigned i = 0; i < KINDS; i++)
                n += snprintf(text + n, sizeof(text) - (size_t)n, "%s %lu\n", kinds[i].name, atomic_load(&hits[i]));
        n += snprintf(text + n, sizeof(text) - (size_t)n, "fds %d\n", count_fds() - fds_before);
        (void)!write(report_fd, text, (size_t)n);
}
