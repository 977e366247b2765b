/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps that a qcow2 image keeps: ours and QEMU's on the same files, damaged ones, and their life on a volume. */
#include "qcow2_rest.h"

#include "blkq/bitmaps/bitmap_set.h"
#include "blkq/vol.h"
#include "formats/drivers.h"
#include "formats/qcow2/at_rest/bitmap_table.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

/* Dirty parts of @name as "off+len off+len", in KiB; "?": inconsistent, "-": not there. */
static const char *dirty(const struct bitmap_set *s, const char *name)
{
        const struct named_bitmap *b = bitmap_set_find(s, name);
        static char text[512];
        uint64_t off, len;
        size_t n = 0;

        if (!b || !b->bits)
                return b ? "?" : "-";
        text[0] = 0;
        for (uint64_t at = 0; n < 400 && dirty_bitmap_next(b->bits, at, UINT64_MAX, &off, &len); at = off + len)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llu+%llu", n ? " " : "", (unsigned long long)(off / KIB),
                                      (unsigned long long)(len / KIB));
        return text;
}

/* As they are in the file; nothing is marked. */
static void expect(const char *name, const char *bitmap, const char *parts)
{
        AUTO(bitmap_set_finish) struct bitmap_set s = { 0 };
        struct fmt_image img = rest_open(name, FILE_RDONLY);

        img.drv = &qcow2_driver;
        img.read_only = true;
        img.size = 64 * MIB;
        ok(bitmap_set_load(&s, &img));
        file_close(img.file);
        assert_string_equal(dirty(&s, bitmap), parts);
}

/* --- with QEMU ---------------------------------------------------------------------------------------------------- */

static void test_of_qemu(void **state)
{
        must("qemu-img create -q -f qcow2 q 64M && qemu-img bitmap --add -g 64k q auto && "
             "qemu-img bitmap --add -g 4k --disable q off && qemu-io -f qcow2 -c 'write 1M 100k' -c 'discard 8M 1M' q >out");
        expect("q", "auto", "1024+128 8192+1024");
        expect("q", "off", "");
        must("qemu-img bitmap --merge auto q off");
        expect("q", "off", "1024+128 8192+1024");
        must("qemu-img bitmap --add q all && qemu-io -f qcow2 -c 'discard 0 64M' q >out"); /* QEMU writes no cluster for ones */
        expect("q", "all", "0+65536");
        rest_clean("q", "QEMU's bitmaps");
}

/* What QEMU reads from our bits: merged into one of its own and written back; and it records into ours. */
static void test_for_qemu(void **state)
{
        struct fmt_image img;
        struct bitmap_set s;
        struct named_bitmap *b;

        ok(rest_create("o", 64 * MIB, "cluster_size=4k"));
        img = rest_open("o", 0);
        img.drv = &qcow2_driver;
        img.size = 64 * MIB;
        ok(bitmap_set_load(&s, &img));
        ok(bitmap_set_add(&s, &img, img.size, "fine", 512, true, NULL, &b));
        for (uint64_t off = 0; off < 64 * MIB; off += 3 * MIB)
                dirty_bitmap_set(b->bits, off, 1024);
        dirty_bitmap_set(b->bits, 32 * MIB, 32 * MIB); /* whole clusters of ones */
        ok(bitmap_set_add(&s, &img, img.size, "none", 1u << 31, true, NULL, &b));
        dirty_bitmap_record(b->bits, false);
        ok(bitmap_set_store(&s, &img));
        bitmap_set_finish(&s);
        file_close(img.file);
        rest_clean("o", "our bitmaps");
        expect("o", "fine", "0+1 3072+1 6144+1 9216+1 12288+1 15360+1 18432+1 21504+1 24576+1 27648+1 30720+1 32768+32768");
        must("qemu-img bitmap --add -g 512 --merge fine o copy && qemu-io -f qcow2 -c 'write 1M 4k' o >out");
        expect("o", "copy", "0+1 1024+4 3072+1 6144+1 9216+1 12288+1 15360+1 18432+1 21504+1 24576+1 27648+1 30720+1 32768+32768");
        expect("o", "fine", "0+1 1024+4 3072+1 6144+1 9216+1 12288+1 15360+1 18432+1 21504+1 24576+1 27648+1 30720+1 32768+32768");
        expect("o", "none", "");
        rest_clean("o", "after QEMU used them");
}

