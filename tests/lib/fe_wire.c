/* SPDX-License-Identifier: BSD-3-Clause */
#include "fe_wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"

union fd_control {
        char buf[CMSG_SPACE(FE_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
};

int fe_wire_connect(const char *path)
{
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        if (fd < 0)
                return -errno;
        if (strlen(path) >= sizeof(sa.sun_path))
                return err_note(-ENAMETOOLONG, "%s: a socket path has at most %zu bytes", path,
                                sizeof(sa.sun_path) - 1);
        strcpy(sa.sun_path, path);
        if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
                return err_note(-errno, "%s: cannot connect: %s", path, strerror(errno));
        return TAKE(fd, -1);
}

int fe_wire_send_bytes(int sock, const void *bytes, size_t len, const int *fds, unsigned nfds)
{
        union fd_control ctl = { 0 };
        struct iovec iov = { (void *)bytes, len };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (nfds) {
                mh.msg_control = ctl.buf;
                mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
                struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
        }
        while (iov.iov_len) {
                ssize_t n = sendmsg(sock, &mh, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EPIPE ? -ECONNRESET : -errno;
                iov.iov_base = (char *)iov.iov_base + n;
                iov.iov_len -= (size_t)n;
                mh.msg_control = NULL; /* they went with the first byte */
                mh.msg_controllen = 0;
        }
        return 0;
}

int fe_wire_send(int sock, const struct fe_msg *m, const int *fds, unsigned nfds)
{
        return fe_wire_send_bytes(sock, m, FE_HEADER_LEN + m->size, fds, nfds);
}

static int wait_readable(int sock, uint64_t deadline)
{
        struct pollfd p = { .fd = sock, .events = POLLIN };
        uint64_t now = clock_ns();
        int r;

        r = poll(&p, 1, now >= deadline ? 0 : (int)((deadline - now) / NS_PER_MS) + 1);
        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        return r == 0 ? -ETIMEDOUT : 0;
}

/* Fds that come with any part of a message are collected in @fds. */
static int recv_part(int sock, void *to, size_t len, int *fds, unsigned *nfds, uint64_t deadline)
{
        union fd_control ctl;
        struct iovec iov = { to, len };
        int r;

        while (iov.iov_len) {
                struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
                                     .msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf) };
                struct cmsghdr *c;
                ssize_t n;

                r = wait_readable(sock, deadline);
                if (r < 0)
                        return r;
                n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n <= 0)
                        return n == 0 ? -ECONNRESET : -errno;
                for (c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
                        unsigned got = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

                        for (unsigned i = 0; i < got && *nfds < FE_FDS_MAX; i++)
                                memcpy(&fds[(*nfds)++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                }
                iov.iov_base = (char *)iov.iov_base + n;
                iov.iov_len -= (size_t)n;
        }
        return 0;
}

int fe_wire_recv(int sock, struct fe_msg *m, int *fds, unsigned *nfds, int timeout_ms)
{
        uint64_t deadline = clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
        int got[FE_FDS_MAX];
        unsigned ngot = 0;
        int r;

        r = recv_part(sock, m, FE_HEADER_LEN, got, &ngot, deadline);
        if (r == 0 && m->size > FE_PAYLOAD_MAX)
                r = err_note(-EPROTO, "the back end sent a message of %u bytes, more than any has", m->size);
        if (r == 0)
                r = recv_part(sock, m->bytes, m->size, got, &ngot, deadline);
        if (r < 0 || !fds) {
                for (unsigned i = 0; i < ngot; i++)
                        close(got[i]);
                ngot = 0;
        } else {
                memcpy(fds, got, ngot * sizeof(int));
        }
        if (nfds)
                *nfds = ngot;
        return r;
}

static int check_answer(const struct fe_msg *m, uint32_t request)
{
        if (m->request != request || (m->flags & 0x7) != (FE_VERSION | FE_REPLY))
                return err_note(-EPROTO, "asked for message %u, got message %u with flags 0x%x", request, m->request,
                                m->flags);
        return 0;
}

int fe_wire_call(int sock, struct fe_msg *m, const int *fds, unsigned nfds, int timeout_ms)
{
        uint32_t request = m->request;
        int r;

        r = fe_wire_send(sock, m, fds, nfds);
        if (r == 0)
                r = fe_wire_recv(sock, m, NULL, NULL, timeout_ms);
        return r < 0 ? r : check_answer(m, request);
}

int fe_wire_call_fd(int sock, struct fe_msg *m, int *fd, int timeout_ms)
{
        uint32_t request = m->request;
        int fds[FE_FDS_MAX], r;
        unsigned n = 0;

        r = fe_wire_send(sock, m, NULL, 0);
        if (r == 0)
                r = fe_wire_recv(sock, m, fds, &n, timeout_ms);
        if (r == 0)
                r = check_answer(m, request);
        if (r == 0 && n == 1) {
                *fd = fds[0];
                return 0;
        }
        while (n)
                close(fds[--n]);
        return r < 0 ? r : err_note(-EPROTO, "the answer to message %u should bring one fd", request);
}
