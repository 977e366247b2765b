/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks that grow under a front end, and what the front end is told; a write cache that stays off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/e2e/control_fixture.h"

#define MIB (1ull << 20)

static void expect_capacity(struct front_end *fe, uint64_t bytes)
{
        assert_int_equal(fe_get_config(fe), 0);
        assert_int_equal(fe_disk(fe)->capacity, bytes);
}

static void expect_told(struct front_end *fe, uint64_t bytes)
{
        assert_int_equal(fe_backend_message(fe, HANG_MS), FE_BACKEND_CONFIG_CHANGE);
        expect_capacity(fe, bytes);
}

static void grow(const char *name, const char *socket, uint64_t from, uint64_t to)
{
        struct front_end *fe = connect_to(socket);
        char *buf = fe_alloc(fe, 4096, 4096), args[128];

        memset(buf, 0x77, 4096);
        assert_int_equal(fe_disk(fe)->capacity, from);
        assert_int_equal(do_io(fe, FE_WRITE, from - 4096, buf, 4096), FE_OK);
        assert_int_equal(do_io(fe, FE_WRITE, from, buf, 4096), FE_IOERR);
        snprintf(args, sizeof(args), "{'node-name':'%s','size':%llu}", name, (unsigned long long)to);
        must("block_resize", args);
        expect_told(fe, to);
        assert_int_equal(do_io(fe, FE_WRITE, to - 4096, buf, 4096), FE_OK);
        assert_int_equal(do_io(fe, FE_WRITE, to, buf, 4096), FE_IOERR);
        assert_int_equal(do_io(fe, FE_READ, from, buf, 4096), FE_OK);
        for (int i = 0; i < 4096; i++)
                assert_int_equal(buf[i], 0);
        assert_int_equal(do_io(fe, FE_READ, from - 4096, buf, 4096), FE_OK);
        for (int i = 0; i < 4096; i++)
                assert_int_equal(buf[i], 0x77);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        fe_close(fe);
}

static void test_qcow2_grows(void **state)
{
        (void)state;
        grow("first", "first.sock", 64 * MIB, 3000 * MIB);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"virtual-size\":3145728000"));
}

static void test_raw_grows(void **state)
{
        (void)state;
        must("blockdev-add", "{'driver':'raw','node-name':'zeros','file':{'driver':'file','filename':'zeros.img'}}");
        must("block-export-add", "{'type':'vhost-user-blk','id':'zeros','node-name':'zeros','writable':true,"
             "'addr':{'type':'unix','path':'zeros.sock'}}");
        grow("zeros", "zeros.sock", MIB, 9 * MIB);
        must("block_resize", "{'device':'zeros','size':9437184}"); /* the size it has */
}

static void test_refused(void **state)
{
        struct front_end *fe = connect_to("first.sock");
        uint64_t size = fe_disk(fe)->capacity;

        (void)state;
        assert_non_null(strstr(try(client, "block_resize", "{'node-name':'first','size':512}", NULL), "does not shrink"));
        assert_non_null(strstr(try(client, "block_resize", "{'node-name':'first','size':513}", NULL), "multiple of 512"));
        assert_non_null(strstr(try(client, "block_resize", "{'node-name':'first','size':-512}", NULL), "multiple of 512"));
        assert_non_null(strstr(try(client, "block_resize", "{'node-name':'x','size':512}", NULL), "Cannot find device"));
        assert_non_null(strstr(try(client, "block_resize", "{'size':512}", NULL), "Cannot find device"));
        assert_non_null(strstr(try(client, "block_resize", "{'node-name':'first','size':9223372036854775296}", NULL),
                               "too big"));
        expect_capacity(fe, size);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        fe_close(fe);
}

/* A front end without the channel finds the new size when it asks. */
static void test_without_the_channel(void **state)
{
        struct front_end *fe = connect_with("first.sock", &(struct fe_opts){ .protocol_off = FE_PF_BACKEND_REQ });
        uint64_t size = fe_disk(fe)->capacity + MIB;
        char args[128];

        (void)state;
        snprintf(args, sizeof(args), "{'node-name':'first','size':%llu}", (unsigned long long)size);
        must("block_resize", args);
        expect_capacity(fe, size);
        fe_close(fe);
}

/* Nothing is ever answered on the channel: only the channel suffers. */
static void test_a_silent_channel(void **state)
{
        struct front_end *fe = connect_to("first.sock");
        uint64_t size = fe_disk(fe)->capacity;
        char args[128];

        (void)state;
        for (int i = 0; i < 20; i++) {
                size += MIB;
                snprintf(args, sizeof(args), "{'node-name':'first','size':%llu}", (unsigned long long)size);
                must("block_resize", args);
                expect_capacity(fe, size);
                assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        }
        expect_told(fe, size); /* once, and once for all that came while it waited */
        expect_told(fe, size);
        fe_close(fe);
}

static void test_the_cache_stays_off(void **state)
{
        struct front_end *fe = connect_to("first.sock");

        (void)state;
        assert_true(fe_disk(fe)->wce);
        assert_int_equal(fe_set_wce(fe, false), 0);
        fe_close(fe);
        kill(daemon_pid, SIGKILL);
        assert_int_equal(exit_status(), -SIGKILL);
        stop(state);
        start_default(state);
        fe = connect_to("first.sock");
        assert_false(fe_disk(fe)->wce);
        assert_int_equal(fe_set_wce(fe, true), 0);
        fe_close(fe);
        stop(state);
        start_default(state);
        fe = connect_to("first.sock");
        assert_true(fe_disk(fe)->wce);
        fe_close(fe);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start_default, stop)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_qcow2_grows),
                TEST(test_raw_grows),
                TEST(test_refused),
                TEST(test_without_the_channel),
                TEST(test_a_silent_channel),
                TEST(test_the_cache_stays_off),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
