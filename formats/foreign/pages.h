/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pages.h - tables that are only read: a bounded cache of 4 KiB pages of an image's files.
 *
 * Nothing of a table is in memory before somebody looks at it, so opening an image costs the same whatever it claims.
 * pages_get() runs on any thread inside rcu_read_lock(); everything else is home's.
 */
#pragma once

#include "formats/format.h"

struct pages;

/* Called on home (pages_on_load()) with a page that was just read, before anybody sees it: a log may know better
 * (vhdx_log.h). */
typedef void (*pages_loaded)(struct fmt_image *img, uint64_t off, void *bytes);

/* @cache_bytes: 0 takes FMT_CACHE_DEFAULT. NULL: no memory. */
struct pages *pages_new(size_t cache_bytes);
void pages_free(struct pages *p); /* NULL is fine; nothing may be on its way */

void pages_on_load(struct pages *p, pages_loaded loaded);

/**
 * pages_get - @len bytes at @off of @img's file. They may not cross a border of 4 KiB; past the end of the file are
 * zeros. Returns 0, or -EAGAIN: home runs the batch of pages_want() and asks again.
 */
int pages_get(struct pages *p, struct fmt_image *img, uint64_t off, void *buf, size_t len);

/* For fmt_want(): the batch that the last -EAGAIN of this thread waits for. NULL: no memory. */
struct fmt_batch *pages_want(struct pages *p);
