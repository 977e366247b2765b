/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants of a unit:
 * - gen counts its changes, low <= gen, durable <= low. A sector read now may show any write in [low, gen], zeros if
 *   ZEROS_NOW, anything if ANY_NOW. With low == gen and no flag there is exactly one right answer.
 * - after a crash it may show what (durable, ZEROS_CRASH, ANY_CRASH) allow.
 * - generations of trims and WRITE_ZEROES have no bytes of their own; no sector ever carries their number.
 */
#include "verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define SECTOR 512
#define WORDS (SECTOR / 8)
#define MAGIC 0x766469736b626e63ull /* "vdiskbnc" */
#define STATE_MAGIC 0x7664626373746131ull
#define WRITER 0xff
#define COMPLAINTS_MAX 10

enum { ZEROS_NOW = 1, ANY_NOW = 2, ZEROS_CRASH = 4, ANY_CRASH = 8 };
#define NOW_TO_CRASH 2 /* shift */

struct unit {
        uint32_t gen, low, durable;
        uint8_t busy; /* readers in flight, or WRITER */
        uint8_t flags;
};

struct verify {
        struct verify_opts o;
        struct unit *units;
};

struct state_header {
        uint64_t magic, offset, nunits, unit_len, seed;
};

static void verify_freep(struct verify **v)
{
        verify_free(*v);
}

static void fclosep(FILE **f)
{
        if (*f)
                fclose(*f);
}

static int load_state(struct verify *v, FILE *f)
{
        struct state_header h;

        if (fread(&h, sizeof(h), 1, f) != 1 || h.magic != STATE_MAGIC)
                return err_note(-EINVAL, "%s: not a state file of vdisk-bench", v->o.state);
        if (h.offset != v->o.offset || h.nunits != v->o.nunits || h.unit_len != v->o.unit_len)
                return err_note(-EINVAL, "%s: is about %" PRIu64 " blocks of %" PRIu64 " from %" PRIu64 ", not %" PRIu64
                                " of %u from %" PRIu64, v->o.state, h.nunits, h.unit_len, h.offset, v->o.nunits,
                                v->o.unit_len, v->o.offset);
        v->o.seed = h.seed;
        if (fread(v->units, sizeof(*v->units), v->o.nunits, f) != v->o.nunits)
                return err_note(-EINVAL, "%s: cut short", v->o.state);
        return 0;
}

int verify_new(const struct verify_opts *o, struct verify **ret)
{
        AUTO(verify_freep) struct verify *v = calloc(1, sizeof(*v));
        AUTO(fclosep) FILE *f = NULL;
        int r;

        if (!v)
                return -ENOMEM;
        v->o = *o;
        v->units = calloc(o->nunits, sizeof(*v->units));
        if (!v->units)
                return err_note(-ENOMEM, "no memory for a table of %" PRIu64 " blocks", o->nunits);
        for (uint64_t i = 0; i < o->nunits; i++)
                v->units[i].flags = o->fresh ? ZEROS_NOW | ZEROS_CRASH : ANY_NOW | ANY_CRASH;
        if (o->state)
                f = fopen(o->state, "re");
        if (f) {
                r = load_state(v, f);
                if (r < 0)
                        return r;
        }
        *ret = TAKE(v, NULL);
        return 0;
}

void verify_free(struct verify *v)
{
        if (!v)
                return;
        free(v->units);
        free(v);
}

int verify_save(const struct verify *v)
{
        struct state_header h = { STATE_MAGIC, v->o.offset, v->o.nunits, v->o.unit_len, v->o.seed };
        AUTO(fclosep) FILE *f = fopen(v->o.state, "we");

        if (!f || fwrite(&h, sizeof(h), 1, f) != 1 ||
            fwrite(v->units, sizeof(*v->units), v->o.nunits, f) != v->o.nunits || fflush(f) != 0)
                return err_note(-errno, "%s: cannot write: %s", v->o.state, strerror(errno));
        return 0;
}

