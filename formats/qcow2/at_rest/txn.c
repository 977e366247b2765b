/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/at_rest/txn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/refcount_bits.h"

#define SEE_CHECK "; 'check -r all' can repair that"

void qcow2_txn_finish(struct qcow2_txn *t)
{
        qcow2_header_finish(&t->h);
        refmap_finish(&t->refs);
        free(t->blocks);
        memset(t, 0, sizeof(*t));
}

int qcow2_table_read(struct file *file, uint64_t off, uint64_t entries, uint64_t **ret)
{
        AUTO(freep) uint64_t *table = calloc(entries + 1, sizeof(*table)); /* never an allocation of nothing */
        int r = table ? file_pread(file, table, entries * QCOW2_ENTRY_SIZE, off) : -ENOMEM;

        if (r < 0)
                return r;
        for (uint64_t i = 0; i < entries; i++)
                table[i] = be64toh(table[i]);
        *ret = TAKE(table, NULL);
        return 0;
}

/* --- begin ---------------------------------------------------------------------------------------------------- */

/* The counts of one block; those beyond the end of the file count nothing and are dropped. */
static int load_block(struct qcow2_txn *t, uint64_t index, uint8_t *buf)
{
        uint64_t per = refcount_per_block(t->h.cluster_size, t->h.refcount_order), first = index * per;
        uint64_t end = min_u64(first + per, t->clusters);
        int r = file_pread(t->file, buf, t->h.cluster_size, t->blocks[index]);
        uint32_t *at;

        for (uint64_t i = first; r == 0 && i < end; i++) {
                uint64_t count = refcount_get(buf, t->h.refcount_order, i - first);

                if (count > REFMAP_MAX_COUNT)
                        return err_note(-EIO, "the refcount of the cluster at offset 0x%" PRIx64 " is %" PRIu64
                                        ", more than an image can need" SEE_CHECK, i << t->h.cluster_bits, count);
                if (!count)
                        continue;
                at = refmap_place(&t->refs, i);
                if (!at)
                        return -ENOMEM;
                *at = (uint32_t)count | REF_OLD; /* nobody has counted it before */
        }
        return r;
}

static int load_refcounts(struct qcow2_txn *t)
{
        AUTO(freep) uint8_t *buf = malloc(t->h.cluster_size);
        int r;

        t->table_clusters = t->h.reftable_clusters;
        t->nblocks = qcow2_reftable_entries(&t->h);
        r = buf ? qcow2_table_read(t->file, t->h.reftable_offset, t->nblocks, &t->blocks) : -ENOMEM;
        for (uint64_t i = 0; r == 0 && i < t->nblocks; i++) {
                uint64_t e = t->blocks[i];

                if (e & (t->h.cluster_size - 1) || e >= max_u64(t->file->size, 1))
                        return err_note(-EIO, "refcount table entry %" PRIu64 " is 0x%" PRIx64 ", which is not a cluster "
                                        "of the file" SEE_CHECK, i, e);
                if (e)
                        r = load_block(t, i, buf);
        }
        return r;
}

int qcow2_txn_mark(struct qcow2_txn *t, uint64_t off, uint64_t len)
{
        int r = 0;

        for (uint64_t i = off >> t->h.cluster_bits; r == 0 && len && i <= (off + len - 1) >> t->h.cluster_bits; i++) {
                if (!refmap_count(&t->refs, i))
                        return err_note(-EIO, "the cluster at offset 0x%" PRIx64 " holds one of the image's tables, but its "
                                        "refcount is 0" SEE_CHECK, i << t->h.cluster_bits);
                r = refmap_flag(&t->refs, i, REF_META);
        }
        return r;
}

/* What everybody relies on; an image whose own tables count as free would be written over. */
static int mark_own_clusters(struct qcow2_txn *t)
{
        int r = qcow2_txn_mark(t, 0, t->h.cluster_size);

        if (r == 0)
                r = qcow2_txn_mark(t, t->h.l1_offset, (uint64_t)t->h.l1_entries * QCOW2_ENTRY_SIZE);
        if (r == 0)
                r = qcow2_txn_mark(t, t->h.reftable_offset, t->table_clusters << t->h.cluster_bits);
        if (r == 0)
                r = qcow2_txn_mark(t, t->h.luks_offset, t->h.luks_length);
        for (uint64_t i = 0; r == 0 && i < t->nblocks; i++)
                if (t->blocks[i])
                        r = qcow2_txn_mark(t, t->blocks[i], t->h.cluster_size);
        return r;
}

