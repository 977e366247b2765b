/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "actor.h"
#include "blkq/vol.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tests/diff/fail.h"

#define AT_ONCE 16
#define READ_PIECE (1u << 20)

struct disk {
        struct qthread *t;
        struct vol *v;
        struct vol_port *port;
        bool closed;
        int close_res;
};

struct flight {
        struct blk_req req;
        struct iovec iov;
        unsigned *left;
        bool *all_done;
        int *res;
};

static void disk_open(struct disk *d, const struct subject *image, uint64_t seed, bool read_only)
{
        static const enum engine_kind kinds[] = { ENGINE_AUTO, ENGINE_SYNC, ENGINE_THREADS };
        struct qthread_opts topts = {
                .name = "diff", .inline_loop = true, .engine = { .kind = kinds[seed % 3], .seed = seed },
        };
        struct vol_opts vopts = { .format = "qcow2", .read_only = read_only, .writeback = seed & 4,
                                  .cache_bytes = seed & 8 ? 64u << 10 : 0, .layer = image->layer };

        *d = (struct disk){ 0 };
        if (qthread_new(&topts, &d->t) < 0 || vol_open(image->path, &vopts, d->t, &d->v) < 0 ||
            port_attach(d->v, d->t, &d->port) < 0)
                test_failed("we cannot open the image: %s", err_text(-1));
}

static void on_closed(void *opaque, int res)
{
        struct disk *d = opaque;

        d->close_res = res;
        d->closed = true;
}

static void disk_close(struct disk *d)
{
        port_detach(d->port);
        vol_close(d->v, on_closed, d);
        qthread_run(d->t, &d->closed);
        qthread_free(d->t);
        if (d->close_res < 0)
                test_failed("our close failed: %s", err_text(d->close_res));
}

static void on_done(struct blk_req *req, int res)
{
        struct flight *f = container_of(req, struct flight, req);

        if (res < 0)
                *f->res = res;
        if (--*f->left == 0)
                *f->all_done = true;
}

static void prepare(struct flight *f, const struct op *op)
{
        static const enum blk_op blk[] = {
                [OP_WRITE] = BLK_WRITE,           [OP_ZERO] = BLK_WRITE_ZEROES, [OP_ZERO_UNMAP] = BLK_WRITE_ZEROES,
                [OP_DISCARD] = BLK_DISCARD, [OP_FLUSH] = BLK_FLUSH,
        };

        f->req = (struct blk_req){ .op = blk[op->kind], .off = op->off, .len = op->len, .done = on_done,
                                   .flags = op->kind == OP_ZERO_UNMAP ? BLK_UNMAP : 0 };
        if (op->kind == OP_WRITE) {
                f->iov.iov_len = op->len;
                f->iov.iov_base = aligned_alloc(4096, round_up(op->len, 4096));
                memset(f->iov.iov_base, op->value, op->len);
                f->req.iov = &f->iov;
                f->req.niov = 1;
        }
}

/* As many of @ops as may be in flight together: none overlaps another. */
static unsigned batch_len(const struct op *ops, unsigned n)
{
        for (unsigned i = 1; i < n && i < AT_ONCE; i++)
                for (unsigned j = 0; j < i; j++)
                        if (range_overlaps(ops[i].off, ops[i].len, ops[j].off, ops[j].len))
                                return i;
        return n < AT_ONCE ? n : AT_ONCE;
}

void we_do(const struct subject *image, uint64_t seed, const struct op *ops, unsigned n)
{
        struct disk d;

        disk_open(&d, image, seed, false);
        while (n) {
                struct flight flights[AT_ONCE] = { 0 };
                unsigned batch = batch_len(ops, n), left = batch;
                bool all_done = false;
                int res = 0;

                for (unsigned i = 0; i < batch; i++) {
                        flights[i] = (struct flight){ .left = &left, .all_done = &all_done, .res = &res };
                        prepare(&flights[i], &ops[i]);
                }
                for (unsigned i = 0; i < batch; i++)
                        port_submit(d.port, &flights[i].req);
                qthread_run(d.t, &all_done);
                for (unsigned i = 0; i < batch; i++)
                        free(flights[i].iov.iov_base);
                if (res < 0)
                        test_failed("one of our requests failed: %s", err_text(res));
                ops += batch;
                n -= batch;
        }
        disk_close(&d);
}

void we_compare(const struct subject *image, const struct model *m)
{
        AUTO(freep) uint8_t *buf = aligned_alloc(4096, READ_PIECE);
        struct disk d;

        disk_open(&d, image, m->size / SECTOR, true);
        if (vol_size(d.v) != m->size)
                test_failed("we see a disk of another size than %llu", (unsigned long long)m->size);
        for (uint64_t off = 0, len; off < m->size; off += len) {
                unsigned left = 1;
                bool all_done = false;
                int res = 0;
                uint64_t bad;
                struct flight f = { .left = &left, .all_done = &all_done, .res = &res };

                len = min_u64(READ_PIECE, m->size - off);
                f.iov = (struct iovec){ buf, len };
                f.req = (struct blk_req){ .op = BLK_READ, .off = off, .len = len, .iov = &f.iov, .niov = 1,
                                          .done = on_done };
                port_submit(d.port, &f.req);
                qthread_run(d.t, &all_done);
                if (res < 0)
                        test_failed("our read at %llu failed: %s", (unsigned long long)off, err_text(res));
                if (!model_agrees(m, off, buf, len, &bad))
                        test_failed("we read something else at %llu", (unsigned long long)bad);
        }
        disk_close(&d);
}

static void on_finding(struct fmt_check *chk, const struct fmt_finding *f)
{
        test_failed("our check: %s", f->text);
}

void we_check(const struct subject *image)
{
        struct fmt_open_opts opts = { .format = "qcow2", .flags = FMT_RDONLY | FMT_NO_BACKING | FMT_NO_KEY };
        struct fmt_check chk = { .finding = on_finding };
        struct fmt_image *img;
        int r = chain_open(image->path, &opts, &img);

        if (r == 0)
                r = img->drv->check(img, &chk);
        if (r < 0)
                test_failed("our check cannot read the image: %s", err_text(r));
        chain_close(img);
}

uint8_t *we_read_bitmap(const struct subject *image, const char *name, uint64_t *granules)
{
        struct fmt_open_opts opts = { .format = "qcow2", .flags = FMT_RDONLY | FMT_NO_BACKING | FMT_NO_KEY };
        AUTO(bitmap_set_finish) struct bitmap_set s = { 0 };
        const struct named_bitmap *b = NULL;
        struct fmt_image *img;
        uint8_t *ret = NULL;
        uint64_t off = 0, len = 0;
        int r = chain_open(image->path, &opts, &img);

        if (r == 0) {
                r = bitmap_set_load(&s, img);
                chain_close(img);
        }
        if (r == 0)
                b = bitmap_set_find(&s, name);
        if (r < 0 || !b || !b->bits)
                test_failed("the bitmap is %s: %s", b ? "inconsistent" : "not there", err_text(r));
        *granules = dirty_bitmap_granules(b->bits);
        ret = calloc(*granules + 1, 1);
        while (dirty_bitmap_next(b->bits, off + len, UINT64_MAX, &off, &len))
                memset(ret + off / b->granularity, 1, (len + b->granularity - 1) / b->granularity);
        return ret;
}
