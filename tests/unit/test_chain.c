/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "tests/unit/fetch_once.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/chain.h"

#define TABLE 0x10000ull /* guest address of the table under test; indirect tables too */
#define OUTER 0x12000ull

/* --- all tables of three descriptors over a small alphabet ------------------------------------------------------- */

static const struct { uint64_t addr; uint32_t len; bool ok; unsigned pieces; } places[] = {
        { 0x1800, 8, true, 1 },
        { 0x1ffc, 8, true, 2 }, /* over the border of two regions */
        { 0x3ffc, 8, false, 0 }, /* half in a hole */
        { 0x1800, 0, false, 0 },
};
#define LETTERS (4u * 8u * 4u) /* places x flags x next 0..3 */

static struct vring_desc letter(unsigned n)
{
        return (struct vring_desc){ .addr = places[n % 4].addr, .len = places[n % 4].len, .flags = n / 4 % 8,
                                    .next = n / 32 };
}

/* What the specification says about a walk from @head, in the plainest words: every descriptor at most once. */
static bool oracle(const unsigned *letters, unsigned head, unsigned *pieces, uint64_t *read, uint64_t *written)
{
        bool seen[3] = { false }, writing = false;
        unsigned i = head;

        *pieces = 0;
        *read = *written = 0;
        for (;;) {
                unsigned n = letters[i < 3 ? i : 0], flags = n / 4 % 8;

                if (i >= 3 || seen[i] || !places[n % 4].ok || flags & VRING_DESC_F_INDIRECT)
                        return false; /* no letter is a right indirect descriptor: a length of 8 is no table */
                if (writing && !(flags & VRING_DESC_F_WRITE))
                        return false;
                seen[i] = true;
                writing = flags & VRING_DESC_F_WRITE;
                *pieces += places[n % 4].pieces;
                *(writing ? written : read) += places[n % 4].len;
                if (!(flags & VRING_DESC_F_NEXT))
                        return true;
                i = n / 32;
        }
}

static void check(struct chain *c, int r, const char *why, const unsigned *letters, unsigned head, bool expect_any)
{
        unsigned pieces;
        uint64_t read, written;
        bool ok = expect_any && oracle(letters, head, &pieces, &read, &written);

        if ((r == 0) != ok || (r < 0 && !why))
                fail_msg("descriptors %u %u %u from %u: %d %s", letters[0], letters[1], letters[2], head, r,
                         why ? why : "without a reason");
        if (ok && (c->nread + c->nwrite != pieces || c->read_len != read || c->write_len != written || c->head != head))
                fail_msg("descriptors %u %u %u from %u: wrong sums", letters[0], letters[1], letters[2], head);
}

static void fill(struct vring_desc *table, const unsigned *letters)
{
        for (int i = 0; i < 3; i++)
                table[i] = letter(letters[i]);
        /* Behind the table: it looks right, so nobody notices but those who count. */
        table[3] = (struct vring_desc){ places[0].addr, places[0].len, VRING_DESC_F_WRITE, 0 };
}

static void test_all_direct(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct vring_desc *table = (struct vring_desc *)guest_at(mt, TABLE);
        struct chain c;

        for (unsigned n = 0; n < LETTERS * LETTERS * LETTERS; n++) {
                unsigned letters[3] = { n % LETTERS, n / LETTERS % LETTERS, n / LETTERS / LETTERS };

                fill(table, letters);
                for (unsigned head = 0; head < 4; head += 1 + (n & 1)) {
                        const char *why = NULL;
                        int r;

                        c.indirect_ok = n & 2;
                        r = chain_read(&c, mt, table, 3, (uint16_t)head, &why);
                        check(&c, r, why, letters, head, head < 3);
                }
        }
        mem_table_put(mt);
}

