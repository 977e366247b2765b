/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vdiskd's command line, one argument a line, and sizes. The operator is no stranger, but the line may be made by a
 * program from strangers' names: whatever it says is understood, or refused with one line of text.
 */
#include <errno.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/size.h"
#include "fuzz.h"
#include "vdiskd/config/options.h"

#define ARGS_MAX 64

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        return 0;
}

static void try_size(const char *text)
{
        uint64_t bytes;
        char buf[32];
        int r = size_parse(text, &bytes);

        if (r == 0 && bytes > INT64_MAX)
                fuzz_fail("'%s' is %llu bytes, above the limit", text, (unsigned long long)bytes);
        if (r == 0 && !strlen(size_format(bytes, buf, sizeof(buf))))
                fuzz_fail("%llu bytes have no name", (unsigned long long)bytes);
        if (r < 0 && r != -EINVAL && r != -ERANGE)
                fuzz_fail("size_parse: %d", r);
        err_clear();
}

static void check(const struct options *o)
{
        if (o->action != OPTIONS_SERVE)
                return;
        if ((!o->ndisks && !o->control && !o->control_fdname && !o->monitor && !o->nstartup) || o->iothreads < 1 ||
            o->iothreads > 64)
                fuzz_fail("%zu disks, %u threads", o->ndisks, o->iothreads);
        for (size_t i = 0; i < o->nstartup; i++)
                if (!o->startup[i].command || !json_is_object(o->startup[i].args))
                        fuzz_fail("%s: no command, or not its arguments", o->startup[i].option);
        for (size_t i = 0; i < o->ndisks; i++) {
                const struct disk_opts *d = &o->disks[i];

                if (!d->path == !(d->format && !strcmp(d->format, "null")))
                        fuzz_fail("disk %zu: path %s, format %s", i, d->path, d->format);
                if ((d->socket != NULL) + (d->fd >= 0) + (d->fdname != NULL) > 1 || d->num_queues > 256)
                        fuzz_fail("disk %zu: too many sockets or queues", i);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        AUTO(freep) char *text = strndup((const char *)data, size);
        char *argv[ARGS_MAX + 1] = { (char *)"vdiskd" }, *rest = text, *word;
        struct options o;
        int argc = 1, r;

        while (argc < ARGS_MAX && (word = strsep(&rest, "\n"))) {
                try_size(word);
                argv[argc++] = word;
        }
        err_clear();
        r = options_parse(&o, argc, argv);
        if (r < 0 && (!*err_text(r) || strchr(err_text(r), '\n')))
                fuzz_fail("%d without one line of text", r);
        if (r == 0)
                check(&o);
        options_finish(&o);
        return 0;
}
