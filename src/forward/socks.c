// SPDX-License-Identifier: Apache-2.0
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/socks_inside.h"
#include "wire/scan.h"

struct socks_caller {
    struct caller caller; // first
    struct socks_server *s;
    struct socks socks;
    struct addr origin, local;
};

static void send_out(struct link *l, struct socks *s)
{
    if (s->out_len > 0)
        link_send(l, buf_copy(&l->w->pool, s->out, s->out_len));
    s->out_len = 0;
}

// CONNECT ------------------------------------------------------------------------------------------------------

static void answer(struct conduit *c, const struct err *err, const struct addr *bound)
{
    struct socks *s = c->ask.owner;
    const struct addr *at = bound && bound->sa.sa_family != AF_UNIX ? bound : NULL;
    socks_reply(s, err ? socks_code(err->why) : SOCKS_OK, at);
    send_out(c->ask.caller, s);
    free(s);
    c->ask.owner = NULL;
    if (err)
        conduit_linger(c);
}

static void on_end(struct conduit *c, const struct err *err)
{
    (void)err;
    free(c->ask.owner); // never answered
}

static void connect_to(struct socks_caller *c, struct buf *rest)
{
    static const struct conduit_ops ops = {.answer = answer, .on_end = on_end};
    char dest[320];
    struct socks *s = malloc(sizeof(*s));
    if (!s)
        abort();
    *s = c->socks;
    scan_host_port_text(dest, sizeof(dest), s->dest.host, s->dest.port);
    struct conduit_ask ask = {.kind = "socks", .caller = c->caller.link, .origin = c->origin, .dest = dest, .early = rest,
                              .ops = &ops, .owner = s};
    struct socks_server *server = c->s;
    struct socks_dest to = s->dest;
    caller_drop(&c->caller);
    server->way.connect(server->way.owner, &ask, &to);
}

// The conversation ---------------------------------------------------------------------------------------------

// Constant in time for what was given; the lengths are no secret.
static bool login_ok(const struct socks_server *s, const struct socks *c)
{
    const char *colon = strchr(s->login, ':');
    size_t user = (size_t)(colon - s->login), password = strlen(colon + 1);
    if (c->user_len != user || c->password_len != password)
        return false;
    int differs = CRYPTO_memcmp(c->user, s->login, user);
    return (differs | CRYPTO_memcmp(c->password, colon + 1, password)) == 0;
}

// True: the caller is gone from here.
static bool asked(struct socks_caller *c, struct buf *rest)
{
    bool udp = c->socks.command == SOCKS_UDP;
    if (!udp) {
        connect_to(c, rest);
        return true;
    }
    buf_put(rest); // nothing may follow before the reply
    if ((c->s->way.flow && associate(c->s, c->caller.link, &c->socks, &c->origin, &c->local)) ||
        (c->s->way.listen && associate_far(c->s, c->caller.link, &c->socks, &c->origin, &c->local))) {
        caller_drop(&c->caller);
        return true;
    }
    socks_reply(&c->socks, c->s->way.flow || c->s->way.listen ? SOCKS_GENERAL : SOCKS_NO_COMMAND, NULL);
    send_out(c->caller.link, &c->socks);
    caller_refuse(&c->caller);
    return false;
}

// Takes one buffer; true: the caller is gone from here.
static bool feed(struct socks_caller *c, struct buf *b)
{
    while (b->len > 0) {
        enum socks_event event;
        size_t used = socks_feed(&c->socks, buf_data(b), b->len, &event);
        buf_skip(b, used);
        send_out(c->caller.link, &c->socks);
        if (event == SOCKS_ASK) {
            event = socks_login(&c->socks, c->s->login && login_ok(c->s, &c->socks));
            send_out(c->caller.link, &c->socks);
        }
        if (event == SOCKS_ASKED) {
            if (b->len == 0) {
                buf_put(b);
                b = NULL;
            }
            return asked(c, b);
        }
        if (event == SOCKS_REFUSED) {
            caller_refuse(&c->caller);
            break;
        }
    }
    buf_put(b);
    return false;
}

static enum caller_heard hear(struct caller *caller)
{
    struct socks_caller *c = container_of(caller, struct socks_caller, caller);
    struct buf *b;
    enum link_status st;
    while ((st = link_recv(caller->link, &b)) == LINK_OK) {
        if (feed(c, b))
            return CALLER_IS_GONE;
        if (caller->refused)
            return CALLER_ENDED;
    }
    return st == LINK_AGAIN ? CALLER_WAITS : CALLER_ENDED;
}

static void fini(struct caller *caller) { socks_wipe(&container_of(caller, struct socks_caller, caller)->socks); }

void socks_server_accept(struct socks_server *s, struct link *link, const struct addr *origin, const struct addr *local)
{
    struct caller *caller = caller_new(&s->callers, sizeof(struct socks_caller), link);
    if (!caller)
        return;
    struct socks_caller *c = container_of(caller, struct socks_caller, caller);
    c->s = s;
    c->origin = *origin;
    c->local = *local;
    socks_init(&c->socks, s->login != NULL);
}

struct socks_server *socks_server_new(struct forward *fw, const struct socks_way *way, const char *login)
{
    struct socks_server *s = calloc(1, sizeof(*s));
    if (!s || (login && !(s->login = strdup(login))))
        abort();
    s->fw = fw;
    s->way = *way;
    s->callers = (struct callers){.w = fw->w, .max = SOCKS_CALLERS_MAX, .ms = SOCKS_MS, .hear = hear, .fini = fini};
    list_init(&s->callers.list);
    list_init(&s->assocs);
    list_init(&s->far_assocs);
    return s;
}

void socks_server_free(struct socks_server *s)
{
    if (!s)
        return;
    callers_end(&s->callers);
    associate_end_all(s);
    associate_far_end_all(s);
    if (s->login)
        OPENSSL_cleanse(s->login, strlen(s->login));
    free(s->login);
    free(s);
}
