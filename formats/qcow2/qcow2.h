/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qcow2.h - inside the driver while an image is served. Nobody outside formats/qcow2 includes it.
 *
 * Two tables of the same shape lead to the guest's bytes and to the refcounts:
 *
 *     top (in memory, whole)      leaf (one cluster in the file, cached in pages of 4 KiB)
 *     L1 table                    L2 table
 *     refcount table              refcount block
 *
 * Threads: home changes everything. Other threads call qcow2_map() only, inside rcu_read_lock(); they see `top` of the
 * L2 table, its dirs and pages (RCU), the entries (64-bit atomics; page_look() for pairs), `host_end` and img.corrupt.
 *
 * Time is counted in flush generations: what is changed now carries the stamp `gen`; a flush takes all of it as a
 * snapshot, raises gen, and when it has succeeded everything stamped <= durable_gen is durable.
 */
#pragma once

#include <stdatomic.h>
#include <urcu.h>

#include "common/bytes.h"
#include "common/list.h"
#include "common/maplog.h"
#include "common/range.h"
#include "formats/format.h"
#include "formats/luks/kept_keys.h"
#include "header.h"
#include "l2e.h"
#include "on_disk.h"
#include "refcount_bits.h"

struct qcow2_image;
struct qcow2_table;
struct change;

/* --- table_cache.c: pages of leaf tables ----------------------------------------------------------------------- */

enum { PAGE_SUB_ENTRIES = 4096 / 16 };

/* On exactly one of: cache->clean, cache->dirty, or none (clean while a flush writes it). */
struct page {
        struct rcu_head rcu;
        struct list link;
        struct qcow2_table *table;
        uint64_t no;     /* which page of the table: guest order, or cluster order for refcounts */
        uint64_t off;    /* byte in the file where it belongs; changes when its L2 table is copied */
        unsigned pins;   /* plans that will change it: keeps it in memory */
        bool dirty;      /* differs from the file; implies a later flush */
        uint16_t dirty_from, dirty_to; /* bytes, in pieces: what differs is in between */
        bool writing;    /* a flush batch in flight carries its bytes: must not be dropped and read again */
        bool carries;    /* of a copied L2 table whose L1 entry is not durable: goes to the file before L1 does */
        atomic_bool used; /* looked at since the clock hand passed */
        void *bytes;     /* page_size, as in the file (big-endian) */
        /* Entries of two words, see page_look(): odd while home changes one; and those whose clusters came to us as
         * zeros and have been written only where they have data. */
        _Atomic uint32_t version;
        uint64_t pristine[PAGE_SUB_ENTRIES / 64];
};

struct page_dir {
        struct rcu_head rcu;
        unsigned npages;     /* not NULL; at 0 the directory goes */
        struct page *page[]; /* pages_per_leaf */
};

struct qcow2_table {
        _Atomic uint64_t *top; /* CPU order */
        uint64_t ntop;         /* entries */
        uint64_t top_off;      /* in the file */
        struct page_dir **dir; /* ntop, RCU */
        unsigned long *top_dirty; /* a bit for each piece of the top table */
        bool any_top_dirty;
        bool is_l2;
};

struct table_cache {
        struct list clean; /* in clock order */
        struct list dirty;
        struct list loading; /* struct page_load */
        size_t npages, max_pages; /* loading ones count */
};

/* --- space.c: clusters of the file ----------------------------------------------------------------------------- */

struct space_run; /* space.c */

struct space {
        /* cluster; none from here on was ever used: they read as zeros once the file is long enough */
        uint64_t end;
        /* cluster; the file is this long. Nothing is written beyond, so growing it cuts nothing off */
        uint64_t file_end;
        struct fmt_batch *growing;
        uint64_t grow_need; /* clusters beyond file_end that somebody waits for */
        bool grown, fixed_size;
        bool winding_down, tail_cut;
        bool started;       /* somebody allocated: from now on keep reservations filled */

