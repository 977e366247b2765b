/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images with random damage in their tables: whatever is asked of them, there is an answer or an error. What was repaired
 * is clean, and an operation that succeeds on a clean image leaves it clean. FUZZ_ROUNDS and FUZZ_SEED go further.
 */
#include "qcow2_rest.h"

#include <time.h>

#include "common/range.h"

static uint8_t *base;
static size_t base_len;

/* A small image with everything: data, zeros, compressed clusters, two snapshots. */
static void make_base(const char *opts)
{
        struct fmt_image img;

        ok(rest_create("src", 4u << 20, NULL));
        must("qemu-io -f qcow2 -c 'write -P 1 0 100k' -c 'write -z 1M 64k' src >out");
        must("qemu-img convert -c -O qcow2 -o %s src base", opts);
        ok(rest_snap("base", 'c', "one"));
        must("qemu-io -f qcow2 -c 'write -P 2 50k 100k' -c 'write -z 2M 16k' base >out");
        must("qemu-img snapshot -c two base && qemu-io -f qcow2 -c 'write -P 3 3M 20k' base >out");
        img = rest_open("base", FILE_RDONLY);
        free(base);
        base_len = img.file->size;
        base = malloc(base_len);
        ok(file_pread(img.file, base, base_len, 0));
        file_close(img.file);
}

static uint64_t noise(unsigned *seed)
{
        uint64_t wide = (uint64_t)rand_r(seed) << 40 ^ (uint64_t)rand_r(seed) << 20 ^ (uint64_t)rand_r(seed);
        uint64_t cluster = (uint64_t)rand_r(seed) % (base_len / 512) * 512;

        switch (rand_r(seed) % 6) {
        case 0:
                return 0;
        case 1:
                return 1ull << (rand_r(seed) % 64);
        case 2:
                return cluster | QCOW2_COPIED;
        case 3:
                return cluster | QCOW2_L2_COMPRESSED;
        case 4:
                return UINT64_MAX;
        default:
                return wide;
        }
}

/* Where a table is likely: the header, or any place that is not zero. */
static size_t place(const uint8_t *b, unsigned *seed)
{
        if (rand_r(seed) % 4 == 0)
                return (unsigned)rand_r(seed) % 112 / 4 * 4;
        for (int i = 0; i < 200; i++) {
                size_t at = (size_t)rand_r(seed) % (base_len / 8 - 1) * 8;

                if (b[at] & 0xc0 || b[at + 6] || b[at + 7])
                        return at;
        }
        return 0;
}

static struct file *damaged(unsigned *seed)
{
        AUTO(freep) uint8_t *b = malloc(base_len);
        struct file *f;

        memcpy(b, base, base_len);
        for (int n = rand_r(seed) % 4; n >= 0; n--) {
                size_t at = place(b, seed);

                if (rand_r(seed) % 3)
                        be64_put(b + at, noise(seed));
                else
                        b[at + (unsigned)rand_r(seed) % 8] ^= (uint8_t)(1u << (rand_r(seed) % 8));
        }
        ok(file_open_mem(b, base_len - (rand_r(seed) % 8 ? 0 : (size_t)rand_r(seed) % base_len), &f));
        return f;
}

static bool is_clean(struct fmt_image *img, bool say)
{
        struct fmt_check chk = { .finding = say ? print_finding : NULL };

        return qcow2_check(img, &chk) == 0 && !chk.corruptions && !chk.leaks && !chk.check_errors;
}

static int one_op(struct fmt_image *img, unsigned op)
{
        AUTO(freep) struct fmt_snapshot *list = NULL;
        size_t n = 0;
        int r;

        switch (op) {
        case 0:
                return qcow2_snapshot_create(img, "new");
        case 1:
                return qcow2_snapshot_apply(img, "one");
        case 2:
                return qcow2_snapshot_delete(img, "two");
        case 3:
                return qcow2_resize(img, 64u << 20, true);
        case 4:
                return qcow2_resize(img, 60000, true);
        default:
                r = qcow2_snapshot_list(img, &list, &n);
                for (size_t i = 0; i < n; i++) {
                        free(list[i].id);
                        free(list[i].name);
                }
                return r;
        }
}

static void one_round(unsigned seed)
{
        unsigned first = seed;
        struct fmt_check fix = { .fix_all = true, .finding = getenv("FUZZ_SEED") ? print_finding : NULL };
        struct fmt_image img = { .file = damaged(&seed) };
        unsigned op = (unsigned)rand_r(&seed) % 8;
        bool clean = is_clean(&img, false);
        int r;

        err_clear();
        r = op < 6 ? one_op(&img, op) : qcow2_check(&img, &fix);
        if (r == 0 && op >= 6 && fix.corruptions == 0 && !is_clean(&img, true))
                fail_msg("seed %u: repaired, but not clean", first);
        if (clean && op < 6 && !is_clean(&img, true))
                fail_msg("seed %u: operation %u (%d) spoils a clean image", first, op, r);
        file_close(img.file);
}

static void test_random_damage(void **state)
{
        static const char *const opts[] = { "cluster_size=512", "cluster_size=4k", "cluster_size=4k,refcount_bits=8" };
        const char *rounds = getenv("FUZZ_ROUNDS"), *from = getenv("FUZZ_SEED");
        unsigned n = rounds ? (unsigned)atoi(rounds) : 300, seed = from ? (unsigned)atoi(from) : (unsigned)time(NULL);

        for (size_t g = 0; g < ARRAY_SIZE(opts); g++) {
                make_base(opts[g]);
                print_message("%s, seeds from %u\n", opts[g], seed);
                for (unsigned i = 0; i < n; i++)
                        one_round(seed + i);
        }
        free(base);
        base = NULL;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_random_damage),
        };

        return cmocka_run_group_tests(tests, rest_setup, rest_teardown);
}
