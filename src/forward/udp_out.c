// SPDX-License-Identifier: Apache-2.0
#include "forward/udp_out.h"
#include <string.h>

static void on_dgram(struct udp_sock *u, const struct addr *from, const uint8_t *data, size_t len)
{
    struct udp_out *o = container_of(u, struct udp_out, sock);
    (void)from;
    o->on_reply(o, data, len);
}

// Connecting a UDP socket sends nothing: the first address that has a route is as good as it gets.
static int connect_first(struct udp_out *o, const struct addr *addrs, size_t count, struct err *e)
{
    size_t tried = 0;
    for (size_t i = 0; i < count; i++) {
        if (o->allows && !o->allows(o->ctx, o->host, addr_port(&addrs[i]), &addrs[i], true))
            continue;
        tried++;
        if (udp_sock_connect(&o->sock, &o->fw->udp, &addrs[i], on_dgram, e) == 0) {
            o->to = addrs[i];
            return 0;
        }
    }
    return tried ? -1 : err_set(e, ERR_POLICY, WHY_POLICY, "no rule allows it");
}

static void pass(void *ctx, const void *data, size_t len)
{
    struct udp_out *o = ctx;
    udp_sock_send(&o->sock, NULL, data, len);
}

static void on_resolved(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err)
{
    struct udp_out *o = container_of(q, struct udp_out, resolve);
    struct err e = ERR_INIT;
    if (count == 0) {
        o->on_ready(o, err);
    } else if (connect_first(o, addrs, count, &e) < 0) {
        o->on_ready(o, &e);
    } else {
        o->ready = true;
        held_release(&o->held, HELD_ANY_AGE, pass, o);
        o->on_ready(o, NULL);
    }
    err_fini(&e);
}

bool udp_out_start(struct udp_out *o, struct forward *fw, const char *host, uint16_t port)
{
    struct addr literal;
    if (o->allows && !addr_parse_ip(&literal, host, port) && !o->allows(o->ctx, host, port, NULL, true))
        return false;
    o->fw = fw;
    memcpy(o->host, host, strnlen(host, sizeof(o->host) - 1));
    resolve_start(fw->resolver, &o->resolve, host, port, on_resolved);
    return true;
}

bool udp_out_send(struct udp_out *o, const uint8_t *data, size_t len)
{
    if (!o->ready)
        return held_add(&o->held, o->fw, data, len);
    udp_sock_send(&o->sock, NULL, data, len);
    return true;
}

void udp_out_stop(struct udp_out *o)
{
    resolve_cancel(&o->resolve);
    udp_sock_close(&o->sock);
    held_drop(&o->held);
    o->ready = false;
}
