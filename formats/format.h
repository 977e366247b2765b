/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format.h - what an image format can be asked.
 *
 * Formats compute, blkq executes. While a disk is served a driver does no I/O, never waits and starts no thread: it
 * says where bytes live (fmt_map), what a write needs (fmt_plan_write) and which table writes make it durable
 * (fmt_flush). I/O that a driver needs for itself (load a table page, write tables) is a *batch*: steps for somebody
 * else to run.
 *
 * Threads. An image has one *home* thread. Every function here is home only, except fmt_map(), which any thread may
 * call inside rcu_read_lock(): tables are published with RCU and their entries are 64-bit atomics, so a lookup takes no
 * lock. Only home changes tables and the cache, so there is one writer and nothing to race with. Work on an image at
 * rest (open, create, check, snapshot, resize) is plain synchronous code over the file seam, on the caller's thread.
 *
 * Units are bytes everywhere unless a name says otherwise. Errors are negative errno; where the driver knows the story
 * a sentence is noted (err.h).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>

#include "common/file.h"
#include "common/list.h"

struct fmt_image;
struct fmt_batch;
struct fmt_plan;
struct sector_cipher; /* luks/crypto.h */

/* --- where bytes live ----------------------------------------------------------------------------------------- */

enum extent_kind {
        EXT_DATA,       /* at [host, host + len) of file */
        EXT_ZERO,       /* reads as zeros */
        EXT_COMPRESSED, /* packed in [host, host + packed_len) of file; see fmt_unpack() */
        EXT_ABSENT,     /* not in this image: ask the backing image; never returned by chain_map() */
        EXT_NOWHERE,    /* the null format: reads leave the buffer as it is, writes vanish */
};

struct extent {
        enum extent_kind kind;
        bool writable;          /* DATA: may be overwritten in place (ours alone, and the image is open for writing) */
        bool allocated;         /* ZERO, ABSENT: host space is kept for it, at host (map shows it) */
        bool in_image;          /* ZERO: an entry says so; else it is only that no image of the chain has anything */
        bool hole;              /* DATA: lies in a hole of its file, so it reads as zeros (chain_map_sync() tells) */
        uint32_t packed_len;    /* COMPRESSED: bytes to read at host */
        uint32_t skip;          /* COMPRESSED: the range starts this far into the unpacked cluster */
        uint64_t off, len;      /* guest bytes */
        uint64_t host;          /* bytes in file */
        struct file *file;      /* DATA, COMPRESSED: chain_map() fills in the img's file where fmt_map() left NULL */
        struct fmt_image *img;  /* which image (a chain has several): one of the chain, or one of its parts */
        /* DATA: encrypted in the file, sector by sector, numbered by host / 512; NULL: plain */
        struct sector_cipher *cipher;
        unsigned depth;         /* 0: the top image, 1: its backing image, ... */
};

/**
 * fmt_map - where do the bytes of a guest range live, in this image alone?
 * @off, @len: any alignment, len > 0, inside the image (the caller checked).
 * @ext: the caller's array; filled in guest order without gaps, at most @max entries; neighbours that can be one are
 * one.
 *
 * Returns how many extents (>= 1; they may end before off + len: @max is reached, or something stands in the way
 * further on, so go on asking from there), -EAGAIN when the table page for @off is not cached (home: run fmt_want(img),
 * call again; other threads: hand the request to home), or -EIO when the image contradicts itself at @off (it is then
 * marked corrupt in memory and refuses writes).
 * Any thread, inside rcu_read_lock(). No I/O, no allocation, never blocks.
 */
int fmt_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max);

/**
 * chain_map - the same through the whole chain: EXT_ABSENT becomes what the backing images say, zeros beyond their end.
 * -EAGAIN: *missing is the image of the chain whose page is wanted. Same rules and threads as fmt_map().
 */
int chain_map(struct fmt_image *top, uint64_t off, uint64_t len, struct extent *ext, unsigned max,
              struct fmt_image **missing);

/**
 * fmt_unpack - decompress one cluster.
 * @packed: ext->packed_len bytes as they lie in the file. @out: exactly img->cluster_size bytes.
 * Returns 0 or -EIO (not exactly one cluster of output). Pure: any thread, a worker by preference.
 */
