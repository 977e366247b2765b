/* SPDX-License-Identifier: BSD-3-Clause */
/* reload_disk.c - single disks beside the configuration: added, written into it, taken out; and all of them for an
 * upgrade. */
#include "vdiskd/config/reload_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/parcel.h"
#include "vdiskd/config/disk_file.h"
#include "vdiskd/config/disk_options.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/node.h"

#define MAX_VALUE 8192 /* bytes; configuration.c takes lines of this length */

struct change {
        struct reload *r;
        struct disk_opts o; /* of one that comes */
        char *id;           /* of one that goes */
        bool save;
        disk_done *done;
        void *opaque;
        int res;
        char why[512];
};

static void change_end(struct change *ch, int res, const char *why)
{
        ch->r->changes--;
        ch->done(ch->opaque, res, why);
        disk_opts_finish(&ch->o);
        free(ch->id);
        free(ch);
}

static int check_quiet(const struct reload *r, bool save)
{
        if (r->phase != IDLE)
                return err_note(-EBUSY, "a reload is under way");
        if (save && !r->now->config)
                return err_note(-EINVAL, "there is no configuration to save in: vdiskd was started without --config");
        return 0;
}

/* --- a disk comes ------------------------------------------------------------------------------------------------- */

static int remember(struct options *now, struct disk_opts *o)
{
        struct disk_opts *more = reallocarray(now->disks, now->ndisks + 1, sizeof(*more));

        if (!more)
                return -ENOMEM;
        now->disks = more;
        now->disks[now->ndisks++] = TAKE(*o, no_disk);
        return 0;
}

static void on_taken_back(void *opaque, int res, const char *why)
{
        struct change *ch = opaque;

        (void)res;
        (void)why;
        change_end(ch, ch->res, ch->why);
}

static void on_started(void *opaque, int res, const char *why)
{
        struct change *ch = opaque;
        char *id = ch->o.id;

        if (res < 0 || !ch->save)
                return change_end(ch, res, why);
        err_clear();
        res = disk_file_save(ch->r->now->config, &ch->o);
        if (res == 0) {
                log_info("%s: saved in %s", id, ch->o.file);
                res = remember(ch->r->now, &ch->o);
        }
        if (res == 0)
                return change_end(ch, 0, "");
        ch->res = res;
        snprintf(ch->why, sizeof(ch->why), "%s", err_text(res));
        err_clear();
        if (disk_end(ch->r->disks, id, true, on_taken_back, ch) < 0)
                change_end(ch, res, ch->why);
}

int reload_add(struct reload *r, struct disk_opts *o, bool save, disk_done *done, void *opaque)
{
        struct change *ch = calloc(1, sizeof(*ch));
        int res;

        if (!ch) {
                disk_opts_finish(o);
                return -ENOMEM;
        }
        *ch = (struct change){ .r = r, .o = TAKE(*o, no_disk), .save = save, .done = done, .opaque = opaque };
        res = check_quiet(r, save);
        if (res == 0 && reload_find(r->now, ch->o.id) && save)
                res = err_note(-EEXIST, "the configuration has a disk '%s' already", ch->o.id);
        if (res == 0)
                res = disk_start(r->disks, &ch->o, on_started, ch);
        if (res < 0) {
                disk_opts_finish(&ch->o);
                free(ch);
                return res;
        }
        r->changes++;
        return 0;
}

/* --- a disk goes -------------------------------------------------------------------------------------------------- */

static void forget(struct options *now, const char *id)
{
        struct disk_opts *o = reload_find(now, id);

        if (!o)
                return;
        disk_opts_finish(o);
        memmove(o, o + 1, (size_t)(now->disks + now->ndisks - (o + 1)) * sizeof(*o));
        now->ndisks--;
}

static void on_ended(void *opaque, int res, const char *why)
{
        struct change *ch = opaque;

        if (ch->res < 0) /* its file */
                return change_end(ch, ch->res, ch->why);
        if (ch->save)
                forget(ch->r->now, ch->id);
        change_end(ch, res, why);
}

