/* SPDX-License-Identifier: BSD-3-Clause */
/* at_rest.c - images that nobody serves: look, read and settle on this thread, running what batches it takes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "formats/format.h"

static int run_flush(struct fmt_image *img)
{
        struct fmt_batch *b;
        int r = fmt_flush(img, &b);

        return r < 0 ? r : fmt_batch_run_sync(b);
}

/* After an -EAGAIN: load the page it was about; without a page to load the cache has to be emptied first. */
static int load_missing(struct fmt_image *img)
{
        struct fmt_batch *b = fmt_want(img);

        if (b)
                return fmt_batch_run_sync(b);
        return fmt_is_dirty(img) ? run_flush(img) : -ENOMEM;
}

/* Cuts a DATA extent where data or a hole of its file ends. Past the end of the file all is hole. */
static int see_hole(struct extent *ext)
{
        uint64_t data, hole;
        int r = file_next_data(ext->img->file, ext->host, &data, &hole);

        if (r < 0)
                return r;
        ext->hole = ext->host < data || ext->host >= ext->img->file->size;
        if (!ext->hole)
                ext->len = min_u64(ext->len, hole - ext->host);
        else if (data < ext->img->file->size)
                ext->len = min_u64(ext->len, data - ext->host);
        return 0;
}

int chain_map_sync(struct fmt_image *top, uint64_t off, uint64_t len, struct extent *ext)
{
        struct fmt_image *missing;
        int n, r;

        while ((n = chain_map(top, off, len, ext, 1, &missing)) == -EAGAIN) {
                r = load_missing(missing);
                if (r < 0)
                        return r;
        }
        if (n < 0)
                return n;
        return ext->kind == EXT_DATA ? see_hole(ext) : 0;
}

static int read_packed(const struct extent *ext, char *buf)
{
        AUTO(freep) char *packed = malloc(ext->packed_len);
        AUTO(freep) char *cluster = malloc(ext->img->cluster_size);
        int r = packed && cluster ? 0 : -ENOMEM;

        if (r == 0)
                r = file_pread(ext->img->file, packed, ext->packed_len, ext->host);
        if (r == 0)
                r = fmt_unpack(ext->img, packed, ext->packed_len, cluster);
        if (r == 0)
                memcpy(buf, cluster + ext->skip, ext->len);
        return r;
}

int chain_read_sync(struct fmt_image *top, void *buf, size_t len, uint64_t off)
{
        char *to = buf;

        while (len) {
                struct extent ext;
                int r = chain_map_sync(top, off, len, &ext);

                if (r < 0)
                        return r;
                if (ext.kind == EXT_DATA && !ext.hole)
                        r = file_pread(ext.img->file, to, ext.len, ext.host);
                else if (ext.kind == EXT_COMPRESSED)
                        r = read_packed(&ext, to);
                else
                        memset(to, 0, ext.len);
                if (r < 0)
                        return r;
                to += ext.len;
                off += ext.len;
                len -= ext.len;
        }
        return 0;
}

int fmt_settle_sync(struct fmt_image *img)
{
        struct fmt_batch *b;
        bool again;
        int r;

        fmt_wind_down(img);
        do {
                uint64_t ticket = fmt_dying(img);

                if (ticket)
                        fmt_dying_release(img, ticket); /* one thread, nothing in flight */
                again = ticket != 0;
                r = run_flush(img);
                if (r == 0)
                        r = fmt_housekeep(img, &b);
                for (; r == 0 && b; again = true) {
                        r = fmt_batch_run_sync(b);
                        if (r == 0)
                                r = fmt_housekeep(img, &b);
                }
        } while (r == 0 && (again || fmt_is_dirty(img)));
        return r;
}
