/* SPDX-License-Identifier: BSD-3-Clause */
/* Does the verifier accept what a disk may hold, and nothing else? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "tools/vdisk-bench/verify.h"

#define UNIT 1024u
#define SECTORS (UNIT / 512)

static struct verify *table(bool fresh)
{
        struct verify_opts o = { .offset = 1 << 20, .nunits = 16, .unit_len = UNIT, .seed = 42, .fresh = fresh };
        struct verify *v;

        assert_int_equal(verify_new(&o, &v), 0);
        return v;
}

/* A whole write of @n units, answered; its bytes go to @buf. */
static void written(struct verify *v, uint64_t unit, unsigned n, void *buf)
{
        assert_true(verify_claim(v, unit, n, true));
        verify_change_begin(v, VERIFY_WRITE, unit, n);
        verify_fill(v, unit, n, buf);
        verify_change_done(v, VERIFY_WRITE, unit, n, true);
        verify_release(v, unit, n, true);
}

static void changed(struct verify *v, enum verify_change kind, uint64_t unit)
{
        verify_change_begin(v, kind, unit, 1);
        verify_change_done(v, kind, unit, 1, true);
}

static const uint8_t zeroes[4 * UNIT];

static void test_reads_back_what_was_written(void **state)
{
        struct verify *v = table(false);
        uint8_t buf[4 * UNIT];

        written(v, 3, 4, buf);
        assert_int_equal(verify_compare(v, 3, 4, buf), 0);
        assert_int_equal(verify_compare(v, 4, 1, buf + UNIT), 0);
        verify_free(v);
}

static void test_finds_each_kind_of_wrong_data(void **state)
{
        struct verify *v = table(false);
        uint8_t old[UNIT], now[UNIT], other[UNIT], bad[UNIT];

        written(v, 3, 1, old);
        written(v, 3, 1, now);
        written(v, 4, 1, other);
        assert_int_equal(verify_compare(v, 3, 1, now), 0);
        assert_int_equal(verify_compare(v, 3, 1, old), SECTORS);    /* stale */
        assert_int_equal(verify_compare(v, 3, 1, other), SECTORS);  /* misplaced */
        assert_int_equal(verify_compare(v, 3, 1, zeroes), SECTORS); /* lost */
        memcpy(bad, now, UNIT);
        memcpy(bad + 512, old + 512, 512);                          /* torn */
        assert_int_equal(verify_compare(v, 3, 1, bad), 1);
        for (unsigned i = 0; i < UNIT; i += 37) {                   /* one bit */
                memcpy(bad, now, UNIT);
                bad[i] ^= 4;
                assert_int_equal(verify_compare(v, 3, 1, bad), 1);
        }
        verify_free(v);
}

static void test_what_was_never_written(void **state)
{
        struct verify *any = table(false), *fresh = table(true);
        uint8_t junk[UNIT];

        memset(junk, 0x5a, sizeof(junk));
        assert_false(verify_known(any, 0));
        assert_int_equal(verify_compare(any, 0, 1, junk), 0);
        assert_true(verify_known(fresh, 0));
        assert_int_equal(verify_compare(fresh, 0, 1, zeroes), 0);
        assert_int_equal(verify_compare(fresh, 0, 1, junk), SECTORS); /* somebody else's data */
        verify_free(any);
        verify_free(fresh);
}

static void test_zeroes_and_trims(void **state)
{
        struct verify *v = table(false);
        uint8_t one[UNIT], two[UNIT], three[UNIT];

        written(v, 0, 1, one);
        changed(v, VERIFY_ZEROES, 0);
        assert_int_equal(verify_compare(v, 0, 1, zeroes), 0);
        assert_int_equal(verify_compare(v, 0, 1, one), SECTORS);
        written(v, 1, 1, one);
        written(v, 1, 1, two);
        changed(v, VERIFY_TRIM, 1);
        assert_int_equal(verify_compare(v, 1, 1, zeroes), 0);
        assert_int_equal(verify_compare(v, 1, 1, two), 0);
        assert_int_equal(verify_compare(v, 1, 1, one), SECTORS); /* a trim brings nothing older back */
        written(v, 1, 1, three);
        assert_int_equal(verify_compare(v, 1, 1, zeroes), SECTORS);
        verify_free(v);
}

static void test_failed_write_leaves_old_or_new(void **state)
{
        struct verify *v = table(false);
        uint8_t old[UNIT], now[UNIT];

        written(v, 0, 1, old);
        verify_change_begin(v, VERIFY_WRITE, 0, 1);
        verify_fill(v, 0, 1, now);
        verify_change_done(v, VERIFY_WRITE, 0, 1, false);
        assert_int_equal(verify_compare(v, 0, 1, old), 0);
        assert_int_equal(verify_compare(v, 0, 1, now), 0);
        assert_int_equal(verify_compare(v, 0, 1, zeroes), SECTORS);
        verify_free(v);
}

