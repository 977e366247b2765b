/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One family of metrics after the other, each with the samples of all disks, as the format wants it. So all disks are
 * looked at first, and then written out from that picture.
 */
#include "vdiskd/metrics/metrics_text.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/range.h"
#include "config.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/scsi_host.h"
#include "vdiskd/metrics/disk_stats.h"
#include "vdiskd/disks/node.h"
#include "vhost_user_scsi/controller.h"

struct picture {
        struct disk_stats *disk;
        size_t ndisks;
        FILE *out;
};

/* --- lines -------------------------------------------------------------------------------------------------------- */

static void family(FILE *out, const char *name, const char *type, const char *help)
{
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line feed are escaped. */
static void put_value(FILE *out, const char *text)
{
        for (; *text; text++) {
                if (*text == '\\' || *text == '"')
                        fputc('\\', out);
                if (*text == '\n')
                        fputs("\\n", out);
                else
                        fputc(*text, out);
        }
}

/* NAME{disk="..." without the closing brace. */
static void begin(FILE *out, const char *name, const struct disk_stats *s)
{
        fprintf(out, "%s{disk=\"", name);
        put_value(out, s->disk);
        fputc('"', out);
}

static void end_number(FILE *out, uint64_t n)
{
        fprintf(out, "} %" PRIu64 "\n", n);
}

static void end_seconds(FILE *out, uint64_t ns)
{
        fprintf(out, "} %" PRIu64 ".%09" PRIu64 "\n", (uint64_t)(ns / NS_PER_SEC), (uint64_t)(ns % NS_PER_SEC));
}

static void single(FILE *out, const char *name, const char *type, const char *help, double value)
{
        family(out, name, type, help);
        fprintf(out, "%s %.17g\n", name, value);
}

/* --- one number a disk -------------------------------------------------------------------------------------------- */

static uint64_t get_size(const struct disk_stats *s)
{
        return s->size;
}
static uint64_t get_allocated(const struct disk_stats *s)
{
        return s->allocated;
}
static uint64_t get_in_flight(const struct disk_stats *s)
{
        return s->now.in_flight;
}
static uint64_t get_held(const struct disk_stats *s)
{
        return s->now.held;
}
static uint64_t get_throttled(const struct disk_stats *s)
{
        return s->now.throttled;
}
static uint64_t get_full(const struct disk_stats *s)
{
        return s->now.full;
}
static uint64_t get_failed(const struct disk_stats *s)
{
        return s->failed;
}
static uint64_t get_depth(const struct disk_stats *s)
{
        return s->depth;
}
static uint64_t get_connected(const struct disk_stats *s)
{
        return s->connected;
}
static uint64_t get_home(const struct disk_stats *s)
{
        uint64_t all = disk_stats_requests(s);

        return all - min_u64(all, s->totals.fast);
}
static uint64_t get_coalesced(const struct disk_stats *s)
{
        return s->totals.flushes_joined;
}
static uint64_t get_copied_up(const struct disk_stats *s)
{
        return s->totals.copied_up;
}
static uint64_t get_hits(const struct disk_stats *s)
{
        return s->totals.lookups - min_u64(s->totals.lookups, s->totals.table_misses);
}
static uint64_t get_misses(const struct disk_stats *s)
{
        return s->totals.table_misses;
}
static bool has_allocated(const struct disk_stats *s)
{
        return s->has_allocated;
}
static bool has_tables(const struct disk_stats *s)
{
        return s->has_tables;
}

static const struct number {
        const char *name, *type, *help;
        uint64_t (*get)(const struct disk_stats *s);
        bool (*has)(const struct disk_stats *s); /* NULL: all have it */
} numbers[] = {
        { "vdiskd_disk_size_bytes", "gauge", "Size of the disk as its guest sees it.", get_size },
        { "vdiskd_disk_allocated_bytes", "gauge", "What the disk's own files take on the host, without backing files.",
          get_allocated, has_allocated },
        { "vdiskd_disk_backing_depth", "gauge", "Backing images behind the disk's image.", get_depth },
        { "vdiskd_disk_sessions_connected", "gauge", "Front ends connected to the disk.", get_connected },
        { "vdiskd_disk_in_flight", "gauge", "Requests that came and are not answered, also those that are held.", get_in_flight },
        { "vdiskd_disk_held", "gauge", "1 while requests wait because the image is being changed.", get_held },
        { "vdiskd_disk_throttled", "gauge", "1 while requests wait for the disk's limits.", get_throttled },
        { "vdiskd_disk_waiting_for_space", "gauge", "Requests that wait for space on the host's disk.", get_full },
        { "vdiskd_disk_failed", "gauge", "1 when nothing can be written any more until the image is opened again.", get_failed },
        { "vdiskd_disk_home_requests_total", "counter",
          "Requests that could not be done at once where they arrived: tables to read or change, flushes.", get_home },
        { "vdiskd_disk_flushes_coalesced_total", "counter", "Flush requests that another flush did as well.", get_coalesced },
        { "vdiskd_disk_copied_up_bytes_total", "counter",
          "Bytes copied because they share a cluster with bytes that a guest wrote.", get_copied_up },
        { "vdiskd_disk_table_cache_hits_total", "counter", "Lookups that found all tables in memory.", get_hits, has_tables },
        { "vdiskd_disk_table_cache_misses_total", "counter", "Lookups that had to wait for a table to be read.", get_misses,
          has_tables },
};

static void put_numbers(const struct picture *p)
{
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                const struct number *n = &numbers[i];

                family(p->out, n->name, n->type, n->help);
                for (size_t d = 0; d < p->ndisks; d++) {
                        if (n->has && !n->has(&p->disk[d]))
                                continue;
                        begin(p->out, n->name, &p->disk[d]);
                        end_number(p->out, n->get(&p->disk[d]));
                }
        }
}

