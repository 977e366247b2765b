/* SPDX-License-Identifier: BSD-3-Clause */
/* port_impl.h - inside a port: how its requests come and go, and what is counted. Port's thread unless it says
 * otherwise. */
#pragma once

#include "blkq/vol_impl.h"

/* --- port.c ------------------------------------------------------------------------------------------------------- */

/* Tell an engine about the files of the chain; home's engine, once. On the engine's thread. */
void chain_files(struct vol *v, struct engine *e, void (*tell)(struct engine *e, struct file *f));
/* without those behind it */
void image_files(struct fmt_image *img, struct engine *e, void (*tell)(struct engine *e, struct file *f));
void vol_use_files(struct vol *v);
void port_files(struct vol_port *p, bool use); /* port's thread */
void port_unref(struct vol_port *p);           /* any thread */

/* --- account.c ----------------------------------------------------------------------------------------------------- */

void account_init(struct vol_port *p);
void account_finish(struct vol_port *p);                    /* it leaves; no requests */
void account_begin(struct vol_port *p, struct blk_req *req); /* it has come */
void account_end(struct vol_port *p, struct blk_req *req, int res);
/* It is with the engine now. Those that were started in this round are handed over at its end, and are counted so. */
void account_moves(struct vol_port *p, struct blk_req *req);

/* slow.c; port's thread, with v->slow_ns */
void slow_init(struct vol_port *p);
void slow_finish(struct vol_port *p);
void slow_watch(struct vol_port *p); /* there are requests */
void slow_done(struct vol_port *p, const struct blk_req *req, uint64_t ns, int res);

static inline uint64_t port_now(struct vol_port *p)
{
        return engine_now(p->mover.engine);
}
static inline void req_stage(struct blk_req *req, enum stats_stage stage) /* port's thread */
{
        stage_to(&req->p.clock, stage, port_now(req->p.port));
}

/* --- request.c ----------------------------------------------------------------------------------------------------- */

void port_enter(struct vol_port *p, struct blk_req *req);    /* new, or it was parked: it may have to wait */
void request_start(struct vol_port *p, struct blk_req *req); /* in flight from now on */
void request_finish(struct blk_req *req, int res);
void request_again(struct qtask *task); /* likewise; it was not done and shall be started anew */
void request_back(struct qtask *task); /* a blk_req's task is back from home; res is in it */
