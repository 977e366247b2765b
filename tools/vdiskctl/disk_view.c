/* SPDX-License-Identifier: BSD-3-Clause */
#include "tools/vdiskctl/disk_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

const char *const view_ops[VIEW_OPS] = { "read", "write", "flush", "discard", "write_zeroes" };
const char *const view_op_titles[VIEW_OPS] = { "read", "write", "flush", "discard", "zero" };

static const json_t *find_disk(const json_t *stats, const char *name)
{
        const json_t *o;
        size_t i;

        json_array_foreach (json_object_get(stats, "disks"), i, o) {
                const char *other = json_string_value(json_object_get(o, "disk"));

                if (other && !strcmp(other, name))
                        return o;
        }
        return NULL;
}

static double number(const json_t *o, const char *key)
{
        return json_number_value(json_object_get(o, key));
}

static const json_t *op_of(const json_t *disk, const char *op)
{
        return json_object_get(json_object_get(disk, "operations"), op);
}

/* How much more @key of @op is now. A disk that was added anew under its old name begins at 0. */
static double more(const json_t *now, const json_t *before, const char *op, const char *key)
{
        double n = number(op_of(now, op), key), m = number(op_of(before, op), key);

        return n >= m ? n - m : n;
}

/* --- quantiles of what was added between two looks ------------------------------------------------------------------ */

struct bucket {
        double end, n;
};

static const json_t *buckets_of(const json_t *disk, const char *op)
{
        return json_object_get(json_object_get(json_object_get(op_of(disk, op), "latency"), "total"), "buckets");
}

static double at(const json_t *pair, size_t i)
{
        return json_number_value(json_array_get(pair, i));
}

/* Both are sorted by their bounds, and only have buckets that are not empty. */
static size_t subtract(const json_t *now, const json_t *before, struct bucket *to)
{
        size_t i, j = 0, n = 0;
        const json_t *pair;

        json_array_foreach (now, i, pair) {
                const json_t *old;
                double had = 0;

                while ((old = json_array_get(before, j)) != NULL && at(old, 0) < at(pair, 0))
                        j++;
                if (old && at(old, 0) == at(pair, 0))
                        had = at(old, 1);
                if (at(pair, 1) > had)
                        to[n++] = (struct bucket){ at(pair, 0), at(pair, 1) - had };
        }
        return n;
}

static int by_end(const void *a, const void *b)
{
        double x = ((const struct bucket *)a)->end, y = ((const struct bucket *)b)->end;

        return (x > y) - (x < y);
}

static double quantile(const struct bucket *b, size_t n, double fraction)
{
        double all = 0, seen = 0;

        for (size_t i = 0; i < n; i++)
                all += b[i].n;
        for (size_t i = 0; i < n; i++) {
                seen += b[i].n;
                if (seen >= fraction * all)
                        return b[i].end;
        }
        return -1;
}

static void set_quantiles(struct disk_view *v, const json_t *now, const json_t *before)
{
        const json_t *reads = buckets_of(now, "read"), *writes = buckets_of(now, "write");
        struct bucket *b = calloc(json_array_size(reads) + json_array_size(writes) + 1, sizeof(*b));
        size_t n = 0;

        v->p50_ns = v->p99_ns = -1;
        if (!b)
                return;
        n += subtract(reads, buckets_of(before, "read"), b);
        n += subtract(writes, buckets_of(before, "write"), b + n);
        qsort(b, n, sizeof(*b), by_end);
        v->p50_ns = quantile(b, n, 0.5);
        v->p99_ns = quantile(b, n, 0.99);
        free(b);
}

/* --- one disk ----------------------------------------------------------------------------------------------------- */

