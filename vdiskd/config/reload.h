/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reload.h - the configuration is read again, and what differs is done: disks come and go, keys that can change live
 * change. Also disks that are added at run time and written into it. Control thread only.
 */
#pragma once

#include <jansson.h>

#include "vdiskd/disks/disks.h"
#include "vdiskd/config/options.h"

struct reload;

/* @now: what holds; changed by us from now on. Both are kept. NULL: no memory. */
struct reload *reload_new(struct disks *d, struct options *now, char **argv);
void reload_free(struct reload *r); /* none is under way. NULL is fine */
bool reload_running(const struct reload *r);

/**
 * reload_start - read everything anew, check it as a whole, then do what differs.
 * @done: once, from the loop. @res 0: it holds now, but for what @what says was left: { "added": [...], "removed":
 * [...], "changed": [...], "left": [sentence...] }, borrowed. @res < 0: @why says what holds: nothing has changed, or
 * what has. Returns 0, or -errno with a sentence (no @done then, and nothing has changed).
 */
typedef void reload_done(void *opaque, int res, const char *why, json_t *what);
int reload_start(struct reload *r, reload_done *done, void *opaque);

/**
 * reload_add - a disk that is not in the configuration: open it and offer it; @save: and write it into the
 * configuration.
 * @o: its insides are taken, also on failure. @done: once, from the loop; @res < 0: nothing is left of it.
 * Returns 0, or -errno with a sentence (no @done then).
 */
int reload_add(struct reload *r, struct disk_opts *o, bool save, void (*done)(void *opaque, int res, const char *why),
               void *opaque);

/* The disk goes; @save: first out of the configuration, which must be a file that reload_add() wrote. As disk_end(). */
int reload_remove(struct reload *r, const char *id, bool force, bool save, void (*done)(void *opaque, int res, const char *why),
                  void *opaque);

/*
 * A snapshot, a mirror or a commit has given disks other images. Soon the configuration says so where we wrote it;
 * where people did, and where the command line names another image, the log tells them. NULL is fine.
 */
void reload_follow(struct reload *r);

/* The daemon ends: the log tells once more which disks another image is named for. NULL is fine. */
void reload_remind(struct reload *r);

/* For another process: the disks of the configuration as they hold here. unpack: in the new one, 0 or -errno with a
 * sentence. */
json_t *reload_pack(const struct reload *r);
int reload_unpack(struct reload *r, const json_t *o);
