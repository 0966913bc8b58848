// SPDX-License-Identifier: Apache-2.0
// Several carriers of one session: which one a stream uses, what moves when one is lost or suspect, and that a replay gets on
// however often it is cut. The rules are those of docs/protocol.md.
#include "half.h"
#include "session/carrier.h"

static struct worker w;

static void on_output(struct carrier *c) { *(bool *)c->owner = true; }

static bool woken;

// What `c` sends now: whether a frame of this type and stream is among it, and how many bytes of DATA.
struct sent {
    unsigned frames;
    size_t data;
    uint64_t first; // offset of the first DATA
};

static struct sent sent_by(struct carrier *c, uint8_t type, uint32_t stream)
{
    struct sent sent = {.first = UINT64_MAX};
    struct buf *b = buf_get(&w.pool);
    for (; carrier_fill(c, b); b->start = BUF_HEADROOM)
        while (b->len) {
            struct frame_head head;
            frame_get_head(&head, buf_data(b));
            if (head.type == type && head.stream == stream)
                sent.frames++;
            if (head.type == FRAME_DATA && head.stream == stream) {
                if (sent.first == UINT64_MAX)
                    sent.first = get64(buf_data(b) + FRAME_HEAD);
                sent.data += head.length - 8;
            }
            buf_skip(b, FRAME_HEAD + head.length);
        }
    buf_put(b);
    return sent;
}

// Half with h->c and a second carrier, on which the peer has spoken.
static struct half *two(bool is_agent, struct carrier *second)
{
    struct half *h = half_new(&w, is_agent, 16 * ONE_MB);
    half_up(h);
    *second = (struct carrier){0};
    carrier_up(&h->s, second, on_output, &woken);
    h->c.proven = second->proven = true;
    sent_by(&h->c, 0, 0);
    sent_by(second, 0, 0);
    return h;
}

static void end(struct half *h, struct carrier *second)
{
    carrier_down(second);
    half_free(h);
}

static void test_streams_spread_over_the_carriers(void **state)
{
    struct carrier second;
    struct half *h = two(true, &second);
    for (int i = 0; i < 6; i++)
        half_open(h, OPEN_TCP);
    assert_int_equal(h->c.stream_count, 3);
    assert_int_equal(second.stream_count, 3);
    end(h, &second);
}

static void test_a_stream_avoids_the_carrier_with_data_to_send(void **state)
{
    struct carrier second;
    struct half *h = two(true, &second);
    struct stream *bulk = half_open(h, OPEN_TCP);
    assert_ptr_equal(bulk->carrier, &h->c);
    half_send(bulk, 10000);
    struct stream *a = half_open(h, OPEN_TCP), *b = half_open(h, OPEN_TCP);
    assert_ptr_equal(a->carrier, &second);
    assert_ptr_equal(b->carrier, &second);
    end(h, &second);
}

static void test_an_answer_goes_by_the_carrier_of_the_question(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    struct frame_open open = {.kind = OPEN_TCP, .window = ONE_MB, .uid = {1}, .host = "host"};
    struct buf *b = buf_copy(&w.pool, out, frame_put_open(out, 1, &open));
    assert_int_equal(carrier_recv(&second, b), 0);
    assert_ptr_equal(h->asked->carrier, &second);
    stream_accept(h->asked, NULL);
    assert_int_equal(sent_by(&h->c, FRAME_OPENED, 1).frames, 0);
    assert_int_equal(sent_by(&second, FRAME_OPENED, 1).frames, 1);
    end(h, &second);
}

static void test_what_comes_by_any_carrier_is_accepted_in_order(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    struct stream *st = half_asked(h, 1, ONE_MB);
    say_data(h, 1, 0, 100);
    uint8_t out[FRAME_DATA_HEAD + 200];
    frame_put_head(out, 8 + 200, FRAME_DATA, 1);
    put64(out + FRAME_HEAD, 50); // half of it is known
    for (unsigned i = 0; i < 200; i++)
        out[FRAME_DATA_HEAD + i] = half_byte(50 + i);
    assert_int_equal(carrier_recv(&second, buf_copy(&w.pool, out, sizeof out)), 0);
    assert_int_equal(half_read(st, 1000, NULL), 250);
    end(h, &second);
}

