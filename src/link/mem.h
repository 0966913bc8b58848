// SPDX-License-Identifier: Apache-2.0
// An in-memory link for tests: a pair of ends joined by two byte queues, which misbehaves on request: cuts every read
// at n bytes, answers AGAIN, fails, or has no room at step k. It pays its debts by posting wakes like any other link.
#pragma once
#include "link/link.h"

struct mem_plan {
    size_t cut;        // largest read; 0: whole buffers
    uint32_t again_at; // this step of recv (1…) answers AGAIN once though bytes are there; 0: never
    uint32_t again_every; // every n-th recv answers AGAIN; 0: never
    uint32_t fail_at;  // this step of recv or send fails; 0: never
    uint32_t noroom_at; // this call of room (1…) answers 0 once; 0: never
    uint32_t noroom_every;
    uint32_t open_again; // open answers AGAIN this often
    size_t queue_max;  // room is what is missing to this; 0: 256 KiB
};
// Two ends; what one sends the other receives. plan may be NULL. Each end is freed by link_close.
void mem_pair(struct worker *w, struct link **a, struct link **b, const struct mem_plan *plan_a, const struct mem_plan *plan_b);
// The bytes that end `l` has sent and its peer has not read yet may be damaged by tests.
struct bufq *mem_in_flight(struct link *l);
