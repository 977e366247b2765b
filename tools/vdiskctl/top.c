/* SPDX-License-Identifier: BSD-3-Clause */
#include "tools/vdiskctl/top.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "tools/vdiskctl/disk_view.h"

#define MIN_WIDTH 80u
#define HEAD_LINES 3u
#define REVERSE_ON "\x1b[7m"
#define REVERSE_OFF "\x1b[0m"
#define LINE_END "\x1b[K\r\n" /* what an earlier picture left there goes */

/* The name takes what the others leave. */
static const struct column {
        const char *title, *word;
        char key;
        int width;
} columns[TOP_COLUMNS] = {
        [TOP_NAME] = { "DISK", "name", 'n', 0 },
        [TOP_IOPS] = { "IOPS", "iops", 'i', 6 },
        [TOP_READ] = { "READ/s", "read", 'r', 6 },
        [TOP_WRITE] = { "WRITE/s", "write", 'w', 7 },
        [TOP_P50] = { "P50", "p50", '5', 5 },
        [TOP_P99] = { "P99", "p99", '9', 5 },
        [TOP_DEPTH] = { "DEPTH", "depth", 'd', 5 },
        [TOP_OLDEST] = { "OLDEST", "oldest", 'o', 6 },
        [TOP_ALLOCATED] = { "ALLOC", "allocated", 'a', 6 },
        [TOP_FLAGS] = { "FLAGS", "flags", 'f', 5 },
};

void top_init(struct top *t)
{
        *t = (struct top){ .sort = TOP_IOPS, .width = MIN_WIDTH, .interval = 1 };
}

