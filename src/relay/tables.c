// SPDX-License-Identifier: Apache-2.0
// What the relay tells `status` and `table`.
#include <string.h>
#include "relay/inside.h"

static const char *const how_names[] = {"inner", "peeled", "intercepted", "fronted"};

static void session_text(const struct visit *v, char out[9])
{
    const uint8_t *id = v->s.id;
    snprintf(out, 9, "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
}

// Of the carrier that is best to look at: the newest.
static const struct berth *newest(const struct visit *v)
{
    return visit_is_up(v) ? list_entry(v->carriers.prev, struct berth, node) : NULL;
}

static json_t *row_of_visit(const struct visit *v)
{
    char id[9];
    const struct session *s = &v->s;
    const struct berth *b = newest(v);
    session_text(v, id);
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:i,s:I}", "agent", v->m->name, "state",
                     b ? "up" : "parked", "peer", b ? b->peer : "", "trust", b ? how_names[b->how] : "", "tls",
                     b ? b->tls : "", "rtt_ms", (json_int_t)(session_rtt_us(s) / 1000), "streams",
                     (json_int_t)s->stream_count, "bytes_in", (json_int_t)s->stats.bytes_in, "bytes_out",
                     (json_int_t)s->stats.bytes_out, "memory_bytes", (json_int_t)v->m->budget.used, "since",
                     (json_int_t)v->since, "session", id, "carriers", (int)v->carrier_count, "resumed",
                     (json_int_t)v->resumed)
               ?: json_object();
}

static json_t *row_of_berth(const struct berth *b)
{
    const struct carrier *c = &b->conn->carrier;
    const struct session *s = &b->v->s;
    uint64_t now = s->w->now_ms;
    char id[9];
    session_text(b->v, id);
    return json_pack("{s:s,s:s,s:I,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "agent", b->v->m->name, "session", id,
                     "carrier", (json_int_t)b->number, "state", c->live.suspect ? "suspect" : "up", "peer", b->peer,
                     "trust", how_names[b->how], "tls", b->tls, "rtt_ms", (json_int_t)(c->live.srtt_us / 1000),
                     "age_ms", (json_int_t)(now - b->up_ms), "silent_ms",
                     (json_int_t)((s->w->now_us - c->live.heard_us) / 1000), "streams", (json_int_t)c->stream_count,
                     "bytes_in", (json_int_t)c->bytes_in, "bytes_out", (json_int_t)c->bytes_out)
               ?: json_object();
}

static void add_carriers(const struct visit *v, json_t *rows)
{
    list_each((struct list *)&v->carriers, it)
        json_array_append_new(rows, row_of_berth(list_entry(it, struct berth, node)));
}

// A session as `status` shows it: its carriers, and what became of the last one that ended.
static void add_session(const struct visit *v, json_t *rows)
{
    json_t *carriers = json_array(), *row;
    char id[9];
    session_text(v, id);
    add_carriers(v, carriers);
    row = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "agent", v->m->name, "session", id, "state",
                    visit_is_up(v) ? "up" : "parked", "streams", (json_int_t)v->s.stream_count, "resumed",
                    (json_int_t)v->resumed, "streams_moved", (json_int_t)v->s.stats.moved, "bytes_replayed",
                    (json_int_t)v->s.stats.replayed, "packets_in", (json_int_t)v->s.stats.dgrams_in, "packets_out",
                    (json_int_t)v->s.stats.dgrams_out, "packets_dropped", (json_int_t)session_dgrams_dropped(&v->s),
                    "carriers", carriers)
              ?: json_object();
    if (v->ended_ms)
        json_object_set_new(row, "last_end", json_pack("{s:o,s:I}", "reason", forward_own_json(v->ended),
                                                       "ago_ms", (json_int_t)(v->s.w->now_ms - v->ended_ms)));
    json_array_append_new(rows, row);
}

