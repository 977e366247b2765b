/* SPDX-License-Identifier: BSD-3-Clause */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/secret.h"
#include "common/similar.h"
#include "vdiskd/config/configuration.h"
#include "vdiskd/config/disk_options.h"
#include "vdiskd/config/limit_values.h"
#include "vdiskd/config/options_qemu.h"
#include "vdiskd/config/object_text.h"
#include "vdiskd/metrics/metrics_address.h"
#include "vdiskd/config/option_values.h"

#define MAX_IOTHREADS 64u
#define MAX_POLL_US 1000000u  /* a second: above it is a busy loop by mistake */
#define MAX_SLOW_MS 3600000u
#define MIN_CACHE (1u << 20)
#define MAX_CACHE (1ull << 40)

/* --- the options ----------------------------------------------------------------------------------------------- */

/* What QEMU's conventions say about the one disk, until all of it was read. */
struct reader {
        struct options *o;
        struct disk_opts plain;
        bool plain_used;
};

struct disk_opts *options_add_disk(struct options *o)
{
        struct disk_opts *more = reallocarray(o->disks, o->ndisks + 1, sizeof(*more));

        if (!more)
                return NULL;
        o->disks = more;
        o->disks[o->ndisks] = no_disk;
        return &o->disks[o->ndisks++];
}

static int opt_disk(struct reader *rd, const char *v)
{
        struct disk_opts *d = options_add_disk(rd->o);

        return d ? disk_opts_parse(d, v) : -ENOMEM;
}

/* Only the text is looked at here; who starts the daemon reads the file. */
static int add_object(struct options *o, const char *v)
{
        char **more = reallocarray(o->objects, o->nobjects + 1, sizeof(*more));
        AUTO(freep) char *copy = strdup(v);
        struct throttle_limits l;
        struct secret_source s;
        const char *id;

        o->objects = more ?: o->objects;
        if (qemu_object(o, v) < 0)
                return -EINVAL;
        if (*v == '{')
                return qemu_json_object(o, v);
        if (!more || !copy)
                return -ENOMEM;
        more[o->nobjects] = strdup(v);
        if (!more[o->nobjects])
                return -ENOMEM;
        o->nobjects++;
        return limit_is_group_option(v) ? limit_group_option(copy, &id, &l) : secret_option(copy, &s);
}

int options_add_object(struct options *o, const char *v)
{
        size_t n = o->nobjects;
        int r = add_object(o, v);

        for (size_t i = 0; r == 0 && n < o->nobjects && i < n; i++)
                if (object_same(o->objects[i], v))
                        return err_note(-EINVAL, "%s: there are two with this id; each needs its own", v);
        return r;
}

static int opt_object(struct reader *rd, const char *v)
{
        return options_add_object(rd->o, v);
}

static int opt_config(struct reader *rd, const char *v)
{
        return set_text("--config", v, &rd->o->config); /* it has been read: read_config() */
}

static int opt_check_config(struct reader *rd, const char *v)
{
        (void)v;
        rd->o->action = OPTIONS_CHECK_CONFIG;
        return 0;
}

static int opt_sandbox(struct reader *rd, const char *v)
{
        static const struct choice modes[] = { { "on", SANDBOX_ON }, { "strict", SANDBOX_STRICT }, { "off", SANDBOX_OFF } };
        int mode = SANDBOX_ON;
        int r = set_choice("--sandbox", v, modes, ARRAY_SIZE(modes), &mode);

        rd->o->sandbox = (enum sandbox_mode)mode;
        return r;
}

static int opt_user(struct reader *rd, const char *v)
{
        return set_text("--user", v, &rd->o->user);
}

static int opt_group(struct reader *rd, const char *v)
{
        return set_text("--group", v, &rd->o->group);
}

static int opt_allow_dir(struct reader *rd, const char *v)
{
        struct options *o = rd->o;
        char **more = reallocarray(o->allow_dirs, o->nallow_dirs + 1, sizeof(*more));
        int r;

        o->allow_dirs = more ?: o->allow_dirs;
        if (!more)
                return -ENOMEM;
        more[o->nallow_dirs] = NULL;
        r = set_text("--allow-dir", v, &more[o->nallow_dirs]);
        o->nallow_dirs += r == 0;
        return r;
}

