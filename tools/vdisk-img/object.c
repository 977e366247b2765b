/* SPDX-License-Identifier: BSD-3-Clause */
/* object.c - --object: passwords for encrypted images. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/secret.h"
#include "tools/vdisk-img/tool.h"

int tool_object(const char *text)
{
        AUTO(freep) char *copy = strdup(text);
        struct secret_source s;
        int r = copy ? secret_option(copy, &s) : -ENOMEM;

        return r < 0 ? r : secret_add(&s);
}
