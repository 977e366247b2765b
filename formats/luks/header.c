/* SPDX-License-Identifier: BSD-3-Clause */
/* header.c - the LUKS1 header's bytes: every number is a stranger's until it was compared with its limit here. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "header.h"

#define bad(...) err_note(-EINVAL, "the LUKS header " __VA_ARGS__)

static uint64_t material_bytes(uint32_t key_bytes)
{
        return (uint64_t)key_bytes * LUKS_STRIPES;
}

uint64_t luks_slot_room(uint32_t key_bytes)
{
        return round_up(material_bytes(key_bytes), LUKS_ALIGN);
}

uint64_t luks_area_size(uint32_t key_bytes)
{
        return LUKS_ALIGN + LUKS_SLOTS * luks_slot_room(key_bytes);
}

/* --- bytes to numbers and back --------------------------------------------------------------------------------------- */

static int word(const uint8_t *b, char *to, size_t size, const char *what)
{
        if (!memchr(b, 0, size))
                return bad("has a %s without an end", what);
        snprintf(to, size, "%s", (const char *)b);
        for (const char *c = to; *c; c++)
                if (*c < ' ' || *c > '~')
                        return bad("has a %s that is no text", what);
        return 0;
}

static int decode_slot(const uint8_t *b, unsigned i, struct luks_slot *s)
{
        uint32_t state = be32_get(b + LS_STATE);

        if (state != LUKS_ACTIVE && state != LUKS_INACTIVE)
                return bad("says of key slot %u neither active nor inactive, but 0x%08" PRIx32, i, state);
        s->active = state == LUKS_ACTIVE;
        s->iterations = be32_get(b + LS_ITERATIONS);
        memcpy(s->salt, b + LS_SALT, sizeof(s->salt));
        s->material = be32_get(b + LS_MATERIAL);
        s->stripes = be32_get(b + LS_STRIPES);
        return 0;
}

static int decode(const uint8_t *b, struct luks_header *h)
{
        int r;

        if (memcmp(b + LH_MAGIC, LUKS_MAGIC, strlen(LUKS_MAGIC)))
                return bad("does not begin with \"LUKS\"");
        if (be16_get(b + LH_VERSION) != 1)
                return err_note(-ENOTSUP, "LUKS version %u is not supported (1 is)", be16_get(b + LH_VERSION));
        r = word(b + LH_CIPHER, h->cipher, sizeof(h->cipher), "cipher");
        if (r == 0)
                r = word(b + LH_MODE, h->mode, sizeof(h->mode), "cipher mode");
        if (r == 0)
                r = word(b + LH_HASH, h->hash, sizeof(h->hash), "hash");
        if (r == 0)
                r = word(b + LH_UUID, h->uuid, sizeof(h->uuid), "UUID");
        h->payload = be32_get(b + LH_PAYLOAD);
        h->key_bytes = be32_get(b + LH_KEY_BYTES);
        memcpy(h->digest, b + LH_DIGEST, sizeof(h->digest));
        memcpy(h->digest_salt, b + LH_DIGEST_SALT, sizeof(h->digest_salt));
        h->digest_iterations = be32_get(b + LH_DIGEST_ITERATIONS);
        for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
                r = decode_slot(b + LH_SLOTS + i * LS_LENGTH, i, &h->slot[i]);
        return r;
}

static void encode(const struct luks_header *h, uint8_t b[LH_LENGTH])
{
        memset(b, 0, LH_LENGTH);
        memcpy(b + LH_MAGIC, LUKS_MAGIC, strlen(LUKS_MAGIC));
        be16_put(b + LH_VERSION, 1);
        memcpy(b + LH_CIPHER, h->cipher, strlen(h->cipher));
        memcpy(b + LH_MODE, h->mode, strlen(h->mode));
        memcpy(b + LH_HASH, h->hash, strlen(h->hash));
        memcpy(b + LH_UUID, h->uuid, strlen(h->uuid));
        be32_put(b + LH_PAYLOAD, h->payload);
        be32_put(b + LH_KEY_BYTES, h->key_bytes);
        memcpy(b + LH_DIGEST, h->digest, sizeof(h->digest));
        memcpy(b + LH_DIGEST_SALT, h->digest_salt, sizeof(h->digest_salt));
        be32_put(b + LH_DIGEST_ITERATIONS, h->digest_iterations);
        for (unsigned i = 0; i < LUKS_SLOTS; i++) {
                const struct luks_slot *s = &h->slot[i];
                uint8_t *to = b + LH_SLOTS + i * LS_LENGTH;

                be32_put(to + LS_STATE, s->active ? LUKS_ACTIVE : LUKS_INACTIVE);
                be32_put(to + LS_ITERATIONS, s->iterations);
                memcpy(to + LS_SALT, s->salt, sizeof(s->salt));
                be32_put(to + LS_MATERIAL, s->material);
                be32_put(to + LS_STRIPES, s->stripes);
        }
}

