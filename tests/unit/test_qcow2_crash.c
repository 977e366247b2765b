/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a power cut leaves: every write, truncate and punch that reaches the file is recorded; then states are put together
 * that a crash could freeze: all that a completed sync covers, and any part, down to single sectors, of what came later.
 *
 * Each must be clean for `qemu-img check` (leaks allowed), and every sector must hold what the last completed flush
 * promised or something written there since; never another sector's bytes, never zeros that nobody asked for.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "config.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/refcount_bits.h"
#include "tests/lib/img_io.h"
#include "tests/lib/luks_image.h"
#include "tests/lib/tmp_image.h"
#include "tests/unit/crash_files.h"
#include "tests/unit/qcow2_crash_configs.h"

#define MAX_EVENTS 100000u
#define MAX_LOG (1u << 20)

static uint64_t seed;

struct said {
        uint32_t sector, version;
        size_t at; /* events recorded when it began */
        bool settled; /* the sector's content once the operation was over; else: possible from now on */
};

static struct world {
        const struct config *c;
        char path[TMP_PATH_MAX], raw[TMP_PATH_MAX], base_file[TMP_PATH_MAX], state_file[TMP_PATH_MAX];
        char data_file[TMP_PATH_MAX], state_data[TMP_PATH_MAX];
        struct file_tap tap;
        struct event *ev;
        size_t nev;
        struct said *log;
        size_t nlog;
        size_t promise; /* log entries at the begin of the flush that runs */
        uint32_t version;
        uint32_t *now; /* version of each sector */
        unsigned char *start, *start_data; /* the files before we opened them */
        size_t start_len, start_data_len;
        unsigned char *buf;
        struct fmt_image *img;
        struct img_io io;
        bool holes_filled;
        uint64_t rnd;
} w;

/* --- contents ------------------------------------------------------------------------------------------------------ */

static void say(uint32_t sector, uint32_t version, bool settled)
{
        assert_true(w.nlog < MAX_LOG);
        w.log[w.nlog++] = (struct said){ sector, version, w.nev, settled };
        if (settled)
                w.now[sector] = version;
}

/* --- recording ------------------------------------------------------------------------------------------------------ */

static void on_event(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        struct event *e;

        (void)tap;
        /* Synchronous runner: DONE follows ISSUED at once, so a write is recorded at ISSUED and a sync at DONE. */
        if ((ev->kind == FILE_EV_SYNC) != (ev->phase == FILE_EV_DONE))
                return;
        assert_true(w.nev < MAX_EVENTS);
        e = &w.ev[w.nev++];
        *e = (struct event){ .kind = ev->kind, .off = ev->off, .len = ev->len, .data = f == w.img->data_file };
        if (ev->kind == FILE_EV_WRITE) {
                assert_int_equal(ev->niov, 1);
                e->bytes = malloc(ev->len);
                memcpy(e->bytes, ev->iov[0].iov_base, ev->len);
        }
}

static void on_flush_begins(struct img_io *io)
{
        (void)io;
        w.promise = w.nlog + 1;
}

/* --- the load -------------------------------------------------------------------------------------------------------- */

static void must(int r, const char *what)
{
        if (r < 0)
                fail_msg("%s: %d %s", what, r, err_text(r));
}

static void do_write(uint32_t first, uint32_t n)
{
        AUTO(freep) unsigned char *data = calloc(n, SECTOR);

        w.version++;
        for (uint32_t i = 0; i < n; i++) {
                stamp_put(data + i * SECTOR, first + i, w.version);
                say(first + i, w.version, false);
        }
        must(img_write(&w.io, data, n * SECTOR, (uint64_t)first * SECTOR), "write");
        for (uint32_t i = 0; i < n; i++)
                say(first + i, w.version, true);
}

/* All clusters that the range begins in. */
static void do_packed(uint32_t first, uint32_t n)
{
        uint32_t per = w.img->cluster_size / SECTOR, end = first + n;
        AUTO(freep) unsigned char *data = calloc(per, SECTOR);

        for (first -= first % per; first < end; first += per) {
                w.version++;
                for (uint32_t i = 0; i < per; i++) {
                        stamp_put(data + i * SECTOR, first + i, w.version);
                        say(first + i, w.version, false);
                }
                must(img_write_packed(&w.io, data, (uint64_t)first * SECTOR), "packed write");
                for (uint32_t i = 0; i < per; i++)
                        say(first + i, w.version, true);
        }
}

