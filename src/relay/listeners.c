// SPDX-License-Identifier: Apache-2.0
// What a visit keeps open at the relay as long as its stream lives: reverse listeners, and offers of services (a
// listening stream for "service:NAME"). Both belong to the newest session of an identity that asks; an older one is
// told "moved".
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "relay/inside.h"

static void bury(struct grave *g)
{
    free(container_of(g, struct relay_listener, grave));
}

static struct policy *policy_of(const struct visit *v)
{
    return keeper_policy(v->m->r->keeper);
}

static void forget(struct relay_listener *l)
{
    struct worker *w = l->v->m->r->w;
    entry_close(l->entry);
    l->entry = NULL;
    resolve_cancel(&l->resolve);
    wake_cancel(&l->wake);
    list_del(&l->node);
    l->v->listener_count--;
    worker_bury(w, &l->grave, bury);
}

static const char *what(const struct relay_listener *l, char out[300])
{
    if (l->offer || l->unix_path)
        snprintf(out, 300, "%s%s", l->offer ? "service:" : "", l->host);
    else
        snprintf(out, 300, strchr(l->host, ':') ? "[%s]:%u%s" : "%s:%u%s", l->host, l->port, l->udp ? "/udp" : "");
    return out;
}

void relay_listener_end(struct relay_listener *l, enum err_why why)
{
    char text[300];
    log_event(LOG_INFO, l->offer ? "offer withdrawn" : "listener closed", LS("agent", l->v->m->name),
              LS("for", what(l, text)), LS("reason", err_why_name(why)));
    if (why != WHY_NONE)
        stream_reset(l->st, why);
    link_close(l->link);
    forget(l);
}

static void refuse(struct relay_listener *l, enum err_why why, const char *text)
{
    char name[300];
    opens_refuse(l->v, l->st, why, what(l, name), text);
    forget(l);
}

// The agent closes the stream to end the listener; nothing else comes on it.
static void on_wake(struct wake *wake)
{
    struct relay_listener *l = container_of(wake, struct relay_listener, wake);
    struct buf *b;
    enum link_status rc;
    while ((rc = link_recv(l->link, &b)) == LINK_OK)
        buf_put(b);
    if (rc != LINK_AGAIN)
        relay_listener_end(l, WHY_NONE);
}

static bool is_same_place(const struct relay_listener *old, const struct relay_listener *l)
{
    const struct addr *bound = old->entry ? entry_addr(old->entry, 0) : NULL;
    return old->offer == l->offer && old->udp == l->udp && !strcmp(old->host, l->host) &&
           (old->port == l->port || (bound && !l->unix_path && addr_port(bound) == l->port));
}

// The newest session wins: whoever of the same identity holds it now is told.
static void take_over(struct relay_listener *l)
{
    if (!l->port && !l->offer && !l->unix_path)
        return; // a port of the relay's choice is never the same
    list_each(&l->v->m->visits, vi)
    {
        struct visit *v = list_entry(vi, struct visit, node);
        list_each(&v->listeners, it)
        {
            struct relay_listener *old = list_entry(it, struct relay_listener, node);
            if (old != l && is_same_place(old, l))
                relay_listener_end(old, WHY_MOVED);
        }
    }
}

static struct session *on_caller(void *owner, struct frame_open *open)
{
    struct relay_listener *l = owner;
    if (l->v->m->r->draining || member_is_full(l->v->m))
        return NULL;
    open->kind = OPEN_ACCEPTED;
    open->listener = stream_id(l->st);
    return &l->v->s;
}

static void accept_stream(struct relay_listener *l, const struct addr *bound)
{
    char text[300], where[ADDR_TEXT_MAX] = "";
    l->since = (uint64_t)time(NULL);
    stream_accept(l->st, bound);
    log_event(LOG_INFO, l->offer ? "service offered" : "listening for an agent", LS("agent", l->v->m->name),
              LS("for", what(l, text)), LS("at", bound ? addr_text(bound, where) : "-"));
    wake_post(l->v->m->r->w, &l->wake);
}

static bool may_listen(const struct relay_listener *l, struct verdict *verdict)
{
    if (l->offer)
        return policy_offer(policy_of(l->v), l->v->m->pin, l->host, verdict);
    if (l->unix_path)
        return policy_listen_unix(policy_of(l->v), l->v->m->pin, l->host + 5, verdict);
    for (size_t i = 0; i < l->count; i++)
        if (!policy_listen(policy_of(l->v), l->v->m->pin, &l->at[i], l->udp, verdict))
            return false;
    return l->count > 0;
}