#define QEMU_OPTION(name) static int opt_##name(struct reader *rd, const char *v) { return qemu_##name(rd->o, v); }
QEMU_OPTION(blockdev)
QEMU_OPTION(export)
QEMU_OPTION(chardev)
QEMU_OPTION(monitor)
QEMU_OPTION(nbd_server)
QEMU_OPTION(trace)

static int opt_pid_file(struct reader *rd, const char *v)
{
        return set_text("--pidfile", v, &rd->o->pid_file);
}

static int opt_daemonize(struct reader *rd, const char *v)
{
        (void)v;
        rd->o->daemonize = true;
        return 0;
}

static int opt_socket_path(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        return set_socket("--socket-path", v, &rd->plain.socket);
}

static int opt_socket_mode(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        return set_mode("--socket-mode", v, &rd->plain.socket_mode);
}

static int opt_socket_owner(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        return set_text("--socket-owner", v, &rd->plain.socket_owner);
}

static int opt_socket_group(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        return set_text("--socket-group", v, &rd->plain.socket_group);
}

static int opt_fd(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        return set_fd("--fd", v, &rd->plain.fd);
}

static int opt_blk_file(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        return set_text("--blk-file", v, &rd->plain.path);
}

static int opt_format(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        if (!strcmp(v, "null"))
                return err_note(-EINVAL, "--format=null: use --disk format=null,size=SIZE,socket=PATH");
        return set_format("--format", v, &rd->plain.format);
}

static int opt_read_only(struct reader *rd, const char *v)
{
        (void)v;
        rd->plain_used = true;
        rd->plain.read_only = true;
        return 0;
}

static int opt_control(struct reader *rd, const char *v)
{
        return set_socket("--control", v, &rd->o->control);
}

static int opt_control_fdname(struct reader *rd, const char *v)
{
        return set_text("--control-fdname", v, &rd->o->control_fdname);
}

static int opt_metrics(struct reader *rd, const char *v)
{
        struct metrics_address at;
        int r = metrics_address_parse(v, &at);

        return r < 0 ? r : set_text("--metrics", v, &rd->o->metrics);
}

static int opt_iothreads(struct reader *rd, const char *v)
{
        return set_number("--iothreads", v, 1, MAX_IOTHREADS, &rd->o->iothreads);
}

static int opt_poll_us(struct reader *rd, const char *v)
{
        return set_number("--poll-us", v, 0, MAX_POLL_US, &rd->o->poll_us);
}

static int opt_slow_ms(struct reader *rd, const char *v)
{
        return set_number("--slow-ms", v, 0, MAX_SLOW_MS, &rd->o->slow_ms);
}

static int opt_engine(struct reader *rd, const char *v)
{
        static const struct choice kinds[] = { { "auto", ENGINE_AUTO }, { "io_uring", ENGINE_URING },
                                               { "threads", ENGINE_THREADS } };
        int kind = ENGINE_AUTO;
        int r = set_choice("--engine", v, kinds, ARRAY_SIZE(kinds), &kind);

        rd->o->engine = (enum engine_kind)kind;
        return r;
}

static int opt_cache_size(struct reader *rd, const char *v)
{
        uint64_t bytes = 0;
        int r = set_bytes("--cache-size", v, MIN_CACHE, MAX_CACHE, &bytes);

        rd->o->cache_bytes = bytes;
        return r;
}

static int opt_state_dir(struct reader *rd, const char *v)
{
        return set_text("--state-dir", v, &rd->o->state_dir);
}

static int opt_log_level(struct reader *rd, const char *v)
{
        static const struct choice levels[] = { { "error", LOG_LVL_ERR }, { "warning", LOG_LVL_WARN },
                                                { "info", LOG_LVL_INFO }, { "debug", LOG_LVL_DEBUG } };
        int level = LOG_LVL_INFO;
        int r = set_choice("--log-level", v, levels, ARRAY_SIZE(levels), &level);

        rd->o->log_level = (enum log_level)level;
        return r;
}

static int opt_help(struct reader *rd, const char *v)
{
        (void)v;
        rd->o->action = OPTIONS_HELP;
        return 0;
}

static int opt_version(struct reader *rd, const char *v)
{
        (void)v;
        rd->o->action = OPTIONS_VERSION;
        return 0;
}

static int opt_capabilities(struct reader *rd, const char *v)
{
        (void)v;
        rd->o->action = OPTIONS_CAPABILITIES;
        return 0;
}

