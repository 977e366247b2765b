/* SPDX-License-Identifier: BSD-3-Clause */
/* vmdk_desc.c - reading the descriptor; see vmdk_desc.h. */
#include "formats/foreign/vmdk_desc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define LINE_MAX_LEN 2048u
#define SECTORS_MAX (INT64_MAX / 512)

static const char *const kinds[] = { [VMDK_FLAT] = "FLAT", [VMDK_VMFS] = "VMFS", [VMDK_SPARSE] = "SPARSE" };

const char *vmdk_kind_name(enum vmdk_extent_kind kind)
{
        return kinds[kind];
}

void vmdk_desc_finish(struct vmdk_desc *d)
{
        for (unsigned i = 0; i < d->n; i++)
                free(d->line[i].name);
        free(d->line);
        free(d->create_type);
        free(d->parent);
        *d = (struct vmdk_desc){ 0 };
}

/* --- extent lines ------------------------------------------------------------------------------------------------ */

/*
 * An image may be a stranger's, and what it names here would be read and shown: only a file of the same directory
 * (all programs write it so), never a path that leads anywhere else.
 */
static int check_name(const char *name)
{
        if (*name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".") && strcmp(name, ".."))
                return 0;
        return err_note(-EINVAL, "an extent is in '%s'; only files in the directory of the image are opened", name);
}

static int find_kind(const char *word, enum vmdk_extent_kind *ret)
{
        for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
                if (!strcmp(word, kinds[k])) {
                        *ret = k;
                        return 0;
                }
        return err_note(-ENOTSUP, "extents of type '%s' are not supported, only FLAT, VMFS and SPARSE", word);
}

static int add_line(struct vmdk_desc *d, struct vmdk_line l)
{
        struct vmdk_line *more;

        if (d->n == VMDK_EXTENTS_MAX)
                return err_note(-EINVAL, "the image has more than %u extents", VMDK_EXTENTS_MAX);
        more = realloc(d->line, (d->n + 1) * sizeof(*more));
        if (!more)
                return -ENOMEM;
        d->line = more;
        l.name = strdup(l.name);
        if (!l.name)
                return -ENOMEM;
        d->line[d->n++] = l;
        return 0;
}

/* RW 4192256 FLAT "disk-f001.vmdk" 0 */
static int take_extent(struct vmdk_desc *d, const char *text)
{
        char access[16], kind[16], name[256];
        struct vmdk_line l = { .name = name };
        uint64_t offset = 0;
        int n, r;

        n = sscanf(text, "%15s %" SCNu64 " %15s \"%255[^\"]\" %" SCNu64, access, &l.sectors, kind, name, &offset);
        if (n < 4)
                return err_note(-EINVAL, "the line '%.80s' does not describe an extent", text);
        r = find_kind(kind, &l.kind);
        if (r == 0)
                r = check_name(name);
        if (r < 0)
                return r;
        if ((n == 5) != (l.kind == VMDK_FLAT) || l.sectors == 0 || l.sectors > SECTORS_MAX || offset > SECTORS_MAX)
                return err_note(-EINVAL, "the line '%.80s' does not describe an extent", text);
        l.offset = offset;
        return add_line(d, l);
}

/* --- name=value -------------------------------------------------------------------------------------------------- */

/* The value of @name in this line, without quotes: a new string. *ret stays NULL when the line is about another. */
static int take_value(const char *line, const char *name, char **ret)
{
        size_t len = strlen(name);
        const char *v = line + len, *end;

        if (strncmp(line, name, len))
                return 0;
        v += strspn(v, " \t");
        if (*v != '=')
                return 0;
        v += 1 + strspn(v + 1, " \t");
        end = *v == '"' ? strchr(v + 1, '"') : v + strcspn(v, " \t");
        if (!end || *ret)
                return err_note(-EINVAL, "the line '%.80s' of the descriptor %s", line, *ret ? "is there twice"
                                                                                            : "has no closing quote");
        v += *v == '"';
        *ret = strndup(v, end - v);
        return *ret ? 0 : -ENOMEM;
}

static int take_cid(const char *line, const char *name, uint32_t *cid)
{
        AUTO(freep) char *text = NULL;
        unsigned long v;
        char *end;
        int r = take_value(line, name, &text);

        if (r < 0 || !text)
                return r;
        errno = 0;
        v = strtoul(text, &end, 16);
        if (!*text || *end || errno || v > UINT32_MAX)
                return err_note(-EINVAL, "%s '%.40s' is not a hexadecimal number of 32 bits", name, text);
        *cid = (uint32_t)v;
        return 0;
}

static bool begins_with(const char *line, const char *word)
{
        return !strncmp(line, word, strlen(word)) && strchr(" \t", line[strlen(word)]);
}

static int take_line(struct vmdk_desc *d, const char *line)
{
        int r;

        if (begins_with(line, "RW") || begins_with(line, "RDONLY"))
                return take_extent(d, line);
        if (begins_with(line, "NOACCESS"))
                return err_note(-ENOTSUP, "an extent that must not be read ('%.80s') is not supported", line);
        r = take_cid(line, "CID", &d->cid);
        if (r == 0)
                r = take_cid(line, "parentCID", &d->parent_cid);
        if (r == 0)
                r = take_value(line, "createType", &d->create_type);
        return r < 0 ? r : take_value(line, "parentFileNameHint", &d->parent);
}

int vmdk_desc_parse(const char *text, struct vmdk_desc *d)
{
        char line[LINE_MAX_LEN];
        int r = 0;

        d->parent_cid = UINT32_MAX;
        while (r == 0 && *text) {
                size_t len = strcspn(text, "\r\n");

                if (len >= sizeof(line))
                        return err_note(-EINVAL, "the descriptor has a line of more than %u bytes", LINE_MAX_LEN - 1);
                memcpy(line, text, len);
                line[len] = 0;
                r = take_line(d, line + strspn(line, " \t"));
                text += len + strspn(text + len, "\r\n");
        }
        return r;
}