static int load(struct qcow2_txn *t)
{
        int r;

        t->clusters = qcow2_file_clusters(t->file, t->h.cluster_bits);
        r = load_refcounts(t);
        return r < 0 ? r : mark_own_clusters(t);
}

int qcow2_txn_begin(struct qcow2_txn *t, struct file *file)
{
        int r;

        memset(t, 0, sizeof(*t));
        t->file = file;
        if (file->read_only)
                return err_note(-EROFS, "the image is open for reading only");
        r = qcow2_header_read(file, 0, &t->h);
        if (r == 0)
                r = qcow2_header_usable(&t->h, true);
        if (r == 0 && t->h.incompatible & QCOW2_INCOMPAT_DIRTY) {
                qcow2_header_finish(&t->h);
                r = qcow2_repair_refcounts(file);
                if (r == 0)
                        r = qcow2_header_read(file, 0, &t->h);
        }
        return r < 0 ? r : load(t);
}

int qcow2_txn_look(struct qcow2_txn *t, struct file *file)
{
        int r;

        memset(t, 0, sizeof(*t));
        t->file = file;
        r = qcow2_header_read(file, 0, &t->h);
        if (r == 0)
                r = qcow2_header_usable(&t->h, false);
        if (r == 0 && t->h.incompatible & QCOW2_INCOMPAT_DIRTY)
                r = err_note(-ENOTSUP, "the image was not closed cleanly, so its refcounts are not known" SEE_CHECK);
        return r < 0 ? r : load(t);
}

/* --- in between ----------------------------------------------------------------------------------------------- */

int qcow2_txn_alloc(struct qcow2_txn *t, uint64_t n, uint64_t *off)
{
        uint64_t first;
        int r = refmap_alloc(&t->refs, n, &first);

        if (r == 0)
                *off = first << t->h.cluster_bits;
        return r;
}

