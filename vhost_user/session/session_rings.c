/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a front end says about rings. Here are orders given; their answers come back to session.c.
 *
 * Invariant: each handler that names a ring gets it from ring_of() or idle_ring_of(), so the index was checked.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fd_kind.h"
#include "vhost_user/session/session_impl.h"

/* --- orders ------------------------------------------------------------------------------------------------------ */

void session_order(struct session *s, struct ring *r, const struct ring_order *o)
{
        s->pending++;
        ring_order(r, o);
}

int session_order_view(struct session *s, struct ring *r, enum ring_order_kind kind)
{
        struct ring_order o = { .kind = kind, .fd = -1, .enable = r->enabled, .broken = r->broken };
        int res = kind == RING_START ? session_log_order(s, r, &o) : 0;

        if (res < 0)
                return res;
        o.view = mem_view_new(s->loop, s->mem);
        if (!o.view) {
                closep(&o.fd);
                return -ENOMEM;
        }
        session_order(s, r, &o);
        return 0;
}

static bool packed(const struct session *s)
{
        return s->features >> VIRTIO_F_RING_PACKED & 1;
}

/* Where a ring begins that nobody said anything about: a packed one in its first round, which has the wrap counters 1. */
static uint32_t base_of(const struct session *s, const struct ring *r)
{
        return r->has_base || !packed(s) ? r->base : 0x80008000u;
}

/*
 * A ring starts when its last piece is here. The protocol says "at the first kick"; we count SET_VRING_KICK as one, as
 * others do: after a reconnect requests wait in the ring and the guest has no reason to kick again.
 */
int session_start_if_ready(struct session *s, struct ring *r)
{
        if (!s->mem || !ring_ready(r))
                return 0;
        r->broken = false;
        return session_start(s, r);
}

int session_start(struct session *s, struct ring *r)
{
        int res = session_iotlb_check(s);

        if (res < 0)
                return res;
        r->layout.packed = packed(s);
        if (r->layout.packed && !(s->dev->features >> VIRTIO_F_RING_PACKED & 1))
                return err_note(-ENOTSUP, "queue %u: packed rings were never offered", r->index);
        r->features = s->features;
        r->base = base_of(s, r);
        r->has_base = true;
        r->inband = s->protocol_features >> VU_PF_INBAND_NOTIFICATIONS & 1;
        r->inflight = s->inflight;
        r->layout.record = inflight_part(s->inflight, r->index);
        if (s->inflight && !r->layout.record.at)
                return err_note(-EINVAL, "queue %u has no place in the in-flight record", r->index);
        return session_wake(s, r) ? session_order_view(s, r, RING_START) : 0;
}

int session_set_enabled(struct session *s, struct ring *r, bool on)
{
        if (r->enabled == on)
                return 0;
        r->enabled = on;
        if (!r->running)
                return session_start_if_ready(s, r);
        session_order(s, r, &(struct ring_order){ .kind = RING_ENABLE, .enable = on });
        return 0;
}

/* --- handlers: rings --------------------------------------------------------------------------------------------- */

/* The ring that a message means; NULL with a sentence. The index is decoded here and nowhere else. */
static struct ring *ring_of(struct session *s, uint32_t index)
{
        if (index < s->dev->num_queues)
                return &s->ring[index];
        err_note(-EINVAL, "queue %u does not exist; there are %u", index, s->dev->num_queues);
        return NULL;
}

static struct ring *idle_ring_of(struct session *s, uint32_t index)
{
        struct ring *r = ring_of(s, index);

        if (r && r->running) {
                err_note(-EINVAL, "queue %u is running; GET_VRING_BASE stops it", index);
                return NULL;
        }
        return r;
}

int session_set_vring_num(struct session *s, struct wire_msg *m)
{
        struct ring *r = idle_ring_of(s, m->p.state.index);

        if (!r)
                return -EINVAL;
        if (!vq_size_ok(m->p.state.num, packed(s)))
                return err_note(-EINVAL, "queue %u: a size of %u; it must be %s up to %d", r->index, m->p.state.num,
                                packed(s) ? "one" : "a power of two", VQ_MAX_SIZE);
        r->layout.num = m->p.state.num;
        return 0;
}

