/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "tests/unit/fail_calls.h"
#include "tests/unit/open_fds.h"
#include "vhost_user/session/wire.h"

static struct loop *loop;
static struct wire wire;
static int peer;
static unsigned messages, gone;
static int gone_reason;
static struct wire_msg last;
static unsigned take; /* how many fds the handler takes */
static int taken[VU_MAX_FDS];
static bool answer_all, hold_all, park_all, close_all;

static void on_message(struct wire *w, struct wire_msg *m)
{
        messages++;
        last = *m;
        for (unsigned i = 0; i < take; i++)
                taken[i] = wire_take_fd(m, i);
        if (hold_all)
                wire_hold(w);
        if (park_all)
                wire_park(w);
        if (close_all)
                wire_close(w);
        if (close_all)
                wire_reply_fd(w, m->hdr.request, &m->p, m->hdr.size, dup(peer));
        else if (answer_all)
                wire_reply(w, m->hdr.request, &m->p, m->hdr.size);
}

static void on_gone(struct wire *w, int reason)
{
        gone++;
        gone_reason = reason;
        err_clear();
}

static void stop(struct loop_task *t)
{
        loop_stop(loop);
}

/* Everything that is ready now, and what comes of it. */
static void turn(void)
{
        struct loop_task t = { .run = stop };

        for (int i = 0; i < 4; i++) {
                loop_post(loop, &t);
                loop_run(loop);
        }
}

