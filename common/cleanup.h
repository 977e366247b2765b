/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cleanup.h - release what you hold when the scope ends.
 *
 *     AUTO(closep) int fd = open(...);
 *     AUTO(freep) char *buf = malloc(n);
 *     ...
 *     *ret = TAKE(buf, NULL);        // hand it on: the scope no longer owns it
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define AUTO(fn) __attribute__((cleanup(fn)))

/* The value of @var, which becomes @gone (the value its finisher ignores). */
#define TAKE(var, gone)                     \
        ({                                  \
                __typeof__(var) took_ = (var); \
                (var) = (gone);             \
                took_;                      \
        })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) \
        ((type *)((char *)(ptr) - __builtin_offsetof(type, member)))

static inline void closep(int *fd)
{
        if (*fd >= 0)
                close(*fd);
}

static inline void freep(void *p)
{
        free(*(void **)p);
}
