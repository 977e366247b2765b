/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * retire.h - an image that guests no longer write to is made durable and tidy, while requests go on; then it is only
 * read: its lock is a shared one and its log of table changes is closed.
 */
#pragma once

struct bitmap_set;
struct img_writer;
struct retire;
struct vol;
struct waiter;

struct retire *retire_new(void); /* NULL: no memory */
void retire_free(struct retire *t); /* that was not started. NULL is fine */
/* Home. Takes both. No write to the image is under way, and none will come; flushes of it may be. The volume is not
 * settled, and so not closed, before this has ended. */
void retire_start(struct retire *t, struct img_writer *w);
/* Before it starts: the image's bitmaps, which are stored in it when it is clean. @s is empty then. */
void retire_bitmaps(struct retire *t, struct bitmap_set *s);
/* Before it starts: the image, and what is behind it, is not of the chain any more: it is closed when it is clean. */
void retire_then_close(struct retire *t);
/* Home: wakes @w when no image of @v's is retiring; -EBUSY: one is that cannot become clean now. Perhaps at once. */
void retire_wait(struct vol *v, struct waiter *w);
void retire_writer_idle(struct retire *t); /* from batch.c: no batch of its writer is under way */
void retire_cancel(struct retire *t);      /* a paused one, when the volume is closed; the writer stays the caller's */
