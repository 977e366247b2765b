/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_check.c - vdisk-img check: is the image consistent, and with -r: make it so. Exit codes as qemu-img's. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tools/vdisk-img/tool.h"

enum { CLEAN = 0, FAILED = 1, CORRUPT = 2, LEAKING = 3, CANNOT = 63 };

struct job {
        struct fmt_check chk;
        struct tool_image image;
        unsigned flags;
        bool json, quiet;
        uint64_t corruptions_fixed, leaks_fixed; /* of the first round; the second looks again */
        uint64_t found[FINDING_KINDS];           /* and not repaired, in the last round */
        const char *driver;
};

static void job_finish(struct job *j)
{
        tool_image_finish(&j->image);
}

/*
 * What a finding means and what -r does about it, for people who have not written a
 * qcow2 driver.
 */
static const struct {
        const char *means, *name, *leaks, *all; /* @leaks, @all: what -r leaks and -r all do; NULL: nothing */
} kinds[FINDING_KINDS] = {
        [FINDING_LEAK] = { "space is counted that nothing uses: it is lost, no data is", "leak",
                           "gives it back, when there is nothing worse", "gives it back" },
        [FINDING_LOW] = { "space in use is counted too seldom: a write may go over data that is in use", "refcount-too-low",
                          NULL, "counts all of it anew, data stays as it is" },
        [FINDING_COPIED] = { "a mark says wrongly that data is used once only, or that it is not: a write may change a snapshot",
                             "copied-bit", NULL, "sets the marks anew, data stays as it is" },
        [FINDING_ENTRY] = { "a table entry leads nowhere: what it stood for cannot be read", "bad-entry", NULL,
                            "clears it; that part of the disk reads as zeros or as the backing file then" },
        [FINDING_CORRUPTION] = { "tables contradict each other", "corruption", NULL, "makes new tables from what is used" },
        [FINDING_BLIND] = { "a table cannot be read or believed, so what is in use is not known", "unreadable", NULL, NULL },
};
#define NO_REPAIR "cannot help; 'vdisk-img convert --salvage' saves what can be read into a new image"

/* Findings go to stderr when text is asked for, so that --output=json stays JSON. */
static void on_finding(struct fmt_check *chk, const struct fmt_finding *f)
{
        struct job *j = chk->opaque;

        j->found[f->kind] += !f->repaired;
        if (!j->quiet)
                fprintf(stderr, "%s%s %s\n", f->repaired ? "Repaired: " : "",
                        f->kind == FINDING_LEAK ? "Leak:" : "ERROR:", f->text);
}

/* Tables are stale after a repair, so each round opens the image anew. */
static int check_once(struct job *j, bool leaks, bool all)
{
        unsigned flags = FMT_NO_BACKING | FMT_NO_KEY | j->flags | (leaks || all ? FMT_REPAIRING : FMT_RDONLY);
        AUTO(tool_closep) struct fmt_image *img = NULL;
        int r = tool_looked(tool_open(&j->image, flags, &img), flags);

        if (r < 0)
                return r;
        j->driver = img->drv->name;
        if (!img->drv->check)
                return err_note(-ENOTSUP, "This image format does not support checks"); /* scripts look for these words */
        memset(j->found, 0, sizeof(j->found));
        j->chk = (struct fmt_check){ .fix_leaks = leaks || all, .fix_all = all, .finding = on_finding, .opaque = j };
        r = img->drv->check(img, &j->chk);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': ", j->image.path) : 0;
}

static void add_count(json_t *o, const char *name, uint64_t n)
{
        if (n)
                json_object_set_new(o, name, json_integer((json_int_t)n));
}

static bool explains(const struct job *j)
{
        for (size_t i = 0; i < FINDING_KINDS; i++)
                if (j->found[i])
                        return true;
        return false;
}

static json_t *findings_json(const struct job *j)
{
        json_t *list = json_array();

        for (size_t i = 0; i < FINDING_KINDS; i++)
                if (j->found[i])
                        json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:s*, s:s}", "kind", kinds[i].name, "count",
                                                              (json_int_t)j->found[i], "means", kinds[i].means,
                                                              "repair-leaks", kinds[i].leaks, "repair-all",
                                                              kinds[i].all && !j->found[FINDING_BLIND] ? kinds[i].all : NO_REPAIR));
        return list;
}

/* What was found, by kind, and what could be done. Behind what qemu-img prints, so that scripts find that where it
 * was. */
static void explain(const struct job *j)
{
        if (!explains(j))
                return;
        printf("\nWhat was found means:\n");
        for (size_t i = 0; i < FINDING_KINDS; i++) {
                if (!j->found[i])
                        continue;
                printf("%6llu x  %s.\n", (unsigned long long)j->found[i], kinds[i].means);
                if (j->found[FINDING_BLIND] || !kinds[i].all) {
                        printf("          -r " NO_REPAIR ".\n");
                        continue;
                }
                if (kinds[i].leaks)
                        printf("          -r leaks %s.\n", kinds[i].leaks);
                printf("          -r all %s.\n", kinds[i].all);
        }
}

