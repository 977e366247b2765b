/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault_loop.c - every allocation, file operation, mmap, socket call, thread and ring submission of whole programs fails
 * once, and then for ever, at each place where it happens.
 *
 *   fault_loop --tool VDISK-IMG --daemon VDISKD --preload MODULE [--runs N] [--seed S] [--scenario NAME] [--at KIND:N[:forever]]
 *   fault_loop --list        the scenarios' names
 *
 * Without --runs: all. With it a sample of N, spread over all scenarios and kinds. No crash, no leak (in a build with the
 * address sanitizer), no descriptor left, no success that is not one, and the image clean: else exit status 1, with a line
 * that repeats the run.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "scene.h"
#include "tests/lib/tmp_image.h"

#define HANG_S 240 /* stuck for so long is stuck for ever, also on a slow machine */
#define MAX_BUGS 12
#define MAX_RUNS 200000

struct run {
        const struct scenario *scenario;
        struct fault fault;
        char kind[16];
};
static struct run *runs;
static size_t nruns;
static uint64_t seed;
static unsigned long wanted;
static const char *only, *at_text;
static unsigned bugs;
static char first_bug[512]; /* what, and how to see it again */
static char dir[TMP_PATH_MAX];

static void on_alarm(int sig)
{
        (void)sig;
        bug("hangs: %s", doing);
}

static void in_child(const struct run *r)
{
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_CHILD_SUBREAPER, 1); /* a daemon that took over is ours to wait for */
        signal(SIGPIPE, SIG_IGN);
        signal(SIGALRM, on_alarm);
        alarm(HANG_S);
        if (chdir(dir) < 0)
                _exit(2);
        fault = r->fault;
        fault.kind = r->kind;
        r->scenario->run();
        _exit(0);
}

/* Whoever is left of a run that ended early has become our child, or will when its parent ends. */
static void end_orphans(void)
{
        char path[64];
        int pid;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
        do {
                f = fopen(path, "r");
                while (f && fscanf(f, "%d", &pid) == 1)
                        kill(pid, SIGKILL);
                if (f)
                        fclose(f);
        } while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
}

/* Where only the last line is seen, it has to say enough. */
static void note_bug(const struct run *r, int st)
{
        char path[TMP_PATH_MAX + 8], text[300] = "";
        FILE *f;

        snprintf(path, sizeof(path), "%s/bug", dir);
        f = fopen(path, "r");
        if (!f || !fgets(text, sizeof(text), f))
                snprintf(text, sizeof(text), "the scenario ended with status %#x\n", (unsigned)st);
        if (f)
                fclose(f);
        text[strcspn(text, "\n")] = '\0';
        if (!bugs++)
                snprintf(first_bug, sizeof(first_bug), "%s (--scenario %s --at %s:%lu%s)", text, r->scenario->name, r->kind,
                         r->fault.at, r->fault.forever ? ":forever" : "");
        fprintf(stderr, "BUG: repeat with: fault_loop --scenario %s --at %s:%lu%s\n", r->scenario->name, r->kind, r->fault.at,
                r->fault.forever ? ":forever" : "");
}

static bool run_one(const struct run *r)
{
        pid_t pid;
        int st;

        uint64_t began = clock_ns();

        run_cmd("rm -rf '%s'; mkdir '%s'", dir, dir);
        fflush(NULL);
        pid = fork();
        if (pid == 0)
                in_child(r);
        while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
                ;
        end_orphans();
        if (getenv("FAULT_LOOP_SLOW") && clock_ns() - began > NS_PER_SEC)
                fprintf(stderr, "%.1f s: --scenario %s --at %s:%lu%s\n", (double)(clock_ns() - began) / NS_PER_SEC,
                        r->scenario->name, r->kind, r->fault.at, r->fault.forever ? ":forever" : "");
        if (WIFEXITED(st) && WEXITSTATUS(st) == 0)
                return true;
        note_bug(r, st);
        return false;
}

/* How often does each kind happen? */
static void count(const struct scenario *s)
{
        struct run r = { .scenario = s, .kind = "malloc" };
        char path[TMP_PATH_MAX + 16], kind[16];
        unsigned long n;
        FILE *f;

        if (!run_one(&r)) {
                fprintf(stderr, "scenario %s does not work without a fault: %s\n", s->name, first_bug);
                exit(1);
        }
        snprintf(path, sizeof(path), "%s/report", dir);
        f = fopen(path, "r");
        while (f && fscanf(f, "%15s %lu", kind, &n) == 2)
                for (unsigned long i = 1; strcmp(kind, "fds") && i <= n && nruns + 2 < MAX_RUNS; i++)
                        for (unsigned forever = 0; forever < 2; forever++) {
                                struct run *one = &runs[nruns++];

                                *one = (struct run){ .scenario = s, .fault = { .at = i, .forever = forever } };
                                memcpy(one->kind, kind, sizeof(kind));
                        }
        if (f)
                fclose(f);
}

