// SPDX-License-Identifier: Apache-2.0
// What the agent has learnt of the networks it was in: which silence each of them cuts (session/liveness.h), by the network's key
// (dial/network.h). Kept in STATE/networks.json for the next start; LESSONS_MAX networks, the one used longest ago is forgotten. A
// file that cannot be read or written costs a lesson and nothing else. It is written when a lesson was learnt, which takes
// an idle carrier that was cut, and at most once in LESSONS_WRITE_MS.
#pragma once
#include <stddef.h>
#include "session/liveness.h"

#define LESSONS_FILE "networks.json"
#define LESSONS_MAX 32
#define LESSONS_WRITE_MS 60000

struct lessons {
    char *path;
    struct {
        char key[17];
        struct liveness_lesson lesson;
    } of[LESSONS_MAX]; // the one used last is last
    size_t count;
    uint64_t written_ms; // 0: not yet
    bool changed;        // since it was written
};

void lessons_open(struct lessons *l, const char *state);
void lessons_close(struct lessons *l, uint64_t now_ms); // writes what is left
// Of the network with this key; all zero when nothing is known.
struct liveness_lesson lessons_get(const struct lessons *l, const char *key);
void lessons_set(struct lessons *l, const char *key, const struct liveness_lesson *lesson, uint64_t now_ms);
