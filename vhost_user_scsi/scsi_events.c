/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the guest is told unasked (virtio 1.2, 5.6.6.3). The thread of the event ring keeps what waits for a buffer.
 *
 *   control: scsi_event_tell() -> kept -> a buffer of the guest's, when there is one
 *
 * The buffers stay in the ring until there is something to say, so that a ring can stop at any time. What is lost (too much was
 * kept, or nobody was there) is told as EVENTS_MISSED: the guest looks for itself then.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "vhost_user_scsi/scsi_device.h"

struct message {
        struct qtask task;
        struct scsi_controller *c;
        struct virtio_scsi_event event;
        unsigned feature;
};

static void arrived(struct qtask *t)
{
        struct message *m = container_of(t, struct message, task);
        struct scsi_events *e = &m->c->events;

        if (!e->running)
                e->missed |= e->ran;
        else if (!(e->features >> m->feature & 1))
                ; /* nobody would understand it */
        else if (e->n == SCSI_EVENTS_KEPT)
                e->missed = true;
        else
                e->kept[e->n++] = m->event;
        free(m);
}

void scsi_event_tell(struct scsi_controller *c, unsigned lun, uint32_t event, uint32_t reason, unsigned feature)
{
        struct message *m = door_is_stopping(&c->door) ? NULL : calloc(1, sizeof(*m));

        if (!m) /* nobody will hear it; or no memory, but the unit attention remains */
                return;
        m->task.run = arrived;
        m->c = c;
        m->event.event = htole32(event);
        m->event.reason = htole32(reason);
        memcpy(m->event.lun, (uint8_t[8]){ 1, SCSI_TARGET, 0, (uint8_t)lun }, sizeof(m->event.lun));
        m->feature = feature;
        qthread_post(c->vu.threads[scsi_thread_of(c, SCSI_EVENT_RING)], &m->task);
}

void scsi_events_start(struct scsi_controller *c, uint64_t features)
{
        struct scsi_events *e = &c->events;

        e->running = e->ran = true;
        e->features = features;
        if (!(features >> VIRTIO_SCSI_F_HOTPLUG & 1))
                e->missed = false;
}

/* Whoever comes next did not see what is kept here. */
void scsi_events_stop(struct scsi_controller *c)
{
        struct scsi_events *e = &c->events;

        e->running = false;
        e->missed |= e->n != 0;
        e->n = 0;
}

/* So many buffers have a use. */
unsigned scsi_events_waiting(const struct scsi_controller *c)
{
        const struct scsi_events *e = &c->events;

        return e->n ? e->n : e->missed;
}

struct ring_req *scsi_event_get(void)
{
        return calloc(1, sizeof(struct ring_req));
}

void scsi_event_put(struct ring_req *rq)
{
        free(rq);
}

static struct virtio_scsi_event next(struct scsi_events *e)
{
        struct virtio_scsi_event ev = { .event = htole32(VIRTIO_SCSI_T_NO_EVENT) };

        if (e->n) {
                ev = e->kept[0];
                memmove(e->kept, e->kept + 1, --e->n * sizeof(*e->kept));
        }
        if (TAKE(e->missed, false))
                ev.event |= htole32(VIRTIO_SCSI_T_EVENTS_MISSED);
        return ev;
}

/* With nothing to say this is a buffer that a process before us took, and died: it gets an empty event. */
void scsi_event_take(struct scsi_ring *sr, struct ring_req *rq)
{
        struct virtio_scsi_event ev;

        if (rq->chain.write_len < sizeof(ev)) {
                ring_break(rq, "an event buffer without room for an event");
                return;
        }
        ev = next(&sr->c->events);
        scsi_put_answer(rq, &ev, sizeof(ev));
        scsi_event_put(rq);
}
