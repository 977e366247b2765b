/* SPDX-License-Identifier: BSD-3-Clause */
#include "img_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "formats/luks/crypto.h"

#define RETRIES 100000 /* a loop that makes no progress is a failure, not a hang */

/* Every piece of I/O passes here first. */
static int step(struct img_io *io)
{
        io->steps++;
        if (io->stop_at && io->steps >= io->stop_at)
                return -ECANCELED;
        return io->fail_at && io->steps == io->fail_at ? -EIO : 0;
}

static int run_step(struct img_io *io, struct file *f, const struct fmt_step *s)
{
        int r = step(io);

        if (r < 0)
                return r;
        switch (s->op) {
        case FMT_READ:
                return file_pread(f, s->buf, s->len, s->off);
        case FMT_WRITE:
                return file_pwrite(f, s->buf, s->len, s->off);
        case FMT_ZERO:
                return file_zero(f, s->off, s->len, false);
        case FMT_TRUNCATE:
                return file_truncate(f, s->off);
        case FMT_SYNC:
                io->syncs++;
                return file_sync(f);
        }
        return -EINVAL;
}

int img_run(struct img_io *io, struct fmt_batch *b)
{
        int r = 0;

        b->started = true;
        for (unsigned i = 0; r == 0 && i < b->nsteps; i++) {
                if (io->between && !io->in_between) {
                        io->in_between = true;
                        io->between(io);
                        io->in_between = false;
                }
                r = run_step(io, fmt_step_file(b->img, &b->step[i]), &b->step[i]);
        }
        b->done(b, r);
        return r;
}

static int flush_once(struct img_io *io)
{
        struct fmt_batch *b;
        int r = fmt_flush(io->img, &b);

        io->flushes++;
        if (r == 0 && io->flush_begins)
                io->flush_begins(io);
        return r < 0 ? r : img_run(io, b);
}

