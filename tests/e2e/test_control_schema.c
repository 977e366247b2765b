/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * query-qmp-schema is a schema, and every command that it names is tried with each of its arguments missing, of every wrong
 * type, huge, and with one more that is not there. What must fail fails with QEMU's error object, nothing else comes, and the
 * daemon goes on. A new command is covered by being in a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tests/e2e/control_fixture.h"

#define MAX_DEPTH 4 /* objects in objects; a backing file may have another one, and so on */
#define LONG_BYTES 100000
#define DEEP 1500

static json_t *schema;
static char *long_text;
static unsigned tried, refused;

static const char *text_of(const json_t *o, const char *name)
{
        return json_string_value(json_object_get(o, name)) ?: "";
}

static json_t *find_type(const char *name)
{
        size_t i;
        json_t *o;

        json_array_foreach (schema, i, o)
                if (!strcmp(text_of(o, "name"), name) && strcmp(text_of(o, "meta-type"), "command") &&
                    strcmp(text_of(o, "meta-type"), "event"))
                        return o;
        fail_msg("the schema has no type '%s'", name);
        return NULL;
}

/* --- is it a schema? ---------------------------------------------------------------------------------------------- */

static void check_members(const json_t *o)
{
        const json_t *members = json_object_get(o, "members"), *m;
        const char *tag = text_of(o, "tag");
        bool has_tag = !*tag;
        size_t i;

        assert_true(json_is_array(members));
        json_array_foreach (members, i, m) {
                find_type(text_of(m, "type"));
                has_tag |= !strcmp(text_of(m, "name"), tag);
        }
        assert_true(has_tag);
        json_array_foreach (json_object_get(o, "variants"), i, m) {
                assert_true(*text_of(m, "case"));
                assert_string_equal(text_of(find_type(text_of(m, "type")), "meta-type"), "object");
        }
}

static void check_entry(const json_t *o)
{
        const char *meta = text_of(o, "meta-type");

        assert_true(*text_of(o, "name"));
        if (!strcmp(meta, "command")) {
                assert_string_equal(text_of(find_type(text_of(o, "arg-type")), "meta-type"), "object");
                find_type(text_of(o, "ret-type"));
        } else if (!strcmp(meta, "event")) {
                assert_string_equal(text_of(find_type(text_of(o, "arg-type")), "meta-type"), "object");
        } else if (!strcmp(meta, "object")) {
                check_members(o);
        } else if (!strcmp(meta, "alternate")) {
                assert_int_equal(json_array_size(json_object_get(o, "members")), 2);
        } else if (!strcmp(meta, "array")) {
                find_type(text_of(o, "element-type"));
        } else if (!strcmp(meta, "enum")) {
                assert_true(json_array_size(json_object_get(o, "values")) > 0);
        } else {
                assert_string_equal(meta, "builtin");
        }
}

static void test_every_type_is_there(void **state)
{
        size_t i, commands = 0;
        json_t *o, *all = ask("query-commands");

        (void)state;
        schema = ask("query-qmp-schema");
        json_array_foreach (schema, i, o) {
                check_entry(o);
                commands += !strcmp(text_of(o, "meta-type"), "command");
        }
        assert_int_equal(commands, json_array_size(all));
        json_decref(all);
        json_decref(TAKE(schema, NULL));
}

/* --- values ------------------------------------------------------------------------------------------------------- */

static json_t *plausible(const char *type, const char *member, unsigned depth, size_t which);

/* All that must be there; of a union the one with the tag's value number @which, modulo how many there are. */
static json_t *object_of(const json_t *type, unsigned depth, size_t which)
{
        json_t *o = json_object(), *m;
        const char *tag = text_of(type, "tag");
        const json_t *variants = json_object_get(type, "variants"), *v = NULL;
        size_t i;

        json_array_foreach (json_object_get(type, "members"), i, m)
                if (!json_object_get(m, "default"))
                        json_object_set_new(o, text_of(m, "name"), plausible(text_of(m, "type"), text_of(m, "name"), depth, 0));
        if (!json_array_size(variants))
                return o;
        v = json_array_get(variants, which % json_array_size(variants));
        json_object_set_new(o, tag, json_string(text_of(v, "case")));
        m = object_of(find_type(text_of(v, "type")), depth, 0);
        json_object_update(o, m);
        json_decref(m);
        return o;
}

static json_t *plausible(const char *type, const char *member, unsigned depth, size_t which)
{
        const json_t *t = find_type(type);
        const char *meta = text_of(t, "meta-type");

        if (!strcmp(meta, "enum"))
                return json_incref(json_array_get(json_object_get(t, "values"), 0));
        if (!strcmp(meta, "array"))
                return json_array();
        if (!strcmp(meta, "alternate"))
                return plausible(text_of(json_array_get(json_object_get(t, "members"), 1), "type"), member, depth, which);
        if (!strcmp(meta, "object"))
                return depth < MAX_DEPTH ? object_of(t, depth + 1, which) : json_object();
        if (!strcmp(type, "int"))
                return json_integer(512);
        if (!strcmp(type, "bool"))
                return json_true();
        return json_string(strstr(member, "node") || !strcmp(member, "device") ? "first" : "x");
}

static json_t *deep(void)
{
        json_t *o = json_array();

        for (unsigned i = 0; i < DEEP; i++)
                o = json_pack("[o]", o);
        return o;
}

enum { STRING, LONG_STRING, INTEGER, HUGE_INTEGER, TINY_INTEGER, HUGE_NUMBER, BOOLEAN, JSON_NOTHING, ARRAY, OBJECT, ODD, NVALUES };

