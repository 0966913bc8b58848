// SPDX-License-Identifier: Apache-2.0
// Windows, ends, acknowledgements in time, liveness, fairness, budgets, and what a peer must not do. The numbered rules are in
// rules_test.c, datagrams in dgram_test.c.
#include "half.h"

static struct worker w;

static void pong(struct half *h) { say_raw(h, FRAME_PONG, 0, heard(h, FRAME_PING, 0)->payload, 12); }

// --- windows

// Each half window is read within `us`; a round trip takes 50 ms.
static void window_grows(uint64_t us, uint64_t times)
{
    struct half *h = half_start(&w, false, 256 * ONE_MB);
    struct stream *st = half_asked(h, 1, 0);
    uint64_t at = 0, window = WINDOW_START;
    h->c.live.srtt_us = 50000;
    for (int round = 0; round < 12; round++) {
        size_t n = st->window / 2;
        say_data(h, 1, at, n);
        at += n;
        assert_int_equal(half_read(st, n, NULL), n);
        hear(h);
        half_pass_us(&w, us);
        if (round)
            window = window * times < WINDOW_MAX ? window * times : WINDOW_MAX;
        assert_int_equal(st->window, window);
    }
    assert_int_equal(st->window, WINDOW_MAX);
    half_pass_us(&w, 10000001); // idle: back to the start
    say_data(h, 1, at, 10);
    half_read(st, 10, NULL);
    assert_int_equal(st->window, WINDOW_START);
    half_free(h);
}

static void test_window_doubles_for_a_fast_reader(void **state) { window_grows(99000, 2); }

static void test_window_grows_fourfold_where_it_holds_the_sender_back(void **state) { window_grows(60000, 4); }

static void test_window_stays_for_a_slow_reader(void **state)
{
    struct half *h = half_start(&w, false, 256 * ONE_MB);
    struct stream *st = half_asked(h, 1, 0);
    uint64_t at = 0;
    h->c.live.srtt_us = 50000;
    for (int round = 0; round < 5; round++) {
        say_data(h, 1, at, WINDOW_START / 2);
        at += WINDOW_START / 2;
        half_read(st, WINDOW_START / 2, NULL);
        hear(h);
        half_pass_us(&w, 100001);
        assert_int_equal(st->window, WINDOW_START);
    }
    half_free(h);
}

static void test_window_grows_only_with_room_in_the_budget(void **state)
{
    struct half *h = half_start(&w, false, WINDOW_START - 1);
    struct stream *st = half_asked(h, 1, 0);
    size_t n = WINDOW_START / 4;
    for (size_t at = 0; at < 16 * n; at += n) {
        say_data(h, 1, at, n);
        assert_int_equal(half_read(st, n, NULL), n);
        hear(h);
    }
    assert_int_equal(st->window, WINDOW_START);
    half_free(h);
}

static void test_limit_is_raised_by_quarters(void **state)
{
    struct half *h = half_start(&w, false, 16 * ONE_MB);
    struct stream *st = half_asked(h, 1, 0);
    size_t quarter = WINDOW_START / 4;
    for (size_t at = 0; at < quarter; at += 1024)
        say_data(h, 1, at, 1024);
    hear(h); // acknowledges, but nothing was read
    half_read(st, quarter - 1024, NULL);
    hear(h);
    assert_int_equal(h->heard_count, 0);
    half_read(st, 1024, NULL);
    hear(h);
    assert_int_equal(heard_limit(h, FRAME_ACK, 1), WINDOW_START + quarter);
    half_free(h);
}

static void test_sender_stops_at_the_limit(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 1000);
    half_send(st, 5000);
    hear(h);
    assert_int_equal(heard_data(h, 1), 1000);
    assert_int_equal(link_room(stream_link(st)), 0);
    say_ack(h, 1, 0, 900); // a limit only rises
    hear(h);
    assert_int_equal(heard_data(h, 1), 0);
    say_ack(h, 1, 0, UINT64_MAX);
    hear(h);
    assert_int_equal(heard_data(h, 1), 4000);
    assert_int_equal(link_room(stream_link(st)), UNSENT_MAX);
    half_free(h);
}

// --- ends

