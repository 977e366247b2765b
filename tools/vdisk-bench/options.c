/* SPDX-License-Identifier: BSD-3-Clause */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"

#define DEPTH_MAX 1024
#define JOBS_MAX 256
#define BS_MAX (64u << 20)

static const char usage[] =
        "Usage: vdisk-bench --socket=PATH [OPTION]...\n"
        "Loads a vhost-user-blk back end as a guest would, without a guest. Options have fio's names.\n"
        "\n"
        "  --rw=read|write|randread|randwrite|rw|randrw|trim|randtrim   (read)\n"
        "  --bs=SIZE, --bsrange=MIN-MAX, --ba=SIZE   request size (4k), alignment of offsets\n"
        "  --iodepth=N, --numjobs=N       requests in flight a job (1); jobs, one queue and one thread each (1)\n"
        "  --runtime=SECONDS, --number_ios=N   stop after that; without both, after size bytes\n"
        "  --offset=SIZE, --size=SIZE     the part of the disk to use (all)\n"
        "  --fsync=N                      a flush after every N writes of a job\n"
        "  --rwmixread=PERCENT            reads in rw and randrw (50)\n"
        "  --write-zeroes=PERCENT         writes sent as WRITE_ZEROES (0)\n"
        "  --random_distribution=random|zipf:THETA\n"
        "  --randseed=N\n"
        "  --verify=pattern               write stamped blocks, compare what is read, and all of it at the end\n"
        "  --fresh                        with verify: what was never written reads as zeros\n"
        "  --verify-state=FILE            load (if there) and save what was written\n"
        "  --verify_only                  compare only, with the state of an earlier run\n"
        "  --poll                         spin on the used ring instead of sleeping on the call eventfd\n"
        "  --packed                       packed rings\n"
        "  --indirect=0, --event-idx=0    leave that ring feature out\n"
        "  --reconnect[=clean|crash]      survive a restart of the back end; crash: unflushed writes may be lost\n"
        "  --timeout=SECONDS              for an answer, and for the back end to come back (30)\n"
        "  --pid=N                        add the back end's CPU time, system calls and switches an I/O\n"
        "  --output-format=normal|json|tsv\n"
        "  --help, --version\n";

enum opt {
        OPT_SOCKET = 256, OPT_PID, OPT_RW, OPT_BS, OPT_BSRANGE, OPT_BA, OPT_IODEPTH, OPT_NUMJOBS, OPT_RUNTIME,
        OPT_NUMBER_IOS, OPT_SIZE, OPT_OFFSET, OPT_FSYNC, OPT_MIX, OPT_ZEROES, OPT_DIST, OPT_SEED, OPT_VERIFY,
        OPT_VERIFY_ONLY, OPT_FRESH, OPT_STATE, OPT_POLL, OPT_PACKED, OPT_INDIRECT, OPT_EVENT_IDX, OPT_RECONNECT, OPT_TIMEOUT,
        OPT_OUTPUT, OPT_HELP, OPT_VERSION,
};