int fmt_unpack(struct fmt_image *img, const void *packed, size_t packed_len, void *out);

/**
 * fmt_pack - compress one cluster, for fmt_plan_packed().
 * @in: exactly img->cluster_size bytes. @out: room for as many.
 * Returns the packed length (always less than a cluster), 0 when it does not get smaller: write it as it is, or
 * -ENOMEM. Pure: any thread, a worker by preference. Ask fmt_can_pack() first.
 */
int fmt_pack(struct fmt_image *img, const void *in, void *out);
bool fmt_can_pack(const struct fmt_image *img);

/* --- batches: I/O a driver needs for itself ------------------------------------------------------------------- */

enum fmt_op {
        FMT_READ,
        FMT_WRITE,
        FMT_ZERO,     /* the range reads as zeros afterwards and its space is given back (punch hole) */
        FMT_TRUNCATE, /* off is the new file size */
        FMT_SYNC,     /* barrier: all earlier steps have completed and are durable before any later step starts */
};
struct fmt_step {
        enum fmt_op op;
        uint64_t off, len;
        void *buf; /* READ, WRITE: page-aligned, the driver's, untouched by others until done() */
        bool data; /* in the image's data file, not in its own: fmt_step_file() */
};

/*
 * Steps between two FMT_SYNCs may run in any order and at once. The first error stops the batch: no later SYNC group is
 * started, done() gets the errno. done() runs on home, exactly once per batch that was started, and frees the batch; it
 * may leave the driver with further work (fmt_housekeep).
 */
struct fmt_batch {
        struct fmt_image *img; /* whose files */
        struct fmt_step *step;
        unsigned nsteps;
        void (*done)(struct fmt_batch *b, int err);

        /* The executor's: */
        bool started;
        struct list waiters; /* list_init()ed by fmt_batch_new */
};
struct fmt_batch *fmt_batch_new(struct fmt_image *img, unsigned max_steps, size_t struct_size); /* NULL: ENOMEM */
void fmt_batch_free(struct fmt_batch *b); /* the steps array and @b; buffers are the driver's business */

/* Runs a batch to its end on this thread through the file seam, calls done(). For images at rest, tools and tests. */
int fmt_batch_run_sync(struct fmt_batch *b);

/**
 * fmt_want - the batch that the last -EAGAIN of this image on this thread (home) waits for. Ask at once after it.
 * Several callers that want the same page get the same batch (started tells whether it runs already); who finds no room
 * while other pages are on their way gets their batch. NULL after an -EAGAIN means: the cache is full of dirty pages
 * (or there is no memory), flush first.
 */
struct fmt_batch *fmt_want(struct fmt_image *img);

/* --- changing an image: home only ----------------------------------------------------------------------------- */

enum plan_kind {
        PLAN_IN_PLACE, /* write [off, off+len) at host. Nothing to commit */
        PLAN_ALLOCATE, /* write head + data + tail as one write at host - head; then commit */
        PLAN_PACKED,   /* write the packed bytes at host (any byte), nothing else; then commit */
        PLAN_TABLES,   /* only tables change (discard, zeroes); commit publishes it */
        /* FMT_ZERO (or zero range, see keep) of [host, host+len) of the file does it. Nothing to commit */
        PLAN_PUNCH,
        PLAN_WRITE_ZEROES, /* zeros must be written as data: use fmt_plan_write for [off, off+len) */
        PLAN_NOTHING,  /* reads as asked already, or the hint cannot be followed: succeed */
};

/*
 * What to do about the first [off, off + len) of the range that was asked; call again for the rest. Zero-initialise.
 * From a successful fmt_plan_write() to fmt_commit() or fmt_abort() the clusters that the range touches are the plan's:
 * the caller keeps any other write, discard or zeroing of the same clusters away (blkq/home/overlap.c does). Reads go
 * on.
 */
