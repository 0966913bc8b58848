// SPDX-License-Identifier: Apache-2.0
// An agent's memory, STATE/agent.key and STATE/agent.json (both 0600): its key, and for each relay it joined the URL,
// the pins, the name it was given, the proxies and the outer policy of the invitation, and the token while joining is
// not finished. Each change is read, changed and written under a lock (several processes may use one folder) and is
// durable before the call returns. A crash at any point leaves a state from which `join` with the same line, or the
// agent alone, goes on: key, then pins and token, are written before the token is presented, and the token is erased
// after WELCOME.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include "core/err.h"
#include "trust/identity.h"
#include "wire/pairing.h"

#define AGENT_KEY_FILE "agent.key"
#define AGENT_STATE_FILE "agent.json"
#define AGENT_RELAYS 16
#define AGENT_NEXT_PINS 4
#define AGENT_PEERS 1024
#define AGENT_PEER_PINS 4

struct agent_relay {
    struct relay_url url;
    char name[64];                 // what the relay calls us; "" before the first WELCOME
    uint8_t pins[PAIRING_PINS][PIN_SIZE];
    size_t pin_count;
    uint8_t next_pins[AGENT_NEXT_PINS][PIN_SIZE]; // announced in WELCOME; accepted like pins
    size_t next_pin_count;
    struct proxy_url proxies[PAIRING_PROXIES];
    size_t proxy_count;
    bool outer_report;
    bool has_token;                // joining is not finished
    uint8_t token[PAIRING_TOKEN];
};

struct agent_peer { // another agent, for sealed streams
    char name[SPEC_NAME_MAX + 1];
    uint8_t pins[AGENT_PEER_PINS][PIN_SIZE];
    size_t pin_count;
};

struct agent_state {
    char *dir;
    struct identity id;
    struct agent_relay relays[AGENT_RELAYS]; // the one joined last is last
    size_t relay_count;
    struct agent_peer *peers;
    size_t peer_count;
    struct timespec read_at; // the file's time of change when it was read, and its inode
    uint64_t read_inode;
};

// Reads the folder. No key there is no error when `make` (it is made, and the folder too); no relays is none either.
int agent_state_open(struct agent_state *s, const char *dir, bool make, struct err *e);
// Reads agent.json again: another process may have joined, or finished.
int agent_state_reload(struct agent_state *s, struct err *e);
// Reads the peers again if the file has changed; if it cannot be read, those known stay. Cheap (a stat).
void agent_state_fresh_peers(struct agent_state *s);
// Before the token is presented: records the relay, its pins and the token, replacing what was known of that URL, and the
// peers. A peer that is known by another pin is an error, and nothing is recorded.
int agent_state_join(struct agent_state *s, const struct pairing *p, struct err *e);
// After WELCOME: records the name and the next pins, and erases the token. Writes only when something changed.
int agent_state_joined(struct agent_state *s, const struct relay_url *relay, const char *name,
                       const uint8_t (*next_pins)[PIN_SIZE], size_t next_pin_count, struct err *e);
// Forgets a relay (a join that was refused).
int agent_state_forget(struct agent_state *s, const struct relay_url *relay, struct err *e);
// Peers. Adding what is there changes nothing; `pin` NULL drops all of that name. Names are compared without case.
int agent_state_add_peer(struct agent_state *s, const char *name, const uint8_t pin[PIN_SIZE], struct err *e);
int agent_state_drop_peer(struct agent_state *s, const char *name, const uint8_t pin[PIN_SIZE], struct err *e);
struct agent_peer *agent_state_find_peer(const struct agent_state *s, const char *name); // NULL: not known
bool agent_peer_has(const struct agent_peer *peer, const uint8_t pin[PIN_SIZE]);
bool agent_same_relay(const struct relay_url *a, const struct relay_url *b);
struct agent_relay *agent_state_find(struct agent_state *s, const struct relay_url *relay); // NULL: not joined
// Pins that are accepted of it: pins, then next_pins; out holds PAIRING_PINS + AGENT_NEXT_PINS; returns how many.
size_t agent_relay_pins(const struct agent_relay *r, uint8_t (*out)[PIN_SIZE]);
void agent_state_fini(struct agent_state *s); // wipes the secrets