int reload_remove(struct reload *r, const char *id, bool force, bool save, disk_done *done, void *opaque)
{
        const struct disk_opts *o = reload_find(r->now, id);
        struct change *ch;
        int res = check_quiet(r, save);

        if (res == 0 && save && (!o || !o->file))
                res = err_note(-ENOENT, "the configuration has no disk '%s'", id);
        if (res < 0)
                return res;
        ch = calloc(1, sizeof(*ch));
        if (ch)
                *ch = (struct change){ .r = r, .o = no_disk, .id = strdup(id), .save = save, .done = done, .opaque = opaque };
        res = ch && ch->id ? disk_end(r->disks, id, force, on_ended, ch) : -ENOMEM;
        if (res < 0) {
                free(ch ? ch->id : NULL);
                free(ch);
                return res;
        }
        r->changes++;
        if (save)
                ch->res = disk_file_remove(o); /* on_ended() comes from the loop */
        if (ch->res < 0)
                snprintf(ch->why, sizeof(ch->why), "the disk is gone, but comes back with the next reload: %s", err_text(ch->res));
        err_clear();
        return 0;
}

/* --- other images ------------------------------------------------------------------------------------------------- */

/* The keys of @o say what is served now, and so does its file. */
static int follow_one(struct reload *r, struct disk_opts *o, const struct node *n)
{
        if (o->key_secret || o->data_path)
                return err_note(-EOPNOTSUPP, "%s:%u has keys that may not fit it: change it yourself, then reload", o->file, o->line);
        if (disk_opts_set(o, "path", n->path) < 0 || disk_opts_set(o, "format", n->format) < 0)
                return -EINVAL;
        return disk_file_update(r->now->config, o);
}

/* Of --export: the command line made it. */
static bool is_started_with(const struct options *now, const char *id)
{
        for (size_t i = 0; i < now->nstartup; i++) {
                const char *other = json_string_value(json_object_get(now->startup[i].args, "id"));

                if (!strcmp(now->startup[i].command, "block-export-add") && other && !strcmp(other, id))
                        return true;
        }
        return false;
}

/* The image of @x that the next start finds named, if it is not the one that @x has; NULL: all is well, or nobody names
 * one. */
static const char *named_wrongly(const struct reload *r, const struct block_export *x)
{
        const struct disk_opts *o = reload_find(r->now, x->id);
        const char *named = o ? o->path : is_started_with(r->now, x->id) ? x->named : NULL;

        return named && x->node->path && strcmp(named, x->node->path) ? named : NULL;
}

static void tell_what_to_name(const struct reload *r, const struct block_export *x, const char *named)
{
        const struct disk_opts *o = reload_find(r->now, x->id);

        if (o && o->file)
                log_warn("disk %s now ends in %s, but %s:%u names %s: name the new one before you start vdiskd again", x->id,
                         x->node->path, o->file, o->line, named);
        else
                log_warn("disk %s now ends in %s, but the command line names %s: name the new one when you start vdiskd again", x->id,
                         x->node->path, named);
}

/* Those that only people can name anew; each image once. */
static void tell_about_command_line(struct reload *r)
{
        list_for_each(pos, &r->disks->exports) {
                struct block_export *x = list_entry(pos, struct block_export, link);
                const struct disk_opts *o = reload_find(r->now, x->id);
                const char *named = o && o->file ? NULL : named_wrongly(r, x);

                if (!named || (x->told && !strcmp(x->told, x->node->path)))
                        continue;
                tell_what_to_name(r, x, named);
                free(x->told);
                x->told = strdup(x->node->path); /* no memory: it is said once more */
        }
}

void reload_remind(struct reload *r)
{
        if (!r)
                return;
        list_for_each(pos, &r->disks->exports) {
                const struct block_export *x = list_entry(pos, struct block_export, link);
                const char *named = named_wrongly(r, x);

                if (named)
                        tell_what_to_name(r, x, named);
        }
}

