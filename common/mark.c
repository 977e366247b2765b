/* SPDX-License-Identifier: BSD-3-Clause */
#include "mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "err.h"
#include "path.h"

bool mark_is_set(const char *path)
{
        struct stat st;

        return path_look(path, false, &st) == 0;
}

int mark_set(const char *path, bool on)
{
        int fd, r;

        if (!on) {
                r = path_unlink(path);
                return r == 0 || r == -ENOENT ? 0 : err_note(r, "'%s': cannot remove: %s", path, strerror(-r));
        }
        fd = path_open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return err_note(fd, "'%s': cannot make: %s", path, strerror(-fd));
        close(fd);
        return 0;
}

int mark_move(char **path, const char *to, bool on)
{
        char *was = *path, *now = to ? strdup(to) : NULL;
        int r = 0;

        if (to && !now)
                return -ENOMEM;
        if (was && now && !strcmp(was, now)) {
                free(now);
                return 0;
        }
        if (now) /* the new one first: a kill between the two leaves one too many, for an image that nobody serves */
                r = mark_set(now, on);
        if (was && r == 0)
                r = mark_set(was, false);
        free(was);
        *path = now;
        return r;
}
