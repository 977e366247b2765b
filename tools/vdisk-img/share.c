/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * share.c - a pass over the source's tables before the copy: data that lies in whole blocks of a file goes to the
 * target by file_share() or file_offload(). What is left (compressed clusters, edges, everything on a file system that
 * cannot) is for copy_disk(), which leaves out what shared_has() knows.
 */
#include "tools/vdisk-img/share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define BLOCK 4096u /* of most file systems */

static int remember(struct shared *s, uint64_t off, uint64_t len)
{
        if (s->n && s->v[s->n - 1].end == off) {
                s->v[s->n - 1].end += len;
                return 0;
        }
        if (s->n == s->room) {
                size_t room = s->room ? 2 * s->room : 64;
                struct range_of_disk *more = reallocarray(s->v, room, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                s->v = more;
                s->room = room;
        }
        s->v[s->n++] = (struct range_of_disk){ off, off + len };
        return 0;
}

bool shared_has(const struct shared *s, struct extent *ext)
{
        size_t lo = 0, hi = s->n;

        while (lo < hi) { /* the first range that ends behind ext->off */
                size_t mid = lo + (hi - lo) / 2;

                if (s->v[mid].end <= ext->off)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        if (lo == s->n || s->v[lo].off >= ext->off + ext->len)
                return false;
        if (s->v[lo].off > ext->off) {
                ext->len = s->v[lo].off - ext->off;
                return false;
        }
        ext->len = min_u64(ext->len, s->v[lo].end - ext->off);
        return true;
}

void shared_finish(struct shared *s)
{
        free(s->v);
        *s = (struct shared){ .offload = s->offload, .progress = s->progress };
}

static bool worth_trying(const struct shared *s, const struct fmt_image *map, const struct fmt_image *target)
{
        for (; map; map = map->backing)
                if (map->file && !map->encrypted && !target->encrypted && (s->offload || file_can_share(fmt_data_file(target), fmt_data_file(map))))
                        return true;
        return false;
}

/*
 * Whole clusters of the target and whole blocks of the file systems; what is left over is for copy_disk(). Only the end
 * of a file may be shared as it is, with the end of a disk.
 */
static void fit_clusters(struct extent *ext, uint64_t target_off, uint64_t disk_end, uint32_t cluster)
{
        uint64_t at = ext->off + target_off, end = at + ext->len, from = round_up(at, cluster);
        bool both_end = ext->off + ext->len == disk_end && ext->host + ext->len == ext->file->size;

        if (!both_end)
                end = round_down(end, max_u64(cluster, BLOCK));
        ext->len = end > from ? end - from : 0;
        ext->host += from - at;
        ext->off += from - at;
}

static int share_extent(struct shared *s, struct fmt_image *target, uint64_t target_off, struct extent ext)
{
        while (ext.len) {
                uint64_t done;
                int r = fmt_share_sync(target, ext.off + target_off, &ext, s->offload, &done);

                if (r == 0 && done)
                        r = remember(s, ext.off, done);
                if (r < 0 || !done)
                        return r;
                ext.off += done;
                ext.host += done;
                ext.len -= done;
        }
        return 0;
}

int share_disk(struct shared *s, struct fmt_image *map, struct fmt_image *target, uint64_t target_off,
               int (*mine)(struct extent *ext, void *opaque), void *opaque, const volatile int *stop)
{
        uint64_t size = tool_disk_size(map), off = 0;
        uint32_t cluster = (uint32_t)max_u64(target->cluster_size, 512);
        int r = 0, settled;

        if (!worth_trying(s, map, target))
                return 0;
        while (r == 0 && off < size && !*stop) {
                struct extent ext;
                int wanted = 1;

                r = chain_map_sync(map, off, size - off, &ext);
                if (r < 0) {
                        err_clear(); /* copy_disk() comes by here too, and knows about --salvage */
                        r = 0;
                        break;
                }
                wanted = mine ? mine(&ext, opaque) : 1;
                off = ext.off + ext.len;
                if (wanted < 0)
                        r = wanted;
                if (wanted <= 0 || ext.kind != EXT_DATA || ext.hole)
                        continue;
                fit_clusters(&ext, target_off, size, cluster);
                r = share_extent(s, target, target_off, ext);
                if (s->progress)
                        progress_show(s->progress, (double)off / (double)size);
        }
        if (r == -EOPNOTSUPP || r == -EXDEV)
                r = 0;
        settled = fmt_settle_sync(target);
        return r < 0 ? r : settled;
}
