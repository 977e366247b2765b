/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>

#include "common/cleanup.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/memory/guest_mem.h"

/* Every (address, length) near every border, against a look at each byte. */
static void test_translate(void **state)
{
        static const uint64_t edges[] = { 0, 0x1000, 0x2000, 0x4000, 0x10000, 0x14000, UINT64_MAX };
        static const uint64_t lens[] = { 1, 2, 3, 4, 0xfff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001, UINT32_MAX };
        struct mem_table *mt = guest_new(NULL);

        for (size_t e = 0; e < ARRAY_SIZE(edges); e++)
                for (uint64_t addr = edges[e] - 4; addr != edges[e] + 4; addr++)
                        for (size_t l = 0; l < ARRAY_SIZE(lens); l++) {
                                struct iovec iov[4];
                                int n = gm_translate(mt, addr, lens[l], false, iov, 4);
                                uint64_t at = addr;
                                bool inside = guest_at(mt, addr) && guest_at(mt, addr + lens[l] - 1) &&
                                              lens[l] <= 0x4000 && (addr < 0x4000) == (addr + lens[l] - 1 < 0x4000);

                                if ((n > 0) != inside)
                                        fail_msg("0x%lx+0x%lx: %d", addr, lens[l], n);
                                for (int i = 0; i < n; i++) {
                                        assert_ptr_equal(iov[i].iov_base, guest_at(mt, at));
                                        assert_ptr_equal((char *)iov[i].iov_base + iov[i].iov_len - 1,
                                                         guest_at(mt, at + iov[i].iov_len - 1));
                                        at += iov[i].iov_len;
                                }
                                assert_true(n < 0 || at == addr + lens[l]);
                        }
        mem_table_put(mt);
}

static void test_translate_limits(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct iovec iov[2];

        assert_int_equal(gm_translate(mt, 0x1800, 0x1000, false, iov, 2), 2);
        assert_int_equal(gm_translate(mt, 0x1800, 0x1000, false, iov, 1), -E2BIG);
        assert_int_equal(gm_translate(mt, 0x1800, 1, false, iov, 0), -E2BIG);
        assert_int_equal(gm_translate(mt, 0x1800, 0, false, iov, 0), 0);
        assert_int_equal(gm_translate(mt, 0x3fff, 2, false, iov, 2), -EFAULT);
        mem_table_put(mt);
}

static const struct {
        const char *what;
        uint64_t user;
        size_t len, align;
        uint64_t want; /* guest address; 0: refused */
} parts[] = {
        { "start of a region", 0x1000, 16, 16, 0x1000 },
        { "a whole region", 0x10000, 0x4000, 16, 0x10000 },
        { "one byte too many", 0x10000, 0x4001, 16, 0 },
        { "last bytes", 0x13ff0, 16, 16, 0x13ff0 },
        { "over the end", 0x13ff8, 16, 2, 0 },
        { "start of a region behind another", 0x2000, 16, 16, 0x2000 },
        { "over two regions that meet", 0x1ff8, 16, 2, 0 },
        { "not aligned", 0x1002, 16, 4, 0 },
        { "aligned enough", 0x1002, 16, 2, 0x1002 },
        { "in a hole", 0x5000, 16, 2, 0 },
        { "length wraps", 0x1000, SIZE_MAX, 2, 0 },
};

static void test_ring_part(void **state)
{
        struct mem_table *mt = guest_new(NULL);

        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                if (gm_ring_part(mt, GUEST_USER + parts[i].user, parts[i].len, true, parts[i].align) !=
                    (parts[i].want ? guest_at(mt, parts[i].want) : NULL))
                        fail_msg("%s", parts[i].what);
        assert_null(gm_ring_part(mt, 0x1000, 16, true, 16)); /* a guest address is no user address */
        mem_table_put(mt);
}

/* All ways to cut 6 bytes into pieces, copied with every length, both ways; what is left is what was not copied. */
static void test_copies(void **state)
{
        for (unsigned cuts = 0; cuts < 32; cuts++)
                for (size_t want = 0; want <= 8; want++) {
                        char host[6] = "abcdef", out[8] = { 0 };
                        struct iovec iov[6] = { { host, 0 } }, *at = iov, *at2;
                        unsigned n = 1, n2;
                        size_t done = want < 6 ? want : 6, left = 0;

                        for (unsigned i = 0; i < 6; i++) {
                                iov[n - 1].iov_len++;
                                if (i < 5 && cuts & 1u << i)
                                        iov[n++] = (struct iovec){ host + i + 1, 0 };
                        }
                        assert_int_equal(gm_copy_in(out, want, &at, &n), done);
                        assert_memory_equal(out, "abcdef", done);
                        for (unsigned i = 0; i < n; i++)
                                left += at[i].iov_len;
                        assert_int_equal(left, 6 - done);
                        assert_true(!n || at->iov_base == host + done);
                        at2 = at;
                        n2 = n;
                        assert_int_equal(gm_copy_out("XXXXXXXX", want, &at2, &n2), left < want ? left : want);
                        for (size_t i = 0; i < 6; i++)
                                assert_int_equal(host[i], i >= done && i < done + want ? 'X' : "abcdef"[i]);
                }
}

