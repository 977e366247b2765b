/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vol.h - a volume: an open image chain that takes block requests from several queue threads.
 *
 *   vol        the disk: image chain, home thread, flush state, statistics
 *   vol_port   the disk as one queue thread sees it: its request pool, its counters, its requests in flight
 *   blk_req    one request; lives and dies on its port's thread
 *
 * A request is first tried where it is: mapped data is read and overwritten by the port's own engine, no lock, no
 * message. What needs a missing page, new clusters, a table change, decompression or a flush goes to the home thread as
 * a message and comes back as one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "blkq/bitmaps/bitmap_set.h"
#include "blkq/bitmaps/dirty_bitmap.h"
#include "blkq/engine/engine.h"
#include "blkq/move.h"
#include "blkq/qthread.h"
#include "blkq/stats.h"
#include "blkq/throttle/throttle_group.h"
#include "formats/format.h"

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };
enum blk_flags {
        BLK_FUA = 1 << 0,   /* WRITE, WRITE_ZEROES, DISCARD: durable before done() */
        BLK_UNMAP = 1 << 1, /* WRITE_ZEROES: may give the space back */
        BLK_PACK = 1 << 2,  /* WRITE: compress it. One whole cluster (or what the disk has of its last one), in an image that
                               fmt_can_pack(), not opened with O_DIRECT; else -EINVAL */
};

struct vol;
struct vol_port;

/*
 * The caller fills the first part and keeps it, the iov array and the memory it names until done(). The caller checked
 * the range against vol_size(). off and len are multiples of 512; WRITE and READ: the iov sums to len, any alignment.
 */
struct blk_req {
        enum blk_op op;
        unsigned flags;
        uint64_t off, len; /* bytes; 0, 0 for FLUSH */
        const struct iovec *iov;
        unsigned niov;
        void (*done)(struct blk_req *req, int res); /* 0 or -errno; port's thread; may be called from port_submit() */

        struct blk_req_priv {
                struct vol_port *port;
                struct list link;  /* the port's requests, in the order in which they came */
                struct stage_clock clock;
                unsigned round;    /* of the port, in which it was started */
                bool slow;         /* slow.c has said so */
                struct move move;  /* the common road needs no other memory */
                struct qtask task; /* to home, and back */
                int res;
                bool home;         /* took the road through home */
                struct blk_req *parked; /* the next one that waits while the volume is held */
        } p;
};

struct vol_opts {
        const char *format;    /* NULL: probe; refused when the file looks like nothing (-> "say raw") */
        bool read_only;
        bool writeback;        /* cache=writeback: through the page cache instead of O_DIRECT */
        bool no_lock;
        bool entry_with_data;  /* format.h: FMT_ENTRY_WITH_DATA */
        bool asleep;           /* only look at the image, take no lock and read no tables: vol_wake() does */
        unsigned awake;        /* not asleep, and so many vol_wake() were done before: in the process that had it */
        bool no_sync;          /* nothing is made durable, also not by FLUSH and close: for a file that its maker throws away
                                  when he does not get to the end */
        uint64_t null_size;
        uint32_t block_size;   /* all requests are multiples of it, 512 or 4096; 0: 512. See vol_block_size_min() */
        const struct fmt_layer *layer; /* keys of encrypted images; kept until the volume is closed. NULL: none */
        const char *state_dir; /* format.h: where table changes survive a killed process; NULL: nowhere */
        size_t cache_bytes;    /* table cache; 0: default */
        unsigned slow_ms;      /* log requests that take longer; 0: none */
        bool wait_for_space;   /* a full host disk: requests that need space wait, instead of failing */
        unsigned space_timeout_s; /* so long; 0: for ever */
        uint64_t max_in_flight; /* bytes that a queue thread gives to the kernel at once for guests; 0: no bound (in_flight.h) */
        unsigned writeback_ms; /* tables are written this long after a change without a guest flush; 0: 5000 */
};

/**
 * vol_open - open image and chain for serving. @home: the thread that changes its tables; @path is kept for messages.
 * Synchronous; caller's thread. Returns 0 or -errno with a sentence.
 */
int vol_open(const char *path, const struct vol_opts *opts, struct qthread *home, struct vol **ret);

/*
 * Its two halves, for who must not wait: vol_load() reads the host's disk, and derives the key of an encrypted image,
 * which takes seconds; any thread that is registered with RCU. vol_open_loaded() takes the image, also on failure.
 */
struct vol_image {
        struct fmt_image *top;
        struct fmt_open_opts how; /* strings are vol_opts' and @path */
        struct bitmap_set bitmaps;
};
int vol_load(const char *path, const struct vol_opts *opts, struct vol_image *ret);
int vol_open_loaded(const char *path, const struct vol_opts *opts, struct vol_image *img, struct qthread *home,
                    struct vol **ret);

