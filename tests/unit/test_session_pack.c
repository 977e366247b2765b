/* SPDX-License-Identifier: BSD-3-Clause */
/* A session stands still, goes through a socket as a parcel, and another session goes on where it stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>

#include "common/err.h"
#include "tests/unit/packed_driver.h"
#include "tests/unit/session_fixture.h"
#include "vhost_user/session/session_impl.h"
#include "vhost_user/session/session_pack.h"

static unsigned parked;

static void on_parked(void *opaque)
{
        parked++;
}

static void park(void)
{
        parked = 0;
        session_park(session, on_parked, NULL);
        turn();
}

/* What comes out at the other end of a socket. */
static void post(struct parcel *out, struct parcel *in)
{
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        assert_int_equal(parcel_send(out, ends[0]), 0);
        assert_int_equal(parcel_receive(ends[1], in), 0);
        close(ends[0]);
        close(ends[1]);
}

static void pack(struct parcel *in)
{
        struct parcel out = { 0 };

        assert_int_equal(parked, 1);
        out.root = session_pack(session, &out);
        assert_non_null(out.root);
        post(&out, in);
        parcel_finish(&out);
}

/* The one before goes as a process goes: without a word to the front end. */
static void forget_old(void)
{
        session_close(session);
        turn();
        assert_null(session);
        ended = 0;
}

static void hand_over(void)
{
        struct parcel p;
        int r;

        park();
        pack(&p);
        forget_old();
        r = session_unpack(loop, &device, &p, p.root, on_ended, NULL, &session);
        if (r < 0)
                fail_msg("%s", err_text(r));
        parcel_finish(&p);
        turn();
}

static void hand_over_and_resume(void)
{
        hand_over();
        session_resume(session);
        turn();
        assert_non_null(session);
}

static void test_a_running_ring_goes_on(void **state)
{
        running_session();
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        for (int i = 0; i < 5; i++) {
                hand_over();
                drain(call);
                offer((uint16_t)(i + 1));
                kick_it(); /* nobody is there yet */
                assert_int_equal(used_idx(), i + 1);
                session_resume(session);
                turn();
                assert_int_equal(used_idx(), i + 2);
                assert_true(drain(call) > 0);
                assert_true(ask_u64(VU_GET_FEATURES) & FEATURES);
        }
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 0), 0);
        hand_over_and_resume();
        offer(6);
        kick_it();
        assert_int_equal(used_idx(), 6); /* still disabled */
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        turn();
        assert_int_equal(used_idx(), 7);
        disconnect();
}

/* Then it is hung up on: a front end that comes again is better off than one that waits. */
static void test_a_ring_that_cannot_go_on(void **state)
{
        running_session();
        hand_over();
        refuse_start = true;
        session_resume(session);
        for (int i = 0; i < 10 && session; i++)
                turn();
        assert_null(session);
        assert_int_equal(recv(peer, &(char){ 0 }, 1, MSG_DONTWAIT), 0);
        close(TAKE(peer, -1));
        refuse_start = false;
}

/* Nothing in its ring tells where a packed queue goes on: that must go along. */
static void test_a_packed_ring_goes_on(void **state)
{
        uint32_t len;

        running_packed_session(6);
        for (uint16_t i = 0; i < 15; i++) {
                hand_over();
                pd_offer(&packed_driver, i % 6, 1 + i % 3);
                turn();
                assert_int_equal(pd_reap(&packed_driver, &len), -1);
                session_resume(session);
                turn();
                assert_int_equal(pd_reap(&packed_driver, &len), i % 6);
        }
        disconnect();
}

static void test_what_is_taken_completes_first(void **state)
{
        running_session();
        hold = true;
        offer(0);
        offer(1);
        kick_it();
        assert_int_equal(nheld, 2);
        park();
        assert_int_equal(parked, 0);
        offer(2);
        kick_it();
        assert_int_equal(nheld, 2); /* nothing more is taken */
        release_all();
        turn();
        assert_int_equal(parked, 1);
        assert_int_equal(used_idx(), 2);
        session_resume(session); /* nobody wanted it */
        turn();
        assert_int_equal(nheld, 1);
        release_all();
        turn();
        assert_int_equal(used_idx(), 3);
        disconnect();
}

