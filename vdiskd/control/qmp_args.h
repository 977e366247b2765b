/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp_args.h - do a command's arguments look as its table says? In QEMU's words when they do not. Pure. */
#pragma once

#include "qmp.h"

/* 0, or -EINVAL with the sentence noted (err.h). @args: a JSON object. */
int qmp_args_check(const struct qmp_arg *spec, json_t *args);

/*
 * @args came as text ("num-queues=4"): where @spec wants a number or a truth, and @args has a string, it becomes one;
 * an object "0", "1", ... an array. Strings that cannot be stay: qmp_args_check() says so. 0, -ENOMEM, or -EINVAL with
 * a sentence.
 */
int qmp_args_from_text(const struct qmp_arg *spec, json_t *args);

/* The tag of a union; NULL: @spec is none. What goes with @value of it; NULL: nothing more. */
const struct qmp_arg *qmp_args_tag(const struct qmp_arg *spec);
const struct qmp_arg *qmp_args_variant(const struct qmp_arg *tag, const char *value);
