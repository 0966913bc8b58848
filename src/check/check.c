// SPDX-License-Identifier: Apache-2.0
#include "check/check.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"
#include "check/show.h"
#include "link/h2.h"
#include "link/tls.h"

#define CLOCK_FINE_S 90  // certificates and tickets bear that
#define TICK_MS 120

// Probes ------------------------------------------------------------------------------------------------------------

void probe_start(struct probe *p, struct check *c, void (*fini)(struct probe *p))
{
    p->c = c;
    p->fini = fini;
    list_push(&c->probes, &p->node);
}

static void bury(struct grave *g) { free(container_of(g, struct probe, grave)); }

void probe_over(struct probe *p)
{
    struct check *c = p->c;
    p->fini(p);
    list_del(&p->node);
    worker_bury(&c->w, &p->grave, bury);
    if (list_empty(&c->probes))
        wake_post(&c->w, &c->settled);
}

// What probes share -------------------------------------------------------------------------------------------------

void check_note_date(struct check *c, const struct answer *a, const char *of)
{
    if (!a->date || c->date)
        return;
    c->date = a->date;
    c->date_at = time(NULL);
    snprintf(c->date_of, sizeof(c->date_of), "%s", of);
}

void check_dial_options(const struct check_way *way, enum transport transport, uint16_t mss, struct dial_options *out)
{
    *out = way->c->dial;
    out->route = &way->route;
    out->transport = transport;
    out->mss = mss;
}

void check_way_answers(struct check_way *way, enum transport transport)
{
    if (way->tls && way->tls->result != CHECK_OK) {
        err_set(&way->err, ERR_UNTRUSTED, WHY_POLICY, "%s", way->tls->seen);
        err_advise(&way->err, way->tls->advice);
        return;
    }
    if (!way->usable || transport < way->transport)
        way->transport = transport;
    way->usable = true;
}

void check_way_stands(struct check_way *way)
{
    struct check *c = way->c;
    upgrade_probe(way);
    if (c->o->relay->tls)
        alpn_probe(way);
    if (!c->o->known || !c->inner)
        return;
    const struct transport_list *list = c->o->transports.count ? &c->o->transports : &transports_usual;
    for (size_t i = 0; i < list->count; i++)
        tunnel_probe(way, list->of[i]);
}

// The start ---------------------------------------------------------------------------------------------------------

static int make_contexts(struct check *c, struct err *e)
{
    static const uint8_t both[] = "\x02h2\x08http/1.1";
    const struct check_options *o = c->o;
    if (o->relay->tls && (!(c->tls = tls_client_ctx(o->ca_file, e)) || !(c->tls_h2 = tls_client_ctx(o->ca_file, e))))
        return -1;
    if (c->tls_h2)
        SSL_CTX_set_alpn_protos(c->tls_h2, both, sizeof(both) - 1);
    if (!o->known || !o->id->key)
        return 0;
    c->pin_count = agent_relay_pins(o->known, c->pins);
    c->inner = tls_inner_ctx(false, o->id->cert, o->id->key, e);
    return c->inner ? 0 : -1;
}

static void make_dial_options(struct check *c)
{
    const struct check_options *o = c->o;
    c->dial = (struct dial_options){.relay = o->relay, .kit = o->kit, .outer = c->tls, .inner = c->inner, .outer_report = o->outer_report,
                                    .pins = c->pins, .pin_count = c->pin_count, .host = o->host, .sni = o->sni, .headers = o->headers,
                                    .hubs = &c->hubs, .fresh = true};
    dial_host_header(&c->dial, c->host, sizeof(c->host));
    dial_verify_name(&c->dial, c->name, sizeof(c->name));
}

static void note_rest(struct check *c)
{
    uint64_t now = c->w.now_ms;
    const char *group = c->ways[0].group;
    if (!c->o->known)
        finding_end(report_add(c->report, group, "tunnel", "tunnel", now), CHECK_SKIPPED, ADVICE_JOIN, now,
                    "this relay was not joined, so its key cannot be checked");
    finding_end(report_add(c->report, group, "udp", "UDP", now), CHECK_ABSENT, ADVICE_NONE, now, "not offered by the relay: datagrams travel "
                "inside the tunnel");
}

static void begin(struct check *c)
{
    const struct relay_url *relay = c->o->relay;
    struct addr literal;
    names_probe(c, addr_parse_ip(&literal, relay->host, 0) ? "address" : "name and addresses", relay->host, relay->port, false);
    for (size_t i = 0; i < c->way_count; i++)
        for (size_t hop = 0; hop < c->ways[i].route.count; hop++)
            proxy_probe(&c->ways[i], hop);
    for (size_t i = 0; i < c->way_count; i++)
        web_probe(&c->ways[i]);
    if (relay->port == 443)
        portal_probe(c);
}

// The end -----------------------------------------------------------------------------------------------------------

