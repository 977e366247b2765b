/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2 check and repair: each structure damaged in turn; what we find QEMU finds, what we repair is clean for both. */
#include "qcow2_rest.h"

#include "common/range.h"
#include "formats/qcow2/l2e.h"
#include "formats/qcow2/refcount_bits.h"
#include "formats/qcow2/at_rest/txn.h"

/* An image under the knife. */
struct patient {
        struct file *f;
        struct qcow2_header h;
        uint64_t *l1, *blocks;
        uint64_t l2; /* of the first L1 entry */
};

static uint64_t entry_get(struct file *f, uint64_t off)
{
        uint8_t b[8];

        ok(file_pread(f, b, 8, off));
        return be64_get(b);
}

static void entry_put(struct file *f, uint64_t off, uint64_t e)
{
        uint8_t b[8];

        be64_put(b, e);
        ok(file_pwrite(f, b, 8, off));
}

static void set_refcount(struct patient *p, uint64_t off, uint64_t value)
{
        AUTO(freep) uint8_t *block = malloc(p->h.cluster_size);
        uint64_t per = refcount_per_block(p->h.cluster_size, p->h.refcount_order), i = off >> p->h.cluster_bits;

        ok(file_pread(p->f, block, p->h.cluster_size, p->blocks[i / per]));
        refcount_set(block, p->h.refcount_order, i % per, value);
        ok(file_pwrite(p->f, block, p->h.cluster_size, p->blocks[i / per]));
}

/* The descriptor of entry @i; what follows it are sub-clusters, if there are any. */
static uint64_t l2e_at(struct patient *p, unsigned i)
{
        return p->l2 + i * 8 * l2e_words(&p->h);
}

static uint64_t l2e(struct patient *p, unsigned i)
{
        return entry_get(p->f, l2e_at(p, i));
}

static void set_l2e(struct patient *p, unsigned i, uint64_t e)
{
        entry_put(p->f, l2e_at(p, i), e);
}

