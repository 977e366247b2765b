/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random operations on qcow2 images against a flat piece of memory: what is read must be what was written, over reopens,
 * and QEMU's tools must find the image clean and equal at the end.
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
#include "common/range.h"
#include "tests/lib/img_io.h"
#include "tests/lib/tmp_image.h"

static uint64_t seed;

static const struct config {
        const char *what, *options; /* qemu-img create/convert -o */
        uint64_t size;
        bool filled;     /* begins with data (convert) */
        bool compressed; /* convert -c */
        bool snapshot;   /* taken by qemu-img before we write */
        bool backing;
        size_t cache;
        unsigned rounds, ops;
        bool data_file, raw; /* the data is in a file of its own, which must be right without the image, too */
} configs[] = {
        { "512, 16 bit", "cluster_size=512", 3u << 20, .rounds = 3, .ops = 300 },
        { "512, 64 bit: tables grow", "cluster_size=512,refcount_bits=64", 5u << 20, .rounds = 2, .ops = 500, .filled = true },
        { "512, 1 bit", "cluster_size=512,refcount_bits=1", (2u << 20) + 512, .rounds = 2, .ops = 300 },
        { "4k, 16 bit, tiny cache", "cluster_size=4k", 40u << 20, .rounds = 3, .ops = 400, .cache = 1 },
        { "4k, 64 bit, snapshot", "cluster_size=4k,refcount_bits=64", 6u << 20, .filled = true, .snapshot = true,
          .rounds = 3, .ops = 300 },
        { "4k, 2 bit, v3 zstd compressed", "cluster_size=4k,refcount_bits=2,compression_type=zstd", 4u << 20,
          .filled = true, .compressed = true, .rounds = 2, .ops = 300 },
        { "8k, snapshot: tables of two pages", "cluster_size=8k", 20u << 20, .filled = true, .snapshot = true,
          .rounds = 2, .ops = 200 },
        { "16k, snapshot: tables of four pages", "cluster_size=16k,refcount_bits=64", 40u << 20,
          .filled = true, .snapshot = true, .rounds = 2, .ops = 150 },
        { "64k", "cluster_size=64k", (24u << 20) + 1024, .rounds = 3, .ops = 300 },
        { "64k, version 2", "cluster_size=64k,compat=0.10", 24u << 20, .rounds = 2, .ops = 300 },
        { "64k, version 2, backing", "cluster_size=64k,compat=0.10", 24u << 20, .backing = true, .rounds = 2, .ops = 300 },
        { "64k, backing", "cluster_size=64k", 24u << 20, .backing = true, .rounds = 3, .ops = 300 },
        { "64k, backing, snapshot", "cluster_size=64k", 24u << 20, .backing = true, .snapshot = true, .rounds = 2, .ops = 200 },
        { "64k, compressed", "cluster_size=64k", 16u << 20, .filled = true, .compressed = true, .rounds = 3, .ops = 200 },
        { "64k, compressed, snapshot", "cluster_size=64k", 16u << 20, .filled = true, .compressed = true,
          .snapshot = true, .rounds = 2, .ops = 200 },
        { "16k, sub-clusters of a sector", "cluster_size=16k,extended_l2=on", (6u << 20) + 512, .rounds = 2, .ops = 400 },
        { "64k, sub-clusters, backing, tiny cache", "cluster_size=64k,extended_l2=on", 24u << 20, .backing = true, .cache = 1,
          .rounds = 3, .ops = 300 },
        { "128k, sub-clusters, backing, snapshot", "cluster_size=128k,extended_l2=on", 24u << 20, .backing = true,
          .snapshot = true, .rounds = 3, .ops = 200 },
        { "16k, sub-clusters, snapshot, 64 bit", "cluster_size=16k,extended_l2=on,refcount_bits=64", 6u << 20, .filled = true,
          .snapshot = true, .rounds = 2, .ops = 300 },
        { "64k, sub-clusters, compressed, snapshot", "cluster_size=64k,extended_l2=on", 16u << 20, .filled = true,
          .compressed = true, .snapshot = true, .rounds = 2, .ops = 200 },
        { "2M, 1 bit", "cluster_size=2M,refcount_bits=1", 40u << 20, .rounds = 2, .ops = 60 },
        { "2M, snapshot", "cluster_size=2M,refcount_bits=64", 32u << 20, .filled = true, .snapshot = true,
          .rounds = 2, .ops = 40 },
        { "512, data file, tiny cache", "cluster_size=512", 3u << 20, .rounds = 2, .ops = 300, .cache = 1, .data_file = true },
        { "64k, data file, backing", "cluster_size=64k", 24u << 20, .backing = true, .rounds = 2, .ops = 300, .data_file = true },
        { "16k, sub-clusters, data file, backing", "cluster_size=16k,extended_l2=on", 8u << 20, .backing = true, .rounds = 2,
          .ops = 200, .data_file = true },
        { "4k, raw data file", "cluster_size=4k,data_file_raw=on", (4u << 20) + 1536, .rounds = 2, .ops = 300,
          .data_file = true, .raw = true },
        { "64k, raw data file", "cluster_size=64k,data_file_raw=on", 24u << 20, .filled = true, .rounds = 2, .ops = 200,
          .data_file = true, .raw = true },
};

