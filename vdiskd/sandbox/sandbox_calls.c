/* SPDX-License-Identifier: BSD-3-Clause */
#include "sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

#if HAVE_SECCOMP && !SANDBOX_RELAXED

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#define C(name) SCMP_SYS(name)

/* --- which -------------------------------------------------------------------------------------------------------- */

static const int everybody[] = {
        /* memory; mmap and mprotect are below */
        C(brk), C(munmap), C(mremap), C(madvise), C(mlock), C(mlock2), C(munlock),
        /* being a thread */
        C(futex), C(sched_yield), C(sched_getaffinity), C(set_robust_list), C(rseq), C(rt_sigprocmask), C(rt_sigreturn),
        C(sigaltstack), C(exit), C(exit_group), C(membarrier), C(gettid), C(getpid), C(getcpu), C(restart_syscall),
        C(rt_sigaction),
        /* time, chance */
        C(clock_gettime), C(clock_getres), C(clock_nanosleep), C(nanosleep), C(gettimeofday), C(getrandom),
        /* what is open: images, logs of table changes, eventfds */
        C(read), C(write), C(readv), C(writev), C(pread64), C(pwrite64), C(preadv), C(pwritev), C(preadv2), C(pwritev2),
        C(close), C(lseek), C(fstat), C(fstatfs), C(fsync), C(fdatasync), C(fallocate), C(ftruncate), C(copy_file_range), C(fadvise64),
        /* waiting */
        C(poll), C(ppoll), C(epoll_wait), C(epoll_pwait), C(epoll_ctl),
        /* asking the opener */
        C(sendto), C(recvfrom), C(sendmsg), C(recvmsg),
};
static const int queue[] = { C(io_uring_enter), C(timer_settime), C(timer_delete) /* of what it has: nudge.c */ };
static const int control[] = {
        /* sessions and clients */
        C(accept4), C(shutdown), C(getsockopt), C(setsockopt), C(getsockname), C(getpeername), C(eventfd2), C(memfd_create),
        C(readlink), C(readlinkat), /* is it an eventfd? session_rings.c */
        /* itself: timers, the hand-over, the directory of the configuration, the service manager */
        C(epoll_create1), C(timerfd_create), C(timerfd_settime), C(signalfd4), C(getdents64), C(pipe2), C(dup), C(dup2), C(dup3), C(umask),
        C(getuid), C(geteuid), C(getgid), C(getegid), C(getppid), C(getrusage), C(uname), C(sysinfo), C(times),
};
/* Of a process by itself, which works with names. (No read of what others may write to: it hands descriptors on.) */
static const int opener[] = {
        C(brk), C(munmap), C(mremap), C(madvise), C(futex), C(rt_sigprocmask), C(rt_sigreturn), C(exit), C(exit_group), C(gettid), C(getpid),
        C(restart_syscall), C(clock_gettime), C(getrandom),
        C(recvfrom), C(recvmsg), C(sendmsg), C(sendto),
        C(openat), C(openat2), C(close), C(fstat), C(newfstatat), C(statx), C(readlink), C(readlinkat), C(access), C(faccessat), C(faccessat2),
        C(getcwd), C(lseek),
        C(read), C(pread64), C(write), C(fsync),                     /* names of users; disks that are saved */
        C(mkdir), C(rename), C(renameat), C(renameat2), C(link), C(linkat), C(unlink), C(unlinkat), C(umask),
        C(fchmod), C(chmod), C(fchmodat), C(fchown), C(fchownat),    /* of sockets */
        C(bind), C(listen), C(connect), C(poll), C(ppoll),
        C(getuid), C(geteuid), C(getgid), C(getegid), C(uname),
};
static const struct { const int *calls; size_t n; } lists[THREAD_KINDS] = {
        [THREAD_CONTROL] = { control, ARRAY_SIZE(control) },
        [THREAD_QUEUE] = { queue, ARRAY_SIZE(queue) },
};

static const unsigned long requests[] = { /* ioctl(): all are about open files */
        BLKGETSIZE64, BLKSSZGET, BLKDISCARD, BLKZEROOUT, FICLONERANGE, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS,
        FS_IOC_SETFLAGS, FIONREAD,
};
static const int commands[] = { /* fcntl() */
        F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_OFD_GETLK, F_OFD_SETLK, F_ADD_SEALS, F_GET_SEALS, F_DUPFD_CLOEXEC,
};

/* --- rules -------------------------------------------------------------------------------------------------------- */

/* What this processor's Linux does not have cannot be called: no error. */
static int allow(scmp_filter_ctx f, int call, unsigned n, const struct scmp_arg_cmp *args)
{
        int r = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, call, n, args);

        return r == -EDOM ? 0 : r;
}

static int allow_list(scmp_filter_ctx f, const int *calls, size_t n)
{
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = allow(f, calls[i], 0, NULL);
        return r;
}

static int allow_if(scmp_filter_ctx f, int call, struct scmp_arg_cmp arg)
{
        return allow(f, call, 1, &arg);
}

