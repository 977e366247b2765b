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
 * Everything below is home only unless it says otherwise. Nothing here recurses without bound: a request always enters
 * home from the inbox, also when its port is on the home thread, and done() of a guest request can only post more.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "blkq/bitmaps/bitmap_set.h"
#include "blkq/home/full.h"
#include "blkq/move.h"
#include "blkq/vol.h"
#include "blkq/change/vol_hold.h"
#include "blkq/workers.h"
#include "blkq/home/writer.h"
#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"

/* --- overlap.c: ranges of clusters that somebody is changing ------------------------------------------------------ */

struct range_lock {
        struct list link;
        uint64_t off, len;  /* bytes, whole clusters */
        unsigned blockers;  /* earlier entries that overlap; 0: ours */
        struct waiter *who; /* NULL once it is ours */
};
/* True: ours now. Else @who is woken (err 0) when it is. */
bool range_lock(struct list *ranges, struct range_lock *l, uint64_t off, uint64_t len, struct waiter *who);
void range_unlock(struct list *ranges, struct range_lock *l); /* wakes those who waited only for this one */

struct cbw;
struct twin;

/* --- the volume --------------------------------------------------------------------------------------------------- */

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
        _Atomic(struct twin *) twin; /* twin.h; NULL: nothing is to be copied when it is written. Ports look whether, no further */
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

/* Its path, for log lines and probes of any thread: a change of the top image gives it another one, and the old one stays. */
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

/* port.c: tell an engine about the files of the chain; home's engine, once. On the engine's thread. */
void chain_files(struct vol *v, struct engine *e, void (*tell)(struct engine *e, struct file *f));
void image_files(struct fmt_image *img, struct engine *e, void (*tell)(struct engine *e, struct file *f)); /* without those behind it */
void vol_use_files(struct vol *v);
void port_files(struct vol_port *p, bool use); /* port's thread */
void port_unref(struct vol_port *p);           /* any thread */

/* reopen.c, while the volume is held: its top is another one, or none; and how it is opened. */
void vol_put_image(struct vol *v, struct fmt_image *top, bool asleep);
struct fmt_open_opts vol_how(const struct vol *v);

/* vol.c: chain_open() for serving. Takes FMT_DIRECT out of opts->flags, and says so, where blocks of @block_size bytes are
 * not what direct I/O needs. */
bool vol_direct_fits(const struct fmt_image *top, uint32_t block_size); /* it does not: the log line says so */
int vol_open_image(const char *path, struct fmt_open_opts *opts, uint32_t block_size, struct fmt_image **ret);
struct fmt_open_opts vol_how(const struct vol *v); /* reopen.c: as the image that is open was opened */
#define VOL_SECTOR 512u
#define VOL_ASLEEP_FLAGS (FMT_INFO_ONLY | FMT_RDONLY | FMT_NO_LOCK | FMT_NO_BACKING)

/* --- batch.c ------------------------------------------------------------------------------------------------------ */

/* Runs @b on home's engine. @b->waiters are woken after b->done(). */
void batch_start(struct vol *v, struct fmt_batch *b);
/* After an -EAGAIN about @img: wait for what is missing. Wakes with 0 (try again) or -errno. */
void batch_want(struct vol *v, struct fmt_image *img, struct waiter *w);
void housekeep_kick(struct vol *v); /* all writers */

/* --- flush.c ------------------------------------------------------------------------------------------------------ */

void flush_init(struct img_writer *w);
/* Wakes @w when everything that guests wrote before this call is durable; true: it shares a flush with others. */
bool flush_wait(struct vol *v, struct waiter *w);
/* The same, and what jobs write to other images of the chain. */
void flush_all(struct vol *v, struct waiter *w);

/* --- grace.c ------------------------------------------------------------------------------------------------------ */

/* Wakes @w when all moves of all threads that are under way now are done. */
void grace_wait(struct vol *v, struct waiter *w);
void grace_kick(struct vol *v); /* after a commit: if clusters are dying, see to it that they die */
void grace_port_init(struct vol_port *p);
void grace_port_ask(struct qtask *task);

/* --- hold.c ------------------------------------------------------------------------------------------------------- */

void hold_init(struct vol *v);
void hold_port_init(struct vol_port *p);

/* Wait in line for the image (any thread). From held() to vol_release() (home) nobody else touches it; the engines have
 * forgotten its files. It is wound down: whoever keeps it in use opens it anew (reopen.c) before the release.
 * A light hold: guests read and write nothing, but flushes and housekeeping go on, and the image stays in use. */
