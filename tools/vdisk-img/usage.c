/* SPDX-License-Identifier: BSD-3-Clause */
/* usage.c - counts with the means of map --image (all of the disk is one cell) and asks the format about snapshots. */
#include "tools/vdisk-img/usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/picture.h"
#include "tools/vdisk-img/tool.h"

#define SECTOR 512u

static int count_disk(struct usage *u, struct fmt_image *looked, const struct fmt_open_opts *how)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        AUTO(picture_finish) struct picture p = { 0 };
        struct fmt_open_opts all = *how;
        int r;

        all.format = looked->drv->name;
        all.flags = (how->flags & ~(unsigned)FMT_INFO_ONLY) | FMT_NO_KEY;
        r = chain_open(looked->file->path, &all, &img);
        if (r < 0 || tool_disk_size(img) == 0)
                return r;
        r = picture_take(&p, img, 1);
        if (r < 0)
                return r;
        u->data = p.layers[0].sum.data;
        u->packed = p.layers[0].sum.packed;
        u->zeros = p.layers[0].sum.zero;
        u->pieces = p.layers[0].runs;
        u->units = div_round_up(u->data + u->packed, max_u64(img->cluster_size, SECTOR));
        return 0;
}

int usage_take(struct usage *u, struct fmt_image *looked, const struct fmt_open_opts *how, size_t nsnapshots)
{
        int r = count_disk(u, looked, how);

        if (r < 0 || !nsnapshots || !looked->drv->snapshot_usage)
                return r;
        u->alone = calloc(nsnapshots, sizeof(*u->alone));
        u->nsnapshots = nsnapshots;
        return u->alone ? looked->drv->snapshot_usage(looked, u->alone, nsnapshots) : -ENOMEM;
}

void usage_finish(struct usage *u)
{
        free(u->alone);
        *u = (struct usage){ 0 };
}

double usage_fragmentation(const struct usage *u)
{
        return u->units > 1 && u->pieces ? min_u64(u->pieces - 1, u->units - 1) / (double)(u->units - 1) : 0;
}

json_t *usage_json(const struct usage *u, const struct fmt_snapshot *snapshots)
{
        json_t *list = json_array(), *o;

        for (size_t i = 0; i < u->nsnapshots; i++)
                json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "id", snapshots[i].id, "name", snapshots[i].name,
                                                      "alone-bytes", (json_int_t)u->alone[i]));
        o = json_pack("{s:I, s:I, s:I, s:I, s:f}", "data-bytes", (json_int_t)u->data, "compressed-bytes",
                      (json_int_t)u->packed, "zero-bytes", (json_int_t)u->zeros, "pieces", (json_int_t)u->pieces,
                      "fragmentation", usage_fragmentation(u));
        if (u->nsnapshots)
                json_object_set(o, "snapshots", list);
        json_decref(list);
        return o;
}

void usage_print(const struct usage *u, const struct fmt_snapshot *snapshots)
{
        char size[32], packed[32];

        printf("usage:\n    data: %s in %llu piece%s, %.1f%% fragmented", size_format(u->data + u->packed, size, sizeof(size)),
               (unsigned long long)u->pieces, u->pieces == 1 ? "" : "s", 100 * usage_fragmentation(u));
        if (u->packed)
                printf(", %s of it compressed", size_format(u->packed, packed, sizeof(packed)));
        printf("\n");
        if (u->zeros)
                printf("    zeros: %s\n", size_format(u->zeros, size, sizeof(size)));
        for (size_t i = 0; i < u->nsnapshots; i++)
                printf("    snapshot %s '%s': deleting it frees %s\n", snapshots[i].id, snapshots[i].name,
                       size_format(u->alone[i], size, sizeof(size)));
}