static void do_zero(uint32_t first, uint32_t n, unsigned flags)
{
        AUTO(freep) unsigned char *data = calloc(n, SECTOR);

        for (uint32_t i = 0; i < n; i++)
                say(first + i, 0, false);
        must(img_zero(&w.io, (uint64_t)first * SECTOR, (uint64_t)n * SECTOR, flags), "zero");
        must(img_read(&w.io, data, n * SECTOR, (uint64_t)first * SECTOR), "read");
        for (uint32_t i = 0; i < n; i++) {
                uint32_t v = stamp_version(data + i * SECTOR, first + i);

                assert_true(v == 0 || (flags & ZERO_DISCARD && v == w.now[first + i]));
                say(first + i, v, true);
        }
}

static void one_change(void)
{
        uint32_t total = (uint32_t)(w.c->size / SECTOR);
        uint32_t span = rnd_below(&w.rnd, 3) ? total / 8 : total; /* often the same places */
        uint32_t first = (uint32_t)rnd_below(&w.rnd, span), n = 1 + (uint32_t)rnd_below(&w.rnd, w.c->max_sectors);
        static const unsigned flags[] = { 0, ZERO_MAY_UNMAP, ZERO_DISCARD, ZERO_DISCARD };

        if (rnd_below(&w.rnd, 3) == 0)
                n = 1 + (uint32_t)rnd_below(&w.rnd, 8);
        if (w.c->holes_only)
                first = first / 48 * 48 + 32 + first % 16; /* make_image(): the third of three stretches */
        if (w.c->holes_only && first < total)
                n = (uint32_t)min_u64(n, 16 - first % 16);
        first = (uint32_t)min_u64(first, total - 1);
        n = (uint32_t)min_u64(n, total - first);
        if (w.c->packs && rnd_below(&w.rnd, 2))
                do_packed(first, n);
        else if (w.c->writes_only || rnd_below(&w.rnd, 10) < 6)
                do_write(first, n);
        else
                do_zero(first, n, flags[rnd_below(&w.rnd, ARRAY_SIZE(flags))]);
}

static void between(struct img_io *io)
{
        (void)io;
        if (rnd_below(&w.rnd, 6) == 0)
                one_change();
        if (rnd_below(&w.rnd, 2))
                fmt_dying_release(w.img, fmt_dying(w.img));
}

/* Every @nth hole of make_image(): the third of three stretches. */
static void fill_holes(uint32_t nth)
{
        for (uint32_t i = 32; i + 16 <= w.c->size / SECTOR; i += nth * 48)
                do_write(i, 16);
}

/* Often near its end, where the entries are. Then a reservation runs dry before the next one. True: it did not fail. */
static bool failing_flush(void)
{
        struct fmt_batch *b;
        int r;

        must(fmt_flush(w.img, &b), "flush");
        if (!w.holes_filled || rnd_below(&w.rnd, 3))
                w.io.fail_at = w.io.steps + b->nsteps - rnd_below(&w.rnd, min_u64(b->nsteps, 3));
        else
                w.io.fail_at = w.io.steps + 1 + rnd_below(&w.rnd, b->nsteps);
        r = img_run(&w.io, b);
        w.io.fail_at = 0;
        if (r < 0 && w.c->holes_only && !w.holes_filled)
                fill_holes(1);
        w.holes_filled = true;
        return r == 0;
}

static void flush(void)
{
        unsigned long was = w.io.syncs;

        w.io.no_housekeep = true;
        if (w.c->flaky && (!w.holes_filled || rnd_below(&w.rnd, 3)) && !failing_flush())
                return;
        w.io.between = between; /* not inside of writes: their clusters are theirs from plan to commit */
        must(img_flush(&w.io), "flush");
        assert_true(w.io.syncs > was && w.ev[w.nev - 1].kind == FILE_EV_SYNC);
        w.ev[w.nev - 1].flushed = w.promise;
        if (rnd_below(&w.rnd, 4))
                must(img_housekeep(&w.io), "housekeep");
        w.io.between = NULL;
}

static void run_load(void)
{
        w.io.flush_begins = on_flush_begins;
        w.io.hold_dying = true;
        if (w.c->flaky && w.c->holes_only)
                fill_holes(8); /* copies tables */
        for (unsigned i = 0; i < w.c->ops; i++) {
                if (rnd_below(&w.rnd, 5) == 0)
                        flush();
                else
                        one_change();
                if (rnd_below(&w.rnd, 3) == 0)
                        fmt_dying_release(w.img, fmt_dying(w.img));
        }
        flush();
}