/* --- is it possible? --------------------------------------------------------------------------------------------------- */

static int check_places(const struct luks_area *area, const struct luks_header *h)
{
        uint64_t len = material_bytes(h->key_bytes);

        for (unsigned i = 0; i < LUKS_SLOTS; i++) {
                uint64_t at = (uint64_t)h->slot[i].material * LUKS_SECTOR;

                if (h->slot[i].stripes != LUKS_STRIPES)
                        return bad("says that key slot %u has %" PRIu32 " stripes, must be %u", i, h->slot[i].stripes,
                                   LUKS_STRIPES);
                if (at < LH_LENGTH || !range_fits(at, len, area->len))
                        return bad("puts key slot %u at byte %" PRIu64 ", outside its %" PRIu64 " bytes", i, at, area->len);
                for (unsigned k = 0; k < i; k++)
                        if (range_overlaps(at, len, (uint64_t)h->slot[k].material * LUKS_SECTOR, len))
                                return bad("puts key slots %u and %u at the same place", k, i);
        }
        return 0;
}

static int check_cost(const struct luks_header *h)
{
        uint64_t digest = crypto_hash_len(h->hash), blocks = div_round_up(h->key_bytes, digest);
        uint64_t work = h->digest_iterations;

        if (h->digest_iterations == 0)
                return bad("has no iterations for the master key's digest");
        for (unsigned i = 0; i < LUKS_SLOTS; i++) {
                if (!h->slot[i].active)
                        continue;
                if (h->slot[i].iterations == 0)
                        return bad("has no iterations for key slot %u, which is active", i);
                work += h->slot[i].iterations * blocks + h->digest_iterations;
        }
        if (work > LUKS_MAX_WORK)
                return err_note(-E2BIG, "the LUKS header asks for %" PRIu64 " rounds of key derivation, more than the limit "
                                "of %llu: it would take minutes to open", work, LUKS_MAX_WORK);
        return 0;
}

static int check(const struct luks_area *area, const struct luks_header *h)
{
        int r = sector_cipher_check(h->cipher, h->mode, h->key_bytes);

        if (r == 0 && !crypto_hash_len(h->hash))
                r = err_note(-ENOTSUP, "the LUKS header's hash '%.31s' is not supported: sha1, sha224, sha256, sha384, "
                             "sha512 and ripemd160 are", h->hash);
        if (r == 0)
                r = check_places(area, h);
        return r < 0 ? r : check_cost(h);
}

int luks_read(const struct luks_area *area, struct luks_header *h)
{
        uint8_t b[LH_LENGTH];
        int r;

        *h = (struct luks_header){ 0 };
        if (area->len < LH_LENGTH)
                return bad("has %" PRIu64 " bytes, must be %d at least", area->len, LH_LENGTH);
        r = file_pread(area->file, b, sizeof(b), area->off);
        if (r == 0)
                r = decode(b, h);
        return r < 0 ? r : check(area, h);
}

int luks_write(const struct luks_area *area, const struct luks_header *h)
{
        uint8_t b[LH_LENGTH];

        encode(h, b);
        return file_pwrite(area->file, b, sizeof(b), area->off);
}

/*
 * The header is longer than a sector, so a crash could leave it half old, half new. What changes of it when a slot does
 * is written in two steps: all but the state, which nobody looks at while the slot is inactive, and then the state.
 */
static int write_part(const struct luks_area *area, const struct luks_header *h, uint64_t at, uint64_t len)
{
        uint8_t b[LH_LENGTH];

        encode(h, b);
        return file_pwrite(area->file, b + at, len, area->off + at);
}

int luks_write_slot(const struct luks_area *area, const struct luks_header *h, unsigned slot)
{
        uint64_t at = LH_SLOTS + slot * LS_LENGTH;

        return write_part(area, h, at + LS_ITERATIONS, LS_LENGTH - LS_ITERATIONS);
}

int luks_write_slot_state(const struct luks_area *area, const struct luks_header *h, unsigned slot)
{
        int r = write_part(area, h, LH_SLOTS + slot * LS_LENGTH + LS_STATE, sizeof(uint32_t));

        return r < 0 ? r : file_sync(area->file);
}

unsigned luks_active_slots(const struct luks_header *h)
{
        unsigned n = 0;

        for (unsigned i = 0; i < LUKS_SLOTS; i++)
                n += h->slot[i].active;
        return n;
}

int luks_free_slot(const struct luks_header *h)
{
        for (unsigned i = 0; i < LUKS_SLOTS; i++)
                if (!h->slot[i].active)
                        return (int)i;
        return -1;
}
