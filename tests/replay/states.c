/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * states.c - what a cut may leave of a recording, and whether that is what the guest was promised.
 *
 * Cuts are just before each sync is done, where as much as can be is uncertain, and at the end: a state of an earlier moment
 * is one of those, with what came later lost. Few uncertain events: every subset of them. Many: samples of several sorts,
 * some of them torn within a write.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tests/lib/luks_image.h"
#include "world.h"

#define GO_ON_EVERY 61u
#define REPAIR_EVERY 67u

void states_init(struct states *s, const struct world *w, uint64_t seed)
{
        *s = (struct states){ .rnd = seed };
        cut_init(&s->cut, &w->tape);
}

void states_finish(struct states *s)
{
        cut_finish(&s->cut);
}

/* --- one state ------------------------------------------------------------------------------------------------------------------ */

static void on_finding(struct fmt_check *chk, const struct fmt_finding *f)
{
        if (f->kind != FINDING_LEAK)
                snprintf(chk->opaque, 200, "%s", f->text);
}

/* What our check says of an image's tables; leaks are allowed. */
static void check_tables(struct world *w, struct fmt_image *img, const char *when, uint64_t *leaks)
{
        char text[200] = "";
        struct fmt_check chk = { .finding = on_finding, .opaque = text };

        *leaks = 0;
        if (!img->drv->check)
                return;
        must(w, img->drv->check(img, &chk), when);
        if (chk.corruptions || chk.check_errors)
                fail(w, "%s: not clean: %s", when, text);
        *leaks = chk.leaks;
}

static void compare(struct world *w, const unsigned char *disk, uint64_t sectors, const char *when)
{
        char why[256];

        if (promise_compare(&w->promise, disk, sectors, why, sizeof(why)))
                fail(w, "%s: %s", when, why);
}

static bool is_listed(struct world *w, struct fmt_image *img, const char *name)
{
        struct fmt_snapshot *list = NULL;
        bool there = false;
        size_t n = 0;

        must(w, img->drv->snapshot_list(img, &list, &n), "list of snapshots");
        for (size_t i = 0; i < n; i++)
                there |= !strcmp(list[i].name, name);
        fmt_snapshots_free(list, n);
        return there;
}

/* A snapshot is the disk as it was, from the moment it is there. */
static void check_snapshot(struct states *s, struct world *w, struct fmt_image *now, const struct snapped *snap)
{
        struct fmt_snapshot_which which = { .name = snap->name };
        struct fmt_image *img;

        if (snap->asked > s->cut.at)
                return;
        if (!is_listed(w, now, snap->name)) {
                if (snap->answered <= s->cut.at)
                        fail(w, "snapshot '%s' is lost", snap->name);
                return;
        }
        must(w, world_open_image(w, tape_view(&s->cut.state[0]), NULL, FMT_RDONLY, &which, &img), "open a snapshot");
        must(w, chain_read_sync(img, w->buf, snap->size * SECTOR, 0), "read a snapshot");
        world_close_image(w, img);
        for (uint32_t i = 0; i < snap->size; i++) {
                uint32_t got = stamp_version(w->buf + (size_t)i * SECTOR, i);

                if (got != snap->version[i])
                        fail(w, "sector %u of snapshot '%s' holds version %u, not %u", i, snap->name, got, snap->version[i]);
        }
}

static struct file *copy_of(struct world *w, const struct tape_bytes *b)
{
        struct file *f;

        must(w, file_open_mem(b->b, b->len, &f), "copy");
        return f;
}

static struct fmt_image *open_copy(struct states *s, struct world *w)
{
        struct file *data = w->kind->data_file ? copy_of(w, &s->cut.state[1]) : NULL;
        struct fmt_image *img;

        must(w, world_open_image(w, copy_of(w, &s->cut.state[0]), data, 0, NULL, &img), "open for writing after the cut");
        return img;
}

