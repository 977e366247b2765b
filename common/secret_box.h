/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * secret_box.h - secrets on their way to another process: one after the other in memory behind a file descriptor, which
 * a parcel carries. So no key is ever part of a message or of JSON text, whose copies nobody wipes.
 *
 * Who packs: new, put all, hand over fd, finish. Who unpacks: open, get all in the same order, finish: wipes them. The
 * memory cannot shrink under whoever reads it. One thread. 0 or -errno with a sentence.
 */
#pragma once

#include <stddef.h>

#include "common/secret.h"

#define SECRET_BOX_MAX (64u << 20) /* bytes */

struct secret_box {
        int fd; /* -1: none */
        char *mem;
        size_t size, at; /* bytes */
        bool received;
};

int secret_box_new(struct secret_box *b, size_t size);
/* @len bytes that fit: the sum is what secret_box_new() was told. */
void secret_box_put(struct secret_box *b, const void *bytes, size_t len);

/* @fd is taken, also on failure. -EBADMSG: it is not such a box. */
int secret_box_open(struct secret_box *b, int fd);
/* The next one: secret_free() it. -EBADMSG: there is not so much. */
int secret_box_get(struct secret_box *b, size_t len, struct secret *ret);

void secret_box_finish(struct secret_box *b); /* { .fd = -1 } is fine */
