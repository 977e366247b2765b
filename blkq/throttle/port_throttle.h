/* SPDX-License-Identifier: BSD-3-Clause */
/* port_throttle.h - requests of a port that wait for their turn under limits. Port's thread unless it says
 * otherwise. */
#pragma once

#include "blkq/vol_impl.h"

/* p->throttle: true: it is started later, from here */
bool port_throttle_waits(struct vol_port *p, struct blk_req *req);
bool port_throttle_has_waiters(const struct vol_port *p);
void port_throttle_hold(struct vol_port *p); /* nothing is started until port_throttle_go() */
void port_throttle_go(struct vol_port *p);
int port_throttle_init(struct vol_port *p);  /* v->lock is held. -ENOMEM */
void port_throttle_finish(struct vol_port *p);
