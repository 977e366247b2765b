/* SPDX-License-Identifier: BSD-3-Clause */
#include "objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/object_text.h"
#include "vdiskd/disks/limit_groups.h"

int object_add(struct disks *d, const char *text)
{
        AUTO(object_text_finish) struct object_text o;
        int r = object_text_read(&o, text);

        if (r < 0)
                return r;
        if (o.is_group)
                return err_prefix(limits_add(d, o.id, true, &o.limits, NULL), "throttle-group '%s': ", o.id);
        return secret_add(&o.secret);
}

int object_remove(struct disks *d, const char *text)
{
        AUTO(object_text_finish) struct object_text o;
        int r = object_text_read(&o, text);

        if (r < 0)
                return r;
        return o.is_group ? limits_remove(d, o.id) : secret_remove(o.id);
}

int object_change(struct disks *d, const char *text)
{
        AUTO(object_text_finish) struct object_text o;
        struct limit_group *lg;
        int r = object_text_read(&o, text);

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
