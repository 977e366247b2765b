/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_events.c - the events that there are and what is in them, for query-qmp-schema. tests/rules looks that each event
 * that is sent anywhere has its row.
 */
#include "vdiskd/control_commands.h"

static const struct qmp_arg export_deleted[] = { { "id", QMP_STR }, { NULL } };

static const char *const operations[] = { "read", "write", NULL };
static const char *const actions[] = { "ignore", "report", "stop", NULL };
static const struct qmp_arg io_error[] = {
        { "device", QMP_STR },
        { "node-name", QMP_STR, .optional = true },
        { "operation", QMP_STR, .values = operations },
        { "action", QMP_STR, .values = actions },
        { "nospace", QMP_BOOL, .optional = true },
        { "reason", QMP_STR },
        { NULL },
};

const struct qmp_event_type control_events[] = {
        { "BLOCK_EXPORT_DELETED", export_deleted },
        { "BLOCK_IO_ERROR", io_error },
        { NULL },
};
