/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_answers.c - what commands answer, as tables. Where QEMU has the command these are members of its types, under
 * its names; tests/e2e/test_control_schema holds real answers to them.
 */
#include "vdiskd/control/control_answers.h"

/* --- the process -------------------------------------------------------------------------------------------------- */

static const struct qmp_arg version_triple[] = { { "major", QMP_INT }, { "minor", QMP_INT }, { "micro", QMP_INT }, { NULL } };
static const struct qmp_arg version[] = { { "qemu", QMP_OBJECT, .members = version_triple }, { "package", QMP_STR }, { NULL } };
const struct qmp_answer answer_version = { version };

static const struct qmp_arg upgrade[] = { { "pid", QMP_INT }, { NULL } };
const struct qmp_answer answer_upgrade = { upgrade };

static const struct qmp_arg reload[] = {
        { "added", QMP_ARRAY, .strings = true },
        { "removed", QMP_ARRAY, .strings = true },
        { "changed", QMP_ARRAY, .strings = true },
        { "left", QMP_ARRAY, .strings = true },
        { NULL },
};
const struct qmp_answer answer_reload = { reload };

/* --- nodes -------------------------------------------------------------------------------------------------------- */

static const struct qmp_arg snapshot[] = {
        { "id", QMP_STR },
        { "name", QMP_STR },
        { "vm-state-size", QMP_INT },
        { "date-sec", QMP_INT },
        { "date-nsec", QMP_INT },
        { "vm-clock-sec", QMP_INT },
        { "vm-clock-nsec", QMP_INT },
        { "icount", QMP_INT, .optional = true },
        { NULL },
};
const struct qmp_answer answer_snapshot = { snapshot };

static const struct qmp_arg specific_any[] = { { "data", QMP_OBJECT }, { NULL } };
static const struct qmp_arg qcow2_data[] = {
        { "compat", QMP_STR },
        { "compression-type", QMP_STR },
        { "refcount-bits", QMP_INT },
        { "lazy-refcounts", QMP_BOOL, .optional = true },
        { "corrupt", QMP_BOOL, .optional = true },
        { "extended-l2", QMP_BOOL, .optional = true },
        { "data-file", QMP_STR, .optional = true },
        { "data-file-raw", QMP_BOOL, .optional = true },
        { "encrypt", QMP_OBJECT, .optional = true },
        { NULL },
};
static const struct qmp_arg specific_qcow2[] = { { "data", QMP_OBJECT, .members = qcow2_data }, { NULL } };
static const char *const specific_types[] = { "qcow2", "vmdk", NULL };
static const struct qmp_variant specific_kinds[] = { { "qcow2", specific_qcow2 }, { "vmdk", specific_any }, { NULL } };
static const struct qmp_arg specific[] = { { "type", QMP_STR, .values = specific_types, .variants = specific_kinds }, { NULL } };

static const struct qmp_arg image[] = {
        { "filename", QMP_STR },
        { "format", QMP_STR },
        { "virtual-size", QMP_INT },
        { "dirty-flag", QMP_BOOL, .optional = true },
        { "actual-size", QMP_INT, .optional = true },
        { "encrypted", QMP_BOOL, .optional = true },
        { "cluster-size", QMP_INT, .optional = true },
        { "backing-filename", QMP_STR, .optional = true },
        { "full-backing-filename", QMP_STR, .optional = true },
        { "backing-filename-format", QMP_STR, .optional = true },
        { "snapshots", QMP_ARRAY, .optional = true, .members = snapshot },
        { "backing-image", QMP_OBJECT, .optional = true, .members = image },
        { "format-specific", QMP_OBJECT, .optional = true, .members = specific },
        { NULL },
};
static const struct qmp_arg cache[] = { { "writeback", QMP_BOOL }, { "direct", QMP_BOOL }, { "no-flush", QMP_BOOL }, { NULL } };
static const struct qmp_arg bitmap[] = {
        { "name", QMP_STR, .optional = true },
        { "count", QMP_INT },
        { "granularity", QMP_INT },
        { "recording", QMP_BOOL },
        { "busy", QMP_BOOL },
        { "persistent", QMP_BOOL },
        { "inconsistent", QMP_BOOL, .optional = true },
        { NULL },
};
static const char *const detect_zeroes[] = { "off", NULL };

