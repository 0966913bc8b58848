// SPDX-License-Identifier: Apache-2.0
// Members and their visits: who is here, since when, by which carrier, and what happens when a carrier or a session
// ends.
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/flow.h"
#include "relay/inside.h"

struct member *member_find(struct relay *r, const uint8_t pin[PIN_SIZE])
{
    list_each(&r->members, it)
    {
        struct member *m = list_entry(it, struct member, node);
        if (!memcmp(m->pin, pin, PIN_SIZE))
            return m;
    }
    return NULL;
}

bool member_is_full(const struct member *m)
{
    size_t n = 0;
    list_each((struct list *)&m->visits, it) n += list_entry(it, struct visit, node)->s.stream_count;
    return n > MEMBER_STREAMS_MAX;
}

static struct member *member_new(struct relay *r, const uint8_t pin[PIN_SIZE])
{
    struct member *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->r = r;
    memcpy(m->pin, pin, PIN_SIZE);
    budget_init(&m->budget, r->o->memory_agent, &r->budget);
    pressure_watch(m);
    list_init(&m->visits);
    list_push(&r->members, &m->node);
    return m;
}

static void bury_member(struct grave *g)
{
    struct member *m = container_of(g, struct member, grave);
    budget_fini(&m->budget);
    free(m);
}

static void bury_visit(struct grave *g)
{
    struct visit *v = container_of(g, struct visit, grave);
    struct member *m = v->m;
    free(v);
    if (--m->visit_count == 0) {
        list_del(&m->node);
        worker_bury(m->r->w, &m->grave, bury_member);
    }
}

static const char *session_text(const struct visit *v, char out[9])
{
    snprintf(out, 9, "%02x%02x%02x%02x", v->s.id[0], v->s.id[1], v->s.id[2], v->s.id[3]);
    return out;
}

static void bury_berth(struct grave *g) { free(container_of(g, struct berth, grave)); }

// The carrier is over; its streams go on by the others, if there are any.
static void leave(struct berth *b, const char *reason)
{
    struct visit *v = b->v;
    struct worker *w = v->m->r->w;
    char id[9];
    snprintf(v->ended, sizeof v->ended, "%s", reason);
    v->ended_ms = w->now_ms;
    conn_free(b->conn);
    list_del(&b->node);
    v->carrier_count--;
    log_event(LOG_INFO, "carrier down", LS("agent", v->m->name), LS("session", session_text(v, id)),
              LN("carrier", b->number), LS("peer", b->peer), LS("reason", v->ended),
              LN("seconds", (w->now_ms - b->up_ms) / 1000), LN("carriers_left", v->carrier_count));
    worker_bury(w, &b->grave, bury_berth);
}

static void leave_all(struct visit *v, const char *reason)
{
    list_each(&v->carriers, it) leave(list_entry(it, struct berth, node), reason);
}

void visit_end(struct visit *v, const char *why)
{
    struct relay *r = v->m->r;
    struct err e = ERR_INIT;
    char id[9];
    if (!list_linked(&v->node))
        return;
    leave_all(v, why);
    log_event(LOG_INFO, "session ended", LS("agent", v->m->name), LS("session", session_text(v, id)),
              LS("reason", why));
    list_del(&v->node);
    timer_stop(r->w, &v->park);
    list_each(&v->listeners, it) relay_listener_end(list_entry(it, struct relay_listener, node), WHY_LOST);
    // Agents that are told "moved" ask for their streams elsewhere, or again.
    err_set(&e, ERR_FAILED, r->draining ? WHY_MOVED : WHY_LOST, "session ended: %s", why);
    session_fini(&v->s, &e);
    err_fini(&e);
    worker_bury(r->w, &v->grave, bury_visit);
}

void member_end(struct member *m, const char *why)
{
    list_each(&m->visits, it) visit_end(list_entry(it, struct visit, node), why);
}

