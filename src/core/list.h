// SPDX-License-Identifier: Apache-2.0
// Intrusive doubly linked lists. A list head and a node are the same struct; a node that is in no list points to
// itself, so that list_del is legal at any time. Nothing is allocated and nothing can fail.
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define list_entry(ptr, type, member) container_of(ptr, type, member)

// Walks `head`; the current node may be removed (and freed) in the body.
#define list_each(head, it)                                                                                            \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)

static inline void list_init(struct list *l) { l->prev = l->next = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline bool list_linked(const struct list *n) { return n->next != n; }
static inline struct list *list_first(const struct list *l) { return l->next == l ? NULL : l->next; }

static inline void list_del(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

// Appends `n`, which must be in no list, at the tail of `head`.
static inline void list_push(struct list *head, struct list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

static inline void list_push_front(struct list *head, struct list *n) { list_push(head->next, n); }

// Removes and returns the first node, or NULL.
static inline struct list *list_pop(struct list *head)
{
    struct list *n = list_first(head);
    if (n)
        list_del(n);
    return n;
}

// Moves all nodes of `from` to the tail of `to`.
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
