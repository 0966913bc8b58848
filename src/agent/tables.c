// SPDX-License-Identifier: Apache-2.0
// What the agent tells `status`, `table` and the ready descriptor.
#include <string.h>
#include <unistd.h>
#include "agent/inside.h"
#include "core/log.h"
#include "forward/listen.h"

static const char *const uplink_names[] = {"down", "dialling", "opening", "up"};
static const char *const reverse_names[] = {"waiting", "asked", "up", "refused"};

static json_t *forward_row(const char *kind, const char *at, bool udp, const char *to, const char *state)
{
    return json_pack("{s:s, s:o, s:s, s:o, s:s}", "kind", kind, "at", forward_own_json(at), "udp", udp ? "yes" : "no", "to",
                     forward_own_json(to), "state", state);
}

// As entry_counts says it; of SOCKS and HTTP callers the listener's, and what is unknown here is null.
static json_t *counts_of(const struct local *l)
{
    const struct listen_stats *s;
    if (l->entry)
        return entry_counts(l->entry);
    s = listener_stats(l->listener);
    return json_pack("{s:I, s:I, s:n}", "callers", (json_int_t)s->accepted, "turned_away", (json_int_t)s->turned_away,
                     "packets_dropped");
}

static void add_local(json_t *rows, const struct local *l)
{
    char at[ADDR_TEXT_MAX];
    const struct addr *a;
    for (size_t i = 0; i < LISTEN_ADDRS; i++) {
        a = l->entry ? entry_addr(l->entry, i) : l->listener ? listener_addr(l->listener, i) : NULL;
        if (!a)
            return;
        json_t *row = forward_row(l->http ? "http" : l->spec->socks ? "socks" : "local", addr_text(a, at), l->spec->udp,
                                  l->spec->socks ? "" : l->dest, "up");
        json_object_update_new(row, counts_of(l));
        json_array_append_new(rows, row);
    }
}

static void add_reverse(json_t *rows, const struct reverse *r)
{
    char at[ADDR_TEXT_MAX], listen[SPEC_TEXT_MAX], to[SPEC_TEXT_MAX] = "";
    if (!r->spec)
        return;
    if (!r->spec->socks)
        spec_dest_text(&r->spec->dest, to);
    spec_addr_text(&r->spec->listen, listen);
    json_t *row = forward_row("reverse", r->bound.len ? addr_text(&r->bound, at) : listen, r->spec->udp, to,
                              reverse_names[r->state]);
    json_object_update_new(row, json_pack("{s:I, s:n, s:n}", "callers", (json_int_t)r->callers, "turned_away",
                                          "packets_dropped")); // the rest is known at the relay
    json_array_append_new(rows, row);
}

// In the order of the command line, -L, -D, -R: who reads it counts.
static json_t *forwards(const struct agent *a)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < a->local_count; i++)
        add_local(rows, &a->locals[i]);
    for (size_t i = 0; i < a->reverse_count; i++)
        add_reverse(rows, &a->reverses[i]);
    return rows;
}

static json_t *services(const struct agent *a)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < a->reverse_count; i++) {
        const struct reverse *r = &a->reverses[i];
        char to[SPEC_TEXT_MAX], name[2 * SPEC_NAME_MAX + 2];
        if (!r->offer)
            continue;
        snprintf(name, sizeof(name), "%.63s@%.63s", r->offer->name, (r->now->u ? r->now->u : a->current)->name);
        json_array_append_new(rows, json_pack("{s:s, s:o, s:s, s:s, s:I}", "service", name, "to",
                                              forward_own_json(spec_dest_text(&r->offer->dest, to)), "udp", r->offer->udp ? "yes" : "no",
                                              "state", reverse_names[r->state], "callers", (json_int_t)r->callers));
    }
    return rows;
}

static const char *relay_state(const struct uplink *u)
{
    if (u->out)
        return "given up";
    return uplink_is_up(u) && u->session.goaway_seen ? "draining" : uplink_names[uplink_state(u)];
}

// The one in use first, then in the order in which they would be used.
static json_t *relays(struct agent *a)
{
    json_t *rows = json_array();
    size_t order[AGENT_RELAYS];
    char where[URL_TEXT_MAX];
    relays_order(a, order);
    for (size_t i = 0; i < a->uplink_count; i++) {
        struct uplink *u = &a->uplinks[order[i]];
        json_array_append_new(
            rows, json_pack("{s:I, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:o}", "rank", (json_int_t)i + 1, "relay",
                            relay_url_where(&u->relay.url, where), "used", u == a->current ? "yes" : "no", "state",
                            relay_state(u), "rtt_ms", json_real(uplink_rtt(u) / 1000.0), "streams",
                            (json_int_t)u->session.stream_count, "attempts", (json_int_t)u->attempts,
                            "connected_times", (json_int_t)u->ups, "last_error",
                            forward_own_json(u->last_error)));
    }
    return rows;
}