int top_column_named(const char *name)
{
        for (int i = 0; i < TOP_COLUMNS; i++)
                if (!strcmp(columns[i].word, name))
                        return i;
        return -1;
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

static void sort_by(struct top *t, enum top_column c)
{
        t->reverse = t->sort == c && !t->reverse; /* once more: the other way round */
        t->sort = c;
}

bool top_key(struct top *t, int key)
{
        for (int i = 0; i < TOP_COLUMNS; i++)
                if (columns[i].key == key)
                        return sort_by(t, (enum top_column)i), true;
        switch (key) {
        case '<':
                t->sort = (enum top_column)((t->sort + TOP_COLUMNS - 1) % TOP_COLUMNS);
                return true;
        case '>':
                t->sort = (enum top_column)((t->sort + 1) % TOP_COLUMNS);
                return true;
        case '-':
                t->interval = t->interval > 1 ? t->interval - 1 : t->interval > 0.25 ? t->interval / 2 : t->interval;
                return true;
        case '+':
                t->interval = t->interval < 1 ? t->interval * 2 : t->interval < 60 ? t->interval + 1 : t->interval;
                return true;
        }
        return false;
}

/* --- order -------------------------------------------------------------------------------------------------------- */

static double value_of(const struct disk_view *v, enum top_column c)
{
        switch (c) {
        case TOP_IOPS: return v->iops;
        case TOP_READ: return v->read_bytes;
        case TOP_WRITE: return v->write_bytes;
        case TOP_P50: return v->p50_ns;
        case TOP_P99: return v->p99_ns;
        case TOP_DEPTH: return v->depth;
        case TOP_OLDEST: return v->oldest_ns;
        case TOP_ALLOCATED: return v->allocated;
        case TOP_FLAGS: return (double)strlen(v->flags);
        case TOP_NAME:
        case TOP_COLUMNS: break;
        }
        return 0;
}

/* The largest first; disks that are equal by name. */
static int compare(const void *a, const void *b, void *opaque)
{
        const struct top *t = opaque;
        const struct disk_view *x = a, *y = b;
        double p = value_of(x, t->sort), q = value_of(y, t->sort);
        int order = (q > p) - (q < p);

        if (t->sort == TOP_NAME)
                order = strcmp(x->name, y->name);
        if (order)
                return t->reverse ? -order : order;
        return strcmp(x->name, y->name);
}

/* --- text --------------------------------------------------------------------------------------------------------- */

static int name_width(const struct top *t)
{
        int others = 0;

        for (int i = 0; i < TOP_COLUMNS; i++)
                others += i == TOP_NAME ? 0 : columns[i].width + 1;
        /* a last column scrolls some */
        return (int)(t->width < MIN_WIDTH ? MIN_WIDTH : t->width) - others - (t->terminal ? 1 : 0);
}

static const char *line_end(const struct top *t)
{
        return t->terminal ? LINE_END : "\n";
}

static void print_titles(const struct top *t, FILE *to)
{
        for (int i = 0; i < TOP_COLUMNS; i++) {
                bool marked = t->terminal && i == (int)t->sort;

                if (i != TOP_NAME)
                        fputc(' ', to);
                fprintf(to, "%s%*s%s", marked ? REVERSE_ON : "", i == TOP_NAME ? -name_width(t) : columns[i].width,
                        columns[i].title, marked ? REVERSE_OFF : "");
        }
        fputs(line_end(t), to);
}

/* What is no plain character would do as it likes with the terminal. */
static void print_name(const char *name, int width, FILE *to)
{
        int n = 0;

        for (; *name && n < width; name++, n++)
                fputc(n == width - 1 && name[1] ? '+' : isprint((unsigned char)*name) ? *name : '?', to);
        fprintf(to, "%*s", width - n, "");
}

static void print_disk(const struct top *t, const struct disk_view *v, bool rates, FILE *to)
{
        char buf[7][16];

        print_name(v->name, name_width(t), to);
        fprintf(to, " %*s %*s %*s %*s %*s %*u %*s %*s %*s%s",
                columns[TOP_IOPS].width, rates ? view_count(v->iops, buf[0], 16) : "-",
                columns[TOP_READ].width, rates ? view_bytes(v->read_bytes, buf[1], 16) : "-",
                columns[TOP_WRITE].width, rates ? view_bytes(v->write_bytes, buf[2], 16) : "-",
                columns[TOP_P50].width, view_time(v->p50_ns, buf[3], 16), columns[TOP_P99].width,
                view_time(v->p99_ns, buf[4], 16), columns[TOP_DEPTH].width, v->depth, columns[TOP_OLDEST].width,
                view_time(v->depth ? v->oldest_ns : -1, buf[5], 16), columns[TOP_ALLOCATED].width,
                view_bytes(v->allocated, buf[6], 16), columns[TOP_FLAGS].width, *v->flags ? v->flags : "-", line_end(t));
}

static void print_summary(const struct top *t, const struct disk_view *v, size_t n, const json_t *now, const json_t *before,
                          FILE *to)
{
        double iops = 0, read = 0, written = 0, busy = view_busy(now, before);
        char buf[3][16];

        for (size_t i = 0; i < n; i++) {
                iops += v[i].iops;
                read += v[i].read_bytes;
                written += v[i].write_bytes;
        }
        fprintf(to, "vdiskd: %zu disk%s, %s requests/s, read %sB/s, written %sB/s", n, n == 1 ? "" : "s",
                before ? view_count(iops, buf[0], 16) : "-", before ? view_bytes(read, buf[1], 16) : "- ",
                before ? view_bytes(written, buf[2], 16) : "- ");
        if (busy >= 0)
                fprintf(to, ", busiest thread %.0f%%", 100 * busy);
        fprintf(to, "%s", line_end(t));
}

int top_print(const struct top *t, const json_t *now, const json_t *before, FILE *to)
{
        struct disk_view *v;
        size_t n = disk_views(now, before, &v), shown = n;

        if (!v)
                return -ENOMEM;
        if (t->height && n + HEAD_LINES + 1 > t->height)
                shown = t->height > HEAD_LINES + 1 ? t->height - HEAD_LINES - 1 : 0;
        qsort_r(v, n, sizeof(*v), compare, (void *)t);
        print_summary(t, v, n, now, before, to);
        if (t->terminal)
                fprintf(to, "every %gs (+ -)  sort: < > or n i r w 5 9 d o a f  q quit%s", t->interval, line_end(t));
        print_titles(t, to);
        for (size_t i = 0; i < shown; i++)
                print_disk(t, &v[i], before != NULL, to);
        if (t->terminal && shown < n)
                fprintf(to, "... and %zu more", n - shown);
        else if (t->terminal)
                fprintf(to, "%s", VIEW_FLAGS);
        if (t->terminal)
                fputs("\x1b[K\x1b[J", to);
        free(v);
        return 0;
}
