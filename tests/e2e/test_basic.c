/* SPDX-License-Identifier: BSD-3-Clause */
/* Every request type, under every ring feature, one at a time: does the daemon do what the driver asked? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "back_end.h"
#include "common/cleanup.h"
#include "common/err.h"

#define DISK_LEN (64ull << 20)
#define TIMEOUT_MS 60000

static struct back_end be;

#define must(r) do { int must_r_ = (r); if (must_r_ < 0) fail_msg("%s: %s", #r, err_text(must_r_)); } while (0)

static uint8_t request(struct front_end *fe, struct fe_io *io)
{
        must(fe_do(fe_queue(fe, 0), io, TIMEOUT_MS));
        return io->status;
}

static uint8_t transfer(struct front_end *fe, uint32_t type, uint64_t sector, void *buf, uint32_t len)
{
        struct fe_io io = { .type = type, .sector = sector, .gpa = fe_gpa(fe, buf), .len = len };

        return request(fe, &io);
}

static uint8_t range(struct front_end *fe, uint32_t type, uint64_t sector, uint32_t len, bool unmap)
{
        struct fe_io io = { .type = type, .sector = sector, .len = len, .unmap = unmap };

        return request(fe, &io);
}

static void write_read_compare(struct front_end *fe, uint64_t sector, uint32_t len, uint8_t seed)
{
        uint8_t *w = fe_alloc(fe, len, 512), *r = fe_alloc(fe, len, 512);

        assert_non_null(w);
        assert_non_null(r);
        for (uint32_t i = 0; i < len; i++)
                w[i] = (uint8_t)(seed + i * 7 + i / 512);
        assert_int_equal(transfer(fe, FE_WRITE, sector, w, len), FE_OK);
        assert_int_equal(transfer(fe, FE_READ, sector, r, len), FE_OK);
        assert_memory_equal(w, r, len);
}

static const struct { const char *what; uint64_t off, protocol_off; uint32_t seg_len; } rings[] = {
        { "all that is offered", 0, 0, 0 },
        { "direct descriptors", FE_F_INDIRECT_DESC, 0, 0 },
        { "no event index", FE_F_EVENT_IDX, 0, 0 },
        { "neither", FE_F_INDIRECT_DESC | FE_F_EVENT_IDX, 0, 0 },
        { "many segments, indirect", 0, 0, 512 },
        { "many segments, direct", FE_F_INDIRECT_DESC, 0, 512 },
        { "no acknowledgements", 0, FE_PF_REPLY_ACK, 0 },
        { "memory as a table", 0, FE_PF_CONFIGURE_MEM_SLOTS, 0 },
};

static void test_read_back_under_each_ring(void **state)
{
        for (unsigned i = 0; i < ARRAY_SIZE(rings); i++) {
                struct fe_opts o = { .features_off = rings[i].off, .protocol_off = rings[i].protocol_off,
                                     .seg_len = rings[i].seg_len, .max_segs = 64 };
                struct front_end *fe;

                print_message("%s\n", rings[i].what);
                must(be_open(&be, 0, o, &fe));
                write_read_compare(fe, 0, 4096, (uint8_t)i);
                write_read_compare(fe, 1, 512, (uint8_t)(i + 1));
                write_read_compare(fe, 2048 * i + 3, 32768, (uint8_t)(i + 2));
                write_read_compare(fe, DISK_LEN / 512 - 8, 4096, (uint8_t)(i + 3));
                assert_int_equal(range(fe, FE_FLUSH, 0, 0, false), FE_OK);
                fe_close(fe);
        }
}

static void test_config_space(void **state)
{
        struct front_end *fe;

        must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
        assert_int_equal(fe_disk(fe)->capacity, DISK_LEN);
        assert_int_equal(fe_disk(fe)->block_size, 512);
        assert_int_equal(fe_disk(fe)->num_queues, 4);
        assert_int_equal(fe_max_queues(fe), 4);
        assert_true(fe_features(fe) & FE_F_VERSION_1);
        assert_int_equal(!!(fe_features(fe) & FE_F_RING_PACKED), be_packed());
        must(fe_get_config(fe));
        assert_int_equal(fe_disk(fe)->capacity, DISK_LEN);
        fe_close(fe);
}

static void test_zeroes_and_discard(void **state)
{
        static const uint8_t zeroes[65536];
        struct front_end *fe;
        uint8_t *buf;

        must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
        buf = fe_alloc(fe, 65536, 4096);
        for (unsigned unmap = 0; unmap < 2; unmap++) {
                write_read_compare(fe, 4096, 65536, 9);
                assert_int_equal(range(fe, FE_WRITE_ZEROES, 4096, 65536 - 512, unmap), FE_OK);
                assert_int_equal(transfer(fe, FE_READ, 4096, buf, 65536), FE_OK);
                assert_memory_equal(buf, zeroes, 65536 - 512);
                assert_memory_not_equal(buf + 65536 - 512, zeroes, 512); /* the sector behind stays */
        }
        write_read_compare(fe, 8192, 65536, 10);
        assert_int_equal(range(fe, FE_DISCARD, 8192, 65536, false), FE_OK);
        write_read_compare(fe, 8192, 65536, 11); /* what a discarded range holds is open; that it takes data is not */
        fe_close(fe);
}

