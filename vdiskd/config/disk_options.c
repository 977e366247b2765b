/* SPDX-License-Identifier: BSD-3-Clause */
#include "disk_options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/similar.h"
#include "vdiskd/id.h"
#include "vdiskd/config/limit_values.h"
#include "vdiskd/config/option_values.h"

#define MAX_QUEUES 256u       /* what export.h serves */
#define SERIAL_BYTES 20u      /* VIRTIO_BLK_ID_BYTES, virtio 1.2 5.2.6 */
#define SCSI_SERIAL_BYTES 36u /* scsi_cmd.h */
#define SCSI_QUEUES 254u      /* controller.h of vhost_user_scsi */
#define LAST_LUN 255u

/* --- the keys ---------------------------------------------------------------------------------------------------- */

static int key_id(struct disk_opts *d, const char *v)
{
        if (!id_is_valid(v) || strlen(v) > ID_BYTES)
                return err_note(-EINVAL, "id=%s: expected a letter, then letters, digits, '-', '.' and '_', %u in all at "
                                "most", v, ID_BYTES);
        return set_text("id", v, &d->id);
}
static int key_path(struct disk_opts *d, const char *v) { return set_text("path", v, &d->path); }
static int key_data_file(struct disk_opts *d, const char *v) { return set_text("data-file", v, &d->data_path); }
static int key_format(struct disk_opts *d, const char *v) { return set_format("format", v, &d->format); }
static int key_socket(struct disk_opts *d, const char *v) { return set_socket("socket", v, &d->socket); }
static int key_mode(struct disk_opts *d, const char *v) { return set_mode("socket-mode", v, &d->socket_mode); }
static int key_owner(struct disk_opts *d, const char *v) { return set_text("socket-owner", v, &d->socket_owner); }
static int key_group(struct disk_opts *d, const char *v) { return set_text("socket-group", v, &d->socket_group); }
static int key_connect(struct disk_opts *d, const char *v) { return set_socket("connect", v, &d->connect); }
static int key_fd(struct disk_opts *d, const char *v) { return set_fd("fd", v, &d->fd); }
static int key_fdname(struct disk_opts *d, const char *v) { return set_text("fdname", v, &d->fdname); }
static int key_key_secret(struct disk_opts *d, const char *v) { return set_text("key-secret", v, &d->key_secret); }
static int key_read_only(struct disk_opts *d, const char *v) { return set_bool("read-only", v, &d->read_only); }

static int key_migratable(struct disk_opts *d, const char *v) { return set_bool("migratable", v, &d->migratable); }

static int key_on_full(struct disk_opts *d, const char *v)
{
        static const struct choice words[] = { { "hold", false }, { "report", true } };
        int report = false;
        int r = set_choice("on-full", v, words, ARRAY_SIZE(words), &report);

        d->report_full = report;
        return r;
}

static int key_full_timeout(struct disk_opts *d, const char *v)
{
        return set_number("full-timeout", v, 0, UINT_MAX, &d->full_timeout);
}

static int key_max_in_flight(struct disk_opts *d, const char *v)
{
        return set_bytes("max-in-flight", v, 0, INT64_MAX, &d->max_in_flight);
}

#define LIMIT_KEY(fn, name) \
        static int fn(struct disk_opts *d, const char *v) { return limit_set_text(&d->limits, name, v); }
