/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * af.h - LUKS1's anti-forensic splitter: a key as @stripes blocks of @len bytes, of which each is needed to get it
 * back. (LUKS On-Disk Format Specification 1.2.3, section 2.4.) Any thread; 0 or -errno with a sentence.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out);
int af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *key);
