/* SPDX-License-Identifier: BSD-3-Clause */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "fault.h"
#include "file_shelf.h"
#include "image_lock.h"
#include "path.h"
#include "range.h"

#define BOUNCE_BYTES (256u << 10)
#define PROBE_BYTES 4096u

/* --- the kernel's files -------------------------------------------------------------------------------------- */

static ssize_t posix_pread(struct file *f, void *buf, size_t len, uint64_t off)
{
        ssize_t n = pread(f->fd, buf, len, (off_t)off);

        return n < 0 ? -errno : n;
}

static ssize_t posix_pwrite(struct file *f, const void *buf, size_t len, uint64_t off)
{
        ssize_t n = pwrite(f->fd, buf, len, (off_t)off);

        return n < 0 ? -errno : n;
}

static int posix_truncate(struct file *f, uint64_t size)
{
        if (f->is_blkdev)
                return size <= f->size ? 0 : -ENOSPC;
        return ftruncate(f->fd, (off_t)size) < 0 ? -errno : 0;
}

static int posix_punch(struct file *f, uint64_t off, uint64_t len, bool keep_allocated)
{
        int mode = FALLOC_FL_KEEP_SIZE | (keep_allocated ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);

        return fallocate(f->fd, mode, (off_t)off, (off_t)len) < 0 ? -errno : 0;
}

static int posix_sync(struct file *f)
{
        return fdatasync(f->fd) < 0 ? -errno : 0;
}

static int posix_run_at(struct file *f, uint64_t off, bool *hole, uint64_t *end)
{
        off_t to = -1;

        *end = f->size;
        if (f->is_blkdev) {
                *hole = false;
                return 0;
        }
        if (!*hole) {
                to = lseek(f->fd, (off_t)off, SEEK_HOLE);
                if (to < 0 && errno != ENXIO) /* knows no holes: all of it is data */
                        return 0;
                *hole = to <= (off_t)off; /* ENXIO: the file has become shorter */
        }
        if (*hole) {
                to = lseek(f->fd, (off_t)off, SEEK_DATA);
                if (to < 0)
                        return errno == ENXIO ? 0 : -errno; /* ENXIO: no data up to the end */
                *hole = to > (off_t)off;
        }
        if (to > (off_t)off) /* else somebody has written there meanwhile: data, as far as anybody knows */
                *end = min_u64((uint64_t)to, f->size);
        return 0;
}

static void posix_close(struct file *f)
{
        if (f->fd >= 0 && file_shelf_keep(f))
                return;
        if (f->fd >= 0)
                image_unlock(f->fd);
        closep(&f->fd);
}

static const struct file_ops posix_ops = {
        .pread = posix_pread,
        .pwrite = posix_pwrite,
        .truncate = posix_truncate,
        .punch = posix_punch,
        .sync = posix_sync,
        .run_at = posix_run_at,
        .close = posix_close,
};

/* What O_DIRECT asks for here: statx tells on newer kernels, else the smallest read that works is the answer. */
static void find_alignment(struct file *f)
{
        AUTO(freep) char *probe = NULL;
        struct statx stx;

        f->mem_align = f->off_align = 1;
        if (!f->direct)
                return;
        if (syscall(SYS_statx, f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 && stx.stx_mask & STATX_DIOALIGN &&
            stx.stx_dio_offset_align) {
                f->mem_align = stx.stx_dio_mem_align;
                f->off_align = stx.stx_dio_offset_align;
                return;
        }
        f->mem_align = f->off_align = PROBE_BYTES;
        probe = aligned_alloc(PROBE_BYTES, PROBE_BYTES);
        for (uint32_t a = 512; probe && a < PROBE_BYTES; a *= 2)
                if (pread(f->fd, probe, a, 0) >= 0) {
                        f->mem_align = f->off_align = a;
                        return;
                }
}

static int look_at(struct file *f)
{
        struct stat st;

        if (fstat(f->fd, &st) < 0)
                return err_note(-errno, "'%s': cannot stat: %s", f->path, strerror(errno));
        f->dev = st.st_dev;
        f->ino = st.st_ino;
        f->is_blkdev = S_ISBLK(st.st_mode);
        if (f->is_blkdev) {
                if (ioctl(f->fd, BLKGETSIZE64, &f->size) < 0)
                        return err_note(-errno, "'%s': cannot read the device's size: %s", f->path, strerror(errno));
        } else if (S_ISREG(st.st_mode)) {
                f->size = (uint64_t)st.st_size;
        } else {
                return err_note(-ENOTSUP, "'%s' is neither a regular file nor a block device", f->path);
        }
        return 0;
}

int file_refresh_size(struct file *f)
{
        return f->is_blkdev ? look_at(f) : 0;
}

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
        f->ops = &posix_ops;
        f->fd = -1;
        f->read_only = flags & FILE_RDONLY;
        f->path = path;
        ours = take_from_shelf(f, flags);
        r = ours ? 0 : open_fd(f, p, flags);
        if (r == 0)
                r = look_at(f);
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
        /* O_NONBLOCK was for opening what may be a pipe. Left on, io_uring fails with EAGAIN where others would wait. */
        fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) & ~O_NONBLOCK);
        find_alignment(f);
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
        find_alignment(f);
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

