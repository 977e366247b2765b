/* SPDX-License-Identifier: BSD-3-Clause */
/* A controller on one queue thread. On that thread, but for the init of both. */
#include <string.h>

#include "common/cleanup.h"
#include "vhost_user_scsi/scsi_device.h"

/*
 * At the end of the round, behind the rings: what has ended was shown to the guest then. It must not hear that a command was
 * aborted before it can see that command's answer.
 */
static void look(struct qhook *h)
{
        struct scsi_desk *d = container_of(h, struct scsi_desk, look);

        scsi_visits_look(d);
        scsi_leaving_look(d);
}

void scsi_desk_look(struct scsi_desk *d)
{
        if (!list_empty(&d->look.link) || (list_empty(&d->visits) && list_empty(&d->leaving)))
                return;
        qthread_after_round_end(d->c->vu.threads[d->thread], &d->look);
}

void scsi_desk_init(struct scsi_desk *d, struct scsi_controller *c, unsigned thread)
{
        d->c = c;
        d->thread = thread;
        d->table = c->table;
        list_init(&d->rings);
        list_init(&d->commands);
        list_init(&d->visits);
        list_init(&d->leaving);
        list_init(&d->look.link);
        d->look.run = look;
}

void scsi_seat_init(struct scsi_seat *s)
{
        list_init(&s->scratch_waits);
}

void scsi_seat_hurry(const struct scsi_desk *d, struct scsi_seat *s)
{
        bool want = s->port && (d->hurried || s->hurried);

        if (s->port_hurried == want)
                return;
        s->port_hurried = want;
        port_hurry(s->port, want);
}

void scsi_seat_detach(struct scsi_seat *s)
{
        if (!s->port)
                return;
        if (TAKE(s->port_hurried, false))
                port_hurry(s->port, false);
        port_detach(TAKE(s->port, NULL));
}
