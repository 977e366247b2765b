/* SPDX-License-Identifier: BSD-3-Clause */
#include "std_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int std_fds_fill(void)
{
        int fd;

        do {
                fd = open("/dev/null", O_RDWR); /* takes the lowest free number */
                if (fd < 0)
                        return -errno;
        } while (fd <= STDERR_FILENO);
        close(fd);
        return 0;
}
