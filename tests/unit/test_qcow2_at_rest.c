/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2 at rest against QEMU's tools: create, info, snapshots, resize. */
#include "qcow2_rest.h"

static const char *const geometries[] = {
        "cluster_size=512", "cluster_size=4k", "cluster_size=64k", "cluster_size=2M", "compat=0.10",
        "refcount_bits=1", "refcount_bits=8", "refcount_bits=64,cluster_size=4k", "lazy_refcounts=on",
        "compression_type=zstd", "preallocation=metadata", "preallocation=falloc", "preallocation=full",
        "preallocation=metadata,cluster_size=512,refcount_bits=1", "preallocation=metadata,cluster_size=2M,refcount_bits=64",
        "extended_l2=on", "extended_l2=on,cluster_size=16k,preallocation=metadata",
};
static const uint64_t sizes[] = { 0, 65536 * 3 + 512, 70u << 20 };

static bool same_key(json_t *a, json_t *b, const char *key)
{
        return json_equal(json_object_get(a, key), json_object_get(b, key));
}

static void test_create_like_qemu(void **state)
{
        for (size_t g = 0; g < ARRAY_SIZE(geometries); g++)
                for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
                        json_t *ours, *theirs;

                        if (sizes[s] > 5u << 20 && strstr(geometries[g], "full"))
                                continue;
                        ok(rest_create("a", sizes[s], geometries[g]));
                        rest_clean("a", geometries[g]);
                        must("qemu-img create -q -f qcow2 -o %s b %llu", geometries[g], (unsigned long long)sizes[s]);
                        ours = rest_json("qemu-img info --output=json", "a");
                        theirs = rest_json("qemu-img info --output=json", "b");
                        if (!same_key(ours, theirs, "format-specific") || !same_key(ours, theirs, "virtual-size") ||
                            !same_key(ours, theirs, "cluster-size"))
                                fail_msg("%s, %llu bytes: not what qemu-img makes", geometries[g],
                                         (unsigned long long)sizes[s]);
                        json_decref(ours);
                        json_decref(theirs);
                }
}

static void test_create_is_thin(void **state)
{
        struct fmt_image img;
        uint64_t used;

        ok(rest_create("a", 10ull << 40, "cluster_size=2M"));
        img = rest_open("a", FILE_RDONLY);
        ok(file_allocated(img.file, &used));
        file_close(img.file);
        if (used > 128u << 10)
                fail_msg("an empty image takes %llu bytes", (unsigned long long)used);
}

static const struct {
        const char *opts;
        uint64_t size;
        int err;
} refused[] = {
        { "cluster_size=256", 1 << 20, -EINVAL },
        { "cluster_size=4M", 1 << 20, -EINVAL },
        { "cluster_size=65535", 1 << 20, -EINVAL },
        { "refcount_bits=3", 1 << 20, -EINVAL },
        { "refcount_bits=128", 1 << 20, -EINVAL },
        { "refcount_bits=1x", 1 << 20, -EINVAL },
        { "compat=0.10,refcount_bits=8", 1 << 20, -EINVAL },
        { "compat=0.10,lazy_refcounts=on", 1 << 20, -EINVAL },
        { "compat=v2,compression_type=zstd", 1 << 20, -EINVAL },
        { "compat=4", 1 << 20, -EINVAL },
        { "lazy_refcounts=maybe", 1 << 20, -EINVAL },
        { "preallocation=some", 1 << 20, -EINVAL },
        { "compression_type=lz4", 1 << 20, -EINVAL },
        { "extended_l2=perhaps", 1 << 20, -EINVAL },
        { "extended_l2=on,cluster_size=8k", 1 << 20, -EINVAL },
        { "extended_l2=on,compat=0.10", 1 << 20, -EINVAL },
        { "nonsense=1", 1 << 20, -ENOTSUP },
        { "backing_file=x", 1 << 20, -EINVAL },
        { "backing_fmt=raw", 1 << 20, -EINVAL },
        { "backing_file=x,backing_fmt=raw,preallocation=metadata", 1 << 20, -EINVAL },
        { "cluster_size=512", (128ull << 30) + 512, -EFBIG },
        { NULL, UINT64_MAX, -EFBIG },
        { NULL, INT64_MAX, -EFBIG },
};

static void test_create_refuses(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                int r = rest_create("a", refused[i].size, refused[i].opts);

                if (r != refused[i].err || strcmp(err_text(r), strerror(-r)) == 0)
                        fail_msg("%s: %d: %s", refused[i].opts, r, err_text(r));
        }
}

