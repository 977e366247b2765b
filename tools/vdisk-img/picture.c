/* SPDX-License-Identifier: BSD-3-Clause */
/* picture.c - counts what a chain holds into cells: once through the chain for what is seen, once through each
 * image. */
#include "tools/vdisk-img/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"

#define SECTOR 512u

/* Cells differ by a byte at most, so the last one is no odd size. */
static uint64_t cell_start(const struct picture *p, size_t i)
{
        return (uint64_t)((unsigned __int128)p->size * i / p->ncells);
}

uint64_t picture_cell_bytes(const struct picture *p, size_t i)
{
        return cell_start(p, i + 1) - cell_start(p, i);
}

static size_t cell_at(const struct picture *p, uint64_t off)
{
        size_t i = (size_t)((unsigned __int128)off * p->ncells / p->size);

        while (i + 1 < p->ncells && cell_start(p, i + 1) <= off)
                i++;
        while (i && cell_start(p, i) > off)
                i--;
        return i;
}

/* --- counting -------------------------------------------------------------------------------------------------- */

static bool holds(const struct extent *ext)
{
        return ext->kind == EXT_ZERO ? ext->in_image : !ext->hole;
}

static uint64_t *counter(struct picture_cell *c, const struct extent *ext)
{
        return ext->kind == EXT_ZERO ? &c->zero : ext->kind == EXT_COMPRESSED ? &c->packed : &c->data;
}

static void mark_place(struct picture *p, struct picture_layer *l, size_t i, uint64_t host)
{
        size_t row = l->host_end ? (size_t)((unsigned __int128)host * PICTURE_ROWS / l->host_end) : 0;
        size_t bit = min_u64(row, PICTURE_ROWS - 1) * p->ncells + i;

        l->places[bit / 8] |= (uint8_t)(1u << bit % 8);
}

bool picture_has_place(const struct picture *p, const struct picture_layer *l, size_t i, unsigned row)
{
        size_t bit = row * p->ncells + i;

        return l->places[bit / 8] >> bit % 8 & 1;
}

/* What an image holds itself: all of it counts as hidden, until it is seen. */
static void count_own(struct picture *p, struct picture_layer *l, const struct extent *ext)
{
        uint64_t off = ext->off, end = ext->off + ext->len;

        *counter(&l->sum, ext) += ext->len;
        for (size_t i = cell_at(p, off); off < end; i++) {
                uint64_t n = min_u64(end, cell_start(p, i + 1)) - off;

                *counter(&l->cells[i], ext) += n;
                l->cells[i].hidden += n;
                if (ext->kind == EXT_DATA || ext->kind == EXT_COMPRESSED)
                        mark_place(p, l, i, ext->host + (ext->kind == EXT_DATA ? off - ext->off : 0));
                off += n;
        }
        l->sum.hidden += ext->len;
}

static void count_seen(struct picture *p, const struct extent *ext)
{
        struct picture_layer *l = &p->layers[ext->depth];
        uint64_t off = ext->off, end = ext->off + ext->len;

        for (size_t i = cell_at(p, off); off < end; i++) {
                uint64_t n = min_u64(end, cell_start(p, i + 1)) - off;

                l->cells[i].hidden -= min_u64(n, l->cells[i].hidden);
                off += n;
        }
        l->sum.hidden -= min_u64(ext->len, l->sum.hidden);
}

static int look(struct fmt_image *img, uint64_t off, uint64_t end, struct extent *ext)
{
        int r = chain_map_sync(img, off, end - off, ext);

        return r < 0 ? err_note(r, "'%s': cannot read the tables for the range at %llu: %s", img->file->path,
                                (unsigned long long)off, strerror(-r)) : 0;
}

/*
 * Where data goes on behind what came before, in the disk and in the file, it is one piece; so it is behind a hole
 * inside of a cluster of @cluster bytes, whose place is kept. A compressed cluster ends anywhere in the last of the
 * sectors that must be read for it.
 */
