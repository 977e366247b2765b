/* SPDX-License-Identifier: BSD-3-Clause */
#include "manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"

#define PATIENCE_MS 1000

static int sock = -1;

void manager_find(void)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        size_t len = path ? strlen(path) : 0;

        if (!len || (path[0] != '/' && path[0] != '@') || len >= sizeof(sa.sun_path))
                return;
        memcpy(sa.sun_path, path, len);
        if (path[0] == '@')
                sa.sun_path[0] = '\0';
        sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (sock >= 0 && connect(sock, (struct sockaddr *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
                close(TAKE(sock, -1));
}

static void tell(const char *state, int fd)
{
        union {
                char buf[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec iov = { (void *)state, strlen(state) };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (fd >= 0) {
                mh.msg_control = &control;
                mh.msg_controllen = sizeof(control);
                control.align = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
        }
        while (sendmsg(sock, &mh, MSG_NOSIGNAL) < 0 && errno == EINTR)
                ;
}

void manager_tell(const char *state)
{
        if (sock >= 0)
                tell(state, -1);
}

/* It closes its end of a pipe when it comes to it, after all that was told before. */
void manager_wait(void)
{
        AUTO(closep) int ours = -1;
        struct pollfd p;
        int ends[2];

        if (sock < 0 || pipe2(ends, O_CLOEXEC) < 0)
                return;
        ours = ends[0];
        tell("BARRIER=1", ends[1]);
        close(ends[1]);
        p = (struct pollfd){ .fd = ours };
        while (poll(&p, 1, PATIENCE_MS) < 0 && errno == EINTR)
                ;
}

void manager_finish(void)
{
        if (sock >= 0)
                close(TAKE(sock, -1));
}
