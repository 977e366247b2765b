/* SPDX-License-Identifier: BSD-3-Clause */
#include "thread.h"

#include <stddef.h>

static void (*on_begin)(enum thread_kind kind);

void thread_on_begin(void (*begin)(enum thread_kind kind))
{
        on_begin = begin;
}

void thread_begins(enum thread_kind kind)
{
        if (on_begin)
                on_begin(kind);
}
