/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/file.h"
#include "common/range.h"

#define MODEL_BYTES (300u << 10) /* more than one bounce */

static char dir[] = "/var/tmp/test_file.XXXXXX"; /* not tmpfs: O_DIRECT must be real */
static char path[64];

static int make_dir(void **state)
{
        if (!mkdtemp(dir))
                return -1;
        snprintf(path, sizeof(path), "%s/f", dir);
        return 0;
}

static int remove_dir(void **state)
{
        unlink(path);
        return rmdir(dir);
}

static int cleanup(void **state)
{
        err_clear();
        unlink(path);
        return fault_arm(NULL);
}

static void test_open_errors(void **state)
{
        char fifo[80];
        struct file *f;

        assert_int_equal(file_open(path, 0, &f), -ENOENT);
        assert_non_null(strstr(err_text(-ENOENT), path));
        err_clear();
        assert_int_equal(file_open(dir, FILE_RDONLY, &f), -ENOTSUP);
        assert_non_null(strstr(err_text(-ENOTSUP), "neither a regular file nor a block device"));
        err_clear();
        snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(file_open(fifo, FILE_RDONLY, &f), -ENOTSUP); /* and does not hang */
        unlink(fifo);
        err_clear();
        assert_int_equal(file_open(path, FILE_CREATE, &f), 0);
        file_close(f);
        assert_int_equal(file_open(path, FILE_CREATE, &f), -EEXIST);
}

static void test_overwrite_empties(void **state)
{
        struct file *f;

        assert_int_equal(file_open(path, FILE_OVERWRITE, &f), 0);
        assert_int_equal(file_pwrite(f, "hello", 5, 100), 0);
        assert_int_equal(f->size, 105);
        file_close(f);
        assert_int_equal(file_open(path, FILE_OVERWRITE, &f), 0);
        assert_int_equal(f->size, 0);
        file_close(f);
}

static void test_read_only(void **state)
{
        struct file *f;

        assert_int_equal(file_open(path, FILE_CREATE, &f), 0);
        file_close(f);
        assert_int_equal(file_open(path, FILE_RDONLY, &f), 0);
        assert_true(f->read_only);
        assert_int_equal(file_pwrite(f, "x", 1, 0), -EBADF);
        assert_non_null(strstr(err_text(-EBADF), "cannot write at offset 0"));
        file_close(f);
}

/* Random reads, writes, truncates and zeroings of any alignment against a plain buffer. */
static void run_model(struct file *f, unsigned seed)
{
        AUTO(freep) char *model = calloc(1, MODEL_BYTES), *buf = malloc(MODEL_BYTES);
        uint64_t size = 0;

        srandom(seed);
        for (int i = 0; i < 300; i++) {
                uint64_t off = (uint64_t)random() % MODEL_BYTES, len = (uint64_t)random() % (MODEL_BYTES - off) + 1;
                int what = (int)(random() % 8);

                if (random() % 4 == 0)
                        len = min_u64(len, 700);
                if (random() % 4 == 0) {
                        off = round_down(off, 4096);
                        len = min_u64(round_up(len, 4096), MODEL_BYTES - off);
                }
                if (what < 4) {
                        memset(model + off, i % 255 + 1, len);
                        size = max_u64(size, off + len);
                        memcpy(buf, model + off, len);
                        assert_int_equal(file_pwrite(f, buf, len, off), 0);
                } else if (what < 5) {
                        memset(model + off, 0, MODEL_BYTES - off);
                        size = off;
                        assert_int_equal(file_truncate(f, off), 0);
                } else if (what < 6) {
                        memset(model + off, 0, len);
                        assert_int_equal(file_zero(f, off, len, random() % 2), 0);
                }
                if (f->size != size)
                        fail_msg("seed %u, step %d: size %llu, not %llu", seed, i, (unsigned long long)f->size,
                                 (unsigned long long)size);
                memset(buf, 0xee, MODEL_BYTES);
                assert_int_equal(file_pread(f, buf, len, off), 0); /* past the end: zeros */
                if (memcmp(buf, model + off, len))
                        fail_msg("seed %u, step %d: bytes differ", seed, i);
        }
        assert_int_equal(file_sync(f), 0);
}

