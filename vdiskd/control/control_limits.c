/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_limits.c - what disks may use: throttle groups (objects, whose limits qom-set changes),
 * block_set_io_throttle.
 */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/config/limit_values.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/json_member.h"

#define OBJECTS "/objects"
#define KEY_BYTES 64

/* --- throttle-group objects ---------------------------------------------------------------------------------------- */

#define LIMIT_ARG(x, name)                                                                                               \
        { x name, QMP_INT, .optional = true }, { x name "-max", QMP_INT, .optional = true },                            \
        { x name "-max-length", QMP_INT, .optional = true }
#define LIMIT_ARGS(x)                                                                                                    \
        LIMIT_ARG(x, "iops-total"), LIMIT_ARG(x, "iops-read"), LIMIT_ARG(x, "iops-write"), LIMIT_ARG(x, "bps-total"),    \
        LIMIT_ARG(x, "bps-read"), LIMIT_ARG(x, "bps-write"), { x "iops-size", QMP_INT, .optional = true }

static const struct qmp_arg limits_args[] = { LIMIT_ARGS(""), { NULL } };
const struct qmp_arg throttle_group_args[] = {
        { "limits", QMP_OBJECT, .optional = true, .members = limits_args }, LIMIT_ARGS("x-"), { NULL },
};

int limits_object_add(struct disks *d, json_t *args)
{
        struct throttle_limits l = THROTTLE_NO_LIMITS;
        int r = limits_from_json(&l, args, "x-");

        if (r == 0)
                r = limits_from_json(&l, json_object_get(args, "limits"), "");
        if (r == 0)
                r = throttle_limits_check(&l);
        return r < 0 ? r : limits_add(d, text_of(args, "id"), true, &l, NULL);
}

/* The group of "/objects/ID", or of "ID". */
static struct limit_group *at_path(struct disks *d, const char *path)
{
        size_t n = strlen(OBJECTS "/");
        struct limit_group *lg = limits_find(d, strncmp(path, OBJECTS "/", n) ? path : path + n);

        return lg && lg->object ? lg : NULL;
}

static const struct qmp_arg qom_get_args[] = { { "path", QMP_STR }, { "property", QMP_STR }, { NULL } };
static const struct qmp_arg qom_list_args[] = { { "path", QMP_STR }, { NULL } };

/* "limits", or one of them by its own name. NULL: it has no such property. */
static json_t *get_property(const struct throttle_limits *l, const char *name)
{
        struct throttle_limits copy = *l;
        const uint64_t *field = strncmp(name, "x-", 2) ? NULL : limit_field(&copy, name + 2);

        if (!strcmp(name, "limits"))
                return limits_to_json(l);
        return field ? json_integer((json_int_t)*field) : NULL;
}

static void cmd_qom_get(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *path = text_of(args, "path"), *property = text_of(args, "property");
        struct limit_group *lg = at_path(c->disks, path);
        struct throttle_limits l;
        json_t *v;

        if (!lg)
                return qmp_fail(call, "DeviceNotFound", "Device '%s' not found", path);
        throttle_group_get(lg->g, &l);
        v = get_property(&l, property);
        if (!v)
                return qmp_fail(call, NULL, "Property 'throttle-group.%s' not found", property);
        qmp_return(call, v);
}


static int set_limits(struct limit_group *lg, json_t *value)
{
        json_t *wrapped = json_pack("{s:O}", "limits", value);
        static const struct qmp_arg spec[] = { { "limits", QMP_OBJECT, .members = limits_args }, { NULL } };
        int r = wrapped ? qmp_args_check(spec, wrapped) : -ENOMEM;
        struct throttle_limits l;

        json_decref(wrapped);
        throttle_group_get(lg->g, &l); /* what is not said stays */
        if (r == 0)
                r = limits_from_json(&l, value, "");
        if (r == 0)
                r = throttle_limits_check(&l);
        if (r == 0)
                throttle_group_set(lg->g, &l);
        return r;
}