static void test_half_close_leaves_the_other_direction_open(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 100000);
    enum link_status end;
    say_data(h, 1, 0, 200);
    say_fin(h, 1, 200);
    assert_int_equal(half_read(st, 1000, &end), 200);
    assert_int_equal(end, LINK_END);
    half_send(st, 3000); // answered after the end
    hear_late(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 201);
    assert_int_equal(heard_data(h, 1), 3000);
    link_shut(stream_link(st), SHUT_END);
    hear_late(h);
    assert_int_equal(heard_offset(h, FRAME_FIN, 1), 3000);
    say_ack(h, 1, 3001, 100000);
    assert_int_equal(h->s.stream_count, 0);
    half_free(h);
}

static void test_fin_that_overtakes_data_is_held(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 1000);
    enum link_status end;
    say_fin(h, 1, 10);
    half_read(st, 1, &end);
    assert_int_equal(end, LINK_AGAIN);
    say_data(h, 1, 0, 10);
    assert_int_equal(half_read(st, 100, &end), 10);
    assert_int_equal(end, LINK_END);
    half_free(h);
}

static void test_closing_early_resets(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 1000);
    say_data(h, 1, 0, 10);
    half_close(h, st);
    hear(h);
    assert_non_null(heard(h, FRAME_RESET, 1));
    say_ack(h, 1, ACKED_ALL, 0);
    assert_int_equal(h->s.stream_count, 0);
    half_free(h);
}

static void test_goaway_stops_new_streams_both_ways(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 1000);
    session_goaway(&h->s, 3, 5000, "going\ndown");
    hear(h);
    uint16_t code;
    uint32_t retry;
    char text[FRAME_TEXT_MAX + 1];
    const struct heard *x = heard(h, FRAME_GOAWAY, 0);
    assert_int_equal(frame_get_goaway(&code, &retry, text, x->payload, x->len), 0);
    assert_int_equal(code, 3);
    assert_int_equal(retry, 5000);
    assert_null(strchr(text, '\n'));
    assert_null(half_open(h, OPEN_TCP));
    half_send(st, 10); // what is open goes on
    hear(h);
    assert_int_equal(heard_data(h, 1), 10);
    half_down(h);
    half_up(h);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_GOAWAY, 0), 1); // a new carrier hears it too
    struct half *g = half_start(&w, true, ONE_MB);
    uint8_t out[512];
    assert_int_equal(say(g, out, frame_put_goaway(out, 1, 250, "drain")), 0);
    assert_int_equal(g->goaways, 1);
    assert_int_equal(g->goaway_retry, 250);
    assert_string_equal(g->goaway_text, "drain");
    assert_null(half_open(g, OPEN_TCP));
    half_free(g);
    half_free(h);
}

// --- time

static void test_ack_delay_is_exact(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    half_asked(h, 1, 1000);
    uint64_t start = w.now_us;
    say_data(h, 1, 0, 10);
    assert_int_equal(carrier_deadline(&h->c), start + ACK_DELAY_US);
    half_pass_us(&w, ACK_DELAY_US - 1);
    carrier_tick(&h->c);
    hear(h);
    assert_int_equal(h->heard_count, 0);
    half_pass_us(&w, 1);
    carrier_tick(&h->c);
    hear(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 10);
    assert_int_equal(h->heard_count, 1);
    half_free(h);
}

static void test_a_chunk_is_acked_without_delay_and_once(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    half_asked(h, 1, 1000);
    say_data(h, 1, 0, WINDOW_START / 4 - 1);
    hear(h);
    assert_int_equal(h->heard_count, 0);
    say_data(h, 1, WINDOW_START / 4 - 1, 1);
    say_data(h, 1, WINDOW_START / 4, 10);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_ACK, 1), 1); // one pending ACK a stream
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), WINDOW_START / 4 + 10);
    half_free(h);
}

// In a conversation nothing but DATA goes: what is worth acknowledging goes before the answer, and no ACK comes due in between.
static void test_an_ack_rides_with_data(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 100000);
    say_data(h, 1, 0, WINDOW_START / 32 - 1);
    half_send(st, 10);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_ACK, 1), 0); // too little
    say_data(h, 1, WINDOW_START / 32 - 1, 1);
    half_send(st, 10);
    hear(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), WINDOW_START / 32);
    assert_true(heard_place(h, FRAME_ACK, 1) < heard_place(h, FRAME_DATA, 1));
    half_send(st, 10);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_ACK, 1), 0); // once
    half_free(h);
}

