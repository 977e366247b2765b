/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "actor.h"
#include "common/cleanup.h"
#include "tests/diff/fail.h"

#define COMMAND_MAX 16384

int run_shell(const char *log, const char *fmt, ...)
{
        char cmd[COMMAND_MAX], whole[COMMAND_MAX + 256];
        va_list ap;
        int status;

        va_start(ap, fmt);
        vsnprintf(cmd, sizeof(cmd), fmt, ap);
        va_end(ap);
        snprintf(whole, sizeof(whole), "{ %s ; } > %s 2>&1", cmd, log);
        status = system(whole);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void qemu_do(const struct subject *image, const char *log, const struct op *ops, unsigned n)
{
        static const char *const verb[] = {
                [OP_WRITE] = "write -P",     [OP_ZERO] = "write -z",   [OP_ZERO_UNMAP] = "write -z -u",
                [OP_DISCARD] = "discard", [OP_FLUSH] = "flush",
        };
        char args[COMMAND_MAX - 512] = "";
        size_t at = 0;

        for (unsigned i = 0; i < n; i++) {
                const struct op *op = &ops[i];

                if (op->kind == OP_FLUSH)
                        at += (size_t)snprintf(args + at, sizeof(args) - at, " -c flush");
                else if (op->kind == OP_WRITE)
                        at += (size_t)snprintf(args + at, sizeof(args) - at, " -c '%s %u %llu %llu'", verb[op->kind],
                                               op->value, (unsigned long long)op->off, (unsigned long long)op->len);
                else
                        at += (size_t)snprintf(args + at, sizeof(args) - at, " -c '%s %llu %llu'", verb[op->kind],
                                               (unsigned long long)op->off, (unsigned long long)op->len);
                if (at >= sizeof(args))
                        test_failed("too many operations for one command line");
        }
        if (run_shell(log, "qemu-io -d unmap %s %s && ! grep -q -i failed %s", args, image->words, log) != 0)
                test_failed("qemu-io failed, see %s", log);
}

void qemu_check(const struct subject *image, const char *log)
{
        int status = run_shell(log, "qemu-img check %s", image->words);

        if (status != 0)
                test_failed("qemu-img check says %d, see %s", status, log);
}

void qemu_compare(const struct subject *image, const char *scratch, const char *log, const struct model *m)
{
        struct stat st;
        uint8_t *bytes;
        uint64_t bad = 0;
        bool agrees;

        if (run_shell(log, "qemu-img convert -O raw %s %s", image->words, scratch) != 0)
                test_failed("qemu-img cannot read the image, see %s", log);
        AUTO(closep) int fd = open(scratch, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size != m->size)
                test_failed("qemu-img sees a disk of another size than %llu", (unsigned long long)m->size);
        bytes = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED)
                test_failed("cannot map %s", scratch);
        agrees = model_agrees(m, 0, bytes, m->size, &bad);
        munmap(bytes, m->size);
        if (!agrees)
                test_failed("qemu-img reads something else at %llu", (unsigned long long)bad);
}
