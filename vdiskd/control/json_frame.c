/* SPDX-License-Identifier: BSD-3-Clause */
#include "json_frame.h"

static void in_string(struct json_frame *f, char c)
{
        if (f->escaped)
                f->escaped = false;
        else if (c == '\\')
                f->escaped = true;
        else if (c == '"')
                f->in_string = false;
}

/* Is the value complete with this byte? */
static bool outside(struct json_frame *f, char c)
{
        switch (c) {
        case '{':
        case '[':
                f->depth++;
                break;
        case '}':
        case ']':
                return f->depth <= 1;
        case '"':
                f->in_string = true;
                break;
        case '\n':
                return f->started && f->depth == 0;
        default:
                break;
        }
        return false;
}

size_t json_frame_feed(struct json_frame *f, const char *bytes, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                char c = bytes[i];

                if (f->in_string) {
                        in_string(f, c);
                        continue;
                }
                if (outside(f, c)) {
                        *f = (struct json_frame){ 0 };
                        return i + 1;
                }
                if ((c == '}' || c == ']') && f->depth)
                        f->depth--;
                f->started |= c != ' ' && c != '\t' && c != '\r' && c != '\n';
        }
        return 0;
}
