/* SPDX-License-Identifier: BSD-3-Clause */
/* keyval.h - QEMU's "key=value,a.b=c" and JSON on the command line, as one object. Pure. */
#pragma once

#include <jansson.h>

/**
 * keyval_parse - @text as an object, the caller's. All values are strings; dots in keys make objects within objects; a
 * doubled comma is a comma. A first word without '=' is the value of @implied (NULL: there is no such key). Text that
 * begins with '{' is JSON and kept as it is. NULL: a sentence is noted.
 */
json_t *keyval_parse(const char *text, const char *implied);
