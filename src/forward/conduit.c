// SPDX-License-Identifier: Apache-2.0
#include "forward/conduit.h"
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "dial/race.h"
#include "dial/resolve.h"
#include "forward/seal.h"

#define LINGER_MS 3000

// What is needed until the far end is up, and then freed: an idle stream must stay small.
struct conduit_opening {
    struct conduit *c;
    struct resolve resolve;
    struct race race;
    struct timer deadline;
    bool to_stream;
    bool waits; // for the caller's handshake, before anything is dialled
    forward_allows_fn *allows;
    void *ctx;
    char host[256];
    uint16_t port;
    // when forward.elsewhere may know another session:
    struct frame_open *open;
    struct session *session;
    struct stream *st;
    struct bufq early;  // copies of what went behind the OPEN
    struct err refusal; // of the last one asked
    uint32_t asked;
};

static void bury(struct grave *g)
{
    struct conduit *c = container_of(g, struct conduit, grave);
    free((char *)c->ask.dest);
    free(c);
}

static void end_opening(struct conduit *c)
{
    struct conduit_opening *o = c->opening;
    if (!o)
        return;
    resolve_cancel(&o->resolve);
    race_stop(&o->race);
    timer_stop(c->fw->w, &o->deadline);
    bufq_clear(&o->early);
    err_fini(&o->refusal);
    free(o->open);
    c->opening = NULL;
    free(o);
}

static void forget(struct conduit *c)
{
    end_opening(c);
    wake_cancel(&c->wake);
    timer_stop(c->fw->w, &c->linger);
    buf_put(c->ask.early);
    c->ask.early = NULL;
    c->state = CONDUIT_OVER;
    list_del(&c->node);
    c->fw->conduit_count--;
    c->fw->stats.bytes_in += c->pump.a_to_b;
    c->fw->stats.bytes_out += c->pump.b_to_a;
    worker_bury(c->fw->w, &c->grave, bury);
}

static void say_end(struct conduit *c, const struct err *err, bool refused)
{
    char text[ADDR_TEXT_MAX], why[ERR_WHOLE_MAX];
    const char *from = c->ask.origin.len ? addr_text(&c->ask.origin, text) : "-";
    if (refused)
        log_event(c->ask.quiet ? LOG_DEBUG : LOG_INFO, "stream refused", LS("kind", c->ask.kind), LS("from", from), LS("to", c->ask.dest),
                  LS("reason", err_whole(err, why, sizeof(why))));
    else
        log_event(LOG_DEBUG, err ? "stream reset" : "stream ended", LS("kind", c->ask.kind), LS("from", from),
                  LS("to", c->ask.dest), LN("sent", c->pump.a_to_b), LN("received", c->pump.b_to_a),
                  LS("reason", err ? err_text(err) : "-"));
}

static void close_links(struct conduit *c)
{
    link_close(c->ask.caller);
    link_close(c->far);
    c->ask.caller = c->far = NULL;
}

static void over(struct conduit *c, const struct err *err)
{
    if (c->ask.ops && c->ask.ops->on_end)
        c->ask.ops->on_end(c, err);
    forget(c);
}

static void refuse(struct conduit *c, const struct err *err)
{
    struct err why = ERR_INIT;
    err_copy(&why, err); // err may live in what is freed here
    c->fw->stats.conduits_failed++;
    say_end(c, &why, true);
    end_opening(c);
    link_close(c->far);
    c->far = NULL;
    if (c->ask.ops && c->ask.ops->answer)
        c->ask.ops->answer(c, &why, NULL);
    if (c->state != CONDUIT_LINGERING) {
        close_links(c);
        over(c, &why);
    }
    err_fini(&why);
}

static void refuse_with(struct conduit *c, enum err_kind kind, enum err_why why, const char *text)
{
    struct err e = ERR_INIT;
    err_set(&e, kind, why, "%s", text);
    refuse(c, &e);
    err_fini(&e);
}

static void on_pumped(struct pump *pump, const struct err *err)
{
    struct conduit *c = container_of(pump, struct conduit, pump);
    c->ask.caller = c->far = NULL; // the pump has closed them
    c->fw->stats.conduits_reset += err != NULL;
    say_end(c, err, false);
    over(c, err);
}