static int print_as_json(const struct job *j)
{
        const struct fmt_check *c = &j->chk;
        json_t *o = json_pack("{s:s, s:s, s:I}", "filename", j->image.path, "format", j->driver,
                              "check-errors", (json_int_t)c->check_errors);

        add_count(o, "image-end-offset", c->image_end_offset);
        add_count(o, "corruptions", c->corruptions);
        add_count(o, "leaks", c->leaks);
        add_count(o, "corruptions-fixed", j->corruptions_fixed);
        add_count(o, "leaks-fixed", j->leaks_fixed);
        add_count(o, "total-clusters", c->total_clusters);
        add_count(o, "allocated-clusters", c->allocated_clusters);
        add_count(o, "fragmented-clusters", c->fragmented_clusters);
        add_count(o, "compressed-clusters", c->compressed_clusters);
        if (explains(j))
                json_object_set_new(o, "findings", findings_json(j));
        return print_json(o);
}

static void print_as_text(const struct job *j)
{
        const struct fmt_check *c = &j->chk;

        if (!c->corruptions && !c->leaks && !c->check_errors)
                printf("No errors were found on the image.\n");
        if (c->corruptions)
                printf("\n%llu errors were found on the image.\nData may be corrupted, or further writes to the image may "
                       "corrupt it.\n", (unsigned long long)c->corruptions);
        if (c->leaks)
                printf("\n%llu leaked clusters were found on the image.\nThis means waste of disk space, but no harm to "
                       "data.\n", (unsigned long long)c->leaks);
        if (c->check_errors)
                printf("\n%llu internal errors have occurred during the check.\n", (unsigned long long)c->check_errors);
        if (c->total_clusters && c->allocated_clusters)
                printf("%llu/%llu = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
                       (unsigned long long)c->allocated_clusters, (unsigned long long)c->total_clusters,
                       (double)c->allocated_clusters * 100.0 / (double)c->total_clusters,
                       (double)c->fragmented_clusters * 100.0 / (double)c->allocated_clusters,
                       (double)c->compressed_clusters * 100.0 / (double)c->allocated_clusters);
        if (c->image_end_offset)
                printf("Image end offset: %llu\n", (unsigned long long)c->image_end_offset);
        if (!tool_is_qemu_img())
                explain(j);
}

static int check(struct job *j, bool leaks, bool all)
{
        int r = check_once(j, leaks, all);

        j->corruptions_fixed = j->chk.corruptions_fixed;
        j->leaks_fixed = j->chk.leaks_fixed;
        if (r < 0 || (!j->corruptions_fixed && !j->leaks_fixed))
                return r;
        if (!j->json && !j->quiet) {
                printf("The following inconsistencies were found and repaired:\n\n    %llu leaked clusters\n"
                       "    %llu corruptions\n\nDouble checking the fixed image now...\n",
                       (unsigned long long)j->leaks_fixed, (unsigned long long)j->corruptions_fixed);
                fflush(stdout);
        }
        return check_once(j, false, false);
}

static const struct option longs[] = {
        { "format", required_argument, NULL, 'f' },   { "repair", required_argument, NULL, 'r' },
        { "output", required_argument, NULL, OPT_OUTPUT }, { "force-share", no_argument, NULL, 'U' },
        { "quiet", no_argument, NULL, 'q' },          { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        bool leaks = false, all = false;
        AUTO(job_finish) struct job j = { 0 };
        struct tool_cache cache = { 0 };
        const char *format = NULL;
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_check, argc, argv, "f:r:T:Uq", longs)) != -1) {
                if (c == 'f')
                        format = optarg;
                else if (c == 'r' && !strcmp(optarg, "leaks"))
                        leaks = true;
                else if (c == 'r' && !strcmp(optarg, "all"))
                        all = true;
                else if (c == 'r')
                        return tool_fail(err_note(-EINVAL, "-r '%s' is not one of leaks, all", optarg), FAILED);
                else if (c == 'T')
                        r = tool_cache_parse("-T", optarg, &cache);
                else if (c == 'U')
                        j.flags |= FMT_NO_LOCK;
                else if (c == 'q')
                        j.quiet = true;
                else if (c == OPT_OUTPUT)
                        j.json = tool_output_is_json(optarg);
        }
        if (r < 0)
                return tool_fail(r, FAILED);
        tool_want_words(&cmd_check, argc, 1, 1, "one file name");
        j.flags |= cache.direct ? FMT_DIRECT : 0;
        r = tool_image_set(&j.image, argv[optind], format);
        if (r == 0)
                r = check(&j, leaks, all);
        if (r < 0)
                return tool_fail(r, r == -ENOTSUP && j.driver && !fmt_driver_find(j.driver)->check ? CANNOT : FAILED);
        if (j.json && print_as_json(&j) < 0)
                return FAILED;
        if (!j.json && !j.quiet)
                print_as_text(&j);
        if (j.chk.check_errors)
                return FAILED;
        if (j.chk.corruptions)
                return CORRUPT;
        return j.chk.leaks ? LEAKING : CLEAN;
}

const struct command cmd_check = {
        .name = "check", .run = run, .group = GROUP_LOOK,
        .usage = "[-q] [-f FMT] [--output=human|json] [-r leaks|all] [-T CACHE] [-U] FILE",
        .help = "Checks whether an image is consistent.\n\n"
                "  -f FMT         its format\n"
                "  -r leaks       give leaked clusters back\n"
                "  -r all         repair whatever can be repaired\n"
                "  --output=json  for programs\n"
                "  -T CACHE       none, writeback, writethrough, directsync or unsafe (writeback)\n"
                "  -U             look even when another program uses the image; findings may be false\n"
                "  -q             say nothing but errors\n\n"
                "Exit code: 0 consistent, 1 could not be checked, 2 corrupt, 3 leaks only, 63 the format cannot be checked.\n",
        .examples = "  vdisk-img check disk.qcow2\n"
                    "  vdisk-img check -r all disk.qcow2\n",
};
