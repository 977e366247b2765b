/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_events.c - the events that there are and what is in them, for query-qmp-schema. tests/rules looks that each
 * event that is sent anywhere has its row.
 */
#include "vdiskd/control/control_commands.h"

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

static const struct qmp_arg write_threshold[] = {
        { "node-name", QMP_STR }, { "amount-exceeded", QMP_INT }, { "write-threshold", QMP_INT }, { NULL },
};
static const struct qmp_arg image_corrupted[] = {
        { "device", QMP_STR },
        { "node-name", QMP_STR, .optional = true },
        { "msg", QMP_STR },
        { "offset", QMP_INT, .optional = true },
        { "size", QMP_INT, .optional = true },
        { "fatal", QMP_BOOL },
        { NULL },
};
/* not in QEMU */
static const struct qmp_arg nospace_end[] = { { "node-name", QMP_STR }, { "seconds", QMP_INT }, { NULL } };

static const char *const job_types[] = { "commit", "stream", "mirror", "backup", "create", "amend", "snapshot-load",
                                         "snapshot-save", "snapshot-delete", NULL };
static const char *const job_states[] = { "undefined", "created", "running", "paused", "ready", "standby", "waiting", "pending",
                                          "aborting", "concluded", "null", NULL };
static const struct qmp_arg job_status[] = { { "id", QMP_STR }, { "status", QMP_STR, .values = job_states }, { NULL } };
static const struct qmp_arg job_progress[] = { /* ready, cancelled */
        { "type", QMP_STR, .values = job_types },
        { "device", QMP_STR },
        { "len", QMP_INT },
        { "offset", QMP_INT },
        { "speed", QMP_INT },
        { NULL },
};
static const struct qmp_arg job_completed[] = {
        { "type", QMP_STR, .values = job_types },
        { "device", QMP_STR },
        { "len", QMP_INT },
        { "offset", QMP_INT },
        { "speed", QMP_INT },
        { "error", QMP_STR, .optional = true },
        { NULL },
};
static const struct qmp_arg job_error[] = {
        { "device", QMP_STR },
        { "operation", QMP_STR, .values = operations },
        { "action", QMP_STR, .values = actions },
        { NULL },
};
static const struct qmp_arg job_pending[] = { { "type", QMP_STR, .values = job_types }, { "id", QMP_STR }, { NULL } };

const struct qmp_event_type control_events[] = {
        { "BLOCK_EXPORT_DELETED", export_deleted },
        { "BLOCK_IMAGE_CORRUPTED", image_corrupted },
        { "BLOCK_IO_ERROR", io_error },
        { "BLOCK_JOB_CANCELLED", job_progress },
        { "BLOCK_JOB_COMPLETED", job_completed },
        { "BLOCK_JOB_ERROR", job_error },
        { "BLOCK_JOB_PENDING", job_pending },
        { "BLOCK_JOB_READY", job_progress },
        { "BLOCK_NOSPACE_END", nospace_end },
        { "BLOCK_WRITE_THRESHOLD", write_threshold },
        { "JOB_STATUS_CHANGE", job_status },
        { NULL },
};