static void up(struct conduit *c)
{
    struct buf *early = c->ask.early;
    const struct addr *bound = c->opening->to_stream && !c->sealed ? stream_bound(stream_of(c->far)) : NULL;
    if (bound)
        c->far_addr = *bound;
    end_opening(c);
    if (c->ask.ops && c->ask.ops->answer)
        c->ask.ops->answer(c, NULL, c->far_addr.len ? &c->far_addr : NULL);
    c->ask.early = NULL;
    c->state = CONDUIT_PUMPING;
    pump_start(&c->pump, c->fw->w, c->ask.caller, c->far, early, on_pumped);
    c->pump.a_to_b += c->sent_early;
}

// The caller takes what was said to it and our end; its own end, or its patience's, is ours.
static void linger(struct conduit *c)
{
    struct buf *b;
    enum link_status st;
    while ((st = link_recv(c->ask.caller, &b)) == LINK_OK)
        buf_put(b);
    if (st == LINK_AGAIN)
        return;
    close_links(c);
    over(c, NULL);
}

static void on_linger(struct timer *timer)
{
    struct conduit *c = container_of(timer, struct conduit, linger);
    close_links(c);
    over(c, NULL);
}

void conduit_linger(struct conduit *c)
{
    c->state = CONDUIT_LINGERING;
    link_own(c->ask.caller, &c->wake);
    link_shut(c->ask.caller, SHUT_END);
    timer_set(c->fw->w, &c->linger, LINGER_MS);
    wake_post(c->fw->w, &c->wake);
}

// Where the caller speaks first and waits for no answer of ours, its first bytes go behind the OPEN, a round trip earlier.
static void send_early(struct conduit *c)
{
    struct buf *b;
    if (!c->opening->to_stream || (c->ask.ops && c->ask.ops->answer))
        return;
    while (link_room(c->far) > 0 && link_recv(c->ask.caller, &b) == LINK_OK) {
        c->sent_early += b->len;
        if (c->sealed) { // the other has proved its key and has the bytes: nobody else is asked any more
            free(c->opening->open);
            c->opening->open = NULL;
        }
        if (c->opening->open)
            bufq_push(&c->opening->early, buf_copy(&c->fw->w->pool, buf_data(b), b->len));
        link_send(c->far, b);
    }
}

static void dial(struct conduit_opening *o);

static void admit(struct conduit *c)
{
    struct err e = ERR_INIT;
    c->opening->waits = false;
    if (c->ask.ops->admit(c, &e))
        dial(c->opening);
    else
        refuse(c, &e);
    err_fini(&e);
}

static bool ask_elsewhere(struct conduit *c);

// The far end said no: somebody else may say yes.
static void far_failed(struct conduit *c)
{
    struct conduit_opening *o = c->opening;
    if (!o->open) {
        refuse(c, &c->far->err);
        return;
    }
    err_copy(&o->refusal, &c->far->err);
    if (!ask_elsewhere(c))
        refuse(c, &o->refusal);
}

static void drive(struct conduit *c)
{
    enum link_status caller = link_open(c->ask.caller);
    if (caller == LINK_FAILED) { // an asked stream that was reset meanwhile
        refuse(c, &c->ask.caller->err);
        return;
    }
    if (c->opening->waits) {
        if (caller == LINK_OK)
            admit(c);
        return;
    }
    if (!c->far)
        return;
    enum link_status st = link_open(c->far);
    if (st == LINK_FAILED)
        far_failed(c);
    else if (st == LINK_OK)
        up(c);
    else
        send_early(c);
}

static void on_wake(struct wake *wake)
{
    struct conduit *c = container_of(wake, struct conduit, wake);
    if (c->state == CONDUIT_OPENING)
        drive(c);
    else if (c->state == CONDUIT_LINGERING)
        linger(c);
}

static void on_deadline(struct timer *timer)
{
    struct conduit *c = container_of(timer, struct conduit_opening, deadline)->c;
    refuse_with(c, ERR_UNREACHED, WHY_TIMEOUT, "no answer from the other end in time");
}

static void note_stream(struct conduit *c, const struct stream *st)
{
    struct stream_info info;
    stream_get_info(st, &info);
    memcpy(c->uid, info.uid, sizeof(c->uid));
}

