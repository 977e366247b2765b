/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * luks.h - a LUKS1 header that lies somewhere in a file: read, made, opened with a password, its key slots changed.
 *
 *     header | material of slot 0 | ... | material of slot 7
 *
 * The master key encrypts the disk. Each slot holds it once more, split so that no part of the material is worth
 * anything alone, and encrypted with a key derived from a password. No library does this on a piece of a file
 * (libcryptsetup wants a device of its own), so header and slots are ours; ciphers and derivation are crypto.h's.
 *
 * Synchronous work on the file seam; any thread, one at a time on one area. Errors are negative errno with a sentence.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/file.h"
#include "common/secret.h"
#include "crypto.h"
#include "on_disk.h"

/* Where in @file it lies. Nothing outside is read or written. */
struct luks_area {
        struct file *file;
        uint64_t off, len; /* bytes; off is a multiple of 512 */
};

struct luks_slot {
        bool active;
        uint32_t iterations;
        uint8_t salt[LUKS_SALT];
        uint32_t material, stripes; /* sectors from the area's start; number */
};

struct luks_header {
        char cipher[LUKS_WORD], mode[LUKS_WORD], hash[LUKS_WORD], uuid[40];
        uint32_t payload; /* sectors */
        uint32_t key_bytes;
        uint8_t digest[LUKS_DIGEST], digest_salt[LUKS_SALT];
        uint32_t digest_iterations;
        struct luks_slot slot[LUKS_SLOTS];
};

/**
 * What opening may cost, in units of one PBKDF2 iteration for one block of hash: a header can ask for 2^32 iterations
 * in each slot. At a million a second and core (slow) this is four minutes; a header that cryptsetup or qemu-img made
 * takes 2 to 8 seconds for each slot by default.
 */
#define LUKS_MAX_WORK (1ull << 28)

/**
 * luks_read - read and check the header: sizes, places (inside the area, not overlapping), words, cost.
 * -EINVAL: contradicts the format; -ENOTSUP: another version, or a cipher or hash that we do not have; -E2BIG: opening
 * would take longer than LUKS_MAX_WORK.
 */
int luks_read(const struct luks_area *area, struct luks_header *h);

/* The key of the disk: in secret memory. */
struct luks_key {
        uint8_t *bytes;
        size_t len;
};
void luks_key_finish(struct luks_key *k); /* wipes it; zeroed is fine */

/**
 * luks_unlock - find the slot that @password opens. Slow on purpose: up to minutes (LUKS_MAX_WORK), a worker's job.
 * @slot: which one it was; may be NULL. -EACCES with a sentence: it opens none.
 */
int luks_unlock(const struct luks_area *area, const struct luks_header *h, const struct secret *password,
                struct luks_key *ret, unsigned *slot);

/* Does @password open this slot? 1, 0 or -errno. */
int luks_opens(const struct luks_area *area, const struct luks_header *h, unsigned slot, const struct secret *password);

/* What a new header shall be. */
struct luks_wish {
        char cipher[LUKS_WORD], mode[LUKS_WORD], hash[LUKS_WORD];
        uint32_t key_bytes;
        uint32_t iter_time_ms; /* how long one try of a password shall take on this machine */
};

/* Bytes that header and key material take: a multiple of 512. */
uint64_t luks_area_size(uint32_t key_bytes);

/**
 * luks_format - make a header with a new random master key, which @password opens in slot 0.
 * @area: exactly luks_area_size() bytes; what was there before is overwritten. Does not sync.
 */
int luks_format(const struct luks_area *area, const struct luks_wish *wish, const struct secret *password,
                struct luks_key *ret);

/**
 * luks_slot_set, luks_slot_clear - give the master key another password, take a password away.
 *
 * Set: the material is durable before the header says that the slot is active; the slot must be inactive (-EBUSY).
 * Clear: the header says inactive, durably, before the material is overwritten with random bytes, durably too. So a
 * crash leaves each password either valid or not, never a slot that says yes and has half a key. @h follows the file.
 */
int luks_slot_set(const struct luks_area *area, struct luks_header *h, unsigned slot, const struct luks_key *key,
                  const struct secret *password, uint32_t iter_time_ms);
int luks_slot_clear(const struct luks_area *area, struct luks_header *h, unsigned slot);

unsigned luks_active_slots(const struct luks_header *h); /* how many */
int luks_free_slot(const struct luks_header *h);         /* the first inactive one; -1: none */