struct fmt_plan {
        enum plan_kind kind;
        uint64_t off, len; /* guest bytes done by this plan */
        uint64_t host;     /* where byte @off goes in fmt_data_file() */
        /*
         * ALLOCATE: copy-up. The clusters' other bytes, [off - head, off) and [off + len, off + len + tail), must go
         * into the same write, read through chain_map() before commit. Both 0 when nothing is needed (the write fills
         * its clusters, or the rest reads as zeros and the new clusters do too).
         */
        uint64_t head, tail;
        bool fresh; /* ALLOCATE: the new clusters read as zeros; head and tail that are all zeros need not be written */
        bool keep;  /* PUNCH: keep the space allocated */
        uint64_t tag[4]; /* the driver's */
};

/**
 * fmt_plan_write - make [off, off+len) writable: in place, or in new clusters (contiguous in the file, as many as fit).
 * Reserves everything (data, table, refcounts) before it changes anything. Returns 0, -EAGAIN (see fmt_want),
 * -ENOSPC / -EFBIG (the format's limits), -EROFS, -EIO (corrupt), -ENOMEM. Failure changes nothing.
 */
int fmt_plan_write(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan);

/**
 * fmt_plan_packed - room for one compressed cluster, right behind the one before if that can be.
 * @off: of a cluster; all of it is replaced (past the end of the image it is zeros). @packed_len: what fmt_pack()
 * returned. Packed clusters share clusters of the file: neighbours may be written at the same time, so the write must
 * not touch more than its bytes (no read-modify-write of a whole block: not through O_DIRECT).
 * Errors as fmt_plan_write(), and -ENOTSUP when the format has no compression.
 */
int fmt_plan_packed(struct fmt_image *img, uint64_t off, uint32_t packed_len, struct fmt_plan *plan);

enum { ZERO_MAY_UNMAP = 1 << 0, ZERO_DISCARD = 1 << 1 };
/**
 * fmt_plan_zero - make [off, off+len) read as zeros (0 or ZERO_MAY_UNMAP), or drop it (ZERO_DISCARD: contents no longer
 * matter, but never what lay there before in a backing image or another place).
 * Sub-cluster edges come back as PLAN_WRITE_ZEROES (zeroing) or PLAN_NOTHING (discard). Same errors as
 * fmt_plan_write().
 */
int fmt_plan_zero(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan);

/* The data of an ALLOCATE or PACKED plan is in the file (not yet durable), or a TABLES plan shall happen: publish.
 * Cannot fail. */
void fmt_commit(struct fmt_image *img, struct fmt_plan *plan);

/* The data could not be written: give the clusters back. Its bytes may be half written; nobody will see them. */
void fmt_abort(struct fmt_image *img, struct fmt_plan *plan);

/*
 * Host clusters that a commit unlinked are *dying*: requests that looked the old mapping up may still have I/O in
 * flight there, on any thread. When fmt_dying() is not 0 the executor lets every thread finish the requests it has in
 * flight now and then calls fmt_dying_release() with the number it was given.
 */
uint64_t fmt_dying(struct fmt_image *img);                    /* 0: nothing; else a ticket covering all so far */
void fmt_dying_release(struct fmt_image *img, uint64_t ticket);

/**
 * fmt_flush - the batch that makes everything committed so far durable; its last step is FMT_SYNC.
 * Never NULL on success: *ret is just a sync when no table is dirty (and has no steps when the image has no file). It
 * is a snapshot: later commits do not slip in. One flush batch at a time per image (the executor waits). -ENOMEM. After
 * a failed batch the pages are dirty again.
 */
int fmt_flush(struct fmt_image *img, struct fmt_batch **ret);

/* Are there table changes that only a flush will make durable? (Write-back by timer, and before close.) */
bool fmt_is_dirty(const struct fmt_image *img);

/**
 * fmt_housekeep - the next batch of work that waits for no guest: load refcounts of freed clusters, punch them, ...
 * Asked after each done() and flush. *ret is NULL when there is nothing to do now. -ENOMEM.
 */
int fmt_housekeep(struct fmt_image *img, struct fmt_batch **ret);

/*
 * No more writes will come: give reservations back, so that flush and housekeep, repeated until fmt_is_dirty() is false
 * and housekeep is NULL, leave a tidy image (no leaks, exact file size). Then fmt_close().
 */
void fmt_wind_down(struct fmt_image *img);