/* The message in hand waits for a ring: it is answered before all stands still. */
static void test_a_message_in_hand(void **state)
{
        struct vu_vring_state s = { .index = 0 };
        struct packet k;

        running_session();
        hold = true;
        offer(0);
        kick_it();
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &s, sizeof(s), NULL, 0);
        turn();
        park();
        assert_int_equal(parked, 0);
        release_all();
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.num, 1);
        assert_int_equal(parked, 1);
        hand_over_and_resume();
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        offer(1);
        kick_it();
        assert_int_equal(nheld, 1);
        release_all();
        turn();
        assert_int_equal(used_idx(), 2);
        disconnect();
}

static void test_half_a_message(void **state)
{
        struct vu_header h = { VU_SET_VRING_CALL, VU_VERSION | VU_NEED_REPLY, 8 };
        struct vu_header small = { VU_GET_FEATURES, VU_VERSION, 0 };
        uint64_t ring = 0;
        struct packet k;
        int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        running_session();
        assert_int_equal(send(peer, &small, 5, 0), 5);
        turn();
        hand_over_and_resume();
        assert_int_equal(send(peer, (char *)&small + 5, sizeof(small) - 5, 0), sizeof(small) - 5);
        assert_true(answered(VU_GET_FEATURES, &k));

        send_raw(h.request, h.flags, NULL, 0, NULL, 0); /* says 0 bytes: what follows is built by hand */
        turn();
        disconnect();

        running_session();
        {
                union {
                        char buf[CMSG_SPACE(sizeof(int))];
                        struct cmsghdr align;
                } control = { 0 };
                struct iovec iov = { &h, sizeof(h) };
                struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                                     .msg_controllen = sizeof(control) };

                control.align = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.align), &other, sizeof(int));
                assert_int_equal(sendmsg(peer, &mh, 0), sizeof(h));
        }
        turn();
        hand_over_and_resume(); /* with a descriptor that no handler has seen */
        assert_int_equal(send(peer, &ring, 8, 0), 8);
        assert_true(answered(VU_SET_VRING_CALL, &k));
        assert_int_equal(k.p.u64, 0);
        drain(other);
        offer(0);
        kick_it();
        assert_true(drain(other) > 0);
        disconnect();
        close(other);
}

static void test_a_broken_ring_stays_broken(void **state)
{
        running_session();
        offer(NUM + 5); /* no such descriptor */
        kick_it();
        hand_over_and_resume();
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 0);
        disconnect();
}

static void test_the_record_goes_with_it(void **state)
{
        struct packet k;
        int fd;

        connect_session();
        handshake(FEATURES);
        fd = ask_inflight(2, sizeof(struct vu_inflight), &k);
        assert_true(fd >= 0);
        assert_int_equal(say(VU_SET_INFLIGHT_FD, &k.p.inflight, sizeof(k.p.inflight), fd), 0);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        for (uint16_t i = 0; i < 6; i++) {
                offer(i);
                kick_it();
                assert_int_equal(used_idx(), i + 1);
                hand_over_and_resume();
        }
        assert_non_null(session->inflight);
        disconnect();
        close(fd);
}

/* SET_VRING_CALL may come long before its ring starts. */
static void test_bells_without_rings(void **state)
{
        connect_session();
        handshake(FEATURES);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 2, call), 0);
        drain(call);
        hand_over_and_resume();
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        hand_over_and_resume();
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

/* An image that is used in turn stays with us while its rings stand still, and is let go by whoever goes on. */
static void test_a_device_that_was_woken(void **state)
{
        struct vu_vring_state on = { 0, 1 };
        struct packet k;

        sleepy(true);
        connect_session();
        handshake(FEATURES);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        send_raw(VU_SET_VRING_ENABLE, VU_VERSION | VU_NEED_REPLY, &on, sizeof(on), NULL, 0);
        turn();
        turn_over(0);
        assert_true(answered(VU_SET_VRING_ENABLE, &k) && k.p.u64 == 0);
        park();
        assert_int_equal(rests, 0);
        assert_true(session_is_awake(session));
        session_resume(session);
        turn();
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        assert_int_equal(wakes, 1);
        close(TAKE(peer, -1));
        turn();
        assert_int_equal(rests, 1);
        turn_over(0);
        disconnect();
        sleepy(false);
}

