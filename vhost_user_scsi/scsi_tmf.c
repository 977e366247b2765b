/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control ring: task management and asynchronous notification (virtio 1.2, 5.6.6.2).
 *
 *   chain -> a visit to each desk -> what the guest has shown there is taken -> commands that are meant end -> back
 *         -> all are back: units are told of a reset -> answer
 *
 * What the kernel has of a command cannot be taken back, so nothing is aborted: an abort or a reset is answered when the
 * commands that it names have ended, with their own answers, which the guest can see by then. Commands that wait for limits are let
 * through. What is shown to us later than the visit is not meant.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "vhost_user_scsi/scsi_request.h"

struct scsi_tmf;
struct tmf_visit {
        struct qtask go;       /* to the desk */
        struct qtask back;     /* to the control ring's thread */
        struct scsi_tmf *tmf;
        struct scsi_desk *desk;
        struct list link;      /* desk->visits */
        uint64_t last;         /* the last command that is meant */
};
struct scsi_tmf {
        struct ring_req rq;
        struct scsi_controller *c;
        uint32_t kind;         /* VIRTIO_SCSI_T_TMF_* */
        unsigned lun;
        uint64_t tag;
        unsigned away;         /* visits */
        atomic_bool found;     /* QUERY: a command that is meant */
        atomic_bool failed;    /* not all that was shown could be taken */
        struct tmf_visit visit[]; /* one for each of vu.threads */
};

/* --- memory ------------------------------------------------------------------------------------------------------ */

struct ring_req *scsi_control_get(struct scsi_ring *sr)
{
        unsigned n = sr->c->vu.nthreads;
        struct scsi_tmf *t = calloc(1, sizeof(*t) + n * sizeof(t->visit[0]));

        if (!t)
                return NULL;
        t->c = sr->c;
        return &t->rq;
}

void scsi_control_put(struct ring_req *rq)
{
        free(container_of(rq, struct scsi_tmf, rq));
}

static void answer(struct scsi_tmf *t, uint8_t response)
{
        scsi_put_answer(&t->rq, &(struct virtio_scsi_ctrl_tmf_resp){ response }, sizeof(struct virtio_scsi_ctrl_tmf_resp));
        scsi_control_put(&t->rq);
}

/* --- what is asked ----------------------------------------------------------------------------------------------- */

static bool is_query(const struct scsi_tmf *t)
{
        return t->kind == VIRTIO_SCSI_T_TMF_QUERY_TASK || t->kind == VIRTIO_SCSI_T_TMF_QUERY_TASK_SET;
}

static bool is_reset(const struct scsi_tmf *t)
{
        return t->kind == VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET || t->kind == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET;
}

static bool means_unit(const struct scsi_tmf *t, unsigned lun)
{
        return t->kind == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET || lun == t->lun;
}

static bool means_command(const struct scsi_tmf *t, const struct scsi_request *q)
{
        if (t->kind == VIRTIO_SCSI_T_TMF_ABORT_TASK || t->kind == VIRTIO_SCSI_T_TMF_QUERY_TASK)
                return q->lun == t->lun && q->tag == t->tag;
        return means_unit(t, q->lun);
}

/* --- the control ring's thread ----------------------------------------------------------------------------------- */

static void finish(struct scsi_tmf *t)
{
        const struct scsi_table *table = t->c->desk[scsi_thread_of(t->c, SCSI_CONTROL_RING)].table;
        uint8_t response = VIRTIO_SCSI_S_OK; /* which is FUNCTION COMPLETE */

        for (unsigned i = 0; is_reset(t) && i < table->luns.n; i++)
                if (means_unit(t, table->luns.lun[i]))
                        scsi_lu_attention(&table->unit[table->luns.lun[i]]->lu, SCSI_UA_RESET);
        if (atomic_load(&t->failed))
                response = VIRTIO_SCSI_S_FAILURE;
        else if (t->kind != VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET && (t->lun >= SCSI_MAX_LUNS || !table->unit[t->lun]))
                response = VIRTIO_SCSI_S_INCORRECT_LUN;
        else if (atomic_load(&t->found))
                response = VIRTIO_SCSI_S_FUNCTION_SUCCEEDED;
        answer(t, response);
}

static void came_back(struct qtask *task)
{
        struct scsi_tmf *t = container_of(task, struct tmf_visit, back)->tmf;

        if (--t->away == 0)
                finish(t);
}

/* --- a desk's thread --------------------------------------------------------------------------------------------- */

/* Which seats visits wait for. */
static void hurry(struct scsi_desk *d)
{
        for (unsigned i = 0; i < d->table->luns.n; i++) {
                unsigned lun = d->table->luns.lun[i];
                struct scsi_seat *s = &d->table->unit[lun]->seat[d->thread];

                s->hurried = false;
                list_for_each(l, &d->visits)
                        s->hurried |= means_unit(list_entry(l, struct tmf_visit, link)->tmf, lun);
                scsi_seat_hurry(d, s);
        }
}

