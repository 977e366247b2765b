/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A controller's life; its units come and go in unit.c.
 *
 * A packed controller is its door and whether its guest must look for itself. Not packed, since it is made anew: vu name
 * table desk changes left stopped opaque; of events: kept n running ran features (a ring that stops turns what is kept into missed)
 */
#include "vhost_user_scsi/controller.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vhost_user_scsi/scsi_device.h"

_Static_assert(SCSI_LUNS == SCSI_MAX_LUNS && SCSI_MAX_QUEUES + SCSI_FIXED_RINGS == DOOR_MAX_QUEUES, "one truth");

#define FEATURES                                                                                                     \
        (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX |          \
         1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_SCSI_F_HOTPLUG | 1ull << VIRTIO_SCSI_F_CHANGE)

static void controller_free(struct scsi_controller *c)
{
        if (!c)
                return;
        door_finish(&c->door);
        if (c->table)
                scsi_table_free(c->table);
        free(c->desk);
        free(c->vu.threads);
        free(c->vu.shares);
        free(c->name);
        free(c);
}

static void controller_freep(struct scsi_controller **c)
{
        controller_free(*c);
}

static int check_opts(const struct scsi_controller_opts *o)
{
        if (o->num_queues > SCSI_MAX_QUEUES)
                return err_note(-EINVAL, "%s: %u queues; a SCSI controller has at most %u for requests", o->name, o->num_queues,
                                SCSI_MAX_QUEUES);
        if (!o->nthreads || o->start_thread >= o->nthreads)
                return err_note(-EINVAL, "%s: thread %u of %u", o->name, o->start_thread, o->nthreads);
        return 0;
}

static int fill(struct scsi_controller *c, const struct scsi_controller_opts *o)
{
        c->name = strdup(o->name);
        c->table = calloc(1, sizeof(*c->table));
        c->desk = calloc(o->nthreads, sizeof(*c->desk));
        c->vu = (struct vu_device){
                .ops = &scsi_device_ops,
                .name = c->name,
                .features = FEATURES,
                .num_queues = (o->num_queues ? o->num_queues : DOOR_QUEUES) + SCSI_FIXED_RINGS,
                .uncounted_queues = SCSI_FIXED_RINGS,
                .threads = calloc(o->nthreads, sizeof(*o->threads)),
                .shares = calloc(o->nthreads, sizeof(*c->vu.shares)),
                .nthreads = o->nthreads,
                .first_thread = o->start_thread,
        };
        if (!c->name || !c->table || !c->desk || !c->vu.threads || !c->vu.shares)
                return -ENOMEM;
        memcpy(c->vu.threads, o->threads, o->nthreads * sizeof(*o->threads));
        for (unsigned i = 0; i < o->nthreads; i++)
                scsi_desk_init(&c->desk[i], c, i);
        return 0;
}

int scsi_controller_new(struct loop *l, int listen_fd, const struct scsi_controller_opts *o, struct scsi_controller **ret)
{
        AUTO(closep) int fd = listen_fd;
        AUTO(controller_freep) struct scsi_controller *c = NULL;
        int r = check_opts(o);

        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->door.fd = -1;
        r = fill(c, o);
        if (r == 0)
                r = door_init(&c->door, l, &c->vu, TAKE(fd, -1), o->connect);
        if (r == 0 && o->parked)
                door_start_parked(&c->door);
        else if (r == 0)
                r = door_open(&c->door);
        if (r < 0)
                return r;
        *ret = TAKE(c, NULL);
        return 0;
}

void scsi_controller_drop(struct scsi_controller *c)
{
        door_shut(&c->door);
        controller_free(c);
}

bool scsi_controller_is_changing(const struct scsi_controller *c)
{
        return c->changes;
}

unsigned scsi_controller_num_queues(const struct scsi_controller *c)
{
        return c->vu.num_queues - SCSI_FIXED_RINGS;
}

bool scsi_controller_in_use(const struct scsi_controller *c)
{
        return door_in_use(&c->door);
}

void scsi_controller_maybe_gone(struct scsi_controller *c)
{
        void (*stopped)(void *opaque) = c->stopped;
        void *opaque = c->opaque;

        if (!c->left || c->changes)
                return;
        controller_free(c);
        stopped(opaque);
}

static void on_left(void *opaque)
{
        struct scsi_controller *c = opaque;

        c->left = true;
        scsi_controller_maybe_gone(c);
}

void scsi_controller_stop(struct scsi_controller *c, void (*stopped)(void *opaque), void *opaque)
{
        c->stopped = stopped;
        c->opaque = opaque;
        door_stop(&c->door, on_left, c);
}

/* --- stand still, other processes -------------------------------------------------------------------------------- */

void scsi_controller_park(struct scsi_controller *c, void (*parked)(void *opaque), void *opaque)
{
        door_park(&c->door, parked, opaque);
}

bool scsi_controller_parked(const struct scsi_controller *c)
{
        return c->door.parked;
}

void scsi_controller_resume(struct scsi_controller *c)
{
        door_resume(&c->door);
}

bool scsi_controller_is_moving(const struct scsi_controller *c)
{
        return door_is_moving(&c->door);
}

json_t *scsi_controller_pack(const struct scsi_controller *c, struct parcel *p)
{
        json_t *o = door_pack(&c->door, p);

        if (o && json_object_set_new(o, "missed", json_boolean(c->events.missed)) == 0)
                return o;
        json_decref(o);
        return NULL;
}

int scsi_controller_unpack_socket(struct parcel *p, const json_t *o, int *listen_fd)
{
        return door_unpack_socket(p, o, listen_fd);
}

int scsi_controller_unpack(struct scsi_controller *c, struct parcel *p, const json_t *o)
{
        int r = parcel_get_bool(o, "missed", &c->events.missed);

        return r < 0 ? r : door_unpack(&c->door, p, o);
}
