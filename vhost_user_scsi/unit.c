/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Units come and go while commands run. Control makes a new table and sends it to each desk; in the order in which they
 * were sent they arrive everywhere.
 *
 *   add:     new table -> each desk has it -> the old one is freed, the guest told
 *   remove:  new table -> each desk has it, and nothing of the unit in flight -> old table and unit are freed, the guest told
 *
 * Not packed for another process, since it is made anew: of a unit: c lun vol wce_mark seat removal; of lu: nblocks block_size
 * cluster_size read_only serial naa
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/mark.h"
#include "vhost_user_scsi/controller.h"
#include "vhost_user_scsi/scsi_device.h"

#define CAPACITY_CHANGED (0x2au | 0x09u << 8) /* additional sense code and its qualifier (virtio 1.2, 5.6.6.3) */

struct table_change;
struct table_step {
        struct table_change *change;
        struct scsi_desk *desk;
        struct qtask go;       /* to the desk */
        struct loop_task back; /* to control */
        struct list link;      /* desk->leaving */
};
struct table_change {
        struct scsi_controller *c;
        struct scsi_table *from, *to;
        struct scsi_unit *gone;  /* NULL: one came */
        unsigned lun;
        unsigned left;         /* steps */
        bool quiet;            /* the guest is not told: it knows all of them, from the process before us */
        void (*removed)(void *opaque);
        void *opaque;
        struct table_step step[]; /* one a desk */
};

/* --- tables ------------------------------------------------------------------------------------------------------ */

static void change_free(struct table_change *ch)
{
        free(ch ? ch->to : NULL);
        free(ch);
}

static void list_units(struct scsi_table *t)
{
        t->luns.n = 0;
        for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
                if (t->unit[i])
                        t->luns.lun[t->luns.n++] = (uint16_t)i;
}

static void unit_free(struct scsi_unit *u)
{
        change_free(u->removal);
        free(u->wce_mark);
        free(u->seat);
        free(u);
}

static void unit_freep(struct scsi_unit **u)
{
        if (*u)
                unit_free(*u);
}

void scsi_table_free(struct scsi_table *t)
{
        for (unsigned i = 0; i < t->luns.n; i++)
                unit_free(t->unit[t->luns.lun[i]]);
        free(t);
}

/* --- a change ---------------------------------------------------------------------------------------------------- */

static void change_done(struct table_change *ch)
{
        struct scsi_controller *c = ch->c;

        if (!ch->quiet)
                scsi_event_tell(c, ch->lun, VIRTIO_SCSI_T_TRANSPORT_RESET,
                                ch->gone ? VIRTIO_SCSI_EVT_RESET_REMOVED : VIRTIO_SCSI_EVT_RESET_RESCAN, VIRTIO_SCSI_F_HOTPLUG);
        if (ch->gone)
                unit_free(ch->gone);
        free(ch->from);
        if (ch->removed)
                ch->removed(ch->opaque);
        free(ch);
        c->changes--;
        scsi_controller_maybe_gone(c);
}

static void step_is_back(struct loop_task *t)
{
        struct table_change *ch = container_of(t, struct table_step, back)->change;

        if (--ch->left == 0)
                change_done(ch);
}

static void step_done(struct table_step *s)
{
        loop_post(s->change->c->door.loop, &s->back);
}

/* Its volume is let go at the end of a round, when no request of it is being finished. The last step is the last that may look at
 * the controller. */
void scsi_leaving_look(struct scsi_desk *d)
{
        struct list over, *l;

        list_init(&over);
        list_for_each_safe(pos, &d->leaving) {
                struct table_step *s = list_entry(pos, struct table_step, link);
                struct scsi_seat *seat = &s->change->gone->seat[d->thread];

                if (seat->in_flight)
                        continue;
                scsi_seat_detach(seat);
                list_del(&s->link);
                list_add_tail(&over, &s->link);
        }
        while ((l = list_pop(&over)))
                step_done(list_entry(l, struct table_step, link));
}

static void step_arrives(struct qtask *t)
{
        struct table_step *s = container_of(t, struct table_step, go);
        struct scsi_desk *d = s->desk;

        d->table = s->change->to;
        if (!s->change->gone) {
                step_done(s);
                return;
        }
        s->change->gone->seat[d->thread].hurried = true;
        scsi_seat_hurry(d, &s->change->gone->seat[d->thread]);
        list_add_tail(&d->leaving, &s->link);
        scsi_desk_look(d);
}

/* Memory for one. NULL: there is none. */
static struct table_change *change_new(struct scsi_controller *c)
{
        struct table_change *ch = calloc(1, sizeof(*ch) + c->vu.nthreads * sizeof(ch->step[0]));

        if (!ch)
                return NULL;
        ch->c = c;
        ch->to = malloc(sizeof(*ch->to));
        if (ch->to)
                return ch;
        free(ch);
        return NULL;
}

/* Others of the controller's units say so when they are asked something: the guest has seen a list of units. */
static void tell_others(const struct scsi_controller *c, unsigned lun)
{
        const struct scsi_luns *l = &c->table->luns;

        for (unsigned i = 0; door_in_use(&c->door) && i < l->n; i++)
                if (l->lun[i] != lun)
                        scsi_lu_attention(&c->table->unit[l->lun[i]]->lu, SCSI_UA_LUNS);
}

