/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * limit_values.h - limits of throttle groups as they are written: "iops-total", "bps-read-max", "bps-read-max-length",
 * "iops-size", ... on the command line and in JSON. What is not said stays as it is. Pure.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blkq/throttle/throttle.h"

#define LIMIT_KEYS (3 * THROTTLE_KINDS + 1)
const char *limit_key(unsigned i); /* the i-th name, i < LIMIT_KEYS */

/* The number that @key names; NULL: it is no such name. */
uint64_t *limit_field(struct throttle_limits *l, const char *key);

/* @value: a number, with K, M, G, ... or without. 0, or -EINVAL with a sentence. Whether all go together is not looked
 * at. */
int limit_set_text(struct throttle_limits *l, const char *key, const char *value);

/* The members of @o that are limits, under their names with @before in front. Numbers were checked to be numbers. */
int limits_from_json(struct throttle_limits *l, const json_t *o, const char *before);
json_t *limits_to_json(const struct throttle_limits *l); /* all of them; NULL: no memory */

/* "throttle-group,id=ID,limits.iops-total=N,...": changes @text, into which *id points. 0, or -errno with a
 * sentence. */
bool limit_is_group_option(const char *text);
int limit_group_option(char *text, const char **id, struct throttle_limits *l);
