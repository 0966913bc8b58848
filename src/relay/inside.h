// SPDX-License-Identifier: Apache-2.0
// The inside of the relay, for the files of this folder only: the relay itself, its members (enrolled identities that
// are here now), their visits (sessions) and what those have asked for. The relay owns members, a member its visits, a
// visit its session, its carriers and its listeners. Everything lives on one worker.
#pragma once
#include <jansson.h>
#include "control/control.h"
#include "dial/resolve.h"
#include "forward/entry.h"
#include "forward/forward.h"
#include "forward/listen.h"
#include "relay/decoy.h"
#include "relay/front.h"
#include "relay/relay.h"
#include "session/budget.h"
#include "session/conn.h"
#include "session/meet.h"
#include "trust/identity.h"
#include "trust/keeper.h"

#define RELAY_PORTS_MAX 32    // --listen, --listen-plain and --redirect
#define MEMBER_VISITS_MAX 64  // sessions of one identity
#define VISIT_CARRIERS_MAX 12   // carriers of one session: an agent's eight, and suspect ones that are being replaced
#define MEMBER_STREAMS_MAX 8192 // of all its sessions together, either way
#define VISIT_LISTENERS_MAX 256 // reverse listeners and offers of one session
#define MEMBER_LISTENERS_MAX 512 // of all its sessions together
#define RELAY_RETRY_MS 2000 // what an agent is told to wait that comes at a bad moment
#define DRAIN_TICK_MS 50
#define TIDY_MS 200               // after a carrier came up, what handshakes needed goes back to the system
#define TIDY_GAP_MS 60000         // but not more often
#define PRESSURE_TICK_MS 1000    // between two looks for parked sessions while memory is short
#define PRESSURE_PARKED_MS 10000 // shorter ones are left alone

struct relay;

struct port { // one --listen, --listen-plain or --redirect
    struct relay *r;
    struct listener *listener;
    enum front_kind kind;
};

struct relay_stats {
    uint64_t welcomed, resumed, enrolled, refused, revoked;
    uint64_t tampered;      // carriers that ended because bytes were changed on the way
    uint64_t asked, denied; // streams, flows, listeners; by policy
};

struct relay {
    struct worker *w;
    const struct relay_options *o;
    struct identity id;
    struct keeper *keeper;
    struct resolver *resolver;
    struct forward fw;
    bool fw_up;
    struct budget budget;
    struct front front;
    struct relay_url url; // --url, parsed
    struct port ports[RELAY_PORTS_MAX];
    size_t port_count;
    struct list members;
    struct meet meet; // OPENs between agents that are not answered yet
    struct control *control;
    uint64_t last_ticket; // of enrolments
    uv_signal_t signals[3]; // HUP, TERM, INT
    bool draining;
    struct timer drain, pressure, tidy;
    uint64_t tidied_ms; // 0: not since the start
    uint64_t drain_until_ms, since;
    struct relay_stats stats;
    struct err err;
};

struct member {
    struct list node;
    struct relay *r;
    uint8_t pin[PIN_SIZE];
    char name[SPEC_NAME_MAX + 1];
    struct budget budget;
    struct list visits; // the newest first
    unsigned visit_count;
    struct grave grave;
};

struct visit {
    struct list node;
    struct member *m;
    struct session s;
    struct list carriers; // struct berth, the newest last; empty: parked
    unsigned carrier_count;
    uint32_t number_top;  // highest carrier number seen; bit n of number_used: n below it was used
    uint64_t number_used;
    struct timer park;
    struct list listeners;
    unsigned listener_count;
    uint64_t since, resumed; // moment; how often it came back from being parked
    uint64_t ended_ms;       // when a carrier ended last, and why; 0: none did
    char ended[200];
    struct grave grave;
};

struct berth { // one carrier of a visit
    struct list node;
    struct visit *v;
    struct conn *conn;
    uint32_t number;
    char peer[ADDR_TEXT_MAX], tls[64];
    enum { VISIT_INNER, VISIT_PEELED, VISIT_INTERCEPTED, VISIT_FRONTED } how;
    uint64_t up_ms;
    struct grave grave;
};

struct relay_listener { // a reverse listener, or an offer
    struct list node;
    struct visit *v;
    struct stream *st;
    struct link *link;
    struct wake wake;
    bool udp, offer, unix_path;
    char host[256]; // as asked for; of an offer: the service's name
    uint16_t port;
    struct addr at[LISTEN_ADDRS];
    size_t count;
    struct resolve resolve;
    struct entry *entry;
    uint64_t since;
    struct grave grave;
};

// member.c
struct member *member_find(struct relay *r, const uint8_t pin[PIN_SIZE]);
bool member_is_full(const struct member *m); // has MEMBER_STREAMS_MAX
void member_end(struct member *m, const char *why); // ends its visits; it is freed with the last
// The visit of this session, or a new one; *resumed says which. NULL: no more sessions for this identity now.
struct visit *visit_find(struct relay *r, const uint8_t pin[PIN_SIZE], const char *name,
                         const struct frame_hello *hello, bool *resumed);
static inline bool visit_is_up(const struct visit *v) { return v->carrier_count > 0; }
// Whether this carrier number was not used yet; it is from now on.
bool visit_take_number(struct visit *v, uint32_t number);
void visit_up(struct visit *v, struct conn *conn, bool resumed, const struct frame_hello *hello);
void visit_end(struct visit *v, const char *why);

// pressure.c: parked sessions whose memory is needed
void pressure_init(struct relay *r);
void pressure_watch(struct member *m);
void pressure_fini(struct relay *r);

// hello.c: who may come in
void hello_on(struct front_caller *k, const struct frame_hello *hello);
void hello_on_enroll(void *owner, uint64_t ticket, enum store_answer answer, const char *name, const struct err *err);

// opens.c: what they may open
void opens_on(struct session *s, struct stream *st, const struct frame_open *open);
// Refuses the stream and closes its link.
void opens_refuse(struct visit *v, struct stream *st, enum err_why why, const char *what, const char *text);

// listeners.c
void listener_on(struct visit *v, struct stream *st, const struct frame_open *open);
void listeners_recheck(struct visit *v); // after a change of the policy
void relay_tidy_soon(struct relay *r); // relay.c: a handshake has left its pages behind
void relay_listener_end(struct relay_listener *l, enum err_why why);
bool visit_offers(const struct visit *v, const char *service, bool udp);

// tables.c
extern const struct control_ops relay_control_ops;
void tables_on_reload(void *owner, uint64_t ticket); // struct keeper_ops
json_t *tables_addresses(const struct relay *r, enum front_kind kind); // where the ports of that kind listen