// The opener may ask elsewhere, and whoever acknowledged its end here would have it believe that all is done.
static void test_a_refused_stream_has_taken_nothing(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    say_open(h, 1, OPEN_TCP, 1000);
    say_data(h, 1, 0, 10);
    say_fin(h, 1, 10);
    stream_refuse(h->asked, WHY_ABSENT, NULL);
    hear(h);
    assert_non_null(heard(h, FRAME_OPENED, 1));
    half_down(h);
    half_up(h);
    hear_late(h);
    for (unsigned i = 0; i < h->heard_count; i++) {
        if (h->heard[i].stream == 1 && (h->heard[i].type == FRAME_ACK || h->heard[i].type == FRAME_REWIND))
            assert_int_equal(heard_acked(h, h->heard[i].type, 1), 0);
    }
    assert_non_null(heard(h, FRAME_REWIND, 1));
    half_free(h);
}

// Lets the clock run to the next deadline, and looks.
static enum carrier_verdict next_look(struct half *h)
{
    uint64_t at = carrier_deadline(&h->c);
    assert_true(at > w.now_us && at != UINT64_MAX);
    half_pass_us(&w, at - w.now_us - 1);
    assert_int_equal(carrier_tick(&h->c), CARRIER_FINE); // not a microsecond too early
    half_pass_us(&w, 1);
    return carrier_tick(&h->c);
}

// Answers PINGs until one comes of idleness; the silence before it.
static uint64_t settle(struct half *h)
{
    for (;;) {
        uint64_t from = w.now_us;
        while (!h->c.live.ping_due)
            assert_int_equal(next_look(h), CARRIER_FINE);
        if (h->c.live.idle_ping)
            return w.now_us - from;
        hear(h);
        pong(h);
    }
}

static void test_an_idle_agent_pings_and_gives_a_dead_carrier_up(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    uint64_t start = w.now_us;
    half_pass_us(&w, 30000);
    pong(h);
    assert_int_equal(h->c.live.srtt_us, 30000);
    assert_int_equal(session_rtt_us(&h->s), 30000);
    uint64_t silent = settle(h);
    assert_true(w.now_us - start > LIVENESS_LATELY_US); // the start counts as active
    assert_true(silent > LIVENESS_SILENCE_US && silent <= LIVENESS_IDLE_MS * 1000);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_PING, 0), 1);
    uint64_t asked = w.now_us;
    assert_int_equal(next_look(h), CARRIER_FINE);
    assert_int_equal(w.now_us, asked + LIVENESS_PATIENCE_US);
    assert_int_equal(h->suspicions, 1);
    assert_int_equal(carrier_tick(&h->c), CARRIER_FINE);
    assert_int_equal(h->suspicions, 1);
    assert_int_equal(next_look(h), CARRIER_DEAD);
    assert_int_equal(w.now_us, asked + LIVENESS_PATIENCE_US + LIVENESS_SUSPECT_US);
    half_free(h);
}

static void test_bytes_heard_end_a_suspicion(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    assert_int_equal(next_look(h), CARRIER_FINE);
    assert_int_equal(h->suspicions, 1);
    say_raw(h, FRAME_PAD, 0, NULL, 4);
    assert_int_equal(carrier_tick(&h->c), CARRIER_FINE);
    assert_false(h->c.live.suspect);
    assert_int_equal(next_look(h), CARRIER_FINE);
    assert_int_equal(h->suspicions, 2);
    half_free(h);
}

static void test_an_idle_relay_leaves_pings_to_the_agent(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    pong(h);
    unsigned pings = 0;
    for (; carrier_deadline(&h->c) != UINT64_MAX; pings += heard_times(h, FRAME_PING, 0)) { // the start counts as active
        assert_int_equal(next_look(h), CARRIER_FINE);
        hear(h);
        pong(h);
    }
    assert_true(pings <= LIVENESS_LATELY_US / LIVENESS_SILENCE_US + 1);
    half_free(h);
}

static void test_the_first_byte_after_a_pause_carries_a_ping(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    pong(h);
    struct stream *st = half_asked(h, 1, ONE_MB);
    half_pass_us(&w, 60000000);
    half_send(st, 10);
    hear(h);
    assert_int_equal(heard_data(h, 1), 10); // no tick was needed
    assert_int_equal(heard_times(h, FRAME_PING, 0), 1);
    half_free(h);
}

