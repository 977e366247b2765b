/* SPDX-License-Identifier: BSD-3-Clause */
#include "copy_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

/* --- the guest --------------------------------------------------------------------------------------------------------- */

static void next(struct load_one *o);

static void on_done(struct blk_req *req, int res)
{
        struct load_one *o = container_of(req, struct load_one, req);
        struct load *l = o->l;

        if (res < 0)
                fail_msg("the guest's request %u at %#llx: %d", req->op, (unsigned long long)req->off, res);
        if (req->op == BLK_WRITE)
                memcpy(l->model + req->off, o->buf, req->len);
        else if (req->op == BLK_WRITE_ZEROES)
                memset(l->model + req->off, 0, req->len);
        else if (req->op == BLK_READ && req->flags)
                memcpy(l->model + req->off, o->buf, req->len);
        else if (req->op == BLK_READ && memcmp(l->model + req->off, o->buf, req->len))
                fail_msg("the guest reads other bytes at %#llx", (unsigned long long)req->off);
        if (req->op == BLK_DISCARD) { /* what is there now is up to the image */
                req->op = BLK_READ;
                req->flags = BLK_UNMAP;
                port_submit(l->g->port, req);
                return;
        }
        o->busy = false;
        l->in_flight--;
        l->count++;
        next(o);
}

static bool overlaps_another(const struct load *l, const struct load_one *mine)
{
        for (unsigned i = 0; i < LOAD_DEPTH; i++)
                if (&l->one[i] != mine && l->one[i].busy &&
                    range_overlaps(l->one[i].req.off, l->one[i].req.len, mine->req.off, mine->req.len))
                        return true;
        return false;
}

#define WANDER (777u << 10) /* a guest who is everywhere at once can never be caught up with */

static void choose(struct load_one *o)
{
        static const enum blk_op ops[] = { BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_READ, BLK_WRITE_ZEROES, BLK_DISCARD };
        struct load *l = o->l;

        do {
                uint64_t len = (1 + vf_rnd(&l->rnd) % (vf_rnd(&l->rnd) % 12 ? 16 : LOAD_MAX / 512)) * 512;
                uint64_t off = (l->count / 100 * WANDER + vf_rnd(&l->rnd) % (l->window / 512) * 512) % round_down(l->size, 512);

                o->req = (struct blk_req){
                        .op = ops[vf_rnd(&l->rnd) % ARRAY_SIZE(ops)], .off = off, .len = min_u64(len, l->size - off), .iov = &o->iov,
                        .niov = 1, .done = on_done,
                };
        } while (overlaps_another(l, o));
}

static void next(struct load_one *o)
{
        struct load *l = o->l;

        if (l->stop) {
                l->idle = !l->in_flight;
                return;
        }
        choose(o);
        o->iov = (struct iovec){ o->buf, o->req.len };
        if (o->req.op == BLK_WRITE) {
                memset(o->buf, (int)vf_rnd(&l->rnd) | 1, o->req.len);
                if (vf_rnd(&l->rnd) % 8 == 0)
                        o->req.flags = BLK_FUA;
        } else if (o->req.op == BLK_WRITE_ZEROES && vf_rnd(&l->rnd) % 2) {
                o->req.flags = BLK_UNMAP;
        }
        o->busy = true;
        l->in_flight++;
        port_submit(l->g->port, &o->req);
}

void load_init(struct load *l, struct rig *g, uint64_t seed)
{
        *l = (struct load){ .g = g, .size = vol_size(g->v), .window = vol_size(g->v), .rnd = seed, .idle = true };
        l->model = malloc(l->size);
        assert_int_equal(vf_do(g, BLK_READ, 0, 0, l->size, l->model), 0);
        for (unsigned i = 0; i < LOAD_DEPTH; i++) {
                l->one[i].l = l;
                l->one[i].buf = aligned_alloc(4096, LOAD_MAX);
        }
}

void load_start(struct load *l)
{
        l->stop = l->idle = false;
        for (unsigned i = 0; i < LOAD_DEPTH; i++)
                next(&l->one[i]);
}

void load_stop(struct load *l)
{
        l->stop = true;
        qthread_run(l->g->home, &l->idle);
}

void load_turn(struct load *l, unsigned requests)
{
        uint64_t until = l->count + requests;

        while (l->count < until)
                qthread_run_once(l->g->home, 0);
}

void load_finish(struct load *l)
{
        for (unsigned i = 0; i < LOAD_DEPTH; i++)
                free(l->one[i].buf);
        free(l->model);
}

/* --- the target -------------------------------------------------------------------------------------------------------- */

void cf_open(struct rig *g, struct rig *first, const char *name, const struct vol_opts *opts)
{
        *g = (struct rig){ .home = first->home };
        if (vol_open(name, opts, g->home, &g->v) < 0)
                fail_msg("%s: %s", name, err_text(-EIO));
        assert_int_equal(port_attach(g->v, g->home, &g->port), 0);
}

static void on_closed(void *opaque, int res)
{
        struct rig *g = opaque;

        g->closed = true;
        g->close_res = res;
}

int cf_close(struct rig *g)
{
        port_detach(g->port);
        vol_close(g->v, on_closed, g);
        qthread_run(g->home, &g->closed);
        return g->close_res;
}

void cf_begin(const struct pair *p, struct rig *src, struct rig *dst, struct load *load)
{
        struct vol_opts vo = { .format = p->format, .writeback_ms = p->writeback_ms ?: 5, .no_sync = !p->sync, .writeback = true,
                               .max_in_flight = p->seed % 2 ? 128u << 10 : 0 };
        struct vol_opts to = vo;

        to.format = p->to;
        vf_create_random("base", p->size, p->seed);
        if (!strcmp(p->format, "qcow2"))
                vf_create("disk", p->format, p->opts, p->size, "base");
        else
                vf_create_random("disk", p->size, p->seed);
        vf_create("copy", p->to, p->to_opts, p->size, p->behind);
        vf_open(src, "disk", &vo, &(struct engine_opts){ .kind = ENGINE_SYNC, .seed = p->seed });
        cf_open(dst, src, "copy", &to);
        load_init(load, src, p->seed);
        load_start(load);
        load_turn(load, 50); /* some clusters of its own */
}

/* --- the owner --------------------------------------------------------------------------------------------------------- */

static enum copy_action on_error(struct copy_job *c, bool read, int err)
{
        struct owner *o = c->owner.opaque;

        return read ? o->read_action : o->write_action;
}

static void told(struct copy_job *c)
{
        struct owner *o = c->owner.opaque;
        struct copy_news n = copy_job_news(c);

        assert_false(o->over);
        o->c = c;
        o->stands += n.stands;
        o->readies += n.ready;
        for (unsigned i = 0; i < n.nerrors; i++)
                *(n.error[i].read ? &o->read_errors : &o->write_errors) += 1;
        o->over = n.over;
        o->res = n.res;
        o->woken = true;
}

struct copy_owner cf_owner(struct owner *o)
{
        return (struct copy_owner){ .on_error = on_error, .told = told, .opaque = o };
}

void cf_turn(struct owner *o, struct rig *g)
{
        o->woken = false;
        qthread_run(g->home, &o->woken);
}

static void on_finished(struct copy_job *c)
{
        struct owner *o = c->owner.opaque;

        o->finished = true;
}

int cf_finish(struct owner *o, struct rig *g)
{
        while (!o->over)
                cf_turn(o, g);
        copy_job_finish(o->c, on_finished);
        qthread_run(g->home, &o->finished);
        copy_job_free(o->c);
        return o->res;
}