static void count_run(struct picture_layer *l, uint64_t cluster, const struct extent *ext, uint64_t *next_off, uint64_t *next_host)
{
        uint64_t slack = ext->kind == EXT_COMPRESSED ? SECTOR : 0;
        uint64_t hole = ext->off - *next_off;
        bool behind_hole = ext->kind == EXT_DATA && ext->off > *next_off && hole < cluster && ext->host - *next_host == hole;

        if (!behind_hole && (ext->off != *next_off || ext->host > *next_host || ext->host + slack < *next_host))
                l->runs++;
        *next_off = ext->off + ext->len;
        *next_host = ext->host + (ext->kind == EXT_COMPRESSED ? ext->packed_len : ext->len);
}

static int take_layer(struct picture *p, struct picture_layer *l, struct fmt_image *img)
{
        uint64_t end = min_u64(p->size, tool_disk_size(img)), next_off = UINT64_MAX, next_host = UINT64_MAX;
        struct extent ext;
        int r = 0;

        for (uint64_t off = 0; r == 0 && off < end; off += ext.len) {
                r = look(img, off, end, &ext);
                if (r < 0 || ext.depth || !holds(&ext))
                        continue;
                count_own(p, l, &ext);
                if (ext.kind != EXT_ZERO)
                        count_run(l, img->cluster_size, &ext, &next_off, &next_host);
        }
        return r;
}

static int take_seen(struct picture *p, struct fmt_image *top)
{
        struct extent ext;
        int r = 0;

        for (uint64_t off = 0; r == 0 && off < p->size; off += ext.len) {
                r = look(top, off, p->size, &ext);
                if (r == 0 && holds(&ext))
                        count_seen(p, &ext);
        }
        return r;
}

int picture_take(struct picture *p, struct fmt_image *top, size_t ncells)
{
        struct picture_layer *l;
        int r = 0;

        *p = (struct picture){ .size = tool_disk_size(top) };
        if (p->size == 0)
                return err_note(-EINVAL, "'%s': there is nothing to draw, the disk has 0 bytes", top->file->path);
        p->ncells = (size_t)min_u64(ncells, p->size);
        for (struct fmt_image *img = top; img; img = img->backing)
                p->nlayers++;
        l = p->layers = calloc(p->nlayers, sizeof(*p->layers));
        if (!p->layers)
                return -ENOMEM;
        for (struct fmt_image *img = top; r == 0 && img; img = img->backing, l++) {
                l->img = img;
                l->host_end = fmt_data_file(img)->size;
                l->cells = calloc(p->ncells, sizeof(*l->cells));
                l->places = calloc(div_round_up(p->ncells * PICTURE_ROWS, 8), 1);
                r = l->cells && l->places ? take_layer(p, l, img) : -ENOMEM;
        }
        return r < 0 ? r : take_seen(p, top);
}

void picture_finish(struct picture *p)
{
        for (size_t i = 0; p->layers && i < p->nlayers; i++) {
                free(p->layers[i].cells);
                free(p->layers[i].places);
        }
        free(p->layers);
        *p = (struct picture){ 0 };
}

/* --- telling --------------------------------------------------------------------------------------------------- */

static uint64_t held(const struct picture_cell *c)
{
        return c->data + c->packed + c->zero;
}

int picture_seen(const struct picture *p, size_t i, double *share)
{
        uint64_t most = 0, all = 0;
        int layer = -1;

        for (size_t n = 0; n < p->nlayers; n++) {
                uint64_t seen = held(&p->layers[n].cells[i]) - p->layers[n].cells[i].hidden;

                all += seen;
                if (seen > most) {
                        most = seen;
                        layer = (int)n;
                }
        }
        *share = (double)all / (double)picture_cell_bytes(p, i);
        return layer;
}

const char *picture_describe(const struct picture_layer *l, char *buf, size_t len)
{
        const struct picture_cell *s = &l->sum;
        char data[32], more[32];
        int n = snprintf(buf, len, "%s of data in %llu piece%s", size_format(s->data + s->packed, data, sizeof(data)),
                         (unsigned long long)l->runs, l->runs == 1 ? "" : "s");

        if (s->packed)
                n += snprintf(buf + n, len - (size_t)n, ", %s of it compressed", size_format(s->packed, more, sizeof(more)));
        if (s->zero)
                n += snprintf(buf + n, len - (size_t)n, ", %s of zeros", size_format(s->zero, more, sizeof(more)));
        if (s->hidden)
                snprintf(buf + n, len - (size_t)n, "; %s hidden by images above", size_format(s->hidden, more, sizeof(more)));
        return buf;
}
