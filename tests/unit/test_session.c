/* SPDX-License-Identifier: BSD-3-Clause */
/* A front end on a socketpair, a device that keeps requests until told, and a queue thread that is none (fake_qthread.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "tests/unit/fake_qthread.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/messages.h"
#include "vhost_user/ring.h"
#include "vhost_user/session.h"

#define QUEUES 4
#define NUM 8u
#define DESC 0x10000ull
#define AVAIL 0x11000ull
#define USED 0x12000ull
#define FEATURES (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VU_F_PROTOCOL_FEATURES)
#define ALL_PF (1ull << 0 | 1ull << 3 | 1ull << 5 | 1ull << 9 | 1ull << 15)

static struct loop *loop;
static struct qthread *thread;
static struct session *session;
static int peer, memfd, kick, call;
static unsigned ended;
static char *guest; /* our mapping of the guest's memory file */
static uint8_t config[256];

static unsigned open_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

/* --- the device: answers at once, or when the test says so ---------------------------------------------------------------- */

static struct ring_req *held[16];
static unsigned nheld, starts, stops;
static bool hold, refuse_start;

static int dev_get_config(struct vu_device *dev, uint32_t off, void *buf, uint32_t len)
{
        memset(buf, (int)off, len);
        return off == 99 ? -EINVAL : 0;
}

static int dev_set_config(struct vu_device *dev, uint32_t off, const void *buf, uint32_t len)
{
        if (off + len > sizeof(config))
                return -EINVAL;
        memcpy(config + off, buf, len);
        return 0;
}

static int dev_ring_start(struct vu_device *dev, struct ring *r)
{
        starts++;
        return refuse_start ? -ENOMEM : 0;
}

static void dev_ring_stop(struct vu_device *dev, struct ring *r)
{
        stops++;
}

static struct ring_req *dev_get(struct ring *r)
{
        return calloc(1, sizeof(struct ring_req));
}

static void dev_put(struct ring *r, struct ring_req *q)
{
        free(q);
}

static void complete(struct ring_req *q)
{
        /* Touch the guest's memory that the request names: it must still be there, whatever the front end did. */
        for (unsigned i = q->chain.nread; i < q->chain.nread + q->chain.nwrite; i++)
                memset(q->chain.iov[i].iov_base, 0x5a, q->chain.iov[i].iov_len);
        ring_complete(q, (uint32_t)q->chain.write_len);
        free(q);
}

static void dev_take(struct ring *r, struct ring_req *q)
{
        if (hold)
                held[nheld++] = q;
        else
                complete(q);
}

static const struct vu_device_ops dev_ops = {
        .get_config = dev_get_config, .set_config = dev_set_config, .ring_start = dev_ring_start,
        .ring_stop = dev_ring_stop, .get = dev_get, .put = dev_put, .take = dev_take,
};
static struct vu_device dev = {
        .ops = &dev_ops, .name = "test", .features = FEATURES & ~(1ull << VU_F_PROTOCOL_FEATURES), .num_queues = QUEUES,
        .threads = &thread, .nthreads = 1,
};

static void release_all(void)
{
        while (nheld)
                complete(held[--nheld]);
        fake_poll(thread); /* round end */
}

/* --- the loop and the connection ------------------------------------------------------------------------------------------- */

static void stop(struct loop_task *t)
{
        loop_stop(loop);
}

static void turn(void)
{
        struct loop_task t = { .run = stop };

        for (int i = 0; i < 6; i++) {
                loop_post(loop, &t);
                loop_run(loop);
        }
}

static void on_ended(void *opaque)
{
        ended++;
        session = NULL;
}

