/* SPDX-License-Identifier: BSD-3-Clause */
/* What a session says unasked, to front ends that listen, that do not, and that answer nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>

#include "tests/unit/session_fixture.h"

static int back; /* the front end's end of the channel */

static void open_channel(void)
{
        int sv[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
        back = sv[0];
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, sv[1]), 0);
        close(sv[1]);
}

static void set_config(uint8_t v)
{
        assert_int_equal(say(VU_SET_CONFIG, &(struct vu_config){ .offset = 32, .size = 1, .region = { v } }, 13, -1), 0);
}

/* Has it told us that the config changed, and waits for an answer? */
static bool told(void)
{
        struct vu_header h;

        turn();
        return recv(back, &h, sizeof(h), 0) == sizeof(h) && h.request == VU_BACK_CONFIG_CHANGE && h.size == 0 &&
               h.flags == (VU_VERSION | VU_NEED_REPLY);
}

static void answer(uint32_t request, uint32_t flags, uint32_t size, uint64_t v)
{
        struct {
                struct vu_header h;
                uint64_t v;
        } __attribute__((packed)) a = { { request, flags, size }, v };

        assert_int_equal(send(back, &a, sizeof(a), MSG_NOSIGNAL), sizeof(a));
        turn();
}

static bool is_closed(void)
{
        char c;

        turn();
        return recv(back, &c, 1, 0) == 0;
}

/* While the front end thinks about it the main socket and the queues go on; changes meanwhile are told once. */
static void test_config_change(void **state)
{
        struct vu_config c = { .offset = 7, .size = 8 };
        struct packet k;

        running_session();
        open_channel();
        assert_false(told());
        set_config(1);
        assert_true(told());
        send_raw(VU_GET_CONFIG, VU_VERSION, &c, 20, NULL, 0);
        assert_true(answered(VU_GET_CONFIG, &k));
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        set_config(2);
        set_config(3);
        assert_false(told());
        answer(VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 8, 0);
        assert_true(told());
        answer(VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 8, 1); /* refused: nothing we could do about it */
        assert_false(told());
        close(back);
        disconnect();
}

/* A suspended device says nothing; what changed is told when it runs. */
static void test_suspended(void **state)
{
        connect_session();
        handshake(FEATURES);
        assert_int_equal(set_memory(), 0);
        open_channel();
        set_config(1);
        assert_false(told());
        start_ring(0);
        assert_false(told());
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_true(told());
        answer(VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 8, 0);
        close(back);
        disconnect();
}

/* Without a channel, and with one that the front end closes, all goes on. */
static void test_nobody_listens(void **state)
{
        running_session();
        set_config(1);
        open_channel();
        set_config(2);
        assert_true(told()); /* both, when there is somebody to tell */
        close(back);
        turn();
        set_config(3);
        open_channel();
        set_config(4);
        assert_true(told());
        disconnect();
        assert_true(is_closed());
        close(back);
}

static void test_another_channel(void **state)
{
        int old;

        running_session();
        open_channel();
        old = back;
        open_channel();
        set_config(1);
        assert_true(told());
        answer(VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 8, 0);
        set_config(2);
        assert_true(told());
        close(back);
        back = old;
        assert_true(is_closed());
        close(back);
        disconnect();
}

/* Answers that are none: the channel is closed, nothing else is. */
static void test_wrong_answers(void **state)
{
        static const struct {
                bool asked;
                uint32_t request, flags, size;
        } wrong[] = {
                { false, VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 8 },
                { true, VU_BACK_CONFIG_CHANGE + 1, VU_VERSION | VU_REPLY, 8 },
                { true, VU_BACK_CONFIG_CHANGE, VU_VERSION, 8 },
                { true, VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 4 },
                { true, VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, UINT32_MAX },
        };

        running_session();
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                open_channel();
                if (wrong[i].asked) {
                        set_config((uint8_t)i);
                        assert_true(told());
                }
                answer(wrong[i].request, wrong[i].flags, wrong[i].size, 0);
                assert_true(recv(back, &(char){ 0 }, 1, 0) <= 0 && errno != EAGAIN);
                close(back);
                offer((uint16_t)i);
                kick_it();
                assert_int_equal(used_idx(), i + 1);
        }
        disconnect();
}

/* It brings fds: they go nowhere. The bytes come one by one. */
static void test_answer_in_pieces(void **state)
{
        struct {
                struct vu_header h;
                uint64_t v;
        } __attribute__((packed)) a = { { VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 8 }, 0 };
        union {
                char buf[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { .align = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
        unsigned before;

        running_session();
        open_channel();
        set_config(1);
        assert_true(told());
        before = open_fds();
        memcpy(CMSG_DATA(&control.align), &memfd, sizeof(int));
        for (size_t i = 0; i < sizeof(a); i++) {
                struct iovec iov = { (char *)&a + i, 1 };
                struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                                     .msg_controllen = sizeof(control) };

                set_config(2);
                assert_false(told());
                assert_int_equal(sendmsg(back, &mh, 0), 1);
                turn();
        }
        assert_int_equal(open_fds(), before);
        assert_true(told());
        close(back);
        disconnect();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_config_change, setup, teardown),
                cmocka_unit_test_setup_teardown(test_suspended, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nobody_listens, setup, teardown),
                cmocka_unit_test_setup_teardown(test_another_channel, setup, teardown),
                cmocka_unit_test_setup_teardown(test_wrong_answers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_answer_in_pieces, setup, teardown),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
