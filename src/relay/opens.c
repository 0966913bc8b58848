// SPDX-License-Identifier: Apache-2.0
// What agents may open: each OPEN is asked of the policy, then dialled, switched to another agent, or listened for.
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/target.h"
#include "relay/inside.h"

void opens_refuse(struct visit *v, struct stream *st, enum err_why why, const char *what, const char *text)
{
    struct relay *r = v->m->r;
    r->stats.denied += why == WHY_POLICY;
    log_event(why == WHY_POLICY ? LOG_INFO : LOG_DEBUG, "stream refused", LS("agent", v->m->name), LS("for", what),
              LS("code", err_why_name(why)), LS("reason", text));
    stream_refuse(st, why, text);
    link_close(stream_link(st));
}

static bool allows_dial(void *ctx, const char *name, uint16_t port, const struct addr *to, bool udp)
{
    const struct visit *v = ctx;
    struct verdict verdict;
    char where[ADDR_TEXT_MAX];
    if (policy_reach(keeper_policy(v->m->r->keeper), v->m->pin, name, port, to, udp, &verdict))
        return true;
    v->m->r->stats.denied++;
    log_event(LOG_INFO, "stream refused", LS("agent", v->m->name), LS("for", name),
              LS("address", to ? addr_text(to, where) : "-"), LS("code", "policy"), LS("reason", verdict.text));
    return false;
}

static void dial_unix(struct visit *v, struct stream *st, const struct frame_open *open)
{
    struct verdict verdict;
    struct target_ask ask = {.host = open->host, .origin = open->origin};
    if (!policy_dial_unix(keeper_policy(v->m->r->keeper), v->m->pin, open->host + 5, &verdict))
        opens_refuse(v, st, WHY_POLICY, open->host, verdict.text);
    else
        target_open(&v->m->r->fw, st, &ask);
}

static void dial(struct visit *v, struct stream *st, const struct frame_open *open)
{
    bool udp = open->kind == OPEN_UDP;
    struct target_ask ask = {
        .host = open->host, .port = open->port, .udp = udp, .allows = allows_dial, .ctx = v, .origin = open->origin};
    if (!udp && !strncmp(open->host, "unix:", 5)) {
        dial_unix(v, st, open);
    } else if (!*open->host || !open->port) {
        opens_refuse(v, st, WHY_PROTOCOL, open->host, "host and port are missing");
    } else {
        target_open(&v->m->r->fw, st, &ask);
    }
}

// Services ------------------------------------------------------------------------------------------------------

// NAME@AGENT. False when it is none.
static bool split_service(const char *host, char service[SPEC_NAME_MAX + 1], char agent[SPEC_NAME_MAX + 1])
{
    const char *at = strchr(host, '@');
    if (!at || at - host > SPEC_NAME_MAX || strlen(at + 1) > SPEC_NAME_MAX)
        return false;
    snprintf(service, SPEC_NAME_MAX + 1, "%.*s", (int)(at - host), host);
    snprintf(agent, SPEC_NAME_MAX + 1, "%s", at + 1);
    return spec_is_name(service) && spec_is_name(agent);
}

struct service_ask { // an OPEN of a service, understood
    char service[SPEC_NAME_MAX + 1], agent[SPEC_NAME_MAX + 1];
    uint8_t asker[PIN_SIZE], holder[PIN_SIZE]; // who opened the stream, who accepts it
    bool udp;
    bool back; // the holder asks
};

// One that stands before one that is parked: that may be a blink.
static struct visit *better(struct visit *best, struct visit *v)
{
    return !best || (!visit_is_up(best) && visit_is_up(v)) ? v : best;
}

static struct visit *best_offering(const struct member *m, const char *service, bool udp)
{
    struct visit *best = NULL;
    list_each((struct list *)&m->visits, it)
    {
        struct visit *v = list_entry(it, struct visit, node);
        if (visit_offers(v, service, udp))
            best = better(best, v);
    }
    return best;
}