#define LIMIT(name)                                                                                                      \
        { name, QMP_INT }, { name "_max", QMP_INT, .optional = true }, { name "_max_length", QMP_INT, .optional = true }
static const struct qmp_arg node[] = {
        { "file", QMP_STR },
        { "node-name", QMP_STR, .optional = true },
        { "ro", QMP_BOOL },
        { "drv", QMP_STR },
        { "backing_file", QMP_STR, .optional = true },
        { "backing_file_depth", QMP_INT },
        { "encrypted", QMP_BOOL },
        { "detect_zeroes", QMP_STR, .values = detect_zeroes },
        LIMIT("bps"), LIMIT("bps_rd"), LIMIT("bps_wr"), LIMIT("iops"), LIMIT("iops_rd"), LIMIT("iops_wr"),
        { "iops_size", QMP_INT, .optional = true },
        { "group", QMP_STR, .optional = true },
        { "cache", QMP_OBJECT, .members = cache },
        { "write_threshold", QMP_INT },
        { "dirty-bitmaps", QMP_ARRAY, .optional = true, .members = bitmap },
        { "image", QMP_OBJECT, .members = image },
        { "active", QMP_BOOL, .optional = true },
        { "waiting-for-space", QMP_INT, .optional = true },
        { NULL },
};
const struct qmp_answer answer_nodes = { node, .list = true };

static const char *const export_types[] = { "vhost-user-blk", "vhost-user-scsi", NULL };
static const struct qmp_arg export_info[] = {
        { "id", QMP_STR },
        { "type", QMP_STR, .values = export_types },
        { "node-name", QMP_STR },
        { "shutting-down", QMP_BOOL },
        { "lun", QMP_INT, .optional = true },
        { NULL },
};
const struct qmp_answer answer_exports = { export_info, .list = true };

static const struct qmp_arg sha256[] = { { "sha256", QMP_STR }, { NULL } };
const struct qmp_answer answer_sha256 = { sha256 };

/* --- what was done ------------------------------------------------------------------------------------------------ */

#define OP(op)                                                                                                           \
        { op "_operations", QMP_INT }, { "failed_" op "_operations", QMP_INT }, { "invalid_" op "_operations", QMP_INT },  \
        { op "_total_time_ns", QMP_INT }
#define OP_BYTES(op) OP(op), { op "_bytes", QMP_INT }, { op "_merged", QMP_INT }
static const struct qmp_arg device_stats[] = {
        OP_BYTES("rd"), OP_BYTES("wr"), OP("flush"), OP_BYTES("unmap"),
        { "wr_highest_offset", QMP_INT },
        { "idle_time_ns", QMP_INT, .optional = true },
        { "account_failed", QMP_BOOL },
        { "account_invalid", QMP_BOOL },
        { "timed_stats", QMP_ARRAY },
        { NULL },
};
static const struct qmp_arg blockstats[] = {
        { "node-name", QMP_STR, .optional = true }, { "stats", QMP_OBJECT, .members = device_stats }, { NULL },
};
const struct qmp_answer answer_blockstats = { blockstats, .list = true };

static const struct qmp_arg stage[] = {
        { "sum-ns", QMP_INT }, { "p50-ns", QMP_INT }, { "p90-ns", QMP_INT }, { "p99-ns", QMP_INT }, { "p999-ns", QMP_INT },
        { "max-ns", QMP_INT }, { "buckets", QMP_ARRAY, .optional = true }, { NULL },
};
#define STAGE(name) { name, QMP_OBJECT, .members = stage }
static const struct qmp_arg latency[] = { STAGE("queue"), STAGE("map"), STAGE("turn"), STAGE("disk"), STAGE("notify"), STAGE("total"),
                                          { NULL } };
