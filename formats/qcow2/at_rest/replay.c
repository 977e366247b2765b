/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay.c - after a killed process: put the entries that were in its memory only into the image.
 *
 * The data is in the file, written before its entry was logged. The clusters that the entries lead to came from a
 * reservation: counted in the file or, if no flush came since, not even that. So: fold the log to the last entry of
 * each cluster, see that nobody has changed the image since, count the clusters, write new L2 tables, commit in one
 * step.
 *
 * How we see that somebody has: he wrote to the file long after the last change that we logged; an entry is neither
 * what it was nor what it became; or a cluster that we would lead to is used by something else. Then the log is worth
 * nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/snapshot_table.h"
#include "formats/qcow2/at_rest/tree.h"
#include "formats/qcow2/qcow2.h"

struct item {
        struct maplog_entry e;
        uint64_t seq;
};

struct replay {
        struct qcow2_txn t;
        struct item *item; /* by index, then in the order they were made */
        size_t n;
        uint64_t *l1;
        uint8_t *l2;      /* one table */
        uint64_t *claim;  /* host clusters that new entries lead to, sorted */
        size_t nclaims;
        size_t changes;
};

static void replay_finish(struct replay *z)
{
        free(z->item);
        free(z->l1);
        free(z->l2);
        free(z->claim);
        qcow2_txn_finish(&z->t);
}

/* --- the log, folded ------------------------------------------------------------------------------------------------ */

