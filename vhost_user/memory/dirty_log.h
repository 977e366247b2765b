/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_log.h - which pages of guest memory we have written to, in memory of the front end's (vhost-user, "Migration").
 * A page is 4096 bytes and one bit: bit (page % 8) of byte (page / 8). The front end takes bits away while we add some.
 *
 * A page is marked after it was written: marked before, it could be copied, and its bit taken away, before the write
 * lands. Made and freed by the control thread; marked by queue threads. The memory is a stranger's: it may be too small
 * for an address (the bit is not set, dirty_log_missed() tells) and it may be truncated (mem_guard.h,
 * dirty_log_broken() tells).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost_user/memory/mem_table.h"

#define DIRTY_PAGE 4096u

struct dirty_log;

/* Map @len bytes at @offset of @fd (borrowed). 0; -EINVAL or -EFBIG with a sentence when that cannot be; -ENOMEM,
 * -ENOSPC. */
int dirty_log_new(int fd, uint64_t offset, uint64_t len, struct dirty_log **ret);
void dirty_log_free(struct dirty_log *l); /* no ring uses it any more. NULL is fine */

/* Guest bytes [addr, addr + len) were written. */
void dirty_log_mark(struct dirty_log *l, uint64_t addr, uint64_t len);

/* The same for bytes that lie at @host, in a region of @mt. */
void dirty_log_mark_host(struct dirty_log *l, const struct mem_table *mt, const void *host, uint64_t len);

bool dirty_log_broken(const struct dirty_log *l); /* NULL: no */
bool dirty_log_missed(const struct dirty_log *l); /* likewise */
