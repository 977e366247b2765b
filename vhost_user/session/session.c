/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A message is answered before the next one is read. A handler that must wait for queue threads gives them orders and
 * returns; the wire is held, and the answer goes out when the last order came back:
 *
 *   READY -> handler -> (orders out: WAITING) -> answer -> READY
 *     any of them -> CLOSING: wire closed, rings are stopped and drained -> ended
 *
 * Invariants:
 *   - pending is the number of orders out; while it is not 0 no message is handled and nothing is freed.
 *   - Only rings that answered START run; the rings of a session are its own, so no ring outlives it.
 */
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vhost_user/memory/mem_guard.h"
#include "vhost_user/session/closer.h"
#include "vhost_user/session/session_impl.h"

#define PROTOCOL_FEATURES                                                                        \
        (1ull << VU_PF_MQ | 1ull << VU_PF_LOG_SHMFD | 1ull << VU_PF_REPLY_ACK | 1ull << VU_PF_BACKEND_REQ | \
         1ull << VU_PF_CONFIG | 1ull << VU_PF_INFLIGHT_SHMFD | 1ull << VU_PF_RESET_DEVICE |          \
         1ull << VU_PF_INBAND_NOTIFICATIONS | 1ull << VU_PF_CONFIGURE_MEM_SLOTS | 1ull << VU_PF_STATUS | 1ull << VU_PF_DEVICE_STATE)

#define INBAND_NEEDS (1ull << VU_PF_BACKEND_REQ | 1ull << VU_PF_REPLY_ACK)

/* QEMU 7.2 and later complain of a config space behind devices that have theirs in the front end. */
uint64_t session_protocol_features(const struct vu_device *dev)
{
        return dev->ops->get_config ? PROTOCOL_FEATURES : PROTOCOL_FEATURES & ~(1ull << VU_PF_CONFIG);
}

/* --- handlers: features ------------------------------------------------------------------------------------------ */

int session_answer_u64(struct session *s, uint64_t v)
{
        s->answer.u64 = v;
        s->answer_len = sizeof(v);
        return 0;
}

static int get_features(struct session *s, struct wire_msg *m)
{
        return session_answer_u64(s, s->dev->features | 1ull << VU_F_PROTOCOL_FEATURES | 1ull << VU_F_LOG_ALL |
                                     1ull << VIRTIO_F_ACCESS_PLATFORM);
}

/* Bits we did not offer may come back set (front ends pass some of their own): they are no reason to refuse. */
static int set_features(struct session *s, struct wire_msg *m)
{
        bool logging = session_is_logging(s);
        int r = session_iotlb_features(s, m->p.u64);

        if (r < 0)
                return r;
        s->features = m->p.u64;
        if (s->dev->ops->features)
                s->dev->ops->features(s->dev, s->features);
        session_iotlb_adopt(s);
        if (session_is_logging(s) != logging) /* this bit changes while rings run */
                r = session_log_change_all(s);
        if (s->features >> VU_F_PROTOCOL_FEATURES & 1)
                return r;
        for (unsigned i = 0; i < s->dev->num_queues && r == 0; i++) /* nobody will say SET_VRING_ENABLE */
                r = session_set_enabled(s, &s->ring[i], true);
        return r;
}

static int get_protocol_features(struct session *s, struct wire_msg *m)
{
        return session_answer_u64(s, session_protocol_features(s->dev));
}

static int set_protocol_features(struct session *s, struct wire_msg *m)
{
        uint64_t offered = session_protocol_features(s->dev);

        if (m->p.u64 & ~offered)
                return err_note(-EINVAL, "protocol features 0x%" PRIx64 " were not all offered (0x%" PRIx64 " were)", m->p.u64,
                                offered);
        if (m->p.u64 >> VU_PF_INBAND_NOTIFICATIONS & 1 && (m->p.u64 & INBAND_NEEDS) != INBAND_NEEDS) {
                s->need_reply = false; /* the specification wants the connection closed */
                return err_note(-EPROTO, "in-band notifications without BACKEND_REQ and REPLY_ACK (0x%" PRIx64 ")", m->p.u64);
        }
        s->protocol_features = m->p.u64;
        return 0;
}

static int set_owner(struct session *s, struct wire_msg *m)
{
        s->owned = true;
        return 0;
}

/* Deprecated; the specification recommends to ignore it. */
static int reset_owner(struct session *s, struct wire_msg *m)
{
        return 0;
}

