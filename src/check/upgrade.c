// SPDX-License-Identifier: Apache-2.0
// WebSocket: the bare answer to an upgrade (RFC 6455) over HTTP/1.1, with what is missing in it.
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"
#include "link/ws.h"
#include "wire/ws.h"

struct upgrade {
    struct probe probe;
    struct check_way *way;
    struct finding *f;
    struct trial trial;
    struct ask ask;
};

static void fini(struct probe *p)
{
    struct upgrade *u = container_of(p, struct upgrade, probe);
    ask_stop(&u->ask);
    trial_stop(&u->trial);
}

static const char *missing(const struct answer *a)
{
    if (!a->upgrade)
        return "without Upgrade: websocket, which was stripped on the way";
    if (!a->accept_ok)
        return "with a wrong Sec-WebSocket-Accept: something on the way answered by itself";
    return a->protocol_ok ? NULL : "without the relay's subprotocol: another WebSocket server answers";
}

static void judge(struct upgrade *u, const struct answer *a)
{
    struct check *c = u->probe.c;
    char text[512];
    answer_text(a, text, sizeof(text));
    finding_more(u->f, "status", json_integer(a->status));
    if (a->status != 101)
        finding_end(u->f, CHECK_REFUSED, a->ws_advice, c->w.now_ms, "answered %s%s", text, a->html ? " with a page of HTML" : "");
    else if (missing(a))
        finding_end(u->f, CHECK_REFUSED, a->upgrade && a->accept_ok ? ADVICE_NOT_RELAY : ADVICE_UPGRADE, c->w.now_ms, "%s, but %s", text,
                    missing(a));
    else
        finding_end(u->f, CHECK_OK, ADVICE_NONE, c->w.now_ms, "%s", text);
    if (c->o->known)
        return;
    if (u->f->result == CHECK_OK) {
        check_way_answers(u->way, TRANSPORT_H1);
    } else {
        err_set(&u->way->err, ERR_UNREACHED, WHY_REFUSED, "%s", u->f->seen);
        err_advise(&u->way->err, u->f->advice);
    }
}

static void on_asked(struct ask *a, const struct err *err)
{
    struct upgrade *u = container_of(a, struct upgrade, ask);
    if (err) {
        finding_fail(u->f, err, u->probe.c->w.now_ms);
        if (!u->probe.c->o->known)
            err_copy(&u->way->err, err);
    } else {
        judge(u, &a->answer);
    }
    probe_over(&u->probe);
}

static void on_open(struct trial *t, const struct err *err)
{
    struct upgrade *u = container_of(t, struct upgrade, trial);
    struct check *c = u->probe.c;
    uint8_t nonce[16];
    char key[WS_KEY_LEN + 1], accept[WS_ACCEPT_LEN + 1], text[HTTP_HEAD_MAX / 2];
    if (err) {
        finding_fail(u->f, err, c->w.now_ms);
        if (!c->o->known)
            err_copy(&u->way->err, err);
        probe_over(&u->probe);
        return;
    }
    worker_random(&c->w, nonce, sizeof(nonce));
    EVP_EncodeBlock((uint8_t *)key, nonce, sizeof(nonce));
    ws_accept(key, WS_KEY_LEN, accept);
    snprintf(text, sizeof(text),
             "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: " WS_SUBPROTOCOL "\r\n%s\r\n",
             c->o->relay->path, c->host, key, c->o->headers ? c->o->headers : "");
    ask_start(&u->ask, t->top, text, accept, on_asked);
}

void upgrade_probe(struct check_way *way)
{
    struct check *c = way->c;
    const struct relay_url *relay = c->o->relay;
    struct upgrade *u = calloc(1, sizeof(*u));
    if (!u)
        abort();
    u->way = way;
    u->f = report_add(c->report, way->group, "websocket", transport_title(TRANSPORT_H1), c->w.now_ms);
    probe_start(&u->probe, c, fini);
    trial_start(&u->trial, &c->w, c->resolver,
                &(struct trial_options){.hubs = &c->hubs, .route = &way->route, .kit = c->o->kit, .host = relay->host, .port = relay->port,
                                        .tls = relay->tls ? c->tls : NULL, .name = c->name, .sni = c->o->sni, .report = true,
                                        .outer = true},
                on_open);
}
