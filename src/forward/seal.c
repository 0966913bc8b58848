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

static void alpn_of(char out[256], const char *service, bool datagram)
{
    snprintf(out, 256, "culvert/sealed%s/1:%.*s", datagram ? "-udp" : "", (int)strcspn(service, "@"), service);
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
    alpn_of(alpn, service, stream_is_datagram(st));
    struct tls_options o = {.ctx = way->client, .pins = peer->pins, .pin_count = peer->pin_count, .who = service,
                            .alpn = alpn, .early = true, .whole = true};
    if (!s || !(s->service = strdup(service)))
        abort();
    link_init(&s->link, &seal_ops, NULL, tls_over(stream_link(st), &o, NULL));
    s->st = st;
    return &s->link;
}

enum seal_choice seal_choose(const struct seal_way *way, struct frame_open *open, struct seal_peer *peer, struct err *e)
{
    enum seal_choice choice = way && open->kind == OPEN_SERVICE ? way->choose(way->owner, open->host, peer, e) : SEAL_PLAIN;
    open->sealed = choice == SEAL_SEALED;
    return choice;
}

// The answering end --------------------------------------------------------------------------------------------

struct link *seal_accept(const struct seal_way *way, struct stream *st, const struct frame_open *open)
{
    char alpn[256];
    alpn_of(alpn, open->host, open->datagram);
    struct tls_options o = {.ctx = way->server, .server = true, .who = open->agent[0] ? open->agent : "the asker",
                            .alpn = alpn, .whole = true};
    stream_accept_sealed(st);
    return tls_over(stream_link(st), &o, NULL);
}

void seal_note_asker(struct seal_asker *asker, const struct frame_open *open)
{
    *asker = (struct seal_asker){.has_identity = open->has_identity};
    memcpy(asker->identity, open->identity, sizeof(asker->identity));
    memcpy(asker->name, open->agent, sizeof(asker->name));
}

bool seal_admits(const struct seal_way *way, struct link *tls, const struct seal_asker *asker, struct err *e)
{
    uint8_t pin[32];
    if (tls_peer_pin(tls, pin))
        return way->admit(way->owner, pin, asker, e);
    err_set(e, ERR_UNTRUSTED, WHY_POLICY, "the asker proved no key");
    return false;
}

void seal_answer(struct link *tls, const struct err *err)
{
    unsigned code = !err ? 0 : err->why ? err->why : WHY_INTERNAL;
    const char *text = err ? err_text(err) : "";
    size_t len = strnlen(text, FRAME_TEXT_MAX);
    uint8_t out[ANSWER_HEAD + FRAME_TEXT_MAX] = {(uint8_t)(code >> 8), (uint8_t)code, (uint8_t)len};
    memcpy(out + ANSWER_HEAD, text, len);
    link_send(tls, buf_copy(&tls->w->pool, out, ANSWER_HEAD + len));
}

struct sealed_target {
    struct seal_asker asker;
    bool proved;
};

static bool admit(struct conduit *c, struct err *e)
{
    struct sealed_target *t = c->ask.owner;
    t->proved = true; // what is said from now on is said inside
    return seal_admits(c->fw->seal, c->ask.caller, &t->asker, e);
}

static void answer(struct conduit *c, const struct err *err, const struct addr *bound)
{
    struct sealed_target *t = c->ask.owner;
    (void)bound;
    if (!t->proved)
        return; // there is no inside yet
    seal_answer(c->ask.caller, err);
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
    struct sealed_target *t = calloc(1, sizeof(*t));
    struct conduit_ask own = *conduit;
    if (!t)
        abort();
    seal_note_asker(&t->asker, ask->sealed);
    own.caller = seal_accept(fw->seal, st, ask->sealed);
    own.asked = st;
    own.ops = &ops;
    own.owner = t;
    conduit_to_target(fw, &own, ask->host, ask->port, ask->allows, ask->ctx);
}
