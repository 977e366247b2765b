/* SPDX-License-Identifier: BSD-3-Clause */
#include "pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"

int pid_file_take_over(int fd)
{
        char text[24];
        int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());

        if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len)
                return err_note(-errno, "the pid file cannot be written: %s", strerror(errno));
        return 0;
}

/* The lock belongs to the open file, not to the process: it goes along to who takes over. */
static int lock(int fd)
{
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

int pid_file_make(const char *path)
{
        for (;;) {
                AUTO(closep) int fd = path_open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
                struct stat ours, there;
                int r;

                if (fd < 0)
                        return err_note(fd, "--pidfile=%s: cannot be opened: %s", path, strerror(-fd));
                if (lock(fd) < 0)
                        return err_note(-EBUSY, "--pidfile=%s: another process that runs has it", path);
                /* Whoever had it may have removed it just before it let go of it. */
                if (fstat(fd, &ours) < 0 || path_look(path, true, &there) < 0 || ours.st_ino != there.st_ino || ours.st_dev != there.st_dev)
                        continue;
                r = pid_file_take_over(fd);
                return r < 0 ? r : TAKE(fd, -1);
        }
}