/* --- states ------------------------------------------------------------------------------------------------------------ */

/* How much of what no sync covers made it. */
enum luck { LUCK_ALL, LUCK_LATE, LUCK_LATEST, LUCK_HALF, LUCK_SECTORS, LUCK_ONE, LUCK_ALL_BUT_ONE, LUCKS };

/* @covered: of each file, what is there for sure. */
static void put_some(struct files *files, const size_t *covered, size_t to)
{
        enum luck luck = rnd_below(&w.rnd, LUCKS);
        size_t from = min_u64(covered[0], covered[1]);
        size_t one = from < to ? from + rnd_below(&w.rnd, to - from) : to;

        for (size_t i = from; i < to; i++) {
                const struct event *e = &w.ev[i];
                struct bytes *s = &files->part[e->data];
                bool sectors = luck == LUCK_SECTORS && e->kind != FILE_EV_TRUNCATE;

                if (i < covered[e->data])
                        continue;
                for (uint64_t k = 0; sectors && k < e->len; k += SECTOR)
                        if (rnd(&w.rnd) >> 63)
                                put(s, e, k, min_u64(SECTOR, e->len - k));
                if (luck == LUCK_ALL || (luck >= LUCK_HALF && luck <= LUCK_SECTORS && !sectors && rnd(&w.rnd) >> 63) ||
                    (luck == LUCK_LATE && i >= one) || (luck == LUCK_LATEST && i + 3 >= to) || (luck == LUCK_ONE && i == one) || (luck == LUCK_ALL_BUT_ONE && i != one))
                        put_whole(s, e);
        }
}

/* What each sector may hold when the last flush promised log[0..promised) and the cut came after @upto events. */
static void check_sectors(const unsigned char *disk, size_t promised, size_t upto)
{
        uint32_t total = (uint32_t)(w.c->size / SECTOR), bad = UINT32_MAX;
        uint32_t *safe = calloc(total, sizeof(*safe));
        bool *ok = calloc(total, sizeof(*ok));

        for (size_t i = 0; i < promised; i++)
                if (w.log[i].settled)
                        safe[w.log[i].sector] = w.log[i].version;
        for (uint32_t i = 0; i < total; i++)
                ok[i] = stamp_version(disk + (size_t)i * SECTOR, i) == safe[i];
        for (size_t i = 0; i < w.nlog && w.log[i].at <= upto; i++) {
                uint32_t sector = w.log[i].sector;
                bool may = i >= promised;

                if (may && (stamp_version(disk + (size_t)sector * SECTOR, sector) == w.log[i].version ||
                            (w.c->with_data && stamp_version(disk + (size_t)sector * SECTOR, sector) == 0)))
                        ok[sector] = true;
        }
        for (uint32_t i = 0; i < total && bad == UINT32_MAX; i++)
                if (!ok[i])
                        bad = i;
        if (bad != UINT32_MAX)
                fail_msg("sector %u holds version %u (bytes %08x %08x), the last flush promised %u; cut after event %zu", bad,
                         stamp_version(disk + (size_t)bad * SECTOR, bad), be32_get(disk + (size_t)bad * SECTOR),
                         be32_get(disk + (size_t)bad * SECTOR + 4), safe[bad], upto);
        free(safe);
        free(ok);
}

static const struct fmt_open_opts *how(unsigned flags)
{
        static struct fmt_open_opts opts;
        static struct fmt_layer state;

        flags |= w.c->with_data ? FMT_ENTRY_WITH_DATA : 0;
        state = (struct fmt_layer){ .data_path = w.c->data_file && w.nev ? w.state_data : NULL };
        opts = (struct fmt_open_opts){ .format = "qcow2", .flags = flags,
                                       .layer = w.c->encrypted ? luks_image_layer() : &state };
        return &opts;
}

/* Leaks are allowed. */
static int qemu_check(const char *path)
{
        return w.c->encrypted ? luks_image_check(path) : run_cmd("qemu-img check '%s' || [ $? = 3 ]", path);
}

static void go_on_with(const char *path)
{
        struct fmt_image *img;
        struct img_io io = { 0 };

        must(chain_open(path, how(0), &img), "open after the cut");
        io.img = img;
        memset(w.buf, 0x5a, 40 * SECTOR);
        for (unsigned i = 0; i < 20; i++) {
                must(img_write(&io, w.buf, 40 * SECTOR, rnd_below(&w.rnd, w.c->size / SECTOR - 40) * SECTOR), "write");
                must(img_flush(&io), "flush");
        }
        must(img_settle(&io), "settle");
        chain_close(img);
        assert_int_equal(qemu_check(path), 0);
}

