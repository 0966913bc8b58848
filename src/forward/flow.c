// SPDX-License-Identifier: Apache-2.0
#include "forward/flow.h"
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/inside.h"

static struct link *link_of(struct flow *f, struct stream *st)
{
    return f->seal ? flow_seal_link(f->seal) : stream_link(st);
}

static void end(struct flow *f, const struct err *err)
{
    char text[ADDR_TEXT_MAX];
    const char *from = f->origin.len ? addr_text(&f->origin, text) : "";
    struct err why = ERR_INIT;
    if (!f->up && err) {
        f->fw->stats.flows_failed++;
        log_event(LOG_INFO, "flow refused", LS("kind", f->kind), LS("from", from), LS("to", f->dest),
                  LS("reason", err_text(err)));
    }
    if (err)
        err_copy(&why, err); // err lives in the link
    flow_stop(f);
    f->on_end(f, err ? &why : NULL);
    err_fini(&why);
}

void flow_drop(struct flow *f)
{
    f->dropped++;
    f->fw->stats.dgrams_dropped++;
}

static void pass_held(void *ctx, const void *data, size_t len)
{
    struct flow *f = ctx;
    if (!flow_seal_send(f->seal, f->st, data, len))
        flow_drop(f);
}

// The link is open, perhaps for the first time. False: its owner has ended the flow.
static bool is_open(struct flow *f)
{
    if (f->on_open && !f->asked) {
        f->asked = true;
        f->on_open(f);
        return f->st != NULL;
    }
    if (f->on_open || f->up)
        return true;
    f->up = true;
    if (f->seal)
        flow_seal_release(f->seal, pass_held, f);
    return true;
}

static void on_wake(struct wake *wake)
{
    struct flow *f = container_of(wake, struct flow, wake);
    struct link *l = link_of(f, f->st);
    struct buf *b;
    enum link_status st = link_open(l);
    if (st == LINK_OK) {
        if (!is_open(f))
            return;
        while ((st = link_recv(l, &b)) == LINK_OK)
            buf_put(b); // a flow has no bytes of its own
    }
    if (st == LINK_END)
        end(f, NULL);
    else if (st == LINK_FAILED)
        end(f, &l->err);
}

bool flow_start(struct flow *f, struct forward *fw, struct stream *st, const char *dest)
{
    f->fw = fw;
    f->st = NULL;
    if (fw->flow_count >= FORWARD_FLOWS_MAX) {
        fw->stats.flows_limited++;
        stream_refuse(st, WHY_LIMIT, "too many flows here");
        stream_reset(st, WHY_LIMIT);
        link_close(link_of(f, st));
        flow_seal_free(f->seal);
        return false;
    }
    f->st = st;
    f->dest = strdup(dest);
    f->idle_ms = f->idle_ms ? f->idle_ms : fw->udp_idle_ms;
    f->opened_us = fw->w->now_us;
    f->heard_ms = fw->w->now_ms;
    wake_init(&f->wake, on_wake);
    list_push(&fw->flows, &f->node);
    fw->flow_count++;
    fw->stats.flows++;
    stream_set_user(st, f);
    link_own(link_of(f, st), &f->wake);
    wake_post(fw->w, &f->wake);
    forward_sweep(fw);
    return true;
}

static bool send_one(struct flow *f, const void *data, size_t len)
{
    if (!f->seal)
        return stream_send_dgram(f->st, data, len);
    return f->up ? flow_seal_send(f->seal, f->st, data, len) : flow_seal_hold(f->seal, data, len);
}

bool flow_send(struct flow *f, const void *data, size_t len)
{
    if (!f->st || !send_one(f, data, len)) {
        flow_drop(f);
        return false;
    }
    f->heard_ms = f->fw->w->now_ms;
    f->out++;
    f->out_bytes += len;
    f->fw->stats.dgrams_out++;
    return true;
}

void flow_stop(struct flow *f)
{
    if (!f->st)
        return;
    stream_set_user(f->st, NULL);
    link_close(link_of(f, f->st));
    flow_seal_free(f->seal);
    f->seal = NULL;
    f->st = NULL;
    wake_cancel(&f->wake);
    list_del(&f->node);
    f->fw->flow_count--;
    free(f->dest);
    f->dest = NULL;
}

void flow_end_opened(struct forward *fw, const struct session *s)
{
    list_each(&fw->flows, it)
    {
        struct flow *f = list_entry(it, struct flow, node);
        if (stream_session(f->st) == s && (stream_id(f->st) & 1) == s->is_agent)
            end(f, NULL);
    }
}

void flow_on_dgram(struct session *s, struct stream *st, const uint8_t *data, size_t len)
{
    struct flow *f = stream_user(st);
    (void)s;
    uint8_t plain[DGRAM_MAX];
    if (!f)
        return;
    bool is_early = f->on_open && !f->up; // nobody was admitted yet
    if (f->seal && (is_early || !flow_seal_open(f->seal, plain, &len, data, len))) {
        flow_drop(f);
        return;
    }
    data = f->seal ? plain : data;
    f->heard_ms = f->fw->w->now_ms;
    f->in++;
    f->in_bytes += len;
    f->fw->stats.dgrams_in++;
    f->deliver(f, data, len);
}
