/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Work at rest, cut short: at every write, truncate, punch and sync an operation stops, or the power fails and any of the
 * writes that were not synced are lost. What is left is the old image or the new one, without an error or a leak.
 */
#include "qcow2_rest.h"

#include <time.h>

#include "common/range.h"

struct op {
        const char *what;
        int (*run)(struct fmt_image *img);
};

static int op_create(struct fmt_image *img) { return qcow2_snapshot_create(img, "new"); }
static int op_apply(struct fmt_image *img) { return qcow2_snapshot_apply(img, "one"); }
static int op_delete(struct fmt_image *img) { return qcow2_snapshot_delete(img, "one"); }
static int op_grow(struct fmt_image *img) { return qcow2_resize(img, 3ull << 30, false); }
static int op_shrink(struct fmt_image *img) { return qcow2_resize(img, (3u << 20) + 512, true); }
/* Where op_amend leads to; QEMU's check opens them. */
#define BACKING "a-backing-file-with-a-name-long-enough-to-be-torn"

static int op_empty(struct fmt_image *img) { return qcow2_empty(img); }
static int op_repair(struct fmt_image *img) { return qcow2_check(img, &(struct fmt_check){ .fix_all = true }); }

/* To a backing file, to another, and to none. */
static int op_amend(struct fmt_image *img)
{
        static const struct fmt_option steps[][2] = {
                { { "backing_file", BACKING "1" }, { "backing_fmt", "raw" } },
                { { "backing_file", BACKING "2" }, { "backing_fmt", "qcow2" } },
                { { "backing_file", "" }, { "lazy_refcounts", "on" } },
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++)
                r = qcow2_amend(img, steps[i], ARRAY_SIZE(steps[i]), false);
        return r;
}

/* Bits of version @v: every byte of them is v. */
static void get_version(void *opaque, uint64_t at, void *bytes, size_t len)
{
        memset(bytes, *(const uint8_t *)opaque, len);
}

/* Three bitmaps come, are used and get other bits in their place, another comes and needs space, and at last all go. */
static int op_bitmaps(struct fmt_image *img)
{
        uint8_t one = 0x11, two = 0x22, ones = 0xff;
        struct fmt_bitmap all[] = {
                { .name = "a", .granularity = 512, .recording = true, .get = get_version, .opaque = &one },
                { .name = "b", .granularity = 65536, .get = get_version, .opaque = &one },
                { .name = "ones", .granularity = 512, .get = get_version, .opaque = &ones },
        };
        int r = qcow2_bitmaps_store(img, all, 2);

        if (r == 0)
                r = qcow2_bitmaps_take(img);
        all[0].opaque = all[1].opaque = &two;
        if (r == 0)
                r = qcow2_bitmaps_store(img, all, 2);
        all[0].get = NULL;
        if (r == 0)
                r = qcow2_bitmaps_store(img, all, 3);
        return r < 0 ? r : qcow2_bitmaps_store(img, NULL, 0);
}

static const struct op ops[] = {
        { "snapshot create", op_create }, { "snapshot apply", op_apply }, { "snapshot delete", op_delete },
        { "grow", op_grow },              { "shrink", op_shrink },        { "empty", op_empty },
        { "amend", op_amend },            { "bitmaps", op_bitmaps },
        { "repair", op_repair },
};
static const char *const geometries[] = { "cluster_size=4k", "cluster_size=64k,refcount_bits=64",
                                          "cluster_size=64k,extended_l2=on" };
static const char *const points[] = { "file.write", "file.truncate", "file.punch", "file.sync" };

/* An image with a snapshot that shares some clusters with the disk and has some alone. */
static void make_base(const char *geometry)
{
        ok(rest_create("base", 8u << 20, geometry));
        must("truncate -s 1M " BACKING "1; qemu-img create -q -f qcow2 " BACKING "2 1M");
        must("qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 3M 2M' base >out");
        ok(rest_snap("base", 'c', "one"));
        must("qemu-io -f qcow2 -c 'write -P 3 512k 1M' -c 'write -P 4 4M 512k' -c 'write -z 6M 1M' base >out");
}

