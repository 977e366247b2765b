/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transaction.h - actions that happen all or not at all, on all their disks at one instant. Control thread, but for what says
 * otherwise.
 *
 *   its turn -> check() each -> begin() each -> prepare() each, on workers -> the disks are quiet (change.h): work(), apply()
 *   -> commit() each
 * What fails on the way lets undo() and abort() of each whose check() succeeded take back what was done; then the caller hears.
 * A command that is an action of its own is a transaction of one. Transactions, and other changes of the graph, take turns.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/change/change.h"
#include "common/list.h"
#include "common/loop.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/control/qmp.h"

/* --- turns ---------------------------------------------------------------------------------------------------------- */

/* Who changes the graph by himself (a job that exchanges images) waits for his turn, too. */
struct graph_turn {
        struct list link;
        void (*go)(struct graph_turn *turn); /* from the loop or from graph_turn_take() */
};
void graph_turn_take(struct disks *d, struct graph_turn *turn);
void graph_turn_end(struct disks *d);

/* --- actions --------------------------------------------------------------------------------------------------------- */

struct node;
struct transaction;
struct action;

struct action_type {
        const char *name;           /* QEMU's, in "transaction" */
        const struct qmp_arg *args; /* of its data */
        size_t size;                /* of its struct, zeroed, which begins with struct action */

        /* Is it possible? Finds its node (a->node), takes what nobody else may have meanwhile. 0 or -errno with a sentence. All other
         * hooks may be NULL. */
        int (*check)(struct action *a);
        /* what has to wait without a worker; action_begun() answers, perhaps at once */
        void (*begin)(struct action *a);
        int (*prepare)(struct action *a);  /* a worker: what can fail. 0 or -errno with a sentence */
        int (*work)(struct action *a);     /* a worker, all disks quiet and this one settled (a->settled). Likewise */
        void (*unwork)(struct action *a);  /* likewise: work() went well, but another one's did not */
        void (*apply)(struct action *a);   /* home of a->node, all disks quiet: cannot fail, cannot wait */
        /* a worker: it came to nothing. a->prepared and a->worked say what there was */
        void (*undo)(struct action *a);
        void (*abort)(struct action *a);   /* after undo() of all */
        void (*commit)(struct action *a, uint64_t pause_ns); /* it has happened. Guests waited so long at most */
        void (*free)(struct action *a);    /* the last call */
};

struct action {
        const struct action_type *type;
        struct transaction *t;
        struct disks *d;
        json_t *data;       /* checked against type->args; borrowed until free() */
        struct node *node;  /* whose volume is quiet during work() and apply(). NULL: none is */
        bool settled;       /* it is settled then; check() says so */
        bool checked, prepared, worked;
        bool took_node;     /* action_take_node() */
        struct list link;   /* transaction's */
        struct work job;
};

/* @n is the action's, and no other job or change may have it: -EBUSY with QEMU's sentence. Given back by itself. */
int action_take_node(struct action *a, struct node *n);
/* The same, but others may have it: the node stays until the transaction is over, that is all. One call a action. */
void action_use_node(struct action *a, struct node *n);

/* After begin(). @why: the sentence when @res is -errno; borrowed. */
void action_begun(struct action *a, int res, const char *why);

struct transaction {
        struct disks *disks;
        struct list actions;
        bool grouped;             /* jobs of it come to an end together: completion-mode */
        struct job_group *group;  /* made by the first that asks: transaction_group() */
        void (*done)(void *opaque, int res, const char *why, json_t *result);
        void *opaque;
        json_t *result;           /* what a command of its own returns; set by commit(), NULL: {} */

        struct graph_turn turn;
        unsigned left;
        struct node_change *changes;
        struct vol_change **change;
        struct vol_changes all;
        struct loop_task task;
        int res;
        char why[256];
        uint64_t pause_ns;
};

/* @done: once, perhaps before transaction_start() returns; @why and @result are borrowed. NULL: no memory. */
struct transaction *transaction_new(struct disks *d, void (*done)(void *opaque, int res, const char *why, json_t *result),
                                    void *opaque);
/* @data is kept until the end. Its arguments were checked. -ENOMEM. */
int transaction_add(struct transaction *t, const struct action_type *type, json_t *data, struct action **ret);
void transaction_start(struct transaction *t);
void transaction_drop(struct transaction *t); /* it was not started. NULL is fine */

struct job_group *transaction_group(struct transaction *t); /* NULL when it is not grouped, or there is no memory */

/* One action alone, as the command @call: answered when it is done. */
void transaction_run_one(struct disks *d, const struct action_type *type, json_t *data, struct qmp_call *call);