static struct conduit *conduit_new(struct forward *fw, const struct conduit_ask *ask)
{
    struct conduit *c = calloc(1, sizeof(*c));
    struct conduit_opening *o = calloc(1, sizeof(*o));
    if (!c || !o)
        abort();
    c->fw = fw;
    c->ask = *ask;
    c->ask.dest = strdup(ask->dest ? ask->dest : "");
    c->opening = o;
    c->opened_us = fw->w->now_us;
    if (ask->asked)
        note_stream(c, ask->asked);
    c->ask.asked = NULL; // it may go before the conduit
    o->c = c;
    wake_init(&c->wake, on_wake);
    timer_init(&c->linger, on_linger);
    timer_init(&o->deadline, on_deadline);
    timer_set(fw->w, &o->deadline, FORWARD_OPEN_MS);
    list_push(&fw->conduits, &c->node);
    fw->conduit_count++;
    fw->stats.conduits++;
    link_own(c->ask.caller, &c->wake);
    return c;
}

static bool is_over_limit(struct conduit *c)
{
    if (c->fw->conduit_count <= FORWARD_CONDUITS_MAX)
        return false;
    c->fw->stats.conduits_limited++;
    refuse_with(c, ERR_FAILED, WHY_LIMIT, "too many streams here");
    return true;
}

// False: refused already, as is what was first opened unsealed with its caller's bytes, when the pin has come to be known since.
static bool choose_seal(struct conduit *c, struct frame_open *open, struct seal_peer *peer)
{
    struct err e = ERR_INIT;
    enum seal_choice choice = seal_choose(c->fw->seal, open, peer, &e);
    if (choice == SEAL_SEALED && c->opening->early.head) {
        choice = SEAL_REFUSED;
        err_set(&e, ERR_UNTRUSTED, WHY_POLICY, "the pin of %s is known here only since the first bytes went unsealed: ask again",
                open->host);
    }
    c->sealed = choice == SEAL_SEALED;
    if (choice == SEAL_REFUSED)
        refuse(c, &e);
    err_fini(&e);
    return choice != SEAL_REFUSED;
}

static void open_far(struct conduit *c, struct session *s, struct frame_open *open)
{
    struct conduit_opening *o = c->opening;
    struct seal_peer peer;
    if (!choose_seal(c, open, &peer))
        return;
    struct stream *st = session_open(s, open);
    if (!st) {
        if (frame_is_text(open->host))
            refuse_with(c, ERR_UNREACHED, WHY_LIMIT, "the session takes no new streams: it is being drained");
        else
            refuse_with(c, ERR_FAILED, WHY_PROTOCOL, "a name with control characters cannot be sent");
        return;
    }
    o->to_stream = true;
    o->session = s;
    o->st = st;
    note_stream(c, st);
    c->far = c->sealed ? seal_over(c->fw->seal, st, open->host, &peer) : stream_link(st);
    link_own(c->far, &c->wake);
}

void conduit_to_stream(struct forward *fw, const struct conduit_ask *ask, struct session *s, struct frame_open *open)
{
    struct conduit *c = conduit_new(fw, ask);
    if (is_over_limit(c))
        return;
    wake_post(fw->w, &c->wake); // before the carrier's: what the caller has said already goes in one piece with OPEN
    if (fw->elsewhere) {
        c->opening->open = malloc(sizeof(*open));
        if (!c->opening->open)
            abort();
        *c->opening->open = *open;
    }
    open_far(c, s, open);
}

// False: nowhere, and nothing has changed. A refused stream has reached nobody, so it may be opened again as a new one.
static bool ask_elsewhere(struct conduit *c)
{
    struct conduit_opening *o = c->opening;
    struct frame_open open = *o->open;
    bool later = false;
    struct session *s = c->fw->elsewhere(c->fw->elsewhere_owner, o->session, o->open, err_is(&o->refusal) ? &o->refusal : NULL,
                                         &o->asked, &later);
    if (!s && (!later || !err_is(&o->refusal))) // what has not left may as well wait where it is
        return false;
    link_close(c->far);
    c->far = NULL;
    o->st = NULL;
    o->session = NULL;
    if (!s)
        return true;
    open_far(c, s, &open);
    if (!c->far) // refused, and o is gone
        return true;
    for (struct buf *b = o->early.head; b; b = b->next)
        link_send(c->far, buf_copy(&c->fw->w->pool, buf_data(b), b->len));
    wake_post(c->fw->w, &c->wake);
    return true;
}

