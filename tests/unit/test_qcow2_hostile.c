/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images made to hurt: entries that contradict the format, one at a time, and then random damage to all tables.
 * The driver answers with an errno, stops writing, says so in the file, and never reads or writes out of bounds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "formats/qcow2/on_disk.h"
#include "tests/lib/img_io.h"
#include "tests/lib/tmp_image.h"

#define SIZE (1u << 20)
#define CLUSTER 4096u

static uint64_t seed;
static unsigned char *good;
static size_t good_len;

static int open_bytes(const void *bytes, size_t len, unsigned flags, struct fmt_image **img)
{
        struct fmt_open_opts opts = { .format = "qcow2", .flags = flags };
        struct file *f;

        assert_int_equal(file_open_mem(bytes, len, &f), 0);
        return fmt_open_file(f, &opts, img);
}

/* Where things are in the image that test_setup() had made. */
static uint64_t l1_at(void)
{
        return be64_get(good + QH_L1_OFFSET);
}
static uint64_t l2_at(void)
{
        return be64_get(good + l1_at()) & QCOW2_OFFSET_MASK;
}
static uint64_t reftable_at(void)
{
        return be64_get(good + QH_REFTABLE_OFFSET);
}

enum target { IN_L1, IN_L2, IN_REFTABLE };
enum outcome { READ_FAILS, WRITE_FAILS }; /* WRITE_FAILS: reads are fine */
static const struct {
        const char *what;
        enum target in;
        uint64_t set, clear, add_cluster_of; /* entry = (entry & ~clear) | set */
        enum outcome then;
} cases[] = {
        { "L2 entry not aligned", IN_L2, 0x200, 0, 0, READ_FAILS },
        { "L2 entry with a reserved bit", IN_L2, 1ull << 57, 0, 0, READ_FAILS },
        { "L2 entry beyond the file", IN_L2, 1ull << 50, 0, 0, READ_FAILS },
        { "L2 entry: refcount 1 of nothing", IN_L2, QCOW2_COPIED, QCOW2_OFFSET_MASK, 0, READ_FAILS },
        { "L2 entry into the header's cluster", IN_L2, 1, QCOW2_OFFSET_MASK | 1, 0, READ_FAILS },
        { "L2 entry into the L1 table", IN_L2, 0, QCOW2_OFFSET_MASK, 1, READ_FAILS },
        { "L2 entry into its own table", IN_L2, 0, QCOW2_OFFSET_MASK, 2, READ_FAILS },
        { "L2 entry into the refcount table", IN_L2, 0, QCOW2_OFFSET_MASK, 3, READ_FAILS },
        { "packed beyond the file", IN_L2, QCOW2_L2_COMPRESSED | 1ull << 45, QCOW2_COPIED, 0, READ_FAILS },
        { "L1 entry not aligned", IN_L1, 0x200, 0, 0, READ_FAILS },
        { "L1 entry with a reserved bit", IN_L1, 1ull << 60, 0, 0, READ_FAILS },
        { "L1 entry beyond the file", IN_L1, 1ull << 40, 0, 0, READ_FAILS },
        { "L1 entry into the header", IN_L1, 0, QCOW2_OFFSET_MASK, 0, READ_FAILS },
        { "L1 entry into the refcount table", IN_L1, 0, QCOW2_OFFSET_MASK, 3, READ_FAILS },
        { "refcount table entry with a reserved bit", IN_REFTABLE, 8, 0, 0, WRITE_FAILS },
        { "refcount table entry beyond the file", IN_REFTABLE, 1ull << 40, 0, 0, WRITE_FAILS },
};

static void damage(unsigned char *bytes, size_t i)
{
        uint64_t at = cases[i].in == IN_L1 ? l1_at() : cases[i].in == IN_L2 ? l2_at() : reftable_at();
        const uint64_t into[] = { 0, l1_at(), l2_at(), reftable_at() };
        uint64_t e = be64_get(bytes + at);

        e = (e & ~cases[i].clear) | cases[i].set | into[cases[i].add_cluster_of];
        if (!strcmp(cases[i].what, "L2 entry into the header's cluster"))
                e = QCOW2_L2_COMPRESSED | 512; /* a packed cluster may begin at any byte */
        be64_put(bytes + at, e);
}

static bool says_corrupt(struct fmt_image *img)
{
        const unsigned char *b = file_mem_bytes(img->file, &(size_t){ 0 });

        return be64_get(b + QH_INCOMPATIBLE) & QCOW2_INCOMPAT_CORRUPT;
}