static void test_a_ping_that_cannot_leave_condemns_too(void **state)
{
    struct half *h = half_new(&w, true, ONE_MB);
    half_up(h); // nobody fetches its first PING
    assert_int_equal(next_look(h), CARRIER_FINE);
    assert_int_equal(h->suspicions, 1);
    assert_int_equal(next_look(h), CARRIER_DEAD);
    half_free(h);
}

static void test_ping_is_answered_once_with_its_opaque(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    uint8_t out[64];
    say(h, out, frame_put_ping(out, FRAME_PING, 1, 15000));
    say(h, out, frame_put_ping(out, FRAME_PING, UINT64_MAX, 20000));
    hear(h);
    assert_int_equal(heard_times(h, FRAME_PONG, 0), 1);
    assert_true(heard_acked(h, FRAME_PONG, 0) == UINT64_MAX);
    assert_int_equal(h->c.live.peer_interval_ms, 20000);
    half_free(h);
}

static size_t padded(const struct half *h)
{
    size_t n = 0;
    for (unsigned i = 0; i < h->heard_count; i++)
        n += h->heard[i].type == FRAME_PAD ? h->heard[i].len : 0;
    return n;
}

static void test_a_probe_gets_as_many_bytes_of_nothing_back(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    uint8_t out[64];
    say(h, out, frame_put_probe(out, 50000));
    say(h, out, frame_put_probe(out, 20000)); // the newest counts
    say(h, out, frame_put_ping(out, FRAME_PING, 1, 15000));
    hear(h);
    assert_int_equal(padded(h), 20000);
    assert_true(heard_place(h, FRAME_PONG, 0) < heard_place(h, FRAME_PAD, 0)); // behind all else
    say(h, out, frame_put_probe(out, UINT32_MAX));
    hear(h);
    assert_int_equal(padded(h), FRAME_PROBE_MAX);
    hear(h);
    assert_int_equal(padded(h), 0);
    assert_int_equal(say_raw(h, FRAME_PROBE, 0, out, 3), -1);
    half_free(h);
}

static void test_a_parked_session_has_no_deadline(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    half_down(h);
    assert_true(carrier_deadline(&h->c) == UINT64_MAX);
    half_pass_us(&w, UINT64_C(3600) * 1000000);
    assert_int_equal(carrier_tick(&h->c), CARRIER_FINE);
    half_free(h);
}

// --- scheduling

static void test_a_small_stream_goes_before_a_bulk_stream(void **state)
{
    struct half *h = half_start(&w, true, 16 * ONE_MB);
    struct stream *bulk = half_open_to(h, ONE_MB), *small = half_open_to(h, ONE_MB);
    struct buf *b = buf_get(&w.pool);
    half_send(bulk, 10 * FRAME_DATA_MAX);
    carrier_fill(&h->c, b);
    half_send(small, 64);
    b->len = 0;
    carrier_fill(&h->c, b); // the very next buffer
    struct frame_head head;
    frame_get_head(&head, buf_data(b));
    assert_int_equal(head.stream, stream_id(small));
    buf_put(b);
    half_free(h);
}

static void test_bulk_streams_share_by_quanta(void **state)
{
    struct half *h = half_start(&w, true, 64 * ONE_MB);
    struct stream *st[3];
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < 3; i++)
        st[i] = half_open_to(h, 16 * ONE_MB);
    for (int i = 0; i < 3; i++)
        half_send(st[i], i == 0 ? 4 * ONE_MB : 2 * ONE_MB);
    struct buf *b = buf_get(&w.pool);
    for (int i = 0; i < 90; i++) {
        b->len = 0;
        assert_true(carrier_fill(&h->c, b));
        least = UINT64_MAX, most = 0;
        for (int k = 0; k < 3; k++) {
            least = st[k]->snd_nxt < least ? st[k]->snd_nxt : least;
            most = st[k]->snd_nxt > most ? st[k]->snd_nxt : most;
        }
        assert_true(most - least <= 2 * QUANTUM);
    }
    assert_true(least > 25 * FRAME_DATA_MAX);
    buf_put(b);
    half_free(h);
}

