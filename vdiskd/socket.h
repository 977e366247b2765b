/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * socket.h - listening Unix sockets for disks and for control: made at a path, given as an open descriptor, or passed
 * by systemd. Control thread. Errors are negative errno with a sentence.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/parcel.h"

/* Sockets that the service manager passed (LISTEN_FDS, LISTEN_FDNAMES; sd_listen_fds(3)). */
struct passed_sockets {
        int n;
        char **names; /* n of them */
        bool *used;
};
int passed_sockets_get(struct passed_sockets *p); /* n is 0 when there are none */
void passed_sockets_finish(struct passed_sockets *p);
int passed_sockets_unused(const struct passed_sockets *p);

/* Where to listen: the first of these that is set; with none of them at the next socket that was passed. */
struct listen_at {
        const char *path;
        int mode; /* path: its permissions, in place before anyone can connect; -1: what the umask leaves */
        const char *owner, *group; /* path: a name or a number; NULL: ours */
        int fd; /* -1: none */
        const char *fdname;
};

/* A socket to accept on. Zero-initialise with fd -1. */
struct listener {
        int fd;     /* owned until somebody takes it */
        char *path; /* the file we made, and will remove; NULL: not ours */
        dev_t dev;
        ino_t ino;
};

/**
 * listener_open - the socket that @at asks for.
 * A socket file that nobody listens on any more is replaced; one with a listener is -EADDRINUSE.
 */
int listener_open(struct listener *l, const struct listen_at *at, struct passed_sockets *passed);

/* Other permissions (@at->mode >= 0), owner or group (not NULL) for the file we made. 0 or -errno with a sentence. */
int listener_change(const struct listener *l, const struct listen_at *at);

/* Closes the fd (unless taken: -1) and removes the file if it is still the one we made. */
void listener_close(struct listener *l);

/* The file that is to be removed in the end, for another process; the socket goes by itself. NULL: no memory. */
json_t *listener_pack(const struct listener *l);
int listener_unpack(struct listener *l, const json_t *o); /* fd: -1 */
