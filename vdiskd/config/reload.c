/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   parse all -> plan -> ADD -> (an error: UNDO, nothing has changed) -> REMOVE -> LATE -> keys -> done
 *
 * What can fail comes first, while it can be undone: new disks are opened before old ones go. LATE ones are those that
 * want the path or socket of one that goes; if one of them fails, the answer says that all else holds.
 *
 * Invariants: r->now has what holds: its disks with a file are those of the configuration that are served. Steps point
 * into r->wanted and r->now, which do not change until finish(). waiting counts the steps that are out.
 */
#include "reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/config/disk_ops.h"
#include "vdiskd/config/disk_options.h"
#include "vdiskd/config/object_text.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/disks/objects.h"
#include "vdiskd/config/reload_impl.h"

static void go_on(struct reload *r);

/* --- finding -------------------------------------------------------------------------------------------------------- */

struct disk_opts *reload_find(const struct options *o, const char *id)
{
        for (size_t i = 0; i < o->ndisks; i++)
                if (o->disks[i].id && !strcmp(o->disks[i].id, id)) /* without: settle_disks() is done with it */
                        return &o->disks[i];
        return NULL;
}

static bool same(const char *a, const char *b)
{
        return a && b && !strcmp(a, b);
}

static bool differ(const char *a, const char *b)
{
        return a != b && !same(a, b);
}

static const struct step *find_step(const struct reload *r, const struct disk_opts *o)
{
        for (size_t i = 0; i < r->nsteps; i++)
                if (r->steps[i].o == o)
                        return &r->steps[i];
        return NULL;
}

/* Has a disk that goes what @o needs? */
static bool waits_for_another(const struct reload *r, const struct disk_opts *o)
{
        for (size_t i = 0; i < r->nsteps; i++) {
                const struct disk_opts *old = r->steps[i].o;

                if (r->steps[i].phase == REMOVE && (same(old->path, o->path) || same(old->socket, o->socket) ||
                                                    same(old->connect, o->connect)))
                        return true;
        }
        return false;
}

/* --- telling -------------------------------------------------------------------------------------------------------- */

static void tell(struct reload *r, const char *list, const char *id)
{
        json_array_append_new(json_object_get(r->what, list), json_string(id));
}