static void test_control_goes_before_data(void **state)
{
    struct half *h = half_start(&w, true, 16 * ONE_MB);
    half_send(half_open_to(h, ONE_MB), 5 * FRAME_DATA_MAX);
    uint8_t out[64];
    say(h, out, frame_put_ping(out, FRAME_PING, 9, 1));
    half_open(h, OPEN_TCP);
    hear(h);
    assert_int_equal(heard_place(h, FRAME_PONG, 0), 0);
    assert_int_equal(heard_place(h, FRAME_OPEN, 3), 1);
    half_free(h);
}

// --- memory

static void test_two_full_budgets_never_deadlock(void **state)
{
    struct half *a = half_new(&w, true, 40 * BUF_SIZE), *b = half_new(&w, false, 6 * BUF_SIZE);
    struct stream *sa[4], *sb[4];
    size_t sent[8] = {0}, got[8] = {0}, total = 300000;
    half_up(a);
    half_up(b);
    b->auto_accept = true;
    for (int i = 0; i < 4; i++) {
        sa[i] = half_open(a, OPEN_TCP);
        half_carry(a, b, 10);
        sb[i] = b->asked;
        half_settle(a, b);
    }
    for (int round = 0; round < 100000; round++) {
        size_t done = 0;
        for (int k = 0; k < 8; k++) {
            struct stream *st = k < 4 ? sa[k] : sb[k - 4], *to = k < 4 ? sb[k] : sa[k - 4];
            if (sent[k] < total && link_room(stream_link(st)) > 0) {
                size_t n = total - sent[k] < 5000 ? total - sent[k] : 5000;
                half_send(st, n);
                sent[k] += n;
            }
            if (round % 3 == 0)
                got[k] += half_read(to, 20000, NULL);
            done += got[k] == total;
        }
        half_carry(a, b, 2);
        half_carry(b, a, 2);
        half_pass_us(&w, 1000);
        carrier_tick(&a->c);
        carrier_tick(&b->c);
        worker_turn(&w);
        if (done == 8)
            break;
    }
    for (int k = 0; k < 8; k++)
        assert_int_equal(got[k], total);
    assert_true(a->s.stats.budget_dropped + b->s.stats.budget_dropped > 0); // it was tight
    half_free(a);
    half_free(b);
}

static void test_small_pieces_are_held_tight(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    half_asked(h, 1, 0);
    for (size_t i = 0; i < 20000; i++)
        say_data(h, 1, i, 1);
    assert_true(h->budget.used < 2 * 20000);
    half_free(h);
}

static void test_a_sender_may_fill_half_the_budget(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 64 * ONE_MB);
    while (link_room(stream_link(st)) > 0) {
        half_send(st, FRAME_DATA_MAX);
        hear(h);
    }
    assert_true(h->budget.used <= ONE_MB / 2 + BUF_SIZE);
    assert_true(h->budget.used > ONE_MB / 2 - 2 * BUF_SIZE);
    say_ack(h, 1, st->snd_nxt, 64 * ONE_MB);
    assert_true(link_room(stream_link(st)) > 0);
    half_free(h);
}

// --- what a peer must not do

static void refused(struct half *h, int r, const char *part)
{
    assert_int_equal(r, -1);
    if (!strstr(err_text(&h->s.err), part))
        fail_msg("\"%s\" does not say \"%s\"", err_text(&h->s.err), part);
}

static void test_unknown_frames(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    static const uint8_t bytes[FRAME_PAYLOAD_MAX];
    assert_int_equal(say_raw(h, 0x00, 0, bytes, FRAME_PAYLOAD_MAX), 0); // PAD
    assert_int_equal(say_raw(h, 0x06, 0, bytes, 13), 0);                // UDPPATH is for later
    assert_int_equal(say_raw(h, 0x16, 99, bytes, 0), 0);
    assert_int_equal(say_raw(h, 0x7f, 3, bytes, FRAME_PAYLOAD_MAX), 0);
    assert_int_equal(say_open(h, 1, OPEN_TCP, 10), 0); // still in step
    assert_int_equal(h->opens, 1);
    refused(h, say_raw(h, 0x80, 0, bytes, 10), "80");
    refused(h, say_raw(h, 0xff, 0, bytes, 0), "ff");
    half_free(h);
}

