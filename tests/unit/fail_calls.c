/* SPDX-License-Identifier: BSD-3-Clause */
/* The linker's --wrap=NAME sends each call of NAME to __wrap_NAME, and __real_NAME is what NAME was. */
#include "fail_calls.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>

static struct {
        unsigned left; /* 1: the next one; 0: none */
        int err;
} armed[CALLS];

void fail_call(enum call call, unsigned nth, int err)
{
        armed[call].left = nth;
        armed[call].err = err;
}

int fail_call_done(enum call call)
{
        return !armed[call].left;
}

static bool fails(enum call call)
{
        if (!armed[call].left || --armed[call].left)
                return false;
        errno = armed[call].err;
        return true;
}

#define WRAP(type, name, call, failure, params, args) \
        type __real_##name params; \
        type __wrap_##name params; \
        type __wrap_##name params \
        { \
                return fails(call) ? (failure) : __real_##name args; \
        }

WRAP(void *, malloc, CALL_MALLOC, NULL, (size_t n), (n))
WRAP(void *, calloc, CALL_CALLOC, NULL, (size_t n, size_t size), (n, size))
WRAP(char *, strdup, CALL_MALLOC, NULL, (const char *s), (s))
WRAP(char *, strndup, CALL_MALLOC, NULL, (const char *s, size_t n), (s, n))
WRAP(void *, mmap64, CALL_MMAP, MAP_FAILED, (void *at, size_t n, int prot, int flags, int fd, off64_t off),
     (at, n, prot, flags, fd, off))
WRAP(int, fstat64, CALL_FSTAT, -1, (int fd, struct stat64 *st), (fd, st))
WRAP(int, ftruncate64, CALL_FTRUNCATE, -1, (int fd, off64_t n), (fd, n))
WRAP(int, memfd_create, CALL_MEMFD, -1, (const char *name, unsigned flags), (name, flags))
WRAP(int, epoll_ctl, CALL_EPOLL_CTL, -1, (int fd, int op, int other, struct epoll_event *ev), (fd, op, other, ev))

/* Its last argument, when there is one, is a number or a pointer: as wide as a pointer here. */
int __real_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...)
{
        va_list ap;
        void *arg;

        va_start(ap, cmd);
        arg = va_arg(ap, void *);
        va_end(ap);
        return fails(CALL_FCNTL) ? -1 : __real_fcntl64(fd, cmd, arg);
}
