/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - libmicrohttpd has no thread of its own; its epoll descriptor is one of our loop's, and the timer is set only
 *     while somebody is connected: an idle daemon has nothing to do here.
 *   - Nobody stays longer than MAX_SECONDS, however slowly he reads; who comes when MAX_CONNECTIONS are there waits
 *     outside.
 */
#include "vdiskd/metrics/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "config.h"
#include "vdiskd/metrics/metrics_text.h"

#define BACKLOG 16

/* --- the socket --------------------------------------------------------------------------------------------------- */

int metrics_listen(const char *text, struct listener *ret)
{
        struct metrics_address at;
        int one = 1, r = metrics_address_parse(text, &at);

        if (r < 0)
                return r;
        if (at.path) {
                struct listen_at la = { .path = at.path, .mode = -1, .fd = -1 };

                return err_prefix(listener_open(ret, &la, NULL), "--metrics: ");
        }
        *ret = (struct listener){ .fd = socket(at.at.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
        if (ret->fd < 0)
                return err_note(-errno, "--metrics=%s: %s", text, strerror(errno));
        setsockopt(ret->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* answers of the last daemon may linger */
        if (bind(ret->fd, &at.at.sa, at.len) < 0 || listen(ret->fd, BACKLOG) < 0) {
                r = err_note(-errno, "--metrics=%s: cannot listen there: %s", text, strerror(errno));
                listener_close(ret);
        }
        return r;
}

#if HAVE_MICROHTTPD
#include <microhttpd.h>

#define MAX_CONNECTIONS 16u
#define IDLE_SECONDS 10u
#define MAX_SECONDS 30u
#define REQUEST_BYTES (16u << 10)
#define RUNS_AT_ONCE 16 /* of its state machine, before others on this thread have their turn */

struct guest {
        struct list link;
        struct MHD_Connection *conn;
        uint64_t since;
};

struct metrics {
        struct loop *loop;
        struct disks *disks;
        struct metrics_start start;
        struct MHD_Daemon *mhd;
        struct loop_watch watch;
        struct loop_timer timer;
        struct list guests;
        unsigned left; /* how many have gone, ever */
};

/* --- answers ------------------------------------------------------------------------------------------------------ */

static enum MHD_Result answer(struct MHD_Connection *conn, unsigned status, const char *type, char *text, size_t len,
                              enum MHD_ResponseMemoryMode mode)
{
        struct MHD_Response *r = MHD_create_response_from_buffer(len, text, mode);
        enum MHD_Result queued;

        if (!r) {
                if (mode == MHD_RESPMEM_MUST_FREE)
                        free(text);
                return MHD_NO;
        }
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
                MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
        queued = MHD_queue_response(conn, status, r);
        MHD_destroy_response(r);
        return queued;
}

static enum MHD_Result say(struct MHD_Connection *conn, unsigned status, const char *text)
{
        return answer(conn, status, "text/plain; charset=utf-8", (char *)text, strlen(text), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result on_request(void *opaque, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_len, void **seen)
{
        struct metrics *m = opaque;
        size_t len = 0;
        char *text;

        (void)version;
        (void)upload;
        (void)upload_len;
        if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD)) /* at once: we want no body */
                return say(conn, MHD_HTTP_METHOD_NOT_ALLOWED, "Only GET is answered here.\n");
        if (!*seen) { /* the head of the request: said now, our answer would end the connection */
                *seen = m;
                return MHD_YES;
        }
        if (!strcmp(url, "/"))
                return say(conn, MHD_HTTP_OK, "This is vdiskd. Its metrics for Prometheus are at /metrics.\n");
        if (strcmp(url, "/metrics"))
                return say(conn, MHD_HTTP_NOT_FOUND, "There is only /metrics here.\n");
        text = metrics_text(m->disks, &m->start, &len);
        if (!text)
                return say(conn, MHD_HTTP_SERVICE_UNAVAILABLE, "Out of memory.\n");
        return answer(conn, MHD_HTTP_OK, METRICS_CONTENT_TYPE, text, len, MHD_RESPMEM_MUST_FREE);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void on_connection(void *opaque, struct MHD_Connection *conn, void **mine, enum MHD_ConnectionNotificationCode what)
{
        struct metrics *m = opaque;
        struct guest *g;

        if (what == MHD_CONNECTION_NOTIFY_STARTED) {
                g = calloc(1, sizeof(*g));
                *mine = g;
                if (!g)
                        return; /* the idle time is its only limit then */
                g->conn = conn;
                g->since = clock_ns();
                list_add_tail(&m->guests, &g->link);
        } else if (*mine) {
                g = *mine;
                list_del(&g->link);
                free(g);
                m->left++;
                *mine = NULL;
        }
}

/* MHD sees the end of the connection in its next run. */
static void show_the_door(struct metrics *m)
{
        uint64_t now = clock_ns();

        list_for_each(l, &m->guests) {
                const struct guest *g = list_entry(l, struct guest, link);
                const union MHD_ConnectionInfo *fd;

                if (now - g->since < MAX_SECONDS * NS_PER_SEC)
                        return; /* they came in this order */
                fd = MHD_get_connection_info(g->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
                if (fd)
                        shutdown(fd->connect_fd, SHUT_RDWR);
        }
}

static void go_on(struct metrics *m)
{
        MHD_UNSIGNED_LONG_LONG ms = 0;
        bool waits = false;
        unsigned left;

        show_the_door(m);
        for (int i = 0; i < RUNS_AT_ONCE; i++) {
                left = m->left;
                MHD_run(m->mhd);
                waits = MHD_get_timeout(m->mhd, &ms) == MHD_YES;
                if (left == m->left && !(waits && ms == 0)) /* who leaves makes room, which only the next run sees */
                        break;
        }
        if (waits && ms > 1000)
                ms = 1000;
        if (waits || !list_empty(&m->guests))
                loop_timer_set(m->loop, &m->timer, waits ? ms * NS_PER_MS : NS_PER_SEC);
        else
                loop_timer_cancel(m->loop, &m->timer);
}

static void on_ready(struct loop_watch *w, uint32_t events)
{
        (void)events;
        go_on(container_of(w, struct metrics, watch));
}

static void on_timer(struct loop_timer *t)
{
        go_on(container_of(t, struct metrics, timer));
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static int start(struct metrics *m, int fd)
{
        const union MHD_DaemonInfo *info;

        m->mhd = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, m, MHD_OPTION_LISTEN_SOCKET, fd,
                                  MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
                                  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES, MHD_OPTION_NOTIFY_CONNECTION,
                                  on_connection, m, MHD_OPTION_END);
        info = m->mhd ? MHD_get_daemon_info(m->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
        if (!info)
                return err_note(-EIO, "--metrics: libmicrohttpd cannot be started");
        m->watch = (struct loop_watch){ .fd = info->epoll_fd, .ready = on_ready, .events = EPOLLIN };
        return loop_watch(m->loop, &m->watch);
}

int metrics_new(struct loop *l, struct disks *d, const struct listener *at, struct metrics **ret)
{
        struct metrics *m = calloc(1, sizeof(*m));
        struct timespec wall;
        int fd = m ? fcntl(at->fd, F_DUPFD_CLOEXEC, 0) : -1; /* MHD closes what it is given */
        int r;

        if (fd < 0) {
                r = m ? -errno : -ENOMEM;
                free(m);
                return r;
        }
        clock_gettime(CLOCK_REALTIME, &wall);
        m->start = (struct metrics_start){ clock_ns(), (double)wall.tv_sec + (double)wall.tv_nsec / 1e9 };
        m->loop = l;
        m->disks = d;
        m->timer.fire = on_timer;
        list_init(&m->timer.link);
        list_init(&m->guests);
        r = start(m, fd);
        if (!m->mhd)
                close(fd);
        if (r < 0) {
                metrics_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

void metrics_free(struct metrics *m)
{
        if (!m)
                return;
        loop_unwatch(m->loop, &m->watch);
        loop_timer_cancel(m->loop, &m->timer);
        if (m->mhd)
                MHD_stop_daemon(m->mhd);
        free(m);
}

#else

int metrics_new(struct loop *l, struct disks *d, const struct listener *at, struct metrics **ret)
{
        (void)l;
        (void)d;
        (void)at;
        (void)ret;
        return err_note(-ENOTSUP, "--metrics: this vdiskd was built without libmicrohttpd");
}

void metrics_free(struct metrics *m)
{
        (void)m;
}
#endif