static const struct option longs[] = {
        { "socket", required_argument, NULL, OPT_SOCKET }, { "pid", required_argument, NULL, OPT_PID },
        { "rw", required_argument, NULL, OPT_RW }, { "readwrite", required_argument, NULL, OPT_RW },
        { "bs", required_argument, NULL, OPT_BS }, { "blocksize", required_argument, NULL, OPT_BS },
        { "bsrange", required_argument, NULL, OPT_BSRANGE },
        { "ba", required_argument, NULL, OPT_BA }, { "blockalign", required_argument, NULL, OPT_BA },
        { "iodepth", required_argument, NULL, OPT_IODEPTH }, { "numjobs", required_argument, NULL, OPT_NUMJOBS },
        { "runtime", required_argument, NULL, OPT_RUNTIME }, { "number_ios", required_argument, NULL, OPT_NUMBER_IOS },
        { "size", required_argument, NULL, OPT_SIZE }, { "offset", required_argument, NULL, OPT_OFFSET },
        { "fsync", required_argument, NULL, OPT_FSYNC }, { "rwmixread", required_argument, NULL, OPT_MIX },
        { "write-zeroes", required_argument, NULL, OPT_ZEROES },
        { "random_distribution", required_argument, NULL, OPT_DIST },
        { "randseed", required_argument, NULL, OPT_SEED }, { "verify", required_argument, NULL, OPT_VERIFY },
        { "verify_only", no_argument, NULL, OPT_VERIFY_ONLY }, { "fresh", no_argument, NULL, OPT_FRESH },
        { "verify-state", required_argument, NULL, OPT_STATE }, { "poll", no_argument, NULL, OPT_POLL },
        { "packed", no_argument, NULL, OPT_PACKED },
        { "indirect", required_argument, NULL, OPT_INDIRECT }, { "event-idx", required_argument, NULL, OPT_EVENT_IDX },
        { "reconnect", optional_argument, NULL, OPT_RECONNECT }, { "timeout", required_argument, NULL, OPT_TIMEOUT },
        { "output-format", required_argument, NULL, OPT_OUTPUT },
        { "help", no_argument, NULL, OPT_HELP }, { "version", no_argument, NULL, OPT_VERSION },
        { NULL },
};

static const struct { const char *name; bool random, trim; int read_percent; } workloads[] = {
        { "read", false, false, 100 }, { "randread", true, false, 100 }, { "write", false, false, 0 },
        { "randwrite", true, false, 0 }, { "rw", false, false, -1 }, { "readwrite", false, false, -1 },
        { "randrw", true, false, -1 }, { "trim", false, true, 0 }, { "randtrim", true, true, 0 },
};

static int parse_number(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
        char *end;

        errno = 0;
        *ret = strtoull(text, &end, 10);
        if (errno || end == text || *end || *text == '-' || *ret < min || *ret > max)
                return err_note(-EINVAL, "--%s=%s: give a number from %llu to %llu", what, text,
                                (unsigned long long)min, (unsigned long long)max);
        return 0;
}

static int parse_unsigned(const char *what, const char *text, unsigned min, unsigned max, unsigned *ret)
{
        uint64_t n;
        int r = parse_number(what, text, min, max, &n);

        if (r == 0)
                *ret = (unsigned)n;
        return r;
}

static int parse_bool(const char *what, const char *text, bool *ret)
{
        unsigned n;
        int r = parse_unsigned(what, text, 0, 1, &n);

        if (r == 0)
                *ret = n;
        return r;
}

static int parse_size(const char *what, const char *text, uint64_t *ret)
{
        int r = size_parse(text, ret);

        return r < 0 ? err_prefix(r, "--%s: ", what) : 0;
}

/* A request size: a multiple of a sector. */
static int parse_block(const char *what, const char *text, uint32_t *ret)
{
        uint64_t n;
        int r = parse_size(what, text, &n);

        if (r == 0 && (n == 0 || n % 512 || n > BS_MAX))
                r = err_note(-EINVAL, "--%s=%s: give a multiple of 512 up to 64M", what, text);
        if (r == 0)
                *ret = (uint32_t)n;
        return r;
}

static int parse_range(const char *text, struct options *o)
{
        const char *dash = strchr(text, '-');
        AUTO(freep) char *min = dash ? strndup(text, (size_t)(dash - text)) : NULL;
        int r;

        if (!min)
                return err_note(-EINVAL, "--bsrange=%s: give two sizes, such as 4k-64k", text);
        r = parse_block("bsrange", min, &o->bs_min);
        if (r == 0)
                r = parse_block("bsrange", dash + 1, &o->bs_max);
        if (r == 0 && (o->bs_max < o->bs_min || o->bs_max % o->bs_min))
                r = err_note(-EINVAL, "--bsrange=%s: the second size must be a multiple of the first", text);
        return r;
}

