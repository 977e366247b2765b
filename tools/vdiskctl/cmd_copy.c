/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_copy.c - backup, mirror: a disk in use into a new image. The image is made by the daemon, added as a node, and a job copies.
 *
 *   blockdev-create -> blockdev-add -> blockdev-backup, and wait -> blockdev-del of the copy
 *                                   -> blockdev-mirror, and wait -> complete, and wait -> blockdev-del of what was the disk's image
 *
 * When it fails, or is interrupted, the image goes again: only once its node is gone, for then it is no disk's.
 */
#include "vdiskctl.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"

struct copy {
        const char *disk, *format;
        char *node;  /* that the disk's export shows */
        char *path;  /* of the new image */
        char made[64]; /* its node, and the job */
        uint64_t size, speed;
        bool compress;
        const char *copy_mode; /* NULL: the daemon's default */
};

static int read_word(struct copy *p, const char *word)
{
        if (!strcmp(word, "format=raw") || !strcmp(word, "format=qcow2"))
                p->format = word + strlen("format=");
        else if (!strcmp(word, "compress=on") || !strcmp(word, "compress=off"))
                p->compress = !strcmp(word, "compress=on");
        else if (!strcmp(word, "copy-mode=background") || !strcmp(word, "copy-mode=write-blocking"))
                p->copy_mode = word + strlen("copy-mode=");
        else if (!strncmp(word, "speed=", 6))
                return size_parse(word + 6, &p->speed);
        else
                return err_note(-EINVAL, "%s: expected format=raw, format=qcow2, compress=on, copy-mode=background, "
                                         "copy-mode=write-blocking or speed=BYTES", word);
        return 0;
}

/* A name that no node has. */
static int choose_name(struct ctl *c, struct copy *p)
{
        json_t *all = NULL, *n;
        bool taken = true;
        size_t i;
        int r = qmp_client_call(c->client, "query-named-block-nodes", NULL, &all);

        for (unsigned k = 1; r == 0 && taken; k++) {
                snprintf(p->made, sizeof(p->made), "%.20s.%u", p->disk, k);
                taken = false;
                json_array_foreach (all, i, n)
                        taken |= !strcmp(json_string_value(json_object_get(n, "node-name")) ?: "", p->made);
        }
        json_decref(all);
        return r;
}

/* Something may be in it that somebody wants to keep. Devices are for the daemon to judge. */
static int check_new(const struct ctl *c, const struct copy *p)
{
        struct stat st;

        if (!c->force && stat(p->path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
                return err_note(-EEXIST, "'%s' exists; --force overwrites it", p->path);
        return 0;
}

static int prepare(struct ctl *c, struct copy *p)
{
        int r = 0;

        *p = (struct copy){ .disk = c->words[0], .format = "qcow2" };
        for (int i = 2; r == 0 && i < c->nwords; i++)
                r = read_word(p, c->words[i]);
        if (r == 0)
                p->path = absolute_path(c->words[1]);
        if (r == 0)
                r = p->path ? check_new(c, p) : -ENOMEM;
        if (r == 0)
                r = node_of_disk(c, p->disk, &p->node);
        if (r == 0)
                r = size_of_node(c, p->node, &p->size);
        return r < 0 ? r : choose_name(c, p);
}

/* 0 also for a concluded job that was dismissed. */
static int make_image(struct ctl *c, const struct copy *p)
{
        bool raw = !strcmp(p->format, "raw");
        json_t *o = raw ? json_pack("{s:s,s:s,s:I}", "driver", "file", "filename", p->path, "size", (json_int_t)p->size) :
                          json_pack("{s:s,s:{s:s,s:s},s:I}", "driver", "qcow2", "file", "driver", "file", "filename", p->path, "size",
                                    (json_int_t)p->size);
        int r;

        if (!o)
                return err_note(-EINVAL, "%s: no UTF-8, which the control socket cannot carry", p->path);
        r = qmp_client_call(c->client, "blockdev-create", json_pack("{s:s,s:o}", "job-id", p->made, "options", o), NULL);
        if (r < 0)
                return r;
        r = job_wait(c, p->made, JOB_OURS | JOB_QUIET);
        qmp_client_call(c->client, "job-dismiss", json_pack("{s:s}", "id", p->made), NULL);
        return r;
}

static int add_image(struct ctl *c, const struct copy *p)
{
        json_t *o = json_pack("{s:s,s:s,s:{s:b},s:{s:s,s:s}}", "driver", p->format, "node-name", p->made, "cache", "direct",
                              !p->compress, "file", "driver", "file", "filename", p->path);

        return qmp_client_call(c->client, "blockdev-add", o, NULL);
}

static int delete_node(struct ctl *c, const char *name)
{
        return qmp_client_call(c->client, "blockdev-del", json_pack("{s:s}", "node-name", name), NULL);
}

static int begin(struct ctl *c, const struct copy *p, const char *command)
{
        json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:I}", "device", p->node, "target", p->made, "sync", "full", "job-id", p->made, "speed",
                              (json_int_t)p->speed);

        if (p->compress)
                json_object_set_new(o, "compress", json_true());
        if (p->copy_mode)
                json_object_set_new(o, "copy-mode", json_string(p->copy_mode));
        return qmp_client_call(c->client, command, o, NULL);
}

/* err_note() keeps the first sentence, which is why. */
static void take_back(struct ctl *c, const struct copy *p)
{
        struct stat st;

        if (delete_node(c, p->made) < 0)
                return;
        if (stat(p->path, &st) == 0 && S_ISREG(st.st_mode) && unlink(p->path) < 0)
                fprintf(stderr, "vdiskctl: '%s' has a part of the disk and cannot be removed: %s\n", p->path, strerror(errno));
}

static void on_signal(int sig)
{
        (void)sig;
        job_interrupted = 1;
}

static int into_new_image(struct ctl *c, const struct copy *p, const char *command)
{
        int r;

        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        r = make_image(c, p);
        if (r == 0)
                r = add_image(c, p);
        if (r < 0)
                return r;
        r = begin(c, p, command);
        if (r == 0)
                r = job_wait(c, p->made, JOB_OURS | JOB_UNTIL_READY);
        if (r < 0)
                take_back(c, p);
        return r;
}

static void finish(struct copy *p)
{
        free(p->node);
        free(p->path);
}

int cmd_backup(struct ctl *c)
{
        struct copy p;
        int r = prepare(c, &p);

        if (r == 0 && p.copy_mode)
                r = err_note(-EINVAL, "copy-mode=%s is for mirrors", p.copy_mode);
        if (r == 0)
                r = into_new_image(c, &p, "blockdev-backup");
        if (r == 0)
                r = delete_node(c, p.made);
        finish(&p);
        return r;
}

int cmd_mirror(struct ctl *c)
{
        struct copy p;
        int r = prepare(c, &p);

        if (r == 0 && p.compress)
                r = err_note(-EINVAL, "compress=on is for backups");
        if (r == 0)
                r = into_new_image(c, &p, "blockdev-mirror");
        if (r == 0)
                r = qmp_client_call(c->client, "job-complete", json_pack("{s:s}", "id", p.made), NULL);
        if (r == 0)
                r = job_wait(c, p.made, JOB_OURS);
        if (r == 0)
                r = delete_node(c, p.node);
        finish(&p);
        return r;
}
