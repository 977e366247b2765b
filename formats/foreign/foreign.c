/* SPDX-License-Identifier: BSD-3-Clause */
/* foreign.c - from blocks to extents, and the beginning and end of every open(). */
#include "formats/foreign/foreign.h"

#include <errno.h>
#include <stdlib.h>

#include "common/err.h"
#include "common/range.h"
#include "formats/foreign/on_disk.h"

#define BLOCKS_MAX 4096u /* looked at by one call: a disk may be one run of very many */

/* --- open and close --------------------------------------------------------------------------------------------- */

void *foreign_new(struct file *file, const struct fmt_open_opts *opts, const struct fmt_driver *drv, size_t size,
                  int *r)
{
        bool writing = !(opts->flags & FMT_RDONLY);
        struct foreign *f = writing ? NULL : calloc(1, size);

        *r = -ENOMEM;
        if (writing)
                *r = err_note(-EROFS, "%s images can only be read: open it read-only, or convert it to qcow2",
                              drv->name);
        if (f)
                f->pages = pages_new(opts->cache_bytes);
        if (!f || !f->pages) {
                free(f);
                file_close(file);
                return NULL;
        }
        f->img.drv = drv;
        f->img.file = file;
        f->img.read_only = true;
        f->img.host_align = SECTOR;
        f->end = file->size;
        return f;
}

int foreign_opened(struct foreign *f, int r, struct fmt_image **ret)
{
        struct file *file = f->img.file;

        if (r == 0) {
                f->img.subcluster_size = f->img.cluster_size;
                *ret = &f->img;
                return 0;
        }
        f->img.drv->close(&f->img);
        file_close(file);
        return r;
}

void foreign_close(struct fmt_image *img)
{
        pages_free(foreign_of(img)->pages);
        free(img);
}

int foreign_check_inside(const struct foreign *f, uint64_t off, uint64_t len, const char *what)
{
        uint64_t size = f->end;

        if (range_fits(off, len, size))
                return 0;
        return err_note(-EINVAL, "the %s (%llu bytes at %llu) does not lie in the file, which has %llu bytes", what,
                        (unsigned long long)len, (unsigned long long)off, (unsigned long long)size);
}

int foreign_read(const struct foreign *f, void *buf, size_t len, uint64_t off, const char *what)
{
        int r = foreign_check_inside(f, off, len, what);

        return r < 0 ? r : file_pread(f->img.file, buf, len, off);
}

/* --- lookups: any thread ---------------------------------------------------------------------------------------- */

static int beyond_file(const struct foreign *f, const struct extent *e)
{
        return err_note(-EIO, "the block for the range at %llu lies at %llu, beyond the end of the file (%llu)",
                        (unsigned long long)e->off, (unsigned long long)e->host,
                        (unsigned long long)f->end);
}

/* What block @no says about [off, off + len), which is inside it. */
static int one_block(struct foreign *f, uint64_t no, uint64_t off, uint64_t len, struct extent *e)
{
        uint64_t skip = off - no * f->block_size, end = f->end;
        struct block b;
        int r = f->block(f, no, &b);

        if (r < 0)
                return r;
        *e = (struct extent){ .kind = b.kind, .off = off, .len = len, .img = &f->img };
        if (b.kind == EXT_DATA) {
                e->host = b.host + skip;
                return range_fits(b.host, skip + len, end) ? 0 : beyond_file(f, e);
        }
        if (b.kind != EXT_COMPRESSED)
                return 0;
        e->host = b.host;
        if (e->host >= end)
                return beyond_file(f, e);
        e->skip = (uint32_t)skip;
        e->packed_len = (uint32_t)min_u64(f->packed_max, end - e->host);
        return 0;
}

static bool joins(const struct extent *a, const struct extent *b)
{
        return a->kind == b->kind && a->kind != EXT_COMPRESSED && (a->kind != EXT_DATA || a->host + a->len == b->host);
}

int foreign_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        struct foreign *f = foreign_of(img);
        uint64_t end = off + len;
        unsigned n = 0;

        for (unsigned seen = 0; off < end && seen < BLOCKS_MAX; seen++) {
                uint64_t no = off / f->block_size;
                struct extent e;
                int r = one_block(f, no, off, min_u64(end - off, f->block_size - off % f->block_size), &e);

                if (r < 0)
                        return n ? (int)n : r; /* who wants to know asks again from there */
                if (n && joins(&ext[n - 1], &e))
                        ext[n - 1].len += e.len;
                else if (n == max)
                        break;
                else
                        ext[n++] = e;
                off += e.len;
        }
        return (int)n;
}

struct fmt_batch *foreign_want(struct fmt_image *img)
{
        return pages_want(foreign_of(img)->pages);
}
