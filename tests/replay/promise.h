/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * promise.h - what the guest asked for and was told, on the tape's clock, and what a disk may hold when it is cut.
 *
 * A sector has a history: versions in the order they were asked for, never two at a time. After a cut it holds the last
 * one that was answered before a flush was asked for that was answered, or any later one that was asked for by then.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROMISE_NEVER UINT64_MAX

struct said {
        uint32_t version;
        bool durable;           /* when it is answered: FUA */
        uint64_t asked, answered;
};
struct history {
        struct said *v;
        unsigned n, cap;
        unsigned safe, last; /* promise_at(): it holds one of these and those between them */
};
struct flushed {
        uint64_t asked, answered;
};
struct resized {
        uint64_t size; /* sectors */
        uint64_t asked, answered;
};
struct snapped {
        char name[8];
        uint32_t *version; /* of each sector */
        uint64_t size;     /* sectors */
        uint64_t asked, answered;
};
struct promise {
        struct history *sector;
        uint32_t max_sectors;
        uint32_t next_version;
        struct flushed *flush;
        size_t nflush, flush_cap;
        struct resized size[64];
        unsigned nsize;
        struct snapped snap[16];
        unsigned nsnap;
        bool zeros_pass; /* with an unflushed write also zeros (FMT_ENTRY_WITH_DATA) */
        uint64_t at;
};

void promise_init(struct promise *p, uint32_t max_sectors);
void promise_finish(struct promise *p);
void promise_reset(struct promise *p, uint64_t sectors); /* all zeros, so many of them */
void promise_start(struct promise *p, uint32_t sector, uint32_t version); /* what it held before the recording */
void promise_keep(struct promise *p); /* what is now is what was before the recording */

uint32_t promise_now(const struct promise *p, uint32_t sector); /* the last one answered */
uint64_t promise_size(const struct promise *p);                 /* sectors, likewise */

/* @version becomes possible, and is what it holds when promise_answer() says so (perhaps another one: a discard). */
void promise_ask(struct promise *p, uint32_t sector, uint32_t version, uint64_t now);
void promise_answer(struct promise *p, uint32_t sector, uint32_t version, bool durable, uint64_t now);
size_t promise_ask_flush(struct promise *p, uint64_t now);
void promise_answer_flush(struct promise *p, size_t flush, uint64_t now);
void promise_ask_size(struct promise *p, uint64_t sectors, uint64_t now);
void promise_answer_size(struct promise *p, uint64_t now);
/* the last one that was asked for: it and what it did to sectors never was */
void promise_refuse_size(struct promise *p);
struct snapped *promise_ask_snap(struct promise *p, uint64_t now);

/* Of a cut at @at. What is asked for at that tick itself does not count as asked. */
void promise_at(struct promise *p, uint64_t at);
bool promise_allows_size(const struct promise *p, uint64_t sectors);
/* 0; or the number of the first wrong sector + 1, with a sentence in @why. */
uint64_t promise_compare(const struct promise *p, const unsigned char *disk, uint64_t sectors, char *why, size_t room);
