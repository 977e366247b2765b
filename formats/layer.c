/* SPDX-License-Identifier: BSD-3-Clause */
/* layer.c - copies of what the operator said about a chain. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/format.h"

static int dup_text(const char *from, const char **to)
{
        *to = from ? strdup(from) : NULL;
        return from && !*to ? -ENOMEM : 0;
}

int fmt_layer_dup(const struct fmt_layer *from, struct fmt_layer **ret)
{
        const struct fmt_layer **link = (const struct fmt_layer **)ret;
        int r = 0;

        for (*ret = NULL; r == 0 && from; from = from->backing) {
                struct fmt_layer *l = calloc(1, sizeof(*l));

                if (!l) {
                        r = -ENOMEM;
                        break;
                }
                *link = l;
                link = &l->backing;
                l->no_backing = from->no_backing;
                r = dup_text(from->path, &l->path);
                if (r == 0)
                        r = dup_text(from->format, &l->format);
                if (r == 0)
                        r = dup_text(from->key_secret, &l->key_secret);
                if (r == 0)
                        r = dup_text(from->data_path, &l->data_path);
        }
        if (r < 0) {
                fmt_layer_free(*ret);
                *ret = NULL;
        }
        return r;
}

void fmt_layer_free(struct fmt_layer *l)
{
        while (l) {
                struct fmt_layer *next = (struct fmt_layer *)l->backing;

                free((char *)l->path);
                free((char *)l->format);
                free((char *)l->key_secret);
                free((char *)l->data_path);
                free(l);
                l = next;
        }
}
