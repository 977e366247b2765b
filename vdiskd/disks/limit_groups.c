/* SPDX-License-Identifier: BSD-3-Clause */
#include "limit_groups.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/parcel.h"
#include "vdiskd/id.h"
#include "vdiskd/config/limit_values.h"
#include "vdiskd/disks/node.h"

const char *limits_name(const struct limit_group *lg)
{
        return throttle_group_name(lg->g);
}

struct limit_group *limits_find(struct disks *d, const char *name)
{
        list_for_each(l, &d->limit_groups) {
                struct limit_group *lg = list_entry(l, struct limit_group, link);

                if (!strcmp(limits_name(lg), name))
                        return lg;
        }
        return NULL;
}

int limits_add(struct disks *d, const char *name, bool object, const struct throttle_limits *l, struct limit_group **ret)
{
        struct limit_group *lg;

        if (limits_find(d, name))
                return err_note(-EEXIST, "A group with this name already exists");
        lg = calloc(1, sizeof(*lg));
        if (!lg)
                return -ENOMEM;
        lg->g = throttle_group_new(name, l);
        lg->object = object;
        if (!lg->g) {
                free(lg);
                return -ENOMEM;
        }
        list_add_tail(&d->limit_groups, &lg->link);
        if (ret)
                *ret = lg;
        return 0;
}

static void forget(struct limit_group *lg)
{
        list_del(&lg->link);
        throttle_group_unref(lg->g);
        free(lg);
}

static bool is_in(struct node *n, const struct throttle_group *g)
{
        struct throttle_group *now = n->vol ? vol_throttle(n->vol) : throttle_group_ref(n->throttle);

        throttle_group_unref(now);
        return now == g;
}

static bool in_use(const struct limit_group *lg, const struct disks *d)
{
        list_for_each(l, &d->nodes)
                if (is_in(list_entry(l, struct node, link), lg->g))
                        return true;
        return false;
}

int limits_remove(struct disks *d, const char *name)
{
        struct limit_group *lg = limits_find(d, name);

        if (!lg || !lg->object)
                return err_note(-ENOENT, "object '%s' not found", name);
        if (in_use(lg, d))
                return err_note(-EBUSY, "object '%s' is in use, can not be deleted", name);
        forget(lg);
        return 0;
}

void limits_sweep(struct disks *d)
{
        list_for_each_safe(l, &d->limit_groups) {
                struct limit_group *lg = list_entry(l, struct limit_group, link);

                if (!lg->object && !in_use(lg, d))
                        forget(lg);
        }
}

void limits_finish(struct disks *d)
{
        list_for_each_safe(l, &d->limit_groups)
                forget(list_entry(l, struct limit_group, link));
}

/* --- disks -------------------------------------------------------------------------------------------------------- */

int limits_choose(struct disks *d, const char *disk, const char *name, const struct throttle_limits *l,
                  struct throttle_group **ret)
{
        struct limit_group *lg = name ? limits_find(d, name) : NULL;
        int r = 0;

        *ret = NULL;
        if (name && !lg)
                return err_note(-EINVAL, "Throttle group '%s' does not exist", name);
        if (!name && l && throttle_limits_any(l)) {
                limits_sweep(d);
                r = limits_add(d, disk, false, l, &lg);
        }
        if (r == 0 && lg)
                *ret = throttle_group_ref(lg->g);
        return err_prefix(r, "throttle group '%s': ", disk);
}

static int find_or_add(struct disks *d, const char *name, const struct throttle_limits *l, struct limit_group **ret)
{
        *ret = limits_find(d, name);
        return *ret ? 0 : limits_add(d, name, false, l, ret);
}

int limits_apply(struct node *n, const char *disk, const char *name, const struct throttle_limits *l)
{
        struct throttle_group *now = vol_throttle(n->vol);
        struct limit_group *lg = NULL;
        int r = throttle_limits_check(l);

        /* a disk's own group has its name, whatever that is: a node that nobody named is a #block001 */
        if (r == 0 && name && (!id_is_valid(name) || strlen(name) > ID_BYTES))
                r = err_note(-EINVAL, "Invalid group name: '%s'", name);
        if (r == 0 && throttle_limits_any(l)) {
                r = find_or_add(n->disks, name ?: now ? throttle_group_name(now) : disk, l, &lg);
                if (r == 0)
                        throttle_group_set(lg->g, l);
        }
        if (r == 0 && (lg ? lg->g : NULL) != now)
                r = vol_set_throttle(n->vol, lg ? lg->g : NULL);
        throttle_group_unref(now);
        limits_sweep(n->disks);
        return r;
}

int limits_join(struct node *n, const char *name)
{
        struct limit_group *lg = name ? limits_find(n->disks, name) : NULL;
        int r;

        if (name && !lg)
                return err_note(-EINVAL, "Throttle group '%s' does not exist", name);
        r = vol_set_throttle(n->vol, lg ? lg->g : NULL);
        limits_sweep(n->disks);
        return r;
}

/* --- for another process ------------------------------------------------------------------------------------------ */

json_t *limits_pack(const struct disks *d)
{
        json_t *all = json_array();

        list_for_each(n, &d->limit_groups) {
                const struct limit_group *lg = list_entry(n, struct limit_group, link);
                struct throttle_limits l;

                throttle_group_get(lg->g, &l);
                json_array_append_new(all, json_pack("{s:s,s:b,s:o}", "name", limits_name(lg), "object", lg->object, "limits",
                                                     limits_to_json(&l)));
        }
        return all;
}

static int unpack_one(struct disks *d, const json_t *o)
{
        struct throttle_limits l = THROTTLE_NO_LIMITS;
        const char *name;
        bool object;
        int r = parcel_get_text(o, "name", false, &name);

        if (r == 0)
                r = parcel_get_bool(o, "object", &object);
        if (r == 0)
                r = limits_from_json(&l, json_object_get(o, "limits"), "");
        if (r == 0)
                r = throttle_limits_check(&l);
        return r < 0 ? r : limits_add(d, name, object, &l, NULL);
}

int limits_unpack(struct disks *d, const json_t *all)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < json_array_size(all); i++)
                r = unpack_one(d, json_array_get(all, i));
        return r;
}
