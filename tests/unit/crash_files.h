/* SPDX-License-Identifier: BSD-3-Clause */
/* crash_files.h - what happened to an image's files, and files put together from it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"
#include "common/range.h"
#include "tests/lib/stamp.h"

#define SECTOR STAMP_SECTOR

struct event {
        enum file_event_kind kind;
        uint64_t off, len;
        unsigned char *bytes; /* WRITE */
        bool data;            /* to the data file */
        size_t flushed;       /* SYNC that ended a flush: log entries that it promised + 1; else 0 */
};
struct bytes {
        unsigned char *b;
        size_t len, cap;
};
struct files {
        struct bytes part[2]; /* the image, its data file */
};

static void make_len(struct bytes *s, size_t len)
{
        assert_true(len <= s->cap);
        if (len < s->len)
                memset(s->b + len, 0, s->len - len);
        s->len = len;
}

static void put(struct bytes *s, const struct event *e, uint64_t from, uint64_t len)
{
        uint64_t off = e->off + from;

        if (e->kind == FILE_EV_WRITE) {
                if (off + len > s->len)
                        make_len(s, off + len);
                memcpy(s->b + off, e->bytes + from, len);
        } else if (e->kind != FILE_EV_SYNC && off < s->len) {
                memset(s->b + off, 0, min_u64(len, s->len - off));
        }
}

static void put_whole(struct bytes *s, const struct event *e)
{
        if (e->kind == FILE_EV_TRUNCATE)
                make_len(s, e->off);
        else
                put(s, e, 0, e->len);
}
