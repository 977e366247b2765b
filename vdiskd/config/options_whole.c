/* SPDX-License-Identifier: BSD-3-Clause */
/* options_whole.c - what no line or option can be wrong about by itself: two that want the same, one that names what is
 * not there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/configuration.h"
#include "vdiskd/config/object_text.h"

/* A disk's name and where it stands, for sentences about two of them. */
struct place {
        char text[320];
};
static struct place place_of(const struct disk_opts *d)
{
        struct place p;

        if (d->file)
                snprintf(p.text, sizeof(p.text), "%s (%s:%u)", d->id, d->file, d->line);
        else
                snprintf(p.text, sizeof(p.text), "%s", d->id);
        return p;
}

static bool same(const char *a, const char *b)
{
        return a && b && !strcmp(a, b);
}

static bool same_socket(const struct disk_opts *a, const struct disk_opts *b)
{
        return same(a->socket, b->socket) || same(a->connect, b->connect) || (a->fd >= 0 && a->fd == b->fd) ||
               same(a->fdname, b->fdname);
}

static bool share_controller(const struct disk_opts *a, const struct disk_opts *b)
{
        return a->scsi && b->scsi && same_socket(a, b);
}

static bool clash(const struct disk_opts *a, const struct disk_opts *b)
{
        if (same(a->id, b->id) || (same(a->path, b->path) && !(a->read_only && b->read_only)))
                return true;
        if (!share_controller(a, b))
                return same_socket(a, b);
        return (a->lun >= 0 && a->lun == b->lun) || (a->num_queues && b->num_queues && a->num_queues != b->num_queues);
}

static int check_two(const struct disk_opts *a, const struct disk_opts *b)
{
        struct place pa = place_of(a), pb = place_of(b);

        if (same(a->id, b->id))
                return err_note(-EINVAL, "id=%s is the name of two disks, %s and %s (without id=NAME the first disk is disk0); each "
                                "needs its own", a->id, pa.text, pb.text);
        if (same(a->path, b->path) && !(a->read_only && b->read_only))
                return err_note(-EINVAL, "path %s is given to two disks, %s and %s; only if both are read-only they may share it",
                                a->path, pa.text, pb.text);
        if (share_controller(a, b) && a->lun >= 0 && a->lun == b->lun)
                return err_note(-EINVAL, "lun=%d is given to two disks of one SCSI controller, %s and %s; each needs its own", a->lun,
                                pa.text, pb.text);
        if (share_controller(a, b))
                return err_note(-EINVAL, "num-queues=%u and num-queues=%u: the disks %s and %s share a SCSI controller, which has one "
                                "number", a->num_queues, b->num_queues, pa.text, pb.text);
        if (same(a->socket, b->socket))
                return err_note(-EINVAL, "socket %s is given to two disks, %s and %s; each needs its own (or both device=scsi)", a->socket,
                                pa.text, pb.text);
        if (same(a->connect, b->connect))
                return err_note(-EINVAL, "connect=%s is given to two disks, %s and %s; each needs its own", a->connect, pa.text,
                                pb.text);
        if (a->fd >= 0 && a->fd == b->fd)
                return err_note(-EINVAL, "fd %d is given to two disks, %s and %s; each needs its own", a->fd, pa.text, pb.text);
        return err_note(-EINVAL, "fdname %s is given to two disks, %s and %s; each needs its own", a->fdname, pa.text, pb.text);
}

/* As other mistakes of the configuration, with its line in front. */
static int at_line(int r, const struct disk_opts *d)
{
        return r < 0 && d->file ? err_prefix(r, "%s:%u: ", d->file, d->line) : r;
}

static int check_disks_differ(const struct options *o)
{
        for (size_t i = 0; i < o->ndisks; i++)
                for (size_t j = 0; j < i; j++) {
                        const struct disk_opts *a = &o->disks[j], *b = &o->disks[i];

                        if (clash(a, b))
                                return at_line(check_two(a, b), b->file ? b : a);
                }
        return 0;
}

/* Disks without a name get one. */
static int name_disks(struct options *o)
{
        for (size_t i = 0; i < o->ndisks; i++)
                if (!o->disks[i].id && asprintf(&o->disks[i].id, "disk%zu", i) < 0) {
                        o->disks[i].id = NULL;
                        return -ENOMEM;
                }
        return 0;
}

static bool has_object(const struct options *o, bool is_group, const char *id)
{
        bool found = false;

        for (size_t i = 0; i < o->nobjects && !found; i++) {
                AUTO(object_text_finish) struct object_text t;

                found = object_text_read(&t, o->objects[i]) == 0 && t.is_group == is_group && !strcmp(t.id, id);
        }
        return found;
}

/* Only where nothing but the configuration counts: a running daemon may have had others added. */
static int check_objects(const struct options *o)
{
        for (size_t i = 0; o->action == OPTIONS_CHECK_CONFIG && !o->nstartup && i < o->ndisks; i++) {
                const struct disk_opts *d = &o->disks[i];

                if (d->throttle_group && !has_object(o, true, d->throttle_group))
                        return at_line(err_note(-EINVAL, "throttle-group=%s: there is no such group; expected a section "
                                                "[throttle-group %s], or --object", d->throttle_group, d->throttle_group), d);
                if (d->key_secret && !has_object(o, false, d->key_secret))
                        return at_line(err_note(-EINVAL, "key-secret=%s: there is no such secret; expected a section [secret %s], "
                                                "or --object", d->key_secret, d->key_secret), d);
        }
        return 0;
}

static int check_sandbox(const struct options *o)
{
        if (o->sandbox == SANDBOX_OFF && (o->user || o->group))
                return err_note(-EINVAL, "--%s=%s and --sandbox=off: the user changes when the sandbox closes", o->user ? "user" : "group",
                                o->user ?: o->group);
        return 0;
}

static int check_control(const struct options *o)
{
        if (o->control && o->control_fdname)
                return err_note(-EINVAL, "--control=%s and --control-fdname=%s: expected one of them", o->control,
                                o->control_fdname);
        for (size_t i = 0; i < o->ndisks; i++) {
                const struct disk_opts *d = &o->disks[i];

                if (o->control && d->socket && !strcmp(o->control, d->socket))
                        return at_line(err_note(-EINVAL, "socket %s is given to disk %s and to --control", d->socket, d->id), d);
                if (o->control_fdname && d->fdname && !strcmp(o->control_fdname, d->fdname))
                        return at_line(err_note(-EINVAL, "fdname %s is given to disk %s and to --control-fdname", d->fdname, d->id), d);
        }
        return 0;
}

int options_check_whole(struct options *o)
{
        int r = name_disks(o);

        if (r == 0)
                r = check_disks_differ(o);
        if (r == 0)
                r = check_objects(o);
        if (r == 0)
                r = check_sandbox(o);
        return r < 0 ? r : check_control(o);
}
