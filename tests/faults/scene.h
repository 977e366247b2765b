/* SPDX-License-Identifier: BSD-3-Clause */
/* scene.h - what the scenarios of the fault loop share: images, programs with a fault in them, and looking at what is
 * left. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SIZE (512u << 10) /* of the disks */

struct fault {
        const char *kind;
        unsigned long at; /* 0: none, only count */
        bool forever;
};
extern struct fault fault;       /* of this run */
extern const char *tool_path, *daemon_path, *preload_path;

struct scenario {
        const char *name;
        void (*run)(void); /* in a process and an empty directory of its own */
};
extern const struct scenario tool_scenarios[], daemon_scenarios[]; /* end with a NULL name */

extern const char *doing; /* for the message about a hang */

/* The run has shown a bug: one sentence on stderr and in the file "bug", and the process ends. */
void bug(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* --- images, made without faults ------------------------------------------------------------------------------------------ */

extern unsigned char pattern[SIZE], other[SIZE]; /* two contents; neither has zeros */
void quietly(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* a shell command that must succeed */
void make_raw(const char *path, const unsigned char *bytes);
void make_qcow2(const char *path, const char *options, const unsigned char *bytes);
void make_leaks(const char *path); /* of a qcow2 image of ours that is longer than what it uses */

/* --- programs ---------------------------------------------------------------------------------------------------------------- */

/* With the fault; stderr goes to "log". Exit status; a signal or a sanitizer's report is a bug. */
int run_tool(const char *const *argv);
pid_t start_daemon(const char *const *argv);
int end_daemon(pid_t *pid); /* SIGTERM when it still runs; exit status, as above. A daemon that does not end is a bug */
bool daemon_runs(pid_t pid);
int count_fds(pid_t pid);
/*
 * A daemon that takes over is a child of a helper of the old one, and ours when both have ended.
 * daemon_under: the one that @of or its helper has started; 0: none.
 * adopt: after the old daemon was waited for: lets its helpers end; the daemon that is our child now, or 0.
 */
pid_t daemon_under(pid_t of);
pid_t adopt(void);
#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* --- what is left -------------------------------------------------------------------------------------------------------------- */

bool is_there(const char *path);
/* Opens it and checks its tables: an error is a bug. Without @leaks a leak is, too. */
void must_be_clean(const char *path, const char *format, bool leaks);
/* The disk in @path; bytes, or a bug. */
uint64_t disk_size(const char *path, const char *format);
void disk_read(const char *path, const char *format, void *buf, size_t len);
bool disk_is(const char *path, const char *format, const unsigned char *bytes, size_t len);
bool has_snapshot(const char *path, const char *name);
