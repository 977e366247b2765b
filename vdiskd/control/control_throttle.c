/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_throttle.c - blockdev-add of driver throttle: in front of a node that there is, or of one that an object in
 * its place describes. That one is made first, and goes with it.
 *
 *   name -> filter_node_add
 *   file -> a file's node -> a filter that owns it
 *   image -> opened by a worker, in the group -> a filter that owns it, or it is closed again
 */
#include "vdiskd/control/control_blockdev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/disks/node.h"

static const char *text_of(const json_t *o, const char *name)
{
        return json_string_value(json_object_get(o, name));
}

struct throttle_add {
        struct qmp_call *call;
        struct disks *d;
        json_t *args; /* of the throttle node; "file" has a name */
        char why[256];
};

static void throttle_add_free(struct throttle_add *t)
{
        json_decref(t->args);
        free(t);
}

static void on_owned_closed(void *opaque, int res)
{
        struct throttle_add *t = opaque;

        (void)res;
        qmp_fail(t->call, NULL, "%s", t->why);
        throttle_add_free(t);
}

static void on_owned_opened(void *opaque, int res, const char *why)
{
        struct throttle_add *t = opaque;
        const char *name = text_of(t->args, "node-name");
        struct node *n = res == 0 ? disks_find_node(t->d, text_of(json_object_get(t->args, "file"), "node-name")) : NULL;
        int r = n ? blockdev_check_name(t->d, name) : res < 0 ? res : -EBUSY; /* somebody may have taken it meanwhile */

        if (r == 0)
                r = filter_node_add_owner(t->d, name, text_of(t->args, "throttle-group"), n, NULL);
        if (n && r < 0) {
                snprintf(t->why, sizeof(t->why), "%s", err_text(r));
                node_close(n, on_owned_closed, t);
                return;
        }
        if (r < 0)
                qmp_fail(t->call, NULL, "%s", res < 0 ? why : "The daemon is stopping");
        else
                qmp_return(t->call, NULL);
        throttle_add_free(t);
}

/* What it does not say it takes over, as in QEMU; and a name that nobody has. */
static int complete_owned(struct disks *d, json_t *args, json_t *file)
{
        static const char *const inherited[] = { "read-only", "cache", "discard" };
        const char *name = text_of(file, "node-name");
        AUTO(freep) char *made_up = name ? NULL : node_name_made_up(d);
        int r = name ? blockdev_check_name(d, name) : made_up ? 0 : -ENOMEM;

        if (r == 0 && name && !strcmp(name, text_of(args, "node-name")))
                r = err_note(-EEXIST, "Duplicate nodes with node-name='%s'", name);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(inherited); i++)
                if (!json_object_get(file, inherited[i]) && json_object_get(args, inherited[i]))
                        json_object_set(file, inherited[i], json_object_get(args, inherited[i]));
        if (r == 0 && made_up)
                r = json_object_set_new(file, "node-name", json_string(made_up)) < 0 ? -ENOMEM : 0;
        return r < 0 ? r : blockdev_check_cache(file);
}

static int add_owned_file(struct disks *d, json_t *args, json_t *file)
{
        int r = file_node_add(d, file);
        struct file_node *f = r == 0 ? file_node_find(d, text_of(file, "node-name")) : NULL;

        if (r == 0)
                r = filter_node_add_owner(d, text_of(args, "node-name"), text_of(args, "throttle-group"), NULL, f);
        if (r < 0 && f)
                file_node_free(f);
        return r;
}

/* 0: answered later. */
static int add_owned_image(struct disks *d, json_t *args, json_t *file, struct qmp_call *call)
{
        struct throttle_add *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (struct throttle_add){ .call = call, .d = d, .args = json_incref(args) };
        r = json_object_set(file, "throttle-group", json_object_get(args, "throttle-group")) < 0 ? -ENOMEM : 0;
        if (r == 0)
                r = file_nodes_resolve(d, file);
        if (r == 0)
                r = blockdev_open(d, file, on_owned_opened, t);
        if (r < 0)
                throttle_add_free(t);
        return r;
}

void blockdev_add_throttle(struct disks *d, json_t *args, struct qmp_call *call)
{
        json_t *file = json_object_get(args, "file");
        const char *group = text_of(args, "throttle-group");
        int r = blockdev_check_name(d, text_of(args, "node-name"));

        if (r == 0 && json_is_string(file))
                return qmp_answer(call, filter_node_add(d, args));
        if (r == 0 && !group)
                r = err_note(-EINVAL, "Parameter 'throttle-group' is missing");
        if (r == 0 && !limits_find(d, group))
                r = err_note(-EINVAL, "Throttle group '%s' does not exist", group);
        if (r == 0)
                r = complete_owned(d, args, file);
        if (r == 0 && blockdev_is_file(text_of(file, "driver")))
                return qmp_answer(call, add_owned_file(d, args, file));
        if (r == 0)
                r = add_owned_image(d, args, file, call);
        if (r < 0)
                qmp_answer(call, r);
}
