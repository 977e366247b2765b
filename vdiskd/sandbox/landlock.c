/* SPDX-License-Identifier: BSD-3-Clause */
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

struct ruleset {
        uint64_t fs, net, scoped;
};
struct path_beneath {
        uint64_t rights;
        int32_t fd;
} __attribute__((packed));
#define RULESET_VERSION (1u << 0)
#define RULE_PATH_BENEATH 1
static const struct { int abi; unsigned fs_rights, net_rights, scopes; } rights[] = {
        { 1, 13, 0, 0 }, { 2, 14, 0, 0 }, { 3, 15, 0, 0 }, { 4, 15, 2, 0 }, { 5, 16, 2, 0 }, { 6, 16, 2, 2 },
};

int landlock_begin(struct landlock *l)
{
        int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, RULESET_VERSION);
        struct ruleset all = { 0 };
        size_t size = sizeof(all.fs);

        l->fd = -1;
        if (abi < 1)
                return -errno;
        for (size_t i = 0; i < ARRAY_SIZE(rights) && rights[i].abi <= abi; i++)
                all = (struct ruleset){ (1u << rights[i].fs_rights) - 1, (1u << rights[i].net_rights) - 1,
                                        (1u << rights[i].scopes) - 1 };
        if (abi >= 4)
                size = abi >= 6 ? sizeof(all) : sizeof(all.fs) + sizeof(all.net);
        l->fs = all.fs;
        l->fd = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
        return l->fd < 0 ? -errno : abi;
}

int landlock_keep(struct landlock *l, const char *path, uint64_t keep)
{
        AUTO(closep) int at = open(path, O_PATH | O_CLOEXEC);
        struct path_beneath rule = { .fd = at };
        struct stat st;

        if (at < 0 || fstat(at, &st) < 0)
                return -errno;
        rule.rights = keep & l->fs & (S_ISDIR(st.st_mode) ? UINT64_MAX : (uint64_t)PATH_OF_FILES);
        if (!rule.rights)
                return 0;
        return syscall(SYS_landlock_add_rule, l->fd, RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

int landlock_enter(struct landlock *l)
{
        AUTO(closep) int fd = TAKE(l->fd, -1);

        return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}