/* The next daemon writes to it: what it finds must not trip it up. */
static void go_on(struct states *s, struct world *w, const unsigned char *disk, uint64_t sectors)
{
        AUTO(freep) unsigned char *model = malloc(sectors * SECTOR);
        struct fmt_image *img = open_copy(s, w);
        struct img_io io = { .img = img };
        uint64_t leaks;

        memcpy(model, disk, sectors * SECTOR);
        for (unsigned i = 0; i < 12; i++) {
                uint32_t first = (uint32_t)rnd_below(&s->rnd, sectors);
                uint32_t n = (uint32_t)min_u64(1 + rnd_below(&s->rnd, 2 * w->kind->cluster / SECTOR + 2), sectors - first);

                for (uint32_t k = 0; k < n; k++)
                        stamp_put(model + (size_t)(first + k) * SECTOR, first + k, w->promise.next_version + i);
                must(w, img_write(&io, model + (size_t)first * SECTOR, (size_t)n * SECTOR, (uint64_t)first * SECTOR),
                     "write after the cut");
                if (i % 3 == 0)
                        must(w, img_flush(&io), "flush after the cut");
        }
        must(w, img_settle(&io), "settle after the cut");
        check_tables(w, img, "after going on", &leaks);
        must(w, img_read(&io, w->buf, sectors * SECTOR, 0), "read after going on");
        if (memcmp(w->buf, model, sectors * SECTOR))
                fail(w, "after going on the disk is not what was written");
        world_close_image(w, img);
        s->gone_on++;
}

static void repair(struct states *s, struct world *w, const unsigned char *disk, uint64_t sectors)
{
        struct fmt_check chk = { .fix_all = true };
        struct fmt_image *img = open_copy(s, w);
        uint64_t leaks;

        if (img->drv->check)
                must(w, img->drv->check(img, &chk), "repair");
        check_tables(w, img, "after the repair", &leaks);
        if (leaks)
                fail(w, "%" PRIu64 " clusters are leaked after the repair", leaks);
        must(w, chain_read_sync(img, w->buf, sectors * SECTOR, 0), "read after the repair");
        if (memcmp(w->buf, disk, sectors * SECTOR))
                fail(w, "the repair has changed the disk");
        world_close_image(w, img);
        s->repaired++;
}

static void ask_qemu(struct states *s, struct world *w)
{
        char path[TMP_PATH_MAX];
        int r;

        if (strcmp(w->kind->format, "qcow2"))
                return;
        if (save_file(tmp_path("replay-state.qcow2", path), s->cut.state[0].b, s->cut.state[0].len) < 0 ||
            (w->kind->data_file && save_file(w->data_path, s->cut.state[1].b, s->cut.state[1].len) < 0))
                fail(w, "cannot write a state to %s", path);
        r = w->kind->encrypted ? luks_image_check(path) : run_cmd("qemu-img check '%s' >%s.out 2>&1 || [ $? = 3 ]", path, path);
        if (r)
                fail(w, "qemu-img check finds errors; the state is in %s", path);
        s->qemu++;
}

static void look_at(struct states *s, struct world *w)
{
        AUTO(freep) unsigned char *disk = NULL;
        struct fmt_image *img;
        uint64_t sectors, leaks;

        s->n++;
        must(w, world_open_image(w, tape_view(&s->cut.state[0]), w->kind->data_file ? tape_view(&s->cut.state[1]) : NULL,
                                 FMT_RDONLY, NULL, &img), "open the state");
        sectors = img->size / SECTOR;
        if (!promise_allows_size(&w->promise, sectors))
                fail(w, "the disk has %" PRIu64 " sectors", sectors);
        check_tables(w, img, "our check", &leaks);
        disk = malloc(sectors * SECTOR);
        must(w, chain_read_sync(img, disk, sectors * SECTOR, 0), "read the state");
        compare(w, disk, sectors, "the disk");
        if (w->kind->raw_data)
                compare(w, s->cut.state[1].b, min_u64(s->cut.state[1].len / SECTOR, sectors), "the raw data file");
        for (unsigned i = 0; i < w->promise.nsnap; i++)
                check_snapshot(s, w, img, &w->promise.snap[i]);
        world_close_image(w, img);
        if (s->n % GO_ON_EVERY == 0)
                go_on(s, w, disk, sectors);
        if (s->n % REPAIR_EVERY == 0)
                repair(s, w, disk, sectors);
        if (s->qemu_every && rnd_below(&s->rnd, s->qemu_every) == 0)
                ask_qemu(s, w);
}