static void on_park_over(struct timer *t)
{
    visit_end(container_of(t, struct visit, park), "nobody came back");
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    struct visit *v = s->owner;
    log_event(LOG_DEBUG, "agent is leaving", LS("agent", v->m->name), LS("text", text));
}

static const struct session_ops visit_session_ops = {
    .on_open = opens_on, .on_dgram = flow_on_dgram, .on_goaway = on_goaway};

static void park(struct visit *v)
{
    struct relay *r = v->m->r;
    char id[9];
    if (v->s.goaway_seen) {
        visit_end(v, "the agent left");
    } else if (r->draining) {
        visit_end(v, "nobody can come back to a relay that is going down");
    } else {
        log_event(LOG_INFO, "session parked", LS("agent", v->m->name), LS("session", session_text(v, id)),
                  LS("reason", v->ended), LN("streams", v->s.stream_count), LN("seconds", r->o->park_ms / 1000));
        timer_set(r->w, &v->park, r->o->park_ms);
    }
}

static void on_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    struct berth *b = c->owner;
    struct visit *v = b->v;
    bool broken = err_is(&v->s.err);
    if (err->advice == ADVICE_TAMPERED) {
        v->m->r->stats.tampered++;
        log_event(LOG_WARN, "integrity failure: bytes were changed on the way and are not taken", LS("agent", v->m->name),
                  LN("carrier", b->number), LS("peer", b->peer), LS("reason", err_text(err)));
    }
    leave(b, broken ? err_text(&v->s.err) : err_text(err));
    if (broken)
        visit_end(v, "the agent broke the protocol");
    else if (!visit_is_up(v))
        park(v);
}

static const struct conn_ops visit_conn_ops = {.on_down = on_down};

static struct visit *visit_of(struct member *m, const uint8_t id[16])
{
    list_each(&m->visits, it)
    {
        struct visit *v = list_entry(it, struct visit, node);
        if (!memcmp(v->s.id, id, 16))
            return v;
    }
    return NULL;
}

// Makes room for one more: the oldest parked one goes.
static bool make_room(struct member *m)
{
    struct visit *oldest = NULL;
    unsigned n = 0;
    list_each(&m->visits, it)
    {
        struct visit *v = list_entry(it, struct visit, node);
        n++;
        if (!visit_is_up(v))
            oldest = v;
    }
    if (n < MEMBER_VISITS_MAX)
        return true;
    if (oldest)
        visit_end(oldest, "too many sessions of this agent");
    return oldest != NULL;
}

static struct visit *visit_new(struct member *m, const struct frame_hello *hello)
{
    struct relay *r = m->r;
    struct visit *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->m = m;
    v->since = (uint64_t)time(NULL);
    session_init(&v->s, r->w, false, hello->session, &visit_session_ops, v, &m->budget);
    worker_random(r->w, v->s.birth, sizeof v->s.birth);
    v->s.has_birth = true;
    timer_init(&v->park, on_park_over);
    list_init(&v->listeners);
    list_init(&v->carriers);
    list_push_front(&m->visits, &v->node);
    m->visit_count++;
    return v;
}

struct visit *visit_find(struct relay *r, const uint8_t pin[PIN_SIZE], const char *name,
                         const struct frame_hello *hello, bool *resumed)
{
    struct member *m = member_find(r, pin);
    bool made = !m;
    *resumed = false;
    if (!m && !(m = member_new(r, pin)))
        return NULL;
    snprintf(m->name, sizeof m->name, "%s", name);
    struct visit *v = visit_of(m, hello->session);
    *resumed = v != NULL;
    if (!v && make_room(m))
        v = visit_new(m, hello);
    if (!v && made) {
        list_del(&m->node);
        worker_bury(r->w, &m->grave, bury_member);
    }
    return v;
}

static int peel_state(const struct conn *c)
{
    if (c->peeled)
        return VISIT_PEELED;
    return c->welcome_flags & WELCOME_DIFFERS ? VISIT_INTERCEPTED : c->welcome_flags & WELCOME_FRONTED ? VISIT_FRONTED : VISIT_INNER;
}

