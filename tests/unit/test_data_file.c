/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images that keep their data in another file: where that file may be, what entries may say about it, that its size follows
 * the disk's, and that nothing stale in it is ever seen. QEMU's tools look at the same files.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qcow2_rest.h"

#include "common/range.h"
#include "formats/drivers.h"
#include "tests/lib/img_io.h"

#define MIB (1u << 20)
#define CS 65536u

static char image[128], data[128];

static int setup(void **state)
{
        int r = rest_setup(state);

        snprintf(image, sizeof(image), "%s/a.qcow2", rest_dir);
        snprintf(data, sizeof(data), "%s/a.data", rest_dir);
        return r;
}

static int create_at(const char *path, uint64_t size, const char *data_name, bool raw)
{
        struct fmt_option opts[] = { { "data_file", data_name }, { "data_file_raw", raw ? "on" : "off" } };
        struct fmt_create req = { .size = size, .opts = opts, .nopts = 2 };

        return fmt_create_path(path, &qcow2_driver, &req);
}

static void create(uint64_t size, const char *data_name, bool raw)
{
        must("rm -f a.qcow2 a.data");
        ok(create_at(image, size, data_name, raw));
}

static int open_at(const char *path, unsigned flags, const char *data_path, struct fmt_image **ret)
{
        struct fmt_layer layer = { .data_path = data_path };
        struct fmt_open_opts opts = { .format = "qcow2", .flags = flags, .layer = &layer };

        return chain_open(path, &opts, ret);
}

static struct fmt_image *open_ok(unsigned flags)
{
        struct fmt_image *img = NULL;
        int r = open_at(image, flags, NULL, &img);

        if (r < 0)
                fail_msg("%s", err_text(r));
        return img;
}

/* Opening fails, and the sentence has @word in it. */
static void refused(const char *path, const char *data_path, const char *word)
{
        struct fmt_image *img = NULL;
        int r = open_at(path, 0, data_path, &img);

        if (r >= 0)
                fail_msg("'%s' with '%s' was opened", path, data_path ? data_path : "what it names");
        if (!strstr(err_text(r), word))
                fail_msg("not a word of '%s': %s", word, err_text(r));
        err_clear();
}

static uint64_t size_of(const char *path)
{
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        return (uint64_t)st.st_size;
}

static void fill(struct fmt_image *img, uint64_t off, uint64_t len, int value)
{
        struct img_io io = { .img = img };
        AUTO(freep) char *buf = malloc(len);

        memset(buf, value, len);
        ok(img_write(&io, buf, len, off));
        ok(img_flush(&io));
}

static void holds(struct fmt_image *img, uint64_t off, uint64_t len, int value)
{
        AUTO(freep) char *buf = malloc(len);

        ok(chain_read_sync(img, buf, len, off));
        for (uint64_t i = 0; i < len; i++)
                if (buf[i] != value)
                        fail_msg("byte %llu is %d, not %d", (unsigned long long)(off + i), buf[i], value);
}

static void settle(struct fmt_image *img)
{
        ok(fmt_settle_sync(img));
        chain_close(img);
}

/* --- where it may be -------------------------------------------------------------------------------------------------- */

/* Writes @name into the image: no policy there, as an attacker would. */
static void name_it(const char *name)
{
        struct fmt_option opt = { "data_file", name };
        struct fmt_image img = { 0 };

        ok(file_open(image, 0, &img.file));
        ok(qcow2_amend(&img, &opt, 1, false));
        file_close(img.file);
}

static void test_only_beside_the_image(void **state)
{
        char name[256];

        create(MIB, "a.data", false);
        must("mkdir -p sub; ln -sf a.data link; ln -sfn sub linked; mkfifo pipe; cp a.data sub/d");
        settle(open_ok(0));
        name_it("sub/d");
        settle(open_ok(0));
        snprintf(name, sizeof(name), "%s/sub/../a.data", rest_dir); /* goes up, but not out */
        name_it(name);
        settle(open_ok(0));
        name_it("/etc/hostname");
        refused(image, NULL, "not in its own directory");
        name_it("../../../etc/hostname");
        refused(image, NULL, "is not in or below");
        name_it("link");
        refused(image, NULL, "symbolic link");
        name_it("linked/d");
        refused(image, NULL, "symbolic link");
        name_it("nbd://host/export");
        refused(image, NULL, "not a plain path");
        name_it("json:{\"driver\":\"null-co\"}");
        refused(image, NULL, "not a plain path");
        name_it("pipe");
        refused(image, NULL, "neither a regular file");
        name_it("nowhere");
        refused(image, NULL, "No such file");
        name_it("a.qcow2");
        refused(image, NULL, "");
        name_it("");
        refused(image, NULL, "does not say where");
}

