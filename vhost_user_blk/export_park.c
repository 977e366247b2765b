/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An export for another process is its door and what the guest set; what it was made with is its maker's business. Not
 * packed, since it is made anew:
 *   turn name stopped opaque; of the device: vu vol capacity block_size cluster_size read_only serial wce_mark port
 */
#include "vhost_user_blk/export_impl.h"

void export_park(struct export *x, void (*parked)(void *opaque), void *opaque)
{
        door_park(&x->door, parked, opaque);
}

bool export_parked(const struct export *x)
{
        return x->door.parked;
}

bool export_has_woken(const struct export *x)
{
        return door_has_woken(&x->door);
}

bool export_is_moving(const struct export *x)
{
        return door_is_moving(&x->door);
}

void export_resume(struct export *x, struct vol *v)
{
        x->dev.vol = v;
        door_resume(&x->door);
}

/* What a door packs, and one word more. */
json_t *export_pack(const struct export *x, struct parcel *p)
{
        json_t *o = door_pack(&x->door, p);

        if (o && json_object_set_new(o, "wce", json_boolean(atomic_load(&x->dev.wce))) == 0)
                return o;
        json_decref(o);
        return NULL;
}

int export_unpack_socket(struct parcel *p, const json_t *o, int *listen_fd)
{
        return door_unpack_socket(p, o, listen_fd);
}

int export_unpack(struct export *x, struct parcel *p, const json_t *o)
{
        bool wce;
        int r = parcel_get_bool(o, "wce", &wce);

        if (r < 0)
                return r;
        atomic_store(&x->dev.wce, wce);
        return door_unpack(&x->door, p, o);
}