        struct list reserved; /* data and tables take from it in turn, so a file has no gaps while it grows */
        uint64_t nreserved;   /* clusters */
        uint64_t target;
        struct list dying, quarantined, unpunched, punching, free;
        unsigned nfree;         /* runs */
        unsigned nleaving;      /* runs in dying .. punching */
        uint64_t last_ticket, asked; /* asked: tickets up to here were handed out; those runs grow no more */
        /* clusters: free ones in [sweep, sweep_end) are on no list, the sweep will find them */
        uint64_t sweep, sweep_end;
        bool keeping;           /* a housekeeping batch is in flight */

        /* packed.c: the next free byte in a host cluster that packed clusters share; 0: none. It holds a reference to
         * that cluster, so the cluster cannot go while more may be put there, and a note for giving it back. */
        uint64_t packed_at;
        struct list packed_note;
};

/* --- meta_map.c: which clusters of the file are tables ---------------------------------------------------------- */

enum { META_HEADER, META_L1, META_REFTABLE, META_SNAPSHOTS, META_BITMAPS, META_LUKS, META_RANGES };
struct meta_map {
        struct meta_range {
                uint64_t first, n; /* clusters */
        } range[META_RANGES];
        /* open addressing: cluster numbers of L2 tables and refcount blocks; 0: empty, 1: was taken out */
        uint64_t *slot;
        size_t nslots, nused;
};
int meta_reserve(struct meta_map *m, size_t more); /* room for @more meta_add(); -ENOMEM */
bool meta_add(struct meta_map *m, uint64_t cluster); /* false: it is there already. Cannot fail after meta_reserve() */
void meta_remove(struct meta_map *m, uint64_t cluster);
bool meta_has(const struct meta_map *m, uint64_t cluster);
void meta_finish(struct meta_map *m);

/* --- the image ------------------------------------------------------------------------------------------------- */

struct qcow2_image {
        struct fmt_image img;
        struct qcow2_header h;
        void *header_page; /* the first page of the file; NULL: opened read-only */
        bool header_dirty;
        bool entry_with_data; /* FMT_ENTRY_WITH_DATA */
        bool keeps_bitmaps;   /* FMT_KEEP_BITMAPS */

        uint32_t cluster_bits;
        uint32_t page_size;
        uint32_t piece;        /* tables are written in multiples of it (flush.c); so is page_size one */
        unsigned pages_per_leaf;
        unsigned page_entries; /* L2 entries in a page */
        unsigned l2_bits;      /* log2 of the entries of an L2 table */
        unsigned subs;         /* sub-clusters of a cluster; 1: it has none */
        uint32_t all_subs;     /* a mask of them */
        unsigned sub_bits;     /* log2 of their size */
        unsigned rc_page_bits; /* log2 of the refcounts in a page */
        unsigned rc_block_bits;

        struct qcow2_table l2, rc;
        struct table_cache cache;
        struct space space;
        struct meta_map meta;
        _Atomic uint64_t host_end; /* bytes: entries must not point beyond */

        uint64_t gen, durable_gen; /* see above */
        uint64_t newest_used; /* the latest stamp of a reservation that an entry of this generation relies on */
        bool data_first;      /* an entry of this generation relies on data that no sync has covered */
        bool link_blocks;     /* a new refcount block is linked from the refcount table in this generation */
        bool reftable_moved;  /* a new refcount table is to be written and the header switched to it */
        bool carried_linked;  /* a flush with a copied L2 table failed: an L1 entry may lead to it before it is whole */
        char *key_secret;     /* the name of the secret that opened it; NULL: none */
        struct luks_id luks;  /* when it has a cipher: of its header (luks/kept_keys.h) */
        struct maplog *log;   /* entries changed since the last flush, for after a kill; NULL: not kept */
};

static inline struct qcow2_image *qcow2_of(const struct fmt_image *img)
{
        return container_of(img, struct qcow2_image, img);
}

