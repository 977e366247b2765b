/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session_pack.h - a parked session for another process, which goes on where this one stopped: sockets with half
 * messages, memory, the in-flight record, rings. The one place that knows what a session consists of: tests/rules fails
 * when a field of its structs is neither packed nor named as one that need not be. Control thread only.
 */
#pragma once

#include "common/parcel.h"
#include "vhost_user/session/session.h"
#include "vhost_user/session/wire.h"
#include "vhost_user/session/back_channel.h"

/* @s is parked. Its descriptors are borrowed: it stays whole. NULL: no memory. */
json_t *session_pack(const struct session *s, struct parcel *p);

/**
 * session_unpack - a parked session from @o; session_resume() makes it go on.
 * Returns 0 or -errno with a sentence: -EBADMSG (makes no sense), -EPROTO (it negotiated what @dev does not have).
 */
int session_unpack(struct loop *l, struct vu_device *dev, struct parcel *p, const json_t *o, void (*ended)(void *opaque),
                   void *opaque, struct session **ret);

/* channel_pack.c: its two sockets. unpack: parked. */
json_t *wire_pack(const struct wire *w, struct parcel *p);
int wire_unpack(struct wire *w, struct loop *l, struct parcel *p, const json_t *o);
json_t *back_channel_pack(const struct back_channel *c, struct parcel *p);
int back_channel_unpack(struct back_channel *c, struct loop *l, struct parcel *p, const json_t *o);
