/* SPDX-License-Identifier: BSD-3-Clause */
#include "option_values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/size.h"
#include "formats/format.h"

#define MAX_FD 1048576u       /* the kernel's nr_open */

int set_text(const char *name, const char *value, char **ret)
{
        char *copy;

        if (!*value)
                return err_note(-EINVAL, "%s: the value is empty", name);
        copy = strdup(value);
        if (!copy)
                return -ENOMEM;
        free(*ret);
        *ret = copy;
        return 0;
}

int set_number(const char *name, const char *value, unsigned min, unsigned max, unsigned *ret)
{
        unsigned long n;
        char *end;

        errno = 0;
        n = strtoul(value, &end, 10);
        if (*value < '0' || *value > '9' || *end || errno || n < min || n > max)
                return err_note(-EINVAL, "%s=%s: expected a number from %u to %u", name, value, min, max);
        *ret = (unsigned)n;
        return 0;
}

int set_bool(const char *name, const char *value, bool *ret)
{
        bool on = !strcmp(value, "on");

        if (!on && strcmp(value, "off"))
                return err_note(-EINVAL, "%s=%s: expected on or off", name, value);
        *ret = on;
        return 0;
}

int set_choice(const char *name, const char *value, const struct choice *choices, size_t n, int *ret)
{
        char words[128] = "";

        for (size_t i = 0; i < n; i++) {
                if (!strcmp(value, choices[i].word)) {
                        *ret = choices[i].value;
                        return 0;
                }
                strncat(words, i ? (i + 1 == n ? " or " : ", ") : "", sizeof(words) - strlen(words) - 1);
                strncat(words, choices[i].word, sizeof(words) - strlen(words) - 1);
        }
        return err_note(-EINVAL, "%s=%s: expected %s", name, value, words);
}

int set_format(const char *name, const char *value, char **ret)
{
        char known[128] = "";

        if (fmt_driver_find(value))
                return set_text(name, value, ret);
        for (const struct fmt_driver *const *drv = fmt_drivers(); *drv; drv++) {
                strncat(known, known[0] ? ", " : "", sizeof(known) - strlen(known) - 1);
                strncat(known, (*drv)->name, sizeof(known) - strlen(known) - 1);
        }
        return err_note(-EINVAL, "%s=%s: no such format; there are: %s", name, value, known);
}

int set_socket(const char *name, const char *value, char **ret)
{
        if (strlen(value) > SOCKET_PATH_BYTES)
                return err_note(-EINVAL, "%s=%s: the path has %zu bytes, a Unix socket's path may have %zu", name, value,
                                strlen(value), SOCKET_PATH_BYTES);
        return set_text(name, value, ret);
}

int set_fd(const char *name, const char *value, int *ret)
{
        unsigned fd;
        int r = set_number(name, value, 0, MAX_FD, &fd);

        if (r == 0)
                *ret = (int)fd;
        return r;
}

int set_bytes(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *ret)
{
        char lo[32], hi[32];
        uint64_t bytes;
        int r = size_parse(value, &bytes);

        if (r < 0)
                return err_prefix(r, "%s=%s: ", name, value);
        if (bytes < min || bytes > max)
                return err_note(-EINVAL, "%s=%s: expected a size from %s to %s", name, value,
                                size_format(min, lo, sizeof(lo)), size_format(max, hi, sizeof(hi)));
        *ret = bytes;
        return 0;
}

int set_mode(const char *name, const char *value, int *ret)
{
        unsigned long mode;
        char *end;

        errno = 0;
        mode = strtoul(value, &end, 8);
        if (*value < '0' || *value > '7' || *end || errno || mode > 0777)
                return err_note(-EINVAL, "%s=%s: expected permissions in octal, such as 0660", name, value);
        *ret = (int)mode;
        return 0;
}

char *option_next_pair(char *text, char **key, char **value)
{
        char *out = text;
        char *in = text;

        for (; *in; in++) {
                if (*in == ',' && in[1] != ',')
                        break;
                if (*in == ',')
                        in++;
                *out++ = *in;
        }
        in = *in ? in + 1 : NULL;
        *out = '\0';
        *key = text;
        *value = strchr(text, '=');
        if (*value)
                *(*value)++ = '\0';
        return in;
}
