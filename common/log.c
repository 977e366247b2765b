/* SPDX-License-Identifier: BSD-3-Clause */
#include "log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

#define LINE_MAX_BYTES 1024
#define LIMIT_BURST 10u

static const char *program = "vdiskd";
static enum log_level max_level = LOG_LVL_INFO;
static bool to_journal;

void log_init(const char *prog, enum log_level max)
{
        program = prog;
        max_level = max;
        to_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_max(enum log_level max)
{
        __atomic_store_n(&max_level, max, __ATOMIC_RELAXED);
}

/*
 * What strangers named or said may hold escape sequences for the terminal of whoever reads the log, or a line end and
 * then a line of its own. C0, DEL, and C1 as UTF-8 has it.
 */
static void tame(char *text, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)text[i], next = i + 1 < n ? (unsigned char)text[i + 1] : 0;

                if (c < 0x20 || c == 0x7f)
                        text[i] = '?';
                else if (c == 0xc2 && next >= 0x80 && next < 0xa0)
                        text[i] = text[i + 1] = '?';
        }
}

static void line_va(enum log_level level, unsigned left_out, const char *fmt, va_list ap)
{
        char line[LINE_MAX_BYTES];
        size_t n = 0;
        ssize_t ignored;

        if (level > __atomic_load_n(&max_level, __ATOMIC_RELAXED))
                return;
        if (to_journal)
                n += (size_t)snprintf(line, sizeof(line), "<%d>", level);
        else
                n += (size_t)snprintf(line, sizeof(line), "%s: ", program);
        n += (size_t)vsnprintf(line + n, sizeof(line) - n, fmt, ap);
        if (left_out && n < sizeof(line))
                n += (size_t)snprintf(line + n, sizeof(line) - n, " (%u like it left out)", left_out);
        if (n > sizeof(line) - 2)
                n = sizeof(line) - 2;
        tame(line, n);
        line[n++] = '\n';
        ignored = write(STDERR_FILENO, line, n); /* one call, so lines of several threads do not mix */
        (void)ignored;
}

void log_line(enum log_level level, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        line_va(level, 0, fmt, ap);
        va_end(ap);
}

void log_limited(struct log_limit *lim, enum log_level level, const char *fmt, ...)
{
        struct timespec now;
        va_list ap;

        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        if (lim->said >= LIMIT_BURST && now.tv_sec == lim->last_sec) {
                lim->dropped++;
                return;
        }
        lim->said++;
        lim->last_sec = now.tv_sec;
        va_start(ap, fmt);
        line_va(level, TAKE(lim->dropped, 0), fmt, ap);
        va_end(ap);
}
