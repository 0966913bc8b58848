// SPDX-License-Identifier: Apache-2.0
// Between carrier, schedule and session, inside this folder: whole frames in, the last ACKs out, carriers coming and
// going. Answers -1 when the peer broke the protocol; session->err says how.
#pragma once
#include "session/session.h"

int session_on_frame(struct session *s, const struct frame_head *h, const uint8_t *in); // whole payload
int session_on_data(struct session *s, uint32_t id, uint64_t offset, struct buf *b);    // a piece of DATA; owns b
size_t session_put_last_ack(struct session *s, uint8_t *out);                           // 0: none
void session_carrier_lost(struct session *s);
void session_carrier_new(struct session *s, struct carrier *c);
// Writes what is due, at most `room` bytes, at out; returns how many.
size_t schedule_fill(struct session *s, uint8_t *out, size_t room);