static void set_flags(struct disk_view *v, const json_t *flags)
{
        static const struct { const char *word; char letter; } letters[] = {
                { "held", 'H' }, { "throttled", 'T' }, { "full", 'S' }, { "job", 'J' }, { "resizing", 'R' }, { "failed", 'F' },
        };
        size_t i, n = 0;
        const json_t *flag;

        for (size_t k = 0; k < ARRAY_SIZE(letters); k++)
                json_array_foreach (flags, i, flag)
                        if (json_string_value(flag) && !strcmp(json_string_value(flag), letters[k].word))
                                v->flags[n++] = letters[k].letter;
        v->flags[n] = '\0';
}

static void view(struct disk_view *v, const json_t *now, const json_t *before, double seconds)
{
        *v = (struct disk_view){
                .name = json_string_value(json_object_get(now, "disk")),
                .depth = (unsigned)number(now, "in-flight"),
                .oldest_ns = number(now, "oldest-age-ns"),
                .allocated = json_object_get(now, "allocated") ? number(now, "allocated") : -1,
        };
        set_flags(v, json_object_get(now, "flags"));
        set_quantiles(v, now, before);
        if (seconds <= 0)
                return;
        for (size_t i = 0; i < VIEW_OPS; i++)
                v->iops += more(now, before, view_ops[i], "requests") / seconds;
        v->read_bytes = more(now, before, "read", "bytes") / seconds;
        v->write_bytes = (more(now, before, "write", "bytes") + more(now, before, "write_zeroes", "bytes")) / seconds;
}

double view_seconds(const json_t *now, const json_t *before)
{
        return before ? (number(now, "time-ns") - number(before, "time-ns")) / 1e9 : 0;
}

size_t disk_views(const json_t *now, const json_t *before, struct disk_view **ret)
{
        const json_t *disks = json_object_get(now, "disks"), *o;
        double seconds = view_seconds(now, before);
        size_t i, n = 0;

        *ret = calloc(json_array_size(disks) + 1, sizeof(**ret));
        if (!*ret)
                return 0;
        json_array_foreach (disks, i, o) {
                const char *name = json_string_value(json_object_get(o, "disk"));

                if (name)
                        view(&(*ret)[n++], o, find_disk(before, name), seconds);
        }
        return n;
}

double view_busy(const json_t *now, const json_t *before)
{
        double busiest = -1;
        const json_t *o;
        size_t i;

        if (!before)
                return -1;
        json_array_foreach (json_object_get(now, "threads"), i, o) {
                const json_t *old = json_array_get(json_object_get(before, "threads"), i);
                double busy = number(o, "busy-ns") - number(old, "busy-ns");
                double idle = number(o, "idle-ns") - number(old, "idle-ns");

                if (busy + idle > 0 && busy / (busy + idle) > busiest)
                        busiest = busy / (busy + idle);
        }
        return busiest;
}

/* --- numbers in few characters ------------------------------------------------------------------------------------ */

static const char *scaled(double n, double base, const char *units, char *buf, size_t len)
{
        size_t u = 0;

        for (; n >= base * 0.9995 && units[u + 1]; u++) /* so that it does not round to 1000 */
                n /= base;
        if (units[u] == ' ')
                snprintf(buf, len, "%.0f", n);
        else
                snprintf(buf, len, n < 9.95 ? "%.1f%c" : "%.0f%c", n, units[u]);
        return buf;
}

const char *view_count(double n, char *buf, size_t len)
{
        return scaled(n, 1000, " kMGT", buf, len);
}

const char *view_bytes(double n, char *buf, size_t len)
{
        if (n < 0) {
                snprintf(buf, len, "-");
                return buf;
        }
        return scaled(n, 1024, " KMGTPE", buf, len);
}

const char *view_time(double ns, char *buf, size_t len)
{
        static const char *const units[] = { "ns", "us", "ms", "s" };
        unsigned u = 0;

        for (; ns >= 999.5 && u + 1 < ARRAY_SIZE(units); u++)
                ns /= 1e3;
        if (ns < 0)
                snprintf(buf, len, "-");
        else
                snprintf(buf, len, u && ns < 9.95 ? "%.1f%s" : "%.0f%s", ns, ns > 0 ? units[u] : "");
        return buf;
}