static json_t *with_pin(json_t *row, const struct visit *v)
{
    char pin[PIN_TEXT_MAX];
    json_object_set_new(row, "pin", json_string(pin_text(v->m->pin, pin)));
    return row;
}

typedef void visit_fn(const struct visit *v, json_t *rows);

static json_t *each_visit(const struct relay *r, visit_fn *fn)
{
    json_t *rows = json_array();
    list_each((struct list *)&r->members, mi)
    {
        const struct member *m = list_entry(mi, struct member, node);
        list_each((struct list *)&m->visits, vi) fn(list_entry(vi, struct visit, node), rows);
    }
    return rows;
}

static void add_agent(const struct visit *v, json_t *rows)
{
    json_array_append_new(rows, with_pin(row_of_visit(v), v));
}

static void add_services(const struct visit *v, json_t *rows)
{
    list_each((struct list *)&v->listeners, it)
    {
        const struct relay_listener *l = list_entry(it, struct relay_listener, node);
        char name[2 * SPEC_NAME_MAX + 2];
        if (!l->offer)
            continue;
        snprintf(name, sizeof name, "%.63s@%.63s", l->host, v->m->name);
        json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:I}", "service", name, "state", visit_is_up(v) ? "up" : "parked",
                                              "udp", l->udp ? "yes" : "no", "since", (json_int_t)l->since));
    }
}

static void add_forwards(const struct visit *v, json_t *rows)
{
    list_each((struct list *)&v->listeners, it)
    {
        const struct relay_listener *l = list_entry(it, struct relay_listener, node);
        char at[ADDR_TEXT_MAX];
        if (!l->entry)
            continue;
        for (size_t i = 0; entry_addr(l->entry, i); i++) {
            json_t *row = json_pack("{s:s,s:o,s:s,s:s,s:s,s:I}", "kind", "reverse", "at",
                                    forward_foreign_json(addr_text(entry_addr(l->entry, i), at)), "udp", l->udp ? "yes" : "no",
                                    "agent", v->m->name, "state", visit_is_up(v) ? "up" : "parked", "since",
                                    (json_int_t)l->since);
            json_object_update_new(row, entry_counts(l->entry));
            json_array_append_new(rows, row);
        }
    }
}

// What passes here between two agents: of streams or of flows. A row tells of the half of the agent that asked.
struct switched {
    const struct visit *v;
    json_t *rows;
    bool datagram;
};

static void add_switched(struct stream *st, void *ctx)
{
    struct switched *sw = ctx;
    struct stream_info info;
    stream_get_info(st, &info);
    if (!info.speaks || info.datagram != sw->datagram)
        return;
    char uid[33];
    for (int i = 0; i < 16; i++)
        snprintf(uid + 2 * i, 3, "%02x", info.uid[i]);
    json_t *row = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:s}", "kind", "service", "agent", sw->v->m->name, "sealed",
                            info.sealed ? "yes" : "no", "bytes_in", (json_int_t)info.bytes_in, "bytes_out",
                            (json_int_t)info.bytes_out, "age_ms",
                            (json_int_t)((sw->v->m->r->w->now_us - info.opened_us) / 1000), "uid", uid);
    if (sw->datagram)
        json_object_update_new(row, json_pack("{s:I,s:I}", "packets_in", (json_int_t)info.packets_in, "packets_out",
                                              (json_int_t)info.packets_out));
    json_array_append_new(sw->rows, row);
}

static void add_visit_streams(const struct visit *v, json_t *rows)
{
    session_each_stream((struct session *)&v->s, add_switched, &(struct switched){v, rows, false});
}

static void add_visit_flows(const struct visit *v, json_t *rows)
{
    session_each_stream((struct session *)&v->s, add_switched, &(struct switched){v, rows, true});
}

// Those that this relay ends itself, and then those that it switches.
static json_t *with_switched(const struct relay *r, json_t *rows, visit_fn *add)
{
    json_t *switched = each_visit(r, add);
    json_array_extend(rows, switched);
    json_decref(switched);
    return rows;
}

