/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Not packed, and why:
 *   of a session: loop dev ended opaque end_task ring: made anew; closing stops_sent pending request need_reply result
 *     then answer answer_len answer_fd orders_done park_done park_opaque parked waking old_log: a parked session is between
 *     two messages; next_bell: any turn is fair; log: while there is one, it does not go to another process; iotlb retry: the
 *     rings ask again; state_fd state_ok: a transfer that is under way fails
 *   of a ring: dev loop thread share done done_with owner trouble held rung missing order order_task done_task trouble_task held_task ordered waits: made anew;
 *     has_iommu unmapped virgin starved busy hits late nlate miss_posted retry_posted miss_task retry_task
 *     vq view priv kick poller round_end poll_timer started popping watching hook_set wrote stopping bell_waits guard_seen
 *     trouble_why trouble_memory features inflight inband running marked has_marked: of a ring that runs, set again by its START;
 *     told: it is "broken" once parked
 *   of a layout: record: found again by the ring's index; packed: by the features
 */
#include "vhost_user/session/session_pack.h"

#include <errno.h>
#include <linux/virtio_config.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vhost_user/session/session_impl.h"

/* --- rings -------------------------------------------------------------------------------------------------------- */

static json_t *ring_pack(const struct ring *r, struct parcel *p)
{
        const struct vq_layout *at = &r->layout;

        return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:b,s:i,s:i,s:i}",
                         "index", parcel_u64(r->index), "num", parcel_u64(at->num), "desc", parcel_u64(at->desc),
                         "driver", parcel_u64(at->driver), "device", parcel_u64(at->device), "base", parcel_u64(r->base),
                         "stopped-at", parcel_u64(r->stopped_at), "log-at", parcel_u64(r->log_at),
                         "has-stopped", r->has_stopped, "log-own", r->log_own,
                         "has-addr", r->has_addr, "has-base", r->has_base, "has-kick", r->has_kick,
                         "has-bell", r->has_bell, "enabled", r->enabled,
                         "polled", r->polled, "call-due", r->call_due, "err-due", r->err_due,
                         "call-said", r->call.said, "err-said", r->err.said,
                         "parked", r->parked, "broken", r->broken, "kick", parcel_put_fd(p, r->kick_fd),
                         "call", parcel_put_fd(p, r->call.fd), "err", parcel_put_fd(p, r->err.fd));
}

static bool is_untouched(const struct ring *r)
{
        return !r->layout.num && !r->has_addr && !r->has_kick && !r->has_bell && !r->enabled &&
               !r->has_base && !r->base && !r->has_stopped;
}

static int unpack_place(struct ring *r, const json_t *o)
{
        struct vq_layout *at = &r->layout;
        int res = parcel_get_unsigned(o, "num", UINT16_MAX, &at->num);

        if (res == 0)
                res = parcel_get_u64(o, "desc", UINT64_MAX, &at->desc);
        if (res == 0)
                res = parcel_get_u64(o, "driver", UINT64_MAX, &at->driver);
        if (res == 0)
                res = parcel_get_u64(o, "device", UINT64_MAX, &at->device);
        if (res == 0)
                res = parcel_get_unsigned(o, "base", UINT32_MAX, &r->base);
        if (res == 0)
                res = parcel_get_unsigned(o, "stopped-at", UINT32_MAX, &r->stopped_at);
        if (res == 0)
                res = parcel_get_u64(o, "log-at", UINT64_MAX, &r->log_at);
        return res;
}

static int unpack_flags(struct ring *r, const json_t *o)
{
        struct { const char *key; bool *flag; } flags[] = {
                { "has-addr", &r->has_addr }, { "has-base", &r->has_base }, { "has-kick", &r->has_kick },
                { "has-bell", &r->has_bell }, { "has-stopped", &r->has_stopped }, { "log-own", &r->log_own },
                { "polled", &r->polled }, { "call-due", &r->call_due }, { "err-due", &r->err_due },
                { "call-said", &r->call.said }, { "err-said", &r->err.said },
                { "enabled", &r->enabled }, { "parked", &r->parked }, { "broken", &r->broken },
        };
        int res = 0;

        for (size_t i = 0; res == 0 && i < ARRAY_SIZE(flags); i++)
                res = parcel_get_bool(o, flags[i].key, flags[i].flag);
        return res;
}

static int ring_unpack(struct ring *r, struct parcel *p, const json_t *o)
{
        int res = unpack_place(r, o);

        if (res == 0)
                res = unpack_flags(r, o);
        if (res == 0)
                res = parcel_take_fd(p, o, "kick", true, &r->kick_fd);
        if (res == 0)
                res = parcel_take_fd(p, o, "call", true, &r->call.fd);
        if (res == 0)
                res = parcel_take_fd(p, o, "err", true, &r->err.fd);
        if (res == 0 && r->parked && !(r->layout.num && r->has_addr && r->has_kick))
                res = err_note(-EBADMSG, "queue %u ran without all it needs", r->index);
        if (res == 0 && !r->has_bell && (r->call.fd >= 0 || r->err.fd >= 0))
                res = err_note(-EBADMSG, "queue %u has a bell, and has none", r->index);
        return res < 0 ? err_prefix(res, "queue %u: ", r->index) : 0;
}