bool verify_claim(struct verify *v, uint64_t unit, unsigned n, bool change)
{
        for (unsigned i = 0; i < n; i++) {
                uint8_t busy = v->units[unit + i].busy;

                if (change ? busy != 0 : busy >= WRITER - 1)
                        return false;
        }
        for (unsigned i = 0; i < n; i++)
                v->units[unit + i].busy = change ? WRITER : v->units[unit + i].busy + 1;
        return true;
}

void verify_release(struct verify *v, uint64_t unit, unsigned n, bool change)
{
        for (unsigned i = 0; i < n; i++)
                v->units[unit + i].busy = change ? 0 : v->units[unit + i].busy - 1;
}

void verify_change_begin(struct verify *v, enum verify_change kind, uint64_t unit, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                v->units[unit + i].gen++;
                if (kind != VERIFY_WRITE)
                        v->units[unit + i].flags |= ZEROS_CRASH;
        }
}

static void change_done(struct unit *u, enum verify_change kind)
{
        if (kind == VERIFY_TRIM) {
                u->flags |= ZEROS_NOW; /* zeros or what was there: the device may choose */
                return;
        }
        u->low = u->gen;
        u->flags &= (uint8_t)~(ZEROS_NOW | ANY_NOW);
        if (kind == VERIFY_ZEROES)
                u->flags |= ZEROS_NOW;
}

void verify_change_done(struct verify *v, enum verify_change kind, uint64_t unit, unsigned n, bool ok)
{
        for (unsigned i = 0; i < n; i++) {
                if (ok)
                        change_done(&v->units[unit + i], kind);
                else if (kind != VERIFY_WRITE)
                        v->units[unit + i].flags |= ZEROS_NOW;
        }
}

/* Word @i of a sector; each follows from where, when and the seed, so no two sectors ever agree. */
static uint64_t word(uint64_t seed, uint64_t off, uint32_t gen, unsigned i)
{
        uint64_t z = (seed ^ off * 0x9e3779b97f4a7c15ull) + ((uint64_t)gen << 32 | i) * 0xd6e8feb86659fd93ull;

        z = (z ^ z >> 32) * 0xd6e8feb86659fd93ull;
        return z ^ z >> 32;
}

static void fill_sector(uint64_t *w, uint64_t seed, uint64_t off, uint32_t gen)
{
        w[0] = MAGIC;
        w[1] = off;
        w[2] = gen;
        for (unsigned i = 3; i < WORDS; i++)
                w[i] = word(seed, off, gen, i);
}

static bool sector_is(const uint64_t *w, uint64_t seed, uint64_t off, uint32_t gen)
{
        if (w[0] != MAGIC || w[1] != off || w[2] != gen)
                return false;
        for (unsigned i = 3; i < WORDS; i++)
                if (w[i] != word(seed, off, gen, i))
                        return false;
        return true;
}

static bool sector_zero(const uint64_t *w)
{
        for (unsigned i = 0; i < WORDS; i++)
                if (w[i])
                        return false;
        return true;
}

void verify_fill(const struct verify *v, uint64_t unit, unsigned n, void *buf)
{
        uint8_t *p = buf;

        for (unsigned i = 0; i < n; i++)
                for (uint32_t at = 0; at < v->o.unit_len; at += SECTOR, p += SECTOR)
                        fill_sector((uint64_t *)p, v->o.seed, v->o.offset + (unit + i) * v->o.unit_len + at,
                                    v->units[unit + i].gen);
}

static bool sector_allowed(const struct verify *v, const struct unit *u, uint64_t off, const uint64_t *w)
{
        if (u->flags & ANY_NOW)
                return true;
        if (u->flags & ZEROS_NOW && sector_zero(w))
                return true;
        return w[2] >= u->low && w[2] <= u->gen && w[2] > 0 && sector_is(w, v->o.seed, off, (uint32_t)w[2]);
}

/* What is odd about a sector that carries our stamp. */
static const char *oddity(const struct unit *u, uint64_t off, const uint64_t *w)
{
        if (w[1] != off)
                return " (misplaced)";
        return w[2] >= u->low && w[2] <= u->gen ? " (damaged)" : w[2] < u->low ? " (stale)" : "";
}