static void connect_session(void)
{
        int sv[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
        peer = sv[1];
        ended = 0;
        assert_int_equal(session_new(loop, &dev, sv[0], on_ended, NULL, &session), 0);
}

/* Hang up and wait for the end. */
static void disconnect(void)
{
        if (peer >= 0)
                close(TAKE(peer, -1));
        for (int i = 0; i < 10 && session; i++)
                turn();
        assert_int_equal(ended, 1);
        assert_null(session);
}

struct packet {
        struct vu_header h;
        union vu_payload p;
};

static void send_raw(uint32_t request, uint32_t flags, const void *payload, uint32_t len, const int *fds, unsigned nfds)
{
        union {
                char buf[CMSG_SPACE(64 * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct vu_header h = { request, flags, len };
        struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)payload, len } };
        struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
        ssize_t ignored;

        memset(&control, 0, sizeof(control));
        if (nfds) {
                struct cmsghdr *c;

                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
                c = CMSG_FIRSTHDR(&mh);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
        }
        ignored = sendmsg(peer, &mh, MSG_NOSIGNAL | MSG_DONTWAIT); /* fails when the session has hung up already */
        (void)ignored;
}

static bool receive(struct packet *k)
{
        return recv(peer, &k->h, sizeof(k->h), MSG_DONTWAIT) == sizeof(k->h) &&
               recv(peer, &k->p, k->h.size, MSG_DONTWAIT) == (ssize_t)k->h.size;
}

static bool answered(uint32_t request, struct packet *k)
{
        turn();
        return receive(k) && k->h.request == request && k->h.flags == (VU_VERSION | VU_REPLY);
}

static uint64_t ask_u64(uint32_t request)
{
        struct packet k;

        send_raw(request, VU_VERSION, NULL, 0, NULL, 0);
        if (!answered(request, &k) || k.h.size != 8)
                fail_msg("request %u was not answered with a number", request);
        return k.p.u64;
}

/* Send with need_reply. 0: done, 1: refused, -1: the session hung up. */
static int say(uint32_t request, const void *payload, uint32_t len, int fd)
{
        struct packet k;

        send_raw(request, VU_VERSION | VU_NEED_REPLY, payload, len, &fd, fd >= 0);
        if (!answered(request, &k))
                return session ? -2 : -1;
        return k.p.u64 ? 1 : 0;
}

static int say_u64(uint32_t request, uint64_t v, int fd)
{
        return say(request, &v, sizeof(v), fd);
}

static int say_state(uint32_t request, uint32_t index, uint32_t num)
{
        return say(request, &(struct vu_vring_state){ index, num }, sizeof(struct vu_vring_state), -1);
}

static void handshake(uint64_t features)
{
        uint64_t pf = ALL_PF;

        assert_int_equal(ask_u64(VU_GET_FEATURES), FEATURES);
        assert_int_equal(ask_u64(VU_GET_PROTOCOL_FEATURES), ALL_PF);
        send_raw(VU_SET_PROTOCOL_FEATURES, VU_VERSION, &pf, sizeof(pf), NULL, 0);
        assert_int_equal(say(VU_SET_OWNER, NULL, 0, -1), 0);
        assert_int_equal(say_u64(VU_SET_FEATURES, features, -1), 0);
}

static int set_memory(void)
{
        struct vu_mem_table t = { .nregions = GUEST_REGIONS };
        int fds[GUEST_REGIONS] = { memfd, memfd, memfd };
        struct packet k;

        memcpy(t.region, guest_layout, sizeof(guest_layout));
        send_raw(VU_SET_MEM_TABLE, VU_VERSION | VU_NEED_REPLY, &t, 8 + sizeof(guest_layout), fds, GUEST_REGIONS);
        return answered(VU_SET_MEM_TABLE, &k) ? k.p.u64 != 0 : -1;
}

/* The guest's bytes, found by hand: regions lie one behind the other in the file. */
static void *at(uint64_t addr)
{
        return guest + (addr >= 0x10000 ? addr - 0x10000 + 0x3000 : addr - 0x1000);
}

static int set_addr(uint32_t q)
{
        struct vu_vring_addr a = { .index = q, .desc = GUEST_USER + DESC, .avail = GUEST_USER + AVAIL,
                                   .used = GUEST_USER + USED };

        return say(VU_SET_VRING_ADDR, &a, sizeof(a), -1);
}

static void clear_ring(void)
{
        memset(at(DESC), 0, 0x4000);
        for (unsigned i = 0; i < NUM; i++)
                *((struct vring_desc *)at(DESC) + i) = (struct vring_desc){ 0x1000 + 16 * i, 16, VRING_DESC_F_WRITE, 0 };
}

static void start_ring(uint32_t q)
{
        clear_ring();
        assert_int_equal(say_state(VU_SET_VRING_NUM, q, NUM), 0);
        assert_int_equal(say_state(VU_SET_VRING_BASE, q, 0), 0);
        assert_int_equal(set_addr(q), 0);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, q, call), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, q, kick), 0);
}

