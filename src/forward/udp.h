// SPDX-License-Identifier: Apache-2.0
// UDP sockets in bulk. A udp_sock is one socket on a worker: datagrams come in by recvmmsg into slots shared by the whole
// worker and are handed over one by one; datagrams go out into a shared arena and leave by sendmmsg in a late wake, so
// a burst costs a handful of system calls, and no datagram costs a timer or an allocation. What does not fit the
// socket's own buffer is dropped and counted, as UDP does.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/addr.h"
#include "core/err.h"
#include "core/worker.h"

#define UDP_BATCH 32             // datagrams a system call
#define UDP_SLOT 65536           // bytes of a slot
#define UDP_ROUNDS 4             // batches a socket may read before others have their turn
#define UDP_ARENA (1024 * 1024)  // bytes waiting for the flush
#define UDP_ARENA_DGRAMS 1024
#define UDP_SOCKBUF (4 * 1024 * 1024)

// Per worker, embedded in its role. Memory is mapped when first used and given back when UDP falls silent.
struct udp_io {
    struct worker *w;
    uint8_t *slots, *arena;
    struct udp_waiting *out;
    size_t arena_used, out_count;
    struct wake flush;
    struct timer quiet;
    bool used; // since the quiet timer last looked
    uint64_t unsent; // of all sockets that ever were, see udp_stats
};
void udp_io_init(struct udp_io *io, struct worker *w);
void udp_io_fini(struct udp_io *io); // all sockets must be closed

struct udp_stats {
    uint64_t in, out, unsent; // unsent: too long, no room in the socket, or the system refused
};

// Where a datagram came in, so that the answer leaves from there: a socket bound to all addresses would choose by route, and the
// caller's system would not know the answer for one.
struct udp_via {
    int family; // 0: the socket has one address anyway
    union {
        struct in_addr in;
        struct in6_addr in6;
    };
    unsigned ifindex; // IPv6 link-local only
};

struct udp_sock {
    struct udp_io *io;
    struct watch *watch;
    int fd;
    bool connected;
    struct addr local;
    bool wild;          // bound to all addresses
    struct udp_via via; // of the datagram that is being handed over
    struct udp_stats stats;
    // data is valid during the call only; the socket may be closed in it.
    void (*on_dgram)(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len);
    struct udp_sock **alive; // set while a batch is handed over
};

// Binds; 0, or -1 with *e set. dual: see listen.h.
int udp_sock_bind(struct udp_sock *u, struct udp_io *io, const struct addr *at, bool dual,
                  void (*on_dgram)(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len),
                  struct err *e);
// Connected: only that address is heard and sent to; `from` is NULL in on_dgram.
int udp_sock_connect(struct udp_sock *u, struct udp_io *io, const struct addr *to,
                     void (*on_dgram)(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len),
                     struct err *e);
void udp_sock_close(struct udp_sock *u); // flushes what it has waiting; legal when closed
// `to` NULL on a connected socket. 0…DGRAM_MAX bytes, copied.
void udp_sock_send(struct udp_sock *u, const struct addr *to, const void *data, size_t len);
// The same from a given address; `via` NULL: as the system chooses.
void udp_sock_send_via(struct udp_sock *u, const struct addr *to, const struct udp_via *via, const void *data, size_t len);
