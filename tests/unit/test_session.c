/* SPDX-License-Identifier: BSD-3-Clause */
/* What a session does for a front end that means well; session_hostile has the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/packed_driver.h"
#include <fcntl.h>

#include "tests/unit/session_fixture.h"

/* --- answers ----------------------------------------------------------------------------------------------------- */

static void test_answers(void **state)
{
        struct vu_config set;
        struct packet k;

        connect_session();
        handshake(FEATURES);
        assert_int_equal(ask_u64(VU_GET_QUEUE_NUM), QUEUES);
        assert_int_equal(ask_u64(VU_GET_MAX_MEM_SLOTS), MEM_MAX_REGIONS);
        for (uint32_t len = 0; len <= VU_CONFIG_MAX; len++) {
                struct vu_config c = { .offset = 7, .size = len };

                send_raw(VU_GET_CONFIG, VU_VERSION, &c, (uint32_t)VU_CONFIG_HEADER + len, NULL, 0);
                assert_true(answered(VU_GET_CONFIG, &k));
                assert_int_equal(k.h.size, VU_CONFIG_HEADER + len);
                assert_int_equal(k.p.config.size, len);
                for (uint32_t i = 0; i < len; i++)
                        assert_int_equal(k.p.config.region[i], 7);
        }
        set = (struct vu_config){ .offset = 32, .size = 1, .region = { 9 } };
        assert_int_equal(say(VU_SET_CONFIG, &set, 13, -1), 0);
        assert_int_equal(config[32], 9);
        set.offset = 256;
        assert_int_equal(say(VU_SET_CONFIG, &set, 13, -1), 1); /* and goes on */
        disconnect();
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void test_a_request(void **state)
{
        running_session();
        assert_int_equal(drain(call), 1); /* written once when it was given */
        offer(3);
        kick_it();
        assert_int_equal(used_idx(), 1);
        assert_int_equal(((uint32_t *)at(USED))[1], 3);
        assert_int_equal(((uint32_t *)at(USED))[2], 16);
        assert_int_equal(*(uint8_t *)at(0x1030), 0x5a);
        assert_int_equal(drain(call), 1);
        kick_it(); /* a kick for nothing */
        assert_int_equal(used_idx(), 1);
        assert_int_equal(drain(call), 0);
        disconnect();
        assert_int_equal(stops, 1);
}

/* A batch is one look, one index, one notification. */
static void test_one_notification_a_batch(void **state)
{
        unsigned before;

        running_session();
        drain(call);
        before = fake_notifies(thread);
        for (uint16_t i = 0; i < NUM; i++)
                offer(i);
        kick_it();
        assert_int_equal(used_idx(), NUM);
        assert_int_equal(fake_notifies(thread) - before, 1);
        disconnect();
}

/* What waits in the ring when it starts is found without a kick: after a reconnect nobody would kick. */
static void test_start_finds_old_requests(void **state)
{
        connect_session();
        handshake(FEATURES);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        offer(0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        turn();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

static void test_disabled_ring_takes_nothing(void **state)
{
        running_session();
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 0), 0);
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        turn();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

static void test_features_without_bit_30_enable(void **state)
{
        connect_session();
        handshake(FEATURES & ~(1ull << VU_F_PROTOCOL_FEATURES));
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

static void test_polling_without_kick_fd(void **state)
{
        running_session();
        assert_int_equal(say_state(VU_GET_VRING_BASE, 0, 0), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0 | VU_VRING_NO_FD, -1), 0);
        assert_int_equal(starts, 2);
        offer(0);
        fake_poll(thread);
        turn();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

/* SET_VRING_CALL while requests are in flight: the old eventfd is given back, the new one is told at once. */
static void test_call_is_changed(void **state)
{
        AUTO(closep) int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        running_session();
        drain(call);
        hold = true;
        offer(0);
        kick_it();
        assert_int_equal(nheld, 1);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 0, other), 0);
        turn();
        assert_int_equal(drain(other), 1);
        release_all();
        turn();
        assert_int_equal(drain(other), 1);
        assert_int_equal(drain(call), 0);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 0 | VU_VRING_NO_FD, -1), 0);
        disconnect();
}

/* --- stopping ---------------------------------------------------------------------------------------------------- */

