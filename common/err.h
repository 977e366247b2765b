/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * err.h - one sentence for the person, a negative errno for the code.
 *
 * Errors travel up as negative errno, unchanged. Whoever knows the story says one clear sentence with the offending
 * value; whoever is at the top (main, the control socket) prints it. One note is kept per thread: the first one said
 * wins, since it is nearest to the cause, until err_clear() or err_take().
 */
#pragma once

#include <errno.h>

/**
 * err_note - remember the sentence that explains @r, and return @r.
 * @r: a negative errno. The text is kept for this thread only; at most 511 bytes, longer is cut.
 */
int err_note(int r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What has a sentence never passes for success, also where a library left errno at 0. Seen by readers and analysers. */
static inline int err_negative(int r)
{
        return r < 0 ? r : -EIO;
}
#define err_note(...) err_negative((err_note)(__VA_ARGS__))

/* Put a lead such as "disk.qcow2: " before the kept sentence (if there is one). Returns @r. */
int err_prefix(int r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The kept sentence, or strerror(-r) when nobody said one. Valid until the next err_ call of this thread. */
const char *err_text(int r);

void err_clear(void);