static const struct option_row {
        const char *name, *value, *help; /* value NULL: the option takes none */
        int (*set)(struct reader *rd, const char *value);
        char letter; /* -h; 0: none */
        bool typed;  /* only on the command line; so are those without a value */
        bool often;  /* each time is one more */
} rows[] = {
        { "socket-path", "PATH", "listen on this Unix socket", opt_socket_path, .typed = true },
        { "socket-mode", "MODE", "its permissions, as 0660 (default: what the umask leaves)", opt_socket_mode, .typed = true },
        { "socket-owner", "USER", "its owner, a name or number", opt_socket_owner, .typed = true },
        { "socket-group", "GROUP", "its group, a name or number", opt_socket_group, .typed = true },
        { "fd", "N", "listen on this open socket", opt_fd, .typed = true },
        { "blk-file", "FILE", "serve this image or block device", opt_blk_file, .typed = true },
        { "format", "raw|qcow2", "its format; raw is never guessed", opt_format, .typed = true },
        { "read-only", NULL, "refuse writes", opt_read_only },
        { "disk", "KEY=VALUE,...", "serve one more disk (may be given often)", opt_disk, .typed = true },
        { "object", "secret,id=ID,file=PATH", "the password of an encrypted image; fd=N, format=base64", opt_object, .typed = true },
        { "object", "throttle-group,id=ID,...", "limits that disks share: limits.iops-total=N, ...", opt_object, .typed = true },
        { "config", "FILE", "read this and disks.d/*.conf beside it", opt_config, .typed = true },
        { "check-config", NULL, "say what is wrong in them (default: " DEFAULT_CONFIG ")", opt_check_config },
        { "allow-dir", "DIR", "images may name backing files in DIR and below (may be given often)", opt_allow_dir,
          .often = true },
        { "sandbox", "on|strict|off", "what the daemon may do after its start (default on)", opt_sandbox },
        { "user", "USER", "become this user, a name or number, when the sandbox closes", opt_user },
        { "group", "GROUP", "and this group (default: the user's)", opt_group },
        { "control", "PATH", "take commands on this Unix socket", opt_control },
        { "control-fdname", "NAME", "take commands on the socket that systemd passes under this name", opt_control_fdname },
        { "metrics", "unix:PATH|127.0.0.1:PORT|[::1]:PORT", "answer Prometheus there: GET /metrics", opt_metrics },
        { "iothreads", "N", "threads that serve queues, 1 to 64 (default 1)", opt_iothreads },
        { "poll-us", "N", "spin up to N microseconds for more work before sleeping (default 0)", opt_poll_us },
        { "slow-ms", "N", "log requests that take longer, and the stage that did it (default 0: none)", opt_slow_ms },
        { "engine", "auto|io_uring|threads", "how I/O reaches the kernel (default auto)", opt_engine },
        { "cache-size", "SIZE", "table cache of each disk (default 32M)", opt_cache_size },
        { "state-dir", "DIR|none", "where unflushed table changes survive a kill (default /run/vdiskd)", opt_state_dir },
        { "log-level", "LEVEL", "error, warning, info or debug (default info)", opt_log_level },
        { "blockdev", "KEY=VALUE,...|JSON", "as qemu-storage-daemon: open an image", opt_blockdev, .typed = true },
        { "export", "KEY=VALUE,...|JSON", "as qemu-storage-daemon: offer it, type=vhost-user-blk", opt_export, .typed = true },
        { "chardev", "socket|stdio,id=ID,...", "as qemu-storage-daemon: where --monitor takes commands", opt_chardev, .typed = true },
        { "monitor", "chardev=ID,...", "as qemu-storage-daemon: take commands there", opt_monitor, .typed = true },
        { "nbd-server", "...", "refused: there is no NBD", opt_nbd_server, .typed = true },
        { "trace", "...", "refused: there are no trace events of QEMU's", opt_trace, .typed = true },
        { "pidfile", "PATH", "write the process number there", opt_pid_file, .typed = true },
        { "daemonize", NULL, "go to the background when all is served", opt_daemonize },
        { "print-capabilities", NULL, "print what QEMU's conventions ask for, as JSON", opt_capabilities },
        { "help", NULL, "print this text (-h)", opt_help, 'h' },
        { "version", NULL, "print the version (-V)", opt_version, 'V' },
};

static const struct option_row *find_row(const char *name, size_t len)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strlen(rows[i].name) == len && !memcmp(rows[i].name, name, len))
                        return &rows[i];
        return NULL;
}

/* May the configuration have it? */
static bool is_shared(const struct option_row *row)
{
        return row->value && !row->typed;
}

