/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * json_frame.h - where does one JSON value end in a stream of bytes? QMP puts nothing between values, so this counts
 * brackets outside strings, a byte once. It does not parse: what it cuts out may still be nonsense for the parser.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct json_frame {
        unsigned depth;
        bool in_string, escaped, started;
};

/*
 * Feed @len more bytes. Returns how many of them end the value that is being read (the next value starts behind), or 0
 * when it needs more. Zero-initialise; ready for the next value after a non-zero return. A stray closing bracket ends a
 * value; outside of brackets a value ends at a newline.
 */
size_t json_frame_feed(struct json_frame *f, const char *bytes, size_t len);