/* --- damaged ------------------------------------------------------------------------------------------------------ */

enum where { IN_EXT, IN_DIR, IN_TABLE };
static const struct {
        const char *what;
        enum where where;
        unsigned at, size;
        uint64_t value;
        const char *says;
} wrong[] = {
        { "no bitmaps", IN_EXT, QBX_COUNT, 4, 0, "must be 1 to" },
        { "too many bitmaps", IN_EXT, QBX_COUNT, 4, 65536, "must be 1 to" },
        { "more than the directory has", IN_EXT, QBX_COUNT, 4, 3, "directory" },
        { "fewer than the directory has", IN_EXT, QBX_COUNT, 4, 1, "its entries" },
        { "reserved", IN_EXT, QBX_RESERVED, 4, 1, "reserved" },
        { "huge directory", IN_EXT, QBX_DIR_SIZE, 8, 1ull << 40, "limit" },
        { "odd directory", IN_EXT, QBX_DIR_OFFSET, 8, 512, "directory" },
        { "directory outside", IN_EXT, QBX_DIR_OFFSET, 8, 1ull << 40, "directory" },
        { "odd table", IN_DIR, QBM_TABLE_OFFSET, 8, 4096, "must begin at a cluster" },
        { "table outside", IN_DIR, QBM_TABLE_OFFSET, 8, 1ull << 50, "must begin at a cluster" },
        { "no table", IN_DIR, QBM_TABLE_OFFSET, 8, 0, "must begin at a cluster" },
        { "empty table", IN_DIR, QBM_TABLE_ENTRIES, 4, 0, "more than any may have" },
        { "long table", IN_DIR, QBM_TABLE_ENTRIES, 4, 2, "the disk needs 1" },
        { "huge table", IN_DIR, QBM_TABLE_ENTRIES, 4, UINT32_MAX, "more than any may have" },
        { "unknown flag", IN_DIR, QBM_FLAGS, 4, 8, "flags" },
        { "unknown type", IN_DIR, QBM_TYPE, 1, 2, "type 2" },
        { "too fine", IN_DIR, QBM_GRANULARITY, 1, 8, "granularity_bits" },
        { "too coarse", IN_DIR, QBM_GRANULARITY, 1, 32, "granularity_bits" },
        { "coarser than a shift goes", IN_DIR, QBM_GRANULARITY, 1, 64, "granularity_bits 64" },
        { "no name", IN_DIR, QBM_NAME_SIZE, 2, 0, "name" },
        { "long name", IN_DIR, QBM_NAME_SIZE, 2, 60000, "name" },
        { "extra data", IN_DIR, QBM_EXTRA_SIZE, 4, UINT32_MAX, "extra data" },
        { "the same name", IN_DIR, QBM_EXTRA, 1, 'b', "two bitmaps have the name" },
        { "a NUL", IN_DIR, QBM_EXTRA, 1, 0, "NUL" },
        { "reserved bits", IN_TABLE, 0, 8, 2, "reserved bits" },
        { "bits outside", IN_TABLE, 0, 8, 1ull << 40, "not a cluster of the file" },
        { "odd bits", IN_TABLE, 0, 8, 512, "not a cluster of the file" },
};

static uint64_t place(const struct qcow2_header *h, const uint8_t *file, enum where where)
{
        uint64_t at = h->length;

        if (where == IN_DIR)
                return h->bitmap_dir_offset;
        if (where == IN_TABLE)
                return be64_get(file + h->bitmap_dir_offset + QBM_TABLE_OFFSET);
        while (be32_get(file + at) != QCOW2_EXT_BITMAPS)
                at += QCOW2_EXT_HEADER + (be32_get(file + at + 4) + 7) / 8 * 8;
        return at + QCOW2_EXT_HEADER;
}

static int on_bitmap(void *opaque, const struct fmt_bitmap *b)
{
        return 0;
}

static void on_bits(void *opaque, uint64_t at, const void *bytes, uint64_t len)
{
}

