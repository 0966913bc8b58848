// SPDX-License-Identifier: Apache-2.0
// The inside of the agent, for the files of this folder only. The agent owns its uplinks (each with a session), and the things that a
// person asked for: locals (-L, -D), reverses (-R) and offers. Everything lives on one worker.
#pragma once
#include <jansson.h>
#include "agent/agent.h"
#include "agent/rank.h"
#include "agent/uplink.h"
#include "control/control.h"
#include "core/log.h"
#include "forward/entry.h"
#include "forward/forward.h"
#include "forward/seal.h"
#include "forward/http_proxy.h"
#include "forward/socks.h"
#include "trust/policy.h"

#define AGENT_LEAVE_MS 1500    // for our GOAWAY to arrive
#define REVERSE_SOON_MS 200    // for the old relay to have closed it
#define REVERSE_RETRY_MS 60000 // doubled up to REVERSE_RETRY_MAX_MS
#define REVERSE_RETRY_MAX_MS 3600000

struct agent;

struct local { // -L, -D or --http
    struct agent *a;
    const struct spec_forward *spec;
    char dest[SPEC_TEXT_MAX];
    struct entry *entry;       // -L
    struct listener *listener; // -D, --http
    bool http;
};

enum reverse_state { REVERSE_IDLE, REVERSE_ASKED, REVERSE_UP, REVERSE_REFUSED };

struct reverse_stream { // listens, or asks to, at one relay
    struct reverse *r;
    struct uplink *u;
    struct stream *st; // NULL: none
    struct link *link;
    struct wake wake;
};

// -R, or --offer: a stream that listens at the relay. When the agent moves, it is asked for at the new relay, and given up at
// the old one once it stands.
struct reverse {
    struct agent *a;
    const struct spec_forward *spec; // NULL: an offer
    const struct spec_offer *offer;
    char what[SPEC_TEXT_MAX]; // for messages: "-R 8080" …
    enum reverse_state state;
    struct reverse_stream streams[2], *now, *next; // now: stands; next: asked for
    struct timer retry;
    uint32_t retry_ms;
    struct addr bound;
    uint64_t callers;
};

struct agent {
    struct worker w;
    const struct agent_options *o;
    struct agent_state state;
    struct saved_proxy saved; // by conf_proxy
    struct resolver *resolver;
    struct budget budget; // of all uplinks' sessions
    bool has_budget;
    struct meet meet;     // streams between agents, and those of them that are adrift
    struct timer adrift;
    struct uplink *uplinks; // they do not move
    size_t uplink_count;
    struct uplink *current; // the home; before there is one, the first
    struct rank rank;
    uint64_t moved_ms;      // when the home changed
    size_t started;         // how many were dialled at all: -W goes on to the next only when it must
    struct forward fw;
    bool has_forward;
    struct seal_way seal;
    struct local *locals;
    size_t local_count;
    struct reverse *reverses;
    size_t reverse_count;
    struct socks_server *socks, *reverse_socks;
    struct http_proxy *http;
    struct policy *policy; // what reverse SOCKS may reach
    struct control *control;
    uv_signal_t signals[3];
    bool stdio_started, stdio_over;
    bool joining;
    bool ready_told;
    enum { AGENT_RUNNING, AGENT_DRAINING, AGENT_LEAVING } life;
    uint64_t drain_until_ms;
    struct timer tick; // drain and leave
    struct timer review, stagger, again; // relays.c
    struct network network;       // this machine's
    struct lessons lessons;
    struct wake check;       // is all up: tell; is all over: end
    uint64_t since;
    int status;
    struct err err;          // why it ends
};

// agent.c
void agent_end(struct agent *a, int status, const struct err *err); // drains nothing: says goodbye and stops
void agent_stop(struct agent *a, int status, const struct err *err); // stops at once
void agent_check(struct agent *a);                                  // posts the check
// -W shares its terminal with ssh: what goes well is not worth a line there.
enum log_level agent_chatter(const struct agent *a);

// relays.c
// Makes the uplinks: to `only` when it is not NULL, else to those that the flags name.
int relays_init(struct agent *a, const struct agent_connect *c, const struct relay_url *only, struct err *e);
void relays_start(struct agent *a);
void relays_reload(struct agent *a); // reads the state again and dials now
json_t *relays_proxy(void *owner); // conf_proxy has saved others: they are used at once; struct control_ops
size_t relays_up(const struct agent *a); // how many are connected
void relays_on_review(struct timer *timer);
void relays_on_stagger(struct timer *timer);
void relays_on_again(struct timer *timer);
forward_elsewhere_fn relays_elsewhere; // struct forward's
void relays_on_network(struct network *n, enum network_event what);
bool relays_settled(const struct agent *a);        // one is chosen and stands
void relays_order(struct agent *a, size_t *out);   // indices of all uplinks, the one in use and the best first
struct session *agent_session(struct agent *a); // where new streams go: the home's while it is good; it may be parked
static inline struct uplink *uplink_of(const struct session *s) { return s->owner; }

// adrift.c: streams between agents whose session is lost, until both ends meet again
void adrift_init(struct agent *a);                // behind relays_init
void adrift_fini(struct agent *a);                // behind the uplinks' end
void adrift_up(struct uplink *u);                 // WELCOME is in: asks there for what is adrift
void adrift_down(struct uplink *u);               // its last carrier is gone
void adrift_leave(struct uplink *u, bool tell);   // its session goes, or is going: what may goes on elsewhere
size_t adrift_count(const struct agent *a);

// locals.c
int locals_open(struct agent *a, struct err *e);
void locals_close(struct agent *a);
void stdio_start(struct agent *a);

// sealing.c
int sealing_init(struct agent *a, struct err *e); // behind forward_init
void sealing_fini(struct agent *a);
// Why this stream of another agent may not come in, or NULL.
const char *sealing_objection(struct agent *a, const struct frame_open *open);

// reverses.c
int reverses_init(struct agent *a, struct err *e);
void reverses_follow(struct agent *a); // asks at the current relay for what does not stand there
void reverses_forget(struct agent *a, const struct uplink *u); // it has a new session: nothing listens there
void reverses_close(struct agent *a);
bool reverses_settled(const struct agent *a);
size_t reverses_streams(const struct agent *a, const struct uplink *u); // streams there that only listen
// The way out of reverse SOCKS.
void reverse_connect(void *owner, const struct conduit_ask *ask, const struct socks_dest *dest);
struct stream *reverse_listen(void *owner, const struct addr *at);
bool reverse_allows(void *ctx, const char *name, uint16_t port, const struct addr *to, bool udp);
void agent_on_open(struct session *s, struct stream *st, const struct frame_open *open);

// tables.c
extern const struct control_ops agent_control_ops;
void agent_tell_ready(struct agent *a);
