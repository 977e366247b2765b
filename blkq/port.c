/* SPDX-License-Identifier: BSD-3-Clause */
/* port.c - a thread joins a volume and leaves it. All on that thread. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blkq/change/exchange.h"
#include "blkq/home/work.h"
#include "blkq/port_impl.h"
#include "blkq/throttle/port_throttle.h"
#include "blkq/vol_impl.h"
#include "common/range.h"

void image_files(struct fmt_image *img, struct engine *e, void (*tell)(struct engine *e, struct file *f))
{
        if (img->data_file)
                tell(e, img->data_file);
        if (img->file)
                tell(e, img->file);
        for (unsigned i = 0; i < img->nparts; i++)
                tell(e, img->parts[i]->file);
}

void chain_files(struct vol *v, struct engine *e, void (*tell)(struct engine *e, struct file *f))
{
        for (struct fmt_image *img = v->top; img; img = img->backing)
                image_files(img, e, tell);
}

void vol_use_files(struct vol *v)
{
        if (!v->uses_files)
                chain_files(v, v->mover.engine, engine_add_file);
        v->uses_files = true;
}

/* Home may be using them itself, whatever its port does. */
void port_files(struct vol_port *p, bool use)
{
        struct vol *v = p->v;

        p->has_files = use;
        if (p->thread != v->home)
                chain_files(v, p->mover.engine, use ? engine_add_file : engine_del_file);
        else if (use)
                vol_use_files(v);
}

/* A port that has left stays in memory while messages to or from it are on their way. */
void port_unref(struct vol_port *p)
{
        if (atomic_fetch_sub(&p->refs, 1) != 1)
                return;
        mover_finish(&p->mover);
        free(p);
}

int port_attach(struct vol *v, struct qthread *t, struct vol_port **ret)
{
        struct vol_port *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        p->thread = t;
        mover_init(&p->mover, t, v->owner, &v->max_in_flight);
        grace_port_init(p);
        hold_port_init(p);
        full_port_init(p);
        exchange_port_init(p);
        account_init(p);
        atomic_init(&p->refs, 1);
        pthread_mutex_lock(&v->lock);
        while (v->successor) {
                struct vol *next = v->successor;

                pthread_mutex_unlock(&v->lock);
                v = next;
                pthread_mutex_lock(&v->lock);
        }
        p->v = v;
        r = port_throttle_init(p);
        p->held = v->hold.ports_held;
        if (r == 0)
                list_add_tail(&v->ports, &p->link); /* before the first lookup: see grace.c */
        pthread_mutex_unlock(&v->lock);
        if (r < 0) {
                port_unref(p);
                return r;
        }
        if (!p->held) /* and if a holder asks now, this thread answers when it is done here */
                port_files(p, true);
        *ret = p;
        return 0;
}

void port_detach(struct vol_port *p)
{
        struct vol *v = p->v;

        assert(!p->in_flight && !p->parked);
        port_throttle_finish(p);
        if (p->has_files)
                port_files(p, false);
        p->gone = true;
        account_finish(p);
        pthread_mutex_lock(&v->lock);
        list_del(&p->link);
        stats_add(&v->past, &p->stats);
        v->past_last_ns = max_u64(v->past_last_ns, p->stats.last_ns);
        pthread_mutex_unlock(&v->lock);
        port_unref(p);
}

struct vol *port_vol(struct vol_port *p)
{
        return p->v;
}

unsigned port_in_flight(const struct vol_port *p)
{
        return p->in_flight;
}

const struct blk_stats *port_stats(const struct vol_port *p)
{
        return &p->stats;
}
