/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inflight.h - the memory of in-flight records: which requests a ring has taken and not given back, in memory that the
 * front end keeps while this process dies and another one comes (vhost-user, "Inflight I/O tracking"). See
 * docs/ARCHITECTURE.md.
 *
 * The record is written all the time and read once, when a ring starts. What is read is a stranger's: the front end may
 * have written to it. It is copied, checked and only the copy is used.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/parcel.h"

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
/* For another process. NULL: no memory. unpack: as inflight_map_new(), or -EBADMSG. */
json_t *inflight_map_pack(const struct inflight_map *m, struct parcel *p);
int inflight_map_unpack(struct parcel *p, const json_t *o, struct inflight_map **ret);
void inflight_map_free(struct inflight_map *m); /* no ring uses it any more. NULL is fine */

/* The part of ring @index; at is NULL when there is no map, or none for this ring. */
struct inflight_part inflight_part(const struct inflight_map *m, unsigned index);

/* Did the front end truncate the memory? Any thread. */
bool inflight_broken(const struct inflight_map *m);

/* --- the records of rings: inflight_split.h, inflight_packed.h ------------------------------------------------------ */

#define INFLIGHT_VERSION 1 /* 0: fresh memory */
#define INFLIGHT_MAX_SIZE 1024 /* entries of a ring */
#define INFLIGHT_LEN_MIN (16 + 16)                     /* a split ring of one */
#define INFLIGHT_LEN_MAX (32 + INFLIGHT_MAX_SIZE * 32) /* a packed ring of the largest size */

/* -EBADMSG with a sentence. */
int inflight_damaged(const char *what, unsigned value);

/*
 * What is in flight, brought into the order in which it was taken; *next: the counter of the next request.
 * 0, or -EBADMSG: two have the same counter.
 */
struct inflight_taken {
        uint64_t counter;
        uint16_t entry;
};
int inflight_sort(struct inflight_taken *t, unsigned n, uint64_t *next);
