/* SPDX-License-Identifier: BSD-3-Clause */
/* block_resize. The answer comes when the disk has its new size and the front ends are told. */
#include "vdiskd/control/control_commands.h"

#include "common/err.h"
#include "vdiskd/disks/node.h"

#define SECTOR 512

static const struct qmp_arg block_resize_args[] = {
        { "device", QMP_STR, .optional = true }, /* the same names to us */
        { "node-name", QMP_STR, .optional = true },
        { "size", QMP_INT },
        { NULL },
};

static void on_resized(void *opaque, int res, const char *why)
{
        struct qmp_call *call = opaque;

        if (res < 0)
                qmp_fail(call, NULL, "%s", why);
        else
                qmp_return(call, NULL);
}

static void cmd_block_resize(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *device = json_string_value(json_object_get(args, "device"));
        const char *name = json_string_value(json_object_get(args, "node-name"));
        json_int_t size = json_integer_value(json_object_get(args, "size"));
        struct node *n = name ? disks_find_node(c->disks, name) : disks_find_device(c->disks, device ? device : "");
        int r;

        if (!n)
                return qmp_fail(call, "DeviceNotFound", "Cannot find device='%s' nor node-name='%s'", device ? device : "",
                                name ? name : "");
        if (size <= 0 || size % SECTOR)
                return qmp_fail(call, NULL, "Parameter 'size' expects a multiple of %d", SECTOR);
        r = node_is_free(n);
        if (r == 0)
                r = node_resize(n, (uint64_t)size, on_resized, call);
        if (r < 0)
                qmp_fail(call, NULL, "%s", err_text(r));
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command resize_commands[] = {
        { "block_resize", block_resize_args, cmd_block_resize },
        { NULL },
};