/* A piece without bytes holds nobody up. */
static void test_empty_pieces(void **state)
{
        char host[6] = "abcdef", out[6];
        struct iovec iov[] = { { host, 0 }, { host, 2 }, { host + 2, 0 }, { host + 2, 0 }, { host + 2, 4 }, { host, 0 } }, *at = iov;
        unsigned n = ARRAY_SIZE(iov);

        assert_int_equal(gm_copy_in(out, 6, &at, &n), 6);
        assert_memory_equal(out, "abcdef", 6);
        assert_int_equal(n, 0);
        assert_int_equal(gm_copy_out("x", 1, &at, &n), 0);
}

/* --- behind an IOMMU ------------------------------------------------------------------------------------------------- */

#define IOVA 0xffff00000000ull

static const struct {
        uint64_t iova, guest;
} pages[] = { { IOVA, 0x10000 }, { IOVA + 0x1000, 0x11000 }, { IOVA + 0x2000, 0x13000 }, { IOVA + 0x4000, 0x5000 /* a hole */ } };

static struct mem_table *behind_iommu(void)
{
        struct mem_table *mt = guest_new(NULL);

        mt->iotlb = iotlb_new();
        for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
                assert_int_equal(iotlb_update(mt->iotlb, pages[i].iova, 0x1000, GUEST_USER + pages[i].guest, IOTLB_READ), 0);
        return mt;
}

static void finish_iommu(struct mem_table *mt)
{
        iotlb_free(mt->iotlb);
        mem_table_put(mt);
}

static void test_iova(void **state)
{
        struct mem_table *mt = behind_iommu();
        struct iovec iov[4];
        uint64_t page;
        uint8_t perm;

        assert_int_equal(gm_translate(mt, IOVA + 0x800, 0x1000, false, iov, 1), 1); /* side by side here, too */
        assert_ptr_equal(iov[0].iov_base, guest_at(mt, 0x10800));
        assert_int_equal(iov[0].iov_len, 0x1000);
        assert_int_equal(gm_translate(mt, IOVA, 0x3000, false, iov, 1), -E2BIG);
        assert_int_equal(gm_translate(mt, IOVA, 0x3000, false, iov, 2), 2);
        assert_int_equal(iov[0].iov_len, 0x2000);
        assert_ptr_equal(iov[1].iov_base, guest_at(mt, 0x13000));
        assert_int_equal(gm_translate(mt, IOVA + 0x4000, 1, false, iov, 4), -EFAULT); /* mapped to what is no memory */
        assert_int_equal(gm_translate(mt, UINT64_MAX - 3, 8, false, iov, 4), -EFAULT); /* wraps */
        assert_int_equal(gm_translate(mt, IOVA + 0x2ff8, 16, false, iov, 4), -EAGAIN);
        assert_true(iotlb_next_miss(mt->iotlb, &page, &perm));
        assert_int_equal(page, IOVA + 0x3000);
        assert_int_equal(perm, IOTLB_READ);
        assert_false(iotlb_next_miss(mt->iotlb, &page, &perm));
        assert_int_equal(gm_translate(mt, IOVA, 1, true, iov, 4), -EAGAIN); /* mapped, but not for that: is it by now? */
        assert_true(iotlb_next_miss(mt->iotlb, &page, &perm));
        assert_int_equal(perm, IOTLB_WRITE);
        finish_iommu(mt);
}

/* As many pages as can be asked for at once are looked at, not the million of a descriptor as long as it can be: what lies behind them,
 * here a page that leads nowhere, is not seen before they have come. */
static void test_iova_asks_for_no_more_than_it_may(void **state)
{
        struct mem_table *mt = behind_iommu();
        uint64_t far = IOVA + 0x10000, behind = IOTLB_WANTED * (uint64_t)IOTLB_PAGE, page;
        struct iovec iov[4];
        unsigned asked = 0;
        uint8_t perm;

        assert_int_equal(iotlb_update(mt->iotlb, far + behind, IOTLB_PAGE, 1, IOTLB_READ), 0);
        assert_int_equal(gm_translate(mt, far, behind + IOTLB_PAGE, false, iov, 4), -EFAULT);
        assert_int_equal(gm_translate(mt, far - IOTLB_PAGE, behind + 2 * IOTLB_PAGE, false, iov, 4), -EAGAIN);
        while (iotlb_next_miss(mt->iotlb, &page, &perm))
                asked++;
        assert_int_equal(asked, IOTLB_WANTED);
        assert_int_equal(gm_translate(mt, far, UINT32_MAX, false, iov, 4), -EFAULT); /* those that are asked for are passed */
        finish_iommu(mt);
}

static void test_iova_ring_part(void **state)
{
        struct mem_table *mt = behind_iommu();

        assert_ptr_equal(gm_ring_part(mt, IOVA + 0x10, 16, false, 16), guest_at(mt, 0x10010));
        assert_null(gm_ring_part(mt, IOVA + 0x4000, 16, false, 16));
        assert_int_equal(errno, EFAULT);
        assert_null(gm_ring_part(mt, IOVA + 0x1ff8, 16, false, 2)); /* in two pieces */
        assert_int_equal(errno, EFAULT);
        assert_null(gm_ring_part(mt, IOVA + 0x8000, 16, false, 16)); /* who knows? */
        assert_int_equal(errno, EAGAIN);
        finish_iommu(mt);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_translate), cmocka_unit_test(test_translate_limits),
                cmocka_unit_test(test_ring_part), cmocka_unit_test(test_copies),
                cmocka_unit_test(test_empty_pieces), cmocka_unit_test(test_iova), cmocka_unit_test(test_iova_asks_for_no_more_than_it_may),
                cmocka_unit_test(test_iova_ring_part),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
