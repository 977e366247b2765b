/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fetch_once.h - no byte of guest memory is fetched twice: a guest that changes it in between would slip past the
 * check. For tests that link vhost_user_recorded.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/cleanup.h"

extern void (*gm_fetch_hook)(const void *host, size_t len);
static struct { const char *p; size_t len; } fetched[512];
static unsigned nfetched; /* 0: a new request */

/* For gm_fetch_hook. */
static void fetch_once(const void *host, size_t len)
{
        const char *p = host;

        for (unsigned i = 0; i < nfetched; i++)
                if (p < fetched[i].p + fetched[i].len && fetched[i].p < p + len)
                        fail_msg("fetch %u reads bytes of fetch %u again", nfetched, i);
        assert_true(nfetched < ARRAY_SIZE(fetched));
        fetched[nfetched].p = p;
        fetched[nfetched++].len = len;
}
