/* SPDX-License-Identifier: BSD-3-Clause */
/* options.h - what the command line asks for, in fio's words. Bytes and nanoseconds unless a name says otherwise. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum output { OUTPUT_NORMAL, OUTPUT_JSON, OUTPUT_TSV };
enum reconnect { RECONNECT_NO, RECONNECT_CLEAN, RECONNECT_CRASH };

struct options {
        const char *socket;
        pid_t pid;                  /* the back end's, to count its cost; 0: not asked */

        const char *rw;             /* as written */
        bool random, trim;
        unsigned read_percent;      /* of reads and writes */
        unsigned zeroes_percent;    /* of the writes, sent as WRITE_ZEROES */
        uint32_t bs_min, bs_max;    /* bytes, multiples of bs_min between them */
        uint32_t align;             /* offsets and, when verifying, table units */
        double zipf_theta;          /* 0: every block alike */

        unsigned iodepth, numjobs;
        uint64_t runtime_ns, number_ios; /* 0: no such limit */
        uint64_t offset, size;      /* size 0: up to the end of the disk */
        unsigned fsync;             /* a flush after that many writes; 0: none */

        bool verify, verify_only, fresh;
        const char *verify_state;   /* file, or NULL */
        uint64_t randseed;

        bool poll, packed, indirect, event_idx;
        enum reconnect reconnect;
        unsigned timeout_s;         /* for an answer, and for a back end to come back */
        enum output output;
};

/* 0; 1 when help or version was printed; or -EINVAL with a sentence. */
int options_parse(int argc, char **argv, struct options *o);