static json_t *trust(const struct conn *c)
{
    const struct link_facts *f = conn_facts(c);
    const char *issuer = f ? f->tls_issuer : "";
    if (c->peeled)
        return json_string("peeled");
    if (c->welcome_flags & WELCOME_DIFFERS)
        return json_sprintf("intercepted by issuer=\"%s\"", issuer);
    if (c->welcome_flags & WELCOME_FRONTED && f && f->tls_version[0])
        return json_sprintf("inner TLS; the outer one ends at a front, issuer=\"%s\"", issuer);
    return json_string("inner TLS");
}

static json_t *row_of_lane(const struct lane *l, bool with_relay)
{
    static const char *const names[] = {"free", "dialling", "opening", "up"};
    const struct uplink *u = l->u;
    char where[URL_TEXT_MAX], peer[ADDR_TEXT_MAX];
    json_t *row = json_object();
    if (with_relay)
        json_object_set_new(row, "relay", json_string(relay_url_where(&u->relay.url, where)));
    if (l->conn)
        json_object_set_new(row, "carrier", json_integer((json_int_t)l->conn->hello.carrier));
    bool up = l->state == LANE_UP;
    const struct carrier *c = up ? &l->conn->carrier : NULL;
    json_object_set_new(row, "state", json_string(up && c->live.suspect ? "suspect" : up && l->stale ? "stale" : names[l->state]));
    const struct link_facts *f = up ? conn_facts(l->conn) : NULL;
    if (!f)
        return row;
    json_object_set_new(row, "path", json_string(f->path));
    json_object_set_new(row, "transport", json_string(f->transport));
    json_object_set_new(row, "mss", f->mss ? json_integer(f->mss) : json_null());
    json_object_set_new(row, "peer", json_string(addr_text(&f->peer, peer)));
    json_object_set_new(row, "trust", trust(l->conn));
    json_object_set_new(row, "rtt_ms", json_real(c->live.srtt_us / 1000.0));
    json_object_set_new(row, "age_ms", json_integer((json_int_t)(u->w->now_ms - l->up_ms)));
    json_object_set_new(row, "silent_ms", json_integer((json_int_t)((u->w->now_us - c->live.heard_us) / 1000)));
    json_object_set_new(row, "ping_ms", json_integer((json_int_t)c->live.interval_ms));
    json_object_set_new(row, "streams", json_integer((json_int_t)c->stream_count));
    json_object_set_new(row, "bytes_in", json_integer((json_int_t)c->bytes_in));
    json_object_set_new(row, "bytes_out", json_integer((json_int_t)c->bytes_out));
    return row;
}

static void add_lanes(json_t *rows, const struct uplink *u, bool with_relay)
{
    for (size_t i = 0; i < UPLINK_LANES; i++) {
        if (u->lanes[i].state != LANE_FREE)
            json_array_append_new(rows, row_of_lane(&u->lanes[i], with_relay));
    }
}

static json_t *carriers(const struct agent *a)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < a->uplink_count; i++)
        add_lanes(rows, &a->uplinks[i], true);
    return rows;
}

// A session: its carriers, and what was repaired when and why.
static json_t *session_row(const struct uplink *u)
{
    char where[URL_TEXT_MAX], id[9];
    const struct session *s = &u->session;
    json_t *lanes = json_array();
    add_lanes(lanes, u, false);
    snprintf(id, sizeof(id), "%02x%02x%02x%02x", s->id[0], s->id[1], s->id[2], s->id[3]);
    json_t *row = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "relay", relay_url_where(&u->relay.url, where), "session", id,
                            "state", uplink_is_up(u) ? "up" : s->has_birth ? "parked" : "new", "streams",
                            (json_int_t)s->stream_count, "resumed", (json_int_t)u->resumed, "streams_moved",
                            (json_int_t)s->stats.moved, "bytes_replayed", (json_int_t)s->stats.replayed, "packets_in",
                            (json_int_t)s->stats.dgrams_in, "packets_out", (json_int_t)s->stats.dgrams_out,
                            "packets_dropped", (json_int_t)session_dgrams_dropped(s), "carriers", lanes);
    if (u->ended_ms)
        json_object_set_new(row, "last_end", json_pack("{s:o, s:I, s:I}", "reason", forward_own_json(u->ended), "ago_ms",
                                                       (json_int_t)(u->w->now_ms - u->ended_ms), "repair_ms",
                                                       (json_int_t)u->took_ms));
    return row;
}

static json_t *sessions(const struct agent *a)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < a->uplink_count; i++)
        json_array_append_new(rows, session_row(&a->uplinks[i]));
    return rows;
}

static json_t *table(void *owner, const char *name)
{
    struct agent *a = owner;
    if (strcmp(name, "relays") == 0)
        return relays(a);
    if (strcmp(name, "carriers") == 0)
        return carriers(a);
    if (strcmp(name, "forwards") == 0)
        return forwards(a);
    if (strcmp(name, "services") == 0)
        return services(a);
    if (strcmp(name, "streams") == 0)
        return forward_streams_json(&a->fw);
    return strcmp(name, "flows") == 0 ? forward_flows_json(&a->fw) : NULL;
}

