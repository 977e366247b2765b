/* SPDX-License-Identifier: BSD-3-Clause */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char note[512];

/* Names in it may be a stranger's, as that of a backing file: none of them starts a second line or drives a
 * terminal. */
static void tame(void)
{
        for (char *c = note; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        *c = '?';
}

int (err_note)(int r, const char *fmt, ...)
{
        va_list ap;

        if (note[0])
                return r;
        va_start(ap, fmt);
        vsnprintf(note, sizeof(note), fmt, ap);
        va_end(ap);
        tame();
        return r;
}

int err_prefix(int r, const char *fmt, ...)
{
        char lead[sizeof(note)], whole[2 * sizeof(note)];
        va_list ap;

        if (!note[0])
                return r;
        va_start(ap, fmt);
        vsnprintf(lead, sizeof(lead), fmt, ap);
        va_end(ap);
        snprintf(whole, sizeof(whole), "%s%s", lead, note);
        snprintf(note, sizeof(note), "%.*s", (int)sizeof(note) - 1, whole);
        tame();
        return r;
}

const char *err_text(int r)
{
        return note[0] ? note : strerror(-r);
}

void err_clear(void)
{
        note[0] = '\0';
}
