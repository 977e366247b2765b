/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inflight.h - the in-flight record: which requests a ring has taken and not given back, in memory that the front end keeps
 * while this process dies and another one comes (vhost-user, "Inflight I/O tracking"). See docs/ARCHITECTURE.md.
 *
 * The record is written all the time and read once, when a ring starts. What is read is a stranger's: the front end may
 * have written to it. It is copied, checked and only the copy is used.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- the memory: a session's, control thread --------------------------------------------------------------------- */

struct inflight_map;

/* A ring's part of it. */
struct inflight_part {
        void *at; /* NULL: no record is kept */
        size_t len;
};

/**
 * inflight_memfd - fresh memory for the records of @nqueues rings of any size; *len: its bytes.
 * Returns a sealed memfd, the caller's, or -errno with a sentence.
 */
int inflight_memfd(unsigned nqueues, uint64_t *len);

/**
 * inflight_map_new - map @len bytes at @offset of @fd (borrowed): the records of @nqueues rings.
 * Returns 0; -EINVAL or -EFBIG with a sentence when that cannot be; -ENOMEM, -ENOSPC.
 */
int inflight_map_new(int fd, uint64_t offset, uint64_t len, unsigned nqueues, struct inflight_map **ret);
void inflight_map_free(struct inflight_map *m); /* no ring uses it any more. NULL is fine */

/* The part of ring @index; at is NULL when there is no map, or none for this ring. */
struct inflight_part inflight_part(const struct inflight_map *m, unsigned index);

/* Did the front end truncate the memory? Any thread. */
bool inflight_broken(const struct inflight_map *m);

/* --- the record of one split ring: its queue thread ----------------------------------------------------------------- */

struct inflight {
        struct inflight_split *shared; /* only written to after inflight_load() */
        uint64_t counter;              /* of the next request that is taken */
        unsigned num;                  /* entries of the ring */
        unsigned nbatch;               /* given back since the last publish */
        uint16_t last_head;            /* the newest of all that were given back */
        unsigned nresubmit, resubmitted;
        uint16_t *batch;               /* num of them */
        uint16_t resubmit[];           /* in the order in which they were taken */
};

/**
 * inflight_load - take up the record of a ring of @num entries whose used index is @used_idx.
 * @fresh: nothing was ever written to it. Otherwise (*ret)->resubmit[] holds what must be done again.
 * Returns 0; -EBADMSG with a sentence: the record contradicts itself or the ring; -ENOMEM.
 */
int inflight_load(struct inflight_part part, unsigned num, uint16_t used_idx, bool *fresh, struct inflight **ret);
void inflight_free(struct inflight *f); /* NULL is fine */

/* The next head to do again; false: none is left. */
bool inflight_next(struct inflight *f, uint16_t *head);

/* The common road. @head was taken; it was put on the used ring; the used ring's index shows all that were, it is @used_idx. */
void inflight_take(struct inflight *f, uint16_t head);
void inflight_give_back(struct inflight *f, uint16_t head);
void inflight_published(struct inflight *f, uint16_t used_idx);