static unsigned pick_seed(void)
{
        const char *fixed = getenv("TEST_SEED");
        unsigned seed = fixed ? (unsigned)strtoul(fixed, NULL, 10) : (unsigned)getpid();

        print_message("seed %u\n", seed);
        return seed;
}

static void check_size_on_disk(const struct file *f)
{
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, f->size);
}

static void test_model_page_cache(void **state)
{
        struct file *f;

        assert_int_equal(file_open(path, FILE_OVERWRITE, &f), 0);
        run_model(f, pick_seed());
        check_size_on_disk(f);
        file_close(f);
}

static void test_model_direct(void **state)
{
        struct file *f;

        assert_int_equal(file_open(path, FILE_OVERWRITE | FILE_DIRECT, &f), 0);
        if (f->direct)
                assert_true(is_pow2(f->off_align) && f->off_align >= 512 && is_pow2(f->mem_align));
        else
                print_message("no O_DIRECT in %s: tested through the page cache\n", dir);
        run_model(f, pick_seed());
        check_size_on_disk(f);
        file_close(f);
}

static void test_model_memory(void **state)
{
        struct file *f;
        size_t len;

        assert_int_equal(file_open_mem("abc", 3, &f), 0);
        assert_memory_equal(file_mem_bytes(f, &len), "abc", 3);
        assert_int_equal(len, 3);
        assert_int_equal(file_truncate(f, 0), 0);
        run_model(f, pick_seed());
        assert_int_equal(file_pwrite(f, "x", 1, 1ull << 62), -EFBIG);
        file_close(f);
}

/* Asked anywhere, in any order, the answer is that of the bytes: also where it is remembered, until the file may be written to. */
static void test_runs(void **state)
{
        static const unsigned ask[] = { 64, 127, 128, 130, 0, 200, 255, 190, 256, 70 }; /* KiB; runs of 64: hole, data, ... */
        char data[4096] = { 1 };
        uint64_t end;
        struct file *f;
        bool hole;

        assert_int_equal(file_open(path, FILE_OVERWRITE, &f), 0);
        assert_int_equal(file_truncate(f, 256 << 10), 0);
        for (unsigned off = 64 << 10; off < 256 << 10; off += off == (128 << 10) - sizeof(data) ? 68 << 10 : sizeof(data))
                assert_int_equal(file_pwrite(f, data, sizeof(data), off), 0);
        assert_int_equal(file_run_at(f, 0, &hole, &end), 0);
        file_close(f);
        if (!hole)
                skip(); /* a file system without holes */
        assert_int_equal(file_open(path, FILE_RDONLY, &f), 0);
        for (unsigned i = 0; i < 2 * sizeof(ask) / sizeof(ask[0]); i++) {
                unsigned at = ask[i % (sizeof(ask) / sizeof(ask[0]))];

                assert_int_equal(file_run_at(f, (uint64_t)at << 10, &hole, &end), 0);
                assert_int_equal(hole, at / 64 % 2 == 0);
                assert_int_equal(end, at < 256 ? (at / 64 + 1) << 16 : UINT64_MAX);
        }
        assert_int_equal(file_run_at(f, 0, &hole, &end), 0);
        assert_int_equal(file_set_writable(f, true), 0);
        assert_int_equal(file_pwrite(f, data, sizeof(data), 0), 0);
        assert_int_equal(file_run_at(f, 0, &hole, &end), 0);
        assert_false(hole);
        file_close(f);
}

static void test_holes(void **state)
{
        uint64_t end, allocated;
        bool hole;
        char block[4096] = { 1 };
        struct file *f;

        assert_int_equal(file_open(path, FILE_OVERWRITE, &f), 0);
        assert_int_equal(file_truncate(f, 1 << 20), 0);
        assert_int_equal(file_pwrite(f, block, sizeof(block), 512 << 10), 0);
        assert_int_equal(file_run_at(f, 512 << 10, &hole, &end), 0);
        assert_true(!hole && end > 512 << 10);
        assert_int_equal(file_run_at(f, 2 << 20, &hole, &end), 0);
        assert_true(hole && end == UINT64_MAX);
        assert_int_equal(file_zero(f, 0, 1 << 20, false), 0);
        assert_int_equal(f->size, 1 << 20);
        assert_int_equal(file_run_at(f, 0, &hole, &end), 0);
        assert_int_equal(end, f->size);
        if (hole) { /* the file system knows holes */
                assert_int_equal(file_allocated(f, &allocated), 0);
                assert_true(allocated < 64 << 10);
                assert_int_equal(file_zero(f, 0, 256 << 10, true), 0);
                assert_int_equal(file_allocated(f, &allocated), 0);
                assert_true(allocated >= 256 << 10);
        }
        file_close(f);
}