static const char *const how_names[] = {"no", "yes", "intercepted", "no"};

bool visit_take_number(struct visit *v, uint32_t number)
{
    uint32_t up = number > v->number_top ? number - v->number_top : 0, below = v->number_top - number;
    if (up) {
        v->number_used = up < 64 ? v->number_used << up : 0;
        v->number_top = number;
        below = 0;
    }
    if (below >= 64 || v->number_used >> below & 1) // what is so old counts as used
        return false;
    v->number_used |= (uint64_t)1 << below;
    return true;
}

static void close_given_up(struct visit *v, const struct frame_hello *hello)
{
    list_each(&v->carriers, it)
    {
        struct berth *b = list_entry(it, struct berth, node);
        for (unsigned i = 0; i < hello->given_up_count; i++) {
            if (b->number == hello->given_up[i]) {
                leave(b, "given up by the agent");
                break;
            }
        }
    }
}

// The one that was silent longest makes room.
static void bound_carriers(struct visit *v)
{
    struct berth *worst = NULL;
    list_each(&v->carriers, it)
    {
        struct berth *b = list_entry(it, struct berth, node);
        if (!worst || b->conn->carrier.live.heard_us < worst->conn->carrier.live.heard_us)
            worst = b;
    }
    if (v->carrier_count >= VISIT_CARRIERS_MAX)
        leave(worst, "too many carriers of this session");
}

static struct berth *berth_new(struct visit *v, struct conn *conn, uint32_t number)
{
    const struct link_facts *facts = conn_facts(conn);
    struct berth *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->v = v;
    b->conn = conn;
    b->number = number;
    b->up_ms = v->m->r->w->now_ms;
    addr_text(&facts->peer, b->peer);
    snprintf(b->tls, sizeof b->tls, "%.15s", facts->tls_version);
    list_push(&v->carriers, &b->node);
    v->carrier_count++;
    conn->owner = b;
    conn->ops = &visit_conn_ops;
    return b;
}

static void log_up(const struct berth *b, bool resumed, uint64_t took_ms)
{
    const struct visit *v = b->v;
    char id[9];
    log_event(LOG_INFO, "carrier up", LS("agent", v->m->name), LS("session", session_text(v, id)),
              LN("carrier", b->number), LS("peer", b->peer), LS("tls", *b->tls ? b->tls : "none"),
              LS("peeled", how_names[b->how]), LS("resumed", resumed ? "yes" : "no"), LN("carriers", v->carrier_count));
    if (took_ms != UINT64_MAX)
        log_event(LOG_INFO, "reconnected", LS("agent", v->m->name), LS("session", session_text(v, id)),
                  LS("reason", v->ended), LN("took_ms", took_ms), LN("streams", v->s.stream_count));
}

void visit_up(struct visit *v, struct conn *conn, bool resumed, const struct frame_hello *hello)
{
    struct worker *w = v->m->r->w;
    struct frame_welcome welcome = {.status = WELCOME_OK, .flags = resumed ? WELCOME_RESUMED : 0};
    bool stood = visit_is_up(v);
    close_given_up(v, hello);
    bound_carriers(v);
    // Carriers beside others replace nothing; one that comes to none, or instead of those given up, is a repair.
    bool repair = resumed && !(stood && visit_is_up(v) && hello->given_up_count == 0);
    uint64_t took_ms = repair ? w->now_ms - v->ended_ms : UINT64_MAX;
    v->resumed += resumed && !stood;
    timer_stop(w, &v->park);
    snprintf(welcome.name, sizeof welcome.name, "%s", v->m->name);
    struct berth *b = berth_new(v, conn, hello->carrier);
    conn_welcome(conn, &v->s, &welcome);
    b->how = peel_state(conn);
    log_up(b, resumed, took_ms);
    relay_tidy_soon(v->m->r);
}