/* The damages. Guest cluster 0 holds pattern 1 and is spared; 1..7 hold pattern 2. */
static void lost_refcount(struct patient *p) { set_refcount(p, l2e_offset(l2e(p, 1)), 0); }
static void lost_own_refcounts(struct patient *p)
{
        set_refcount(p, 0, 0);
        set_refcount(p, p->h.l1_offset, 0);
        set_refcount(p, p->h.reftable_offset, 0);
        set_refcount(p, p->blocks[0], 0);
        set_refcount(p, p->l2, 0);
}
static void lost_block(struct patient *p) { entry_put(p->f, p->h.reftable_offset, 0); }
static void block_unaligned(struct patient *p) { entry_put(p->f, p->h.reftable_offset, p->blocks[0] + 512); }
static void block_reserved_bits(struct patient *p) { entry_put(p->f, p->h.reftable_offset, p->blocks[0] | 1); }
static void block_beyond(struct patient *p) { entry_put(p->f, p->h.reftable_offset, 1ull << 40); }
static void block_is_l1(struct patient *p) { entry_put(p->f, p->h.reftable_offset, p->h.l1_offset); }
static void block_is_table(struct patient *p) { entry_put(p->f, p->h.reftable_offset, p->h.reftable_offset); }
static void block_of_noise(struct patient *p)
{
        AUTO(freep) uint8_t *noise = malloc(p->h.cluster_size);

        memset(noise, 0x5a, p->h.cluster_size);
        ok(file_pwrite(p->f, noise, p->h.cluster_size, p->blocks[0]));
}
static void copied_lost(struct patient *p) { set_l2e(p, 1, l2e(p, 1) & ~QCOW2_COPIED); }
static void copied_lost_l1(struct patient *p) { entry_put(p->f, p->h.l1_offset, p->l1[0] & ~QCOW2_COPIED); }
static void l2_unaligned(struct patient *p) { set_l2e(p, 1, l2e(p, 1) + 512); }
static void l2_beyond(struct patient *p) { set_l2e(p, 1, 1ull << 50 | QCOW2_COPIED); }
static void l2_reserved_bits(struct patient *p) { set_l2e(p, 1, l2e(p, 1) | 1ull << 60); }
static void l2_into_header_table(struct patient *p) { set_l2e(p, 1, p->h.reftable_offset | QCOW2_COPIED); }
static void l2_shares_data(struct patient *p) { set_l2e(p, 1, l2e(p, 2)); }
static void l2_packed_beyond(struct patient *p) { set_l2e(p, 1, QCOW2_L2_COMPRESSED | 1ull << 44); }
static void l2_packed_copied(struct patient *p)
{
        set_l2e(p, 1, QCOW2_COPIED | QCOW2_L2_COMPRESSED | l2e_offset(l2e(p, 1)));
}
static void l1_unaligned(struct patient *p) { entry_put(p->f, p->h.l1_offset + 8, (p->l2 + 512) | QCOW2_COPIED); }
static void l1_beyond(struct patient *p) { entry_put(p->f, p->h.l1_offset + 8, 1ull << 50 | QCOW2_COPIED); }
static void l1_reserved_bits(struct patient *p) { entry_put(p->f, p->h.l1_offset, p->l1[0] | 1); }
static void l1_into_tables(struct patient *p) { entry_put(p->f, p->h.l1_offset + 8, p->h.reftable_offset | QCOW2_COPIED); }
static void l1_shares_table(struct patient *p) { entry_put(p->f, p->h.l1_offset + 8, p->l1[0]); }
static void no_table(struct patient *p)
{
        p->h.reftable_clusters = 0;
        ok(qcow2_header_switch(p->f, &p->h));
}
static void table_beyond(struct patient *p)
{
        p->h.reftable_offset = 1ull << 40;
        ok(qcow2_header_switch(p->f, &p->h));
}
static void marked_dirty(struct patient *p)
{
        lost_refcount(p);
        p->h.incompatible |= QCOW2_INCOMPAT_DIRTY;
        ok(qcow2_header_switch(p->f, &p->h));
}
static void marked_corrupt(struct patient *p)
{
        lost_refcount(p);
        p->h.incompatible |= QCOW2_INCOMPAT_CORRUPT;
        ok(qcow2_header_switch(p->f, &p->h));
}
static void leak(struct patient *p)
{
        uint64_t end = round_up(p->f->size, p->h.cluster_size);

        ok(file_truncate(p->f, end + 3 * p->h.cluster_size));
        set_refcount(p, end + p->h.cluster_size, 1);
        set_refcount(p, l2e_offset(l2e(p, 1)), 2);
        copied_lost(p);
}

static void subs_both(struct patient *p) { entry_put(p->f, l2e_at(p, 1) + 8, 0x7ull << 32 | UINT32_MAX); }
static void subs_nowhere(struct patient *p) { set_l2e(p, 1, 0); }
static void subs_of_packed(struct patient *p) { set_l2e(p, 1, QCOW2_L2_COMPRESSED | l2e_offset(l2e(p, 1))); }
static void subs_zero_bit(struct patient *p) { set_l2e(p, 1, l2e(p, 1) | QCOW2_L2_ZERO); }

