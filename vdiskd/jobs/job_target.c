/* SPDX-License-Identifier: BSD-3-Clause */
#include "job_target.h"

#include <errno.h>

#include "common/err.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/node.h"

static int check(struct node *n, const char *name, struct node **ret)
{
        *ret = n;
        if (!n)
                return err_note(-ENODEV, "Cannot find device='%s' nor node-name='%s'", name, name);
        if ((*ret)->migratable)
                return err_note(-ENOTSUP, "Node '%s' is used by several hosts in turn (migratable), and a job goes on while another "
                                "one has it", node_known_as(n));
        if (vol_failed((*ret)->vol))
                return err_note(-EIO, "Node '%s' failed before: it has to be opened anew", node_known_as(n));
        return node_is_free(*ret);
}

int job_source_find(struct disks *d, const char *name, struct node **ret)
{
        return check(disks_find_device(d, name), name, ret);
}

static int refuse_exports(const struct node *n)
{
        list_for_each(l, &n->disks->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node == n)
                        return err_note(-EBUSY, "Node '%s' is in use by export '%s', and a job writes to it", node_known_as(n), x->id);
        }
        return 0;
}

int job_target_find(struct disks *d, const struct node *source, const char *name, struct node **ret)
{
        int r = check(disks_find_node(d, name), name, ret);

        if (r < 0)
                return r;
        if (*ret == source)
                return err_note(-EINVAL, "Source and target cannot be the same");
        if (vol_read_only((*ret)->vol))
                return err_note(-EROFS, "Block node is read-only");
        if (vol_size((*ret)->vol) != vol_size(source->vol))
                return err_note(-EINVAL, "Source and target image have different sizes");
        return refuse_exports(*ret);
}

int job_common_opts(json_t *args, struct job_opts *o)
{
        json_int_t speed = json_integer_value(json_object_get(args, "speed"));

        if (speed < 0)
                return err_note(-EINVAL, "Parameter 'speed' expects a non-negative value");
        *o = (struct job_opts){
                .id = json_string_value(json_object_get(args, "job-id")),
                .device = json_string_value(json_object_get(args, "device")),
                .speed = (uint64_t)speed,
                .manual_finalize = json_is_false(json_object_get(args, "auto-finalize")),
                .manual_dismiss = json_is_false(json_object_get(args, "auto-dismiss")),
        };
        return 0;
}
