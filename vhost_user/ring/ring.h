/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring.h - a vring at work: a virtqueue on its queue thread, with kick, call and err eventfds.
 *
 * The control thread owns it while it is not running; while it runs, control changes it by ring_order() only, one
 * order at a time, each answered by done() on the control thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/qthread.h"
#include "common/loop.h"
#include "vhost_user/device.h"
#include "vhost_user/memory/dirty_log.h"
#include "vhost_user/ring/virtqueue.h"

/* A memory table as one ring uses it. Made and unmade by control; in between the ring's thread counts its users. */
struct mem_view {
        struct mem_table *mt;
        unsigned users; /* requests that name memory of it */
        struct loop *loop;
        struct loop_task home; /* sends it back to control */
};
struct mem_view *mem_view_new(struct loop *l, struct mem_table *mt); /* NULL: ENOMEM */
void mem_view_free(struct mem_view *v);                              /* control; NULL is fine */

enum ring_order_kind {
        RING_START,  /* not running yet; with a view. Answered when it runs, or failed */
        RING_STOP,   /* answered when nothing is in flight or recorded to be, and no fd in use; base is valid then. Running or not */
        RING_PARK,   /* as STOP, but kick, call and err stay: the ring goes on later, here or in another process */
        RING_ENABLE, /* running: take requests, or leave them in the ring */
        RING_MEMORY, /* running: change over to another view. Failure breaks the queue */
        RING_CALL,   /* another call eventfd; it is written once, since front ends count on that. Running or not */
        RING_ERR,    /* another err eventfd, written when the queue breaks. Running or not */
        RING_LOG,    /* running: another dirty log, or none */
        RING_KICK,   /* running: look at the ring; answered when its requests are taken */
        RING_INVALIDATE, /* running, with an IOMMU: answered when nothing in flight uses the range any more */
};
/* What a ring marks, and where. */
struct ring_log {
        struct dirty_log *to; /* NULL: nothing */
        bool own;             /* also what it writes to its own memory, the used ring of which lies at guest address @at */
        uint64_t at;
};
struct ring_order {
        enum ring_order_kind kind;
        bool enable;           /* START, ENABLE: take requests */
        bool broken;           /* START: it was broken before, in another process or before a PARK, and stays so */
        int fd;                /* CALL, ERR; START, LOG: written when pages were marked. Becomes the ring's; -1: none */
        struct ring_log log;   /* START, LOG */
        uint64_t iova, iova_last; /* INVALIDATE: first and last byte */
        struct mem_view *view; /* START, MEMORY: becomes the ring's, also on failure */
        int result;            /* 0 or -errno */
        char why[160];         /* the sentence for a failure */
};

/*
 * An eventfd that is written through the engine: no system call of its own, never two writes at once. With in-band
 * notifications, and when the front end said nothing of an eventfd, it is rung() on the control thread.
 */
struct ring_bell {
        struct io io;
        int fd;
        bool busy, again;
        bool inband; /* one that has a message */
        bool said; /* the front end said which eventfd, or none */
        struct ring *ring;
        struct loop_task message;
        atomic_bool posted;
};

struct ring {
        /* Control's; not changed while the ring runs, except has_bell and enabled: */
        struct vu_device *dev;
        struct loop *loop;
        struct qthread *thread;
        struct vu_share *share;   /* NULL: none */
        unsigned index;
        uint64_t features;        /* negotiated */
        struct vq_layout layout;
        bool has_addr, has_base, has_kick;
        bool log_own;             /* as SET_VRING_ADDR said: see struct ring_log */
        uint64_t log_at;
        const struct inflight_map *inflight; /* layout.record is in it; NULL: none */
        int kick_fd;              /* -1: none */
        bool polled;              /* the front end gave none, and asks us to poll */
        bool inband;              /* kicks are messages (RING_KICK), and so are the bells that have no eventfd */
        uint32_t base;            /* where to start, as SET_VRING_BASE says */
        uint32_t stopped_at;      /* if has_stopped: where it did, for GET_VRING_BASE, whatever was reset since */
        bool has_stopped;         /* since SET_VRING_BASE */
        bool enabled;             /* as the front end said */
        bool running;             /* START was answered with 0, STOP was not yet */
        bool parked, broken;      /* it ran when it was parked, but took nothing any more */
        bool has_bell;            /* a CALL or ERR order was given since the last STOP */
        bool ordered;             /* an order is out */
        bool waits;               /* it starts when the device is awake */
        void (*done)(struct ring *r, struct ring_order *o);                /* control: the order is carried out */
        void (*trouble)(struct ring *r, const char *why, bool memory_gone); /* control: it takes no more requests */
        void (*held)(struct ring *r);                                      /* control: dev->held_us is true now */
        void (*rung)(struct ring *r, bool err);                            /* control: tell the front end; or an error */
        bool call_due, err_due;   /* the owner's: rung, and not yet told */
        void (*missing)(struct ring *r); /* control: with an IOMMU, it waits for translations */
        void *owner;

