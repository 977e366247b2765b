/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A ring behind an IOMMU. Its own memory and what its requests name must be looked up (iotlb.h), and looked up again when the
 * front end has said INVALIDATE, which Linux makes its IOMMU do for everything at once, all the time, under a running device.
 *
 *   unmapped -> look up: missing -> starved (the session asks) -> something came: look up -> ... -> mapped
 *       ^----- INVALIDATE, other memory ---------------------------------------------------------+
 *
 * Invariants:
 *   - While it is unmapped nothing of the ring's memory is touched: no look at offers, no answer. Answers wait in late[].
 *   - INVALIDATE is answered when no request is in flight whose memory it takes away.
 *   - Nobody waits for a translation but the ring that needs it.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "vhost_user/ring/ring_impl.h"

/* An answer that could not be given. */
struct ring_late {
        uint16_t head, ndescs;
        uint32_t written;
};

/* --- look again ---------------------------------------------------------------------------------------------------- */

static void miss_arrived(struct loop_task *t)
{
        struct ring *r = container_of(t, struct ring, miss_task);

        atomic_store(&r->miss_posted, false);
        r->missing(r);
}

void ring_starve(struct ring *r)
{
        r->starved = true;
        if (r->stopping) /* and does not wait for that */
                ring_at_round_end(r);
        if (!atomic_exchange(&r->miss_posted, true))
                loop_post(r->loop, &r->miss_task);
}

/* The thread is awake now and polls. */
static void on_retry(struct qtask *t)
{
        struct ring *r = container_of(t, struct ring, retry_task);

        atomic_store(&r->retry_posted, false);
        r->starved = false;
}

void ring_retry(struct ring *r)
{
        if (!atomic_exchange(&r->retry_posted, true))
                qthread_post(r->thread, &r->retry_task);
}

/* --- the ring's own memory ----------------------------------------------------------------------------------------- */

static void push_late(struct ring *r)
{
        for (unsigned i = 0; i < r->nlate; i++) {
                struct chain c;

                chain_begin(&c);
                c.head = r->late[i].head;
                c.ndescs = r->late[i].ndescs;
                vq_push(&r->vq, &c, r->late[i].written);
        }
        r->nlate = 0;
}

bool ring_map(struct ring *r)
{
        int res;

        if (r->starved || r->vq.broken)
                return false;
        res = r->virgin ? vq_start(&r->vq, r->view->mt, &r->layout, r->base) : vq_remap(&r->vq, r->view->mt, &r->layout);
        if (res == -EAGAIN) {
                ring_starve(r);
                return false;
        }
        if (res < 0) {
                r->vq.broken = "its rings are not where the IOMMU leads";
                err_clear();
                ring_report(r, r->vq.broken);
                return false;
        }
        r->unmapped = r->virgin = false;
        push_late(r);
        vq_want_kicks(&r->vq, true);
        ring_at_round_end(r);
        return true;
}

void ring_unmap(struct ring *r)
{
        r->unmapped = true;
        r->starved = false;
}

void ring_late(struct ring *r, const struct chain *c, uint32_t written)
{
        r->late[r->nlate++] = (struct ring_late){ c->head, c->ndescs, written }; /* num chains are in flight at most */
        if (r->stopping)
                ring_drop_late(r);
}

/* The guest took the ring away before it had its answers; the in-flight record, where there is one, knows of them. */
void ring_drop_late(struct ring *r)
{
        r->starved = false;
        if (!r->nlate || ring_map(r))
                return;
        for (unsigned i = 0; i < r->nlate; i++) {
                struct chain c;

                chain_begin(&c);
                c.head = r->late[i].head;
                vq_drop(&r->vq, &c);
        }
        r->nlate = 0;
}

/* --- requests in flight -------------------------------------------------------------------------------------------- */

void ring_busy(struct ring *r, struct ring_req *q)
{
        q->hit = false;
        list_add_tail(&r->busy, &q->link);
}

void ring_idle(struct ring *r, struct ring_req *q)
{
        list_del(&q->link);
        if (TAKE(q->hit, false) && --r->hits == 0)
                ring_answer(r, 0);
}

/* The device may have eaten the front of a piece: so, a page more. */
static bool is_hit(const struct ring_req *q, uint64_t first, uint64_t last)
{
        const struct chain *c = &q->chain;

        for (unsigned i = 0; i < c->nread + c->nwrite; i++)
                if (c->iova[i] <= last && c->iova[i] + c->iov[i].iov_len + IOTLB_PAGE > first)
                        return true;
        return false;
}

/* Is some of the ring's memory in the range? An area is not longer than a table of descriptors and a little. */
static bool touches_ring(const struct ring *r, uint64_t first, uint64_t last)
{
        const uint64_t area[] = { r->layout.desc, r->layout.driver, r->layout.device };

        for (unsigned i = 0; i < ARRAY_SIZE(area); i++)
                if (area[i] <= last && area[i] + r->layout.num * sizeof(struct vring_desc) + IOTLB_PAGE > first)
                        return true;
        return false;
}

void ring_invalidate(struct ring *r)
{
        uint64_t first = r->order.iova, last = r->order.iova_last;

        if (touches_ring(r, first, last))
                ring_unmap(r);
        list_for_each(l, &r->busy) {
                struct ring_req *q = list_entry(l, struct ring_req, link);

                q->hit = is_hit(q, first, last);
                r->hits += q->hit;
        }
        if (!r->hits)
                ring_answer(r, 0);
}

/* --- life ---------------------------------------------------------------------------------------------------------- */

void ring_iommu_init(struct ring *r)
{
        list_init(&r->busy);
        r->miss_task.run = miss_arrived;
        r->retry_task.run = on_retry;
}

int ring_iommu_start(struct ring *r)
{
        r->late = calloc(r->layout.num, sizeof(*r->late));
        if (!r->late)
                return -ENOMEM;
        r->has_iommu = r->unmapped = r->virgin = true;
        r->starved = false;
        r->nlate = r->hits = 0;
        r->vq.broken = NULL;
        return 0;
}

void ring_iommu_finish(struct ring *r)
{
        free(TAKE(r->late, NULL));
        r->has_iommu = r->unmapped = r->virgin = r->starved = false;
}