/* --- whole ranges, any alignment ------------------------------------------------------------------------------ */

static bool fits_direct(const struct file *f, const void *buf, size_t len, uint64_t off)
{
        return is_aligned((uintptr_t)buf, f->mem_align) && is_aligned(len | off, f->off_align);
}

/* Short transfers are normal: go on where it stopped. Returns the bytes read; fewer than @len only at the end. */
static ssize_t read_all(struct file *f, void *buf, size_t len, uint64_t off)
{
        size_t done = 0;

        while (done < len) {
                ssize_t n = f->ops->pread(f, (char *)buf + done, len - done, off + done);

                if (n == -EINTR || n == -EAGAIN)
                        continue;
                if (n < 0)
                        return n;
                if (n == 0)
                        break;
                done += (size_t)n;
                if (!is_aligned((uint64_t)n, f->off_align)) /* the end of the file; O_DIRECT could not go on anyway */
                        break;
        }
        return (ssize_t)done;
}

static int write_all(struct file *f, const void *buf, size_t len, uint64_t off)
{
        size_t done = 0;

        while (done < len) {
                ssize_t n = f->ops->pwrite(f, (const char *)buf + done, len - done, off + done);

                if (n == -EINTR || n == -EAGAIN)
                        continue;
                if (n <= 0)
                        return n < 0 ? (int)n : -EIO;
                done += (size_t)n;
        }
        return 0;
}

static int read_zero_padded(struct file *f, void *buf, size_t len, uint64_t off)
{
        ssize_t n = read_all(f, buf, len, off);

        if (n < 0)
                return (int)n;
        memset((char *)buf + n, 0, len - (size_t)n);
        return 0;
}

/* Through an aligned buffer, a piece at a time; a write reads the bytes around it first. */
static int bounce(struct file *f, void *rbuf, const void *wbuf, size_t len, uint64_t off)
{
        AUTO(freep) char *tmp = aligned_alloc(max_u64(f->mem_align, PROBE_BYTES), BOUNCE_BYTES);
        uint64_t old_size = f->size;

        if (!tmp)
                return -ENOMEM;
        for (size_t done = 0; done < len;) {
                uint64_t start = round_down(off + done, f->off_align);
                size_t skip = (size_t)(off + done - start);
                size_t n = min_u64(len - done, BOUNCE_BYTES - skip);
                size_t whole = round_up(skip + n, f->off_align);
                int r = read_zero_padded(f, tmp, whole, start);

                if (r == 0 && wbuf) {
                        memcpy(tmp + skip, (const char *)wbuf + done, n);
                        r = write_all(f, tmp, whole, start);
                }
                if (r < 0)
                        return r;
                if (rbuf)
                        memcpy((char *)rbuf + done, tmp + skip, n);
                done += n;
        }
        if (wbuf && !f->is_blkdev && round_up(off + len, f->off_align) > max_u64(old_size, off + len))
                return f->ops->truncate(f, max_u64(old_size, off + len)); /* the padding was ours, not the caller's */
        return 0;
}