static void test_rule_3_a_lost_carriers_streams_move_and_no_others(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    struct stream *a = half_asked(h, 1, ONE_MB), *b = half_asked(h, 3, ONE_MB);
    assert_ptr_equal(a->carrier, &h->c);
    stream_change(b, &second);
    sent_by(&second, 0, 0);
    half_send(a, 5000);
    half_send(b, 5000);
    sent_by(&h->c, 0, 0);
    sent_by(&second, 0, 0);
    say_ack(h, 1, 2000, ONE_MB);
    half_down(h);
    struct buf *buf = buf_get(&w.pool);
    assert_true(carrier_fill(&second, buf)); // REWIND goes before DATA
    struct frame_head head;
    bool rewound = false;
    for (; buf->len; buf_skip(buf, FRAME_HEAD + head.length)) {
        frame_get_head(&head, buf_data(buf));
        assert_int_not_equal(head.stream, 3);
        if (head.type == FRAME_REWIND)
            rewound = true;
        if (head.type == FRAME_DATA) {
            assert_true(rewound);
            assert_int_equal(get64(buf_data(buf) + FRAME_HEAD), 2000); // what is acked is not sent again
            assert_int_equal(head.length - 8, 3000);
        }
    }
    buf_put(buf);
    assert_true(rewound);
    end(h, &second);
}

static void test_rule_6_last_acks_go_by_another_when_their_carrier_is_lost(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    struct stream *st = half_asked(h, 1, ONE_MB);
    link_shut(stream_link(st), SHUT_END);
    hear(h);
    say_fin(h, 1, 0);
    say_ack(h, 1, 1, ONE_MB);
    hear_late(h);
    assert_non_null(heard(h, FRAME_ACK, 1));
    assert_int_equal(h->s.acks_held, 1);
    assert_int_equal(sent_by(&second, FRAME_ACK, 1).frames, 0);
    half_down(h);
    assert_int_equal(sent_by(&second, FRAME_ACK, 1).frames, 1);
    assert_int_equal(h->s.acks_held, 1);
    end(h, &second);
}

// Time passes on h->c, from which nothing comes, until it is suspect; the other one is heard.
static enum carrier_verdict silence(struct half *h, struct carrier *other)
{
    enum carrier_verdict v = CARRIER_FINE;
    for (int i = 0; i < 100 && v == CARRIER_FINE && !h->c.live.suspect; i++) {
        half_pass_us(&w, 100000);
        if (other)
            carrier_recv(other, buf_copy(&w.pool, "\0\0\0\0\0\0\0\0", FRAME_HEAD)); // PAD
        v = carrier_tick(&h->c);
        hear(h);
    }
    return v;
}

static void test_a_suspect_carriers_streams_move_to_a_good_one(void **state)
{
    struct carrier second;
    struct half *h = two(true, &second);
    struct stream *st = half_open(h, OPEN_TCP);
    assert_ptr_equal(st->carrier, &h->c);
    hear(h);
    say_opened(h, 1, 0, ONE_MB);
    half_send(st, 3000);
    hear(h);
    assert_int_equal(silence(h, &second), CARRIER_DEAD);
    assert_int_equal(h->suspicions, 1);
    assert_ptr_equal(st->carrier, &second);
    assert_int_equal(sent_by(&second, FRAME_REWIND, 1).data, 3000);
    assert_int_equal(h->s.stats.moved, 1);
    struct stream *next = half_open(h, OPEN_TCP); // and none opens there
    assert_ptr_equal(next->carrier, &second);
    end(h, &second);
}

static void test_a_suspect_carrier_alone_keeps_its_streams_until_another_stands(void **state)
{
    struct half *h = half_new(&w, true, 16 * ONE_MB);
    half_up(h);
    struct stream *st = half_open_to(h, ONE_MB);
    half_send(st, 3000);
    hear(h);
    assert_int_equal(silence(h, NULL), CARRIER_FINE);
    assert_int_equal(h->suspicions, 1);
    assert_ptr_equal(st->carrier, &h->c);
    h->has_output = false;
    struct carrier second = {0};
    carrier_up(&h->s, &second, on_output, &woken);
    assert_ptr_equal(st->carrier, &second);
    assert_int_equal(sent_by(&second, FRAME_REWIND, 1).data, 3000);
    assert_true(h->has_output); // its owner looks
    assert_int_equal(carrier_deadline(&h->c), w.now_us);
    assert_int_equal(carrier_tick(&h->c), CARRIER_DEAD);
    end(h, &second);
}