static void test_get_vring_base_drains(void **state)
{
        struct packet k;

        running_session();
        hold = true;
        offer(0);
        offer(1);
        kick_it();
        assert_int_equal(nheld, 2);
        offer(2);
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(stops, 0);
        fake_poll(thread);
        assert_int_equal(nheld, 2); /* nothing more is taken */
        release_all();
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.index, 0);
        assert_int_equal(k.p.state.num, 2);
        assert_int_equal(used_idx(), 2);
        assert_int_equal(stops, 1);
        /* and it starts again where it stopped */
        hold = false;
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        turn();
        assert_int_equal(used_idx(), 3);
        disconnect();
}

static void test_disconnect_with_requests_in_flight(void **state)
{
        running_session();
        hold = true;
        for (uint16_t i = 0; i < 5; i++)
                offer(i);
        kick_it();
        assert_int_equal(nheld, 5);
        close(TAKE(peer, -1));
        turn();
        assert_int_equal(ended, 0);
        assert_true(session_is_over(session));
        session_close(session); /* twice is fine */
        release_all();          /* writes to the guest's memory: it must be mapped still */
        turn();
        assert_int_equal(ended, 1);
        assert_int_equal(stops, 1);
}

static void test_disconnect_while_stopping(void **state)
{
        running_session();
        hold = true;
        offer(0);
        kick_it();
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        turn();
        close(TAKE(peer, -1));
        turn();
        assert_int_equal(ended, 0);
        release_all();
        turn();
        assert_int_equal(ended, 1);
}

/* --- memory is short ---------------------------------------------------------------------------------------------- */

/* With nothing in flight nothing will complete, and the guest has no reason to kick again: time must do it. */
static void test_no_memory_for_the_first_request(void **state)
{
        running_session();
        no_memory = true;
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 0);
        assert_int_equal(fake_expire(thread), 1);
        assert_int_equal(used_idx(), 0);
        no_memory = false;
        assert_int_equal(fake_expire(thread), 1);
        assert_int_equal(used_idx(), 1);
        assert_int_equal(fake_expire(thread), 0); /* and then it is quiet again */
        disconnect();
}

/* --- packed rings ------------------------------------------------------------------------------------------------ */

static uint32_t ask_base(void)
{
        struct packet k;

        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        return k.p.state.num;
}

static void test_packed_ring(void **state)
{
        uint32_t len;

        packed_session(6); /* no power of two */
        assert_int_equal(ask_base(), 0x80008000); /* nobody has said another one */
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 0, call), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        for (uint16_t n = 0; n < 7; n++) {
                pd_offer(&packed_driver, n % 6, 1);
                kick_it();
                assert_int_equal(pd_reap(&packed_driver, &len), n % 6);
                assert_true(drain(call) > 0);
        }
        assert_int_equal(ask_base(), 0x00010001);
        pd_offer(&packed_driver, 2, 3);
        assert_int_equal(say_state(VU_SET_VRING_BASE, 0, 0x00010001), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        turn();
        assert_int_equal(pd_reap(&packed_driver, &len), 2);
        assert_int_equal(ask_base(), 0x00040004);
        assert_int_equal(say_state(VU_SET_VRING_BASE, 0, 0x00060006), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 1); /* no place in this ring */
        disconnect();
}

