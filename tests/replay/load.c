/* SPDX-License-Identifier: BSD-3-Clause */
/* load.c - operations one after the other, straight on the driver: short sequences of each kind, and long ones by chance. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "world.h"

const char load_letters[] = "slozdfnrcp";

static struct world *w; /* of the load that runs: what is called from inside a flush needs it */
static struct img_io io;
static uint32_t last_at, last_n; /* where the last write was */

/* A change between the steps of a flush that would have needed that flush: it is done in part, and found out afterwards. */
static struct {
        uint32_t first, n;
} stuck;

/* --- changes ----------------------------------------------------------------------------------------------------------------- */

static void ask_range(uint32_t first, uint32_t n, uint32_t version)
{
        uint64_t now = world_tick(w);

        for (uint32_t i = 0; i < n; i++)
                promise_ask(&w->promise, first + i, version, now);
}

static bool is_stuck(int r, uint32_t first, uint32_t n)
{
        if (r != -EBUSY || !io.in_between)
                return false;
        stuck.first = first;
        stuck.n = n;
        return true;
}

static void do_write(uint32_t first, uint32_t n, bool packed)
{
        AUTO(freep) unsigned char *data = calloc(n, SECTOR);
        uint32_t version = w->promise.next_version++;
        uint64_t now;
        int r;

        for (uint32_t i = 0; i < n; i++)
                stamp_put(data + (size_t)i * SECTOR, first + i, version);
        ask_range(first, n, version);
        if (packed)
                r = img_write_packed(&io, data, (uint64_t)first * SECTOR);
        else
                r = img_write(&io, data, (uint64_t)n * SECTOR, (uint64_t)first * SECTOR);
        if (is_stuck(r, first, n))
                return;
        must(w, r, packed ? "packed write" : "write");
        now = world_tick(w);
        for (uint32_t i = 0; i < n; i++)
                promise_answer(&w->promise, first + i, version, false, now);
        last_at = first;
        last_n = n;
}

/* A discarded sector may hold what it held or zeros; which, it is asked at once. */
static void do_zero(uint32_t first, uint32_t n, unsigned flags)
{
        AUTO(freep) unsigned char *data = calloc(n, SECTOR);
        uint64_t now;
        int r;

        ask_range(first, n, 0);
        r = img_zero(&io, (uint64_t)first * SECTOR, (uint64_t)n * SECTOR, flags);
        if (r == 0)
                r = img_read(&io, data, (uint64_t)n * SECTOR, (uint64_t)first * SECTOR);
        if (is_stuck(r, first, n))
                return;
        must(w, r, "zero");
        now = world_tick(w);
        for (uint32_t i = 0; i < n; i++) {
                uint32_t version = stamp_version(data + (size_t)i * SECTOR, first + i);

                if (version && (!(flags & ZERO_DISCARD) || version != promise_now(&w->promise, first + i)))
                        fail(w, "sector %u holds version %u after it was zeroed", first + i, version);
                promise_answer(&w->promise, first + i, version, false, now);
        }
}

static void find_out(void)
{
        AUTO(freep) unsigned char *data = calloc(stuck.n + 1, SECTOR);
        uint64_t now;

        must(w, img_read(&io, data, (uint64_t)stuck.n * SECTOR, (uint64_t)stuck.first * SECTOR), "read");
        now = world_tick(w);
        for (uint32_t i = 0; i < stuck.n; i++)
                promise_answer(&w->promise, stuck.first + i, stamp_version(data + (size_t)i * SECTOR, stuck.first + i), false, now);
        stuck.n = 0;
}

static void do_flush(void)
{
        size_t flush = promise_ask_flush(&w->promise, world_tick(w));

        must(w, img_flush(&io), "flush");
        promise_answer_flush(&w->promise, flush, world_tick(w));
        if (stuck.n)
                find_out();
}

/* --- at rest ------------------------------------------------------------------------------------------------------------------ */

