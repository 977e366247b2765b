/* SPDX-License-Identifier: BSD-3-Clause */
/* file_share.c - what the file system does better than we: sharing blocks, copying by itself, heeding a wish. */
#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fault.h"
#include "file_impl.h"
#include "range.h"

/* What says that it cannot be done here, not that it failed, is for the caller to answer. */
static int tell_offload(struct file *dst, int r, uint64_t off)
{
        if (r == -ENOTTY || r == -ENOSYS || r == -EBADF || r == -ETXTBSY || r == -EPERM)
                r = -EOPNOTSUPP;
        return r == -EOPNOTSUPP || r == -EXDEV || r == -EINVAL ? r : file_noted(dst, r, "copy to", off);
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
