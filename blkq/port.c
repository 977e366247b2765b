/* SPDX-License-Identifier: BSD-3-Clause */
/* port.c - a thread joins a volume and leaves it. All on that thread. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blkq/vol_impl.h"

void chain_files(struct vol *v, struct engine *e, void (*tell)(struct engine *e, struct file *f))
{
        for (struct fmt_image *img = v->top; img; img = img->backing)
                if (img->file)
                        tell(e, img->file);
}

void vol_use_files(struct vol *v)
{
        if (!v->uses_files)
                chain_files(v, v->mover.engine, engine_add_file);
        v->uses_files = true;
}

int port_attach(struct vol *v, struct qthread *t, struct vol_port **ret)
{
        struct vol_port *p = calloc(1, sizeof(*p));

        if (!p)
                return -ENOMEM;
        p->v = v;
        p->thread = t;
        mover_init(&p->mover, qthread_engine(t));
        grace_port_init(p);
        if (t == v->home)
                vol_use_files(v);
        else
                chain_files(v, p->mover.engine, engine_add_file);
        pthread_mutex_lock(&v->lock);
        list_add_tail(&v->ports, &p->link); /* before the first lookup: see grace.c */
        pthread_mutex_unlock(&v->lock);
        *ret = p;
        return 0;
}

void port_detach(struct vol_port *p)
{
        struct vol *v = p->v;
        bool asked;

        assert(!p->in_flight);
        if (p->thread != v->home) /* there home itself may still be using them */
                chain_files(v, p->mover.engine, engine_del_file);
        pthread_mutex_lock(&v->lock);
        list_del(&p->link);
        stats_add(&v->past, &p->stats);
        asked = p->gone = p->asked;
        pthread_mutex_unlock(&v->lock);
        if (asked)
                return; /* home waits for an answer: it frees the port then */
        mover_finish(&p->mover);
        free(p);
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
