/* SPDX-License-Identifier: BSD-3-Clause */
#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"

#define HDR_LEN 16u
#define DATA_MAX (WORKER_RUN * WORKER_UNIT)
#define CUTS_MAX 6
#define PATIENCE_NS (60 * NS_PER_SEC)

/* Cuts [gpa, gpa + len) in up to CUTS_MAX + 1 pieces. */
static unsigned cut(struct worker *w, struct fe_piece *p, uint64_t gpa, uint32_t len, bool write)
{
        unsigned n = 0, cuts = (unsigned)rng_below(&w->rng, CUTS_MAX + 1);

        while (cuts-- && len > 1) {
                uint32_t part = 1 + (uint32_t)rng_below(&w->rng, len - 1);

                p[n++] = (struct fe_piece){ gpa, part, write };
                gpa += part;
                len -= part;
        }
        p[n++] = (struct fe_piece){ gpa, len, write };
        return n;
}

static int submit_cut(struct worker *w, struct worker_slot *s, uint32_t len)
{
        struct fe_piece p[2 * (CUTS_MAX + 1)];
        bool indirect = fe_features(w->fe) & FE_F_INDIRECT_DESC && rng_below(&w->rng, 4);
        uint64_t gpa = s->area_gpa;
        unsigned n;

        le32_put(s->area, s->io.type);
        le32_put(s->area + 4, 0);
        le64_put(s->area + 8, s->io.sector);
        s->area[HDR_LEN + len] = FE_NOT_ANSWERED;
        n = cut(w, p, gpa, HDR_LEN + (s->write ? len : 0), false);
        n += cut(w, p + n, gpa + HDR_LEN + (s->write ? len : 0), (s->write ? 0 : len) + 1, true);
        return fe_submit_chain(fe_queue(w->fe, w->queue), p, n, indirect, &s->io);
}

/* False: the ring is full or the units are busy, try later. */
static bool slot_send(struct worker *w, struct worker_slot *s)
{
        int r;

        s->n = 1 + (unsigned)rng_below(&w->rng, WORKER_RUN);
        s->unit = w->first + rng_below(&w->rng, w->nunits - s->n + 1);
        s->write = rng_below(&w->rng, 2);
        s->cut = w->odd && rng_below(&w->rng, 8);
        if (fe_free_descs(fe_queue(w->fe, w->queue)) < 2 * (CUTS_MAX + 1) ||
            !verify_claim(w->verify, s->unit, s->n, s->write))
                return false;
        s->io.type = s->write ? FE_WRITE : FE_READ;
        s->io.sector = s->unit * WORKER_UNIT / 512;
        s->io.len = s->n * WORKER_UNIT;
        s->io.gpa = s->area_gpa + HDR_LEN;
        if (s->write) {
                verify_change_begin(w->verify, VERIFY_WRITE, s->unit, s->n);
                verify_fill(w->verify, s->unit, s->n, s->area + HDR_LEN);
        }
        r = s->cut ? submit_cut(w, s, s->io.len) : fe_submit(fe_queue(w->fe, w->queue), &s->io);
        if (r < 0)
                w->result = r;
        s->busy = r == 0;
        return r == 0;
}

static void slot_answered(struct worker *w, struct worker_slot *s)
{
        uint8_t status = s->cut ? s->area[HDR_LEN + s->io.len] : s->io.status;

        if (status != FE_OK)
                w->failed++;
        else if (!s->write)
                w->wrong += verify_compare(w->verify, s->unit, s->n, s->area + HDR_LEN);
        if (s->write)
                verify_change_done(w->verify, VERIFY_WRITE, s->unit, s->n, status == FE_OK);
        verify_release(w->verify, s->unit, s->n, s->write);
        s->busy = false;
        atomic_fetch_add(&w->answered, 1);
}

static int worker_reap(struct worker *w)
{
        struct fe_io *done[WORKER_DEPTH];
        int n = fe_reap(fe_queue(w->fe, w->queue), done, WORKER_DEPTH);

        for (int i = 0; i < n; i++)
                slot_answered(w, container_of(done[i], struct worker_slot, io));
        return n;
}

static void worker_round(struct worker *w)
{
        struct fe_queue *q = fe_queue(w->fe, w->queue);
        int n;

        for (unsigned i = 0; i < WORKER_DEPTH && !w->stop && w->result == 0; i++)
                if (!w->slots[i].busy)
                        slot_send(w, &w->slots[i]);
        fe_kick(q);
        n = worker_reap(w);
        if (n < 0)
                w->result = n;
        else if (n == 0)
                fe_wait(q, 20);
}

static void *worker_main(void *opaque)
{
        struct worker *w = opaque;
        uint64_t moved = clock_ns();
        unsigned long last = 0;

        while (w->result == 0 && (!w->stop || fe_in_flight(fe_queue(w->fe, w->queue)))) {
                if (w->hold) {
                        w->held = true;
                        usleep(100);
                        moved = clock_ns();
                        continue;
                }
                w->held = false;
                worker_round(w);
                if (w->answered != last) {
                        if (clock_ns() - moved > w->longest_ns)
                                w->longest_ns = clock_ns() - moved;
                        moved = clock_ns();
                }
                last = w->answered;
                if (clock_ns() - moved > PATIENCE_NS)
                        w->result = err_note(-ETIMEDOUT, "%u requests were not answered within 60 s",
                                             fe_in_flight(fe_queue(w->fe, w->queue)));
        }
        if (w->result < 0)
                snprintf(w->why, sizeof(w->why), "%s", err_text(w->result));
        w->held = true;
        return NULL;
}

int worker_start(struct worker *w)
{
        w->rng.state = w->seed;
        for (unsigned i = 0; i < WORKER_DEPTH; i++) {
                struct worker_slot *s = &w->slots[i];

                s->area = fe_alloc(w->fe, HDR_LEN + DATA_MAX + 1, 16);
                if (!s->area)
                        return err_note(-ENOMEM, "no guest memory for a worker");
                s->area_gpa = fe_gpa(w->fe, s->area);
        }
        return -pthread_create(&w->thread, NULL, worker_main, w);
}

void worker_hold(struct worker *w)
{
        w->hold = true;
        while (!w->held)
                usleep(100);
}

void worker_go(struct worker *w)
{
        w->held = false;
        w->hold = false;
}

int worker_stop(struct worker *w)
{
        w->stop = true;
        pthread_join(w->thread, NULL);
        if (w->result < 0)
                return err_note(w->result, "worker on queue %u (seed %llu): %s", w->queue, (unsigned long long)w->seed,
                                w->why);
        if (w->failed || w->wrong)
                return err_note(-EIO, "worker on queue %u (seed %llu): %lu requests failed, %lu sectors were wrong",
                                w->queue, (unsigned long long)w->seed, w->failed, w->wrong);
        return 0;
}

int worker_wait(struct worker *w, unsigned long more)
{
        unsigned long want = w->answered + more;
        uint64_t deadline = clock_ns() + PATIENCE_NS;

        while (w->answered < want) {
                if (clock_ns() > deadline || w->result < 0)
                        return err_note(-ETIMEDOUT, "worker on queue %u stands still", w->queue);
                usleep(500);
        }
        return 0;
}