/**
 * fmt_demote - a settled image is only read from now on: its locks become a reader's, its log of table changes is
 * closed. Lookups may go on meanwhile; their extents still say writable. Any thread that may wait.
 */
void fmt_demote(struct fmt_image *img);

/* --- images at rest ------------------------------------------------------------------------------------------- */

enum fmt_open_flags {
        FMT_RDONLY = 1 << 0,
        FMT_DIRECT = 1 << 1,     /* O_DIRECT for all files of the chain */
        FMT_NO_BACKING = 1 << 2, /* do not open the backing chain; absent ranges read as zeros */
        FMT_NO_LOCK = 1 << 3,
        FMT_REPAIRING = 1 << 4,  /* accept dirty and corrupt images for writing (check -r) */
        FMT_INFO_ONLY = 1 << 5,  /* header only: tables are not loaded, nothing may be mapped */
        FMT_NO_KEY = 1 << 7,    /* tables only: an encrypted image may be opened without its key (see locked) */
        /* tools that only read: what looks like nothing is raw, unnamed backing formats are probed */
        FMT_GUESS = 1 << 6,
        /* A table entry need not wait for the new bytes of the guest that it shows: one sync less, and a power failure
         * may leave zeros where a write that no flush covered replaced other bytes. Copied-up bytes come first all the
         * same. */
        FMT_ENTRY_WITH_DATA = 1 << 8,
        /* For writing: the opener sees to the image's bitmaps (bitmaps_take() before the disk changes, bitmaps_store()
         * at the end), or does not change the disk. Without it they are given up at once, since they would tell
         * lies. */
        FMT_KEEP_BITMAPS = 1 << 9,
        FMT_TELL = 1 << 10,    /* fmt_image.about of all images of the chain */
};
/* An internal snapshot; the names that are not NULL must all be its. @any: its id, or else its name. */
struct fmt_snapshot_which {
        const char *any, *id, *name;
};
/*
 * What the operator says about one image of a chain, beyond what the image itself and the one above it say. NULL:
 * nothing. Borrowed by whoever opens; kept by its maker while images are opened with it.
 */
struct fmt_layer {
        const char *path, *format; /* of a backing image; of the top one chain_open() is told otherwise */
        const char *key_secret;    /* encrypted image: the name of the secret that opens it (secret.h) */
        /* Where its external data file is, believed as it is. NULL: what the image says, if that is a regular file in
         * the image's own directory or below it. -EINVAL for an image without such a file. */
        const char *data_path;
        bool no_backing;           /* nothing is behind it, whatever it names */
        const struct fmt_layer *backing;
};
/* with all behind it; NULL stays NULL. -ENOMEM */
int fmt_layer_dup(const struct fmt_layer *from, struct fmt_layer **ret);
void fmt_layer_free(struct fmt_layer *l); /* of fmt_layer_dup(); NULL is fine */

struct fmt_open_opts {
        const char *format;  /* NULL: probe. Whoever serves guests must name it; see fmt_probe() */
        unsigned flags;
        size_t cache_bytes;  /* table cache per image; 0: default (FMT_CACHE_DEFAULT) */
        uint64_t null_size;  /* the null format has no file that could tell */
        /* the top image as it was then, FMT_RDONLY only; NULL: as it is now */
        const struct fmt_snapshot_which *snapshot;
        const struct fmt_layer *layer; /* NULL: nothing is said */
        struct sector_cipher *cipher; /* taken, also on failure: of the same image, which was open before. NULL: none */
        struct file *data_file; /* chain_open() opens it; for fmt_open_file(): taken with the image, when it opens */
        const char *state_dir; /* where table changes survive a killed process (maplog.h); NULL: nowhere */
};
#define FMT_CACHE_DEFAULT (32u << 20)
#define FMT_MAX_CHAIN 64u

