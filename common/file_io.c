/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file_io.c - whole ranges of a file, at any alignment, or an error: what file_ops can do in one go is repeated until
 * all is done, and what O_DIRECT cannot take as it is goes through an aligned buffer. Each is told to the tap and may
 * be made to fail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "fault.h"
#include "file_impl.h"
#include "range.h"

#define BOUNCE_BYTES (256u << 10)
#define BOUNCE_ALIGN 4096u

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
        AUTO(freep) char *tmp = aligned_alloc(max_u64(f->mem_align, BOUNCE_ALIGN), BOUNCE_BYTES);
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

int file_noted(struct file *f, int r, const char *what, uint64_t off)
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
        return file_noted(f, r, "read", off);
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
        return file_noted(f, r, "write", off);
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
        return file_noted(f, r, "set the size", size);
}

static int write_zeroes(struct file *f, uint64_t off, uint64_t len)
{
        AUTO(freep) char *zeros = aligned_alloc(BOUNCE_ALIGN, BOUNCE_BYTES);

        if (!zeros)
                return -ENOMEM;
        memset(zeros, 0, BOUNCE_BYTES);
        while (len) {
                size_t n = min_u64(len, BOUNCE_BYTES - off % BOUNCE_ALIGN); /* aligned again after the first piece */
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
        return file_noted(f, r, "zero a range", off);
}

int file_write_zeros(struct file *f, uint64_t off, uint64_t len)
{
        AUTO(freep) char *zeros = calloc(1, BOUNCE_BYTES);
        int r = zeros ? 0 : -ENOMEM;

        while (r == 0 && len) {
                size_t n = min_u64(len, BOUNCE_BYTES - off % BOUNCE_ALIGN);

                r = file_pwrite(f, zeros, n, off);
                off += n;
                len -= n;
        }
        return r;
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
        return file_noted(f, r, "sync", 0);
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
                /* Behind data that ended before the file did there is a hole: half of all questions, and half of the
                 * answer. */
                *hole = f->read_only && f->run.end && off == f->run.end && !f->run.hole;
                r = f->ops->run_at(f, off, hole, end);
                if (r < 0)
                        return file_noted(f, r, "look for holes", off);
                f->run.from = off;
                f->run.end = *end;
                f->run.hole = *hole;
        }
        *hole = f->run.hole;
        *end = f->run.end;
        return 0;
}