static void test_frames_too_long_or_short(void **state)
{
    static const uint8_t types[] = {FRAME_PING, FRAME_GOAWAY, FRAME_OPEN, FRAME_OPENED, FRAME_ACK, FRAME_FIN, FRAME_RESET, FRAME_REWIND};
    static const uint8_t bytes[32768];
    for (size_t i = 0; i < COUNT(types); i++) {
        struct half *h = half_start(&w, false, ONE_MB);
        refused(h, say_raw(h, types[i], 1, bytes, FRAME_CONTROL_MAX + 1), "1025 bytes");
        half_free(h);
    }
    struct half *h = half_start(&w, false, ONE_MB);
    half_asked(h, 1, 1000);
    refused(h, say_raw(h, FRAME_DATA, 1, bytes, FRAME_PAYLOAD_MAX + 1), "16337 bytes");
    half_down(h);
    half_up(h);
    refused(h, say_raw(h, FRAME_DATA, 1, bytes, 7), "7 bytes");
    half_down(h);
    half_up(h);
    refused(h, say_raw(h, FRAME_PAD, 1, bytes, FRAME_PAYLOAD_MAX + 1), "bytes");
    half_free(h);
}

static void test_truncated_payloads_end_the_session(void **state)
{
    static const uint8_t types[] = {FRAME_PING, FRAME_PONG, FRAME_GOAWAY, FRAME_OPENED, FRAME_ACK, FRAME_FIN, FRAME_RESET, FRAME_DGRAM, FRAME_REWIND};
    static const uint8_t bytes[4];
    for (size_t i = 0; i < COUNT(types); i++) {
        struct half *h = half_start(&w, false, ONE_MB);
        say_open(h, 1, OPEN_UDP, 0);
        refused(h, say_raw(h, types[i], 1, bytes, 4), "malformed");
        half_free(h);
    }
    struct half *h = half_start(&w, false, ONE_MB);
    refused(h, say_raw(h, FRAME_OPEN, 1, bytes, 4), "malformed OPEN");
    half_free(h);
}

static void test_ids_misused(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    refused(h, say_open(h, 2, OPEN_TCP, 10), "not the peer's");
    refused(h, say_data(h, 2, 0, 10), "never used");
    refused(h, say_fin(h, 4, 0), "never used");
    refused(h, say_open(h, 0, OPEN_TCP, 10), "stream 0");
    half_down(h);
    half_up(h);
    refused(h, say_data(h, 0, 0, 10), "stream 0");
    half_open(h, OPEN_TCP);
    half_down(h);
    half_up(h);
    refused(h, say_open(h, 2, OPEN_TCP, 10), "id of ours");
    half_asked(h, 1, 10);
    refused(h, say_opened(h, 1, 0, 10), "the peer opened");
    refused(h, say_raw(h, FRAME_HELLO, 0, NULL, 42), "second HELLO");
    half_free(h);
}

static void test_offsets_at_the_end_of_the_numbers(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, UINT64_MAX);
    assert_int_equal(link_room(stream_link(st)), UNSENT_MAX);
    refused(h, say_data(h, 1, UINT64_MAX, 1), "window");
    refused(h, say_data(h, 1, UINT64_MAX - 5, 100), "window");
    refused(h, say_data(h, 1, WINDOW_START, 1), "window");
    refused(h, say_fin(h, 1, UINT64_MAX), "malformed");
    refused(h, say_fin(h, 1, UINT64_MAX - 1), "malformed"); // its ACK would read "all"
    refused(h, say_reset(h, 1, 1, UINT64_MAX), "malformed");
    refused(h, say_ack(h, 1, 1, 10), "acknowledged 1 of 0");
    refused(h, say_ack(h, 1, UINT64_MAX - 1, 10), "acknowledged");
    refused(h, say_ack(h, 1, UINT64_MAX, 10), "without RESET");
    assert_int_equal(say_rewind(h, 1, 0, UINT64_MAX), 0);
    assert_int_equal(say_fin(h, 1, UINT64_MAX - 2), 0);
    refused(h, say_fin(h, 1, 5), "contradicts");
    assert_int_equal(say_data(h, 1, 0, 5), 0);
    refused(h, say_fin(h, 1, 4), "contradicts");
    half_free(h);
}

static void test_data_beyond_the_end(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    half_asked(h, 1, 10);
    assert_int_equal(say_fin(h, 1, 10), 0);
    refused(h, say_data(h, 1, 5, 6), "beyond its end");
    half_free(h);
}

