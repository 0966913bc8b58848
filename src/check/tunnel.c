// SPDX-License-Identifier: Apache-2.0
// The whole stack, as an agent builds it, to a relay that was joined: whose key answers, whether anybody sits in between, and
// whether large packets pass both ways. Where they do not, the same again with small segments.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"
#include "link/tcp.h"

#define BULK (96 * 1024)  // each way: more than any box holds back as a favour
#define BULK_MS 6000
#define SMALL_MSS 1200

struct tunnel {
    struct probe probe;
    struct check_way *way;
    enum transport transport;
    struct finding *f, *size;
    struct talk talk;
    struct timer deadline;
    uint16_t mss;
    uint64_t bulk_us, small_us; // when it was asked for
    unsigned pongs; // since it was asked for
    bool bulk;
};

static void dial(struct tunnel *t, uint16_t mss);

static void fini(struct probe *p)
{
    struct tunnel *t = container_of(p, struct tunnel, probe);
    timer_stop(&p->c->w, &t->deadline);
    talk_stop(&t->talk);
}

// Who ends the outer TLS --------------------------------------------------------------------------------------------

static void judge_between(struct tunnel *t)
{
    struct check *c = t->probe.c;
    const struct link_facts *facts = t->talk.inner->facts;
    struct finding *f = report_add(c->report, t->way->group, "between", "who ends TLS", c->w.now_ms);
    uint16_t flags = t->talk.welcome.flags;
    bool box = flags & WELCOME_DIFFERS || (flags & WELCOME_FRONTED && !facts->outer_trusted);
    const char *who = t->talk.peeled ? "relay" : box ? "box" : flags & WELCOME_FRONTED ? "front" : "unknown";
    finding_more(f, "who", json_string(who));
    if (t->talk.peeled)
        finding_end(f, CHECK_OK, ADVICE_NONE, f->began_ms, "the relay: both ends see the same TLS, nobody sits in between");
    else if (flags & WELCOME_DIFFERS)
        finding_end(f, CHECK_OK, ADVICE_INTERCEPTED, f->began_ms, "a box in between, which signs as %s: intercepted", facts->tls_issuer);
    else if (box)
        finding_end(f, CHECK_OK, ADVICE_INTERCEPTED, f->began_ms, "a front of the relay or a box, which signs as %s and is not trusted",
                    facts->tls_issuer);
    else if (flags & WELCOME_FRONTED)
        finding_end(f, CHECK_OK, ADVICE_NONE, f->began_ms, "a front of the relay (issuer %s)", facts->tls_issuer);
    else
        finding_end(f, CHECK_SKIPPED, ADVICE_NONE, f->began_ms, "cannot be told: %s", c->o->peel_never ? "--peel never" : strcmp(
                    facts->tls_version, "TLSv1.3") ? "TLS older than 1.3" : "the relay does not say");
    f->took_ms = UINT64_MAX;
}

// Packets of full size ----------------------------------------------------------------------------------------------

static void end(struct tunnel *t) { probe_over(&t->probe); }

static void end_size(struct tunnel *t)
{
    struct check *c = t->probe.c;
    uint64_t small_us = t->bulk_us - t->small_us, bulk_us = c->w.now_us - t->bulk_us;
    unsigned snd = 0, rcv = 0, pmtu = 0;
    char sizes[120] = "";
    if (tcp_sizes(t->talk.inner, &snd, &rcv, &pmtu)) {
        finding_more(t->size, "snd_mss", json_integer(snd));
        finding_more(t->size, "rcv_mss", json_integer(rcv));
        finding_more(t->size, "path_mtu", json_integer(pmtu));
        snprintf(sizes, sizeof(sizes), ", segments of %u bytes out and %u in, path MTU %u%s", snd, rcv, pmtu,
                 t->way->route.count ? " up to the proxy" : "");
    }
    bool both = t->talk.padded >= BULK;
    finding_more(t->size, "mss", json_integer(t->mss));
    finding_more(t->size, "round_trip_ms", json_real((double)small_us / 1000));
    if (t->mss)
        finding_end(t->size, CHECK_FAILED, ADVICE_MTU, c->w.now_ms, "packets of full size vanish; with segments of %u bytes all passes", t->mss);
    else
        finding_end(t->size, CHECK_OK, ADVICE_NONE, c->w.now_ms, "%d KB %s passed (%llu ms beside %llu ms for a small one)%s", BULK / 1024,
                    both ? "each way" : "out", (unsigned long long)bulk_us / 1000, (unsigned long long)small_us / 1000, sizes);
    end(t);
}

// Nothing came behind the bulk: which way did it get stuck?
static void on_stuck(struct tunnel *t)
{
    uint64_t acked = 0, waiting = 0;
    bool out = tcp_progress(t->talk.inner, &acked, &waiting) && waiting > 0;
    t->way->holed = true;
    finding_more(t->size, "stuck", json_string(out ? "out" : "in"));
    talk_stop(&t->talk);
    dial(t, SMALL_MSS);
}

