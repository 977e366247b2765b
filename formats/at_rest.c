/* SPDX-License-Identifier: BSD-3-Clause */
/* at_rest.c - images that nobody serves: look, read and settle on this thread, running what batches it takes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/format.h"
#include "formats/luks/crypto.h"

#define ZEROS_BYTES (1u << 20)

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

/* Cuts a DATA extent where data or a hole of its file ends. */
static int see_hole(struct extent *ext)
{
        uint64_t end;
        int r;

        if (ext->img->encrypted) /* a hole is noise when it is deciphered, not zeros */
                return 0;
        r = file_run_at(ext->file, ext->host, &ext->hole, &end);
        if (r == 0)
                ext->len = min_u64(ext->len, end - ext->host);
        return r;
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
                r = file_pread(ext->file, packed, ext->packed_len, ext->host);
        if (r == 0)
                r = fmt_unpack(ext->img, packed, ext->packed_len, cluster);
        if (r == 0)
                memcpy(buf, cluster + ext->skip, ext->len);
        return r;
}

/* Any bytes of whole encrypted sectors. */
static int read_encrypted(const struct extent *ext, char *buf)
{
        uint64_t from = round_down(ext->host, CIPHER_SECTOR), to = round_up(ext->host + ext->len, CIPHER_SECTOR);
        AUTO(freep) char *sectors = malloc(to - from);
        int r = sectors ? file_pread(ext->file, sectors, to - from, from) : -ENOMEM;

        if (r == 0)
                r = sector_cipher_run(ext->cipher, CIPHER_DECRYPT, from / CIPHER_SECTOR, sectors, to - from);
        if (r == 0)
                memcpy(buf, sectors + (ext->host - from), ext->len);
        return r;
}

