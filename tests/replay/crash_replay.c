/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_replay.c - power cuts, by the thousand, in memory.
 *
 *   crash_replay [--states N] [--length L] [--per-cut N] [--seed S] [--kind NAME] [--sequence LETTERS] [--qemu-every N]
 *
 * For each kind of image all sequences of up to L operations are run, then long ones by chance, straight on the driver and
 * through blkq, until N states in all have been looked at. A state is one that a power cut could leave; it is opened, checked,
 * read and compared with what the guest was promised, now and then also written to, repaired, and shown to qemu-img.
 * docs/CRASH-REPLAY.md has the whole story. Exit status 1 with one line that repeats it when a promise is broken.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/range.h"
#include "config.h"
#include "world.h"

#define MAX_LENGTH 6u
#define LONG_CUTS 10u /* of a long recording */
#define MIN_LOADS 4u  /* of each kind */

static struct {
        uint64_t states, seed, qemu_every;
        unsigned length, per_cut;
        const char *kind, *sequence;
} opt = { .states = 20000, .qemu_every = 1000, .length = 3, .per_cut = 8 };

struct figures {
        uint64_t sequences, loads, states, qemu, repaired, gone_on, max_open;
};

/* --- one kind ---------------------------------------------------------------------------------------------------------------- */

static void run_sequence(struct world *w, struct states *s, const char *letters)
{
        uint64_t began = 0;

        snprintf(w->what, sizeof(w->what), "sequence '%s'", letters);
        load_sequence(w, letters, &began);
        states_explore(s, w, began);
        world_rewind(w);
}

/* All of exactly @length. */
static uint64_t run_sequences(struct world *w, struct states *s, unsigned length)
{
        const unsigned n = (unsigned)strlen(load_letters);
        char letters[MAX_LENGTH + 1] = "";
        uint64_t all = 1, done = 0;

        for (unsigned i = 0; i < length; i++)
                all *= n;
        for (uint64_t number = 0; number < all; number++) {
                uint64_t rest = number;
                bool can = true;

                for (unsigned i = 0; i < length; i++, rest /= n) {
                        letters[i] = load_letters[rest % n];
                        can &= load_can(w, letters[i]);
                }
                if (!can)
                        continue;
                rnd(&w->rnd);
                run_sequence(w, s, letters);
                done++;
        }
        return done;
}

static void run_by_chance(struct world *w, struct states *s, uint64_t number)
{
        unsigned ops = 30 + (unsigned)rnd_below(&w->rnd, 90);

        s->cuts = LONG_CUTS;
        if (number % 2) {
                snprintf(w->what, sizeof(w->what), "load %" PRIu64 " through blkq", number);
                load_volume(w, ops);
        } else {
                snprintf(w->what, sizeof(w->what), "load %" PRIu64, number);
                load_random(w, ops);
        }
        states_explore(s, w, 0);
        world_rewind(w);
        s->cuts = 0;
}

static void run_kind(const struct kind *k, uint64_t budget, struct figures *sum)
{
        struct figures f = { 0 };
        struct states s;
        struct world w;
        uint64_t seed = opt.seed ^ (uint64_t)(k - kinds + 1) * 0x9e3779b97f4a7c15ull;
        clock_t began = clock();

        world_init(&w, k, seed ? seed : 1);
        states_init(&s, &w, seed ? seed : 1);
        s.per_cut = opt.per_cut;
        s.qemu_every = (unsigned)opt.qemu_every;
        if (opt.sequence)
                run_sequence(&w, &s, opt.sequence);
        for (unsigned length = 1; !opt.sequence && length <= opt.length; length++)
                f.sequences += run_sequences(&w, &s, length);
        for (; !opt.sequence && (s.n < budget || f.loads < MIN_LOADS); f.loads++)
                run_by_chance(&w, &s, f.loads);
        printf("%-26s %8" PRIu64 " states, %6" PRIu64 " sequences, %5" PRIu64 " loads, at most %3" PRIu64
               " events open, %4" PRIu64 " by qemu-img, %.1f s\n", k->name, s.n, f.sequences, f.loads, s.max_open, s.qemu,
               (double)(clock() - began) / CLOCKS_PER_SEC);
        fflush(stdout);
        sum->sequences += f.sequences;
        sum->loads += f.loads;
        sum->states += s.n;
        sum->qemu += s.qemu;
        sum->repaired += s.repaired;
        sum->gone_on += s.gone_on;
        states_finish(&s);
        world_finish(&w);
}