static void test_streams_are_bounded(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        assert_int_equal(say_open(h, 2 * i + 1, OPEN_TCP, 0), 0);
    assert_int_equal(h->opens, STREAMS_MAX);
    hear(h);
    for (uint32_t i = STREAMS_MAX; i < 2 * STREAMS_MAX; i++) { // refused, never acknowledged
        assert_int_equal(say_open(h, 2 * i + 1, OPEN_TCP, 0), 0);
        if (i % 1024 == 0)
            hear(h);
    }
    hear(h);
    assert_int_equal(h->opens, STREAMS_MAX);
    assert_true(heard_times(h, FRAME_OPENED, 4 * STREAMS_MAX - 1) == 1);
    refused(h, say_open(h, 4 * STREAMS_MAX + 1, OPEN_TCP, 0), "too many streams");
    half_free(h);
}

static void test_own_streams_are_bounded_alike(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        assert_non_null(half_open(h, OPEN_TCP));
    assert_null(half_open(h, OPEN_TCP));
    hear(h);
    say_opened(h, 1, WHY_REFUSED, 0);
    assert_non_null(half_open(h, OPEN_TCP));
    half_free(h);
}

static void test_last_acks_go_before_a_new_open(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    half_open(h, OPEN_TCP);
    hear(h);
    say_opened(h, 1, WHY_REFUSED, 0);
    half_open(h, OPEN_TCP);
    hear(h);
    assert_true(heard_acked(h, FRAME_ACK, 1) == ACKED_ALL);
    assert_true(heard_place(h, FRAME_ACK, 1) < heard_place(h, FRAME_OPEN, 3));
    half_free(h);
}

static void test_last_acks_are_bounded(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    say_reset(h, 1, WHY_ABORTED, 0);
    for (uint32_t i = 0; i < 3 * ACKS_HELD_MAX; i++) { // a peer that asks and does not read
        assert_int_equal(say_fin(h, 1, 7), 0);
        assert_true(h->s.acks_held <= ACKS_HELD_MAX);
    }
    half_pass_us(&w, ACK_DELAY_US);
    carrier_tick(&h->c);
    struct buf *b = buf_get(&w.pool);
    while (carrier_fill(&h->c, b))
        b->len = 0;
    buf_put(b);
    say_reset(h, 3, WHY_ABORTED, 0); // those that were sent make room for a new one
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 3) == ACKED_ALL);
    half_free(h);
}

static void test_holes_in_the_ids_are_bounded(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    int r = 0;
    uint32_t i = 0;
    for (; r == 0 && i < 10000; i++)
        r = say_reset(h, 4 * i + 1, WHY_ABORTED, 0);
    assert_int_equal(r, -1);
    assert_int_equal(i, SEEN_RANGES_MAX + 1);
    half_free(h);
}

static void test_frames_in_every_cut(void **state)
{
    uint8_t out[4096];
    struct frame_open open = {.kind = OPEN_TCP, .window = 1000, .uid = {1}, .host = "h", .port = 1};
    size_t n = frame_put_open(out, 1, &open);
    n += frame_put_ping(out + n, FRAME_PING, 5, 6);
    frame_put_head(out + n, 8 + 20, FRAME_DATA, 1);
    put64(out + n + 8, 0);
    for (int i = 0; i < 20; i++)
        out[n + 16 + i] = half_byte((uint64_t)i);
    n += 36;
    frame_put_head(out + n, 30, 0x55, 1);
    memset(out + n + 8, 0xee, 30);
    n += 38;
    n += frame_put_fin(out + n, 1, 20);
    for (size_t cut = 1; cut < n; cut++) {
        struct half *h = half_start(&w, false, ONE_MB);
        for (size_t at = 0; at < n; at += cut)
            assert_int_equal(say(h, out + at, n - at < cut ? n - at : cut), 0);
        enum link_status end;
        stream_accept(h->asked, NULL);
        assert_int_equal(half_read(h->asked, 100, &end), 20);
        assert_int_equal(end, LINK_END);
        hear(h);
        assert_non_null(heard(h, FRAME_PONG, 0));
        half_free(h);
    }
}

// --- sessions and carriers

