/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chains of a made-up kind of image: 16 bytes of header write their backing file down, and which 512-byte blocks are
 * there is a letter each. So nothing of this depends on a real format.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "formats/format.h"

#define BLOCK 512u

/* --- lookups: images put together by hand ---------------------------------------------------------------------- */

struct toy {
        struct fmt_image img;
        const char *blocks; /* a letter each: d data, z zero, . absent, w a page that is not cached, ! corrupt */
};

static enum extent_kind kind_of(char c)
{
        return c == 'd' ? EXT_DATA : c == 'z' ? EXT_ZERO : EXT_ABSENT;
}

static int toy_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        const char *blocks = container_of(img, struct toy, img)->blocks;
        uint64_t end = off + len;
        unsigned n = 0;

        for (; off < end; n++) {
                char c = blocks[off / BLOCK];
                uint64_t to = off;

                if (c == 'w' || c == '!')
                        return n ? (int)n : c == 'w' ? -EAGAIN : -EIO;
                if (n == max)
                        break;
                while (to < end && blocks[to / BLOCK] == c)
                        to = (to / BLOCK + 1) * BLOCK < end ? (to / BLOCK + 1) * BLOCK : end;
                ext[n] = (struct extent){ .kind = kind_of(c), .off = off, .len = to - off, .host = off, .img = img };
                off = to;
        }
        return (int)n;
}

static const struct fmt_driver toy_driver = { .name = "toy", .map = toy_map };

/* top "a.b", backing "...": the first is the top. */
static struct fmt_image *link_up(struct toy *toys, const char *const *blocks, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                toys[i] = (struct toy){ .blocks = blocks[i] };
                toys[i].img.drv = &toy_driver;
                toys[i].img.size = strlen(blocks[i]) * BLOCK;
                toys[i].img.backing = i + 1 < n ? &toys[i + 1].img : NULL;
        }
        return &toys[0].img;
}

/* Maps the whole chain in as many calls as it takes; writes a letter a block: kind, and the depth it came from. */
static void spell(struct fmt_image *top, unsigned max, char *out)
{
        struct fmt_image *missing;
        struct extent ext[8];

        for (uint64_t off = 0; off < top->size;) {
                int n = chain_map(top, off, top->size - off, ext, max, &missing);

                assert_true(n >= 1 && n <= (int)max);
                for (int i = 0; i < n; i++) {
                        assert_int_equal(ext[i].off, off);
                        assert_true(ext[i].len > 0);
                        for (off += ext[i].len; ext[i].len; ext[i].len -= BLOCK) {
                                *out++ = ext[i].kind == EXT_DATA ? 'd' : ext[i].in_image ? 'z' : '-';
                                *out++ = (char)('0' + ext[i].depth);
                        }
                }
        }
        *out = '\0';
}

static const struct { const char *blocks[3]; size_t n; const char *spelled; } chains[] = {
        { { "dz.d" }, 1, "d0z0-0d0" },
        { { "....", "d.z." }, 2, "d1-1z1-1" },
        { { "d..z", ".d..", "..d." }, 3, "d0d1d2z0" },
        { { "......", "d...", ".d" }, 3, "d1d2-1-1-0-0" }, /* shorter images behind: zeros beyond their ends */
        { { "..", "dddd" }, 2, "d1d1" },
        { { "..", "" }, 2, "-0-0" },
};

static void test_map(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
                for (unsigned max = 1; max <= 8; max++) {
                        struct toy toys[3];
                        char got[64];

                        spell(link_up(toys, chains[i].blocks, chains[i].n), max, got);
                        if (strcmp(got, chains[i].spelled))
                                fail_msg("chain %zu, max %u: %s, not %s", i, max, got, chains[i].spelled);
                }
}

static void test_map_parts_of_blocks(void **state)
{
        static const char *const blocks[] = { ".d", "dd" };
        struct fmt_image *missing;
        struct extent ext[2];
        struct toy toys[2];

        assert_int_equal(chain_map(link_up(toys, blocks, 2), 100, 500, ext, 2, &missing), 1);
        assert_true(ext[0].off == 100 && ext[0].len == BLOCK - 100 && ext[0].host == 100 && ext[0].depth == 1);
}

static void test_map_says_what_is_missing(void **state)
{
        static const char *const blocks[] = { "d..w", "d.w!" };
        struct fmt_image *missing = NULL, *top;
        struct extent ext[8];
        struct toy toys[2];

        top = link_up(toys, blocks, 2);
        assert_int_equal(chain_map(top, 0, 4 * BLOCK, ext, 8, &missing), 1); /* what it knows first */
        assert_int_equal(chain_map(top, 2 * BLOCK, BLOCK, ext, 8, &missing), -EAGAIN);
        assert_ptr_equal(missing, &toys[1].img);
        assert_int_equal(chain_map(top, 3 * BLOCK, BLOCK, ext, 8, &missing), -EAGAIN);
        assert_ptr_equal(missing, &toys[0].img);
        toys[0].blocks = "....";
        assert_int_equal(chain_map(top, 3 * BLOCK, BLOCK, ext, 8, &missing), -EIO);
}

/* --- opening: qcow2 headers with backing names, as small as they can be ----------------------------------------- */

static char dir[] = "/tmp/test_backing_chain.XXXXXX";

static int enter_dir(void **state)
{
        return mkdtemp(dir) && chdir(dir) == 0 && mkdir("sub", 0700) == 0 ? 0 : -1;
}

static int leave_dir(void **state)
{
        char cmd[80];

        snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
        return chdir("/") == 0 && system(cmd) == 0 ? 0 : -1;
}

static int cleanup(void **state)
{
        err_clear();
        return 0;
}