static void bind_entry(struct relay_listener *l, bool dual)
{
    struct err e = ERR_INIT;
    struct verdict verdict = {.text = "no address"};
    if (!may_listen(l, &verdict)) {
        refuse(l, WHY_POLICY, verdict.text);
        return;
    }
    take_over(l);
    struct entry_options o = {.at = l->at,
                              .count = l->count,
                              .dual = dual,
                              .udp = l->udp,
                              .kind = "reverse",
                              .dest = l->v->m->name,
                              .on_caller = on_caller,
                              .owner = l};
    l->entry = entry_open(&l->v->m->r->fw, &o, &e);
    if (l->entry)
        accept_stream(l, entry_addr(l->entry, 0));
    else
        refuse(l, e.why ? e.why : WHY_REFUSED, err_text(&e));
    err_fini(&e);
}

static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct relay_listener *l = container_of(q, struct relay_listener, resolve);
    if (!count) {
        refuse(l, err->why, err_text(err));
        return;
    }
    l->count = count < LISTEN_ADDRS ? count : LISTEN_ADDRS;
    memcpy(l->at, addrs, l->count * sizeof *addrs);
    bind_entry(l, false);
}

static void start_offer(struct relay_listener *l)
{
    struct verdict verdict;
    memmove(l->host, l->host + 8, strlen(l->host + 8) + 1);
    if (!spec_is_name(l->host)) {
        refuse(l, WHY_PROTOCOL, "not a service's name");
    } else if (!may_listen(l, &verdict)) {
        refuse(l, WHY_POLICY, verdict.text);
    } else {
        take_over(l);
        accept_stream(l, NULL);
    }
}

static void start(struct relay_listener *l)
{
    struct spec_addr spec = {.kind = l->unix_path ? SPEC_UNIX : SPEC_NET, .port = l->port};
    struct addr two[2];
    bool dual = false;
    if (l->unix_path && strlen(l->host + 5) > SPEC_PATH_MAX) {
        refuse(l, WHY_PROTOCOL, "path too long");
        return;
    }
    if (l->unix_path)
        snprintf(spec.path, sizeof spec.path, "%s", l->host + 5);
    else
        snprintf(spec.host, sizeof spec.host, "%s", l->host);
    if (listen_addrs(&spec, two, &l->count, &dual)) {
        memcpy(l->at, two, sizeof two);
        bind_entry(l, dual);
    } else if (!policy_may_resolve_listen(policy_of(l->v), l->v->m->pin, l->port, l->udp)) {
        refuse(l, WHY_POLICY, "no rule allows it");
    } else {
        resolve_start(l->v->m->r->resolver, &l->resolve, l->host, l->port, on_resolved);
    }
}

static bool has_too_many(const struct visit *v)
{
    size_t n = 0;
    list_each(&v->m->visits, it) n += list_entry(it, struct visit, node)->listener_count;
    return v->listener_count >= VISIT_LISTENERS_MAX || n >= MEMBER_LISTENERS_MAX;
}

void listener_on(struct visit *v, struct stream *st, const struct frame_open *open)
{
    struct relay_listener *l = has_too_many(v) ? NULL : calloc(1, sizeof *l);
    if (!l) {
        opens_refuse(v, st, WHY_LIMIT, open->host, "too many listeners of this agent");
        return;
    }
    l->v = v;
    l->st = st;
    l->link = stream_link(st);
    l->udp = open->kind == OPEN_LISTEN_UDP;
    l->offer = !strncmp(open->host, "service:", 8);
    l->unix_path = !l->udp && !strncmp(open->host, "unix:", 5);
    l->port = open->port;
    snprintf(l->host, sizeof l->host, "%s", open->host);
    wake_init(&l->wake, on_wake);
    link_own(l->link, &l->wake);
    list_push(&v->listeners, &l->node);
    v->listener_count++;
    if (l->offer)
        start_offer(l);
    else
        start(l);
}

void listeners_recheck(struct visit *v)
{
    list_each(&v->listeners, it)
    {
        struct relay_listener *l = list_entry(it, struct relay_listener, node);
        if ((l->entry || l->offer) && !may_listen(l, NULL))
            relay_listener_end(l, WHY_POLICY);
    }
}

bool visit_offers(const struct visit *v, const char *service, bool udp)
{
    list_each((struct list *)&v->listeners, it)
    {
        const struct relay_listener *l = list_entry(it, struct relay_listener, node);
        if (l->offer && l->udp == udp && !strcmp(l->host, service))
            return true;
    }
    return false;
}