static void test_operator_knows_better(void **state)
{
        struct fmt_image *img;
        struct fmt_layer layer = { .data_path = data };
        struct fmt_open_opts opts = { .format = "raw", .layer = &layer };

        create(MIB, "a.data", false);
        name_it("/etc/hostname");
        ok(open_at(image, 0, data, &img));
        settle(img);
        refused(image, image, "");                            /* the image itself */
        assert_true(chain_open(data, &opts, &img) < 0);       /* raw disks have none */
        err_clear();
}

static void test_locked_like_an_image(void **state)
{
        struct fmt_image *img;

        create(MIB, "a.data", false);
        img = open_ok(0);
        assert_int_not_equal(sh("qemu-io -f raw -c 'write 0 512' a.data >out"), 0);
        settle(img);
        must("qemu-io -f raw -c 'write 0 512' a.data >out");
}

/* --- what is in it ---------------------------------------------------------------------------------------------------- */

/* Whatever the file held before, the disk begins as zeros; and what was dropped does not come back. */
static void test_nothing_stale(void **state)
{
        struct fmt_image *img;

        create(MIB, "a.data", false);
        must("qemu-io -f raw -c 'write -P 0x55 0 1M' a.data >out");
        img = open_ok(0);
        holds(img, 0, MIB, 0);
        fill(img, 100 * 512, 512, 7);
        holds(img, 0, 100 * 512, 0);
        holds(img, 100 * 512, 512, 7);
        holds(img, 101 * 512, 2 * CS - 101 * 512, 0);
        settle(img);
        must("qemu-img check -q a.qcow2 && qemu-io -f qcow2 -c 'read -P 0 0 50k' -c 'read -P 7 50k 512' a.qcow2 >out");
}

static void test_raw_is_raw(void **state)
{
        static const unsigned flags[] = { 0, ZERO_MAY_UNMAP, ZERO_DISCARD };
        struct img_io io;
        struct fmt_image *img;
        struct file *f;
        char buf[CS];

        for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
                create(MIB, "a.data", true);
                img = open_ok(0);
                fill(img, 0, MIB, 9);
                io = (struct img_io){ .img = img };
                ok(img_zero(&io, CS + 512, CS, flags[i])); /* two parts of clusters */
                settle(img);
                ok(file_open(data, FILE_RDONLY, &f));
                ok(file_pread(f, buf, CS, CS + 512));
                for (size_t k = 0; k < CS; k++)
                        assert_int_equal(buf[k], 0);
                ok(file_pread(f, buf, 512, 2 * CS + 512));
                assert_int_equal(buf[0], 9);
                file_close(f);
        }
        must("qemu-img compare -f raw -F qcow2 a.data a.qcow2 >out");
}

/* Somebody writes to the raw file alone: the image says the same, also where the disk has grown. */
static void test_raw_has_all_entries(void **state)
{
        struct fmt_image *img;

        create(MIB, "a.data", true);
        img = open_ok(0);
        ok(qcow2_resize(img, 3 * MIB, false));
        chain_close(img);
        must("qemu-io -f raw -c 'write -P 3 2M 64k' -c 'write -P 4 0 64k' a.data >out");
        img = open_ok(FMT_RDONLY);
        holds(img, 2 * MIB, CS, 3);
        holds(img, 0, CS, 4);
        chain_close(img);
        rest_clean("a.qcow2", "raw, grown");
}

/* --- its size --------------------------------------------------------------------------------------------------------- */

static void test_size_follows(void **state)
{
        struct fmt_image *img;

        for (int raw = 0; raw < 2; raw++) {
                create(MIB, "a.data", raw);
                assert_int_equal(size_of(data), MIB);
                img = open_ok(0);
                fill(img, 0, MIB, 6);
                settle(img);
                img = open_ok(0);
                ok(qcow2_resize(img, 300 * 512, true));
                chain_close(img);
                assert_int_equal(size_of(data), 300 * 512);
                rest_clean("a.qcow2", "shrunk");
                must("truncate -s 2M a.data; qemu-io -f raw -c 'write -P 0x77 512k 1M' a.data >out"); /* a crash before the cut */
                img = open_ok(0);
                ok(qcow2_resize(img, MIB, false));
                chain_close(img);
                assert_int_equal(size_of(data), MIB);
                img = open_ok(FMT_RDONLY);
                holds(img, 0, 300 * 512, 6);
                holds(img, 300 * 512, MIB - 300 * 512, 0);
                chain_close(img);
                rest_clean("a.qcow2", "grown");
        }
}