/* Contradiction in the image: no more writes (any thread). Returns -EIO with the sentence. */
int qcow2_contradiction(struct qcow2_image *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline bool qcow2_is_corrupt(const struct qcow2_image *q)
{
        return __atomic_load_n(&q->img.corrupt, __ATOMIC_RELAXED);
}

/* May tables change? 0, -EROFS or -EIO. */
int qcow2_may_change(struct qcow2_image *q);

/* --- table_cache.c ---------------------------------------------------------------------------------------------- */

int tcache_table_init(struct qcow2_image *q, struct qcow2_table *t, uint64_t off, uint64_t ntop); /* reads top */
void tcache_table_finish(struct qcow2_image *q, struct qcow2_table *t);
void tcache_finish(struct qcow2_image *q); /* waits for RCU */

static inline uint64_t table_top(const struct qcow2_table *t, uint64_t i)
{
        /* pairs with table_set_top(): page before entry */
        return atomic_load_explicit(&t->top[i], memory_order_acquire);
}
void table_set_top(struct qcow2_image *q, struct qcow2_table *t, uint64_t i, uint64_t entry);

/* Any thread, inside rcu_read_lock() or on home. NULL: not cached. */
struct page *tcache_find(struct qcow2_image *q, struct qcow2_table *t, uint64_t no);

void tcache_looked(void); /* a lookup is over (for thread sanitizers; nothing otherwise) */

/* Home. 0, or -EAGAIN (the miss is remembered for want()). The top entry is not 0. */
int tcache_get(struct qcow2_image *q, struct qcow2_table *t, uint64_t no, struct page **ret);
int tcache_get_leaf(struct qcow2_image *q, struct qcow2_table *t, uint64_t top_index); /* all pages of one leaf */

/* Pages of a leaf in a fresh cluster: zeros, nothing to read. First make (fails: -ENOMEM, -EAGAIN), then publish. */
int tcache_make(struct qcow2_image *q, struct qcow2_table *t, uint64_t no, uint64_t off, struct page **ret);
void tcache_publish(struct qcow2_image *q, struct page *p);
void tcache_unmake(struct qcow2_image *q, struct page *p);
/* The directory that tcache_publish() hangs a page into: -ENOMEM now rather than then. */
int tcache_make_dir(struct qcow2_image *q, struct qcow2_table *t, uint64_t top_index);

void page_dirty(struct qcow2_image *q, struct page *p, uint32_t from, uint32_t len); /* bytes of it have changed */
void page_settle(struct qcow2_image *q, struct page *p); /* no longer written by a flush: back among the clean ones */

static inline uint64_t page_word(const struct page *p, unsigned i)
{
        return be64toh(atomic_load_explicit((_Atomic uint64_t *)p->bytes + i, memory_order_acquire));
}
static inline void page_set_word(struct page *p, unsigned i, uint64_t word)
{
        atomic_store_explicit((_Atomic uint64_t *)p->bytes + i, htobe64(word), memory_order_release);
}

/* What the last -EAGAIN on this thread waits for. */
enum miss_kind { MISS_PAGE, MISS_LEAF, MISS_GROW, MISS_FLUSH };
int tcache_miss(struct qcow2_image *q, enum miss_kind kind, struct qcow2_table *t, uint64_t no); /* -EAGAIN */
struct fmt_batch *qcow2_want(struct fmt_image *img);

/* --- entry.c ---------------------------------------------------------------------------------------------------- */

/*
 * An entry as it is believed. PLAIN: of the sub-clusters (without them: of the cluster) @data lie at @host, @zero read
 * as zeros, the others are not in this image. Zeros with a host have space of their own; so have absent sub-clusters.
 */
enum entry_kind { ENTRY_PLAIN, ENTRY_PACKED, ENTRY_BAD };
struct entry {
        enum entry_kind kind;
        bool copied;
        uint32_t packed_len;
        uint64_t host; /* bytes; 0: none */
        uint32_t data, zero;
};
/* May an entry point there? Any thread. */
bool host_fits(const struct qcow2_image *q, uint64_t host, uint64_t len);
struct entry entry_decode(const struct qcow2_image *q, struct l2e e);
struct l2e entry_encode(const struct qcow2_image *q, const struct entry *d); /* PLAIN */

/* Home: the entry at @slot of an L2 page. Any thread: false when home is just changing it. */
struct l2e page_entry(const struct qcow2_image *q, const struct page *p, unsigned slot);
bool page_look(const struct qcow2_image *q, const struct page *p, unsigned slot, struct l2e *ret);
void page_set_entry(const struct qcow2_image *q, struct page *p, unsigned slot, struct l2e e);

/*
 * Home: is the entry's cluster one that read as zeros when it came, and still does where the entry says that no data
 * is? Known of clusters with sub-clusters while their page is cached.
 */
bool page_is_pristine(const struct qcow2_image *q, const struct page *p, unsigned slot);
void page_set_pristine(const struct qcow2_image *q, struct page *p, unsigned slot, bool pristine);

/* --- map.c ------------------------------------------------------------------------------------------------------ */

void map_check_page(struct qcow2_image *q, struct page *p); /* just loaded: entries that point into tables become bad */
int map_check_l1(struct qcow2_image *q);
int qcow2_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max);

