// SPDX-License-Identifier: Apache-2.0
// Keeps the relay's store off the loop: one thread owns the struct store, takes jobs from a bounded queue, and posts
// the answers back to the worker; every KEEPER_POLL_MS it looks whether another process (invite, grant, revoke) changed
// the store. The worker always has a current policy snapshot. Callbacks run from the worker's loop, never inside the
// calls here.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"
#include "core/worker.h"
#include "trust/policy.h"
#include "trust/store.h"

#define KEEPER_JOBS_MAX 1024
#define KEEPER_POLL_MS 500

struct keeper;

struct keeper_ops {
    // The policy changed: keeper_policy is the new one. Close what belongs to subjects it no longer knows.
    void (*on_policy)(void *owner);
    // An enrolment is answered, after on_policy when that changed anything. name: the name given when ENROLLED; err
    // when BROKEN.
    void (*on_enroll)(void *owner, uint64_t ticket, enum store_answer answer, const char *name, const struct err *err);
    // All reloads up to this ticket are done, after on_policy. A store that could not be read leaves the old policy.
    void (*on_reload)(void *owner, uint64_t ticket);
};

// Opens the store (blocking), reads the first policy, starts the thread. NULL with *e set.
struct keeper *keeper_start(struct worker *w, const char *state, const struct keeper_ops *ops, void *owner,
                            struct err *e);
// The current snapshot, borrowed until the next on_policy. Never NULL.
struct policy *keeper_policy(const struct keeper *k);
// The relay's own listeners, all of them each time; a new policy follows by on_policy.
void keeper_set_own(struct keeper *k, const struct addr *listeners, size_t count);
// Asks for an enrolment; `ticket` is the caller's and comes back. False: too many jobs wait; answer "wait".
bool keeper_enroll(struct keeper *k, const uint8_t token[PAIRING_TOKEN], const uint8_t pin[PIN_SIZE], uint64_t ticket);
// Reads the store again. `ticket` rises from call to call, or is 0: then nobody is told by on_reload.
void keeper_reload(struct keeper *k, uint64_t ticket);
// Finishes the job in hand, drops the others, joins the thread, closes the store. No callback comes after it; not to be
// called from within one.
void keeper_stop(struct keeper *k); // NULL is allowed