static void test_short_file_is_stretched(void **state)
{
        struct fmt_image *img;

        create(MIB, "a.data", false);
        must("truncate -s 4k a.data");
        img = open_ok(FMT_RDONLY);
        holds(img, 0, MIB, 0);
        chain_close(img);
        assert_int_equal(size_of(data), 4096);
        settle(open_ok(0));
        assert_int_equal(size_of(data), MIB);
}

/* --- what it cannot have ---------------------------------------------------------------------------------------------- */

static void test_no_snapshots(void **state)
{
        struct fmt_image *img;

        create(MIB, "a.data", false);
        img = open_ok(0);
        assert_int_equal(qcow2_snapshot_create(img, "s"), -ENOTSUP);
        assert_false(fmt_can_pack(img));
        chain_close(img);
        err_clear();
}

/* The first L2 table's entry for @cluster becomes @entry, as a stranger would write it. */
static void set_entry(unsigned cluster, uint64_t entry)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        struct file *f;
        uint8_t b[8];
        uint64_t l2;

        ok(file_open(image, 0, &f));
        ok(qcow2_header_read(f, 0, &h));
        ok(file_pread(f, b, 8, h.l1_offset));
        be64_put(b, be64_get(b) & QCOW2_OFFSET_MASK);
        l2 = be64_get(b);
        be64_put(b, entry);
        ok(file_pwrite(f, b, 8, l2 + 8ull * cluster));
        file_close(f);
}

static void test_hostile_entries(void **state)
{
        static const struct {
                const char *what;
                unsigned cluster;
                uint64_t entry;
                bool reads; /* it can be read, as zeros */
                bool flaw;  /* check says so */
        } cases[] = {
                { "another place", 2, 3 * CS | QCOW2_COPIED, false, true },
                { "another place, zero", 2, 3 * CS | QCOW2_COPIED | QCOW2_L2_ZERO, false, true },
                { "offset 0 for another cluster", 2, QCOW2_COPIED, false, true },
                { "middle of a cluster", 2, (2 * CS + 512) | QCOW2_COPIED, false, true },
                { "compressed", 2, QCOW2_L2_COMPRESSED | 2 * CS, false, true },
                { "reserved bit", 2, 2 * CS | QCOW2_COPIED | 2, false, true },
                { "not COPIED", 2, 2 * CS, true, true },
                { "offset 0 for cluster 0", 0, QCOW2_COPIED, true, false },
                { "nothing for cluster 0", 0, 0, true, false },
                { "zero with COPIED alone", 2, QCOW2_COPIED | QCOW2_L2_ZERO, true, false },
        };
        char buf[512];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct fmt_check chk = { 0 };
                struct fmt_image *img;
                int r;

                print_message("%s\n", cases[i].what);
                create(MIB, "a.data", true);
                set_entry(cases[i].cluster, cases[i].entry);
                img = open_ok(FMT_RDONLY);
                r = chain_read_sync(img, buf, sizeof(buf), cases[i].cluster * CS);
                assert_int_equal(r, cases[i].reads ? 0 : -EIO);
                chain_close(img);
                img = open_ok(0);
                ok(qcow2_check(img, &chk));
                assert_int_equal(chk.corruptions != 0, cases[i].flaw);
                chk = (struct fmt_check){ .fix_all = true };
                ok(qcow2_check(img, &chk));
                chain_close(img);
                rest_clean("a.qcow2", cases[i].what);
                err_clear();
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_only_beside_the_image),
                cmocka_unit_test(test_operator_knows_better),
                cmocka_unit_test(test_locked_like_an_image),
                cmocka_unit_test(test_nothing_stale),
                cmocka_unit_test(test_raw_is_raw),
                cmocka_unit_test(test_raw_has_all_entries),
                cmocka_unit_test(test_size_follows),
                cmocka_unit_test(test_short_file_is_stretched),
                cmocka_unit_test(test_no_snapshots),
                cmocka_unit_test(test_hostile_entries),
        };

        return cmocka_run_group_tests(tests, setup, rest_teardown);
}
