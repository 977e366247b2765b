/* SPDX-License-Identifier: BSD-3-Clause */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/size.h"

static const struct { const char *name, *label; double fraction; } quantiles[] = {
        { "p50", "50%", 0.5 }, { "p90", "90%", 0.9 }, { "p99", "99%", 0.99 }, { "p99.9", "99.9%", 0.999 },
        { "p99.99", "99.99%", 0.9999 },
};

static double mean(const struct hist *h)
{
        return h->count ? (double)h->sum / (double)h->count : 0;
}

/* Of all requests, flushes too. */
static double per_request(const struct results *res, uint64_t n)
{
        uint64_t all = 0;

        for (unsigned op = 0; op < OPS; op++)
                all += res->lat[op].count;
        return all ? (double)n / (double)all : 0;
}

static void print_op(const struct results *res, enum op op)
{
        const struct hist *h = &res->lat[op];
        double iops = (double)h->count / res->seconds;
        char bw[32];

        size_format((uint64_t)((double)res->bytes[op] / res->seconds), bw, sizeof(bw));
        printf("  %-6s IOPS=%.0f, BW=%s/s, %" PRIu64 " requests, %" PRIu64 " errors\n", op_names[op], iops, bw, h->count,
               res->errors[op]);
        printf("         latency (us): min=%.1f, avg=%.1f", (double)h->min / NS_PER_US, mean(h) / NS_PER_US);
        for (unsigned i = 0; i < ARRAY_SIZE(quantiles); i++)
                printf(", %s=%.1f", quantiles[i].label,
                       (double)hist_quantile(h, quantiles[i].fraction) / NS_PER_US);
        printf(", max=%.1f\n", (double)h->max / NS_PER_US);
}

static void report_normal(const struct options *o, const struct results *res)
{
        char min[32], max[32];

        size_format(o->bs_min, min, sizeof(min));
        size_format(o->bs_max, max, sizeof(max));
        printf("%s: bs=%s%s%s, iodepth=%u, numjobs=%u, %s, %.3f s, randseed=%" PRIu64 "\n", o->rw, min,
               o->bs_max > o->bs_min ? "-" : "", o->bs_max > o->bs_min ? max : "", o->iodepth, o->numjobs,
               o->poll ? "polling" : "sleeping", res->seconds, o->randseed);
        for (enum op op = 0; op < OPS; op++)
                if (res->lat[op].count)
                        print_op(res, op);
        if (res->has_cost) {
                printf("  back end (pid %d): %.2f us CPU, %.3f switches", o->pid,
                       per_request(res, res->cost.cpu_ns) / NS_PER_US, per_request(res, res->cost.switches));
                if (res->no_syscalls[0])
                        printf(" an I/O; system calls not counted: %s\n", res->no_syscalls);
                else
                        printf(", %.3f system calls an I/O\n", per_request(res, res->cost.syscalls));
        }
        if (res->reconnects)
                printf("  reconnects: %u\n", res->reconnects);
        if (o->verify)
                printf("  verify: %" PRIu64 " sectors compared, %" PRIu64 " wrong\n", res->compared, res->wrong);
}

static void json_add_lat(json_t *op, const struct hist *h)
{
        json_t *lat = json_object(), *p = json_object();

        json_object_set_new(lat, "min", json_integer((json_int_t)h->min));
        json_object_set_new(lat, "max", json_integer((json_int_t)h->max));
        json_object_set_new(lat, "mean", json_real(mean(h)));
        for (unsigned i = 0; i < ARRAY_SIZE(quantiles); i++)
                json_object_set_new(p, quantiles[i].name,
                                    json_integer((json_int_t)hist_quantile(h, quantiles[i].fraction)));
        json_object_set_new(lat, "percentile", p);
        json_object_set_new(op, "lat_ns", lat);
}

static json_t *json_options(const struct options *o)
{
        return json_pack("{s:s, s:I, s:I, s:I, s:i, s:i, s:b, s:I}", "rw", o->rw, "bs_min", (json_int_t)o->bs_min,
                         "bs_max", (json_int_t)o->bs_max, "ba", (json_int_t)o->align, "iodepth", (int)o->iodepth,
                         "numjobs", (int)o->numjobs, "poll", (int)o->poll, "randseed", (json_int_t)o->randseed);
}

