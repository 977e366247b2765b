/* SPDX-License-Identifier: BSD-3-Clause */
#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <jansson.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/thread.h"
#include "vdiskd/sandbox/landlock.h"
#include "vdiskd/sandbox/sandbox_calls.h"

static struct {
        const char *user;
        int landlock;   /* its ABI, or -errno */
        int calls;      /* 0: filtered, or -errno */
} state;

/* --- who we are --------------------------------------------------------------------------------------------------- */

static bool is_number(const char *text, unsigned *ret)
{
        char *end;
        unsigned long n = strtoul(text, &end, 10);

        *ret = (unsigned)n;
        return *text >= '0' && *text <= '9' && !*end && n < UINT32_MAX;
}

static int find_user(const struct options *o, uid_t *uid, gid_t *gid)
{
        struct passwd *pw = NULL;
        struct group *gr;

        if (o->user && is_number(o->user, uid))
                pw = getpwuid(*uid);
        else if (o->user && !(pw = getpwnam(o->user)))
                return err_note(-EINVAL, "--user=%s: there is no such user", o->user);
        if (pw) {
                *uid = pw->pw_uid;
                *gid = pw->pw_gid;
        } else if (o->user && !o->group) {
                return err_note(-EINVAL, "--user=%s: this user has no entry, so say --group, too", o->user);
        }
        if (!o->group || is_number(o->group, gid))
                return 0;
        gr = getgrnam(o->group);
        if (!gr)
                return err_note(-EINVAL, "--group=%s: there is no such group", o->group);
        *gid = gr->gr_gid;
        return 0;
}

/* The C library does it for all threads; there is one. */
static int change_user(const struct options *o)
{
        uid_t uid = geteuid();
        gid_t gid = getegid();
        int r = o->user || o->group ? find_user(o, &uid, &gid) : 0;

        if (r < 0 || (!o->user && !o->group))
                return r;
        if (geteuid() == 0 && setgroups(0, NULL) < 0)
                return err_note(-errno, "cannot give up supplementary groups: %s", strerror(errno));
        if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                return err_note(-errno, "cannot become user %u, group %u: %s", uid, gid, strerror(errno));
        return 0;
}

static int drop_capabilities(void)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

        for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
                prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* only who has CAP_SETPCAP can; no_new_privs does the same for us */
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if (syscall(SYS_capset, &head, none) < 0)
                return err_note(-errno, "cannot give up capabilities: %s", strerror(errno));
        return 0;
}

/* What was raised at the start (raise_file_limit()) stays; nothing is raised any more. */
static void fix_limits(void)
{
        static const int kinds[] = { RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_NPROC, RLIMIT_CORE };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                struct rlimit lim;

                if (getrlimit((__rlimit_resource_t)kinds[i], &lim) < 0)
                        continue;
                lim.rlim_max = lim.rlim_cur;
                setrlimit((__rlimit_resource_t)kinds[i], &lim);
        }
}

/* --- Landlock ----------------------------------------------------------------------------------------------------- */

/* Not a single rule gives any right back. The ABI, or -errno. */
static int shut_paths(void)
{
        struct landlock l;
        int abi = landlock_begin(&l), r = abi < 0 ? abi : landlock_enter(&l);

        return r < 0 ? r : abi;
}

/* What libraries read from files when they are first used. */
static void prime_libraries(void)
{
        json_object_seed(0); /* or strangers could foresee the places of its hash tables */
        tzset();
}

/* --- the door ----------------------------------------------------------------------------------------------------- */

int sandbox_enter(const struct options *o)
{
        int r = change_user(o);

        if (r == 0)
                r = drop_capabilities();
        if (r < 0)
                return err_prefix(r, "sandbox: ");
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_note(-errno, "sandbox: no_new_privs: %s", strerror(errno));
        fix_limits();
        prime_libraries();
        state.user = o->user;
        state.landlock = SANDBOX_RELAXED ? -ENOTSUP : shut_paths();
        state.calls = sandbox_calls_prepare();
        if (state.calls == 0)
                thread_on_begin(sandbox_calls_apply);
        return 0;
}

void sandbox_describe(char *text, size_t len)
{
        char paths[64], calls[64];

        if (state.landlock > 0)
                snprintf(paths, sizeof(paths), "no path (Landlock ABI %d)", state.landlock);
        else
                snprintf(paths, sizeof(paths), "Landlock is not to be had (%s)", strerror(-state.landlock));
        if (state.calls == 0)
                snprintf(calls, sizeof(calls), "few system calls (seccomp)");
        else
                snprintf(calls, sizeof(calls), "seccomp is not to be had (%s)", strerror(-state.calls));
        snprintf(text, len, "no capabilities%s%s, %s, %s", state.user ? ", user " : "", state.user ?: "", paths, calls);
}
