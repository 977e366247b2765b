/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz.h - what all fuzz harnesses share.
 *
 * A harness is one function. With -Dfuzz=true (clang) libFuzzer calls it; without, replay.c calls it once for each
 * saved input of tests/fuzz/corpus/, so that ./check proves that what was once found stays fixed.
 * A harness says what is wrong by fuzz_fail(): any other answer than a crash is checked by somebody.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv); /* each harness has one: silence the log, register with RCU */

#define fuzz_fail(...) (fprintf(stderr, "fuzz: " __VA_ARGS__), fputc('\n', stderr), abort())

/* The input, eaten from the front. What is not there any more is zeros. */
struct fuzz_input {
        const uint8_t *p;
        size_t left;
};

static inline void fuzz_bytes(struct fuzz_input *in, void *to, size_t len)
{
        size_t n = len < in->left ? len : in->left;

        if (n)
                memcpy(to, in->p, n);
        memset((char *)to + n, 0, len - n);
        in->p += n;
        in->left -= n;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
        uint8_t b;

        fuzz_bytes(in, &b, sizeof(b));
        return b;
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
        uint16_t v;

        fuzz_bytes(in, &v, sizeof(v));
        return v;
}

static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
        uint32_t v;

        fuzz_bytes(in, &v, sizeof(v));
        return v;
}
