/* SPDX-License-Identifier: BSD-3-Clause */
/* crash_files.h - what happened to an image's files, and files put together from it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/bytes.h"
#include "common/file.h"
#include "common/range.h"

#define SECTOR 512u

/* A sector says which one it is and which version; version 0 is zeros. */
static void stamp(unsigned char *to, uint32_t sector, uint32_t version)
{
        memset(to, 0, SECTOR);
        for (unsigned i = 0; version && i < SECTOR; i += 8) {
                be32_put(to + i, sector ^ 0xa5000000u);
                be32_put(to + i + 4, version);
        }
}

/* UINT32_MAX: no sector that we ever wrote there. */
static uint32_t version_of(const unsigned char *b, uint32_t sector)
{
        unsigned char should[SECTOR];
        uint32_t version = be32_get(b) == (sector ^ 0xa5000000u) ? be32_get(b + 4) : 0;

        stamp(should, sector, version);
        return memcmp(should, b, SECTOR) ? UINT32_MAX : version;
}

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
