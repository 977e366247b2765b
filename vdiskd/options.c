/* SPDX-License-Identifier: BSD-3-Clause */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "formats/format.h"
#include "vdiskd/id.h"

#define MAX_IOTHREADS 64u
#define MAX_QUEUES 256u       /* what export.h serves */
#define MAX_POLL_US 1000000u  /* a second: above it is a busy loop by mistake */
#define MAX_FD 1048576u       /* the kernel's nr_open */
#define SERIAL_BYTES 20u      /* VIRTIO_BLK_ID_BYTES, virtio 1.2 5.2.6 */
#define MIN_CACHE (1u << 20)
#define MAX_CACHE (1ull << 40)
#define SOCKET_PATH_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/* --- values ---------------------------------------------------------------------------------------------------- */

static int set_text(const char *name, const char *value, char **ret)
{
        char *copy;

        if (!*value)
                return err_note(-EINVAL, "%s: the value is empty", name);
        copy = strdup(value);
        if (!copy)
                return -ENOMEM;
        free(*ret);
        *ret = copy;
        return 0;
}

static int set_number(const char *name, const char *value, unsigned min, unsigned max, unsigned *ret)
{
        unsigned long n;
        char *end;

        errno = 0;
        n = strtoul(value, &end, 10);
        if (*value < '0' || *value > '9' || *end || errno || n < min || n > max)
                return err_note(-EINVAL, "%s=%s: expected a number from %u to %u", name, value, min, max);
        *ret = (unsigned)n;
        return 0;
}

static int set_bool(const char *name, const char *value, bool *ret)
{
        bool on = !strcmp(value, "on");

        if (!on && strcmp(value, "off"))
                return err_note(-EINVAL, "%s=%s: expected on or off", name, value);
        *ret = on;
        return 0;
}

struct choice {
        const char *word;
        int value;
};
static int set_choice(const char *name, const char *value, const struct choice *choices, size_t n, int *ret)
{
        char words[128] = "";

        for (size_t i = 0; i < n; i++) {
                if (!strcmp(value, choices[i].word)) {
                        *ret = choices[i].value;
                        return 0;
                }
                strncat(words, i ? (i + 1 == n ? " or " : ", ") : "", sizeof(words) - strlen(words) - 1);
                strncat(words, choices[i].word, sizeof(words) - strlen(words) - 1);
        }
        return err_note(-EINVAL, "%s=%s: expected %s", name, value, words);
}

static int set_format(const char *name, const char *value, char **ret)
{
        char known[128] = "";

        if (fmt_driver_find(value))
                return set_text(name, value, ret);
        for (const struct fmt_driver *const *drv = fmt_drivers(); *drv; drv++) {
                strncat(known, known[0] ? ", " : "", sizeof(known) - strlen(known) - 1);
                strncat(known, (*drv)->name, sizeof(known) - strlen(known) - 1);
        }
        return err_note(-EINVAL, "%s=%s: no such format; there are: %s", name, value, known);
}

static int set_socket(const char *name, const char *value, char **ret)
{
        if (strlen(value) > SOCKET_PATH_BYTES)
                return err_note(-EINVAL, "%s=%s: the path has %zu bytes, a Unix socket's path may have %zu", name, value,
                                strlen(value), SOCKET_PATH_BYTES);
        return set_text(name, value, ret);
}

static int set_fd(const char *name, const char *value, int *ret)
{
        unsigned fd;
        int r = set_number(name, value, 0, MAX_FD, &fd);

        if (r == 0)
                *ret = (int)fd;
        return r;
}

static int set_bytes(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *ret)
{
        char lo[32], hi[32];
        uint64_t bytes;
        int r = size_parse(value, &bytes);

        if (r < 0)
                return err_prefix(r, "%s=%s: ", name, value);
        if (bytes < min || bytes > max)
                return err_note(-EINVAL, "%s=%s: expected a size from %s to %s", name, value,
                                size_format(min, lo, sizeof(lo)), size_format(max, hi, sizeof(hi)));
        *ret = bytes;
        return 0;
}

