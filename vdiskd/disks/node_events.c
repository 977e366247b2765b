/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * node_events.c - what volumes say on their threads becomes events of the control socket. A message each, from the
 * volume's threads to the loop; the volume sees to it that there are few. They arrive before the message that the
 * volume is closed.
 */
#include "node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

struct message {
        struct loop_task task;
        struct node *n;
        struct vol_event ev;
        char text[256];
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
        case VOL_EV_THRESHOLD:
                disks_event(n->disks, "BLOCK_WRITE_THRESHOLD",
                            json_pack("{s:s,s:I,s:I}", "node-name", n->name, "amount-exceeded", (json_int_t)ev->bytes,
                                      "write-threshold", (json_int_t)ev->threshold));
                break;
        case VOL_EV_CORRUPT: /* where, the text says */
                disks_event(n->disks, "BLOCK_IMAGE_CORRUPTED",
                            json_pack("{s:s,s:s,s:o,s:b}", "device", "", "node-name", n->name, "msg",
                                      json_string(m->text) ?: json_string("(not UTF-8)"), "fatal", 1));
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
        snprintf(m->text, sizeof(m->text), "%s", ev->text ?: "");
        loop_post(m->n->disks->loop, &m->task);
}
