/* SPDX-License-Identifier: BSD-3-Clause */
#include "tmp_image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"

static char dir[64];

static void remove_dir(void)
{
        char cmd[96];

        snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
        if (system(cmd) != 0)
                fprintf(stderr, "cannot remove %s\n", dir);
}

const char *tmp_path(const char *name, char buf[TMP_PATH_MAX])
{
        if (!dir[0]) {
                const char *base = getenv("TMPDIR");

                snprintf(dir, sizeof(dir), "%s/vdiskd-test-XXXXXX", base && strlen(base) < 32 ? base : "/tmp");
                if (!mkdtemp(dir))
                        abort();
                atexit(remove_dir);
        }
        snprintf(buf, TMP_PATH_MAX, "%s/%s", dir, name);
        return buf;
}

int run_cmd(const char *fmt, ...)
{
        char cmd[2048], all[2600], log[TMP_PATH_MAX];
        va_list ap;
        int status;

        va_start(ap, fmt);
        vsnprintf(cmd, sizeof(cmd), fmt, ap);
        va_end(ap);
        tmp_path("output", log);
        snprintf(all, sizeof(all), "{ %s ; } > '%s' 2>&1", cmd, log);
        status = system(all);
        if (status != 0) {
                fprintf(stderr, "# %s\n", cmd);
                snprintf(all, sizeof(all), "head -c 4000 '%s' >&2", log);
                if (system(all) != 0)
                        fprintf(stderr, "(no output)\n");
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void *load_file(const char *path, size_t *len)
{
        FILE *f = fopen(path, "rb");
        char *bytes = NULL;
        long n;

        if (!f)
                return NULL;
        if (fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0 && (bytes = malloc((size_t)n + 1))) {
                rewind(f);
                *len = fread(bytes, 1, (size_t)n, f);
        }
        fclose(f);
        return bytes;
}

int save_file(const char *path, const void *bytes, size_t len)
{
        FILE *f = fopen(path, "wb");
        size_t n;

        if (!f)
                return -errno;
        n = fwrite(bytes, 1, len, f);
        return fclose(f) == 0 && n == len ? 0 : -EIO;
}

uint64_t test_seed(void)
{
        const char *text = getenv("SEED");
        uint64_t seed = text ? strtoull(text, NULL, 0) : clock_ns();

        seed |= 1;
        printf("# SEED=%llu\n", (unsigned long long)seed);
        return seed;
}