static void count_all(const struct scenario *list)
{
        for (; list->name; list++) {
                size_t before = nruns;

                if (only && strcmp(only, list->name))
                        continue;
                count(list);
                printf("%-14s %zu runs\n", list->name, nruns - before);
        }
}

/* In an order by chance, so that a sample is of everything. */
static void shuffle(void)
{
        for (size_t i = nruns; i > 1; i--) {
                size_t k = rnd_below(&seed, i);
                struct run t = runs[i - 1];

                runs[i - 1] = runs[k];
                runs[k] = t;
        }
}

static void run_that(const struct scenario *list)
{
        struct run r = { 0 };

        for (; list->name; list++)
                if (!strcmp(list->name, only))
                        r.scenario = list;
        if (!r.scenario || sscanf(at_text, "%15[a-z]:%lu", r.kind, &r.fault.at) != 2)
                return;
        r.fault.forever = strstr(at_text, ":forever");
        exit(!run_one(&r));
}

static void list_all(void)
{
        for (const struct scenario *s = tool_scenarios; s->name; s++)
                puts(s->name);
        for (const struct scenario *s = daemon_scenarios; s->name; s++)
                puts(s->name);
        exit(0);
}

static void parse(int argc, char **argv)
{
        static const struct option longs[] = {
                { "tool", 1, NULL, 't' }, { "daemon", 1, NULL, 'd' }, { "preload", 1, NULL, 'p' }, { "runs", 1, NULL, 'n' },
                { "seed", 1, NULL, 's' }, { "scenario", 1, NULL, 'c' }, { "at", 1, NULL, 'a' }, { "list", 0, NULL, 'l' }, { 0 },
        };
        int c;

        while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0)
                switch (c) {
                case 't': tool_path = realpath(optarg, NULL); break;
                case 'd': daemon_path = realpath(optarg, NULL); break;
                case 'p': preload_path = realpath(optarg, NULL); break;
                case 'n': wanted = strtoul(optarg, NULL, 10); break;
                case 's': seed = strtoull(optarg, NULL, 10); break;
                case 'c': only = optarg; break;
                case 'a': at_text = optarg; break;
                case 'l': list_all(); break;
                default: exit(2);
                }
        if (!tool_path || !daemon_path || !preload_path || (at_text && !only)) {
                fputs("usage: fault_loop --tool VDISK-IMG --daemon VDISKD --preload MODULE [--runs N] [--seed S]\n"
                      "                  [--scenario NAME [--at KIND:N[:forever]]]\n       fault_loop --list\n", stderr);
                exit(2);
        }
}

int main(int argc, char **argv)
{
        size_t done = 0, end;

        parse(argc, argv);
        if (!seed)
                seed = test_seed();
        setenv("ASAN_OPTIONS", "detect_leaks=1:exitcode=99:allocator_may_return_null=1:verify_asan_link_order=0", 1);
        setenv("LSAN_OPTIONS", "exitcode=99", 1);
        setenv("UBSAN_OPTIONS", "halt_on_error=1:exitcode=99:print_stacktrace=1", 1);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        for (unsigned i = 0; i < SIZE; i++) {
                pattern[i] = (unsigned char)(1 + rnd_below(&seed, 255));
                other[i] = (unsigned char)(1 + rnd_below(&seed, 255));
        }
        tmp_path("fault", dir);
        if (at_text) {
                run_that(tool_scenarios);
                run_that(daemon_scenarios);
                exit(2);
        }
        runs = calloc(MAX_RUNS, sizeof(*runs));
        count_all(tool_scenarios);
        count_all(daemon_scenarios);
        shuffle();
        end = wanted && wanted < nruns ? wanted : nruns;
        for (; done < end && bugs < MAX_BUGS; done++) {
                run_one(&runs[done]);
                if (done % 1000 == 999) {
                        printf("%zu of %zu\n", done + 1, end);
                        fflush(stdout);
                }
        }
        fflush(stdout);
        fprintf(bugs ? stderr : stdout, "%zu fault runs of %zu that there are: %u bugs%s%s\n", done, nruns, bugs,
                bugs ? "; the first: " : "", first_bug);
        free(runs);
        return bugs ? 1 : 0;
}