int extent_read_sync(const struct extent *ext, void *buf)
{
        if (ext->img->locked)
                return err_note(-EACCES, "the image is encrypted and was opened without its key");
        return ext->cipher ? read_encrypted(ext, buf) : file_pread(ext->file, buf, ext->len, ext->host);
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
                        r = extent_read_sync(&ext, to);
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

static int plan_write(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan)
{
        int r;

        *plan = (struct fmt_plan){ 0 };
        while ((r = fmt_plan_write(img, off, len, plan)) == -EAGAIN)
                if ((r = load_missing(img)) < 0)
                        return r;
        return r;
}

/* Its own bytes and the rest of its clusters, as one write. */
static int write_plan(struct fmt_image *img, const struct fmt_plan *plan, const void *buf)
{
        uint64_t len = plan->head + plan->len + plan->tail, host = plan->host - plan->head;
        AUTO(freep) char *all = NULL;
        int r;

        if (len == plan->len && !img->cipher)
                return file_pwrite(fmt_data_file(img), buf, len, host);
        all = malloc(len);
        if (!all)
                return -ENOMEM;
        memcpy(all + plan->head, buf, plan->len);
        r = plan->head ? chain_read_sync(img, all, plan->head, plan->off - plan->head) : 0;
        if (r == 0 && plan->tail)
                r = chain_read_sync(img, all + plan->head + plan->len, plan->tail, plan->off + plan->len);
        if (r == 0 && img->cipher)
                r = sector_cipher_run(img->cipher, CIPHER_ENCRYPT, host / CIPHER_SECTOR, all, len);
        return r < 0 ? r : file_pwrite(fmt_data_file(img), all, len, host);
}

static void settle_plan(struct fmt_image *img, struct fmt_plan *plan, int r)
{
        if (plan->kind == PLAN_IN_PLACE)
                return;
        if (r < 0)
                fmt_abort(img, plan);
        else
                fmt_commit(img, plan);
}

int fmt_write_sync(struct fmt_image *img, const void *buf, size_t len, uint64_t off)
{
        const char *from = buf;
        int r = 0;

        while (r == 0 && len) {
                struct fmt_plan plan;

                r = plan_write(img, off, len, &plan);
                if (r < 0)
                        return r;
                r = write_plan(img, &plan, from);
                settle_plan(img, &plan, r);
                from += plan.len;
                off += plan.len;
                len -= plan.len;
        }
        return r;
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

/* --- space ahead of any write: the format's own plans say where the clusters are -------------------------------- */

/* The planned bytes: @plan's own and the rest of its clusters. Zeros, kept or written as @how asks. */
static int fill_plan(struct fmt_image *img, const struct fmt_plan *plan, enum fmt_prealloc how)
{
        uint64_t from = plan->host - plan->head, len = plan->head + plan->len + plan->tail;
        bool keep = how != FMT_PREALLOC_METADATA || !img->data_file; /* there every place counts as used before */
        struct file *file = fmt_data_file(img);
        int r = 0;

        if (from + len > file->size)
                r = file_truncate(file, from + len);
        if (r == 0 && how == FMT_PREALLOC_FULL)
                return file_write_zeros(file, from, len);
        if (r == 0 && (how == FMT_PREALLOC_FALLOC || !plan->fresh))
                return file_zero(file, from, len, keep);
        return r;
}

int fmt_preallocate_usable(const struct fmt_image *img, enum fmt_prealloc how)
{
        if (how != FMT_PREALLOC_METADATA || img->cluster_size > 1)
                return 0;
        return err_note(-ENOTSUP, "preallocation 'metadata' is not one of off, falloc, full: %s images have no tables",
                        img->drv->name);
}

/* Zeros in the file would be deciphered to noise, so what is preallocated there is written, whatever was asked for. */
static int write_encrypted_zeros(struct fmt_image *img, uint64_t off, uint64_t len)
{
        AUTO(freep) char *zeros = calloc(1, ZEROS_BYTES);
        int r = zeros ? 0 : -ENOMEM;

        for (uint64_t n; r == 0 && len; off += n, len -= n) {
                n = min_u64(len, ZEROS_BYTES);
                r = fmt_write_sync(img, zeros, n, off);
        }
        return r;
}

int fmt_preallocate_sync(struct fmt_image *img, uint64_t off, uint64_t len, enum fmt_prealloc how)
{
        int r = fmt_preallocate_usable(img, how), settled;

        if (r < 0)
                return r;
        if (img->encrypted && how != FMT_PREALLOC_OFF) {
                r = write_encrypted_zeros(img, off, len);
                len = 0;
        }
        while (r == 0 && how != FMT_PREALLOC_OFF && len) {
                struct fmt_plan plan;

                r = plan_write(img, off, len, &plan);
                if (r < 0)
                        break;
                /* In place, for tables only: the rest of a cluster that is there. */
                if (plan.kind != PLAN_IN_PLACE || how != FMT_PREALLOC_METADATA)
                        r = fill_plan(img, &plan, how);
                settle_plan(img, &plan, r);
                off += plan.len;
                len -= plan.len;
        }
        settled = fmt_settle_sync(img);
        return r < 0 ? r : settled;
}

/* --- the same bytes without a copy through us ------------------------------------------------------------------- */

int fmt_share_sync(struct fmt_image *img, uint64_t off, const struct extent *from, bool offload, uint64_t *done)
{
        struct fmt_plan plan;
        int r;

        *done = 0;
        if (img->encrypted || from->img->encrypted) /* other bytes in each file */
                return 0;
        r = plan_write(img, off, from->len, &plan);
        if (r < 0)
                return r;
        if (plan.head || (plan.tail && !plan.fresh) || plan.kind == PLAN_PACKED)
                r = -EINVAL; /* part of a cluster whose other bytes come from elsewhere */
        else if (offload)
                r = file_offload(fmt_data_file(img), plan.host, from->file, from->host, plan.len);
        else
                r = file_share(fmt_data_file(img), plan.host, from->file, from->host, plan.len);
        if (r == 0)
                *done = plan.len;
        settle_plan(img, &plan, r);
        return r == -EINVAL ? 0 : r;
}
