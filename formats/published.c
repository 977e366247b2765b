/* SPDX-License-Identifier: BSD-3-Clause */
/* published.c - what a thread sanitizer is told; see published.h. */
#include "formats/published.h"

char published_grace;

#if SANITIZED_THREAD
/* rcu_barrier() hands memory between threads by means that a sanitizer does not see; it is liburcu's own. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
        return "race:urcu_memb_barrier\nrace:liburcu\n";
}
#endif
