/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blockdev-create: a job that makes an image file. A worker does it, in one go: it cannot be paused, and a cancel shows
 * when it is done. The client dismisses the job, as in QEMU.
 */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/jobs/job.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/json_member.h"

#define MAX_OPTS 16u

struct create_job {
        struct job job;
        struct work work;
        struct loop_task back;
        const struct fmt_driver *driver;
        json_t *options;          /* what strings below are part of */
        char *path;
        struct fmt_create req;
        struct fmt_option opts[MAX_OPTS];
        char text[MAX_OPTS][32];  /* numbers among them */
        int res;
        char why[256];
};

/* --- the job --------------------------------------------------------------------------------------------------------- */

static void on_worker(struct work *w)
{
        struct create_job *c = container_of(w, struct create_job, work);

        rcu_register_thread();
        c->res = fmt_create_path(c->path, c->driver, &c->req);
        rcu_unregister_thread();
        if (c->res < 0)
                snprintf(c->why, sizeof(c->why), "%s", err_text(c->res));
        err_clear();
        loop_post(c->job.disks->loop, &c->back);
}

static void on_back(struct loop_task *task)
{
        struct create_job *c = container_of(task, struct create_job, back);

        workers_release();
        job_ended(&c->job, c->res, c->why);
}

static void create_start(struct job *j)
{
        struct create_job *c = container_of(j, struct create_job, job);
        int r;

        workers_hold();
        c->work.run = on_worker;
        c->back.run = on_back;
        r = workers_run(&c->work);
        if (r == 0)
                return;
        c->res = r;
        loop_post(j->disks->loop, &c->back);
}

static void create_finalize(struct job *j, int res)
{
        job_finalized(j, res, NULL);
}

static void create_free(struct job *j)
{
        struct create_job *c = container_of(j, struct create_job, job);

        json_decref(c->options);
        free(c->path);
        free(c);
}

static const struct job_driver create_driver = {
        .type = "create",
        .start = create_start,
        .finalize = create_finalize,
        .free = create_free,
};

/* --- its options ------------------------------------------------------------------------------------------------------ */

static const char *const file_drivers[] = { "file", NULL };
static const char *const create_drivers[] = { "file", "qcow2", NULL };
static const char *const preallocs[] = { "off", "metadata", "falloc", "full", NULL };
static const char *const file_preallocs[] = { "off", "falloc", "full", NULL };
static const char *const versions[] = { "v2", "v3", NULL };
static const char *const compressions[] = { "zlib", "zstd", NULL };
static const char *const backing_formats[] = { "raw", "qcow2", "vdi", "vpc", "vhdx", "vmdk", NULL };

static const struct qmp_arg node_args[] = { /* or the name of a file node */
        { "driver", QMP_STR, .values = file_drivers },
        { "filename", QMP_STR },
        { NULL },
};
static const struct qmp_arg create_file_args[] = {
        { "filename", QMP_STR },
        { "size", QMP_INT },
        { "preallocation", QMP_STR, .optional = true, .values = file_preallocs },
        { "nocow", QMP_BOOL, .optional = true },
        { "extent-size-hint", QMP_INT, .optional = true },
        { NULL },
};
static const struct qmp_arg create_qcow2_args[] = {
        { "file", QMP_REF, .members = node_args },
        { "size", QMP_INT },
        { "data-file", QMP_REF, .optional = true, .members = node_args },
        { "data-file-raw", QMP_BOOL, .optional = true },
        { "extended-l2", QMP_BOOL, .optional = true },
        { "version", QMP_STR, .optional = true, .values = versions },
        { "backing-file", QMP_STR, .optional = true },
        { "backing-fmt", QMP_STR, .optional = true, .values = backing_formats },
        { "cluster-size", QMP_INT, .optional = true },
        { "preallocation", QMP_STR, .optional = true, .values = preallocs },
        { "lazy-refcounts", QMP_BOOL, .optional = true },
        { "refcount-bits", QMP_INT, .optional = true },
        { "compression-type", QMP_STR, .optional = true, .values = compressions },
        { NULL },
};
static const struct qmp_variant create_variants[] = {
        { "file", create_file_args }, { "qcow2", create_qcow2_args }, { NULL },
};
static const struct qmp_arg option_args[] = {
        { "driver", QMP_STR, .values = create_drivers, .variants = create_variants },
        { NULL },
};

