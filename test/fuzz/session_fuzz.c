// SPDX-License-Identifier: Apache-2.0
// A hostile peer of a session. Byte 0 chooses the world: bit 0: the session is a relay's; bit 1: behind it a switch and an honest
// agent B, whose session must survive whatever comes. Then operations of one byte and its arguments: frames (well made, or
// any bytes), and what the owners, the clock and the carriers do. Nothing may crash, stay behind or exceed the budget.
#include "fuzz.h"
#include "session/session.h"
#include "session/stream.h"

#define STREAMS 8
#define BUDGET (8 * BUF_SIZE)

struct end {
    struct session s;
    struct budget budget;
    struct carrier c, second; // the second comes and goes
    struct stream *st[STREAMS]; // owned
    struct end *next;           // opened streams are switched to there
};

struct input {
    const uint8_t *at;
    size_t left;
};

struct world {
    struct worker w;
    struct end target, behind, b; // b: agent B; behind: the relay's session with it
    bool switched, broken;
    struct buf *out; // well-made frames, handed over in pieces
};

static uint32_t take(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

// An offset or limit: small ones, whole windows, and those at the end of the numbers.
static uint64_t number(struct input *in)
{
    uint32_t a = take(in), b = take(in);
    switch (a & 7) {
    case 0:
        return UINT64_MAX - b;
    case 1:
        return (uint64_t)WINDOW_START * (b & 3) + b / 4;
    case 2:
        return (uint64_t)b << (a >> 2);
    default:
        return b | (uint64_t)(a & 0x38) << 5;
    }
}

static void own(struct end *e, struct stream *st)
{
    struct stream **free_one = NULL;
    for (int i = 0; i < STREAMS && !free_one; i++)
        if (!e->st[i])
            free_one = &e->st[i];
    if (free_one)
        *free_one = st;
    else
        link_close(stream_link(st));
}

static void on_open(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct end *e = s->owner;
    CHECK(memchr(open->host, 0, sizeof(open->host)));
    if (e->next) {
        struct frame_open next = *open;
        if (switch_join(st, open, &e->next->s, &next))
            return;
        stream_refuse(st, WHY_ABSENT, "gone");
        link_close(stream_link(st));
        return;
    }
    own(e, st);
    if (open->port % 4 == 1)
        stream_refuse(st, WHY_REFUSED, "no");
    else if (open->sealed)
        stream_accept_sealed(st);
    else if (open->port % 4 != 2)
        stream_accept(st, NULL);
}

static void on_dgram(struct session *s, struct stream *st, const uint8_t *data, size_t len)
{
    CHECK(len <= DGRAM_MAX && st->datagram && st->s == s);
    volatile uint8_t last = len ? data[len - 1] : 0;
    (void)last;
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    CHECK(strlen(text) <= FRAME_TEXT_MAX);
}

static void on_suspect(struct session *s, struct carrier *c) { CHECK(c->s == s && c->live.suspect); }

static const struct session_ops ops = {on_open, on_dgram, on_goaway, on_suspect};

static void on_output(struct carrier *c) { (void)c; }

static struct carrier *one_of(struct end *e, uint32_t n) { return (n & 1) && e->second.s ? &e->second : &e->c; }

static void end_init(struct world *x, struct end *e, bool is_agent)
{
    memset(e, 0, sizeof(*e));
    budget_init(&e->budget, BUDGET, NULL);
    session_init(&e->s, &x->w, is_agent, (const uint8_t[16]){1}, &ops, e, &e->budget);
    e->s.streams.seed = 0x9e3779b97f4a7c15;
    carrier_up(&e->s, &e->c, on_output, e);
}

static void end_fini(struct world *x, struct end *e)
{
    for (int i = 0; i < STREAMS; i++)
        if (e->st[i])
            link_close(stream_link(e->st[i]));
    session_fini(&e->s, NULL);
    worker_turn(&x->w);
    CHECK(e->budget.used == 0 && e->budget.sent == 0);
    budget_fini(&e->budget);
}

// --- the peer

// What it said so far arrives, in pieces of n bytes.
static void deliver(struct world *x, uint32_t n)
{
    struct buf *b = x->out;
    x->out = NULL;
    while (b && b->len && !x->broken && x->target.c.s) {
        size_t piece = n && n < b->len ? n : b->len;
        x->broken = carrier_recv(one_of(&x->target, n), buf_copy(&x->w.pool, buf_data(b), piece)) < 0;
        buf_skip(b, piece);
        CHECK(!x->broken || err_is(&x->target.s.err));
    }
    buf_put(b);
}

static void speak(struct world *x, const void *bytes, size_t n)
{
    if (x->out && buf_tailroom(x->out) < n)
        deliver(x, 0);
    if (!x->out)
        x->out = buf_get(&x->w.pool);
    buf_append(x->out, bytes, n);
}

static void speak_data(struct world *x, struct input *in, uint32_t id)
{
    static const uint16_t sizes[] = {0, 1, 100, 2100, 8000, FRAME_DATA_MAX};
    static uint8_t out[FRAME_MAX];
    size_t n = sizes[take(in) % 6];
    frame_put_head(out, (uint32_t)(8 + n), FRAME_DATA, id);
    put64(out + FRAME_HEAD, number(in));
    speak(x, out, FRAME_DATA_HEAD + n);
}

static void speak_dgram(struct world *x, struct input *in, uint32_t id)
{
    static const uint16_t sizes[] = {0, 1, 100, 2100, 16000, FRAME_PART_MAX};
    static uint8_t out[FRAME_MAX];
    uint32_t what = take(in);
    struct frame_dgram f = {.seq = what & 3, .age_ms = (uint16_t)(what >> 4), .ttl_ms = 10, .part = what >> 2 & 7,
                            .parts = (uint8_t)(take(in) & 7), .len = sizes[take(in) % 6]};
    size_t head = frame_put_dgram_head(out, id, &f);
    speak(x, out, head + f.len);
}

static void speak_frame(struct world *x, struct input *in)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    uint32_t what = take(in), id = what >> 4;
    uint64_t a, b;
    switch (what & 15) {
    case 0:
    case 1: {
        struct frame_open f = {.kind = (uint8_t)(take(in) % 8), .port = (uint16_t)take(in), .host = "h", .window = number(in)};
        f.uid[0] = 1;
        f.datagram = f.kind == OPEN_SERVICE && f.port & 8;
        f.sealed = f.kind == OPEN_SERVICE && f.port & 16;
        speak(x, out, frame_put_open(out, id, &f));
        return;
    }
    case 2: {
        uint32_t how = take(in);
        struct frame_opened f = {.code = (uint16_t)(how & 1), .sealed = how & 2, .window = number(in)};
        speak(x, out, frame_put_opened(out, id, &f));
        return;
    }
    case 3:
    case 4:
    case 5:
        speak_data(x, in, id);
        return;
    case 6:
    case 7:
    case 8:
        a = number(in), b = number(in);
        speak(x, out, frame_put_ack(out, what & 1 ? FRAME_REWIND : FRAME_ACK, id, a, b));
        return;
    case 9:
        speak(x, out, frame_put_fin(out, id, number(in)));
        return;
    case 10:
        speak(x, out, frame_put_reset(out, id, (uint16_t)take(in), number(in)));
        return;
    case 11:
    case 12:
        speak_dgram(x, in, id);
        return;
    case 13:
        speak(x, out, frame_put_ping(out, id & 1 ? FRAME_PING : FRAME_PONG, take(in), 1000));
        return;
    case 14:
        speak(x, out, frame_put_goaway(out, (uint16_t)id, take(in), "bye"));
        return;
    default: { // any bytes
        size_t n = take(in) < in->left ? in->at[-1] : in->left;
        speak(x, in->at, n);
        in->at += n;
        in->left -= n;
    }
    }
}