/* Runs @op on a copy of base; the point's @nth pass fails, and all that follow. 0: the operation came through. */
static int run_until(const struct op *op, const char *point, unsigned long nth)
{
        struct fmt_image img;
        char spec[64];
        int r;

        must("cp base a");
        img = rest_open("a", 0);
        snprintf(spec, sizeof(spec), "%s=%lu:EIO:forever", point, nth);
        ok(fault_arm(spec));
        r = op->run(&img);
        fault_arm(NULL);
        file_close(img.file);
        err_clear();
        return r;
}

static unsigned long count_passes(const struct op *op, const char *point)
{
        struct fmt_image img;
        unsigned long n;
        char spec[64];

        must("cp base a");
        img = rest_open("a", 0);
        snprintf(spec, sizeof(spec), "%s=0:EIO", point);
        ok(fault_arm(spec));
        ok(op->run(&img));
        n = fault_count(point);
        fault_arm(NULL);
        file_close(img.file);
        rest_clean("a", op->what);
        return n;
}

static void test_stopped_anywhere(void **state)
{
        for (size_t g = 0; g < ARRAY_SIZE(geometries); g++) {
                make_base(geometries[g]);
                for (size_t o = 0; o < ARRAY_SIZE(ops) - 1; o++) /* repair of a clean image does nothing */
                        for (size_t p = 0; p < ARRAY_SIZE(points); p++) {
                                unsigned long n = count_passes(&ops[o], points[p]);
                                char what[128];

                                for (unsigned long i = 1; i <= n; i++) {
                                        int r = run_until(&ops[o], points[p], i);

                                        snprintf(what, sizeof(what), "%s, %s, stopped at %s %lu of %lu (%d)", ops[o].what,
                                                 geometries[g], points[p], i, n, r);
                                        rest_clean("a", what);
                                        if (r == 0 && strcmp(points[p], "file.write") == 0)
                                                fail_msg("%s: the error is lost", what);
                                }
                        }
        }
}

/* --- power failure: a recording of writes, replayed with losses -------------------------------------------------- */

struct event {
        enum file_event_kind kind;
        uint64_t off, len;
        uint8_t *bytes;
};
struct recorder {
        struct file_tap tap;
        struct event ev[4096];
        size_t n;
};

static void record(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        struct recorder *rec = (struct recorder *)tap;
        struct event *e = &rec->ev[rec->n];

        if (ev->phase != FILE_EV_ISSUED)
                return;
        assert_true(rec->n < ARRAY_SIZE(rec->ev));
        *e = (struct event){ ev->kind, ev->off, ev->len, NULL };
        if (ev->kind == FILE_EV_WRITE) {
                e->bytes = malloc(ev->len);
                memcpy(e->bytes, ev->iov[0].iov_base, ev->len);
        }
        rec->n++;
}

static void replay_one(struct file *f, const struct event *e, uint64_t len)
{
        if (e->kind == FILE_EV_WRITE)
                ok(file_pwrite(f, e->bytes, len, e->off));
        else if (e->kind == FILE_EV_TRUNCATE)
                ok(file_truncate(f, e->off));
        else if (e->kind == FILE_EV_PUNCH || e->kind == FILE_EV_ZERO)
                ok(file_zero(f, e->off, e->len, false));
}

static bool heads(unsigned *seed)
{
        return rand_r(seed) & 1;
}

/* The file when the power fails after event @at: synced events are there, of the others any, writes also in part. */
static void crashed_file(const struct recorder *rec, const void *base, size_t base_len, size_t at, unsigned *seed,
                         struct file **ret)
{
        size_t synced = 0;

        ok(file_open_mem(base, base_len, ret));
        for (size_t i = 0; i < at; i++)
                if (rec->ev[i].kind == FILE_EV_SYNC)
                        synced = i;
        for (size_t i = 0; i < at; i++) {
                const struct event *e = &rec->ev[i];
                bool whole = i < synced || heads(seed);

                if (whole || (e->kind == FILE_EV_WRITE && e->len > 512 && heads(seed)))
                        replay_one(*ret, e, whole ? e->len : round_down((uint64_t)rand_r(seed) % e->len, 512));
        }
}

