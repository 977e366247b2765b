/* SPDX-License-Identifier: BSD-3-Clause */
/* size.h - sizes as people write them: "512", "4k", "10G", "1.5T". Binary units, as in qemu-img. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/**
 * size_parse - text to bytes.
 * Suffixes b k K M G T P E (powers of 1024); none means bytes. A fraction is allowed with a suffix.
 * Returns 0, or -EINVAL (not a size; negative; trailing text) or -ERANGE (above 2^63 - 1) with a sentence in err_note.
 */
int size_parse(const char *text, uint64_t *ret);

/* "1 GiB", "64 KiB", "1.5 TiB": three significant digits, as qemu-img prints. Returns @buf. */
const char *size_format(uint64_t bytes, char *buf, size_t buflen);
