/* SPDX-License-Identifier: BSD-3-Clause */
/* file_posix.c - a file that the kernel has: one system call an operation, and what such a file is. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "file_impl.h"
#include "file_shelf.h"
#include "image_lock.h"
#include "range.h"

#define PROBE_BYTES 4096u

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

const struct file_ops file_posix_ops = {
        .pread = posix_pread,
        .pwrite = posix_pwrite,
        .truncate = posix_truncate,
        .punch = posix_punch,
        .sync = posix_sync,
        .run_at = posix_run_at,
        .close = posix_close,
};

/* statx tells on newer kernels, else the smallest read that works is the answer. */
void file_posix_align(struct file *f)
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

int file_posix_look(struct file *f)
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
