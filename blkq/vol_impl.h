/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vol_impl.h - inside a volume. Only blkq/ includes it.
 *
 *   vol.c       opening, closing
 *   request.c   port's thread: the common road, and the door to home
 *   port.c      threads come and go; account.c, slow.c: its requests and the time they take
 *   move.c      the bytes of one request between memory and files
 *   home/       home: requests that came by message, each kind of work, what it waits for, and the way back
 *   change/     the image for one alone: another size, another image in its place, a chain of another shape
 *   bitmaps/    what records the changes
 *   throttle/   port's thread: requests that wait for their turn under limits
 *   jobs/       home: loops that copy
 *
 * port_impl.h, home/work.h and change/hold.h have what these rooms do for each other. Everything below is home only
 * unless it says otherwise. Nothing recurses without bound: a request always enters home from the inbox, also when its
 * port is on the home thread, and done() of a guest request can only post more.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "blkq/bitmaps/bitmap_set.h"
#include "blkq/home/full.h"
#include "blkq/move.h"
#include "blkq/vol.h"
#include "blkq/change/hold.h"
#include "blkq/workers.h"
#include "blkq/home/writer.h"
#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"

struct cbw;
struct twin;

struct grace_state {
        bool running;
        struct list now, next; /* waiters of the running round; of the one after it */
        unsigned left;         /* answers missing */
};
struct hold_state {
        struct list queue;
        struct vol_hold *now;
        unsigned left;         /* ports that still have something in flight */
        bool ports_held;       /* changed under v->lock */
        bool light;            /* they are, but some requests may wait for a flush */
        bool forgot;           /* and ports' engines do not know the files */
        bool home_owed;        /* the holder waits for what guests have under way at home */
};
struct settle_state {
        struct qtask task;
        bool on, posted;       /* a holder waits; task is on its way */
        struct waiter flushed;
        unsigned rounds;
        int err;
};

/* vol_bitmaps.c: on their way into the image. */
struct bitmaps_out {
        struct work work;
        struct qtask back;
        int res;
        void (*done)(struct vol *v, int res);
};

struct vol {
        /* These change only while the volume is held (and top under v->lock, for vol_image_get()): */
        struct fmt_image *top; /* NULL: it could not be opened again; all requests fail */
        _Atomic uint64_t size; /* what guests see: rounded up to 512 */
        bool asleep;        /* top is there to be looked at, not to be used: reopen.c */

        struct qthread *home;
        atomic_bool read_only; /* changes only while the volume is held; any thread looks */
        bool no_sync;
        uint32_t cluster_size;
        char *path, *format, *state_dir; /* how to open it again */
        struct old_path *old_paths;
        const struct fmt_layer *layer;   /* likewise; the opener's */
        size_t cache_bytes;
        uint32_t block_size;
        unsigned open_flags;
        unsigned awake;     /* vol_wake() without vol_rest() */
        atomic_int failed;  /* 0, or why nothing can be written any more (-errno); set at home, read by all */

        void (*on_fail)(void *opaque, int err, const char *what); /* NULL: nobody wants to know */
        void *on_fail_opaque;

        pthread_mutex_t lock; /* for ports; past; top; ports_held; throttle; successor */
        struct list ports;
        struct blk_totals past; /* what ports counted that have left */
        uint64_t past_last_ns;  /* and when one of them gave its last answer */
        uint64_t slow_ns;   /* slow.c; 0: off */
        _Atomic uint64_t max_in_flight; /* bytes, in_flight.h; 0: no bound */
        _Atomic uint64_t copied_up; /* bytes; home counts, any thread reads */

        struct dirty_list *dirty; /* dirty_list.c; NULL: nothing records. Changed under v->lock */
        struct bitmap_set bitmaps; /* v->lock */
        struct bitmaps_out bitmaps_out;
        struct throttle_group *throttle; /* v->lock; NULL: none */
        struct full_state full;

        _Atomic uint64_t error_told_ns; /* I/O errors are told once a second */
        _Atomic uint64_t write_threshold; /* bytes; 0: none */
        void (*on_event)(void *opaque, const struct vol_event *ev); /* NULL: nobody wants to know */
        void *on_event_opaque;

        struct mover mover; /* home's own */
        struct bounce *copy_up; /* buffers for it; not the mover's, which a write that holds one may need, too */
        struct list ranges;
        _Atomic(struct cbw *) cbw; /* cbw.h; NULL: nothing is to be copied before it is written. Ports look, too */
        /* twin.h; NULL: nothing is to be copied when it is written. Ports look whether, no further */
        _Atomic(struct twin *) twin;
        struct list writers;      /* struct img_writer */
        struct img_writer *writer; /* of the top image; NULL when the volume is read-only */
        unsigned retiring;         /* images that guests wrote to, and now somebody makes tidy (retire.c) */
        struct list retire_waiters; /* struct waiter, see retire_wait() */
        struct grace_state grace;
        struct hold_state hold;
        bool ports_move;        /* no round of grace begins */
        struct vol *successor;  /* exchange.c: who attaches, attaches to this one. NULL: none */
        struct settle_state settle;
        struct vol_hold closing;
        struct file_shelf *shelf; /* closing: where its files go; NULL: they are closed */
        void (*closed)(void *opaque, int res);
        void (*taken)(void *opaque, int res, struct fmt_image *top); /* in place of closed */
        void *closed_opaque;
        struct work close_work; /* the image is closed by a worker, and */
        struct qtask close_back; /* the rest at home again */
        int close_res;
        bool uses_files;    /* home's engine knows them, until close */
        /* what it gives to workers is its; NULL: there was no memory, and it has no share of its own */
        struct work_owner *owner;
        struct list unpack_waiters;
        unsigned unpacking;
        uint64_t writeback_ns;
        unsigned busy;      /* things under way at home; settling waits for 0 */
        unsigned changing;  /* requests at home that read or write the image; those that wait for a flush do not */
};