static void check_state(const struct files *s, size_t promised, size_t upto)
{
        unsigned char *disk = malloc(w.c->size);
        struct fmt_image *img;
        struct img_io io = { 0 };

        assert_int_equal(save_file(w.state_file, s->part[0].b, s->part[0].len), 0);
        if (w.c->data_file)
                assert_int_equal(save_file(w.state_data, s->part[1].b, s->part[1].len), 0);
        if (w.c->raw) {
                assert_true(s->part[1].len == w.c->size);
                check_sectors(s->part[1].b, promised, upto);
        }
        if (qemu_check(w.state_file) != 0)
                fail_msg("not clean when cut after event %zu", upto);
        must(chain_open(w.state_file, how(FMT_RDONLY), &img), "open the state");
        io.img = img;
        must(img_read(&io, disk, w.c->size, 0), "read the state");
        chain_close(img);
        check_sectors(disk, promised, upto);
        if (rnd_below(&w.rnd, 8) == 0)
                go_on_with(w.state_file);
        free(disk);
}

static int by_value(const void *a, const void *b)
{
        size_t x = *(const size_t *)a, y = *(const size_t *)b;

        return x < y ? -1 : x > y;
}

static struct files start_files(size_t cap)
{
        struct files s = { { { calloc(1, cap), w.start_len, cap }, { calloc(1, cap), w.start_data_len, cap } } };

        memcpy(s.part[0].b, w.start, w.start_len);
        if (w.start_data)
                memcpy(s.part[1].b, w.start_data, w.start_data_len);
        return s;
}

static void free_files(struct files *s)
{
        free(s->part[0].b);
        free(s->part[1].b);
}

/* A sync of one file says nothing about the other. */
static void cover(struct files *sure, size_t *covered, size_t sync_at)
{
        bool data = w.ev[sync_at].data;

        for (; covered[data] < sync_at; covered[data]++)
                if (w.ev[covered[data]].data == data)
                        put_whole(&sure->part[data], &w.ev[covered[data]]);
}

static void cut_everywhere(void)
{
        size_t cap = 64u << 20, cut[100], covered[2] = { 0 }, promised, sync_at = 0;
        struct files sure = start_files(cap), state = { { { calloc(1, cap), 0, cap }, { calloc(1, cap), 0, cap } } };

        for (unsigned i = 0; i < w.c->states; i++) {
                cut[i] = rnd_below(&w.rnd, w.nev + 1);
                /* Mostly just before a sync: there as much as can be is uncertain. */
                while (rnd_below(&w.rnd, 200) && cut[i] < w.nev && w.ev[cut[i]].kind != FILE_EV_SYNC)
                        cut[i]++;
        }
        qsort(cut, w.c->states, sizeof(cut[0]), by_value);
        promised = (size_t)(w.c->size / SECTOR); /* the first log entries: what was there at the start */
        for (unsigned i = 0; i < w.c->states; i++) {
                for (; sync_at < cut[i]; sync_at++) {
                        if (w.ev[sync_at].kind != FILE_EV_SYNC)
                                continue;
                        cover(&sure, covered, sync_at);
                        if (w.ev[sync_at].flushed)
                                promised = w.ev[sync_at].flushed - 1;
                }
                for (unsigned p = 0; p < 2; p++) {
                        memcpy(state.part[p].b, sure.part[p].b, max_u64(sure.part[p].len, state.part[p].len));
                        state.part[p].len = sure.part[p].len;
                }
                put_some(&state, covered, cut[i]);
                check_state(&state, promised, cut[i]);
        }
        free_files(&sure);
        free_files(&state);
}

/* --- order, without luck ----------------------------------------------------------------------------------------------- */

/*
 * Just before each sync there are two files: what is durable, and what has been written. A cut may leave any mixture, so
 * whatever entry stands in either must be counted in both (W1, W4), by refcount blocks found through either (W5), lie
 * within the durable length, and be in a table that lost nothing by being moved (W3).
 */
static uint64_t word(const struct bytes *s, uint64_t off)
{
        return off + 8 <= s->cap ? be64_get(s->b + off) : 0;
}

