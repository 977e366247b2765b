/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * { "handover": 1, "vdiskd": "0.1.0", "throttle-groups": [...], "nodes": [...], "exports": [...], "control": {...} or
 *   null, "metrics": {...} or null, "keys": {...} }
 *
 * Each part is packed where its struct is known: node_shelf.c, block_export.c, vhost_user_blk/export_park.c,
 * vhost_user/session/session_pack.c. Options of the whole process (threads, engine, ...) do not travel: the new one reads the
 * same command line.
 */
#include "handover.h"

#include <errno.h>

#include "common/err.h"
#include "config.h"
#include "formats/luks/kept_keys.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/scsi_host.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/config/reload.h"
#include "vdiskd/upgrade/handover_keys.h"

static json_t *listening_pack(struct parcel *p, int fd, const struct listener *at)
{
        if (fd < 0)
                return json_null();
        return json_pack("{s:i,s:o}", "fd", parcel_put_fd(p, fd), "listener", listener_pack(at));
}

int handover_pack(struct parcel *p, struct secret_box *box, const struct disks *d, int control_fd,
                  const struct listener *control, const struct listener *metrics)
{
        json_t *keys = handover_keys_pack(p, box), *nodes, *exports;

        if (!keys)
                return -ENOMEM;
        nodes = json_array();
        exports = json_array();

        list_for_each(l, &d->nodes)
                parcel_append(p, nodes, node_pack(list_entry(l, struct node, link), p));
        list_for_each(l, &d->exports)
                parcel_append(p, exports, block_export_pack(list_entry(l, struct block_export, link), p));
        p->root = json_pack("{s:i,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:i,s:o}", "handover", HANDOVER_VERSION, "vdiskd",
                            VDISKD_VERSION, "throttle-groups", limits_pack(d), "nodes", nodes, "exports", exports, "scsi-hosts",
                            scsi_hosts_pack(d, p), "control",
                            listening_pack(p, control_fd, control), "metrics", listening_pack(p, metrics->fd, metrics),
                            "configuration", reload_pack(d->configuration), "files", file_nodes_pack(d), "filters", filter_nodes_pack(d), "pid-file",
                            parcel_put_fd(p, d->pid_fd), "keys", keys);
        return p->root ? 0 : -ENOMEM;
}

/* An older process hands over none, and no disk that needs one. */
static int unpack_keys(struct parcel *p)
{
        const json_t *keys;
        int r = parcel_get_object(p->root, "keys", true, &keys);

        return r < 0 || !keys ? r : handover_keys_unpack(p, keys);
}

static int unpack_nodes(struct parcel *p, struct disks *d)
{
        const json_t *nodes;
        int r = parcel_get_array(p->root, "nodes", &nodes);

        for (size_t i = 0; r == 0 && i < json_array_size(nodes); i++) {
                struct node *n = NULL;

                r = node_unpack(d, p, json_array_get(nodes, i), &n);
                if (r == 0)
                        r = node_unshelve(n);
        }
        return r;
}

static int unpack_exports(struct parcel *p, struct disks *d)
{
        const json_t *exports, *hosts = json_object_get(p->root, "scsi-hosts"); /* an older process had none */
        int r = parcel_get_array(p->root, "exports", &exports);

        if (r == 0)
                r = scsi_hosts_unpack(d, p, hosts);
        for (size_t i = 0; r == 0 && i < json_array_size(exports); i++)
                r = block_export_unpack(d, p, json_array_get(exports, i));
        return r < 0 ? r : scsi_hosts_unpack_sessions(d, p, hosts);
}

/* An older process knows of no metrics. */
static int unpack_listening(struct parcel *p, const char *key, struct listener *l)
{
        const json_t *o, *at;
        int r = parcel_get_object(p->root, key, true, &o);

        if (r < 0 || !o)
                return r;
        r = parcel_get_object(o, "listener", false, &at);
        if (r == 0)
                r = listener_unpack(l, at);
        return r < 0 ? r : parcel_take_fd(p, o, "fd", false, &l->fd);
}

/* An older process had none of it. */
static int unpack_configuration(struct parcel *p, struct disks *d)
{
        const json_t *files = json_object_get(p->root, "files"), *all = json_object_get(p->root, "configuration");
        const json_t *filters = json_object_get(p->root, "filters");
        int r = files ? file_nodes_unpack(d, files) : 0;

        if (r == 0 && filters)
                r = filter_nodes_unpack(d, filters);
        if (r == 0 && json_object_get(p->root, "pid-file"))
                r = parcel_take_fd(p, p->root, "pid-file", true, &d->pid_fd);
        return r < 0 || !all ? r : reload_unpack(d->configuration, all);
}

int handover_unpack(struct parcel *p, struct disks *d, struct listener *control, struct listener *metrics)
{
        uint64_t version;
        int r = parcel_get_u64(p->root, "handover", UINT32_MAX, &version);

        if (r == 0 && version != HANDOVER_VERSION)
                r = err_note(-EPROTO, "a hand-over of version %u, not %u", (unsigned)version, HANDOVER_VERSION);
        if (r == 0)
                r = limits_unpack(d, json_object_get(p->root, "throttle-groups"));
        kept_keys_begin();
        if (r == 0)
                r = unpack_keys(p);
        if (r == 0)
                r = unpack_nodes(p, d);
        kept_keys_end();
        if (r == 0)
                r = unpack_exports(p, d);
        if (r == 0)
                r = unpack_configuration(p, d);
        if (r == 0)
                r = unpack_listening(p, "control", control);
        return r < 0 ? r : unpack_listening(p, "metrics", metrics);
}
