/* SPDX-License-Identifier: BSD-3-Clause */
#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

static int suffix_shift(char c)
{
        static const char units[] = "bkmgtpe";
        const char *at = c ? strchr(units, tolower((unsigned char)c)) : units;

        return at ? (int)(at - units) * 10 : -1;
}

int size_parse(const char *text, uint64_t *ret)
{
        unsigned long long whole;
        long double value;
        char *end;
        int shift;

        if (!isdigit((unsigned char)text[0]))
                return err_note(-EINVAL, "'%s' is not a size: write digits and one of k, M, G, T, P, E", text);
        errno = 0;
        whole = strtoull(text, &end, 10);
        if (errno == ERANGE)
                return err_note(-ERANGE, "size '%s' is too large: the limit is 8 EiB - 1", text);
        value = (long double)whole;
        if (*end == '.') {
                char *digit = end + 1;

                for (long double weight = 0.1L; isdigit((unsigned char)*digit); weight /= 10)
                        value += (*digit++ - '0') * weight; /* not strtold(): no exponent, no locale */
                if (digit == end + 1 || !*digit)
                        return err_note(-EINVAL, "'%s' is not a size: a fraction needs digits and a unit", text);
                end = digit;
        }
        shift = suffix_shift(*end);
        if (shift < 0 || (*end && end[1]))
                return err_note(-EINVAL, "'%s' is not a size: write digits and one of k, M, G, T, P, E", text);
        value *= (long double)(1ull << shift);
        if (value > (long double)INT64_MAX)
                return err_note(-ERANGE, "size '%s' is too large: the limit is 8 EiB - 1", text);
        *ret = (uint64_t)value;
        return 0;
}

const char *size_format(uint64_t bytes, char *buf, size_t buflen)
{
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double v = (double)bytes;
        size_t u = 0;

        while (v > 999.4 && u + 1 < sizeof(units) / sizeof(units[0])) {
                v /= 1024;
                u++;
        }
        snprintf(buf, buflen, "%0.3g %s", v, units[u]);
        return buf;
}