#define PORT_ANSWERED 64u
struct vol_port {
        struct mover mover;
        struct vol *v;
        struct qthread *thread;
        unsigned in_flight;      /* requests */
        struct blk_stats stats;

        /* account.c */
        struct list requests;    /* all that came and are not done, in the order in which they came */
        unsigned nrequests;
        unsigned round;
        struct qhook round_end;
        struct answered {        /* done in this round: NOTIFY and TOTAL are known at its end */
                uint64_t arrived, done;
                struct op_stats *op;
        } answered[PORT_ANSWERED];
        unsigned nanswered;

        /* slow.c */
        struct qtimer slow_timer;
        struct log_limit slow_done, slow_stuck;

        struct list link;        /* v->ports; v->lock */
        atomic_uint refs;        /* being attached, and messages on their way */
        bool gone;               /* detached */
        bool has_files;          /* the engine knows the image's files */

        struct qtask ask, answer; /* grace.c */

        /* hold.c */
        struct qtask hold_ask, hold_answer, hold_go;
        bool held, hold_owed;    /* requests wait; home waits for the last one in flight */
        bool hold_light;         /* only for those that the port itself has in flight */
        bool hold_forget;        /* the files are forgotten */
        struct blk_req *parked, **parked_end;

        struct port_throttle *throttle; /* port_throttle.c; NULL: no limits */
        atomic_uint hurry;       /* port_hurry(); home looks */
        bool impatient;          /* a job's: a full disk is told at once. Set before its first request */
        struct qtask full_ask;   /* tells home so, */
        atomic_bool full_asked;  /* and is on its way */
        struct vol *full_of;     /* to that of this volume */

        struct ports_move *move; /* exchange.c */
        struct qtask move_ask, move_answer;
};

/* Its path, for log lines and probes of any thread: a change of the top image gives it another one, and the old one
 * stays. */
static inline const char *vol_label(const struct vol *v)
{
        return __atomic_load_n(&v->path, __ATOMIC_ACQUIRE);
}

/* A path that the volume had, and somebody may be reading still. */
struct old_path {
        struct old_path *next;
        char *text;
};
/* Home, v->lock: @path becomes its path, and gets NULL; @keep: memory for the old one, taken. */
static inline void vol_rename(struct vol *v, char **path, struct old_path *keep)
{
        keep->text = v->path;
        keep->next = v->old_paths;
        v->old_paths = keep;
        __atomic_store_n(&v->path, *path, __ATOMIC_RELEASE);
        *path = NULL;
}

static inline void vol_busy(struct vol *v)
{
        v->busy++;
}
void vol_unbusy(struct vol *v); /* @v may be gone when the caller's callers return; it is not yet when this returns */

/* 0, or the errno that a write meets before it is tried. Any thread. */
static inline int vol_may_write(struct vol *v)
{
        return v->read_only ? -EROFS : atomic_load_explicit(&v->failed, memory_order_relaxed);
}
/* To whoever wants to know. Any thread. */
static inline void vol_tell(struct vol *v, const struct vol_event *ev)
{
        if (v->on_event)
                v->on_event(v->on_event_opaque, ev);
}

void vol_tell_error(struct vol *v, enum blk_op op, int err); /* events.c; any thread */
void vol_tell_corrupt(struct vol *v); /* an -EIO may have been one; likewise, with something of the chain's in flight */
void vol_passes_threshold(struct vol *v, uint64_t end);
/* Something is written to [.., @end) of the file of @img. One load while there is no threshold. */
static inline void vol_writes_to(struct vol *v, const struct fmt_image *img, uint64_t end)
{
        if (atomic_load_explicit(&v->write_threshold, memory_order_relaxed) && img == v->top)
                vol_passes_threshold(v, end);
}

/* Something about tables or durability went wrong for good: no more writes and flushes. */
void vol_fail(struct vol *v, int err, const char *what);

/* reopen.c, while the volume is held: its top is another one, or none; and how it is opened. */
void vol_put_image(struct vol *v, struct fmt_image *top, bool asleep);
struct fmt_open_opts vol_how(const struct vol *v);

/* vol.c: chain_open() for serving. Takes FMT_DIRECT out of opts->flags, and says so, where blocks of @block_size bytes are
 * not what direct I/O needs. */
bool vol_direct_fits(const struct fmt_image *top, uint32_t block_size); /* it does not: the log line says so */
int vol_open_image(const char *path, struct fmt_open_opts *opts, uint32_t block_size, struct fmt_image **ret);
#define VOL_SECTOR 512u
#define VOL_ASLEEP_FLAGS (FMT_INFO_ONLY | FMT_RDONLY | FMT_NO_LOCK | FMT_NO_BACKING)
