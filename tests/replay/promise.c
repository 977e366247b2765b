/* SPDX-License-Identifier: BSD-3-Clause */
#include "promise.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/stamp.h"

static void *must_have(void *p)
{
        if (!p) {
                fputs("out of memory\n", stderr);
                exit(2);
        }
        return p;
}

void promise_init(struct promise *p, uint32_t max_sectors)
{
        *p = (struct promise){ .max_sectors = max_sectors, .next_version = 1 };
        p->sector = must_have(calloc(max_sectors, sizeof(*p->sector)));
}

static void drop_snaps(struct promise *p)
{
        for (unsigned i = 0; i < p->nsnap; i++)
                free(p->snap[i].version);
        p->nsnap = 0;
}

void promise_finish(struct promise *p)
{
        for (uint32_t i = 0; i < p->max_sectors; i++)
                free(p->sector[i].v);
        free(p->sector);
        free(p->flush);
        drop_snaps(p);
}

static struct said *push(struct history *h)
{
        if (h->n == h->cap) {
                h->cap = h->cap ? 2 * h->cap : 2;
                h->v = must_have(realloc(h->v, h->cap * sizeof(*h->v)));
        }
        return &h->v[h->n++];
}

void promise_start(struct promise *p, uint32_t sector, uint32_t version)
{
        p->sector[sector].n = 0;
        *push(&p->sector[sector]) = (struct said){ .version = version };
}

void promise_reset(struct promise *p, uint64_t sectors)
{
        for (uint32_t i = 0; i < p->max_sectors; i++)
                promise_start(p, i, 0);
        p->nflush = 0;
        p->nsize = 1;
        p->size[0] = (struct resized){ .size = sectors };
        drop_snaps(p);
}

void promise_keep(struct promise *p)
{
        uint64_t sectors = promise_size(p);

        for (uint32_t i = 0; i < p->max_sectors; i++)
                promise_start(p, i, promise_now(p, i));
        p->nflush = 0;
        p->nsize = 1;
        p->size[0] = (struct resized){ .size = sectors };
        for (unsigned i = 0; i < p->nsnap; i++)
                p->snap[i].asked = p->snap[i].answered = 0;
}

uint32_t promise_now(const struct promise *p, uint32_t sector)
{
        const struct history *h = &p->sector[sector];
        unsigned i = h->n - 1;

        while (h->v[i].answered == PROMISE_NEVER)
                i--;
        return h->v[i].version;
}

uint64_t promise_size(const struct promise *p)
{
        unsigned i = p->nsize - 1;

        while (p->size[i].answered == PROMISE_NEVER)
                i--;
        return p->size[i].size;
}

void promise_ask(struct promise *p, uint32_t sector, uint32_t version, uint64_t now)
{
        *push(&p->sector[sector]) = (struct said){ version, false, now, PROMISE_NEVER };
}

void promise_answer(struct promise *p, uint32_t sector, uint32_t version, bool durable, uint64_t now)
{
        struct history *h = &p->sector[sector];
        struct said *s = &h->v[h->n - 1];

        s->version = version;
        s->durable = durable;
        s->answered = now;
}

size_t promise_ask_flush(struct promise *p, uint64_t now)
{
        if (p->nflush == p->flush_cap) {
                p->flush_cap = p->flush_cap ? 2 * p->flush_cap : 16;
                p->flush = must_have(realloc(p->flush, p->flush_cap * sizeof(*p->flush)));
        }
        p->flush[p->nflush] = (struct flushed){ now, PROMISE_NEVER };
        return p->nflush++;
}

void promise_answer_flush(struct promise *p, size_t flush, uint64_t now)
{
        p->flush[flush].answered = now;
}

void promise_ask_size(struct promise *p, uint64_t sectors, uint64_t now)
{
        if (p->nsize == sizeof(p->size) / sizeof(p->size[0])) {
                fputs("too many changes of the size\n", stderr);
                exit(2);
        }
        p->size[p->nsize++] = (struct resized){ sectors, now, PROMISE_NEVER };
}

void promise_answer_size(struct promise *p, uint64_t now)
{
        p->size[p->nsize - 1].answered = now;
}

void promise_refuse_size(struct promise *p)
{
        const struct resized *gone = &p->size[--p->nsize];

        for (uint32_t i = 0; i < p->max_sectors; i++) {
                struct history *h = &p->sector[i];

                if (h->n > 1 && h->v[h->n - 1].asked == gone->asked)
                        h->n--;
        }
}

struct snapped *promise_ask_snap(struct promise *p, uint64_t now)
{
        struct snapped *s = &p->snap[p->nsnap];

        *s = (struct snapped){ .size = promise_size(p), .asked = now, .answered = PROMISE_NEVER };
        snprintf(s->name, sizeof(s->name), "s%u", p->nsnap++);
        s->version = must_have(calloc(s->size + 1, sizeof(*s->version)));
        for (uint32_t i = 0; i < s->size; i++)
                s->version[i] = promise_now(p, i);
        return s;
}

/* --- cuts ---------------------------------------------------------------------------------------------------------------- */

void promise_at(struct promise *p, uint64_t at)
{
        uint64_t flushed = 0;

        p->at = at;
        for (size_t i = 0; i < p->nflush; i++)
                if (p->flush[i].answered <= at && p->flush[i].asked > flushed)
                        flushed = p->flush[i].asked;
        for (uint32_t i = 0; i < p->max_sectors; i++) {
                struct history *h = &p->sector[i];

                h->safe = h->last = 0;
                for (unsigned k = 1; k < h->n && h->v[k].asked < at; k++) {
                        h->last = k;
                        if (h->v[k].answered <= flushed || (h->v[k].durable && h->v[k].answered <= at))
                                h->safe = k;
                }
        }
}

bool promise_allows_size(const struct promise *p, uint64_t sectors)
{
        bool allowed = false;

        for (unsigned i = 0; i < p->nsize && (i == 0 || p->size[i].asked < p->at); i++) {
                allowed |= p->size[i].size == sectors;
                if (p->size[i].answered <= p->at)
                        allowed = p->size[i].size == sectors;
        }
        return allowed;
}

static bool may_hold(const struct promise *p, const struct history *h, uint32_t version)
{
        if (p->zeros_pass && version == 0 && h->last > h->safe)
                return true;
        for (unsigned k = h->safe; k <= h->last; k++)
                if (h->v[k].version == version)
                        return true;
        return false;
}

uint64_t promise_compare(const struct promise *p, const unsigned char *disk, uint64_t sectors, char *why, size_t room)
{
        for (uint32_t i = 0; i < sectors; i++) {
                const unsigned char *b = disk + (uint64_t)i * STAMP_SECTOR;
                const struct history *h = &p->sector[i];
                uint32_t got = stamp_version(b, i);

                if (may_hold(p, h, got))
                        continue;
                snprintf(why, room, "sector %u holds %s%" PRId64 " (bytes %08x %08x); promised was version %u, asked for up to %u",
                         i, got == STAMP_FOREIGN ? "nothing that was ever written there, " : "version ",
                         got == STAMP_FOREIGN ? -1 : (int64_t)got, be32_get(b), be32_get(b + 4), h->v[h->safe].version,
                         h->v[h->last].version);
                return i + 1ull;
        }
        return 0;
}
