/* SPDX-License-Identifier: BSD-3-Clause */
/* fail.h - one line that names the sequence, so that it can be run again alone. */
#pragma once

/* "sequence 17 (seed 42): ...: repeat with ..." to stderr, then exit status 1. */
_Noreturn void test_failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
