/* SPDX-License-Identifier: BSD-3-Clause */
/* tmp_image.h - a directory for a test's images, QEMU's tools on them, and files as pieces of memory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TMP_PATH_MAX 256

/* One directory a process, made at the first call, removed at exit. Returns "<dir>/<name>" in @buf. */
const char *tmp_path(const char *name, char buf[TMP_PATH_MAX]);

/* Run a shell command line quietly; its exit status. When it is not 0 the output is shown. */
int run_cmd(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void *load_file(const char *path, size_t *len); /* NULL: cannot; free() it */
int save_file(const char *path, const void *bytes, size_t len);

/* xorshift64*: the same sequence for the same seed everywhere. *state must not be 0. */
static inline uint64_t rnd(uint64_t *state)
{
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return *state * 0x2545f4914f6cdd1dull;
}
static inline uint64_t rnd_below(uint64_t *state, uint64_t n)
{
        return rnd(state) % n;
}

/* The seed of this run: from the environment variable SEED, else from the clock; printed. */
uint64_t test_seed(void);