/* The same on an open chain (taken, also on failure): tools and tests. One for writing was opened with
 * FMT_KEEP_BITMAPS, or it has no bitmaps any more. */
int vol_open_chain(struct fmt_image *top, const struct vol_opts *opts, struct qthread *home, struct vol **ret);

/**
 * vol_close - settle the image (flush, give reservations back, exact size), close it, then call @closed on the home
 * thread. All ports must be detached. @res is the first error on the way: data that could not be made durable.
 */
void vol_close(struct vol *v, void (*closed)(void *opaque, int res), void *opaque);

/*
 * The same, but its open files go onto @shelf, locks and all, for whoever opens it next. A raw image is not flushed:
 * nothing of it is in our memory only, and the files stay open. @shelf is home's until @closed.
 */
void vol_shelve(struct vol *v, struct file_shelf *shelf, void (*closed)(void *opaque, int res), void *opaque);

/*
 * The same, but the image is not closed: @taken (home) gets it, settled, and must close it (chain_close(), on a thread
 * registered with RCU). To go on writing to it, read it again first: chain_reload().
 */
void vol_take(struct vol *v, void (*taken)(void *opaque, int res, struct fmt_image *top), void *opaque);

/* As a guest's flush: what was completed before is durable when @done (home thread) gets 0. */
void vol_flush(struct vol *v, void (*done)(void *opaque, int res), void *opaque);

/* 0, or why nothing can be written any more until it is opened again. Any thread. */
int vol_failed(const struct vol *v);

/**
 * vol_resize - make the disk larger while it is in use. Requests wait meanwhile, at their ports.
 * @size: bytes, a multiple of 512; the size it has is fine, less is -EINVAL.
 * @done: on the home thread, with -errno and a sentence @why (borrowed) when the disk is as it was. Any thread;
 * -ENOMEM.
 */
int vol_resize(struct vol *v, uint64_t size, void (*done)(void *opaque, int res, const char *why), void *opaque);

/**
 * vol_wake, vol_rest - for images that several processes use in turn (vol_opts.asleep).
 * Wake: lock and open the image, so that requests can come. -EBUSY after some patience: somebody else has it.
 * Rest, one for each wake: the last one makes everything durable and lets the image go; requests that come all the same
 * wait for the next wake. If not all is durable the image is kept, locked, and @done gets the error.
 * As vol_resize() otherwise.
 */
int vol_wake(struct vol *v, void (*done)(void *opaque, int res, const char *why), void *opaque);
int vol_rest(struct vol *v, void (*done)(void *opaque, int res, const char *why), void *opaque);

uint64_t vol_size(const struct vol *v);         /* bytes, a multiple of 512 */
bool vol_read_only(const struct vol *v);
uint32_t vol_cluster_size(const struct vol *v); /* for TOPOLOGY and discard granularity hints; 1 for raw */
/* 512, or what direct I/O on the files needs if vol_opts.block_size allowed it; without that they are opened through
 * the page cache (a log line says so), which takes any block size. */
uint32_t vol_block_size_min(struct vol *v);
struct fmt_image *vol_image(struct vol *v);     /* home thread, or nothing in flight */
/* The image to look at what does not change while it is served; it stays until vol_image_put(). Keep it short. NULL: it
 * could not be opened again after a resize (vol_image_put() all the same). Any thread. */
struct fmt_image *vol_image_get(struct vol *v);
void vol_image_put(struct vol *v);
bool vol_is_awake(struct vol *v);               /* not asleep. Between vol_image_get() and put */
const char *vol_format(const struct vol *v);    /* its driver's name */
const char *vol_path(const struct vol *v);

/* What all ports counted since the volume was opened, also those that have left. Any thread, while @v is open. */
void vol_totals(struct vol *v, struct blk_totals *ret);
void vol_gauges(struct vol *v, struct blk_gauges *ret);
/* Go on counting from @t: the volume was open before, elsewhere. Before the first port is attached. */
void vol_set_totals(struct vol *v, const struct blk_totals *t);

/**
 * vol_attach_bitmap - from now on changes of the disk that complete set bits in @b, if it records (dirty_bitmap.h):
 * before their done(), and whether they succeed or not. It gets the size of the disk now and whenever that changes;
 * when another process had the image meanwhile (vol_wake()), all of it becomes dirty. Takes a reference. -ENOMEM. Any
 * thread.
 */
int vol_attach_bitmap(struct vol *v, struct dirty_bitmap *b);
/* A change that just ends may still set a bit. One that is not attached is fine. Any thread; never fails. Closing does
 * it, too. */