static void running_session(void)
{
        starts = 0;
        connect_session();
        handshake(FEATURES);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        assert_int_equal(starts, 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_int_equal(starts, 1);
}

static void offer(uint16_t head)
{
        uint16_t *avail = at(AVAIL);

        avail[2 + avail[1] % NUM] = head;
        avail[1]++;
}

static uint16_t used_idx(void)
{
        return ((uint16_t *)at(USED))[1];
}

static void kick_it(void)
{
        assert_int_equal(eventfd_write(kick, 1), 0);
        turn();
}

static uint64_t drain(int fd)
{
        eventfd_t v = 0;

        eventfd_read(fd, &v);
        return v;
}

static unsigned fds_before;

static int setup(void **state)
{
        fds_before = open_fds();
        memfd = guest_memfd(GUEST_FILE);
        guest = mmap(NULL, GUEST_FILE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
        kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        nheld = starts = stops = 0;
        hold = refuse_start = false;
        clear_ring();
        return 0;
}

static int teardown(void **state)
{
        munmap(guest, GUEST_FILE);
        close(memfd);
        close(kick);
        close(call);
        return open_fds() == fds_before ? 0 : -1;
}

/* --- answers ------------------------------------------------------------------------------------------------------------------ */

static void test_answers(void **state)
{
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
        assert_int_equal(say(VU_SET_CONFIG, &(struct vu_config){ .offset = 32, .size = 1, .region = { 9 } }, 13, -1), 0);
        assert_int_equal(config[32], 9);
        assert_int_equal(say(VU_SET_CONFIG, &(struct vu_config){ .offset = 256, .size = 1 }, 13, -1), 1); /* and goes on */
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, call), 0);
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, kick), 0);
        disconnect();
}

/* --- requests ------------------------------------------------------------------------------------------------------------------ */

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

/* --- stopping --------------------------------------------------------------------------------------------------------------------- */

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

/* --- memory ------------------------------------------------------------------------------------------------------------------------- */

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

/* --- hostile guests ----------------------------------------------------------------------------------------------------------------- */

static void test_broken_queue(void **state)
{
        AUTO(closep) int err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        struct packet k;

        running_session();
        assert_int_equal(say_u64(VU_SET_VRING_ERR, 0, err), 0);
        hold = true;
        offer(0);
        kick_it();
        offer(0); /* the same head again */
        kick_it();
        assert_int_equal(drain(err), 1);
        offer(1);
        kick_it();
        assert_int_equal(nheld, 1);
        release_all();
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.num, 1);
        /* a reset guest gets a working queue again */
        hold = false;
        start_ring(0);
        offer(1);
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

static void test_refusals(void **state)
{
        AUTO(closep) int zero = memfd_create("no eventfd", MFD_CLOEXEC);
        static const uint32_t sizes[] = { 0, 3, 7, 1000, 1025, 2048, 32768, 65536, UINT32_MAX };

        running_session();
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                assert_int_equal(say_state(VU_SET_VRING_NUM, 1, sizes[i]), 1);
        for (uint32_t i = 0; i < 5; i++) {
                uint32_t bad = i == 4 ? UINT32_MAX : QUEUES + i;

                assert_int_equal(say_state(VU_SET_VRING_NUM, bad, 8), 1);
                assert_int_equal(say_state(VU_SET_VRING_BASE, bad, 8), 1);
                assert_int_equal(say_state(VU_SET_VRING_ENABLE, bad, 1), 1);
                assert_int_equal(set_addr(bad), 1);
                assert_int_equal(say_u64(VU_SET_VRING_KICK, (QUEUES + i) & 0xff, kick), 1);
        }
        assert_int_equal(say_state(VU_SET_VRING_BASE, 1, 65536), 1);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 1, 2), 1);
        assert_int_equal(say_state(VU_SET_VRING_NUM, 0, 8), 1); /* running */
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 1);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 1, -1), 1);                   /* no fd and no flag */
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 1 | VU_VRING_NO_FD, call), 1); /* both */
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 1, zero), 1);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 1, peer), 1);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 1ull << 32, kick), 1);
        assert_int_equal(say_u64(VU_SET_PROTOCOL_FEATURES, 1ull << 1, -1), 1);
        offer(0); /* and after all that it still works */
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

