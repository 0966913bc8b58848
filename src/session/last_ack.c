// SPDX-License-Identifier: Apache-2.0
// The last ACKs of freed streams (rule 6 of docs/protocol.md): each stays with the carrier it went by until a PONG to a later
// PING shows that it arrived; if that carrier is lost first, it goes by another.
#include <stdlib.h>
#include "session/stream.h"

#define ACKS_ASK 512 // more of them ask for a PING

struct last_ack {
    struct list node;
    uint32_t id;
    uint64_t acked;
};

void last_acks_free(struct session *s, struct list *acks)
{
    struct list *n;
    while ((n = list_pop(acks))) {
        free(list_entry(n, struct last_ack, node));
        s->acks_held--;
    }
}

static struct list *oldest_sent(struct session *s)
{
    list_each(&s->carriers, it)
    {
        struct carrier *c = list_entry(it, struct carrier, node);
        struct list *n = list_pop(&c->acks_pinged);
        if (!n)
            n = list_pop(&c->acks_sent);
        if (n)
            return n;
    }
    return NULL;
}

// When too many are held the oldest that was sent is forgotten: it is most likely there, and a peer that misses it repeats
// its FIN or RESET on the next carrier. When none was sent yet, the peer asks faster than it reads: not served.
static struct last_ack *new_ack(struct session *s)
{
    if (s->acks_held >= ACKS_HELD_MAX) {
        struct list *n = oldest_sent(s);
        return n ? list_entry(n, struct last_ack, node) : NULL;
    }
    struct last_ack *a = malloc(sizeof *a);
    if (!a)
        abort();
    list_init(&a->node);
    s->acks_held++;
    return a;
}

void carrier_last_ack(struct session *s, struct carrier *c, uint32_t id, uint64_t acked)
{
    struct last_ack *a = s->is_limbo ? NULL : new_ack(s);
    if (!a)
        return;
    a->id = id;
    a->acked = acked;
    list_push(c ? &c->acks_due : &s->acks_due, &a->node);
    carrier_ack_soon(c);
}

void stream_last_ack(struct stream *st, uint64_t acked) { carrier_last_ack(st->s, st->carrier, st->node.key, acked); }

size_t carrier_put_last_ack(struct carrier *c, uint8_t *out)
{
    struct list *n = list_pop(&c->acks_due);
    if (!n)
        return 0;
    struct last_ack *a = list_entry(n, struct last_ack, node);
    list_push(&c->acks_sent, &a->node);
    if (c->s->acks_held > ACKS_ASK && !c->live.ping_out) // a PONG frees them
        carrier_ask_ping(c);
    return frame_put_ack(out, FRAME_ACK, a->id, a->acked, 0);
}

void carrier_pass_last_acks(struct carrier *c, struct carrier *to)
{
    struct list *due = to ? &to->acks_due : &c->s->acks_due;
    list_splice(due, &c->acks_pinged);
    list_splice(due, &c->acks_sent);
    list_splice(due, &c->acks_due);
    if (to && !list_empty(due)) {
        to->acks_flush = true;
        carrier_output(to);
    }
}