/* While its guest moves to another host it does not move to another process as well. */
static void test_a_guest_on_the_move(void **state)
{
        struct vu_log l = { .mmap_size = 4096 };
        struct parcel p = { 0 };

        running_session();
        send_raw(VU_SET_LOG_BASE, VU_VERSION, &l, sizeof(l), &memfd, 1);
        turn();
        assert_int_equal(say_u64(VU_SET_FEATURES, FEATURES | 1ull << VU_F_LOG_ALL, -1), -2); /* first the log's answer */
        assert_true(session_is_logging(session));
        park();
        assert_int_equal(parked, 1);
        assert_null(session_pack(session, &p));
        parcel_finish(&p);
        session_resume(session);
        turn();
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

static void test_the_front_end_goes_meanwhile(void **state)
{
        running_session();
        park();
        close(TAKE(peer, -1));
        turn();
        assert_non_null(session); /* a parked session hears nothing */
        session_resume(session);
        disconnect();
        running_session();
        park();
        session_close(session);
        disconnect();
        running_session();
        hold = true;
        offer(0);
        kick_it();
        park();
        session_close(session); /* before it stands still: nobody is told that it does */
        release_all();
        disconnect();
        assert_int_equal(parked, 0);
}

/* Whatever is wrong or missing in a parcel: a sentence, and nothing leaks (teardown counts descriptors). */
static void refuse(const char *key, json_t *value, const char *says)
{
        struct session *got = NULL;
        struct parcel p;
        int r;

        pack(&p);
        if (value)
                json_object_set_new(p.root, key, value);
        else
                json_object_del(p.root, key);
        err_clear();
        r = session_unpack(loop, &device, &p, p.root, on_ended, NULL, &got);
        if (r >= 0 || got)
                fail_msg("%s: taken", key);
        if (!strstr(err_text(r), says))
                fail_msg("%s: '%s' does not say '%s'", key, err_text(r), says);
        parcel_finish(&p);
}

static void test_parcels_that_make_no_sense(void **state)
{
        static const char *const needed[] = { "features", "protocol-features", "offered", "owned", "config-changed", "awake", "status",
                                              "wire", "back", "rings" };

        running_session();
        park();
        for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
                refuse(needed[i], NULL, needed[i]);
                refuse(needed[i], json_string("x"), needed[i]);
        }
        refuse("mem", NULL, "without memory");
        refuse("status", json_integer(256), "status");
        refuse("protocol-features", json_integer(1ll << 60), "this version does not have");
        refuse("rings", json_pack("[{s:i}]", "index", QUEUES), "index");
        refuse("rings", json_pack("[{s:i}]", "index", 0), "queue 0: 'num'");
        refuse("wire", json_pack("{s:i}", "fd", 1000), "fd");
        refuse("inflight", json_pack("{s:i}", "fd", 0), "offset");
        session_resume(session);
        turn();
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1); /* the one that stayed goes on */
        disconnect();
}

static void refused(struct parcel *p, const char *says)
{
        struct session *got = NULL;
        int r;

        err_clear();
        r = session_unpack(loop, &device, p, p->root, on_ended, NULL, &got);
        assert_true(r < 0 && !got);
        if (!strstr(err_text(r), says))
                fail_msg("'%s' does not say '%s'", err_text(r), says);
        parcel_finish(p);
}

/* More is here of a message than it says it has: the rest would be read to behind its place. */
static void test_more_than_a_message(void **state)
{
        struct {
                struct vu_header h;
                uint64_t more;
        } __attribute__((packed)) whole = { { VU_GET_FEATURES, VU_VERSION, 0 }, 1 };
        struct parcel p;

        running_session();
        park();
        for (size_t len = sizeof(whole.h); len <= sizeof(whole); len++) {
                pack(&p);
                json_object_set_new(json_object_get(json_object_get(p.root, "wire"), "in"), "bytes", parcel_bytes(&whole, len));
                refused(&p, "half a message");
        }
        session_resume(session);
        disconnect();
}

static void test_more_than_an_answer(void **state)
{
        struct {
                struct vu_header h;
                union vu_back_payload p;
        } __attribute__((packed)) out = { { VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_NEED_REPLY, 0 } }, in = { { 0 } };
        struct parcel p;
        int sv[2];

        running_session();
        park();
        for (size_t len = sizeof(out.h) + sizeof(uint64_t); len <= sizeof(in); len++) {
                pack(&p);
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
                p.fd = realloc(p.fd, (p.nfds + 1) * sizeof(int));
                p.fd[p.nfds++] = sv[0];
                json_object_set_new(p.root, "back", json_pack("{s:i,s:b,s:b,s:o,s:o,s:o}", "fd", p.nfds - 1, "busy", true, "ack", true,
                                    "out", parcel_bytes(&out, sizeof(out)), "sent", parcel_u64(sizeof(out.h)), "in",
                                    parcel_bytes(&in, len)));
                refused(&p, "back-end channel");
                close(sv[1]);
        }
        session_resume(session);
        disconnect();
}