/* The refcount of @cluster in a block of @blocks that the table in @tables leads to. */
static uint64_t count_of(const struct bytes *tables, const struct bytes *blocks, uint64_t cluster)
{
        unsigned order = be32_get(w.start + QH_VERSION) < 3 ? 4 : be32_get(w.start + QH_REFCOUNT_ORDER);
        uint64_t cs = 1ull << be32_get(w.start + QH_CLUSTER_BITS), per = refcount_per_block(cs, order);
        uint64_t table = word(tables, QH_REFTABLE_OFFSET), n = be32_get(tables->b + QH_REFTABLE_CLUSTERS) * cs / 8;
        uint64_t block = cluster / per < n ? reftable_offset(word(tables, table + cluster / per * 8)) : 0;

        return block ? refcount_get(blocks->b + block, order, cluster % per) : 0;
}

static void audit_cluster(const struct bytes *file, uint64_t host, const char *what, size_t upto)
{
        uint64_t cluster = host >> be32_get(w.start + QH_CLUSTER_BITS);

        for (unsigned i = 0; i < 4; i++)
                if (!count_of(&file[i & 1], &file[i >> 1], cluster))
                        fail_msg("%s may point to cluster %llu, which may not be counted, when cut after event %zu", what,
                                 (unsigned long long)cluster, upto);
        if (host >= file[0].len)
                fail_msg("%s may point to cluster %llu, beyond the end of the file, when cut after event %zu", what,
                         (unsigned long long)cluster, upto);
}

static bool has_subclusters(void)
{
        return be32_get(w.start + QH_VERSION) >= 3 && be64_get(w.start + QH_INCOMPATIBLE) & QCOW2_INCOMPAT_EXTENDED_L2;
}

static void audit_l2(const struct bytes *file, uint64_t table, size_t upto)
{
        unsigned bits = be32_get(w.start + QH_CLUSTER_BITS), size = has_subclusters() ? 16 : 8;

        audit_cluster(file, table, "an L1 entry", upto);
        for (unsigned i = 0; i < 2; i++)
                for (uint64_t k = 0; k < 1ull << bits; k += size) {
                        uint64_t e = word(&file[i], table + k);
                        uint64_t host = l2e_is_compressed(e) ? l2e_packed_host(e, bits) : l2e_offset(e);

                        if (host && !w.c->data_file) /* nothing is counted there */
                                audit_cluster(file, host, "an L2 entry", upto);
                }
}

/* A block that a refcount table leads to counts itself, or is counted by another, whatever has become of its bytes. */
static void audit_blocks(const struct bytes *file, const struct bytes *tables, size_t upto)
{
        unsigned bits = be32_get(w.start + QH_CLUSTER_BITS);
        uint64_t table = word(tables, QH_REFTABLE_OFFSET), n = be32_get(tables->b + QH_REFTABLE_CLUSTERS);

        for (uint64_t i = 0; i < n << bits; i += 8) {
                uint64_t block = reftable_offset(word(tables, table + i)) >> bits;

                if (block && (!count_of(tables, &file[0], block) || !count_of(tables, &file[1], block)))
                        fail_msg("the refcount block in cluster %llu may not be counted when cut after event %zu",
                                 (unsigned long long)block, upto);
        }
}

/* @file: durable, written. */
static void audit(const struct bytes *file, size_t upto)
{
        uint64_t cs = 1ull << be32_get(w.start + QH_CLUSTER_BITS), l1 = be64_get(w.start + QH_L1_OFFSET);

        for (uint64_t i = 0; i < be32_get(w.start + QH_L1_ENTRIES); i++) {
                uint64_t was = l1e_offset(word(&file[0], l1 + i * 8)), is = l1e_offset(word(&file[1], l1 + i * 8));

                if (was)
                        audit_l2(file, was, upto);
                if (is && is != was)
                        audit_l2(file, is, upto);
                for (uint64_t k = 0; w.c->writes_only && was && is != was && k < cs; k += 8)
                        if (word(&file[0], was + k) && !word(&file[0], is + k))
                                fail_msg("an L1 entry may lead to a copy of its table that is not there yet, when cut after "
                                         "event %zu", upto);
        }
}

