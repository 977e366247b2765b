/* SPDX-License-Identifier: BSD-3-Clause */
/* What is written, preallocated and shared in images at rest (formats/at_rest.c), against a copy of the disk in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "formats/format.h"

#define DISK (1u << 20)
#define SECTOR 512u

static char dir[] = "/var/tmp/test_at_rest.XXXXXX";
static unsigned char model[DISK];

static int make_dir(void **state)
{
        return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
        return chdir("/") == 0 ? rmdir(dir) : -1;
}

static int cleanup(void **state)
{
        unlink("a");
        unlink("b");
        unlink("base");
        err_clear();
        return fault_arm(NULL);
}

static void create(const char *path, const char *format, const char *cluster_size, const char *backing)
{
        struct fmt_option opt = { "cluster_size", cluster_size };
        struct fmt_create req = { .size = DISK, .opts = &opt, .nopts = cluster_size != NULL, .backing_name = backing,
                                  .backing_format = backing ? "raw" : NULL };

        assert_int_equal(fmt_create_path(path, fmt_driver_find(format), &req), 0);
}

static struct fmt_image *reopen(struct fmt_image *img, const char *path, const char *format)
{
        chain_close(img);
        assert_int_equal(chain_open(path, &(struct fmt_open_opts){ .format = format }, &img), 0);
        return img;
}

static void is_model(struct fmt_image *img)
{
        static unsigned char buf[DISK];
        struct fmt_check chk = { 0 };

        assert_int_equal(chain_read_sync(img, buf, DISK, 0), 0);
        assert_memory_equal(buf, model, DISK);
        if (img->drv->check) {
                assert_int_equal(img->drv->check(img, &chk), 0);
                assert_int_equal(chk.corruptions + chk.leaks, 0);
        }
}

static void write_some(struct fmt_image *img, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                uint64_t off = (uint64_t)(rand() % (int)(DISK / SECTOR)) * SECTOR, len = (uint64_t)(rand() % 200 + 1) * SECTOR;

                len = len > DISK - off ? DISK - off : len;
                for (uint64_t k = 0; k < len; k++)
                        model[off + k] = (unsigned char)rand();
                assert_int_equal(fmt_write_sync(img, model + off, len, off), 0);
        }
}

static void make_base(void)
{
        struct fmt_image *base = NULL;

        create("base", "raw", NULL, NULL);
        base = reopen(NULL, "base", "raw");
        memset(model, 0, DISK);
        write_some(base, 10);
        chain_close(base);
}

static const struct { const char *format, *cluster_size, *backing; } kinds[] = {
        { "raw", NULL, NULL },      { "qcow2", "512", NULL }, { "qcow2", "64k", NULL }, { "qcow2", "4k", "base" },
        { "qcow2", "64k", "base" },
};

static void test_write(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                struct fmt_image *img;

                make_base();
                if (!kinds[i].backing)
                        memset(model, 0, DISK);
                create("a", kinds[i].format, kinds[i].cluster_size, kinds[i].backing);
                img = reopen(NULL, "a", kinds[i].format);
                write_some(img, 20);
                assert_int_equal(fmt_settle_sync(img), 0);
                is_model(img);
                img = reopen(img, "a", kinds[i].format);
                is_model(img);
                chain_close(img);
                cleanup(NULL);
        }
}

static void test_preallocate(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                for (enum fmt_prealloc how = FMT_PREALLOC_OFF; how <= FMT_PREALLOC_FULL; how++) {
                        struct fmt_image *img;
                        uint64_t allocated;
                        struct extent ext;

                        if (kinds[i].backing)
                                continue;
                        memset(model, 0, DISK);
                        create("a", kinds[i].format, kinds[i].cluster_size, NULL);
                        img = reopen(NULL, "a", kinds[i].format);
                        memset(model, 7, SECTOR);
                        assert_int_equal(fmt_write_sync(img, model, SECTOR, 0), 0);
                        if (how == FMT_PREALLOC_METADATA && !kinds[i].cluster_size) {
                                assert_int_equal(fmt_preallocate_sync(img, 65536, DISK - 65536, how), -ENOTSUP);
                        } else {
                                assert_int_equal(fmt_preallocate_sync(img, 65536, DISK - 65536, how), 0);
                                img = reopen(img, "a", kinds[i].format);
                                is_model(img);
                                assert_int_equal(chain_map_sync(img, DISK - SECTOR, SECTOR, &ext), 0);
                                assert_int_equal(ext.kind, how == FMT_PREALLOC_OFF && kinds[i].cluster_size ? EXT_ZERO : EXT_DATA);
                                assert_int_equal(file_allocated(img->file, &allocated), 0);
                                if (how >= FMT_PREALLOC_FALLOC)
                                        assert_true(allocated >= DISK - 65536);
                        }
                        chain_close(img);
                        cleanup(NULL);
                }
}

/* No space: an error, and the image is sound. */
static void test_preallocate_fails(void **state)
{
        struct fmt_image *img;

        memset(model, 0, DISK);
        create("a", "qcow2", "64k", NULL);
        img = reopen(NULL, "a", "qcow2");
        assert_int_equal(fault_arm("file.punch=1:ENOSPC"), 0);
        assert_int_equal(fmt_preallocate_sync(img, 0, DISK, FMT_PREALLOC_FALLOC), -ENOSPC);
        fault_arm(NULL);
        img = reopen(img, "a", "qcow2");
        is_model(img);
        chain_close(img);
}

/* What the file system copies is the same; what it cannot is said and nothing has changed. */
static void test_share(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                struct fmt_image *from, *to;
                uint64_t off = 0, done;
                bool all = true;

                memset(model, 0, DISK);
                create("a", "qcow2", "64k", NULL);
                from = reopen(NULL, "a", "qcow2");
                write_some(from, 30);
                assert_int_equal(fmt_settle_sync(from), 0);
                if (kinds[i].backing)
                        create("base", "raw", NULL, NULL);
                create("b", kinds[i].format, kinds[i].cluster_size, kinds[i].backing);
                to = reopen(NULL, "b", kinds[i].format);
                while (off < DISK) {
                        struct extent ext;
                        int r = chain_map_sync(from, off, DISK - off, &ext);

                        assert_int_equal(r, 0);
                        off += ext.len;
                        for (; ext.kind == EXT_DATA && !ext.hole && ext.len; ext.off += done, ext.host += done, ext.len -= done) {
                                r = fmt_share_sync(to, ext.off, &ext, true, &done);
                                if (r < 0 || !done) { /* a file system without copy_file_range, or a piece that does not fit */
                                        assert_true(r == 0 || r == -EOPNOTSUPP || r == -EXDEV);
                                        all = false;
                                        break;
                                }
                        }
                }
                assert_int_equal(fmt_settle_sync(to), 0);
                to = reopen(to, "b", kinds[i].format);
                if (all) {
                        is_model(to);
                } else {
                        memset(model, 0, DISK); /* at least it is sound */
                        assert_int_equal(chain_read_sync(to, model, DISK, 0), 0);
                        is_model(to);
                }
                chain_close(from);
                chain_close(to);
                cleanup(NULL);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_write, cleanup),
                cmocka_unit_test_teardown(test_preallocate, cleanup),
                cmocka_unit_test_teardown(test_preallocate_fails, cleanup),
                cmocka_unit_test_teardown(test_share, cleanup),
        };

        srand(1);
        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