/* After a reset of the device a split ring may follow: nothing of the packed one is left. */
static void test_packed_then_split(void **state)
{
        packed_session(6);
        assert_int_equal(say_state(VU_SET_VRING_BASE, 0, 0x80018001), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_int_equal(say(VU_RESET_DEVICE, NULL, 0, -1), 0);
        assert_int_equal(say_u64(VU_SET_FEATURES, FEATURES, -1), 0);
        assert_int_equal(say_state(VU_SET_VRING_NUM, 0, 6), 1);
        start_ring(0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        assert_int_equal(ask_base(), 1);
        disconnect();
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

static void test_memory_changes_under_a_running_ring(void **state)
{
        struct vu_mem_reg extra = { .region = { 0x100000, 0x1000, GUEST_USER + 0x100000, 0 } };

        running_session();
        hold = true;
        offer(0);
        kick_it();
        assert_int_equal(set_memory(), 0); /* everything is mapped anew while head 0 is in flight in the old mapping */
        offer(1);
        kick_it();
        assert_int_equal(nheld, 2);
        assert_true(held[0]->chain.iov[0].iov_base != (char *)held[1]->chain.iov[0].iov_base - 16);
        assert_int_equal(say(VU_ADD_MEM_REG, &extra, sizeof(extra), memfd), 0);
        release_all();
        turn();
        assert_int_equal(used_idx(), 2);
        assert_int_equal(*(uint8_t *)at(0x1000), 0x5a);
        assert_int_equal(*(uint8_t *)at(0x1010), 0x5a);
        hold = false;
        ((struct vring_desc *)at(DESC))[2].addr = 0x100008;
        offer(2);
        kick_it();
        assert_int_equal(used_idx(), 3);
        assert_int_equal(say(VU_REM_MEM_REG, &extra, sizeof(extra), -1), 0);
        assert_int_equal(say(VU_REM_MEM_REG, &extra, sizeof(extra), -1), 1);
        offer(2); /* now it names a hole */
        kick_it();
        assert_int_equal(used_idx(), 3);
        disconnect();
}

/* The rings themselves lose their memory: the queue ends, the front end is told, requests in flight stay safe. */
static void test_memory_without_the_rings(void **state)
{
        struct vu_mem_reg rings = { .region = guest_layout[2] };

        running_session();
        hold = true;
        offer(0);
        kick_it();
        assert_int_equal(say(VU_REM_MEM_REG, &rings, sizeof(rings), -1), 1);
        release_all();
        disconnect();
}

static void test_truncated_memory_ends_the_session(void **state)
{
        running_session();
        assert_int_equal(ftruncate(memfd, 0), 0);
        assert_int_equal(eventfd_write(kick, 1), 0);
        turn();
        assert_int_equal(ended, 1);
        disconnect();
}

/* --- reset ----------------------------------------------------------------------------------------------------------- */

static void test_status(void **state)
{
        connect_session();
        handshake(FEATURES);
        assert_int_equal(ask_u64(VU_GET_STATUS), 0);
        assert_int_equal(say_u64(VU_SET_STATUS, 11, -1), 0);
        assert_int_equal(ask_u64(VU_GET_STATUS), 11);
        assert_int_equal(say_u64(VU_SET_STATUS, 256, -1), 1);
        assert_int_equal(ask_u64(VU_GET_STATUS), 11);
        assert_int_equal(say_u64(VU_SET_STATUS, 0, -1), 0);
        assert_int_equal(ask_u64(VU_GET_STATUS), 0);
        disconnect();
}

/* The answer waits for requests in flight; then everything is as at the beginning, but memory is still known. */
static void test_reset(void **state)
{
        struct vu_vring_state q = { 0, 0 };
        struct packet k;

        running_session();
        hold = true;
        offer(0);
        kick_it();
        send_raw(VU_RESET_DEVICE, VU_VERSION | VU_NEED_REPLY, NULL, 0, NULL, 0);
        assert_false(answered(VU_RESET_DEVICE, &k));
        release_all();
        assert_true(answered(VU_RESET_DEVICE, &k));
        assert_int_equal(k.p.u64, 0);
        assert_int_equal(stops, 1);
        assert_int_equal(used_idx(), 1);
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &q, sizeof(q), NULL, 0); /* QEMU asks then, and means where it stopped */
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.num, 1);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0); /* nothing to run yet */
        assert_int_equal(starts, 1);
        assert_int_equal(say_u64(VU_SET_FEATURES, FEATURES, -1), 0);
        hold = false;
        start_ring(0);
        assert_int_equal(starts, 2);
        offer(1);
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

/* --- the in-flight record -------------------------------------------------------------------------------------------- */

static void session_with_record(int fd, const struct vu_inflight *i)
{
        connect_session();
        handshake(FEATURES);
        assert_int_equal(say(VU_SET_INFLIGHT_FD, i, sizeof(*i), fd), 0);
        assert_int_equal(set_memory(), 0);
        assert_int_equal(say_state(VU_SET_VRING_NUM, 0, NUM), 0);
        assert_int_equal(say_state(VU_SET_VRING_BASE, 0, used_idx()), 0);
        assert_int_equal(set_addr(0), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
}

/* The process dies with requests in the device: none is lost, and none is done twice. Death: what was written later is undone. */
static void test_record_survives_the_session(void **state)
{
        uint8_t ring[0x4000], record[4096];
        struct packet k;
        int fd;

        connect_session();
        handshake(FEATURES);
        fd = ask_inflight(2, 24, &k);
        assert_true(fd >= 0);
        disconnect();
        clear_ring();
        session_with_record(fd, &k.p.inflight);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_int_equal(say(VU_SET_INFLIGHT_FD, &k.p.inflight, sizeof(k.p.inflight), fd), 1); /* not while it runs */
        hold = true;
        offer(6);
        offer(1);
        kick_it();
        assert_int_equal(nheld, 2);
        memcpy(ring, at(DESC), sizeof(ring));
        assert_int_equal(pread(fd, record, sizeof(record), 0), sizeof(record));
        release_all();
        disconnect();
        memcpy(at(DESC), ring, sizeof(ring));
        assert_int_equal(pwrite(fd, record, sizeof(record), 0), sizeof(record));
        session_with_record(fd, &k.p.inflight);
        offer(3);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        turn();
        assert_int_equal(nheld, 3);
        assert_int_equal(held[0]->chain.head, 6);
        assert_int_equal(held[1]->chain.head, 1);
        assert_int_equal(held[2]->chain.head, 3);
        release_all();
        assert_int_equal(used_idx(), 3);
        disconnect();
        session_with_record(fd, &k.p.inflight);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        turn();
        assert_int_equal(nheld, 0);
        disconnect();
        close(fd);
}

/* Two requests that a process which died had in flight. */
static int record_of_two(struct vu_inflight *i)
{
        struct { uint64_t features; uint16_t version, num, last, used; struct { uint64_t flag, counter; } e[NUM]; } rec = {
                .version = 1, .num = NUM, .e = { [1] = { 1, 5 }, [6] = { 1, 4 } },
        };
        struct packet k;
        int fd;

        connect_session();
        handshake(FEATURES);
        fd = ask_inflight(1, 24, &k);
        assert_int_equal(pwrite(fd, &rec, sizeof(rec), 0), sizeof(rec));
        *i = k.p.inflight;
        disconnect();
        offer(6);
        offer(1);
        return fd;
}

/* A ring that stops before it came to do again what it must: it does so now. The next one may be on another machine. */
static void test_stop_does_what_is_recorded(void **state)
{
        struct vu_inflight i;
        struct packet k;
        int fd = record_of_two(&i);

        offer(3); /* was never taken, and is not now */
        no_memory = true;
        session_with_record(fd, &i);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 0), 0);
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        no_memory = false;
        hold = true;
        fake_expire(thread);
        assert_int_equal(nheld, 2);
        assert_int_equal(held[0]->chain.head, 6);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        release_all();
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.num, 2);
        assert_int_equal(used_idx(), 2);
        disconnect();
        close(fd);
}

