/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dialer.h - connect to a front end that listens, and try again until it does: at first often, then once a second.
 * Control thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"

struct dialer {
        struct loop *loop;
        const char *path, *name; /* where it listens; of the disk, for log lines. Both kept by reference */
        void (*connected)(struct dialer *d, int fd); /* fd: the callee's, non-blocking */

        struct loop_timer timer;
        uint64_t pause_ns, connected_ns;
        bool told; /* that nobody is there */
};

/* loop, path, name and connected are set. connected() is called from the loop, once for each start. */
void dialer_init(struct dialer *d);
void dialer_start(struct dialer *d);
void dialer_stop(struct dialer *d);