static const struct fmt_bitmap_reader reader = { .bitmap = on_bitmap, .put = on_bits };

static void test_damaged(void **state)
{
        struct qcow2_header h;
        struct fmt_image img;
        static uint8_t file[4 << 20];
        uint64_t size;

        must("qemu-img create -q -f qcow2 d 64M && qemu-img bitmap --add d a && qemu-img bitmap --add d b && "
             "qemu-io -f qcow2 -c 'write 1M 100k' d >out");
        img = rest_open("d", FILE_RDONLY);
        ok(qcow2_header_read(img.file, 0, &h));
        size = img.file->size;
        assert_true(size <= sizeof(file));
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct fmt_image bad = { 0 };
                uint8_t *at;

                ok(file_pread(img.file, file, size, 0));
                at = file + place(&h, file, wrong[i].where) + wrong[i].at;
                for (unsigned k = 0; k < wrong[i].size; k++)
                        at[k] = (uint8_t)(wrong[i].value >> 8 * (wrong[i].size - 1 - k));
                ok(file_open_mem(file, size, &bad.file));
                err_clear();
                if (qcow2_bitmaps_read_all(&bad, &reader) >= 0)
                        fail_msg("%s: nothing is found wrong", wrong[i].what);
                if (!strstr(err_text(-EIO), wrong[i].says))
                        fail_msg("%s: \"%s\" does not say \"%s\"", wrong[i].what, err_text(-EIO), wrong[i].says);
                file_close(bad.file);
        }
        qcow2_header_finish(&h);
        file_close(img.file);
}

/* One cluster named again and again costs no more than the file is long. */
static void test_shared_clusters(void **state)
{
        struct qcow2_header h;
        struct fmt_image img;
        uint64_t table, entry;

        must("qemu-img create -q -f qcow2 -o cluster_size=512 s 64M && qemu-img bitmap --add -g 512 s a && "
             "qemu-io -f qcow2 -c 'write 0 512' s >out");
        img = rest_open("s", 0);
        ok(qcow2_header_read(img.file, 0, &h));
        ok(qcow2_bitmaps_read_all(&img, &reader));
        ok(file_pread(img.file, &table, sizeof(table), h.bitmap_dir_offset + QBM_TABLE_OFFSET));
        ok(file_pread(img.file, &entry, sizeof(entry), be64toh(table)));
        for (unsigned i = 0; i < 256 / 8 * 8; i++)
                ok(file_pwrite(img.file, &entry, sizeof(entry), be64toh(table) + i % 32 * 8));
        ok(file_truncate(img.file, 16 * KIB));
        err_clear();
        assert_true(qcow2_bitmaps_read_all(&img, &reader) < 0);
        qcow2_header_finish(&h);
        file_close(img.file);
}

/* --- on a volume -------------------------------------------------------------------------------------------------- */

struct closing {
        bool done;
        int res;
};

static void on_closed(void *opaque, int res)
{
        *(struct closing *)opaque = (struct closing){ true, res };
}

struct one {
        struct blk_req req;
        bool done;
};

static void on_one(struct blk_req *req, int res)
{
        struct one *o = container_of(req, struct one, req);

        assert_int_equal(res, 0);
        o->done = true;
}

static struct qthread *home;
static struct vol_port *port;

static struct vol *vol_start(const char *name)
{
        struct vol_opts vo = { .format = "qcow2", .writeback = true };
        struct qthread_opts qo = { .name = "test", .engine = { .kind = ENGINE_SYNC, .seed = 1 }, .inline_loop = true };
        char path[128];
        struct vol *v;

        snprintf(path, sizeof(path), "%s/%s", rest_dir, name);
        ok(qthread_new(&qo, &home));
        ok(vol_open(path, &vo, home, &v));
        ok(port_attach(v, home, &port));
        return v;
}

static void vol_write(uint64_t off, uint64_t len)
{
        char *buf = aligned_alloc(4096, len);
        struct iovec iov = { buf, len };
        struct one o = { .req = { .op = BLK_WRITE, .off = off, .len = len, .iov = &iov, .niov = 1, .done = on_one } };

        memset(buf, 'w', len);
        port_submit(port, &o.req);
        qthread_run(home, &o.done);
        free(buf);
}

