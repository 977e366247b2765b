/* SPDX-License-Identifier: BSD-3-Clause */
/* id.h - names of nodes and exports: QEMU's rule, a letter and then letters, digits, '-', '.' and '_'. */
#pragma once

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define ID_BYTES 31 /* as QEMU's node names */

static inline bool id_is_valid(const char *id)
{
        if (!isalpha((unsigned char)*id))
                return false;
        for (; *id; id++)
                if (!isalnum((unsigned char)*id) && !strchr("-._", *id))
                        return false;
        return true;
}
