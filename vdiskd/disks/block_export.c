/* SPDX-License-Identifier: BSD-3-Clause */
/*   serving -> stopping (the rings drain) -> gone */
#include "block_export.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/size.h"
#include "vdiskd/config/reload.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/scsi_host.h"
#include "vhost_user_blk/export.h"
#include "vhost_user_scsi/controller.h"

static void block_export_free(struct block_export *x)
{
        listener_close(&x->listener);
        free(x->id);
        free(x->connect);
        free(x->serial);
        free(x->named);
        free(x->told);
        free(x);
}

/* Sectors that the host can only write by reading their neighbours are a slow and untold trap: the operator decides. */
static int check_block_size(const struct node *n, uint32_t size)
{
        uint32_t min = vol_block_size_min(n->vol);

        if (size >= min)
                return 0;
        return err_note(-EINVAL, "%s: direct I/O on this file needs blocks of %u bytes, not %u: use block-size=%u, or "
                        "cache=writeback", node_label(n), min, size, min);
}

static void say_serving(const struct block_export *x, int fd, const char *connect, bool read_only)
{
        struct vol *v = x->node->vol;
        char size[32], where[160];

        if (x->host)
                snprintf(where, sizeof(where), "as LUN %u on %s", x->lun, x->host->place);
        else if (x->listener.path)
                snprintf(where, sizeof(where), "on %s", x->listener.path);
        else if (connect)
                snprintf(where, sizeof(where), "to %s", connect);
        else
                snprintf(where, sizeof(where), "on descriptor %d", fd);
        log_info("%s: serving %s, %s, %s, %s", node_label(x->node), vol_format(v),
                 size_format(vol_size(v), size, sizeof(size)), read_only ? "read-only" : "read-write", where);
        if (!vol_size(v))
                log_warn("%s: it is empty: the guest gets a disk without a single sector. \"truncate -s\" or \"vdisk-img "
                         "resize\" give the file a size", node_label(x->node));
}

char *block_export_mark_path(const struct block_export *x)
{
        struct fmt_image *img = vol_image_get(x->node->vol);
        const struct file *f = img ? img->file : NULL;
        char *path = NULL;

        if (x->disks->state_dir && f &&
            asprintf(&path, "%s/%x-%x-%" PRIx64 "-%s.writethrough", x->disks->state_dir, major(f->dev), minor(f->dev),
                     (uint64_t)f->ino, x->id) < 0)
                path = NULL;
        vol_image_put(x->node->vol);
        return path;
}

/* On @fd, which is taken; -1 with x->connect. */
static int start(struct block_export *x, int fd, bool parked)
{
        AUTO(freep) char *wce_mark = block_export_mark_path(x);
        struct node *n = x->node;
        struct disks *d = x->disks;
        struct export_opts eo = {
                .name = node_label(n),
                .connect = x->connect,
                .serial = x->serial,
                .num_queues = x->num_queues,
                .block_size = x->block_size,
                .read_only = x->read_only,
                .wce_mark = wce_mark,
                .takes_turns = n->migratable,
                .parked = parked,
                .threads = d->threads,
                .nthreads = d->nthreads,
                .start_thread = n->home,
        };

        return export_new(d->loop, n->vol, fd, &eo, &x->export);
}

/* NULL: no memory. */
static struct block_export *block_export_new(struct node *n, const struct block_export_opts *o)
{
        struct block_export *x = calloc(1, sizeof(*x));

        if (!x)
                return NULL;
        x->disks = n->disks;
        x->node = n;
        x->listener.fd = -1;
        x->id = strdup(o->id);
        x->connect = o->connect ? strdup(o->connect) : NULL;
        x->serial = o->serial ? strdup(o->serial) : NULL;
        x->named = n->path ? strdup(n->path) : NULL;
        x->num_queues = o->num_queues;
        x->block_size = o->block_size;
        /* and stays so when the node becomes writable */
        x->read_only = o->read_only || (n->vol && vol_read_only(n->vol));
        if (x->id && (x->connect || !o->connect) && (x->serial || !o->serial) && (x->named || !n->path))
                return x;
        block_export_free(x);
        return NULL;
}

static void enter(struct block_export *x)
{
        x->node->nexports++;
        list_add_tail(&x->disks->exports, &x->link);
}

/* A disk of its own: *fd is for the log. */
static int serve(struct block_export *x, const struct block_export_opts *o, int *fd)
{
        int r = o->connect ? 0 : listener_open(&x->listener, &o->at, x->disks->passed);

        if (r < 0)
                return r;
        *fd = TAKE(x->listener.fd, -1);
        return start(x, *fd, false);
}

