// SPDX-License-Identifier: Apache-2.0
// The inside of the long-poll link, for poll.c (what must be asked, and when) and poll_conn.c (one request on one connection).
#pragma once
#include "link/head.h"
#include "link/poll.h"
#include "wire/poll.h"
#include "wire/skip.h"

struct poll;

enum trip_state { TRIP_FREE, TRIP_WAITING, TRIP_OUT };

// Something that must be asked, over as many requests as it takes.
struct trip {
    enum trip_state state;
    bool is_post;
    bool aborts;             // POST: both directions are abandoned
    uint32_t number;
    struct poll_piece piece; // POST
    uint32_t tries;
    uint64_t not_before_ms;  // WAITING
    uint64_t out_ms;         // OUT: since when
    uint64_t due_ms;         // OUT: the answer's deadline
};

enum pconn_state { PCONN_FREE, PCONN_DIALLING, PCONN_OPENING, PCONN_IDLE, PCONN_BUSY };

struct pconn {
    struct poll *p;
    enum pconn_state state;
    struct road_call call;
    struct link *link; // owned
    struct wake wake;
    uint64_t since_ms; // it is in that state, while it rises or is idle
    bool used;         // it has carried a request before: the next one may meet its end
    // the request
    struct trip *trip;
    uint32_t sent;     // bytes of the piece
    // the answer
    struct head_reader reader;
    struct http_skip skip;
    bool in_body, lasts, closes; // lasts: until the connection's end; closes: no other request behind it
    int status;
    char reason[64];
    enum advice advice;
    uint8_t head[POLL_ANSWER_HEAD];
    uint32_t head_have;
    struct poll_answer answer;
    uint32_t got;      // bytes of data
    bool strange;      // not our answer
};

struct poll {
    struct link link;
    char *host, *path, *headers, *where;
    char id[POLL_ID_TEXT + 1];
    struct road *road;
    struct poll_out up;
    struct poll_in down;
    struct trip trips[POLL_POSTS + POLL_GETS]; // POSTs first
    struct pconn conns[POLL_CONNS];
    struct wake work;   // late
    struct timer tick;
    bool opened, begun; // the first connection stands; the first POST was answered
    bool room_owed;
    bool stalled;       // nobody reads: connections wait
    bool told_end;      // that the relay's end is in
    uint32_t posts, gets; // numbers given
    uint32_t post_cap;            // larger bodies were refused
    uint32_t post_most, get_most; // bytes of a body, by what the network carries in good time
    uint32_t least_ms;            // that a POST took: the way alone; 0: not known yet
    uint32_t hold_s;
    uint64_t failing_ms; // since when nothing was answered that should have been; 0: all is well
    uint64_t rate_ms, rate_bytes; // how much came by GETs since then
    uint64_t lively_ms, bulk_ms; // when anything, when much came last
    uint64_t dial_ms;     // not before
    uint32_t dial_failures;
    struct err last;      // what went wrong last
};

static inline struct poll *poll_of(struct link *l) { return container_of(l, struct poll, link); }

// poll.c
void poll_work(struct poll *p); // posts what looks after everything
enum link_status poll_fail(struct poll *p, enum err_kind kind, enum err_why why, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
uint32_t poll_low(const struct poll *p);
void poll_heard(struct poll *p, const struct poll_answer *a); // its acknowledgement
// The trip's answer is whole, and ours.
void poll_trip_done(struct poll *p, struct trip *t, const struct pconn *c);
void poll_note_failure(struct poll *p);
void poll_recut(struct poll *p); // bodies were too large: all that is not acknowledged goes in smaller ones
// It must be asked again; p->last says why. soon: it was the connection's fault.
void poll_trip_failed(struct poll *p, struct trip *t, bool soon);

// poll_conn.c
void pconn_init(struct pconn *c, struct poll *p);
void pconn_take(struct pconn *c, struct link *l); // to be opened
void pconn_dial(struct pconn *c);
void pconn_ask(struct pconn *c, struct trip *t); // must be idle
void pconn_close(struct pconn *c); // whatever it is; its trip is the caller's business
