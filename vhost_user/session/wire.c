/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - msg.fd[0..nfds) are open and ours until wire_take_fd(); nobody else in this program calls recvmsg(). They are of kinds that cannot
 *     make who uses or closes them wait (fd_kind.h): a message with others ends the session.
 *   - reply.fd[0..nfds) are ours until the first bytes of the reply are sent.
 *   - A turn of the loop is MESSAGES_A_TURN or TURN_NS long, for the one message that is always handled longer: a front
 *     end that sends valid messages without end waits for all others.
 *   - One direction at a time: while a reply is unsent, or the wire is held, nothing is received.
 *   - The patience timer runs exactly while half a message is here or half a reply is not sent, unless the wire is
 *     parked.
 */
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/fd_kind.h"
#include "vhost_user/session/closer.h"

#define HEADER sizeof(struct vu_header)
#define TOO_MANY "more than %d file descriptors with one message"
#define MESSAGES_A_TURN 16             /* then others of the loop get their turn, */
#define TURN_NS (200 * NS_PER_US)      /* or when they have taken this long */

_Static_assert(sizeof(struct vu_header) == 12, "no padding between header and payload on the socket");
_Static_assert(offsetof(struct wire_msg, p) >= HEADER, "the payload is kept apart from the header");

int wire_take_fd(struct wire_msg *m, unsigned i)
{
        return i < m->nfds ? TAKE(m->fd[i], -1) : -1;
}

static void forget_message(struct wire *w)
{
        for (unsigned i = 0; i < w->msg.nfds; i++)
                closep(&w->msg.fd[i]);
        memset(&w->msg, 0, sizeof(w->msg));
        w->have = 0;
}

static void forget_reply_fd(struct wire *w)
{
        while (w->reply.nfds)
                closep(&w->reply.fd[--w->reply.nfds]);
}

void wire_close(struct wire *w)
{
        if (w->fd < 0)
                return;
        loop_timer_cancel(w->loop, &w->patience);
        loop_unwatch(w->loop, &w->watch);
        forget_message(w);
        forget_reply_fd(w);
        close(TAKE(w->fd, -1));
}

static void wire_fail(struct wire *w, int reason)
{
        wire_close(w);
        w->gone(w, reason);
}

/* Ask epoll for what we can use now. Hang-ups are always told. */
static void wire_listen(struct wire *w)
{
        uint32_t events = w->reply_len ? EPOLLOUT : w->held ? 0 : EPOLLIN;

        if (w->fd >= 0 && !w->parked && w->watch.events != events)
                loop_rewatch_or_hang_up(w->loop, &w->watch, events);
}

static void patience_over(struct loop_timer *t)
{
        struct wire *w = list_entry(t, struct wire, patience);

        wire_fail(w, err_note(-ETIMEDOUT, "the front end left a message half sent or a reply unread for %llu s",
                              WIRE_PATIENCE_NS / NS_PER_SEC));
}

/* It becomes the message's, or is closed. */
static int collect_fd(struct wire *w, int fd)
{
        char shown[80];

        if (fd_kind(fd) == FD_OTHER) {
                err_note(-EPROTO, "a file descriptor that could make this daemon wait (%s); memory comes as a memfd, or as a file of tmpfs, "
                         "hugetlbfs or a local disk", fd_shown(fd, shown, sizeof(shown)));
                closer_take(fd);
                w->odd_fds = true;
                return -EPROTO;
        }
        if (w->msg.nfds == VU_MAX_FDS) {
                close(fd);
                return err_note(-EPROTO, TOO_MANY, VU_MAX_FDS);
        }
        w->msg.fd[w->msg.nfds++] = fd;
        return 0;
}

/* All fds of one recvmsg(). */
static int collect_fds(struct wire *w, struct msghdr *mh)
{
        int r = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
                if (c->cmsg_type != SCM_RIGHTS) /* of SOL_SOCKET; a Unix socket has no other level */
                        continue;
                for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (collect_fd(w, fd) < 0)
                                r = -EPROTO;
                }
        }
        return r == 0 && mh->msg_flags & MSG_CTRUNC ? err_note(-EPROTO, TOO_MANY, VU_MAX_FDS) : r;
}

/* Where the next byte goes, and how many belong to this piece (header or payload). */
static size_t next_piece(struct wire *w, char **at)
{
        if (w->have < HEADER) {
                *at = (char *)&w->msg.hdr + w->have;
                return HEADER - w->have;
        }
        *at = (char *)&w->msg.p + (w->have - HEADER);
        return HEADER + w->msg.hdr.size - w->have;
}

static int check_header(const struct vu_header *h)
{
        if ((h->flags & VU_VERSION_MASK) != VU_VERSION || h->flags & VU_REPLY)
                return err_note(-EPROTO, "message %u with flags 0x%x: not a request of protocol version %u", h->request,
                                h->flags, VU_VERSION);
        if (h->size > sizeof(union vu_payload))
                return err_note(-EPROTO, "message %u announces %u bytes; the largest has %zu", h->request, h->size,
                                sizeof(union vu_payload));
        return 0;
}