struct world {
        const struct config *c;
        char path[TMP_PATH_MAX], raw[TMP_PATH_MAX], base[TMP_PATH_MAX], first[TMP_PATH_MAX]; /* first: at the snapshot */
        char data[TMP_PATH_MAX], options[2 * TMP_PATH_MAX];
        unsigned char *model, *buf;
        struct fmt_image *img;
        struct img_io io;
        uint64_t rnd;
};

/* Compressible, different everywhere, never zero. */
static void fill(struct world *w, unsigned char *to, size_t len)
{
        uint64_t v = rnd(&w->rnd) | 0x0101010101010101ull;

        for (size_t i = 0; i < len; i++)
                to[i] = (unsigned char)(v >> (i / 64 % 8 * 8)) | 1;
}

static void make_content(struct world *w, size_t size)
{
        memset(w->model, 0, w->c->size);
        for (unsigned i = 0; i < 40; i++) {
                uint64_t off = rnd_below(&w->rnd, size / 512) * 512, len = (1 + rnd_below(&w->rnd, 400)) * 512;

                fill(w, w->model + off, min_u64(len, size - off));
        }
}

static void make_image(struct world *w)
{
        const struct config *c = w->c;

        snprintf(w->options, sizeof(w->options), "%s%s%s", c->options, c->data_file ? ",data_file=" : "",
                 c->data_file ? w->data : "");
        if (c->filled) {
                make_content(w, c->size);
                assert_int_equal(save_file(w->raw, w->model, c->size), 0);
                assert_int_equal(run_cmd("qemu-img convert %s -f raw -O qcow2 -o %s '%s' '%s'", c->compressed ? "-c" : "",
                                         w->options, w->raw, w->path), 0);
        } else if (c->backing) { /* shorter than the disk */
                size_t size = c->size / 3 * 2 / 512 * 512;

                make_content(w, size);
                assert_int_equal(save_file(w->base, w->model, size), 0);
                assert_int_equal(run_cmd("qemu-img create -q -f qcow2 -o %s -b '%s' -F raw '%s' %llu", w->options, w->base,
                                         w->path, (unsigned long long)c->size), 0);
        } else {
                memset(w->model, 0, c->size);
                assert_int_equal(run_cmd("qemu-img create -q -f qcow2 -o %s '%s' %llu", w->options, w->path,
                                         (unsigned long long)c->size), 0);
        }
        if (c->snapshot) {
                assert_int_equal(save_file(w->first, w->model, c->size), 0);
                assert_int_equal(run_cmd("qemu-img snapshot -c first '%s'", w->path), 0);
        }
}

static void open_it(struct world *w)
{
        struct fmt_open_opts opts = { .format = "qcow2", .cache_bytes = w->c->cache };
        int r = chain_open(w->path, &opts, &w->img);

        if (r < 0)
                fail_msg("open: %s", err_text(r));
        w->io = (struct img_io){ .img = w->img };
}

static void must(int r, const char *what, uint64_t off, uint64_t len)
{
        if (r < 0)
                fail_msg("%s [%llu, +%llu): %d %s", what, (unsigned long long)off, (unsigned long long)len, r, err_text(r));
}

static void compare(struct world *w, uint64_t off, uint64_t len)
{
        must(img_read(&w->io, w->buf, len, off), "read", off, len);
        for (uint64_t i = 0; i < len; i++)
                if (w->buf[i] != w->model[off + i])
                        fail_msg("byte %llu is 0x%02x, should be 0x%02x", (unsigned long long)(off + i), w->buf[i],
                                 w->model[off + i]);
}

/* Dropped bytes may be what they were or zeros, nothing else. */
static void discard(struct world *w, uint64_t off, uint64_t len)
{
        must(img_zero(&w->io, off, len, ZERO_DISCARD), "discard", off, len);
        must(img_read(&w->io, w->buf, len, off), "read", off, len);
        for (uint64_t i = 0; i < len; i++)
                if (w->buf[i] != w->model[off + i] && w->buf[i])
                        fail_msg("byte %llu is 0x%02x after a discard", (unsigned long long)(off + i), w->buf[i]);
        memcpy(w->model + off, w->buf, len);
}