static void test_all_indirect(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct vring_desc *table = (struct vring_desc *)guest_at(mt, TABLE);
        struct vring_desc *outer = (struct vring_desc *)guest_at(mt, OUTER);
        struct chain c = { .indirect_ok = true };

        *outer = (struct vring_desc){ TABLE, 3 * sizeof(*table), VRING_DESC_F_INDIRECT, 0 };
        for (unsigned n = 0; n < LETTERS * LETTERS * LETTERS; n++) {
                unsigned letters[3] = { n % LETTERS, n / LETTERS % LETTERS, n / LETTERS / LETTERS };
                const char *why = NULL;
                int r;

                fill(table, letters);
                r = chain_read(&c, mt, outer, 1, 0, &why);
                c.head = 0; /* the walk of an indirect table always starts at 0 */
                check(&c, r, why, letters, 0, true);
        }
        mem_table_put(mt);
}

/* --- the same alphabet in a packed ring: no links, an order ------------------------------------------------------ */

static int add_all(struct chain *c, const struct mem_table *mt, const struct chain_desc *d, unsigned n, const char **why)
{
        int r = 1;

        chain_begin(c);
        for (unsigned i = 0; i < n && r > 0; i++)
                r = chain_add(c, mt, &d[i], 3, why);
        return r;
}

/* @all: the table is the chain, whatever NEXT says; otherwise it is as long as NEXT says, and 1 is the answer if it has no end. */
static int packed_oracle(const unsigned *letters, bool all, unsigned *pieces, uint64_t *read, uint64_t *written)
{
        bool writing = false;

        *pieces = 0;
        *read = *written = 0;
        for (unsigned i = 0; i < 3; i++) {
                unsigned n = letters[i], flags = n / 4;

                if (!places[n % 4].ok || flags & VRING_DESC_F_INDIRECT || (writing && !(flags & VRING_DESC_F_WRITE)))
                        return -22;
                writing = flags & VRING_DESC_F_WRITE;
                *pieces += places[n % 4].pieces;
                *(writing ? written : read) += places[n % 4].len;
                if (!all && !(flags & VRING_DESC_F_NEXT))
                        return 0;
        }
        return !all;
}

static void check_packed(const struct chain *c, int r, const unsigned *letters, bool all)
{
        unsigned pieces;
        uint64_t read, written;

        if (r != packed_oracle(letters, all, &pieces, &read, &written))
                fail_msg("descriptors %u %u %u: %d", letters[0], letters[1], letters[2], r);
        if (r == 0 && (c->nread + c->nwrite != pieces || c->read_len != read || c->write_len != written))
                fail_msg("descriptors %u %u %u: wrong sums", letters[0], letters[1], letters[2]);
}

static void test_all_packed(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct vring_packed_desc *table = (struct vring_packed_desc *)guest_at(mt, TABLE);
        const struct chain_desc outer = { TABLE, 3 * sizeof(*table), 7, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE };
        struct chain c = { .indirect_ok = true };
        const char *why;

        for (unsigned n = 0; n < 32 * 32 * 32; n++) {
                unsigned letters[3] = { n % 32, n / 32 % 32, n / 32 / 32 };
                struct chain_desc d[3];

                for (unsigned i = 0; i < 3; i++) {
                        d[i] = (struct chain_desc){ places[letters[i] % 4].addr, places[letters[i] % 4].len,
                                                    (uint16_t)(40 + i), (uint16_t)(letters[i] / 4 | 1u << 7) };
                        table[i] = (struct vring_packed_desc){ d[i].addr, d[i].len, 99, d[i].flags };
                }
                check_packed(&c, add_all(&c, mt, d, 3, &why), letters, false);
                assert_int_equal(c.head, 39 + c.ndescs);
                check_packed(&c, add_all(&c, mt, &outer, 1, &why), letters, true);
                assert_int_equal(c.head, 7);
                assert_int_equal(c.ndescs, 1);
        }
        mem_table_put(mt);
}

/* --- indirect tables as such ------------------------------------------------------------------------------------- */

