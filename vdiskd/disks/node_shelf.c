/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A node between two owners: this process before and after a hand-over that failed, or this one and its successor. Its
 * image is closed, so whoever goes on reads it afresh; its files stay open, so nobody else can lock them meanwhile.
 *
 * Not packed, since it is made anew: disks link vol home nexports resizing busy written closing closed opaque gone
 * failed res fail_err fail_what done done_opaque done_res done_task pins close_due: nothing is handed over while the
 * graph changes. Keys go their own way (upgrade/handover_keys.h)
 */
#include "node.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "formats/format.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vhost_user_blk/export.h"

/* --- home -> control ---------------------------------------------------------------------------------------------- */

static void tell(struct loop_task *task)
{
        struct node *n = container_of(task, struct node, done_task);

        n->done(n->done_opaque, n->done_res);
}

/* Home thread. */
static void on_done(void *opaque, int res)
{
        struct node *n = opaque;

        n->done_res = res;
        n->done_task.run = tell;
        loop_post(n->disks->loop, &n->done_task);
}

void node_flush(struct node *n, void (*done)(void *opaque, int res), void *opaque)
{
        n->done = done;
        n->done_opaque = opaque;
        vol_flush(n->vol, on_done, n);
}

/* --- the shelf ---------------------------------------------------------------------------------------------------- */

static unsigned count_awake(const struct node *n)
{
        unsigned awake = 0;

        list_for_each(l, &n->disks->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                awake += x->node == n && block_export_has_woken(x);
        }
        return awake;
}

void node_shelve(struct node *n, void (*done)(void *opaque, int res), void *opaque)
{
        n->done = done;
        n->done_opaque = opaque;
        n->awake = count_awake(n);
        throttle_group_unref(n->throttle);
        n->throttle = vol_throttle(n->vol);
        n->write_threshold = vol_write_threshold(n->vol);
        n->max_in_flight = vol_max_in_flight(n->vol);
        vol_totals(n->vol, &n->totals);
        vol_shelve(TAKE(n->vol, NULL), &n->shelf, on_done, n);
}

int node_unshelve(struct node *n)
{
        struct file_shelf *before = file_shelf_use(&n->shelf);
        int r = n->shelf.err < 0 ? n->shelf.err : node_start(n, 0);

        file_shelf_use(before);
        if (r < 0)
                return r;
        vol_set_totals(n->vol, &n->totals);
        file_shelf_finish(&n->shelf);
        return 0;
}

/* --- for another process ------------------------------------------------------------------------------------------ */

#define NCOUNTERS (sizeof(struct blk_totals) / sizeof(uint64_t))
_Static_assert(sizeof(struct blk_totals) % sizeof(uint64_t) == 0, "counters and nothing else");

/* How many there are, then index and value of those that are not 0: most are histogram buckets that nothing fell
 * into. */
static json_t *pack_totals(const struct node *n, struct parcel *p)
{
        const uint64_t *counter = (const uint64_t *)&n->totals;
        json_t *a = json_array();

        parcel_append(p, a, parcel_u64(NCOUNTERS));
        for (size_t i = 0; i < NCOUNTERS; i++)
                if (counter[i]) {
                        parcel_append(p, a, parcel_u64(i));
                        parcel_append(p, a, parcel_u64(counter[i]));
                }
        return a;
}

static json_t *path_bytes(const char *path)
{
        return path ? parcel_bytes(path, strlen(path)) : NULL;
}

/* What was said about the images of the chain, the top one first. */
static json_t *pack_layers(const struct node *n, struct parcel *p)
{
        json_t *a = json_array();

        for (const struct fmt_layer *l = n->layer; l; l = l->backing)
                parcel_append(p, a, json_pack("{s:o*,s:s*,s:o*,s:b,s:s*}", "path", path_bytes(l->path), "format", l->format, "data-path",
                                              path_bytes(l->data_path), "no-backing", l->no_backing, "key-secret", l->key_secret));
        return a;
}

static json_t *pack_names(const struct node *n, struct parcel *p)
{
        json_t *a = json_array();

        list_for_each(l, &n->below)
                parcel_append(p, a, json_string(list_entry(l, struct inner_node, link)->name));
        return a;
}

