/* SPDX-License-Identifier: BSD-3-Clause */
/* secret_option.c - "secret,id=..,file=..": the value of --object, for all programs. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/secret.h"

/* The next piece of @*text, with ",," made "," in place; *text moves behind it, NULL at the end. */
static char *next_piece(char **text)
{
        char *piece = *text, *in = piece, *out = piece;

        for (; *in && (*in != ',' || in[1] == ','); in++) {
                if (*in == ',')
                        in++;
                *out++ = *in;
        }
        *text = *in ? in + 1 : NULL;
        *out = '\0';
        return piece;
}

static int take_fd(const char *text, int *ret)
{
        char *end;
        long n = strtol(text, &end, 10);

        if (end == text || *end || n < 0 || n > INT16_MAX)
                return err_note(-EINVAL, "fd '%s' is not the number of a file descriptor", text);
        *ret = (int)n;
        return 0;
}

static int take_property(struct secret_source *s, char *piece)
{
        char *value = strchr(piece, '=');

        if (!value)
                return err_note(-EINVAL, "'%s': write name=value", piece);
        *value++ = '\0';
        if (!strcmp(piece, "id"))
                s->id = value;
        else if (!strcmp(piece, "file"))
                s->file = value;
        else if (!strcmp(piece, "format"))
                s->format = value;
        else if (!strcmp(piece, "fd"))
                return take_fd(value, &s->fd);
        else if (!strcmp(piece, "data"))
                return err_note(-EINVAL, "data= on a command line can be read by everybody on this host; put it into a file "
                                "that only you can read and say file=PATH, or pass it as fd=N");
        else
                return err_note(-EINVAL, "a secret knows id, file, fd and format, not '%s'", piece);
        return 0;
}

int secret_option(char *text, struct secret_source *s)
{
        char *type = next_piece(&text);
        int r = 0;

        *s = (struct secret_source){ .fd = -1 };
        if (!strncmp(type, "qom-type=", 9))
                type += 9;
        if (strcmp(type, "secret"))
                return err_note(-EINVAL, "--object '%s': the only kind of object here is secret", type);
        while (r == 0 && text)
                r = take_property(s, next_piece(&text));
        if (r == 0)
                r = secret_check(s);
        return r < 0 ? err_prefix(r, "--object secret: ") : 0;
}