static void put_ages(const struct picture *p)
{
        static const char name[] = "vdiskd_disk_oldest_request_seconds";

        family(p->out, name, "gauge", "How long the first of the requests in flight has waited; 0 without any.");
        for (size_t d = 0; d < p->ndisks; d++) {
                begin(p->out, name, &p->disk[d]);
                end_seconds(p->out, disk_stats_oldest_age(&p->disk[d]));
        }
}

static void put_info(const struct picture *p)
{
        family(p->out, "vdiskd_disk_info", "gauge", "What the disk is; always 1.");
        for (size_t d = 0; d < p->ndisks; d++) {
                begin(p->out, "vdiskd_disk_info", &p->disk[d]);
                fprintf(p->out, ",format=\"%s\",read_only=\"%s\"} 1\n", p->disk[d].format, p->disk[d].read_only ? "true" : "false");
        }
}

/* --- one number an operation -------------------------------------------------------------------------------------- */

static const struct op_number {
        const char *name, *help;
        size_t at; /* in op_totals */
} op_numbers[] = {
        { "vdiskd_disk_requests_total", "Requests that were done, also those that failed.", offsetof(struct op_totals, count) },
        { "vdiskd_disk_bytes_total", "Bytes of requests that succeeded.", offsetof(struct op_totals, bytes) },
        { "vdiskd_disk_errors_total", "Requests that failed.", offsetof(struct op_totals, errors) },
        { "vdiskd_disk_invalid_requests_total", "Requests that no disk could have done: outside it, of a broken length.",
          offsetof(struct op_totals, invalid) },
};

static void put_op_numbers(const struct picture *p)
{
        for (size_t i = 0; i < ARRAY_SIZE(op_numbers); i++) {
                const struct op_number *n = &op_numbers[i];

                family(p->out, n->name, "counter", n->help);
                for (size_t d = 0; d < p->ndisks; d++)
                        for (unsigned op = 0; op < STATS_OPS; op++) {
                                begin(p->out, n->name, &p->disk[d]);
                                fprintf(p->out, ",op=\"%s\"", stats_op_names[op]);
                                end_number(p->out, *(const uint64_t *)((const char *)&p->disk[d].totals.op[op] + n->at));
                        }
        }
}

/* --- histograms --------------------------------------------------------------------------------------------------- */

#define PER_OCTAVE 4u /* stats.h */