static json_t *value_of(unsigned kind)
{
        switch (kind) {
        case STRING: return json_string("");
        case LONG_STRING: return json_string(long_text);
        case INTEGER: return json_integer(-1);
        case HUGE_INTEGER: return json_integer(INT64_MAX);
        case TINY_INTEGER: return json_integer(INT64_MIN);
        case HUGE_NUMBER: return json_real(1e308);
        case BOOLEAN: return json_false();
        case JSON_NOTHING: return json_null();
        case ARRAY: return deep();
        case OBJECT: return json_pack("{s:i}", "no-such-member", 1);
        default: return json_string("\x01 \xf0\x9f\x90\xae %s%n ../../x");
        }
}

/* May a value of @kind pass for @type? Whether it then does is the command's business. */
static bool may_pass(const char *type, unsigned kind)
{
        const json_t *t = find_type(type), *m;
        const char *json = text_of(t, "json-type"), *meta = text_of(t, "meta-type");
        bool passes = false;
        size_t i;

        if (!strcmp(meta, "alternate")) {
                json_array_foreach (json_object_get(t, "members"), i, m)
                        passes |= may_pass(text_of(m, "type"), kind);
                return passes;
        }
        if (!strcmp(json, "value"))
                return true;
        if (!strcmp(json, "string"))
                return kind == STRING || kind == LONG_STRING || kind == ODD;
        if (!strcmp(json, "int"))
                return kind == INTEGER || kind == HUGE_INTEGER || kind == TINY_INTEGER;
        if (!strcmp(json, "boolean"))
                return kind == BOOLEAN;
        if (!strcmp(json, "null"))
                return kind == JSON_NOTHING;
        return !strcmp(meta, "array") && kind == ARRAY && !strcmp(text_of(t, "element-type"), "any");
}

/* --- saying it ---------------------------------------------------------------------------------------------------- */

/* An answer must come; qmp_client_call() holds it to be {"return"} or {"error"} with its words. */
static void say(const char *command, json_t *args, bool must_fail, const char *what)
{
        AUTO(freep) char *text = json_dumps(args, JSON_COMPACT);
        int r;

        err_clear();
        tried++;
        r = qmp_client_call(client, command, json_incref(args), NULL);
        if (r != 0 && r != -EREMOTEIO)
                fail_msg("%s with %s: %s; the arguments begin %.400s", command, what, err_text(r), text);
        if (r == 0 && must_fail)
                fail_msg("%s with %s was taken: %.400s", command, what, text);
        if (r < 0 && !*err_text(r))
                fail_msg("%s with %s: an error without words", command, what);
        refused += r < 0;
}

/* The members of @type, which is the object @at inside @args. */
static void try_members(const char *command, json_t *args, json_t *at, const json_t *type, unsigned depth);

static void try_member(const char *command, json_t *args, json_t *at, const json_t *m, unsigned depth)
{
        const char *name = text_of(m, "name"), *type = text_of(m, "type");
        json_t *was = json_incref(json_object_get(at, name)), *inner;
        const json_t *t = find_type(type);
        char what[160];

        for (unsigned kind = 0; kind < NVALUES; kind++) {
                json_object_set_new(at, name, value_of(kind));
                snprintf(what, sizeof(what), "value %u for '%s'", kind, name);
                say(command, args, !may_pass(type, kind), what);
        }
        json_object_del(at, name);
        if (!json_object_get(m, "default")) {
                snprintf(what, sizeof(what), "no '%s'", name);
                say(command, args, true, what);
        }
        if (!strcmp(text_of(t, "meta-type"), "alternate")) {
                type = text_of(json_array_get(json_object_get(t, "members"), 1), "type");
                t = find_type(type);
        }
        if (!strcmp(text_of(t, "meta-type"), "object") && depth < MAX_DEPTH) {
                inner = plausible(type, name, depth, 0);
                json_object_set_new(at, name, inner);
                try_members(command, args, inner, t, depth + 1);
                json_object_del(at, name);
        }
        if (was)
                json_object_set_new(at, name, was);
}

static void try_members(const char *command, json_t *args, json_t *at, const json_t *type, unsigned depth)
{
        json_t *m;
        size_t i;

        json_object_set_new(at, "no-such-argument", json_integer(1));
        say(command, args, true, "an unexpected argument");
        json_object_del(at, "no-such-argument");
        json_array_foreach (json_object_get(type, "members"), i, m)
                try_member(command, args, at, m, depth);
        json_array_foreach (json_object_get(type, "variants"), i, m) {
                const json_t *variant = find_type(text_of(m, "type")), *v;
                json_t *fresh = object_of(type, depth, i);
                size_t k;

                json_object_clear(at);
                json_object_update(at, fresh);
                json_decref(fresh);
                json_array_foreach (json_object_get(variant, "members"), k, v)
                        try_member(command, args, at, v, depth);
        }
}

static void test_every_argument(void **state)
{
        json_t *o, *all;
        size_t i;

        (void)state;
        schema = ask("query-qmp-schema");
        long_text = calloc(1, LONG_BYTES + 1);
        memset(long_text, 'a', LONG_BYTES);
        json_array_foreach (schema, i, o) {
                const json_t *type;
                json_t *args;

                if (strcmp(text_of(o, "meta-type"), "command"))
                        continue;
                type = find_type(text_of(o, "arg-type"));
                args = object_of(type, 0, 0);
                try_members(text_of(o, "name"), args, args, type, 0);
                json_decref(args);
        }
        all = ask("query-block-exports");
        assert_true(json_array_size(all) >= 1); /* it lives, and its disk is served */
        json_decref(all);
        printf("%u calls, %u refused\n", tried, refused);
        assert_true(refused > tried / 2);
        free(long_text);
        json_decref(TAKE(schema, NULL));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_every_type_is_there, start_default, stop),
                cmocka_unit_test_setup_teardown(test_every_argument, start_default, stop),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
