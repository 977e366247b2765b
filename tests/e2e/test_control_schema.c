/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * query-qmp-schema is a schema, answers are what it says, and every command that it names is tried with each of its arguments missing, of every wrong
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

/* --- are answers what it says? ------------------------------------------------------------------------------------ */

static void check_answer(const json_t *v, const char *type, const char *where);

static const json_t *member_of(const json_t *type, const json_t *o, const char *name)
{
        const json_t *m, *variant;
        size_t i;

        json_array_foreach (json_object_get(type, "members"), i, m)
                if (!strcmp(text_of(m, "name"), name))
                        return m;
        json_array_foreach (json_object_get(type, "variants"), i, variant)
                if (!strcmp(text_of(variant, "case"), text_of(o, text_of(type, "tag"))))
                        return member_of(find_type(text_of(variant, "type")), o, name);
        return NULL;
}

static void check_all_there(const json_t *type, const json_t *o, const char *where)
{
        const json_t *m, *variant;
        size_t i;

        json_array_foreach (json_object_get(type, "members"), i, m)
                if (!json_object_get(m, "default") && !json_object_get(o, text_of(m, "name")))
                        fail_msg("%s: there is no %s", where, text_of(m, "name"));
        json_array_foreach (json_object_get(type, "variants"), i, variant)
                if (!strcmp(text_of(variant, "case"), text_of(o, text_of(type, "tag"))))
                        check_all_there(find_type(text_of(variant, "type")), o, where);
}

static void check_object(const json_t *o, const json_t *type, const char *where)
{
        const char *name;
        json_t *v;

        assert_true(json_is_object(o));
        check_all_there(type, o, where);
        json_object_foreach ((json_t *)o, name, v) {
                const json_t *m = member_of(type, o, name);
                char at_name[256];

                snprintf(at_name, sizeof(at_name), "%s.%s", where, name);
                if (!m)
                        fail_msg("%s is not in the schema", at_name);
                check_answer(v, text_of(m, "type"), at_name);
        }
}

static bool is_word(const json_t *v, const json_t *words)
{
        const json_t *w;
        size_t i;

        json_array_foreach (words, i, w)
                if (json_equal(v, w))
                        return true;
        return false;
}

static void check_answer(const json_t *v, const char *type, const char *where)
{
        const json_t *t = find_type(type), *e;
        const char *meta = text_of(t, "meta-type"), *json = text_of(t, "json-type");
        size_t i;

        if (!strcmp(meta, "object")) {
                check_object(v, t, where);
        } else if (!strcmp(meta, "array")) {
                assert_true(json_is_array(v));
                json_array_foreach (v, i, e)
                        check_answer(e, text_of(t, "element-type"), where);
        } else if (!strcmp(meta, "alternate")) { /* of null and something */
                if (!json_is_null(v))
                        check_answer(v, text_of(json_array_get(json_object_get(t, "members"), 1), "type"), where);
        } else if (!strcmp(meta, "enum")) {
                if (!is_word(v, json_object_get(t, "values")))
                        fail_msg("%s: '%s' is no word of the schema", where, json_string_value(v));
        } else if (!(!strcmp(json, "value") || (!strcmp(json, "int") && json_is_integer(v)) ||
                     (!strcmp(json, "string") && json_is_string(v)) || (!strcmp(json, "boolean") && json_is_boolean(v)))) {
                fail_msg("%s is no %s", where, json);
        }
}

static const char *ret_type(const char *command)
{
        const json_t *o;
        size_t i;

        json_array_foreach (schema, i, o)
                if (!strcmp(text_of(o, "name"), command) && !strcmp(text_of(o, "meta-type"), "command"))
                        return text_of(o, "ret-type");
        fail_msg("no command '%s'", command);
        return NULL;
}

static size_t check_command(const char *command, const char *args)
{
        json_t *v = NULL;
        const char *error = try(client, command, args, &v);
        size_t n;

        if (error)
                fail_msg("%s: %s", command, error);
        check_answer(v, ret_type(command), command);
        n = json_is_array(v) ? json_array_size(v) : json_object_size(v);
        json_decref(v);
        return n;
}

/* With something of everything there is. */
static void test_answers_are_of_their_types(void **state)
{
        static const char *const queries[] = {
                "query-version", "query-commands", "query-qmp-schema", "query-named-block-nodes", "query-block-exports",
                "query-blockstats", "query-disk-stats", "query-jobs", "query-block-jobs",
        };

        (void)state;
        schema = ask("query-qmp-schema");
        must("blockdev-snapshot-internal-sync", "{'device':'first','name':'inside'}");
        must("blockdev-snapshot-sync", "{'node-name':'first','snapshot-file':'schema.qcow2','snapshot-node-name':'over'}");
        must("blockdev-snapshot-internal-sync", "{'device':'over','name':'one'}");
        must("blockdev-snapshot-internal-sync", "{'device':'over','name':'two'}");
        check_command("blockdev-snapshot-delete-internal-sync", "{'device':'over','name':'one'}");
        must("block-dirty-bitmap-add", "{'node':'over','name':'b'}");
        must("object-add", "{'qom-type':'throttle-group','id':'g','limits':{'iops-total':1000}}");
        must("block_set_io_throttle", "{'device':'over','group':'g','bps':100000000,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,"
             "'iops_wr':0,'bps_max':200000000}");
        must("blockdev-add", "{'driver':'file','node-name':'file','filename':'second.qcow2'}");
        assert_int_equal(run("qemu-img create -q -f qcow2 copy.qcow2 64M"), 0);
        must("blockdev-add", "{'driver':'qcow2','node-name':'copy','file':{'driver':'file','filename':'copy.qcow2'}}");
        must("blockdev-backup", "{'device':'over','target':'copy','sync':'full','job-id':'j','auto-dismiss':false,'speed':1024}");
        for (size_t i = 0; i < ARRAY_SIZE(queries); i++)
                if (check_command(queries[i], NULL) == 0)
                        fail_msg("%s answers nothing, so nothing was looked at", queries[i]);
        check_command("query-named-block-nodes", "{'flat':true}");
        check_command("query-disk-stats", "{'histograms':true}");
        check_command("qom-list", "{'path':'/objects/g'}");
        check_command("qom-get", "{'path':'/objects/g','property':'limits'}");
        check_command("x-debug-block-dirty-bitmap-sha256", "{'node':'over','name':'b'}");
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
                cmocka_unit_test_setup_teardown(test_answers_are_of_their_types, start_default, stop),
                cmocka_unit_test_setup_teardown(test_every_argument, start_default, stop),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
