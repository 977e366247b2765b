/* SPDX-License-Identifier: BSD-3-Clause */
/* control_answers.h - what commands answer, for query-qmp-schema (qmp.h: struct qmp_answer). */
#pragma once

#include "vdiskd/control/qmp.h"

extern const struct qmp_answer answer_version;
extern const struct qmp_answer answer_nodes, answer_exports;
extern const struct qmp_answer answer_blockstats, answer_disk_stats;
extern const struct qmp_answer answer_jobs, answer_block_jobs;
extern const struct qmp_answer answer_snapshot; /* of one that was deleted */
extern const struct qmp_answer answer_sha256;
extern const struct qmp_answer answer_property, answer_properties;
extern const struct qmp_answer answer_reload, answer_upgrade;
