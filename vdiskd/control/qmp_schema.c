/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands and events have their own names; types have numbers, as in QEMU, whose clients look at the shape only. A
 * type is known by the table that it comes from, so each is told once, and one that contains itself (backing) comes to
 * an end.
 */
#include "qmp_schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "vdiskd/control/qmp_args.h"

struct type {
        const void *table; /* of an enum or an object; a reference: of its object; what may be null: the argument */
        enum kind { ENUM, OBJECT, REF, NULLABLE } kind;

};

/* Types are numbered as they are found and told in that order; telling one may find more. */
struct schema {
        json_t *all;
        struct type *types;
        size_t ntypes, told;
        bool failed;
};

static const struct qmp_arg empty[] = { { NULL } };

static void append(struct schema *s, json_t *o)
{
        if (!o || json_array_append_new(s->all, o) < 0)
                s->failed = true;
}

static json_t *number(struct schema *s, struct type t)
{
        struct type *more;
        size_t i;

        for (i = 0; i < s->ntypes; i++)
                if (s->types[i].table == t.table && s->types[i].kind == t.kind)
                        return json_sprintf("%zu", i);
        more = reallocarray(s->types, s->ntypes + 1, sizeof(*more));
        if (!more) {
                s->failed = true;
                return NULL;
        }
        s->types = more;
        s->types[s->ntypes] = t;
        return json_sprintf("%zu", s->ntypes++);
}

static json_t *object_number(struct schema *s, const struct qmp_arg *spec)
{
        return number(s, (struct type){ .table = spec ?: empty, .kind = OBJECT });
}

/* An array's name has its element's (@of, taken) in brackets; it is told where it is found. */
static json_t *array_name(struct schema *s, json_t *of)
{
        json_t *known;
        json_t *name = json_sprintf("[%s]", json_string_value(of));
        size_t i;

        json_array_foreach (s->all, i, known)
                if (json_equal(json_object_get(known, "name"), name)) {
                        json_decref(of);
                        return name;
                }
        append(s, json_pack("{s:O,s:s,s:o}", "name", name, "meta-type", "array", "element-type", of));
        return name;
}

static json_t *type_name(struct schema *s, const struct qmp_arg *arg)
{
        switch (arg->type) {
        case QMP_STR:
                return arg->values ? number(s, (struct type){ .table = arg->values, .kind = ENUM }) : json_string("str");
        case QMP_INT:
                return json_string("int");
        case QMP_BOOL:
                return json_string("bool");
        case QMP_OBJECT:
                return arg->members ? object_number(s, arg->members) : json_string("any");
        case QMP_REF:
                return number(s, (struct type){ .table = arg->members, .kind = REF });
        case QMP_ARRAY:
                return array_name(s, arg->members ? object_number(s, arg->members) : json_string(arg->strings ? "str" : "any"));
        }
        return NULL;
}

static json_t *member_type(struct schema *s, const struct qmp_arg *arg)
{
        if (arg->nullable)
                return number(s, (struct type){ .table = arg, .kind = NULLABLE });
        return type_name(s, arg);
}

static json_t *members_of(struct schema *s, const struct qmp_arg *spec)
{
        json_t *all = json_array();

        for (; spec->name; spec++) {
                json_t *m = json_pack("{s:s,s:o}", "name", spec->name, "type", member_type(s, spec));

                if (m && spec->optional)
                        json_object_set_new(m, "default", json_null());
                if (!m || json_array_append_new(all, m) < 0)
                        s->failed = true;
        }
        return all;
}

/* Every value of the tag has a case. */
static json_t *variants_of(struct schema *s, const struct qmp_arg *tag)
{
        json_t *all = json_array();

        for (const char *const *v = tag->values; *v; v++)
                json_array_append_new(all, json_pack("{s:s,s:o}", "case", *v, "type",
                                                     object_number(s, qmp_args_variant(tag, *v))));
        return all;
}

static void tell_object(struct schema *s, const char *name, const struct qmp_arg *spec)
{
        const struct qmp_arg *tag = qmp_args_tag(spec);
        json_t *o = json_pack("{s:s,s:s,s:o}", "name", name, "meta-type", "object", "members", members_of(s, spec));

        if (o && tag) {
                json_object_set_new(o, "tag", json_string(tag->name));
                json_object_set_new(o, "variants", variants_of(s, tag));
        }
        append(s, o);
}

static void tell_enum(struct schema *s, const char *name, const char *const *words)
{
        json_t *members = json_array(), *values = json_array();

        for (; *words; words++) {
                json_array_append_new(members, json_pack("{s:s}", "name", *words));
                json_array_append_new(values, json_string(*words));
        }
        append(s, json_pack("{s:s,s:s,s:o,s:o}", "name", name, "meta-type", "enum", "members", members, "values", values));
}

/* One of two: @first is a builtin's name. */
static void tell_alternate(struct schema *s, const char *name, const char *first, json_t *second)
{
        append(s, json_pack("{s:s,s:s,s:[{s:s},{s:o}]}", "name", name, "meta-type", "alternate", "members", "type", first,
                            "type", second));
}

static void tell_next(struct schema *s)
{
        struct type t = s->types[s->told];
        char name[24];

        snprintf(name, sizeof(name), "%zu", s->told++);
        switch (t.kind) {
        case ENUM:
                tell_enum(s, name, t.table);
                break;
        case OBJECT:
                tell_object(s, name, t.table);
                break;
        case REF:
                tell_alternate(s, name, "str", t.table ? object_number(s, t.table) : json_string("any"));
                break;
        case NULLABLE:
                tell_alternate(s, name, "null", type_name(s, t.table));
                break;
        }
}

static void tell_builtins(struct schema *s)
{
        static const struct { const char *name, *json; } builtins[] = {
                { "str", "string" }, { "int", "int" }, { "bool", "boolean" }, { "null", "null" }, { "any", "value" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(builtins); i++)
                append(s, json_pack("{s:s,s:s,s:s}", "name", builtins[i].name, "meta-type", "builtin", "json-type",
                                    builtins[i].json));
}

static json_t *answer_name(struct schema *s, const struct qmp_answer *a)
{
        json_t *one = a && !a->members ? json_string("any") : object_number(s, a ? a->members : empty);

        return a && a->list ? array_name(s, one) : one;
}

json_t *qmp_schema(const struct qmp_command *const *tables, const struct qmp_event_type *events)
{
        struct schema s = { .all = json_array() };

        json_decref(object_number(&s, empty)); /* "0", as in QEMU */
        for (; *tables; tables++)
                for (const struct qmp_command *c = *tables; c->name; c++)
                        append(&s, json_pack("{s:s,s:s,s:o,s:o}", "name", c->name, "meta-type", "command", "arg-type",
                                             object_number(&s, c->args), "ret-type", answer_name(&s, c->answer)));
        for (; events && events->name; events++)
                append(&s, json_pack("{s:s,s:s,s:o}", "name", events->name, "meta-type", "event", "arg-type",
                                     object_number(&s, events->data)));
        tell_builtins(&s);
        while (s.told < s.ntypes && !s.failed)
                tell_next(&s);
        free(s.types);
        if (!s.failed)
                return s.all;
        json_decref(s.all);
        return NULL;
}
