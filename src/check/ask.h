// SPDX-License-Identifier: Apache-2.0
// One HTTP request over an open link, and the head of its answer, copied and escaped: what a probe wants to know of who answers
// there. Interim answers are skipped. The link stays its owner's; the answer's text lives as long as the ask. Embedded in its probe.
#pragma once
#include <time.h>
#include "link/head.h"

#define ASK_MS 6000

struct answer {
    int status;       // 0: none; see the error
    char reason[80];
    char server[120], via[120], location[200], type[80]; // escaped; "" absent
    char offers[160]; // schemes of Proxy-Authenticate
    time_t date;      // 0: none
    enum advice connect_advice, ws_advice; // as answer to CONNECT, to an upgrade
    bool upgrade;     // Upgrade: websocket and Connection: Upgrade
    bool accept_ok;   // Sec-WebSocket-Accept is right
    bool protocol_ok; // the subprotocol is ours
    bool html;
};

struct ask {
    struct worker *w;
    struct link *link; // borrowed
    struct head_reader reader;
    struct wake wake;
    struct timer deadline;
    struct answer answer;
    char accept[32]; // expected
    void (*on_done)(struct ask *a, const struct err *err); // NULL: answer is filled in
};

// `text`: whole request. `accept`: the expected Sec-WebSocket-Accept or NULL.
void ask_start(struct ask *a, struct link *l, const char *text, const char *accept,
               void (*on_done)(struct ask *a, const struct err *err));
void ask_stop(struct ask *a); // legal when over, and on a zeroed one
// "HTTP 407 (Proxy Authentication Required); Server: squid/5.7; Via: …"; returns out.
char *answer_text(const struct answer *a, char *out, size_t size);
