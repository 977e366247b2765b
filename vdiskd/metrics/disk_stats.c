/* SPDX-License-Identifier: BSD-3-Clause */
#include "vdiskd/metrics/disk_stats.h"

#include <stdio.h>

#include "common/clock.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/node.h"

static void look_at_image(const struct fmt_image *img, struct disk_stats *s)
{
        uint64_t bytes;

        s->has_tables = img->cluster_size > 1;
        s->has_allocated = img->file && file_allocated(img->file, &s->allocated) == 0;
        if (s->has_allocated && img->data_file && file_allocated(img->data_file, &bytes) == 0)
                s->allocated += bytes;
        for (const struct fmt_image *b = img->backing; b; b = b->backing)
                s->depth++;
}

static void count_exports(const struct node *n, struct disk_stats *s)
{
        list_for_each(l, &n->disks->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node != n)
                        continue;
                if (!s->exports++)
                        snprintf(s->disk, sizeof(s->disk), "%s", x->id);
                s->connected += block_export_in_use(x);
        }
}

bool disk_stats_get(struct node *n, struct disk_stats *ret)
{
        const struct fmt_image *img;

        if (n->closing || !n->vol)
                return false;
        *ret = (struct disk_stats){
                .name = n->name, .format = vol_format(n->vol), .size = vol_size(n->vol), .read_only = vol_read_only(n->vol),
                .failed = vol_failed(n->vol) < 0, .resizing = n->resizing, .busy = n->busy,
                .max_in_flight = vol_max_in_flight(n->vol),
        };
        img = vol_image_get(n->vol);
        if (img)
                look_at_image(img, ret);
        vol_image_put(n->vol);
        count_exports(n, ret);
        if (!ret->exports)
                snprintf(ret->disk, sizeof(ret->disk), "%s%s", disks_find_export(n->disks, n->name) ? "#" : "", n->name);
        vol_totals(n->vol, &ret->totals);
        vol_gauges(n->vol, &ret->now);
        ret->time_ns = clock_ns();
        return true;
}

uint64_t disk_stats_requests(const struct disk_stats *s)
{
        uint64_t n = 0;

        for (unsigned i = 0; i < STATS_OPS; i++)
                n += s->totals.op[i].count;
        return n;
}
