/* SPDX-License-Identifier: BSD-3-Clause */
#include "vdiskd/start_commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/err.h"

struct starting {
        struct loop *loop;
        bool running; /* the loop */
        bool done;
        char error[512];
};

static void on_done(void *opaque, const char *error)
{
        struct starting *s = opaque;

        s->done = true;
        snprintf(s->error, sizeof(s->error), "%s", error ?: "");
        if (s->running)
                loop_stop(s->loop);
}

static int run_one(struct starting *s, struct control *c, const struct startup *st)
{
        AUTO(freep) char *text = json_dumps(st->args, JSON_COMPACT);
        int r = 0;

        s->done = false;
        control_run(c, st->command, json_deep_copy(st->args), on_done, s);
        s->running = true;
        while (!s->done && r == 0)
                r = loop_run(s->loop);
        s->running = false;
        err_clear();
        if (r == 0 && s->error[0])
                r = err_note(-EINVAL, "%s %s: %s", st->option, text ?: "", s->error);
        return r;
}

int start_commands_run(struct loop *l, struct control *c, const struct options *o)
{
        struct starting s = { .loop = l };
        int r = 0;

        for (size_t i = 0; r == 0 && i < o->nstartup; i++)
                r = run_one(&s, c, &o->startup[i]);
        return r;
}
