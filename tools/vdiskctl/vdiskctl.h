/* SPDX-License-Identifier: BSD-3-Clause */
/* vdiskctl.h - the commands of vdiskctl and what they share. 0 or -errno with a sentence. */
#pragma once

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/vdiskctl/client.h"

#define MAX_WORDS 16
#define MANY_WORDS 2048 /* where they are names of disks */

struct ctl {
        struct qmp_client *client; /* connected */
        char **words;              /* of the command, behind its name */
        int nwords;
        bool json, force, save;
        bool for_top;              /* one of these was given: */
        bool batch;
        long count;                /* tables to print; 0: no end */
        double interval;           /* seconds; 0: the default */
        const char *sort;          /* NULL: the default */
};

int cmd_list(struct ctl *c);   /* cmd_show.c */
int cmd_stats(struct ctl *c);  /* cmd_stats.c */
int cmd_top(struct ctl *c);    /* cmd_top.c */
int cmd_events(struct ctl *c);
int cmd_query(struct ctl *c);
int cmd_upgrade(struct ctl *c); /* cmd_upgrade.c */
int cmd_reload(struct ctl *c); /* cmd_reload.c */
int cmd_add(struct ctl *c);    /* cmd_disks.c */
int cmd_remove(struct ctl *c);
int cmd_resize(struct ctl *c);
int cmd_limit(struct ctl *c);  /* cmd_limit.c */
int cmd_snapshot(struct ctl *c); /* cmd_snapshot.c */
int cmd_list_snapshots(struct ctl *c);
int cmd_revert(struct ctl *c);
int cmd_delete_snapshot(struct ctl *c);
int cmd_job(struct ctl *c);    /* cmd_jobs.c */
int cmd_backup(struct ctl *c); /* cmd_copy.c */
int cmd_mirror(struct ctl *c);

enum job_how {
        JOB_UNTIL_READY = 1 << 0, /* ready is enough */
        JOB_OURS = 1 << 1,        /* we began it, so it may have ended before the first look */
        JOB_QUIET = 1 << 2,       /* a terminal sees nothing of it */
};
/* Until the job has ended, or waits to be finalized. Fails as the job does. */
int job_wait(struct ctl *c, const char *id, unsigned how);
/* For a signal handler: not 0, and job_wait() cancels the job and fails with -EINTR when that is done. */
extern volatile sig_atomic_t job_interrupted;

/* disk_name.c. What is returned in *ret is the caller's. */
/* as query-block-exports tells it; NULL: there is none */
int find_export(struct ctl *c, const char *id, json_t **ret);
/* the node that export @name shows, else @name itself */
int node_of_disk(struct ctl *c, const char *name, char **ret);
/* that node as query-named-block-nodes tells it; -ENOENT */
int describe_disk(struct ctl *c, const char *name, json_t **ret);
int size_of_node(struct ctl *c, const char *name, uint64_t *ret); /* bytes */
char *absolute_path(const char *path);                            /* free() it; NULL: no memory */

/* table.c: columns as wide as their widest text, those marked with '>' in front of their head to the right. */
struct table;
struct table *table_new(const char *const *heads); /* ends with NULL; at most TABLE_COLUMNS */
#define TABLE_COLUMNS 16
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* row by row */
void table_print(struct table *t); /* and free it */
void table_print_to(struct table *t, FILE *to);
void table_free(struct table *t); /* NULL is fine */
