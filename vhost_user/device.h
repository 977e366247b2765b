/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device.h - what the transport asks of a device (vhost_user_blk), so that this floor knows nothing of disks.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/qthread.h"
#include "common/log.h"
#include "vhost_user/ring/chain.h"

struct ring;
struct mem_view;
struct vu_device;

/* A request in the device's hands, from get() to put() or ring_complete(). The device embeds it. */
struct ring_req {
        struct ring *ring;
        struct mem_view *view; /* keeps the guest memory that the chain names */
        struct chain chain;
        struct list link; /* ring_iommu.c */
        bool hit;
};

struct vu_device_ops {
        /* Control thread: what the front end has acknowledged. May be NULL */
        void (*features)(struct vu_device *dev, uint64_t features);
        /* Control thread. NULL: no config space, the front end has one of its own. 0 or -errno (sentence noted); ranges are the peer's, nobody checked them. */
        int (*get_config)(struct vu_device *dev, uint32_t off, void *buf, uint32_t len);
        /* 1: it is another one now */
        int (*set_config)(struct vu_device *dev, uint32_t off, const void *buf, uint32_t len);

        /*
         * Control thread. Both NULL, or both there: before the first ring of a session starts, and after its last one
         * has stopped. @done comes later, from the loop, not from inside: @res -errno, @why its sentence. No rings
         * start then; or the front end, if it waits for an answer, is hung up on.
         */
        void (*wake)(struct vu_device *dev, void (*done)(void *opaque, int res, const char *why), void *opaque);
        void (*rest)(struct vu_device *dev, void (*done)(void *opaque, int res, const char *why), void *opaque);

        /* On the ring's queue thread: before the first take() and after the last complete(). May set ring_priv(). */
        int (*ring_start)(struct vu_device *dev, struct ring *r);
        void (*ring_stop)(struct vu_device *dev, struct ring *r);
        void (*ring_hurry)(struct vu_device *dev, struct ring *r); /* a stop waits for what is in flight. May be NULL */
        /* On the index-th of its threads, when no ring of it runs: let go what is held there. Rings may start again later. */
        void (*leave)(struct vu_device *dev, unsigned thread);
        /* For how many chains of this ring has the device use now? The others stay there, and it is asked in each round. NULL: for all */
        unsigned (*wants)(struct ring *r);
        struct ring_req *(*get)(struct ring *r);          /* memory for a request; NULL: ask after a completion */
        void (*put)(struct ring *r, struct ring_req *q);  /* not needed after all */
        void (*take)(struct ring *r, struct ring_req *q); /* chain is filled in: do it, then ring_complete() */
};

/* What the rings of a device on one thread have left to take in this round (ring_share.h). The thread's. */
struct vu_share {
        unsigned round;
        uint64_t left;
};

struct vu_device {
        const struct vu_device_ops *ops;
        atomic_bool held_us;        /* its front end made a queue thread sleep in a write to an eventfd of his: none of them is written
                                       any more, and the session is closed. The owner clears it after that */
        const char *name;           /* for log lines */
        struct log_limit limit;     /* of lines that front ends provoke, however often they reconnect; control thread */
        uint64_t features;          /* offered, without VU_F_PROTOCOL_FEATURES */
        unsigned num_queues;        /* 1..256 */
        unsigned uncounted_queues;  /* of them, that GET_QUEUE_NUM does not tell of: front ends of some devices count request
                                       queues only */
        struct qthread **threads;   /* queue i lives on threads[(first + i) % nthreads] */
        unsigned nthreads, first_thread;
        struct vu_share *shares;    /* one for each thread; NULL: all may take what they find */
};
