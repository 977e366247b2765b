/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A configuration file. Its writer may be a program that puts strangers' names into it: whatever stands there is understood,
 * or every problem is told in a line of its own, with the file's name and the line's number.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "fuzz.h"
#include "vdiskd/config/configuration.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        return 0;
}

static void check_problems(const struct options *o, const char *path)
{
        unsigned line;
        int at;

        for (const char *p = o->problems; p; p = strchr(p, '\n')) {
                p += *p == '\n';
                if (strncmp(p, path, strlen(path)) || sscanf(p + strlen(path), ":%u: %n", &line, &at) != 1)
                        fuzz_fail("a problem without its place: %s", p);
        }
        for (const char *p = o->problems; p && *p; p++)
                if ((unsigned char)*p < ' ' && *p != '\n')
                        fuzz_fail("a problem with a control character");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        AUTO(closep) int fd = memfd_create("conf", MFD_CLOEXEC);
        struct options o = { .iothreads = 1 };
        char path[64];
        int r;

        if (fd < 0 || write(fd, data, size) != (ssize_t)size)
                return 0;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        err_clear();
        r = config_read(&o, path);
        if ((r == -EINVAL) != (o.problems != NULL))
                fuzz_fail("%d, but problems: %s", r, o.problems ?: "none");
        check_problems(&o, path);
        for (size_t i = 0; r == 0 && i < o.ndisks; i++)
                if (!o.disks[i].id || !o.disks[i].file || !o.disks[i].line)
                        fuzz_fail("disk %zu has no name or place", i);
        options_finish(&o);
        return 0;
}
