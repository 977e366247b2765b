/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/lib/img_walk.h"

#include <stdio.h>

#include "common/err.h"
#include "common/range.h"

const char *img_walk(struct fmt_image *img, unsigned max)
{
        static char text[160];
        uint64_t off = 0, size = img->size;
        struct extent e;

        for (unsigned n = 0; off < size && n < max; n++, off += e.len) {
                int r = chain_map_sync(img, off, size - off, &e);

                if (r < 0) {
                        e.len = min_u64(img->cluster_size > 1 ? img->cluster_size : 4096, size - off);
                        continue;
                }
                snprintf(text, sizeof(text), "map at %llu: extent %llu+%llu, host %llu", (unsigned long long)off,
                         (unsigned long long)e.off, (unsigned long long)e.len, (unsigned long long)e.host);
                if (e.off != off || e.len == 0 || e.len > size - off)
                        return text;
                if (e.kind == EXT_DATA && !e.hole && !range_fits(e.host, e.len, e.img->file->size))
                        return text;
        }
        err_clear();
        return NULL;
}

void img_read_around(struct fmt_image *img, void *buf, size_t len)
{
        uint64_t size = img->size, n = min_u64(size, len);

        (void)chain_read_sync(img, buf, n, 0);
        (void)chain_read_sync(img, buf, n, size - n);
        (void)chain_read_sync(img, buf, n, size / 2 - min_u64(size / 2, n / 2));
        err_clear();
}
