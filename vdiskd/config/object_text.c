/* SPDX-License-Identifier: BSD-3-Clause */
#include "object_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "vdiskd/config/limit_values.h"

void object_text_finish(struct object_text *o)
{
        free(o->copy);
}

int object_text_read(struct object_text *o, const char *text)
{
        int r;

        *o = (struct object_text){ .copy = strdup(text), .is_group = limit_is_group_option(text) };
        if (!o->copy)
                return -ENOMEM;
        if (o->is_group)
                return limit_group_option(o->copy, &o->id, &o->limits);
        r = secret_option(o->copy, &o->secret);
        o->id = o->secret.id;
        return r;
}

bool object_same(const char *a, const char *b)
{
        struct object_text x = { 0 }, y = { 0 };
        bool same = object_text_read(&x, a) == 0 && object_text_read(&y, b) == 0 && x.is_group == y.is_group && !strcmp(x.id, y.id);

        err_clear();
        object_text_finish(&x);
        object_text_finish(&y);
        return same;
}
