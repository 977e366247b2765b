/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed virtqueue (virtio 1.2, 2.8): one ring of descriptors, in which offers are turned into answers.
 *
 * A place in it is one number below 2 * num: the index while the wrap counter is 1, num + the index while it is 0. So
 * steps and distances are plain arithmetic.
 *
 *      published      used             avail
 *   ---|--------------|----------------|-----------------
 *   the | answers,    | descriptors in | offers, and behind
 *   guest's | not shown | flight       | them the guest's
 *
 * Invariants:
 *   - Between published and avail lie at most num descriptors. They are ours: the guest does not touch them, we may
 *     write.
 *   - Answers are written as they come, but for the flags of the first one: these show the guest the whole batch.
 */
#include <errno.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vhost_user/ring/vq_ops.h"

#define WRAP 0x8000u /* in an index of an event or of SET_VRING_BASE */
#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED (1u << VRING_PACKED_DESC_F_USED)
#define RING_ALIGN 16u /* virtio 1.2, 2.8.10.1 */
#define EVENT_ALIGN 4u

/* --- places ------------------------------------------------------------------------------------------------------ */

static bool wrap_of(const struct virtqueue *vq, unsigned place)
{
        return place < vq->num;
}

static struct vring_packed_desc *desc_at(const struct virtqueue *vq, unsigned place)
{
        return &vq->packed.desc[place < vq->num ? place : place - vq->num];
}

static unsigned step(const struct virtqueue *vq, unsigned place, unsigned n)
{
        place += n;
        return place < 2 * vq->num ? place : place - 2 * vq->num;
}

static unsigned distance(const struct virtqueue *vq, unsigned from, unsigned to)
{
        return to >= from ? to - from : to + 2 * vq->num - from;
}

/* As the guest and the front end write it: the index, and the wrap counter in bit 15. */
static uint16_t place_encode(const struct virtqueue *vq, unsigned place)
{
        return (uint16_t)(wrap_of(vq, place) ? place | WRAP : place - vq->num);
}

static bool place_decode(const struct virtqueue *vq, uint16_t v, unsigned *place)
{
        unsigned idx = v & ~WRAP;

        *place = v & WRAP ? idx : idx + vq->num;
        return idx < vq->num;
}

/* --- start and stop ---------------------------------------------------------------------------------------------- */

static int packed_remap(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at)
{
        void *desc = gm_ring_part(mt, at->desc, at->num * sizeof(struct vring_packed_desc), true, RING_ALIGN);
        void *driver = gm_ring_part(mt, at->driver, sizeof(struct vring_packed_desc_event), false, EVENT_ALIGN);
        void *device = gm_ring_part(mt, at->device, sizeof(struct vring_packed_desc_event), true, EVENT_ALIGN);

        if ((!desc || !driver || !device) && errno == EAGAIN)
                return -EAGAIN;
        if (!desc || !driver || !device)
                return err_note(-EFAULT, "packed ring of %u entries (desc 0x%llx, driver area 0x%llx, device area 0x%llx) "
                                "does not lie aligned in guest memory", at->num, (unsigned long long)at->desc,
                                (unsigned long long)at->driver, (unsigned long long)at->device);
        vq->packed.desc = desc;
        vq->packed.driver = driver;
        vq->packed.device = device;
        return 0;
}

/*
 * Answers that were written but never shown left their flags in the ring. Shown one by one, behind another first one,
 * they would be taken for new: so what is in flight is marked as offered again.
 */
static void unmark(struct virtqueue *vq)
{
        struct vq_packed *p = &vq->packed;

        for (unsigned place = p->used; place != p->avail; place = step(vq, place, 1)) {
                uint16_t *flags = &desc_at(vq, place)->flags;

                gm_store16(flags, (uint16_t)((gm_load16(flags) & ~(AVAIL | USED)) | (wrap_of(vq, place) ? AVAIL : USED)));
        }
}

