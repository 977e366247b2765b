/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon_fixture.h - the daemon as a program, with what it logs, and a directory with images: d.qcow2 (64 MiB),
 * zeros.img (raw, 1 MiB), empty.img (nothing), and some that are broken. Its path is in E2E_BACK_END. Every started
 * program dies with the test. Deadlines only guard against hangs; everything fails the test when it cannot be done.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define HANG_NS (60 * NS_PER_SEC)
#define MIB (1ull << 20)

struct proc {
        pid_t pid;
        char log[128]; /* what it writes to stdout and stderr */
};
struct setup {
        int fds[2];          /* become 3, 4 */
        unsigned nfds;
        const char *fdnames; /* LISTEN_FDNAMES; NULL: no activation */
        const char *notify;  /* NOTIFY_SOCKET */
        bool piped_stdin;    /* stays open as long as the test */
};

/* For cmocka, once. */
int make_images(void **state);
int remove_images(void **state);

/* @name in the test's directory. Eight results are valid at a time. */
const char *at(const char *name);
bool exists(const char *path);

const char *vdiskd(void); /* the path of the daemon */

/* @args: NULL-terminated, without the program's name; "%" in one stands for the directory. @su: NULL is fine. */
void spawn(struct proc *p, const char *program, const char *const *args, const struct setup *su);
char *log_of(const struct proc *p);
int finish(struct proc *p); /* exit status, or -signal */
int run(const char *program, const char *const *args);
void qemu_img(const char *const *args); /* must succeed */

/* Waits until the log has @word @times times. */
void wait_for(struct proc *p, const char *word, unsigned times);

/* A daemon that serves @ndisks; SIGTERM, and exit status 0. */
void start(struct proc *p, const struct setup *su, unsigned ndisks, const char *const *args);
void stop(struct proc *p);

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define ONE_DISK ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock")

uint64_t capacity(const char *socket); /* bytes, as a front end is told */
int listening(const char *path);       /* a socket there */
