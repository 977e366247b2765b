/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp_args.h - do a command's arguments look as its table says? In QEMU's words when they do not. Pure. */
#pragma once

#include "qmp.h"

/* 0, or -EINVAL with the sentence noted (err.h). @args: a JSON object. */
int qmp_args_check(const struct qmp_arg *spec, json_t *args);
