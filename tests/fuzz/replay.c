/* SPDX-License-Identifier: BSD-3-Clause */
/* replay.c - run a harness over saved inputs: replay FILE-OR-DIRECTORY... The path of each is printed before it runs. */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "fuzz.h"
#include "tests/lib/tmp_image.h"

static unsigned inputs;

static void replay_file(const char *path)
{
        size_t len;
        AUTO(freep) uint8_t *bytes = load_file(path, &len);

        if (!bytes)
                fuzz_fail("%s: %s", path, strerror(errno));
        fprintf(stderr, "%s\n", path);
        LLVMFuzzerTestOneInput(bytes, len);
        inputs++;
}

static void replay_dir(const char *path)
{
        struct dirent **list;
        int n = scandir(path, &list, NULL, alphasort);

        if (n < 0)
                fuzz_fail("%s: %s", path, strerror(errno));
        for (int i = 0; i < n; i++) {
                AUTO(freep) char *file = NULL;

                if (list[i]->d_name[0] != '.') {
                        if (asprintf(&file, "%s/%s", path, list[i]->d_name) < 0)
                                abort();
                        replay_file(file);
                }
                free(list[i]);
        }
        free(list);
}

int main(int argc, char **argv)
{
        LLVMFuzzerInitialize(&argc, &argv);
        for (int i = 1; i < argc; i++) {
                struct stat st;

                if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
                        replay_dir(argv[i]);
                else
                        replay_file(argv[i]);
        }
        if (!inputs)
                fuzz_fail("no inputs");
        printf("%u inputs\n", inputs);
        return 0;
}