static int parse_rw(const char *text, struct options *o, int *read_percent)
{
        for (unsigned i = 0; i < ARRAY_SIZE(workloads); i++) {
                if (strcmp(text, workloads[i].name) != 0)
                        continue;
                o->rw = workloads[i].name;
                o->random = workloads[i].random;
                o->trim = workloads[i].trim;
                *read_percent = workloads[i].read_percent;
                return 0;
        }
        return err_note(-EINVAL, "--rw=%s: give read, write, randread, randwrite, rw, randrw, trim or randtrim", text);
}

static int parse_runtime(const char *text, uint64_t *ret)
{
        char *end;
        double s = strtod(text, &end);

        if (end == text || (*end && strcmp(end, "s") != 0) || !(s > 0) || s > 1e6)
                return err_note(-EINVAL, "--runtime=%s: give seconds, such as 10 or 0.5", text);
        *ret = (uint64_t)(s * NS_PER_SEC);
        return 0;
}

static int parse_distribution(const char *text, double *theta)
{
        char *end;

        *theta = 0;
        if (strcmp(text, "random") == 0)
                return 0;
        if (strncmp(text, "zipf:", 5) == 0) {
                *theta = strtod(text + 5, &end);
                if (end != text + 5 && !*end && *theta > 0 && *theta < 5 && *theta != 1)
                        return 0;
        }
        return err_note(-EINVAL, "--random_distribution=%s: give random, or zipf:THETA with 0 < THETA < 5, not 1", text);
}

static int parse_reconnect(const char *text, enum reconnect *ret)
{
        if (!text || strcmp(text, "clean") == 0)
                *ret = RECONNECT_CLEAN;
        else if (strcmp(text, "crash") == 0)
                *ret = RECONNECT_CRASH;
        else
                return err_note(-EINVAL, "--reconnect=%s: give clean or crash", text);
        return 0;
}

static int parse_output(const char *text, enum output *ret)
{
        static const char *const names[] = { "normal", "json", "tsv" };

        for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
                if (strcmp(text, names[i]) == 0) {
                        *ret = (enum output)i;
                        return 0;
                }
        }
        return err_note(-EINVAL, "--output-format=%s: give normal, json or tsv", text);
}

static int parse_verify(const char *text)
{
        if (strcmp(text, "pattern") == 0)
                return 0;
        return err_note(-EINVAL, "--verify=%s: the only kind is pattern", text);
}

static int parse_how(int c, const char *arg, struct options *o)
{
        uint64_t n;
        int r;

        switch (c) {
        case OPT_SOCKET: o->socket = arg; return 0;
        case OPT_PID:
                r = parse_number("pid", arg, 1, INT_MAX, &n);
                o->pid = (pid_t)n;
                return r;
        case OPT_FRESH: o->fresh = true; return 0;
        case OPT_STATE: o->verify_state = arg; return 0;
        case OPT_VERIFY_ONLY: o->verify_only = o->verify = true; return 0;
        case OPT_VERIFY: o->verify = true; return parse_verify(arg);
        case OPT_POLL: o->poll = true; return 0;
        case OPT_PACKED: o->packed = true; return 0;
        case OPT_INDIRECT: return parse_bool("indirect", arg, &o->indirect);
        case OPT_EVENT_IDX: return parse_bool("event-idx", arg, &o->event_idx);
        case OPT_RECONNECT: return parse_reconnect(arg, &o->reconnect);
        case OPT_TIMEOUT: return parse_unsigned("timeout", arg, 1, 86400, &o->timeout_s);
        case OPT_OUTPUT: return parse_output(arg, &o->output);
        default: return err_note(-EINVAL, "unknown option; vdisk-bench --help lists what there is");
        }
}