static void on_follow(struct loop_task *task)
{
        struct reload *r = container_of(task, struct reload, follow);

        r->following = false;
        tell_about_command_line(r);
        for (size_t i = 0; i < r->now->ndisks && r->phase == IDLE; i++) {
                struct disk_opts *o = &r->now->disks[i];
                const struct node *n = o->file ? disk_node(r->disks, o->id) : NULL;

                if (!n || !n->path || !o->path || !strcmp(n->path, o->path))
                        continue;
                err_clear();
                if (follow_one(r, o, n) == 0)
                        log_info("%s: saved in %s", n->path, o->file);
                else
                        log_warn("disk %s has image %s now, but the configuration does not say so: %s", o->id, n->path,
                                 err_text(-EINVAL));
                err_clear();
        }
}

void reload_follow(struct reload *r)
{
        if (!r || r->following)
                return;
        r->following = true;
        r->follow.run = on_follow;
        loop_post(r->disks->loop, &r->follow);
}

/* --- for another process ------------------------------------------------------------------------------------------ */

static json_t *disk_pack(const struct disk_opts *o)
{
        json_t *keys = json_array();

        for (size_t i = 0; disk_opts_key(i); i++) {
                const char *v = disk_opts_said(o, i);

                if (v)
                        json_array_append_new(keys, json_pack("{s:s,s:o}", "key", disk_opts_key(i), "value",
                                                              parcel_bytes(v, strlen(v))));
        }
        return json_pack("{s:o,s:o,s:o}", "file", parcel_bytes(o->file, strlen(o->file)), "line", parcel_u64(o->line), "keys", keys);
}

json_t *reload_pack(const struct reload *r)
{
        json_t *all = json_array();

        for (size_t i = 0; i < r->now->ndisks; i++)
                if (r->now->disks[i].file)
                        json_array_append_new(all, disk_pack(&r->now->disks[i]));
        return all;
}

static int key_unpack(struct disk_opts *d, const json_t *o)
{
        char value[MAX_VALUE + 1];
        const char *key;
        size_t len = 0;
        int r = parcel_get_text(o, "key", false, &key);

        if (r == 0)
                r = parcel_get_bytes(o, "value", value, MAX_VALUE, &len);
        if (r < 0)
                return r;
        value[len] = '\0';
        return disk_opts_set(d, key, value);
}

static int disk_unpack(struct disk_opts *d, const json_t *o)
{
        char file[MAX_VALUE + 1];
        const json_t *keys;
        size_t len = 0;
        int r = parcel_get_array(o, "keys", &keys);

        for (size_t i = 0; r == 0 && i < json_array_size(keys); i++)
                r = key_unpack(d, json_array_get(keys, i));
        if (r == 0)
                r = parcel_get_unsigned(o, "line", UINT32_MAX, &d->line);
        if (r == 0)
                r = parcel_get_bytes(o, "file", file, MAX_VALUE, &len);
        if (r < 0)
                return r;
        file[len] = '\0';
        d->file = strdup(file);
        return d->file && d->id ? 0 : -EBADMSG;
}

/* Those that were read from the files go: they may differ from what is served. */
static void forget_all(struct options *now)
{
        size_t n = 0;

        for (size_t i = 0; i < now->ndisks; i++) {
                if (now->disks[i].file)
                        disk_opts_finish(&now->disks[i]);
                else
                        now->disks[n++] = now->disks[i];
        }
        now->ndisks = n;
}

int reload_unpack(struct reload *r, const json_t *all)
{
        int res = 0;

        forget_all(r->now);
        for (size_t i = 0; res == 0 && i < json_array_size(all); i++) {
                struct disk_opts d = no_disk;

                res = disk_unpack(&d, json_array_get(all, i));
                if (res == 0)
                        res = remember(r->now, &d);
                disk_opts_finish(&d);
        }
        return res;
}