// The session that offers the service. A stream that goes on may be with any of the agent's sessions, and its offer may not be
// back yet: they are asked in turn, as the question is repeated.
static struct visit *find_peer(struct relay *r, const struct service_ask *ask, bool goes_on)
{
    struct member *m = member_find(r, ask->back ? ask->asker : ask->holder);
    struct visit *best = m && !ask->back ? best_offering(m, ask->service, ask->udp) : NULL;
    if (!m || best)
        return best;
    if (!goes_on) // an agent that offers the other kind says so
        return ask->back ? NULL : best_offering(m, ask->service, !ask->udp);
    list_each(&m->visits, it) best = better(best, list_entry(it, struct visit, node));
    if (best) {
        list_del(&best->node);
        list_push(&m->visits, &best->node);
    }
    return best;
}

static bool understand(struct visit *v, struct stream *st, const struct frame_open *open, struct service_ask *ask)
{
    struct policy *p = keeper_policy(v->m->r->keeper);
    struct verdict verdict;
    ask->udp = open->datagram;
    ask->back = open->flags & OPEN_BACK;
    if (!split_service(open->host, ask->service, ask->agent) || (ask->back && !open->has_identity)) {
        opens_refuse(v, st, WHY_PROTOCOL, open->host, "not SERVICE@AGENT");
        return false;
    }
    memcpy(ask->asker, ask->back ? open->identity : v->m->pin, PIN_SIZE);
    if (!policy_service(p, ask->asker, ask->service, ask->agent, &verdict)) {
        opens_refuse(v, st, WHY_POLICY, open->host, verdict.text);
        return false;
    }
    bool is_known = policy_find(p, ask->agent, ask->holder);
    if (ask->back && (!is_known || memcmp(ask->holder, v->m->pin, PIN_SIZE) != 0)) {
        opens_refuse(v, st, WHY_POLICY, open->host, "another agent has that name");
        return false;
    }
    if (!is_known)
        opens_refuse(v, st, WHY_ABSENT, open->host, "no agent of that name is connected and offers it");
    return is_known;
}

static void open_service(struct visit *v, struct stream *st, const struct frame_open *open)
{
    struct relay *r = v->m->r;
    struct service_ask ask;
    bool goes_on = open->flags & OPEN_CONTINUE;
    if (!understand(v, st, open, &ask))
        return;
    enum meet_result met = meet_pair(&r->meet, st, open, ask.asker, ask.holder);
    if (met == MEET_REFUSED)
        opens_refuse(v, st, WHY_PROTOCOL, open->host, "the stream's ends contradict each other, or themselves");
    if (met != MEET_NONE)
        return;
    struct visit *to = find_peer(r, &ask, goes_on);
    if (!to) {
        opens_refuse(v, st, WHY_ABSENT, open->host, "no agent of that name is connected and offers it");
        return;
    }
    struct frame_open out = *open;
    out.has_identity = true;
    memcpy(out.identity, v->m->pin, sizeof out.identity);
    snprintf(out.agent, sizeof out.agent, "%s", v->m->name);
    out.listener = 0;
    out.flags &= OPEN_CONTINUE | OPEN_BACK;
    if (switch_join(st, open, &to->s, &out))
        meet_wait(&r->meet, st, open, ask.asker, ask.holder);
    else
        opens_refuse(v, st, WHY_LIMIT, open->host, "that agent takes no more streams");
}

void opens_on(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct visit *v = s->owner;
    v->m->r->stats.asked++;
    if (v->m->r->draining) {
        opens_refuse(v, st, WHY_LIMIT, open->host, "the relay is going down");
        return;
    }
    if (member_is_full(v->m)) {
        opens_refuse(v, st, WHY_LIMIT, open->host, "too many streams of this agent");
        return;
    }
    switch (open->kind) {
    case OPEN_TCP:
    case OPEN_UDP:
        dial(v, st, open);
        break;
    case OPEN_SERVICE:
        open_service(v, st, open);
        break;
    case OPEN_LISTEN_TCP:
    case OPEN_LISTEN_UDP:
        listener_on(v, st, open);
        break;
    default:
        opens_refuse(v, st, WHY_PROTOCOL, open->host, "a relay opens nothing of that kind");
    }
}
