// SPDX-License-Identifier: Apache-2.0
#include "link/socks.h"
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "wire/socks_client.h"

struct socks_link {
    struct link link;
    char *proxy;
    struct socks_client client;
    struct login_turn turn;
    bool said, wants_login, opened;
    struct bufq rest; // read, not fed yet; when it is open: the tunnel's
};

static struct socks_link *of(struct link *l) { return container_of(l, struct socks_link, link); }

static const char *version(const struct socks_link *s) { return s->client.v4 ? "SOCKS4a" : "SOCKS5"; }

static void say(struct socks_link *s)
{
    struct socks_client *c = &s->client;
    if (c->out_len)
        link_send(s->link.below, buf_copy(&s->link.w->pool, c->out, c->out_len));
    c->out_len = 0;
}

static enum link_status refuse(struct socks_link *s, enum err_why why, const char *text)
{
    return link_fail(&s->link, ERR_UNREACHED, why, "%s via %s: %s", version(s), s->proxy, text);
}

static enum link_status advised(struct socks_link *s, enum advice advice)
{
    err_advised(&s->link.err, advice);
    return LINK_FAILED;
}

static enum link_status refused(struct socks_link *s)
{
    const struct socks_client *c = &s->client;
    switch (c->problem) {
    case SOCKS_NOT_SOCKS: {
        char first[8];
        link_fail(&s->link, ERR_UNREACHED, WHY_PROTOCOL,
                         "%s via %s: the proxy's answer is not %s (it begins with \"%s\"); is it an HTTP proxy? Then write "
                         "http://%s", version(s), s->proxy, version(s), log_escape(first, sizeof(first), c->in, 1), s->proxy);
        return advised(s, ADVICE_PROXY_STRANGE);
    }
    case SOCKS_WANTS_LOGIN:
        refuse(s, WHY_POLICY, "the proxy wants a user and a password: put them into its URL or into the file of --proxy-login");
        return advised(s, ADVICE_PROXY_LOGIN);
    case SOCKS_WANTS_OTHER:
        refuse(s, WHY_POLICY, "the proxy takes neither no login nor user and password");
        return advised(s, ADVICE_PROXY_SCHEME);
    case SOCKS_LOGIN_REFUSED:
        refuse(s, WHY_POLICY, "the proxy refused user or password; they are not tried again until they are corrected");
        return advised(s, ADVICE_PROXY_PASSWORD);
    case SOCKS_BROKEN:
        refuse(s, WHY_PROTOCOL, "the proxy's reply makes no sense");
        err_advise(&s->link.err, ADVICE_PROXY_STRANGE);
        return LINK_FAILED;
    default:
        link_fail(&s->link, ERR_UNREACHED, socks_client_why(c), "%s via %s: the proxy refused %s port %u: %s (code %u)",
                         version(s), s->proxy, c->host, c->port, socks_client_reason(c), c->code);
        err_advise(&s->link.err, socks_client_why(c) == WHY_POLICY ? ADVICE_PROXY_FORBIDS : ADVICE_PROXY_UPSTREAM);
        return LINK_FAILED;
    }
}

static enum link_status log_in(struct socks_link *s)
{
    enum link_status st = login_take(&s->turn);
    if (st == LINK_FAILED)
        return refuse(s, WHY_POLICY, "the proxy refused user or password before; correct them, then start again or send HUP");
    if (st == LINK_AGAIN)
        return st;
    s->wants_login = false;
    if (!socks_client_login(&s->client, s->turn.login->user, s->turn.login->password))
        return refuse(s, WHY_POLICY, "the proxy wants a user name, and the one given is empty");
    say(s);
    return LINK_OK;
}

static enum link_status act(struct socks_link *s, enum socks_client_event event)
{
    say(s);
    switch (event) {
    case SOCKS_CLIENT_LOGIN:
        s->wants_login = true;
        return LINK_OK;
    case SOCKS_CLIENT_KNOWN:
        login_told(&s->turn, true);
        return LINK_OK;
    case SOCKS_CLIENT_FAILED:
        if (s->client.problem == SOCKS_LOGIN_REFUSED)
            login_told(&s->turn, false);
        return refused(s);
    case SOCKS_CLIENT_OPEN:
        s->opened = true;
        socks_client_wipe(&s->client);
        link_note_path(&s->link, s->proxy);
        return LINK_OK;
    default:
        return LINK_OK;
    }
}

static enum link_status pull(struct socks_link *s)
{
    struct buf *b;
    enum link_status st = link_recv(s->link.below, &b);
    switch (st) {
    case LINK_OK:
        bufq_push(&s->rest, b);
        return st;
    case LINK_END:
        return refuse(s, WHY_REFUSED, s->client.in_len || s->client.state != (s->client.v4 ? SOCKS_ASK_V4 : SOCKS_ASK_METHOD)
                                          ? "the proxy closed the connection in the middle of its answer"
                                          : "the proxy closed the connection without an answer");
    case LINK_FAILED:
        return link_failed_below(&s->link, "%s via %s", version(s), s->proxy);
    default:
        return st;
    }
}

static enum link_status converse(struct socks_link *s)
{
    while (!s->opened) {
        enum link_status st = LINK_OK;
        enum socks_client_event event;
        struct buf *b = s->rest.head;
        if (s->wants_login) {
            st = log_in(s);
        } else if (!b) {
            st = pull(s);
        } else {
            size_t used = socks_client_feed(&s->client, buf_data(b), b->len, &event);
            bufq_drop(&s->rest, used);
            st = act(s, event);
        }
        if (st != LINK_OK)
            return st;
    }
    return LINK_OK;
}

static enum link_status socks_open(struct link *l)
{
    struct socks_link *s = of(l);
    if (err_is(&l->err))
        return LINK_FAILED;
    if (s->opened)
        return LINK_OK;
    if (!s->said) {
        enum link_status st = link_open(l->below);
        if (st != LINK_OK)
            return st == LINK_FAILED ? link_failed_below(l, "%s via %s", version(s), s->proxy) : st;
        s->said = true;
        say(s);
    }
    return converse(s);
}

static enum link_status socks_recv(struct link *l, struct buf **out) { return link_pass_recv(l, &of(l)->rest, of(l)->proxy, out); }

static size_t socks_room(struct link *l) { return link_pass_room(l, of(l)->proxy); }

static void socks_fini(struct link *l)
{
    struct socks_link *s = of(l);
    login_leave(&s->turn);
    socks_client_wipe(&s->client);
    bufq_clear(&s->rest);
    free(s->proxy);
    free(s);
}

static const struct link_ops socks_ops = {
    .name = "socks",
    .open = socks_open,
    .recv = socks_recv,
    .send = link_pass_send,
    .room = socks_room,
    .shut = link_pass_shut,
    .fini = socks_fini,
};

struct link *socks_over(struct link *below, const struct socks_options *o)
{
    struct socks_link *s = calloc(1, sizeof(*s));
    if (!s || !(s->proxy = strdup(o->proxy)))
        abort();
    link_init(&s->link, &socks_ops, NULL, below);
    login_join(&s->turn, &s->link, o->login);
    if (!socks_client_init(&s->client, o->v4, o->host, o->port, o->login ? o->login->user : NULL)) {
        char shown[128];
        link_fail(&s->link, ERR_USAGE, WHY_DNS, "%s via %s: not a host name: %s", version(s), s->proxy,
                  log_escape(shown, sizeof(shown), o->host, strlen(o->host)));
    }
    return &s->link;
}
