// SPDX-License-Identifier: Apache-2.0
// The agent's role, for the command line: everything a person can ask of it as plain values, and two calls that run until
// the end and give an exit status (enum err_kind). Whatever goes wrong is said in one line in the log, or on stderr
// when the log is silent. All strings and arrays are borrowed until the call returns.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "dial/transport.h"
#include "wire/pairing.h"
#include "wire/rule.h"
#include "wire/spec.h"
#include "wire/url.h"

#define AGENT_CARRIERS_MAX 8
#define AGENT_DRAIN_MS 30000 // by default
#define AGENT_OPEN_MS 20000  // from the first SYN until a handshake begins, and from there to WELCOME

enum agent_outer { AGENT_OUTER_DEFAULT, AGENT_OUTER_VERIFY, AGENT_OUTER_REPORT }; // default: the invitation's

enum agent_seal { AGENT_SEAL_AUTO, AGENT_SEAL_ALWAYS, AGENT_SEAL_NEVER }; // streams between agents
struct proxy_kit;

struct agent_connect { // the connect flags
    const struct relay_url *relays;   // in order of preference
    size_t relay_count;               // 0: all joined, the one joined last first
    const struct proxy_url *proxies;  // --proxy, a chain in order; count 0: auto
    size_t proxy_count;
    struct proxy_kit *proxy_kit;      // what proxies need beyond their URLs
    const char *ca_file;              // NULL: the system's
    enum agent_outer outer;
    bool peel_never;
    const char *host;                 // Host header and name to verify instead of the relay's; NULL: the relay's
    const char *sni;                  // SNI, and name to verify; NULL: as host; "" none, and the name as host
    const char *const *headers;       // "Name: value"
    size_t header_count;
    struct transport_list transports; // in order of preference; none: the usual ones
};

struct agent_options {
    const char *state; // --state DIR
    struct agent_connect connect;
    const struct spec_forward *locals, *reverses, *socks; // -L; -R (with and without DEST); -D
    size_t local_count, reverse_count, socks_count;
    const struct spec_forward *https; // --http: HTTP proxies here, of the form of -D
    size_t http_count;
    const struct spec_offer *offers;
    size_t offer_count;
    const struct rule *allows; // --allow: what reverse SOCKS may reach
    size_t allow_count;
    const struct spec_dest *stdio; // -W; NULL: none
    const char *socks_login;       // of SOCKS and HTTP callers: file "user:password", 0600; NULL: none asked for
    enum agent_seal seal;
    bool once;
    unsigned carriers;             // connections to keep up; 0: 1
    int ready_fd;                  // -1: none
    uint32_t udp_idle_ms;          // 0: 60 s
    uint32_t comeback_ms;          // a better relay must have stood so long before it is used again
    uint32_t drain_ms;             // after TERM or INT
};

int agent_run(const struct agent_options *o);
// Presents the pairing's token and returns 0 once the relay has welcomed us and the state says so. `connect` may override
// proxies, CA and so on; its relays are not looked at. HUP, INT and TERM end it with ERR_FAILED; it may be tried again.
int agent_join(const char *state, const struct pairing *pairing, const struct agent_connect *connect);
