/* SPDX-License-Identifier: BSD-3-Clause */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/luks/crypto.h"
#include "tests/lib/luks_image.h"

#define ROOM_CLUSTERS 8u /* that resizes may add */

const char *repeat_with = "";

void fail(struct world *w, const char *fmt, ...)
{
        va_list ap;

        fflush(stdout);
        fprintf(stderr, "crash_replay: %s: %s: ", w->kind->name, w->what);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fprintf(stderr, "\nrepeat with: %s --kind %s\n", repeat_with, w->kind->name);
        exit(1);
}

void must(struct world *w, int r, const char *what)
{
        if (r < 0)
                fail(w, "%s: %d, %s", what, r, err_text(r));
}

uint64_t world_tick(struct world *w)
{
        return ++w->tape.now;
}

uint32_t world_max_sectors(const struct kind *k)
{
        return (k->clusters + ROOM_CLUSTERS) * (k->cluster / SECTOR);
}

/* --- open and close ---------------------------------------------------------------------------------------------------------- */

int world_open_image(struct world *w, struct file *file, struct file *data, unsigned flags,
                     const struct fmt_snapshot_which *snap, struct fmt_image **ret)
{
        struct fmt_open_opts how = { .format = w->kind->format, .flags = flags, .snapshot = snap, .data_file = data };
        int r;

        if (w->kind->encrypted)
                how.layer = luks_image_layer();
        for (unsigned i = 0; i < ARRAY_SIZE(w->spare) && !how.cipher; i++)
                how.cipher = TAKE(w->spare[i], NULL);
        if (w->kind->entry_with_data)
                how.flags |= FMT_ENTRY_WITH_DATA;
        r = fmt_open_file(file, &how, ret);
        if (r < 0)
                file_close(data);
        else
                (*ret)->backing = w->backing;
        return r;
}

void world_close_image(struct world *w, struct fmt_image *img)
{
        for (unsigned i = 0; i < ARRAY_SIZE(w->spare); i++)
                if (!w->spare[i])
                        w->spare[i] = TAKE(img->cipher, NULL);
        img->backing = NULL;
        chain_close(img);
}

static struct file *open_data(struct world *w)
{
        return w->kind->data_file ? tape_open(&w->tape, 1) : NULL;
}

void world_open(struct world *w)
{
        must(w, world_open_image(w, tape_open(&w->tape, 0), open_data(w), 0, NULL, &w->img), "open");
}

void world_close(struct world *w)
{
        if (w->img)
                world_close_image(w, TAKE(w->img, NULL));
}

/* --- making one -------------------------------------------------------------------------------------------------------------- */

/* The backing image has data with holes, and ends before the disk does. */
static void make_backing(struct world *w)
{
        uint32_t per = w->kind->cluster / SECTOR, n = (w->kind->clusters - 2) * per;

        w->backing_bytes = (struct tape_bytes){ calloc(n, SECTOR), (size_t)n * SECTOR, (size_t)n * SECTOR };
        for (uint32_t i = 0; i < n; i++) {
                uint32_t version = i / per % 3 == 2 ? 0 : 1;

                stamp_put(w->backing_bytes.b + (size_t)i * SECTOR, i, version);
                w->backing_version[i] = version;
        }
        tmp_path("replay-backing.raw", w->backing_path);
        save_file(w->backing_path, w->backing_bytes.b, w->backing_bytes.len);
        must(w, fmt_open_file(tape_view(&w->backing_bytes), &(struct fmt_open_opts){ .format = "raw", .flags = FMT_RDONLY },
                              &w->backing), "open the backing image");
}

static void create(struct world *w)
{
        const struct kind *k = w->kind;
        AUTO(freep) char *text = strdup(k->options);
        struct fmt_option opts[10];
        struct fmt_create req = { .size = (uint64_t)k->clusters * k->cluster, .opts = opts };
        struct file *file = tape_open(&w->tape, 0);
        char *save = NULL;

        for (char *o = strtok_r(text, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
                char *value = strchr(o, '=');

                *value++ = 0;
                opts[req.nopts++] = (struct fmt_option){ o, value };
        }
        if (k->backing) {
                req.backing_name = w->backing_path;
                req.backing_format = "raw";
        }
        if (k->data_file) {
                opts[req.nopts++] = (struct fmt_option){ "data_file", w->data_path };
                req.data_file = open_data(w);
        }
        if (k->encrypted)
                luks_image_layer();
        must(w, fmt_driver_find(k->format)->create(file, &req), "create");
        file_close(file);
        file_close(req.data_file);
}

static void fill(struct world *w)
{
        const struct kind *k = w->kind;
        struct img_io io = { .img = w->img };
        uint32_t per = k->cluster / SECTOR;

        for (uint32_t c = 0; c < k->filled; c++) {
                for (uint32_t i = 0; i < per; i++) {
                        stamp_put(w->buf + (size_t)i * SECTOR, c * per + i, 1);
                        promise_start(&w->promise, c * per + i, 1);
                }
                if (k->packed_fill)
                        must(w, img_write_packed(&io, w->buf, (uint64_t)c * k->cluster), "fill");
                else
                        must(w, img_write(&io, w->buf, k->cluster, (uint64_t)c * k->cluster), "fill");
        }
        must(w, img_settle(&io), "settle");
        if (!k->snapshot)
                return;
        struct snapped *s = promise_ask_snap(&w->promise, 0);

        must(w, w->img->drv->snapshot_create(w->img, s->name), "snapshot");
        s->answered = 0;
}

void world_init(struct world *w, const struct kind *k, uint64_t seed)
{
        uint32_t max = world_max_sectors(k);

        *w = (struct world){ .kind = k, .rnd = seed, .what = "making the image" };
        tape_init(&w->tape);
        promise_init(&w->promise, max);
        promise_reset(&w->promise, (uint64_t)k->clusters * k->cluster / SECTOR);
        w->promise.zeros_pass = k->entry_with_data;
        w->promise.next_version = 2;
        w->buf = calloc(max, SECTOR);
        w->backing_version = calloc(max, sizeof(*w->backing_version));
        tmp_path("replay.data", w->data_path);
        if (k->backing)
                make_backing(w);
        for (uint32_t i = 0; k->backing && i < max; i++)
                promise_start(&w->promise, i, w->backing_version[i]);
        create(w);
        world_open(w);
        fill(w);
        world_close(w);
        tape_keep(&w->tape);
        promise_keep(&w->promise);
}

void world_rewind(struct world *w)
{
        world_close(w);
        tape_rewind(&w->tape);
        for (unsigned i = w->kind->snapshot; i < w->promise.nsnap; i++)
                free(w->promise.snap[i].version);
        w->promise.nsnap = w->kind->snapshot;
        w->promise.nflush = 0;
        w->promise.nsize = 1;
        for (uint32_t i = 0; i < w->promise.max_sectors; i++)
                w->promise.sector[i].n = 1;
}

void world_finish(struct world *w)
{
        world_close(w);
        tape_finish(&w->tape);
        promise_finish(&w->promise);
        chain_close(w->backing);
        for (unsigned i = 0; i < ARRAY_SIZE(w->spare); i++)
                sector_cipher_free(w->spare[i]);
        free(w->backing_bytes.b);
        free(w->backing_version);
        free(w->buf);
}