/* A GET message for a queue that does not exist has no way to be refused. */
static void test_get_vring_base_of_nothing(void **state)
{
        connect_session();
        handshake(FEATURES);
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ QUEUES, 0 }, 8, NULL, 0);
        turn();
        assert_int_equal(ended, 1);
        disconnect();
}

static void test_start_fails(void **state)
{
        connect_session();
        handshake(FEATURES);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        refuse_start = true;
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 1);
        disconnect();
        assert_int_equal(stops, 0);
}

static void test_packed_rings_are_refused(void **state)
{
        connect_session();
        handshake(FEATURES | 1ull << VIRTIO_F_RING_PACKED); /* some front ends pass bits nobody offered */
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 1);
        disconnect();
}

/* --- every message, wrong in every way ------------------------------------------------------------------------------------------------- */

/* Every request number, every payload size up to 300, in three states: no crash, no leak, and the rest goes on or ends. */
static void test_all_sizes(void **state)
{
        static const uint8_t zeros[300];

        for (unsigned how = 0; how < 3; how++)
                for (uint32_t request = 0; request <= VU_REQUEST_MAX + 2; request++)
                        for (uint32_t len = 0; len <= sizeof(zeros); len += len < 50 || len > 260 ? 1 : 7) {
                                connect_session();
                                if (how)
                                        handshake(FEATURES);
                                if (how == 2)
                                        assert_int_equal(set_memory(), 0);
                                send_raw(request, VU_VERSION | VU_NEED_REPLY, zeros, len, NULL, 0);
                                turn();
                                disconnect();
                        }
        assert_int_equal(open_fds(), fds_before + 3);
}

static void test_all_fd_counts(void **state)
{
        uint8_t zeros[300] = { 0 };
        int fds[32];

        for (unsigned i = 0; i < 32; i++)
                fds[i] = i & 1 ? kick : memfd;
        for (uint32_t request = 0; request <= VU_REQUEST_MAX; request++)
                for (unsigned n = 0; n <= 32; n++)
                        for (uint32_t len = 0; len <= 40; len += 8) {
                                connect_session();
                                handshake(FEATURES);
                                send_raw(request, VU_VERSION, zeros, len, fds, n);
                                turn();
                                disconnect();
                        }
        assert_int_equal(open_fds(), fds_before + 3);
}

