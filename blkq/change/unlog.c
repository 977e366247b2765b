/* SPDX-License-Identifier: BSD-3-Clause */
/* held, settled -> a worker reads the image again, with or without its log -> released */
#include "blkq/change/unlog.h"

#include <urcu.h>

#include "blkq/change/exchange.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

static void on_back(struct qtask *task)
{
        struct unlog *u = container_of(task, struct unlog, back);

        vol_release(u->v);
        u->done(u, u->res);
}

static void reload(struct unlog *u)
{
        char *dir = u->v->state_dir;
        int r;

        u->v->state_dir = u->state_dir;
        u->state_dir = dir;
        r = vol_reload(u->v);
        if (u->res == 0)
                u->res = r;
        err_clear();
        qthread_post(u->v->home, &u->back);
}

static void on_worker(struct work *w)
{
        rcu_register_thread();
        reload(container_of(w, struct unlog, work));
        rcu_unregister_thread();
}

static void on_held(struct vol_hold *h, int res)
{
        struct unlog *u = container_of(h, struct unlog, hold);

        u->res = res;
        if (workers_run(&u->work) < 0)
                reload(u); /* it waits for the disk, but it must be done */
}

static void start(struct unlog *u, void (*done)(struct unlog *u, int res))
{
        u->done = done;
        u->hold = (struct vol_hold){ .held = on_held };
        u->work.run = on_worker;
        u->back.run = on_back;
        vol_hold(u->v, &u->hold);
}

void unlog_start(struct unlog *u, struct vol *v, void (*done)(struct unlog *u, int res))
{
        u->v = v;
        start(u, done);
}

void unlog_end(struct unlog *u, void (*done)(struct unlog *u, int res))
{
        start(u, done);
}
