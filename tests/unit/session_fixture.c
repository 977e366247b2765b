/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/log.h"
#include "tests/unit/packed_driver.h"
#include "tests/unit/session_fixture.h"

struct loop *loop;
struct qthread *thread;
struct session *session;
int peer, memfd, kick, call;
unsigned ended;
static char *guest; /* our mapping of the guest's memory file */
uint8_t config[256];

/* --- the device: answers at once, or when the test says so ------------------------------------------------------- */

struct ring_req *held[16];
unsigned nheld, starts, stops;
bool hold, refuse_start, no_memory;

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
        return 1;
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
        return no_memory ? NULL : calloc(1, sizeof(struct ring_req));
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
        if (hold && nheld < ARRAY_SIZE(held))
                held[nheld++] = q;
        else
                complete(q);
}

unsigned wakes, rests;
static void (*turned)(void *opaque, int res, const char *why);
static void *turned_opaque;

static void dev_wake(struct vu_device *dev, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        wakes++;
        turned = done;
        turned_opaque = opaque;
}

static void dev_rest(struct vu_device *dev, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        rests++;
        turned = done;
        turned_opaque = opaque;
}

void turn_over(int res)
{
        void (*done)(void *opaque, int res, const char *why) = TAKE(turned, NULL);

        assert_non_null(done);
        done(turned_opaque, res, "as the test wished");
        turn();
}

static struct vu_device_ops dev_ops = {
        .get_config = dev_get_config, .set_config = dev_set_config, .ring_start = dev_ring_start,
        .ring_stop = dev_ring_stop, .get = dev_get, .put = dev_put, .take = dev_take,
};
struct vu_device device = {
        .ops = &dev_ops, .name = "test", .features = FEATURES & ~(1ull << VU_F_PROTOCOL_FEATURES), .num_queues = QUEUES,
        .threads = &thread, .nthreads = 1,
};

void device_offers(uint64_t features)
{
        device.features = features & ~(1ull << VU_F_PROTOCOL_FEATURES);
}

void sleepy(bool on)
{
        dev_ops.wake = on ? dev_wake : NULL;
        dev_ops.rest = on ? dev_rest : NULL;
}

void release_all(void)
{
        while (nheld)
                complete(held[--nheld]);
        fake_poll(thread); /* round end */
}

/* --- the loop and the connection --------------------------------------------------------------------------------- */

static void stop(struct loop_task *t)
{
        loop_stop(loop);
}

void turn(void)
{
        struct loop_task t = { .run = stop };

        for (int i = 0; i < 6; i++) {
                loop_post(loop, &t);
                loop_run(loop);
        }
}

void on_ended(void *opaque)
{
        ended++;
        session = NULL;
}

/* Through a socket that listens, as in life: so the front end's end has a peer with a name. */
void connect_session(void)
{
        int listens = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
        struct sockaddr_un at = { .sun_family = AF_UNIX };
        socklen_t len = sizeof(at);

        peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listens, (struct sockaddr *)&at, sizeof(sa_family_t)), 0); /* the kernel finds a name */
        assert_int_equal(listen(listens, 1), 0);
        assert_int_equal(getsockname(listens, (struct sockaddr *)&at, &len), 0);
        assert_int_equal(connect(peer, (struct sockaddr *)&at, len), 0);
        fd = accept4(listens, NULL, NULL, SOCK_CLOEXEC);
        close(listens);
        ended = 0;
        assert_int_equal(session_new(loop, &device, fd, on_ended, NULL, &session), 0);
}

/* Hang up and wait for the end. */
void disconnect(void)
{
        if (peer >= 0)
                close(TAKE(peer, -1));
        for (int i = 0; i < 10 && session; i++)
                turn();
        assert_int_equal(ended, 1);
        assert_null(session);
}


void send_raw(uint32_t request, uint32_t flags, const void *payload, uint32_t len, const int *fds, unsigned nfds)
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

bool answered(uint32_t request, struct packet *k)
{
        turn();
        return receive(k) && k->h.request == request && k->h.flags == (VU_VERSION | VU_REPLY);
}

uint64_t ask_u64(uint32_t request)
{
        struct packet k;

        send_raw(request, VU_VERSION, NULL, 0, NULL, 0);
        if (!answered(request, &k) || k.h.size != 8)
                fail_msg("request %u was not answered with a number", request);
        return k.p.u64;
}

/* Send with need_reply. 0: done, 1: refused, -1: the session hung up. */
int say(uint32_t request, const void *payload, uint32_t len, int fd)
{
        struct packet k;

        send_raw(request, VU_VERSION | VU_NEED_REPLY, payload, len, &fd, fd >= 0);
        if (!answered(request, &k))
                return session ? -2 : -1;
        return k.p.u64 ? 1 : 0;
}

int say_u64(uint32_t request, uint64_t v, int fd)
{
        return say(request, &v, sizeof(v), fd);
}

int say_state(uint32_t request, uint32_t index, uint32_t num)
{
        return say(request, &(struct vu_vring_state){ index, num }, sizeof(struct vu_vring_state), -1);
}

