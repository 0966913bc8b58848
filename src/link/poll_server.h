// SPDX-License-Identifier: Apache-2.0
// The relay's end of a long-poll: a byte stream made of whole HTTP requests that others read and answer. The stream is a link
// like any other and the base of its chain; who answers requests joins it for as long as he has one, and is woken when there is
// news for his. It fails when nobody has asked for too long, or when a peer contradicts itself (wire/poll.h has the offsets).
#pragma once
#include "link/link.h"
#include "wire/poll.h"

#define POLL_HELD_MAX (1024 * 1024) // bytes sent and not acknowledged
#define POLL_READY_MAX (256 * 1024) // bytes that came and were not read: requests wait
#define POLL_STRANGER_MAX 32768     // bytes that come too early and are kept, before poll_server_known
#define POLL_FORGOTTEN_MS 15000     // without any request
#define POLL_STRANGER_MS 5000       // the same, before poll_server_known

struct poll_guest { // who has a request of it; embedded
    struct list node;
    struct wake *wake; // posted when there is news
    struct link *l;    // NULL: not joined, or the stream is gone
};

// facts: of the connection by which it was begun; copied, without its exporter.
struct link *poll_server_new(struct worker *w, const struct link_facts *facts, void (*on_gone)(void *ctx), void *ctx);
void poll_server_known(struct link *l); // its agent has proved who it is
void poll_server_join(struct link *l, struct poll_guest *g);
void poll_server_leave(struct poll_guest *g); // legal when not joined
// What a request says of both directions. False: it contradicts; the stream has failed.
bool poll_server_hear(struct link *l, const struct poll_request *r);
// POST: bytes at that offset; owns b. Ask poll_server_thirsty first.
bool poll_server_take(struct link *l, uint64_t offset, struct buf *b);
bool poll_server_end(struct link *l, uint64_t final);
bool poll_server_thirsty(const struct link *l);
// GET: what to answer now. False: nothing yet.
bool poll_server_give(struct link *l, const struct poll_request *r, struct poll_piece *piece);
// Bytes of a piece into b, as many as fit. False: they were acknowledged meanwhile, and are gone.
bool poll_server_copy(struct link *l, uint64_t offset, size_t most, struct buf *b);
uint64_t poll_server_refused(const struct link *l); // bytes that came too early and were not kept, in all
uint64_t poll_server_acked(const struct link *l); // of the stream up
bool poll_server_failed(const struct link *l);    // all that is left to answer is an abort
