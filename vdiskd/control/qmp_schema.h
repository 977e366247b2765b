/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qmp_schema.h - the tables of commands and events as query-qmp-schema tells them: QEMU's SchemaInfo
 * (qapi/introspect.json). Pure.
 */
#pragma once

#include "qmp.h"

/* @tables, @events: as qmp_new() takes them; @events NULL: none. An array, the caller's; NULL: no memory. */
json_t *qmp_schema(const struct qmp_command *const *tables, const struct qmp_event_type *events);