static const struct qmp_arg operation[] = {
        { "requests", QMP_INT }, { "bytes", QMP_INT }, { "errors", QMP_INT }, { "invalid", QMP_INT },
        { "latency", QMP_OBJECT, .members = latency }, { NULL },
};
#define OPERATION(name) { name, QMP_OBJECT, .members = operation }
static const struct qmp_arg operations[] = {
        OPERATION("read"), OPERATION("write"), OPERATION("flush"), OPERATION("discard"), OPERATION("write_zeroes"), { NULL },
};
static const struct qmp_arg disk[] = {
        { "disk", QMP_STR },
        { "node-name", QMP_STR },
        { "format", QMP_STR },
        { "read-only", QMP_BOOL },
        { "backing-depth", QMP_INT },
        { "exports", QMP_INT },
        { "connected", QMP_INT },
        { "flags", QMP_ARRAY, .strings = true },
        { "virtual-size", QMP_INT },
        { "allocated", QMP_INT, .optional = true },
        { "in-flight", QMP_INT },
        { "max-in-flight", QMP_INT },
        { "oldest-age-ns", QMP_INT },
        { "idle-ns", QMP_INT, .optional = true },
        { "operations", QMP_OBJECT, .members = operations },
        { "home-requests", QMP_INT },
        { "flushes-coalesced", QMP_INT },
        { "copied-up-bytes", QMP_INT },
        { "highest-write", QMP_INT },
        { "table-hits", QMP_INT, .optional = true },
        { "table-misses", QMP_INT, .optional = true },
        { NULL },
};
static const struct qmp_arg thread[] = {
        { "name", QMP_STR }, { "busy-ns", QMP_INT }, { "idle-ns", QMP_INT }, { "cpu-ns", QMP_INT }, { NULL },
};
static const struct qmp_arg disk_stats[] = {
        { "time-ns", QMP_INT }, { "disks", QMP_ARRAY, .members = disk }, { "threads", QMP_ARRAY, .members = thread }, { NULL },
};
const struct qmp_answer answer_disk_stats = { disk_stats };

/* --- jobs --------------------------------------------------------------------------------------------------------- */

static const char *const job_types[] = { "commit", "stream", "mirror", "backup", "create", NULL };
static const char *const job_states[] = { "undefined", "created", "running", "paused", "ready", "standby", "waiting", "pending",
                                          "aborting", "concluded", "null", NULL };
static const char *const io_states[] = { "ok", "failed", "nospace", NULL };
static const struct qmp_arg job[] = {
        { "id", QMP_STR },
        { "type", QMP_STR, .values = job_types },
        { "status", QMP_STR, .values = job_states },
        { "current-progress", QMP_INT },
        { "total-progress", QMP_INT },
        { "error", QMP_STR, .optional = true },
        { NULL },
};
const struct qmp_answer answer_jobs = { job, .list = true };

static const struct qmp_arg block_job[] = {
        { "type", QMP_STR, .values = job_types },
        { "device", QMP_STR },
        { "len", QMP_INT },
        { "offset", QMP_INT },
        { "busy", QMP_BOOL },
        { "paused", QMP_BOOL },
        { "speed", QMP_INT },
        { "io-status", QMP_STR, .values = io_states },
        { "ready", QMP_BOOL },
        { "status", QMP_STR, .values = job_states },
        { "auto-finalize", QMP_BOOL },
        { "auto-dismiss", QMP_BOOL },
        { "error", QMP_STR, .optional = true },
        { NULL },
};
const struct qmp_answer answer_block_jobs = { block_job, .list = true };

/* --- objects ------------------------------------------------------------------------------------------------------ */

const struct qmp_answer answer_property = { NULL }; /* whatever it is */
static const struct qmp_arg property[] = { { "name", QMP_STR }, { "type", QMP_STR }, { NULL } };
const struct qmp_answer answer_properties = { property, .list = true };
