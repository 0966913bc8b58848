// SPDX-License-Identifier: Apache-2.0
#include "forward/seal.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/conduit.h"
#include "link/tls.h"

#define ANSWER_HEAD 3 // code 2, length 1; then a text for people
#define ALPN_PREFIX "culvert/sealed/1:"

static void alpn_of(char out[256], const char *service)
{
    snprintf(out, 256, ALPN_PREFIX "%.*s", (int)strcspn(service, "@"), service);
}

// The asking end -----------------------------------------------------------------------------------------------

struct seal {
    struct link link;
    struct stream *st;
    char *service;
    bool tls_open, opened;
    uint8_t answer[ANSWER_HEAD + 255];
    size_t got;
    struct buf *rest; // what came behind the answer
};

static struct seal *of(struct link *l) { return container_of(l, struct seal, link); }

static enum link_status refused(struct seal *s)
{
    unsigned code = (unsigned)s->answer[0] << 8 | s->answer[1];
    char text[FRAME_TEXT_MAX + 1];
    log_escape(text, sizeof(text), s->answer + ANSWER_HEAD, s->answer[2]);
    return link_fail(&s->link, code == WHY_POLICY ? ERR_POLICY : ERR_FAILED, (enum err_why)code, "%s",
                     text[0] ? text : err_why_name((enum err_why)code));
}

// Takes from b what the answer still lacks.
static void take_answer(struct seal *s, struct buf *b)
{
    while (b->len > 0) {
        size_t want = s->got < ANSWER_HEAD ? ANSWER_HEAD - s->got : ANSWER_HEAD + (size_t)s->answer[2] - s->got;
        size_t n = want < b->len ? want : b->len;
        if (n == 0)
            return;
        memcpy(s->answer + s->got, buf_data(b), n);
        s->got += n;
        buf_skip(b, n);
    }
}

static bool has_answer(const struct seal *s)
{
    return s->got >= ANSWER_HEAD && s->got == ANSWER_HEAD + (size_t)s->answer[2];
}

static enum link_status read_answer(struct seal *s)
{
    struct buf *b;
    while (!has_answer(s)) {
        enum link_status st = link_recv(s->link.below, &b);
        if (st == LINK_END)
            return link_fail(&s->link, ERR_FAILED, WHY_PROTOCOL, "%s ended before it answered", s->service);
        if (st != LINK_OK)
            return st == LINK_FAILED ? link_failed_below(&s->link, NULL) : st;
        take_answer(s, b);
        if (b->len > 0)
            s->rest = b;
        else
            buf_put(b);
    }
    if (s->answer[0] || s->answer[1])
        return refused(s);
    s->opened = true;
    return LINK_OK;
}

static enum link_status seal_open(struct link *l)
{
    struct seal *s = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (s->opened)
        return LINK_OK;
    enum link_status st = link_open(stream_link(s->st));
    if (st == LINK_FAILED) {
        err_copy(&l->err, &stream_link(s->st)->err);
        return LINK_FAILED;
    }
    if (st == LINK_OK && !stream_is_sealed(s->st))
        return link_fail(l, ERR_UNTRUSTED, WHY_POLICY, "%s answered unsealed, and its pin is known here: refused. Either it does "
                                                       "not seal, or somebody on the way took the seal off", s->service);
    st = link_open(l->below);
    if (st != LINK_OK)
        return st == LINK_FAILED ? link_failed_below(l, "sealed stream") : st;
    s->tls_open = true;
    return read_answer(s);
}

static enum link_status seal_recv(struct link *l, struct buf **out)
{
    struct seal *s = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (!s->opened)
        return LINK_AGAIN;
    if (s->rest) {
        *out = s->rest;
        s->rest = NULL;
        return LINK_OK;
    }
    enum link_status st = link_recv(l->below, out);
    return st == LINK_FAILED ? link_failed_below(l, NULL) : st;
}

static void seal_send(struct link *l, struct buf *b)
{
    assert(of(l)->tls_open);
    link_send(l->below, b);
}

