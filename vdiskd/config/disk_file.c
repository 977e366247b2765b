/* SPDX-License-Identifier: BSD-3-Clause */
#include "disk_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"
#include "vdiskd/config/configuration.h"
#include "vdiskd/config/disk_options.h"

#define FIRST_LINE "# Written by vdiskd, which removes it with the disk. Without this line it is yours.\n"
#define SECTION_LINE 2 /* of the file */

/* What the configuration's format cannot say. */
static int check_value(const char *key, const char *v)
{
        size_t len = strlen(v);

        if (len && (isspace((unsigned char)v[0]) || isspace((unsigned char)v[len - 1]) || v[0] == ';'))
                return err_note(-EINVAL, "%s='%s': a value with a space or ';' at its end cannot be saved", key, v);
        for (; *v; v++)
                if ((unsigned char)*v < ' ' || *v == 0x7f || (*v == ' ' && v[1] == ';'))
                        return err_note(-EINVAL, "%s: a value with control characters or ' ;' cannot be saved", key);
        return 0;
}

static int write_keys(FILE *f, const struct disk_opts *o)
{
        int r = 0;

        fprintf(f, FIRST_LINE "[disk %s]\n", o->id);
        for (size_t i = 0; r == 0 && disk_opts_key(i); i++) {
                const char *v = disk_opts_said(o, i);

                if (!v || !strcmp(disk_opts_key(i), "id"))
                        continue;
                r = check_value(disk_opts_key(i), v);
                fprintf(f, "%s = %s\n", disk_opts_key(i), v);
        }
        return r;
}

static int save(const char *config, struct disk_opts *o, bool replace)
{
        AUTO(freep) char *dir = config_disks_dir(config), *text = NULL, *name = NULL, *path = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);
        int r = f ? write_keys(f, o) : -ENOMEM;

        if (f && fclose(f) && r == 0)
                r = -ENOMEM;
        if (r < 0)
                return r;
        if (!dir || asprintf(&name, "%s.conf", o->id) < 0 || asprintf(&path, "%s/%s.conf", dir, o->id) < 0)
                return -ENOMEM;
        r = path_save(dir, name, text, replace);
        if (r < 0)
                return r;
        free(o->file);
        o->file = TAKE(path, NULL);
        o->line = SECTION_LINE;
        return 0;
}

int disk_file_save(const char *config, struct disk_opts *o)
{
        return save(config, o, false);
}

/* Did disk_file_save() write it, and nobody take its first line away? -EPERM with a sentence. */
static int check_ours(const struct disk_opts *o)
{
        char line[sizeof(FIRST_LINE)] = "";
        int fd = o->file ? path_open(o->file, O_RDONLY | O_CLOEXEC, 0) : -ENOENT;
        FILE *f = fd < 0 ? NULL : fdopen(fd, "re");

        if (!f)
                return err_note(fd < 0 ? fd : -ENOMEM, "%s: cannot be read: %s", o->file ?: o->id, strerror(fd < 0 ? -fd : ENOMEM));
        if (!fgets(line, sizeof(line), f))
                line[0] = '\0';
        fclose(f);
        if (strcmp(line, FIRST_LINE))
                return err_note(-EPERM, "%s was not written by vdiskd: change it yourself, then reload", o->file);
        return 0;
}

int disk_file_update(const char *config, struct disk_opts *o)
{
        int r = check_ours(o);

        return r < 0 ? r : save(config, o, true);
}

int disk_file_remove(const struct disk_opts *o)
{
        int r = check_ours(o);

        return r < 0 ? r : path_remove(o->file);
}