/* The newest table, but @u at @lun; NULL: nothing there. */
static void change_go(struct table_change *ch, unsigned lun, struct scsi_unit *u)
{
        struct scsi_controller *c = ch->c;

        ch->lun = lun;
        ch->quiet = c->door.parked;
        ch->from = c->table;
        ch->gone = c->table->unit[lun];
        *ch->to = *c->table;
        ch->to->unit[lun] = u;
        list_units(ch->to);
        c->changes++;
        c->table = ch->to;
        tell_others(c, lun);
        ch->left = c->vu.nthreads;
        for (unsigned i = 0; i < c->vu.nthreads; i++) {
                ch->step[i] = (struct table_step){
                        .change = ch, .desk = &c->desk[i], .go.run = step_arrives, .back.run = step_is_back,
                };
                list_init(&ch->step[i].link);
                qthread_post(c->vu.threads[i], &ch->step[i].go);
        }
}

/* --- a unit comes ------------------------------------------------------------------------------------------------ */

unsigned scsi_free_lun(const struct scsi_controller *c)
{
        unsigned lun = 0;

        while (lun < SCSI_MAX_LUNS && c->table->unit[lun])
                lun++;
        return lun;
}

bool scsi_lun_is_free(const struct scsi_controller *c, unsigned lun)
{
        return lun < SCSI_MAX_LUNS && !c->table->unit[lun];
}

static int check_opts(const struct scsi_controller *c, const struct scsi_unit_opts *o)
{
        if (o->lun >= SCSI_MAX_LUNS)
                return err_note(-EINVAL, "%s: LUN %u; it is 0 to %u", c->name, o->lun, SCSI_MAX_LUNS - 1);
        if (c->table->unit[o->lun])
                return err_note(-EBUSY, "%s: LUN %u is in use", c->name, o->lun);
        if (o->block_size && o->block_size != 512 && o->block_size != 4096)
                return err_note(-EINVAL, "%s: a block size of %u; it is 512 or 4096", c->name, o->block_size);
        if (o->serial && strlen(o->serial) > SCSI_SERIAL_MAX)
                return err_note(-EINVAL, "%s: serial '%s' is longer than %u bytes", c->name, o->serial, SCSI_SERIAL_MAX);
        return 0;
}

/* In whole blocks. */
static uint64_t nblocks(const struct scsi_unit *u)
{
        return vol_size(u->vol) / u->lu.block_size;
}

static int unit_new(struct scsi_controller *c, struct vol *v, const struct scsi_unit_opts *o, struct scsi_unit **ret)
{
        AUTO(unit_freep) struct scsi_unit *u = calloc(1, sizeof(*u));

        if (!u)
                return -ENOMEM;
        u->c = c;
        u->lun = o->lun;
        u->vol = v;
        u->wce_mark = o->wce_mark ? strdup(o->wce_mark) : NULL;
        u->seat = calloc(c->vu.nthreads, sizeof(*u->seat));
        u->removal = change_new(c);
        if (!u->seat || !u->removal || (o->wce_mark && !u->wce_mark))
                return -ENOMEM;
        for (unsigned i = 0; i < c->vu.nthreads; i++)
                scsi_seat_init(&u->seat[i]);
        u->lu.block_size = o->block_size ? o->block_size : 512;
        u->lu.cluster_size = vol_cluster_size(v);
        u->lu.read_only = o->read_only || vol_read_only(v);
        atomic_init(&u->lu.nblocks, nblocks(u));
        atomic_init(&u->lu.wce, !u->wce_mark || !mark_is_set(u->wce_mark));
        scsi_lu_identify(&u->lu, o->serial, o->stable);
        *ret = TAKE(u, NULL);
        return 0;
}

int scsi_unit_add(struct scsi_controller *c, struct vol *v, const struct scsi_unit_opts *o, struct scsi_unit **ret)
{
        AUTO(unit_freep) struct scsi_unit *u = NULL;
        struct table_change *ch;
        int r = check_opts(c, o);

        if (r == 0)
                r = unit_new(c, v, o, &u);
        if (r < 0)
                return r;
        ch = change_new(c);
        if (!ch)
                return -ENOMEM;
        change_go(ch, o->lun, u);
        *ret = TAKE(u, NULL);
        return 0;
}

/* --- and goes ---------------------------------------------------------------------------------------------------- */

void scsi_unit_remove(struct scsi_unit *u, void (*removed)(void *opaque), void *opaque)
{
        struct table_change *ch = TAKE(u->removal, NULL);

        ch->removed = removed;
        ch->opaque = opaque;
        change_go(ch, u->lun, NULL);
}

/* --- and changes ------------------------------------------------------------------------------------------------- */

void scsi_unit_follow(struct scsi_unit *u, struct vol *v)
{
        rcu_assign_pointer(u->vol, v);
}

void scsi_unit_resized(struct scsi_unit *u)
{
        uint64_t now = nblocks(u);

        if (atomic_exchange(&u->lu.nblocks, now) == now)
                return;
        scsi_lu_attention(&u->lu, SCSI_UA_CAPACITY);
        scsi_event_tell(u->c, u->lun, VIRTIO_SCSI_T_PARAM_CHANGE, CAPACITY_CHANGED, VIRTIO_SCSI_F_CHANGE);
}

int scsi_unit_move_mark(struct scsi_unit *u, const char *mark)
{
        return mark_move(&u->wce_mark, mark, !atomic_load(&u->lu.wce));
}

/* What waits to be told is told in the other process. */
json_t *scsi_unit_pack(const struct scsi_unit *u)
{
        return json_pack("{s:b,s:i}", "wce", atomic_load(&u->lu.wce), "attentions", (int)atomic_load(&u->lu.attentions));
}

int scsi_unit_unpack(struct scsi_unit *u, const json_t *o)
{
        unsigned attentions = 0;
        bool wce;
        int r = parcel_get_bool(o, "wce", &wce);

        if (r == 0)
                r = parcel_get_unsigned(o, "attentions", 0xffff, &attentions);
        if (r < 0)
                return r;
        atomic_store(&u->lu.wce, wce);
        atomic_store(&u->lu.attentions, attentions);
        return 0;
}