/* --- the keys of --disk ---------------------------------------------------------------------------------------- */

static int key_id(struct disk_opts *d, const char *v)
{
        if (!id_is_valid(v) || strlen(v) > ID_BYTES)
                return err_note(-EINVAL, "id=%s: expected a letter, then letters, digits, '-', '.' and '_', %u in all at "
                                "most", v, ID_BYTES);
        return set_text("id", v, &d->id);
}
static int key_path(struct disk_opts *d, const char *v) { return set_text("path", v, &d->path); }
static int key_format(struct disk_opts *d, const char *v) { return set_format("format", v, &d->format); }
static int key_socket(struct disk_opts *d, const char *v) { return set_socket("socket", v, &d->socket); }
static int key_fd(struct disk_opts *d, const char *v) { return set_fd("fd", v, &d->fd); }
static int key_fdname(struct disk_opts *d, const char *v) { return set_text("fdname", v, &d->fdname); }
static int key_read_only(struct disk_opts *d, const char *v) { return set_bool("read-only", v, &d->read_only); }

static int key_serial(struct disk_opts *d, const char *v)
{
        if (strlen(v) > SERIAL_BYTES)
                return err_note(-EINVAL, "serial=%s: %zu bytes, a virtio disk's serial has room for %u", v, strlen(v),
                                SERIAL_BYTES);
        return set_text("serial", v, &d->serial);
}

static int key_cache(struct disk_opts *d, const char *v)
{
        static const struct choice modes[] = { { "none", false }, { "writeback", true } };
        int on = false;
        int r = set_choice("cache", v, modes, ARRAY_SIZE(modes), &on);

        d->writeback = on;
        return r;
}

static int key_num_queues(struct disk_opts *d, const char *v)
{
        return set_number("num-queues", v, 1, MAX_QUEUES, &d->num_queues);
}

static int key_block_size(struct disk_opts *d, const char *v)
{
        static const struct choice sizes[] = { { "512", 512 }, { "4096", 4096 }, };
        int n = 0;
        int r = set_choice("block-size", v, sizes, ARRAY_SIZE(sizes), &n);

        d->block_size = (uint32_t)n;
        return r;
}

static int key_size(struct disk_opts *d, const char *v)
{
        int r = set_bytes("size", v, 512, INT64_MAX, &d->size);

        if (r == 0 && !is_aligned(d->size, 512))
                return err_note(-EINVAL, "size=%s: expected a multiple of 512 bytes", v);
        return r;
}

static const struct disk_key {
        const char *name, *value, *help;
        int (*set)(struct disk_opts *d, const char *value);
} disk_keys[] = {
        { "path", "FILE", "the image or block device", key_path },
        { "id", "NAME", "its name on the control socket (default disk0, disk1, ...)", key_id },
        { "format", "NAME", "raw, qcow2 or null; raw is never guessed", key_format },
        { "socket", "PATH", "listen on this Unix socket", key_socket },
        { "fd", "N", "listen on this open socket", key_fd },
        { "fdname", "NAME", "listen on the socket that systemd passes under this name", key_fdname },
        { "serial", "TEXT", "serial number for the guest, up to 20 bytes", key_serial },
        { "read-only", "on|off", "refuse writes (default off)", key_read_only },
        { "cache", "none|writeback", "direct I/O, or through the page cache (default none)", key_cache },
        { "num-queues", "N", "most queues a front end may use, 1 to 256 (default 64)", key_num_queues },
        { "block-size", "512|4096", "logical block size for the guest (default 512)", key_block_size },
        { "size", "SIZE", "size of a format=null disk", key_size },
};

/*
 * The next "key=value" of @text, QEMU's way: commas separate, a doubled comma is a comma of the value; a key alone means
 * on. Writes the unescaped piece over the text itself. Returns what is left, NULL at the end.
 */
