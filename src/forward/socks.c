// SPDX-License-Identifier: Apache-2.0
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/socks_inside.h"

struct caller {
    struct list node;
    struct socks_server *s;
    struct link *link;
    struct socks socks;
    struct addr origin, local;
    struct wake wake;
    struct timer deadline;
    bool ending; // a refusal is on its way out
    struct grave grave;
};

static void bury(struct grave *g) { free(container_of(g, struct caller, grave)); }

// The link has another owner, or is closed, by then.
static void drop(struct caller *c)
{
    struct worker *w = c->s->fw->w;
    socks_wipe(&c->socks);
    wake_cancel(&c->wake);
    timer_stop(w, &c->deadline);
    list_del(&c->node);
    c->s->caller_count--;
    worker_bury(w, &c->grave, bury);
}

static void send_out(struct link *l, struct socks *s)
{
    if (s->out_len > 0)
        link_send(l, buf_copy(&l->w->pool, s->out, s->out_len));
    s->out_len = 0;
}

static void end(struct caller *c)
{
    c->ending = true;
    link_shut(c->link, SHUT_END);
    timer_set(c->s->fw->w, &c->deadline, 3000);
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

static void connect_to(struct caller *c, struct buf *rest)
{
    static const struct conduit_ops ops = {.answer = answer, .on_end = on_end};
    char dest[320];
    struct socks *s = malloc(sizeof(*s));
    if (!s)
        abort();
    *s = c->socks;
    snprintf(dest, sizeof(dest), strchr(s->dest.host, ':') ? "[%s]:%u" : "%s:%u", s->dest.host, s->dest.port);
    struct conduit_ask ask = {.kind = "socks", .caller = c->link, .origin = c->origin, .dest = dest, .early = rest,
                              .ops = &ops, .owner = s};
    struct socks_server *server = c->s;
    struct socks_dest to = s->dest;
    drop(c);
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
static bool asked(struct caller *c, struct buf *rest)
{
    bool udp = c->socks.command == SOCKS_UDP;
    if (!udp) {
        connect_to(c, rest);
        return true;
    }
    buf_put(rest); // nothing may follow before the reply
    if ((c->s->way.flow && associate(c->s, c->link, &c->socks, &c->origin, &c->local)) ||
        (c->s->way.listen && associate_far(c->s, c->link, &c->socks, &c->origin, &c->local))) {
        drop(c);
        return true;
    }
    socks_reply(&c->socks, c->s->way.flow || c->s->way.listen ? SOCKS_GENERAL : SOCKS_NO_COMMAND, NULL);
    send_out(c->link, &c->socks);
    end(c);
    return false;
}

// Takes one buffer; true: the caller is gone from here.
static bool feed(struct caller *c, struct buf *b)
{
    while (b->len > 0) {
        enum socks_event event;
        size_t used = socks_feed(&c->socks, buf_data(b), b->len, &event);
        buf_skip(b, used);
        send_out(c->link, &c->socks);
        if (event == SOCKS_ASK) {
            event = socks_login(&c->socks, c->s->login && login_ok(c->s, &c->socks));
            send_out(c->link, &c->socks);
        }
        if (event == SOCKS_ASKED) {
            if (b->len == 0) {
                buf_put(b);
                b = NULL;
            }
            return asked(c, b);
        }
        if (event == SOCKS_REFUSED) {
            end(c);
            break;
        }
    }
    buf_put(b);
    return false;
}

static void on_wake(struct wake *wake)
{
    struct caller *c = container_of(wake, struct caller, wake);
    struct buf *b;
    enum link_status st;
    while ((st = link_recv(c->link, &b)) == LINK_OK) {
        if (c->ending)
            buf_put(b);
        else if (feed(c, b))
            return;
    }
    if (st == LINK_AGAIN)
        return;
    link_close(c->link);
    drop(c);
}

static void on_deadline(struct timer *timer)
{
    struct caller *c = container_of(timer, struct caller, deadline);
    link_close(c->link);
    drop(c);
}

void socks_server_accept(struct socks_server *s, struct link *link, const struct addr *origin, const struct addr *local)
{
    struct caller *c = s->caller_count < SOCKS_CALLERS_MAX ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        link_close(link);
        return;
    }
    c->s = s;
    c->link = link;
    c->origin = *origin;
    c->local = *local;
    socks_init(&c->socks, s->login != NULL);
    wake_init(&c->wake, on_wake);
    timer_init(&c->deadline, on_deadline);
    timer_set(s->fw->w, &c->deadline, SOCKS_MS);
    list_push(&s->callers, &c->node);
    s->caller_count++;
    link_own(link, &c->wake);
    wake_post(s->fw->w, &c->wake);
}

struct socks_server *socks_server_new(struct forward *fw, const struct socks_way *way, const char *login)
{
    struct socks_server *s = calloc(1, sizeof(*s));
    if (!s || (login && !(s->login = strdup(login))))
        abort();
    s->fw = fw;
    s->way = *way;
    list_init(&s->callers);
    list_init(&s->assocs);
    list_init(&s->far_assocs);
    return s;
}

void socks_server_free(struct socks_server *s)
{
    if (!s)
        return;
    list_each(&s->callers, it) {
        struct caller *c = list_entry(it, struct caller, node);
        link_close(c->link);
        drop(c);
    }
    associate_end_all(s);
    associate_far_end_all(s);
    if (s->login)
        OPENSSL_cleanse(s->login, strlen(s->login));
    free(s->login);
    free(s);
}