/* Bytes that go from file to file without passing through us; who cannot says so and changes nothing. */
static void test_without_us(void **state)
{
        char bytes[8192], got[8192], other[80];
        struct file *a, *b, *mem;
        int r;

        memset(bytes, 5, sizeof(bytes));
        snprintf(other, sizeof(other), "%s/g", dir);
        assert_int_equal(file_open(path, FILE_OVERWRITE, &a), 0);
        assert_int_equal(file_open(other, FILE_OVERWRITE, &b), 0);
        assert_int_equal(file_open_mem(bytes, sizeof(bytes), &mem), 0);
        assert_int_equal(file_pwrite(a, bytes, sizeof(bytes), 0), 0);
        assert_int_equal(file_truncate(b, 3 * sizeof(bytes)), 0);
        r = file_offload(b, sizeof(bytes), a, 0, sizeof(bytes));
        assert_true(r == 0 || r == -EOPNOTSUPP);
        if (r == 0) {
                assert_int_equal(file_pread(b, got, sizeof(got), sizeof(bytes)), 0);
                assert_memory_equal(got, bytes, sizeof(bytes));
        }
        r = file_share(b, 0, a, 0, 4096);
        assert_int_equal(r, file_can_share(b, a) ? 0 : -EOPNOTSUPP);
        assert_int_equal(file_offload(b, 0, a, 1 << 20, 4096), -EINVAL); /* there is nothing to copy */
        assert_false(file_can_share(b, mem) || file_can_share(mem, a));
        assert_int_equal(file_share(mem, 0, a, 0, 4096), -EOPNOTSUPP);
        assert_int_equal(file_offload(b, 0, mem, 0, 4096), -EOPNOTSUPP);
        assert_int_equal(file_write_zeros(b, 1000, sizeof(bytes)), 0);
        assert_int_equal(file_pread(b, got, sizeof(got), 1000), 0);
        memset(bytes, 0, sizeof(bytes));
        assert_memory_equal(got, bytes, sizeof(bytes));
        file_hint_extents(a, 1 << 20); /* wishes: whoever does not know them goes on without */
        file_hint_nocow(a);
        file_hint_nocow(mem);
        file_close(a);
        file_close(b);
        file_close(mem);
        unlink(other);
}

struct recorder {
        struct file_tap tap;
        unsigned issued[5], done[5];
        uint64_t bytes;
};

static void record(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        struct recorder *rec = container_of(tap, struct recorder, tap);

        if (ev->phase == FILE_EV_DONE) {
                rec->done[ev->kind]++;
                return;
        }
        rec->issued[ev->kind]++;
        for (int i = 0; i < ev->niov; i++)
                rec->bytes += ev->iov[i].iov_len;
}

