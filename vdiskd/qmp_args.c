/* SPDX-License-Identifier: BSD-3-Clause */
#include "qmp_args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"

static const char *type_name(enum qmp_arg_type type)
{
        static const char *const names[] = {
                [QMP_STR] = "string", [QMP_INT] = "integer", [QMP_BOOL] = "boolean",
                [QMP_OBJECT] = "object", [QMP_ARRAY] = "array",
        };

        return names[type];
}

static bool type_fits(enum qmp_arg_type type, const json_t *v)
{
        switch (type) {
        case QMP_STR:
                return json_is_string(v);
        case QMP_INT:
                return json_is_integer(v);
        case QMP_BOOL:
                return json_is_boolean(v);
        case QMP_OBJECT:
                return json_is_object(v);
        case QMP_ARRAY:
                return json_is_array(v);
        }
        return false;
}

static const struct qmp_arg *find(const struct qmp_arg *spec, const char *name)
{
        for (; spec->name; spec++)
                if (!strcmp(spec->name, name))
                        return spec;
        return NULL;
}

static bool is_one_of(const char *word, const char *const *words)
{
        for (; *words; words++)
                if (!strcmp(word, *words))
                        return true;
        return false;
}

static int check_object(const struct qmp_arg *spec, json_t *args, const char *within);

/* @name: as the client would write it, with the names of the objects around it. */
static int check_value(const struct qmp_arg *arg, json_t *value, const char *name)
{
        if (!type_fits(arg->type, value))
                return err_note(-EINVAL, "Invalid parameter type for '%s', expected: %s", name, type_name(arg->type));
        if (arg->values && !is_one_of(json_string_value(value), arg->values))
                return err_note(-EINVAL, "Parameter '%s' does not accept value '%s'", name, json_string_value(value));
        if (arg->max && (json_integer_value(value) < arg->min || json_integer_value(value) > arg->max))
                return err_note(-EINVAL, "Parameter '%s' expects a number from %lld to %lld", name, (long long)arg->min,
                                (long long)arg->max);
        return arg->members ? check_object(arg->members, value, name) : 0;
}

/* @within: the name of the object; "" is the outermost. */
static int check_object(const struct qmp_arg *spec, json_t *args, const char *within)
{
        const char *dot = *within ? "." : "", *name;
        json_t *value;

        json_object_foreach (args, name, value) {
                const struct qmp_arg *arg = find(spec, name);
                char full[128]; /* names of our tables: they are short */
                int r;

                if (!arg)
                        return err_note(-EINVAL, "Parameter '%s%s%s' is unexpected", within, dot, name);
                snprintf(full, sizeof(full), "%s%s%s", within, dot, name);
                r = check_value(arg, value, full);
                if (r < 0)
                        return r;
        }
        for (const struct qmp_arg *arg = spec; arg->name; arg++)
                if (!arg->optional && !json_object_get(args, arg->name))
                        return err_note(-EINVAL, "Parameter '%s%s%s' is missing", within, dot, arg->name);
        return 0;
}

int qmp_args_check(const struct qmp_arg *spec, json_t *args)
{
        return check_object(spec, args, "");
}