int session_set_vring_addr(struct session *s, struct wire_msg *m)
{
        const struct vu_vring_addr *a = &m->p.addr;
        struct ring *r = ring_of(s, a->index);
        const struct vq_layout *l = r ? &r->layout : NULL;

        if (!r)
                return -EINVAL;
        if (a->flags & ~VU_VRING_F_LOG)
                return err_note(-EINVAL, "queue %u: address flags 0x%x; only 0x%x is one", r->index, a->flags, VU_VRING_F_LOG);
        if (l->desc != a->desc || l->driver != a->avail || l->device != a->used)
                r = idle_ring_of(s, a->index);
        if (!r)
                return -EINVAL;
        r->layout.desc = a->desc;
        r->layout.driver = a->avail;
        r->layout.device = a->used;
        r->log_own = a->flags & VU_VRING_F_LOG;
        r->log_at = a->log;
        r->has_addr = true;
        return session_is_logging(s) ? session_log_change(s, r) : 0;
}

int session_set_vring_base(struct session *s, struct wire_msg *m)
{
        struct ring *r = idle_ring_of(s, m->p.state.index);

        if (!r)
                return -EINVAL;
        if (m->p.state.num > UINT16_MAX && !packed(s))
                return err_note(-EINVAL, "queue %u: base %u is no 16-bit index", r->index, m->p.state.num);
        r->base = m->p.state.num;
        r->has_base = true;
        r->has_stopped = false;
        return 0;
}

void session_answer_vring_base(struct session *s, const struct ring *r)
{
        s->answer.state = (struct vu_vring_state){ r->index, r->has_stopped ? r->stopped_at : base_of(s, r) };
        s->answer_len = sizeof(s->answer.state);
}

/* Stops the ring. The answer is filled in when it has drained (order_done). */
int session_get_vring_base(struct session *s, struct wire_msg *m)
{
        struct ring *r = ring_of(s, m->p.state.index);

        if (!r)
                return -EINVAL;
        session_answer_vring_base(s, r);
        session_order(s, r, &(struct ring_order){ .kind = RING_STOP });
        return 0;
}

/* KICK, CALL, ERR: which ring, and the fd (now the caller's; -1: the message says there is none). */
static struct ring *ring_with_fd(struct session *s, struct wire_msg *m, int *fd)
{
        struct ring *r = ring_of(s, (uint32_t)(m->p.u64 & VU_VRING_INDEX_MASK));
        bool none = m->p.u64 & VU_VRING_NO_FD;

        if (!r)
                return NULL;
        if (m->p.u64 & ~(uint64_t)(VU_VRING_INDEX_MASK | VU_VRING_NO_FD) || none == (m->nfds == 1)) {
                err_note(-EINVAL, "queue %u: 0x%" PRIx64 " with %u fds does not add up", r->index, m->p.u64, m->nfds);
                return NULL;
        }
        /* Writing to whatever a stranger sends could block or worse. */
        if (!none && fd_kind(m->fd[0]) != FD_EVENTFD) {
                err_note(-EINVAL, "queue %u: its fd is no eventfd", r->index);
                return NULL;
        }
        *fd = wire_take_fd(m, 0);
        return r;
}

int session_set_vring_kick(struct session *s, struct wire_msg *m)
{
        AUTO(closep) int fd = -1;
        struct ring *r = ring_with_fd(s, m, &fd);

        if (!r || !idle_ring_of(s, r->index))
                return -EINVAL;
        closep(&r->kick_fd);
        r->kick_fd = TAKE(fd, -1);
        r->polled = r->kick_fd < 0;
        r->has_kick = true;
        return session_start_if_ready(s, r);
}

/* In-band notifications: a kick, and also what starts a ring. */
int session_vring_kick(struct session *s, struct wire_msg *m)
{
        struct ring *r = ring_of(s, m->p.state.index);

        if (!r)
                return -EINVAL;
        if (m->p.state.num)
                return err_note(-EINVAL, "queue %u: VRING_KICK with %u in its reserved field", r->index, m->p.state.num);
        if (!r->running) {
                r->has_kick = true;
                return session_start_if_ready(s, r);
        }
        session_order(s, r, &(struct ring_order){ .kind = RING_KICK });
        return 0;
}

static int change_bell(struct session *s, struct wire_msg *m, enum ring_order_kind kind)
{
        int fd = -1;
        struct ring *r = ring_with_fd(s, m, &fd);

        if (!r)
                return -EINVAL;
        session_order(s, r, &(struct ring_order){ .kind = kind, .fd = fd });
        return 0;
}

