/* SPDX-License-Identifier: BSD-3-Clause */
/* Which pages are marked: alone, and by a session whose rings run while its log comes, changes, shrinks and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>

#include "common/err.h"
#include "tests/unit/session_fixture.h"
#include "vhost_user/memory/dirty_log.h"

#define LOG_BYTES 4096u
#define PAGES (LOG_BYTES * 8)
#define LOGGING (FEATURES | 1ull << VU_F_LOG_ALL)

static int log_fd;
static uint8_t *bits;

static void new_log(size_t size)
{
        log_fd = memfd_create("log", MFD_CLOEXEC);
        assert_true(log_fd >= 0 && ftruncate(log_fd, (off_t)size) == 0);
        bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, log_fd, 0);
}

static void free_log(void)
{
        munmap(bits, LOG_BYTES);
        close(log_fd);
}

static bool is_marked(uint64_t page)
{
        return bits[page / 8] >> page % 8 & 1;
}

static unsigned count_marked(void)
{
        unsigned n = 0;

        for (uint64_t p = 0; p < PAGES; p++)
                n += is_marked(p);
        return n;
}

/* --- alone ------------------------------------------------------------------------------------------------------------ */

static void test_mark(void **state)
{
        static const struct { uint64_t addr, len, first, last; } cases[] = {
                { 0, 1, 0, 0 },
                { 4095, 1, 0, 0 },
                { 4095, 2, 0, 1 },
                { 4096, 4096, 1, 1 },
                { 8191, 8194, 1, 4 },
                { 7 * 4096, 2 * 4096, 7, 8 },
                { (PAGES - 1) * 4096ull, 4096, PAGES - 1, PAGES - 1 },
        };
        struct dirty_log *l;

        new_log(LOG_BYTES);
        assert_int_equal(dirty_log_new(log_fd, 0, LOG_BYTES, &l), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                memset(bits, 0, LOG_BYTES);
                dirty_log_mark(l, cases[i].addr, cases[i].len);
                for (uint64_t p = 0; p < PAGES; p++)
                        if (is_marked(p) != (p >= cases[i].first && p <= cases[i].last))
                                fail_msg("case %zu, page %llu", i, (unsigned long long)p);
        }
        memset(bits, 0, LOG_BYTES);
        dirty_log_mark(l, 5, 0);
        assert_false(dirty_log_missed(l));
        assert_int_equal(count_marked(), 0);
        dirty_log_free(l);
        free_log();
}

static void test_beyond_the_end(void **state)
{
        static const struct { uint64_t addr, len; } cases[] = {
                { PAGES * 4096ull, 1 }, { (PAGES - 1) * 4096ull, 4097 }, { UINT64_MAX, 1 }, { UINT64_MAX - 1, 4096 },
                { 4096, UINT64_MAX },
        };

        new_log(LOG_BYTES);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct dirty_log *l;

                assert_int_equal(dirty_log_new(log_fd, 0, LOG_BYTES, &l), 0);
                dirty_log_mark(l, cases[i].addr, cases[i].len);
                assert_true(dirty_log_missed(l));
                assert_int_equal(count_marked(), 0);
                dirty_log_free(l);
        }
        free_log();
}

static void test_bad_logs(void **state)
{
        struct dirty_log *l;

        new_log(2 * LOG_BYTES);
        assert_int_equal(dirty_log_new(log_fd, 0, 0, &l), -EINVAL);
        assert_int_equal(dirty_log_new(log_fd, 1, LOG_BYTES, &l), -EINVAL);
        assert_int_equal(dirty_log_new(log_fd, 0, 2 * LOG_BYTES + 1, &l), -EFBIG);
        assert_int_equal(dirty_log_new(log_fd, LOG_BYTES, LOG_BYTES + 1, &l), -EFBIG);
        assert_int_equal(dirty_log_new(log_fd, UINT64_MAX - 4095, 8192, &l), -EFBIG);
        assert_int_equal(dirty_log_new(kick, 0, LOG_BYTES, &l), -EINVAL);
        assert_int_equal(ftruncate(log_fd, 1ll << 46), 0); /* costs nothing, but for our address space */
        assert_int_equal(dirty_log_new(log_fd, 0, 1ull << 46, &l), -EFBIG);
        assert_int_equal(dirty_log_new(log_fd, 0, (8ull << 30) + 1, &l), -EFBIG);
        assert_int_equal(dirty_log_new(log_fd, LOG_BYTES, LOG_BYTES, &l), 0);
        dirty_log_mark(l, 4096, 1);
        assert_int_equal(count_marked(), 0);
        dirty_log_free(l);
        free_log();
        err_clear();
}

