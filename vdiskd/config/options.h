/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.h - the command line and the configuration, checked: what to serve, where, and with how many threads.
 * QEMU's conventions for vhost-user back ends (docs/interop/vhost-user, "Backend program conventions") come first:
 * --socket-path, --fd, --blk-file, --read-only, --print-capabilities. --disk says the same for many disks.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "blkq/engine/engine.h"
#include "blkq/throttle/throttle.h"
#include "common/log.h"

#define MAX_IN_FLIGHT (4ull << 20) /* bytes of a disk that each queue thread has with the kernel, unless it is told otherwise */
#define FULL_TIMEOUT_S 300u /* on-full=hold: a guest waits so long for space on the host's disk, unless it is told otherwise */

struct disk_opts {
        char *id;     /* name of its node and its export on the control socket; set for all: "disk0" is the first */
        char *path;   /* NULL for format=null */
        char *data_path; /* qcow2's external data file; NULL: as the image says, which must be beside it */
        char *format; /* a driver's name; NULL: find out, but never take it for raw */
        char *socket; /* path to listen on; NULL: fd, connect, or a socket that systemd passed */
        int socket_mode;                   /* its permissions; -1: what the umask leaves */
        char *socket_owner, *socket_group; /* a name or number each; NULL: ours */
        char *connect; /* path of a front end that listens: we connect to it */
        char *fdname; /* FileDescriptorName= of the socket that systemd passed; NULL: the next one */
        char *serial;
        char *key_secret; /* the name of the secret that opens an encrypted image */
        int fd; /* listening socket; -1: none */
        bool read_only, writeback;
        bool migratable; /* the image is ours only while a guest runs on it */
        bool entry_with_data; /* data-first=off: format.h, FMT_ENTRY_WITH_DATA */
        unsigned num_queues; /* 0: the default */
        uint32_t block_size; /* 0: 512 */
        bool scsi;           /* device=scsi: a unit of the SCSI controller on its socket; others may be, too */
        int lun;             /* of it; -1: the first that is free */
        uint64_t size;       /* format=null only, bytes */
        char **said;         /* disk_options.h: the texts */
        char *file;          /* of the configuration, where the disk stands; NULL: the command line */
        unsigned line;
        /* on-full=report: no space is an I/O error at once; else when it lasts so long, 0: never */
        bool report_full;
        unsigned full_timeout; /* seconds */
        uint64_t max_in_flight; /* bytes; 0: no bound */
        char *throttle_group;          /* the group it is in; NULL: */
        struct throttle_limits limits; /* of its own */
};

/* qemu-storage-daemon's way to say what to do: a command of the control socket, given on the command line. */
struct startup {
        const char *option, *command; /* both last */
        json_t *args;
};

struct chardev {
        char *id, *path; /* path NULL: fd, or stdio */
        int fd;
        bool is_stdio;
};

struct options {
        enum options_action { OPTIONS_SERVE, OPTIONS_HELP, OPTIONS_VERSION, OPTIONS_CAPABILITIES, OPTIONS_CHECK_CONFIG } action;
        struct disk_opts *disks; /* in the order given; the --blk-file disk comes first */
        size_t ndisks;
        /* values of --object, in the order given; secret_option() or limit_group_option() understood them */
        char **objects;
        size_t nobjects;
        enum sandbox_mode { SANDBOX_ON, SANDBOX_STRICT, SANDBOX_OFF } sandbox;
        char *user, *group; /* whom the daemon becomes, names or numbers; NULL: it stays who it is */
        char **allow_dirs; /* of --allow-dir: where names in images may lead */
        size_t nallow_dirs;
        char *control;        /* path of the control socket; NULL: none */
        char *control_fdname; /* or FileDescriptorName= of the one that systemd passed */
        char *metrics;        /* where to answer Prometheus (metrics_address.h understands it); NULL: nowhere */
        unsigned iothreads;
        unsigned poll_us;
        unsigned slow_ms; /* log requests that take longer; 0: none */
        size_t cache_bytes; /* table cache of each disk; 0: the default */
        char *state_dir;    /* NULL: the default, where it can be had; "none" */
        enum engine_kind engine;
        enum log_level log_level;
        struct startup *startup; /* --blockdev, --export: carried out in the order given, after the disks */
        size_t nstartup;
        struct chardev *chardevs;
        size_t nchardevs;
        char *monitor;           /* the id of its chardev; what follows comes from there */
        int control_fd;          /* listening socket of the control; -1: none */
        bool control_stdio, control_pretty;
        char *pid_file;          /* NULL: none */
        bool daemonize;
        char **said;     /* options_said() */
        char *config;    /* the configuration's file; NULL: none */
        bool config_begun; /* its [vdiskd] was read */
        char *problems;  /* what is wrong in the configuration, all of it, a line each; NULL: nothing */
};

#define DEFAULT_CONFIG "/etc/vdiskd/vdiskd.conf"

/**
 * options_parse - read and check the command line, and the configuration that it names.
 * Returns 0 and fills @o, or -EINVAL / -ENOMEM with a sentence that names the option, its value and what would be right (for the
 * first of o->problems; the file's error when it cannot be read). The command line wins over the configuration.
 * options_finish() @o in either case. Only the text is checked; whether images exist is the business of who opens them.
 */
int options_parse(struct options *o, int argc, char **argv);
void options_finish(struct options *o);

/* The name of daemon option number @i, one that the configuration may have, too; NULL: there are no more. What it was
 * set to, NULL: nothing; of one that may be given often, a line for each. */
const char *options_name(size_t i);
const char *options_said(const struct options *o, size_t i);

void options_print_help(FILE *to);
void options_print_capabilities(FILE *to);