static void settle(void)
{
        size_t flush = promise_ask_flush(&w->promise, world_tick(w));

        fmt_dying_release(w->img, fmt_dying(w->img));
        io.hold_dying = false;
        must(w, img_settle(&io), "settle");
        promise_answer_flush(&w->promise, flush, world_tick(w));
}

static void open_again(void)
{
        world_close(w);
        world_open(w);
        io.img = w->img;
}

static void do_snapshot(void)
{
        struct snapped *s;

        if (w->promise.nsnap == ARRAY_SIZE(w->promise.snap))
                return;
        settle();
        s = promise_ask_snap(&w->promise, world_tick(w));
        must(w, w->img->drv->snapshot_create(w->img, s->name), "snapshot");
        s->answered = world_tick(w);
        open_again();
}

/* Not by whole clusters. What is cut off and comes back is zeros; what a longer backing image has there does not show. */
static void do_resize(void)
{
        uint64_t per = w->kind->cluster / SECTOR, was = promise_size(&w->promise), base = (uint64_t)w->kind->clusters * per;
        uint64_t size = was > base ? base - 3 * per + 1 : base + 5 * per + 1, now;
        int r;

        if (w->promise.nsize + 1 >= ARRAY_SIZE(w->promise.size) || (w->promise.nsnap && strstr(w->kind->options, "compat=0.10")))
                return;
        settle();
        now = world_tick(w);
        promise_ask_size(&w->promise, size, now);
        for (uint64_t i = min_u64(was, size); i < max_u64(was, size); i++)
                promise_ask(&w->promise, (uint32_t)i, 0, now);
        r = w->img->drv->resize(w->img, size * SECTOR, true);
        if (r == -ENOTSUP) { /* version 2 has no zero clusters to hide the backing image with: nothing has changed */
                promise_refuse_size(&w->promise);
                open_again();
                return;
        }
        must(w, r, "resize");
        if (!w->img->drv->flush) /* a raw file's size is durable with the next sync */
                must(w, file_sync(w->img->file), "sync");
        now = world_tick(w);
        promise_answer_size(&w->promise, now);
        for (uint64_t i = min_u64(was, size); i < max_u64(was, size); i++)
                promise_answer(&w->promise, (uint32_t)i, 0, false, now);
        open_again();
}

static void do_close(void)
{
        settle();
        open_again();
}

/* --- short sequences ------------------------------------------------------------------------------------------------------------ */

bool load_can(const struct world *world, char letter)
{
        const struct kind *k = world->kind;

        switch (letter) {
        case 'n':
                return !strcmp(k->format, "qcow2") && !k->data_file && !strstr(k->options, "refcount_bits=1");
        case 'p':
                return k->packs;
        default:
                return true;
        }
}

static void clip(uint32_t *first, uint32_t *n)
{
        uint32_t size = (uint32_t)promise_size(&w->promise);

        *first = (uint32_t)min_u64(*first, size - 1);
        *n = (uint32_t)max_u64(1, min_u64(*n, size - *first));
}

/* Places follow from the letter, its turn and the sequence's variant. */
static void one_letter(char letter, unsigned turn, unsigned variant)
{
        uint32_t per = w->kind->cluster / SECTOR, filled = w->kind->filled ? w->kind->filled : 4;
        uint32_t hole = (filled + turn + variant) * per, inside = (variant % filled) * per, first, n;

        switch (letter) {
        case 's':
                first = hole + (per > 1 ? 1 : 0);
                n = 1;
                clip(&first, &n);
                do_write(first, n, false);
                break;
        case 'l':
                first = hole + per / 2;
                n = 2 * per + per / 2 + 3;
                clip(&first, &n);
                do_write(first, n, false);
                break;
        case 'o':
                first = last_n ? last_at : inside;
                n = last_n ? last_n : per + 1;
                clip(&first, &n);
                do_write(first, n, false);
                last_n = 0; /* the next one takes what was there at the start */
                break;
        case 'z':
        case 'd':
                first = turn % 2 ? last_at / per * per : inside;
                n = per + (variant % 2 ? per / 2 : per);
                clip(&first, &n);
                do_zero(first, n, letter == 'd' ? ZERO_DISCARD : variant % 3 ? ZERO_MAY_UNMAP : 0);
                break;
        case 'p':
                first = (turn % 2 ? hole / per : inside / per) * per;
                n = per;
                clip(&first, &n);
                do_write(first / per * per, n, true);
                break;
        case 'f':
                do_flush();
                break;
        case 'n':
                do_snapshot();
                break;
        case 'r':
                do_resize();
                break;
        case 'c':
                do_close();
                break;
        }
}

