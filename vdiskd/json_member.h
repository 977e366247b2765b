/* SPDX-License-Identifier: BSD-3-Clause */
/* json_member.h - members of a JSON object whose types were checked: arguments of a command, mostly. Texts are borrowed
 * from it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

static inline const char *text_of(const json_t *o, const char *key) /* NULL: there is none */
{
        return json_string_value(json_object_get(o, key));
}

static inline bool flag_of(const json_t *o, const char *key, bool otherwise)
{
        const json_t *v = json_object_get(o, key);

        return v ? json_is_true(v) : otherwise;
}

static inline json_int_t number_of(const json_t *o, const char *key, json_int_t otherwise)
{
        const json_t *v = json_object_get(o, key);

        return v ? json_integer_value(v) : otherwise;
}