static void test_a_relay_trusts_a_carrier_that_was_used(void **state)
{
    struct half *h = half_new(&w, false, 16 * ONE_MB);
    half_up(h);
    struct carrier second = {0};
    carrier_up(&h->s, &second, on_output, &woken);
    say_raw(h, FRAME_PAD, 0, NULL, 4);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(half_open(h, OPEN_ACCEPTED)->carrier, &h->c); // its WELCOME may never be read
    carrier_recv(&second, buf_copy(&w.pool, "\0\0\0\0\0\0\0\0", FRAME_HEAD));
    assert_ptr_equal(half_open(h, OPEN_ACCEPTED)->carrier, &second);
    end(h, &second);
}

static void test_a_rewind_by_another_carrier_asks_about_ours(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    half_send(half_asked(h, 1, ONE_MB), 10);
    hear(h);
    sent_by(&second, 0, 0);
    say_raw(h, FRAME_PONG, 0, (uint8_t[12]){0, 0, 0, 0, 0, 0, 0, 1}, 12);
    assert_false(h->c.live.ping_out);
    uint8_t out[64];
    carrier_recv(&second, buf_copy(&w.pool, out, frame_put_ack(out, FRAME_REWIND, 1, 0, ONE_MB)));
    assert_int_equal(sent_by(&h->c, FRAME_PING, 0).frames, 1);
    end(h, &second);
}

static void test_a_stream_follows_a_rewind_away_from_a_silent_carrier(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    struct stream *st = half_asked(h, 1, ONE_MB);
    half_send(st, 1000);
    hear(h);
    half_pass_us(&w, LIVENESS_SILENCE_US + 1);
    uint8_t out[64];
    carrier_recv(&second, buf_copy(&w.pool, out, frame_put_ack(out, FRAME_REWIND, 1, 400, ONE_MB)));
    assert_ptr_equal(st->carrier, &second);
    struct sent sent = sent_by(&second, FRAME_REWIND, 1);
    assert_int_equal(sent.frames, 1);
    assert_int_equal(sent.first, 400);
    assert_int_equal(sent.data, 600);
    end(h, &second);
}

static void pong(struct half *h, struct carrier *c)
{
    uint8_t out[64];
    carrier_recv(c, buf_copy(&w.pool, out, frame_put_ping(out, FRAME_PONG, c->ping_opaque, 1000)));
    (void)h;
}

static void test_quiet_streams_spread_when_a_carrier_is_new(void **state)
{
    struct half *h = half_new(&w, true, 16 * ONE_MB);
    half_up(h);
    for (int i = 0; i < 8; i++)
        half_open_to(h, ONE_MB);
    struct stream *busy = half_open_to(h, ONE_MB), *lately = half_open_to(h, ONE_MB);
    half_send(busy, 1000);
    hear(h); // and no ACK comes
    half_pass_us(&w, 10000000);
    say_data(h, stream_id(lately), 0, 10);
    hear_late(h);
    struct carrier second = {0};
    carrier_up(&h->s, &second, on_output, &woken);
    sent_by(&second, 0, 0);
    assert_int_equal(second.stream_count, 0);
    pong(h, &second);
    assert_int_equal(second.stream_count, 5);
    assert_ptr_equal(busy->carrier, &h->c);
    assert_ptr_equal(lately->carrier, &h->c);
    pong(h, &second);
    pong(h, &h->c);
    assert_int_equal(second.stream_count, 5); // and there it ends
    end(h, &second);
}

static void test_a_relay_follows_and_does_not_balance(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    struct stream *st = half_asked(h, 1, ONE_MB);
    for (uint32_t id = 3; id < 20; id += 2)
        stream_change(half_asked(h, id, ONE_MB), &h->c);
    half_pass_us(&w, 10000000);
    pong(h, &second);
    assert_int_equal(second.stream_count, 0);
    uint8_t out[64];
    say_raw(h, FRAME_PAD, 0, NULL, 4); // ours is well
    carrier_recv(&second, buf_copy(&w.pool, out, frame_put_ack(out, FRAME_REWIND, 1, 0, ONE_MB)));
    assert_ptr_equal(st->carrier, &second);
    end(h, &second);
}

static void test_goaway_goes_on_every_carrier(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    session_goaway(&h->s, 0, 5, "bye");
    assert_int_equal(sent_by(&h->c, FRAME_GOAWAY, 0).frames, 1);
    assert_int_equal(sent_by(&second, FRAME_GOAWAY, 0).frames, 1);
    end(h, &second);
}

static void test_the_last_one_lost_parks_the_session(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    struct stream *st = half_asked(h, 1, ONE_MB);
    half_send(st, 1000);
    carrier_down(&second);
    assert_true(session_is_up(&h->s));
    half_down(h);
    assert_false(session_is_up(&h->s));
    assert_null(st->carrier);
    half_up(h);
    assert_int_equal(sent_by(&h->c, FRAME_REWIND, 1).data, 1000);
    half_free(h);
}

