/* SPDX-License-Identifier: BSD-3-Clause */
/* The device's rings, whatever is in them: which room a chain goes to, starts, stops, and who is in a hurry. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "vhost_user_scsi/scsi_device.h"

#define WELL_KNOWN 0xc1u      /* virtio 1.2, 5.6.6.1: the first byte, and the second: REPORT LUNS */
#define WELL_KNOWN_LUNS 0x01u
#define FLAT_SPACE 0x40u      /* SAM-5, 4.7: with its number in the lower 14 bits; 0: peripheral device, bus 0 */

enum scsi_place scsi_place_of(const uint8_t b[8], unsigned *lun)
{
        *lun = SCSI_NO_LUN;
        if (b[0] == WELL_KNOWN)
                return b[1] == WELL_KNOWN_LUNS ? SCSI_AT_LUNS : SCSI_AT_NOTHING;
        if (b[0] != 1 || b[1] != SCSI_TARGET)
                return SCSI_AT_NOTHING;
        if ((b[2] == 0 || b[2] == FLAT_SPACE) && !(b[4] | b[5] | b[6] | b[7]))
                *lun = b[3];
        return SCSI_AT_UNIT;
}

/* The pieces stay in the chain, so that the dirty log sees them. An answer has at most as many pieces as bytes. */
void scsi_put_answer(struct ring_req *q, const void *src, size_t len)
{
        struct iovec copy[sizeof(struct virtio_scsi_event)], *at = copy;
        unsigned n = q->chain.nwrite < len ? q->chain.nwrite : (unsigned)len;

        memcpy(copy, q->chain.iov + q->chain.nread, n * sizeof(*copy));
        gm_copy_out(src, len, &at, &n);
        ring_complete(q, (uint32_t)len);
}

/* --- hurry ------------------------------------------------------------------------------------------------------- */

static void hurry(struct scsi_ring *sr, bool on)
{
        struct scsi_table *t = sr->desk->table;

        sr->hurried = on;
        sr->desk->hurried += on ? 1 : -1u;
        for (unsigned i = 0; i < t->luns.n; i++)
                scsi_seat_hurry(sr->desk, &t->unit[t->luns.lun[i]]->seat[sr->thread]);
}

/* Limits are for the guest that runs, not for who waits to stop it. */
static void ring_hurry(struct vu_device *vu, struct ring *r)
{
        struct scsi_ring *sr = ring_priv(r);

        (void)vu;
        if (!sr->hurried)
                hurry(sr, true);
}

/* --- start and stop ---------------------------------------------------------------------------------------------- */

static int ring_start(struct vu_device *vu, struct ring *r)
{
        struct scsi_controller *c = container_of(vu, struct scsi_controller, vu);
        struct scsi_ring *sr = calloc(1, sizeof(*sr));

        if (!sr)
                return -ENOMEM;
        sr->c = c;
        sr->ring = r;
        sr->thread = scsi_thread_of(c, r->index);
        sr->desk = &c->desk[sr->thread];
        list_init(&sr->link);
        if (r->index >= SCSI_FIXED_RINGS)
                list_add_tail(&sr->desk->rings, &sr->link);
        if (r->index == SCSI_EVENT_RING)
                scsi_events_start(c, r->features);
        r->priv = sr;
        return 0;
}

static void ring_stop(struct vu_device *vu, struct ring *r)
{
        struct scsi_ring *sr = TAKE(r->priv, NULL);

        if (sr->hurried)
                hurry(sr, false);
        list_del(&sr->link);
        if (r->index == SCSI_EVENT_RING)
                scsi_events_stop(container_of(vu, struct scsi_controller, vu));
        scsi_requests_free(sr);
        free(sr);
}

/* No ring runs, so no command is in hand. */
static void leave(struct vu_device *vu, unsigned thread)
{
        struct scsi_table *t = container_of(vu, struct scsi_controller, vu)->desk[thread].table;

        for (unsigned i = 0; i < t->luns.n; i++)
                scsi_seat_detach(&t->unit[t->luns.lun[i]]->seat[thread]);
}

/* --- chains ------------------------------------------------------------------------------------------------------ */

static unsigned wants(struct ring *r)
{
        const struct scsi_ring *sr = ring_priv(r);

        return r->index == SCSI_EVENT_RING ? scsi_events_waiting(sr->c) : UINT_MAX;
}

static struct ring_req *get(struct ring *r)
{
        struct scsi_ring *sr = ring_priv(r);

        switch (r->index) {
        case SCSI_CONTROL_RING:
                return scsi_control_get(sr);
        case SCSI_EVENT_RING:
                return scsi_event_get();
        default:
                return scsi_request_get(sr);
        }
}

static void put(struct ring *r, struct ring_req *q)
{
        switch (r->index) {
        case SCSI_CONTROL_RING:
                scsi_control_put(q);
                break;
        case SCSI_EVENT_RING:
                scsi_event_put(q);
                break;
        default:
                scsi_request_put(ring_priv(r), q);
        }
}

static void take(struct ring *r, struct ring_req *q)
{
        switch (r->index) {
        case SCSI_CONTROL_RING:
                scsi_control_take(ring_priv(r), q);
                break;
        case SCSI_EVENT_RING:
                scsi_event_take(ring_priv(r), q);
                break;
        default:
                scsi_request_take(ring_priv(r), q);
        }
}

/* --- features ---------------------------------------------------------------------------------------------------- */

/* Front ends pass bits of their own. This one makes headers longer, so that no command can be understood. */
static void features(struct vu_device *vu, uint64_t features)
{
        if (features >> VIRTIO_SCSI_F_T10_PI & 1)
                log_limited(&vu->limit, LOG_LVL_WARN, "%s: the front end wants protection information (T10_PI), which was not "
                            "offered: all commands will fail; say t10_pi=off", vu->name);
}

const struct vu_device_ops scsi_device_ops = {
        .features = features,
        .ring_start = ring_start,
        .ring_stop = ring_stop,
        .ring_hurry = ring_hurry,
        .leave = leave,
        .wants = wants,
        .get = get,
        .put = put,
        .take = take,
};
