/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sockets for another process, with what of a message has arrived and what of one is not sent yet. Header and payload
 * of a wire_msg are apart in memory; on the socket, and here, one follows the other.
 *
 * Not packed, since it is made anew: loop watch patience message gone done; held parked (a parked wire is not held); odd_fds.
 */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vhost_user/session/session_pack.h"

#define HEADER sizeof(struct vu_header)


/* The first @len bytes of it. */
static json_t *message_pack(const struct wire_msg *m, size_t len, struct parcel *p)
{
        char flat[HEADER + sizeof(union vu_payload)];
        json_t *fds = json_array();

        memcpy(flat, &m->hdr, HEADER);
        memcpy(flat + HEADER, &m->p, sizeof(m->p));
        for (unsigned i = 0; i < m->nfds; i++)
                parcel_append(p, fds, json_pack("{s:i}", "fd", parcel_put_fd(p, m->fd[i])));
        return json_pack("{s:o,s:o}", "bytes", parcel_bytes(flat, len), "fds", fds);
}

static int message_unpack(struct wire_msg *m, size_t *len, struct parcel *p, const json_t *o)
{
        char flat[HEADER + sizeof(union vu_payload)] = { 0 };
        const json_t *fds;
        int r = parcel_get_bytes(o, "bytes", flat, sizeof(flat), len);

        if (r == 0)
                r = parcel_get_array(o, "fds", &fds);
        if (r == 0 && json_array_size(fds) > VU_MAX_FDS)
                r = err_note(-EBADMSG, "a message with %zu descriptors", json_array_size(fds));
        for (size_t i = 0; r == 0 && i < json_array_size(fds); i++) {
                r = parcel_take_fd(p, json_array_get(fds, i), "fd", false, &m->fd[i]);
                m->nfds += r == 0;
        }
        memcpy(&m->hdr, flat, HEADER);
        memcpy(&m->p, flat + HEADER, sizeof(m->p));
        return r;
}

json_t *wire_pack(const struct wire *w, struct parcel *p)
{
        return json_pack("{s:i,s:o,s:o,s:o}", "fd", parcel_put_fd(p, w->fd), "in", message_pack(&w->msg, w->have, p), "out",
                         message_pack(&w->reply, w->reply_len, p), "sent", parcel_u64(w->reply_len ? w->reply_sent : 0));
}

int wire_unpack(struct wire *w, struct loop *l, struct parcel *p, const json_t *o)
{
        const json_t *in, *out;
        uint64_t sent;
        int fd, r = parcel_take_fd(p, o, "fd", false, &fd);

        if (r == 0)
                r = wire_open(w, l, fd);
        if (r < 0)
                return r;
        wire_park(w);
        r = parcel_get_object(o, "in", false, &in);
        if (r == 0)
                r = message_unpack(&w->msg, &w->have, p, in);
        if (r == 0)
                r = parcel_get_object(o, "out", false, &out);
        if (r == 0)
                r = message_unpack(&w->reply, &w->reply_len, p, out);
        if (r == 0)
                r = parcel_get_u64(o, "sent", w->reply_len, &sent);
        if (r == 0 && w->have >= HEADER && w->msg.hdr.size > sizeof(union vu_payload))
                r = err_note(-EBADMSG, "half a message that announces %u bytes", w->msg.hdr.size);
        if (r == 0 && w->have >= HEADER + w->msg.hdr.size)
                r = err_note(-EBADMSG, "%zu bytes of half a message of %zu", w->have, HEADER + w->msg.hdr.size);
        w->reply_sent = r == 0 ? sent : 0;
        return r;
}

json_t *back_channel_pack(const struct back_channel *c, struct parcel *p)
{
        return json_pack("{s:i,s:b,s:b,s:o,s:o,s:o}", "fd", parcel_put_fd(p, c->fd), "busy", c->busy, "ack", c->ack, "out",
                         parcel_bytes(&c->out, sizeof(c->out)), "sent", parcel_u64(c->sent), "in",
                         parcel_bytes(&c->in, c->have));
}

int back_channel_unpack(struct back_channel *c, struct loop *l, struct parcel *p, const json_t *o)
{
        uint64_t sent;
        size_t len;
        int fd, r = parcel_take_fd(p, o, "fd", true, &fd);

        if (r < 0 || fd < 0)
                return r;
        r = back_channel_open(c, l, fd);
        if (r < 0)
                return r;
        back_channel_park(c);
        r = parcel_get_bool(o, "busy", &c->busy);
        if (r == 0)
                r = parcel_get_bool(o, "ack", &c->ack);
        if (r == 0)
                r = parcel_get_bytes(o, "out", &c->out, sizeof(c->out), &len);
        if (r == 0)
                r = parcel_get_bytes(o, "in", &c->in, sizeof(c->in), &c->have);
        if (r == 0)
                r = parcel_get_u64(o, "sent", sizeof(c->out), &sent);
        if (r == 0 && c->out.hdr.size > sizeof(c->out.p))
                r = err_note(-EBADMSG, "a message of %u bytes on the back-end channel", c->out.hdr.size);
        if (r == 0 && c->have >= HEADER + sizeof(uint64_t))
                r = err_note(-EBADMSG, "%zu bytes of half an answer on the back-end channel", c->have);
        c->sent = r == 0 ? sent : 0;
        return r;
}
