/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session_impl.h - what the files of a session share: session.c (life, table of messages), session_rings.c (rings),
 * session_wake.c (devices that sleep), session_log.c (the dirty log), session_iotlb.c (an IOMMU),
 * session_back.c (what we say unasked), session_park.c (stand still, and go on), session_pack.c (into another process).
 */
#pragma once

#include "common/loop.h"
#include "vhost_user/session/back_channel.h"
#include "vhost_user/ring/inflight.h"
#include "vhost_user/ring/ring.h"
#include "vhost_user/session/session.h"
#include "vhost_user/session/wire.h"

struct session {
        struct wire wire;
        struct loop *loop;
        struct vu_device *dev;
        uint64_t features, protocol_features; /* negotiated */
        bool owned;                           /* SET_OWNER came */
        bool closing, stops_sent;
        bool waking, awake; /* session_wake.c */
        uint8_t status; /* of the virtio device, as the guest wrote it (virtio 1.2, 2.1); we only keep it */
        struct mem_table *mem;
        struct inflight_map *inflight; /* not changed while a ring runs; NULL: no record is kept */
        struct dirty_log *log, *old_log; /* NULL: none; an old one goes when no ring marks it any more */
        int log_fd;                      /* -1: none */
        unsigned pending;
        int state_fd;  /* SET_DEVICE_STATE_FD: to be read to its end; -1: none */
        bool state_ok; /* so far */
        struct iotlb *iotlb; /* NULL: ACCESS_PLATFORM was never negotiated */
        bool retry;          /* rings that wait for translations are to look again, behind the message in hand */
        struct back_channel back;
        bool config_changed; /* the front end is to be told */
        unsigned next_bell;  /* whose turn it is to be told of, of rings that were rung by message */

        /* The message in hand: */
        uint32_t request;
        bool need_reply;
        int result;
        void (*then)(struct session *s); /* to be done when the orders are carried out, before the answer */
        union vu_payload answer;
        uint32_t answer_len; /* 0: the message has no answer of its own */
        int answer_fd;       /* goes with it; -1: none */

        void (*orders_done)(struct session *s); /* the last order came back, and we are not closing */
        void (*park_done)(void *opaque);        /* session_park() was asked and is not done; NULL: not so */
        void *park_opaque;
        bool parked;

        void (*ended)(void *opaque);
        void *opaque;
        struct loop_task end_task;
        struct ring ring[];
};

/* Give a ring an order; the message in hand is answered when it was carried out. view: with the memory as it is now. */
void session_order(struct session *s, struct ring *r, const struct ring_order *o);
int session_order_view(struct session *s, struct ring *r, enum ring_order_kind kind);

/* A session without a socket. NULL: no memory (or no guard), with a sentence. */
struct session *session_alloc(struct loop *l, struct vu_device *dev, void (*ended)(void *opaque), void *opaque);
void session_close_because(struct session *s, int r);

/* session_park.c: no order is out, and no message is being answered. */
void session_park_now(struct session *s);

/* Starts a ring that has all it needs. */
int session_start(struct session *s, struct ring *r);

/* Starts a ring whose last piece has come. */
int session_start_if_ready(struct session *s, struct ring *r);
int session_set_enabled(struct session *s, struct ring *r, bool on);

/* What we may offer: a session from another process must not have more. */
uint64_t session_protocol_features(const struct vu_device *dev);

int session_answer_u64(struct session *s, uint64_t v);
void session_answer_vring_base(struct session *s, const struct ring *r);

/* session_log.c. change: a running ring, or all of them, are to mark as the session says now. */
int session_log_order(const struct session *s, const struct ring *r, struct ring_order *o);
int session_log_change(struct session *s, struct ring *r);
int session_log_change_all(struct session *s);
void session_log_finish(struct session *s);

/* One order, or what counts as one, is done. */
void session_order_done(struct session *s);

/* session_wake.c. wake: is the device awake, so that @r may start now? If not, it starts by itself. rest: behind the last
 * ring; false: there is nothing to wait for. */
bool session_wake(struct session *s, struct ring *r);
bool session_rest(struct session *s);

/* session_iotlb.c. adopt: new memory, or new features. features: before they are adopted. */
void session_iotlb_adopt(struct session *s);
int session_iotlb_features(struct session *s, uint64_t features);
int session_iotlb_check(const struct session *s);
void session_iotlb_retry(struct session *s);
bool session_iotlb_next_miss(struct session *s, struct vu_iotlb *ret);

/* session_back.c: at the start, at the end, and when there may be something to say. */
void session_back_init(struct session *s);
void session_back_close(struct session *s);
void session_back_say(struct session *s);
void session_rung(struct ring *r, bool err);

/* Handlers of messages: 0 or -errno with a sentence; see the table in session.c. */
int session_set_vring_num(struct session *s, struct wire_msg *m);
int session_set_vring_addr(struct session *s, struct wire_msg *m);
int session_set_vring_base(struct session *s, struct wire_msg *m);
int session_get_vring_base(struct session *s, struct wire_msg *m);
int session_set_vring_kick(struct session *s, struct wire_msg *m);
int session_vring_kick(struct session *s, struct wire_msg *m);
int session_set_vring_call(struct session *s, struct wire_msg *m);
int session_set_vring_err(struct session *s, struct wire_msg *m);
int session_set_vring_enable(struct session *s, struct wire_msg *m);
int session_get_inflight_fd(struct session *s, struct wire_msg *m);
int session_set_inflight_fd(struct session *s, struct wire_msg *m);
int session_reset_device(struct session *s, struct wire_msg *m);
int session_get_status(struct session *s, struct wire_msg *m);
int session_set_status(struct session *s, struct wire_msg *m);
int session_set_backend_req_fd(struct session *s, struct wire_msg *m);
int session_set_log_base(struct session *s, struct wire_msg *m);
int session_set_log_fd(struct session *s, struct wire_msg *m);
int session_iotlb_msg(struct session *s, struct wire_msg *m);
int session_set_device_state_fd(struct session *s, struct wire_msg *m);
int session_check_device_state(struct session *s, struct wire_msg *m);