/**
 * chain_open - open an image and, unless FMT_NO_BACKING, its backing files (read-only, formats as named in the images;
 * a backing file whose format is not named is refused without FMT_GUESS).
 * Without opts->format the first bytes tell it; what they do not tell is refused without FMT_GUESS: the operator has to
 * say raw. The null format has no file: @path is only its name.
 * Relative backing names are relative to the directory of the image that names them; names with a protocol ("nbd:",
 * "json:") are refused; loops and chains longer than FMT_MAX_CHAIN are refused.
 * Returns 0 and *ret (chain_close() it) or -errno with a sentence. Work and memory are bounded by the files' real sizes
 * (64 MiB, 2 s), not by what headers claim.
 */
int chain_open(const char *path, const struct fmt_open_opts *opts, struct fmt_image **ret);

/**
 * chain_reload - read the top image of an open chain again, from the same file and with its locks kept; its backing
 * images stay. For after a change at rest (see fmt_driver). @opts: as it was opened; format and layers stay what they
 * are. Returns 0; or -errno with a sentence: then the whole chain is closed and *top is NULL.
 */
int chain_reload(struct fmt_image **top, const struct fmt_open_opts *opts);

/**
 * chain_backing_path - where is the backing file that the image at @image_path calls @name?
 * *ret: a path to open (free() it). -EINVAL with a sentence for a name that is not a plain path.
 */
int chain_backing_path(const char *image_path, const char *name, char **ret);

/**
 * chain_data_path - the same for an external data file. It lies beside the image that names it: *dir is the image's
 * directory, *rest a name in it (free() both). -EINVAL with a sentence for a name that leads elsewhere or is no plain
 * path.
 */
int chain_data_path(const char *image_path, const char *name, char **dir, char **rest);

/* One image on a file of the caller's (taken, also on failure), without backing chain. Fuzzers and tests use this. */
int fmt_open_file(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret);

/* Is the file with this identity one that @img (without its backing images) is made of? */
bool fmt_is_made_of(const struct fmt_image *img, dev_t dev, ino_t ino);

/*
 * An image at rest: these run the batches they need on this thread, which is the image's home, so no RCU lock is
 * needed.
 *
 * chain_map_sync: one extent that starts at @off, as chain_map() tells. DATA comes in pieces that are
 * wholly in a hole of their file or not at all. @len > 0, inside the image.
 * extent_read_sync: the guest's bytes of a DATA extent.
 * chain_read_sync: the guest's bytes, whatever kind of extent they are in. Memory: a few clusters.
 * fmt_write_sync: the guest's bytes, whole sectors, into an image open for writing; durable when it is settled. Memory:
 * a few clusters.
 * fmt_settle_sync: fmt_wind_down, then flush and housekeep until clean. For tools and tests that wrote through plans.
 */
int chain_map_sync(struct fmt_image *top, uint64_t off, uint64_t len, struct extent *ext);
int extent_read_sync(const struct extent *ext, void *buf);
int chain_read_sync(struct fmt_image *top, void *buf, size_t len, uint64_t off);
int fmt_write_sync(struct fmt_image *img, const void *buf, size_t len, uint64_t off);
int fmt_settle_sync(struct fmt_image *img);

/**
 * fmt_share_sync - the guest's bytes at @off become those of @from, an extent of DATA in another image, without a copy
 * through us: shared (reflink), or with @offload copied by the file system.
 * *done: how many bytes from the start of @from were (0: not here, the pieces do not fit). 0, -EOPNOTSUPP or -EXDEV
 * (these files cannot; nothing has changed), or -errno. Settle the image afterwards.
 */
int fmt_share_sync(struct fmt_image *img, uint64_t off, const struct extent *from, bool offload, uint64_t *done);

/**
 * fmt_preallocate_sync - host space for [off, off + len) of an image at rest, where nothing was ever written.
 * @how: METADATA: table entries only, FALLOC: space that the file system keeps for it, FULL: zeros written (in an
 * encrypted image always). The range must read as zeros, and does so afterwards. Settles the image. -ENOTSUP with a
 * sentence for what the format cannot.
 */
enum fmt_prealloc { FMT_PREALLOC_OFF, FMT_PREALLOC_METADATA, FMT_PREALLOC_FALLOC, FMT_PREALLOC_FULL };
int fmt_preallocate_sync(struct fmt_image *img, uint64_t off, uint64_t len, enum fmt_prealloc how);

