/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/at_rest/snapshot_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"

#define bad(...) err_note(-EBADMSG, __VA_ARGS__) /* the table contradicts itself; -EIO is the disk's */

static void entry_finish(struct qcow2_snapshot *e)
{
        free(e->id);
        free(e->name);
        free(e->extra);
        memset(e, 0, sizeof(*e));
}

void qcow2_snapshots_finish(struct qcow2_snapshots *s)
{
        for (uint32_t i = 0; i < s->n; i++)
                entry_finish(&s->v[i]);
        free(s->v);
        memset(s, 0, sizeof(*s));
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static void decode_extra(struct qcow2_snapshot *e)
{
        if (e->extra_len >= QSX_VM_STATE + 8)
                e->vm_state_size = be64_get(e->extra + QSX_VM_STATE);
        if (e->extra_len >= QSX_DISK_SIZE + 8)
                e->disk_size = be64_get(e->extra + QSX_DISK_SIZE);
        if (e->extra_len >= QSX_ICOUNT + 8)
                e->icount = be64_get(e->extra + QSX_ICOUNT);
}

static char *read_text(struct file *file, uint64_t off, uint16_t len, int *r)
{
        char *text = calloc(1, len + 1u);

        *r = text ? file_pread(file, text, len, off) : -ENOMEM;
        return text;
}

/* What follows the fixed part: @extra bytes of extra data, of which e->extra_len are kept, id and name. */
static int read_rest(struct file *file, uint64_t at, uint64_t extra, uint16_t id_len, uint16_t name_len,
                     struct qcow2_snapshot *e)
{
        int r = 0;

        e->extra = e->extra_len ? malloc(e->extra_len) : NULL;
        if (e->extra_len)
                r = e->extra ? file_pread(file, e->extra, e->extra_len, at) : -ENOMEM;
        if (r == 0)
                e->id = read_text(file, at + extra, id_len, &r);
        if (r == 0)
                e->name = read_text(file, at + extra + id_len, name_len, &r);
        if (r == 0)
                decode_extra(e);
        return r;
}

static int check_l1(const struct file *file, const struct qcow2_header *h, const struct qcow2_snapshot *e, uint32_t i)
{
        if (e->l1_entries > QCOW2_MAX_L1_ENTRIES)
                return bad("snapshot %" PRIu32 "'s l1_size is %" PRIu32 " entries, the limit is %u", i, e->l1_entries,
                           QCOW2_MAX_L1_ENTRIES);
        if (e->l1_entries == 0)
                return 0;
        if (!is_aligned(e->l1_offset, h->cluster_size) || e->l1_offset == 0 ||
            !range_fits(e->l1_offset, (uint64_t)e->l1_entries * QCOW2_ENTRY_SIZE, file->size))
                return bad("snapshot %" PRIu32 "'s L1 table (%" PRIu32 " entries at offset 0x%" PRIx64 ") must begin at a "
                           "cluster and lie inside the file", i, e->l1_entries, e->l1_offset);
        return 0;
}

/*
 * One entry at *at, which moves behind it as soon as it is known where that is; @e is finished by the caller. -EBADMSG:
 * it is damaged, -EMSGSIZE: it has more extra data than it may have (cut in @e).
 */
static int read_entry(struct file *file, const struct qcow2_header *h, uint32_t i, uint64_t *at, struct qcow2_snapshot *e)
{
        uint8_t b[QS_EXTRA];
        uint16_t id_len, name_len;
        uint64_t extra, len, start = *at;
        int r = file_pread(file, b, sizeof(b), start);

        if (r < 0)
                return r;
        id_len = be16_get(b + QS_ID_SIZE);
        name_len = be16_get(b + QS_NAME_SIZE);
        extra = be32_get(b + QS_EXTRA_SIZE);
        *e = (struct qcow2_snapshot){
                .l1_offset = be64_get(b + QS_L1_OFFSET), .l1_entries = be32_get(b + QS_L1_ENTRIES),
                .date_sec = be32_get(b + QS_DATE_SEC), .date_nsec = be32_get(b + QS_DATE_NSEC),
                .vm_clock_ns = be64_get(b + QS_VM_CLOCK), .vm_state_size = be32_get(b + QS_VM_STATE),
                .extra_len = (uint32_t)min_u64(extra, QCOW2_MAX_SNAPSHOT_EXTRA), .disk_size = h->size, .icount = UINT64_MAX,
        };
        len = QS_EXTRA + extra + id_len + name_len;
        if (!range_fits(start, len, file->size))
                return bad("snapshot %" PRIu32 " (at offset 0x%" PRIx64 ") ends beyond the file", i, start);
        *at += round_up(len, 8);
        r = read_rest(file, start + QS_EXTRA, extra, id_len, name_len, e);
        if (r == 0)
                r = check_l1(file, h, e, i);
        if (r == 0 && extra > QCOW2_MAX_SNAPSHOT_EXTRA) /* last: all the rest is there */
                r = err_note(-EMSGSIZE, "snapshot %" PRIu32 " has %" PRIu64 " bytes of extra data, the limit is %u", i, extra,
                             QCOW2_MAX_SNAPSHOT_EXTRA);
        return r;
}

static int by_id(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_ids(const struct qcow2_snapshots *s)
{
        AUTO(freep) char **ids = calloc(s->n + 1u, sizeof(*ids));

        if (!ids)
                return -ENOMEM;
        for (uint32_t i = 0; i < s->n; i++)
                ids[i] = s->v[i].id;
        qsort(ids, s->n, sizeof(*ids), by_id);
        for (uint32_t i = 1; i < s->n; i++)
                if (strcmp(ids[i - 1], ids[i]) == 0)
                        return bad("two snapshots have the id '%s'", ids[i]);
        return 0;
}

static int check_place(const struct file *file, const struct qcow2_header *h)
{
        if (h->nb_snapshots <= QCOW2_MAX_SNAPSHOTS && h->snapshots_offset &&
            is_aligned(h->snapshots_offset, h->cluster_size) &&
            range_fits(h->snapshots_offset, (uint64_t)h->nb_snapshots * QS_EXTRA, file->size))
                return 0;
        return bad("%" PRIu32 " snapshots at offset 0x%" PRIx64 " cannot be: they must be at most %u, begin at a cluster and lie "
                   "inside the file", h->nb_snapshots, h->snapshots_offset, QCOW2_MAX_SNAPSHOTS);
}

int qcow2_snapshots_read(struct file *file, const struct qcow2_header *h, struct qcow2_snapshots *s)
{
        uint64_t at = h->snapshots_offset;
        int r = 0;

        memset(s, 0, sizeof(*s));
        if (h->nb_snapshots == 0)
                return 0;
        if (check_place(file, h) < 0)
                return -EIO;
        s->v = calloc(h->nb_snapshots, sizeof(*s->v));
        if (!s->v)
                return -ENOMEM;
        while (r == 0 && s->n < h->nb_snapshots) {
                r = read_entry(file, h, s->n, &at, &s->v[s->n]);
                s->n++;
                s->bytes = at - h->snapshots_offset;
                if (r == 0 && s->bytes > QCOW2_MAX_SNAPSHOT_BYTES)
                        r = bad("the snapshot table has more than %u bytes", QCOW2_MAX_SNAPSHOT_BYTES);
        }
        if (r == 0)
                r = check_ids(s);
        if (r < 0)
                qcow2_snapshots_finish(s);
        return r == -EBADMSG || r == -EMSGSIZE ? -EIO : r;
}

/* Zeros behind the last snapshot look like one without an id. */
static int check_id(const struct qcow2_snapshots *s, const char *id, uint32_t i)
{
        if (!id[0])
                return bad("snapshot %" PRIu32 " has no id", i);
        for (uint32_t k = 0; k < s->n; k++)
                if (strcmp(s->v[k].id, id) == 0)
                        return bad("two snapshots have the id '%s'", id);
        return 0;
}

/* As long as it is known where the next entry begins. */
static int salvage_entries(struct file *file, const struct qcow2_header *h, struct qcow2_snapshots *s,
                           void (*lost)(void *opaque, const char *why), void *opaque)
{
        uint64_t at = h->snapshots_offset, was = 0;

        for (uint32_t i = 0; i < h->nb_snapshots && at != was && s->bytes <= QCOW2_MAX_SNAPSHOT_BYTES; i++) {
                struct qcow2_snapshot *e = &s->v[s->n];
                int r, id = 0;

                was = at;
                r = read_entry(file, h, i, &at, e);
                if (r == 0 || r == -EMSGSIZE)
                        id = check_id(s, e->id, i);
                if (r < 0 || id < 0)
                        lost(opaque, err_text(r < 0 ? r : id));
                err_clear();
                if ((r == 0 || r == -EMSGSIZE) && id == 0)
                        s->n++;
                else
                        entry_finish(e);
                if (r < 0 && r != -EMSGSIZE && r != -EBADMSG)
                        return r;
                s->bytes = at - h->snapshots_offset;
        }
        return 0;
}

int qcow2_snapshots_salvage(struct file *file, const struct qcow2_header *h, struct qcow2_snapshots *s,
                            void (*lost)(void *opaque, const char *why), void *opaque)
{
        int r = 0;

        memset(s, 0, sizeof(*s));
        if (h->nb_snapshots == 0)
                return 0;
        if (check_place(file, h) < 0) {
                lost(opaque, err_text(-EBADMSG));
                err_clear();
                return 0;
        }
        s->v = calloc(h->nb_snapshots, sizeof(*s->v));
        r = s->v ? salvage_entries(file, h, s, lost, opaque) : -ENOMEM;
        if (r < 0)
                qcow2_snapshots_finish(s);
        return r;
}

bool qcow2_snapshot_is_short(const struct qcow2_header *h, const struct qcow2_snapshot *e)
{
        return h->version >= 3 && e->extra_len < QSX_ICOUNT;
}

/* --- writing -------------------------------------------------------------------------------------------------- */

/* Extra data that others made longer keeps its length; version 3 wants at least vm state and disk size. */
static uint32_t extra_written(const struct qcow2_snapshot *e)
{
        return e->extra_len < QSX_ICOUNT ? QSX_LENGTH : e->extra_len;
}

static uint64_t entry_bytes(const struct qcow2_snapshot *e)
{
        return round_up(QS_EXTRA + (uint64_t)extra_written(e) + strlen(e->id) + strlen(e->name), 8);
}

static void encode_entry(const struct qcow2_snapshot *e, uint8_t *b)
{
        uint32_t extra = extra_written(e);
        uint8_t *x = b + QS_EXTRA;

        be64_put(b + QS_L1_OFFSET, e->l1_offset);
        be32_put(b + QS_L1_ENTRIES, e->l1_entries);
        be16_put(b + QS_ID_SIZE, (uint16_t)strlen(e->id));
        be16_put(b + QS_NAME_SIZE, (uint16_t)strlen(e->name));
        be32_put(b + QS_DATE_SEC, e->date_sec);
        be32_put(b + QS_DATE_NSEC, e->date_nsec);
        be64_put(b + QS_VM_CLOCK, e->vm_clock_ns);
        be32_put(b + QS_VM_STATE, (uint32_t)min_u64(e->vm_state_size, UINT32_MAX));
        be32_put(b + QS_EXTRA_SIZE, extra);
        if (e->extra_len)
                memcpy(x, e->extra, e->extra_len);
        be64_put(x + QSX_VM_STATE, e->vm_state_size);
        be64_put(x + QSX_DISK_SIZE, e->disk_size);
        if (extra >= QSX_LENGTH)
                be64_put(x + QSX_ICOUNT, e->icount);
        memcpy(x + extra, e->id, strlen(e->id));
        memcpy(x + extra + strlen(e->id), e->name, strlen(e->name));
}

int qcow2_snapshots_encode(const struct qcow2_snapshots *s, uint8_t **ret, uint64_t *len)
{
        uint64_t at = 0;

        *len = 0;
        for (uint32_t i = 0; i < s->n; i++)
                *len += entry_bytes(&s->v[i]);
        if (s->n > QCOW2_MAX_SNAPSHOTS || *len > QCOW2_MAX_SNAPSHOT_BYTES)
                return err_note(-EFBIG, "%" PRIu32 " snapshots are too many for an image (the limits are %u and a table of "
                                "%u bytes)", s->n, QCOW2_MAX_SNAPSHOTS, QCOW2_MAX_SNAPSHOT_BYTES);
        *ret = calloc(1, *len + 1);
        if (!*ret)
                return -ENOMEM;
        for (uint32_t i = 0; i < s->n; at += entry_bytes(&s->v[i++]))
                encode_entry(&s->v[i], *ret + at);
        return 0;
}

int qcow2_snapshots_replace(struct qcow2_txn *t, struct qcow2_snapshots *s)
{
        AUTO(freep) uint8_t *buf = NULL;
        uint64_t len, off = 0;
        int r = qcow2_snapshots_encode(s, &buf, &len);

        if (r == 0 && s->bytes)
                r = qcow2_txn_ref(t, t->h.snapshots_offset, s->bytes, -1);
        if (r == 0 && len)
                r = qcow2_txn_put(t, buf, len, &off);
        if (r < 0)
                return r;
        t->h.snapshots_offset = off;
        t->h.nb_snapshots = s->n;
        s->bytes = len;
        return 0;
}

/* --- the list ------------------------------------------------------------------------------------------------- */

struct qcow2_snapshot *qcow2_snapshot_find(const struct qcow2_snapshots *s, const char *id_or_name)
{
        for (uint32_t i = 0; i < s->n; i++)
                if (strcmp(s->v[i].id, id_or_name) == 0)
                        return &s->v[i];
        for (uint32_t i = 0; i < s->n; i++)
                if (strcmp(s->v[i].name, id_or_name) == 0)
                        return &s->v[i];
        return NULL;
}

int qcow2_snapshots_append(struct qcow2_snapshots *s, struct qcow2_snapshot *entry)
{
        struct qcow2_snapshot *more = reallocarray(s->v, s->n + 1u, sizeof(*more));

        if (!more) {
                entry_finish(entry);
                return -ENOMEM;
        }
        s->v = more;
        s->v[s->n++] = *entry;
        memset(entry, 0, sizeof(*entry));
        return 0;
}

void qcow2_snapshots_remove(struct qcow2_snapshots *s, struct qcow2_snapshot *entry)
{
        size_t after = (size_t)(s->v + s->n - (entry + 1));

        entry_finish(entry);
        memmove(entry, entry + 1, after * sizeof(*entry));
        s->n--;
}