static void begin(struct world *world)
{
        w = world;
        world_open(w);
        io = (struct img_io){ .img = w->img };
        last_at = last_n = stuck.n = 0;
}

void load_sequence(struct world *world, const char *letters, uint64_t *last_began)
{
        unsigned variant = (unsigned)(world->rnd % 5);

        begin(world);
        for (unsigned i = 0; letters[i]; i++) {
                *last_began = world_tick(w);
                one_letter(letters[i], i, variant);
        }
        w = NULL;
}

/* --- long ones ------------------------------------------------------------------------------------------------------------------ */

static void one_change(void)
{
        uint32_t per = w->kind->cluster / SECTOR, size = (uint32_t)promise_size(&w->promise);
        uint32_t first = (uint32_t)rnd_below(&w->rnd, rnd_below(&w->rnd, 2) ? size : size / 4 + 1);
        uint32_t n = 1 + (uint32_t)rnd_below(&w->rnd, rnd_below(&w->rnd, 3) ? 3 * per : 4);
        static const unsigned flags[] = { 0, ZERO_MAY_UNMAP, ZERO_DISCARD, ZERO_DISCARD };

        if (w->kind->packs && rnd_below(&w->rnd, 3) == 0) {
                first = first / per * per;
                n = per;
                clip(&first, &n);
                if (first % per == 0)
                        do_write(first, n, true);
                return;
        }
        clip(&first, &n);
        if (rnd_below(&w->rnd, 10) < 6)
                do_write(first, n, false);
        else
                do_zero(first, n, flags[rnd_below(&w->rnd, ARRAY_SIZE(flags))]);
}

/* Not inside of writes: their clusters are theirs from plan to commit. */
static void between(struct img_io *o)
{
        (void)o;
        if (!stuck.n && rnd_below(&w->rnd, 6) == 0)
                one_change();
        if (rnd_below(&w->rnd, 2))
                fmt_dying_release(w->img, fmt_dying(w->img));
}

/* As when the host's disk is full: what it could not write is dirty again, and nothing was promised. */
static void failing_flush(void)
{
        io.fail_at = io.steps + 1 + rnd_below(&w->rnd, 8);
        (void)img_flush(&io);
        io.fail_at = 0;
}

static void random_flush(void)
{
        if (rnd_below(&w->rnd, 4) == 0) {
                failing_flush();
                return;
        }
        io.no_housekeep = rnd_below(&w->rnd, 2);
        io.between = between;
        do_flush();
        if (io.no_housekeep && rnd_below(&w->rnd, 2))
                must(w, img_housekeep(&io), "housekeep");
        if (stuck.n)
                find_out();
        io.between = NULL;
}

static void random_rest(void)
{
        switch (rnd_below(&w->rnd, 3)) {
        case 0:
                if (load_can(w, 'n'))
                        do_snapshot();
                break;
        case 1:
                do_resize();
                break;
        default:
                do_close();
                break;
        }
}

void load_random(struct world *world, unsigned ops)
{
        begin(world);
        io.hold_dying = true;
        for (unsigned i = 0; i < ops; i++) {
                uint64_t what = rnd_below(&w->rnd, 60);

                if (what == 0)
                        random_rest();
                else if (what < 12)
                        random_flush();
                else
                        one_change();
                if (rnd_below(&w->rnd, 3) == 0)
                        fmt_dying_release(w->img, fmt_dying(w->img));
        }
        w = NULL;
}
