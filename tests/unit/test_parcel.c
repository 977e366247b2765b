/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/parcel.h"
#include "tests/unit/open_fds.h"

static int ends[2];
static unsigned fds_before;

static int setup(void **state)
{
        struct timeval soon = { .tv_usec = 50000 };

        (void)state;
        fds_before = open_fds();
        return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) ||
               setsockopt(ends[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
}

static int teardown(void **state)
{
        (void)state;
        closep(&ends[0]);
        closep(&ends[1]);
        return open_fds() == fds_before ? 0 : -1;
}

/* More descriptors than one packet takes. They come out in order, and are the same files. */
static void test_many_descriptors(void **state)
{
        struct parcel out = { .root = json_object() }, in;
        int fds[450];

        (void)state;
        for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
                fds[i] = eventfd(i + 1, EFD_CLOEXEC | EFD_NONBLOCK);
                assert_int_equal(parcel_put_fd(&out, fds[i]), i);
        }
        assert_int_equal(parcel_put_fd(&out, -1), -1);
        json_object_set_new(out.root, "last", json_integer(449));
        assert_int_equal(parcel_send(&out, ends[0]), 0);
        assert_int_equal(parcel_receive(ends[1], &in), 0);
        assert_int_equal(in.nfds, 450);
        for (unsigned i = 0; i < in.nfds; i++) {
                eventfd_t v;

                assert_int_equal(eventfd_read(in.fd[i], &v), 0);
                assert_int_equal(v, i + 1);
                close(fds[i]);
        }
        parcel_finish(&out);
        parcel_finish(&in);
}

static void test_getters(void **state)
{
        struct parcel p = { .root = json_object() }, in;
        uint8_t bytes[4] = { 0, 0x7f, 0x80, 0xff }, back[4];
        const char *text;
        unsigned u;
        uint64_t v;
        size_t len;
        bool on;
        int fd, other;

        (void)state;
        json_object_set_new(p.root, "big", parcel_u64(UINT64_MAX));
        json_object_set_new(p.root, "five", parcel_u64(5));
        json_object_set_new(p.root, "yes", json_true());
        json_object_set_new(p.root, "bytes", parcel_bytes(bytes, 4));
        json_object_set_new(p.root, "odd", json_string("abc"));
        json_object_set_new(p.root, "not-hex", json_string("zz"));
        json_object_set_new(p.root, "fd", json_integer(parcel_put_fd(&p, ends[0])));
        assert_int_equal(parcel_send(&p, ends[0]), 0);
        assert_int_equal(parcel_receive(ends[1], &in), 0);
        assert_int_equal(parcel_get_u64(in.root, "big", UINT64_MAX, &v), 0);
        assert_true(v == UINT64_MAX);
        assert_int_equal(parcel_get_u64(in.root, "big", 5, &v), -EBADMSG);
        assert_int_equal(parcel_get_unsigned(in.root, "five", 5, &u), 0);
        assert_int_equal(u, 5);
        assert_int_equal(parcel_get_unsigned(in.root, "five", 4, &u), -EBADMSG);
        assert_int_equal(parcel_get_u64(in.root, "yes", 9, &v), -EBADMSG);
        assert_int_equal(parcel_get_u64(in.root, "none", 9, &v), -EBADMSG);
        assert_int_equal(parcel_get_bool(in.root, "yes", &on), 0);
        assert_true(on);
        assert_int_equal(parcel_get_bool(in.root, "five", &on), -EBADMSG);
        assert_int_equal(parcel_get_text(in.root, "none", true, &text), 0);
        assert_null(text);
        assert_int_equal(parcel_get_text(in.root, "none", false, &text), -EBADMSG);
        assert_int_equal(parcel_get_bytes(in.root, "bytes", back, 4, &len), 0);
        assert_memory_equal(bytes, back, 4);
        assert_int_equal(parcel_get_bytes(in.root, "bytes", back, 3, &len), -EBADMSG);
        assert_int_equal(parcel_get_bytes(in.root, "odd", back, 4, &len), -EBADMSG);
        assert_int_equal(parcel_get_bytes(in.root, "not-hex", back, 4, &len), -EBADMSG);
        assert_int_equal(parcel_take_fd(&in, in.root, "fd", false, &fd), 0);
        assert_int_equal(parcel_take_fd(&in, in.root, "fd", false, &other), -EBADMSG); /* once */
        assert_int_equal(parcel_take_fd(&in, in.root, "five", false, &other), -EBADMSG);
        assert_int_equal(parcel_take_fd(&in, in.root, "none", true, &other), 0);
        assert_int_equal(other, -1);
        close(fd);
        parcel_finish(&in);
        parcel_finish(&p);
}

/* Whatever comes instead of a parcel: an error, no descriptor left, no waiting for ever. */
static void refuse(int r)
{
        struct parcel in;

        err_clear();
        assert_int_equal(parcel_receive(ends[1], &in), r);
}

static void test_garbage(void **state)
{
        struct { uint32_t magic, nfds; uint64_t len; } h = { 0x314c4352u, 1, 2 };
        char text[] = "garbage of some length";

        (void)state;
        assert_int_equal(send(ends[0], text, sizeof(text), 0), sizeof(text));
        refuse(-EBADMSG);
        assert_int_equal(send(ends[0], text, 3, 0), 3);
        refuse(-EBADMSG);
        assert_int_equal(send(ends[0], &h, sizeof(h), 0), sizeof(h)); /* without the text's descriptor */
        refuse(-EBADMSG);
        refuse(-ETIMEDOUT);
        close(TAKE(ends[0], -1));
        refuse(-ECONNRESET);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_many_descriptors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_getters, setup, teardown),
                cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
