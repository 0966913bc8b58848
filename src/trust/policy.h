// SPDX-License-Identifier: Apache-2.0
// The policy: who may open what. One engine for both ends, asked for each stream and flow. A struct policy has one
// owner and is an immutable snapshot once it is in use; a reload makes a new one, perhaps on another thread.
// Subjects are identities (pins): at the relay its agents, at an agent its relays. What no rule allows is denied; an
// unknown or revoked subject may nothing. Rules and the classes of special addresses: wire/rule.h.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"
#include "trust/identity.h"
#include "wire/rule.h"

#define POLICY_RULES_MAX 1024 // of one subject
#define VERDICT_TEXT_MAX 1024

struct policy;

struct verdict {
    bool allowed;
    char text[VERDICT_TEXT_MAX]; // the rule that decides, or why none does, for people and logs
};

// Building, before it is handed over:
struct policy *policy_new(void); // nobody in it
// Adds a subject; `name` for people and for SERVICE@AGENT. False when it is in already.
bool policy_add(struct policy *p, const uint8_t pin[PIN_SIZE], const char *name);
// Adds a rule to a subject. False when the subject is unknown or has POLICY_RULES_MAX.
bool policy_add_rule(struct policy *p, const uint8_t pin[PIN_SIZE], const struct rule *r);
// One of the process's own listeners. An unspecified address stands for all addresses of this machine (read now).
void policy_add_own(struct policy *p, const struct addr *listener);

void policy_free(struct policy *p); // NULL is allowed

bool policy_knows(const struct policy *p, const uint8_t pin[PIN_SIZE]); // false also when revoked
const char *policy_name(const struct policy *p, const uint8_t pin[PIN_SIZE]); // NULL: unknown
bool policy_find(const struct policy *p, const char *name, uint8_t pin[PIN_SIZE]);

// The questions. v may be NULL. Names are as asked for, addresses are those that would be used.
bool policy_dial(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *name, const struct addr *to, bool udp,
                 struct verdict *v);
bool policy_dial_unix(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *path, struct verdict *v);
bool policy_service(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *service, const char *agent,
                    struct verdict *v);
bool policy_listen(const struct policy *p, const uint8_t pin[PIN_SIZE], const struct addr *at, bool udp,
                   struct verdict *v);
bool policy_listen_unix(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *path, struct verdict *v);
bool policy_offer(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *service, struct verdict *v);
// Whether any rule could allow dialling this name and port, before it is resolved: a relay resolves no names for
// agents that could not use the answer.
bool policy_may_resolve(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *name, uint16_t port, bool udp);
// Both questions of who dials a name: `to` NULL before it is resolved, then each address.
bool policy_reach(const struct policy *p, const uint8_t pin[PIN_SIZE], const char *name, uint16_t port, const struct addr *to, bool udp,
                  struct verdict *v);
// Like policy_may_resolve, for listening at some address of a name.
bool policy_may_resolve_listen(const struct policy *p, const uint8_t pin[PIN_SIZE], uint16_t port, bool udp);
