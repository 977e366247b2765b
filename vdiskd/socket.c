/* SPDX-License-Identifier: BSD-3-Clause */
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"
#include "config.h"
#include "vdiskd/sandbox/opener.h"

#if HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define BACKLOG 4 /* one front end is served; others wait for an answer, however short */
#define FIRST_PASSED_FD 3 /* SD_LISTEN_FDS_START */

/* --- passed by the service manager ----------------------------------------------------------------------------- */

int passed_sockets_get(struct passed_sockets *p)
{
        *p = (struct passed_sockets){ 0 };
#if HAVE_SYSTEMD
        int n = sd_listen_fds_with_names(1, &p->names);

        if (n < 0)
                return err_note(n, "cannot take over the sockets in LISTEN_FDS: %s", strerror(-n));
        p->used = calloc((size_t)n + 1, sizeof(*p->used));
        if (!p->used)
                return -ENOMEM;
        p->n = n;
#endif
        return 0;
}

void passed_sockets_finish(struct passed_sockets *p)
{
        for (int i = 0; i < p->n; i++)
                free(p->names[i]);
        free(p->names);
        free(p->used);
        *p = (struct passed_sockets){ 0 };
}

int passed_sockets_unused(const struct passed_sockets *p)
{
        int n = 0;

        for (int i = 0; i < p->n; i++)
                n += !p->used[i];
        return n;
}

/* --- checks ---------------------------------------------------------------------------------------------------- */

static int socket_option(int fd, int name)
{
        socklen_t len = sizeof(int);
        int value = 0;

        return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

/* Does @fd listen for stream connections of our family? Then it becomes close-on-exec and non-blocking. */
static int adopt(struct listener *l, int fd)
{
        if (fcntl(fd, F_GETFD) < 0)
                return err_note(-EBADF, "file descriptor %d is not open; start vdiskd with a listening socket there", fd);
        if (socket_option(fd, SO_DOMAIN) != AF_UNIX || socket_option(fd, SO_TYPE) != SOCK_STREAM ||
            socket_option(fd, SO_ACCEPTCONN) != 1)
                return err_note(-ENOTSOCK, "file descriptor %d is not a listening Unix stream socket", fd);
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        l->fd = fd;
        return 0;
}

static int adopt_passed(struct listener *l, const char *fdname, struct passed_sockets *passed)
{
        for (int i = 0; i < passed->n; i++) {
                if (passed->used[i] || (fdname && strcmp(fdname, passed->names[i])))
                        continue;
                passed->used[i] = true;
                return adopt(l, FIRST_PASSED_FD + i);
        }
        if (fdname)
                return err_note(-ENOENT, "fdname=%s: no socket of that name was passed in LISTEN_FDS", fdname);
        return err_note(-EINVAL, "no socket to listen on: expected socket=PATH (or --socket-path=PATH), or fd=N");
}

/* --- made at a path -------------------------------------------------------------------------------------------- */

static struct sockaddr_un address(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1); /* listen_at_path() checked the length */
        return sa;
}

/* Something is at @path. Take it away if it is the socket of a program that is gone. */
static int remove_stale(const char *path)
{
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un sa = address(path);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0 : err_note(-errno, "socket %s: %s", path, strerror(errno));
        if (!S_ISSOCK(st.st_mode))
                return err_note(-EEXIST, "socket %s: a file that is no socket is there already", path);
        if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EAGAIN)
                return err_note(-EADDRINUSE, "socket %s is in use: another program listens on it", path);
        if (errno != ECONNREFUSED)
                return err_note(-errno, "socket %s: cannot tell whether it is in use: %s", path, strerror(errno));
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_path(int fd, const char *path)
{
        struct sockaddr_un sa = address(path);
        int r;

        if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
                return 0;
        if (errno == EADDRINUSE) {
                r = remove_stale(path);
                if (r < 0)
                        return r;
                if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
                        return 0;
        }
        return err_note(-errno, "socket %s: cannot be made: %s", path, strerror(errno));
}

/* Bind takes the permissions from the socket itself, so there is no moment with others. */
static int bind_as(int fd, const char *path, int mode)
{
        mode_t mask;
        int r;

        if (mode < 0)
                return bind_path(fd, path);
        if (fchmod(fd, (mode_t)mode) < 0)
                return -errno;
        mask = umask(0);
        r = bind_path(fd, path);
        umask(mask);
        return r;
}

static int is_number(const char *text, unsigned *ret)
{
        char *end;
        unsigned long n = strtoul(text, &end, 10);

        *ret = (unsigned)n;
        return *text >= '0' && *text <= '9' && !*end && n < UINT32_MAX;
}

