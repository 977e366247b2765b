/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * opener_rules.c - what an opener lets through: what vdiskd asks, and when it is strict, where. A question that passes
 * is answered by name a moment later: the daemon can make no links, so it cannot lead a name elsewhere in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/secret.h"
#include "vdiskd/sandbox/opener_impl.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id" /* maplog.c */

/* --- names -------------------------------------------------------------------------------------------------------- */

static char *directory_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? strndup(path, max_u64((uint64_t)(slash - path), 1)) : strdup(".");
}

/* The real name of what is at @path, or would be made there. NULL: there is no such place. */
static char *real_name(const char *path)
{
        AUTO(freep) char *dir = NULL, *real_dir = NULL;
        const char *slash = strrchr(path, '/');
        char *real = realpath(path, NULL);

        if (real || errno != ENOENT)
                return real;
        dir = directory_of(path);
        real_dir = dir ? realpath(dir, NULL) : NULL;
        if (!real_dir || asprintf(&real, "%s/%s", real_dir, slash ? slash + 1 : path) < 0)
                return NULL;
        return real;
}

/* A link to what is not there: what is made through it comes to be elsewhere. */
static bool leads_nowhere(const char *path)
{
        struct stat st;

        return stat(path, &st) < 0 && lstat(path, &st) == 0;
}

/* @real is @dir, or below it. */
static bool is_in(const char *real, const char *dir)
{
        AUTO(freep) char *top = dir ? realpath(dir, NULL) : NULL;
        size_t len = top && strcmp(top, "/") ? strlen(top) : 0;

        return top && !strncmp(real, top, len) && (real[len] == '/' || !real[len]);
}

static bool is_beside(const char *real, const char *path)
{
        AUTO(freep) char *dir = path ? directory_of(path) : NULL;

        return dir && is_in(real, dir);
}

/* --- what the command line names ---------------------------------------------------------------------------------- */

static bool is_secret(const struct options *o, const char *path)
{
        for (size_t i = 0; i < o->nobjects; i++) {
                AUTO(freep) char *copy = strdup(o->objects[i]);
                struct secret_source s = { 0 };

                if (copy && secret_option(copy, &s) == 0 && s.file && !strcmp(s.file, path))
                        return true;
        }
        return false;
}

static bool same(const char *a, const char *b)
{
        return a && !strcmp(a, b);
}

/* Is one of the values of @key, anywhere in a command of the command line, right for @path? */
static bool command_has(const json_t *o, const char *key, bool (*right)(const char *path, const char *value), const char *path)
{
        bool found = false;
        const char *name;
        json_t *value;
        size_t i;

        json_object_foreach ((json_t *)o, name, value) {
                if (!strcmp(name, key) && json_is_string(value))
                        found |= right(path, json_string_value(value));
                else
                        found |= command_has(value, key, right, path);
        }
        json_array_foreach (o, i, value)
                found |= command_has(value, key, right, path);
        return found;
}

static bool startup_has(const struct options *o, const char *key, bool (*right)(const char *path, const char *value),
                        const char *path)
{
        for (size_t i = 0; i < o->nstartup; i++)
                if (command_has(o->startup[i].args, key, right, path))
                        return true;
        return false;
}

static bool is_named(const struct options *o, const char *path)
{
        if (same(o->pid_file, path) || startup_has(o, "filename", same, path))
                return true;
        for (size_t i = 0; i < o->ndisks; i++)
                if (same(o->disks[i].path, path) || same(o->disks[i].data_path, path))
                        return true;
        return false;
}

/* Images, and files that belong to them. */
static bool is_image_place(const struct opener_rules *rules, const char *real)
{
        const struct options *o = rules->options;
        bool found = is_in(real, rules->state_dir) || startup_has(o, "filename", is_beside, real);

        for (size_t i = 0; i < o->ndisks && !found; i++)
                found = is_beside(real, o->disks[i].path) || is_beside(real, o->disks[i].data_path);
        for (size_t i = 0; i < o->nallow_dirs && !found; i++)
                found = is_in(real, o->allow_dirs[i]);
        return found;
}

static bool is_socket_place(const struct options *o, const char *real)
{
        bool found = is_beside(real, o->control) || is_beside(real, o->pid_file) || startup_has(o, "path", is_beside, real);

        for (size_t i = 0; i < o->ndisks && !found; i++)
                found = is_beside(real, o->disks[i].socket) || is_beside(real, o->disks[i].connect);
        for (size_t i = 0; i < o->nallow_dirs && !found; i++)
                found = is_in(real, o->allow_dirs[i]);
        return found;
}

/* The configuration, with what is beside it, and secrets. */
static bool may_read(const struct options *o, const char *path, const char *real)
{
        return !strcmp(path, BOOT_ID) || is_secret(o, path) || is_beside(real, o->config);
}

/* --- questions ---------------------------------------------------------------------------------------------------- */

static bool may_open(const struct opener_rules *rules, const struct opener_question *q, const char *path)
{
        AUTO(freep) char *real = real_name(path);
        bool reads = (q->how & O_ACCMODE) == O_RDONLY && !(q->how & (O_CREAT | O_TRUNC));

        if (!real || leads_nowhere(path)) /* opening it will say what is the matter */
                return !(q->how & O_CREAT);
        return is_named(rules->options, path) || is_image_place(rules, real) || (reads && may_read(rules->options, path, real));
}