static void cmd_qom_set(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *path = text_of(args, "path"), *property = text_of(args, "property");
        struct limit_group *lg = at_path(c->disks, path);

        if (!lg)
                return qmp_fail(call, "DeviceNotFound", "Device '%s' not found", path);
        if (!strncmp(property, "x-", 2) && limit_field(&(struct throttle_limits){ 0 }, property + 2))
                return qmp_fail(call, NULL, "Property cannot be set after initialization");
        if (strcmp(property, "limits"))
                return qmp_fail(call, NULL, "Property 'throttle-group.%s' not found", property);
        qmp_answer(call, set_limits(lg, json_object_get(args, "value")));
}

static json_t *describe_property(const char *before, const char *name, const char *type)
{
        json_t *full = json_sprintf("%s%s", before, name);

        return json_pack("{s:o,s:s}", "name", full, "type", type);
}

static void cmd_qom_list(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *path = text_of(args, "path");
        struct limit_group *lg = at_path(c->disks, path);
        json_t *all;

        if (!lg && strcmp(path, OBJECTS))
                return qmp_fail(call, "DeviceNotFound", "Device '%s' not found", path);
        all = json_array();
        if (lg) {
                json_array_append_new(all, describe_property("", "type", "string"));
                json_array_append_new(all, describe_property("", "limits", "ThrottleLimits"));
                for (unsigned i = 0; i < LIMIT_KEYS; i++)
                        json_array_append_new(all, describe_property("x-", limit_key(i), "int"));
                return qmp_return(call, all);
        }
        list_for_each(l, &c->disks->limit_groups) {
                lg = list_entry(l, struct limit_group, link);
                if (lg->object)
                        json_array_append_new(all, describe_property("", limits_name(lg), "child<throttle-group>"));
        }
        qmp_return(call, all);
}

/* --- block_set_io_throttle ----------------------------------------------------------------------------------------- */

static const char *const old_name[THROTTLE_KINDS] = {
        [THROTTLE_BPS_TOTAL] = "bps",   [THROTTLE_BPS_READ] = "bps_rd",   [THROTTLE_BPS_WRITE] = "bps_wr",
        [THROTTLE_IOPS_TOTAL] = "iops", [THROTTLE_IOPS_READ] = "iops_rd", [THROTTLE_IOPS_WRITE] = "iops_wr",
};
static const char *const old_suffix[] = { "", "_max", "_max_length" };

#define OLD_ARGS(name)                                                                                                   \
        { name, QMP_INT }, { name "_max", QMP_INT, .optional = true }, { name "_max_length", QMP_INT, .optional = true }
static const struct qmp_arg set_throttle_args[] = {
        { "device", QMP_STR, .optional = true }, /* the same names to us */
        { "id", QMP_STR, .optional = true },
        OLD_ARGS("bps"), OLD_ARGS("bps_rd"), OLD_ARGS("bps_wr"), OLD_ARGS("iops"), OLD_ARGS("iops_rd"), OLD_ARGS("iops_wr"),
        { "iops_size", QMP_INT, .optional = true },
        { "group", QMP_STR, .optional = true },
        { NULL },
};

static uint64_t *field_of(struct throttle_limit *l, unsigned which)
{
        return which == 0 ? &l->avg : which == 1 ? &l->max : &l->length;
}

static int read_old_args(json_t *args, struct throttle_limits *l)
{
        char name[KEY_BYTES];

        *l = THROTTLE_NO_LIMITS;
        l->iops_size = (uint64_t)json_integer_value(json_object_get(args, "iops_size"));
        for (unsigned i = 0; i < 3 * THROTTLE_KINDS; i++) {
                json_t *v;

                snprintf(name, sizeof(name), "%s%s", old_name[i / 3], old_suffix[i % 3]);
                v = json_object_get(args, name);
                if (v)
                        *field_of(&l->kind[i / 3], i % 3) = (uint64_t)json_integer_value(v); /* below 0: far too much */
        }
        return throttle_limits_check(l);
}