static const struct {
        const char *what;
        struct vring_desc d;
        bool negotiated, ok;
} indirect[] = {
        { "two entries", { TABLE, 32, 4, 0 }, true, true },
        { "the WRITE flag means nothing here", { TABLE, 32, 6, 0 }, true, true },
        { "over the border of two regions", { 0x1ff8, 32, 4, 0 }, true, true },
        { "not negotiated", { TABLE, 32, 4, 0 }, false, false },
        { "with a next one", { TABLE, 32, 5, 1 }, true, false },
        { "no length", { TABLE, 0, 4, 0 }, true, false },
        { "half an entry", { TABLE, 24, 4, 0 }, true, false },
        { "as many as any queue", { TABLE, 128 * 16, 4, 0 }, true, true },
        { "more than any queue", { TABLE, 129 * 16, 4, 0 }, true, false },
        { "huge", { TABLE, 0xfffffff0, 4, 0 }, true, false },
        { "in a hole", { 0x5000, 32, 4, 0 }, true, false },
        { "ends in a hole", { 0x3ff0, 32, 4, 0 }, true, false },
        { "wraps around", { UINT64_MAX - 15, 32, 4, 0 }, true, false },
};

static void test_indirect_tables(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct vring_desc two[2] = { { 0x1000, 16, 1, 1 }, { 0x1100, 1, 2, 0 } };
        struct vring_desc *outer = (struct vring_desc *)guest_at(mt, OUTER);

        memcpy(guest_at(mt, TABLE), two, sizeof(two));
        memcpy(guest_at(mt, 0x3ff0), two, 16);
        memcpy(guest_at(mt, 0x1ff8), two, 8); /* the first eight bytes end a region */
        memcpy(guest_at(mt, 0x2000), (char *)two + 8, 24);
        for (size_t i = 0; i < ARRAY_SIZE(indirect); i++) {
                struct chain c = { .indirect_ok = indirect[i].negotiated };
                const char *why = NULL;

                *outer = indirect[i].d;
                nfetched = 0;
                if ((chain_read(&c, mt, outer, 4, 0, &why) == 0) != indirect[i].ok)
                        fail_msg("%s: %s", indirect[i].what, why);
                if (indirect[i].ok && (c.nread != 1 || c.nwrite != 1 || c.read_len != 16 || c.write_len != 1))
                        fail_msg("%s: wrong sums", indirect[i].what);
        }
        mem_table_put(mt);
}

/* The same tables, if their length and place is all that is wrong with them: a packed one has no end but its length. */
static void test_packed_indirect_tables(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct vring_packed_desc two[2] = { { 0x1000, 16, 0, 1 }, { 0x1100, 1, 0, 2 } };

        for (unsigned i = 0; i < 128; i++)
                memcpy(guest_at(mt, TABLE + 16 * i), &two[i > 0], 16);
        memcpy(guest_at(mt, 0x3ff0), two, 16);
        memcpy(guest_at(mt, 0x1ff8), two, 8);
        memcpy(guest_at(mt, 0x2000), (char *)two + 8, 24);
        for (size_t i = 0; i < ARRAY_SIZE(indirect); i++) {
                const struct vring_desc *o = &indirect[i].d;
                const struct chain_desc d = { o->addr, o->len, 3, o->flags };
                struct chain c = { .indirect_ok = indirect[i].negotiated };
                const char *why = NULL;

                if ((add_all(&c, mt, &d, 1, &why) == 0) != indirect[i].ok)
                        fail_msg("%s: %s", indirect[i].what, why);
                if (indirect[i].ok && (c.nread != 1 || c.read_len != 16 || c.write_len != d.len / 16 - 1))
                        fail_msg("%s: wrong sums", indirect[i].what);
        }
        mem_table_put(mt);
}