static int parse_load(int c, const char *arg, struct options *o, int *workload_reads, unsigned *mix)
{
        int r;

        switch (c) {
        case OPT_RW: return parse_rw(arg, o, workload_reads);
        case OPT_BS:
                r = parse_block("bs", arg, &o->bs_min);
                o->bs_max = o->bs_min;
                return r;
        case OPT_BSRANGE: return parse_range(arg, o);
        case OPT_BA: return parse_block("ba", arg, &o->align);
        case OPT_IODEPTH: return parse_unsigned("iodepth", arg, 1, DEPTH_MAX, &o->iodepth);
        case OPT_NUMJOBS: return parse_unsigned("numjobs", arg, 1, JOBS_MAX, &o->numjobs);
        case OPT_RUNTIME: return parse_runtime(arg, &o->runtime_ns);
        case OPT_NUMBER_IOS: return parse_number("number_ios", arg, 1, UINT64_MAX / 2, &o->number_ios);
        case OPT_SIZE: return parse_size("size", arg, &o->size);
        case OPT_OFFSET: return parse_size("offset", arg, &o->offset);
        case OPT_FSYNC: return parse_unsigned("fsync", arg, 0, UINT_MAX, &o->fsync);
        case OPT_MIX: return parse_unsigned("rwmixread", arg, 0, 100, mix);
        case OPT_ZEROES: return parse_unsigned("write-zeroes", arg, 0, 100, &o->zeroes_percent);
        case OPT_DIST: return parse_distribution(arg, &o->zipf_theta);
        case OPT_SEED: return parse_number("randseed", arg, 0, UINT64_MAX, &o->randseed);
        default: return parse_how(c, arg, o);
        }
}

static int check_together(struct options *o)
{
        if (!o->socket)
                return err_note(-EINVAL, "--socket=PATH is missing: which back end?");
        if (!o->align)
                o->align = o->bs_min;
        if (o->verify && o->bs_min % o->align)
                return err_note(-EINVAL, "with verify, bs must be a multiple of ba");
        if (o->bs_min < o->align)
                return err_note(-EINVAL, "--ba=%u is more than the smallest request has (%u bytes)", o->align, o->bs_min);
        if (o->offset % o->align)
                return err_note(-EINVAL, "--offset=%llu is not a multiple of %u", (unsigned long long)o->offset,
                                o->align);
        if (!o->verify && (o->fresh || o->verify_state))
                return err_note(-EINVAL, "--fresh and --verify-state mean something only with --verify=pattern");
        if (o->verify_only && !o->verify_state)
                return err_note(-EINVAL, "--verify_only needs --verify-state=FILE of the run that wrote");
        if (o->zipf_theta > 0 && !o->random)
                return err_note(-EINVAL, "--random_distribution is for random workloads, not --rw=%s", o->rw);
        return 0;
}

int options_parse(int argc, char **argv, struct options *o)
{
        int c, r = 0, workload_reads = 100;
        unsigned mix = 50;

        *o = (struct options){ .rw = "read", .bs_min = 4096, .bs_max = 4096, .iodepth = 1, .numjobs = 1,
                               .indirect = true, .event_idx = true, .timeout_s = 30, .randseed = 1 };
        opterr = 0;
        while (r == 0 && (c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
                if (c == OPT_HELP || c == OPT_VERSION)
                        return printf("%s", c == OPT_HELP ? usage : "vdisk-bench " VDISKD_VERSION "\n") < 0 ? -EIO : 1;
                if (c == '?')
                        return err_note(-EINVAL, "%s: no such option, or its value is missing; vdisk-bench --help "
                                        "lists what there is", argv[optind - 1]);
                r = parse_load(c, optarg, o, &workload_reads, &mix);
        }
        if (r == 0 && optind < argc)
                return err_note(-EINVAL, "%s: not an option; vdisk-bench --help lists what there is", argv[optind]);
        o->read_percent = workload_reads < 0 ? mix : (unsigned)workload_reads;
        return r < 0 ? r : check_together(o);
}