/* A boundary every @step buckets: fewer than we have, since each is a time series. The last bucket has no upper end. */
static void put_histogram(FILE *out, const char *name, const struct disk_stats *s, const char *labels,
                          const struct stage_totals *t, unsigned step)
{
        char bucket[96];
        uint64_t seen = 0;

        snprintf(bucket, sizeof(bucket), "%s_bucket", name);
        for (unsigned b = 0; b < STATS_BUCKETS; b++) {
                seen += t->bucket[b];
                if ((b + 1) % step || b + 1 == STATS_BUCKETS)
                        continue;
                begin(out, bucket, s);
                fprintf(out, "%s,le=\"%.12g\"", labels, (double)stats_bucket_end(b) / NS_PER_SEC);
                end_number(out, seen);
        }
        begin(out, bucket, s);
        fprintf(out, "%s,le=\"+Inf\"", labels);
        end_number(out, seen);
        snprintf(bucket, sizeof(bucket), "%s_sum", name);
        begin(out, bucket, s);
        fputs(labels, out);
        end_seconds(out, t->total_ns);
        snprintf(bucket, sizeof(bucket), "%s_count", name);
        begin(out, bucket, s);
        fputs(labels, out);
        end_number(out, seen);
}

/* Operations that the disk was never asked for have no histograms. */
static void put_durations(const struct picture *p)
{
        static const char name[] = "vdiskd_disk_request_duration_seconds";
        char labels[64];

        family(p->out, name, "histogram", "From a request's arrival until the guest is told of its end.");
        for (size_t d = 0; d < p->ndisks; d++)
                for (unsigned op = 0; op < STATS_OPS; op++) {
                        snprintf(labels, sizeof(labels), ",op=\"%s\"", stats_op_names[op]);
                        if (p->disk[d].totals.op[op].count)
                                put_histogram(p->out, name, &p->disk[d], labels,
                                              &p->disk[d].totals.op[op].stage[STAGE_TOTAL], PER_OCTAVE);
                }
}

static void put_stages(const struct picture *p)
{
        static const char name[] = "vdiskd_disk_stage_duration_seconds";
        char labels[64];

        family(p->out, name, "histogram",
               "Where requests spend their time: queue (not begun), map (lookups and tables), turn (behind others of the disk), disk, notify "
               "(done, to be told).");
        for (size_t d = 0; d < p->ndisks; d++)
                for (unsigned op = 0; op < STATS_OPS; op++)
                        for (unsigned stage = 0; stage < STAGE_TOTAL && p->disk[d].totals.op[op].count; stage++) {
                                snprintf(labels, sizeof(labels), ",op=\"%s\",stage=\"%s\"", stats_op_names[op],
                                         stats_stage_names[stage]);
                                put_histogram(p->out, name, &p->disk[d], labels, &p->disk[d].totals.op[op].stage[stage],
                                              2 * PER_OCTAVE);
                        }
}

/* --- the daemon --------------------------------------------------------------------------------------------------- */

static void put_threads(FILE *out, const struct disks *d)
{
        struct qthread_times *t = calloc(d->nthreads, sizeof(*t));

        if (!t)
                return;
        for (unsigned i = 0; i < d->nthreads; i++)
                qthread_times(d->threads[i], &t[i]);
        family(out, "vdiskd_thread_seconds_total", "counter", "Time of queue threads: asleep, or at work (and looking for it).");
        for (unsigned i = 0; i < d->nthreads; i++) {
                fprintf(out, "vdiskd_thread_seconds_total{thread=\"%s\",state=\"idle\"", qthread_name(d->threads[i]));
                end_seconds(out, t[i].idle_ns);
                fprintf(out, "vdiskd_thread_seconds_total{thread=\"%s\",state=\"busy\"", qthread_name(d->threads[i]));
                end_seconds(out, t[i].busy_ns);
        }
        family(out, "vdiskd_thread_cpu_seconds_total", "counter", "CPU time of queue threads.");
        for (unsigned i = 0; i < d->nthreads; i++) {
                fprintf(out, "vdiskd_thread_cpu_seconds_total{thread=\"%s\"", qthread_name(d->threads[i]));
                end_seconds(out, t[i].cpu_ns);
        }
        free(t);
}