/* Where a guest offset is looked up. */
static inline uint64_t l1_index(const struct qcow2_image *q, uint64_t off)
{
        return off >> (q->cluster_bits + q->l2_bits);
}
static inline uint64_t l2_page_no(const struct qcow2_image *q, uint64_t off)
{
        return (off >> q->cluster_bits) / q->page_entries;
}
static inline unsigned l2_slot(const struct qcow2_image *q, uint64_t off)
{
        return (unsigned)((off >> q->cluster_bits) % q->page_entries);
}
/* Which sub-cluster of its cluster. */
static inline unsigned sub_of(const struct qcow2_image *q, uint64_t off)
{
        return (unsigned)(off >> q->sub_bits) & (q->subs - 1);
}

/* --- unpack.c --------------------------------------------------------------------------------------------------- */

int qcow2_unpack(struct fmt_image *img, const void *packed, size_t packed_len, void *out);

/* --- pack.c ----------------------------------------------------------------------------------------------------- */

int qcow2_pack(struct fmt_image *img, const void *in, void *out);

/* --- packed.c --------------------------------------------------------------------------------------------------- */

int qcow2_plan_packed(struct fmt_image *img, uint64_t off, uint32_t packed_len, struct fmt_plan *plan);
void packed_commit(struct qcow2_image *q, struct change *c);
void packed_end(struct qcow2_image *q); /* nothing more goes behind the last packed cluster */

/* --- refcount.c: refcounts of single clusters, in cached pages -------------------------------------------------- */

/* The page with the refcount of @cluster. -EAGAIN: load; -ERANGE: no refcount block covers it. */
int rc_page(struct qcow2_image *q, uint64_t cluster, struct page **ret);
uint64_t rc_get(const struct qcow2_image *q, const struct page *p, uint64_t cluster);
void rc_set(struct qcow2_image *q, struct page *p, uint64_t cluster, uint64_t value);
/* How many clusters from @cluster on have their refcount in the same page. */
uint64_t rc_page_left(const struct qcow2_image *q, uint64_t cluster);
/* Make @cluster countable: a new block, if need be a new table, at the end of the file. 0, -EAGAIN, -ENOSPC, -EFBIG,
 * -ENOMEM */
int rc_cover(struct qcow2_image *q, uint64_t cluster);

/* --- space.c ---------------------------------------------------------------------------------------------------- */

int space_init(struct qcow2_image *q);
void space_finish(struct qcow2_image *q);

/* Make sure that space_take() finds a cluster; @n: how many would be good. 0, -EAGAIN, -ENOSPC, -EFBIG, -EIO,
 * -ENOMEM. */
int space_ensure(struct qcow2_image *q, uint64_t n);
/* A contiguous run of at most @n ensured clusters: counted, and zeros. Returns the first; *got how many, *stamp. */
uint64_t space_take(struct qcow2_image *q, uint64_t n, uint64_t *got, uint64_t *stamp);

/* The first cluster that space_take() would return. */
uint64_t space_peek(const struct qcow2_image *q);

