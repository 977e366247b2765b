/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.h - one front end on one socket, from accept() until its last request is done and its memory is unmapped.
 * Control thread only.
 */
#pragma once

#include "common/loop.h"
#include "vhost_user/device.h"

struct session;

/**
 * session_new - speak vhost-user on @fd (connected; taken, also on failure) for @dev.
 * @ended: called once, from the loop, when nothing of the session is left but the struct; it is freed right after.
 * Returns 0 or -errno.
 */
int session_new(struct loop *l, struct vu_device *dev, int fd, void (*ended)(void *opaque), void *opaque,
                struct session **ret);

/* Hang up, let the rings finish what they have, then ended(). Once or more often. */
void session_close(struct session *s);

/* Is it closing, or has its peer hung up (which we may not have read yet)? */
bool session_is_over(const struct session *s);

/*
 * The device's config space is another one now: the front end is told, if it gave us a way to (SET_BACKEND_REQ_FD), as soon
 * as a ring runs; it then reads the config again. Changes that come close together are told once.
 */
void session_config_changed(struct session *s);

/*
 * Stand still: the message in hand is answered, what the rings have taken completes, and then nothing of the session moves
 * until session_resume(): no message is read, no request taken. @parked is called once, from the loop or from here; it is not
 * when the session ends first. A parked session may be closed, or packed to go on in another process (session_pack.h).
 */
void session_park(struct session *s, void (*parked)(void *opaque), void *opaque);
void session_resume(struct session *s);

bool session_is_awake(const struct session *s);   /* has it woken a device that sleeps while nobody needs it? */
bool session_is_logging(const struct session *s); /* is its guest being moved to another host? */