static const struct {
        const char *what;
        void (*damage)(struct patient *p);
        bool qemu_silent; /* QEMU 7.2 cannot open the image for its check, or does not see it */
} damages[] = {
        { "lost refcount", lost_refcount, false },
        { "lost refcounts of the tables", lost_own_refcounts, false },
        { "lost refcount block", lost_block, false },
        { "unaligned refcount block", block_unaligned, false },
        { "refcount table entry with reserved bits", block_reserved_bits, false },
        { "refcount block beyond the file", block_beyond, false },
        { "refcount block is the L1 table", block_is_l1, false },
        { "refcount block is the refcount table", block_is_table, false },
        { "refcount block of noise", block_of_noise, false },
        { "lost COPIED bit", copied_lost, false },
        { "lost COPIED bit in L1", copied_lost_l1, false },
        { "unaligned data", l2_unaligned, false },
        { "data beyond the file", l2_beyond, false },
        { "reserved bits in L2", l2_reserved_bits, false },
        { "data in the refcount table", l2_into_header_table, false },
        { "two clusters, one place", l2_shares_data, false },
        { "compressed data beyond the file", l2_packed_beyond, false },
        { "compressed with COPIED", l2_packed_copied, false },
        { "unaligned L2 table", l1_unaligned, false },
        { "L2 table beyond the file", l1_beyond, false },
        { "reserved bits in L1", l1_reserved_bits, false },
        { "L2 table in the refcount table", l1_into_tables, false },
        { "two L1 entries, one table", l1_shares_table, false },
        { "no refcount table", no_table, false },
        { "refcount table beyond the file", table_beyond, true },
        { "dirty", marked_dirty, false },
        { "corrupt", marked_corrupt, false },
        { "leaks", leak, false },
        { "sub-clusters that are data and zeros", subs_both, false },
        { "sub-clusters of no cluster", subs_nowhere, false },
        { "sub-clusters of a compressed cluster", subs_of_packed, false },
        { "zero bit beside sub-clusters", subs_zero_bit, true },
};

static bool fits(size_t i, const char *geometry)
{
        bool subs = strstr(geometry, "extended_l2");

        if (damages[i].damage == l2_packed_copied && strstr(geometry, "=2"))
                return false; /* two bits are enough, but the neighbour's sectors would be counted as well */
        return subs || !strstr(damages[i].what, "sub-clusters");
}

static const char *const geometries[] = {
        "cluster_size=4k", "cluster_size=64k", "cluster_size=64k,refcount_bits=64", "cluster_size=4k,refcount_bits=2",
        "cluster_size=4k,compat=0.10", "cluster_size=64k,extended_l2=on",
};

static void make(const char *name, const char *opts, void (*damage)(struct patient *p))
{
        struct fmt_image img;
        struct patient p = { 0 };
        unsigned kib = strstr(opts, "64k") ? 64 : 4;

        ok(rest_create(name, 2ull << 30, opts));
        must("qemu-io -f qcow2 -c 'write -P 1 0 %uk' -c 'write -P 2 %uk %uk' %s >out", kib, kib, 7 * kib, name);
        img = rest_open(name, 0);
        p.f = img.file;
        ok(qcow2_header_read(p.f, 0, &p.h));
        ok(qcow2_table_read(p.f, p.h.l1_offset, p.h.l1_entries, &p.l1));
        ok(qcow2_table_read(p.f, p.h.reftable_offset, qcow2_reftable_entries(&p.h), &p.blocks));
        p.l2 = l1e_offset(p.l1[0]);
        if (damage)
                damage(&p);
        free(p.l1);
        free(p.blocks);
        qcow2_header_finish(&p.h);
        file_close(img.file);
}

/* QEMU's reply: 0 clean, 2 errors, 3 leaks, 1 could not look. */
static int qemu_check(const char *name)
{
        return sh("qemu-img check %s >out 2>&1", name);
}

static void test_damage_is_found_and_repaired(void **state)
{
        for (size_t g = 0; g < ARRAY_SIZE(geometries); g++)
                for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
                        struct fmt_check look = { 0 }, fix = { .fix_all = true };
                        char what[128];

                        if (!fits(i, geometries[g]))
                                continue;
                        snprintf(what, sizeof(what), "%s, %s", damages[i].what, geometries[g]);
                        make("a", geometries[g], damages[i].damage);
                        if (!damages[i].qemu_silent && qemu_check("a") == 0)
                                fail_msg("%s: QEMU sees nothing: a bad test", what);
                        ok(rest_check("a", &look));
                        if (!look.corruptions && !look.leaks)
                                fail_msg("%s: not found", what);
                        ok(rest_check("a", &fix));
                        if (fix.corruptions || fix.leaks || fix.corruptions_fixed + fix.leaks_fixed == 0)
                                fail_msg("%s: not repaired", what);
                        rest_clean("a", what);
                        must("qemu-io -f qcow2 -c 'read -P 1 0 4k' -c 'write -P 3 1G 1M' a >out && ! grep -q -i fail out");
                        rest_clean("a", what);
                }
}

