// SPDX-License-Identifier: Apache-2.0
// Between carrier, schedule and session, inside this folder: whole frames in, what is due out. Answers -1 when the peer broke the protocol; session->err says how.
#pragma once
#include "session/session.h"

int session_on_frame(struct carrier *c, const struct frame_head *h, const uint8_t *in); // whole payload
int session_on_data(struct carrier *c, uint32_t id, uint64_t offset, struct buf *b);    // a piece of DATA; owns b
// Writes what is due, at most `room` bytes, at out; returns how many.
size_t schedule_fill(struct carrier *c, uint8_t *out, size_t room);