/* It cannot: a chain of the record is nonsense by now. That must not keep the ring from stopping. */
static void test_stop_with_a_record_that_breaks_the_ring(void **state)
{
        struct vu_inflight i;
        struct packet k;
        int fd = record_of_two(&i);

        no_memory = true;
        session_with_record(fd, &i);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        ((struct vring_desc *)at(DESC))[6].len = 0;
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        no_memory = false;
        fake_expire(thread);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        disconnect();
        close(fd);
}

static void test_damaged_record_is_refused(void **state)
{
        struct packet k = { 0 }; /* the answer is shorter than the message */
        uint16_t *rec;
        int fd;

        connect_session();
        handshake(FEATURES);
        assert_int_equal(ask_inflight(0, 20, &k), -1);
        disconnect();
        connect_session();
        handshake(FEATURES);
        fd = ask_inflight(QUEUES, 20, &k);
        assert_true(fd >= 0);
        assert_int_equal(k.h.size, 20);
        rec = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        rec[4] = 7; /* version */
        disconnect();
        session_with_record(fd, &k.p.inflight);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 1);
        assert_int_equal(starts, 0);
        disconnect();
        munmap(rec, 4096);
        close(fd);
}

/* A record in a file that its owner cuts off: the session ends, and nothing else. */
static void test_truncated_record_ends_the_session(void **state)
{
        struct vu_inflight i = { .mmap_size = QUEUES * 4096, .num_queues = QUEUES, .queue_size = NUM };
        int fd = guest_memfd(QUEUES * 4096);

        clear_ring();
        session_with_record(fd, &i);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_int_equal(ftruncate(fd, 0), 0);
        offer(0);
        kick_it();
        turn();
        assert_int_equal(ended, 1);
        disconnect();
        close(fd);
}