static uint64_t number(json_t *j, const char *key)
{
        return (uint64_t)json_integer_value(json_object_get(j, key)); /* 0 when it is not there */
}

/* The same figures as qemu-img check, on clean and on leaky images. */
static void test_figures_like_qemu(void **state)
{
        for (unsigned i = 0; i < 3; i++) {
                struct fmt_check chk = { 0 };
                json_t *j;

                make("src", "cluster_size=64k", i == 1 ? leak : NULL);
                must("qemu-io -f qcow2 -c 'write 70k 3M' -c 'write -z 5M 1M' -c 'write 100M 1M' -c 'write 50M 300k' src >out");
                must(i == 2 ? "qemu-img convert -c -O qcow2 src a" : "cp src a");
                j = rest_json("qemu-img check --output=json", "a");
                ok(rest_check("a", &chk));
                assert_int_equal(chk.leaks, number(j, "leaks"));
                assert_int_equal(chk.leaks > 0, i == 1);
                assert_int_equal(chk.corruptions, number(j, "corruptions"));
                assert_int_equal(chk.total_clusters, number(j, "total-clusters"));
                assert_int_equal(chk.allocated_clusters, number(j, "allocated-clusters"));
                assert_int_equal(chk.fragmented_clusters, number(j, "fragmented-clusters"));
                assert_int_equal(chk.compressed_clusters, number(j, "compressed-clusters"));
                if (i != 1)
                        assert_int_equal(chk.image_end_offset, number(j, "image-end-offset"));
                json_decref(j);
        }
}

static void test_fix_leaks_only(void **state)
{
        struct fmt_check fix = { .fix_leaks = true }, fix2 = { .fix_leaks = true };

        make("a", "cluster_size=64k", leak);
        ok(rest_check("a", &fix));
        assert_int_equal(fix.leaks, 0);
        assert_int_equal(fix.leaks_fixed, 2);
        rest_clean("a", "leaks given back");
        make("a", "cluster_size=64k", lost_refcount);
        must("cp a b");
        ok(rest_check("a", &fix2));
        assert_int_not_equal(fix2.corruptions, 0);
        must("cmp a b"); /* errors are not its business, and with errors leaks are not sure */
}

/* A field of the snapshot table of "a", which has two snapshots. */
static void spoil_snapshot(unsigned field, uint32_t value)
{
        struct fmt_image img;
        struct qcow2_header h;
        uint8_t bad[4];

        make("a", "cluster_size=64k", NULL);
        ok(rest_snap("a", 'c', "one"));
        must("qemu-io -f qcow2 -c 'write -P 4 0 64k' a >out");
        ok(rest_snap("a", 'c', "two"));
        img = rest_open("a", 0);
        ok(qcow2_header_read(img.file, 0, &h));
        be32_put(bad, value);
        ok(file_pwrite(img.file, bad, 4, h.snapshots_offset + field));
        qcow2_header_finish(&h);
        file_close(img.file);
        must("cp a b");
}

/*
 * With a damaged snapshot table nobody knows what is in use: nothing may be freed. Only -r all gives up what cannot be
 * read, as qemu-img does, and keeps the other snapshots.
 */