static void on_deadline(struct timer *timer)
{
    struct tunnel *t = container_of(timer, struct tunnel, deadline);
    if (!t->mss) {
        on_stuck(t);
        return;
    }
    finding_end(t->size, CHECK_FAILED, ADVICE_MTU, t->probe.c->w.now_ms, "what is larger than a packet does not arrive in %d s", BULK_MS / 1000);
    t->way->usable = false;
    err_set(&t->way->err, ERR_UNREACHED, WHY_TIMEOUT, "%s", t->size->seen);
    err_advise(&t->way->err, ADVICE_MTU);
    end(t);
}

// The first one measures a small round trip. One behind the bulk tells that all of that arrived; what was asked for follows it, but of a relay
// that does not know how, nothing does.
static void on_pong(struct tunnel *t)
{
    if (!t->bulk) {
        t->bulk = true;
        t->bulk_us = t->probe.c->w.now_us;
        talk_pad(&t->talk, BULK);
        talk_want(&t->talk, BULK);
        talk_ping(&t->talk, 0);
    } else if (++t->pongs < 2) {
        talk_ping(&t->talk, 0);
    } else if (t->talk.padded == 0) {
        end_size(t);
    }
}

// Up and down -------------------------------------------------------------------------------------------------------

static void on_up(struct tunnel *t)
{
    struct check *c = t->probe.c;
    struct check_way *way = t->way;
    const struct link_facts *facts = t->talk.inner->facts;
    if (t->f->result != CHECK_OK) {
        finding_end(t->f, CHECK_OK, ADVICE_NONE, c->w.now_ms, "stands; the relay has proven the pinned key and calls this agent %s%s",
                    t->talk.welcome.name, t->mss ? " (with small segments)" : "");
        if (t->transport == TRANSPORT_H1 && c->o->relay->tls && facts)
            judge_between(t);
    }
    snprintf(c->report->name, sizeof(c->report->name), "%s", t->talk.welcome.name);
    if (!way->usable || t->transport <= way->transport) {
        way->transport = t->transport;
        way->mss = t->mss;
    }
    way->usable = true;
    if (way->sized && !t->size) { // by another transport
        end(t);
        return;
    }
    way->sized = true;
    if (!t->size)
        t->size = report_add(c->report, way->group, "mtu", "full-size packets", c->w.now_ms);
    t->bulk = false;
    t->pongs = 0;
    t->small_us = c->w.now_us;
    timer_set(&c->w, &t->deadline, BULK_MS);
    talk_ping(&t->talk, 0);
}

static void on_down(struct tunnel *t, const struct err *err)
{
    struct check *c = t->probe.c;
    bool stalled = err->why == WHY_TIMEOUT && t->talk.open_us; // a connection stood, and then nothing
    if (stalled && !t->mss && t->transport == TRANSPORT_H1) {
        t->way->holed = true;
        talk_stop(&t->talk);
        dial(t, SMALL_MSS);
        return;
    }
    if (t->f->result == CHECK_RUNNING) {
        finding_fail(t->f, err, c->w.now_ms);
        if (t->transport == TRANSPORT_H1 || !err_is(&t->way->err))
            err_copy(&t->way->err, err);
    } else if (t->size && t->size->result == CHECK_RUNNING) {
        finding_fail(t->size, err, c->w.now_ms);
    }
    end(t);
}

static void on_event(struct talk *talk, enum talk_event what, const struct err *err)
{
    struct tunnel *t = container_of(talk, struct tunnel, talk);
    switch (what) {
    case TALK_UP:
        on_up(t);
        break;
    case TALK_PONG:
        on_pong(t);
        break;
    case TALK_PADDED:
        end_size(t);
        break;
    case TALK_DOWN:
        timer_stop(&t->probe.c->w, &t->deadline);
        on_down(t, err);
    }
}

static void dial(struct tunnel *t, uint16_t mss)
{
    struct check *c = t->probe.c;
    struct dial_options o;
    t->mss = mss;
    check_dial_options(t->way, t->transport, mss, &o);
    talk_start(&t->talk, &c->w, c->resolver, &o, !c->o->peel_never, on_event);
}

void tunnel_probe(struct check_way *way, enum transport transport)
{
    struct check *c = way->c;
    char subject[64];
    struct tunnel *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->way = way;
    t->transport = transport;
    snprintf(subject, sizeof(subject), "tunnel by %s", transport_title(transport));
    t->f = way->tunnels[transport] = report_add(c->report, way->group, "tunnel", subject, c->w.now_ms);
    finding_more(t->f, "transport", json_string(transport_name(transport)));
    timer_init(&t->deadline, on_deadline);
    probe_start(&t->probe, c, fini);
    dial(t, 0);
}
