/* SPDX-License-Identifier: BSD-3-Clause */
/* file.c - a file from its name to its end: found, locked, opened, used in another manner, closed. And what it is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "file_impl.h"
#include "file_shelf.h"
#include "image_lock.h"
#include "path.h"
#include "range.h"

/* Where a name is looked up: anywhere, in @dir, or where @image may lead (path.h). */
struct place {
        const char *dir, *image, *name;
};

static int open_at(const struct place *p, int how)
{
        if (p->dir)
                return path_open_beneath(p->dir, p->name, how);
        return p->image ? path_open_allowed(p->image, p->name, how) : path_open(p->name, how, 0644);
}

static int open_fd(struct file *f, const struct place *p, unsigned flags)
{
        int how = O_CLOEXEC | O_NONBLOCK | (flags & FILE_RDONLY ? O_RDONLY : O_RDWR), r;

        if (flags & FILE_CREATE)
                how |= O_CREAT | O_EXCL;
        if (flags & FILE_OVERWRITE)
                how |= O_CREAT; /* emptied after the lock is ours */
        if (flags & FILE_NO_SYMLINK)
                how |= O_NOFOLLOW;
        f->direct = flags & FILE_DIRECT;
        r = open_at(p, how | (f->direct ? O_DIRECT : 0));
        if (r == -EINVAL && f->direct) {
                err_clear();
                f->direct = false;
                r = open_at(p, how);
        }
        if (p->dir && (r == -EXDEV || r == -ELOOP))
                return err_note(-EPERM, "'%s' is not in or below '%s', or is reached through a symbolic link", p->name, p->dir);
        if (r < 0)
                return err_note(r, "'%s': cannot open: %s%s", f->path, strerror(-r), r != -EMFILE ? "" :
                                " (of this process: LimitNOFILE= of its unit, or ulimit -n, allows more)");
        f->fd = r;
        return 0;
}

/* What O_DIRECT is there was settled when it was opened first. */
static bool take_from_shelf(struct file *f, unsigned flags)
{
        int how;

        if (flags & (FILE_CREATE | FILE_OVERWRITE))
                return false;
        f->fd = file_shelf_take(f->path, flags & FILE_RDONLY);
        how = f->fd < 0 ? -1 : fcntl(f->fd, F_GETFL);
        f->direct = how >= 0 && how & O_DIRECT;
        return f->fd >= 0;
}

/* @path: how the file is called, taken. */
static int open_file(char *path, const struct place *p, unsigned flags, struct file **ret)
{
        struct file *f = calloc(1, sizeof(*f));
        bool ours = false; /* locked already */
        int r;

        if (!f || !path) {
                free(path);
                free(f);
                return -ENOMEM;
        }
        f->ops = &file_posix_ops;
        f->fd = -1;
        f->read_only = flags & FILE_RDONLY;
        f->path = path;
        ours = take_from_shelf(f, flags);
        r = ours ? 0 : open_fd(f, p, flags);
        if (r == 0)
                r = file_posix_look(f);
        if (r == 0 && p->dir && f->is_blkdev)
                r = err_note(-EPERM, "'%s' is a device, not a regular file", f->path);
        if (r == 0 && !ours && !(flags & FILE_NO_LOCK))
                r = image_lock(f->fd, f->path, !f->read_only);
        if (r == 0 && flags & FILE_OVERWRITE && !f->is_blkdev)
                r = file_truncate(f, 0);
        if (r < 0) {
                if (flags & FILE_CREATE && f->fd >= 0)
                        path_unlink(f->path);
                file_close(f);
                return r;
        }
        /* O_NONBLOCK was for opening what may be a pipe. Left on, io_uring fails with EAGAIN where others would
         * wait. */
        fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) & ~O_NONBLOCK);
        file_posix_align(f);
        *ret = f;
        return 0;
}

int file_open(const char *path, unsigned flags, struct file **ret)
{
        return open_file(strdup(path), &(struct place){ .name = path }, flags, ret);
}

int file_open_named(const char *path, const char *image, unsigned flags, struct file **ret)
{
        return open_file(strdup(path), &(struct place){ .image = image, .name = path }, flags, ret);
}

