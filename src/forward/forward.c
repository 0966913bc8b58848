// SPDX-License-Identifier: Apache-2.0
#include "forward/forward.h"
#include <stdio.h>
#include <string.h>
#include "core/log.h"
#include "forward/conduit.h"
#include "forward/entry.h"
#include "forward/flow.h"
#include "forward/inside.h"

static uint64_t sweep_ms(const struct forward *fw)
{
    uint64_t ms = fw->udp_idle_ms / 4;
    return ms < 100 ? 100 : ms > 5000 ? 5000 : ms;
}

static void on_sweep(struct timer *timer)
{
    struct forward *fw = container_of(timer, struct forward, sweep);
    list_each(&fw->flows, it) {
        struct flow *f = list_entry(it, struct flow, node);
        if (fw->w->now_ms - f->heard_ms < f->idle_ms)
            continue;
        fw->stats.flows_idle++;
        flow_stop(f);
        f->on_end(f, NULL);
    }
    if (fw->flow_count > 0)
        timer_set(fw->w, timer, sweep_ms(fw));
}

void forward_sweep(struct forward *fw)
{
    if (!timer_is_set(&fw->sweep))
        timer_set(fw->w, &fw->sweep, sweep_ms(fw));
}

void forward_init(struct forward *fw, struct worker *w, struct resolver *resolver, uint32_t udp_idle_ms)
{
    *fw = (struct forward){.w = w, .resolver = resolver, .udp_idle_ms = udp_idle_ms ? udp_idle_ms : FORWARD_UDP_IDLE_MS};
    udp_io_init(&fw->udp, w);
    list_init(&fw->conduits);
    list_init(&fw->flows);
    list_init(&fw->entries);
    timer_init(&fw->sweep, on_sweep);
}

void forward_fini(struct forward *fw)
{
    struct list *n;
    while ((n = list_first(&fw->entries)))
        entry_close(list_entry(n, struct entry, node));
    while ((n = list_first(&fw->conduits)))
        conduit_kill(list_entry(n, struct conduit, node));
    while ((n = list_first(&fw->flows))) {
        struct flow *f = list_entry(n, struct flow, node);
        flow_stop(f);
        f->on_end(f, NULL);
    }
    timer_stop(fw->w, &fw->sweep);
    udp_io_fini(&fw->udp);
}

// Tables -------------------------------------------------------------------------------------------------------

json_t *forward_foreign_json(const char *text)
{
    char out[LOG_VALUE_MAX];
    return json_string(log_escape(out, sizeof(out), text, strlen(text)));
}

json_t *forward_own_json(const char *text)
{
    return json_string(text) ?: forward_foreign_json(text);
}

static json_t *addr_json(const struct addr *a)
{
    char text[ADDR_TEXT_MAX];
    return forward_foreign_json(a && a->len ? addr_text(a, text) : "");
}

// Milliseconds since a moment of the worker's clock.
static json_int_t age_ms(const struct forward *fw, uint64_t then_us)
{
    return (json_int_t)((fw->w->now_us - then_us) / 1000);
}

// The name of a stream at both of its ends; "" when there is none (yet).
static json_t *uid_json(const uint8_t uid[16])
{
    static const uint8_t none[16];
    char text[33] = "";
    for (int i = 0; i < 16 && memcmp(uid, none, 16) != 0; i++)
        snprintf(text + 2 * i, 3, "%02x", uid[i]);
    return json_string(text);
}

json_t *forward_streams_json(const struct forward *fw)
{
    static const char *const states[] = {"opening", "open", "ending", "over"};
    json_t *rows = json_array();
    list_each((struct list *)&fw->conduits, it) {
        const struct conduit *c = list_entry(it, struct conduit, node);
        json_t *row = json_pack("{s:s, s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:I, s:o}", "kind", c->ask.kind, "from",
                                addr_json(&c->ask.origin), "to", forward_foreign_json(c->ask.dest), "address",
                                addr_json(&c->far_addr), "state", states[c->state], "sealed", c->sealed ? "yes" : "no",
                                "sent", (json_int_t)c->pump.a_to_b, "received",
                                (json_int_t)c->pump.b_to_a, "age_ms", age_ms(fw, c->opened_us), "uid", uid_json(c->uid));
        json_array_append_new(rows, row);
    }
    return rows;
}

json_t *forward_flows_json(const struct forward *fw)
{
    json_t *rows = json_array();
    list_each((struct list *)&fw->flows, it) {
        const struct flow *f = list_entry(it, struct flow, node);
        json_t *row = json_pack("{s:s, s:o, s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "kind", f->kind, "from",
                                addr_json(&f->origin), "to", forward_foreign_json(f->dest ? f->dest : ""), "state",
                                f->up ? "open" : "opening", "sealed", f->seal ? "yes" : "no",
                                "packets_sent", (json_int_t)f->out, "packets_received", (json_int_t)f->in, "sent",
                                (json_int_t)f->out_bytes, "received", (json_int_t)f->in_bytes, "dropped",
                                (json_int_t)f->dropped, "idle_ms", (json_int_t)(fw->w->now_ms - f->heard_ms), "age_ms",
                                age_ms(fw, f->opened_us));
        json_array_append_new(rows, row);
    }
    return rows;
}

json_t *forward_stats_json(const struct forward *fw)
{
    const struct forward_stats *s = &fw->stats;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", //
                     "streams_open", (json_int_t)fw->conduit_count, "streams", (json_int_t)s->conduits, "streams_failed",
                     (json_int_t)s->conduits_failed, "streams_reset", (json_int_t)s->conduits_reset, "streams_over_limit",
                     (json_int_t)s->conduits_limited, "bytes_sent", (json_int_t)s->bytes_in, "bytes_received",
                     (json_int_t)s->bytes_out, "flows_open", (json_int_t)fw->flow_count, "flows", (json_int_t)s->flows,
                     "flows_failed", (json_int_t)s->flows_failed, "flows_over_limit", (json_int_t)s->flows_limited,
                     "flows_idled_out", (json_int_t)s->flows_idle, "packets", (json_int_t)(s->dgrams_in + s->dgrams_out),
                     "packets_dropped", (json_int_t)s->dgrams_dropped, "packets_unsent", (json_int_t)fw->udp.unsent);
}