int qcow2_txn_ref(struct qcow2_txn *t, uint64_t off, uint64_t len, int delta)
{
        uint64_t first = off >> t->h.cluster_bits, last = (off + len - 1) >> t->h.cluster_bits;

        for (uint64_t i = first; len && i <= last; i++) {
                int r = refmap_count(&t->refs, i) ? refmap_add(&t->refs, i, delta) : -ERANGE;

                if (r == -ERANGE)
                        return err_note(-EIO, "the cluster at offset 0x%" PRIx64 " is in use, but its refcount is %" PRIu32
                                        SEE_CHECK, i << t->h.cluster_bits, refmap_count(&t->refs, i));
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Bytes of @buf without the zeros at its end, in whole blocks of a file system. */
static uint64_t without_tail(const uint8_t *buf, uint64_t len)
{
        static const uint8_t zeros[4096];

        while (len > sizeof(zeros) && memcmp(buf + len - sizeof(zeros), zeros, sizeof(zeros)) == 0)
                len -= sizeof(zeros);
        return len;
}

int qcow2_txn_write(struct qcow2_txn *t, uint64_t off, const void *buf, uint64_t len)
{
        uint64_t end = off + round_up(len, t->h.cluster_size), old_size = t->file->size;
        uint64_t written = off + without_tail(buf, len);
        int r = file_pwrite(t->file, buf, written - off, off);

        if (r == 0 && old_size > written && end > written) /* what is not written becomes a hole: tables are thin too */
                r = file_zero(t->file, written, min_u64(old_size, end) - written, false);
        if (r == 0 && t->file->size < end)
                r = file_truncate(t->file, end);
        return r;
}

int qcow2_txn_put(struct qcow2_txn *t, const void *buf, uint64_t len, uint64_t *off)
{
        int r = qcow2_txn_alloc(t, div_round_up(len, t->h.cluster_size), off);

        return r < 0 ? r : qcow2_txn_write(t, *off, buf, len);
}

/* --- commit --------------------------------------------------------------------------------------------------- */

/* The refcount structure that shall be. */
struct structure {
        uint64_t *table; /* offsets of the blocks */
        uint64_t entries, room;
        uint64_t offset, clusters; /* of the table */
};

static void structure_finish(struct structure *s)
{
        free(s->table);
}

static int structure_room(struct structure *s, uint64_t entries)
{
        uint64_t *more;

        s->entries = max_u64(s->entries, entries);
        if (s->entries <= s->room)
                return 0;
        more = reallocarray(s->table, 2 * s->entries, sizeof(*more));
        if (!more)
                return -ENOMEM;
        memset(more + s->room, 0, (2 * s->entries - s->room) * sizeof(*more));
        s->table = more;
        s->room = 2 * s->entries;
        return 0;
}

/* Every counted cluster gets a block that holds its count; a new block may need a block itself, hence the rounds. */
static int plan_blocks(struct qcow2_txn *t, struct structure *s)
{
        uint64_t per = refcount_per_block(t->h.cluster_size, t->h.refcount_order);
        bool again = true;

        while (again) {
                again = false;
                for (uint64_t i = refmap_skip(&t->refs, 0); i < t->refs.end; i = refmap_skip(&t->refs, i + 1)) {
                        uint64_t b = i / per;
                        int r;

                        if (b < s->entries && s->table[b]) {
                                i = (b + 1) * per - 1;
                                continue;
                        }
                        if (!refmap_count(&t->refs, i))
                                continue;
                        r = structure_room(s, b + 1);
                        if (r == 0)
                                r = qcow2_txn_alloc(t, 1, &s->table[b]);
                        if (r < 0)
                                return r;
                        again = true;
                }
        }
        return 0;
}

static int plan_structure(struct qcow2_txn *t, struct structure *s)
{
        uint64_t per_cluster = t->h.cluster_size / QCOW2_ENTRY_SIZE;
        /* mostly enough, and then the table is in front of its blocks */
        int r = qcow2_txn_alloc(t, s->clusters = 1, &s->offset);

        if (r == 0)
                r = plan_blocks(t, s);
        while (r == 0 && s->entries > s->clusters * per_cluster) {
                for (uint64_t i = 0; i < s->clusters; i++)
                        (void)refmap_add(&t->refs, (s->offset >> t->h.cluster_bits) + i, -1); /* counted by us: cannot fail */
                s->clusters = div_round_up(s->entries, per_cluster);
                if (s->clusters << t->h.cluster_bits > max_u64(QCOW2_MAX_REFTABLE_BYTES, t->h.cluster_size))
                        return err_note(-EFBIG, "the image's file is too big for its clusters of %" PRIu32 " bytes: the "
                                        "refcount table would have %" PRIu64 " entries", t->h.cluster_size, s->entries);
                r = qcow2_txn_alloc(t, s->clusters, &s->offset);
                if (r == 0)
                        r = plan_blocks(t, s);
        }
        return r;
}

static int write_block(struct qcow2_txn *t, uint64_t index, uint64_t off, uint8_t *buf)
{
        uint64_t per = refcount_per_block(t->h.cluster_size, t->h.refcount_order), first = index * per;

        memset(buf, 0, t->h.cluster_size);
        for (uint64_t i = first; i < min_u64(first + per, t->refs.end); i++) {
                uint64_t count = refmap_count(&t->refs, i);

                if (count > refcount_max(t->h.refcount_order))
                        return err_note(-EOVERFLOW, "the cluster at offset 0x%" PRIx64 " would have %" PRIu64 " references, "
                                        "the image's refcounts of %u bits end at %" PRIu64, i << t->h.cluster_bits, count,
                                        1u << t->h.refcount_order, refcount_max(t->h.refcount_order));
                refcount_set(buf, t->h.refcount_order, i - first, count);
        }
        return qcow2_txn_write(t, off, buf, t->h.cluster_size);
}

static int write_structure(struct qcow2_txn *t, const struct structure *s)
{
        AUTO(freep) uint8_t *buf = malloc(t->h.cluster_size);
        AUTO(freep) uint8_t *table = calloc(s->clusters, t->h.cluster_size);
        int r = buf && table ? 0 : -ENOMEM;

        for (uint64_t i = 0; r == 0 && i < s->entries; i++) {
                be64_put(table + i * QCOW2_ENTRY_SIZE, s->table[i]);
                if (s->table[i])
                        r = write_block(t, i, s->table[i], buf);
        }
        return r < 0 ? r : qcow2_txn_write(t, s->offset, table, s->clusters << t->h.cluster_bits);
}

/* The old refcount structure is free once the header points to the new one. */
static int drop_old_structure(struct qcow2_txn *t)
{
        uint64_t table = t->h.reftable_offset >> t->h.cluster_bits;
        int r = 0;

        for (uint64_t i = 0; r == 0 && i < t->table_clusters; i++) {
                r = refmap_flag(&t->refs, table + i, REF_OLD);
                if (r == 0)
                        r = refmap_add(&t->refs, table + i, -1);
        }
        for (uint64_t i = 0; r == 0 && i < t->nblocks; i++) {
                if (!t->blocks[i])
                        continue;
                r = refmap_flag(&t->refs, t->blocks[i] >> t->h.cluster_bits, REF_OLD);
                if (r == 0)
                        r = refmap_add(&t->refs, t->blocks[i] >> t->h.cluster_bits, -1);
        }
        return r == -ERANGE ? err_note(-EIO, "the refcount structure itself has refcount 0" SEE_CHECK) : r;
}

/* Space that nothing uses any more goes back to the file system. The image is right without it, so errors are not
 * ours. */
static void give_back(struct qcow2_txn *t)
{
        uint64_t used = refmap_used_end(&t->refs);

        if (t->file->is_blkdev)
                return;
        for (uint64_t i = refmap_skip(&t->refs, 0), n; i < used; i = refmap_skip(&t->refs, i + n)) {
                for (n = 0; i + n < used && refmap_has(&t->refs, i + n, REF_OLD) && !refmap_count(&t->refs, i + n);)
                        n++;
                if (n && file_zero(t->file, i << t->h.cluster_bits, n << t->h.cluster_bits, false) < 0)
                        return;
                n = max_u64(n, 1);
        }
        if (t->file->size > used << t->h.cluster_bits)
                (void)file_truncate(t->file, used << t->h.cluster_bits);
}

static int write_cluster0(struct qcow2_txn *t)
{
        AUTO(freep) uint8_t *buf = malloc(t->h.cluster_size);
        int r = buf ? qcow2_header_build(&t->h, buf) : -ENOMEM;

        return r < 0 ? r : qcow2_txn_write(t, 0, buf, t->h.cluster_size);
}

static int write_header(struct qcow2_txn *t, enum qcow2_commit how)
{
        switch (how) {
        case QCOW2_COMMIT_NUMBERS:
                return qcow2_header_switch(t->file, &t->h);
        case QCOW2_COMMIT_EXTENSIONS:
                return qcow2_header_replace(t->file, &t->h);
        case QCOW2_COMMIT_NEW_IMAGE:
                break;
        }
        return write_cluster0(t);
}

int qcow2_txn_commit(struct qcow2_txn *t, enum qcow2_commit how)
{
        AUTO(structure_finish) struct structure s = { 0 };
        int r = drop_old_structure(t);

        if (r == 0)
                r = plan_structure(t, &s);
        if (r == 0)
                r = write_structure(t, &s);
        if (r == 0)
                r = file_sync(t->file);
        if (r < 0)
                return r;
        t->h.reftable_offset = s.offset;
        t->h.reftable_clusters = (uint32_t)s.clusters;
        t->h.incompatible &= ~QCOW2_INCOMPAT_DIRTY; /* every refcount was written just now */
        t->h.autoclear = qcow2_kept_autoclear(&t->h);
        r = write_header(t, how);
        if (r == 0)
                r = file_sync(t->file);
        if (r == 0)
                give_back(t);
        return r;
}
