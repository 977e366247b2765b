/* SPDX-License-Identifier: BSD-3-Clause */
#include "objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/secret.h"
#include "vdiskd/config/limit_values.h"
#include "vdiskd/disks/limit_groups.h"

struct object {
        char *copy; /* what the rest points into */
        bool is_group;
        const char *id;
        struct throttle_limits limits;
        struct secret_source secret;
};

static void object_finish(struct object *o)
{
        free(o->copy);
}

/* object_finish() it in either case. */
static int read_text(struct object *o, const char *text)
{
        int r;

        *o = (struct object){ .copy = strdup(text), .is_group = limit_is_group_option(text) };
        if (!o->copy)
                return -ENOMEM;
        if (o->is_group)
                return limit_group_option(o->copy, &o->id, &o->limits);
        r = secret_option(o->copy, &o->secret);
        o->id = o->secret.id;
        return r;
}

int object_add(struct disks *d, const char *text)
{
        AUTO(object_finish) struct object o;
        int r = read_text(&o, text);

        if (r < 0)
                return r;
        if (o.is_group)
                return err_prefix(limits_add(d, o.id, true, &o.limits, NULL), "throttle-group '%s': ", o.id);
        return secret_add(&o.secret);
}

int object_remove(struct disks *d, const char *text)
{
        AUTO(object_finish) struct object o;
        int r = read_text(&o, text);

        if (r < 0)
                return r;
        return o.is_group ? limits_remove(d, o.id) : secret_remove(o.id);
}

int object_change(struct disks *d, const char *text)
{
        AUTO(object_finish) struct object o;
        struct limit_group *lg;
        int r = read_text(&o, text);

        if (r < 0)
                return r;
        if (!o.is_group)
                return err_note(-EOPNOTSUPP, "secret '%s' cannot change: give the new one another name", o.id);
        lg = limits_find(d, o.id);
        if (!lg)
                return err_note(-ENOENT, "throttle-group '%s' is gone", o.id);
        throttle_group_set(lg->g, &o.limits);
        return 0;
}

bool object_same(const char *a, const char *b)
{
        struct object x = { 0 }, y = { 0 };
        bool same = read_text(&x, a) == 0 && read_text(&y, b) == 0 && x.is_group == y.is_group && !strcmp(x.id, y.id);

        err_clear();
        object_finish(&x);
        object_finish(&y);
        return same;
}