static void audit_all(void)
{
        size_t cap = 64u << 20, covered = 0;
        struct bytes file[2] = { { calloc(1, cap), w.start_len, cap }, { calloc(1, cap), w.start_len, cap } };

        memcpy(file[0].b, w.start, w.start_len);
        memcpy(file[1].b, w.start, w.start_len);
        for (size_t i = 0; i < w.nev; i++) {
                if (w.ev[i].data)
                        continue;
                if (w.ev[i].kind != FILE_EV_SYNC) {
                        put_whole(&file[1], &w.ev[i]);
                        continue;
                }
                audit(file, i);
                audit_blocks(file, &file[0], i);
                audit_blocks(file, &file[1], i);
                for (; covered < i; covered++)
                        if (!w.ev[covered].data)
                                put_whole(&file[0], &w.ev[covered]);
        }
        free(file[0].b);
        free(file[1].b);
}

/* --- one configuration ------------------------------------------------------------------------------------------------- */

static void make_encrypted(void)
{
        const struct config *c = w.c;
        struct img_io io = { 0 };

        must(luks_image_create(w.path, c->size, c->options, c->backing ? w.base_file : NULL), "create");
        must(chain_open(w.path, how(0), &io.img), "open");
        for (uint64_t i = 0; c->filled && i < c->size / SECTOR; i += 48)
                must(img_write(&io, w.buf + i * SECTOR, min_u64(32 * SECTOR, c->size - i * SECTOR), i * SECTOR), "fill");
        must(img_settle(&io), "settle");
        chain_close(io.img);
}

static void make_image(void)
{
        const struct config *c = w.c;
        uint32_t total = (uint32_t)(c->size / SECTOR);
        bool full = c->filled || c->backing;
        char options[TMP_PATH_MAX + 80];

        snprintf(options, sizeof(options), "%s%s%s", c->options, c->data_file ? ",data_file=" : "",
                 c->data_file ? w.data_file : "");

        w.version = 1;
        for (uint32_t i = 0; i < total; i++) {
                uint32_t v = full && i / 16 % 3 != 2; /* with holes */

                stamp_put(w.buf + (size_t)i * SECTOR, i, v);
                say(i, v, true);
        }
        assert_int_equal(save_file(c->backing ? w.base_file : w.raw, w.buf, c->size), 0);
        if (c->encrypted)
                make_encrypted();
        else if (c->filled)
                assert_int_equal(run_cmd("qemu-img convert %s -f raw -O qcow2 -o %s '%s' '%s'", c->compressed ? "-c" : "",
                                         options, w.raw, w.path), 0);
        else if (c->backing)
                assert_int_equal(run_cmd("qemu-img create -q -f qcow2 -o %s -b '%s' -F raw '%s' %llu", options, w.base_file,
                                         w.path, (unsigned long long)c->size), 0);
        else
                assert_int_equal(run_cmd("qemu-img create -q -f qcow2 -o %s '%s' %llu", options, w.path,
                                         (unsigned long long)c->size), 0);
        if (c->snapshot)
                assert_int_equal(c->encrypted ? luks_image_snapshot(w.path) : run_cmd("qemu-img snapshot -c first '%s'", w.path), 0);
        w.start = load_file(w.path, &w.start_len);
        assert_non_null(w.start);
        w.start_data = c->data_file ? load_file(w.data_file, &w.start_data_len) : NULL;
}

static void run_config(const struct config *c)
{
        w = (struct world){ .c = c, .rnd = seed, .tap.event = on_event };
        tmp_path("crash.qcow2", w.path);
        tmp_path("crash.raw", w.raw);
        tmp_path("crash-base.raw", w.base_file);
        tmp_path("crash-state.qcow2", w.state_file);
        tmp_path("crash.data", w.data_file);
        tmp_path("crash-state.data", w.state_data);
        w.ev = calloc(MAX_EVENTS, sizeof(*w.ev));
        w.log = calloc(MAX_LOG, sizeof(*w.log));
        w.now = calloc(c->size / SECTOR, sizeof(*w.now));
        w.buf = malloc(c->size);
        make_image();
        must(chain_open(w.path, how(0), &w.img), "open");
        w.io = (struct img_io){ .img = w.img };
        w.img->file->tap = &w.tap;
        if (w.img->data_file)
                w.img->data_file->tap = &w.tap;
        run_load();
        chain_close(w.img);
        audit_all();
        cut_everywhere();
        for (size_t i = 0; i < w.nev; i++)
                free(w.ev[i].bytes);
        free(w.ev);
        free(w.log);
        free(w.now);
        free(w.buf);
        free(w.start);
        free(w.start_data);
}

static void test_crash(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
                print_message("# %s\n", configs[i].what);
                if (HAVE_CRYPTO || !configs[i].encrypted)
                        run_config(&configs[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_crash) };

        rcu_register_thread();
        seed = test_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
