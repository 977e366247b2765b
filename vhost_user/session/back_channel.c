/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   IDLE -> send: busy -> all sent -> (ack: wait for the answer) -> done() -> IDLE
 *   any of them -> closed
 *
 * A front end that never answers keeps its own channel busy, and nothing else.
 */
#include "back_channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"

#define HEADER sizeof(struct vu_header)

_Static_assert(offsetof(struct back_msg, p) == HEADER, "header and payload are neighbours");

void back_channel_close(struct back_channel *c)
{
        if (c->fd < 0)
                return;
        loop_unwatch(c->loop, &c->watch);
        close(TAKE(c->fd, -1));
        c->busy = false;
}

static void fail(struct back_channel *c, int reason)
{
        back_channel_close(c);
        c->gone(c, reason);
}

static void listen_for(struct back_channel *c, uint32_t events)
{
        if (c->watch.on && c->watch.events != events)
                loop_rewatch_or_hang_up(c->loop, &c->watch, events);
}

static void finish(struct back_channel *c, int res)
{
        c->busy = false;
        c->done(c, res);
}

/* The rest of the message. Header and payload are neighbours in memory. 0 or -errno. */
static int send_rest(struct back_channel *c)
{
        size_t len = HEADER + c->out.hdr.size;

        while (c->sent < len) {
                ssize_t n = send(c->fd, (const char *)&c->out + c->sent, len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0)
                        return -errno;
                c->sent += (size_t)n;
        }
        return 0;
}

/* Whatever comes, it is read without room for file descriptors: the kernel drops them. 1: a whole answer is here. */
static int receive(struct back_channel *c)
{
        size_t want = c->have < HEADER ? HEADER : HEADER + sizeof(uint64_t);
        ssize_t n = recv(c->fd, (char *)&c->in + c->have, want - c->have, MSG_DONTWAIT);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                return -ECONNRESET;
        c->have += (size_t)n;
        if (!c->busy || !c->ack || c->sent < HEADER + c->out.hdr.size)
                return err_note(-EPROTO, "an answer on the back-end channel that nobody asked for");
        if (c->have == HEADER && (c->in.hdr.request != c->out.hdr.request || c->in.hdr.size != sizeof(uint64_t) ||
                                  c->in.hdr.flags != (VU_VERSION | VU_REPLY)))
                return err_note(-EPROTO, "message %u of %u bytes, flags 0x%x, is no answer to message %u on the back-end "
                                "channel", c->in.hdr.request, c->in.hdr.size, c->in.hdr.flags, c->out.hdr.request);
        return c->have == HEADER + sizeof(uint64_t);
}

static void on_ready(struct loop_watch *w, uint32_t events)
{
        struct back_channel *c = container_of(w, struct back_channel, watch);
        bool sending = c->busy && c->sent < HEADER + c->out.hdr.size;
        int r = 0;

        if (sending && events & EPOLLOUT)
                r = send_rest(c);
        sending = c->busy && c->sent < HEADER + c->out.hdr.size;
        if (r == 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                r = receive(c);
        if (r < 0) {
                fail(c, r == -ECONNRESET || r == -EPIPE ? 0 : r);
                return;
        }
        listen_for(c, sending ? EPOLLIN | EPOLLOUT : EPOLLIN);
        if (r > 0) {
                c->have = 0;
                finish(c, c->in.p.u64 ? -EREMOTEIO : 0);
        } else if (c->busy && !c->ack && !sending) {
                finish(c, 0);
        }
}

void back_channel_send(struct back_channel *c, uint32_t request, const void *payload, uint32_t len, bool ack)
{
        c->out.hdr = (struct vu_header){ request, VU_VERSION | (ack ? VU_NEED_REPLY : 0), len };
        memcpy(&c->out.p, payload ? payload : "", len);
        c->busy = true;
        c->ack = ack;
        c->sent = c->have = 0;
        listen_for(c, EPOLLIN | EPOLLOUT); /* the loop sends it: who calls us need not expect done() or gone() */
}

void back_channel_park(struct back_channel *c)
{
        if (c->fd >= 0)
                loop_unwatch(c->loop, &c->watch);
}

int back_channel_unpark(struct back_channel *c)
{
        int r = 0;

        if (c->fd < 0)
                return 0;
        c->watch.events = c->busy && c->sent < HEADER + c->out.hdr.size ? EPOLLIN | EPOLLOUT : EPOLLIN;
        r = loop_watch(c->loop, &c->watch);
        if (r < 0)
                back_channel_close(c);
        return r;
}

static int check_socket(int fd)
{
        int domain = 0, type = 0, listens = 1;
        socklen_t len = sizeof(int), nlen = sizeof(struct sockaddr_un), plen = nlen;
        struct sockaddr_un name, peer;

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX ||
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM ||
            getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || listens ||
            getsockname(fd, (struct sockaddr *)&name, &nlen) < 0 || getpeername(fd, (struct sockaddr *)&peer, &plen) < 0)
                return err_note(-EINVAL, "the fd of the back-end channel is no connected Unix stream socket");
        if (nlen > sizeof(sa_family_t) || plen > sizeof(sa_family_t))
                return err_note(-EINVAL, "the socket of the back-end channel has a name; it must be one of a socketpair");
        return 0;
}

int back_channel_open(struct back_channel *c, struct loop *l, int fd)
{
        AUTO(closep) int mine = fd;
        int r = check_socket(fd);

        if (r < 0)
                return r;
        c->loop = l;
        c->busy = c->ack = false;
        c->sent = c->have = 0;
        c->fd = fd;
        c->watch = (struct loop_watch){ .fd = fd, .ready = on_ready, .events = EPOLLIN };
        r = loop_watch(l, &c->watch);
        if (r < 0) {
                c->fd = -1;
                return err_note(r, "cannot watch the back-end channel");
        }
        TAKE(mine, -1);
        return 0;
}
