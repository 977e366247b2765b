/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log, while the guest is being moved to another host (vhost-user, "Migration"). It comes and goes, and its parts
 * are switched on and off, while rings run: each running ring gets an order and changes over between two rounds; the message
 * is answered when all have, so nobody marks in an old log that the front end takes away.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fd_kind.h"
#include "vhost_user/session/session_impl.h"

bool session_is_logging(const struct session *s)
{
        return s->log && s->features >> VU_F_LOG_ALL & 1;
}

/* What @r is to mark from now on, for an order. */
int session_log_order(const struct session *s, const struct ring *r, struct ring_order *o)
{
        o->log = (struct ring_log){ 0 };
        o->fd = -1;
        if (!session_is_logging(s))
                return 0;
        o->log = (struct ring_log){ .to = s->log, .own = r->log_own, .at = r->log_at };
        if (s->log_fd >= 0)
                o->fd = fcntl(s->log_fd, F_DUPFD_CLOEXEC, 0);
        return s->log_fd >= 0 && o->fd < 0 ? err_note(-errno, "cannot keep the dirty log's eventfd: %s", strerror(errno)) : 0;
}

int session_log_change(struct session *s, struct ring *r)
{
        struct ring_order o = { .kind = RING_LOG };
        int res = r->running ? session_log_order(s, r, &o) : 0;

        if (r->running && res == 0)
                session_order(s, r, &o);
        return res;
}

int session_log_change_all(struct session *s)
{
        int res = 0;

        for (unsigned i = 0; i < s->dev->num_queues && res == 0; i++)
                res = session_log_change(s, &s->ring[i]);
        return res;
}

static void drop_old_log(struct session *s)
{
        dirty_log_free(TAKE(s->old_log, NULL));
}

/* Always answered: the front end waits for it before it goes on. */
int session_set_log_base(struct session *s, struct wire_msg *m)
{
        struct dirty_log *log;
        int r = dirty_log_new(m->fd[0], m->p.log.mmap_offset, m->p.log.mmap_size, &log);

        session_answer_u64(s, 0);
        if (r < 0)
                return r;
        s->old_log = TAKE(s->log, log);
        s->then = drop_old_log;
        return session_log_change_all(s);
}

int session_set_log_fd(struct session *s, struct wire_msg *m)
{
        if (fd_kind(m->fd[0]) != FD_EVENTFD)
                return err_note(-EINVAL, "the fd of SET_LOG_FD is no eventfd");
        closep(&s->log_fd);
        s->log_fd = wire_take_fd(m, 0);
        return session_log_change_all(s);
}

void session_log_finish(struct session *s)
{
        dirty_log_free(s->log);
        dirty_log_free(s->old_log);
        closep(&s->log_fd);
}