static void connect_wire(void)
{
        int sv[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
        peer = sv[1];
        messages = gone = take = 0;
        answer_all = hold_all = park_all = close_all = false;
        wire = (struct wire){ .message = on_message, .gone = on_gone };
        assert_int_equal(wire_open(&wire, loop, sv[0]), 0);
}

static void disconnect(void)
{
        wire_close(&wire);
        close(peer);
}

static void send_fds(const void *bytes, size_t len, unsigned nfds)
{
        union {
                char buf[CMSG_SPACE(64 * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { (void *)bytes, len };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

        memset(&control, 0, sizeof(control));
        if (nfds) {
                struct cmsghdr *c;

                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
                c = CMSG_FIRSTHDR(&mh);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
                for (unsigned i = 0; i < nfds; i++)
                        memcpy(CMSG_DATA(c) + i * sizeof(int), &peer, sizeof(int));
        }
        assert_int_equal(sendmsg(peer, &mh, MSG_NOSIGNAL), (ssize_t)len);
}

static const struct {
        struct vu_header h;
        uint64_t u64;
} message = { { VU_SET_FEATURES, VU_VERSION, 8 }, 0x1122334455667788 };
#define MESSAGE_LEN (sizeof(struct vu_header) + 8)

/* The message as it is on the socket, without padding. */
static const char *on_socket(void)
{
        static char buf[MESSAGE_LEN];

        memcpy(buf, &message.h, sizeof(message.h));
        memcpy(buf + sizeof(message.h), &message.u64, 8);
        return buf;
}

/* Cut at every place, and into single bytes: one message, whole. */
static void test_every_cut(void **state)
{
        for (size_t cut = 1; cut <= MESSAGE_LEN; cut++) {
                connect_wire();
                send_fds(on_socket(), cut, 1);
                turn();
                assert_int_equal(messages, cut == MESSAGE_LEN);
                if (cut < MESSAGE_LEN)
                        send_fds(on_socket() + cut, MESSAGE_LEN - cut, 0);
                turn();
                assert_int_equal(messages, 1);
                assert_int_equal(last.p.u64, message.u64);
                assert_int_equal(last.nfds, 1);
                disconnect();
        }
        connect_wire();
        for (size_t i = 0; i < MESSAGE_LEN; i++) {
                send_fds(on_socket() + i, 1, 0);
                turn();
        }
        assert_int_equal(messages, 1);
        disconnect();
}

/* Another front end, with one message, behind one with many. @slow: each of these takes longer than a turn. */
static unsigned before_it, of_one;
static bool slow;

static void on_one_of_many(struct wire *w, struct wire_msg *m)
{
        uint64_t until = clock_ns() + NS_PER_MS;

        messages++;
        while (slow && clock_ns() < until)
                continue;
}

static void on_the_other(struct wire *w, struct wire_msg *m)
{
        of_one++;
        before_it = messages;
}

static void test_each_has_a_turn(void **state)
{
        struct wire other = { .message = on_the_other, .gone = on_gone };
        int sv[2];

        for (int round = 0; round < 2; round++) {
                connect_wire();
                wire.message = on_one_of_many;
                slow = round;
                of_one = 0;
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
                assert_int_equal(wire_open(&other, loop, sv[0]), 0);
                for (int i = 0; i < 40; i++)
                        send_fds(on_socket(), MESSAGE_LEN, 0);
                assert_int_equal(write(sv[1], on_socket(), MESSAGE_LEN), MESSAGE_LEN);
                for (int i = 0; i < 12; i++) /* at 16 a turn; slow ones are not all done then */
                        turn();
                assert_int_equal(of_one, 1);
                assert_int_equal(messages, 40);
                if (before_it > (slow ? 1 : 16))
                        fail_msg("%u messages of one front end went before the only one of another", before_it);
                wire_close(&other);
                close(sv[1]);
                disconnect();
        }
}

static void test_many_at_once(void **state)
{
        connect_wire();
        for (int i = 0; i < 40; i++)
                send_fds(on_socket(), MESSAGE_LEN, 1);
        for (int i = 0; i < 10; i++) /* one in each run of the loop, at least */
                turn();
        assert_int_equal(messages, 40);
        assert_int_equal(last.nfds, 1);
        disconnect();
}

/* 0 to 32 fds with a message or with each half; the handler takes none, one, all: nothing that nobody took stays. */
static void test_fds(void **state)
{
        unsigned before = open_fds();

        for (unsigned n = 0; n <= 32; n++)
                for (unsigned half = 0; half < 2; half++)
                        for (unsigned want = 0; want <= 8; want += 1 + 6 * (want == 1)) {
                                unsigned all = n * (half + 1);

                                connect_wire();
                                take = want;
                                for (unsigned i = 0; i < VU_MAX_FDS; i++)
                                        taken[i] = -1;
                                if (half) {
                                        send_fds(on_socket(), 5, n);
                                        send_fds(on_socket() + 5, MESSAGE_LEN - 5, n);
                                } else {
                                        send_fds(on_socket(), MESSAGE_LEN, n);
                                }
                                turn();
                                assert_int_equal(messages, all <= VU_MAX_FDS);
                                assert_int_equal(gone, all > VU_MAX_FDS);
                                for (unsigned i = 0; messages && i < want; i++) {
                                        assert_int_equal(taken[i] >= 0, i < all);
                                        closep(&taken[i]);
                                }
                                disconnect();
                        }
        assert_int_equal(open_fds(), before);
}

static const struct {
        const char *what;
        struct vu_header h;
        bool ok;
} headers[] = {
        { "no payload", { 1, VU_VERSION, 0 }, true },
        { "the largest payload", { 5, VU_VERSION, sizeof(union vu_payload) }, true },
        { "a byte more", { 5, VU_VERSION, sizeof(union vu_payload) + 1 }, false },
        { "4 GiB", { 5, VU_VERSION, UINT32_MAX }, false },
        { "version 0", { 1, 0, 0 }, false },
        { "version 2", { 1, 2, 0 }, false },
        { "a reply", { 1, VU_VERSION | VU_REPLY, 0 }, false },
        { "need_reply", { 1, VU_VERSION | VU_NEED_REPLY, 0 }, true },
        { "unknown flags", { 1, VU_VERSION | 0xfff0, 0 }, true },
        { "an unknown request is not the wire's business", { 9999, VU_VERSION, 0 }, true },
};

static void test_headers(void **state)
{
        static const char zeros[sizeof(union vu_payload)];

        for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
                connect_wire();
                send_fds(&headers[i].h, sizeof(headers[i].h), 0);
                if (headers[i].ok && headers[i].h.size)
                        send_fds(zeros, headers[i].h.size, 0);
                turn();
                if (messages != headers[i].ok || gone == headers[i].ok)
                        fail_msg("%s", headers[i].what);
                disconnect();
        }
}

static void test_good_bye(void **state)
{
        connect_wire();
        send_fds(on_socket(), MESSAGE_LEN, 0);
        close(peer);
        turn();
        assert_int_equal(messages, 1); /* what was sent before is heard */
        assert_int_equal(gone, 1);
        assert_int_equal(gone_reason, 0);
        peer = -1;
        disconnect();

        connect_wire();
        send_fds(on_socket(), 13, 0);
        shutdown(peer, SHUT_WR);
        turn();
        assert_int_equal(gone_reason, -EPROTO);
        disconnect();
}

/* The clock is not waited for: the timer is set to be due. */
static void test_patience(void **state)
{
        for (size_t cut = 1; cut < MESSAGE_LEN; cut++) {
                connect_wire();
                send_fds(on_socket(), cut, 1);
                turn();
                assert_int_equal(gone, 0);
                assert_false(list_empty(&wire.patience.link));
                wire.patience.at_ns = 0;
                turn();
                assert_int_equal(gone, 1);
                assert_int_equal(gone_reason, -ETIMEDOUT);
                disconnect();
        }
        connect_wire();
        send_fds(on_socket(), MESSAGE_LEN, 0);
        turn();
        assert_true(list_empty(&wire.patience.link)); /* a silent peer with nothing half said may stay for ever */
        disconnect();
}

/* A peer that asks and does not read: we stop asking it for more, and give up after a while. */
static void test_unread_replies(void **state)
{
        static const struct vu_config big;
        struct vu_header h = { VU_GET_CONFIG, VU_VERSION, sizeof(big) };
        int small = 1;

        connect_wire();
        answer_all = true;
        setsockopt(wire.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        for (int i = 0; i < 2000; i++) {
                if (send(peer, &h, sizeof(h), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(h) ||
                    send(peer, &big, sizeof(big), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(big))
                        break;
                turn();
        }
        assert_true(wire.reply_len > 0);
        assert_false(list_empty(&wire.patience.link));
        messages = 0;
        turn();
        assert_int_equal(messages, 0);
        for (char buf[4096]; wire.reply_len;) { /* it reads after all */
                assert_true(recv(peer, buf, sizeof(buf), MSG_DONTWAIT) > 0);
                turn();
        }
        assert_int_equal(gone, 0);
        disconnect();
}

static void test_hold(void **state)
{
        connect_wire();
        hold_all = true;
        send_fds(on_socket(), MESSAGE_LEN, 0);
        send_fds(on_socket(), MESSAGE_LEN, 0);
        turn();
        assert_int_equal(messages, 1);
        wire_resume(&wire);
        turn();
        assert_int_equal(messages, 2);
        assert_false(wire_hung_up(&wire));
        close(peer); /* held, and yet noticed */
        assert_true(wire_hung_up(&wire));
        turn();
        assert_int_equal(gone, 1);
        peer = -1;
        disconnect();
}

static void test_faults(void **state)
{
        connect_wire();
        assert_int_equal(fault_arm("wire.receive=1:EIO"), 0);
        send_fds(on_socket(), MESSAGE_LEN, 1);
        turn();
        assert_int_equal(gone_reason, -EIO);
        disconnect();
        connect_wire();
        answer_all = true;
        assert_int_equal(fault_arm("wire.send=1:EIO"), 0);
        send_fds(on_socket(), MESSAGE_LEN, 1);
        turn();
        assert_int_equal(gone, 1);
        fault_arm(NULL);
        disconnect();
}

/* Calls that were interrupted, or could not be made now, are made again. */
static void test_again(void **state)
{
        static const char *const points[] = {
                "wire.receive=1:EINTR", "wire.receive=1:EAGAIN", "wire.send=1:EINTR", "wire.send=1:EAGAIN", "wire.send=1:EAGAIN:forever",
        };
        char answer[MESSAGE_LEN + 1];

        for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
                connect_wire();
                answer_all = true;
                assert_int_equal(fault_arm(points[i]), 0);
                send_fds(on_socket(), MESSAGE_LEN, 0);
                turn();
                if (strstr(points[i], "forever")) {
                        assert_int_equal(recv(peer, answer, sizeof(answer), MSG_DONTWAIT), -1);
                        assert_false(list_empty(&wire.patience.link));
                }
                fault_arm(NULL);
                turn();
                assert_int_equal(messages, 1);
                assert_int_equal(recv(peer, answer, sizeof(answer), MSG_DONTWAIT), MESSAGE_LEN);
                assert_true(list_empty(&wire.patience.link));
                assert_int_equal(gone, 0);
                disconnect();
        }
}

/* The kernel may tell who sent it: that is no descriptor. */
static void test_credentials(void **state)
{
        int on = 1;

        connect_wire();
        assert_int_equal(setsockopt(wire.fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
        send_fds(on_socket(), MESSAGE_LEN, 0);
        turn();
        assert_int_equal(messages, 1);
        assert_int_equal(last.nfds, 0);
        disconnect();
}

/* Parked, it reads nothing and tells nothing, not even when somebody holds or resumes it; then it goes on. */
static void test_park(void **state)
{
        connect_wire();
        park_all = true;
        send_fds(on_socket(), MESSAGE_LEN, 0);
        send_fds(on_socket(), MESSAGE_LEN, 0);
        turn();
        assert_int_equal(messages, 1);
        wire_hold(&wire);
        wire_resume(&wire);
        turn();
        assert_int_equal(messages, 1);
        wire_hold(&wire);
        park_all = false;
        assert_int_equal(wire_unpark(&wire), 0);
        turn();
        assert_int_equal(messages, 1); /* held */
        wire_resume(&wire);
        turn();
        assert_int_equal(messages, 2);
        assert_true(list_empty(&wire.patience.link));
        disconnect();
}

/* Half a message, and half a reply, are gone on with; patience begins anew. */
static void test_park_halves(void **state)
{
        char answer[MESSAGE_LEN + 1];

        connect_wire();
        answer_all = true;
        send_fds(on_socket(), 5, 0);
        turn();
        wire_park(&wire);
        assert_true(list_empty(&wire.patience.link));
        assert_int_equal(wire_unpark(&wire), 0);
        assert_false(list_empty(&wire.patience.link));
        assert_int_equal(fault_arm("wire.send=1:EAGAIN:forever"), 0);
        send_fds(on_socket() + 5, MESSAGE_LEN - 5, 0);
        turn();
        assert_int_equal(messages, 1);
        wire_park(&wire);
        fault_arm(NULL);
        turn();
        assert_int_equal(recv(peer, answer, sizeof(answer), MSG_DONTWAIT), -1);
        assert_int_equal(wire_unpark(&wire), 0);
        assert_false(list_empty(&wire.patience.link));
        turn();
        assert_int_equal(recv(peer, answer, sizeof(answer), MSG_DONTWAIT), MESSAGE_LEN);
        disconnect();
}

/* Without a place among the watched: closed, and the socket given back. */
static void test_not_watched(void **state)
{
        unsigned before = open_fds();
        int sv[2];

        connect_wire();
        wire_park(&wire);
        fail_call(CALL_EPOLL_CTL, 1, ENOSPC);
        assert_int_equal(wire_unpark(&wire), -ENOSPC);
        assert_int_equal(wire.fd, -1);
        assert_true(wire_hung_up(&wire));
        disconnect();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
        fail_call(CALL_EPOLL_CTL, 1, ENOSPC);
        assert_int_equal(wire_open(&wire, loop, sv[0]), -ENOSPC);
        assert_int_equal(wire.fd, -1);
        close(sv[1]);
        assert_int_equal(open_fds(), before);
        err_clear();
}

/* An answer, and the descriptor that goes with it, to somebody who is not there any more. */
static void test_reply_when_closed(void **state)
{
        unsigned before = open_fds();

        connect_wire();
        close_all = true;
        send_fds(on_socket(), MESSAGE_LEN, 1);
        turn();
        assert_int_equal(messages, 1);
        assert_int_equal(wire.fd, -1);
        disconnect();
        assert_int_equal(open_fds(), before);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_cut), cmocka_unit_test(test_many_at_once), cmocka_unit_test(test_fds),
                cmocka_unit_test(test_each_has_a_turn),
                cmocka_unit_test(test_headers),   cmocka_unit_test(test_good_bye),     cmocka_unit_test(test_patience),
                cmocka_unit_test(test_unread_replies), cmocka_unit_test(test_hold),    cmocka_unit_test(test_faults),
                cmocka_unit_test(test_again),     cmocka_unit_test(test_credentials),  cmocka_unit_test(test_park),
                cmocka_unit_test(test_park_halves), cmocka_unit_test(test_not_watched),
                cmocka_unit_test(test_reply_when_closed),
        };
        int r;

        if (loop_new(&loop) < 0)
                return 1;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        loop_free(loop);
        return r;
}