void vol_detach_bitmap(struct vol *v, struct dirty_bitmap *b);

/*
 * The named bitmaps of the disk's image. They are loaded when it is opened, marked in use there while it is open for
 * writing, and the persistent ones are stored when it is closed, put on a shelf or put to rest. Any thread.
 *
 * get: to look at them, until put; keep it short. add: @granularity 0: QEMU's choice. use: a reference to the bits of
 * one that may be used so; @busy (a constant, NULL: nothing) says from now on who has it, until release. Errors carry
 * QEMU's sentences.
 */
struct bitmap_set *vol_bitmaps_get(struct vol *v);
void vol_bitmaps_put(struct vol *v);
int vol_bitmap_add(struct vol *v, const char *name, uint64_t granularity, bool persistent, bool recording);
/* @bits, which are attached already, get a name. */
int vol_bitmap_adopt(struct vol *v, const char *name, struct dirty_bitmap *bits, bool persistent);
int vol_bitmap_remove(struct vol *v, const char *name);
int vol_bitmap_use(struct vol *v, const char *name, enum bitmap_use use, const char *busy, struct dirty_bitmap **ret);
void vol_bitmap_release(struct vol *v, struct dirty_bitmap *bits); /* drops the reference, too */

/*
 * What happens to a volume that somebody may want to know; see vol_on_event(). Errnos are negative.
 * FULL: requests wait for space on the host's disk; SPACE: none do any more, after @seconds. GAVE_UP: some waited too
 * long and failed. IO_ERROR: a guest was told that @op failed. THRESHOLD: a write went @bytes beyond
 * vol_set_write_threshold(), which was @threshold. CORRUPT: an image of the chain contradicts itself, as @text says
 * (valid during the call).
 */
enum vol_event_kind { VOL_EV_FULL, VOL_EV_SPACE, VOL_EV_GAVE_UP, VOL_EV_IO_ERROR, VOL_EV_THRESHOLD, VOL_EV_CORRUPT };
struct vol_event {
        enum vol_event_kind kind;
        enum blk_op op;
        int err;
        uint64_t seconds, bytes, threshold;
        const char *text;
};
/* Call @fn from whatever thread it happens on. Set it before the first port is attached. */
void vol_on_event(struct vol *v, void (*fn)(void *opaque, const struct vol_event *ev), void *opaque);

/* Tell once when something is written behind byte @at of the top image's file (where the guest's data go, with an
 * external data file); 0: no more. Any thread. */
void vol_set_write_threshold(struct vol *v, uint64_t at);
uint64_t vol_write_threshold(const struct vol *v); /* 0: none, or it was passed */

/* Another vol_opts.max_in_flight, from the next request on. Any thread. */
void vol_set_max_in_flight(struct vol *v, uint64_t bytes);
uint64_t vol_max_in_flight(const struct vol *v);

unsigned vol_waiting_for_space(const struct vol *v); /* how many requests do. Any thread */
/* somebody made space: try now, not in a second. Any thread. -ENOMEM */
int vol_try_space(struct vol *v);

/**
 * vol_on_fail - call @failed once, on the home thread, when nothing can be written any more because tables or
 * durability failed for good (@err: -errno; @what: a few words, a constant). Set it before the first port is attached.
 */
void vol_on_fail(struct vol *v, void (*failed)(void *opaque, int err, const char *what), void *opaque);

/**
 * vol_set_throttle - the disk's requests obey @g from now on (NULL: no limits); those that wait stand in its line. The
 * volume takes a reference. Flushes never wait. By the thread that also orders attach and detach. -ENOMEM: nothing
 * changed.
 */
int vol_set_throttle(struct vol *v, struct throttle_group *g);
struct throttle_group *vol_throttle(struct vol *v); /* a reference, the caller's; NULL: none. Any thread */

/* A thread joins and leaves. Attach and detach run on that thread (post a task); detach needs nothing in flight. */
int port_attach(struct vol *v, struct qthread *t, struct vol_port **ret);
void port_detach(struct vol_port *p);
struct vol *port_vol(struct vol_port *p);

/* On the port's thread. done() is called exactly once, perhaps before this returns. */
void port_submit(struct vol_port *p, struct blk_req *req);

/* From a call with true to one with false: what came through this port shall end soon, and waits for no limits; what it
 * takes is charged all the same. Port's thread. Calls may nest. */
void port_hurry(struct vol_port *p, bool hurry);
/* The guest asked for what can never be done (outside the disk, a broken length, a write to a read-only disk): count
 * it. */
void port_refused(struct vol_port *p, enum blk_op op);

unsigned port_in_flight(const struct vol_port *p);
const struct blk_stats *port_stats(const struct vol_port *p); /* read by any thread: relaxed atomics inside */