/* The longest chains, direct and indirect, fetch each descriptor once; one piece too many is refused. */
static void test_long_chains(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct vring_desc *t = (struct vring_desc *)guest_at(mt, TABLE);
        struct vring_desc *outer = (struct vring_desc *)guest_at(mt, OUTER);
        struct chain c = { .indirect_ok = true };
        const char *why;

        for (unsigned i = 0; i < 256; i++)
                t[i] = (struct vring_desc){ 0x1000 + i, 1, VRING_DESC_F_NEXT, (uint16_t)(i + 1) };
        t[127].flags = 0;
        *outer = (struct vring_desc){ TABLE, 128 * 16, VRING_DESC_F_INDIRECT, 0 };
        nfetched = 0;
        gm_fetch_hook = fetch_once;
        assert_int_equal(chain_read(&c, mt, outer, 8, 0, &why), 0);
        assert_int_equal(c.nread, 128);
        t[127].flags = VRING_DESC_F_NEXT;
        t[CHAIN_MAX_IOV - 1].flags = 0;
        nfetched = 0;
        assert_int_equal(chain_read(&c, mt, t, 256, 0, &why), 0);
        assert_int_equal(c.nread, CHAIN_MAX_IOV);
        t[CHAIN_MAX_IOV - 1].flags = VRING_DESC_F_NEXT;
        t[CHAIN_MAX_IOV].flags = 0; /* nothing else is wrong with it */
        nfetched = 0;
        assert_int_equal(chain_read(&c, mt, t, 256, 0, &why), -22);
        gm_fetch_hook = NULL;
        mem_table_put(mt);
}

/* --- behind an IOMMU: what is missing is found out, and then it is the same chain ---------------------------------- */

#define IOVA 0xffff00000000ull /* of the table's page */
#define DATA (IOVA + 0x100000) /* of guest address 0x1000 */

static void map(struct mem_table *mt, uint64_t iova, uint64_t guest)
{
        uint64_t page;
        uint8_t perm;

        assert_true(iotlb_next_miss(mt->iotlb, &page, &perm));
        assert_int_equal(page, iova);
        assert_int_equal(iotlb_update(mt->iotlb, iova, GUEST_PAGE, GUEST_USER + guest, IOTLB_READ | IOTLB_WRITE), 0);
        assert_false(iotlb_next_miss(mt->iotlb, &page, &perm));
}

static void test_behind_iommu(void **state)
{
        for (unsigned packed = 0; packed < 2; packed++) {
                struct mem_table *mt = guest_new(NULL);
                struct vring_desc table = { DATA + 8, 16, VRING_DESC_F_WRITE, 0 };
                struct vring_packed_desc packed_table = { DATA + 8, 16, 0, VRING_DESC_F_WRITE };
                struct vring_desc ring = { IOVA, sizeof(table), VRING_DESC_F_INDIRECT, 0 };
                struct chain_desc d = { IOVA, sizeof(table), 0, VRING_DESC_F_INDIRECT };
                struct chain c = { .indirect_ok = true };
                const char *why = NULL;

                mt->iotlb = iotlb_new();
                memcpy(guest_at(mt, TABLE), packed ? (void *)&packed_table : &table, sizeof(table));
                for (unsigned round = 0; round < 3; round++) {
                        chain_begin(&c);
                        if (packed)
                                assert_int_equal(chain_add(&c, mt, &d, 8, &why), 0);
                        else
                                assert_int_equal(chain_read(&c, mt, &ring, 1, 0, &why), 0);
                        assert_int_equal(c.missing, round < 2);
                        if (round < 2)
                                map(mt, round ? DATA : IOVA, round ? 0x1000 : TABLE);
                }
                assert_int_equal(c.nwrite, 1);
                assert_ptr_equal(c.iov[0].iov_base, guest_at(mt, 0x1008));
                assert_int_equal(c.iova[0], DATA + 8);
                iotlb_free(mt->iotlb);
                mem_table_put(mt);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_direct),
                cmocka_unit_test(test_all_indirect),
                cmocka_unit_test(test_all_packed),
                cmocka_unit_test(test_indirect_tables),
                cmocka_unit_test(test_packed_indirect_tables),
                cmocka_unit_test(test_long_chains),
                cmocka_unit_test(test_behind_iommu),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