static void test_an_ended_session_tells_every_carriers_owner(void **state)
{
    struct carrier second;
    struct half *h = two(false, &second);
    woken = h->has_output = false;
    session_detach(&h->s);
    assert_true(woken && h->has_output);
    assert_null(h->c.s);
    assert_null(second.s);
    half_free(h);
}

static void test_datagrams_that_wait_move_with_their_carrier(void **state)
{
    struct carrier second;
    struct half *h = two(true, &second);
    struct stream *st = half_open(h, OPEN_UDP);
    hear(h);
    say_opened(h, 1, 0, 0);
    assert_true(stream_send_dgram(st, "hello", 5));
    half_down(h);
    assert_int_equal(sent_by(&second, FRAME_DGRAM, 1).frames, 1);
    end(h, &second);
}

// One carrier after the other dies when 40 kB of the megabyte have arrived, sooner than a delayed ACK goes: the next one goes on
// behind them nevertheless.
static void test_a_replay_that_is_cut_again_and_again_gets_on(void **state)
{
    struct half *a = half_new(&w, true, 16 * ONE_MB), *b = half_new(&w, false, 16 * ONE_MB);
    b->auto_accept = true;
    half_up(a);
    half_up(b);
    struct stream *st = half_open(a, OPEN_TCP);
    half_settle(a, b);
    size_t got = 0;
    half_send(st, ONE_MB);
    half_carry(a, b, 1000); // as far as the window goes; all acknowledgements are lost
    got += half_read(b->asked, ONE_MB, NULL);
    uint64_t una = st->snd_una;
    unsigned cuts = 0;
    for (; got < ONE_MB; cuts++) {
        assert_true(cuts < 40);
        half_up(b); // lost and back
        half_up(a);
        half_carry(b, a, 1000); // what stands behind WELCOME
        assert_true(cuts == 0 || st->snd_una > una);
        una = st->snd_una;
        half_carry(a, b, 3);
        got += half_read(b->asked, ONE_MB, NULL);
    }
    assert_true(cuts >= 15);
    assert_true(a->s.stats.replayed < ONE_MB);
    half_free(a);
    half_free(b);
}

// The same where the relay has no time to say anything before it is cut: what arrived is known to it, and is not lost.
static void test_what_arrived_counts_even_if_no_ack_returns_in_time(void **state)
{
    struct half *a = half_new(&w, true, 16 * ONE_MB), *b = half_new(&w, false, 16 * ONE_MB);
    b->auto_accept = true;
    half_up(a);
    half_up(b);
    struct stream *st = half_open(a, OPEN_TCP);
    half_settle(a, b);
    half_send(st, 200000);
    size_t got = 0;
    for (unsigned most = 1; got < 200000; most++) {
        half_up(b);
        half_up(a);
        half_carry(a, b, 1 + most); // each a bit longer than the one before; nothing comes back
        got += half_read(b->asked, ONE_MB, NULL);
        assert_true(most < 20);
    }
    half_settle(a, b);
    assert_int_equal(st->snd_una, 200000);
    half_free(a);
    half_free(b);
}

#define T(f) HALF_TEST(f, &w)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_streams_spread_over_the_carriers),
        T(test_a_stream_avoids_the_carrier_with_data_to_send),
        T(test_an_answer_goes_by_the_carrier_of_the_question),
        T(test_what_comes_by_any_carrier_is_accepted_in_order),
        T(test_rule_3_a_lost_carriers_streams_move_and_no_others),
        T(test_rule_6_last_acks_go_by_another_when_their_carrier_is_lost),
        T(test_a_suspect_carriers_streams_move_to_a_good_one),
        T(test_a_suspect_carrier_alone_keeps_its_streams_until_another_stands),
        T(test_a_relay_trusts_a_carrier_that_was_used),
        T(test_a_rewind_by_another_carrier_asks_about_ours),
        T(test_a_stream_follows_a_rewind_away_from_a_silent_carrier),
        T(test_quiet_streams_spread_when_a_carrier_is_new),
        T(test_a_relay_follows_and_does_not_balance),
        T(test_goaway_goes_on_every_carrier),
        T(test_the_last_one_lost_parks_the_session),
        T(test_an_ended_session_tells_every_carriers_owner),
        T(test_datagrams_that_wait_move_with_their_carrier),
        T(test_a_replay_that_is_cut_again_and_again_gets_on),
        T(test_what_arrived_counts_even_if_no_ack_returns_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