/* No program comes to be where the opener makes files, or where the daemon has what it writes to. */
static bool may_start(const struct opener_rules *rules, const char *binary)
{
        AUTO(freep) char *real = strchr(binary, '/') ? real_name(binary) : NULL;

        return !real || (!is_image_place(rules, real) && !is_socket_place(rules->options, real));
}

/*
 * Of a daemon in its right mind, whatever the rules. What is made is no program (the starter would run it, and with
 * other bits so would anybody, as us), and what is opened changes nothing else: no unnamed file, no terminal of ours.
 */
static bool is_asked(const struct opener_question *q)
{
        const int flags = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_DIRECT | O_DIRECTORY | O_CLOEXEC | O_NOCTTY;

        switch (q->op) {
        case OPENER_OPEN:
                return !(q->how & ~flags) && !(q->mode & ~0666u);
        case OPENER_OPEN_BENEATH:
        case OPENER_OPEN_ALLOWED:
                return !(q->how & ~flags);
        case OPENER_LISTEN:
        case OPENER_CHANGE:
                return q->how >= -1 && q->how <= 0777;
        default:
                return true;
        }
}

static bool may(const struct opener_rules *rules, const struct opener_question *q)
{
        AUTO(freep) char *real = NULL;

        switch (q->op) {
        case OPENER_OPEN:
                return may_open(rules, q, q->a);
        case OPENER_OPEN_BENEATH:
                return may_open(rules, q, q->a) && !(q->how & O_CREAT);
        case OPENER_OPEN_ALLOWED:
                return may_open(rules, q, q->a); /* the image; path.h does the rest */
        case OPENER_UNLINK:
                real = real_name(q->a);
                return real && (is_image_place(rules, real) || is_socket_place(rules->options, real));
        case OPENER_CONNECT:
        case OPENER_LISTEN:
        case OPENER_CHANGE:
                real = real_name(q->a);
                return !real || is_socket_place(rules->options, real);
        case OPENER_SAVE:
        case OPENER_REMOVE: /* what stands in the configuration is believed at the next start */
                return false;
        case OPENER_SPAWN:
                return may_start(rules, q->a);
        default: /* tells of files, opens none; or has its own check */
                return true;
        }
}

int opener_check(const struct opener_rules *rules, const struct opener_question *q)
{
        if (!is_asked(q)) {
                err_clear();
                return err_note(-EPERM, "'%s': flags 0x%x or permissions 0%o that vdiskd does not ask for", q->a, (unsigned)q->how, q->mode);
        }
        if (!rules->strict || may(rules, q))
                return 0;
        err_clear();
        return err_note(-EPERM, "'%s' is out of reach of this daemon, whose sandbox is strict: start with --allow-dir=DIR to let "
                        "it work in DIR and below", q->a);
}

/* --- the same as places ------------------------------------------------------------------------------------------------- */

struct places {
        void (*place)(void *opaque, const char *path, enum opener_place kind);
        void *opaque;
};

static void place(const struct places *p, const char *path, enum opener_place kind)
{
        if (path)
                p->place(p->opaque, path, kind);
}

static void place_beside(const struct places *p, const char *path, enum opener_place kind)
{
        AUTO(freep) char *dir = path ? directory_of(path) : NULL;

        place(p, dir, kind);
}

/* Images: where a link leads, too. */
static void place_image(const struct places *p, const char *path)
{
        place_beside(p, path, PLACE_WORK);
        place(p, path, PLACE_FILE);
}

static void place_command(const struct places *p, const json_t *o)
{
        const char *name;
        json_t *value;
        size_t i;

        json_object_foreach ((json_t *)o, name, value) {
                if (!strcmp(name, "filename"))
                        place_image(p, json_string_value(value));
                else if (!strcmp(name, "path"))
                        place_beside(p, json_string_value(value), PLACE_WORK);
                place_command(p, value);
        }
        json_array_foreach (o, i, value)
                place_command(p, value);
}

static void place_secret(const struct places *p, const char *object)
{
        AUTO(freep) char *copy = strdup(object);
        struct secret_source s = { 0 };

        if (copy && secret_option(copy, &s) == 0)
                place(p, s.file, PLACE_LOOK);
}

void opener_places(const struct opener_rules *rules, void (*each)(void *opaque, const char *path, enum opener_place kind), void *opaque)
{
        static const char *const system_files[] = { BOOT_ID, "/etc/passwd", "/etc/group", "/etc/nsswitch.conf" };
        const struct places p = { each, opaque };
        const struct options *o = rules->options;

        for (size_t i = 0; i < ARRAY_SIZE(system_files); i++)
                place(&p, system_files[i], PLACE_LOOK);
        for (size_t i = 0; i < o->ndisks; i++) {
                place_image(&p, o->disks[i].path);
                place_image(&p, o->disks[i].data_path);
                place_beside(&p, o->disks[i].socket, PLACE_WORK);
                place_beside(&p, o->disks[i].connect, PLACE_WORK);
        }
        for (size_t i = 0; i < o->nallow_dirs; i++)
                place(&p, o->allow_dirs[i], PLACE_WORK);
        for (size_t i = 0; i < o->nobjects; i++)
                place_secret(&p, o->objects[i]);
        for (size_t i = 0; i < o->nstartup; i++)
                place_command(&p, o->startup[i].args);
        place(&p, rules->state_dir, PLACE_WORK);
        place_beside(&p, o->control, PLACE_WORK);
        place_beside(&p, o->pid_file, PLACE_WORK);
        place_beside(&p, o->config, PLACE_LOOK);
        err_clear();
}
