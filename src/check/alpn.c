// SPDX-License-Identifier: Apache-2.0
// HTTP/2: whether it is spoken behind the outer TLS, and whether its SETTINGS offer WebSocket (RFC 8441 section 3). Preface,
// empty SETTINGS, and the first frame of the other side: no more of HTTP/2 is needed to know.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"

#define SETTINGS 4
#define ENABLE_CONNECT_PROTOCOL 8
#define HEAD 9
#define ALPN_MS 4000
#define SUBJECT "HTTP/2"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct alpn {
    struct probe probe;
    struct check_way *way;
    struct finding *f;
    struct trial trial;
    struct wake wake;
    struct timer deadline;
    uint8_t in[512];
    size_t have;
};

static void fini(struct probe *p)
{
    struct alpn *a = container_of(p, struct alpn, probe);
    wake_cancel(&a->wake);
    timer_stop(&p->c->w, &a->deadline);
    trial_stop(&a->trial);
}

static void end(struct alpn *a, enum check_result result, enum advice advice, const char *text)
{
    finding_end(a->f, result, advice, a->probe.c->w.now_ms, "%s", text);
    probe_over(&a->probe);
}

static unsigned get(const uint8_t *p, size_t n)
{
    unsigned v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

// The SETTINGS frame is whole in a->in.
static void judge(struct alpn *a)
{
    bool offered = false;
    for (size_t at = HEAD; at + 6 <= a->have; at += 6) {
        if (get(a->in + at, 2) == ENABLE_CONNECT_PROTOCOL)
            offered = get(a->in + at + 2, 4) == 1;
    }
    finding_more(a->f, "extended_connect", json_boolean(offered));
    if (offered && !a->probe.c->o->known)
        check_way_answers(a->way, TRANSPORT_H2);
    if (offered)
        end(a, CHECK_OK, ADVICE_NONE, "spoken, and WebSocket over it is offered");
    else
        end(a, CHECK_ABSENT, ADVICE_NONE, "spoken, but WebSocket over it is not offered");
}

static void on_wake(struct wake *wake)
{
    struct alpn *a = container_of(wake, struct alpn, wake);
    for (;;) {
        struct buf *b;
        enum link_status s = link_recv(a->trial.top, &b);
        if (s == LINK_AGAIN)
            return;
        if (s != LINK_OK) {
            end(a, CHECK_FAILED, ADVICE_NONE, "agreed to, and then the connection ended");
            return;
        }
        size_t n = b->len < sizeof(a->in) - a->have ? b->len : sizeof(a->in) - a->have;
        memcpy(a->in + a->have, buf_data(b), n);
        a->have += n;
        buf_put(b);
        if (a->have < HEAD)
            continue;
        if (a->in[3] != SETTINGS || get(a->in, 3) > sizeof(a->in) - HEAD) {
            end(a, CHECK_FAILED, ADVICE_NONE, "agreed to, and then something else was spoken");
            return;
        }
        if (a->have >= HEAD + get(a->in, 3)) {
            a->have = HEAD + get(a->in, 3);
            judge(a);
            return;
        }
    }
}

static void on_deadline(struct timer *timer)
{
    end(container_of(timer, struct alpn, deadline), CHECK_FAILED, ADVICE_NONE, "agreed to, and then nothing was said");
}

static void on_open(struct trial *t, const struct err *err)
{
    struct alpn *a = container_of(t, struct alpn, trial);
    struct check *c = a->probe.c;
    if (err) {
        finding_fail(a->f, err, c->w.now_ms);
        probe_over(&a->probe);
        return;
    }
    finding_more(a->f, "alpn", json_string(t->top->facts->alpn));
    if (strcmp(t->top->facts->alpn, "h2") != 0) {
        end(a, CHECK_ABSENT, ADVICE_NONE, "not spoken there");
        return;
    }
    timer_set(&c->w, &a->deadline, ALPN_MS);
    link_own(t->top, &a->wake);
    link_send(t->top, buf_copy(&c->w.pool, preface, sizeof(preface) - 1));
    wake_post(&c->w, &a->wake);
}

void alpn_probe(struct check_way *way)
{
    struct check *c = way->c;
    const struct relay_url *relay = c->o->relay;
    struct alpn *a = calloc(1, sizeof(*a));
    if (!a)
        abort();
    a->way = way;
    a->f = way->h2 = report_add(c->report, way->group, "h2", SUBJECT, c->w.now_ms);
    wake_init(&a->wake, on_wake);
    timer_init(&a->deadline, on_deadline);
    probe_start(&a->probe, c, fini);
    trial_start(&a->trial, &c->w, c->resolver,
                &(struct trial_options){.hubs = &c->hubs, .route = &way->route, .kit = c->o->kit, .host = relay->host, .port = relay->port,
                                        .tls = c->tls_h2, .name = c->name, .sni = c->o->sni, .report = true, .outer = true},
                on_open);
}