        /* The queue thread's: */
        struct virtqueue vq;
        struct mem_view *view;
        void *priv;               /* the device's */
        struct ring_bell call, err, marked;
        struct ring_log log;
        bool has_marked;          /* since the last round end */
        struct engine_watch kick;
        struct qpoller poller;
        struct qhook round_end;
        struct qtimer poll_timer; /* without a kick fd, or when memory was short */
        bool started;             /* START succeeded, not yet stopped */
        bool popping;             /* enabled */
        bool watching;            /* the engine has our kick fd */
        bool hook_set;            /* round_end is to come */
        bool wrote;               /* something of the ring since the last round end, or may have */
        bool stopping;            /* a STOP order waits for the drain */
        struct ring_bell *bell_waits; /* a CALL or ERR order waits until this one is not being rung */
        bool told;                /* trouble was reported */
        unsigned guard_seen;      /* guard_hits when we last looked */

        /* The queue thread's, with an IOMMU (ring_iommu.c): */
        bool has_iommu;
        bool unmapped;            /* the ring's own memory must be looked up before it is touched */
        bool virgin;              /* and then the virtqueue must be started */
        bool starved;             /* a translation is missing: nothing goes on until something has come */
        struct list busy;         /* requests in flight */
        unsigned hits;            /* those that an INVALIDATE waits for */
        struct ring_late *late;   /* answers that could not be given */
        unsigned nlate;

        /* In transit between the two: */
        struct ring_order order;
        int done_with[3];         /* eventfds that go with the answer, to be closed; -1: none */
        struct qtask order_task;
        struct loop_task done_task, trouble_task, held_task;
        const char *trouble_why;
        bool trouble_memory;
        atomic_bool miss_posted, retry_posted;
        struct loop_task miss_task;
        struct qtask retry_task;
};

void ring_init(struct ring *r, struct vu_device *dev, struct loop *l, unsigned index);
void ring_finish(struct ring *r); /* not running, no bells: a STOP was answered, or nothing was ever ordered */

/* Control, no other order being out. */
void ring_order(struct ring *r, const struct ring_order *o);

/* Control, running, with an IOMMU: translations have come, or were refused. Not while a STOP is out. */
void ring_retry(struct ring *r);

/* Has everything that START needs but a view? */
bool ring_ready(const struct ring *r);

/* Queue thread: @q is done; @written bytes went to the guest, from the first writable byte on. @q is the device's
 * again. */
void ring_complete(struct ring_req *q, uint32_t written);

/* Queue thread: the device has written these bytes, which @q's chain names, by itself: not the pieces that are still in the
 * chain at ring_complete(), which are taken to be written. */
void ring_wrote(struct ring_req *q, const void *host, size_t len);

/* Queue thread: the guest's request was beyond answering. The request goes to put(); nothing more is taken. */
void ring_break(struct ring_req *q, const char *why);

/* Queue thread, not from within take(): what the guest shows now is taken, whatever is left of the device's share. A ring
 * that takes nothing now has nothing to take. false: not all could be, for want of memory or translations. */
bool ring_take_all(struct ring *r);

static inline void *ring_priv(const struct ring *r)
{
        return r->priv;
}
