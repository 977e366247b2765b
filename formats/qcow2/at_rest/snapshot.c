/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot.c - internal snapshots of an image at rest.
 *
 * A snapshot is a second L1 table; all that both tables reach is counted twice. Each operation counts in memory in a
 * pass over the L2 tables, writes those whose COPIED bits change to free space, and commits with one header write.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/snapshot_table.h"
#include "formats/qcow2/at_rest/tree.h"

#define MAX_NAME 255u /* what QEMU reads back whole */

struct work {
        struct qcow2_txn t;
        struct qcow2_snapshots snaps;
        uint64_t *l1; /* the active one */
};

static void work_finish(struct work *w)
{
        qcow2_snapshots_finish(&w->snaps);
        free(w->l1);
        qcow2_txn_finish(&w->t);
}

static int work_begin(struct work *w, struct file *file)
{
        int r = qcow2_txn_begin(&w->t, file);

        if (r == 0)
                r = qcow2_snapshots_read(file, &w->t.h, &w->snaps);
        if (r == 0)
                r = qcow2_txn_mark(&w->t, w->t.h.snapshots_offset, w->snaps.bytes);
        for (uint32_t i = 0; r == 0 && i < w->snaps.n; i++)
                r = qcow2_txn_mark(&w->t, w->snaps.v[i].l1_offset, (uint64_t)w->snaps.v[i].l1_entries * QCOW2_ENTRY_SIZE);
        return r < 0 ? r : qcow2_table_read(file, w->t.h.l1_offset, w->t.h.l1_entries, &w->l1);
}

/* Refused, not by the header: an image with a data file has no snapshots, so there is nothing to apply or delete. */
static int refuse_data_file(const struct qcow2_header *h)
{
        return qcow2_has_data_file(h) ? err_note(-ENOTSUP, "an image with an external data file cannot have internal snapshots") :
                                        0;
}

static int find(const struct work *w, const char *id_or_name, struct qcow2_snapshot **ret)
{
        *ret = qcow2_snapshot_find(&w->snaps, id_or_name);
        return *ret ? 0 : err_note(-ENOENT, "the image has no snapshot '%s'", id_or_name);
}

/* --- list ----------------------------------------------------------------------------------------------------- */

int qcow2_snapshot_list(struct fmt_image *img, struct fmt_snapshot **ret, size_t *n)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        AUTO(qcow2_snapshots_finish) struct qcow2_snapshots s = { 0 };
        int r = qcow2_header_read(img->file, 0, &h);

        if (r == 0)
                r = qcow2_snapshots_read(img->file, &h, &s);
        if (r < 0)
                return r;
        *ret = calloc(s.n + 1u, sizeof(**ret));
        if (!*ret)
                return -ENOMEM;
        *n = s.n;
        for (uint32_t i = 0; i < s.n; i++) {
                (*ret)[i] = (struct fmt_snapshot){
                        .vm_state_size = s.v[i].vm_state_size, .disk_size = s.v[i].disk_size,
                        .vm_clock_ns = s.v[i].vm_clock_ns, .icount = s.v[i].icount,
                        .date_sec = s.v[i].date_sec, .date_nsec = s.v[i].date_nsec,
                };
                (*ret)[i].id = TAKE(s.v[i].id, NULL);
                (*ret)[i].name = TAKE(s.v[i].name, NULL);
        }
        return 0;
}

/* --- create --------------------------------------------------------------------------------------------------- */

static int check_name(const struct work *w, const char *name)
{
        if (!*name || strlen(name) > MAX_NAME)
                return err_note(-EINVAL, "a snapshot's name must have 1 to %u bytes", MAX_NAME);
        if (w->snaps.n >= QCOW2_MAX_SNAPSHOTS)
                return err_note(-EFBIG, "the image has %u snapshots already, which is the limit", w->snaps.n);
        for (uint32_t i = 0; i < w->snaps.n; i++)
                if (strcmp(w->snaps.v[i].name, name) == 0)
                        return err_note(-EEXIST, "the image has a snapshot '%s' already", name);
        return 0;
}

/* One above the largest number that is an id already. */
static unsigned long next_id(const struct work *w)
{
        unsigned long max = 0;

        for (uint32_t i = 0; i < w->snaps.n; i++) {
                unsigned long id = strtoul(w->snaps.v[i].id, NULL, 10);

                if (id < UINT32_MAX)
                        max = max_u64(max, id);
        }
        return max + 1;
}