static bool is_over(const struct tmf_visit *v)
{
        list_for_each(l, &v->desk->commands) {
                const struct scsi_request *q = list_entry(l, struct scsi_request, link);

                if (q->number > v->last)
                        break;
                if (means_command(v->tmf, q))
                        return false;
        }
        return true;
}

static void go_back(struct tmf_visit *v)
{
        const struct scsi_controller *c = v->tmf->c;

        list_del(&v->link);
        qthread_post(c->vu.threads[scsi_thread_of(c, SCSI_CONTROL_RING)], &v->back);
}

void scsi_visits_look(struct scsi_desk *d)
{
        bool over = false;

        list_for_each_safe(l, &d->visits) {
                struct tmf_visit *v = list_entry(l, struct tmf_visit, link);

                if (!is_over(v))
                        continue;
                go_back(v);
                over = true;
        }
        if (over)
                hurry(d);
}

static void arrive(struct qtask *task)
{
        struct tmf_visit *v = container_of(task, struct tmf_visit, go);
        struct scsi_desk *d = v->desk;

        list_for_each_safe(l, &d->rings)
                if (!ring_take_all(list_entry(l, struct scsi_ring, link)->ring))
                        atomic_store(&v->tmf->failed, true);
        v->last = d->taken;
        if (is_query(v->tmf)) {
                if (!is_over(v))
                        atomic_store(&v->tmf->found, true);
                go_back(v);
                return;
        }
        list_add_tail(&d->visits, &v->link);
        hurry(d);
        scsi_desk_look(d);
}

/* --- chains ------------------------------------------------------------------------------------------------------ */

static void visit_all(struct scsi_tmf *t)
{
        struct scsi_controller *c = t->c;

        t->away = c->vu.nthreads;
        for (unsigned i = 0; i < c->vu.nthreads; i++) {
                t->visit[i] = (struct tmf_visit){
                        .go.run = arrive, .back.run = came_back, .tmf = t, .desk = &c->desk[i],
                };
                list_init(&t->visit[i].link);
                qthread_post(c->vu.threads[i], &t->visit[i].go);
        }
}

static void manage(struct scsi_tmf *t, const struct virtio_scsi_ctrl_tmf_req *req)
{
        enum scsi_place place = scsi_place_of(req->lun, &t->lun);

        t->kind = le32toh(req->subtype);
        t->tag = le64toh(req->tag);
        if (place == SCSI_AT_NOTHING) {
                answer(t, VIRTIO_SCSI_S_BAD_TARGET);
                return;
        }
        switch (t->kind) {
        case VIRTIO_SCSI_T_TMF_ABORT_TASK:
        case VIRTIO_SCSI_T_TMF_ABORT_TASK_SET:
        case VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET:
        case VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET:
        case VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET:
        case VIRTIO_SCSI_T_TMF_QUERY_TASK:
        case VIRTIO_SCSI_T_TMF_QUERY_TASK_SET:
                visit_all(t);
                break;
        default: /* CLEAR ACA: there is none */
                answer(t, VIRTIO_SCSI_S_FUNCTION_REJECTED);
        }
}

/* Nothing of a disk is told in this way: not one event of those asked for. */
static void notify(struct scsi_tmf *t, const struct virtio_scsi_ctrl_an_req *req)
{
        struct virtio_scsi_ctrl_an_resp a = { .response = VIRTIO_SCSI_S_OK };

        if (scsi_place_of(req->lun, &t->lun) == SCSI_AT_NOTHING)
                a.response = VIRTIO_SCSI_S_BAD_TARGET;
        scsi_put_answer(&t->rq, &a, sizeof(a));
        scsi_control_put(&t->rq);
}

void scsi_control_take(struct scsi_ring *sr, struct ring_req *rq)
{
        struct scsi_tmf *t = container_of(rq, struct scsi_tmf, rq);
        const struct chain *c = &rq->chain;
        union {
                uint32_t type;
                struct virtio_scsi_ctrl_tmf_req tmf;
                struct virtio_scsi_ctrl_an_req an;
        } req = { 0 };
        struct iovec *out = rq->chain.iov;
        unsigned nout = c->nread;
        size_t len = gm_copy_in(&req, sizeof(req), &out, &nout), want = sizeof(req.an), room = sizeof(struct virtio_scsi_ctrl_an_resp);

        (void)sr;
        if (le32toh(req.type) == VIRTIO_SCSI_T_TMF) {
                want = sizeof(req.tmf);
                room = sizeof(struct virtio_scsi_ctrl_tmf_resp);
        }
        if (len < want || c->write_len < room)
                ring_break(rq, "a control request that is cut short");
        else if (le32toh(req.type) == VIRTIO_SCSI_T_TMF)
                manage(t, &req.tmf);
        else if (le32toh(req.type) == VIRTIO_SCSI_T_AN_QUERY || le32toh(req.type) == VIRTIO_SCSI_T_AN_SUBSCRIBE)
                notify(t, &req.an);
        else
                ring_break(rq, "a control request of an unknown kind");
}