/* One recvmsg(). 1: something arrived, 0: nothing now, -errno; -ECONNRESET is the peer's good-bye. */
static int receive_piece(struct wire *w)
{
        union {
                char buf[CMSG_SPACE(VU_MAX_FDS * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov;
        struct msghdr mh = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
        };
        char *at;
        ssize_t n = FAULT("wire.receive");
        int r;

        iov.iov_len = next_piece(w, &at);
        iov.iov_base = at;
        if (n == 0) {
                n = recvmsg(w->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
                n = n < 0 ? -errno : n;
        }
        if (n < 0)
                return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
        r = collect_fds(w, &mh);
        if (r < 0)
                return r;
        if (n == 0)
                return w->have ? err_note(-EPROTO, "the front end closed in the middle of a message") : -ECONNRESET;
        w->have += (size_t)n;
        r = w->have == HEADER ? check_header(&w->msg.hdr) : 0;
        return r < 0 ? r : 1;
}

static void deliver(struct wire *w)
{
        loop_timer_cancel(w->loop, &w->patience);
        w->message(w, &w->msg);
        forget_message(w);
}

static void receive(struct wire *w)
{
        uint64_t end = clock_ns() + TURN_NS;

        for (int i = 0; i < MESSAGES_A_TURN && w->fd >= 0 && !w->held && !w->parked && !w->reply_len;) {
                bool fresh = !w->have;
                int r = receive_piece(w);

                if (r < 0) {
                        wire_fail(w, r == -ECONNRESET ? 0 : r);
                        return;
                }
                if (r == 0)
                        return;
                if (w->have >= HEADER && w->have == HEADER + w->msg.hdr.size) {
                        deliver(w);
                        i = clock_ns() < end ? i + 1 : MESSAGES_A_TURN;
                } else if (fresh) {
                        loop_timer_set(w->loop, &w->patience, WIRE_PATIENCE_NS);
                }
        }
}

/* An fd goes with the first bytes. */
static ssize_t send_bytes(struct wire *w, const void *p, size_t len)
{
        union {
                char buf[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec iov = { (void *)p, len };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n = FAULT("wire.send");

        if (w->reply.nfds) {
                mh.msg_control = &control;
                mh.msg_controllen = sizeof(control);
                control.align = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.align), &w->reply.fd[0], sizeof(int));
        }
        if (n == 0)
                n = sendmsg(w->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
                errno = (int)-n, n = -1;
        if (n > 0)
                forget_reply_fd(w);
        return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* Push out what is left of the reply. Returns 0 or -errno. */
static int send_reply(struct wire *w)
{
        while (w->reply_sent < w->reply_len) {
                bool header = w->reply_sent < HEADER;
                size_t at = header ? w->reply_sent : w->reply_sent - HEADER;
                const char *from = header ? (const char *)&w->reply.hdr : (const char *)&w->reply.p;
                ssize_t n = send_bytes(w, from + at, header ? HEADER - at : w->reply_len - w->reply_sent);

                if (n < 0)
                        return (int)n;
                if (n == 0) {
                        if (list_empty(&w->patience.link))
                                loop_timer_set(w->loop, &w->patience, WIRE_PATIENCE_NS);
                        return 0;
                }
                w->reply_sent += (size_t)n;
        }
        loop_timer_cancel(w->loop, &w->patience);
        w->reply_len = 0;
        return 0;
}

void wire_reply(struct wire *w, uint32_t request, const void *payload, uint32_t len)
{
        wire_reply_fd(w, request, payload, len, -1);
}

void wire_reply_fd(struct wire *w, uint32_t request, const void *payload, uint32_t len, int reply_fd)
{
        AUTO(closep) int fd = reply_fd;

        assert(!w->reply_len && len <= sizeof(union vu_payload));
        if (w->fd < 0)
                return;
        w->reply.nfds = fd >= 0;
        w->reply.fd[0] = TAKE(fd, -1);
        w->reply.hdr = (struct vu_header){ request, VU_VERSION | VU_REPLY, len };
        memcpy(&w->reply.p, payload, len);
        w->reply_len = HEADER + len;
        w->reply_sent = 0;
        /* An error shows again as a hang-up of the socket, at a place where the session can bear to hear it. */
        if (send_reply(w) < 0)
                shutdown(w->fd, SHUT_RDWR);
        wire_listen(w);
}

static void wire_ready(struct loop_watch *watch, uint32_t events)
{
        struct wire *w = container_of(watch, struct wire, watch);
        bool hung_up = events & (EPOLLHUP | EPOLLERR);
        int r = 0;

        if (w->reply_len)
                r = send_reply(w);
        if (r < 0 || (hung_up && w->held)) {
                wire_fail(w, 0); /* nobody is left to hear the rest */
                return;
        }
        receive(w);
        wire_listen(w);
}

bool wire_hung_up(const struct wire *w)
{
        struct pollfd p = { .fd = w->fd, .events = POLLRDHUP };

        return w->fd < 0 || poll(&p, 1, 0) > 0; /* what is told beside it is an end, too */
}

void wire_hold(struct wire *w)
{
        w->held = true;
        wire_listen(w);
}

void wire_resume(struct wire *w)
{
        w->held = false;
        wire_listen(w);
}

void wire_park(struct wire *w)
{
        w->parked = true;
        loop_timer_cancel(w->loop, &w->patience);
        loop_unwatch(w->loop, &w->watch);
}

int wire_unpark(struct wire *w)
{
        int r;

        w->watch.events = w->reply_len ? EPOLLOUT : w->held ? 0 : EPOLLIN;
        r = loop_watch(w->loop, &w->watch);
        if (r < 0) {
                wire_close(w);
                return r;
        }
        w->parked = false;
        if (w->have || w->reply_len)
                loop_timer_set(w->loop, &w->patience, WIRE_PATIENCE_NS);
        return 0;
}

int wire_open(struct wire *w, struct loop *l, int fd)
{
        int r;

        w->loop = l;
        w->fd = fd;
        w->held = w->parked = false;
        w->have = w->reply_len = w->reply_sent = 0;
        memset(&w->msg, 0, sizeof(w->msg));
        list_init(&w->patience.link);
        w->patience.fire = patience_over;
        w->watch = (struct loop_watch){ .fd = fd, .ready = wire_ready, .events = EPOLLIN };
        r = loop_watch(l, &w->watch);
        if (r < 0) {
                close(fd);
                w->fd = -1;
        }
        return r;
}
