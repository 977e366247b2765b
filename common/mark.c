/* SPDX-License-Identifier: BSD-3-Clause */
#include "mark.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "err.h"

bool mark_is_set(const char *path)
{
        return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int mark_set(const char *path, bool on)
{
        int fd;

        if (!on)
                return unlink(path) == 0 || errno == ENOENT ? 0 : err_note(-errno, "'%s': cannot remove: %s", path, strerror(errno));
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return err_note(-errno, "'%s': cannot make: %s", path, strerror(errno));
        close(fd);
        return 0;
}