static void log_written(struct verify *v, struct verify_log *l, uint64_t unit, void *buf)
{
        written(v, unit, 1, buf);
        assert_int_equal(verify_log_add(v, l, VERIFY_WRITE, unit, 1), 0);
}

static void test_crash_keeps_what_a_flush_covered(void **state)
{
        struct verify *v = table(true);
        struct verify_log l = { 0 };
        uint8_t zero[UNIT], one[UNIT], two[UNIT], late[UNIT];

        log_written(v, &l, 0, zero);
        log_written(v, &l, 0, one);
        verify_flush_begin(&l);
        log_written(v, &l, 1, late); /* answered while the flush is under way: not covered */
        verify_flush_done(v, &l, true);
        log_written(v, &l, 0, two);
        verify_crash(v, &l, 0, 16);
        assert_int_equal(verify_compare(v, 0, 1, one), 0);
        assert_int_equal(verify_compare(v, 0, 1, two), 0);
        assert_int_equal(verify_compare(v, 0, 1, zero), SECTORS);   /* older than the flush */
        assert_int_equal(verify_compare(v, 0, 1, zeroes), SECTORS); /* flushed data lost */
        assert_int_equal(verify_compare(v, 1, 1, late), 0);
        assert_int_equal(verify_compare(v, 1, 1, zeroes), 0);
        assert_int_equal(verify_compare(v, 1, 1, one), SECTORS);
        log_written(v, &l, 0, one); /* certain again */
        assert_int_equal(verify_compare(v, 0, 1, two), SECTORS);
        free(l.e);
        verify_free(v);
}

static void test_failed_flush_covers_nothing(void **state)
{
        struct verify *v = table(true);
        struct verify_log l = { 0 };
        uint8_t one[UNIT];

        log_written(v, &l, 0, one);
        verify_flush_begin(&l);
        verify_flush_done(v, &l, false);
        verify_crash(v, &l, 0, 16);
        assert_int_equal(verify_compare(v, 0, 1, zeroes), 0);
        free(l.e);
        verify_free(v);
}

static void test_overlapping_requests_wait(void **state)
{
        struct verify *v = table(true);

        assert_true(verify_claim(v, 2, 4, false));
        assert_true(verify_claim(v, 4, 4, false)); /* readers share */
        assert_false(verify_claim(v, 7, 2, true));
        assert_true(verify_claim(v, 8, 2, true));
        assert_false(verify_claim(v, 9, 1, false));
        verify_release(v, 8, 2, true);
        assert_true(verify_claim(v, 9, 1, false));
        verify_release(v, 4, 4, false);
        assert_true(verify_claim(v, 6, 2, true));
        verify_free(v);
}

static void test_state_survives_in_a_file(void **state)
{
        char path[] = "/tmp/vdiskd-verify-XXXXXX";
        struct verify_opts o = { .nunits = 8, .unit_len = UNIT, .seed = 7, .state = path };
        struct verify *v, *again;
        uint8_t old[UNIT], now[UNIT];
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        close(fd);
        unlink(path);
        assert_int_equal(verify_new(&o, &v), 0);
        written(v, 5, 1, old);
        written(v, 5, 1, now);
        assert_int_equal(verify_save(v), 0);
        o.seed = 8; /* the file's seed counts */
        assert_int_equal(verify_new(&o, &again), 0);
        assert_int_equal(verify_compare(again, 5, 1, now), 0);
        assert_int_equal(verify_compare(again, 5, 1, old), SECTORS);
        o.nunits = 9;
        verify_free(again);
        assert_int_equal(verify_new(&o, &again), -EINVAL); /* another part of the disk */
        assert_non_null(strstr(err_text(-EINVAL), path));
        err_clear();
        unlink(path);
        verify_free(v);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reads_back_what_was_written),
                cmocka_unit_test(test_finds_each_kind_of_wrong_data),
                cmocka_unit_test(test_what_was_never_written),
                cmocka_unit_test(test_zeroes_and_trims),
                cmocka_unit_test(test_failed_write_leaves_old_or_new),
                cmocka_unit_test(test_crash_keeps_what_a_flush_covered),
                cmocka_unit_test(test_failed_flush_covers_nothing),
                cmocka_unit_test(test_overlapping_requests_wait),
                cmocka_unit_test(test_state_survives_in_a_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
