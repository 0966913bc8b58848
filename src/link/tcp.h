// SPDX-License-Identifier: Apache-2.0
// The base of every chain on a network: one connected (or connecting) stream socket, TCP or Unix. Reads are one system call a
// buffer, several buffers at once when the last read was full; writes are gathered and leave in one writev at the end of
// the turn. TCP_NODELAY always. An abort is an RST (SO_LINGER 0), and an RST from the peer shows as LINK_FAILED with
// WHY_ABORTED, behind its end too, by the link's error and a wake. The link owns the descriptor and its watch.
#pragma once
#include "link/link.h"
#include "link/tcp_rate.h"

enum { // flags
    TCP_CARRIER = 1,   // keep facts, bound what waits by time (tcp_rate.h), several buffers a read
    TCP_INHERITED = 2, // of tcp_take: the listener had tcp_set_options
};
#define TCP_SEGMENT(bytes) ((int)(bytes) << 16) // with them: no segment is larger, either way; before connect, or on a listener

// Reads without TCP_CARRIER: a buffer makes one DATA frame, with room in front for its header and a WebSocket header.
#define TCP_READ_HEAD 32
#define TCP_READ_MAX 16328

// Starts a connection to `to`; open finishes it. Failing at once shows at open. Never NULL.
struct link *tcp_dial(struct worker *w, const struct addr *to, int flags);
// Takes over a connected, non-blocking descriptor (accepted; a socketpair; stdin and stdout are pipes, see stdio.h).
struct link *tcp_take(struct worker *w, int fd, int flags);
void tcp_set_options(int fd, int flags); // also on a listener, for all that it accepts
int tcp_fd(const struct link *l); // for addresses and TCP_INFO; not to read or write
// What TCP knows of the sending direction of the chain under `top`: bytes the other end has acknowledged since the connection
// began, and bytes sent that it has not. Two system calls. False: not known (no TCP, a kernel before 4.1).
bool tcp_progress(const struct link *top, uint64_t *acked, uint64_t *waiting);
// Largest segments of the chain's TCP, sent and received, and its path MTU. False: not known.
bool tcp_sizes(const struct link *top, unsigned *sent, unsigned *received, unsigned *path_mtu);
