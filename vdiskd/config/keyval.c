/* SPDX-License-Identifier: BSD-3-Clause */
#include "keyval.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/option_values.h"

#define MAX_KEY 127u /* bytes, as in QEMU */
#define MAX_DEPTH 64u

static json_t *no(const char *fmt, const char *what) __attribute__((format(printf, 1, 0)));
static json_t *no(const char *fmt, const char *what)
{
        (err_note)(-EINVAL, fmt, what);
        return NULL;
}

static json_t *from_json(const char *text)
{
        json_error_t error;
        json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &error);

        return json_is_object(o) ? o : no("JSON parse error, %s", error.text);
}

static bool key_is_valid(const char *key)
{
        if (!*key || strlen(key) > MAX_KEY || *key == '.' || key[strlen(key) - 1] == '.' || strstr(key, ".."))
                return false;
        for (; *key; key++)
                if (!isalnum((unsigned char)*key) && !strchr("-._", *key))
                        return false;
        return true;
}

/* @key, which is changed, inside @o. A value that stands there is replaced, as in QEMU: the last one wins. */
static int put(json_t *o, char *key, const char *value)
{
        unsigned depth = 0;

        for (char *dot; (dot = strchr(key, '.')); key = dot + 1) {
                json_t *inner;

                *dot = '\0';
                inner = json_object_get(o, key);
                if (!inner) {
                        inner = json_object();
                        if (json_object_set_new(o, key, inner) < 0)
                                return -ENOMEM;
                }
                if (!json_is_object(inner) || ++depth > MAX_DEPTH)
                        return err_note(-EINVAL, "Parameters '%s.*' used inconsistently", key);
                o = inner;
        }
        if (json_is_object(json_object_get(o, key)))
                return err_note(-EINVAL, "Parameters '%s.*' used inconsistently", key);
        if (json_object_set_new(o, key, json_string(value)) < 0)
                return err_note(-EINVAL, "Parameter '%s': the value is no UTF-8", key);
        return 0;
}

json_t *keyval_parse(const char *text, const char *implied)
{
        AUTO(freep) char *copy = strdup(text);
        char *rest = copy, *key, *value, first[32];
        json_t *o;
        int r = 0;

        if (*text == '{')
                return from_json(text);
        o = copy ? json_object() : NULL;
        for (bool begin = true; o && r == 0 && rest && *rest; begin = false) {
                rest = option_next_pair(rest, &key, &value);
                if (!value && begin && implied) {
                        strncpy(first, implied, sizeof(first) - 1);
                        first[sizeof(first) - 1] = '\0';
                        value = key;
                        key = first;
                }
                if (!key_is_valid(key))
                        r = err_note(-EINVAL, "Invalid parameter '%s'", key);
                else if (!value)
                        r = err_note(-EINVAL, "Expected '=' after parameter '%s'", key);
                else
                        r = put(o, key, value);
        }
        if (r == 0)
                return o;
        json_decref(o);
        return NULL;
}