void vol_hold(struct vol *v, struct vol_hold *h);
void vol_hold_go(struct vol_hold *h); /* home, after turn() */
void vol_release(struct vol *v);

void hold_park(struct vol_port *p, struct blk_req *req); /* port's thread: it waits for the release */
void hold_port_idle(struct vol_port *p);                 /* port's thread: a request has ended */
void hold_port_go(struct vol_port *p);                   /* port's thread: its requests go on, unless p->held */
void exchange_port_init(struct vol_port *p);             /* exchange.c */
void hold_home_idle(struct vol *v);                      /* changing is 0 */

/* --- account.c: port's thread ------------------------------------------------------------------------------------- */

void account_init(struct vol_port *p);
void account_finish(struct vol_port *p);                    /* it leaves; no requests */
void account_begin(struct vol_port *p, struct blk_req *req); /* it has come */
void account_end(struct vol_port *p, struct blk_req *req, int res);
/* It is with the engine now. Those that were started in this round are handed over at its end, and are counted so. */
void account_moves(struct vol_port *p, struct blk_req *req);

/* slow.c; port's thread, with v->slow_ns */
void slow_init(struct vol_port *p);
void slow_finish(struct vol_port *p);
void slow_watch(struct vol_port *p); /* there are requests */
void slow_done(struct vol_port *p, const struct blk_req *req, uint64_t ns, int res);

static inline uint64_t port_now(struct vol_port *p)
{
        return engine_now(p->mover.engine);
}
static inline void req_stage(struct blk_req *req, enum stats_stage stage) /* port's thread */
{
        stage_to(&req->p.clock, stage, port_now(req->p.port));
}
/* Home's; @c may be NULL. */
static inline void home_stage(struct vol *v, struct stage_clock *c, enum stats_stage stage)
{
        if (c)
                stage_to(c, stage, engine_now(v->mover.engine));
}

/* --- home_read.c: any guest range to memory ----------------------------------------------------------------------- */

struct unpack;
struct chain_read {
        struct vol *v;
        struct fmt_image *from; /* the chain's image to begin with; NULL: the top one, whichever that is */
        uint64_t off, end;  /* guest bytes still to read */
        uint64_t base, len; /* guest bytes that @iov is for */
        const struct iovec *iov;
        unsigned niov;
        void (*done)(struct chain_read *rd, int res);
        struct stage_clock *clock; /* given before the start, in memory that is zero else; NULL: nobody wants to know */
        struct waiter wait;
        struct move move;
        uint64_t step;      /* bytes of the move under way */
        struct unpack *unpack;
};
/* done() may come before this returns. */
void chain_read_start(struct vol *v, struct chain_read *rd, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov, void (*done)(struct chain_read *rd, int res));
/* What the disk looks like from @from down, zeros behind its end: an image of the chain that stays open until done(). */
void chain_read_from(struct vol *v, struct fmt_image *from, struct chain_read *rd, uint64_t off, uint64_t len,
                     const struct iovec *iov, unsigned niov, void (*done)(struct chain_read *rd, int res));

/* --- home_write.c: plans and copy-up ------------------------------------------------------------------------------ */

struct chain_write {
        struct img_writer *w;
        uint64_t off, end;
        uint64_t base, len;
        const struct iovec *iov;
        unsigned niov;
        void (*done)(struct chain_write *wr, int res);
        struct stage_clock *clock; /* as chain_read's */
        struct waiter wait;
        struct move move;
        struct fmt_plan plan;
        /* Copy-up: */
        struct bounce_wait buffer;
        size_t buf_len;
        void *buf;                 /* head, then tail */
        struct chain_read side[2]; /* head and tail */
        struct iovec side_iov[2];
        unsigned nreads;
        int read_err;
        struct iovec *merged;
};
/* The caller holds the clusters' range_lock, or is the only one who writes to this image. done() may come before this returns. */
void chain_write_start(struct img_writer *w, struct chain_write *wr, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov, void (*done)(struct chain_write *wr, int res));

/* --- home_pack.c: one cluster, compressed ------------------------------------------------------------------------- */

struct pack;
struct chain_pack {
        struct chain_write write; /* for a cluster that does not get smaller */
        struct stage_clock *clock; /* as chain_read's */
        struct pack *pack;
        void (*done)(struct chain_pack *cp, int res);
};
/* The caller holds the cluster's range_lock. done() may come before this returns. */
void chain_pack_start(struct vol *v, struct chain_pack *cp, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov, void (*done)(struct chain_pack *cp, int res));