/* Memory that can be written never becomes memory that can be run. */
static int allow_mapping(scmp_filter_ctx f)
{
        int r = allow_if(f, C(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

        return r ? r : allow_if(f, C(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

/* Of a file that is open, not of a path. (The kernel would look at a path all the same: it tells of files, opens
 * none.) */
static int allow_looking(scmp_filter_ctx f)
{
        int r = allow_if(f, C(newfstatat), SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));

        return r ? r : allow_if(f, C(statx), SCMP_A2(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
}

static int allow_codes(scmp_filter_ctx f)
{
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(requests) && r == 0; i++)
                r = allow_if(f, C(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, requests[i]));
        for (size_t i = 0; i < ARRAY_SIZE(commands) && r == 0; i++)
                r = allow_if(f, C(fcntl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, (scmp_datum_t)commands[i]));
        return r;
}

/* abort() of ourselves, for a failed assertion. */
static int allow_own_end(scmp_filter_ctx f)
{
        return allow_if(f, C(tgkill), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

/* The ring itself refuses what is not ours (engine_uring.c). */
static int allow_ring(scmp_filter_ctx f)
{
        int r = allow_if(f, C(io_uring_register), SCMP_A1(SCMP_CMP_EQ, IORING_REGISTER_FILES_UPDATE));

        return r ? r : allow_if(f, C(io_uring_register), SCMP_A1(SCMP_CMP_EQ, IORING_UNREGISTER_RING_FDS));
}

/*
 * A thread, which has our filter and adds its own; no process. The flags of clone3() lie in memory, where a filter
 * cannot look: the C library does without when the kernel has none.
 */
static int allow_threads(scmp_filter_ctx f)
{
        int r = allow_if(f, C(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

        if (r == 0)
                r = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), C(clone3), 0);
        if (r == 0)
                r = allow_if(f, C(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
        return r ? r : allow_if(f, C(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0)); /* looks only */
}

static int add_rules(scmp_filter_ctx f, enum thread_kind kind)
{
        int r = allow_list(f, everybody, ARRAY_SIZE(everybody));

        if (r == 0)
                r = allow_list(f, lists[kind].calls, lists[kind].n);
        if (r == 0)
                r = allow_mapping(f);
        if (r == 0)
                r = allow_looking(f);
        if (r == 0)
                r = allow_codes(f);
        if (r == 0)
                r = allow_own_end(f);
        if (r == 0 && kind == THREAD_QUEUE)
                r = allow_ring(f);
        if (r == 0 && kind == THREAD_CONTROL)
                r = allow_threads(f);
        return r;
}

static int add_opener_rules(scmp_filter_ctx f)
{
        int r = allow_list(f, opener, ARRAY_SIZE(opener));

        if (r == 0)
                r = allow_mapping(f);
        if (r == 0)
                r = allow_own_end(f);
        for (size_t i = 0; i < ARRAY_SIZE(commands) && r == 0; i++)
                r = allow_if(f, C(fcntl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, (scmp_datum_t)commands[i]));
        return r ? r : allow_if(f, C(socket), SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
}

/* --- programs ----------------------------------------------------------------------------------------------------- */

static struct sock_fprog programs[THREAD_KINDS];

/* The library writes to a file only, and loads for its own thread only what it has just put together. */
static int take_program(scmp_filter_ctx f, struct sock_fprog *ret)
{
        AUTO(closep) int fd = memfd_create("filter", MFD_CLOEXEC);
        struct stat st;
        int r = fd < 0 ? -errno : seccomp_export_bpf(f, fd);

        if (r < 0 || fstat(fd, &st) < 0)
                return r < 0 ? r : -errno;
        ret->len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
        ret->filter = malloc((size_t)st.st_size);
        if (!ret->filter)
                return -ENOMEM;
        if (lseek(fd, 0, SEEK_SET) < 0 || read(fd, ret->filter, (size_t)st.st_size) != st.st_size)
                return -EIO;
        return 0;
}

static int compile(enum thread_kind kind)
{
        scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        int r = f ? 0 : -ENOMEM;

        if (r == 0)
                r = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
        if (r == 0)
                r = add_rules(f, kind);
        if (r == 0)
                r = take_program(f, &programs[kind]);
        seccomp_release(f);
        return r;
}

int sandbox_calls_prepare(void)
{
        int r = 0;

        if (prctl(PR_GET_SECCOMP) < 0)
                return -errno;
        for (int k = 0; k < THREAD_KINDS && r == 0; k++)
                r = compile((enum thread_kind)k);
        return r;
}

int sandbox_calls_opener(void)
{
        scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        int r = f ? add_opener_rules(f) : -ENOMEM;

        if (r == 0)
                r = seccomp_load(f);
        seccomp_release(f);
        return r;
}

void sandbox_calls_apply(enum thread_kind kind)
{
        if (programs[kind].filter && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &programs[kind]) < 0)
                log_err("a thread keeps all its system calls: %s", strerror(errno));
}

#else

int sandbox_calls_prepare(void)
{
        return -ENOTSUP;
}

int sandbox_calls_opener(void)
{
        return -ENOTSUP;
}

void sandbox_calls_apply(enum thread_kind kind)
{
        (void)kind;
}

#endif
