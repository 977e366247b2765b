/* SPDX-License-Identifier: BSD-3-Clause */
/* vol_fixture.h - volumes on images in a temporary directory, on a loop that the test turns itself. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "blkq/vol.h"
#include "common/file.h"

/* Creates an image (format raw or qcow2); @opts: "name=value,...", "" for none. @backing: path of a raw file, or
 * NULL. */
void vf_create(const char *name, const char *format, const char *opts, uint64_t size, const char *backing);
/* A raw file of random bytes, none of them 0. */
void vf_create_random(const char *name, uint64_t size, uint64_t seed);
/* The driver's own check: no corruptions; returns how many leaks. And the bytes: the same as @model. */
uint64_t vf_check(const char *name);
void vf_compare(const char *name, const char *format, const void *model, uint64_t size);

extern const struct fmt_layer *vf_layer; /* what vf_compare() opens images with; NULL: nothing */

struct rig {
        struct qthread *home;
        struct vol *v;
        struct vol_port *port; /* on home */
        bool closed;
        int close_res;
        struct file_tap tap;
        unsigned writes, syncs;
        uint64_t longest_write, bytes_written;
};
void vf_open(struct rig *g, const char *name, const struct vol_opts *opts, const struct engine_opts *engine);
void vf_tap(struct rig *g);
int vf_close(struct rig *g);

/* One request, to its end. */
int vf_do(struct rig *g, enum blk_op op, unsigned flags, uint64_t off, uint64_t len, void *buf);

uint64_t vf_rnd(uint64_t *state);

int vf_setup(void **state); /* makes the directory and goes there */
int vf_teardown(void **state);