// --- everybody else

static void act(struct world *x, struct end *e, struct input *in)
{
    uint32_t what = take(in);
    struct stream **slot = &e->st[what >> 4 & 7], *st = *slot;
    struct buf *b;
    if ((what & 15) == 0) {
        struct frame_open open = {.kind = what & 16 ? OPEN_UDP : OPEN_TCP, .port = (uint16_t)(what >> 5), .host = "x", .uid = {2},
                                  .sealed = what & 64};
        if (!e->next && (st = session_open(&e->s, &open)))
            own(e, st);
        return;
    }
    if (!st)
        return;
    switch (what & 15) {
    case 1:
    case 2:
        if ((!st->datagram || st->seal) && link_room(stream_link(st)) > 0) {
            b = buf_get(&x->w.pool);
            b->len = 1 + take(in) * 60;
            memset(buf_data(b), 7, b->len);
            link_send(stream_link(st), b);
        }
        return;
    case 3:
    case 4:
        if (link_recv(stream_link(st), &b) == LINK_OK)
            buf_put(b);
        return;
    case 5:
        link_shut(stream_link(st), what & 128 ? SHUT_ABORT : SHUT_END);
        return;
    case 6:
        *slot = NULL;
        link_close(stream_link(st));
        return;
    case 7:
        stream_accept(st, NULL);
        return;
    case 8:
        stream_refuse(st, WHY_POLICY, "no");
        return;
    case 9:
        stream_reset(st, WHY_LIMIT);
        return;
    default:
        (void)!stream_send_dgram(st, in->at, in->left < 40 ? in->left : 40);
    }
}

