// SPDX-License-Identifier: Apache-2.0
// WebSocket (RFC 6455) as a byte stream over any link: each buffer sent is one binary frame, message boundaries mean
// nothing on receipt, no message is assembled, a length that the peer announces allocates nothing. Client frames are
// masked with a fresh key each. Pings are answered between data (the newest only). shut(SHUT_END) sends Close and goes
// on delivering until the peer's Close; WS_CLOSE_MS later it gives up. No extension is ever offered or accepted.
#pragma once
#include "link/link.h"

#define WS_CLOSE_MS 5000
#define WS_SUBPROTOCOL "culvert.v1"

struct ws_client_options {
    const char *host; // Host header, with port when not the scheme's default; copied
    const char *path; // request target; copied
    const char *protocol; // subprotocol asked for and required in the answer; NULL: none
    const char *headers; // further header lines, each ended by CRLF; NULL: none
};
struct link *ws_client_over(struct link *below, const struct ws_client_options *o);

struct http_head;
// What a person can do about an answer other than 101.
enum advice ws_advice(const struct http_head *h);
// Server side of a request head that was read whole and found to be an upgrade (ws_is_upgrade). Queues the 101, or
// the 4xx and fails. `rest`: bytes behind the head, owned.
struct link *ws_server_over(struct link *below, const struct http_head *request, const char *protocol, struct buf *rest);
// True for a request that asks for a WebSocket at all (Upgrade: websocket); whether it is right shows in ws_server_over.
bool ws_is_upgrade(const struct http_head *request);
// True where ws_server_over would answer with 101.
bool ws_is_good_upgrade(const struct http_head *request, const char *protocol);

// For conformance suites: messages instead of a stream. With it, recv's buffers carry type and FIN of their frame in
// the last call's out-parameters, and ws_send_frame sends fragments; text is checked as UTF-8 while it streams.
struct ws_frame_info {
    uint8_t opcode; // of the message: 1 text, 2 binary
    bool first, last; // first and last piece of the message
};
void ws_message_mode(struct link *l);
struct ws_frame_info ws_last_info(const struct link *l);
void ws_send_frame(struct link *l, uint8_t opcode, bool fin, struct buf *b); // b may be NULL for an empty frame
