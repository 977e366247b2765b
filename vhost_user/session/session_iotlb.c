/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The session's side of the guest's IOMMU: what the front end says about it goes into the cache (iotlb.h), what rings miss is
 * asked for on the back-end channel (session_back.c). Two messages for each: QEMU sends UPDATE on the main socket while it
 * deals with our MISS, and its answer to that says whether there was one.
 */
#include <errno.h>
#include <linux/virtio_config.h>

#include "common/err.h"
#include "vhost_user/session/session_impl.h"

static bool is_wanted(const struct session *s)
{
        return s->features >> VIRTIO_F_ACCESS_PLATFORM & 1;
}

static bool any_running(const struct session *s)
{
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running)
                        return true;
        return false;
}

void session_iotlb_adopt(struct session *s)
{
        if (s->mem)
                s->mem->iotlb = is_wanted(s) ? s->iotlb : NULL;
}

/* What was known before belongs to a guest that has been stopped since; nobody told us what it changed meanwhile. */
int session_iotlb_features(struct session *s, uint64_t features)
{
        bool now = features >> VIRTIO_F_ACCESS_PLATFORM & 1;

        if (any_running(s))
                return now == is_wanted(s) ? 0 : err_note(-EINVAL, "ACCESS_PLATFORM changes while queues are running");
        if (now && !s->iotlb)
                s->iotlb = iotlb_new();
        if (now && !s->iotlb)
                return -ENOMEM;
        if (s->iotlb)
                iotlb_invalidate(s->iotlb, 0, 0);
        return 0;
}

/* Without a way to ask, and to hear that it was done, there is no IOMMU. */
int session_iotlb_check(const struct session *s)
{
        if (!is_wanted(s) || (s->protocol_features >> VU_PF_BACKEND_REQ & 1 && s->protocol_features >> VU_PF_REPLY_ACK & 1))
                return 0;
        return err_note(-EINVAL, "ACCESS_PLATFORM needs the protocol features BACKEND_REQ and REPLY_ACK");
}

/* Queues that wait look again. While an order is out it waits until the answer: a ring may be on its way out. */
void session_iotlb_retry(struct session *s)
{
        s->retry = s->pending && !s->closing;
        if (s->pending || s->closing)
                return;
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running)
                        ring_retry(&s->ring[i]);
}

static int invalidate(struct session *s, uint64_t iova, uint64_t len)
{
        uint64_t last = iova + (len - 1);

        if (!len || last < iova)
                last = UINT64_MAX;
        iotlb_invalidate(s->iotlb, iova, len);
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running)
                        session_order(s, &s->ring[i], &(struct ring_order){ .kind = RING_INVALIDATE, .iova = iova,
                                                                            .iova_last = last });
        return 0;
}

int session_iotlb_msg(struct session *s, struct wire_msg *m)
{
        const struct vu_iotlb *i = &m->p.iotlb;
        int r;

        if (!is_wanted(s))
                return err_note(-EINVAL, "IOTLB_MSG without ACCESS_PLATFORM");
        switch (i->type) {
        case VU_IOTLB_UPDATE:
                r = iotlb_update(s->iotlb, i->iova, i->size, i->user_addr, i->perm);
                if (r == 0)
                        session_iotlb_retry(s);
                return r;
        case VU_IOTLB_INVALIDATE:
                return invalidate(s, i->iova, i->size);
        default:
                return err_note(-EINVAL, "IOTLB_MSG of type %u; expected an update or an invalidation", i->type);
        }
}

bool session_iotlb_next_miss(struct session *s, struct vu_iotlb *ret)
{
        uint64_t iova;
        uint8_t perm;

        if (!s->iotlb || !iotlb_next_miss(s->iotlb, &iova, &perm))
                return false;
        *ret = (struct vu_iotlb){ .iova = iova, .size = IOTLB_PAGE, .perm = perm, .type = VU_IOTLB_MISS };
        return true;
}