static void test_host_addresses(void **state)
{
        struct mem_table *mt = guest_new(NULL);
        struct dirty_log *l;

        new_log(LOG_BYTES);
        assert_int_equal(dirty_log_new(log_fd, 0, LOG_BYTES, &l), 0);
        dirty_log_mark_host(l, mt, guest_at(mt, 0x1000), 1);
        dirty_log_mark_host(l, mt, guest_at(mt, 0x3fff), 1);
        dirty_log_mark_host(l, mt, guest_at(mt, 0x10fff), 2);
        dirty_log_mark_host(l, mt, &l, 1); /* no guest memory */
        assert_true(is_marked(1) && is_marked(3) && is_marked(0x10) && is_marked(0x11));
        assert_int_equal(count_marked(), 4);
        dirty_log_free(l);
        mem_table_put(mt);
        free_log();
}

/* --- a session -------------------------------------------------------------------------------------------------------- */

static char before[GUEST_FILE];

static char *file_at(void)
{
        return (char *)at(0x1000);
}

/* Every page that differs from @before is marked; no page is marked without a reason: the request's, and the used ring. */
static void compare(void)
{
        for (unsigned off = 0; off < GUEST_FILE; off += 4096) {
                uint64_t page = (off < 0x3000 ? off + 0x1000 : off - 0x3000 + 0x10000) / 4096;
                bool differs = memcmp(before + off, file_at() + off, 4096) != 0;

                if (differs && !is_marked(page))
                        fail_msg("page 0x%llx changed and is not marked", (unsigned long long)page);
                if (is_marked(page) && !differs && page != USED / 4096)
                        fail_msg("page 0x%llx is marked and did not change", (unsigned long long)page);
        }
}

static void request(uint16_t head)
{
        memset(bits, 0, LOG_BYTES);
        memset(at(0x1000), 0x11, 0x3000);
        offer(head);
        memcpy(before, file_at(), GUEST_FILE);
        kick_it();
}

static int set_log_base(uint64_t size, uint64_t offset)
{
        return say(VU_SET_LOG_BASE, &(struct vu_log){ size, offset }, sizeof(struct vu_log), log_fd);
}

static int set_addr_flags(uint32_t flags)
{
        struct vu_vring_addr a = { .desc = GUEST_USER + DESC, .avail = GUEST_USER + AVAIL, .used = GUEST_USER + USED,
                                   .flags = flags, .log = USED };

        return say(VU_SET_VRING_ADDR, &a, sizeof(a), -1);
}

/* As QEMU does it: the log, the feature, then each ring's flag. All on a running ring. */
static void log_on(void)
{
        new_log(LOG_BYTES);
        assert_int_equal(set_log_base(LOG_BYTES, 0), 0);
        assert_int_equal(say_u64(VU_SET_FEATURES, LOGGING, -1), 0);
        assert_int_equal(set_addr_flags(VU_VRING_F_LOG), 0);
}

static void test_what_changes_is_marked(void **state)
{
        running_session();
        log_on();
        for (uint16_t i = 0; i < 13; i++) { /* up to the end of the second region */
                struct vring_desc *d = (struct vring_desc *)at(DESC) + i % NUM;

                *d = (struct vring_desc){ 0x1000 + 0x370u * i, 1 + 0x400u * (i % 3), VRING_DESC_F_WRITE, 0 };
                request(i % NUM);
                assert_int_equal(used_idx(), i + 1);
                assert_true(is_marked(USED / 4096));
                compare();
        }
        disconnect();
        free_log();
}

/* Off in each of the three ways; and on again. */
static void test_switches(void **state)
{
        running_session();
        log_on();
        request(0);
        assert_true(is_marked(1) && is_marked(USED / 4096));
        assert_int_equal(set_addr_flags(0), 0);
        request(1);
        assert_true(is_marked(1) && !is_marked(USED / 4096));
        assert_int_equal(set_addr_flags(VU_VRING_F_LOG), 0);
        assert_int_equal(say_u64(VU_SET_FEATURES, FEATURES, -1), 0);
        request(2);
        assert_int_equal(count_marked(), 0);
        assert_int_equal(say_u64(VU_SET_FEATURES, LOGGING, -1), 0);
        request(3);
        compare();
        assert_true(is_marked(1));
        assert_int_equal(set_addr_flags(2), 1);
        disconnect();
        free_log();
}