static void complain(const struct unit *u, uint64_t off, const uint64_t *w)
{
        static atomic_uint said;
        char want[96];

        if (atomic_fetch_add(&said, 1) >= COMPLAINTS_MAX)
                return;
        snprintf(want, sizeof(want), "generation %" PRIu32 " to %" PRIu32 "%s", u->low, u->gen,
                 u->flags & ZEROS_NOW ? " or zeros" : "");
        if (w[0] == MAGIC)
                fprintf(stderr, "vdisk-bench: byte %" PRIu64 ": holds offset %" PRIu64 " generation %" PRIu64
                        "%s, not %s\n", off, w[1], w[2], oddity(u, off, w), want);
        else
                fprintf(stderr, "vdisk-bench: byte %" PRIu64 ": holds %s, not %s\n", off,
                        sector_zero(w) ? "zeros" : "foreign bytes", want);
}

unsigned verify_compare(const struct verify *v, uint64_t unit, unsigned n, const void *buf)
{
        const uint8_t *p = buf;
        unsigned wrong = 0;

        for (unsigned i = 0; i < n; i++) {
                const struct unit *u = &v->units[unit + i];

                for (uint32_t at = 0; at < v->o.unit_len; at += SECTOR, p += SECTOR) {
                        uint64_t off = v->o.offset + (unit + i) * v->o.unit_len + at;

                        if (sector_allowed(v, u, off, (const uint64_t *)p))
                                continue;
                        complain(u, off, (const uint64_t *)p);
                        wrong++;
                }
        }
        return wrong;
}

bool verify_known(const struct verify *v, uint64_t unit)
{
        return !(v->units[unit].flags & ANY_NOW);
}

int verify_log_add(struct verify *v, struct verify_log *l, enum verify_change kind, uint64_t unit, unsigned n)
{
        if (l->len + n > l->cap) {
                uint64_t cap = max_u64(2 * l->cap, 4096 + n);
                void *e = realloc(l->e, cap * sizeof(*l->e));

                if (!e)
                        return -ENOMEM;
                l->e = e;
                l->cap = cap;
        }
        for (unsigned i = 0; i < n; i++) {
                l->e[l->len].unit = unit + i;
                l->e[l->len].gen = v->units[unit + i].gen;
                l->e[l->len++].write = kind != VERIFY_TRIM;
        }
        return 0;
}

void verify_flush_begin(struct verify_log *l)
{
        l->covered = l->len;
}

static void unit_durable(struct unit *u, uint32_t gen, bool write)
{
        const uint8_t now = ZEROS_NOW | ANY_NOW;

        if (gen == u->gen && u->busy != WRITER) {
                u->durable = u->low;
                u->flags = (uint8_t)((u->flags & now) | (u->flags & now) << NOW_TO_CRASH);
        } else if (write && gen > u->durable) {
                u->durable = gen;                 /* something newer is under way: zeros stay possible if they were */
                u->flags &= (uint8_t)~ANY_CRASH;
        }
}

void verify_flush_done(struct verify *v, struct verify_log *l, bool ok)
{
        uint64_t covered = TAKE(l->covered, 0);

        if (!ok || !l->len)
                return;
        for (uint64_t i = 0; i < covered; i++)
                unit_durable(&v->units[l->e[i].unit], l->e[i].gen, l->e[i].write);
        memmove(l->e, l->e + covered, (l->len - covered) * sizeof(*l->e));
        l->len -= covered;
}

void verify_crash(struct verify *v, struct verify_log *l, uint64_t unit, uint64_t n)
{
        const uint8_t crash = ZEROS_CRASH | ANY_CRASH;

        for (struct unit *u = v->units + unit; u < v->units + unit + n; u++) {
                u->low = u->durable;
                u->flags = (uint8_t)((u->flags & crash) | (u->flags & crash) >> NOW_TO_CRASH);
        }
        l->len = l->covered = 0;
}