static void judge_clock(struct check *c)
{
    struct finding *f = report_add(c->report, "this machine", "clock", "clock", c->w.now_ms);
    if (!c->date) {
        finding_end(f, CHECK_SKIPPED, ADVICE_NONE, c->w.now_ms, "nobody told the time");
        return;
    }
    long long skew = (long long)(c->date_at - c->date), off = skew < 0 ? -skew : skew;
    char text[64];
    if (off >= 2 * 86400)
        snprintf(text, sizeof(text), "%lld days", off / 86400);
    else if (off >= 2 * 3600)
        snprintf(text, sizeof(text), "%lld hours", off / 3600);
    else
        snprintf(text, sizeof(text), "%lld s", off);
    finding_more(f, "skew_s", json_integer(skew));
    if (off <= CLOCK_FINE_S)
        finding_end(f, CHECK_OK, ADVICE_NONE, c->w.now_ms, "agrees with %s", c->date_of);
    else
        finding_end(f, CHECK_FAILED, ADVICE_CLOCK, c->w.now_ms, "%s %s, says %s", text, skew > 0 ? "ahead" : "behind", c->date_of);
    f->took_ms = UINT64_MAX;
    if (off <= 86400)
        return;
    for (size_t i = 0; i < c->way_count; i++) { // its doing, not the certificate's
        struct check_way *way = &c->ways[i];
        if (way->tls && (way->tls->advice == ADVICE_CERT_OLD || way->tls->advice == ADVICE_CLOCK))
            way->tls->advice = ADVICE_CLOCK;
        if (way->err.advice == ADVICE_CERT_OLD)
            way->err.advice = ADVICE_CLOCK;
    }
}

static bool has(const json_t *list, const char *address)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) {
        if (strcmp(json_string_value(one), address) == 0)
            return true;
    }
    return false;
}

// Each server that knows none of the addresses that are used.
static void judge_names(struct check *c)
{
    const struct finding *first = NULL;
    list_each(&c->report->findings, it) {
        struct finding *f = list_entry(it, struct finding, node);
        bool same = false;
        size_t i;
        json_t *one;
        if (strcmp(f->probe, "name") != 0)
            continue;
        if (!first || strcmp(first->group, f->group) != 0) {
            first = f;
            continue;
        }
        const json_t *used = json_object_get(first->more, "addresses"), *own = json_object_get(f->more, "addresses");
        json_array_foreach(own, i, one)
            same |= has(used, json_string_value(one));
        finding_more(f, "differs", json_boolean(!same && json_array_size(own) > 0));
        if (!same && json_array_size(own) > 0 && json_array_size(used) > 0)
            f->advice = ADVICE_NAME_SPLIT;
    }
}

// Where a transport is not offered, its tunnel is no refusal.
static void forgive_h2(struct check *c)
{
    for (size_t i = 0; i < c->way_count; i++) {
        struct finding *h2 = c->ways[i].h2, *tunnel = c->ways[i].tunnels[TRANSPORT_H2];
        if (h2 && h2->result == CHECK_ABSENT && tunnel && tunnel->result != CHECK_OK)
            finding_end(tunnel, CHECK_ABSENT, ADVICE_NONE, c->w.now_ms, "not offered there");
    }
}

// A proxy that wants a login from strangers is no trouble where the way through it stands.
static void forgive_proxies(struct check *c)
{
    for (size_t i = 0; i < c->way_count; i++) {
        struct check_way *way = &c->ways[i];
        for (size_t hop = 0; way->secured && hop < way->route.count; hop++) {
            struct finding *f = way->proxies[hop];
            if (f && f->result == CHECK_REFUSED) {
                f->result = CHECK_OK;
                f->advice = ADVICE_NONE;
            }
        }
    }
}

static enum err_kind worse(enum err_kind a, enum err_kind b) { return a > b ? a : b; }

// As an agent does: the transport counts more than the order of the ways that were told or found, and only these count while one works.
static struct check_way *chosen_way(struct check *c)
{
    struct check_way *best = NULL;
    for (size_t i = 0; i < c->way_count; i++) {
        struct check_way *way = &c->ways[i];
        bool better = best && (way->found != best->found ? way->found : way->transport < best->transport);
        if (way->usable && (!best || better))
            best = way;
    }
    return best;
}

