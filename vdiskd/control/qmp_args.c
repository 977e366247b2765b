/* SPDX-License-Identifier: BSD-3-Clause */
#include "qmp_args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/size.h"

static const char *type_name(enum qmp_arg_type type)
{
        static const char *const names[] = {
                [QMP_STR] = "string", [QMP_INT] = "integer", [QMP_BOOL] = "boolean",
                [QMP_OBJECT] = "object", [QMP_ARRAY] = "array", [QMP_REF] = "BlockdevRef",
        };

        return names[type];
}

static bool type_fits(const struct qmp_arg *arg, const json_t *v)
{
        if (json_is_null(v))
                return arg->nullable;
        switch (arg->type) {
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
        case QMP_REF:
                return json_is_string(v) || json_is_object(v);
        }
        return false;
}

static const struct qmp_arg *find(const struct qmp_arg *spec, const char *name)
{
        for (; spec && spec->name; spec++)
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

const struct qmp_arg *qmp_args_tag(const struct qmp_arg *spec)
{
        for (; spec->name; spec++)
                if (spec->variants)
                        return spec;
        return NULL;
}

const struct qmp_arg *qmp_args_variant(const struct qmp_arg *tag, const char *value)
{
        for (const struct qmp_variant *v = tag ? tag->variants : NULL; v && v->value; v++)
                if (value && !strcmp(v->value, value))
                        return v->members;
        return NULL;
}

static int check_object(const struct qmp_arg *spec, json_t *args, const char *within);

static int check_elements(const struct qmp_arg *arg, json_t *array, const char *name)
{
        json_t *o;
        size_t i;
        int r = 0;

        json_array_foreach (array, i, o) {
                char full[128];

                snprintf(full, sizeof(full), "%s[%zu]", name, i);
                if (!json_is_object(o))
                        return err_note(-EINVAL, "Invalid parameter type for '%s', expected: object", full);
                r = check_object(arg->members, o, full);
                if (r < 0)
                        break;
        }
        return r;
}

/* @name: as the client would write it, with the names of the objects around it. */
static int check_value(const struct qmp_arg *arg, json_t *value, const char *name)
{
        if (!type_fits(arg, value))
                return err_note(-EINVAL, "Invalid parameter type for '%s', expected: %s", name, type_name(arg->type));
        if (json_is_null(value))
                return 0;
        if (arg->values && !is_one_of(json_string_value(value), arg->values))
                return err_note(-EINVAL, "Parameter '%s' does not accept value '%s'", name, json_string_value(value));
        if (arg->max && (json_integer_value(value) < arg->min || json_integer_value(value) > arg->max))
                return err_note(-EINVAL, "Parameter '%s' expects a number from %lld to %lld", name, (long long)arg->min,
                                (long long)arg->max);
        if (arg->members && json_is_array(value))
                return check_elements(arg, value, name);
        return arg->members && json_is_object(value) ? check_object(arg->members, value, name) : 0;
}

static int check_missing(const struct qmp_arg *spec, json_t *args, const char *within)
{
        for (const struct qmp_arg *arg = spec; arg && arg->name; arg++)
                if (!arg->optional && !json_object_get(args, arg->name))
                        return err_note(-EINVAL, "Parameter '%s%s%s' is missing", within, *within ? "." : "", arg->name);
        return 0;
}

/* A union's tag comes first: what else may be there depends on it. Its members, NULL: no more; or -errno with a
 * sentence. */
static int check_tag(const struct qmp_arg *spec, json_t *args, const char *within, const struct qmp_arg **more)
{
        const struct qmp_arg *tag = qmp_args_tag(spec);
        json_t *value = tag ? json_object_get(args, tag->name) : NULL;
        char full[128]; /* names of our tables: they are short */
        int r = 0;

        *more = NULL;
        if (!tag)
                return 0;
        if (!value)
                return tag->optional ? 0 : err_note(-EINVAL, "Parameter '%s%s%s' is missing", within, *within ? "." : "",
                                                    tag->name);
        snprintf(full, sizeof(full), "%s%s%s", within, *within ? "." : "", tag->name);
        r = check_value(tag, value, full);
        if (r == 0)
                *more = qmp_args_variant(tag, json_string_value(value));
        return r;
}

/* @within: the name of the object; "" is the outermost. */
static int check_object(const struct qmp_arg *spec, json_t *args, const char *within)
{
        const char *dot = *within ? "." : "", *name;
        const struct qmp_arg *more;
        json_t *value;
        int r = check_tag(spec, args, within, &more);

        if (r < 0)
                return r;
        json_object_foreach (args, name, value) {
                const struct qmp_arg *arg = find(spec, name) ?: find(more, name);
                char full[128];

                if (!arg)
                        return err_note(-EINVAL, "Parameter '%s%s%s' is unexpected", within, dot, name);
                snprintf(full, sizeof(full), "%s%s%s", within, dot, name);
                r = check_value(arg, value, full);
                if (r < 0)
                        return r;
        }
        r = check_missing(spec, args, within);
        return r < 0 ? r : check_missing(more, args, within);
}

int qmp_args_check(const struct qmp_arg *spec, json_t *args)
{
        return check_object(spec, args, "");
}

/* --- from text ---------------------------------------------------------------------------------------------------- */

static json_t *scalar_from_text(enum qmp_arg_type type, const char *text)
{
        uint64_t bytes;
        long long n;
        char *end;

        if (type == QMP_BOOL && (!strcmp(text, "on") || !strcmp(text, "true") || !strcmp(text, "yes")))
                return json_true();
        if (type == QMP_BOOL && (!strcmp(text, "off") || !strcmp(text, "false") || !strcmp(text, "no")))
                return json_false();
        if (type != QMP_INT || !*text)
                return NULL;
        errno = 0;
        n = strtoll(text, &end, 0);
        if (!*end && !errno)
                return json_integer(n);
        if (size_parse(text, &bytes) == 0 && bytes <= INT64_MAX) /* 4G */
                return json_integer((json_int_t)bytes);
        err_clear();
        return NULL;
}

/* {"0": a, "1": b}, in any order, becomes [a, b]. NULL: it is not such an object. */
static json_t *array_from_object(json_t *o)
{
        json_t *all = json_array();

        for (size_t i = 0; i < json_object_size(o); i++) {
                char key[24];
                json_t *v;

                snprintf(key, sizeof(key), "%zu", i);
                v = json_object_get(o, key);
                if (!v) {
                        json_decref(all);
                        return NULL;
                }
                json_array_append(all, v);
        }
        return all;
}

static int value_from_text(const struct qmp_arg *arg, json_t *value, json_t **ret)
{
        json_t *o;
        size_t i;
        int r = 0;

        *ret = NULL;
        if (json_is_string(value)) {
                *ret = scalar_from_text(arg->type, json_string_value(value));
                return 0;
        }
        if (arg->type == QMP_ARRAY && json_is_object(value)) {
                *ret = array_from_object(value);
                value = *ret;
        }
        if (arg->members && json_is_object(value))
                return qmp_args_from_text(arg->members, value);
        json_array_foreach (value, i, o)
                if (r == 0 && arg->members && json_is_object(o))
                        r = qmp_args_from_text(arg->members, o);
        return r;
}

int qmp_args_from_text(const struct qmp_arg *spec, json_t *args)
{
        const struct qmp_arg *tag = qmp_args_tag(spec);
        const struct qmp_arg *more = tag ? qmp_args_variant(tag, json_string_value(json_object_get(args, tag->name))) : NULL;
        const char *name;
        json_t *value;
        void *next;

        json_object_foreach_safe (args, next, name, value) {
                const struct qmp_arg *arg = find(spec, name) ?: find(more, name);
                json_t *is = NULL;
                int r = arg ? value_from_text(arg, value, &is) : 0;

                if (is && json_object_set_new(args, name, is) < 0)
                        r = -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}