static void test_entries(void **state)
{
        unsigned char buf[CLUSTER];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                unsigned char *bytes = malloc(good_len);
                struct fmt_image *img;
                struct img_io io = { 0 };
                int r;

                memcpy(bytes, good, good_len);
                damage(bytes, i);
                assert_int_equal(open_bytes(bytes, good_len, 0, &img), 0);
                io.img = img;
                r = img_read(&io, buf, sizeof(buf), 0);
                if (r != (cases[i].then == READ_FAILS ? -EIO : 0))
                        fail_msg("%s: read says %d", cases[i].what, r);
                memset(buf, 1, sizeof(buf));
                r = img_write(&io, buf, 512, SIZE - 2 * CLUSTER); /* nothing there yet: needs a cluster */
                if (r != -EIO || !img->corrupt)
                        fail_msg("%s: write says %d", cases[i].what, r);
                assert_int_equal(img_flush(&io), 0);
                if (!says_corrupt(img))
                        fail_msg("%s: the file does not say that it is corrupt", cases[i].what);
                assert_int_equal(img_settle(&io), 0);
                chain_close(img);
                free(bytes);
        }
}

/* A neighbour of the bad entry is changed, nobody looks at the bad one: what stands in the file stays there for a repair. */
static void test_bad_entry_stays(void **state)
{
        unsigned char *bytes = malloc(good_len), buf[512] = { 1 };
        struct fmt_image *img;
        struct img_io io = { 0 };
        const unsigned char *now;
        uint64_t bad;

        (void)state;
        memcpy(bytes, good, good_len);
        bad = l1_at() | QCOW2_COPIED;
        be64_put(bytes + l2_at(), bad);
        assert_int_equal(open_bytes(bytes, good_len, 0, &img), 0);
        io.img = img;
        assert_int_equal(img_write(&io, buf, sizeof(buf), SIZE - 2 * CLUSTER), -EIO);
        assert_true(img->corrupt);
        assert_int_equal(img_settle(&io), 0);
        now = file_mem_bytes(img->file, &(size_t){ 0 });
        assert_int_equal(be64_get(now + l2_at()), bad);
        chain_close(img);
        free(bytes);
}

/* --- random damage ---------------------------------------------------------------------------------------------------- */

static void hammer(struct fmt_image *img, uint64_t *state)
{
        unsigned char *buf = calloc(1, SIZE);
        struct img_io io = { .img = img };

        for (unsigned i = 0; i < 60; i++) {
                uint64_t off = rnd_below(state, img->size / 512) * 512;
                uint64_t len = min_u64((1 + rnd_below(state, 64)) * 512, img->size - off);
                unsigned kind = (unsigned)rnd_below(state, 6);
                int r;

                if (kind == 0)
                        r = img_flush(&io);
                else if (kind == 1)
                        r = img_zero(&io, off, len, (unsigned)rnd_below(state, 4));
                else if (kind < 4)
                        r = img_write(&io, buf, len, off);
                else
                        r = img_read(&io, buf, len, off);
                if (r < 0 && r != -EIO && r != -ENOSPC && r != -EFBIG && r != -ENOMEM)
                        fail_msg("operation %u on a damaged image: %d %s", kind, r, err_text(r));
        }
        (void)img_settle(&io); /* may fail, must end */
        free(buf);
}

static void test_random_damage(void **state)
{
        uint64_t rng = seed;
        unsigned opened = 0;

        (void)state;
        for (unsigned i = 0; i < 400; i++) {
                unsigned char *bytes = malloc(good_len);
                struct fmt_image *img;
                unsigned hits = 1 + (unsigned)rnd_below(&rng, 8);

                memcpy(bytes, good, good_len);
                while (hits--) {
                        uint64_t table = (uint64_t[]){ 0, l1_at(), l2_at(), reftable_at(),
                                                       be64_get(good + reftable_at()) }[rnd_below(&rng, 5)];
                        uint64_t at = table + rnd_below(&rng, table ? 512 : 112);

                        if (table || at >= 8)
                                bytes[at] = rnd_below(&rng, 2) ? (unsigned char)rnd(&rng) : bytes[at] ^ (1 << rnd_below(&rng, 8));
                }
                if (open_bytes(bytes, good_len, 0, &img) == 0) {
                        opened++;
                        if (img->size < (1ull << 40) && img->size >= 512)
                                hammer(img, &rng);
                        chain_close(img);
                }
                err_clear();
                free(bytes);
        }
        assert_true(opened > 100);
}

static int setup(void **state)
{
        char path[TMP_PATH_MAX], raw[TMP_PATH_MAX];
        unsigned char *content = malloc(SIZE);

        (void)state;
        memset(content, 0x77, SIZE / 2);
        memset(content + SIZE / 2, 0, SIZE / 2);
        tmp_path("good.qcow2", path);
        tmp_path("good.raw", raw);
        if (save_file(raw, content, SIZE) < 0 ||
            run_cmd("qemu-img convert -f raw -O qcow2 -o cluster_size=4k '%s' '%s'", raw, path) != 0)
                return -1;
        free(content);
        good = load_file(path, &good_len);
        log_init("test_qcow2_hostile", 0); /* each contradiction is a line otherwise */
        return good ? 0 : -1;
}

static int teardown(void **state)
{
        (void)state;
        free(good);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_entries),
                cmocka_unit_test(test_bad_entry_stays),
                cmocka_unit_test(test_random_damage),
        };

        rcu_register_thread();
        seed = test_seed();
        return cmocka_run_group_tests(tests, setup, teardown);
}