int img_retry(struct img_io *io, struct fmt_image *missing)
{
        struct fmt_batch *b = fmt_want(missing);

        if (b && b->started)
                return -EBUSY; /* its runner is further up this stack */
        if (b)
                return img_run(io, b);
        return missing == io->img ? flush_once(io) : -ENOMEM;
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

static int read_packed(struct img_io *io, const struct extent *e, char *to)
{
        AUTO(freep) char *packed = malloc(e->packed_len);
        AUTO(freep) char *cluster = malloc(e->img->cluster_size);
        int r = step(io);

        if (r == 0)
                r = file_pread(e->file, packed, e->packed_len, e->host);
        if (r == 0)
                r = fmt_unpack(e->img, packed, e->packed_len, cluster);
        if (r == 0)
                memcpy(to, cluster + e->skip, e->len);
        return r;
}

static int read_extent(struct img_io *io, const struct extent *e, char *to)
{
        int r;

        switch (e->kind) {
        case EXT_DATA:
                r = step(io);
                if (r == 0)
                        r = file_pread(e->file, to, e->len, e->host);
                return r < 0 || !e->cipher ? r : sector_cipher_run(e->cipher, CIPHER_DECRYPT, e->host / CIPHER_SECTOR, to, e->len);
        case EXT_COMPRESSED:
                return read_packed(io, e, to);
        case EXT_ZERO:
                memset(to, 0, e->len);
                return 0;
        default:
                return -EPROTO; /* chain_map() promised never to say so */
        }
}

int img_read(struct img_io *io, void *buf, size_t len, uint64_t off)
{
        uint64_t end = off + len, pos = off;

        for (unsigned tries = 0; pos < end && tries < RETRIES; tries++) {
                struct fmt_image *missing;
                struct extent e[4];
                int n = chain_map(io->img, pos, end - pos, e, ARRAY_SIZE(e), &missing), r = 0;

                if (n == -EAGAIN)
                        r = img_retry(io, missing);
                else if (n < 0)
                        return n;
                for (int i = 0; r == 0 && i < n; i++) {
                        if (e[i].off != pos)
                                return -EPROTO; /* without gaps */
                        r = read_extent(io, &e[i], (char *)buf + (pos - off));
                        pos += e[i].len;
                }
                if (r < 0)
                        return r;
        }
        return pos == end ? 0 : -ELOOP;
}

/* --- writing ------------------------------------------------------------------------------------------------------- */

int img_plan_write(struct img_io *io, uint64_t off, uint64_t len, struct fmt_plan *plan)
{
        int r = -EAGAIN;

        for (unsigned tries = 0; r == -EAGAIN && tries < RETRIES; tries++) {
                *plan = (struct fmt_plan){ 0 };
                r = fmt_plan_write(io->img, off, len, plan);
                if (r == -EAGAIN && (r = img_retry(io, io->img)) == 0)
                        r = -EAGAIN;
        }
        return r == -EAGAIN ? -ELOOP : r;
}

int img_put(struct img_io *io, const struct fmt_plan *plan, const void *data)
{
        size_t head = plan->kind == PLAN_ALLOCATE ? plan->head : 0, tail = plan->kind == PLAN_ALLOCATE ? plan->tail : 0;
        AUTO(freep) char *all = malloc(head + plan->len + tail);
        int r = all ? 0 : -ENOMEM;

        if (r == 0 && head)
                r = img_read(io, all, head, plan->off - head);
        if (r == 0 && tail)
                r = img_read(io, all + head + plan->len, tail, plan->off + plan->len);
        if (r == 0)
                r = step(io);
        if (r < 0)
                return r;
        memcpy(all + head, data, plan->len);
        if (io->img->cipher)
                r = sector_cipher_run(io->img->cipher, CIPHER_ENCRYPT, (plan->host - head) / CIPHER_SECTOR, all,
                                      head + plan->len + tail);
        return r < 0 ? r : file_pwrite(fmt_data_file(io->img), all, head + plan->len + tail, plan->host - head);
}

static int after_change(struct img_io *io)
{
        uint64_t ticket = io->hold_dying ? 0 : fmt_dying(io->img);

        if (ticket)
                fmt_dying_release(io->img, ticket);
        return 0;
}

int img_write(struct img_io *io, const void *buf, size_t len, uint64_t off)
{
        while (len) {
                struct fmt_plan plan;
                int r = img_plan_write(io, off, len, &plan);

                if (r < 0)
                        return r;
                if (plan.off != off || plan.len == 0 || plan.len > len)
                        return -EPROTO;
                r = img_put(io, &plan, buf);
                if (r < 0 && plan.kind == PLAN_ALLOCATE)
                        fmt_abort(io->img, &plan);
                if (r < 0)
                        return r;
                if (plan.kind == PLAN_ALLOCATE)
                        fmt_commit(io->img, &plan);
                after_change(io);
                buf = (const char *)buf + plan.len;
                off += plan.len;
                len -= plan.len;
        }
        return 0;
}

int img_plan_packed(struct img_io *io, uint64_t off, uint32_t packed_len, struct fmt_plan *plan)
{
        int r = -EAGAIN;

        for (unsigned tries = 0; r == -EAGAIN && tries < RETRIES; tries++) {
                r = fmt_plan_packed(io->img, off, packed_len, plan);
                if (r == -EAGAIN && (r = img_retry(io, io->img)) == 0)
                        r = -EAGAIN;
        }
        return r == -EAGAIN ? -ELOOP : r;
}

static int put_packed(struct img_io *io, const void *packed, uint32_t len, uint64_t off)
{
        struct fmt_plan plan;
        int r = img_plan_packed(io, off, len, &plan);

        if (r < 0)
                return r;
        r = plan.kind == PLAN_PACKED && plan.off == off ? step(io) : -EPROTO;
        if (r == 0)
                r = file_pwrite(io->img->file, packed, len, plan.host);
        if (r < 0)
                fmt_abort(io->img, &plan);
        else
                fmt_commit(io->img, &plan);
        after_change(io);
        return r;
}

int img_write_packed(struct img_io *io, const void *buf, uint64_t off)
{
        uint64_t cluster = io->img->cluster_size, len = min_u64(cluster, io->img->size - off);
        AUTO(freep) char *in = calloc(1, cluster);
        AUTO(freep) char *out = malloc(cluster);
        int n = in && out ? 0 : -ENOMEM;

        if (n == 0) {
                memcpy(in, buf, len);
                n = fmt_pack(io->img, in, out);
        }
        if (n < 0)
                return n;
        return n ? put_packed(io, out, (uint32_t)n, off) : img_write(io, buf, len, off);
}

static int write_zeroes(struct img_io *io, uint64_t off, uint64_t len)
{
        AUTO(freep) char *zeros = calloc(1, len);

        return zeros ? img_write(io, zeros, len, off) : -ENOMEM;
}

static int zero_one(struct img_io *io, struct fmt_plan *plan)
{
        int r = 0;

        switch (plan->kind) {
        case PLAN_TABLES:
                fmt_commit(io->img, plan);
                return after_change(io);
        case PLAN_WRITE_ZEROES:
                return write_zeroes(io, plan->off, plan->len);
        case PLAN_PUNCH:
                r = step(io);
                return r < 0 ? r : file_zero(fmt_data_file(io->img), plan->host, plan->len, plan->keep);
        case PLAN_NOTHING:
                return 0;
        default:
                return -EPROTO;
        }
}

int img_zero(struct img_io *io, uint64_t off, uint64_t len, unsigned flags)
{
        for (unsigned tries = 0; len; tries++) {
                struct fmt_plan plan = { 0 };
                int r = fmt_plan_zero(io->img, off, len, flags, &plan);

                if (tries > RETRIES)
                        return -ELOOP;
                if (r == -EAGAIN) {
                        r = img_retry(io, io->img);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (r < 0)
                        return r;
                if (plan.off != off || plan.len == 0 || plan.len > len)
                        return -EPROTO;
                r = zero_one(io, &plan);
                if (r < 0)
                        return r;
                off += plan.len;
                len -= plan.len;
        }
        return 0;
}

/* --- making it last ------------------------------------------------------------------------------------------------ */

int img_housekeep(struct img_io *io)
{
        for (unsigned tries = 0; tries < RETRIES; tries++) {
                struct fmt_batch *b;
                int r = fmt_housekeep(io->img, &b);

                if (r < 0 || !b)
                        return r;
                r = img_run(io, b);
                if (r < 0)
                        return r;
        }
        return -ELOOP;
}

int img_flush(struct img_io *io)
{
        int r = flush_once(io);

        return r < 0 || io->no_housekeep ? r : img_housekeep(io);
}

int img_settle(struct img_io *io)
{
        int r = 0;

        fmt_wind_down(io->img);
        for (unsigned tries = 0; tries < 100; tries++) {
                r = flush_once(io);
                if (r == 0)
                        r = img_housekeep(io);
                if (r < 0 || !fmt_is_dirty(io->img))
                        return r;
        }
        return -ELOOP;
}
