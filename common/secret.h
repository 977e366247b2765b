/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * secret.h - passwords that the operator gave a name ("--object secret", QMP object-add), and memory for them.
 *
 * A password comes from a file or a file descriptor, never from a command line, which every user of the host can read.
 * It is read when it gets its name and lies in memory that is not in core dumps, is not swapped out where the system
 * allows that, and is wiped before it is given back. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SECRET_MAX (64u << 10) /* bytes */

/* Page-aligned zeros; NULL: no memory. Each takes pages of its own: for a few keys, not for many. */
void *secret_mem_new(size_t len);
void secret_mem_free(void *mem, size_t len); /* NULL is fine */

/* What "--object secret,..." and object-add can say. NULL, -1: not said. */
struct secret_source {
        const char *id;
        const char *file;   /* all its bytes, a newline at the end too */
        int fd;             /* read to its end and closed */
        const char *format; /* "raw" (also NULL) or "base64" */
        bool no_waiting;    /* @file must be a regular file: one that others must not be able to stop reading it */
};

/* Is all said that must be? 0, or -EINVAL with a sentence. */
int secret_check(const struct secret_source *src);

/* "secret,id=ID,file=PATH|fd=N[,format=base64]": changes @text, into which *s points. -EINVAL with a sentence. */
int secret_option(char *text, struct secret_source *s);

/* Reads it and gives it the name. 0; -EEXIST, -EINVAL, -EFBIG or the error of reading, with a sentence. */
int secret_add(const struct secret_source *src);

/* Forgets it. 0, or -ENOENT with a sentence. Images that it has opened stay open. */
int secret_remove(const char *id);

/* The bytes: a copy, secret_free() it. 0; -ENOENT with a sentence; -ENOMEM. */
struct secret {
        char *bytes;
        size_t len;
};
int secret_get(const char *id, struct secret *ret);
void secret_free(struct secret *s); /* for AUTO(); zeroed ones are fine */

/* Gives what another process read the name. @s is taken, also on failure. 0, -EEXIST with a sentence, -ENOMEM. */
int secret_add_bytes(const char *id, struct secret *s);

/* All of them, oldest first; @see must not ask for more. */
void secret_each(void (*see)(void *opaque, const char *id, const struct secret *s), void *opaque);