/* Notes for clusters that will be unlinked, made beforehand because commit must not fail. */
int space_runs_new(struct list *spare, size_t n);
void space_runs_free(struct list *spare);
/* [host, host + len) is no longer pointed to by one entry. Takes a note off @spare, or makes the last one longer. */
void space_unlink(struct qcow2_image *q, struct list *spare, uint64_t host, uint64_t len);
/* Nobody but tables pointed to it (L2, refcount table): no request can be under way there. */
void space_unlink_table(struct qcow2_image *q, struct list *spare, uint64_t first, uint64_t n);
/* Taken but never linked: what was written there must not be seen. */
void space_untake(struct qcow2_image *q, struct list *spare, uint64_t first, uint64_t n);

uint64_t qcow2_dying(struct fmt_image *img);
void qcow2_dying_release(struct fmt_image *img, uint64_t ticket);
struct fmt_batch *space_grow_batch(struct qcow2_image *q);
bool space_is_crowded(const struct qcow2_image *q); /* too much is leaving: flush first */

/* --- housekeep.c ------------------------------------------------------------------------------------------------- */

int qcow2_housekeep(struct fmt_image *img, struct fmt_batch **ret);
void qcow2_wind_down(struct fmt_image *img);

/* --- write.c, zero.c ----------------------------------------------------------------------------------------------- */

/* What an ALLOCATE, PACKED or TABLES plan keeps (plan->tag[0]) until commit or abort. */
struct change {
        struct page *page;   /* pinned */
        struct list spare;   /* notes for what will be unlinked */
        unsigned slot, n;    /* entries of the page; PACKED: one entry, n clusters of the file */
        /* what is changed begins there in the first cluster and ends with that one in the last */
        unsigned from_sub, to_sub;
        uint64_t first;      /* ALLOCATE, PACKED: host cluster */
        uint64_t packed;     /* PACKED: the entry's descriptor */
        uint64_t stamp;      /* ALLOCATE: of the reservation it came from */
        bool taken;          /* ALLOCATE, PACKED: from space_take(); false: kept space is used again */
        bool data_first;     /* ALLOCATE: the old contents were not zeros, so data must be durable before the entry */
        unsigned zero_flags; /* TABLES */
};
int change_new(struct qcow2_image *q, unsigned slot, unsigned n, unsigned spare, struct change **ret);
void change_pin(struct change *c, struct page *p);
void entry_dirty(struct qcow2_image *q, struct page *p, unsigned slot);
/* the k-th becomes @now */
void change_entry(struct qcow2_image *q, struct change *c, unsigned k, const struct entry *now);
uint32_t change_subs(const struct qcow2_image *q, const struct change *c, unsigned k); /* those of the k-th cluster */
void change_free(struct change *c);
/* The page for @off in an L2 table that is ours alone, made or copied if need be. 0 or as fmt_plan_write(). */
int l2_own(struct qcow2_image *q, uint64_t off, struct page **ret);
/* The page for @off as it is; NULL: no L2 table. *owned: no snapshot shares the table. 0, -EAGAIN or -EIO. */
int l2_look(struct qcow2_image *q, uint64_t off, struct page **ret, bool *owned);
bool absent_is_zero(const struct qcow2_image *q, uint64_t cluster_off);
/* The sub-clusters of @d that read as zeros. It is the entry of the cluster at @cluster_off. */
uint32_t zero_subs(const struct qcow2_image *q, const struct entry *d, uint64_t cluster_off);
void zero_commit(struct qcow2_image *q, struct change *c);

int qcow2_plan_write(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan);
int qcow2_plan_zero(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan);
void qcow2_commit(struct fmt_image *img, struct fmt_plan *plan);
void qcow2_abort(struct fmt_image *img, struct fmt_plan *plan);

/* --- flush.c ------------------------------------------------------------------------------------------------------ */

int qcow2_flush(struct fmt_image *img, struct fmt_batch **ret);
bool qcow2_is_dirty(const struct fmt_image *img);

/* --- replay.c ------------------------------------------------------------------------------------------------------ */

/**
 * qcow2_replay - put into the image what @log still holds: a process was killed before its flush.
 * The image is at rest. All of it or nothing is applied, in one step (txn.h). A log that does not fit the image
 * (somebody changed it meanwhile) is dropped with a log line. The log is empty afterwards, unless an error is returned.
 */
int qcow2_replay(struct file *file, struct maplog *log);
