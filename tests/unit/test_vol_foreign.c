/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vol_foreign.c - VDI, VHD, VHDX and VMDK as volumes: served read-only, and as backing files of qcow2 overlays
 * whose writes copy up from them. With every engine, so tables are loaded and grains unpacked on the road that guests
 * use.
 */
#include "vol_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tests/lib/foreign_images.h"

#define SECTOR 512u

static const struct engine_opts engines[] = { { .kind = ENGINE_SYNC, .seed = 1 },
                                              { .kind = ENGINE_THREADS },
                                              { .kind = ENGINE_URING } };

static void save(const struct foreign_image *m)
{
        FILE *f = fopen("image", "w");

        assert_non_null(f);
        assert_int_equal(fwrite(m->bytes, m->len, 1, f), 1);
        assert_int_equal(fclose(f), 0);
}

static uint8_t *expected(const struct foreign_image *m)
{
        uint8_t *disk = malloc(m->size);

        assert_non_null(disk);
        for (uint64_t i = 0; i < m->size; i++)
                disk[i] = foreign_byte(m, i);
        return disk;
}

/* All of it at once, and ranges that begin and end in the middle of blocks. */
static void expect_disk(struct rig *g, const uint8_t *disk, uint64_t size)
{
        uint8_t *buf = aligned_alloc(4096, round_up(size, 4096));
        uint64_t seed = 7;

        assert_int_equal(vol_size(g->v), size);
        assert_int_equal(vf_do(g, BLK_READ, 0, 0, size, buf), 0);
        assert_memory_equal(buf, disk, size);
        for (unsigned i = 0; i < 60; i++) {
                uint64_t off = vf_rnd(&seed) % (size / SECTOR) * SECTOR, len = (vf_rnd(&seed) % 20 + 1) * SECTOR;

                len = min_u64(len, size - off);
                assert_int_equal(vf_do(g, BLK_READ, 0, off, len, buf), 0);
                assert_memory_equal(buf, disk + off, len);
        }
        free(buf);
}

static void test_served(void **state)
{
        (void)state;
        for (enum foreign_kind k = 0; k < FOREIGN_KINDS; k++) {
                const struct vol_opts opts = { .format = foreign_format[k], .read_only = true };
                AUTO(freep) uint8_t *disk = NULL;
                struct foreign_image m;
                struct rig g;

                foreign_make(k, &m);
                save(&m);
                disk = expected(&m);
                for (unsigned e = 0; e < ARRAY_SIZE(engines); e++) {
                        uint8_t block[SECTOR] = { 1 };

                        vf_open(&g, "image", &opts, &engines[e]);
                        expect_disk(&g, disk, m.size);
                        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, sizeof(block), block), -EROFS);
                        assert_int_equal(vf_close(&g), 0);
                }
                free(m.bytes);
        }
}

static void test_backing(void **state)
{
        (void)state;
        for (enum foreign_kind k = 0; k < FOREIGN_KINDS; k++) {
                const struct vol_opts opts = { .format = "qcow2" };
                uint8_t *data = aligned_alloc(4096, 4096);
                AUTO(freep) uint8_t *disk = NULL;
                struct foreign_image m;
                uint64_t seed = 3;
                struct rig g;

                foreign_make(k, &m);
                save(&m);
                disk = expected(&m);
                remove("over");
                assert_int_equal(fmt_create_path("over", fmt_driver_find("qcow2"), &(struct fmt_create){
                        .size = m.size, .backing_name = "image", .backing_format = foreign_format[k] }), 0);
                vf_open(&g, "over", &opts, &engines[k % ARRAY_SIZE(engines)]);
                for (unsigned i = 0; i < 12; i++) {
                        uint64_t off = vf_rnd(&seed) % (m.size / SECTOR) * SECTOR,
                                 len = min_u64(i % 3 * 1024 + SECTOR, m.size - off);

                        memset(data, 'A' + i, 4096);
                        assert_int_equal(vf_do(&g, BLK_WRITE, 0, off, len, data), 0);
                        memcpy(disk + off, data, len);
                }
                expect_disk(&g, disk, m.size);
                assert_int_equal(vf_close(&g), 0);
                vf_compare("over", "qcow2", disk, m.size);
                assert_int_equal(vf_check("over"), 0);
                free(data);
                free(m.bytes);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_served), cmocka_unit_test(test_backing) };

        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