/* --- all of a cut --------------------------------------------------------------------------------------------------------------- */

static void subset(struct states *s, struct world *w, uint64_t bits)
{
        for (size_t i = 0; i < s->cut.nopen; i++)
                cut_put(&s->cut, i, bits >> i & 1 ? CUT_WHOLE : CUT_NONE, &s->rnd);
        look_at(s, w);
        cut_restore(&s->cut);
}

static enum cut_luck luck_of(struct states *s, unsigned sort, size_t i, size_t one, size_t n)
{
        switch (sort) {
        case 0: /* all */
                return CUT_WHOLE;
        case 1: /* late ones */
                return i >= one ? CUT_WHOLE : CUT_NONE;
        case 2: /* early ones: a prefix */
                return i <= one ? CUT_WHOLE : CUT_NONE;
        case 3: /* the latest */
                return i + 3 >= n ? CUT_WHOLE : CUT_NONE;
        case 4: /* one */
                return i == one ? CUT_WHOLE : CUT_NONE;
        case 5: /* all but one */
                return i != one ? CUT_WHOLE : CUT_NONE;
        case 6: /* torn: anything of anything */
                return CUT_SECTORS;
        case 7: /* one is torn, the rest is there */
                return i == one ? CUT_SECTORS : CUT_WHOLE;
        default:
                return (enum cut_luck)rnd_below(&s->rnd, 2);
        }
}

static void sample(struct states *s, struct world *w, unsigned sort)
{
        size_t n = s->cut.nopen, one = n ? rnd_below(&s->rnd, n) : 0;

        for (size_t i = 0; i < n; i++)
                cut_put(&s->cut, i, luck_of(s, sort, i, one, n), &s->rnd);
        look_at(s, w);
        cut_restore(&s->cut);
}

static void explore_cut(struct states *s, struct world *w, uint64_t at)
{
        size_t n;

        cut_move(&s->cut, at);
        promise_at(&w->promise, at);
        n = s->cut.nopen;
        s->max_open = max_u64(s->max_open, n);
        if (n < 20 && 1ull << n <= s->per_cut) {
                for (uint64_t bits = 0; bits < 1ull << n; bits++)
                        subset(s, w, bits);
                for (unsigned i = 0; n && i < s->per_cut / 4; i++)
                        sample(s, w, 6 + i % 2);
                return;
        }
        for (unsigned i = 0; i < s->per_cut; i++)
                sample(s, w, (unsigned)rnd_below(&s->rnd, 10));
}

void states_explore(struct states *s, struct world *w, uint64_t from)
{
        const struct tape *t = &w->tape;
        unsigned ncuts = 1, left;

        world_close(w); /* as it is */
        for (size_t i = 0; i < t->n; i++)
                ncuts += t->ev[i].kind == FILE_EV_SYNC && t->ev[i].done != TAPE_NEVER && t->ev[i].done > from;
        left = s->cuts && s->cuts < ncuts ? s->cuts : ncuts;
        cut_begin(&s->cut);
        for (size_t i = 0; i < t->n; i++) {
                const struct tape_event *e = &t->ev[i];

                if (e->kind != FILE_EV_SYNC || e->done == TAPE_NEVER || e->done <= from)
                        continue;
                if (rnd_below(&s->rnd, ncuts--) >= left)
                        continue;
                left--;
                explore_cut(s, w, e->done - 1);
        }
        explore_cut(s, w, t->now);
}