static void test_another_birth_ends_all_and_ids_begin_anew(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 1000);
    struct err why = ERR_INIT;
    half_send(st, 100);
    say_data(h, 1, 0, 100);
    err_set(&why, ERR_UNREACHED, WHY_LOST, "the relay lost its state");
    session_end_streams(&h->s, &why);
    err_fini(&why);
    struct buf *b;
    assert_int_equal(link_recv(stream_link(st), &b), LINK_OK); // what was there is still read
    buf_put(b);
    assert_int_equal(link_recv(stream_link(st), &b), LINK_FAILED);
    assert_string_equal(err_text(&stream_link(st)->err), "the relay lost its state");
    assert_null(stream_session(st));
    half_close(h, st);
    assert_int_equal(stream_id(half_open(h, OPEN_TCP)), 1);
    half_free(h);
}

// All was said both ways and acknowledged; what its owner has not read yet outlives the session.
static void test_a_finished_stream_outlives_its_session(void **state)
{
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 100000);
    enum link_status end;
    say_data(h, 1, 0, 200);
    say_fin(h, 1, 200);
    link_shut(stream_link(st), SHUT_END);
    hear_late(h);
    say_ack(h, 1, 1, 100000);
    assert_int_equal(h->s.stream_count, 0);
    assert_true(h->budget.used > 0);
    session_end_streams(&h->s, NULL);
    assert_null(stream_session(st));
    assert_int_equal(h->budget.used, 0);
    assert_int_equal(half_read(st, 1000, &end), 200);
    assert_int_equal(end, LINK_END);
    half_free(h);
}

static void test_ids_run_out(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    h->s.next_id = 0x7ffffffd;
    assert_non_null(half_open(h, OPEN_TCP));
    assert_null(half_open(h, OPEN_TCP));
    half_free(h);
}

// The peer would end the session with all that it carries.
static void test_a_host_that_no_frame_carries(void **state)
{
    struct half *h = half_start(&w, true, ONE_MB);
    static const char *const hosts[] = {"a\n", "\x7f", "unix:/a\x1b"};
    for (size_t i = 0; i < COUNT(hosts); i++) {
        struct frame_open open = {.kind = OPEN_TCP, .port = 1};
        snprintf(open.host, sizeof(open.host), "%s", hosts[i]);
        assert_null(session_open(&h->s, &open));
    }
    assert_int_equal(hear(h), 0);
    assert_int_equal(half_open(h, OPEN_TCP)->node.key, 1);
    half_free(h);
}

#define T(name) HALF_TEST(name, &w)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_window_doubles_for_a_fast_reader), T(test_window_grows_fourfold_where_it_holds_the_sender_back),
        T(test_window_stays_for_a_slow_reader), T(test_window_grows_only_with_room_in_the_budget),
        T(test_limit_is_raised_by_quarters),
        T(test_sender_stops_at_the_limit), T(test_half_close_leaves_the_other_direction_open),
        T(test_fin_that_overtakes_data_is_held), T(test_closing_early_resets),
        T(test_goaway_stops_new_streams_both_ways), T(test_ack_delay_is_exact),
        T(test_a_chunk_is_acked_without_delay_and_once), T(test_an_ack_rides_with_data), T(test_a_refused_stream_has_taken_nothing), T(test_an_idle_agent_pings_and_gives_a_dead_carrier_up),
        T(test_bytes_heard_end_a_suspicion), T(test_an_idle_relay_leaves_pings_to_the_agent), T(test_the_first_byte_after_a_pause_carries_a_ping),
        T(test_a_ping_that_cannot_leave_condemns_too), T(test_ping_is_answered_once_with_its_opaque),
        T(test_a_probe_gets_as_many_bytes_of_nothing_back),
        T(test_a_parked_session_has_no_deadline), T(test_a_small_stream_goes_before_a_bulk_stream),
        T(test_bulk_streams_share_by_quanta), T(test_control_goes_before_data),
        T(test_two_full_budgets_never_deadlock), T(test_small_pieces_are_held_tight),
        T(test_a_sender_may_fill_half_the_budget), T(test_unknown_frames), T(test_frames_too_long_or_short),
        T(test_truncated_payloads_end_the_session), T(test_ids_misused), T(test_offsets_at_the_end_of_the_numbers),
        T(test_data_beyond_the_end), T(test_streams_are_bounded), T(test_own_streams_are_bounded_alike),
        T(test_last_acks_go_before_a_new_open), T(test_last_acks_are_bounded), T(test_holes_in_the_ids_are_bounded), T(test_frames_in_every_cut),
        T(test_another_birth_ends_all_and_ids_begin_anew), T(test_a_finished_stream_outlives_its_session),
        T(test_ids_run_out), T(test_a_host_that_no_frame_carries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