/* Messages that make sense alone, in every sequence of three. */
static const struct {
        uint32_t request;
        uint64_t word[5];
        uint32_t len;
        int fd; /* 0: none, 1: kick, 2: memory */
} sane[] = {
        { VU_GET_FEATURES, { 0 }, 0, 0 },
        { VU_SET_FEATURES, { FEATURES }, 8, 0 },
        { VU_SET_FEATURES, { 1ull << VIRTIO_F_VERSION_1 }, 8, 0 },
        { VU_SET_PROTOCOL_FEATURES, { ALL_PF }, 8, 0 },
        { VU_SET_PROTOCOL_FEATURES, { 0 }, 8, 0 },
        { VU_SET_OWNER, { 0 }, 0, 0 },
        { VU_RESET_OWNER, { 0 }, 0, 0 },
        { VU_SET_MEM_TABLE, { 0 }, 8, 0 },
        { VU_ADD_MEM_REG, { 0, 0x10000, 0x4000, GUEST_USER + 0x10000, 0x3000 }, 40, 2 },
        { VU_REM_MEM_REG, { 0, 0x10000, 0x4000, GUEST_USER + 0x10000, 0x3000 }, 40, 0 },
        { VU_SET_VRING_NUM, { 8ull << 32 }, 8, 0 },
        { VU_SET_VRING_ADDR, { 0, GUEST_USER + DESC, GUEST_USER + USED, GUEST_USER + AVAIL, 0 }, 40, 0 },
        { VU_SET_VRING_BASE, { 0 }, 8, 0 },
        { VU_GET_VRING_BASE, { 0 }, 8, 0 },
        { VU_SET_VRING_KICK, { 0 }, 8, 1 },
        { VU_SET_VRING_KICK, { VU_VRING_NO_FD }, 8, 0 },
        { VU_SET_VRING_CALL, { 0 }, 8, 1 },
        { VU_SET_VRING_ERR, { 0 }, 8, 1 },
        { VU_SET_VRING_ENABLE, { 1ull << 32 }, 8, 0 },
        { VU_SET_VRING_ENABLE, { 0 }, 8, 0 },
        { VU_SET_BACKEND_REQ_FD, { 0 }, 8, 1 },
        { VU_GET_CONFIG, { 8ull << 32 }, 12, 0 },
};

static void send_sane(unsigned i)
{
        int fd = sane[i].fd == 1 ? kick : memfd;

        send_raw(sane[i].request, VU_VERSION | VU_NEED_REPLY, sane[i].word, sane[i].len, &fd, sane[i].fd != 0);
}

static void test_all_sequences(void **state)
{
        const unsigned n = ARRAY_SIZE(sane);

        for (unsigned ready = 0; ready < 2; ready++)
                for (unsigned s = 0; s < n * n * n; s++) {
                        clear_ring();
                        if (ready)
                                running_session();
                        else
                                connect_session();
                        offer(0);
                        send_sane(s % n);
                        send_sane(s / n % n);
                        send_sane(s / n / n);
                        turn();
                        disconnect();
                }
        assert_int_equal(open_fds(), fds_before + 3);
}

/* Each resource runs out once. */
static void test_faults(void **state)
{
        static const char *const specs[] = { "mem.map=1:ENOMEM", "mem.map=3:ENOMEM", "wire.receive=9:EIO",
                                             "wire.send=2:EIO" };

        for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
                uint64_t pf = ALL_PF;

                connect_session();
                assert_int_equal(fault_arm(specs[i]), 0);
                send_raw(VU_SET_PROTOCOL_FEATURES, VU_VERSION, &pf, sizeof(pf), NULL, 0);
                send_raw(VU_GET_FEATURES, VU_VERSION, NULL, 0, NULL, 0);
                send_raw(VU_SET_OWNER, VU_VERSION | VU_NEED_REPLY, NULL, 0, NULL, 0);
                turn();
                set_memory();
                set_memory();
                fault_arm(NULL);
                disconnect();
        }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_answers), TEST(test_a_request), TEST(test_one_notification_a_batch),
                TEST(test_start_finds_old_requests), TEST(test_disabled_ring_takes_nothing),
                TEST(test_features_without_bit_30_enable), TEST(test_polling_without_kick_fd),
                TEST(test_call_is_changed), TEST(test_get_vring_base_drains),
                TEST(test_disconnect_with_requests_in_flight), TEST(test_disconnect_while_stopping),
                TEST(test_memory_changes_under_a_running_ring), TEST(test_memory_without_the_rings),
                TEST(test_truncated_memory_ends_the_session), TEST(test_broken_queue), TEST(test_refusals),
                TEST(test_get_vring_base_of_nothing), TEST(test_start_fails), TEST(test_packed_rings_are_refused),
                TEST(test_all_sizes), TEST(test_all_fd_counts), TEST(test_all_sequences), TEST(test_faults),
        };
        int r;

        log_init("test", 0);
        if (loop_new(&loop) < 0)
                return 1;
        thread = fake_qthread_new(loop);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        fake_qthread_free(thread);
        loop_free(loop);
        return r;
}