static int check_scsi(const struct node *n, const struct block_export_opts *o)
{
        if (o->scsi && n->migratable)
                return err_note(-EINVAL, "%s: a migratable disk cannot be a unit of a SCSI controller: the image would have to be let "
                                "go while others of its disks are used", node_label(n));
        return 0;
}

int block_export_add(struct node *n, const struct block_export_opts *o, struct block_export **ret)
{
        struct block_export *x = block_export_new(n, o);
        int fd = -1, r = x ? check_block_size(n, o->block_size ?: 512) : -ENOMEM;

        if (r == 0)
                r = check_scsi(n, o);
        if (r == 0)
                r = o->scsi ? scsi_host_enter(x, o) : serve(x, o, &fd);
        if (r < 0) {
                if (x)
                        block_export_free(x);
                return r;
        }
        say_serving(x, fd, o->connect, o->read_only || vol_read_only(n->vol));
        enter(x);
        *ret = x;
        return 0;
}

static int move_mark(struct block_export *x, const char *mark)
{
        return x->unit ? scsi_unit_move_mark(x->unit, mark) : export_move_mark(x->export, mark);
}

void block_exports_follow(struct node *n)
{
        list_for_each(pos, &n->disks->exports) {
                struct block_export *x = list_entry(pos, struct block_export, link);
                AUTO(freep) char *mark = x->node == n && !x->stopping ? block_export_mark_path(x) : NULL;

                if (!mark || move_mark(x, mark) == 0)
                        continue;
                log_warn("%s: a restart of the daemon will forget the write cache mode: %s", node_label(n), err_text(-EIO));
                err_clear();
        }
        reload_follow(n->disks->configuration);
}

/* --- what is asked of its device, whichever it is ------------------------------------------------------------------- */

const char *block_export_type(const struct block_export *x)
{
        return x->host ? "vhost-user-scsi" : "vhost-user-blk";
}

bool block_export_in_use(const struct block_export *x)
{
        if (x->host)
                return x->unit && scsi_controller_in_use(x->host->controller);
        return x->export && export_in_use(x->export);
}

bool block_export_has_woken(const struct block_export *x)
{
        return x->export && export_has_woken(x->export);
}

bool block_export_is_moving(const struct block_export *x)
{
        if (x->host)
                return x->unit && scsi_controller_is_moving(x->host->controller);
        return x->export && export_is_moving(x->export);
}

void block_export_follow(struct block_export *x, struct vol *v)
{
        if (x->unit)
                scsi_unit_follow(x->unit, v);
        else if (x->export)
                export_follow(x->export, v);
}

void block_export_resized(struct block_export *x)
{
        if (x->unit)
                scsi_unit_resized(x->unit);
        else if (x->export)
                export_resized(x->export);
}

int block_export_change_socket(struct block_export *x, const struct listen_at *at)
{
        return x->host ? scsi_host_change(x->host, at) : listener_change(&x->listener, at);
}

/* --- stopping ------------------------------------------------------------------------------------------------------ */

void block_export_stopped(void *opaque)
{
        struct block_export *x = opaque;
        struct disks *d = x->disks;
        struct node *n = x->node;

        list_del(&x->link);
        n->nexports--;
        if (d->export_gone)
                d->export_gone(d->opaque, x->id);
        block_export_free(x);
        disks_export_gone(d, n);
}

void block_export_stop(struct block_export *x)
{
        x->stopping = true;
        if (x->host) {
                scsi_host_leave(x, block_export_stopped);
                return;
        }
        listener_close(&x->listener); /* its file: nobody new comes */
        export_stop(TAKE(x->export, NULL), block_export_stopped, x);
}

/* --- standing still ------------------------------------------------------------------------------------------------ */

unsigned block_exports_park(struct disks *d, void (*parked)(void *opaque), void *opaque)
{
        unsigned n = 0;

        list_for_each(l, &d->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (!x->export)
                        continue;
                export_park(x->export, parked, opaque);
                n++;
        }
        list_for_each(l, &d->scsi_hosts) {
                scsi_controller_park(list_entry(l, struct scsi_host, link)->controller, parked, opaque);
                n++;
        }
        return n;
}

void block_exports_resume(struct disks *d)
{
        list_for_each(l, &d->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (x->export && export_parked(x->export))
                        export_resume(x->export, x->node->vol);
                else if (x->unit && scsi_controller_parked(x->host->controller))
                        scsi_unit_follow(x->unit, x->node->vol);
        }
        list_for_each(l, &d->scsi_hosts) {
                struct scsi_host *h = list_entry(l, struct scsi_host, link);

                if (scsi_controller_parked(h->controller))
                        scsi_controller_resume(h->controller);
        }
}