static int noted(struct file *f, int r, const char *what, uint64_t off)
{
        if (r == 0)
                return 0;
        return err_note(r, "'%s': cannot %s at offset %llu: %s", f->path, what, (unsigned long long)off, strerror(-r));
}

int file_pread(struct file *f, void *buf, size_t len, uint64_t off)
{
        int r = FAULT("file.read");

        if (r == 0 && fits_direct(f, buf, len, off))
                r = read_zero_padded(f, buf, len, off);
        else if (r == 0)
                r = bounce(f, buf, NULL, len, off);
        return noted(f, r, "read", off);
}

int file_pwrite(struct file *f, const void *buf, size_t len, uint64_t off)
{
        struct iovec iov = { (void *)buf, len };
        struct file_event ev = { FILE_EV_WRITE, FILE_EV_ISSUED, off, len, &iov, 1 };
        int r = FAULT("file.write");

        if (r == 0) {
                file_tell(f, &ev);
                r = fits_direct(f, buf, len, off) ? write_all(f, buf, len, off) : bounce(f, NULL, buf, len, off);
        }
        if (r == 0) {
                f->size = max_u64(f->size, off + len);
                ev.phase = FILE_EV_DONE;
                file_tell(f, &ev);
        }
        return noted(f, r, "write", off);
}

int file_truncate(struct file *f, uint64_t size)
{
        struct file_event ev = { FILE_EV_TRUNCATE, FILE_EV_ISSUED, size, 0, NULL, 0 };
        int r = FAULT("file.truncate");

        if (r == 0) {
                file_tell(f, &ev);
                r = f->ops->truncate(f, size);
        }
        if (r == 0) {
                if (!f->is_blkdev)
                        f->size = size;
                ev.phase = FILE_EV_DONE;
                file_tell(f, &ev);
        }
        return noted(f, r, "set the size", size);
}

static int write_zeroes(struct file *f, uint64_t off, uint64_t len)
{
        AUTO(freep) char *zeros = aligned_alloc(PROBE_BYTES, BOUNCE_BYTES);

        if (!zeros)
                return -ENOMEM;
        memset(zeros, 0, BOUNCE_BYTES);
        while (len) {
                size_t n = min_u64(len, BOUNCE_BYTES - off % PROBE_BYTES); /* aligned again after the first piece */
                int r = fits_direct(f, zeros, n, off) ? write_all(f, zeros, n, off) : bounce(f, NULL, zeros, n, off);

                if (r < 0)
                        return r;
                off += n;
                len -= n;
        }
        return 0;
}

int file_zero(struct file *f, uint64_t off, uint64_t len, bool keep_allocated)
{
        struct file_event ev = { keep_allocated ? FILE_EV_ZERO : FILE_EV_PUNCH, FILE_EV_ISSUED, off, len, NULL, 0 };
        int r = FAULT("file.punch");

        if (len == 0)
                return 0;
        if (r == 0) {
                file_tell(f, &ev);
                r = f->ops->punch(f, off, len, keep_allocated);
                if (r == -EOPNOTSUPP || r == -ENODEV || r == -EINVAL) /* past the end it reads as zeros already */
                        r = off < f->size ? write_zeroes(f, off, min_u64(len, f->size - off)) : 0;
        }
        if (r == 0) {
                ev.phase = FILE_EV_DONE;
                file_tell(f, &ev);
        }
        return noted(f, r, "zero a range", off);
}

int file_write_zeros(struct file *f, uint64_t off, uint64_t len)
{
        AUTO(freep) char *zeros = calloc(1, BOUNCE_BYTES);
        int r = zeros ? 0 : -ENOMEM;

        while (r == 0 && len) {
                size_t n = min_u64(len, BOUNCE_BYTES - off % PROBE_BYTES);

                r = file_pwrite(f, zeros, n, off);
                off += n;
                len -= n;
        }
        return r;
}

