/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_fixture.h - a daemon with a control socket, a client of it, and a directory with images: first.qcow2 (64 MiB,
 * served on first.sock under the name "first"), second.qcow2 (32 MiB) and zeros.img (raw, 1 MiB). The daemon's working
 * directory is that directory. Its path is in E2E_BACK_END. One thread; everything fails the test when it cannot be
 * done.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "tests/lib/front_end.h"
#include "tools/vdiskctl/client.h"

#define HANG_S 60 /* deadlines only guard against hangs */
#define HANG_MS (HANG_S * 1000)

extern pid_t daemon_pid;          /* 0: none runs */
extern struct qmp_client *client; /* of the daemon */
extern const char *more_option;   /* of the next start_daemon(); NULL: none */

/* For cmocka: the directory, once; a daemon for each test, which must end with status 0. */
int make_images(void **state);
int remove_images(void **state);
int start_default(void **state);
int stop(void **state);

void start_daemon(const char *fault); /* VDISKD_FAULT; NULL: none */
void start_with(const char *const *args); /* ends with NULL; at most 14. No client: it may not come to be */
int exit_status(void);                /* waits for the daemon's end */
struct qmp_client *dial(void);        /* one more client */
void upgrade(void);                   /* another process takes over: it is the daemon from now on, and our child, too */

const char *at(const char *name); /* in the directory; eight results are valid at a time */
bool exists(const char *name);
int run(const char *command);     /* by the shell, in the directory */

/* @args: JSON with ' for ". NULL: it was done (the value in *ret), else the daemon's words, valid until the next
 * call. */
const char *try(struct qmp_client *c, const char *command, const char *args, json_t **ret);
void must(const char *command, const char *args);
json_t *ask(const char *command);
/* As text, the entry of @command's answer whose @name is @id; "" when there is none. Valid until the next call. */
const char *entry(const char *command, const char *name, const char *id);
void expect_event(struct qmp_client *c, const char *name, const char *part);

/* A front end of the daemon, at a socket in the directory: the usual one, or as @opts says (path and deadline are set
 * here). */
struct front_end *connect_to(const char *socket);
struct front_end *connect_with(const char *socket, const struct fe_opts *opts);
/* One request on queue 0, to its end. @off: bytes; @buf: fe_alloc()'s, or NULL. Its status: FE_OK, FE_IOERR, ... */
uint8_t do_io(struct front_end *fe, uint32_t type, uint64_t off, void *buf, uint32_t len);