/* Can it? Before anything changes. 0, or -ENOTSUP with a sentence. */
int fmt_preallocate_usable(const struct fmt_image *img, enum fmt_prealloc how);

/* NULL is fine. Does not write: wind down and flush first (fmt_settle_sync() for images at rest). */
void chain_close(struct fmt_image *top);

/**
 * fmt_probe - which format do the first bytes of the file look like? NULL: none known (it could be raw).
 * Never returns "raw": a guest can write any header into a raw disk, so raw must be said by the operator.
 */
const char *fmt_probe(const void *head, size_t len);

/* --- the image and its driver --------------------------------------------------------------------------------- */

enum { FMT_CORRUPT_NOT, FMT_CORRUPT_SAID, FMT_CORRUPT_HEARD };
struct fmt_image {
        const struct fmt_driver *drv;
        struct file *file;         /* owned; NULL: the format has none (FMT_NO_FILE) */
        /* owned; guest data lies here, tables in file. NULL: both in file, or only looked at */
        struct file *data_file;
        struct fmt_image *backing; /* owned; NULL: none */
        /* More files of the image (a VMDK's extents), each as an image that extents may name; the driver's. */
        struct fmt_image **parts;
        unsigned nparts;
        bool names_files;          /* the image says which these are, so they are a stranger's word */
        uint64_t size;             /* virtual size; served rounded up to 512 */
        uint32_t cluster_size;     /* unit of allocation; 1 for raw and null */
        /* the smallest part of it that is mapped, written and zeroed by itself; else the same */
        uint32_t subcluster_size;
        uint32_t host_align;       /* data begin at multiples of this in the file; 0: of subcluster_size */
        bool read_only;
        bool corrupt;              /* contradicts itself: no more writes */
        atomic_int corrupt_state;  /* who finds it says why, once; so does who tells the operator */
        char corrupt_why[256];     /* when it is not NOT any more */
        bool encrypted;
        bool locked;               /* encrypted, and opened without its key: nothing can be read or written */
        struct sector_cipher *cipher; /* owned; what new data is encrypted with. NULL: plain (or locked) */
        bool dirty;                /* as found: it was not closed clean (qcow2's dirty bit) */
        char *backing_name;        /* as written in the image; NULL: none */
        char *backing_format;      /* likewise; NULL: not named */
        /* What the image says of itself, as it was when it was opened: "snapshots" (QEMU's SnapshotInfo, none: not
         * there) and "format-specific" (likewise). Owned; NULL: nothing, or opened without FMT_TELL. */
        json_t *about;
};

/* Where the guest's data is written to. */
static inline struct file *fmt_data_file(const struct fmt_image *img)
{
        return img->data_file ? img->data_file : img->file;
}

/* What direct I/O of this image must be aligned to: the coarser of its files. */
static inline uint32_t fmt_off_align(const struct fmt_image *img)
{
        uint32_t tables = img->file ? img->file->off_align : 1, data = img->data_file ? img->data_file->off_align : 1;

        return tables > data ? tables : data;
}

static inline struct file *fmt_step_file(const struct fmt_image *img, const struct fmt_step *s)
{
        return s->data ? img->data_file : img->file;
}

/* One finding of a check; the driver calls it for each. @repaired: check -r fixed it. All but leaks are corruptions. */
enum fmt_finding_kind {
        FINDING_CORRUPTION, /* none of the following */
        FINDING_LEAK,       /* counted more often than used */
        FINDING_LOW,        /* counted less often than used */
        FINDING_COPIED,     /* a mark of "used once only" that is wrong */
        FINDING_ENTRY,      /* a table entry that cannot be right */
        FINDING_BLIND,      /* something cannot be read or believed, so nothing can be repaired */
        FINDING_KINDS,
};
struct fmt_finding {
        enum fmt_finding_kind kind;
        bool repaired;
        const char *text; /* one sentence; valid during the call */
};
struct fmt_check {
        bool fix_leaks, fix_all;
        void (*finding)(struct fmt_check *chk, const struct fmt_finding *f); /* may be NULL */
        void (*progress)(struct fmt_check *chk, double done);                /* 0..1; may be NULL */
        void *opaque;
        /* Results, as in qemu-img check --output=json: */
        uint64_t corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed;
        uint64_t image_end_offset, total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
};

