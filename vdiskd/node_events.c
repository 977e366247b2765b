/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * node_events.c - what volumes say on their threads becomes events of the control socket. A message each, from the volume's
 * threads to the loop; the volume sees to it that there are few. They arrive before the message that the volume is closed.
 */
#include "node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

struct message {
        struct loop_task task;
        struct node *n;
        struct vol_event ev;
};

static const char *operation(enum blk_op op)
{
        return op == BLK_READ ? "read" : "write";
}

/* As QEMU's, whose "device" is empty for what has no virtual machine's device. */
static json_t *io_error(const struct node *n, const char *op, const char *action, int err)
{
        return json_pack("{s:s,s:s,s:s,s:s,s:b,s:s}", "device", "", "node-name", n->name, "operation", op, "action", action,
                         "nospace", err == -ENOSPC || err == -EDQUOT, "reason", strerror(-err));
}

static void on_message(struct loop_task *task)
{
        struct message *m = container_of(task, struct message, task);
        const struct vol_event *ev = &m->ev;
        struct node *n = m->n;

        switch (ev->kind) {
        case VOL_EV_FULL:
                disks_event(n->disks, "BLOCK_IO_ERROR", io_error(n, "write", "stop", ev->err));
                break;
        case VOL_EV_SPACE:
                disks_event(n->disks, "BLOCK_NOSPACE_END",
                            json_pack("{s:s,s:I}", "node-name", n->name, "seconds", (json_int_t)ev->seconds));
                break;
        case VOL_EV_GAVE_UP:
                disks_event(n->disks, "BLOCK_IO_ERROR", io_error(n, "write", "report", ev->err));
                break;
        case VOL_EV_IO_ERROR:
                disks_event(n->disks, "BLOCK_IO_ERROR", io_error(n, operation(ev->op), "report", ev->err));
                break;
        }
        free(m);
}

void node_on_vol_event(void *opaque, const struct vol_event *ev)
{
        struct message *m = malloc(sizeof(*m));

        if (!m) /* it is in the log, too */
                return;
        *m = (struct message){ .task.run = on_message, .n = opaque, .ev = *ev };
        loop_post(m->n->disks->loop, &m->task);
}
