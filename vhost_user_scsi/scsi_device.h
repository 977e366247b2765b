/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_device.h - a virtio SCSI host (virtio 1.2, 5.6) with one target, 0, and up to 256 units.
 *
 *   controller   the device: a door (vhost_user/door), the units, what its rings share
 *   unit         a volume with a LUN and an identity (scsi_cmd.h)
 *   desk         the controller on one queue thread: the table of units, the commands in hand
 *   seat         a unit on one queue thread: its port
 *
 * Rings: 0 control, 1 events, the others requests. A table of units never changes: control makes a new one and sends it to each
 * desk, and when all have it, and nothing of a unit that is not in it is in flight, the change is done (unit.c). So no
 * command looks at anything that another thread writes, but for the atomics of scsi_lu and the name of the volume.
 */
#pragma once

#include <linux/virtio_scsi.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/vol.h"
#include "common/list.h"
#include "vhost_user/device.h"
#include "vhost_user/door/door.h"
#include "vhost_user/ring/ring.h"
#include "vhost_user_scsi/scsi_cmd.h"

#define SCSI_CONTROL_RING 0u
#define SCSI_EVENT_RING 1u
#define SCSI_FIXED_RINGS 2u
#define SCSI_TARGET 0u
#define SCSI_EVENTS_KEPT 32u  /* that wait for a buffer of the guest's */
#define SCSI_NO_LUN UINT32_MAX

struct scsi_controller;
struct table_change;

/* The thread's. */
struct scsi_seat {
        struct vol_port *port;      /* NULL until the first command that needs it */
        unsigned in_flight;         /* commands in hand */
        bool hurried;               /* somebody waits for their end: task management, the unit's removal */
        bool port_hurried;          /* and so, or by the desk, the port is */
        bool scratch_busy;
        struct list scratch_waits;  /* commands */
};

struct scsi_unit {
        struct scsi_controller *c;
        struct scsi_lu lu;
        unsigned lun;
        struct vol *vol;            /* control writes; queue threads read, by RCU */
        char *wce_mark;             /* controller.h; control's */
        struct scsi_seat *seat;     /* one for each of vu.threads */
        struct table_change *removal; /* memory for it, so that it cannot fail */
};

struct scsi_table {
        struct scsi_luns luns;
        struct scsi_unit *unit[SCSI_MAX_LUNS]; /* by LUN; NULL: none */
};

/* The thread's. */
struct scsi_desk {
        struct scsi_table *table;
        struct list rings;     /* struct scsi_ring, of requests, that run */
        struct list commands;  /* struct scsi_request in hand, oldest first */
        struct list visits;    /* struct tmf_visit: task management that waits for commands */
        struct list leaving;   /* struct table_step: units that go when nothing of them is in flight here */
        uint64_t taken;        /* commands, ever */
        unsigned hurried;      /* rings that are to stop soon */
        struct scsi_controller *c;
        unsigned thread;       /* its index */
        struct qhook look;     /* something ended: is it what somebody waits for? */
};

/* What the guest is to be told; the event ring's thread's. */
struct scsi_events {
        struct virtio_scsi_event kept[SCSI_EVENTS_KEPT]; /* oldest first */
        unsigned n;
        bool running;          /* the ring does */
        bool ran;              /* and has: who never had one will look for itself */
        bool missed;           /* some were lost: it must look for itself */
        uint64_t features;
};

struct scsi_controller {
        struct door door;
        struct vu_device vu;
        char *name;
        struct scsi_table *table;  /* the newest; control's */
        struct scsi_desk *desk;    /* one for each of vu.threads */
        struct scsi_events events;
        unsigned changes;          /* of the table, under way */
        bool left;                 /* the door was stopped, and nothing is in flight */
        void (*stopped)(void *opaque);
        void *opaque;
};
void scsi_controller_maybe_gone(struct scsi_controller *c); /* one of the two has changed */

/* A ring that runs; its thread's. */
struct scsi_ring {
        struct scsi_controller *c;
        struct scsi_desk *desk;
        struct ring *ring;
        unsigned thread;            /* index of c->desk and unit->seat */
        struct list link;           /* desk->rings */
        struct scsi_request *free;
        struct scsi_slab *slabs;
        bool hurried;
};

static inline unsigned scsi_thread_of(const struct scsi_controller *c, unsigned ring)
{
        return (c->vu.first_thread + ring) % c->vu.nthreads;
}

/* Where virtio's eight bytes lead (virtio 1.2, 5.6.6.1). */
enum scsi_place {
        SCSI_AT_UNIT,       /* target 0, *lun; whether there is one or not. SCSI_NO_LUN: not one of ours */
        SCSI_AT_LUNS,       /* the REPORT LUNS well-known unit */
        SCSI_AT_NOTHING,    /* another target */
};
enum scsi_place scsi_place_of(const uint8_t bytes[8], unsigned *lun);

/* For a chain's answer: @len bytes to its first writable ones. They count as written. */
void scsi_put_answer(struct ring_req *q, const void *src, size_t len);

/* scsi_ring.c: device.h's functions. */
extern const struct vu_device_ops scsi_device_ops;

/*
 * scsi_desk.c. look: at the end of this round, when the guest can see what has ended, visits and leaving units are asked whether it
 * was that for which they wait. hurry: the port is hurried as the seat and its desk say. detach: nothing is in flight.
 */
void scsi_desk_init(struct scsi_desk *d, struct scsi_controller *c, unsigned thread);
void scsi_desk_look(struct scsi_desk *d);
void scsi_seat_init(struct scsi_seat *s);
void scsi_seat_hurry(const struct scsi_desk *d, struct scsi_seat *s);
void scsi_seat_detach(struct scsi_seat *s);

/* scsi_request.c */
struct ring_req *scsi_request_get(struct scsi_ring *sr);
void scsi_request_put(struct scsi_ring *sr, struct ring_req *rq);
void scsi_request_take(struct scsi_ring *sr, struct ring_req *rq);
void scsi_requests_free(struct scsi_ring *sr);

/* scsi_tmf.c: the control ring. look: from the desk. */
struct ring_req *scsi_control_get(struct scsi_ring *sr);
void scsi_control_put(struct ring_req *rq);
void scsi_control_take(struct scsi_ring *sr, struct ring_req *rq);
void scsi_visits_look(struct scsi_desk *d);

/* scsi_events.c: the event ring. tell: control thread; @lun's event, if the guest understands @feature. */
void scsi_event_tell(struct scsi_controller *c, unsigned lun, uint32_t event, uint32_t reason, unsigned feature);
void scsi_events_start(struct scsi_controller *c, uint64_t features);
void scsi_events_stop(struct scsi_controller *c);
unsigned scsi_events_waiting(const struct scsi_controller *c);
struct ring_req *scsi_event_get(void);
void scsi_event_put(struct ring_req *rq);
void scsi_event_take(struct scsi_ring *sr, struct ring_req *rq);

/* unit.c. look: from the desk. free: with its units. */
void scsi_leaving_look(struct scsi_desk *d);
void scsi_table_free(struct scsi_table *t);
