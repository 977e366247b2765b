/* SPDX-License-Identifier: BSD-3-Clause */
#include "vhost_user/door/dialer.h"

#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/path.h"
#include "common/range.h"

#define FIRST_PAUSE_NS (20 * NS_PER_MS)
#define LONGEST_PAUSE_NS NS_PER_SEC

static void try(struct loop_timer *t)
{
        struct dialer *d = list_entry(t, struct dialer, timer);
        int fd = path_connect(d->path);

        if (fd >= 0) {
                d->told = false;
                d->connected_ns = clock_ns();
                d->connected(d, fd);
                return;
        }
        if (!TAKE(d->told, true))
                log_info("%s: no front end listens on %s yet (%s); trying again", d->name, d->path, strerror(-fd));
        d->pause_ns = min_u64(d->pause_ns * 2, LONGEST_PAUSE_NS);
        loop_timer_set(d->loop, &d->timer, d->pause_ns);
}

void dialer_init(struct dialer *d)
{
        list_init(&d->timer.link);
        d->timer.fire = try;
        d->pause_ns = 0;
        d->connected_ns = 0;
        d->told = false;
}

/* A front end that hangs up as soon as it has accepted is not called more often than one that is not there. */
void dialer_start(struct dialer *d)
{
        bool first = !d->connected_ns, brief = !first && clock_ns() - d->connected_ns < LONGEST_PAUSE_NS;

        d->pause_ns = brief && d->pause_ns ? min_u64(d->pause_ns * 2, LONGEST_PAUSE_NS) : FIRST_PAUSE_NS;
        loop_timer_set(d->loop, &d->timer, first ? 0 : d->pause_ns);
}

void dialer_stop(struct dialer *d)
{
        loop_timer_cancel(d->loop, &d->timer);
}
