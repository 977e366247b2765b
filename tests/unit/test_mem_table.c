/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/sanitized.h"
#include "tests/unit/fail_calls.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/memory/mem_guard.h"

static const struct {
        const char *what;
        struct vu_region r;
        int want;
} one_region[] = {
        { "one page", { 0, 4096, 0, 0 }, 0 },
        { "the whole file", { 0, 0x7000, 0, 0 }, 0 },
        { "a size that is no multiple of a page", { 0x1000, 0x6fff, 0x5000, 0 }, 0 },
        { "an offset inside a page", { 0x1000, 0x1000, 0x5000, 0x10 }, 0 },
        { "the last byte of the file", { 0x1000, 1, 0x5000, 0x6fff }, 0 },
        { "no bytes", { 0x1000, 0, 0x5000, 0 }, -EINVAL },
        { "a byte more than the file", { 0, 0x7001, 0, 0 }, -EFBIG },
        { "behind the file", { 0, 1, 0, 0x7000 }, -EFBIG },
        { "guest address wraps", { UINT64_MAX - 0xfff, 0x1001, 0, 0 }, -EINVAL },
        { "guest address ends at 2^64", { UINT64_MAX - 0xfff, 0x1000, 0, 0 }, -EINVAL },
        { "user address wraps", { 0, 0x1000, UINT64_MAX - 0xff, 0 }, -EINVAL },
        { "file offset wraps", { 0, 0x1000, 0, UINT64_MAX - 0xfff }, -EINVAL },
        { "file offset + size above 2^63", { 0, 0x1000, 0, INT64_MAX - 0xff }, -EINVAL },
        { "the largest size", { 0, UINT64_MAX, 0, 0 }, -EINVAL },
};

static void test_one_region(void **state)
{
        AUTO(closep) int fd = guest_memfd(GUEST_FILE);

        for (size_t i = 0; i < ARRAY_SIZE(one_region); i++) {
                struct mem_table *mt = NULL;
                int r = mem_table_new(&one_region[i].r, &fd, 1, &mt);

                if (r != one_region[i].want)
                        fail_msg("%s: %d (%s), not %d", one_region[i].what, r, err_text(r), one_region[i].want);
                err_clear();
                if (r == 0)
                        mem_table_put(mt);
        }
}

static bool overlap(unsigned a, unsigned alen, unsigned b, unsigned blen)
{
        for (unsigned i = a; i < a + alen; i++)
                if (i >= b && i < b + blen)
                        return true;
        return false;
}

/* Every layout of three regions of 1 or 2 pages at pages 0..4, guest and user addresses apart: 10^3 x a few user
 * layouts. */
static void test_all_small_layouts(void **state)
{
        AUTO(closep) int fd = guest_memfd(2 * GUEST_PAGE);
        int fds[3] = { fd, fd, fd };

        for (unsigned n = 0; n < 10 * 10 * 10 * 8; n++) {
                struct vu_region r[3];
                unsigned g[3], u[3], len[3], code = n / 8;
                bool bad = false;
                struct mem_table *mt;
                int res;

                for (int i = 0; i < 3; i++, code /= 10) {
                        g[i] = code % 5;
                        len[i] = 1 + code / 5 % 2;
                }
                for (int i = 0; i < 3; i++) {
                        u[i] = n & 1u << i ? g[(i + 1) % 3] : 10 + 2 * (unsigned)i; /* crossed, or out of the way */
                        r[i] = (struct vu_region){ g[i] * GUEST_PAGE, len[i] * GUEST_PAGE, u[i] * GUEST_PAGE, 0 };
                        for (int j = 0; j < i; j++)
                                bad |= overlap(g[i], len[i], g[j], len[j]) || overlap(u[i], len[i], u[j], len[j]);
                }
                res = mem_table_new(r, fds, 3, &mt);
                if (res != (bad ? -EINVAL : 0))
                        fail_msg("layout %u: %d, overlap %d", n, res, bad);
                err_clear();
                if (res < 0)
                        continue;
                assert_int_equal(mt->n, 3);
                assert_true(mt->region[0].guest_addr < mt->region[1].guest_addr);
                assert_true(mt->region[1].guest_addr < mt->region[2].guest_addr);
                mem_table_put(mt);
        }
}