static char *next_pair(char *text, char **key, char **value)
{
        char *out = text;
        char *in = text;

        for (; *in; in++) {
                if (*in == ',' && in[1] != ',')
                        break;
                if (*in == ',')
                        in++;
                *out++ = *in;
        }
        in = *in ? in + 1 : NULL;
        *out = '\0';
        *key = text;
        *value = strchr(text, '=');
        if (*value)
                *(*value)++ = '\0';
        return in;
}

static int set_disk_key(struct disk_opts *d, const char *key, const char *value)
{
        for (size_t i = 0; i < ARRAY_SIZE(disk_keys); i++) {
                if (strcmp(key, disk_keys[i].name))
                        continue;
                if (!value && strcmp(disk_keys[i].value, "on|off"))
                        return err_note(-EINVAL, "%s: a value is missing; expected %s=%s", key, key, disk_keys[i].value);
                return disk_keys[i].set(d, value ?: "on");
        }
        return err_note(-EINVAL, "'%s' is not a key of --disk; --help lists them", key);
}

static int check_disk(const struct disk_opts *d)
{
        bool null = d->format && !strcmp(d->format, "null");

        if (null && (d->path || !d->size))
                return err_note(-EINVAL, "format=null: expected size=SIZE and no file, since it stores nothing");
        if (!null && d->size)
                return err_note(-EINVAL, "size=%llu: only a format=null disk takes a size; an image has its own",
                                (unsigned long long)d->size);
        if (!null && !d->path)
                return err_note(-EINVAL, "no file: expected path=FILE");
        if (!!d->socket + (d->fd >= 0) + !!d->fdname > 1)
                return err_note(-EINVAL, "more than one of socket, fd and fdname: a disk listens on one socket");
        return 0;
}

static void disk_opts_finish(struct disk_opts *d)
{
        free(d->id);
        free(d->path);
        free(d->format);
        free(d->socket);
        free(d->fdname);
        free(d->serial);
}

static struct disk_opts *add_disk(struct options *o)
{
        struct disk_opts *more = reallocarray(o->disks, o->ndisks + 1, sizeof(*more));

        if (!more)
                return NULL;
        o->disks = more;
        o->disks[o->ndisks] = (struct disk_opts){ .fd = -1 };
        return &o->disks[o->ndisks++];
}

/* --- the options ----------------------------------------------------------------------------------------------- */

/* What QEMU's conventions say about the one disk, until all of it was read. */
struct reader {
        struct options *o;
        struct disk_opts plain;
        bool plain_used;
};

static int opt_disk(struct reader *rd, const char *v)
{
        AUTO(freep) char *text = strdup(v);
        struct disk_opts *d = add_disk(rd->o);
        char *rest = text, *key, *value;
        int r = 0;

        if (!text || !d)
                return -ENOMEM;
        while (r == 0 && rest) {
                rest = next_pair(rest, &key, &value);
                r = set_disk_key(d, key, value);
        }
        if (r == 0)
                r = check_disk(d);
        return err_prefix(r, "--disk %s: ", v);
}