static void test_damaged_snapshot_table(void **state)
{
        static const struct {
                unsigned field;
                uint32_t value;
                const char *left; /* of the snapshots "one" and "two" */
        } cases[] = {
                { QS_EXTRA_SIZE, QCOW2_MAX_SNAPSHOT_EXTRA + 1, "" }, /* all behind it is read from the wrong place */
                { QS_L1_OFFSET + 4, 0x12345, "two" },
                { QS_L1_ENTRIES, QCOW2_MAX_L1_ENTRIES + 1, "two" },
                { QS_EXTRA_SIZE, 8, "" },
                { QS_ID_SIZE, 0xffffffff, "" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct fmt_check look = { 0 }, leaks = { .fix_leaks = true }, fix = { .fix_leaks = true, .fix_all = true };

                spoil_snapshot(cases[i].field, cases[i].value);
                ok(rest_check("a", &look));
                assert_int_not_equal(look.corruptions, 0);
                (void)rest_check("a", &leaks);
                assert_int_not_equal(rest_snap("a", 'd', "one"), 0);
                must("cmp a b");
                ok(rest_check("a", &fix));
                rest_clean("a", "what could not be read given up");
                if (cases[i].left[0])
                        must("qemu-img snapshot -l a | grep -q %s", cases[i].left);
        }
}

static void test_flaws_in_a_snapshot(void **state)
{
        struct fmt_check fix = { .fix_all = true };
        struct fmt_image img;
        struct qcow2_header h;
        uint64_t l1_off, l2;

        make("a", "cluster_size=64k", NULL);
        ok(rest_snap("a", 'c', "one"));
        must("qemu-io -f qcow2 -c 'write -P 4 0 512k' a >out"); /* the snapshot's table is its own now */
        img = rest_open("a", 0);
        ok(qcow2_header_read(img.file, 0, &h));
        l1_off = entry_get(img.file, h.snapshots_offset + QS_L1_OFFSET);
        l2 = l1e_offset(entry_get(img.file, l1_off));
        entry_put(img.file, l2 + 8, 1ull << 50);
        qcow2_header_finish(&h);
        file_close(img.file);
        assert_int_equal(qemu_check("a"), 2);
        ok(rest_check("a", &fix));
        rest_clean("a", "repaired snapshot");
        must("qemu-img snapshot -a one a");
        must("qemu-io -f qcow2 -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k' -c 'read -P 2 128k 64k' a >out && ! grep -q -i fail out");
}

static void test_dirty_image_is_counted(void **state)
{
        struct fmt_image img;

        make("a", "cluster_size=64k", marked_dirty);
        img = rest_open("a", 0);
        ok(qcow2_repair_refcounts(img.file));
        file_close(img.file);
        rest_clean("a", "counted");
        make("a", "cluster_size=64k", l2_beyond);
        img = rest_open("a", 0);
        assert_int_equal(qcow2_repair_refcounts(img.file), -EIO);
        file_close(img.file);
}

/* 1 or 0: does the header say so? */
static bool has_bit(const char *name, bool dirty)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        struct fmt_image img = rest_open(name, FILE_RDONLY);

        ok(qcow2_header_read(img.file, 0, &h));
        file_close(img.file);
        return dirty ? h.incompatible & QCOW2_INCOMPAT_DIRTY : h.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS;
}

/* QEMU with lazy refcounts is killed: the image is dirty, its refcounts are behind. */
static void make_lazy(const char *options)
{
        must("qemu-img create -q -f qcow2 -o lazy_refcounts=on,%s lazy 64M", options);
        must("qemu-io -f qcow2 -c 'write -P 7 1M 1M' -c flush -c 'sigraise 9' lazy >out 2>&1; true");
        assert_true(has_bit("lazy", true) && has_bit("lazy", false));
}

static void open_lazy(unsigned flags, int byte)
{
        struct fmt_open_opts opts = { .format = "qcow2", .flags = flags };
        unsigned char buf[4096];
        struct fmt_image *img;
        char path[128];

        snprintf(path, sizeof(path), "%s/lazy", rest_dir);
        ok(chain_open(path, &opts, &img));
        ok(chain_read_sync(img, buf, sizeof(buf), 1u << 20));
        assert_int_equal(buf[0], byte);
        assert_int_equal(buf[4095], byte);
        if (!(flags & FMT_RDONLY))
                ok(fmt_settle_sync(img));
        chain_close(img);
}

