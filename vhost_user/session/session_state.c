/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's own state, for a front end that moves it (vhost-user, DEVICE_STATE): a block device has none. Saving writes
 * nothing and closes the channel, which is its end; loading expects that end and nothing before it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vhost_user/session/session_impl.h"

#define NO_FD (1ull << 8) /* in the answer: use the channel that you made */
#define FAILED 1ull

enum { SAVE = 0, LOAD = 1 };
enum { PHASE_STOPPED = 0 };

static int check_transfer(const struct session *s, const struct vu_device_state *d)
{
        if (d->direction > LOAD || d->phase != PHASE_STOPPED)
                return err_note(-EINVAL, "a device state transfer of direction %u, phase %u", d->direction, d->phase);
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running)
                        return err_note(-EINVAL, "a device state transfer while queue %u is running", i);
        return 0;
}

static int keep_channel(struct session *s, int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
                close(fd);
                return err_note(-EINVAL, "the channel of a device state is no pipe to read from");
        }
        s->state_fd = fd;
        return 0;
}

/* The answer has room for a failure, so nobody is hung up on. */
int session_set_device_state_fd(struct session *s, struct wire_msg *m)
{
        int r = check_transfer(s, &m->p.state_transfer);

        closep(&s->state_fd);
        s->state_fd = -1;
        s->state_ok = false;
        if (r == 0 && m->p.state_transfer.direction == LOAD)
                r = keep_channel(s, wire_take_fd(m, 0));
        s->state_ok = r == 0; /* saved: the wire closes the fd */
        if (r < 0)
                log_limited(&s->dev->limit, LOG_LVL_WARN, "%s: %s", s->dev->name, err_text(r));
        err_clear();
        return session_answer_u64(s, NO_FD | (r < 0 ? FAILED : 0));
}

/*
 * Nothing in it, and nobody who could write more? It is not read: whether a read may wait is in the open file, which the front end shares
 * with us and may change at any moment. It would wait for ever.
 */
static bool is_at_end(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, 0) == 1 && p.revents == POLLHUP;
}

/* After a load all has been written: what is not at its end now is not our state. */
int session_check_device_state(struct session *s, struct wire_msg *m)
{
        if (s->state_fd >= 0)
                s->state_ok = is_at_end(s->state_fd);
        closep(&s->state_fd);
        s->state_fd = -1;
        return session_answer_u64(s, TAKE(s->state_ok, false) ? 0 : FAILED);
}
