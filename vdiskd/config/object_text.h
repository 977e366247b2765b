/* SPDX-License-Identifier: BSD-3-Clause */
/* object_text.h - what --object and the sections of objects say: a secret or a throttle-group. Any thread. */
#pragma once

#include <stdbool.h>

#include "blkq/throttle/throttle.h"
#include "common/secret.h"

struct object_text {
        char *copy; /* what the rest points into */
        bool is_group;
        const char *id;
        struct throttle_limits limits;
        struct secret_source secret;
};

/* 0, -ENOMEM, or -EINVAL with a sentence; object_text_finish() it in either case. */
int object_text_read(struct object_text *o, const char *text);
void object_text_finish(struct object_text *o);

/* Are they of one kind and name? */
bool object_same(const char *a, const char *b);
