/* SPDX-License-Identifier: BSD-3-Clause */
#include "qmp_args.h"

#include <errno.h>
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

int qmp_args_check(const struct qmp_arg *spec, json_t *args)
{
        const char *name;
        json_t *value;

        json_object_foreach (args, name, value) {
                const struct qmp_arg *arg = find(spec, name);

                if (!arg)
                        return err_note(-EINVAL, "Parameter '%s' is unexpected", name);
                if (!type_fits(arg->type, value))
                        return err_note(-EINVAL, "Invalid parameter type for '%s', expected: %s", name,
                                        type_name(arg->type));
        }
        for (const struct qmp_arg *arg = spec; arg->name; arg++)
                if (!arg->optional && !json_object_get(args, arg->name))
                        return err_note(-EINVAL, "Parameter '%s' is missing", arg->name);
        return 0;
}