/* Option @to of the format, when the client gave @from. */
static void pass(struct create_job *c, const char *from, const char *to)
{
        json_t *v = json_object_get(c->options, from);
        struct fmt_option *o = &c->opts[c->req.nopts];
        char *number = c->text[c->req.nopts];

        if (!v)
                return;
        o->name = to;
        o->value = json_string_value(v) ?: number;
        if (json_is_boolean(v))
                strcpy(number, json_is_true(v) ? "on" : "off");
        else if (json_is_integer(v))
                snprintf(number, sizeof(c->text[0]), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        c->req.nopts++;
}

/* Its path, also when it is the name of a file node. NULL: there is none, with a sentence; or it was not given. */
static const char *file_of(struct create_job *c, const struct disks *d, const char *key)
{
        json_t *v = json_object_get(c->options, key);
        const char *name = json_string_value(v);
        const struct file_node *f = name ? file_node_find(d, name) : NULL;

        if (f)
                return text_of(f->file, "filename");
        if (name)
                err_note(-ENODEV, "Cannot find device='' nor node-name='%s'", name);
        return text_of(v, "filename");
}

static int read_qcow2(struct create_job *c, const struct disks *d)
{
        static const char *const names[][2] = {
                { "data-file-raw", "data_file_raw" }, { "extended-l2", "extended_l2" }, { "version", "compat" },
                { "cluster-size", "cluster_size" }, { "preallocation", "preallocation" },
                { "lazy-refcounts", "lazy_refcounts" }, { "refcount-bits", "refcount_bits" },
                { "compression-type", "compression_type" },
        };
        const char *path = file_of(c, d, "file"), *data = file_of(c, d, "data-file");

        if (!path || (!data && json_object_get(c->options, "data-file")))
                return -ENODEV;
        c->req.backing_name = text_of(c->options, "backing-file");
        c->req.backing_format = text_of(c->options, "backing-fmt");
        if (!c->req.backing_name != !c->req.backing_format)
                return err_note(-EINVAL, "'backing-file' and 'backing-fmt' must be given together");
        c->path = strdup(path);
        c->driver = fmt_driver_find("qcow2");
        if (data)
                c->opts[c->req.nopts++] = (struct fmt_option){ "data_file", data };
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                pass(c, names[i][0], names[i][1]);
        return 0;
}

static void read_file(struct create_job *c)
{
        c->path = strdup(text_of(c->options, "filename"));
        c->driver = fmt_driver_find("raw");
        pass(c, "preallocation", "preallocation");
        pass(c, "nocow", "nocow");
        pass(c, "extent-size-hint", "extent_size_hint");
}

static int read_options(struct create_job *c, const struct disks *d)
{
        json_int_t size;
        int r = 0;

        if (!strcmp(text_of(c->options, "driver"), "qcow2"))
                r = read_qcow2(c, d);
        else
                read_file(c);
        if (r < 0)
                return r;
        size = json_integer_value(json_object_get(c->options, "size"));
        if (size < 0 || size % 512)
                return err_note(-EINVAL, "Parameter 'size' expects a multiple of 512");
        c->req.size = (uint64_t)size;
        c->req.opts = c->opts;
        return c->path ? 0 : -ENOMEM;
}

/* An image that is in use here: its lock would tell, in words that do not say by whom. */
static int refuse_open_image(struct disks *d, const char *path)
{
        list_for_each(l, &d->nodes) {
                const struct node *n = list_entry(l, struct node, link);

                if (n->path && !strcmp(n->path, path))
                        return err_note(-EBUSY, "%s: node '%s' has this file open", path, node_known_as(n));
        }
        return 0;
}

static int begin(struct disks *d, json_t *args)
{
        struct create_job *c = calloc(1, sizeof(*c));
        struct job_opts o = { .id = text_of(args, "job-id"), .manual_dismiss = true };
        int r = c ? 0 : -ENOMEM;

        if (r < 0)
                return r;
        c->options = json_incref(json_object_get(args, "options"));
        r = read_options(c, d);
        if (r == 0)
                r = refuse_open_image(d, c->path);
        if (r == 0)
                r = job_create(&c->job, &create_driver, d, &o);
        if (r < 0)
                create_free(&c->job);
        else
                job_start(&c->job);
        return r;
}

static const struct qmp_arg create_args[] = { { "job-id", QMP_STR }, { "options", QMP_OBJECT, .members = option_args }, { NULL } };

static void cmd_blockdev_create(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;

        qmp_answer(call, begin(c->disks, args));
}

const struct qmp_command create_commands[] = {
        { "blockdev-create", create_args, cmd_blockdev_create },
        { NULL },
};