static int find_owner(const struct listen_at *at, uid_t *uid, gid_t *gid)
{
        struct passwd *pw;
        struct group *gr;

        *uid = (uid_t)-1;
        *gid = (gid_t)-1;
        if (at->owner && !is_number(at->owner, uid)) {
                pw = getpwnam(at->owner);
                if (!pw)
                        return err_note(-EINVAL, "socket-owner=%s: there is no such user", at->owner);
                *uid = pw->pw_uid;
        }
        if (at->group && !is_number(at->group, gid)) {
                gr = getgrnam(at->group);
                if (!gr)
                        return err_note(-EINVAL, "socket-group=%s: there is no such group", at->group);
                *gid = gr->gr_gid;
        }
        return 0;
}

/* Of the socket at @path and of nothing that somebody puts there instead. */
static int give_to(const char *path, uid_t uid, gid_t gid)
{
        AUTO(closep) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
                return err_note(-EPERM, "socket %s: it was replaced while we made it", path);
        if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
                return err_note(-errno, "socket %s: cannot give it to another owner or group: %s", path, strerror(errno));
        return 0;
}

/* Nobody can connect before listen(). */
static int make_and_listen(int fd, const char *path, const struct listen_at *at, struct stat *st)
{
        uid_t uid;
        gid_t gid;
        int r = find_owner(at, &uid, &gid);

        if (r == 0)
                r = bind_as(fd, path, at->mode);
        if (r < 0)
                return r;
        if (at->owner || at->group)
                r = give_to(path, uid, gid);
        if (r == 0 && (listen(fd, BACKLOG) < 0 || lstat(path, st) < 0))
                r = err_note(-errno, "socket %s: cannot be listened on: %s", path, strerror(errno));
        if (r < 0)
                unlink(path);
        return r;
}

static int listen_at_path(struct listener *l, const char *path, const struct listen_at *at)
{
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        AUTO(freep) char *copy = strdup(path);
        struct stat st;
        int r;

        if (fd < 0)
                return -errno;
        if (!copy)
                return -ENOMEM;
        if (!*path || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
                return err_note(-EINVAL, "UNIX socket path '%s' is %s", path, *path ? "too long" : "empty");
        r = make_and_listen(fd, path, at, &st);
        if (r < 0)
                return r;
        *l = (struct listener){ .fd = TAKE(fd, -1), .path = TAKE(copy, NULL), .dev = st.st_dev, .ino = st.st_ino };
        return 0;
}

int listener_open(struct listener *l, const struct listen_at *at, struct passed_sockets *passed)
{
        *l = (struct listener){ .fd = -1 };
        if (at->path)
                return opener_runs() ? opener_listen(at, l) : listen_at_path(l, at->path, at);
        if (at->fd >= 0)
                return adopt(l, at->fd);
        return adopt_passed(l, at->fdname, passed);
}

int listener_change(const struct listener *l, const struct listen_at *at)
{
        AUTO(closep) int fd = l->path && !opener_runs() ? open(l->path, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
        char self[48];
        struct stat st;
        uid_t uid;
        gid_t gid;
        int r;

        if (l->path && opener_runs())
                return opener_change(l, at);
        r = find_owner(at, &uid, &gid);
        if (r < 0)
                return r;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_dev != l->dev || st.st_ino != l->ino)
                return err_note(-ENOENT, "its socket is not a file that we made, or is gone");
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd); /* fchmod() takes no O_PATH */
        if (at->mode >= 0 && chmod(self, (mode_t)at->mode) < 0)
                return err_note(-errno, "socket %s: cannot have other permissions: %s", l->path, strerror(errno));
        if ((at->owner || at->group) && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
                return err_note(-errno, "socket %s: cannot be given to another owner or group: %s", l->path, strerror(errno));
        return 0;
}

void listener_close(struct listener *l)
{
        struct stat st;

        if (l->path && path_look(l->path, false, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
                path_unlink(l->path);
        free(TAKE(l->path, NULL));
        closep(&l->fd);
        l->fd = -1;
}

json_t *listener_pack(const struct listener *l)
{
        return json_pack("{s:o,s:o,s:o}", "path", parcel_bytes(l->path ?: "", strlen(l->path ?: "")), "dev",
                         parcel_u64(l->dev), "ino", parcel_u64(l->ino));
}

int listener_unpack(struct listener *l, const json_t *o)
{
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
        uint64_t dev, ino;
        size_t len;
        int r = parcel_get_bytes(o, "path", path, sizeof(path) - 1, &len);

        if (r == 0)
                r = parcel_get_u64(o, "dev", UINT64_MAX, &dev);
        if (r == 0)
                r = parcel_get_u64(o, "ino", UINT64_MAX, &ino);
        if (r < 0)
                return r;
        *l = (struct listener){ .fd = -1, .path = len ? strndup(path, len) : NULL, .dev = dev, .ino = ino };
        return len && !l->path ? -ENOMEM : 0;
}