int ask_inflight(uint16_t n, uint32_t len, struct packet *k)
{
        union {
                char buf[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { &k->h, sizeof(k->h) };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        struct vu_inflight i = { .num_queues = n, .queue_size = 128 };
        struct cmsghdr *c;
        int fd;

        send_raw(VU_GET_INFLIGHT_FD, VU_VERSION, &i, len, NULL, 0);
        turn();
        if (recvmsg(peer, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(k->h) ||
            recv(peer, &k->p, k->h.size, MSG_DONTWAIT) != (ssize_t)k->h.size || !(c = CMSG_FIRSTHDR(&mh)))
                return -1;
        memcpy(&fd, CMSG_DATA(c), sizeof(int));
        return fd;
}

void handshake(uint64_t features)
{
        handshake_with(features, ALL_PF);
}

void handshake_with(uint64_t features, uint64_t pf)
{
        assert_int_equal(ask_u64(VU_GET_FEATURES), device.features | 1ull << VU_F_PROTOCOL_FEATURES | 1ull << VU_F_LOG_ALL |
                                                 1ull << VIRTIO_F_ACCESS_PLATFORM);
        assert_int_equal(ask_u64(VU_GET_PROTOCOL_FEATURES), ALL_PF | INBAND_PF);
        send_raw(VU_SET_PROTOCOL_FEATURES, VU_VERSION, &pf, sizeof(pf), NULL, 0);
        assert_int_equal(say(VU_SET_OWNER, NULL, 0, -1), 0);
        assert_int_equal(say_u64(VU_SET_FEATURES, features, -1), 0);
}

int set_memory(void)
{
        struct vu_mem_table t = { .nregions = GUEST_REGIONS };
        int fds[GUEST_REGIONS] = { memfd, memfd, memfd };
        struct packet k;

        memcpy(t.region, guest_layout, sizeof(guest_layout));
        send_raw(VU_SET_MEM_TABLE, VU_VERSION | VU_NEED_REPLY, &t, 8 + sizeof(guest_layout), fds, GUEST_REGIONS);
        return answered(VU_SET_MEM_TABLE, &k) ? k.p.u64 != 0 : -1;
}

/* The guest's bytes, found by hand: regions lie one behind the other in the file. */
void *at(uint64_t addr)
{
        return guest + (addr >= 0x10000 ? addr - 0x10000 + 0x3000 : addr - 0x1000);
}

int set_addr(uint32_t q)
{
        struct vu_vring_addr a = { .index = q, .desc = GUEST_USER + DESC, .avail = GUEST_USER + AVAIL,
                                   .used = GUEST_USER + USED };

        return say(VU_SET_VRING_ADDR, &a, sizeof(a), -1);
}

void clear_ring(void)
{
        memset(at(DESC), 0, 0x4000);
        for (unsigned i = 0; i < NUM; i++)
                ((struct vring_desc *)at(DESC))[i] =
                        (struct vring_desc){ 0x1000 + 16 * i, 16, VRING_DESC_F_WRITE, 0 };
}

void start_ring(uint32_t q)
{
        clear_ring();
        assert_int_equal(say_state(VU_SET_VRING_NUM, q, NUM), 0);
        assert_int_equal(say_state(VU_SET_VRING_BASE, q, 0), 0);
        assert_int_equal(set_addr(q), 0);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, q, call), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, q, kick), 0);
}

void running_session(void)
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

struct packed_driver packed_driver;

void packed_session(unsigned num)
{
        struct vu_vring_addr a = { .desc = GUEST_USER + PD_RING, .avail = GUEST_USER + PD_DRIVER,
                                   .used = GUEST_USER + PD_DEVICE };

        device_offers(PACKED_FEATURES);
        connect_session();
        handshake(PACKED_FEATURES);
        assert_int_equal(set_memory(), 0);
        assert_int_equal(say_state(VU_SET_VRING_NUM, 0, num), 0);
        assert_int_equal(say(VU_SET_VRING_ADDR, &a, sizeof(a), -1), 0);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 0, call), 0);
        pd_init(&packed_driver, at(PD_RING), num);
}

void running_packed_session(unsigned num)
{
        packed_session(num);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_int_equal(starts, 1);
}

void offer(uint16_t head)
{
        uint16_t *avail = at(AVAIL);

        avail[2 + avail[1] % NUM] = head;
        avail[1]++;
}

uint16_t used_idx(void)
{
        return ((uint16_t *)at(USED))[1];
}

void kick_it(void)
{
        assert_int_equal(eventfd_write(kick, 1), 0);
        turn();
}

uint64_t drain(int fd)
{
        eventfd_t v = 0;

        eventfd_read(fd, &v);
        return v;
}

unsigned fds_before;

int setup(void **state)
{
        fds_before = open_fds();
        memfd = guest_memfd(GUEST_FILE);
        guest = mmap(NULL, GUEST_FILE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
        kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        nheld = starts = stops = 0;
        hold = refuse_start = no_memory = false;
        device_offers(FEATURES);
        wakes = rests = 0;
        sleepy(false);
        clear_ring();
        return 0;
}

int teardown(void **state)
{
        munmap(guest, GUEST_FILE);
        close(memfd);
        close(kick);
        close(call);
        return open_fds() == fds_before ? 0 : -1;
}

int fixture_begin(void **state)
{
        log_init("test", 0);
        if (loop_new(&loop) < 0)
                return -1;
        thread = fake_qthread_new(loop);
        return 0;
}

int fixture_end(void **state)
{
        fake_qthread_free(thread);
        loop_free(loop);
        return 0;
}
