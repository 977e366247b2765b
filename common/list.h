/* SPDX-License-Identifier: BSD-3-Clause */
/* list.h - intrusive doubly linked list. A node that is on no list points at itself (list_init). Not thread safe. */
#pragma once

#include <stdbool.h>

#include "cleanup.h"

struct list {
        struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
        l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
        return l->next == l;
}

static inline void list_insert_between(struct list *n, struct list *prev, struct list *next)
{
        n->prev = prev;
        n->next = next;
        prev->next = n;
        next->prev = n;
}

/* @n becomes the last entry of @head. It must be on no list. */
static inline void list_add_tail(struct list *head, struct list *n)
{
        list_insert_between(n, head->prev, head);
}

static inline void list_add_head(struct list *head, struct list *n)
{
        list_insert_between(n, head, head->next);
}

/* Safe on a node that is on no list. */
static inline void list_del(struct list *n)
{
        n->prev->next = n->next;
        n->next->prev = n->prev;
        list_init(n);
}

/* First node taken off the list, or NULL. */
static inline struct list *list_pop(struct list *head)
{
        struct list *n = head->next;

        if (n == head)
                return NULL;
        list_del(n);
        return n;
}

/* All entries of @from move to the end of @to; @from is empty afterwards. */
static inline void list_splice_tail(struct list *to, struct list *from)
{
        if (list_empty(from))
                return;
        from->next->prev = to->prev;
        to->prev->next = from->next;
        from->prev->next = to;
        to->prev = from->prev;
        list_init(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)

#define list_for_each(pos, head) for (struct list *pos = (head)->next; pos != (head); pos = pos->next)

/* The body may take @pos off the list. */
#define list_for_each_safe(pos, head)                                                              \
        for (struct list *pos = (head)->next, *next_##pos = pos->next; pos != (head); \
             pos = next_##pos, next_##pos = pos->next)