/* The mapping that stays is the same mapping: what one table writes the other reads, and it outlives either. */
static void test_add_and_remove(void **state)
{
        AUTO(closep) int fd = guest_memfd(2 * GUEST_PAGE);
        struct vu_region a = { 0x1000, 0x1000, 0x1000, 0 }, b = { 0x0, 0x1000, 0x5000, 0x1000 };
        struct mem_table *one, *two, *rest;

        assert_int_equal(mem_table_add(NULL, &a, fd, &one), 0);
        assert_int_equal(mem_table_add(one, &b, fd, &two), 0);
        assert_int_equal(mem_table_add(two, &b, fd, &rest), -EINVAL);
        assert_int_equal(two->n, 2);
        assert_ptr_equal(two->region[1].host, one->region[0].host);
        mem_table_put(one);
        two->region[1].host[7] = 42;
        assert_int_equal(mem_table_remove(two, &b, &rest), 0);
        mem_table_put(two);
        assert_int_equal(rest->n, 1);
        assert_int_equal(rest->region[0].host[7], 42);
        assert_int_equal(mem_table_remove(rest, &b, &two), -ENOENT);
        b = a;
        b.size--;
        assert_int_equal(mem_table_remove(rest, &b, &two), -ENOENT);
        assert_int_equal(mem_table_remove(rest, &a, &two), 0);
        assert_int_equal(two->n, 0);
        mem_table_put(two);
        mem_table_put(rest);
        err_clear();
}

static void test_slots_run_out(void **state)
{
        AUTO(closep) int fd = guest_memfd(GUEST_PAGE);
        struct mem_table *mt = NULL, *next;

        for (uint64_t i = 0; i < MEM_MAX_REGIONS; i++) {
                struct vu_region r = { i * 0x2000, 0x1000, i * 0x2000, 0 };

                assert_int_equal(mem_table_add(mt, &r, fd, &next), 0);
                mem_table_put(mt);
                mt = next;
        }
        assert_int_equal(mem_table_add(mt, &(struct vu_region){ 1ull << 40, 1, 1ull << 40, 0 }, fd, &next), -ENOSPC);
        err_clear();
        mem_table_put(mt);
}

/* Files without bytes in them, larger than any guest: address space is what they would take, from all others. */
#define TIB (1ull << 40)

static int map_one(int fd, uint64_t at, uint64_t size, struct mem_table **ret)
{
        return mem_table_new(&(struct vu_region){ at, size, at, 0 }, &fd, 1, ret);
}