static void test_taps_and_faults(void **state)
{
        struct recorder rec = { .tap.event = record };
        struct file *f;

        assert_int_equal(file_open_mem(NULL, 4096, &f), 0);
        f->tap = &rec.tap;
        assert_int_equal(fault_arm("file.write=2:ENOSPC,file.sync=1,file.read=1,file.truncate=1,file.punch=1"), 0);
        assert_int_equal(file_pwrite(f, "abc", 3, 0), 0);
        assert_int_equal(file_pwrite(f, "def", 3, 8000), -ENOSPC);
        assert_int_equal(file_sync(f), -EIO);
        assert_int_equal(file_sync(f), 0);
        assert_int_equal(file_truncate(f, 0), -EIO);
        assert_int_equal(file_zero(f, 0, 1, false), -EIO);
        assert_int_equal(file_pread(f, &(char){ 0 }, 1, 0), -EIO);
        assert_int_equal(f->size, 4096); /* what failed changed nothing and was not recorded */
        assert_int_equal(rec.issued[FILE_EV_WRITE], 1);
        assert_int_equal(rec.done[FILE_EV_WRITE], 1);
        assert_int_equal(rec.bytes, 3);
        assert_int_equal(rec.issued[FILE_EV_SYNC], 1);
        assert_int_equal(rec.done[FILE_EV_SYNC], 1);
        assert_int_equal(rec.issued[FILE_EV_TRUNCATE] + rec.issued[FILE_EV_PUNCH] + rec.issued[FILE_EV_ZERO], 0);
        assert_int_equal(file_zero(f, 0, 1, true), 0);
        assert_int_equal(file_zero(f, 1, 1, false), 0);
        assert_int_equal(file_truncate(f, 10), 0);
        assert_true(rec.done[FILE_EV_ZERO] == 1 && rec.done[FILE_EV_PUNCH] == 1 && rec.done[FILE_EV_TRUNCATE] == 1);
        file_close(f);
}

static void test_identify(void **state)
{
        struct file *f;
        dev_t dev;
        ino_t ino;

        assert_int_equal(file_identify(path, &dev, &ino), -ENOENT);
        err_clear();
        assert_int_equal(file_open(path, FILE_CREATE, &f), 0);
        assert_int_equal(file_identify(path, &dev, &ino), 0);
        assert_true(dev == f->dev && ino == f->ino);
        file_close(f);
}

/* The same open file: direct or not, and written to or not. */
static void test_another_manner(void **state)
{
        char other[80], buf[4096];
        struct file *f;

        (void)state;
        memset(buf, 0x11, sizeof(buf));
        assert_int_equal(file_open(path, FILE_CREATE, &f), 0);
        assert_int_equal(file_pwrite(f, buf, sizeof(buf), 0), 0);
        assert_int_equal(file_sync(f), 0);
        file_close(f);
        assert_int_equal(file_open(path, FILE_RDONLY, &f), 0);
        for (int i = 0; i < 3; i++) {
                file_set_direct(f, i % 2 == 0);
                assert_true(f->direct ? i % 2 == 0 && f->off_align > 1 : f->off_align == 1);
                assert_int_equal(file_pread(f, buf, 100, 7), 0);
                assert_int_equal(buf[99], 0x11);
        }
        assert_int_equal(file_set_writable(f, true), 0); /* opened again */
        assert_false(f->read_only);
        assert_int_equal(file_pwrite(f, "x", 1, 5), 0);
        file_demote(f);
        assert_true(f->read_only);
        assert_int_equal(file_set_writable(f, true), 0); /* it still can */
        assert_int_equal(file_pwrite(f, "y", 1, 5), 0);
        file_close(f);

        assert_int_equal(file_open(path, FILE_RDONLY, &f), 0);
        snprintf(other, sizeof(other), "%s.old", path);
        assert_int_equal(rename(path, other), 0);
        err_clear();
        assert_int_equal(file_set_writable(f, true), -ENOENT);
        assert_int_equal(close(creat(path, 0600)), 0);
        err_clear();
        assert_int_equal(file_set_writable(f, true), -ESTALE);
        assert_true(f->read_only);
        assert_int_equal(file_pread(f, buf, 1, 5), 0);
        assert_int_equal(buf[0], 'y');
        assert_int_equal(rename(other, path), 0);
        file_close(f);
        err_clear();
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_open_errors, cleanup),
                cmocka_unit_test_teardown(test_overwrite_empties, cleanup),
                cmocka_unit_test_teardown(test_read_only, cleanup),
                cmocka_unit_test_teardown(test_model_page_cache, cleanup),
                cmocka_unit_test_teardown(test_model_direct, cleanup),
                cmocka_unit_test_teardown(test_model_memory, cleanup),
                cmocka_unit_test_teardown(test_holes, cleanup),
                cmocka_unit_test_teardown(test_runs, cleanup),
                cmocka_unit_test_teardown(test_without_us, cleanup),
                cmocka_unit_test_teardown(test_taps_and_faults, cleanup),
                cmocka_unit_test_teardown(test_identify, cleanup),
                cmocka_unit_test_teardown(test_another_manner, cleanup),
        };

        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
