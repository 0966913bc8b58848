// SPDX-License-Identifier: Apache-2.0
#include "check/trial.h"
#include <stdio.h>
#include <string.h>
#include "dial/advise.h"
#include "link/h2.h"
#include "link/tcp.h"
#include "link/tls.h"
#include "wire/scan.h"

static bool by_proxy(const struct trial *t) { return t->o.route && t->o.route->count > 0; }

static void finish(struct trial *t, const struct err *err)
{
    struct err e = ERR_INIT;
    timer_stop(t->w, &t->deadline);
    if (!err) {
        t->stage = TRIAL_OPEN;
        t->on_done(t, NULL);
        return;
    }
    err_copy(&e, err); // it may live in the link
    if (t->stage <= TRIAL_CONNECT)
        dial_advise(&e, by_proxy(t));
    t->on_done(t, &e); // t may be gone in it
    err_fini(&e);
}

static void on_deadline(struct timer *timer)
{
    static const char *const what[] = {
        [TRIAL_NAME] = "DNS gives no answer",
        [TRIAL_CONNECT] = "no answer: packets vanish",
        [TRIAL_HOPS] = "the proxy does not answer",
        [TRIAL_TLS] = "the TLS handshake does not come to its end",
        [TRIAL_OPEN] = "",
    };
    struct trial *t = container_of(timer, struct trial, deadline);
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNREACHED, WHY_TIMEOUT, "%s (%d s)", what[t->stage],
            (t->connected_us ? TRIAL_MS : TRIAL_CONNECT_MS) / 1000);
    if (t->stage == TRIAL_NAME)
        err_advise(&e, ADVICE_NAME_SILENT);
    else if (t->stage == TRIAL_HOPS)
        err_advise(&e, ADVICE_PROXY_SILENT);
    finish(t, &e);
    err_fini(&e);
}

static void put_tls(struct trial *t)
{
    char who[URL_TEXT_MAX];
    scan_host_port_text(who, sizeof(who), t->o.host, t->o.port);
    t->stage = TRIAL_TLS;
    t->top = tls_over(t->top, &(struct tls_options){.ctx = t->o.tls, .outer = t->o.outer, .host = t->o.name, .sni = t->o.sni,
                                                    .report = t->o.report, .who = who, .h2 = t->o.h2}, NULL);
}

static void stands(struct trial *t)
{
    t->passed_us = t->w->now_us;
    if (t->o.tls)
        put_tls(t);
    link_own(t->top, &t->wake);
    wake_post(t->w, &t->wake);
}

static void on_raced(struct race *r, struct link *link, const struct addr *to, const struct err *err);

static void connect_to(struct trial *t, const struct addr *addrs, size_t count)
{
    t->stage = TRIAL_CONNECT;
    race_start(&t->race, t->w, addrs, count, TCP_CARRIER | TCP_SEGMENT(t->o.mss), on_raced);
}

static void on_hops(struct hops *h, struct link *top, const struct err *err)
{
    struct trial *t = container_of(h, struct trial, hops);
    if (h->again) {
        connect_to(t, &t->reached, 1);
        return;
    }
    t->top = top;
    if (top)
        stands(t);
    else
        finish(t, err);
}

static void on_raced(struct race *r, struct link *link, const struct addr *to, const struct err *err)
{
    struct trial *t = container_of(r, struct trial, race);
    if (!link) {
        finish(t, err);
        return;
    }
    t->reached = *to;
    if (!t->connected_us) {
        t->connected_us = t->w->now_us;
        timer_set(t->w, &t->deadline, TRIAL_MS);
    }
    if (by_proxy(t)) {
        t->stage = TRIAL_HOPS;
        hops_start(&t->hops, link);
        return;
    }
    t->top = link;
    stands(t);
}

static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct trial *t = container_of(q, struct trial, resolve);
    if (count == 0)
        finish(t, err);
    else
        connect_to(t, addrs, count);
}

static void put_h2(struct trial *t)
{
    t->by_h2 = true;
    t->top = h2_stream_over(h2_client_over(t->top, &(struct h2_options){.who = t->o.host, .scheme = "https"}, t->o.hubs));
    link_own(t->top, &t->wake);
    wake_post(t->w, &t->wake);
}

static void on_wake(struct wake *wake)
{
    struct trial *t = container_of(wake, struct trial, wake);
    switch (link_open(t->top)) {
    case LINK_OK:
        if (t->o.h2 && !t->by_h2 && tls_chose_h2(t->top))
            put_h2(t);
        else
            finish(t, NULL);
        break;
    case LINK_AGAIN:
        break;
    default:
        finish(t, &t->top->err);
    }
}

void trial_start(struct trial *t, struct worker *w, struct resolver *r, const struct trial_options *o,
                 void (*on_done)(struct trial *t, const struct err *err))
{
    *t = (struct trial){.w = w, .resolver = r, .o = *o, .on_done = on_done, .began_us = w->now_us};
    wake_init(&t->wake, on_wake);
    timer_init(&t->deadline, on_deadline);
    timer_set(w, &t->deadline, TRIAL_CONNECT_MS);
    if (by_proxy(t))
        hops_init(&t->hops, w, r, o->kit, o->route, o->host, o->port, o->hubs, on_hops);
    const struct proxy_url *proxy = by_proxy(t) ? &o->route->hops[0] : NULL;
    resolve_start(r, &t->resolve, proxy ? proxy->host : o->host, proxy ? proxy->port : o->port, on_resolved);
}

void trial_stop(struct trial *t)
{
    if (!t->w)
        return;
    resolve_cancel(&t->resolve);
    race_stop(&t->race);
    hops_fini(&t->hops);
    timer_stop(t->w, &t->deadline);
    wake_cancel(&t->wake);
    link_close(t->top);
    t->top = NULL;
    t->w = NULL;
}
