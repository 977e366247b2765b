/* SPDX-License-Identifier: BSD-3-Clause */
#include "fd_kind.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "range.h"

#define EVENTFD "anon_inode:[eventfd]"

static int mounts = -1;

void fd_kind_prepare(void)
{
        if (mounts < 0)
                mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
}

void fd_kind_finish(void)
{
        closep(&mounts);
        mounts = -1;
}

/* Theirs may be slow when the disk is; they do not wait for a user. Those that any user can mount (overlay) are not here. */
static bool is_disk_type(const char *type)
{
        static const char *const types[] = { "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "ramfs" };

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (!strcmp(type, types[i]))
                        return true;
        return false;
}

/* "36 35 98:0 /root /mnt options... - ext3 /dev/root options"; blanks in names are written as \040. */
static bool line_is_of(const char *line, const struct statx *sx)
{
        const char *behind = strstr(line, " - ");
        unsigned major, minor;
        uint64_t id;
        char type[32];

        if (!behind || sscanf(line, "%" SCNu64 " %*u %u:%u", &id, &major, &minor) != 3 || sscanf(behind + 3, "%31s", type) != 1)
                return false;
        if (!is_disk_type(type))
                return false;
        /* By its device when it was opened in another mount namespace. Major 0 is what file systems without one have. */
        return (sx->stx_mask & STATX_MNT_ID && id == sx->stx_mnt_id) ||
               (major && major == sx->stx_dev_major && minor == sx->stx_dev_minor);
}

static bool is_on_disk(const struct statx *sx)
{
        AUTO(freep) char *line = NULL;
        size_t room = 0;
        bool found = false;
        int fd;
        FILE *f;

        fd_kind_prepare();
        fd = mounts < 0 || lseek(mounts, 0, SEEK_SET) < 0 ? -1 : fcntl(mounts, F_DUPFD_CLOEXEC, 3);
        f = fd < 0 ? NULL : fdopen(fd, "r");
        if (!f) {
                closep(&fd);
                return false;
        }
        while (!found && getline(&line, &room, f) > 0)
                found = line_is_of(line, sx);
        fclose(f);
        return found;
}

static ssize_t look(int fd, char *buf, size_t len)
{
        char path[32];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, buf, len - 1);
        buf[n < 0 ? 0 : n] = '\0';
        return n;
}

const char *fd_shown(int fd, char *buf, size_t len)
{
        if (look(fd, buf, len) < 0)
                snprintf(buf, len, "?");
        return buf;
}

static bool is_unix_socket(int fd)
{
        int domain = 0;
        socklen_t len = sizeof(domain);

        return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

enum fd_kind fd_kind(int fd)
{
        char link[64];
        struct statx sx;

        if (fcntl(fd, F_GET_SEALS) >= 0) /* what others have not got; theirs is in the inode, in memory */
                return FD_MEMORY;
        look(fd, link, sizeof(link)); /* names begin with '/' or "(unreachable)" */
        if (!strcmp(link, EVENTFD))
                return FD_EVENTFD;
        if (!strncmp(link, "pipe:[", 6))
                return FD_PIPE;
        if (!strncmp(link, "socket:[", 8))
                return is_unix_socket(fd) ? FD_SOCKET : FD_OTHER;
        /* Not synced: with what the kernel knows, or not at all. */
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_MNT_ID, &sx) < 0)
                return FD_OTHER;
        if (!link[0] && !(sx.stx_mode & S_IFMT)) /* no /proc in this sandbox: something without a file type, at least */
                return FD_EVENTFD;
        return S_ISREG(sx.stx_mode) && is_on_disk(&sx) ? FD_DISK : FD_OTHER;
}
