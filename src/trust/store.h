// SPDX-License-Identifier: Apache-2.0
// The relay's store, STATE/relay.db: identities with their rules, and invitations. SQLite, every change one transaction
// that is durable before the call returns. Calls block (fsync, and up to STORE_BUSY_MS on another process's lock): the
// relay uses it through keeper.h, commands directly. A struct store belongs to one thread at a time. Tokens are kept as
// SHA-256 only.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"
#include "trust/identity.h"
#include "trust/policy.h"
#include "wire/pairing.h"
#include "wire/rule.h"

#define STORE_FILE "relay.db"
#define STORE_BUSY_MS 5000
#define STORE_INVITATION_ID 17 // "inv-" and 12 hex digits, ended by 0

struct store;

struct store *store_open(const char *state, struct err *e); // made when missing; NULL with *e set
void store_close(struct store *s); // NULL is allowed

// Changes with every change by other processes; cheap (PRAGMA data_version). 0 on failure.
uint32_t store_version(struct store *s);

// Invitations ---------------------------------------------------------------------------------------------------

struct store_invite {
    const char *name;
    const struct rule *rules; // any verb; empty is allowed
    size_t rule_count;
    unsigned uses;            // >= 1
    uint64_t ttl_s;
};
// Makes a token and stores its hash. The name must not be an enrolled agent's. id: STORE_INVITATION_ID bytes.
int store_invite(struct store *s, const struct store_invite *i, uint8_t token[PAIRING_TOKEN], char *id, struct err *e);

struct store_invitation {
    char id[STORE_INVITATION_ID];
    char name[SPEC_NAME_MAX + 1];
    unsigned uses_left;
    int64_t created, expires; // seconds since 1970
};
typedef void store_invitation_fn(const struct store_invitation *i, void *ctx);
int store_each_invitation(struct store *s, store_invitation_fn *fn, void *ctx, struct err *e); // open ones only

// Identities ----------------------------------------------------------------------------------------------------

enum store_answer { STORE_ENROLLED, STORE_REFUSED, STORE_BROKEN }; // BROKEN: the store failed, *e says how

// Presents a token for a key: in one transaction the identity and the use of the token. The same key with the same
// token uses it once. A key that is enrolled already keeps its name, gains the rules of a token that opens, and is
// welcome with one that does not (it may have come in by it, and lost our answer); a revoked key needs a new token and
// starts afresh. Else whatever is wrong with the token (unknown, used up, expired, withdrawn) is REFUSED, all alike.
// name: SPEC_NAME_MAX + 1 bytes, the name given (the invitation's; "name-2" … when that is taken).
enum store_answer store_enroll(struct store *s, const uint8_t token[PAIRING_TOKEN], const uint8_t pin[PIN_SIZE],
                               char *name, struct err *e);

// Adds and drops rules of an agent (name or pin) at once. *changed counts rules that were really added or dropped.
int store_grant(struct store *s, const char *agent, const struct rule *add, size_t add_count, const struct rule *drop,
                size_t drop_count, unsigned *changed, struct err *e);

enum store_kind { STORE_AGENT, STORE_INVITATION };
// Revokes an identity (by name or pin), with what is left of the invitations it came by, or withdraws an invitation (by
// id).
int store_revoke(struct store *s, const char *what, enum store_kind *kind, struct err *e);

struct store_identity {
    uint8_t pin[PIN_SIZE];
    char name[SPEC_NAME_MAX + 1];
    int64_t created, revoked; // seconds since 1970; revoked 0: no
};
typedef void store_identity_fn(const struct store_identity *i, void *ctx);
int store_each_identity(struct store *s, store_identity_fn *fn, void *ctx, struct err *e); // by name, revoked ones too

// The rules of all identities that are not revoked, by name, as they were written; text is only valid during the call.
typedef void store_rule_fn(const char *agent, enum rule_verb verb, const char *text, void *ctx);
int store_each_rule(struct store *s, store_rule_fn *fn, void *ctx, struct err *e);

// All identities that are not revoked, with their rules; no own listeners yet. NULL with *e set.
struct policy *store_policy(struct store *s, struct err *e);

// The relay's own listeners, written down by the relay so that `explain` knows them too: replaces them all.
int store_set_own(struct store *s, const struct addr *listeners, size_t count, struct err *e);
// Adds those last written to a policy that is being built.
int store_add_own(struct store *s, struct policy *p, struct err *e);
