/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fail_calls.h - calls of the C library that fail when a test says so. In a test that is linked with it
 * (with_failing_calls in meson.build) the calls of the test and of our code in it come through here; those of shared
 * libraries do not. One thread.
 */
#pragma once

/* malloc is strdup and strndup, too. */
enum call { CALL_MALLOC, CALL_CALLOC, CALL_MMAP, CALL_FSTAT, CALL_FCNTL, CALL_FTRUNCATE, CALL_MEMFD, CALL_EPOLL_CTL, CALLS };

/* The @nth @call from now on fails, once, with @err; 0: none does. */
void fail_call(enum call call, unsigned nth, int err);

/* Did it? Then, and only then, none is armed any more. */
int fail_call_done(enum call call);
