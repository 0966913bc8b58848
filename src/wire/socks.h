// SPDX-License-Identifier: Apache-2.0
// SOCKS5 (RFC 1928), server side, with user/password (RFC 1929): a state machine that is fed bytes as they come, one by
// one if need be, and says what to send and what is asked. CONNECT and UDP ASSOCIATE; BIND is refused. No I/O, no
// allocation: the longest message has its place in the struct. A method or a step out of order ends the conversation;
// nothing is ever skipped by flags.
//
//     for (;;) { used = socks_feed(&s, data, len, &event); send s.out[0…out_len) if any; act on the event; }
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"

#define SOCKS_NAME_MAX 255
#define SOCKS_MESSAGE_MAX 513 // version, ulen, 255, plen, 255: the longest message of a client
#define SOCKS_REPLY_MAX 22    // of replies with an IPv6 address
#define SOCKS_UDP_HEAD_MAX 262

enum socks_state {
    SOCKS_GREETING, SOCKS_LOGIN, SOCKS_LOGIN_WAIT, SOCKS_REQUEST, SOCKS_REQUEST_WAIT, SOCKS_DONE, SOCKS_FAILED,
};

enum socks_event {
    SOCKS_MORE,    // feed more
    SOCKS_ASK,     // user and password are there: answer with socks_login
    SOCKS_ASKED,   // the request is there: answer with socks_reply; bytes from now on are the caller's
    SOCKS_REFUSED, // send what is in out, then close
};

enum socks_command { SOCKS_CONNECT = 1, SOCKS_UDP = 3 };

enum socks_code { // REP
    SOCKS_OK = 0, SOCKS_GENERAL = 1, SOCKS_DENIED = 2, SOCKS_NET_UNREACHABLE = 3, SOCKS_HOST_UNREACHABLE = 4,
    SOCKS_CONN_REFUSED = 5, SOCKS_TTL = 6, SOCKS_NO_COMMAND = 7, SOCKS_NO_ADDRESS_TYPE = 8,
};

struct socks_dest {
    bool is_name;                   // the name goes to the far end unresolved
    char host[SOCKS_NAME_MAX + 1];  // name (see scan_asked_host), or the address as text
    uint16_t port;
};

struct socks {
    enum socks_state state;
    bool want_login;
    uint8_t in[SOCKS_MESSAGE_MAX]; // the message that is coming in; wiped after a login
    size_t in_len;
    uint8_t out[SOCKS_REPLY_MAX];  // what to send now, set by socks_feed, socks_login, socks_reply
    size_t out_len;
    enum socks_command command;
    struct socks_dest dest;        // SOCKS_UDP: where the client will send from, often 0
    char user[256], password[256]; // valid between SOCKS_ASK and socks_login, which wipes them
    size_t user_len, password_len; // either may hold any byte
};

void socks_init(struct socks *s, bool want_login);
// Takes bytes up to the end of one message; returns how many. Each call clears out first.
size_t socks_feed(struct socks *s, const uint8_t *data, size_t len, enum socks_event *event);
// Answers SOCKS_ASK: MORE, or REFUSED when not ok. Wipes user and password.
enum socks_event socks_login(struct socks *s, bool ok);
// Puts the reply to a request in out; `bound` may be NULL (0.0.0.0:0). The conversation is over: DONE or FAILED.
void socks_reply(struct socks *s, enum socks_code code, const struct addr *bound);
void socks_wipe(struct socks *s);
enum socks_code socks_code(enum err_why why);

// The header of a UDP request. False: too short, FRAG not 0, of unknown kind, or no host: drop the datagram. *used: its length.
bool socks_udp_parse(const uint8_t *data, size_t len, struct socks_dest *dest, size_t *used);
// Writes the header in front of a reply from `from`; returns its length; out holds SOCKS_UDP_HEAD_MAX bytes.
size_t socks_udp_head(uint8_t *out, const struct addr *from);
