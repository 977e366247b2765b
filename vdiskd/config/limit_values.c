/* SPDX-License-Identifier: BSD-3-Clause */
#include "limit_values.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/similar.h"
#include "vdiskd/id.h"
#include "vdiskd/config/option_values.h"

#define GROUP_TYPE "throttle-group"
#define KEY_BYTES 64

#define KEYS_OF(kind) kind, kind "-max", kind "-max-length"
static const char *const keys[LIMIT_KEYS] = { /* in the order of the kinds */
        KEYS_OF("bps-total"), KEYS_OF("bps-read"), KEYS_OF("bps-write"),
        KEYS_OF("iops-total"), KEYS_OF("iops-read"), KEYS_OF("iops-write"), "iops-size",
};

const char *limit_key(unsigned i)
{
        return keys[i];
}

uint64_t *limit_field(struct throttle_limits *l, const char *key)
{
        for (unsigned i = 0; i < LIMIT_KEYS; i++) {
                struct throttle_limit *k = &l->kind[i / 3];

                if (strcmp(keys[i], key))
                        continue;
                if (i == 3 * THROTTLE_KINDS)
                        return &l->iops_size;
                return i % 3 == 0 ? &k->avg : i % 3 == 1 ? &k->max : &k->length;
        }
        return NULL;
}

int limit_set_text(struct throttle_limits *l, const char *key, const char *value)
{
        uint64_t *field = limit_field(l, key);

        return field ? set_bytes(key, value, 0, THROTTLE_VALUE_MAX, field) : -ENOENT;
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

int limits_from_json(struct throttle_limits *l, const json_t *o, const char *before)
{
        char full[KEY_BYTES];

        for (unsigned i = 0; i < LIMIT_KEYS; i++) {
                const json_t *v;
                json_int_t n;

                snprintf(full, sizeof(full), "%s%s", before, limit_key(i));
                v = json_object_get(o, full);
                if (!v)
                        continue;
                n = json_integer_value(v);
                if (n < 0 || (uint64_t)n > THROTTLE_VALUE_MAX)
                        return err_note(-EINVAL, "%s: bps/iops/max values must be within [0, %llu]", full, THROTTLE_VALUE_MAX);
                *limit_field(l, full + strlen(before)) = (uint64_t)n;
        }
        return 0;
}

json_t *limits_to_json(const struct throttle_limits *l)
{
        struct throttle_limits copy = *l;
        json_t *o = json_object();

        for (unsigned i = 0; i < LIMIT_KEYS; i++)
                json_object_set_new(o, limit_key(i), json_integer((json_int_t)*limit_field(&copy, limit_key(i))));
        return o;
}

/* --- the option ---------------------------------------------------------------------------------------------------- */

bool limit_is_group_option(const char *text)
{
        size_t n = strlen(GROUP_TYPE);

        return !strncmp(text, GROUP_TYPE, n) && (!text[n] || text[n] == ',');
}

static int no_such_key(const char *key)
{
        struct similar s = similar_to(strncmp(key, "limits.", 7) ? key : key + 7);

        for (unsigned i = 0; i < LIMIT_KEYS; i++)
                similar_look(&s, limit_key(i));
        if (s.best)
                return err_note(-EINVAL, "'%s' is no property of a throttle-group; did you mean 'limits.%s'?", key, s.best);
        return err_note(-EINVAL, "'%s' is no property of a throttle-group: expected id and limits.NAME", key);
}

static int set_property(const char *key, const char *value, const char **id, struct throttle_limits *l)
{
        const char *name = !strncmp(key, "limits.", 7) ? key + 7 : !strncmp(key, "x-", 2) ? key + 2 : NULL;

        if (!value)
                return err_note(-EINVAL, "%s: a value is missing", key);
        if (!strcmp(key, "id")) {
                *id = value;
                return id_is_valid(value) && strlen(value) <= ID_BYTES ? 0 : err_note(-EINVAL, "id=%s: not a valid name", value);
        }
        return name && limit_field(l, name) ? limit_set_text(l, name, value) : no_such_key(name ?: key);
}

int limit_group_option(char *text, const char **id, struct throttle_limits *l)
{
        char *rest, *key, *value;
        int r = 0;

        *id = NULL;
        *l = THROTTLE_NO_LIMITS;
        rest = option_next_pair(text, &key, &value); /* its type */
        while (r == 0 && rest) {
                rest = option_next_pair(rest, &key, &value);
                r = set_property(key, value, id, l);
        }
        if (r == 0 && !*id)
                r = err_note(-EINVAL, "expected id=NAME");
        if (r == 0)
                r = throttle_limits_check(l);
        return err_prefix(r, "--object " GROUP_TYPE ": ");
}