/* --- everything that can be wrong --------------------------------------------------------------------------------------- */

static char changed[32]; /* the key of what was changed last */

/* The @nth value of the tree, counted from 1 in the order of a walk, becomes @with; NULL: it is gone. @nth gets what is left. */
static void change_nth(json_t *o, unsigned *nth, json_t *with)
{
        json_t *value;
        const char *key;
        void *next;
        size_t i;

        json_object_foreach_safe (o, next, key, value) {
                if (*nth && !--*nth) {
                        snprintf(changed, sizeof(changed), "%s", key);
                        if (with)
                                json_object_set(o, key, with);
                        else
                                json_object_del(o, key);
                        return;
                }
                change_nth(value, nth, with);
                if (!*nth)
                        return;
        }
        for (i = 0; *nth && i < json_array_size(o); i++) {
                if (!--*nth) {
                        if (with)
                                json_array_set(o, i, with);
                        else
                                json_array_remove(o, i);
                        return;
                }
                change_nth(json_array_get(o, i), nth, with);
        }
}

static void on_copy_ended(void *opaque)
{
        ++*(unsigned *)opaque;
}

/* Each value of a parcel is gone, or another: a sentence, or a session that goes on or ends as any other. Nothing leaks. */
static void test_everything_damaged(void **state)
{
        json_t *with[] = { NULL, json_string("x"), json_integer(-1), json_integer(0), json_integer(1), json_integer(INT64_MAX),
                           json_array(), json_object(), json_true(), json_false() };
        unsigned refusals = 0, taken = 0, fds;
        int record, sv[2];
        struct packet k;

        connect_session(); /* with all that a session can have */
        handshake(FEATURES);
        record = ask_inflight(2, sizeof(struct vu_inflight), &k);
        assert_int_equal(say(VU_SET_INFLIGHT_FD, &k.p.inflight, sizeof(k.p.inflight), record), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, sv[1]), 0);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        park();
        fds = open_fds();
        for (unsigned n = 1, left = 0; !left; n++)
                for (size_t w = 0; w < ARRAY_SIZE(with); w++) {
                        struct session *got = NULL;
                        unsigned gone = 0;
                        struct parcel p;

                        pack(&p);
                        left = n;
                        change_nth(p.root, &left, with[w]);
                        if (session_unpack(loop, &device, &p, p.root, on_copy_ended, &gone, &got) < 0) {
                                refusals++;
                        } else {
                                taken++;
                                if (w % 2) {
                                        session_resume(got);
                                        turn();
                                }
                                if (!gone) {
                                        session_close(got);
                                        turn();
                                }
                                if (gone != 1)
                                        fail_msg("value %u, '%s': the session does not end", n, changed);
                        }
                        err_clear();
                        parcel_finish(&p);
                        if (open_fds() != fds)
                                fail_msg("value %u, '%s', %s: descriptors leak", n, changed, with[w] ? json_dumps(with[w], JSON_ENCODE_ANY) : "gone");
                }
        for (size_t w = 0; w < ARRAY_SIZE(with); w++)
                json_decref(with[w]);
        assert_true(refusals > 100 && taken > 100);
        session_resume(session);
        turn();
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
        close(record);
        close(sv[0]);
        close(sv[1]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                T(test_a_running_ring_goes_on),
                T(test_a_ring_that_cannot_go_on),
                T(test_a_packed_ring_goes_on),
                T(test_what_is_taken_completes_first),
                T(test_a_message_in_hand),
                T(test_half_a_message),
                T(test_a_broken_ring_stays_broken),
                T(test_the_record_goes_with_it),
                T(test_bells_without_rings),
                T(test_a_device_that_was_woken),
                T(test_a_guest_on_the_move),
                T(test_the_front_end_goes_meanwhile),
                T(test_parcels_that_make_no_sense),
                T(test_more_than_a_message),
                T(test_more_than_an_answer),
                T(test_everything_damaged),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
