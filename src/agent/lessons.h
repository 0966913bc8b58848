// SPDX-License-Identifier: Apache-2.0
// What the agent has learnt of the networks it was in, by the network's key (dial/network.h): which silence each of them cuts
// (session/liveness.h), and by which way each of the relays was reached where that was not the preferred one. Kept in STATE/networks.json
// for the next start; LESSONS_MAX networks, the one used longest ago is forgotten. A file that cannot be read or written costs a lesson
// and nothing else. It is written when a lesson was learnt, which takes an idle carrier that was cut or a way that changed, and at most once in
// LESSONS_WRITE_MS. No login is in it.
#pragma once
#include <stddef.h>
#include "dial/transport.h"
#include "session/liveness.h"

#define LESSONS_FILE "networks.json"
#define LESSONS_MAX 32
#define LESSONS_WRITE_MS 60000
#define LESSONS_WAYS 4      // relays whose way is known, of one network
#define LESSONS_NAME_MAX 96 // what has a longer name is not remembered

struct lessons_way {
    char relay[LESSONS_NAME_MAX]; // "relay.example:443"; "": none
    char route[LESSONS_NAME_MAX]; // "direct", "via proxy:3128"
    enum transport transport;
    uint16_t mss;
};

struct lessons_network {
    char key[17];
    struct liveness_lesson lesson;
    struct lessons_way ways[LESSONS_WAYS]; // the one learnt last is first
};

struct lessons {
    char *path;
    struct lessons_network of[LESSONS_MAX]; // the one used last is last
    size_t count;
    uint64_t written_ms; // 0: not yet
    bool changed;        // since it was written
};

void lessons_open(struct lessons *l, const char *state);
void lessons_close(struct lessons *l, uint64_t now_ms); // writes what is left
// Of the network with this key; all zero when nothing is known.
struct liveness_lesson lessons_get(const struct lessons *l, const char *key);
// The way to this relay. False: the preferred one, as far as is known.
bool lessons_way(const struct lessons *l, const char *key, const char *relay, struct lessons_way *out);
void lessons_set_way(struct lessons *l, const char *key, const struct lessons_way *way, uint64_t now_ms);
void lessons_forget_way(struct lessons *l, const char *key, const char *relay, uint64_t now_ms);
void lessons_set(struct lessons *l, const char *key, const struct liveness_lesson *lesson, uint64_t now_ms);