/* Read as it is; counted before the first write; and an option of the image stays what it is. */
static void test_lazy_refcounts_of_a_killed_qemu(void **state)
{
        static const char *const options[] = { "cluster_size=64k", "cluster_size=128k,extended_l2=on" };

        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                struct fmt_check look = { 0 }, fix = { .fix_all = true };

                make_lazy(options[i]);
                open_lazy(FMT_RDONLY, 7);
                assert_true(has_bit("lazy", true));
                open_lazy(0, 7);
                assert_false(has_bit("lazy", true));
                assert_true(has_bit("lazy", false));
                rest_clean("lazy", "opened for writing");

                make_lazy(options[i]);
                ok(rest_check("lazy", &look));
                assert_true(look.corruptions > 0);
                ok(rest_check("lazy", &fix));
                assert_false(has_bit("lazy", true));
                rest_clean("lazy", "repaired");

                make_lazy(options[i]);
                ok(rest_snap("lazy", 'c', "one"));
                rest_clean("lazy", "snapshot");
                open_lazy(0, 7);
                assert_true(has_bit("lazy", false));
        }
}

static void test_bitmaps_are_kept(void **state)
{
        make("a", "cluster_size=64k", NULL);
        must("qemu-img bitmap --add a stamp && qemu-img bitmap --add --disable a other");
        must("qemu-io -f qcow2 -c 'write 1M 1M' a >out");
        rest_clean("a", "bitmaps");
        ok(rest_snap("a", 'c', "one"));
        rest_clean("a", "bitmaps and a snapshot");
        must("qemu-img info a | grep -q stamp");
        assert_int_equal(rest_resize("a", 4ull << 30, false), -ENOTSUP);
}

/* -r all gives up bitmaps whose tables cannot be, and a feature bit that says there are some. Nothing else is lost. */
static void test_damaged_bitmaps(void **state)
{
        static const uint8_t far[8] = { 0, 0, 0x12, 0x34, 0, 0, 0, 0 };
        struct fmt_check look = { 0 }, fix = { .fix_leaks = true, .fix_all = true }, fix2 = fix;
        struct fmt_image img;
        struct qcow2_header h;
        uint8_t autoclear[8];

        make("a", "cluster_size=64k", NULL);
        must("qemu-img bitmap --add a stamp && qemu-io -f qcow2 -c 'write 1M 1M' a >out");
        img = rest_open("a", 0);
        ok(qcow2_header_read(img.file, 0, &h));
        ok(file_pwrite(img.file, far, sizeof(far), h.bitmap_dir_offset + QBM_TABLE_OFFSET));
        qcow2_header_finish(&h);
        file_close(img.file);
        ok(rest_check("a", &look));
        assert_int_not_equal(look.corruptions, 0);
        ok(rest_check("a", &fix));
        rest_clean("a", "damaged bitmaps given up");

        make("a", "cluster_size=64k", NULL);
        img = rest_open("a", 0);
        be64_put(autoclear, QCOW2_AUTOCLEAR_BITMAPS);
        ok(file_pwrite(img.file, autoclear, sizeof(autoclear), QH_AUTOCLEAR));
        file_close(img.file);
        ok(rest_check("a", &fix2));
        assert_int_equal(fix2.corruptions_fixed, 1);
        rest_clean("a", "no bitmaps, but their bit");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_damage_is_found_and_repaired),
                cmocka_unit_test(test_figures_like_qemu),
                cmocka_unit_test(test_fix_leaks_only),
                cmocka_unit_test(test_damaged_snapshot_table),
                cmocka_unit_test(test_flaws_in_a_snapshot),
                cmocka_unit_test(test_dirty_image_is_counted),
                cmocka_unit_test(test_lazy_refcounts_of_a_killed_qemu),
                cmocka_unit_test(test_bitmaps_are_kept),
                cmocka_unit_test(test_damaged_bitmaps),
        };

        return cmocka_run_group_tests(tests, rest_setup, rest_teardown);
}