static int get_queue_num(struct session *s, struct wire_msg *m)
{
        return session_answer_u64(s, s->dev->num_queues - s->dev->uncounted_queues);
}

/* --- handlers: config space -------------------------------------------------------------------------------------- */

static int get_config(struct session *s, struct wire_msg *m)
{
        const struct vu_config *c = &m->p.config;

        if (c->size > VU_CONFIG_MAX)
                return err_note(-EINVAL, "GET_CONFIG of %u bytes; at most %d", c->size, VU_CONFIG_MAX);
        s->answer.config = (struct vu_config){ .offset = c->offset, .size = c->size, .flags = c->flags };
        s->answer_len = (uint32_t)VU_CONFIG_HEADER + c->size;
        return s->dev->ops->get_config(s->dev, c->offset, s->answer.config.region, c->size);
}

static int set_config(struct session *s, struct wire_msg *m)
{
        const struct vu_config *c = &m->p.config;
        int r;

        if (c->size > VU_CONFIG_MAX || m->hdr.size < VU_CONFIG_HEADER + c->size)
                return err_note(-EINVAL, "SET_CONFIG of %u bytes in a message of %u", c->size, m->hdr.size);
        r = s->dev->ops->set_config(s->dev, c->offset, c->region, c->size);
        s->config_changed |= r > 0;
        return r < 0 ? r : 0;
}

/* --- handlers: memory -------------------------------------------------------------------------------------------- */

/* Takes @mt. Running rings change over before the answer; rings that waited for memory start. */
static int adopt_memory(struct session *s, struct mem_table *mt)
{
        int r = 0;

        mem_table_put(s->mem);
        s->mem = mt;
        session_iotlb_adopt(s);
        for (unsigned i = 0; i < s->dev->num_queues && r == 0; i++)
                r = s->ring[i].running ? session_order_view(s, &s->ring[i], RING_MEMORY)
                                       : session_start_if_ready(s, &s->ring[i]);
        return r;
}

static int set_mem_table(struct session *s, struct wire_msg *m)
{
        const struct vu_mem_table *t = &m->p.mem_table;
        struct mem_table *mt;
        int r;

        if (t->nregions > VU_TABLE_REGIONS || t->nregions != m->nfds ||
            m->hdr.size < offsetof(struct vu_mem_table, region) + t->nregions * sizeof(t->region[0]))
                return err_note(-EINVAL, "SET_MEM_TABLE with %u regions, %u fds and %u bytes does not add up",
                                t->nregions, m->nfds, m->hdr.size);
        r = mem_table_replace(s->mem, t->region, m->fd, t->nregions, &mt);
        return r < 0 ? r : adopt_memory(s, mt);
}

static int get_max_mem_slots(struct session *s, struct wire_msg *m)
{
        return session_answer_u64(s, MEM_MAX_REGIONS);
}

static int add_mem_reg(struct session *s, struct wire_msg *m)
{
        struct mem_table *mt;
        int r = mem_table_add(s->mem, &m->p.mem_reg.region, m->fd[0], &mt);

        return r < 0 ? r : adopt_memory(s, mt);
}

