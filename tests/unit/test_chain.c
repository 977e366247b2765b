/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/chain.h"

#define TABLE 0x10000ull /* guest address of the table under test; indirect tables too */
#define OUTER 0x12000ull

/* --- no byte is fetched twice: a guest that changes it in between would slip past the check ---------------------- */

extern void (*gm_fetch_hook)(const void *host, size_t len);
static struct { const char *p; size_t len; } fetched[512];
static unsigned nfetched;

static void record(const void *host, size_t len)
{
        const char *p = host;

        for (unsigned i = 0; i < nfetched; i++)
                if (p < fetched[i].p + fetched[i].len && fetched[i].p < p + len)
                        fail_msg("fetch %u reads bytes of fetch %u again", nfetched, i);
        assert_true(nfetched < ARRAY_SIZE(fetched));
        fetched[nfetched].p = p;
        fetched[nfetched++].len = len;
}

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
        gm_fetch_hook = record;
        assert_int_equal(chain_read(&c, mt, outer, 8, 0, &why), 0);
        assert_int_equal(c.nread, 128);
        t[127].flags = VRING_DESC_F_NEXT;
        t[CHAIN_MAX_IOV - 1].flags = 0;
        nfetched = 0;
        assert_int_equal(chain_read(&c, mt, t, 256, 0, &why), 0);
        assert_int_equal(c.nread, CHAIN_MAX_IOV);
        t[CHAIN_MAX_IOV - 1].flags = VRING_DESC_F_NEXT;
        nfetched = 0;
        assert_int_equal(chain_read(&c, mt, t, 256, 0, &why), -22);
        gm_fetch_hook = NULL;
        mem_table_put(mt);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_direct),
                cmocka_unit_test(test_all_indirect),
                cmocka_unit_test(test_indirect_tables),
                cmocka_unit_test(test_long_chains),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