/* For others to see what was said, and whether it is the same as before. */
static int remember(struct options *o, const struct option_row *row, const char *value)
{
        size_t i = (size_t)(row - rows);
        const char *before;
        char *all;

        if (!is_shared(row))
                return 0;
        if (!o->said)
                o->said = calloc(ARRAY_SIZE(rows), sizeof(*o->said));
        if (!o->said)
                return -ENOMEM;
        before = row->often ? o->said[i] : NULL;
        if (asprintf(&all, "%s%s%s", before ?: "", before ? "\n" : "", value) < 0)
                return -ENOMEM;
        free(o->said[i]);
        o->said[i] = all;
        return 0;
}

static int set_row(struct reader *rd, const struct option_row *row, const char *value)
{
        int r = row->set(rd, value);

        return r < 0 ? r : remember(rd->o, row, value);
}

const char *options_name(size_t i)
{
        size_t n = 0;

        for (const struct option_row *row = rows; row < rows + ARRAY_SIZE(rows); row++)
                if (is_shared(row) && n++ == i)
                        return row->name;
        return NULL;
}

const char *options_said(const struct options *o, size_t i)
{
        const char *name = options_name(i);

        return name && o->said ? o->said[find_row(name, strlen(name)) - rows] : NULL;
}

static const struct option_row *find_letter(const char *arg)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (rows[i].letter && arg[0] == '-' && arg[1] == rows[i].letter && !arg[2])
                        return &rows[i];
        return NULL;
}

static int no_such_option(const char *arg, size_t len)
{
        AUTO(freep) char *name = strndup(arg + 2, len);
        struct similar s = similar_to(name ?: "");

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                similar_look(&s, rows[i].name);
        if (s.best)
                return err_note(-EINVAL, "%s: no such option; did you mean '--%s'?", arg, s.best);
        return err_note(-EINVAL, "%s: no such option; --help lists them", arg);
}

/* One option at argv[*at]; its value may be the next argument. */
static int read_option(struct reader *rd, int argc, char **argv, int *at)
{
        const char *arg = argv[*at];
        const char *value = strchr(arg, '=');
        const struct option_row *row = find_letter(arg);
        size_t len;

        if (row)
                return row->set(rd, NULL);
        if (strncmp(arg, "--", 2) || !arg[2])
                return err_note(-EINVAL, "%s: expected an option; --help lists them", arg);
        len = value ? (size_t)(value - arg) - 2 : strlen(arg) - 2;
        row = find_row(arg + 2, len);
        if (!row)
                return no_such_option(arg, len);
        if (!row->value && value)
                return err_note(-EINVAL, "%s: --%s takes no value", arg, row->name);
        if (value)
                return set_row(rd, row, value + 1);
        if (row->value && *at + 1 >= argc)
                return err_note(-EINVAL, "%s: a value is missing; expected --%s=%s", arg, row->name, row->value);
        return set_row(rd, row, row->value ? argv[++*at] : NULL);
}

/* --- the configuration -------------------------------------------------------------------------------------------- */

int options_set(struct options *o, const char *key, const char *value)
{
        struct reader rd = { .o = o, .plain = no_disk };
        const struct option_row *row = find_row(key, strlen(key));
        struct similar s = similar_to(key);
        char hint[64];

        if (row && is_shared(row))
                return set_row(&rd, row, value);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (is_shared(&rows[i]))
                        similar_look(&s, rows[i].name);
        return err_note(-EINVAL, "'%s' is not a key of [vdiskd]%s", key,
                        s.best ? similar_hint(&s, hint, sizeof(hint)) : "; vdiskd.conf(5) lists them");
}

bool options_may_repeat(const char *key)
{
        const struct option_row *row = find_row(key, strlen(key));

        return row && row->often;
}

/* Before the rest of the command line, which wins. */
static int read_config(struct options *o, int argc, char **argv)
{
        const char *path = NULL;
        bool check = false;

        for (int i = 1; i < argc; i++) {
                if (!strncmp(argv[i], "--config=", 9))
                        path = argv[i] + 9;
                else if (!strcmp(argv[i], "--config") && i + 1 < argc)
                        path = argv[++i];
                check |= !strcmp(argv[i], "--check-config");
        }
        if (check && !path)
                path = DEFAULT_CONFIG;
        return path && *path ? config_read(o, path) : 0;
}

/* --- all of it together ------------------------------------------------------------------------------------------- */

