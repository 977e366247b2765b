/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sanitized.h - is this build made with a sanitizer? Then memory, run time and system calls are not ours alone.
 *
 * gcc says it with macros, clang with __has_feature().
 */
#pragma once

#if defined(__SANITIZE_THREAD__)
#define SANITIZED_THREAD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZED_THREAD 1
#endif
#endif
#ifndef SANITIZED_THREAD
#define SANITIZED_THREAD 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED_ADDRESS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED_ADDRESS 1
#endif
#endif
#ifndef SANITIZED_ADDRESS
#define SANITIZED_ADDRESS 0
#endif

#define SANITIZED (SANITIZED_ADDRESS || SANITIZED_THREAD)
