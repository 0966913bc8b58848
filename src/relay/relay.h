// SPDX-License-Identifier: Apache-2.0
// The relay's role, for the command line: its options as plain values and one call that runs until the end. Strings and
// arrays are borrowed until it returns.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"
#include "wire/spec.h"
#include "wire/url.h"

#define RELAY_MEMORY_MIN (4u << 20)

struct relay_options {
    const char *state;                     // --state DIR; exists
    const struct spec_addr *listen, *plain; // WebSocket Secure; plain WebSocket
    const struct spec_addr *redirect;      // plain HTTP that only redirects to https
    size_t listen_count, plain_count, redirect_count;
    const struct cidr *trusted;            // --trust-front
    size_t trusted_count;
    bool proxy_protocol;                   // connections from those begin with a PROXY header
    const struct proxy_url *decoy;         // http or https; NULL: strangers get a 404
    const char *url;                       // for invitations; NULL: from the certificate
    const char *cert, *key;                // NULL: what is installed in the state folder
    const char *const *paths;              // of the WebSocket; at least one
    size_t path_count;
    bool peel_never;
    uint16_t mss;                          // the largest segment of agents' connections; 0: what the network says
    uint32_t park_ms, udp_idle_ms, drain_ms;
    size_t memory, memory_agent;           // bytes of buffers: in all, of one identity
    int ready_fd;                          // one JSON line with the addresses when up; -1: none
};

// Exit status (enum err_kind), or -1 with *e set.
int relay_run(const struct relay_options *o, struct err *e);