/* --- home_zero.c: discard and zeroes ------------------------------------------------------------------------------ */

#define ZERO_CHUNK (1u << 20)  /* bytes of zeros written at once */
#define ZERO_PAGE (64u << 10)
struct chain_zero {
        struct img_writer *w;
        uint64_t off, end;
        unsigned flags;    /* ZERO_MAY_UNMAP, ZERO_DISCARD */
        void (*done)(struct chain_zero *z, int res);
        struct stage_clock *clock; /* as chain_read's */
        struct waiter wait;
        struct qtask again;
        struct fmt_plan plan;
        bool unlinked;     /* a commit was made: grace before the end */
        int res;
        struct io io;
        uint64_t at;       /* WRITE_ZEROES: how far */
        struct chain_write write;
        struct iovec zeros[ZERO_CHUNK / ZERO_PAGE];
};
/* As chain_write_start(). */
void chain_zero_start(struct img_writer *w, struct chain_zero *z, uint64_t off, uint64_t len, unsigned flags,
                      void (*done)(struct chain_zero *z, int res));

/* --- dirty_list.c: the bitmaps that record changes ---------------------------------------------------------------- */

struct dirty_list;
void dirty_record_slow(struct vol *v, const struct blk_req *req, const struct dirty_bitmap *but);
/* Port's thread, or home, when @req has completed and before anybody hears of it. @but: not this one; NULL: all. */
static inline void dirty_record(struct vol *v, const struct blk_req *req, const struct dirty_bitmap *but)
{
        if (__builtin_expect(__atomic_load_n(&v->dirty, __ATOMIC_RELAXED) != NULL, 0))
                dirty_record_slow(v, req, but);
}
/* v->lock, or nobody else has @v yet. All: those of @s, none of which is attached. -ENOMEM. */
int dirty_attach(struct vol *v, struct dirty_bitmap *b);
void dirty_detach(struct vol *v, struct dirty_bitmap *b);
int dirty_attach_all(struct vol *v, const struct bitmap_set *s);
/* The disk is about to get, or has got, this size: while it is held. -ENOMEM only when it grows. */
int dirty_resize(struct vol *v, uint64_t size);
void dirty_set_all(struct vol *v);
void dirty_finish(struct vol *v); /* nothing is in flight any more */

/* --- vol_bitmaps.c ------------------------------------------------------------------------------------------------ */

/* Worker or opener: the bitmaps of an image that was just opened; in one for reading only those that cannot be read are left out. */
int bitmaps_load(struct fmt_image *img, struct bitmap_set *s);
int bitmaps_join(struct vol *v, struct bitmap_set *s); /* @s is empty then. -ENOMEM */
/* Home, v->lock, all quiet: another image is the top now, whose bitmaps are @s; it gets those of the one before. Without memory
 * the new ones are forgotten, and so inconsistent in their image. */
void bitmaps_swap(struct vol *v, struct bitmap_set *s);
/* Worker, held: the persistent ones into the image, and forgotten here. -EBUSY: a job has one. */
int bitmaps_leave(struct vol *v);
void bitmaps_forget(struct vol *v); /* the same, but what the image says of them stays */
/* Home, held: into the image, if there are any to store. @done: home, perhaps at once; they are inconsistent on failure. */
void bitmaps_store(struct vol *v, void (*done)(struct vol *v, int res));

/* --- home.c ------------------------------------------------------------------------------------------------------- */

void home_take(struct qtask *task); /* a blk_req's task arrives */

/* --- port_throttle.c: port's thread ------------------------------------------------------------------------------- */

bool port_throttle_waits(struct vol_port *p, struct blk_req *req); /* p->throttle: true: it is started later, from here */
bool port_throttle_has_waiters(const struct vol_port *p);
void port_throttle_hold(struct vol_port *p); /* nothing is started until port_throttle_go() */
void port_throttle_go(struct vol_port *p);
int port_throttle_init(struct vol_port *p);  /* v->lock is held. -ENOMEM */
void port_throttle_finish(struct vol_port *p);

/* --- request.c: port's thread ------------------------------------------------------------------------------------- */

void port_enter(struct vol_port *p, struct blk_req *req);    /* new, or it was parked: it may have to wait */
void request_start(struct vol_port *p, struct blk_req *req); /* in flight from now on */
void request_finish(struct blk_req *req, int res);
void request_again(struct qtask *task); /* likewise; it was not done and shall be started anew */
void request_back(struct qtask *task); /* a blk_req's task is back from home; res is in it */