static void left(struct reload *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void left(struct reload *r, const char *fmt, ...)
{
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        log_warn("reload: %s", text);
        json_array_append_new(json_object_get(r->what, "left"), json_string(text) ?: json_string("(not UTF-8)"));
        err_clear();
}

static void failed(struct reload *r, const struct disk_opts *o, int err, const char *why)
{
        log_err("reload: disk %s (%s:%u): %s", o->id, o->file, o->line, why);
        if (r->err == 0) {
                r->err = err;
                snprintf(r->why, sizeof(r->why), "disk %s (%s:%u): %s", o->id, o->file, o->line, why);
        }
        err_clear();
}

/* --- the plan ------------------------------------------------------------------------------------------------------- */

static void plan_step(struct reload *r, enum phase phase, const struct disk_opts *o)
{
        r->steps[r->nsteps++] = (struct step){ .r = r, .phase = phase, .o = o };
}

static int plan_add(struct reload *r, const struct disk_opts *o)
{
        if (disks_name_taken(r->disks, o->id) || disks_find_export(r->disks, o->id))
                return err_note(-EEXIST, "%s:%u: there is a disk '%s' that the configuration did not make: remove it first, or give "
                                "this one another name", o->file, o->line, o->id);
        plan_step(r, waits_for_another(r, o) ? LATE : ADD, o);
        return 0;
}

static int plan(struct reload *r)
{
        int res = 0;

        r->steps = calloc(r->now->ndisks + r->wanted.ndisks + 1, sizeof(*r->steps));
        if (!r->steps)
                return -ENOMEM;
        for (size_t i = 0; i < r->now->ndisks; i++) {
                const struct disk_opts *o = &r->now->disks[i];

                if (o->file && !reload_find(&r->wanted, o->id))
                        plan_step(r, REMOVE, o);
        }
        for (size_t i = 0; res == 0 && i < r->wanted.ndisks; i++) {
                const struct disk_opts *o = &r->wanted.disks[i];

                if (o->file && (!reload_find(r->now, o->id) || !disk_node(r->disks, o->id)))
                        res = plan_add(r, o); /* the second: somebody removed it by hand */
        }
        return res;
}

/* --- objects and options -------------------------------------------------------------------------------------------- */

static const char *find_object(const struct options *o, const char *text)
{
        for (size_t i = 0; i < o->nobjects; i++)
                if (object_same(o->objects[i], text))
                        return o->objects[i];
        return NULL;
}

/* What is new in @a comes; on failure all of it is taken back. */
static int add_objects(struct reload *r, const struct options *a, const struct options *b)
{
        int res = 0;

        for (size_t i = 0; res == 0 && i < a->nobjects; i++) {
                if (find_object(b, a->objects[i]))
                        continue;
                res = object_add(r->disks, a->objects[i]);
                for (size_t k = 0; res < 0 && k < i; k++)
                        if (!find_object(b, a->objects[k]))
                                object_remove(r->disks, a->objects[k]);
        }
        return res;
}

/* What @a has and @b has not goes, unless somebody took it away by hand; who uses it has a word to say. */
static void remove_objects(struct reload *r, const struct options *a, const struct options *b)
{
        for (size_t i = 0; i < a->nobjects; i++) {
                if (find_object(b, a->objects[i]))
                        continue;
                err_clear();
                if (object_remove(r->disks, a->objects[i]) == -EBUSY)
                        left(r, "%s", err_text(-EBUSY));
                err_clear();
        }
}

static void change_objects(struct reload *r)
{
        for (size_t i = 0; i < r->wanted.nobjects; i++) {
                const char *is = r->wanted.objects[i], *was = find_object(r->now, is);

                if (!was || !strcmp(was, is))
                        continue;
                if (object_change(r->disks, is) < 0)
                        left(r, "%s", err_text(-EOPNOTSUPP));
                else
                        tell(r, "changed", is);
        }
}

static void change_options(struct reload *r)
{
        for (size_t i = 0; options_name(i); i++) {
                const char *name = options_name(i), *was = options_said(r->now, i), *is = options_said(&r->wanted, i);

                if (!differ(was, is))
                        continue;
                if (!strcmp(name, "log-level")) {
                        log_set_max(r->wanted.log_level);
                        tell(r, "changed", "log-level");
                } else {
                        left(r, "%s: '%s' in place of '%s' comes with the next start or upgrade", name, is ?: "(default)",
                             was ?: "(default)");
                }
        }
}

/* --- keys of a disk that stays -------------------------------------------------------------------------------------- */

static int change_socket(struct reload *r, const struct disk_opts *o)
{
        struct block_export *x = disks_find_export(r->disks, o->id);
        struct block_export_opts xo;

        if (!x)
                return err_note(-ENOENT, "it has no export of its name any more");
        disk_export_opts(o, &xo);
        return block_export_change_socket(x, &xo.at);
}

static int change_limits(struct reload *r, const struct disk_opts *o)
{
        struct node *n = disk_node(r->disks, o->id);
        struct limit_group *lg = o->throttle_group ? limits_find(r->disks, o->throttle_group) : NULL;
        struct throttle_limits l = o->limits;

        if (!n)
                return err_note(-ENOENT, "it is gone");
        if (o->throttle_group && !lg)
                return err_note(-ENOENT, "throttle group '%s' does not exist", o->throttle_group);
        if (lg)
                throttle_group_get(lg->g, &l);
        return limits_apply(n, o->id, o->throttle_group ?: o->id, &l);
}

static int change_in_flight(struct reload *r, const struct disk_opts *o)
{
        struct node *n = disk_node(r->disks, o->id);

        if (!n)
                return err_note(-ENOENT, "it is gone");
        node_set_max_in_flight(n, o->max_in_flight);
        return 0;
}

/* Returns whether all that differs has changed, so that @to holds now. */
static bool change_keys(struct reload *r, const struct disk_opts *from, const struct disk_opts *to)
{
        bool live[KEY_KINDS] = { false }, all = true;
        int res = 0;

        for (size_t i = 0; disk_opts_key(i); i++) {
                const char *was = disk_opts_said(from, i), *is = disk_opts_said(to, i);
                enum disk_key_live kind = disk_opts_live(i);

                if (!differ(was, is))
                        continue;
                if (kind == KEY_SOCKET && !is)
                        kind = KEY_FIXED; /* what it was before is not known */
                live[kind] = true;
                if (kind != KEY_FIXED)
                        continue;
                all = false;
                left(r, "disk %s: %s=%s in place of %s cannot change while it is served: remove the disk, reload, and add it again",
                     to->id, disk_opts_key(i), is ?: "(default)", was ?: "(default)");
        }
        if (live[KEY_SOCKET])
                res = change_socket(r, to);
        if (res == 0 && live[KEY_LIMITS])
                res = change_limits(r, to);
        if (res == 0 && live[KEY_IN_FLIGHT])
                res = change_in_flight(r, to);
        if (res < 0)
                left(r, "disk %s: %s", to->id, err_text(res));
        else if (live[KEY_SOCKET] || live[KEY_LIMITS] || live[KEY_IN_FLIGHT])
                tell(r, "changed", to->id);
        return all && res == 0;
}

/* --- the end -------------------------------------------------------------------------------------------------------- */

/* Does @o, which was wanted, hold? Changes of its keys are made here. */
static bool holds(struct reload *r, struct disk_opts *o)
{
        const struct step *s = find_step(r, o);
        struct disk_opts *before = s ? NULL : reload_find(r->now, o->id);

        if (s)
                return s->done;
        return before && before->file && change_keys(r, before, o);
}

/* The disks that hold, wanted ones and old ones; what is not among them is freed with where it was. */
static int settle_disks(struct reload *r)
{
        struct options *now = r->now, *wanted = &r->wanted;
        struct disk_opts *all = calloc(now->ndisks + wanted->ndisks + 1, sizeof(*all));
        size_t n = 0;

        if (!all)
                return -ENOMEM;
        for (size_t i = 0; i < wanted->ndisks; i++) {
                struct disk_opts *o = &wanted->disks[i], *before = reload_find(now, o->id);

                if (!o->file || !holds(r, o))
                        continue;
                if (before)
                        disk_opts_finish(before); /* steps point to it: it stays where it is */
                all[n++] = TAKE(*o, no_disk);
        }
        for (size_t i = 0; i < now->ndisks; i++) {
                const struct step *s = find_step(r, &now->disks[i]);

                if (s && s->done)
                        disk_opts_finish(&now->disks[i]);
                else if (now->disks[i].id)
                        all[n++] = TAKE(now->disks[i], no_disk);
        }
        free(now->disks);
        now->disks = all;
        now->ndisks = n;
        return 0;
}

static void finish(struct reload *r)
{
        json_t *what = TAKE(r->what, NULL);
        int err = TAKE(r->err, 0);

        options_finish(&r->wanted);
        r->wanted = (struct options){ 0 };
        free(TAKE(r->steps, NULL));
        r->nsteps = 0;
        r->phase = IDLE;
        r->done(r->opaque, err, r->why, what);
        json_decref(what);
}

static void swap_objects(struct options *a, struct options *b)
{
        char **objects = TAKE(a->objects, b->objects), **said = TAKE(a->said, b->said);
        size_t n = TAKE(a->nobjects, b->nobjects);

        b->objects = objects;
        b->nobjects = n;
        b->said = said;
}

/* Everything was done that could be. */
static void settle(struct reload *r)
{
        int res;

        change_options(r);
        change_objects(r);
        res = settle_disks(r);
        if (res < 0 && r->err == 0)
                r->err = err_note(res, "no memory to remember what holds: reload again");
        remove_objects(r, r->now, &r->wanted);
        swap_objects(r->now, &r->wanted);
        log_info("reload: %zu disks added, %zu removed, %zu changes, %zu left as they are",
                 json_array_size(json_object_get(r->what, "added")), json_array_size(json_object_get(r->what, "removed")),
                 json_array_size(json_object_get(r->what, "changed")), json_array_size(json_object_get(r->what, "left")));
        if (r->err < 0) {
                AUTO(freep) char *all = json_dumps(r->what, JSON_COMPACT);
                size_t len = strlen(r->why);

                snprintf(r->why + len, sizeof(r->why) - len, "; all else holds: %s", all ?: "");
        }
        finish(r);
}

/* --- phases --------------------------------------------------------------------------------------------------------- */

static void on_step(void *opaque, int res, const char *why)
{
        struct step *s = opaque;
        struct reload *r = s->r;

        r->waiting--;
        if (r->phase == UNDO) {
                s->done = false;
        } else if (r->phase == REMOVE) {
                s->done = true;
                tell(r, "removed", s->o->id);
                if (res < 0)
                        left(r, "disk %s: %s", s->o->id, why);
        } else if (res < 0) {
                failed(r, s->o, res, why);
        } else {
                s->done = true;
                tell(r, "added", s->o->id);
        }
        if (!r->waiting)
                go_on(r);
}

static int begin(struct reload *r, struct step *s)
{
        if (r->phase == ADD || r->phase == LATE)
                return disk_start(r->disks, s->o, on_step, s);
        if (!disk_node(r->disks, s->o->id)) { /* somebody removed it by hand */
                s->done = true;
                return 1;
        }
        return disk_end(r->disks, s->o->id, r->phase == UNDO, on_step, s);
}

/* Begin every step of the phase; the last one to be done goes on. */
static void run_phase(struct reload *r, enum phase phase)
{
        r->phase = phase;
        for (size_t i = 0; i < r->nsteps; i++) {
                struct step *s = &r->steps[i];
                int res;

                if (phase == UNDO ? s->phase != ADD || !s->done : s->phase != phase)
                        continue;
                err_clear();
                res = begin(r, s);
                if (res == 0)
                        r->waiting++;
                else if (res < 0 && phase == REMOVE)
                        left(r, "disk %s: %s; it stays until it can go with another reload", s->o->id, err_text(res));
                else if (res < 0)
                        failed(r, s->o, res, err_text(res));
        }
        if (!r->waiting)
                go_on(r);
}

/* Nothing has changed, and the answer says so. */
static void undone(struct reload *r)
{
        size_t len = strlen(r->why);

        remove_objects(r, &r->wanted, r->now);
        snprintf(r->why + len, sizeof(r->why) - len, "; nothing was changed");
        log_warn("reload: nothing was changed");
        finish(r);
}

static void go_on(struct reload *r)
{
        switch (r->phase) {
        case ADD:
                return run_phase(r, r->err < 0 ? UNDO : REMOVE);
        case UNDO:
                return undone(r);
        case REMOVE:
                return run_phase(r, LATE);
        case LATE:
                return settle(r);
        case IDLE:
                return;
        }
}

/* All mistakes are in the log; the sentence has the first and says how many there are. */
static int tell_problems(const struct options *o, int res)
{
        AUTO(freep) char *first = strdup(err_text(res)), *copy = strdup(o->problems);
        char *rest = copy;
        unsigned n = 0;

        if (!first || !copy)
                return res;
        for (char *line; (line = strtok_r(rest, "\n", &rest)); n++)
                log_err("reload: %s", line);
        err_clear();
        if (n > 1)
                return err_note(res, "%s (and %u more: the log and vdiskd --check-config tell them); nothing was changed", first,
                                n - 1);
        return err_note(res, "%s; nothing was changed", first);
}

static int read_all(struct reload *r)
{
        int argc = 0, res;

        while (r->argv[argc])
                argc++;
        err_clear();
        res = options_parse(&r->wanted, argc, r->argv);
        if (res < 0 && r->wanted.problems)
                return tell_problems(&r->wanted, res);
        if (res == 0 && !r->wanted.config)
                res = err_note(-EINVAL, "there is no configuration to read again: vdiskd was started without --config");
        return res;
}

static void on_begin(struct loop_task *task)
{
        run_phase(container_of(task, struct reload, begin), ADD);
}

int reload_start(struct reload *r, reload_done *done, void *opaque)
{
        int res;

        if (r->phase != IDLE || r->changes)
                return err_note(-EBUSY, "a reload or a change of a disk is under way");
        if (r->disks->stopping)
                return err_note(-EBUSY, "the daemon is stopping");
        res = read_all(r);
        if (res == 0)
                res = plan(r);
        if (res == 0)
                res = add_objects(r, &r->wanted, r->now);
        r->what = res == 0 ? json_pack("{s:[],s:[],s:[],s:[]}", "added", "removed", "changed", "left") : NULL;
        if (res < 0 || !r->what) {
                free(TAKE(r->steps, NULL));
                r->nsteps = 0;
                options_finish(&r->wanted);
                return res < 0 ? res : -ENOMEM;
        }
        r->done = done;
        r->opaque = opaque;
        r->err = 0;
        r->why[0] = '\0';
        r->phase = ADD;
        r->begin.run = on_begin;
        loop_post(r->disks->loop, &r->begin);
        return 0;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

struct reload *reload_new(struct disks *d, struct options *now, char **argv)
{
        struct reload *r = calloc(1, sizeof(*r));

        if (r)
                *r = (struct reload){ .disks = d, .now = now, .argv = argv };
        return r;
}

void reload_free(struct reload *r)
{
        if (!r)
                return;
        options_finish(&r->wanted);
        free(r->steps);
        json_decref(r->what);
        free(r);
}

bool reload_running(const struct reload *r)
{
        return r->phase != IDLE || r->changes;
}
