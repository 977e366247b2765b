/* SPDX-License-Identifier: BSD-3-Clause */
#include "vdiskd/state_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"

/* A directory for ourselves alone: what lies there is believed after a restart. */
static int make_private_dir(const char *path)
{
        struct stat st;

        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return err_note(-errno, "%s: cannot make this directory: %s", path, strerror(errno));
        if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                return err_note(-ENOTDIR, "%s: not a directory", path);
        if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
                return err_note(-EPERM, "%s: must belong to us and be writable by nobody else", path);
        return 0;
}

int state_dir_choose(const char *wish, char **ret)
{
        const char *runtime = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
        AUTO(freep) char *dir = NULL;
        int r;

        *ret = NULL;
        if (wish && !strcmp(wish, "none"))
                return 0;
        if (wish)
                dir = strdup(wish);
        else if (!runtime || asprintf(&dir, "%s/vdiskd", runtime) < 0)
                dir = NULL;
        if (!dir && wish)
                return -ENOMEM;
        r = dir ? make_private_dir(dir) : err_note(-ENOENT, "there is no runtime directory");
        if (r == 0) {
                *ret = TAKE(dir, NULL);
                return 0;
        }
        if (wish)
                return err_prefix(r, "--state-dir: ");
        log_info("writes that are not flushed yet would not survive a kill of this daemon: %s (--state-dir=DIR|none)",
                 err_text(r));
        err_clear();
        return 0;
}
