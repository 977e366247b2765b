/* SPDX-License-Identifier: BSD-3-Clause */
/* key_slots.c - the master key and the passwords that lead to it. Keys live in secret memory only. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "af.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"
#include "header.h"

#define MIN_ITERATIONS 1000u /* as cryptsetup and QEMU */
#define TRY_ITERATIONS 4096u

/* Bytes that are a key or lead to one. */
struct hidden {
        uint8_t *bytes;
        size_t len;
};

static int hidden_new(size_t len, struct hidden *h)
{
        *h = (struct hidden){ secret_mem_new(len), len };
        return h->bytes ? 0 : -ENOMEM;
}

static void hidden_finish(struct hidden *h)
{
        secret_mem_free(h->bytes, h->len);
}

void luks_key_finish(struct luks_key *k)
{
        secret_mem_free(k->bytes, k->len);
        *k = (struct luks_key){ 0 };
}

static void cipher_freep(struct sector_cipher **c)
{
        sector_cipher_free(*c);
}

/* --- one slot's material ------------------------------------------------------------------------------------------------ */

static uint64_t material_at(const struct luks_area *area, const struct luks_slot *s)
{
        return area->off + (uint64_t)s->material * LUKS_SECTOR;
}

/* Material is ciphered as a disk of its own, with the key that the password gives. Whole sectors. */
static int cipher_material(const struct luks_header *h, const struct luks_slot *s, const struct secret *password,
                           enum cipher_way way, struct hidden *material)
{
        AUTO(hidden_finish) struct hidden key = { 0 };
        AUTO(cipher_freep) struct sector_cipher *c = NULL;
        int r = hidden_new(h->key_bytes, &key);

        if (r == 0)
                r = crypto_pbkdf2(h->hash, password->bytes, password->len, s->salt, sizeof(s->salt), s->iterations,
                                  key.bytes, key.len);
        if (r == 0)
                r = sector_cipher_new(h->cipher, h->mode, key.bytes, key.len, &c);
        return r < 0 ? r : sector_cipher_run(c, way, 0, material->bytes, material->len);
}

static int digest_of(const struct luks_header *h, const uint8_t *key, uint8_t digest[LUKS_DIGEST])
{
        return crypto_pbkdf2(h->hash, key, h->key_bytes, h->digest_salt, sizeof(h->digest_salt), h->digest_iterations,
                             digest, LUKS_DIGEST);
}

/* 1 and *ret, when the password is right; 0 when not. */
static int try_slot(const struct luks_area *area, const struct luks_header *h, unsigned slot, const struct secret *password,
                    struct luks_key *ret)
{
        const struct luks_slot *s = &h->slot[slot];
        AUTO(hidden_finish) struct hidden material = { 0 };
        AUTO(luks_key_finish) struct luks_key key = { secret_mem_new(h->key_bytes), h->key_bytes };
        uint8_t digest[LUKS_DIGEST];
        int r = key.bytes ? hidden_new(round_up((uint64_t)h->key_bytes * s->stripes, LUKS_SECTOR), &material) : -ENOMEM;

        if (r == 0)
                r = file_pread(area->file, material.bytes, material.len, material_at(area, s));
        if (r == 0)
                r = cipher_material(h, s, password, CIPHER_DECRYPT, &material);
        if (r == 0)
                r = af_merge(h->hash, material.bytes, h->key_bytes, s->stripes, key.bytes);
        if (r == 0)
                r = digest_of(h, key.bytes, digest);
        if (r < 0 || memcmp(digest, h->digest, sizeof(digest)))
                return r;
        *ret = TAKE(key, (struct luks_key){ 0 });
        return 1;
}

int luks_opens(const struct luks_area *area, const struct luks_header *h, unsigned slot, const struct secret *password)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };

        return h->slot[slot].active ? try_slot(area, h, slot, password, &key) : 0;
}

int luks_unlock(const struct luks_area *area, const struct luks_header *h, const struct secret *password,
                struct luks_key *ret, unsigned *slot)
{
        for (unsigned i = 0; i < LUKS_SLOTS; i++) {
                int r = h->slot[i].active ? try_slot(area, h, i, password, ret) : 0;

                if (r == 1 && slot)
                        *slot = i;
                if (r)
                        return r < 0 ? r : 0;
        }
        return err_note(-EACCES, "the password opens none of the %u active key slots", luks_active_slots(h));
}

/* --- changes -------------------------------------------------------------------------------------------------------------- */

/* So many that one derivation takes @ms here. */
static int measure_iterations(const struct luks_header *h, uint32_t ms, uint32_t *ret)
{
        uint64_t blocks = div_round_up(h->key_bytes, crypto_hash_len(h->hash)), most = LUKS_MAX_WORK / LUKS_SLOTS / 2 / blocks;
        uint64_t n = TRY_ITERATIONS, ns = 0;
        uint8_t out[CRYPTO_MAX_HASH];
        int r = 0;

        for (; r == 0 && ns < 20u * 1000 * 1000; n *= 2) { /* long enough to be measured */
                uint64_t start = clock_ns();

                r = crypto_pbkdf2(h->hash, "password", 8, h->digest_salt, LUKS_SALT, (uint32_t)n, out, h->key_bytes);
                ns = clock_ns() - start;
                if (ms * 1000000ull <= ns)
                        break;
        }
        n = (uint64_t)((double)n * ms * 1e6 / (double)max_u64(ns, 1));
        *ret = (uint32_t)min_u64(max_u64(n, MIN_ITERATIONS), most);
        return r;
}

