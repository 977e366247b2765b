/* SPDX-License-Identifier: BSD-3-Clause */
/* open_fds.h - how many descriptors this process has: the same before and after, or something leaks. (One more while it
 * counts.) */
#pragma once

#include <dirent.h>

static inline unsigned open_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(d))
                n++;
        closedir(d);
        return n;
}