int file_open_beneath(const char *dir, const char *name, unsigned flags, struct file **ret)
{
        struct place p = { .dir = dir, .name = name };
        char *path;

        if (!strcmp(dir, ".")) /* as it was said */
                return open_file(strdup(name), &p, flags, ret);
        if (asprintf(&path, "%s/%s", dir, name) < 0)
                return -ENOMEM;
        return open_file(path, &p, flags, ret);
}

int file_identify(const char *path, dev_t *dev, ino_t *ino)
{
        int fd = file_shelf_look(path);
        struct stat st;
        int r = fd < 0 ? path_look(path, true, &st) : fstat(fd, &st) < 0 ? -errno : 0;

        if (r < 0)
                return err_note(r, "'%s': cannot open: %s", path, strerror(-r));
        *dev = st.st_dev;
        *ino = st.st_ino;
        return 0;
}

int file_sync_directory(const char *path)
{
        const char *slash = strrchr(path, '/');
        AUTO(freep) char *dir = slash ? strndup(path, (size_t)max_u64((uint64_t)(slash - path), 1)) : strdup(".");
        AUTO(closep) int fd = dir ? path_open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) : -ENOMEM;

        if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
                return err_note(fd < 0 ? fd : -errno, "'%s': cannot make the directory durable", dir ? dir : path);
        return 0;
}

void file_demote(struct file *f)
{
        f->read_only = true;
        if (f->fd >= 0)
                image_lock_share(f->fd);
}

void file_set_direct(struct file *f, bool on)
{
        int how = f && f->fd >= 0 ? fcntl(f->fd, F_GETFL) : -1;

        if (how < 0)
                return;
        fcntl(f->fd, F_SETFL, on ? how | O_DIRECT : how & ~O_DIRECT);
        how = fcntl(f->fd, F_GETFL);
        f->direct = how >= 0 && how & O_DIRECT;
        file_posix_align(f);
}

/* It was open for writing once. */
static int promote(const struct file *f, bool lock)
{
        int r = lock ? image_lock(f->fd, f->path, true) : 0;

        if (r < 0)
                image_lock_share(f->fd);
        return r;
}

static int open_to_write(struct file *f, int how, bool lock)
{
        AUTO(closep) int fd = path_open(f->path, O_CLOEXEC | O_NONBLOCK | O_RDWR | (how & O_DIRECT), 0);
        struct stat st;
        int r = 0;

        if (fd < 0)
                return err_note(fd, "'%s': cannot open: %s", f->path, strerror(-fd));
        if (fstat(fd, &st) < 0)
                return err_note(-errno, "'%s': cannot stat: %s", f->path, strerror(errno));
        if (st.st_dev != f->dev || st.st_ino != f->ino)
                return err_note(-ESTALE, "'%s' is another file now than the one that is open", f->path);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
        if (lock)
                r = image_lock_pass(f->fd, fd, f->path);
        if (r == 0) {
                closep(&f->fd);
                f->fd = TAKE(fd, -1);
        }
        return r;
}

int file_set_writable(struct file *f, bool lock)
{
        int how = f->fd < 0 ? O_RDWR : fcntl(f->fd, F_GETFL), r = 0;

        if (how < 0)
                return -errno;
        if (f->fd >= 0)
                r = (how & O_ACCMODE) == O_RDWR ? promote(f, lock) : open_to_write(f, how, lock);
        if (r == 0) {
                f->read_only = false;
                f->run.from = f->run.end = 0;
        }
        return r;
}

void file_close(struct file *f)
{
        if (!f)
                return;
        f->ops->close(f);
        free(f->path);
        free(f);
}

int file_refresh_size(struct file *f)
{
        return f->is_blkdev ? file_posix_look(f) : 0;
}

int file_allocated(struct file *f, uint64_t *bytes)
{
        struct stat st;

        if (f->fd >= 0 && fstat(f->fd, &st) < 0)
                return -errno;
        if (f->fd >= 0 && !f->is_blkdev) /* f->size is its home thread's, and changes */
                *bytes = (uint64_t)st.st_blocks * 512;
        else
                *bytes = f->size;
        return 0;
}

int file_modified(struct file *f, int64_t *seconds)
{
        struct stat st;

        if (f->fd < 0)
                return -ENOTSUP;
        if (fstat(f->fd, &st) < 0)
                return -errno;
        *seconds = st.st_mtime;
        return 0;
}