static size_t seal_room(struct link *l)
{
    struct seal *s = of(l);
    if (err_is(&l->err))
        return BUF_SIZE;
    size_t room = s->tls_open ? link_room(l->below) : 0;
    if (room && err_is(&l->below->err)) // an end was read already: nobody asks recv any more
        link_failed_below(l, NULL);
    return room;
}

static void seal_shut(struct link *l, enum link_shut how) { link_shut(l->below, how); }

static void seal_fini(struct link *l)
{
    struct seal *s = of(l);
    buf_put(s->rest);
    free(s->service);
    free(s);
}

static const struct link_ops seal_ops = {
    .name = "seal",
    .open = seal_open,
    .recv = seal_recv,
    .send = seal_send,
    .room = seal_room,
    .shut = seal_shut,
    .fini = seal_fini,
};

struct link *seal_over(const struct seal_way *way, struct stream *st, const char *service, const struct seal_peer *peer)
{
    struct seal *s = calloc(1, sizeof(*s));
    char alpn[256];
    alpn_of(alpn, service);
    struct tls_options o = {.ctx = way->client, .pins = peer->pins, .pin_count = peer->pin_count, .who = service,
                            .alpn = alpn, .early = true, .whole = true};
    if (!s || !(s->service = strdup(service)))
        abort();
    link_init(&s->link, &seal_ops, NULL, tls_over(stream_link(st), &o, NULL));
    s->st = st;
    return &s->link;
}

// The answering end --------------------------------------------------------------------------------------------

struct sealed_target {
    struct seal_asker asker;
    bool admitted;
};

static bool admit(struct conduit *c, struct err *e)
{
    struct sealed_target *t = c->ask.owner;
    const struct seal_way *way = c->fw->seal;
    uint8_t pin[32];
    t->admitted = true; // what is said from now on is said inside
    if (!tls_peer_pin(c->ask.caller, pin)) {
        err_set(e, ERR_UNTRUSTED, WHY_POLICY, "the asker proved no key");
        return false;
    }
    return way->admit(way->owner, pin, &t->asker, e);
}

static void answer(struct conduit *c, const struct err *err, const struct addr *bound)
{
    struct sealed_target *t = c->ask.owner;
    unsigned code = !err ? 0 : err->why ? err->why : WHY_INTERNAL;
    const char *text = err ? err_text(err) : "";
    size_t len = strnlen(text, FRAME_TEXT_MAX);
    uint8_t out[ANSWER_HEAD + FRAME_TEXT_MAX] = {(uint8_t)(code >> 8), (uint8_t)code, (uint8_t)len};
    (void)bound;
    if (!t->admitted)
        return; // there is no inside yet
    memcpy(out + ANSWER_HEAD, text, len);
    link_send(c->ask.caller, buf_copy(&c->fw->w->pool, out, ANSWER_HEAD + len));
    if (err)
        conduit_linger(c);
}

static void on_end(struct conduit *c, const struct err *err)
{
    (void)err;
    free(c->ask.owner);
}

void seal_target(struct forward *fw, struct stream *st, const struct target_ask *ask, const struct conduit_ask *conduit)
{
    static const struct conduit_ops ops = {.admit = admit, .answer = answer, .on_end = on_end};
    const struct frame_open *open = ask->sealed;
    struct sealed_target *t = calloc(1, sizeof(*t));
    struct conduit_ask own = *conduit;
    char alpn[256];
    alpn_of(alpn, open->host);
    struct tls_options o = {.ctx = fw->seal->server, .server = true, .who = open->agent[0] ? open->agent : "the asker",
                            .alpn = alpn, .whole = true};
    if (!t)
        abort();
    t->asker.has_identity = open->has_identity;
    memcpy(t->asker.identity, open->identity, sizeof(t->asker.identity));
    memcpy(t->asker.name, open->agent, sizeof(t->asker.name));
    stream_accept_sealed(st);
    own.caller = tls_over(stream_link(st), &o, NULL);
    own.ops = &ops;
    own.owner = t;
    conduit_to_target(fw, &own, ask->host, ask->port, ask->allows, ask->ctx);
}