/* Taken before the log was there, done after: it is in the log. */
static void test_a_request_in_flight(void **state)
{
        running_session();
        hold = true;
        offer(0);
        kick_it();
        log_on();
        memset(bits, 0, LOG_BYTES);
        memcpy(before, file_at(), GUEST_FILE);
        release_all();
        turn();
        assert_int_equal(used_idx(), 1);
        assert_true(is_marked(1) && is_marked(USED / 4096));
        compare();
        disconnect();
        free_log();
}

/* A new log takes the old one's place; the old one is not touched again and may go. */
static void test_another_log(void **state)
{
        uint8_t *old;
        int old_fd;

        running_session();
        log_on();
        old = bits;
        old_fd = log_fd;
        memset(old, 0, LOG_BYTES);
        new_log(2 * LOG_BYTES);
        assert_int_equal(set_log_base(LOG_BYTES, LOG_BYTES), 0);
        munmap(bits, LOG_BYTES);
        bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, log_fd, LOG_BYTES);
        request(0);
        compare();
        assert_true(is_marked(1));
        for (unsigned i = 0; i < LOG_BYTES; i++)
                assert_int_equal(old[i], 0);
        munmap(old, LOG_BYTES);
        assert_int_equal(ftruncate(old_fd, 0), 0);
        close(old_fd);
        request(1);
        compare();
        disconnect();
        free_log();
}

/* Switched on before the ring starts; GET_VRING_BASE tells where it stopped, and it goes on there. */
static void test_stop_and_start(void **state)
{
        struct packet k;

        running_session();
        log_on();
        request(0);
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.num, 1);
        offer(1);
        assert_int_equal(say_state(VU_SET_VRING_BASE, 0, k.p.state.num), 0);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 0, call), 0);
        memset(bits, 0, LOG_BYTES);
        memcpy(before, file_at(), GUEST_FILE);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        kick_it();
        assert_int_equal(used_idx(), 2);
        assert_true(is_marked(1) && is_marked(USED / 4096));
        compare();
        disconnect();
        free_log();
}

static void test_log_eventfd(void **state)
{
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        running_session();
        assert_int_equal(say(VU_SET_LOG_FD, NULL, 0, memfd), 1);
        log_on();
        assert_int_equal(say(VU_SET_LOG_FD, NULL, 0, fd), 0);
        drain(fd);
        request(0);
        assert_int_equal(drain(fd) > 0, 1);
        assert_int_equal(say(VU_SET_LOG_FD, NULL, 0, kick), 0);
        request(1);
        assert_int_equal(drain(fd), 0);
        disconnect();
        close(fd);
        free_log();
}

/* --- hostile ones ------------------------------------------------------------------------------------------------------ */

/* There is no way to say no to it but to hang up, so that nobody believes that pages are marked. */
static void test_refused_logs(void **state)
{
        static const struct vu_log bad[] = { { 0, 0 }, { LOG_BYTES, 1 }, { LOG_BYTES + 1, 0 }, { UINT64_MAX, 0 },
                                             { LOG_BYTES, UINT64_MAX & ~4095ull } };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                running_session();
                new_log(LOG_BYTES);
                assert_int_equal(set_log_base(bad[i].mmap_size, bad[i].mmap_offset), -1);
                disconnect();
                free_log();
        }
}

static void test_too_small(void **state)
{
        running_session();
        new_log(LOG_BYTES);
        assert_int_equal(set_log_base(1, 0), 0); /* 8 pages: not the used ring's */
        assert_int_equal(say_u64(VU_SET_FEATURES, LOGGING, -1), 0);
        request(0);
        turn();
        assert_int_equal(ended, 0);
        assert_int_equal(set_addr_flags(VU_VRING_F_LOG), 0);
        request(1);
        turn();
        turn();
        assert_int_equal(ended, 1);
        assert_int_equal(bits[1], 0);
        disconnect();
        free_log();
}

/* The session that truncates its log ends, and nothing else does. */
static void test_truncated(void **state)
{
        running_session();
        log_on();
        assert_int_equal(ftruncate(log_fd, 0), 0);
        offer(0);
        kick_it();
        turn();
        turn();
        assert_int_equal(ended, 1);
        disconnect();
        munmap(bits, LOG_BYTES);
        close(log_fd);
        running_session();
        disconnect();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_mark),
                TEST(test_beyond_the_end),
                TEST(test_bad_logs),
                TEST(test_host_addresses),
                TEST(test_what_changes_is_marked),
                TEST(test_switches),
                TEST(test_a_request_in_flight),
                TEST(test_another_log),
                TEST(test_stop_and_start),
                TEST(test_log_eventfd),
                TEST(test_refused_logs),
                TEST(test_too_small),
                TEST(test_truncated),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
