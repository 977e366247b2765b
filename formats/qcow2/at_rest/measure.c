/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.c - how large will the file be? Clusters of data, L2 and L1 tables that lead to them, and refcounts for
 * all. */
#include <string.h>

#include "common/range.h"
#include "formats/drivers.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/bitmap_table.h"
#include "formats/qcow2/at_rest/create.h"
#include "formats/qcow2/qcow2.h"

/* Refcount blocks and table for @clusters clusters and for themselves, in clusters. */
static uint64_t refcount_clusters(const struct qcow2_header *h, uint64_t clusters)
{
        uint64_t per_block = refcount_per_block(h->cluster_size, h->refcount_order), blocks = 0, table = 0, before;

        do { /* more blocks need more blocks; it settles soon, since a block counts many */
                before = blocks + table;
                blocks = div_round_up(clusters + before, per_block);
                table = div_round_up(blocks, h->cluster_size / QCOW2_ENTRY_SIZE);
        } while (blocks + table != before);
        return blocks + table;
}

/* A file in which every cluster of the disk is allocated. */
static uint64_t whole_file(const struct qcow2_header *h, uint64_t size)
{
        uint64_t data = size >> h->cluster_bits, l2 = div_round_up(data, l2_entries(h));
        uint64_t l1 = div_round_up(l2, h->cluster_size / QCOW2_ENTRY_SIZE);
        uint64_t n = 1 + l1 + l2 + data + div_round_up(h->luks_length, h->cluster_size);

        return (n + refcount_clusters(h, n)) << h->cluster_bits;
}

/* Bytes of new clusters that the source's data will touch. */
static int count_data(struct fmt_image *source, uint64_t size, uint64_t cluster_size, uint64_t *ret)
{
        struct extent ext;

        *ret = 0;
        for (uint64_t off = 0, end; off < size; off = end) {
                int r = chain_map_sync(source, off, size - off, &ext);

                if (r < 0)
                        return r;
                end = off + ext.len;
                if (ext.kind == EXT_ZERO || ext.hole)
                        continue;
                end = round_up(end, cluster_size);
                *ret += end - round_down(off, cluster_size);
        }
        return 0;
}

/* All bits of each, their tables and the directory, in whole clusters of the new image. Broken ones are not copied. */
static int bitmaps_size(struct fmt_image *source, const struct qcow2_header *h, uint64_t *ret)
{
        AUTO(qcow2_bitmaps_finish) struct qcow2_bitmaps s = { 0 };
        struct qcow2_header as = *h; /* its clusters, the disk of the source */
        uint64_t dir = 0, clusters = 0;
        int r = qcow2_bitmaps_read(source->file, &qcow2_of(source)->h, &s);

        as.size = source->size;
        for (uint32_t i = 0; r == 0 && i < s.n; i++) {
                uint64_t entries = qcow2_bitmap_entries(&as, s.v[i].granularity_bits);

                if (s.v[i].flags & QCOW2_BITMAP_IN_USE)
                        continue;
                clusters += entries + div_round_up(entries * QCOW2_ENTRY_SIZE, h->cluster_size);
                dir += round_up(QBM_EXTRA + strlen(s.v[i].name), 8);
        }
        *ret = (clusters + div_round_up(dir, h->cluster_size)) << h->cluster_bits;
        return r;
}

int qcow2_measure(const struct fmt_create *req, struct fmt_image *source, struct fmt_measure *ret)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        struct qcow2_wish w;
        uint64_t size, data = 0;
        int r = qcow2_wish_read(req, false, &w);

        if (r == 0)
                r = qcow2_wish_header(&w, req->size, &h);
        if (r < 0)
                return r;
        size = round_up(req->size, h.cluster_size);
        if (w.prealloc >= QCOW2_PREALLOC_FALLOC || (source && w.backing_name))
                data = size; /* with a backing file: nobody knows what it shares with the source */
        else if (source)
                r = count_data(source, req->size, h.cluster_size, &data);
        if (r < 0)
                return r;
        ret->fully_allocated = whole_file(&h, size);
        ret->required = ret->fully_allocated - size + data;
        ret->has_bitmaps = source && w.version >= 3 && source->drv == &qcow2_driver && qcow2_of(source)->h.version >= 3;
        return ret->has_bitmaps ? bitmaps_size(source, &h, &ret->bitmaps) : 0;
}
