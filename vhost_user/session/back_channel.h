/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * back_channel.h - messages from us to the front end, on the socket that SET_BACKEND_REQ_FD brings (vhost-user,
 * "Back-end message types"). One message at a time; its answer, where one was asked for, is read when it comes. Nobody
 * waits: while the front end deals with a message it may ask things on the main socket, and is answered there. Control
 * thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "vhost_user/session/messages.h"

struct back_channel {
        /* The message is through: 0, or -errno (a refusal is -EREMOTEIO). May send the next one. Set by the owner. */
        void (*done)(struct back_channel *c, int res);
        /* The channel is closed: 0 the front end hung up, or -errno with a sentence. Set by the owner. */
        void (*gone)(struct back_channel *c, int reason);

        struct loop *loop;
        struct loop_watch watch;
        int fd; /* -1: closed */
        bool busy, ack;
        struct back_msg { /* as it lies on the socket */
                struct vu_header hdr;
                union vu_back_payload p;
        } __attribute__((packed)) out, in;
        size_t sent, have;
};

/**
 * back_channel_open - speak on @fd (taken, also on failure).
 * Returns 0; -EINVAL with a sentence when it is not a connected stream socket without a name: one that has a name may
 * be the front end's own end of a socket of ours, and who holds that never sees the front end go away.
 */
int back_channel_open(struct back_channel *c, struct loop *l, int fd);
void back_channel_close(struct back_channel *c); /* calls nobody; safe on a closed one */

/* Is it open, and the last message through? */
static inline bool back_channel_idle(const struct back_channel *c)
{
        return c->fd >= 0 && !c->busy;
}

/* Only when idle. done() comes later, never from here. @ack: ask for an answer, and wait for it (REPLY_ACK). */
void back_channel_send(struct back_channel *c, uint32_t request, const void *payload, uint32_t len, bool ack);

/* As with a wire (wire.h): between the two nothing is read or sent. unpark: 0, or -errno and it is closed. Fine when
 * closed. */
void back_channel_park(struct back_channel *c);
int back_channel_unpark(struct back_channel *c);