/* Options of create, as "name=value" text like qemu-img's -o; the driver knows its own names. */
struct fmt_option {
        const char *name, *value;
};
struct fmt_option_doc {
        const char *name, *type, *help; /* for "-o help" */
};
struct fmt_create {
        uint64_t size;
        const char *backing_name, *backing_format; /* NULL: none. Stored as given */
        const struct fmt_option *opts;
        size_t nopts;
        struct file *data_file; /* option data_file was given: the file, empty, opened by fmt_create_path(); borrowed */
};

/* How large the file of a new image will be. */
struct fmt_measure {
        uint64_t required;        /* bytes, with the data that the source has */
        uint64_t fully_allocated; /* bytes, when all of the disk has been written */
        bool has_bitmaps;         /* the source can have bitmaps, and so can the new image: */
        uint64_t bitmaps;         /* bytes that copies of them take in addition */
};

struct fmt_snapshot {
        char *id, *name;               /* owned */
        uint64_t vm_state_size, disk_size, vm_clock_ns, icount;
        uint32_t date_sec, date_nsec;
};

/* A bitmap of what changed on the disk, kept in its image. Its bits are a string of bytes: bit n in byte n / 8, lowest
 * first. */
struct fmt_bitmap {
        const char *name;
        uint32_t granularity; /* bytes of the disk for each bit */
        bool recording;       /* every change of the disk belongs into it ("auto") */
        bool in_use;          /* was not stored after its last use: its bits mean nothing */
        /* bitmaps_store(): bytes [@at, @at + @len) of its bits, @at a multiple of 512. NULL: its bits stay as they
         * are. */
        void (*get)(void *opaque, uint64_t at, void *bytes, size_t len);
        void *opaque;
};
struct fmt_bitmap_reader {
        int (*bitmap)(void *opaque, const struct fmt_bitmap *b); /* the next one; 0, or -errno: go no further */
        /* Its bits follow, where they are not 0, if it is not in use; @bytes NULL: all ones. NULL: not wanted. */
        void (*put)(void *opaque, uint64_t at, const void *bytes, uint64_t len);
        void *opaque;
};

enum fmt_caps { FMT_CAN_WRITE = 1 << 0, FMT_HAS_BACKING = 1 << 1, FMT_HAS_SNAPSHOTS = 1 << 2, FMT_NO_FILE = 1 << 3,
                FMT_HAS_KEYS = 1 << 4,     /* images can be encrypted */
                FMT_HAS_DATA_FILE = 1 << 5 /* the guest's data may lie in a file of its own: option data_file */ };

/* A format. A reader sees at once what it can do and what it leaves out; NULL: it cannot. Contracts as above. */
struct fmt_driver {
        const char *name;
        unsigned caps;
        bool (*probe)(const void *head, size_t len);
        /* Believe nothing yet: check header and table sizes. Takes @file in any case. Allocates its own image struct.
         * @file is NULL with FMT_NO_FILE. Sentences need not name the path, chain_open() puts it in front. */
        int (*open)(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret);
        /* The backing image is open: is it the one that was meant? 0 or -errno with a sentence. */
        int (*adopt)(struct fmt_image *img);
        /* Does the image keep its data in another file, and under which name? *name: free() it; NULL: it does not say.
         * Returns 1 (it does), 0 (no) or -errno. Nothing but the header is looked at. */
        int (*data_name)(struct file *file, char **name);
        void (*close)(struct fmt_image *img); /* takes half-open images; frees the struct, not file and backing */

        int (*map)(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max);
        struct fmt_batch *(*want)(struct fmt_image *img);
        int (*unpack)(struct fmt_image *img, const void *packed, size_t packed_len, void *out);
        int (*pack)(struct fmt_image *img, const void *in, void *out);

