// SPDX-License-Identifier: Apache-2.0
#include "session/carrier.h"
#include "session/frames.h"

// Padding, and types of later versions that may be skipped.
static bool is_skipped(uint8_t type)
{
    bool known = (type >= FRAME_HELLO && type <= FRAME_GOAWAY) || (type >= FRAME_OPEN && type <= FRAME_RESET) ||
                 type == FRAME_PROBE || type == FRAME_DGRAM || type == FRAME_REWIND;
    return !known && type < 0x80;
}

// The head is whole: what may follow it?
static int on_head(struct carrier *c)
{
    frame_get_head(&c->frame, c->head);
    uint8_t type = c->frame.type;
    bool big = type == FRAME_DATA || type == FRAME_DGRAM || is_skipped(type);
    uint32_t most = big ? FRAME_PAYLOAD_MAX : FRAME_CONTROL_MAX;
    bool data_short = type == FRAME_DATA && c->frame.length < 8;
    if (c->frame.stream == 0 && type >= FRAME_OPEN && !is_skipped(type) && type < 0x80) {
        err_set(&c->s->err, ERR_FAILED, WHY_PROTOCOL, "frame %02x on stream 0", type);
        return -1;
    }
    if (c->frame.length > most || data_short) {
        err_set(&c->s->err, ERR_FAILED, WHY_PROTOCOL, "frame %02x of %u bytes", type, c->frame.length);
        return -1;
    }
    c->body_have = 0;
    return 0;
}

static void frame_done(struct carrier *c) { c->head_have = 0; }

// Takes a piece of a DATA frame from the front of b. When the piece is all that b holds, b itself goes to the stream (and
// *b is NULL then); else a copy does.
static int take_data(struct carrier *c, struct buf **b)
{
    while (c->body_have < 8) {
        if ((*b)->len == 0)
            return 0;
        c->fixed[c->body_have++] = *buf_data(*b);
        buf_skip(*b, 1);
    }
    uint32_t left = c->frame.length - c->body_have;
    uint32_t n = left < (*b)->len ? left : (*b)->len;
    if (n == 0 && left)
        return 0;
    uint64_t offset = get64(c->fixed) + (c->body_have - 8);
    int r = 0;
    c->body_have += n;
    if (c->body_have == c->frame.length)
        frame_done(c);
    if (n && n == (*b)->len) {
        r = session_on_data(c, c->frame.stream, offset, *b);
        *b = NULL;
    } else if (n) {
        r = session_on_data(c, c->frame.stream, offset, buf_split(*b, n));
    }
    return r;
}

// Takes from b what the current control frame or datagram lacks; works in place when b holds all of it.
static int take_body(struct carrier *c, struct buf *b)
{
    uint32_t left = c->frame.length - c->body_have;
    if (is_skipped(c->frame.type)) {
        uint32_t n = left < b->len ? left : b->len;
        buf_skip(b, n);
        c->body_have += n;
        if (c->body_have == c->frame.length)
            frame_done(c);
        return 0;
    }
    if (c->body_have == 0 && b->len >= left) {
        const uint8_t *payload = buf_data(b);
        buf_skip(b, left);
        frame_done(c);
        return session_on_frame(c, &c->frame, payload);
    }
    if (!c->body) // sized by our own bound, never by what was announced
        c->body = c->frame.type == FRAME_DGRAM ? buf_get(b->pool) : buf_get_small(b->pool, 0, FRAME_CONTROL_MAX);
    uint32_t n = left < b->len ? left : b->len;
    buf_append(c->body, buf_data(b), n);
    buf_skip(b, n);
    c->body_have += n;
    if (c->body_have < c->frame.length)
        return 0;
    struct buf *body = c->body;
    c->body = NULL;
    frame_done(c);
    int r = session_on_frame(c, &c->frame, buf_data(body));
    buf_put(body);
    return r;
}

static void take_head(struct carrier *c, struct buf *b)
{
    uint32_t n = FRAME_HEAD - c->head_have;
    if (n > b->len)
        n = b->len;
    memcpy(c->head + c->head_have, buf_data(b), n);
    buf_skip(b, n);
    c->head_have += n;
}

int carrier_recv(struct carrier *c, struct buf *b)
{
    struct session *s = c->s;
    int r = 0;
    if (!s) { // its session has ended
        buf_put(b);
        return 0;
    }
    c->bytes_in += b->len;
    c->proven = true;
    liveness_heard(&c->live, s->w->now_us);
    while (r == 0 && b && c->s) {
        if (c->head_have < FRAME_HEAD) {
            if (b->len == 0)
                break;
            take_head(c, b);
            if (c->head_have < FRAME_HEAD)
                break;
            r = on_head(c);
            continue;
        }
        bool more = c->frame.length > c->body_have;
        if (b->len == 0 && more)
            break;
        r = c->frame.type == FRAME_DATA ? take_data(c, &b) : take_body(c, b);
    }
    buf_put(b);
    return r;
}

bool carrier_fill(struct carrier *c, struct buf *b)
{
    if (!c->s)
        return false;
    size_t room = buf_tailroom(b) < FRAME_MAX ? buf_tailroom(b) : FRAME_MAX;
    size_t n = schedule_fill(c, buf_end(b), room);
    b->len += (uint32_t)n;
    c->bytes_out += n;
    if (n == 0)
        c->has_output = false;
    return n > 0;
}