static void carry(struct world *x, struct end *from, struct end *to, uint32_t n)
{
    struct buf *b = buf_get(&x->w.pool);
    if (!carrier_fill(one_of(from, n), b)) {
        buf_put(b);
    } else if (to) {
        CHECK(carrier_recv(one_of(to, n), b) == 0); // honest ends stay honest
    } else {
        buf_put(b);
    }
}

static void restart(struct end *e)
{
    carrier_down(&e->c);
    carrier_up(&e->s, &e->c, on_output, e);
}

// A carrier beside the first, at both ends of what is behind.
static void toggle(struct end *e)
{
    if (e->second.s)
        carrier_down(&e->second);
    else
        carrier_up(&e->s, &e->second, on_output, e);
}

static void rest(struct world *x, struct input *in)
{
    uint32_t what = take(in);
    switch (what & 7) {
    case 0:
        deliver(x, what >> 3);
        restart(&x->target);
        return;
    case 1:
        if (x->switched) {
            restart(&x->behind);
            restart(&x->b);
        }
        return;
    case 2:
        x->w.now_us += (uint64_t)what << 9;
        x->w.now_ms = x->w.now_us / 1000;
        (void)!carrier_tick(&x->target.c);
        (void)!carrier_tick(&x->target.second);
        if (x->switched) {
            (void)!carrier_tick(&x->behind.c);
            (void)!carrier_tick(&x->b.c);
        }
        return;
    case 3:
        worker_turn(&x->w);
        if ((what & 24) == 8) {
            toggle(&x->target);
        } else if ((what & 24) == 16 && x->switched) {
            toggle(&x->behind);
            toggle(&x->b);
        }
        return;
    case 4:
    case 5:
        carry(x, &x->target, NULL, what >> 3);
        return;
    default:
        if (x->switched) {
            carry(x, &x->behind, &x->b, what >> 3);
            carry(x, &x->b, &x->behind, what >> 3);
        }
    }
}

static void check(struct world *x)
{
    CHECK(x->target.budget.used <= BUDGET + BUF_SIZE);
    CHECK(x->w.pool.out_bytes <= 3 * (BUDGET + BUF_SIZE) + 2 * (DGRAM_QUEUE_MAX + 3 * BUF_SIZE) + (size_t)2 * 1024 * 1024);
    if (x->switched)
        CHECK(!err_is(&x->behind.s.err) && !err_is(&x->b.s.err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world x;
    struct input in = {data, size};
    uint32_t how = take(&in);
    memset(&x, 0, sizeof(x));
    worker_init_bare(&x.w);
    x.w.now_us = 1000000;
    x.switched = how & 2;
    end_init(&x, &x.target, !(how & 1) && !x.switched);
    if (x.switched) {
        end_init(&x, &x.behind, false);
        end_init(&x, &x.b, true);
        x.target.next = &x.behind;
        x.behind.next = &x.target;
    }
    while (in.left && !x.broken) {
        uint32_t op = take(&in);
        if (op % 8 < 4)
            speak_frame(&x, &in);
        else if (op % 8 < 5)
            deliver(&x, op >> 3);
        else if (op % 8 < 6)
            act(&x, x.switched ? &x.b : &x.target, &in);
        else
            rest(&x, &in);
        check(&x);
    }
    deliver(&x, 0);
    check(&x);
    end_fini(&x, &x.target);
    if (x.switched) {
        end_fini(&x, &x.behind);
        end_fini(&x, &x.b);
    }
    worker_turn(&x.w);
    CHECK(x.w.pool.out_bytes == 0);
    worker_fini(&x.w);
    return 0;
}
