/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * actor.h - two programs that can do the same things to an image: we (the volume code of the daemon) and QEMU (qemu-io,
 * qemu-img). Whoever fails ends the test with a sentence.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "formats/format.h"
#include "model.h"

enum op_kind { OP_WRITE, OP_ZERO, OP_ZERO_UNMAP, OP_DISCARD, OP_FLUSH };
struct op {
        enum op_kind kind;
        uint8_t value;
        uint64_t off, len;
};

/*
 * An image, as each of us names it. Encrypted ones need a key: the daemon's code has it by name (add_key()), programs
 * get it from a file.
 */
struct subject {
        const char *path;
        /* for QEMU's programs and vdisk-img: with "-f qcow2", and without it where there is no -f */
        char words[256], bare[256];
        const struct fmt_layer *layer; /* NULL: not encrypted */
};

/* Runs @cmd (printf-style) in a shell; returns its exit status. Output goes to @log (a file) for a failure report. */
int run_shell(const char *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The operations in order, in one run of qemu-io. */
void qemu_do(const struct subject *image, const char *log, const struct op *ops, unsigned n);

/* The same through a volume on an engine chosen by @seed, as many at once as do not overlap, then a clean close. */
void we_do(const struct subject *image, uint64_t seed, const struct op *ops, unsigned n);

/* The disk as each of them reads it must agree with the model. */
void qemu_compare(const struct subject *image, const char *scratch, const char *log, const struct model *m);
void we_compare(const struct subject *image, const struct model *m);

/* No corruption, no leak, in the eyes of each. */
void qemu_check(const struct subject *image, const char *log);
void we_check(const struct subject *image);

/* What the bitmap says, a byte for each granule; free() it. */
uint8_t *we_read_bitmap(const struct subject *image, const char *name, uint64_t *granules);
