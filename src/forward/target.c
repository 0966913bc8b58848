// SPDX-License-Identifier: Apache-2.0
#include "forward/target.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/conduit.h"
#include "forward/flow.h"
#include "forward/seal.h"
#include "forward/udp_out.h"

// Streams ------------------------------------------------------------------------------------------------------

static void answer(struct conduit *c, const struct err *err, const struct addr *bound)
{
    struct stream *st = stream_of(c->ask.caller);
    if (err)
        stream_refuse(st, err->why ? err->why : WHY_INTERNAL, err_text(err));
    else
        stream_accept(st, bound && bound->sa.sa_family != AF_UNIX ? bound : NULL);
}

static void target_text(const struct target_ask *ask, char *out, size_t size)
{
    bool v6 = strchr(ask->host, ':') != NULL;
    if (strncmp(ask->host, "unix:", 5) == 0)
        snprintf(out, size, "%s", ask->host);
    else
        snprintf(out, size, v6 ? "[%s]:%u%s" : "%s:%u%s", ask->host, ask->port, ask->udp ? "/udp" : "");
}

// Flows --------------------------------------------------------------------------------------------------------

struct udp_target {
    struct flow flow;
    struct udp_out out;
    forward_allows_fn *allows;
    void *ctx;
    char host[256]; // sealed: to be resolved once the asker is admitted
    uint16_t port;
    struct seal_asker asker;
    struct grave grave;
};

static void bury_udp(struct grave *g) { free(container_of(g, struct udp_target, grave)); }

static void udp_end(struct udp_target *t)
{
    udp_out_stop(&t->out);
    flow_stop(&t->flow);
    worker_bury(t->flow.fw->w, &t->grave, bury_udp);
}

static void on_flow_end(struct flow *f, const struct err *err)
{
    (void)err;
    udp_end(container_of(f, struct udp_target, flow));
}

static void on_reply(struct udp_out *o, const uint8_t *data, size_t len)
{
    flow_send(&container_of(o, struct udp_target, out)->flow, data, len);
}

static void deliver(struct flow *f, const uint8_t *data, size_t len)
{
    struct udp_target *t = container_of(f, struct udp_target, flow);
    if (!udp_out_send(&t->out, data, len))
        flow_drop(f);
}

// The session may have ended while the name was resolved, and the policy's context with it.
static bool allows(void *ctx, const char *name, uint16_t port, const struct addr *to, bool udp)
{
    struct udp_target *t = ctx;
    return stream_session(t->flow.st) && (!t->allows || t->allows(t->ctx, name, port, to, udp));
}

static void on_ready(struct udp_out *o, const struct err *err)
{
    struct udp_target *t = container_of(o, struct udp_target, out);
    if (t->flow.seal)
        seal_answer(flow_seal_link(t->flow.seal), err);
    else if (!err)
        stream_accept(t->flow.st, &o->to);
    else
        stream_refuse(t->flow.st, err->why ? err->why : WHY_INTERNAL, err_text(err));
    t->flow.up = !err;
    if (!err)
        return;
    t->flow.fw->stats.flows_failed++;
    udp_end(t);
}

static void start_out(struct udp_target *t, const char *host, uint16_t port)
{
    struct err e = ERR_INIT;
    if (udp_out_start(&t->out, t->flow.fw, host, port))
        return;
    err_set(&e, ERR_POLICY, WHY_POLICY, "no rule allows it");
    on_ready(&t->out, &e);
    err_fini(&e);
}

// Sealed: the asker has proved a key.
static void on_sealed(struct flow *f)
{
    struct udp_target *t = container_of(f, struct udp_target, flow);
    struct link *tls = flow_seal_link(f->seal);
    struct err e = ERR_INIT;
    if (seal_admits(f->fw->seal, tls, &t->asker, &e)) {
        start_out(t, t->host, t->port);
    } else {
        log_event(LOG_INFO, "flow refused", LS("kind", f->kind), LS("to", f->dest), LS("reason", err_text(&e)));
        seal_answer(tls, &e);
        f->fw->stats.flows_failed++;
        udp_end(t);
    }
    err_fini(&e);
}

static void open_udp(struct forward *fw, struct stream *st, const struct target_ask *ask, const char *text)
{
    struct udp_target *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    t->allows = ask->allows;
    t->ctx = ask->ctx;
    t->out.allows = allows;
    t->out.ctx = t;
    t->out.on_ready = on_ready;
    t->out.on_reply = on_reply;
    t->flow.kind = "target";
    t->flow.origin = ask->origin;
    t->flow.idle_ms = ask->idle_ms;
    t->flow.deliver = deliver;
    t->flow.on_end = on_flow_end;
    if (ask->sealed) {
        t->flow.on_open = on_sealed;
        seal_note_asker(&t->asker, ask->sealed);
        t->flow.seal = flow_seal_new(fw, seal_accept(fw->seal, st, ask->sealed), false);
    }
    if (!flow_start(&t->flow, fw, st, text)) {
        free(t);
        return;
    }
    if (!ask->sealed) {
        start_out(t, ask->host, ask->port);
        return;
    }
    snprintf(t->host, sizeof(t->host), "%s", ask->host);
    t->port = ask->port;
}

void target_open(struct forward *fw, struct stream *st, const struct target_ask *ask)
{
    static const struct conduit_ops ops = {.answer = answer};
    char text[320];
    target_text(ask, text, sizeof(text));
    if (ask->udp) {
        open_udp(fw, st, ask, text);
        return;
    }
    struct conduit_ask conduit = {.kind = "target", .origin = ask->origin, .dest = text};
    if (ask->sealed) {
        seal_target(fw, st, ask, &conduit);
        return;
    }
    conduit.caller = stream_link(st);
    conduit.asked = st;
    conduit.ops = &ops;
    conduit_to_target(fw, &conduit, ask->host, ask->port, ask->allows, ask->ctx);
}