static void test_address_space_runs_out(void **state)
{
        AUTO(closep) int fd = memfd_create("vast", MFD_CLOEXEC);
        struct mem_table *mt[64] = { NULL }, *more, *small;
        void *of_ours;
        unsigned n = 0;

        assert_int_equal(ftruncate(fd, 100 * (off_t)TIB), 0);
        assert_int_equal(map_one(fd, 0, 100 * TIB, &more), -EFBIG);
        assert_int_equal(map_one(fd, 0, 33 * TIB, &more), -EFBIG);
        err_clear();
        if (SANITIZED) /* which has most of the address space itself */
                return;
        for (uint64_t size = 32 * TIB; n < ARRAY_SIZE(mt) && size > GUEST_PAGE; size /= 2) /* as much as there is, again and again */
                while (n < ARRAY_SIZE(mt) && map_one(fd, 0, size, &mt[n]) == 0)
                        n++;
        assert_int_equal(mem_table_add(mt[0], &(struct vu_region){ 64 * TIB, TIB, 64 * TIB, 0 }, fd, &more), -EFBIG);
        assert_int_equal(map_one(fd, 0, GUEST_PAGE, &small), 0); /* who is modest has room all the same, */
        of_ours = mmap(NULL, 16 * TIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_ptr_not_equal(of_ours, MAP_FAILED); /* and so have we */
        munmap(of_ours, 16 * TIB);
        mem_table_put(small);
        while (n)
                mem_table_put(mt[--n]);
        assert_int_equal(map_one(fd, 0, 32 * TIB, &more), 0); /* all is back */
        mem_table_put(more);
        err_clear();
}

/* One table in the place of another, while requests keep all of them: together they have one share, whatever is asked for how often. */
static void test_old_tables_count(void **state)
{
        AUTO(closep) int fd = memfd_create("large", MFD_CLOEXEC);
        struct mem_table *mt[40], *other;
        struct vu_region r = { 0, SANITIZED ? GUEST_PAGE : 2 * TIB, 0, 0 };
        unsigned n = 0;

        assert_int_equal(ftruncate(fd, 3 * (off_t)TIB), 0);
        assert_int_equal(mem_table_new(&r, &fd, 1, &mt[n++]), 0);
        while (n < ARRAY_SIZE(mt) && mem_table_replace(mt[n - 1], &r, &fd, 1, &mt[n]) == 0)
                n++;
        if (!SANITIZED) {
                assert_int_equal(n, 16); /* 32 of 96 TiB */
                assert_int_equal(mem_table_add(mt[n - 1], &(struct vu_region){ 4 * TIB, 2 * TIB, 4 * TIB, 0 }, fd, &other), -EFBIG);
                assert_int_equal(ftruncate(fd, 20 * (off_t)TIB), 0); /* a third of what is left to another front end: he can have it */
                assert_int_equal(map_one(fd, 0, 20 * TIB, &other), 0);
                mem_table_put(other);
        }
        err_clear();
        mem_table_put(mt[--n]); /* the last one goes before those that it came after */
        assert_int_equal(mem_table_replace(mt[0], &r, &fd, 1, &other), 0);
        while (n)
                mem_table_put(mt[--n]);
        mem_table_put(other);
}

/* As many pieces as there may be, of one front end after the other: the last ones get fewer, and never none. */
static void test_pieces_run_out(void **state)
{
        AUTO(closep) int fd = guest_memfd(GUEST_PAGE);
        struct mem_table *mt[20] = { NULL }, *next;
        unsigned n, fewest = MEM_MAX_REGIONS;

        for (unsigned t = 0; t < ARRAY_SIZE(mt); t++) {
                for (n = 0; n < MEM_MAX_REGIONS; n++) {
                        struct vu_region r = { n * 0x2000, 0x1000, n * 0x2000, 0 };

                        if (mem_table_add(mt[t], &r, fd, &next) < 0)
                                break;
                        mem_table_put(mt[t]);
                        mt[t] = next;
                }
                err_clear();
                assert_true(n <= fewest);
                fewest = n;
        }
        assert_in_range(fewest, 8, MEM_MAX_REGIONS - 1); /* enough for a guest */
        for (unsigned t = 0; t < ARRAY_SIZE(mt); t++)
                mem_table_put(mt[t]);
}

/* Pipes, sockets, read-only files, directories: no memory. A failing mmap() undoes the regions before it. */
static void test_strange_files(void **state)
{
        struct vu_region r[2] = { { 0, 1, 0, 0 }, { 0x1000, 1, 0x1000, 0 } };
        AUTO(closep) int mem = guest_memfd(GUEST_PAGE), dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        AUTO(closep) int ro = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        int p[2], fds[2] = { mem, mem };
        struct mem_table *mt;

        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(mem_table_new(r, &p[0], 1, &mt), -EINVAL);
        assert_int_equal(mem_table_new(r, &dir, 1, &mt), -EINVAL);
        assert_int_equal(mem_table_new(r, &ro, 1, &mt), -EACCES);
        assert_int_equal(mem_table_new(r, &(int){ -1 }, 1, &mt), -EBADF);
        fault_arm("mem.map=2:ENOMEM");
        assert_int_equal(mem_table_new(r, fds, 2, &mt), -ENOMEM);
        fault_arm(NULL);
        close(p[0]);
        close(p[1]);
        err_clear();
}

/* Where the front end lets us, its file cannot shrink any more. Where not, touching a lost page does not kill us. */
static void test_truncated(void **state)
{
        AUTO(closep) int sealable = memfd_create("sealable", MFD_ALLOW_SEALING | MFD_CLOEXEC);
        AUTO(closep) int fd = guest_memfd(2 * GUEST_PAGE);
        struct vu_region r = { 0, 2 * GUEST_PAGE, 0, 0 };
        struct mem_table *mt, *other;
        unsigned hits = atomic_load(&guard_hits);

        assert_int_equal(guard_install(), 0);
        assert_int_equal(ftruncate(sealable, 2 * GUEST_PAGE), 0);
        assert_int_equal(mem_table_new(&r, &sealable, 1, &other), 0);
        assert_int_equal(ftruncate(sealable, 0), -1);

        assert_int_equal(mem_table_new(&r, &fd, 1, &mt), 0);
        mt->region[0].host[5000] = 1;
        assert_int_equal(ftruncate(fd, (off_t)GUEST_PAGE), 0);
        assert_false(mem_broken(mt));
        *(volatile char *)&mt->region[0].host[100] = 1; /* still there */
        assert_false(mem_broken(mt));
        assert_int_equal(*(volatile char *)&mt->region[0].host[5000], 0);
        assert_true(mem_broken(mt));
        assert_false(mem_broken(other));
        assert_int_equal(atomic_load(&guard_hits), hits + 1);
        mem_table_put(mt);
        mem_table_put(other);
}

/* How many mappings of guests' memory has this process? */
static unsigned mappings(void)
{
        FILE *f = fopen("/proc/self/maps", "r");
        char line[512];
        unsigned n = 0;

        while (fgets(line, sizeof(line), f))
                n += strstr(line, "memfd:guest") != NULL;
        fclose(f);
        return n;
}

/* Each allocation and each call fails: an error, the old table as it was, and nothing stays mapped. */
static void test_failing_calls(void **state)
{
        static const struct { const char *what; enum call call; unsigned nth; int err; } cases[] = {
                { "the table", CALL_CALLOC, 1, ENOMEM }, { "the mapping's own struct", CALL_CALLOC, 2, ENOMEM },
                { "mmap", CALL_MMAP, 1, ENOMEM },        { "looking at the file", CALL_FSTAT, 1, EBADF },
                { "keeping the file", CALL_FCNTL, 2, EMFILE }, /* the first one is the seal, which may fail */
        };
        AUTO(closep) int fd = guest_memfd(2 * GUEST_PAGE);
        struct vu_region a = { 0x1000, 0x1000, 0x1000, 0 }, b = { 0x4000, 0x1000, 0x4000, 0 };
        unsigned before = mappings();
        struct mem_table *mt, *next;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                for (unsigned adding = 0; adding < 2; adding++) {
                        assert_int_equal(mem_table_new(&a, &fd, 1, &mt), 0);
                        fail_call(cases[i].call, cases[i].nth, cases[i].err);
                        if ((adding ? mem_table_add(mt, &b, fd, &next) : mem_table_new(&b, &fd, 1, &next)) != -cases[i].err ||
                            !fail_call_done(cases[i].call))
                                fail_msg("%s, adding %u", cases[i].what, adding);
                        err_clear();
                        assert_int_equal(mt->n, 1);
                        mem_table_put(mt);
                        if (mappings() != before)
                                fail_msg("%s, adding %u: something stays mapped", cases[i].what, adding);
                }
        }
        fail_call(CALL_FCNTL, 1, EPERM);
        assert_int_equal(mem_table_new(&a, &fd, 1, &mt), 0);
        fail_call(CALL_CALLOC, 1, ENOMEM);
        assert_int_equal(mem_table_remove(mt, &a, &next), -ENOMEM);
        assert_int_equal(mt->region[0].guest_addr, 0x1000);
        mem_table_put(mt);
        err_clear();
}

