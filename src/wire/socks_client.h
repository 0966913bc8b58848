// SPDX-License-Identifier: Apache-2.0
// SOCKS, client side, CONNECT only: SOCKS5 (RFC 1928) with user and password (RFC 1929), and SOCKS4a. A state machine that is
// fed bytes as they come and says what to send and how it ended. No I/O, no allocation; bytes behind the reply are
// the caller's. A password lives in it only while it is on its way out: socks_client_wipe ends it.
//
//     send c.out[0…out_len); for (;;) { used = socks_client_feed(&c, data, len, &event); send c.out if any; act on the event; }
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

#define SOCKS_CLIENT_OUT_MAX 528 // SOCKS4a: 8 bytes, user and name of 255 each, two zeros
#define SOCKS_CLIENT_IN_MAX 262  // a reply with a name of 255 bytes

enum socks_client_state { SOCKS_ASK_METHOD, SOCKS_ASK_LOGIN, SOCKS_ASK_CONNECT, SOCKS_ASK_V4, SOCKS_ASK_OPEN, SOCKS_ASK_FAILED };

enum socks_client_event {
    SOCKS_CLIENT_MORE,   // feed more
    SOCKS_CLIENT_LOGIN,  // it wants the login: answer with socks_client_login
    SOCKS_CLIENT_KNOWN,  // the login was accepted; go on feeding
    SOCKS_CLIENT_OPEN,   // bytes from now on are the tunnel's
    SOCKS_CLIENT_FAILED, // `problem` says why
};

enum socks_problem {
    SOCKS_PROBLEM_NONE,
    SOCKS_NOT_SOCKS,     // its first byte is that of another protocol
    SOCKS_WANTS_LOGIN,   // none of the offered methods will do, and no login was offered
    SOCKS_WANTS_OTHER,   // none of the offered methods will do, the login included
    SOCKS_LOGIN_REFUSED,
    SOCKS_CODE,          // refused with `code`
    SOCKS_BROKEN,        // its reply makes no sense
};

struct socks_client {
    enum socks_client_state state;
    enum socks_problem problem;
    bool v4;
    bool has_login;  // whether a login can be offered
    uint8_t code;    // of the reply: REP, or CD of SOCKS4
    uint16_t port;
    char host[256];  // name or literal
    uint8_t in[SOCKS_CLIENT_IN_MAX];
    size_t in_len;
    uint8_t out[SOCKS_CLIENT_OUT_MAX]; // what to send now
    size_t out_len;
};

// host: a name or a literal without brackets; a literal travels as an address, where the version has it. `user`: SOCKS4a's user
// id (NULL: empty); of SOCKS5 only whether there is one counts here. False: host or user cannot be said in SOCKS.
bool socks_client_init(struct socks_client *c, bool v4, const char *host, uint16_t port, const char *user);
// Takes bytes up to the end of one message; returns how many. Each call clears out first.
size_t socks_client_feed(struct socks_client *c, const uint8_t *data, size_t len, enum socks_client_event *event);
// Answers SOCKS_CLIENT_LOGIN: puts the login in out. At most 255 bytes each, and a user of at least one; false otherwise.
bool socks_client_login(struct socks_client *c, const char *user, const char *password);
void socks_client_wipe(struct socks_client *c);
// A refusal in words ("connection refused"), and what it means for the stream.
const char *socks_client_reason(const struct socks_client *c);
enum err_why socks_client_why(const struct socks_client *c);