static void test_info_like_qemu(void **state)
{
        for (size_t g = 0; g < ARRAY_SIZE(geometries); g++) {
                AUTO(freep) char *text = NULL;
                struct fmt_image img;
                json_t *theirs, *ours = json_object();

                must("qemu-img create -q -f qcow2 -o %s b 5M", geometries[g]);
                img = rest_open("b", FILE_RDONLY);
                ok(qcow2_info(&img, ours));
                file_close(img.file);
                theirs = rest_json("qemu-img info --output=json", "b");
                text = json_dumps(ours, 0);
                if (!json_equal(ours, json_object_get(theirs, "format-specific")))
                        fail_msg("%s: %s", geometries[g], text);
                json_decref(ours);
                json_decref(theirs);
        }
}

/* --- snapshots ------------------------------------------------------------------------------------------------ */

static const char *const snap_geometries[] = {
        "cluster_size=512", "cluster_size=4k", "cluster_size=64k", "cluster_size=2M", "refcount_bits=64", "compat=0.10",
        "cluster_size=128k,extended_l2=on", "cluster_size=16k,extended_l2=on",
};

/* Some of everything in the first 10 MiB: data, zeros, holes, compressed clusters. */
static void fill(const char *name)
{
        must("qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 3M 2M' -c 'write -z 6M 1M' -c 'write -P 5 8M 4k' %s >out",
             name);
}

static void reads(const char *name, int pattern, const char *off, const char *len)
{
        must("qemu-io -r -f qcow2 -c 'read -P %d %s %s' %s >out && ! grep -q -i fail out", pattern, off, len, name);
}

static void test_snapshots_with_qemu(void **state)
{
        for (size_t g = 0; g < ARRAY_SIZE(snap_geometries); g++) {
                const char *at = snap_geometries[g];

                ok(rest_create("a", 10u << 20, at));
                fill("a");
                ok(rest_snap("a", 'c', "one"));
                rest_clean("a", at);
                must("qemu-io -f qcow2 -c 'write -P 3 512k 1M' -c 'discard 4M 2M' a >out");
                must("qemu-img snapshot -c two a");
                ok(rest_snap("a", 'c', "three"));
                rest_clean("a", at);
                must("qemu-io -f qcow2 -c 'write -P 4 0 2M' a >out");
                must("qemu-img snapshot -a one a"); /* ours, applied by QEMU */
                reads("a", 1, "0", "1M");
                reads("a", 2, "3M", "2M");
                rest_clean("a", at);
                ok(rest_snap("a", 'a', "two")); /* QEMU's, applied by us */
                reads("a", 1, "0", "512k");
                reads("a", 3, "512k", "1M");
                reads("a", 0, "6M", "1M");
                reads("a", 5, "8M", "4k");
                rest_clean("a", at);
                must("qemu-io -f qcow2 -c 'write -P 6 1M 3M' a >out");
                rest_clean("a", at);
                ok(rest_snap("a", 'd', "two"));
                rest_clean("a", at);
                must("qemu-img snapshot -d three a");
                rest_clean("a", at);
                ok(rest_snap("a", 'a', "1")); /* by id */
                ok(rest_snap("a", 'd', "one"));
                rest_clean("a", at);
                reads("a", 2, "3M", "2M");
                assert_int_equal(rest_snap("a", 'd', "one"), -ENOENT);
        }
}

static void test_snapshot_of_compressed(void **state)
{
        ok(rest_create("src", 10u << 20, NULL));
        fill("src");
        must("qemu-img convert -c -O qcow2 src a");
        ok(rest_snap("a", 'c', "one"));
        rest_clean("a", "compressed");
        must("qemu-io -f qcow2 -c 'write -P 7 0 2M' a >out");
        rest_clean("a", "compressed, overwritten");
        ok(rest_snap("a", 'a', "one"));
        rest_clean("a", "compressed, applied");
        must("qemu-img compare src a >out");
        ok(rest_snap("a", 'd', "one"));
        rest_clean("a", "compressed, deleted");
}

static void test_snapshot_list(void **state)
{
        struct fmt_image img;
        struct fmt_snapshot *s;
        size_t n;

        ok(rest_create("a", 10u << 20, NULL));
        must("qemu-img snapshot -c first a && qemu-img snapshot -c second a && qemu-img snapshot -d first a");
        ok(rest_snap("a", 'c', "third"));
        assert_int_equal(rest_snap("a", 'c', "third"), -EEXIST);
        assert_int_equal(rest_snap("a", 'c', ""), -EINVAL);
        img = rest_open("a", FILE_RDONLY);
        ok(qcow2_snapshot_list(&img, &s, &n));
        file_close(img.file);
        assert_int_equal(n, 2);
        assert_string_equal(s[0].name, "second");
        assert_string_equal(s[1].name, "third");
        assert_string_not_equal(s[0].id, s[1].id);
        assert_int_equal(s[1].disk_size, 10u << 20);
        for (size_t i = 0; i < n; i++) {
                free(s[i].id);
                free(s[i].name);
        }
        free(s);
        must("qemu-img snapshot -l a | grep -q third");
}