int session_set_vring_call(struct session *s, struct wire_msg *m)
{
        return change_bell(s, m, RING_CALL);
}

int session_set_vring_err(struct session *s, struct wire_msg *m)
{
        return change_bell(s, m, RING_ERR);
}

int session_set_vring_enable(struct session *s, struct wire_msg *m)
{
        struct ring *r = ring_of(s, m->p.state.index);

        if (!r)
                return -EINVAL;
        if (m->p.state.num > 1)
                return err_note(-EINVAL, "queue %u: enable is 0 or 1, not %u", r->index, m->p.state.num);
        return session_set_enabled(s, r, m->p.state.num);
}

/* --- handlers: in-flight record --------------------------------------------------------------------------------- */

/*
 * The front end keeps what we make here, and gives it back with SET. Its queue_size is no help: QEMU says 128 and then sets
 * up rings of 1024. So there is room for any ring that we take.
 */
int session_get_inflight_fd(struct session *s, struct wire_msg *m)
{
        const struct vu_inflight *i = &m->p.inflight;
        uint64_t len;
        int fd;

        if (!i->num_queues || i->num_queues > s->dev->num_queues)
                return err_note(-EINVAL, "GET_INFLIGHT_FD for %u queues; there are %u", i->num_queues, s->dev->num_queues);
        fd = inflight_memfd(i->num_queues, &len);
        if (fd < 0)
                return fd;
        s->answer.inflight = (struct vu_inflight){
                .mmap_size = len, .num_queues = i->num_queues, .queue_size = i->queue_size,
        };
        s->answer_len = m->hdr.size;
        s->answer_fd = fd;
        return 0;
}

int session_set_inflight_fd(struct session *s, struct wire_msg *m)
{
        const struct vu_inflight *i = &m->p.inflight;
        struct inflight_map *map;
        int r;

        for (unsigned q = 0; q < s->dev->num_queues; q++)
                if (s->ring[q].running)
                        return err_note(-EINVAL, "SET_INFLIGHT_FD while queue %u is running", q);
        if (i->num_queues > s->dev->num_queues)
                return err_note(-EINVAL, "SET_INFLIGHT_FD for %u queues; there are %u", i->num_queues, s->dev->num_queues);
        r = inflight_map_new(m->fd[0], i->mmap_offset, i->mmap_size, i->num_queues, &map);
        if (r < 0)
                return r;
        inflight_map_free(s->inflight);
        s->inflight = map;
        return 0;
}

/* --- handlers: reset ------------------------------------------------------------------------------------------------ */

/*
 * No ring runs. What the front end tells only once stays: memory (it would not send it again), protocol features, owner. So
 * does where each ring stopped: QEMU 7.2 resets by SET_STATUS when it stops a device, to migrate it too, and asks
 * GET_VRING_BASE after that.
 */
static void forget_setup(struct session *s)
{
        for (unsigned i = 0; i < s->dev->num_queues; i++) {
                struct ring *r = &s->ring[i];

                closep(&r->kick_fd);
                r->kick_fd = -1;
                r->layout = (struct vq_layout){ 0 };
                r->inflight = NULL;
                r->base = 0;
                r->enabled = r->has_addr = r->has_base = r->has_kick = r->polled = r->log_own = false;
                r->call_due = r->err_due = false;
        }
        inflight_map_free(TAKE(s->inflight, NULL));
        s->features = 0;
        s->status = 0;
}

/* Requests in flight complete first. */
int session_reset_device(struct session *s, struct wire_msg *m)
{
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running || s->ring[i].has_bell)
                        session_order(s, &s->ring[i], &(struct ring_order){ .kind = RING_STOP });
        s->then = forget_setup;
        return 0;
}

int session_get_status(struct session *s, struct wire_msg *m)
{
        return session_answer_u64(s, s->status);
}

/* Writing 0 is how a driver resets its device. */
int session_set_status(struct session *s, struct wire_msg *m)
{
        if (m->p.u64 > UINT8_MAX)
                return err_note(-EINVAL, "a device status of 0x%" PRIx64 "; it has eight bits", m->p.u64);
        s->status = (uint8_t)m->p.u64;
        return s->status ? 0 : session_reset_device(s, m);
}