void file_hint_extents(struct file *f, uint32_t bytes)
{
        struct fsxattr attr;

        if (f->fd < 0 || f->is_blkdev || bytes == 0 || ioctl(f->fd, FS_IOC_FSGETXATTR, &attr) < 0)
                return;
        attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attr.fsx_extsize = bytes;
        (void)!ioctl(f->fd, FS_IOC_FSSETXATTR, &attr);
}

void file_hint_nocow(struct file *f)
{
        int flags;

        if (f->fd < 0 || f->is_blkdev || ioctl(f->fd, FS_IOC_GETFLAGS, &flags) < 0)
                return;
        flags |= FS_NOCOW_FL;
        (void)!ioctl(f->fd, FS_IOC_SETFLAGS, &flags);
}

/* What says that it cannot be done here, not that it failed, is for the caller to answer. */
static int tell_offload(struct file *dst, int r, uint64_t off)
{
        if (r == -ENOTTY || r == -ENOSYS || r == -EBADF || r == -ETXTBSY || r == -EPERM)
                r = -EOPNOTSUPP;
        return r == -EOPNOTSUPP || r == -EXDEV || r == -EINVAL ? r : noted(dst, r, "copy to", off);
}

/* What can be shared begins at a block. Who can share says so; who cannot says that. */
bool file_can_share(struct file *dst, struct file *src)
{
        struct file_clone_range odd = { .src_fd = src->fd, .src_offset = 1, .src_length = 1, .dest_offset = 1 };

        return src->fd >= 0 && dst->fd >= 0 && !src->is_blkdev && !dst->is_blkdev &&
               ioctl(dst->fd, FICLONERANGE, &odd) < 0 && errno == EINVAL;
}

int file_share(struct file *dst, uint64_t dst_off, struct file *src, uint64_t src_off, uint64_t len)
{
        struct file_clone_range range = {
                .src_fd = src->fd, .src_offset = src_off, .src_length = len, .dest_offset = dst_off,
        };
        int r = FAULT("file.share");

        if (src->fd < 0 || dst->fd < 0)
                return -EOPNOTSUPP;
        if (r == 0 && ioctl(dst->fd, FICLONERANGE, &range) < 0)
                r = -errno;
        return tell_offload(dst, r, dst_off);
}

int file_offload(struct file *dst, uint64_t dst_off, struct file *src, uint64_t src_off, uint64_t len)
{
        off64_t from = (off64_t)src_off, to = (off64_t)dst_off;
        int r = FAULT("file.share");

        if (src->fd < 0 || dst->fd < 0)
                return -EOPNOTSUPP;
        while (r == 0 && len) {
                ssize_t n = copy_file_range(src->fd, &from, dst->fd, &to, min_u64(len, 1u << 30), 0);

                if (n <= 0)
                        r = n < 0 ? -errno : -EINVAL; /* past the end of @src there is nothing to copy */
                else
                        len -= (uint64_t)n;
        }
        return tell_offload(dst, r, dst_off);
}

int file_sync(struct file *f)
{
        struct file_event ev = { .kind = FILE_EV_SYNC, .phase = FILE_EV_ISSUED };
        int r = FAULT("file.sync");

        if (r == 0) {
                file_tell(f, &ev);
                r = f->ops->sync(f);
        }
        if (r == 0) {
                ev.phase = FILE_EV_DONE;
                file_tell(f, &ev);
        }
        return noted(f, r, "sync", 0);
}

int file_run_at(struct file *f, uint64_t off, bool *hole, uint64_t *end)
{
        bool known = f->read_only && off >= f->run.from && off < f->run.end;
        int r;

        if (off >= f->size) {
                *hole = true;
                *end = UINT64_MAX;
                return 0;
        }
        if (!known) {
                /* Behind data that ended before the file did there is a hole: half of all questions, and half of the answer. */
                *hole = f->read_only && f->run.end && off == f->run.end && !f->run.hole;
                r = f->ops->run_at(f, off, hole, end);
                if (r < 0)
                        return noted(f, r, "look for holes", off);
                f->run.from = off;
                f->run.end = *end;
                f->run.hole = *hole;
        }
        *hole = f->run.hole;
        *end = f->run.end;
        return 0;
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