static void choose(struct check *c)
{
    struct report *r = c->report;
    r->usable = true;
    r->status = ERR_NONE;
    const struct check_way *way = chosen_way(c);
    if (way) {
        snprintf(r->choice, sizeof(r->choice), "%.150s, %s%s", way->group, transport_title(way->transport), way->mss ? ", small segments" : "");
        r->chosen = json_pack("{s:s,s:s,s:i}", "way", way->route.path, "transport", transport_name(way->transport), "mss", (int)way->mss);
        if (!way->found)
            snprintf(r->why, sizeof(r->why), "what was told or found does not work (%.250s); say --proxy none",
                     err_text(err_is(&c->found) ? &c->found : &c->ways[0].err));
        else if (way->route.count)
            snprintf(r->why, sizeof(r->why), "the proxy comes from %s", way->route.source);
        else
            snprintf(r->why, sizeof(r->why), "no proxy was told or found, and none is needed");
        return;
    }
    r->usable = false;
    for (size_t i = 0; i < c->way_count; i++)
        r->status = worse(r->status, c->ways[i].err.kind == ERR_FAILED ? ERR_UNREACHED : c->ways[i].err.kind);
    if (r->status == ERR_NONE)
        r->status = ERR_UNREACHED;
    const struct err *first = err_is(&c->found) ? &c->found : &c->ways[0].err;
    snprintf(r->why, sizeof(r->why), "%s", err_is(first) ? err_text(first) : "no way stands");
    r->advice = first->advice;
    r->advised = first->advised;
}

// One sentence about what else was seen goes to the top when it is the cause of all.
static void point_at_cause(struct check *c)
{
    static const enum advice causes[] = {ADVICE_PORTAL, ADVICE_CLOCK};
    if (c->report->usable)
        return;
    for (size_t k = 0; k < sizeof(causes) / sizeof(causes[0]); k++) {
        list_each(&c->report->findings, it) {
            const struct finding *f = list_entry(it, struct finding, node);
            if (f->advice == causes[k] && f->result != CHECK_OK) {
                c->report->advice = causes[k];
                c->report->advised = false;
                return;
            }
        }
    }
}

static void finish(struct check *c)
{
    c->phase = CHECK_OVER;
    worker_stop(&c->w);
}

static void on_settled(struct wake *wake)
{
    struct check *c = container_of(wake, struct check, settled);
    if (!list_empty(&c->probes))
        return;
    if (c->phase == CHECK_WAYS_PHASE) {
        note_rest(c);
        judge_clock(c);
        judge_names(c);
        forgive_proxies(c);
        forgive_h2(c);
        choose(c);
        point_at_cause(c);
        struct check_way *way = chosen_way(c);
        if (c->o->idle && way && c->inner) {
            c->phase = CHECK_IDLE_PHASE;
            idle_probe(way);
            return;
        }
    }
    finish(c);
}

static void on_tick(struct timer *timer)
{
    struct check *c = container_of(timer, struct check, tick);
    show_progress(c->report, c->w.now_ms - c->began_ms, c->turn++);
    timer_set(&c->w, &c->tick, TICK_MS);
}

static int run(struct check *c, struct err *e)
{
    c->resolver = resolver_new(&c->w, e);
    if (!c->resolver || check_find_ways(c, e) < 0 || make_contexts(c, e) < 0)
        return -1;
    make_dial_options(c);
    relay_url_text(c->o->relay, c->report->relay);
    c->report->joined = c->o->known;
    c->began_ms = c->w.now_ms;
    if (c->o->progress)
        timer_set(&c->w, &c->tick, 0);
    begin(c);
    worker_run(&c->w);
    c->report->took_ms = c->w.now_ms - c->began_ms;
    if (c->o->progress)
        show_progress(NULL, 0, 0);
    return 0;
}

static void fini(struct check *c)
{
    list_each(&c->probes, it) {
        struct probe *p = list_entry(it, struct probe, node);
        p->fini(p);
        list_del(&p->node);
        worker_bury(&c->w, &p->grave, bury);
    }
    timer_stop(&c->w, &c->tick);
    wake_cancel(&c->settled);
    h2_free_all(&c->hubs);
    worker_turn(&c->w); // burials
    worker_turn(&c->w);
    resolver_free(c->resolver);
    for (size_t i = 0; i < c->way_count; i++) {
        proxy_route_wipe(&c->ways[i].route);
        err_fini(&c->ways[i].err);
    }
    err_fini(&c->found);
    SSL_CTX_free(c->tls);
    SSL_CTX_free(c->tls_h2);
    SSL_CTX_free(c->inner);
    worker_fini(&c->w);
}

struct report *check_run(const struct check_options *o, struct err *e)
{
    struct check *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    signal(SIGPIPE, SIG_IGN);
    c->o = o;
    c->report = report_new();
    list_init(&c->probes);
    list_init(&c->hubs);
    wake_init(&c->settled, on_settled);
    timer_init(&c->tick, on_tick);
    int rc = worker_init(&c->w, 0, 1);
    if (rc < 0) {
        err_set(e, ERR_FAILED, WHY_NONE, "the event loop cannot be made: %s", uv_strerror(rc));
    } else {
        rc = run(c, e);
        fini(c);
    }
    struct report *report = c->report;
    free(c);
    if (rc == 0)
        return report;
    report_free(report);
    return NULL;
}