#define LIMIT_KEYS_OF(fn, name) \
        LIMIT_KEY(fn, name) LIMIT_KEY(fn##_max, name "-max") LIMIT_KEY(fn##_len, name "-max-length")
LIMIT_KEYS_OF(key_iops_total, "iops-total")
LIMIT_KEYS_OF(key_iops_read, "iops-read")
LIMIT_KEYS_OF(key_iops_write, "iops-write")
LIMIT_KEYS_OF(key_bps_total, "bps-total")
LIMIT_KEYS_OF(key_bps_read, "bps-read")
LIMIT_KEYS_OF(key_bps_write, "bps-write")
LIMIT_KEY(key_iops_size, "iops-size")
static int key_throttle_group(struct disk_opts *d, const char *v) { return set_text("throttle-group", v, &d->throttle_group); }

static int key_serial(struct disk_opts *d, const char *v) { return set_text("serial", v, &d->serial); }

static int key_device(struct disk_opts *d, const char *v)
{
        static const struct choice devices[] = { { "blk", false }, { "scsi", true } };
        int scsi = false;
        int r = set_choice("device", v, devices, ARRAY_SIZE(devices), &scsi);

        d->scsi = scsi;
        return r;
}

static int key_lun(struct disk_opts *d, const char *v)
{
        unsigned lun = 0;
        int r = set_number("lun", v, 0, LAST_LUN, &lun);

        d->lun = (int)lun;
        return r;
}

static int key_cache(struct disk_opts *d, const char *v)
{
        static const struct choice modes[] = { { "none", false }, { "writeback", true } };
        int on = false;
        int r = set_choice("cache", v, modes, ARRAY_SIZE(modes), &on);

        d->writeback = on;
        return r;
}

static int key_data_first(struct disk_opts *d, const char *v)
{
        bool on = true;
        int r = set_bool("data-first", v, &on);

        d->entry_with_data = !on;
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
        enum disk_key_live live;
} disk_keys[] = {
        { "path", "FILE", "the image or block device", key_path },
        { "id", "NAME", "its name on the control socket (default disk0, disk1, ...)", key_id },
        { "format", "NAME", "raw, qcow2 or null; raw is never guessed", key_format },
        { "data-file", "FILE", "the image's external data file; default: the one it names, if beside it", key_data_file },
        { "socket", "PATH", "listen on this Unix socket", key_socket },
        { "socket-mode", "MODE", "its permissions, as 0660 (default: what the umask leaves)", key_mode, KEY_SOCKET },
        { "socket-owner", "USER", "its owner, a name or number", key_owner, KEY_SOCKET },
        { "socket-group", "GROUP", "its group, a name or number", key_group, KEY_SOCKET },
        { "connect", "PATH", "connect to a front end that listens on this Unix socket", key_connect },
        { "fd", "N", "listen on this open socket", key_fd },
        { "fdname", "NAME", "listen on the socket that systemd passes under this name", key_fdname },
        { "device", "blk|scsi", "virtio-blk, or a disk of the virtio-scsi controller on its socket (default blk)", key_device },
        { "lun", "N", "device=scsi: its number there, 0 to 255 (default the first that is free)", key_lun },
        { "serial", "TEXT", "serial number for the guest, up to 20 bytes (36 with device=scsi)", key_serial },
        { "key-secret", "ID", "the secret (--object) that opens an encrypted image", key_key_secret },
        { "read-only", "on|off", "refuse writes (default off)", key_read_only },
        { "migratable", "on|off", "lock the image only while a guest runs on it, for live migration (default off)",
          key_migratable },
        { "cache", "none|writeback", "direct I/O, or through the page cache (default none)", key_cache },
        { "data-first", "on|off", "off: one sync less where data gets a new place, as QEMU does (default on)", key_data_first },
        { "num-queues", "N", "most queues a front end may use, 1 to 256 (default 64)", key_num_queues },
        { "block-size", "512|4096", "logical block size for the guest (default 512)", key_block_size },
        { "size", "SIZE", "size of a format=null disk", key_size },
        { "on-full", "hold|report", "when the host's disk is full: requests wait, or fail (default hold)", key_on_full },
        { "full-timeout", "SECONDS", "so long at most; 0: until there is space (default 300)", key_full_timeout },
        { "max-in-flight", "SIZE", "so much is with the host's disk at once; 0: all there is (default 4M)", key_max_in_flight, KEY_IN_FLIGHT },
        { "throttle-group", "ID", "share the limits of this group (--object)", key_throttle_group, KEY_LIMITS },
#define LIMIT_ROWS(fn, name, n, what)                                                     \
        { name, n, what " a second", fn, KEY_LIMITS }, { name "-max", n, "the same in a burst", fn##_max, KEY_LIMITS }, \
        { name "-max-length", "SECONDS", "how long a burst may last (default 1)", fn##_len, KEY_LIMITS }
        LIMIT_ROWS(key_iops_total, "iops-total", "N", "at most so many requests"),
        LIMIT_ROWS(key_iops_read, "iops-read", "N", "at most so many reads"),
        LIMIT_ROWS(key_iops_write, "iops-write", "N", "at most so many writes"),
        LIMIT_ROWS(key_bps_total, "bps-total", "SIZE", "at most so many bytes"),
        LIMIT_ROWS(key_bps_read, "bps-read", "SIZE", "at most so many bytes read"),
        LIMIT_ROWS(key_bps_write, "bps-write", "SIZE", "at most so many bytes written"),
        { "iops-size", "SIZE", "so many bytes count as one request, longer ones as several", key_iops_size, KEY_LIMITS },
};

static int no_such_key(const char *key)
{
        struct similar s = similar_to(key);
        char hint[64];

        for (size_t i = 0; i < ARRAY_SIZE(disk_keys); i++)
                similar_look(&s, disk_keys[i].name);
        return err_note(-EINVAL, "'%s' is not a key of a disk%s", key,
                        s.best ? similar_hint(&s, hint, sizeof(hint)) : "; vdiskd --help lists them");
}

/* For others to see what was said, and whether it is the same as before. */
static int remember(struct disk_opts *d, size_t i, const char *value)
{
        char *copy = strdup(value);

        if (!d->said)
                d->said = calloc(ARRAY_SIZE(disk_keys), sizeof(*d->said));
        if (!d->said || !copy) {
                free(copy);
                return -ENOMEM;
        }
        free(d->said[i]);
        d->said[i] = copy;
        return 0;
}

int disk_opts_set(struct disk_opts *d, const char *key, const char *value)
{
        for (size_t i = 0; i < ARRAY_SIZE(disk_keys); i++) {
                int r;

                if (strcmp(key, disk_keys[i].name))
                        continue;
                if (!value && strcmp(disk_keys[i].value, "on|off"))
                        return err_note(-EINVAL, "%s: a value is missing; expected %s=%s", key, key, disk_keys[i].value);
                r = disk_keys[i].set(d, value ?: "on");
                return r < 0 ? r : remember(d, i, value ?: "on");
        }
        return no_such_key(key);
}

const char *disk_opts_key(size_t i)
{
        return i < ARRAY_SIZE(disk_keys) ? disk_keys[i].name : NULL;
}

const char *disk_opts_said(const struct disk_opts *d, size_t i)
{
        return d->said ? d->said[i] : NULL;
}

enum disk_key_live disk_opts_live(size_t i)
{
        return disk_keys[i].live;
}

int disk_opts_check_access(const struct disk_opts *d)
{
        if (!d->socket && (d->socket_mode >= 0 || d->socket_owner || d->socket_group))
                return err_note(-EINVAL, "socket-mode, socket-owner and socket-group are for a socket that we make: expected a "
                                "path to listen on, too");
        return 0;
}

static int check_device(const struct disk_opts *d)
{
        unsigned room = d->scsi ? SCSI_SERIAL_BYTES : SERIAL_BYTES;

        if (d->serial && strlen(d->serial) > room)
                return err_note(-EINVAL, "serial=%s: %zu bytes, a %s's serial has room for %u", d->serial, strlen(d->serial),
                                d->scsi ? "SCSI disk" : "virtio disk", room);
        if (!d->scsi && d->lun >= 0)
                return err_note(-EINVAL, "lun=%d: only a disk with device=scsi has one", d->lun);
        if (!d->scsi)
                return 0;
        if (d->migratable)
                return err_note(-EINVAL, "migratable and device=scsi: a disk of a SCSI controller is not let go while others of it are "
                                "used; expected one of the two");
        if (!d->socket && !d->connect && d->fd < 0 && !d->fdname)
                return err_note(-EINVAL, "device=scsi: expected socket, connect, fd or fdname, by which disks find their controller");
        if (d->num_queues > SCSI_QUEUES)
                return err_note(-EINVAL, "num-queues=%u: a SCSI controller has at most %u for requests", d->num_queues, SCSI_QUEUES);
        return 0;
}

int disk_opts_check(const struct disk_opts *d)
{
        bool null = d->format && !strcmp(d->format, "null");

        if (null && (d->path || !d->size))
                return err_note(-EINVAL, "format=null: expected size=SIZE and no file, since it stores nothing");
        if (d->data_path && d->format && strcmp(d->format, "qcow2"))
                return err_note(-EINVAL, "data-file=%s: %s images have no external data file", d->data_path, d->format);
        if (!null && d->size)
                return err_note(-EINVAL, "size=%llu: only a format=null disk takes a size; an image has its own",
                                (unsigned long long)d->size);
        if (!null && !d->path)
                return err_note(-EINVAL, "no file: expected path=FILE");
        if (!!d->socket + (d->fd >= 0) + !!d->fdname + !!d->connect > 1)
                return err_note(-EINVAL, "more than one of socket, connect, fd and fdname: a disk has one socket");
        if (d->throttle_group && throttle_limits_any(&d->limits))
                return err_note(-EINVAL, "throttle-group=%s: the group has the limits; a disk in it has none of its own",
                                d->throttle_group);
        if (throttle_limits_check(&d->limits) < 0 || check_device(d) < 0)
                return -EINVAL;
        return disk_opts_check_access(d);
}

void disk_opts_finish(struct disk_opts *d)
{
        free(d->id);
        free(d->path);
        free(d->format);
        free(d->data_path);
        free(d->socket);
        free(d->socket_owner);
        free(d->socket_group);
        free(d->connect);
        free(d->fdname);
        free(d->serial);
        free(d->key_secret);
        free(d->throttle_group);
        for (size_t i = 0; d->said && i < ARRAY_SIZE(disk_keys); i++)
                free(d->said[i]);
        free(d->said);
        free(d->file);
        *d = no_disk;
}

int disk_opts_parse(struct disk_opts *d, const char *text)
{
        AUTO(freep) char *copy = strdup(text);
        char *rest = copy, *key, *value;
        int r = 0;

        if (!copy)
                return -ENOMEM;
        while (r == 0 && rest) {
                rest = option_next_pair(rest, &key, &value);
                r = disk_opts_set(d, key, value);
        }
        if (r == 0)
                r = disk_opts_check(d);
        return err_prefix(r, "--disk %s: ", text);
}

void disk_opts_print_help(FILE *to)
{
        char left[64];

        fprintf(to, "\nkeys of --disk (a comma inside a value is written twice):\n");
        for (size_t i = 0; i < ARRAY_SIZE(disk_keys); i++) {
                snprintf(left, sizeof(left), "%s=%s", disk_keys[i].name, disk_keys[i].value);
                fprintf(to, "  %-34s %s\n", left, disk_keys[i].help);
        }
}
