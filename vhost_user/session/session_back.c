/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a session tells its front end unasked, one message after the other. While no ring runs the device is suspended and
 * says nothing (vhost-user, "Ring states"); what there is to say waits.
 */
#include <errno.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vhost_user/session/session_impl.h"

static bool is_suspended(const struct session *s)
{
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running)
                        return false;
        return true;
}

/* One ring's bell, in turn. In-band notifications go with REPLY_ACK only. */
static void say_bell(struct session *s)
{
        for (unsigned i = 0; i < s->dev->num_queues; i++) {
                struct ring *r = &s->ring[(s->next_bell + i) % s->dev->num_queues];
                struct vu_vring_state state = { .index = r->index };
                bool err = r->err_due;

                if (!err && !r->call_due)
                        continue;
                *(err ? &r->err_due : &r->call_due) = false;
                s->next_bell = r->index + 1;
                back_channel_send(&s->back, err ? VU_BACK_VRING_ERR : VU_BACK_VRING_CALL, &state, sizeof(state), true);
                return;
        }
}

void session_back_say(struct session *s)
{
        bool ack = s->protocol_features >> VU_PF_REPLY_ACK & 1;
        struct vu_iotlb miss;

        if (!back_channel_idle(&s->back) || is_suspended(s))
                return;
        if (session_iotlb_next_miss(s, &miss)) /* these are waited for */
                back_channel_send(&s->back, VU_BACK_IOTLB_MSG, &miss, sizeof(miss), ack);
        else if (TAKE(s->config_changed, false))
                back_channel_send(&s->back, VU_BACK_CONFIG_CHANGE, NULL, 0, ack);
        else
                say_bell(s);
}

/* In-band notifications; what comes while one is due is the same one. */
void session_rung(struct ring *r, bool err)
{
        *(err ? &r->err_due : &r->call_due) = true;
        session_back_say(r->owner);
}

static void on_said(struct back_channel *c, int res)
{
        struct session *s = container_of(c, struct session, back);

        if (res < 0 && c->out.hdr.request == VU_BACK_IOTLB_MSG && s->iotlb) {
                iotlb_refused(s->iotlb, c->out.p.iotlb.iova, c->out.p.iotlb.perm);
                session_iotlb_retry(s);
        }
        if (res < 0)
                log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: the front end refused message %u of ours", s->dev->name,
                            c->out.hdr.request);
        session_back_say(s);
}

static void on_channel_gone(struct back_channel *c, int reason)
{
        struct session *s = container_of(c, struct session, back);

        if (reason < 0)
                log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: back-end channel closed: %s", s->dev->name, err_text(reason));
        err_clear();
}

/* A new channel takes the old one's place. */
int session_set_backend_req_fd(struct session *s, struct wire_msg *m)
{
        back_channel_close(&s->back);
        if (s->iotlb)
                iotlb_ask_again(s->iotlb);
        return back_channel_open(&s->back, s->loop, wire_take_fd(m, 0));
}

void session_config_changed(struct session *s)
{
        s->config_changed = true;
        session_back_say(s);
}

void session_back_init(struct session *s)
{
        s->back.fd = -1;
        s->back.done = on_said;
        s->back.gone = on_channel_gone;
}

void session_back_close(struct session *s)
{
        back_channel_close(&s->back);
}