json_t *node_pack(const struct node *n, struct parcel *p)
{
        json_t *files = json_array();

        for (unsigned i = 0; i < n->shelf.n; i++) {
                const struct shelved *s = &n->shelf.file[i];

                parcel_append(p, files, json_pack("{s:o,s:i,s:b}", "path", parcel_bytes(s->path, strlen(s->path)), "fd",
                                                       parcel_put_fd(p, s->fd), "read-only", s->read_only));
        }
        return json_pack("{s:s,s:o,s:b,s:o,s:o,s:s*,s:o*,s:o,s:o,s:s,s:b,s:b,s:b,s:b,s:o,s:o,s:o,s:o,s:o}", "name", n->name, "write-threshold", parcel_u64(n->write_threshold),
                         "report-full", n->report_full,
                         "full-timeout", parcel_u64(n->full_timeout_s), "max-in-flight", parcel_u64(n->max_in_flight),
                         "throttle-group", n->throttle ? throttle_group_name(n->throttle) : NULL,
                         "path", path_bytes(n->path), "layers", pack_layers(n, p), "below", pack_names(n, p), "format", n->format,
                         "read-only", n->read_only, "writeback", n->writeback, "migratable", n->migratable,
                         "entry-with-data", n->entry_with_data, "awake", parcel_u64(n->awake),
                         "block-size", parcel_u64(n->block_size), "null-size", parcel_u64(n->null_size), "files", files, "totals", pack_totals(n, p));
}

/* A path is bytes, JSON wants UTF-8. */
static int get_path(const json_t *o, const char *key, char *path, size_t size)
{
        size_t len = 0;
        int r = parcel_get_bytes(o, key, path, size - 1, &len);

        path[len] = '\0';
        return r;
}

static int unpack_files(struct node *n, struct parcel *p, const json_t *files)
{
        char path[4096];
        int r = 0;

        for (size_t i = 0; r == 0 && i < json_array_size(files); i++) {
                const json_t *o = json_array_get(files, i);
                bool read_only;
                int fd = -1;

                r = get_path(o, "path", path, sizeof(path));
                if (r == 0)
                        r = parcel_get_bool(o, "read-only", &read_only);
                if (r == 0)
                        r = parcel_take_fd(p, o, "fd", false, &fd);
                if (r == 0)
                        r = file_shelf_put(&n->shelf, path, fd, read_only);
        }
        return r;
}

/* Counters of another version may be others: then they begin at 0. */
static void unpack_totals(struct node *n, const json_t *o)
{
        const json_t *a = json_object_get(o, "totals");

        if (json_integer_value(json_array_get(a, 0)) != NCOUNTERS)
                return;
        for (size_t i = 1; i + 1 < json_array_size(a); i += 2) {
                uint64_t at = (uint64_t)json_integer_value(json_array_get(a, i));

                if (at < NCOUNTERS)
                        ((uint64_t *)&n->totals)[at] = (uint64_t)json_integer_value(json_array_get(a, i + 1));
        }
}

#define PATH_BYTES 4096u

/* Room for what node_opts borrow. */
struct unpacked {
        struct node_opts opts;
        char path[PATH_BYTES];
        struct fmt_layer layer[FMT_MAX_CHAIN];
        char layer_path[FMT_MAX_CHAIN][2][PATH_BYTES];
        const char *below[FMT_MAX_CHAIN];
};

static int unpack_layer(struct unpacked *u, unsigned at, const json_t *o)
{
        struct fmt_layer *l = &u->layer[at];
        int r = parcel_get_text(o, "format", true, &l->format);

        if (r == 0)
                r = parcel_get_bool(o, "no-backing", &l->no_backing);
        if (r == 0)
                r = parcel_get_text(o, "key-secret", true, &l->key_secret);
        if (r == 0 && json_object_get(o, "path")) {
                r = get_path(o, "path", u->layer_path[at][0], PATH_BYTES);
                l->path = u->layer_path[at][0];
        }
        if (r == 0 && json_object_get(o, "data-path")) {
                r = get_path(o, "data-path", u->layer_path[at][1], PATH_BYTES);
                l->data_path = u->layer_path[at][1];
        }
        if (at)
                u->layer[at - 1].backing = l;
        return r;
}

