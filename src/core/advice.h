// SPDX-License-Identifier: Apache-2.0
// What a person can do about a failure: one sentence for each kind, the same wherever the failure shows (an exit message, the
// log, `culvert check`), and a name that machines may rely on. Who notices a failure knows the advice and sets it in the
// struct err, which keeps it through prefixes and copies. No state, nothing can fail.
#pragma once

enum advice {
    ADVICE_NONE,
    // names and addresses
    ADVICE_NAME_UNKNOWN, // DNS says there is no such name
    ADVICE_NAME_SILENT,  // no DNS server answers
    ADVICE_NAME_SPLIT,   // DNS servers differ
    ADVICE_CLOSED,       // connection refused
    ADVICE_SILENT,       // no answer to SYN
    ADVICE_NO_ROUTE,
    ADVICE_PROHIBITED,   // a firewall says no
    // proxies
    ADVICE_PROXY_CLOSED, // nothing listens there
    ADVICE_PROXY_SILENT,
    ADVICE_PROXY_LOGIN,    // it wants a login and has none
    ADVICE_PROXY_PASSWORD, // it refused the login
    ADVICE_PROXY_SCHEME,   // it wants a login by a scheme that is not to be had
    ADVICE_PROXY_FORBIDS,  // 403
    ADVICE_PROXY_NO_CONNECT, // 405, 501
    ADVICE_PROXY_UPSTREAM, // 502, 503, 504: it cannot reach the target itself
    ADVICE_PROXY_CLOSES,   // without an answer
    ADVICE_PROXY_STRANGE,  // no proxy answers there, or one of another kind
    ADVICE_PROXY_CA,       // TLS of an https:// proxy
    ADVICE_PORTAL,         // somebody shall log in with a browser
    // TLS
    ADVICE_CA,        // unknown issuer
    ADVICE_CERT_NAME, // another name than asked for
    ADVICE_CERT_OLD,  // expired
    ADVICE_CLOCK,     // this machine's clock is wrong
    ADVICE_NOT_TLS,
    ADVICE_INTERCEPTED,
    // the relay
    ADVICE_NOT_RELAY,  // a web server answers, and no relay
    ADVICE_FRONT,      // a front answers that it does not reach the relay
    ADVICE_UPGRADE,    // WebSocket is refused or stripped on the way
    ADVICE_NO_H2,      // HTTP/2 was asked for by name, and is not spoken or not for WebSocket
    ADVICE_PIN,        // another key than the pinned one
    ADVICE_UNKNOWN_AGENT, // the relay does not know us
    ADVICE_VERSION,    // it speaks another version of the protocol
    ADVICE_JOIN,       // this relay is not joined
    ADVICE_CUT,        // the connection is cut at once
    // behind the relay
    ADVICE_DENIED,     // no rule allows it
    ADVICE_TARGET,     // the target is not reached
    ADVICE_TARGET_NAME, // its name is not known there
    ADVICE_ABSENT,     // the service's agent is not there
    // the path
    ADVICE_TAMPERED,   // what came was changed on the way: an integrity failure
    ADVICE_STALLED, // a handshake gets no answer
    ADVICE_MTU,
    ADVICE_IDLE,
    ADVICE_COUNT
};

const char *advice_name(enum advice a); // "proxy-login"; "" for none
const char *advice_text(enum advice a); // a sentence without its full stop; "" for none
