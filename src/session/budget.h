// SPDX-License-Identifier: Apache-2.0
// Memory is the law, windows are promises: a budget counts the storage of every buffer held for one identity, and its
// parent for all. Who finds it full drops received DATA and owes a REWIND; when there is room again the waiting streams are
// served in turn. The first BUDGET_RESERVE bytes of each child are its own, whatever the others hold: who does not read never
// stops another identity. Counting cannot fail; asking may answer no.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "core/list.h"

struct budget {
    struct budget *parent; // NULL: the whole process
    size_t used, max;
    size_t sent;           // of used: what was sent and is not acknowledged; at most half, so that two full ends can still receive
    size_t common;         // of used: what is beyond the children's reserves
    size_t child_count;
    struct list waiters;   // struct budget_waiter, of this budget only
    struct list siblings;  // node in the parent's children
    struct list children;
    // Somebody waits for room, and this one has none: whoever holds memory in vain shall let go of it, later. May be NULL.
    void (*on_short)(struct budget *b);
};

struct budget_waiter {
    struct list node;
    void (*on_room)(struct budget_waiter *waiter); // may take from the budget
};

void budget_init(struct budget *b, size_t max, struct budget *parent);
void budget_fini(struct budget *b); // nothing may be held any more
// Whether n more bytes fit here and in all parents.
bool budget_has(const struct budget *b, size_t n);
void budget_take(struct budget *b, size_t n); // may exceed; who must not, asks budget_has first
void budget_give(struct budget *b, size_t n); // serves waiters once there is some room
// The same for bytes that are kept until they are acknowledged.
bool budget_has_to_send(const struct budget *b, size_t n);
void budget_take_sent(struct budget *b, size_t n);
void budget_give_sent(struct budget *b, size_t n);
// Somebody waits in it or below, and it is itself full (or what was sent fills its half).
bool budget_is_short(const struct budget *b);
void budget_wait(struct budget *b, struct budget_waiter *w); // once
#define BUDGET_SLACK_MAX 65536 // room at which waiters are served: an eighth of the budget, at most this
#define BUDGET_RESERVE 65536   // of each child, or 1/64 of the parent if that is less; half of it to send, half of it to receive