static int report_json(const struct options *o, const struct results *res)
{
        json_t *root = json_object(), *cost;
        int r;

        json_object_set_new(root, "options", json_options(o));
        json_object_set_new(root, "seconds", json_real(res->seconds));
        for (enum op op = 0; op < OPS; op++) {
                json_t *j = json_object();

                json_object_set_new(j, "total_ios", json_integer((json_int_t)res->lat[op].count));
                json_object_set_new(j, "io_bytes", json_integer((json_int_t)res->bytes[op]));
                json_object_set_new(j, "errors", json_integer((json_int_t)res->errors[op]));
                json_object_set_new(j, "iops", json_real((double)res->lat[op].count / res->seconds));
                json_object_set_new(j, "bw_bytes", json_real((double)res->bytes[op] / res->seconds));
                json_add_lat(j, &res->lat[op]);
                json_object_set_new(root, op_names[op], j);
        }
        if (res->has_cost) {
                cost = json_pack("{s:i, s:f, s:f}", "pid", (int)o->pid, "cpu_ns_per_io",
                                 per_request(res, res->cost.cpu_ns), "switches_per_io",
                                 per_request(res, res->cost.switches));
                if (!res->no_syscalls[0])
                        json_object_set_new(cost, "syscalls_per_io", json_real(per_request(res, res->cost.syscalls)));
                json_object_set_new(root, "back_end", cost);
        }
        if (o->verify)
                json_object_set_new(root, "verify", json_pack("{s:I, s:I}", "compared", (json_int_t)res->compared,
                                                              "wrong", (json_int_t)res->wrong));
        json_object_set_new(root, "reconnects", json_integer((json_int_t)res->reconnects));
        r = json_dumpf(root, stdout, JSON_INDENT(2));
        json_decref(root);
        putchar('\n');
        return r < 0 ? err_note(-EIO, "cannot write the results") : 0;
}

/* Numbers that were not measured are "-". */
static void tsv_cost(bool has, double n)
{
        if (has)
                printf("\t%.3f", n);
        else
                printf("\t-");
}

static void report_tsv(const struct options *o, const struct results *res)
{
        bool sys = res->has_cost && !res->no_syscalls[0];

        printf("rw\tbs\tiodepth\tnumjobs\top\tios\terrors\tiops\tbw_bytes\tlat_min_ns\tlat_mean_ns");
        for (unsigned i = 0; i < ARRAY_SIZE(quantiles); i++)
                printf("\tlat_%s_ns", quantiles[i].name);
        printf("\tlat_max_ns\tcpu_ns_per_io\tswitches_per_io\tsyscalls_per_io\n");
        for (enum op op = 0; op < OPS; op++) {
                const struct hist *h = &res->lat[op];

                if (h->count == 0)
                        continue;
                printf("%s\t%u\t%u\t%u\t%s\t%" PRIu64 "\t%" PRIu64 "\t%.1f\t%.0f\t%" PRIu64 "\t%.0f", o->rw, o->bs_min,
                       o->iodepth, o->numjobs, op_names[op], h->count, res->errors[op],
                       (double)h->count / res->seconds, (double)res->bytes[op] / res->seconds, h->min, mean(h));
                for (unsigned i = 0; i < ARRAY_SIZE(quantiles); i++)
                        printf("\t%" PRIu64, hist_quantile(h, quantiles[i].fraction));
                printf("\t%" PRIu64, h->max);
                tsv_cost(res->has_cost, per_request(res, res->cost.cpu_ns));
                tsv_cost(res->has_cost, per_request(res, res->cost.switches));
                tsv_cost(sys, per_request(res, res->cost.syscalls));
                putchar('\n');
        }
}

int report(const struct options *o, const struct results *res)
{
        int r = 0;

        if (o->output == OUTPUT_JSON)
                r = report_json(o, res);
        else if (o->output == OUTPUT_TSV)
                report_tsv(o, res);
        else
                report_normal(o, res);
        if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
                r = err_note(-EIO, "cannot write the results");
        return r;
}
