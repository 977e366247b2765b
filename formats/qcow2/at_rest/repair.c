/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * repair.c - what the check found is made right.
 *
 * Refcounts are replaced by what was counted, flawed entries by the nearest right ones, in one commit. When anything
 * could not be read the count is not complete, and acting on it could free what is in use: then nothing is repaired.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/err.h"
#include "formats/qcow2/at_rest/checker.h"

/*
 * A table that moves may have been shared with data by mistake, whose COPIED bit is right only then: again, until
 * nothing changes. Once is enough for all but badly damaged images.
 */
#define MAX_ROUNDS 8

static int repair_active(struct checker *c)
{
        AUTO(freep) uint64_t *l1 = NULL;
        bool changed = true, moved = false;
        int r = qcow2_table_read(c->t.file, c->t.h.l1_offset, c->t.h.l1_entries, &l1);

        for (int i = 0; r == 0 && changed && i < MAX_ROUNDS; i++) {
                r = qcow2_tree_settle(&c->t, l1, c->t.h.l1_entries, true, NULL, &changed);
                moved |= changed;
                c->t.clusters = UINT64_MAX; /* no old entry is left; new ones may point to where the file has grown */
        }
        if (r == 0 && moved)
                r = qcow2_l1_replace(&c->t, l1, c->t.h.l1_entries);
        return r;
}

static int repair_snapshot(struct checker *c, struct qcow2_snapshot *s, bool *moved)
{
        AUTO(freep) uint64_t *l1 = NULL;
        bool changed = false;
        int r = qcow2_table_read(c->t.file, s->l1_offset, s->l1_entries, &l1);

        if (r == 0)
                r = qcow2_tree_settle(&c->t, l1, s->l1_entries, false, NULL, &changed);
        if (r == 0 && changed)
                r = qcow2_l1_move(&c->t, l1, s->l1_entries, &s->l1_offset, s->l1_entries);
        *moved |= changed;
        return r;
}

static int repair_snapshots(struct checker *c)
{
        bool moved = c->rewrite_snapshots;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < c->snaps.n; i++)
                r = repair_snapshot(c, &c->snaps.v[i], &moved);
        return r < 0 || !moved ? r : qcow2_snapshots_replace(&c->t, &c->snaps);
}

int check_repair(struct checker *c)
{
        struct fmt_check *chk = c->chk;
        bool marked = c->t.h.incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
        bool wrong = c->flaws || c->low || c->copied || c->bad_structure;
        int r = 0;

        if (c->blind && (c->only_refcounts || wrong || c->leaks))
                return err_note(-EIO, "the image cannot be repaired: some of its tables cannot be read, so it is not known "
                                "which clusters are in use");
        if (c->only_refcounts && c->flaws)
                return err_note(-EIO, "the image was not closed cleanly and has damaged tables; 'check -r all' can repair it");
        if (c->blind || (!chk->fix_all && (wrong || !c->leaks)) || (!wrong && !c->leaks && !marked))
                return 0;
        if (c->flaws)
                r = repair_snapshots(c);
        if (r == 0 && (wrong || c->leaks)) /* counts that change make COPIED bits of the active tree change: it comes last */
                r = repair_active(c);
        if (r < 0)
                return r;
        if (chk->fix_all && !c->only_refcounts)
                c->t.h.incompatible &= ~QCOW2_INCOMPAT_CORRUPT;
        if (!c->t.h.nb_bitmaps)
                c->t.h.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS; /* it may be set without bitmaps, see own_bitmaps() */
        return qcow2_txn_commit(&c->t, QCOW2_COMMIT_NUMBERS);
}