static double seconds_of(const struct timeval *tv)
{
        return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

/* What the process is asked about, kept open: in its sandbox it opens nothing. */
static DIR *fds;
static FILE *statm;

void metrics_prepare(void)
{
        if (!fds)
                fds = opendir("/proc/self/fd");
        if (!statm)
                statm = fopen("/proc/self/statm", "re");
        if (statm)
                setvbuf(statm, NULL, _IONBF, 0);
}

void metrics_finish(void)
{
        if (fds)
                closedir(TAKE(fds, NULL));
        if (statm)
                fclose(TAKE(statm, NULL));
}

static unsigned count_fds(void)
{
        unsigned n = 0;

        if (!fds)
                return 0;
        rewinddir(fds);
        while (readdir(fds))
                n++;
        return n - 2; /* "." and ".." */
}

/* The names that other exporters use, too. */
static void put_process(FILE *out, const struct metrics_start *start)
{
        unsigned long size, resident;
        struct rusage ru;
        struct rlimit lim;

        metrics_prepare();
        if (statm)
                rewind(statm);
        getrusage(RUSAGE_SELF, &ru);
        single(out, "process_cpu_seconds_total", "counter", "CPU time of the process.",
               seconds_of(&ru.ru_utime) + seconds_of(&ru.ru_stime));
        single(out, "process_start_time_seconds", "gauge", "When the process started, since the epoch.", start->wall);
        if (statm && fscanf(statm, "%lu %lu", &size, &resident) == 2) {
                single(out, "process_virtual_memory_bytes", "gauge", "Address space in use.",
                       (double)size * (double)sysconf(_SC_PAGESIZE));
                single(out, "process_resident_memory_bytes", "gauge", "Memory in use, guests' memory included where it is mapped.",
                       (double)resident * (double)sysconf(_SC_PAGESIZE));
        }
        single(out, "process_open_fds", "gauge", "Open file descriptors.", count_fds());
        if (getrlimit(RLIMIT_NOFILE, &lim) == 0)
                single(out, "process_max_fds", "gauge", "Most file descriptors that may be open.", (double)lim.rlim_cur);
}

static void put_daemon(const struct picture *p, const struct disks *d, const struct metrics_start *start)
{
        unsigned exports = 0, connected = 0;

        list_for_each(l, &d->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                exports++;
                connected += !x->host && block_export_in_use(x);
        }
        list_for_each(l, &d->scsi_hosts) { /* one front end, however many disks */
                const struct scsi_host *h = list_entry(l, struct scsi_host, link);

                connected += h->controller && scsi_controller_in_use(h->controller);
        }
        family(p->out, "vdiskd_build_info", "gauge", "The program; always 1.");
        fprintf(p->out, "vdiskd_build_info{version=\"%s\"} 1\n", VDISKD_VERSION);
        single(p->out, "vdiskd_uptime_seconds", "gauge", "Since the daemon started.",
               (double)(clock_ns() - start->ns) / NS_PER_SEC);
        single(p->out, "vdiskd_disks", "gauge", "Open disks.", (double)p->ndisks);
        single(p->out, "vdiskd_exports", "gauge", "Disks as they are offered: those of their own, and units of SCSI controllers.", exports);
        single(p->out, "vdiskd_sessions_connected", "gauge", "Front ends connected.", connected);
        put_threads(p->out, d);
        put_process(p->out, start);
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static int look(struct disks *d, struct picture *p)
{
        p->disk = calloc(disks_open(d) + 1, sizeof(*p->disk));
        if (!p->disk)
                return -1;
        list_for_each(l, &d->nodes)
                p->ndisks += disk_stats_get(list_entry(l, struct node, link), &p->disk[p->ndisks]);
        return 0;
}

char *metrics_text(struct disks *d, const struct metrics_start *start, size_t *len)
{
        struct picture p = { 0 };
        char *text = NULL;

        p.out = open_memstream(&text, len);
        if (!p.out)
                return NULL;
        if (look(d, &p) == 0) {
                put_daemon(&p, d, start);
                put_info(&p);
                put_numbers(&p);
                put_ages(&p);
                put_op_numbers(&p);
                put_durations(&p);
                put_stages(&p);
        }
        if (fclose(p.out) != 0 || !p.disk)
                free(TAKE(text, NULL));
        free(p.disk);
        return text;
}