void conduits_leave(struct forward *fw, const struct session *from)
{
    list_each(&fw->conduits, it)
    {
        struct conduit *c = list_entry(it, struct conduit, node);
        struct conduit_opening *o = c->opening;
        if (c->state != CONDUIT_OPENING || !o || !o->open || !o->st || stream_session(o->st) != from)
            continue;
        err_fini(&o->refusal);
        if (c->sent_early > 0 && !stream_is_unsent(o->st))
            refuse_with(c, ERR_UNREACHED, WHY_LOST, "the relay was lost before it answered");
        else
            ask_elsewhere(c);
    }
}

void conduits_ask_again(struct forward *fw, const struct session *from)
{
    list_each(&fw->conduits, it)
    {
        struct conduit *c = list_entry(it, struct conduit, node);
        struct conduit_opening *o = c->opening;
        if (c->state != CONDUIT_OPENING || !o || !o->open)
            continue;
        bool waits = !c->far, unsent = o->st && stream_session(o->st) == from && stream_is_unsent(o->st);
        if (unsent)
            err_fini(&o->refusal);
        if ((waits || unsent) && !ask_elsewhere(c) && waits)
            refuse(c, &o->refusal);
    }
}

static void on_raced(struct race *race, struct link *link, const struct addr *to, const struct err *err)
{
    struct conduit *c = container_of(race, struct conduit_opening, race)->c;
    if (!link) {
        refuse(c, err);
        return;
    }
    c->far = link;
    c->far_addr = *to;
    link_own(link, &c->wake);
    drive(c);
}

static bool may(const struct conduit_opening *o, const struct addr *to)
{
    return !o->allows || o->allows(o->ctx, o->host, o->port, to, false);
}

static void race_allowed(struct conduit_opening *o, const struct addr *addrs, size_t count)
{
    struct addr allowed[RACE_MAX];
    size_t n = 0;
    for (size_t i = 0; i < count && n < RACE_MAX; i++) {
        if (may(o, &addrs[i]))
            allowed[n++] = addrs[i];
    }
    if (n > 0)
        race_start(&o->race, o->c->fw->w, allowed, n, 0, on_raced);
    else
        refuse_with(o->c, ERR_POLICY, WHY_POLICY, "no rule allows it");
}

static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct conduit_opening *o = container_of(q, struct conduit_opening, resolve);
    struct conduit *c = o->c;
    if (link_open(c->ask.caller) == LINK_FAILED) // ctx may be gone with its session
        refuse(c, &c->ask.caller->err);
    else if (count == 0)
        refuse(c, err);
    else
        race_allowed(o, addrs, count);
}

static void dial(struct conduit_opening *o)
{
    struct addr path, literal;
    if (strncmp(o->host, "unix:", 5) == 0) {
        if (addr_unix(&path, o->host + 5))
            race_allowed(o, &path, 1);
        else
            refuse_with(o->c, ERR_FAILED, WHY_UNREACHABLE, "not a path of a Unix socket");
    } else if (addr_parse_ip(&literal, o->host, o->port)) {
        race_allowed(o, &literal, 1);
    } else if (!may(o, NULL)) {
        refuse_with(o->c, ERR_POLICY, WHY_POLICY, "no rule allows it");
    } else {
        resolve_start(o->c->fw->resolver, &o->resolve, o->host, o->port, on_resolved);
    }
}

void conduit_to_target(struct forward *fw, const struct conduit_ask *ask, const char *host, uint16_t port,
                       forward_allows_fn *allows, void *ctx)
{
    struct conduit *c = conduit_new(fw, ask);
    struct conduit_opening *o = c->opening;
    c->sealed = ask->ops && ask->ops->admit;
    if (is_over_limit(c))
        return;
    o->allows = allows;
    o->ctx = ctx;
    o->port = port;
    memcpy(o->host, host, strnlen(host, sizeof(o->host) - 1));
    if (!c->sealed) {
        dial(o);
        return;
    }
    o->waits = true;
    wake_post(fw->w, &c->wake);
}

void conduit_kill(struct conduit *c)
{
    if (c->state == CONDUIT_OVER)
        return;
    if (c->state == CONDUIT_PUMPING) {
        pump_stop(&c->pump);
        c->ask.caller = c->far = NULL;
    }
    close_links(c);
    struct err e = ERR_INIT;
    err_set(&e, ERR_FAILED, WHY_ABORTED, "ended here");
    over(c, &e);
    err_fini(&e);
}
