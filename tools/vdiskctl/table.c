/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vdiskctl.h"

struct table {
        const char *const *heads;
        unsigned ncols;
        int width[TABLE_COLUMNS];
        char **cells;
        size_t ncells;
};

/* A tool without memory can do nothing better. */
static void *must_have(void *p)
{
        if (!p) {
                fprintf(stderr, "vdiskctl: out of memory\n");
                exit(1);
        }
        return p;
}

static const char *head_text(const char *head)
{
        return head + (*head == '>');
}

static void widen(struct table *t, unsigned col, const char *text)
{
        if ((int)strlen(text) > t->width[col])
                t->width[col] = (int)strlen(text);
}

struct table *table_new(const char *const *heads)
{
        struct table *t = must_have(calloc(1, sizeof(*t)));

        t->heads = heads;
        for (; t->ncols < TABLE_COLUMNS && heads[t->ncols]; t->ncols++)
                widen(t, t->ncols, head_text(heads[t->ncols]));
        return t;
}

void table_cell(struct table *t, const char *fmt, ...)
{
        va_list ap;
        char *text;

        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                text = NULL;
        va_end(ap);
        must_have(text);
        for (char *p = text; *p; p++) /* a name or path is no command to the terminal */
                *p = (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p;
        t->cells = must_have(reallocarray(t->cells, t->ncells + 1, sizeof(*t->cells)));
        widen(t, (unsigned)(t->ncells % t->ncols), text);
        t->cells[t->ncells++] = text;
}

static void print_cell(const struct table *t, unsigned col, const char *text, FILE *to)
{
        int width = t->heads[col][0] == '>' ? t->width[col] : -t->width[col];
        bool last = col + 1 == t->ncols;

        fprintf(to, "%*s%s", last && width < 0 ? 0 : width, text, last ? "\n" : "  ");
}

void table_free(struct table *t)
{
        if (!t)
                return;
        for (size_t i = 0; i < t->ncells; i++)
                free(t->cells[i]);
        free(t->cells);
        free(t);
}

void table_print_to(struct table *t, FILE *to)
{
        for (unsigned col = 0; col < t->ncols; col++)
                print_cell(t, col, head_text(t->heads[col]), to);
        for (size_t i = 0; i < t->ncells; i++)
                print_cell(t, (unsigned)(i % t->ncols), t->cells[i], to);
        table_free(t);
}

void table_print(struct table *t)
{
        table_print_to(t, stdout);
}