static int by_index(const void *a, const void *b)
{
        const struct item *x = a, *y = b;

        if (x->e.index != y->e.index)
                return x->e.index < y->e.index ? -1 : 1;
        return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int by_number(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static int load(struct replay *z, const struct maplog *log)
{
        z->n = maplog_pending(log);
        z->item = calloc(z->n, sizeof(*z->item));
        z->claim = calloc(z->n, sizeof(*z->claim));
        z->l2 = malloc(z->t.h.cluster_size);
        if (!z->item || !z->claim || !z->l2)
                return -ENOMEM;
        for (size_t i = 0; i < z->n; i++)
                z->item[i] = (struct item){ maplog_get(log, i), i };
        qsort(z->item, z->n, sizeof(*z->item), by_index);
        return qcow2_table_read(z->t.file, z->t.h.l1_offset, z->t.h.l1_entries, &z->l1);
}

static uint64_t words_of_l2(const struct replay *z)
{
        return z->t.h.cluster_size / QCOW2_ENTRY_SIZE;
}

/* Items [from, ret) are about one word. */
static size_t same_word(const struct replay *z, size_t from)
{
        size_t to = from;

        while (to < z->n && z->item[to].e.index == z->item[from].e.index)
                to++;
        return to;
}

/* Is @now, which the file has, a state that the logged changes went through? */
static bool went_through(const struct replay *z, size_t from, size_t to, uint64_t now)
{
        bool known = z->item[from].e.was == now;

        for (size_t i = from; i < to; i++)
                known |= z->item[i].e.now == now;
        return known;
}

static int stale(const char *why)
{
        return err_note(-ESTALE, "%s", why);
}

static int load_l2(struct replay *z, uint64_t i)
{
        uint64_t off = l1e_offset(z->l1[i]), fixed;

        memset(z->l2, 0, z->t.h.cluster_size);
        if (qcow2_l1e_flaw(&z->t, z->l1[i], &fixed))
                return stale("an L1 entry is damaged");
        return off ? file_pread(z->t.file, z->l2, z->t.h.cluster_size, off) : 0;
}

/* --- which clusters would come into use ----------------------------------------------------------------------------- */

/* Entries are logged and compared word by word. Is this word one that leads to a cluster? */
static bool is_desc(const struct replay *z, uint64_t index)
{
        return index % l2e_words(&z->t.h) == 0;
}

/* The cluster of the image's file that the descriptor @e leads to; 0: none. Ours are never compressed. */
static uint64_t host_of(const struct replay *z, uint64_t e)
{
        return l2e_is_compressed(e) || qcow2_has_data_file(&z->t.h) ? 0 : l2e_offset(e);
}

static int claim(struct replay *z, uint64_t was, uint64_t now)
{
        uint64_t off = host_of(z, now), i = off >> z->t.h.cluster_bits;
        int r = 0;

        if (!off || host_of(z, was) == off)
                return 0;
        if (!is_aligned(off, z->t.h.cluster_size) || i >= z->t.clusters || refmap_count(&z->t.refs, i) > 1 ||
            refmap_has(&z->t.refs, i, REF_META))
                return stale("a cluster has another use now");
        if (refmap_count(&z->t.refs, i) == 0)
                r = refmap_add(&z->t.refs, i, 1); /* also keeps it from being taken for a table */
        z->claim[z->nclaims++] = i;
        return r;
}

/* For every entry of one L2 table: is it as we left it, and what would it lead to? */
static int look_at_table(struct replay *z, size_t *at, uint64_t i)
{
        uint64_t per = words_of_l2(z);
        int r = i < z->t.h.l1_entries ? load_l2(z, i) : stale("the disk is smaller");

        while (r == 0 && *at < z->n && z->item[*at].e.index / per == i) {
                size_t next = same_word(z, *at);
                uint64_t disk = be64_get(z->l2 + z->item[*at].e.index % per * QCOW2_ENTRY_SIZE);

                if (!went_through(z, *at, next, disk))
                        return stale("an entry has changed");
                if (is_desc(z, z->item[*at].e.index))
                        r = claim(z, disk, z->item[next - 1].e.now);
                *at = next;
        }
        return r;
}

static int look(struct replay *z)
{
        int r = 0;

        for (size_t at = 0; r == 0 && at < z->n;)
                r = look_at_table(z, &at, z->item[at].e.index / words_of_l2(z));
        qsort(z->claim, z->nclaims, sizeof(*z->claim), by_number);
        for (size_t i = 1; r == 0 && i < z->nclaims; i++)
                if (z->claim[i] == z->claim[i - 1])
                        return stale("two entries lead to one cluster");
        return r;
}

/* --- and does anything else use them? ------------------------------------------------------------------------------- */

static bool is_claimed(const struct replay *z, uint64_t off, uint64_t len)
{
        uint64_t first = off >> z->t.h.cluster_bits, last = (off + len - 1) >> z->t.h.cluster_bits;

        for (uint64_t i = first; len && i <= last; i++)
                if (bsearch(&i, z->claim, z->nclaims, sizeof(*z->claim), by_number))
                        return true;
        return false;
}

static int search_table(struct replay *z, uint64_t l1e)
{
        uint64_t off = l1e_offset(l1e), fixed, len;
        int r;

        if (!off)
                return 0;
        if (qcow2_l1e_flaw(&z->t, l1e, &fixed) || is_claimed(z, off, 1))
                return stale("a cluster is a table now");
        r = file_pread(z->t.file, z->l2, z->t.h.cluster_size, off);
        for (uint64_t k = 0; r == 0 && k < l2_entries(&z->t.h); k++) {
                qcow2_l2e_range(&z->t, l2e_get(&z->t.h, z->l2, k), &off, &len);
                if (len && is_claimed(z, off, len))
                        r = stale("a cluster has another user now");
        }
        return r;
}

static int search_tree(struct replay *z, uint64_t off, uint64_t entries)
{
        uint64_t *l1 = NULL;
        int r = qcow2_table_read(z->t.file, off, entries, &l1);

        for (uint64_t i = 0; r == 0 && i < entries; i++)
                r = search_table(z, l1[i]);
        free(l1);
        return r;
}

static int search(struct replay *z)
{
        struct qcow2_snapshots snaps = { 0 };
        int r = search_tree(z, z->t.h.l1_offset, z->t.h.l1_entries);

        if (r == 0)
                r = qcow2_snapshots_read(z->t.file, &z->t.h, &snaps);
        for (uint32_t i = 0; r == 0 && i < snaps.n; i++)
                r = search_tree(z, snaps.v[i].l1_offset, snaps.v[i].l1_entries);
        qcow2_snapshots_finish(&snaps);
        return r;
}

/* --- applying --------------------------------------------------------------------------------------------------------- */

static int change_table(struct replay *z, size_t *at, uint64_t i)
{
        uint64_t per = words_of_l2(z), off, len;
        bool changed = false;
        int r = load_l2(z, i);

        while (r == 0 && *at < z->n && z->item[*at].e.index / per == i) {
                size_t next = same_word(z, *at);
                uint64_t index = z->item[*at].e.index;
                uint8_t *slot = z->l2 + index % per * QCOW2_ENTRY_SIZE;
                uint64_t disk = be64_get(slot), now = z->item[next - 1].e.now;

                *at = next;
                if (disk == now)
                        continue;
                qcow2_l2e_range(&z->t, (struct l2e){ .desc = disk }, &off, &len);
                if (is_desc(z, index) && len && (l2e_is_compressed(disk) || host_of(z, disk) != host_of(z, now)))
                        r = qcow2_txn_ref(&z->t, off, len, -1);
                be64_put(slot, now);
                changed = true;
                z->changes++;
        }
        return r == 0 && changed ? qcow2_l2_replace(&z->t, z->l1, i, z->l2) : r;
}

static int apply(struct replay *z)
{
        int r = 0;

        for (size_t at = 0; r == 0 && at < z->n;)
                r = change_table(z, &at, z->item[at].e.index / words_of_l2(z));
        if (r < 0 || !z->changes)
                return r;
        r = qcow2_l1_replace(&z->t, z->l1, z->t.h.l1_entries);
        return r < 0 ? r : qcow2_txn_commit(&z->t, QCOW2_COMMIT_NUMBERS);
}

static int was_left_alone(struct file *file, const struct maplog *log)
{
        int64_t modified;
        int r = file_modified(file, &modified);

        if (r == 0 && modified > maplog_last_put(log) + MAPLOG_LATE_SECONDS)
                return stale("the file was written to later");
        return r;
}

int qcow2_replay(struct file *file, struct maplog *log)
{
        struct replay z = { 0 };
        int r = was_left_alone(file, log);

        if (r == 0)
                r = qcow2_txn_begin(&z.t, file);
        if (r == 0)
                r = load(&z, log);
        if (r == 0)
                r = look(&z);
        if (r == 0 && z.nclaims)
                r = search(&z);
        if (r == 0)
                r = apply(&z);
        if (r == 0 && z.changes)
                log_info("'%s': %zu table entries that a killed process had in memory only are in the image now", file->path,
                         z.changes);
        if (r == 0 && maplog_lost(log))
                log_warn("'%s': the log of a killed process was full: its last writes that were not flushed are lost",
                         file->path);
        if (r == -ESTALE) {
                log_warn("'%s' was changed after its daemon was killed (%s): writes that were not flushed then are lost",
                         file->path, err_text(r));
                err_clear();
                r = 0;
        }
        replay_finish(&z);
        if (r == 0)
                maplog_trim(log, maplog_mark(log));
        return r;
}