static void test_get_id(void **state)
{
        struct front_end *fe;
        uint8_t *id;

        must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
        id = fe_alloc(fe, 20, 8);
        memset(id, 0xee, 20);
        assert_int_equal(transfer(fe, FE_GET_ID, 0, id, 20), FE_OK);
        if (be_is_vdiskd())
                for (size_t i = strnlen((char *)id, 20); i < 20; i++)
                        assert_int_equal(id[i], 0);
        fe_close(fe);
}

/* No eventfd: kicks and calls are messages. */
static void test_inband_notifications(void **state)
{
        struct fe_io io = { .type = FE_READ, .len = 4096 }, *done;
        struct front_end *fe;
        struct fe_ring *ring;

        if (!be_is_vdiskd())
                skip();
        must(be_open(&be, 0, (struct fe_opts){ .inband = true, .features_off = FE_F_EVENT_IDX }, &fe));
        ring = fe_queue_ring(fe_queue(fe, 0));
        *(be_packed() ? &ring->driver->flags : &ring->avail->flags) = 0; /* calls are wanted */
        io.gpa = fe_gpa(fe, fe_alloc(fe, 4096, 4096));
        for (unsigned i = 0; i < 50; i++) {
                io.sector = 8 * i;
                must(fe_submit(fe_queue(fe, 0), &io));
                fe_kick(fe_queue(fe, 0));
                must(fe_kick_inband(fe, 0));
                assert_int_equal(fe_backend_message(fe, TIMEOUT_MS), FE_BACKEND_VRING_CALL);
                assert_int_equal(fe_reap(fe_queue(fe, 0), &done, 1), 1);
                assert_int_equal(io.status, FE_OK);
        }
        fe_close(fe);
}

static void test_requests_that_must_fail(void **state)
{
        struct front_end *fe;
        uint8_t *buf;

        must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
        buf = fe_alloc(fe, 8192, 4096);
        assert_int_equal(transfer(fe, FE_READ, DISK_LEN / 512, buf, 512), FE_IOERR);
        assert_int_equal(transfer(fe, FE_READ, DISK_LEN / 512 - 1, buf, 1024), FE_IOERR);
        assert_int_equal(transfer(fe, FE_WRITE, DISK_LEN / 512 - 7, buf, 4096), FE_IOERR);
        assert_int_equal(transfer(fe, FE_READ, UINT64_MAX, buf, 512), FE_IOERR);
        assert_int_equal(transfer(fe, FE_READ, 1ull << 55, buf, 512), FE_IOERR);
        assert_int_equal(transfer(fe, 999, 0, buf, 512), FE_UNSUPP);
        write_read_compare(fe, 0, 4096, 1); /* and the disk goes on */
        fe_close(fe);
}

static void test_read_only_disk(void **state)
{
        struct front_end *fe;
        uint8_t *buf;

        must(be_open(&be, 1, (struct fe_opts){ 0 }, &fe));
        assert_true(fe_features(fe) & 1u << 5); /* VIRTIO_BLK_F_RO */
        buf = fe_alloc(fe, 4096, 4096);
        assert_int_equal(transfer(fe, FE_WRITE, 0, buf, 4096), FE_IOERR);
        assert_int_equal(transfer(fe, FE_READ, 0, buf, 4096), FE_OK);
        fe_close(fe);
}

static int start(void **state)
{
        struct be_disk disks[] = {
                { .format = "qcow2", .size = DISK_LEN },
                { .format = "raw", .size = DISK_LEN, .read_only = true },
        };

        return be_group_start(&be, disks, ARRAY_SIZE(disks), NULL);
}

static int stop(void **state)
{
        return be_group_stop(&be);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_config_space),
                cmocka_unit_test(test_read_back_under_each_ring),
                cmocka_unit_test(test_zeroes_and_discard),
                cmocka_unit_test(test_get_id),
                cmocka_unit_test(test_inband_notifications),
                cmocka_unit_test(test_requests_that_must_fail),
                cmocka_unit_test(test_read_only_disk),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