void limits_describe(struct node *n, json_t *o)
{
        struct throttle_group *g = vol_throttle(n->vol);
        struct throttle_limits l = THROTTLE_NO_LIMITS;
        char name[KEY_BYTES];

        if (g)
                throttle_group_get(g, &l);
        for (unsigned i = 0; i < 3 * THROTTLE_KINDS; i++) {
                struct throttle_limit *k = &l.kind[i / 3];

                if (i % 3 && !k->max)
                        continue;
                snprintf(name, sizeof(name), "%s%s", old_name[i / 3], old_suffix[i % 3]);
                json_object_set_new(o, name, json_integer((json_int_t)*field_of(k, i % 3)));
        }
        if (l.iops_size)
                json_object_set_new(o, "iops_size", json_integer((json_int_t)l.iops_size));
        if (g)
                json_object_set_new(o, "group", json_string(throttle_group_name(g)));
        throttle_group_unref(g);
        json_object_set_new(o, "write_threshold", json_integer((json_int_t)vol_write_threshold(n->vol)));
        /* not in QEMU */
        json_object_set_new(o, "waiting-for-space", json_integer((json_int_t)vol_waiting_for_space(n->vol)));
}

/* An export's name, or a node's. */
static struct node *find_disk(struct disks *d, const char *name)
{
        struct block_export *x = disks_find_export(d, name);

        return x && x->node->vol ? x->node : disks_find_node(d, name);
}

static void cmd_set_throttle(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *name = text_of(args, "id") ?: text_of(args, "device");
        struct node *n = name ? find_disk(c->disks, name) : NULL;
        struct throttle_limits l;
        int r;

        if (!name || (text_of(args, "id") && text_of(args, "device")))
                return qmp_fail(call, NULL, "Need exactly one of 'device' and 'id'");
        if (!n)
                return qmp_fail(call, "DeviceNotFound", "Device '%s' not found", name);
        r = read_old_args(args, &l);
        if (r == 0)
                r = limits_apply(n, name, text_of(args, "group"), &l);
        qmp_answer(call, r);
}

/* --- block-set-write-threshold -------------------------------------------------------------------------------------- */

static const struct qmp_arg threshold_args[] = {
        { "node-name", QMP_STR }, { "write-threshold", QMP_INT, .min = 0, .max = INT64_MAX }, { NULL },
};

static void cmd_set_threshold(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct node *n = disks_find_node(c->disks, text_of(args, "node-name"));

        if (!n)
                return qmp_fail(call, NULL, "Device '%s' not found", text_of(args, "node-name"));
        vol_set_write_threshold(n->vol, (uint64_t)json_integer_value(json_object_get(args, "write-threshold")));
        qmp_return(call, NULL);
}

/* --- block-try-space: not in QEMU, whose "cont" does it ------------------------------------------------------------- */

static const struct qmp_arg try_space_args[] = { { "node-name", QMP_STR }, { NULL } };

static void cmd_try_space(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct node *n = disks_find_node(c->disks, text_of(args, "node-name"));

        if (!n)
                return qmp_fail(call, NULL, "Device '%s' not found", text_of(args, "node-name"));
        qmp_answer(call, vol_try_space(n->vol));
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

/* The only property that can be set is an object. */
static const struct qmp_arg qom_set_args[] = {
        { "path", QMP_STR }, { "property", QMP_STR }, { "value", QMP_OBJECT }, { NULL },
};

const struct qmp_command limit_commands[] = {
        { "block-set-write-threshold", threshold_args, cmd_set_threshold },
        { "block-try-space", try_space_args, cmd_try_space },
        { "block_set_io_throttle", set_throttle_args, cmd_set_throttle },
        { "qom-get", qom_get_args, cmd_qom_get, &answer_property },
        { "qom-list", qom_list_args, cmd_qom_list, &answer_properties },
        { "qom-set", qom_set_args, cmd_qom_set },
        { NULL },
};