static int unpack_chain(struct unpacked *u, const json_t *o)
{
        const json_t *layers, *below;
        int r = parcel_get_array(o, "layers", &layers);

        if (r == 0)
                r = parcel_get_array(o, "below", &below);
        if (r == 0 && (json_array_size(layers) > FMT_MAX_CHAIN || json_array_size(below) > FMT_MAX_CHAIN))
                r = err_note(-EPROTO, "a chain of more than %u images", FMT_MAX_CHAIN);
        for (unsigned i = 0; r == 0 && i < json_array_size(layers); i++) {
                r = unpack_layer(u, i, json_array_get(layers, i));
                u->opts.layer = u->layer;
        }
        for (unsigned i = 0; r == 0 && i < json_array_size(below); i++) {
                u->below[i] = json_string_value(json_array_get(below, i));
                u->opts.nbelow = i + 1;
        }
        u->opts.below = u->below;
        return r;
}

static int unpack_opts(const json_t *o, struct unpacked *u)
{
        struct node_opts *no = &u->opts;
        const char *format;
        int r = parcel_get_text(o, "name", false, &no->name);

        if (r == 0 && json_object_get(o, "path")) {
                r = get_path(o, "path", u->path, sizeof(u->path));
                no->path = u->path;
        }
        if (r == 0)
                r = unpack_chain(u, o);
        if (r == 0)
                r = parcel_get_text(o, "format", false, &format);
        if (r == 0)
                r = parcel_get_bool(o, "read-only", &no->read_only);
        if (r == 0)
                r = parcel_get_bool(o, "writeback", &no->writeback);
        if (r == 0)
                r = parcel_get_bool(o, "migratable", &no->migratable);
        if (r == 0)
                r = parcel_get_bool(o, "entry-with-data", &no->entry_with_data);
        no->full_timeout_s = FULL_TIMEOUT_S;
        no->max_in_flight = MAX_IN_FLIGHT;
        if (r == 0 && json_object_get(o, "report-full")) /* not from before there was such a thing */
                r = parcel_get_bool(o, "report-full", &no->report_full);
        if (r == 0 && json_object_get(o, "full-timeout"))
                r = parcel_get_unsigned(o, "full-timeout", UINT_MAX, &no->full_timeout_s);
        if (r == 0 && json_object_get(o, "max-in-flight"))
                r = parcel_get_u64(o, "max-in-flight", INT64_MAX, &no->max_in_flight);
        if (r == 0)
                r = parcel_get_unsigned(o, "block-size", 4096, &no->block_size);
        if (r == 0)
                r = parcel_get_u64(o, "null-size", INT64_MAX, &no->null_size);
        if (r < 0)
                return r;
        if (!fmt_driver_find(format))
                return err_note(-EPROTO, "this version does not know images of format '%s'", format);
        no->format = fmt_driver_find(format)->name;
        return 0;
}

/* The group was unpacked before. */
static int unpack_throttle(struct disks *d, const json_t *o, struct throttle_group **ret)
{
        const char *name = NULL;
        int r = parcel_get_text(o, "throttle-group", true, &name);

        return r < 0 || !name ? r : limits_choose(d, "", name, NULL, ret);
}

int node_unpack(struct disks *d, struct parcel *p, const json_t *o, struct node **ret)
{
        AUTO(freep) struct unpacked *u = calloc(1, sizeof(*u));
        const json_t *files;
        struct node *n;
        int r = u ? unpack_opts(o, u) : -ENOMEM;

        if (r == 0)
                r = parcel_get_array(o, "files", &files);
        if (r == 0)
                r = unpack_throttle(d, o, &u->opts.throttle);
        if (r < 0)
                return r;
        n = node_new(d, &u->opts);
        throttle_group_unref(u->opts.throttle);
        if (!n)
                return -ENOMEM;
        list_add_tail(&d->nodes, &n->link);
        unpack_totals(n, o);
        *ret = n;
        r = parcel_get_unsigned(o, "awake", UINT16_MAX, &n->awake);
        if (r == 0 && json_object_get(o, "write-threshold"))
                r = parcel_get_u64(o, "write-threshold", INT64_MAX, &n->write_threshold);
        return r < 0 ? r : unpack_files(n, p, files);
}
