// SPDX-License-Identifier: Apache-2.0
// Two ends of a stack of links that talk to each other in a test: each opens its stack, sends a pattern, checks the
// other's, ends, and waits for the end. A stack is a string, bottom first: C connect, S SOCKS5, T outer TLS,
// W WebSocket, I inner TLS, H HTTP/2; "CTWI" is a proxy, TLS, WebSocket and the inner TLS on top.
#pragma once
#include <stdbool.h>
#include "core/worker.h"
#include "link/auth.h"
#include "link/head.h"
#include "link/link.h"
#include "link/mem.h"

enum talk_result { TALK_RUNNING, TALK_OK, TALK_FAILED };

struct talker {
    struct worker *w;
    struct link *top;
    struct wake wake;
    bool server;
    const char *layers; // still to be put over, for a server
    struct head_reader reader;
    size_t socks_step, socks_got;
    struct list hubs;   // of HTTP/2
    bool in_hub;        // the server's top is there, until a stream comes
    struct auth *auths[2];
    size_t auth_count;
    size_t to_send, sent, to_read, got;
    size_t chunk;       // bytes a send; 0: as much as fits
    bool peel;          // the top is an inner TLS, to be peeled after a greeting
    bool greeted, opened, ended, shut;
    bool no_shut;       // waits for the other's end first
    enum talk_result result;
    struct err err;
    bool *done;         // set when both are
    struct talker *other;
    struct link_facts facts; // as they were when it was over
};

struct talk {
    struct talker client, server;
    bool done;
};

int talk_setup(void **state); // of a group of tests: certificates and contexts
int talk_teardown(void **state);
// Puts the stacks over two connected base links. Each sends that many bytes.
void talk_start(struct talk *t, struct worker *w, struct link *client, struct link *server, const char *layers,
                size_t from_client, size_t from_server);
void talk_fini(struct talk *t); // closes what is open
uint8_t talk_byte(size_t at);
