/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_upgrade.c - another process takes over from the daemon; the answer is the old one's last word. */
#include "vdiskctl.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"

int cmd_upgrade(struct ctl *c)
{
        /* The daemon has another working directory. A name that is no file here is its business. */
        AUTO(freep) char *path = c->nwords ? realpath(c->words[0], NULL) : NULL;
        json_t *args = c->nwords ? json_pack("{s:s}", "binary", path ? path : c->words[0]) : NULL;
        json_t *ret = NULL;
        int r = qmp_client_call(c->client, "upgrade", args, &ret);

        if (r == 0 && c->json)
                json_dumpf(ret, stdout, JSON_INDENT(2)), puts("");
        else if (r == 0)
                printf("process %lld serves now\n", (long long)json_integer_value(json_object_get(ret, "pid")));
        json_decref(ret);
        return r;
}
