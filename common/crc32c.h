/* SPDX-License-Identifier: BSD-3-Clause */
/* crc32c.h - the Castagnoli checksum (RFC 3720, appendix B.4), as VHDX uses it. Pure; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* @crc: 0 to begin, or what the call for the bytes before gave. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);