static void vol_end(struct vol *v)
{
        struct closing c = { 0 };

        port_detach(port);
        vol_close(v, on_closed, &c);
        qthread_run(home, &c.done);
        qthread_free(home);
        assert_int_equal(c.res, 0);
}

static void test_volume(void **state)
{
        struct dirty_bitmap *bits;
        struct vol *v;

        ok(rest_create("v", 64 * MIB, NULL));
        v = vol_start("v");
        ok(vol_bitmap_add(v, "kept", 0, true, true));
        ok(vol_bitmap_add(v, "lost", 0, false, true));
        assert_int_equal(vol_bitmap_add(v, "kept", 0, true, true), -EEXIST);
        vol_write(MIB, 4 * KIB);
        vol_end(v);
        rest_clean("v", "closed");
        expect("v", "kept", "1024+64");
        expect("v", "lost", "-");

        v = vol_start("v"); /* goes on where it was; while it is open nobody believes what is in the file */
        expect("v", "kept", "?");
        vol_write(3 * MIB, 4 * KIB);
        ok(vol_bitmap_use(v, "kept", BITMAP_USE_CHANGE, "a test", &bits));
        assert_int_equal(vol_bitmap_remove(v, "kept"), -EBUSY);
        vol_bitmap_release(v, bits);
        ok(vol_bitmap_add(v, "second", 512, true, false));
        must("cp v killed");
        vol_end(v);
        rest_clean("v", "closed again");
        expect("v", "kept", "1024+64 3072+64");
        expect("v", "second", "");

        rest_clean("killed", "killed"); /* what a kill leaves: a clean image, an inconsistent bitmap, which can be removed */
        expect("killed", "kept", "?");
        must("qemu-img info killed | grep -q in-use");
        v = vol_start("killed");
        err_clear();
        assert_int_equal(vol_bitmap_use(v, "kept", BITMAP_USE_CHANGE, NULL, &bits), -EINVAL);
        assert_non_null(strstr(err_text(-EIO), "inconsistent"));
        vol_write(MIB, 4 * KIB);
        vol_end(v);
        expect("killed", "kept", "?");
        v = vol_start("killed");
        ok(vol_bitmap_remove(v, "kept"));
        vol_end(v);
        expect("killed", "kept", "-");
        rest_clean("killed", "without it");
}

static void on_resized(void *opaque, int res, const char *why)
{
        *(struct closing *)opaque = (struct closing){ true, res };
}

static void test_resized(void **state)
{
        struct closing c = { 0 };
        struct vol *v;

        must("qemu-img create -q -f qcow2 r 32M && qemu-img bitmap --add r a");
        v = vol_start("r");
        vol_write(MIB, 4 * KIB);
        ok(vol_resize(v, 64 * MIB, on_resized, &c));
        qthread_run(home, &c.done);
        assert_int_equal(c.res, 0);
        vol_write(63 * MIB, 4 * KIB);
        vol_end(v);
        rest_clean("r", "resized");
        expect("r", "a", "1024+64 64512+64");
}

/* Who does not keep them gives them up at once: they would tell lies. */
static void test_not_kept(void **state)
{
        struct fmt_open_opts how = { .format = "qcow2" };
        struct fmt_image *img;
        char path[128];

        must("qemu-img create -q -f qcow2 n 64M && qemu-img bitmap --add n a");
        snprintf(path, sizeof(path), "%s/n", rest_dir);
        ok(chain_open(path, &how, &img));
        chain_close(img);
        expect("n", "a", "-");
        must("qemu-img info n >info && ! grep -q bitmaps info");
        must("qemu-img check -q -r leaks n");
        rest_clean("n", "given up");
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_of_qemu),
                cmocka_unit_test(test_for_qemu),
                cmocka_unit_test(test_damaged),
                cmocka_unit_test(test_shared_clusters),
                cmocka_unit_test(test_volume),
                cmocka_unit_test(test_resized),
                cmocka_unit_test(test_not_kept),
        };

        return cmocka_run_group_tests(tests, rest_setup, rest_teardown);
}