static int take_up_record(struct virtqueue *vq, const struct vq_layout *at)
{
        struct vq_packed *p = &vq->packed;
        uint16_t used = place_encode(vq, p->used);
        unsigned ndescs;
        bool fresh;
        int r = inflight_packed_load(at->record, vq->num, p->desc, &used, &ndescs, &fresh, &p->record);

        if (r < 0)
                return r;
        if (fresh && p->used != p->avail)
                return err_note(-EINVAL, "%u descriptors were in flight, but the in-flight record is empty",
                                distance(vq, p->used, p->avail));
        place_decode(vq, used, &p->used);
        p->published = p->used;
        p->avail = step(vq, p->used, ndescs);
        unmark(vq);
        return 0;
}

/* The front end gives both places; some leave the second one out, which is right when nothing is in flight. */
static int packed_start(struct virtqueue *vq, const struct vq_layout *at, uint32_t base)
{
        struct vq_packed *p = &vq->packed;
        uint16_t avail = (uint16_t)base, used = base >> 16 ? (uint16_t)(base >> 16) : avail;

        if (!place_decode(vq, avail, &p->avail) || !place_decode(vq, used, &p->used) ||
            distance(vq, p->used, p->avail) > vq->num)
                return err_note(-EINVAL, "base 0x%08x makes no sense for a packed ring of %u", base, vq->num);
        p->published = p->used;
        return at->record.at ? take_up_record(vq, at) : 0;
}

static void packed_finish(struct virtqueue *vq)
{
        inflight_packed_free(TAKE(vq->packed.record, NULL));
}

static uint32_t packed_base(const struct virtqueue *vq)
{
        return place_encode(vq, vq->packed.avail) | (uint32_t)place_encode(vq, vq->packed.used) << 16;
}

/* --- offers ------------------------------------------------------------------------------------------------------ */

static bool is_offered(const struct virtqueue *vq, unsigned place, uint16_t flags)
{
        return (flags & (AVAIL | USED)) == (wrap_of(vq, place) ? AVAIL : USED);
}

/* Descriptors that the guest may have offered beyond those that we have. */
static unsigned room(const struct virtqueue *vq)
{
        return vq->num - distance(vq, vq->packed.published, vq->packed.avail);
}

static unsigned packed_again(const struct virtqueue *vq)
{
        return vq->packed.record ? inflight_packed_left(vq->packed.record) : 0;
}

static int packed_waiting(struct virtqueue *vq)
{
        struct vq_packed *p = &vq->packed;
        unsigned again = packed_again(vq);

        if (!is_offered(vq, p->avail, gm_load16(&desc_at(vq, p->avail)->flags)))
                return (int)again;
        if (!room(vq))
                return vq_break(vq, "more descriptors than the ring has");
        return (int)(again + room(vq));
}

/* @flags: those of the first one, which have been loaded already. */
static struct chain_desc fetch(const struct vring_packed_desc *host, const uint16_t *flags)
{
        struct vring_packed_desc raw;

        gm_fetch(&raw, host, flags ? offsetof(struct vring_packed_desc, flags) : sizeof(raw));
        return (struct chain_desc){ le64toh(raw.addr), le32toh(raw.len), le16toh(raw.id),
                                    flags ? *flags : le16toh(raw.flags) };
}

static int read_offer(struct virtqueue *vq, const struct mem_table *mt, struct chain *c, uint16_t flags, const char **why)
{
        struct vq_packed *p = &vq->packed;
        unsigned place = p->avail, max = room(vq);

        chain_begin(c);
        for (unsigned n = 0; n < max; n++, place = step(vq, place, 1)) {
                struct chain_desc d = fetch(desc_at(vq, place), n ? NULL : &flags);
                int r;

                if (p->record)
                        inflight_packed_note(p->record, n, &d);
                r = chain_add(c, mt, &d, vq->num, why);
                if (r <= 0)
                        return r;
        }
        *why = "more descriptors than the ring has";
        return -EINVAL;
}

static int read_again(struct virtqueue *vq, const struct mem_table *mt, struct chain *c, const char **why)
{
        unsigned n, i = 0;
        const struct chain_desc *d = inflight_packed_next(vq->packed.record, &n);
        int r;

        chain_begin(c);
        do {
                r = chain_add(c, mt, &d[i++], vq->num, why);
        } while (r > 0 && i < n);
        if (r < 0 || (r == 0 && i == n))
                return r;
        *why = "a chain in the in-flight record that does not end where it says";
        return -EINVAL;
}

