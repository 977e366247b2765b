/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exchange.h - the guests of a volume go on with another one, which shows the same bytes: their ports move, with what
 * waits there. What is the image's stays where it is: flushes under way, bitmaps, failure, events. What is the guests'
 * goes along: counters, limits, and what a full disk means to them.
 */
#pragma once

#include <stdatomic.h>

#include "blkq/home/writer.h"

struct vol_port;

/* Memory of the caller's. */
struct ports_move {
        struct vol *from, *to;
        void (*done)(struct ports_move *m);
        unsigned left;
        struct waiter wait;
};

/**
 * vol_move_ports - home of @m->from, which is held, lightly at least. Both have the same size, and no backup. Each port's requests go
 * on as soon as it has moved. @m->done: home of @m->from, still held: nobody uses it now. Who attaches to it attaches to @m->to until
 * vol_ports_moved(), which whoever names the volume to others calls when all of them have learned the new name; any thread.
 */
void vol_move_ports(struct ports_move *m);
void vol_ports_moved(struct vol *from);

/* Can their guests go on with each other's image? Control thread, any time. 0 or -errno with a sentence. */
int vol_exchange_check(struct vol *a, struct vol *b);

/* Not any more: what settled the volume wound its image down. A worker, the volume is held. 0 or -errno with a
 * sentence: the image is gone, and all requests fail. */
int vol_reload(struct vol *v);

void exchange_port_init(struct vol_port *p); /* for port.c: a port that has just come */
