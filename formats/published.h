/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * published.h - pointers that home publishes and any thread looks up inside rcu_read_lock(): rcu_assign_pointer() and
 * rcu_dereference() in C11's words, which thread sanitizers understand.
 *
 * A grace period of liburcu is invisible to thread sanitizers. In their builds they are told: every lookup that has
 * ended (looked()) comes before the memory is freed (grace_over()). A lookup that has not ended by then is still
 * reported.
 */
#pragma once

#include "common/sanitized.h"

#define see(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define publish(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)

extern char published_grace;

#if SANITIZED_THREAD
#include <sanitizer/tsan_interface.h>
#define looked() __tsan_release(&published_grace)
#define grace_over() __tsan_acquire(&published_grace)
#else
#define looked() ((void)0)
#define grace_over() ((void)0)
#endif