static int packed_pop(struct virtqueue *vq, const struct mem_table *mt, struct chain *c)
{
        struct vq_packed *p = &vq->packed;
        bool again = packed_again(vq);
        /* [C] The first descriptor's flags before the rest of the chain: pairs with the guest's write barrier, which
         * shows these flags last. */
        uint16_t flags = gm_load16_acquire(&desc_at(vq, p->avail)->flags);
        const char *why;
        int r;

        if (!again && !is_offered(vq, p->avail, flags))
                return 0;
        r = again ? read_again(vq, mt, c, &why) : read_offer(vq, mt, c, flags, &why);
        if (r < 0)
                return vq_break(vq, why);
        if (c->missing && again)
                inflight_packed_not_yet(p->record);
        if (c->missing)
                return -EAGAIN;
        if (c->head >= vq->num)
                return vq_break(vq, "a buffer id beyond the ring");
        if (vq_take(vq, c) < 0)
                return -EINVAL;
        if (again)
                return 1;
        p->avail = step(vq, p->avail, c->ndescs);
        if (p->record)
                inflight_packed_take(p->record, c->head, c->ndescs);
        return 1;
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

static void packed_push(struct virtqueue *vq, const struct chain *c, uint32_t written)
{
        struct vq_packed *p = &vq->packed;
        struct vring_packed_desc *d = desc_at(vq, p->used);
        uint16_t flags = (uint16_t)((wrap_of(vq, p->used) ? AVAIL | USED : 0) | (written ? VRING_DESC_F_WRITE : 0));

        gm_store32(&d->len, written);
        gm_store16(&d->id, c->head);
        if (p->used == p->published)
                p->first_flags = flags;
        else
                gm_store16(&d->flags, flags);
        p->used = step(vq, p->used, c->ndescs);
        if (p->record)
                inflight_packed_give_back(p->record, c->head);
}

/* Has the guest asked to be interrupted for what was shown from @from on? */
static bool wants_call(struct virtqueue *vq, unsigned from)
{
        uint32_t event = gm_load32(vq->packed.driver); /* both halves in one look */
        unsigned flags = event >> 16 & 3, place;
        bool sure = !TAKE(vq->notified_valid, true);

        if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
                return false;
        if (flags != VRING_PACKED_EVENT_FLAG_DESC || !vq->event_idx || !place_decode(vq, (uint16_t)event, &place))
                return true;
        return sure || distance(vq, from, place) < distance(vq, from, vq->packed.used);
}

static bool packed_publish(struct virtqueue *vq)
{
        struct vq_packed *p = &vq->packed;
        unsigned from = p->published;

        if (from == p->used)
                return false;
        if (p->record)
                inflight_packed_publish(p->record, place_encode(vq, p->used));
        /* [A] the data and all other answers before the flags of the first: pairs with the guest's read barrier behind
         * its look at them. */
        gm_store16_release(&desc_at(vq, from)->flags, p->first_flags);
        if (p->record)
                inflight_packed_published(p->record);
        p->published = p->used;
        /* [B] the flags before the look at the guest's wish: pairs with its barrier between wish and look at the
         * flags. */
        gm_full_barrier();
        return wants_call(vq, from);
}

static void packed_want_kicks(struct virtqueue *vq, bool on)
{
        unsigned flags = !on ? VRING_PACKED_EVENT_FLAG_DISABLE
                             : vq->event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE;

        gm_store32(vq->packed.device, flags << 16 | place_encode(vq, vq->packed.avail));
        if (on)
                gm_full_barrier(); /* our wish before our next look at the ring: pairs with the guest's [B] */
}

static unsigned packed_written(const struct virtqueue *vq, struct iovec part[VQ_WRITTEN_MAX])
{
        part[0] = (struct iovec){ vq->packed.desc, vq->num * sizeof(struct vring_packed_desc) };
        part[1] = (struct iovec){ vq->packed.device, sizeof(struct vring_packed_desc_event) };
        return 2;
}

const struct vq_ops vq_packed_ops = {
        .remap = packed_remap,
        .start = packed_start,
        .finish = packed_finish,
        .base = packed_base,
        .waiting = packed_waiting,
        .again = packed_again,
        .pop = packed_pop,
        .push = packed_push,
        .publish = packed_publish,
        .want_kicks = packed_want_kicks,
        .written = packed_written,
};