static int opt_socket_path(struct reader *rd, const char *v)
{
        rd->plain_used = true;
        return set_socket("--socket-path", v, &rd->plain.socket);
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

static int opt_iothreads(struct reader *rd, const char *v)
{
        return set_number("--iothreads", v, 1, MAX_IOTHREADS, &rd->o->iothreads);
}

static int opt_poll_us(struct reader *rd, const char *v)
{
        return set_number("--poll-us", v, 0, MAX_POLL_US, &rd->o->poll_us);
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
} rows[] = {
        { "socket-path", "PATH", "listen on this Unix socket", opt_socket_path },
        { "fd", "N", "listen on this open socket", opt_fd },
        { "blk-file", "FILE", "serve this image or block device", opt_blk_file },
        { "format", "raw|qcow2", "its format; raw is never guessed", opt_format },
        { "read-only", NULL, "refuse writes", opt_read_only },
        { "disk", "KEY=VALUE,...", "serve one more disk (may be given often)", opt_disk },
        { "control", "PATH", "take commands on this Unix socket", opt_control },
        { "control-fdname", "NAME", "take commands on the socket that systemd passes under this name", opt_control_fdname },
        { "iothreads", "N", "threads that serve queues, 1 to 64 (default 1)", opt_iothreads },
        { "poll-us", "N", "spin up to N microseconds for more work before sleeping (default 0)", opt_poll_us },
        { "engine", "auto|io_uring|threads", "how I/O reaches the kernel (default auto)", opt_engine },
        { "cache-size", "SIZE", "table cache of each disk (default 32M)", opt_cache_size },
        { "state-dir", "DIR|none", "where unflushed table changes survive a kill (default /run/vdiskd)", opt_state_dir },
        { "log-level", "LEVEL", "error, warning, info or debug (default info)", opt_log_level },
        { "print-capabilities", NULL, "print what QEMU's conventions ask for, as JSON", opt_capabilities },
        { "help", NULL, "print this text", opt_help },
        { "version", NULL, "print the version", opt_version },
};

static const struct option_row *find_row(const char *name, size_t len)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strlen(rows[i].name) == len && !memcmp(rows[i].name, name, len))
                        return &rows[i];
        return NULL;
}

/* One option at argv[*at]; its value may be the next argument. */
static int read_option(struct reader *rd, int argc, char **argv, int *at)
{
        const char *arg = argv[*at];
        const char *value = strchr(arg, '=');
        const struct option_row *row;

        if (strncmp(arg, "--", 2) || !arg[2])
                return err_note(-EINVAL, "%s: expected an option; --help lists them", arg);
        row = find_row(arg + 2, value ? (size_t)(value - arg) - 2 : strlen(arg) - 2);
        if (!row)
                return err_note(-EINVAL, "%s: no such option; --help lists them", arg);
        if (!row->value && value)
                return err_note(-EINVAL, "%s: --%s takes no value", arg, row->name);
        if (value)
                return row->set(rd, value + 1);
        if (row->value && *at + 1 >= argc)
                return err_note(-EINVAL, "%s: a value is missing; expected --%s=%s", arg, row->name, row->value);
        return row->set(rd, row->value ? argv[++*at] : NULL);
}

static int check_plain(const struct disk_opts *d)
{
        if (!d->path)
                return err_note(-EINVAL, "--blk-file=FILE is missing: it names the image to serve");
        if (d->socket && d->fd >= 0)
                return err_note(-EINVAL, "--socket-path=%s and --fd=%d: expected one of them", d->socket, d->fd);
        return 0;
}

/* The --blk-file disk takes its place before the --disk ones; ownership moves. */
static int add_plain(struct reader *rd)
{
        struct options *o = rd->o;
        int r = check_plain(&rd->plain);

        if (r < 0)
                return r;
        if (!add_disk(o))
                return -ENOMEM;
        memmove(o->disks + 1, o->disks, (o->ndisks - 1) * sizeof(*o->disks));
        o->disks[0] = TAKE(rd->plain, (struct disk_opts){ .fd = -1 });
        return 0;
}

static int check_sockets_differ(const struct options *o)
{
        for (size_t i = 0; i < o->ndisks; i++)
                for (size_t j = 0; j < i; j++) {
                        const struct disk_opts *a = &o->disks[j], *b = &o->disks[i];

                        if (a->path && b->path && !strcmp(a->path, b->path) && !(a->read_only && b->read_only))
                                return err_note(-EINVAL, "path %s is given to two disks; only if both are read-only they may "
                                                "share it", a->path);
                        if (a->socket && b->socket && !strcmp(a->socket, b->socket))
                                return err_note(-EINVAL, "socket %s is given to two disks; each needs its own", a->socket);
                        if (a->fd >= 0 && a->fd == b->fd)
                                return err_note(-EINVAL, "fd %d is given to two disks; each needs its own", a->fd);
                        if (a->fdname && b->fdname && !strcmp(a->fdname, b->fdname))
                                return err_note(-EINVAL, "fdname %s is given to two disks; each needs its own", a->fdname);
                }
        return 0;
}