static void pick_range(struct world *w, uint64_t *off, uint64_t *len)
{
        uint64_t size = round_down(w->c->size, 512), cs = w->img->cluster_size;

        *off = rnd_below(&w->rnd, size / 512) * 512;
        if (rnd_below(&w->rnd, 3) == 0)
                *off = round_down(*off, cs);
        *len = (1 + rnd_below(&w->rnd, rnd_below(&w->rnd, 4) ? 16 : 6 * cs / 512 + 200)) * 512;
        if (rnd_below(&w->rnd, 4) == 0)
                *len = round_up(*len, cs);
        *len = min_u64(*len, size - *off);
}

/* A few clusters, compressed; some are planned and then given up, or are too random to get smaller. */
static void write_packed(struct world *w, uint64_t off)
{
        uint64_t cs = w->img->cluster_size;

        off = round_down(off, cs);
        for (unsigned i = 0; i < 4 && off < w->c->size; i++, off += cs) {
                uint64_t len = min_u64(cs, w->c->size - off);
                struct fmt_plan plan;

                fill(w, w->buf, len);
                if (rnd_below(&w->rnd, 5) == 0)
                        for (uint64_t k = 0; k < len; k++)
                                w->buf[k] = (unsigned char)rnd(&w->rnd);
                if (rnd_below(&w->rnd, 6) == 0) {
                        must(img_plan_packed(&w->io, off, (uint32_t)(1 + rnd_below(&w->rnd, cs - 1)), &plan), "plan", off, len);
                        fmt_abort(w->img, &plan);
                        continue;
                }
                must(img_write_packed(&w->io, w->buf, off), "packed write", off, len);
                memcpy(w->model + off, w->buf, len);
        }
}

static void one_op(struct world *w)
{
        uint64_t off, len;

        pick_range(w, &off, &len);
        switch (rnd_below(&w->rnd, 18)) {
        case 0 ... 7:
                fill(w, w->buf, len);
                must(img_write(&w->io, w->buf, len, off), "write", off, len);
                memcpy(w->model + off, w->buf, len);
                break;
        case 8:
                must(img_zero(&w->io, off, len, 0), "zero", off, len);
                memset(w->model + off, 0, len);
                break;
        case 9:
                must(img_zero(&w->io, off, len, ZERO_MAY_UNMAP), "unmap", off, len);
                memset(w->model + off, 0, len);
                break;
        case 10:
        case 11:
                discard(w, off, len);
                break;
        case 12:
                must(img_flush(&w->io), "flush", 0, 0);
                break;
        case 13:
        case 14:
                if (!w->c->data_file)
                        write_packed(w, off);
                break;
        default:
                compare(w, off, len);
        }
}

static void close_and_check(struct world *w)
{
        must(img_settle(&w->io), "settle", 0, 0);
        assert_false(fmt_is_dirty(w->img));
        chain_close(w->img);
        assert_int_equal(run_cmd("qemu-img check '%s'", w->path), 0); /* no errors, and after settling no leaks */
        assert_int_equal(save_file(w->raw, w->model, w->c->size), 0);
        assert_int_equal(run_cmd("qemu-img compare -f qcow2 -F raw '%s' '%s'", w->path, w->raw), 0);
        if (w->c->raw)
                assert_int_equal(run_cmd("cmp -n %llu '%s' '%s'", (unsigned long long)w->c->size, w->data, w->raw), 0);
}

static void run_config(const struct config *c)
{
        struct world w = { .c = c, .rnd = seed };

        tmp_path("disk.qcow2", w.path);
        tmp_path("model.raw", w.raw);
        tmp_path("base.raw", w.base);
        tmp_path("first.raw", w.first);
        tmp_path("disk.data", w.data);
        w.model = malloc(c->size);
        w.buf = malloc(c->size);
        make_image(&w);
        for (unsigned round = 0; round < c->rounds; round++) {
                open_it(&w);
                compare(&w, 0, c->size);
                for (unsigned i = 0; i < c->ops; i++)
                        one_op(&w);
                compare(&w, 0, c->size);
                close_and_check(&w);
        }
        if (c->snapshot) { /* and the snapshot is still what it was */
                assert_int_equal(run_cmd("qemu-img snapshot -a first '%s' && qemu-img check '%s'", w.path, w.path), 0);
                assert_int_equal(run_cmd("qemu-img compare -f qcow2 -F raw '%s' '%s'", w.path, w.first), 0);
                assert_int_equal(run_cmd("qemu-img snapshot -d first '%s' && qemu-img check '%s'", w.path, w.path), 0);
        }
        free(w.model);
        free(w.buf);
}

static void test_random(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
                print_message("# %s\n", configs[i].what);
                run_config(&configs[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };

        rcu_register_thread();
        seed = test_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
