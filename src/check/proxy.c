// SPDX-License-Identifier: Apache-2.0
// A proxy by itself: what it answers to somebody without a login, which tells what it is, what it offers and what it wants. The hops
// before it are passed as an agent would pass them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"
#include "wire/scan.h"

#define METHODS_MS 6000

struct hop_probe {
    struct probe probe;
    struct check_way *way;
    struct finding *f;
    struct proxy_route before; // the hops to pass
    const struct proxy_url *hop;
    const char *host; // what it shall connect to
    uint16_t port;
    struct trial trial;
    struct ask ask;
    struct wake wake;
    struct timer deadline;
    uint8_t in[8];
    size_t have;
};

static void fini(struct probe *p)
{
    struct hop_probe *h = container_of(p, struct hop_probe, probe);
    wake_cancel(&h->wake);
    timer_stop(&p->c->w, &h->deadline);
    ask_stop(&h->ask);
    trial_stop(&h->trial);
    proxy_route_wipe(&h->before);
}

static void end(struct hop_probe *h, enum check_result result, enum advice advice, const char *text)
{
    finding_end(h->f, result, advice, h->probe.c->w.now_ms, "%s", text);
    probe_over(&h->probe);
}

static void end_failed(struct hop_probe *h, const struct err *err)
{
    finding_fail(h->f, err, h->probe.c->w.now_ms);
    probe_over(&h->probe);
}

// HTTP --------------------------------------------------------------------------------------------------------------

static void judge(struct hop_probe *h, const struct answer *a)
{
    char text[512], all[900];
    answer_text(a, text, sizeof(text));
    finding_more(h->f, "status", json_integer(a->status));
    finding_more(h->f, "server", json_string(a->server));
    finding_more(h->f, "via", json_string(a->via));
    finding_more(h->f, "offers", json_string(a->offers));
    if (a->status == 407) {
        snprintf(all, sizeof(all), "wants a login, offers %s%s (%s)", a->offers[0] ? a->offers : "nothing that is known",
                 h->hop->has_login ? "; one is given" : "", text);
        bool given = h->hop->has_login || strcasestr(a->offers, "Negotiate"); // a ticket may do
        end(h, given ? CHECK_OK : CHECK_REFUSED, given ? ADVICE_NONE : ADVICE_PROXY_LOGIN, all);
        return;
    }
    bool ok = a->status >= 200 && a->status < 300;
    snprintf(all, sizeof(all), ok ? "lets everybody through (%s)" : "answered %s%s%s", text, a->location[0] ? ", leads to " : "",
             a->location);
    end(h, ok ? CHECK_OK : CHECK_REFUSED, ok ? ADVICE_NONE : a->connect_advice, all);
}

static void on_asked(struct ask *a, const struct err *err)
{
    struct hop_probe *h = container_of(a, struct hop_probe, ask);
    char of[200], where[URL_TEXT_MAX];
    if (err) {
        struct err e = ERR_INIT;
        err_copy(&e, err);
        e.advice = ADVICE_PROXY_STRANGE;
        end_failed(h, &e);
        err_fini(&e);
        return;
    }
    snprintf(of, sizeof(of), "the proxy %.180s", proxy_url_where(h->hop, where));
    check_note_date(h->probe.c, &a->answer, of);
    judge(h, &a->answer);
}

static void ask_connect(struct hop_probe *h)
{
    char target[URL_TEXT_MAX], text[2 * URL_TEXT_MAX + 120];
    scan_host_port_text(target, sizeof(target), h->host, h->port);
    snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Connection: keep-alive\r\n\r\n", target, target);
    ask_start(&h->ask, h->trial.top, text, NULL, on_asked);
}

// SOCKS -------------------------------------------------------------------------------------------------------------

static void judge_method(struct hop_probe *h)
{
    bool login = h->hop->has_login;
    if (h->in[0] != 5)
        end(h, CHECK_FAILED, ADVICE_PROXY_STRANGE, "what answers is not SOCKS5");
    else if (h->in[1] == 0)
        end(h, CHECK_OK, ADVICE_NONE, "SOCKS5, no login wanted");
    else if (h->in[1] == 2)
        end(h, login ? CHECK_OK : CHECK_REFUSED, login ? ADVICE_NONE : ADVICE_PROXY_LOGIN,
            login ? "SOCKS5, wants user and password; they are given" : "SOCKS5, wants user and password");
    else
        end(h, CHECK_REFUSED, ADVICE_PROXY_SCHEME, "SOCKS5, takes neither no login nor user and password");
}