static int on_bitmap(void *opaque, const struct fmt_bitmap *b)
{
        assert_true(!strcmp(b->name, "a") || !strcmp(b->name, "b") || !strcmp(b->name, "ones"));
        return 0;
}

/* One version or the other; the last byte of a bitmap may be cut. */
static void on_bits(void *opaque, uint64_t at, const void *bytes, uint64_t len)
{
        const uint8_t *b = bytes;

        for (uint64_t i = 0; b && i < len; i++)
                if (b[i] != b[0] || (b[i] != 0x11 && b[i] != 0x22))
                        fail_msg("a bitmap that is not in use has bits that nobody stored (0x%02x)", b[i]);
}

static int check_bitmaps(struct fmt_image *img)
{
        const struct fmt_bitmap_reader reader = { .bitmap = on_bitmap, .put = on_bits };

        return qcow2_bitmaps_read_all(img, &reader);
}

static void check_crashed(struct file *f, const char *what, size_t at, unsigned seed, struct qcow2_header *h)
{
        struct fmt_image img = { .file = f };
        struct fmt_check chk = { .finding = print_finding };
        int r = qcow2_header_read(f, 0, h);

        if (r == 0)
                r = qcow2_check(&img, &chk);
        if (r == 0)
                r = check_bitmaps(&img);
        if (r == 0 && h->backing_name)
                if (strcmp(h->backing_name, BACKING "1") || strcmp(h->backing_format, "raw"))
                        if (strcmp(h->backing_name, BACKING "2") || strcmp(h->backing_format, "qcow2"))
                                fail_msg("%s, power lost after %zu events, seed %u: backing file '%s'", what, at, seed,
                                         h->backing_name);
        if (r < 0 || chk.corruptions || chk.check_errors || chk.leaks)
                fail_msg("%s, power lost after %zu events, seed %u: %s", what, at, seed, r ? err_text(r) : "not clean");
}

static void run_power_failures(const struct op *op, const void *base, size_t len, unsigned seed, bool damaged)
{
        struct recorder *rec = calloc(1, sizeof(*rec));
        struct fmt_image img = { 0 };
        unsigned first_seed = seed;

        rec->tap.event = record;
        ok(file_open_mem(base, len, &img.file));
        img.file->tap = &rec->tap;
        ok(op->run(&img));
        file_close(img.file);
        assert_true(rec->n > 2);
        for (size_t at = damaged ? rec->n : 0; at <= rec->n; at++)
                for (unsigned i = 0; i < 6; i++) {
                        struct qcow2_header h;
                        struct file *f;

                        crashed_file(rec, base, len, at, &seed, &f);
                        check_crashed(f, op->what, at, first_seed, &h);
                        qcow2_header_finish(&h);
                        file_close(f);
                }
        for (size_t i = 0; i < rec->n; i++)
                free(rec->ev[i].bytes);
        free(rec);
}

static void test_power_failures(void **state)
{
        unsigned seed = (unsigned)time(NULL);

        print_message("seed %u\n", seed);
        for (size_t g = 0; g < ARRAY_SIZE(geometries); g++) {
                AUTO(freep) uint8_t *base = NULL;
                struct fmt_image img;
                size_t len;

                make_base(geometries[g]);
                img = rest_open("base", FILE_RDONLY);
                len = img.file->size;
                base = malloc(len);
                ok(file_pread(img.file, base, len, 0));
                file_close(img.file);
                for (size_t o = 0; o < ARRAY_SIZE(ops) - 1; o++)
                        run_power_failures(&ops[o], base, len, seed, false);
                be64_put(base + be64_get(base + QH_REFTABLE_OFFSET), 0); /* repair: a refcount block is lost */
                run_power_failures(&ops[ARRAY_SIZE(ops) - 1], base, len, seed, true);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_stopped_anywhere),
                cmocka_unit_test(test_power_failures),
        };

        return cmocka_run_group_tests(tests, rest_setup, rest_teardown);
}