static json_t *carrier(const struct agent *a)
{
    const struct link_facts *f = uplink_facts(a->current);
    const struct session *s = &a->current->session;
    char peer[ADDR_TEXT_MAX];
    json_t *o = json_pack("{s:s, s:I, s:I, s:o}", "state", uplink_names[uplink_state(a->current)], "attempts",
                          (json_int_t)a->current->attempts, "connected_times", (json_int_t)a->current->ups, "last_error",
                          forward_own_json(a->current->last_error));
    if (!f)
        return o;
    json_object_set_new(o, "path", json_string(f->path));
    json_object_set_new(o, "transport", json_string(f->transport));
    if (f->mss)
        json_object_set_new(o, "mss", json_integer(f->mss));
    json_object_set_new(o, "peer", json_string(addr_text(&f->peer, peer)));
    json_object_set_new(o, "tls", json_string(f->tls_version));
    json_object_set_new(o, "issuer", json_string(f->tls_issuer));
    json_object_set_new(o, "certificate", json_string(f->outer_trusted ? "trusted" : f->outer_reason));
    json_object_set_new(o, "trust", trust(uplink_lane(a->current)->conn));
    json_object_set_new(o, "rtt_ms", json_real(session_rtt_us(s) / 1000.0));
    json_object_set_new(o, "up_seconds", json_integer((json_int_t)((a->w.now_ms - uplink_lane(a->current)->up_ms) / 1000)));
    return o;
}

static json_t *session_json(const struct agent *a)
{
    const struct session_stats *s = &a->current->session.stats;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", //
                     "streams", (json_int_t)a->current->session.stream_count, "opened", (json_int_t)s->opened, "refused",
                     (json_int_t)s->refused, "reset", (json_int_t)s->reset, "bytes_in", (json_int_t)s->bytes_in,
                     "bytes_out", (json_int_t)s->bytes_out, "packets_in", (json_int_t)s->dgrams_in, "packets_out",
                     (json_int_t)s->dgrams_out, "packets_dropped",
                     (json_int_t)session_dgrams_dropped(&a->current->session), "replayed",
                     (json_int_t)s->replayed, "integrity_failures", (json_int_t)a->current->tampered);
}

static bool rises(const struct uplink *u)
{
    for (size_t i = 0; i < UPLINK_LANES; i++)
        if (lane_is_rising(&u->lanes[i]))
            return true;
    return false;
}

// Which proxies are known for the relay in use, and where from. "settled": what stands goes by one of them; "failed": an attempt did not get there.
static json_t *proxies(const struct uplink *u)
{
    char ways[ROUTES_TEXT_MAX];
    const struct lane *l = uplink_lane(u);
    const struct proxy_route *used = l ? proxy_routes_find(&u->routes, l->route_id) : NULL;
    bool settled = !u->find.busy && used && lane_is_good(l);
    bool failed = !settled && !u->find.busy && (*u->find_error || (u->attempts > u->routes_attempts && !rises(u)));
    json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:b}", "from", u->routes.source, "ways", routes_text(&u->routes, ways, sizeof(ways)), "used",
                          used ? used->path : "", "settled", (int)settled, "failed",
                          (int)failed);
    if (*u->routes.note)
        json_object_set_new(o, "note", json_string(u->routes.note));
    if (*u->find_error)
        json_object_set_new(o, "error", json_string(u->find_error));
    return o;
}

static json_t *status(void *owner)
{
    struct agent *a = owner;
    static const char *const seal_names[] = {"auto", "always", "never"};
    char pin[PIN_TEXT_MAX], url[URL_TEXT_MAX];
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "name", a->current->name, "relay",
                     relay_url_text(&a->current->relay.url, url), "pin", pin_text(a->state.id.pin, pin),
                     "seal", seal_names[a->o->seal], "peers", (json_int_t)a->state.peer_count, "carrier", carrier(a), "proxy", proxies(a->current),
                     "relays", relays(a), "session", session_json(a), "sessions", sessions(a), "forwarding", forward_stats_json(&a->fw), "memory_bytes",
                     (json_int_t)a->budget.used, "forwards", forwards(a));
}

const struct control_ops agent_control_ops = {.status = status, .table = table, .proxy = relays_proxy};

void agent_tell_ready(struct agent *a)
{
    char url[URL_TEXT_MAX];
    int fd = a->o->ready_fd;
    if (fd < 0)
        return;
    json_t *o = json_pack("{s:s, s:s, s:o, s:o}", "relay", relay_url_text(&a->current->relay.url, url), "name", a->current->name,
                          "forwards", forwards(a), "services", services(a));
    bool told = o && json_dumpfd(o, fd, JSON_COMPACT) == 0 && write(fd, "\n", 1) == 1;
    if (!told)
        log_event(LOG_WARN, "nobody reads the ready descriptor", LN("fd", fd));
    if (fd > STDERR_FILENO)
        close(fd);
    json_decref(o);
}