static json_t *table(void *owner, const char *name)
{
    const struct relay *r = owner;
    if (!strcmp(name, "agents"))
        return each_visit(r, add_agent);
    if (!strcmp(name, "carriers"))
        return each_visit(r, add_carriers);
    if (!strcmp(name, "services"))
        return each_visit(r, add_services);
    if (!strcmp(name, "forwards"))
        return each_visit(r, add_forwards);
    if (!strcmp(name, "streams"))
        return with_switched(r, forward_streams_json(&r->fw), add_visit_streams);
    return strcmp(name, "flows") ? NULL : with_switched(r, forward_flows_json(&r->fw), add_visit_flows);
}

json_t *tables_addresses(const struct relay *r, enum front_kind kind)
{
    json_t *rows = json_array();
    char at[ADDR_TEXT_MAX];
    for (size_t p = 0; p < r->port_count; p++)
        for (size_t i = 0; r->ports[p].kind == kind && listener_addr(r->ports[p].listener, i); i++)
            json_array_append_new(rows, forward_own_json(addr_text(listener_addr(r->ports[p].listener, i), at)));
    return rows;
}

static json_t *callers(const struct relay *r)
{
    const struct front_stats *s = &r->front.stats;
    return json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "now", (int)r->front.count, "accepted",
                     (json_int_t)s->accepted, "turned_away", (json_int_t)s->turned_away, "tls_failed",
                     (json_int_t)s->tls_failed, "late", (json_int_t)s->late, "not_found", (json_int_t)s->not_found,
                     "bad", (json_int_t)s->bad, "unannounced", (json_int_t)s->unannounced, "decoyed", (json_int_t)s->decoyed, "redirected",
                     (json_int_t)s->redirected, "upgraded", (json_int_t)s->upgraded);
}

static json_t *agents(const struct relay *r)
{
    const struct relay_stats *s = &r->stats;
    json_int_t sessions = 0, up = 0, open = 0;
    list_each((struct list *)&r->members, mi)
    {
        const struct member *m = list_entry(mi, struct member, node);
        list_each((struct list *)&m->visits, vi)
        {
            const struct visit *v = list_entry(vi, struct visit, node);
            sessions++;
            up += visit_is_up(v);
            open += v->s.stream_count;
        }
    }
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "sessions", sessions, "up", up, "streams", open,
                     "welcomed", (json_int_t)s->welcomed, "resumed", (json_int_t)s->resumed, "enrolled",
                     (json_int_t)s->enrolled, "refused", (json_int_t)s->refused, "asked", (json_int_t)s->asked,
                     "denied", (json_int_t)s->denied, "integrity_failures", (json_int_t)s->tampered);
}

static json_t *status(void *owner)
{
    const struct relay *r = owner;
    char pin[PIN_TEXT_MAX];
    return json_pack("{s:s,s:I,s:s,s:b,s:o,s:o,s:o,s:I,s:I,s:o,s:o,s:o,s:o}", "state", r->o->state, "since",
                     (json_int_t)r->since, "pin", pin_text(r->id.pin, pin), "draining", (int)r->draining, "listen",
                     tables_addresses(r, FRONT_WEB), "listen_plain", tables_addresses(r, FRONT_PLAIN), "redirect",
                     tables_addresses(r, FRONT_REDIRECT), "memory_bytes", (json_int_t)r->budget.used,
                     "memory_bytes_max", (json_int_t)r->budget.max, "agents", agents(r), "callers",
                     callers(r), "forwarding", forward_stats_json(&r->fw), "sessions", each_visit(r, add_session));
}

void tables_on_reload(void *owner, uint64_t ticket)
{
    control_policy_read(((struct relay *)owner)->control, ticket);
}

static void policy(void *owner, uint64_t ticket) { keeper_reload(((struct relay *)owner)->keeper, ticket); }

const struct control_ops relay_control_ops = {.status = status, .table = table, .policy = policy};