static int check_plain(const struct disk_opts *d)
{
        if (!d->path)
                return err_note(-EINVAL, "--blk-file=FILE is missing: it names the image to serve");
        if (d->socket && d->fd >= 0)
                return err_note(-EINVAL, "--socket-path=%s and --fd=%d: expected one of them", d->socket, d->fd);
        return disk_opts_check_access(d);
}

/* The --blk-file disk takes its place before the --disk ones; ownership moves. */
static int add_plain(struct reader *rd)
{
        struct options *o = rd->o;
        int r = check_plain(&rd->plain);

        if (r < 0)
                return r;
        if (!options_add_disk(o))
                return -ENOMEM;
        memmove(o->disks + 1, o->disks, (o->ndisks - 1) * sizeof(*o->disks));
        o->disks[0] = TAKE(rd->plain, no_disk);
        return 0;
}

static int read_all(struct reader *rd, int argc, char **argv)
{
        struct options *o = rd->o;
        int r = 0;

        /* The convention: with this option all others are ignored, also those that another version knows. */
        for (int i = 1; i < argc; i++)
                if (!strcmp(argv[i], "--print-capabilities"))
                        return opt_capabilities(rd, NULL);
        r = read_config(o, argc, argv);
        for (int i = 1; r == 0 && i < argc; i++) {
                r = read_option(rd, argc, argv, &i);
                if (r == 0 && o->action != OPTIONS_SERVE && o->action != OPTIONS_CHECK_CONFIG)
                        return r;
        }
        if (r < 0)
                return r;
        if (rd->plain_used)
                r = add_plain(rd);
        if (r < 0)
                return r;
        r = qemu_check(o);
        if (r < 0)
                return r;
        if (!o->ndisks && !o->control && !o->control_fdname && !o->monitor && !o->nstartup)
                return err_note(-EINVAL, "nothing to serve: give --blk-file=FILE and --socket-path=PATH, or --disk, or "
                                "--control%s", o->config ? ", or disks in the configuration" : "");
        return options_check_whole(o);
}

int options_parse(struct options *o, int argc, char **argv)
{
        struct reader rd = { .o = o, .plain = no_disk };
        int r;

        *o = (struct options){ .iothreads = 1, .log_level = LOG_LVL_INFO, .control_fd = -1 };
        r = read_all(&rd, argc, argv);
        disk_opts_finish(&rd.plain);
        return r;
}

void options_finish(struct options *o)
{
        for (size_t i = 0; i < o->ndisks; i++)
                disk_opts_finish(&o->disks[i]);
        free(TAKE(o->disks, NULL));
        for (size_t i = 0; i < o->nobjects; i++)
                free(o->objects[i]);
        free(TAKE(o->objects, NULL));
        o->nobjects = 0;
        for (size_t i = 0; i < o->nallow_dirs; i++)
                free(o->allow_dirs[i]);
        free(TAKE(o->allow_dirs, NULL));
        o->nallow_dirs = 0;
        free(TAKE(o->user, NULL));
        free(TAKE(o->group, NULL));
        free(TAKE(o->state_dir, NULL));
        free(TAKE(o->control, NULL));
        free(TAKE(o->control_fdname, NULL));
        for (size_t i = 0; o->said && i < ARRAY_SIZE(rows); i++)
                free(o->said[i]);
        free(TAKE(o->said, NULL));
        free(TAKE(o->config, NULL));
        free(TAKE(o->problems, NULL));
        free(TAKE(o->metrics, NULL));
        free(TAKE(o->pid_file, NULL));
        qemu_finish(o);
        o->ndisks = 0;
}

void options_print_help(FILE *to)
{
        char left[64];

        fprintf(to, "usage: vdiskd --blk-file=FILE --socket-path=PATH [--format=raw|qcow2] [--read-only]\n"
                    "       vdiskd --config=FILE [options]\n"
                    "       vdiskd --disk path=FILE,format=FORMAT,socket=PATH [--disk ...] [options]\n\n"
                    "Serve disk images to virtual machines over vhost-user-blk.\n\n");
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].value ? "=" : "", rows[i].value ?: "");
                fprintf(to, "  %-34s %s\n", left, rows[i].help);
        }
        disk_opts_print_help(to);
}

void options_print_capabilities(FILE *to)
{
        fprintf(to, "{\n  \"type\": \"block\",\n  \"features\": [\n    \"read-only\",\n    \"blk-file\"\n  ]\n}\n");
}