        int (*plan_write)(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan);
        int (*plan_packed)(struct fmt_image *img, uint64_t off, uint32_t packed_len, struct fmt_plan *plan);
        int (*plan_zero)(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan);
        void (*commit)(struct fmt_image *img, struct fmt_plan *plan);
        void (*abort)(struct fmt_image *img, struct fmt_plan *plan);
        uint64_t (*dying)(struct fmt_image *img);
        void (*dying_release)(struct fmt_image *img, uint64_t ticket);
        int (*flush)(struct fmt_image *img, struct fmt_batch **ret);
        bool (*is_dirty)(const struct fmt_image *img);
        int (*housekeep)(struct fmt_image *img, struct fmt_batch **ret);
        void (*wind_down)(struct fmt_image *img);
        void (*demote)(struct fmt_image *img);

        /*
         * At rest; @file is empty (create) or the image is open and nothing is in flight. Work is done on img->file; what
         * the open image holds of its tables is stale after check with repair, resize, empty, amend, bitmaps_store, snapshot
         * create, apply and delete: close it then, and open it again to go on. A failure leaves the image as it was.
         */
        int (*create)(struct file *file, const struct fmt_create *req);
        const struct fmt_option_doc *create_options; /* ends with a NULL name */
        /* How large would create() and then a copy of @source (NULL: nothing) make the file? The disk has req->size bytes. */
        int (*measure)(const struct fmt_create *req, struct fmt_image *source, struct fmt_measure *ret);
        int (*check)(struct fmt_image *img, struct fmt_check *chk);
        int (*resize)(struct fmt_image *img, uint64_t size, bool shrink_ok);
        int (*empty)(struct fmt_image *img); /* the disk is as never written: all of it comes from the backing image */
        /* Change options of an image that is there: all of @opts or none. backing_file "": none. The backing file's
         * contents are the caller's business. @force: also what makes the disk unreadable for good. */
        int (*amend)(struct fmt_image *img, const struct fmt_option *opts, size_t n, bool force);
        /*
         * amend() of backing_file and backing_fmt while the image is in use. Any thread that may wait; the caller sees
         * to it that no flush runs meanwhile. @file: the image's, or a copy of that struct, whose size is its home
         * thread's to change. What the open image says of its names is the caller's to change, too. NULL: the format
         * cannot.
         */
        int (*rename)(struct fmt_image *img, struct file *file, const struct fmt_option *opts, size_t n);
        const struct fmt_option_doc *amend_options;
        /* qemu-img's "format-specific" object: {"type":..,"data":..} */
        int (*info)(struct fmt_image *img, json_t *into);
        /* bitmaps_take: all are in use from now on, durably. bitmaps_store: the image has these bitmaps, and no others;
         * a crash leaves it as it was, or bitmaps in use with no meaning, or all of @all. */
        int (*bitmaps_read)(struct fmt_image *img, const struct fmt_bitmap_reader *reader);
        int (*bitmaps_take)(struct fmt_image *img);
        int (*bitmaps_store)(struct fmt_image *img, const struct fmt_bitmap *all, size_t n);
        int (*snapshot_list)(struct fmt_image *img, struct fmt_snapshot **ret, size_t *n);
        /* What deleting each of the @n listed snapshots would free. Reads all tables. */
        int (*snapshot_usage)(struct fmt_image *img, uint64_t *bytes, size_t n);
        int (*snapshot_create)(struct fmt_image *img, const char *name);
        int (*snapshot_apply)(struct fmt_image *img, const char *name_or_id);
        int (*snapshot_delete)(struct fmt_image *img, const char *name_or_id);
};

const struct fmt_driver *fmt_driver_find(const char *name);  /* NULL: unknown */
const struct fmt_driver *const *fmt_drivers(void);           /* NULL-terminated */

/* qemu-img create: makes the file, and the data file if there is to be one, and writes an empty image. On failure what
 * was not there before is removed again. Options of files, not of the format, are dealt with here: nocow,
 * extent_size_hint. */
int fmt_create_path(const char *path, const struct fmt_driver *drv, const struct fmt_create *req);

void fmt_snapshots_free(struct fmt_snapshot *s, size_t n);
json_t *fmt_snapshot_json(const struct fmt_snapshot *s); /* as QEMU's SnapshotInfo. NULL: no memory */

/* Makes img->about; what cannot be read is left out. A thread that may wait; nobody else has the image yet. */
void fmt_tell(struct fmt_image *img);
