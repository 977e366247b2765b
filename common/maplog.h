/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * maplog.h - table changes of an image that are in memory only, kept where a killed process leaves them.
 *
 * A guest that goes on running while its daemon is killed and started again must find every write that was answered,
 * also those that no flush has made durable yet. The data of such a write is in the file; what would be lost is the
 * table entry that leads to it. So each change of an entry is stored here too: a ring in a mapped file of a memory file
 * system (/run), one store of 24 bytes and no system call. It outlives the process, not the host: exactly as long as
 * the page cache does.
 *
 * A successful flush trims what it made durable. Whoever opens the image next puts the rest into the image (replay).
 * Functions are for the image's home thread; the file belongs to whoever holds the image's lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct maplog;

struct maplog_entry {
        uint64_t index;    /* which entry: the format's numbering */
        uint64_t was, now; /* in CPU order */
};

/**
 * maplog_open - the log of the image that is (@dev, @ino), made if there is none.
 * @dir: a directory of a memory file system that only we may write to. A file there that is no log is emptied.
 * Returns 0 or -errno with a sentence.
 */
int maplog_open(const char *dir, dev_t dev, ino_t ino, struct maplog **ret);

/* Removes the file when nothing is pending. NULL is fine. */
void maplog_close(struct maplog *log);

/* What is pending, oldest first: how many, and the @i-th. */
uint64_t maplog_pending(const struct maplog *log);
struct maplog_entry maplog_get(const struct maplog *log, uint64_t i);

/* Were changes left out because the ring was full? Until the next trim of all that is pending. */
bool maplog_lost(const struct maplog *log);

/* @n changes that belong together: a process that is killed meanwhile leaves all of them or none. */
void maplog_put(struct maplog *log, const struct maplog_entry *e, unsigned n);

/* When the last change was put: CLOCK_REALTIME, seconds. */
int64_t maplog_last_put(const struct maplog *log);

/* Three quarters full: flush before more is put. */
bool maplog_is_crowded(const struct maplog *log);

/* Has a process that is gone left changes of this image in @dir, which was written to last at @modified (seconds)? Who
 * wrote much later than that process knew nothing of them. */
#define MAPLOG_LATE_SECONDS 60 /* the kernel may still finish writes of a process that is gone */
bool maplog_is_left(const char *dir, dev_t dev, ino_t ino, int64_t modified);

/* A position; maplog_trim() to it forgets all that was put before maplog_mark(). */
uint64_t maplog_mark(const struct maplog *log);
void maplog_trim(struct maplog *log, uint64_t mark);