static void test_remove_needs_the_same(void **state)
{
        AUTO(closep) int fd = guest_memfd(GUEST_PAGE);
        struct vu_region a = { 0x1000, 0x1000, 0x1000, 0 }, other = { 0x1000, 0x1000, 0x2000, 0 };
        struct mem_table *mt, *next;

        assert_int_equal(mem_table_remove(NULL, &a, &next), -ENOENT);
        assert_int_equal(mem_table_new(&a, &fd, 1, &mt), 0);
        assert_int_equal(mem_table_remove(mt, &other, &next), -ENOENT);
        assert_ptr_equal(mem_table_get(mt), mt);
        mem_table_put(mt);
        mem_table_put(mt);
        assert_null(mem_table_get(NULL));
        err_clear();
}

static void test_too_many_regions(void **state)
{
        AUTO(freep) struct vu_region *r = calloc(MEM_MAX_REGIONS + 1, sizeof(*r));
        AUTO(freep) int *fds = calloc(MEM_MAX_REGIONS + 1, sizeof(*fds));
        struct mem_table *mt;

        assert_int_equal(mem_table_new(r, fds, MEM_MAX_REGIONS + 1, &mt), -EINVAL);
        err_clear();
}

static void test_page_size(void **state)
{
        AUTO(closep) int huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB), fd = guest_memfd(GUEST_PAGE);

        assert_int_equal(mem_page_size(fd), GUEST_PAGE);
        assert_int_equal(mem_page_size(-1), GUEST_PAGE);
        if (huge >= 0) /* this kernel has them */
                assert_true(mem_page_size(huge) >= 1u << 20);
}