static void on_wake(struct wake *wake)
{
    struct hop_probe *h = container_of(wake, struct hop_probe, wake);
    while (h->have < 2) {
        struct buf *b;
        enum link_status s = link_recv(h->trial.top, &b);
        if (s == LINK_AGAIN)
            return;
        if (s != LINK_OK) {
            end(h, CHECK_FAILED, ADVICE_PROXY_STRANGE, "the connection was closed without an answer");
            return;
        }
        size_t n = b->len < sizeof(h->in) - h->have ? b->len : sizeof(h->in) - h->have;
        memcpy(h->in + h->have, buf_data(b), n);
        h->have += n;
        buf_put(b);
    }
    judge_method(h);
}

static void on_deadline(struct timer *timer)
{
    end(container_of(timer, struct hop_probe, deadline), CHECK_FAILED, ADVICE_PROXY_STRANGE, "says nothing");
}

static void ask_methods(struct hop_probe *h)
{
    static const uint8_t methods[] = {5, 2, 0, 2}; // none; user and password
    struct check *c = h->probe.c;
    timer_set(&c->w, &h->deadline, METHODS_MS);
    link_own(h->trial.top, &h->wake);
    link_send(h->trial.top, buf_copy(&c->w.pool, methods, sizeof(methods)));
    wake_post(&c->w, &h->wake);
}

// Both --------------------------------------------------------------------------------------------------------------

static void on_open(struct trial *t, const struct err *err)
{
    struct hop_probe *h = container_of(t, struct hop_probe, trial);
    if (err && h->before.count > 0 && t->stage <= TRIAL_HOPS) { // that is another row
        end(h, CHECK_SKIPPED, ADVICE_NONE, "not reached: the proxy before it does not let us through");
        return;
    }
    if (err) {
        struct err e = ERR_INIT;
        err_copy(&e, err);
        if (e.kind == ERR_UNTRUSTED)
            e.advice = ADVICE_PROXY_CA;
        else if (t->stage == TRIAL_CONNECT && e.why == WHY_REFUSED)
            e.advice = ADVICE_PROXY_CLOSED;
        else if (t->stage == TRIAL_CONNECT && e.why == WHY_TIMEOUT)
            e.advice = ADVICE_PROXY_SILENT;
        end_failed(h, &e);
        err_fini(&e);
        return;
    }
    switch (h->hop->kind) {
    case PROXY_SOCKS5:
    case PROXY_SOCKS5H:
        ask_methods(h);
        break;
    case PROXY_SOCKS4A:
        end(h, CHECK_OK, ADVICE_NONE, "connects; SOCKS4a says nothing before a request");
        break;
    case PROXY_H2:
        if (t->by_h2)
            ask_connect(h);
        else
            end(h, CHECK_FAILED, ADVICE_PROXY_STRANGE, "TLS stands, but HTTP/2 is not spoken there");
        break;
    default:
        ask_connect(h);
    }
}

void proxy_probe(struct check_way *way, size_t hop)
{
    struct check *c = way->c;
    const struct proxy_route *route = &way->route;
    struct hop_probe *h = calloc(1, sizeof(*h));
    struct err e = ERR_INIT;
    char where[URL_TEXT_MAX], group[400];
    if (!h)
        abort();
    bool last = hop + 1 == route->count;
    h->way = way;
    h->hop = &route->hops[hop];
    h->before = *route;
    h->before.count = hop;
    h->host = last ? c->o->relay->host : route->hops[hop + 1].host;
    h->port = last ? c->o->relay->port : route->hops[hop + 1].port;
    proxy_url_where(h->hop, where);
    snprintf(group, sizeof(group), "proxy %s://%.200s (%.150s)", proxy_kind_name(h->hop->kind), where, route->source);
    if (hop == 0)
        names_probe(c, group, h->hop->host, h->hop->port, true);
    h->f = way->proxies[hop] = report_add(c->report, group, "proxy", "answer", c->w.now_ms);
    wake_init(&h->wake, on_wake);
    timer_init(&h->deadline, on_deadline);
    probe_start(&h->probe, c, fini);
    bool tls = h->hop->kind == PROXY_HTTPS || h->hop->kind == PROXY_H2;
    SSL_CTX *ctx = tls ? proxy_kit_tls(c->o->kit, &e) : NULL;
    if (tls && !ctx)
        end_failed(h, &e);
    else
        trial_start(&h->trial, &c->w, c->resolver,
                    &(struct trial_options){.hubs = &c->hubs, .h2 = tls, .route = &h->before, .kit = c->o->kit, .host = h->hop->host, .port = h->hop->port,
                                            .tls = ctx, .name = h->hop->host}, on_open);
    err_fini(&e);
}
