/* SPDX-License-Identifier: BSD-3-Clause */
#include "image_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>

#include "err.h"

#define USED_BASE 100     /* QEMU: RAW_LOCK_PERM_BASE */
#define UNSHARED_BASE 200 /* QEMU: RAW_LOCK_SHARED_BASE */

enum { CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE, NPERMS };
#define BIT(n) (1u << (n))

static int lock_byte(int fd, off_t byte)
{
        struct flock fl = { .l_whence = SEEK_SET, .l_start = byte, .l_len = 1, .l_type = F_RDLCK };

        return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Would an exclusive lock on this byte be refused, that is: does anybody else hold it? */
static int byte_is_taken(int fd, off_t byte)
{
        struct flock fl = { .l_whence = SEEK_SET, .l_start = byte, .l_len = 1, .l_type = F_WRLCK };

        if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
                return -errno;
        return fl.l_type == F_UNLCK ? 0 : -EBUSY;
}

static int take(int fd, unsigned used, unsigned unshared)
{
        for (int p = 0; p < NPERMS; p++) {
                int r = 0;

                if (used & BIT(p))
                        r = lock_byte(fd, USED_BASE + p);
                if (r == 0 && unshared & BIT(p))
                        r = lock_byte(fd, UNSHARED_BASE + p);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* First lock, then look: of two that start together at least one sees the other. */
static int look(int fd, unsigned used, unsigned unshared)
{
        for (int p = 0; p < NPERMS; p++) {
                int r = 0;

                if (used & BIT(p))
                        r = byte_is_taken(fd, UNSHARED_BASE + p);
                if (r == 0 && unshared & BIT(p))
                        r = byte_is_taken(fd, USED_BASE + p);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What readers and writers use, and what neither lets others do. */
#define READS BIT(CONSISTENT_READ)
#define WRITES (READS | BIT(WRITE) | BIT(RESIZE))
#define UNSHARED (BIT(WRITE) | BIT(RESIZE))

static int say(int r, const char *path, bool write)
{
        if (r == -EOPNOTSUPP || r == -ENOLCK || r == -EINVAL)
                return 0;
        if (r == -EBUSY || r == -EAGAIN || r == -EACCES)
                return err_note(-EBUSY, "'%s' is in use by another program (image lock for %s refused)", path,
                                write ? "writing" : "reading");
        return r < 0 ? err_note(r, "'%s': cannot lock the image: %s", path, strerror(-r)) : 0;
}

int image_lock(int fd, const char *path, bool write)
{
        unsigned used = write ? WRITES : READS;
        int r = take(fd, used, UNSHARED);

        if (r == 0)
                r = look(fd, used, UNSHARED);
        return say(r, path, write);
}

/* From the first lock of @to on nobody else gets one for writing, so @from can have its own again. */
int image_lock_pass(int from, int to, const char *path)
{
        int r = take(to, WRITES, UNSHARED);

        if (r == 0) {
                image_unlock(from);
                r = look(to, WRITES, UNSHARED);
        }
        r = say(r, path, true);
        if (r < 0) {
                take(from, READS, UNSHARED);
                image_unlock(to);
        }
        return r;
}

void image_lock_share(int fd)
{
        for (int p = WRITE; p <= RESIZE; p++) {
                struct flock fl = { .l_whence = SEEK_SET, .l_start = USED_BASE + p, .l_len = 1, .l_type = F_UNLCK };

                fcntl(fd, F_OFD_SETLK, &fl);
        }
}

void image_unlock(int fd)
{
        struct flock fl = { .l_whence = SEEK_SET, .l_type = F_UNLCK }; /* from 0 to the end of all bytes */

        fcntl(fd, F_OFD_SETLK, &fl);
}
