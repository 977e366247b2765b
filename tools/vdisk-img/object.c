/* SPDX-License-Identifier: BSD-3-Clause */
/* object.c - --object: passwords for encrypted images. They come from files and file descriptors, never from here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/secret.h"
#include "tools/vdisk-img/tool.h"

static int take_fd(const char *text, int *ret)
{
        char *end;
        long n = strtol(text, &end, 10);

        if (end == text || *end || n < 0 || n > INT16_MAX)
                return err_note(-EINVAL, "--object secret: fd '%s' is not the number of a file descriptor", text);
        *ret = (int)n;
        return 0;
}

static int take_property(struct secret_source *s, const struct fmt_option *o)
{
        if (!strcmp(o->name, "id"))
                s->id = o->value;
        else if (!strcmp(o->name, "file"))
                s->file = o->value;
        else if (!strcmp(o->name, "format"))
                s->format = o->value;
        else if (!strcmp(o->name, "fd"))
                return take_fd(o->value, &s->fd);
        else if (!strcmp(o->name, "data"))
                return err_note(-EINVAL, "--object secret: data= on a command line can be read by everybody on this host; "
                                "put it into a file that only you can read and say file=PATH, or pass it as fd=N");
        else if (strcmp(o->name, "qom-type"))
                return err_note(-EINVAL, "--object secret knows id, file, fd and format, not '%s'", o->name);
        return 0;
}

static void words_finish(struct option_list *l)
{
        option_list_finish(l);
}

int tool_object(const char *text)
{
        AUTO(words_finish) struct option_list l = { 0 };
        struct secret_source s = { .fd = -1 };
        size_t type = strcspn(text, ",");
        int r = 0;

        if (strncmp(text, "qom-type=", 9) == 0)
                text += 9, type -= 9;
        if (type != strlen("secret") || strncmp(text, "secret", type))
                return err_note(-EINVAL, "--object '%.*s': the only kind of object here is secret", (int)type, text);
        r = text[type] ? option_list_add(&l, text + type + 1) : 0;
        if (r < 0)
                return err_prefix(r, "--object secret: ");
        for (size_t i = 0; r == 0 && i < l.n; i++)
                r = take_property(&s, &l.opts[i]);
        return r < 0 ? r : secret_add(&s);
}