/* Disks without a name get one; all names differ. */
static int name_disks(struct options *o)
{
        for (size_t i = 0; i < o->ndisks; i++)
                if (!o->disks[i].id && asprintf(&o->disks[i].id, "disk%zu", i) < 0) {
                        o->disks[i].id = NULL;
                        return -ENOMEM;
                }
        for (size_t i = 0; i < o->ndisks; i++)
                for (size_t j = 0; j < i; j++)
                        if (!strcmp(o->disks[i].id, o->disks[j].id))
                                return err_note(-EINVAL, "id=%s is the name of two disks (without id=NAME the first disk "
                                                "is disk0); each needs its own", o->disks[i].id);
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
                        return err_note(-EINVAL, "socket %s is given to a disk and to --control", d->socket);
                if (o->control_fdname && d->fdname && !strcmp(o->control_fdname, d->fdname))
                        return err_note(-EINVAL, "fdname %s is given to a disk and to --control-fdname", d->fdname);
        }
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
        for (int i = 1; i < argc; i++) {
                r = read_option(rd, argc, argv, &i);
                if (r < 0 || o->action != OPTIONS_SERVE)
                        return r;
        }
        if (rd->plain_used)
                r = add_plain(rd);
        if (r < 0)
                return r;
        if (!o->ndisks && !o->control && !o->control_fdname)
                return err_note(-EINVAL, "nothing to serve: give --blk-file=FILE and --socket-path=PATH, or --disk, or "
                                "--control");
        r = check_sockets_differ(o);
        if (r == 0)
                r = check_control(o);
        return r < 0 ? r : name_disks(o);
}

int options_parse(struct options *o, int argc, char **argv)
{
        struct reader rd = { .o = o, .plain = { .fd = -1 } };
        int r;

        *o = (struct options){ .iothreads = 1, .log_level = LOG_LVL_INFO };
        r = read_all(&rd, argc, argv);
        disk_opts_finish(&rd.plain);
        return r;
}

void options_finish(struct options *o)
{
        for (size_t i = 0; i < o->ndisks; i++)
                disk_opts_finish(&o->disks[i]);
        free(TAKE(o->disks, NULL));
        free(TAKE(o->state_dir, NULL));
        free(TAKE(o->control, NULL));
        free(TAKE(o->control_fdname, NULL));
        o->ndisks = 0;
}

void options_print_help(FILE *to)
{
        char left[64];

        fprintf(to, "usage: vdiskd --blk-file=FILE --socket-path=PATH [--format=raw|qcow2] [--read-only]\n"
                    "       vdiskd --disk path=FILE,format=FORMAT,socket=PATH [--disk ...] [options]\n\n"
                    "Serve disk images to virtual machines over vhost-user-blk.\n\n");
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].value ? "=" : "", rows[i].value ?: "");
                fprintf(to, "  %-34s %s\n", left, rows[i].help);
        }
        fprintf(to, "\nkeys of --disk (a comma inside a value is written twice):\n");
        for (size_t i = 0; i < ARRAY_SIZE(disk_keys); i++) {
                snprintf(left, sizeof(left), "%s=%s", disk_keys[i].name, disk_keys[i].value);
                fprintf(to, "  %-34s %s\n", left, disk_keys[i].help);
        }
}

void options_print_capabilities(FILE *to)
{
        fprintf(to, "{\n  \"type\": \"block\",\n  \"features\": [\n    \"read-only\",\n    \"blk-file\"\n  ]\n}\n");
}
