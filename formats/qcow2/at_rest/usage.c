/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * usage.c - how much each internal snapshot holds alone: what deleting it would free.
 *
 * A cluster is a snapshot's alone when all references to it come from there. So its tree is counted once more, and
 * where that doubles a count there is nobody else.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/snapshot_table.h"
#include "formats/qcow2/at_rest/tree.h"

struct counting {
        struct qcow2_txn now, more; /* refcounts as they are, and with one snapshot's tree counted once more */
        struct qcow2_snapshots snaps;
};

static void counting_finish(struct counting *c)
{
        qcow2_snapshots_finish(&c->snaps);
        qcow2_txn_finish(&c->now);
        qcow2_txn_finish(&c->more);
}

static uint64_t doubled_clusters(const struct counting *c)
{
        uint64_t n = 0;

        for (uint64_t i = refmap_skip(&c->now.refs, 0); i < c->now.refs.end; i = refmap_skip(&c->now.refs, i + 1)) {
                uint64_t count = refmap_count(&c->now.refs, i);

                n += count && refmap_count(&c->more.refs, i) == 2 * count;
        }
        return n;
}

static int one_snapshot(struct counting *c, const struct qcow2_snapshot *s, uint64_t *bytes)
{
        uint64_t cs = c->now.h.cluster_size, table = div_round_up((uint64_t)s->l1_entries * QCOW2_ENTRY_SIZE, cs);
        AUTO(freep) uint64_t *l1 = NULL;
        int r = qcow2_table_read(c->now.file, s->l1_offset, s->l1_entries, &l1);

        if (r == 0)
                r = qcow2_tree_ref(&c->more, l1, s->l1_entries, 1);
        if (r < 0)
                return r;
        *bytes = (doubled_clusters(c) + table) * cs;
        return qcow2_tree_ref(&c->more, l1, s->l1_entries, -1);
}

int qcow2_snapshot_usage(struct fmt_image *img, uint64_t *bytes, size_t n)
{
        AUTO(counting_finish) struct counting c = { 0 };
        int r = qcow2_txn_look(&c.now, img->file);

        if (r == 0)
                r = qcow2_txn_look(&c.more, img->file);
        if (r == 0)
                r = qcow2_snapshots_read(img->file, &c.now.h, &c.snaps);
        if (r == 0 && c.snaps.n != n)
                r = err_note(-EIO, "the list of snapshots changes while it is read");
        for (uint32_t i = 0; r == 0 && i < c.snaps.n; i++)
                r = one_snapshot(&c, &c.snaps.v[i], &bytes[i]);
        return r;
}
