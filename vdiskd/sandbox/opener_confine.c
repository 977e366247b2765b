/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * opener_confine.c - what the opener gives up, since the daemon that asks it may be somebody else's by then:
 * capabilities but for those that opening and making files need, other programs, system calls, and, when it is strict,
 * all places but those that the command line names. When it is not, images may be added from anywhere: it keeps all
 * places, but runs nothing and makes files and sockets only. What it has of the host's means is bounded, too: it needs
 * next to nothing.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/sandbox/landlock.h"
#include "vdiskd/sandbox/opener_impl.h"
#include "vdiskd/sandbox/sandbox_calls.h"

#define WORK (PATH_READ | PATH_WRITE | PATH_TRUNCATE | PATH_DEVICE_IOCTL | PATH_LIST | PATH_REMOVE | PATH_MAKE_FILE | PATH_MAKE_SOCKET)
#define FILES (PATH_READ | PATH_WRITE | PATH_TRUNCATE | PATH_DEVICE_IOCTL)
#define LOOKED_AT (PATH_READ | PATH_LIST)

/* Files of whomever (a daemon for many tenants is root's), sockets for others, and those in directories with a sticky
 * bit. */
static const int kept_caps[] = { CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_FOWNER };

static int drop_capabilities(void)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = { 0 };
        uint32_t keep = 0;

        for (size_t i = 0; i < ARRAY_SIZE(kept_caps); i++)
                keep |= 1u << kept_caps[i];
        for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
                prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* only who has CAP_SETPCAP can; no_new_privs does the same for us */
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if (syscall(SYS_capget, &head, have) < 0)
                return -errno;
        have[0].permitted &= keep;
        have[0].effective = have[0].permitted;
        have[0].inheritable = 0;
        have[1] = (struct __user_cap_data_struct){ 0 };
        return syscall(SYS_capset, &head, have) < 0 ? -errno : 0;
}

/*
 * Not descriptors: the kernel counts against that bound what all processes of the user have sent and nobody has taken
 * yet. Files: it writes a disk's few lines itself, nothing else. A sanitizer's memory is without bounds.
 */
static void bound_means(void)
{
        static const struct { int kind; rlim_t most; } means[] = {
                { RLIMIT_CORE, 0 }, { RLIMIT_NPROC, 0 }, { RLIMIT_MEMLOCK, 0 }, { RLIMIT_FSIZE, OPENER_MAX_FILE },
                { RLIMIT_DATA, SANDBOX_RELAXED ? RLIM_INFINITY : OPENER_MAX_DATA },
        };

        signal(SIGXFSZ, SIG_IGN); /* -EFBIG says it */
        for (size_t i = 0; i < ARRAY_SIZE(means); i++) {
                struct rlimit lim;

                if (getrlimit((__rlimit_resource_t)means[i].kind, &lim) < 0 || lim.rlim_max <= means[i].most)
                        continue;
                lim = (struct rlimit){ means[i].most, means[i].most };
                setrlimit((__rlimit_resource_t)means[i].kind, &lim);
        }
}

static void keep_place(void *opaque, const char *path, enum opener_place kind)
{
        static const uint64_t rights[] = { [PLACE_WORK] = WORK, [PLACE_FILE] = FILES, [PLACE_LOOK] = LOOKED_AT };

        (void)landlock_keep(opaque, path, rights[kind]); /* one that is not there now is none to work in either */
}

/* 0: it is so; -errno: this kernel has no Landlock, or the build leaves it out. */
static int shut_paths(const struct opener_rules *rules)
{
        struct landlock l;
        int r = SANDBOX_RELAXED ? -ENOTSUP : landlock_begin(&l);

        if (r < 0)
                return r;
        if (rules->strict)
                opener_places(rules, keep_place, &l);
        else
                (void)landlock_keep(&l, "/", WORK | PATH_MAKE_DIR);
        return landlock_enter(&l);
}

/* Names of users are looked up when a socket is made for somebody: by then no library can be loaded. */
static void prime_names(void)
{
        (void)getpwnam("nobody at all");
        (void)getgrnam("nobody at all");
}

int opener_confine(const struct opener_rules *rules)
{
        int r;

        prime_names();
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_note(-errno, "the opener: no_new_privs: %s", strerror(errno));
        r = drop_capabilities();
        if (r < 0)
                return err_note(r, "the opener cannot give up capabilities: %s", strerror(-r));
        bound_means();
        (void)shut_paths(rules);      /* the daemon's log says what this kernel does not have: it lacks the same */
        (void)sandbox_calls_opener(); /* likewise */
        return 0;
}
