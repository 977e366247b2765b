/* SPDX-License-Identifier: BSD-3-Clause */
/* "key=value,a.b=c" of the command line, and how texts become the numbers and truths that a command's table wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/keyval.h"
#include "vdiskd/control/qmp_args.h"

static const struct {
        const char *text, *implied, *is, *error; /* is: sorted, compact, with ' for " */
} cases[] = {
        { "a=1", NULL, "{'a':'1'}", NULL },
        { "", NULL, "{}", NULL },
        { "a=1,", NULL, "{'a':'1'}", NULL },
        { "a=", NULL, "{'a':''}", NULL },
        { "a=1=2", NULL, "{'a':'1=2'}", NULL },
        { "a=x,,y,b=,,", NULL, "{'a':'x,y','b':','}", NULL },
        { "file,node-name=f", "driver", "{'driver':'file','node-name':'f'}", NULL },
        { "driver=file", "driver", "{'driver':'file'}", NULL },
        { "a.b.c=1,a.d=2", NULL, "{'a':{'b':{'c':'1'},'d':'2'}}", NULL },
        { "a=1,a=2", NULL, "{'a':'2'}", NULL },
        { " {a=1", NULL, NULL, "Invalid parameter ' {a'" },
        { "{\"a\":[1,true]}", NULL, "{'a':[1,true]}", NULL },
        { "{\"a\":", NULL, NULL, "JSON parse error" },
        { "{} x", NULL, NULL, "JSON parse error" },
        { "a", NULL, NULL, "Expected '=' after parameter 'a'" },
        { "a=1,b", "driver", NULL, "Expected '=' after parameter 'b'" },
        { "=1", NULL, NULL, "Invalid parameter ''" },
        { "a..b=1", NULL, NULL, "Invalid parameter 'a..b'" },
        { ".a=1", NULL, NULL, "Invalid parameter '.a'" },
        { "a.=1", NULL, NULL, "Invalid parameter 'a.'" },
        { "a b=1", NULL, NULL, "Invalid parameter 'a b'" },
        { "a=1,a.b=2", NULL, NULL, "Parameters 'a.*' used inconsistently" },
        { "a.b=2,a=1", NULL, NULL, "Parameters 'a.*' used inconsistently" },
        { "a=\xff", NULL, NULL, "Parameter 'a': the value is no UTF-8" },
};

static void test_parse(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *o;
                char *text;

                err_clear();
                o = keyval_parse(cases[i].text, cases[i].implied);
                text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
                for (char *c = text; c && *c; c++)
                        *c = *c == '"' ? '\'' : *c;
                if (!o != !cases[i].is || (o && strcmp(text, cases[i].is)))
                        fail_msg("%s: %s", cases[i].text, text ? text : err_text(-EINVAL));
                if (!o && !strstr(err_text(-EINVAL), cases[i].error))
                        fail_msg("%s: '%s' instead of '%s'", cases[i].text, err_text(-EINVAL), cases[i].error);
                free(text);
                json_decref(o);
        }
}

static const struct qmp_arg inner[] = { { "n", QMP_INT, .optional = true }, { "on", QMP_BOOL, .optional = true }, { NULL } };
static const struct qmp_variant variants[] = { { "v", inner }, { NULL } };
static const char *const words[] = { "v", "w", NULL };
static const struct qmp_arg spec[] = {
        { "kind", QMP_STR, .values = words, .variants = variants },
        { "text", QMP_STR, .optional = true },
        { "in", QMP_OBJECT, .optional = true, .members = inner },
        { "ref", QMP_REF, .optional = true, .members = inner },
        { "all", QMP_ARRAY, .optional = true, .members = inner },
        { NULL },
};

static const struct {
        const char *text, *is, *error;
} typed[] = {
        { "kind=v,n=7,on=on,text=7", "{'kind':'v','n':7,'on':true,'text':'7'}", NULL },
        { "kind=v,n=0x10,on=off", "{'kind':'v','n':16,'on':false}", NULL },
        { "kind=v,n=4G,on=yes", "{'kind':'v','n':4294967296,'on':true}", NULL },
        { "kind=v,n=-1", "{'kind':'v','n':-1}", NULL },
        { "kind=v,n=much", NULL, "Invalid parameter type for 'n', expected: integer" },
        { "kind=v,n=", NULL, "Invalid parameter type for 'n', expected: integer" },
        { "kind=v,n=99999999999999999999", NULL, "Invalid parameter type for 'n', expected: integer" },
        { "kind=v,on=maybe", NULL, "Invalid parameter type for 'on', expected: boolean" },
        { "kind=w,n=7", NULL, "Parameter 'n' is unexpected" },
        { "kind=w,in.n=7,in.on=off,ref=x", "{'in':{'n':7,'on':false},'kind':'w','ref':'x'}", NULL },
        { "kind=w,ref.n=7", "{'kind':'w','ref':{'n':7}}", NULL },
        { "kind=w,all.0.n=1,all.1.n=2", "{'all':[{'n':1},{'n':2}],'kind':'w'}", NULL },
        { "kind=w,all.1.n=2", NULL, "Invalid parameter type for 'all', expected: array" },
        { "kind=w,in=x", NULL, "Invalid parameter type for 'in', expected: object" },
};

static void test_types(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(typed); i++) {
                json_t *o = keyval_parse(typed[i].text, NULL);
                char *text;
                int r;

                err_clear();
                assert_non_null(o);
                r = qmp_args_from_text(spec, o);
                if (r == 0)
                        r = qmp_args_check(spec, o);
                text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
                for (char *c = text; *c; c++)
                        *c = *c == '"' ? '\'' : *c;
                if ((r == 0) != (typed[i].is != NULL) || (r == 0 && strcmp(text, typed[i].is)))
                        fail_msg("%s: %s, %s", typed[i].text, text, r < 0 ? err_text(r) : "");
                if (r < 0 && !strstr(err_text(r), typed[i].error))
                        fail_msg("%s: '%s' instead of '%s'", typed[i].text, err_text(r), typed[i].error);
                free(text);
                json_decref(o);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse),
                cmocka_unit_test(test_types),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