/* Material for a slot that is inactive, and what the header says about it. Nothing is written. */
static int make_material(struct luks_header *h, unsigned slot, const struct luks_key *key, const struct secret *password,
                         uint32_t iter_time_ms, struct hidden *material)
{
        struct luks_slot *s = &h->slot[slot];
        int r = hidden_new(round_up((uint64_t)h->key_bytes * s->stripes, LUKS_SECTOR), material);

        if (r == 0)
                r = crypto_random(s->salt, sizeof(s->salt));
        if (r == 0)
                r = measure_iterations(h, iter_time_ms, &s->iterations);
        if (r == 0)
                r = af_split(h->hash, key->bytes, key->len, s->stripes, material->bytes);
        return r < 0 ? r : cipher_material(h, s, password, CIPHER_ENCRYPT, material);
}

int luks_slot_set(const struct luks_area *area, struct luks_header *h, unsigned slot, const struct luks_key *key,
                  const struct secret *password, uint32_t iter_time_ms)
{
        AUTO(hidden_finish) struct hidden material = { 0 };
        int r;

        if (h->slot[slot].active)
                return err_note(-EBUSY, "key slot %u is in use", slot);
        r = make_material(h, slot, key, password, iter_time_ms, &material);
        if (r == 0)
                r = file_pwrite(area->file, material.bytes, material.len, material_at(area, &h->slot[slot]));
        if (r == 0)
                r = luks_write_slot(area, h, slot);
        if (r == 0)
                r = file_sync(area->file);
        if (r < 0)
                return r;
        h->slot[slot].active = true;
        return luks_write_slot_state(area, h, slot);
}

int luks_slot_clear(const struct luks_area *area, struct luks_header *h, unsigned slot)
{
        AUTO(hidden_finish) struct hidden noise = { 0 };
        int r = hidden_new(round_up((uint64_t)h->key_bytes * h->slot[slot].stripes, LUKS_SECTOR), &noise);

        if (r == 0)
                r = crypto_random(noise.bytes, noise.len);
        if (r < 0)
                return r;
        h->slot[slot].active = false;
        r = luks_write_slot_state(area, h, slot);
        if (r == 0)
                r = file_pwrite(area->file, noise.bytes, noise.len, material_at(area, &h->slot[slot]));
        return r < 0 ? r : file_sync(area->file);
}

/* --- a new header --------------------------------------------------------------------------------------------------------- */

static int lay_out(const struct luks_wish *wish, struct luks_header *h)
{
        uuid_t uuid;
        int r;

        *h = (struct luks_header){ .key_bytes = wish->key_bytes, .payload = (uint32_t)(luks_area_size(wish->key_bytes) / LUKS_SECTOR) };
        strcpy(h->cipher, wish->cipher);
        strcpy(h->mode, wish->mode);
        strcpy(h->hash, wish->hash);
        uuid_generate_random(uuid);
        uuid_unparse_lower(uuid, h->uuid);
        for (unsigned i = 0; i < LUKS_SLOTS; i++) {
                h->slot[i].material = (uint32_t)((LUKS_ALIGN + i * luks_slot_room(h->key_bytes)) / LUKS_SECTOR);
                h->slot[i].stripes = LUKS_STRIPES;
        }
        r = sector_cipher_check(h->cipher, h->mode, h->key_bytes);
        if (r == 0 && !crypto_hash_len(h->hash))
                r = err_note(-ENOTSUP, "hash '%.31s' is not supported: sha1, sha224, sha256, sha384, sha512 and ripemd160 are",
                             h->hash);
        return r;
}

/* The digest is tried once a slot, so it gets an eighth of the time. */
static int make_digest(struct luks_header *h, const struct luks_key *key, uint32_t iter_time_ms)
{
        int r = crypto_random(h->digest_salt, sizeof(h->digest_salt));

        if (r == 0)
                r = measure_iterations(h, iter_time_ms / 8, &h->digest_iterations);
        return r < 0 ? r : digest_of(h, key->bytes, h->digest);
}

int luks_format(const struct luks_area *area, const struct luks_wish *wish, const struct secret *password,
                struct luks_key *ret)
{
        AUTO(luks_key_finish) struct luks_key key = { secret_mem_new(wish->key_bytes), wish->key_bytes };
        struct luks_header h;
        int r = key.bytes ? lay_out(wish, &h) : -ENOMEM;

        if (r == 0)
                r = crypto_random(key.bytes, key.len);
        if (r == 0)
                r = make_digest(&h, &key, wish->iter_time_ms);
        if (r == 0)
                r = file_zero(area->file, area->off, area->len, false);
        if (r == 0)
                r = luks_write(area, &h);
        if (r == 0)
                r = luks_slot_set(area, &h, 0, &key, password, wish->iter_time_ms);
        if (r == 0)
                *ret = TAKE(key, (struct luks_key){ 0 });
        return r;
}