/* One bit cannot count two owners: refused, and nothing has changed. */
static void test_snapshot_needs_wider_refcounts(void **state)
{
        ok(rest_create("a", 1u << 20, "refcount_bits=1"));
        must("qemu-io -f qcow2 -c 'write 0 64k' a >out");
        assert_int_equal(rest_snap("a", 'c', "one"), -EOVERFLOW);
        rest_clean("a", "refused snapshot");
}

/* --- resize --------------------------------------------------------------------------------------------------- */

static void test_resize(void **state)
{
        for (size_t g = 0; g < ARRAY_SIZE(snap_geometries); g++) {
                const char *at = snap_geometries[g];

                ok(rest_create("a", 10u << 20, at));
                fill("a");
                ok(rest_resize("a", 8ull << 30, false));
                rest_clean("a", at);
                must("qemu-io -f qcow2 -c 'write -P 9 8191M 1M' a >out");
                reads("a", 2, "3M", "2M");
                rest_clean("a", at);
                assert_int_equal(rest_resize("a", 1u << 20, false), -EINVAL);
                ok(rest_resize("a", (4u << 20) + 1024, true));
                rest_clean("a", at);
                reads("a", 2, "3M", "1M");
                must("qemu-img resize -q a 20M");
                reads("a", 0, "4195328", "1M"); /* the end of the last cluster was cleared */
                ok(rest_resize("a", 30u << 20, false));
                reads("a", 0, "5M", "20M");
                rest_clean("a", at);
        }
}

static void test_resize_with_snapshot(void **state)
{
        ok(rest_create("a", 10u << 20, NULL));
        fill("a");
        ok(rest_snap("a", 'c', "one"));
        ok(rest_resize("a", (3u << 20) + 512, true));
        rest_clean("a", "shrunk below a snapshot");
        ok(rest_resize("a", 20u << 20, false));
        reads("a", 0, "3146240", "2M");
        ok(rest_snap("a", 'a', "one"));
        reads("a", 2, "3M", "2M");
        must("qemu-img info a | grep -q '10 MiB'");
        rest_clean("a", "back to the snapshot");
}

static void test_resize_hides_backing(void **state)
{
        must("qemu-img create -q -f raw base 20M && qemu-io -f raw -c 'write -P 8 0 20M' base >out");
        must("qemu-img create -q -f qcow2 -b base -F raw a 10M");
        ok(rest_resize("a", 30u << 20, false));
        rest_clean("a", "grown over a backing file");
        reads("a", 8, "0", "10M");
        reads("a", 0, "10M", "20M");
}

/* The last cluster is cut by the disk's end: its rest is cleared, or refused when the backing file holds it. */
static void test_resize_hides_backing_in_last_cluster(void **state)
{
        must("qemu-img create -q -f raw base 20M && qemu-io -f raw -c 'write -P 8 0 20M' base >out");
        must("qemu-img create -q -f qcow2 -b base -F raw a 10486272"); /* 10M + 512 */
        assert_int_equal(rest_resize("a", 30u << 20, false), -ENOTSUP);
        must("qemu-io -f qcow2 -c 'write -P 7 10M 512' a >out");
        ok(rest_resize("a", 30u << 20, false));
        rest_clean("a", "grown in the last cluster");
        reads("a", 7, "10M", "512");
        reads("a", 0, "10486272", "10M");
        reads("a", 8, "0", "10M");
}

static void test_resize_limits(void **state)
{
        ok(rest_create("a", 1u << 20, "cluster_size=512"));
        assert_int_equal(rest_resize("a", 1ull << 40, false), -EFBIG);
        assert_int_equal(rest_resize("a", UINT64_MAX, false), -EFBIG);
        ok(rest_resize("a", 128ull << 30, false));
        rest_clean("a", "the largest disk of 512 byte clusters");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_create_like_qemu),
                cmocka_unit_test(test_create_is_thin),
                cmocka_unit_test(test_create_refuses),
                cmocka_unit_test(test_info_like_qemu),
                cmocka_unit_test(test_snapshots_with_qemu),
                cmocka_unit_test(test_snapshot_of_compressed),
                cmocka_unit_test(test_snapshot_list),
                cmocka_unit_test(test_snapshot_needs_wider_refcounts),
                cmocka_unit_test(test_resize),
                cmocka_unit_test(test_resize_with_snapshot),
                cmocka_unit_test(test_resize_hides_backing),
                cmocka_unit_test(test_resize_hides_backing_in_last_cluster),
                cmocka_unit_test(test_resize_limits),
        };

        return cmocka_run_group_tests(tests, rest_setup, rest_teardown);
}
