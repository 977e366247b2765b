/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h - whole messages over a stranger's socket. The only room that receives file descriptors.
 *
 * The wire owns every fd of a message: what the handler did not take (wire_take_fd) is closed when it returns. A peer
 * that sends half a message and stops, or does not read its replies, is cut off after WIRE_PATIENCE_NS. Control
 * thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/loop.h"
#include "vhost_user/session/messages.h"

#define WIRE_PATIENCE_NS (5 * NS_PER_SEC)

struct wire_msg {
        struct vu_header hdr;
        union vu_payload p; /* hdr.size bytes of it are the peer's, the rest is zero */
        int fd[VU_MAX_FDS];
        unsigned nfds;
};

struct wire {
        /* A whole message. May call wire_reply(), wire_hold() and wire_close(), and may free nothing. */
        void (*message)(struct wire *w, struct wire_msg *m);
        /* The peer is gone (0) or broke the rules (-errno, sentence noted). The wire is closed already; said once. */
        void (*gone)(struct wire *w, int reason);

        /* The wire's own: */
        struct loop *loop;
        struct loop_watch watch;
        struct loop_timer patience;
        int fd; /* -1: closed */
        bool held, parked;
        bool odd_fds;        /* it sent some of a kind that could make us wait */
        struct wire_msg msg; /* arriving */
        size_t have;         /* bytes of header and payload that are here */
        struct wire_msg reply;
        size_t reply_len, reply_sent;
};

/* @fd: a connected stream socket; taken, also on failure. message and gone are set by the caller before. */
int wire_open(struct wire *w, struct loop *l, int fd);

/* Gives back the socket and all fds that nobody took. Calls nobody. Safe on a closed wire. */
void wire_close(struct wire *w);

/* The fd becomes the caller's. -1: there is none. */
int wire_take_fd(struct wire_msg *m, unsigned i);

/* Answer @request with @len bytes of payload. One reply at a time: the next message is read after it is on its way. */
void wire_reply(struct wire *w, uint32_t request, const void *payload, uint32_t len);

/* Likewise with @fd, which becomes the wire's; -1: none. */
void wire_reply_fd(struct wire *w, uint32_t request, const void *payload, uint32_t len, int fd);

/* Between hold and resume no message is read. That the peer went away is still noticed. */
void wire_hold(struct wire *w);
void wire_resume(struct wire *w);

/* Has the peer closed its end? There may still be messages to read. */
bool wire_hung_up(const struct wire *w);

/*
 * Between park and unpark the wire touches nothing, half messages in both directions stay as they are, and that the
 * peer went away is not noticed. unpark: 0 or -errno, then it is closed.
 */
void wire_park(struct wire *w);
int wire_unpark(struct wire *w);