/* May bring an fd for old times' sake; the wire closes it. */
static int rem_mem_reg(struct session *s, struct wire_msg *m)
{
        struct mem_table *mt;
        int r = mem_table_remove(s->mem, &m->p.mem_reg.region, &mt);

        return r < 0 ? r : adopt_memory(s, mt);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

enum state { ANY, OWNED }; /* OWNED: only after SET_OWNER */
#define NO_PF (-1)

static const struct handler {
        const char *name;
        int (*handle)(struct session *s, struct wire_msg *m);
        uint32_t min, max; /* bytes of payload */
        unsigned min_fds, max_fds;
        enum state state;
        int pf; /* the protocol feature that must be negotiated */
} handlers[VU_REQUEST_MAX] = {
#define U64 sizeof(uint64_t), sizeof(uint64_t)
#define STATE sizeof(struct vu_vring_state), sizeof(struct vu_vring_state)
#define MEM_REG sizeof(struct vu_mem_reg), sizeof(struct vu_mem_reg)
#define INFLIGHT VU_INFLIGHT_MIN, sizeof(struct vu_inflight)
        [VU_GET_FEATURES] = { "GET_FEATURES", get_features, 0, 0, 0, 0, ANY, NO_PF },
        [VU_SET_FEATURES] = { "SET_FEATURES", set_features, U64, 0, 0, ANY, NO_PF },
        [VU_SET_OWNER] = { "SET_OWNER", set_owner, 0, 0, 0, 0, ANY, NO_PF },
        [VU_RESET_OWNER] = { "RESET_OWNER", reset_owner, 0, 0, 0, 0, ANY, NO_PF },
        [VU_SET_MEM_TABLE] = { "SET_MEM_TABLE", set_mem_table, offsetof(struct vu_mem_table, region),
                               sizeof(struct vu_mem_table), 0, VU_TABLE_REGIONS, OWNED, NO_PF },
        [VU_SET_LOG_BASE] = { "SET_LOG_BASE", session_set_log_base, sizeof(struct vu_log), sizeof(struct vu_log), 1, 1, OWNED,
                              VU_PF_LOG_SHMFD },
        [VU_SET_LOG_FD] = { "SET_LOG_FD", session_set_log_fd, 0, sizeof(uint64_t), 1, 1, OWNED, NO_PF },
        [VU_SET_VRING_NUM] = { "SET_VRING_NUM", session_set_vring_num, STATE, 0, 0, OWNED, NO_PF },
        [VU_SET_VRING_ADDR] = { "SET_VRING_ADDR", session_set_vring_addr, sizeof(struct vu_vring_addr),
                                sizeof(struct vu_vring_addr), 0, 0, OWNED, NO_PF },
        [VU_SET_VRING_BASE] = { "SET_VRING_BASE", session_set_vring_base, STATE, 0, 0, OWNED, NO_PF },
        [VU_GET_VRING_BASE] = { "GET_VRING_BASE", session_get_vring_base, STATE, 0, 0, OWNED, NO_PF },
        [VU_SET_VRING_KICK] = { "SET_VRING_KICK", session_set_vring_kick, U64, 0, 1, OWNED, NO_PF },
        [VU_SET_VRING_CALL] = { "SET_VRING_CALL", session_set_vring_call, U64, 0, 1, OWNED, NO_PF },
        [VU_SET_VRING_ERR] = { "SET_VRING_ERR", session_set_vring_err, U64, 0, 1, OWNED, NO_PF },
        [VU_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", get_protocol_features, 0, 0, 0, 0, ANY, NO_PF },
        [VU_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", set_protocol_features, U64, 0, 0, ANY, NO_PF },
        [VU_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", get_queue_num, 0, 0, 0, 0, ANY, VU_PF_MQ },
        [VU_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", session_set_vring_enable, STATE, 0, 0, OWNED, NO_PF },
        [VU_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", session_set_backend_req_fd, 0, sizeof(uint64_t), 1, 1, ANY,
                                    VU_PF_BACKEND_REQ },
        [VU_IOTLB_MSG] = { "IOTLB_MSG", session_iotlb_msg, VU_IOTLB_MIN, sizeof(struct vu_iotlb), 0, 0, OWNED,
                           VU_PF_BACKEND_REQ },
        [VU_GET_CONFIG] = { "GET_CONFIG", get_config, VU_CONFIG_HEADER, sizeof(struct vu_config), 0, 0, ANY,
                            VU_PF_CONFIG },
        [VU_SET_CONFIG] = { "SET_CONFIG", set_config, VU_CONFIG_HEADER, sizeof(struct vu_config), 0, 0, ANY,
                            VU_PF_CONFIG },
        [VU_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", session_get_inflight_fd, INFLIGHT, 0, 0, ANY, VU_PF_INFLIGHT_SHMFD },
        [VU_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", session_set_inflight_fd, INFLIGHT, 1, 1, OWNED, VU_PF_INFLIGHT_SHMFD },
        [VU_RESET_DEVICE] = { "RESET_DEVICE", session_reset_device, 0, 0, 0, 0, OWNED, VU_PF_RESET_DEVICE },
        [VU_SET_STATUS] = { "SET_STATUS", session_set_status, U64, 0, 0, OWNED, VU_PF_STATUS },
        [VU_GET_STATUS] = { "GET_STATUS", session_get_status, 0, 0, 0, 0, OWNED, VU_PF_STATUS },
        [VU_VRING_KICK] = { "VRING_KICK", session_vring_kick, STATE, 0, 0, OWNED, VU_PF_INBAND_NOTIFICATIONS },
        [VU_SET_DEVICE_STATE_FD] = { "SET_DEVICE_STATE_FD", session_set_device_state_fd, sizeof(struct vu_device_state),
                                     sizeof(struct vu_device_state), 1, 1, OWNED, VU_PF_DEVICE_STATE },
        [VU_CHECK_DEVICE_STATE] = { "CHECK_DEVICE_STATE", session_check_device_state, 0, 0, 0, 0, OWNED,
                                    VU_PF_DEVICE_STATE },
        [VU_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", get_max_mem_slots, 0, 0, 0, 0, ANY, VU_PF_CONFIGURE_MEM_SLOTS },
        [VU_ADD_MEM_REG] = { "ADD_MEM_REG", add_mem_reg, MEM_REG, 1, 1, OWNED, VU_PF_CONFIGURE_MEM_SLOTS },
        [VU_REM_MEM_REG] = { "REM_MEM_REG", rem_mem_reg, MEM_REG, 0, 1, OWNED, VU_PF_CONFIGURE_MEM_SLOTS },
};

/* May this message come now and look like this? Returns its row, or NULL with a sentence. */
static const struct handler *handler_of(const struct session *s, const struct wire_msg *m)
{
        const struct handler *h = m->hdr.request < VU_REQUEST_MAX ? &handlers[m->hdr.request] : NULL;

        if (!h || !h->handle)
                err_note(-EPROTO, "message %u is not one we know", m->hdr.request);
        else if (m->hdr.size < h->min || m->hdr.size > h->max)
                err_note(-EPROTO, "%s with %u bytes; it has %u to %u", h->name, m->hdr.size, h->min, h->max);
        else if (m->nfds < h->min_fds || m->nfds > h->max_fds)
                err_note(-EPROTO, "%s with %u file descriptors; it has %u to %u", h->name, m->nfds, h->min_fds,
                         h->max_fds);
        else if (h->state == OWNED && !s->owned)
                err_note(-EPROTO, "%s before SET_OWNER", h->name);
        else if (h->pf != NO_PF && !(s->protocol_features >> h->pf & 1))
                err_note(-EPROTO, "%s, but protocol feature %d was not negotiated", h->name, h->pf);
        else
                return h;
        return NULL;
}

/* --- one message ------------------------------------------------------------------------------------------------- */

void session_close_because(struct session *s, int r)
{
        log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: front end closed: %s", s->dev->name, err_text(r));
        err_clear();
        session_close(s);
}

/* The handler and its orders are done. */
static void finish_message(struct session *s)
{
        bool ack = s->need_reply && s->protocol_features >> VU_PF_REPLY_ACK & 1;
        uint64_t refused;
        void (*then)(struct session *s) = TAKE(s->then, NULL);

        if (then)
                then(s);
        refused = s->result < 0;
        if (s->result < 0 && (s->answer_len || !ack)) { /* there is no way to say no: hang up, so that it is noticed */
                session_close_because(s, s->result);
                return;
        }
        if (s->result < 0)
                log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: %s refused: %s", s->dev->name, handlers[s->request].name,
                            err_text(s->result));
        err_clear();
        if (s->answer_len)
                wire_reply_fd(&s->wire, s->request, &s->answer, s->answer_len, TAKE(s->answer_fd, -1));
        else if (ack)
                wire_reply(&s->wire, s->request, &refused, sizeof(refused));
        wire_resume(&s->wire);
        if (s->retry)
                session_iotlb_retry(s);
        session_back_say(s);
        if (s->park_done)
                session_park_now(s);
}

static void on_message(struct wire *w, struct wire_msg *m)
{
        struct session *s = container_of(w, struct session, wire);
        const struct handler *h = handler_of(s, m);

        if (!h) {
                session_close_because(s, -EPROTO);
                return;
        }
        s->request = m->hdr.request;
        s->need_reply = m->hdr.flags & VU_NEED_REPLY;
        s->answer_len = 0;
        s->answer_fd = -1;
        s->orders_done = finish_message;
        s->result = h->handle(s, m);
        if (s->pending)
                wire_hold(w);
        else
                finish_message(s);
}

static void on_gone(struct wire *w, int reason)
{
        struct session *s = container_of(w, struct session, wire);

        if (w->odd_fds && closer_is_stuck()) { /* not again and again */
                log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: a file of a front end cannot be closed: whoever made it does not answer the "
                            "kernel", s->dev->name);
                atomic_store(&s->dev->held_us, true);
        }
        if (reason < 0) {
                session_close_because(s, reason);
                return;
        }
        log_limited(&s->dev->limit, LOG_LVL_INFO, "%s: front end disconnected", s->dev->name);
        session_close(s);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static void on_end(struct loop_task *t)
{
        struct session *s = container_of(t, struct session, end_task);
        void (*ended)(void *opaque) = s->ended;
        void *opaque = s->opaque;

        for (unsigned i = 0; i < s->dev->num_queues; i++)
                ring_finish(&s->ring[i]);
        mem_table_put(s->mem);
        inflight_map_free(s->inflight);
        session_log_finish(s);
        iotlb_free(s->iotlb);
        closep(&s->state_fd);
        free(s);
        ended(opaque);
}

/* The wire is closed and no order is out: stop what runs, then end. */
static void close_rings(struct session *s)
{
        for (unsigned i = 0; i < s->dev->num_queues && !s->stops_sent; i++)
                if (s->ring[i].running || s->ring[i].has_bell)
                        session_order(s, &s->ring[i], &(struct ring_order){ .kind = RING_STOP });
        s->stops_sent = true;
        if (!s->pending)
                loop_post(s->loop, &s->end_task); /* not at once: the wire may be on the stack */
}

void session_close(struct session *s)
{
        if (s->closing)
                return;
        s->closing = true;
        wire_close(&s->wire);
        session_back_close(s);
        if (!s->pending)
                close_rings(s);
}

bool session_is_over(const struct session *s)
{
        return s->closing || wire_hung_up(&s->wire);
}

static void order_done(struct ring *r, struct ring_order *o)
{
        struct session *s = r->owner;

        if (o->result < 0 && s->result == 0)
                s->result = err_note(o->result, "queue %u: %s", r->index, o->why);
        if (s->request == VU_GET_VRING_BASE && o->kind == RING_STOP)
                session_answer_vring_base(s, r);
        session_order_done(s);
}

void session_order_done(struct session *s)
{
        if (--s->pending || session_rest(s))
                return;
        if (s->closing)
                close_rings(s);
        else
                s->orders_done(s);
}

static void ring_trouble(struct ring *r, const char *why, bool memory_gone)
{
        struct session *s = r->owner;

        log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: queue %u is broken: %s", s->dev->name, r->index, why);
        if (memory_gone)
                session_close(s);
}

/* What it means for the disk is its owner's business. */
static void ring_held(struct ring *r)
{
        struct session *s = r->owner;

        log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: front end closed: an eventfd of queue %u was full, and was made blocking while it "
                    "was written to: that held up a queue thread", s->dev->name, r->index);
        session_close(s);
}

static void ring_missing(struct ring *r)
{
        session_back_say(r->owner);
}

struct session *session_alloc(struct loop *l, struct vu_device *dev, void (*ended)(void *opaque), void *opaque)
{
        struct session *s = guard_install() < 0 ? NULL : calloc(1, sizeof(*s) + dev->num_queues * sizeof(s->ring[0]));

        if (!s)
                return NULL;
        s->loop = l;
        s->dev = dev;
        s->ended = ended;
        s->opaque = opaque;
        s->end_task.run = on_end;
        s->log_fd = s->state_fd = -1;
        s->answer_fd = -1;
        session_back_init(s);
        for (unsigned i = 0; i < dev->num_queues; i++) {
                ring_init(&s->ring[i], dev, l, i);
                s->ring[i].done = order_done;
                s->ring[i].trouble = ring_trouble;
                s->ring[i].held = ring_held;
                s->ring[i].rung = session_rung;
                s->ring[i].missing = ring_missing;
                s->ring[i].owner = s;
        }
        s->wire.message = on_message;
        s->wire.gone = on_gone;
        return s;
}

int session_new(struct loop *l, struct vu_device *dev, int fd, void (*ended)(void *opaque), void *opaque,
                struct session **ret)
{
        AUTO(freep) struct session *s = session_alloc(l, dev, ended, opaque);
        int r;

        if (!s) {
                close(fd);
                return -ENOMEM;
        }
        r = wire_open(&s->wire, l, fd);
        if (r < 0)
                return r;
        *ret = TAKE(s, NULL);
        return 0;
}