/* --- all ---------------------------------------------------------------------------------------------------------------------- */

static bool is_wanted(const struct kind *k)
{
        return (HAVE_CRYPTO || !k->encrypted) && (!opt.kind || !strcmp(opt.kind, k->name));
}

static unsigned share_of(const struct kind *k)
{
        return k->share ? k->share : 1;
}

static void usage(void)
{
        fputs("usage: crash_replay [--states N] [--length L] [--per-cut N] [--seed S] [--kind NAME] [--sequence LETTERS]\n"
              "                    [--qemu-every N]\nkinds:", stderr);
        for (unsigned i = 0; i < nkinds; i++)
                fprintf(stderr, " %s", kinds[i].name);
        fprintf(stderr, "\nletters: s small write, l large write, o overwrite, z write zeroes, d discard, f flush, n snapshot,"
                " r resize,\n         c close and open again, p compressed write\n");
        exit(2);
}

static void parse(int argc, char **argv)
{
        static const struct option longs[] = {
                { "states", 1, NULL, 'n' }, { "length", 1, NULL, 'l' }, { "per-cut", 1, NULL, 'c' }, { "seed", 1, NULL, 's' },
                { "kind", 1, NULL, 'k' }, { "sequence", 1, NULL, 'q' }, { "qemu-every", 1, NULL, 'e' }, { 0 },
        };
        int c;

        while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
                uint64_t n = optarg ? strtoull(optarg, NULL, 10) : 0;

                switch (c) {
                case 'n': opt.states = n; break;
                case 'l': opt.length = (unsigned)n; break;
                case 'c': opt.per_cut = (unsigned)n; break;
                case 's': opt.seed = n; break;
                case 'k': opt.kind = optarg; break;
                case 'q': opt.sequence = optarg; break;
                case 'e': opt.qemu_every = n; break;
                default: usage();
                }
        }
        if (optind < argc || opt.length > MAX_LENGTH || !opt.per_cut)
                usage();
        for (const char *p = opt.sequence; p && *p; p++)
                if (!strchr(load_letters, *p))
                        usage();
}

int main(int argc, char **argv)
{
        struct figures sum = { 0 };
        uint64_t shares = 0;
        static char again[200];

        parse(argc, argv);
        if (!opt.seed)
                opt.seed = test_seed();
        snprintf(again, sizeof(again), "crash_replay --seed %" PRIu64 " --states %" PRIu64 " --length %u --per-cut %u", opt.seed,
                 opt.states, opt.length, opt.per_cut);
        repeat_with = again;
        printf("%s\n", again);
        for (unsigned i = 0; i < nkinds; i++)
                shares += is_wanted(&kinds[i]) ? share_of(&kinds[i]) : 0;
        if (!shares)
                usage();
        for (unsigned i = 0; i < nkinds; i++)
                if (is_wanted(&kinds[i]))
                        run_kind(&kinds[i], opt.states * share_of(&kinds[i]) / shares, &sum);
        printf("%" PRIu64 " crash states of %" PRIu64 " sequences and %" PRIu64 " loads: every promise kept; %" PRIu64
               " written on, %" PRIu64 " repaired, %" PRIu64 " checked by qemu-img\n", sum.states, sum.sequences, sum.loads,
               sum.gone_on, sum.repaired, sum.qemu);
        return 0;
}
