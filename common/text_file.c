/* SPDX-License-Identifier: BSD-3-Clause */
#include "text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"

static int write_all(int fd, const char *text, size_t len)
{
        while (len) {
                ssize_t n = write(fd, text, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                text += n;
                len -= (size_t)n;
        }
        return fsync(fd) < 0 ? -errno : 0;
}

/* Under another name first, which readers of the directory take for hidden; what a crash left of it is written over. */
static int save_in(int dir, const char *name, const char *text, bool replace)
{
        AUTO(freep) char *hidden = NULL;
        AUTO(closep) int fd = -1;
        int r;

        if (asprintf(&hidden, ".%s.new", name) < 0) {
                hidden = NULL;
                return -ENOMEM;
        }
        fd = openat(dir, hidden, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
                return -errno;
        r = write_all(fd, text, strlen(text));
        if (r == 0 && (replace ? renameat(dir, hidden, dir, name) : linkat(dir, hidden, dir, name, 0)) < 0)
                r = -errno;
        unlinkat(dir, hidden, 0);
        return r == 0 && fsync(dir) < 0 ? -errno : r;
}

int text_file_save(const char *dir, const char *name, const char *text, bool replace)
{
        AUTO(closep) int fd = -1;
        int r;

        if (mkdir(dir, 0755) < 0 && errno != EEXIST)
                return err_note(-errno, "%s: cannot be made: %s", dir, strerror(errno));
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : save_in(fd, name, text, replace);
        return r < 0 ? err_note(r, "%s/%s: cannot be written: %s", dir, name, strerror(-r)) : 0;
}

int text_file_remove(const char *path)
{
        const char *slash = strrchr(path, '/');
        AUTO(freep) char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
        AUTO(closep) int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

        if (!dir)
                return -ENOMEM;
        if (fd < 0 || unlinkat(fd, slash ? slash + 1 : path, 0) < 0 || fsync(fd) < 0)
                return err_note(-errno, "%s: cannot be removed: %s", path, strerror(errno));
        return 0;
}