/* --- for another process ------------------------------------------------------------------------------------------- */

/* Not packed, since it is made anew: disks link told stopping. A disk of its own has its listener and export, a unit the address of its
 * host (scsi_host.c). */
json_t *block_export_pack(const struct block_export *x, struct parcel *p)
{
        json_t *o = json_pack("{s:s,s:s,s:s?,s:o,s:b,s:o?}", "id", x->id, "node", x->node->name, "serial", x->serial, "block-size",
                              parcel_u64(x->block_size), "read-only", x->read_only, "named",
                              x->named ? parcel_bytes(x->named, strlen(x->named)) : NULL);
        json_t *device = x->host ? json_pack("{s:o,s:o,s:o}", "host", parcel_bytes(x->host->address, strlen(x->host->address)),
                                             "lun", parcel_u64(x->lun), "unit", scsi_unit_pack(x->unit)) :
                                   json_pack("{s:o,s:s?,s:o,s:o}", "listener", listener_pack(&x->listener), "connect", x->connect,
                                             "num-queues", parcel_u64(export_num_queues(x->export)), "export",
                                             export_pack(x->export, p));
        int r = o && device ? json_object_update(o, device) : -1;

        json_decref(device);
        if (r == 0)
                return o;
        json_decref(o);
        return NULL;
}

static int unpack_opts(const json_t *o, struct block_export_opts *bo)
{
        int r = parcel_get_text(o, "id", false, &bo->id);

        bo->scsi = json_object_get(o, "host");
        if (r == 0)
                r = parcel_get_text(o, "connect", true, &bo->connect);
        if (r == 0)
                r = parcel_get_text(o, "serial", true, &bo->serial);
        if (r == 0 && !bo->scsi)
                r = parcel_get_unsigned(o, "num-queues", 256, &bo->num_queues);
        if (r == 0)
                r = parcel_get_unsigned(o, "block-size", 4096, &bo->block_size);
        return r < 0 ? r : parcel_get_bool(o, "read-only", &bo->read_only);
}

static int unpack_named(struct block_export *x, const json_t *o)
{
        char path[PATH_MAX];
        size_t len = 0;
        int r = json_is_null(json_object_get(o, "named")) ? 0 : parcel_get_bytes(o, "named", path, sizeof(path), &len);

        if (r < 0)
                return r;
        free(x->named);
        x->named = len ? strndup(path, len) : NULL;
        return len && !x->named ? -ENOMEM : 0;
}

static int unpack_export(struct block_export *x, struct parcel *p, const json_t *o)
{
        const json_t *listener, *export;
        int fd = -1, r;

        r = parcel_get_object(o, "listener", false, &listener);
        if (r == 0)
                r = listener_unpack(&x->listener, listener);
        if (r == 0)
                r = parcel_get_object(o, "export", false, &export);
        if (r == 0)
                r = export_unpack_socket(p, export, &fd);
        if (r == 0 && (fd < 0) != !!x->connect)
                r = err_note(-EBADMSG, "an export without its socket");
        if (r == 0)
                r = start(x, fd, true);
        return r < 0 ? r : export_unpack(x->export, p, export);
}

static int unpack_unit(struct block_export *x, const json_t *o)
{
        char address[512];
        const json_t *unit;
        size_t len;
        int r = parcel_get_bytes(o, "host", address, sizeof(address) - 1, &len);

        if (r == 0)
                r = parcel_get_unsigned(o, "lun", SCSI_LUNS - 1, &x->lun);
        if (r == 0)
                r = parcel_get_object(o, "unit", false, &unit);
        if (r < 0)
                return r;
        address[len] = '\0';
        r = scsi_host_reenter(x, address);
        return r < 0 ? r : scsi_unit_unpack(x->unit, unit);
}

int block_export_unpack(struct disks *d, struct parcel *p, const json_t *o)
{
        struct block_export_opts bo = { 0 };
        struct block_export *x;
        const char *node;
        struct node *n;
        int r = unpack_opts(o, &bo);

        if (r == 0)
                r = parcel_get_text(o, "node", false, &node);
        if (r < 0)
                return r;
        n = disks_find_node(d, node);
        if (!n)
                return err_note(-EBADMSG, "an export of node '%s', which is not there", node);
        x = block_export_new(n, &bo);
        if (!x)
                return -ENOMEM;
        enter(x);
        r = unpack_named(x, o);
        if (r == 0)
                r = bo.scsi ? unpack_unit(x, o) : unpack_export(x, p, o);
        return err_prefix(r, "export '%s': ", bo.id);
}