/* --- what comes from another process ------------------------------------------------------------------------------- */

/* Whatever is read from the stack and was never written there is @value. */
static __attribute__((noinline)) void fill_stack(int value)
{
        volatile int below[16384];

        for (size_t i = 0; i < ARRAY_SIZE(below); i++)
                below[i] = value;
}

/* A part is missing: it is said which, the descriptors of the others are closed, and nobody else's. */
static void test_unpack_damaged(void **state)
{
        static const char *const keys[] = { "guest", "size", "user", "offset", "fd" };
        AUTO(closep) int fd = guest_memfd(GUEST_PAGE), victim = guest_memfd(GUEST_PAGE);
        struct vu_region r[2] = { { 0, 0x1000, 0, 0 }, { 0x1000, 0x1000, 0x1000, 0 } };
        int fds[2] = { fd, fd };
        struct mem_table *mt, *again;

        assert_int_equal(mem_table_new(r, fds, 2, &mt), 0);
        for (size_t i = 0; i <= ARRAY_SIZE(keys); i++) {
                struct parcel p = { 0 };
                int want = i < ARRAY_SIZE(keys) ? -EBADMSG : 0;

                p.root = mem_table_pack(mt, &p);
                assert_int_equal(p.nfds, 2);
                for (unsigned k = 0; k < p.nfds; k++)
                        p.fd[k] = dup(p.fd[k]);
                p.received = true;
                if (want)
                        json_object_del(json_array_get(p.root, 1), keys[i]);
                fill_stack(victim);
                assert_int_equal(mem_table_unpack(&p, p.root, &again), want);
                assert_true(fcntl(victim, F_GETFD) >= 0);
                assert_int_equal(p.fd[0], -1);
                if (!want)
                        mem_table_put(again);
                parcel_finish(&p);
                err_clear();
        }
        mem_table_put(mt);
}

static void test_unpack_too_many(void **state)
{
        struct parcel p = { .root = json_array() };
        struct mem_table *mt;

        for (unsigned i = 0; i <= MEM_MAX_REGIONS; i++)
                json_array_append_new(p.root, json_null());
        assert_int_equal(mem_table_unpack(&p, p.root, &mt), -EBADMSG);
        parcel_finish(&p);
        err_clear();
}

static void test_pack_without_memory(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct parcel p = { 0 };

        json_set_alloc_funcs(malloc, free); /* ours, which can fail */
        fail_call(CALL_MALLOC, 1, ENOMEM);
        assert_null(mem_table_pack(mt, &p));
        parcel_finish(&p);
        mem_table_put(mt);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_region),     cmocka_unit_test(test_all_small_layouts),
                cmocka_unit_test(test_add_and_remove), cmocka_unit_test(test_slots_run_out),
                cmocka_unit_test(test_address_space_runs_out),
                cmocka_unit_test(test_old_tables_count), cmocka_unit_test(test_pieces_run_out),
                cmocka_unit_test(test_strange_files),  cmocka_unit_test(test_truncated),
                cmocka_unit_test(test_failing_calls),  cmocka_unit_test(test_remove_needs_the_same),
                cmocka_unit_test(test_too_many_regions), cmocka_unit_test(test_page_size),
                cmocka_unit_test(test_unpack_damaged), cmocka_unit_test(test_unpack_too_many),
                cmocka_unit_test(test_pack_without_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