static int append_entry(struct work *w, const char *name, uint64_t l1_offset)
{
        struct qcow2_snapshot s = { .l1_offset = l1_offset, .l1_entries = w->t.h.l1_entries, .disk_size = w->t.h.size,
                                    .icount = UINT64_MAX, .name = strdup(name) };
        struct timespec now;
        int r;

        clock_gettime(CLOCK_REALTIME, &now);
        s.date_sec = (uint32_t)now.tv_sec;
        s.date_nsec = (uint32_t)now.tv_nsec;
        r = asprintf(&s.id, "%lu", next_id(w));
        if (r < 0)
                s.id = NULL;
        if (!s.id || !s.name) {
                free(s.id);
                free(s.name);
                return -ENOMEM;
        }
        return qcow2_snapshots_append(&w->snaps, &s);
}

int qcow2_snapshot_create(struct fmt_image *img, const char *name)
{
        AUTO(work_finish) struct work w = { 0 };
        AUTO(freep) uint64_t *copy = NULL; /* the snapshot's L1 table */
        uint64_t l1_offset = 0;
        bool changed;
        int r = work_begin(&w, img->file);

        if (r == 0)
                r = refuse_data_file(&w.t.h);
        if (r == 0)
                r = check_name(&w, name);
        if (r == 0)
                r = qcow2_tree_ref(&w.t, w.l1, w.t.h.l1_entries, 1);
        if (r < 0)
                return r;
        copy = malloc((w.t.h.l1_entries + 1ull) * sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        memcpy(copy, w.l1, w.t.h.l1_entries * sizeof(*copy));
        r = qcow2_tree_settle(&w.t, w.l1, w.t.h.l1_entries, true, copy, &changed);
        if (r == 0 && changed)
                r = qcow2_l1_replace(&w.t, w.l1, w.t.h.l1_entries);
        if (r == 0)
                r = qcow2_l1_move(&w.t, copy, w.t.h.l1_entries, &l1_offset, 0);
        if (r == 0)
                r = append_entry(&w, name, l1_offset);
        if (r == 0)
                r = qcow2_snapshots_replace(&w.t, &w.snaps);
        return r < 0 ? r : qcow2_txn_commit(&w.t, QCOW2_COMMIT_NUMBERS);
}

/* --- apply ---------------------------------------------------------------------------------------------------- */

/* The snapshot's L1 table, long enough to be the active one. */
static int read_for_active(struct work *w, const struct qcow2_snapshot *s, uint64_t **ret, uint64_t *entries)
{
        AUTO(freep) uint64_t *l1 = NULL;
        uint64_t needs = qcow2_l1_needs(&w->t.h, s->disk_size);
        int r;

        if (needs > QCOW2_MAX_L1_ENTRIES)
                return err_note(-EIO, "snapshot '%s' says that its disk has %" PRIu64 " bytes, more than the image can hold",
                                s->name, s->disk_size);
        *entries = max_u64(max_u64(needs, s->l1_entries), w->t.h.l1_entries);
        r = qcow2_table_read(w->t.file, s->l1_offset, s->l1_entries, &l1);
        if (r < 0)
                return r;
        *ret = calloc(*entries + 1, sizeof(**ret));
        if (!*ret)
                return -ENOMEM;
        memcpy(*ret, l1, s->l1_entries * sizeof(**ret));
        return 0;
}

/* Tables that both L1 tables lead to are counted the same before and after: nothing below them has to be looked at. */
static void set_common_aside(uint64_t *now, uint64_t *next, uint64_t *kept, uint64_t entries)
{
        for (uint64_t i = 0; i < entries; i++) {
                if (!l1e_offset(now[i]) || l1e_offset(now[i]) != l1e_offset(next[i]))
                        continue;
                kept[i] = next[i] & ~QCOW2_COPIED;
                now[i] = next[i] = 0;
        }
}

/* Moves the counts from the active tree to @next, which gets right COPIED bits. Both have @entries. */
static int change_trees(struct work *w, uint64_t *next, uint64_t entries)
{
        AUTO(freep) uint64_t *now = calloc(entries + 1, sizeof(*now)), *kept = calloc(entries + 1, sizeof(*kept));
        bool changed;
        int r;

        if (!now || !kept)
                return -ENOMEM;
        memcpy(now, w->l1, w->t.h.l1_entries * sizeof(*now));
        set_common_aside(now, next, kept, entries);
        r = qcow2_tree_ref(&w->t, next, entries, 1);
        if (r == 0)
                r = qcow2_tree_ref(&w->t, now, entries, -1);
        if (r == 0)
                r = qcow2_tree_settle(&w->t, next, entries, true, NULL, &changed);
        for (uint64_t i = 0; i < entries; i++)
                next[i] = kept[i] ? kept[i] : next[i];
        return r;
}

int qcow2_snapshot_apply(struct fmt_image *img, const char *name_or_id)
{
        AUTO(work_finish) struct work w = { 0 };
        AUTO(freep) uint64_t *l1 = NULL; /* the new active one */
        struct qcow2_snapshot *s = NULL;
        uint64_t entries = 0;
        int r = work_begin(&w, img->file);

        if (r == 0)
                r = find(&w, name_or_id, &s);
        if (r == 0 && w.t.h.nb_bitmaps)
                return err_note(-ENOTSUP, "the image has bitmaps, which do not say what a snapshot changes: remove them first");
        if (r == 0)
                r = read_for_active(&w, s, &l1, &entries);
        if (r == 0)
                r = change_trees(&w, l1, entries);
        if (r == 0)
                r = qcow2_l1_replace(&w.t, l1, entries);
        if (r < 0)
                return r;
        w.t.h.size = s->disk_size;
        return qcow2_txn_commit(&w.t, QCOW2_COMMIT_NUMBERS);
}

/* --- empty: back to nothing, as if that had been a snapshot ------------------------------------------------------- */

int qcow2_empty(struct fmt_image *img)
{
        AUTO(work_finish) struct work w = { 0 };
        int r = work_begin(&w, img->file);

        if (r == 0 && qcow2_data_is_raw(&w.t.h))
                r = err_note(-ENOTSUP, "the tables of an image with a raw data file cannot be emptied");
        if (r == 0)
                r = qcow2_tree_ref(&w.t, w.l1, w.t.h.l1_entries, -1);
        if (r < 0)
                return r;
        memset(w.l1, 0, w.t.h.l1_entries * sizeof(*w.l1));
        r = qcow2_l1_replace(&w.t, w.l1, w.t.h.l1_entries);
        if (r == 0)
                r = qcow2_txn_commit(&w.t, QCOW2_COMMIT_NUMBERS);
        if (r == 0 && img->data_file) /* nothing leads there any more */
                r = file_zero(img->data_file, 0, img->data_file->size, false);
        return r;
}

/* --- delete --------------------------------------------------------------------------------------------------- */

static int drop_tree(struct work *w, const struct qcow2_snapshot *s)
{
        AUTO(freep) uint64_t *l1 = NULL;
        int r = qcow2_table_read(w->t.file, s->l1_offset, s->l1_entries, &l1);

        if (r == 0)
                r = qcow2_tree_ref(&w->t, l1, s->l1_entries, -1);
        return r < 0 ? r : qcow2_txn_ref(&w->t, s->l1_offset, (uint64_t)s->l1_entries * QCOW2_ENTRY_SIZE, -1);
}

int qcow2_snapshot_delete(struct fmt_image *img, const char *name_or_id)
{
        AUTO(work_finish) struct work w = { 0 };
        struct qcow2_snapshot *s = NULL;
        bool changed;
        int r = work_begin(&w, img->file);

        if (r == 0)
                r = find(&w, name_or_id, &s);
        if (r == 0)
                r = drop_tree(&w, s);
        if (r == 0)
                r = qcow2_tree_settle(&w.t, w.l1, w.t.h.l1_entries, true, NULL, &changed);
        if (r == 0 && changed)
                r = qcow2_l1_replace(&w.t, w.l1, w.t.h.l1_entries);
        if (r < 0)
                return r;
        qcow2_snapshots_remove(&w.snaps, s);
        r = qcow2_snapshots_replace(&w.t, &w.snaps);
        return r < 0 ? r : qcow2_txn_commit(&w.t, QCOW2_COMMIT_NUMBERS);
}