/* --- device state ------------------------------------------------------------------------------------------------ */

static uint64_t transfer(uint32_t direction, uint32_t phase, int fd)
{
        struct vu_device_state d = { direction, phase };
        struct packet k;

        send_raw(VU_SET_DEVICE_STATE_FD, VU_VERSION, &d, sizeof(d), &fd, 1);
        assert_true(answered(VU_SET_DEVICE_STATE_FD, &k));
        return k.p.u64;
}

/* There is none: saving ends at once, loading must find the end at once. 0x100: the answer brings no fd. */
static void test_device_state(void **state)
{
        static const struct { const char *bytes; bool closed, ok; } loads[] = {
                { "", true, true }, { "x", true, false }, { "", false, false },
        };
        int p[2];
        char c;

        running_session();
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(transfer(0, 0, p[1]), 0x101); /* a ring runs */
        assert_int_equal(ask_u64(VU_CHECK_DEVICE_STATE), 1);
        say_state(VU_GET_VRING_BASE, 0, 0);
        assert_int_equal(transfer(0, 1, p[1]), 0x101); /* no such phase, no such direction */
        assert_int_equal(transfer(2, 0, p[1]), 0x101);
        assert_int_equal(transfer(0, 0, p[1]), 0x100);
        close(p[1]);
        assert_int_equal(read(p[0], &c, 1), 0); /* saved: nothing, and its end */
        close(p[0]);
        assert_int_equal(ask_u64(VU_CHECK_DEVICE_STATE), 0);
        assert_int_equal(ask_u64(VU_CHECK_DEVICE_STATE), 1); /* there was no other transfer */
        for (size_t i = 0; i < ARRAY_SIZE(loads); i++) {
                assert_int_equal(pipe2(p, O_CLOEXEC), 0);
                assert_int_equal(transfer(1, 0, p[0]), 0x100);
                close(p[0]);
                assert_int_equal(write(p[1], loads[i].bytes, strlen(loads[i].bytes)), strlen(loads[i].bytes));
                if (loads[i].closed)
                        close(p[1]);
                assert_int_equal(ask_u64(VU_CHECK_DEVICE_STATE), !loads[i].ok);
                if (!loads[i].closed)
                        close(p[1]);
        }
        assert_int_equal(pipe2(p, O_CLOEXEC), 0); /* a channel that the front end makes blocking once we have it */
        assert_int_equal(transfer(1, 0, p[0]), 0x100);
        assert_int_equal(fcntl(p[0], F_SETFL, 0), 0);
        assert_int_equal(ask_u64(VU_CHECK_DEVICE_STATE), 1);
        assert_int_equal(transfer(1, 0, p[1]), 0x101); /* its other end */
        close(p[0]);
        close(p[1]);
        assert_int_equal(transfer(1, 0, kick), 0x101); /* reading that could hang */
        assert_int_equal(transfer(1, 0, peer), 0x101);
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(transfer(1, 0, p[0]), 0x100); /* the session ends with it: teardown counts fds */
        close(p[0]);
        close(p[1]);
        disconnect();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_answers),
                TEST(test_a_request),
                TEST(test_one_notification_a_batch),
                TEST(test_start_finds_old_requests),
                TEST(test_disabled_ring_takes_nothing),
                TEST(test_features_without_bit_30_enable),
                TEST(test_polling_without_kick_fd),
                TEST(test_call_is_changed),
                TEST(test_get_vring_base_drains),
                TEST(test_no_memory_for_the_first_request),
                TEST(test_packed_ring),
                TEST(test_packed_then_split),
                TEST(test_disconnect_with_requests_in_flight),
                TEST(test_disconnect_while_stopping),
                TEST(test_memory_changes_under_a_running_ring),
                TEST(test_memory_without_the_rings),
                TEST(test_truncated_memory_ends_the_session),
                TEST(test_status),
                TEST(test_reset),
                TEST(test_device_state),
                TEST(test_record_survives_the_session),
                TEST(test_stop_does_what_is_recorded),
                TEST(test_stop_with_a_record_that_breaks_the_ring),
                TEST(test_damaged_record_is_refused),
                TEST(test_truncated_record_ends_the_session),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