/* An empty version 3 image of 1 MiB with 64 KiB clusters; byte offsets: docs/interop/qcow2, "Header". */
static void write_qcow2(const char *path, const char *backing, const char *format)
{
        static uint8_t img[4 * 65536];
        size_t name_at = 1024;
        FILE *f = fopen(path, "w");

        memset(img, 0, sizeof(img));
        be32_put(img, 0x514649fb);
        be32_put(img + 4, 3);
        if (backing) {
                be64_put(img + 8, name_at);
                be32_put(img + 16, (uint32_t)strlen(backing));
                memcpy(img + name_at, backing, strlen(backing));
        }
        be32_put(img + 20, 16);
        be64_put(img + 24, 1 << 20);
        be32_put(img + 36, 1);
        be64_put(img + 40, 3 * 65536);
        be64_put(img + 48, 65536);
        be32_put(img + 56, 1);
        be32_put(img + 96, 4);
        be32_put(img + 100, 104);
        if (format) {
                be32_put(img + 104, 0xe2792aca);
                be32_put(img + 108, (uint32_t)strlen(format));
                memcpy(img + 112, format, strlen(format));
        }
        be64_put(img + 65536, 2 * 65536); /* one refcount block; four clusters are in use */
        for (int i = 0; i < 4; i++)
                be16_put(img + 2 * 65536 + 2 * i, 1);
        assert_non_null(f);
        assert_int_equal(fwrite(img, sizeof(img), 1, f), 1);
        fclose(f);
}

static void write_raw(const char *path)
{
        FILE *f = fopen(path, "w");

        assert_non_null(f);
        fputs("raw bytes", f);
        fclose(f);
}

static int open_chain(const char *path, unsigned flags, struct fmt_image **ret)
{
        err_clear();
        return chain_open(path, &(struct fmt_open_opts){ .format = "qcow2", .flags = flags }, ret);
}

static void test_open_relative(void **state)
{
        struct fmt_image *img;
        char buf[512];

        write_raw("base");
        write_qcow2("sub/mid", "../base", "raw");
        write_qcow2("top", "sub/mid", "qcow2");
        assert_int_equal(open_chain("top", 0, &img), 0);
        assert_string_equal(img->backing->file->path, "sub/mid");
        assert_string_equal(img->backing->backing->file->path, "sub/../base");
        assert_false(img->read_only);
        assert_true(img->backing->read_only && img->backing->backing->read_only);
        assert_null(img->backing->backing->backing);
        assert_int_equal(chain_read_sync(img, buf, 512, 0), 0);
        assert_memory_equal(buf, "raw bytes\0", 10);
        chain_close(img);
        assert_int_equal(open_chain("top", FMT_NO_BACKING, &img), 0);
        assert_null(img->backing);
        assert_int_equal(chain_read_sync(img, buf, 512, 0), 0);
        assert_int_equal(buf[0], 0);
        chain_close(img);
}

static const struct { const char *name, *format; unsigned flags; int r; const char *says; } refused[] = {
        { "missing", "raw", 0, -ENOENT, "missing" },
        { "nbd://host/x", "raw", 0, -EINVAL, "not a plain path" },
        { "json:{\"driver\":\"file\"}", "raw", 0, -EINVAL, "not a plain path" },
        { "base", NULL, 0, -EINVAL, "does not say which format" },
        { "base", NULL, FMT_RDONLY, -EINVAL, "does not say which format" },
        { "base", "qed", 0, -EINVAL, "'qed'" },
        { "base", "null", 0, -EINVAL, "size" },
        { "base", "qcow2", 0, -EINVAL, "base" },
        { "sub", "raw", 0, -ENOTSUP, "neither a regular file" },
        { "/dev/zero", "raw", 0, -ENOTSUP, "neither a regular file" },
        { "top", "qcow2", 0, -ELOOP, "loop" },
        { "./sub/../top", "qcow2", FMT_RDONLY, -ELOOP, "loop" },
};

static void test_open_refuses(void **state)
{
        write_raw("base");
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                struct fmt_image *img;
                int r;

                write_qcow2("top", refused[i].name, refused[i].format);
                r = open_chain("top", refused[i].flags, &img);
                if (r != refused[i].r || !strstr(err_text(r), refused[i].says))
                        fail_msg("'%s': %d %s", refused[i].name, r, err_text(r));
        }
}

static void test_tools_may_guess(void **state)
{
        struct fmt_image *img;

        write_raw("base");
        write_qcow2("top", "base", NULL);
        assert_int_equal(open_chain("top", FMT_RDONLY | FMT_GUESS, &img), 0);
        assert_string_equal(img->backing->drv->name, "raw");
        chain_close(img);
}

static void make_row(unsigned n)
{
        char name[16], next[16];

        for (unsigned i = 0; i < n; i++) {
                snprintf(name, sizeof(name), "row%u", i);
                snprintf(next, sizeof(next), "row%u", i + 1);
                write_qcow2(name, i + 1 < n ? next : NULL, "qcow2");
        }
}

static void test_depth(void **state)
{
        struct fmt_image *img;

        make_row(FMT_MAX_CHAIN);
        assert_int_equal(open_chain("row0", FMT_RDONLY, &img), 0);
        chain_close(img);
        make_row(FMT_MAX_CHAIN + 1);
        assert_int_equal(open_chain("row0", FMT_RDONLY, &img), -ELOOP);
        assert_non_null(strstr(err_text(-ELOOP), "more than 64"));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_map), cmocka_unit_test(test_map_parts_of_blocks),
                cmocka_unit_test(test_map_says_what_is_missing),
                cmocka_unit_test_teardown(test_open_relative, cleanup),
                cmocka_unit_test_teardown(test_open_refuses, cleanup),
                cmocka_unit_test_teardown(test_tools_may_guess, cleanup), cmocka_unit_test_teardown(test_depth, cleanup),
        };

        return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
