/* SPDX-License-Identifier: BSD-3-Clause */
#include "successor.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/upgrade/handover.h"

#define CHILD_FD 3

extern char **environ;

/* Ours and one more. NULL: no memory. */
static char **environment(char *more)
{
        char **env;
        size_t n = 0;

        while (environ[n])
                n++;
        env = calloc(n + 2, sizeof(*env));
        if (!env)
                return NULL;
        memcpy(env, environ, n * sizeof(*env));
        env[n] = more;
        return env;
}

static int spawn_with(const char *binary, char *const *argv, int sock, pid_t *pid)
{
        char more[] = HANDOVER_ENV "=3";
        AUTO(freep) char **env = environment(more);
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t none, all;
        int r;

        if (!env || posix_spawn_file_actions_init(&files))
                return -ENOMEM;
        if (posix_spawnattr_init(&attr)) {
                posix_spawn_file_actions_destroy(&files);
                return -ENOMEM;
        }
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setsigdefault(&attr, &all);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        r = posix_spawn_file_actions_adddup2(&files, sock, CHILD_FD);
        if (r == 0)
                r = posix_spawnp(pid, binary, &files, &attr, argv, env);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&files);
        return r ? err_note(-r, "%s: cannot be started: %s", binary, strerror(r)) : 0;
}

int successor_start(const char *binary, char *const *argv, pid_t *pid)
{
        AUTO(closep) int ours = -1, theirs = -1;
        int ends[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        ours = ends[0];
        theirs = ends[1];
        r = spawn_with(binary, argv, theirs, pid);
        return r < 0 ? r : TAKE(ours, -1);
}

void successor_end(pid_t pid, int kill_it)
{
        kill(pid, kill_it ? SIGKILL : SIGTERM);
        while (kill_it && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
}