static int rings_unpack(struct session *s, struct parcel *p, const json_t *rings)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < json_array_size(rings); i++) {
                const json_t *o = json_array_get(rings, i);
                unsigned index = 0;

                r = parcel_get_unsigned(o, "index", s->dev->num_queues - 1, &index);
                if (r == 0 && !is_untouched(&s->ring[index]))
                        r = err_note(-EBADMSG, "queue %u twice", index);
                if (r == 0)
                        r = ring_unpack(&s->ring[index], p, o);
                if (r == 0 && s->ring[index].layout.num &&
                    !vq_size_ok(s->ring[index].layout.num, s->features >> VIRTIO_F_RING_PACKED & 1))
                        r = err_note(-EBADMSG, "queue %u of %u entries", index, s->ring[index].layout.num);
                if (r == 0 && s->ring[index].parked && !s->mem)
                        r = err_note(-EBADMSG, "queue %u ran without memory", index);
        }
        return r;
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

json_t *session_pack(const struct session *s, struct parcel *p)
{
        json_t *rings;

        if (session_is_logging(s))
                return NULL; /* a guest on the move: upgrade_start() does not begin then */
        rings = json_array();
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (!is_untouched(&s->ring[i]))
                        parcel_append(p, rings, ring_pack(&s->ring[i], p));
        return json_pack("{s:o,s:o,s:o,s:b,s:b,s:b,s:o,s:o,s:i,s:o,s:o?,s:o?,s:o}", "features", parcel_u64(s->features),
                         "protocol-features", parcel_u64(s->protocol_features), "offered", parcel_u64(s->dev->features),
                         "owned", s->owned, "config-changed", s->config_changed, "awake", s->awake,
                         "status", parcel_u64(s->status),
                         "wire", wire_pack(&s->wire, p), "log-fd", parcel_put_fd(p, s->log_fd), "back", back_channel_pack(&s->back, p),
                         "mem", s->mem ? mem_table_pack(s->mem, p) : NULL,
                         "inflight", s->inflight ? inflight_map_pack(s->inflight, p) : NULL, "rings", rings);
}

/* A guest cannot lose what it was promised: a program that cannot do all of it is not our successor. */
static int unpack_features(struct session *s, const json_t *o)
{
        uint64_t offered;
        unsigned status = 0;
        int r = parcel_get_u64(o, "features", UINT64_MAX, &s->features);

        if (r == 0)
                r = parcel_get_u64(o, "protocol-features", UINT64_MAX, &s->protocol_features);
        if (r == 0)
                r = parcel_get_u64(o, "offered", UINT64_MAX, &offered);
        if (r == 0)
                r = parcel_get_unsigned(o, "status", UINT8_MAX, &status);
        if (r == 0)
                r = parcel_get_bool(o, "owned", &s->owned);
        if (r == 0)
                r = parcel_get_bool(o, "config-changed", &s->config_changed);
        if (r == 0)
                r = parcel_get_bool(o, "awake", &s->awake);
        if (r < 0)
                return r;
        s->status = (uint8_t)status;
        if (s->awake && !s->dev->ops->rest)
                return err_note(-EBADMSG, "'awake': this device does not sleep");
        if (s->features & offered & ~s->dev->features || s->protocol_features & ~session_protocol_features(s->dev))
                return err_note(-EPROTO, "features were negotiated that this version does not have: 0x%llx, protocol 0x%llx",
                                (unsigned long long)(s->features & offered & ~s->dev->features),
                                (unsigned long long)(s->protocol_features & ~session_protocol_features(s->dev)));
        return 0;
}

static int unpack_memory(struct session *s, struct parcel *p, const json_t *o)
{
        const json_t *mem = json_object_get(o, "mem"), *inflight;
        int r = parcel_get_object(o, "inflight", true, &inflight);

        if (r == 0)
                r = parcel_take_fd(p, o, "log-fd", true, &s->log_fd);
        if (r == 0 && json_is_array(mem))
                r = mem_table_unpack(p, mem, &s->mem);
        if (r == 0 && inflight)
                r = inflight_map_unpack(p, inflight, &s->inflight);
        if (r == 0)
                r = session_iotlb_features(s, s->features);
        session_iotlb_adopt(s);
        return r;
}

static int unpack_all(struct session *s, struct parcel *p, const json_t *o)
{
        const json_t *wire, *back, *rings;
        int r = unpack_features(s, o);

        if (r == 0)
                r = unpack_memory(s, p, o);
        if (r == 0)
                r = parcel_get_array(o, "rings", &rings);
        if (r == 0)
                r = rings_unpack(s, p, rings);
        if (r == 0)
                r = parcel_get_object(o, "wire", false, &wire);
        if (r == 0)
                r = wire_unpack(&s->wire, s->loop, p, wire);
        if (r == 0)
                r = parcel_get_object(o, "back", false, &back);
        return r < 0 ? r : back_channel_unpack(&s->back, s->loop, p, back);
}

/* Nothing of it ever moved, so nobody need be asked. */
static void unpacked_free(struct session *s)
{
        wire_close(&s->wire);
        session_back_close(s);
        for (unsigned i = 0; i < s->dev->num_queues; i++) {
                closep(&s->ring[i].kick_fd);
                closep(&s->ring[i].call.fd);
                closep(&s->ring[i].err.fd);
        }
        mem_table_put(s->mem);
        inflight_map_free(s->inflight);
        session_log_finish(s);
        iotlb_free(s->iotlb);
        free(s);
}

int session_unpack(struct loop *l, struct vu_device *dev, struct parcel *p, const json_t *o, void (*ended)(void *opaque),
                   void *opaque, struct session **ret)
{
        struct session *s = session_alloc(l, dev, ended, opaque);
        int r;

        if (!s)
                return -ENOMEM;
        s->wire.fd = -1;
        r = unpack_all(s, p, o);
        if (r < 0) {
                unpacked_free(s);
                return r;
        }
        s->parked = true;
        *ret = s;
        return 0;
}
