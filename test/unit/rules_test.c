// SPDX-License-Identifier: Apache-2.0
// The numbered rules of docs/protocol.md at one end of a session: each test is named after its rule. The switch's rules are in
// switch_test.c.
#include "half.h"

static struct worker w;

// Another carrier; what it says first is heard.
static void again(struct half *h)
{
    half_down(h);
    half_up(h);
    hear(h);
}

// --- 1

static void test_rule_1_only_early_data_before_opened(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open(h, OPEN_TCP);
    assert_int_equal(link_open(stream_link(st)), LINK_AGAIN);
    assert_int_equal(link_room(stream_link(st)), WINDOW_EARLY);
    half_send(st, WINDOW_EARLY + 100); // an owner that does not ask
    assert_int_equal(link_room(stream_link(st)), 0);
    hear(h);
    assert_true(heard_place(h, FRAME_OPEN, 1) < heard_place(h, FRAME_DATA, 1));
    assert_int_equal(heard_data(h, 1), WINDOW_EARLY);
    say_opened(h, 1, 0, WINDOW_EARLY + 1000);
    hear(h);
    assert_int_equal(heard_data(h, 1), 100);
    half_free(h);
}

static void test_rule_1_reset_may_follow_open(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open(h, OPEN_TCP);
    link_shut(stream_link(st), SHUT_ABORT);
    hear(h);
    assert_true(heard_place(h, FRAME_OPEN, 1) >= 0);
    assert_true(heard_place(h, FRAME_OPEN, 1) < heard_place(h, FRAME_RESET, 1));
    assert_int_equal(get64(heard(h, FRAME_RESET, 1)->payload + 2), 0);
    half_free(h);
}

static void test_rule_1_what_comes_before_opened_is_held(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open(h, OPEN_TCP);
    struct buf *b;
    hear(h);
    say_data(h, 1, 0, 100);
    say_fin(h, 1, 100);
    half_pass_us(&w, ACK_DELAY_US);
    carrier_tick(&h->c);
    hear(h);
    for (unsigned i = 0; i < h->heard_count; i++) // an ACK may go, but of nothing
        if (h->heard[i].type == FRAME_ACK)
            assert_int_equal(get64(h->heard[i].payload), 0);
    assert_int_equal(link_recv(stream_link(st), &b), LINK_AGAIN);
    say_opened(h, 1, 0, 1000);
    hear(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 101);
    enum link_status end;
    assert_int_equal(half_read(st, 1000, &end), 100);
    assert_int_equal(end, LINK_END);
    half_free(h);
}

static void test_rule_1_opened_goes_first_until_acked(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 1000);
    half_send(st, 100);
    again(h);
    int opened = heard_place(h, FRAME_OPENED, 1);
    assert_true(opened >= 0 && opened < heard_place(h, FRAME_REWIND, 1) && opened < heard_place(h, FRAME_DATA, 1));
    say_ack(h, 1, 0, 1000); // acknowledges nothing
    again(h);
    assert_non_null(heard(h, FRAME_OPENED, 1));
    say_ack(h, 1, 1, 1000);
    again(h);
    assert_null(heard(h, FRAME_OPENED, 1));
    assert_int_equal(heard_offset(h, FRAME_DATA, 1), 1);
    half_free(h);
}

static void test_rule_1_opened_again_is_ignored(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 1000);
    assert_int_equal(say_opened(h, 1, 0, 50), 0);
    assert_int_equal(say_opened(h, 1, WHY_REFUSED, 0), 0);
    assert_int_equal(link_room(stream_link(st)), 1000);
    half_free(h);
}

static void test_rule_1_fin_never_waits_for_limit(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 10);
    half_send(st, 100);
    link_shut(stream_link(st), SHUT_END);
    hear(h);
    assert_int_equal(heard_data(h, 1), 10);
    assert_int_equal(heard_offset(h, FRAME_FIN, 1), 100);
    half_free(h);
}

// --- 2

static void test_rule_2_known_data_is_acked(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    half_asked(h, 1, 1000);
    say_data(h, 1, 0, 100);
    half_pass_us(&w, ACK_DELAY_US);
    carrier_tick(&h->c);
    hear(h);
    say_data(h, 1, 20, 80);
    hear(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 100);
    assert_int_equal(h->s.stats.known_trimmed, 80);
    half_free(h);
}

static void test_rule_2_overlap_is_trimmed_and_gap_is_dropped(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 1000);
    say_data(h, 1, 0, 100);
    say_data(h, 1, 50, 100);
    say_data(h, 1, 200, 10);
    assert_int_equal(half_read(st, 1000, NULL), 150);
    assert_int_equal(h->s.stats.gap_dropped, 10);
    say_data(h, 1, 150, 60);
    assert_int_equal(half_read(st, 1000, NULL), 60);
    half_free(h);
}

static void test_rule_2_rewind_leaves_room_for_a_frame(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    half_asked(h, 1, 1000);
    say_data(h, 1, 0, WINDOW_START); // nobody reads
    again(h);
    assert_int_equal(heard_acked(h, FRAME_REWIND, 1), WINDOW_START);
    assert_int_equal(heard_limit(h, FRAME_REWIND, 1), WINDOW_START + FRAME_DATA_MAX);
    assert_int_equal(say_data(h, 1, WINDOW_START, FRAME_DATA_MAX), 0);
    half_free(h);
}

static void test_rule_2_old_rewind_leaves_limit_alone(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 1000);
    half_send(st, 200);
    hear(h);
    say_ack(h, 1, 100, 1000);
    say_rewind(h, 1, 50, 7);
    hear(h);
    assert_int_equal(heard_offset(h, FRAME_DATA, 1), 100);
    assert_int_equal(heard_data(h, 1), 100);
    assert_int_equal(link_room(stream_link(st)), 800);
    half_free(h);
}

static void test_rule_2_rewind_replaces_limit_by_a_lower_one(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open_to(h, 1000);
    half_send(st, 200);
    hear(h);
    say_rewind(h, 1, 100, 150);
    hear(h);
    assert_int_equal(heard_offset(h, FRAME_DATA, 1), 100);
    assert_int_equal(heard_data(h, 1), 50);
    assert_int_equal(link_room(stream_link(st)), 0);
    say_ack(h, 1, 100, 140); // only ever rises in ACK
    say_ack(h, 1, 100, 1000);
    hear(h);
    assert_int_equal(heard_data(h, 1), 50);
    half_free(h);
}

static void test_rule_2_rewind_repeats_an_unanswered_open(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    half_open(h, OPEN_TCP);
    hear(h);
    say_rewind(h, 1, 0, 0);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_OPEN, 1), 1);
    half_free(h);
}

// --- 4

static void test_rule_4_reset_held_until_final(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 1000);
    enum link_status end;
    say_data(h, 1, 0, 50);
    say_reset(h, 1, WHY_ABORTED, 100);
    hear(h);
    assert_null(heard(h, FRAME_ACK, 1));
    assert_int_equal(half_read(st, 1000, &end), 50);
    assert_int_equal(end, LINK_AGAIN);
    say_data(h, 1, 50, 50);
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 1) == ACKED_ALL);
    assert_int_equal(half_read(st, 1000, &end), 50);
    assert_int_equal(end, LINK_FAILED);
    assert_int_equal(stream_link(st)->err.why, WHY_ABORTED);
    half_free(h);
}

static void test_rule_4_reset_at_once_has_final_0(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 1000), *other = half_asked(h, 3, 1000);
    enum link_status end;
    say_data(h, 1, 0, 50);
    say_reset(h, 1, WHY_POLICY, 0);
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 1) == ACKED_ALL);
    assert_int_equal(half_read(st, 1000, &end), 0); // what was not read is thrown away
    assert_int_equal(end, LINK_FAILED);
    half_send(other, 50);
    stream_reset(other, WHY_LIMIT);
    hear_late(h);
    assert_int_equal(get64(heard(h, FRAME_RESET, 3)->payload + 2), 0);
    assert_int_equal(heard_data(h, 3), 0);
    half_free(h);
}

static void test_rule_4_own_abort_travels_behind_the_data(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 40);
    half_send(st, 100);
    link_shut(stream_link(st), SHUT_ABORT);
    hear(h);
    assert_int_equal(get64(heard(h, FRAME_RESET, 1)->payload + 2), 100);
    assert_int_equal(heard_data(h, 1), 40);
    say_ack(h, 1, 40, 1000);
    hear(h);
    assert_int_equal(heard_data(h, 1), 60);
    say_ack(h, 1, ACKED_ALL, 0);
    assert_int_equal(h->s.stream_count, 0);
    half_free(h);
}

static void test_rule_4_reset_end_discards_and_goes_on_acking(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 10);
    half_send(st, 100); // RESET waits for data that wait for the window
    link_shut(stream_link(st), SHUT_ABORT);
    hear_late(h);
    say_data(h, 1, 0, WINDOW_START);
    hear_late(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), WINDOW_START);
    assert_int_equal(heard_limit(h, FRAME_ACK, 1), 2 * WINDOW_START);
    assert_true(h->budget.used < 1000); // its own 100 bytes
    say_reset(h, 1, WHY_ABORTED, UINT64_C(1) << 40); // obeyed at once, whatever its final
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 1) == ACKED_ALL);
    assert_int_equal(h->s.stream_count, 0);
    half_free(h);
}

static void test_rule_4_reset_of_an_unseen_id_marks_it_seen(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    say_reset(h, 5, WHY_ABORTED, 0);
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 5) == ACKED_ALL);
    assert_int_equal(say_open(h, 5, OPEN_TCP, 10), 0);
    assert_int_equal(h->opens, 0);
    assert_int_equal(say_open(h, 3, OPEN_TCP, 10), 0);
    assert_int_equal(h->opens, 1);
    half_free(h);
}

// --- 5

static void test_rule_5_refusal_is_repeated_until_all_acked(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    say_open(h, 1, OPEN_TCP, 1000);
    stream_refuse(h->asked, WHY_DNS, "no such name");
    half_close(h, h->asked);
    hear(h);
    struct frame_opened f;
    assert_int_equal(frame_get_opened(&f, heard(h, FRAME_OPENED, 1)->payload, heard(h, FRAME_OPENED, 1)->len), 0);
    assert_int_equal(f.code, WHY_DNS);
    assert_string_equal(f.text, "no such name");
    again(h);
    assert_int_equal(heard_times(h, FRAME_OPENED, 1), 1);
    say_open(h, 1, OPEN_TCP, 1000); // a repeated OPEN of a live stream gets the same
    hear(h);
    assert_int_equal(heard_times(h, FRAME_OPENED, 1), 1);
    say_ack(h, 1, ACKED_ALL, 0);
    assert_int_equal(h->s.stream_count, 0);
    again(h);
    assert_null(heard(h, FRAME_OPENED, 1));
    half_free(h);
}

static void test_rule_5_asker_acks_all_and_again_when_freed(void **state)
{
    (void)state;
    struct half *h = half_start(&w, true, ONE_MB);
    struct stream *st = half_open(h, OPEN_TCP);
    hear_late(h);
    say_opened(h, 1, WHY_POLICY, 0);
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 1) == ACKED_ALL);
    assert_int_equal(h->s.stream_count, 0);
    assert_int_equal(link_open(stream_link(st)), LINK_FAILED);
    assert_int_equal(stream_link(st)->err.kind, ERR_POLICY);
    say_opened(h, 1, WHY_POLICY, 0);
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 1) == ACKED_ALL);
    half_close(h, st);
    half_free(h);
}

// --- 6

// Opens and ends a stream, so that its last ACK is out.
static void end_one(struct half *h, uint32_t id)
{
    struct stream *st = half_asked(h, id, 1000);
    enum link_status end;
    say_fin(h, id, 0);
    half_read(st, 1, &end);
    link_shut(stream_link(st), SHUT_END);
    hear_late(h);
    say_ack(h, id, 1, 1000);
    half_close(h, st);
    hear_late(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, id), 1);
    assert_int_equal(h->s.stream_count, 0);
}

static void say_pong(struct half *h, const struct heard *ping) { say_raw(h, FRAME_PONG, 0, ping->payload, 12); }

static void test_rule_6_last_ack_goes_again_on_the_next_carrier(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    end_one(h, 1);
    again(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 1);
    again(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 1);
    half_free(h);
}

static void test_rule_6_pong_to_an_earlier_ping_keeps_it(void **state)
{
    (void)state;
    struct half *h = half_new(&w, false, ONE_MB);
    half_up(h);
    hear_late(h); // PING of a new carrier, before the stream
    struct heard ping = *heard(h, FRAME_PING, 0);
    end_one(h, 1);
    say_pong(h, &ping);
    again(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 1);
    half_free(h);
}

static void test_rule_6_pong_to_a_later_ping_frees_it(void **state)
{
    (void)state;
    struct half *h = half_new(&w, false, ONE_MB);
    half_up(h);
    hear_late(h);
    say_pong(h, heard(h, FRAME_PING, 0));
    end_one(h, 1);
    assert_int_equal(h->s.acks_held, 1);
    carrier_ask_ping(&h->c);
    hear_late(h);
    say_pong(h, heard(h, FRAME_PING, 0));
    assert_int_equal(h->s.acks_held, 0);
    again(h);
    assert_null(heard(h, FRAME_ACK, 1));
    half_free(h);
}

static void test_rule_6_many_held_acks_ask_for_a_pong(void **state)
{
    (void)state;
    struct half *h = half_new(&w, false, ONE_MB);
    half_up(h);
    hear_late(h);
    say_pong(h, heard(h, FRAME_PING, 0));
    for (uint32_t id = 1; id < 2 * 600; id += 2)
        say_reset(h, id, WHY_ABORTED, 0);
    assert_int_equal(h->s.acks_held, 600);
    hear_late(h);
    assert_int_equal(heard_times(h, FRAME_PING, 0), 1); // though nothing was silent
    struct heard ping = *heard(h, FRAME_PING, 0);
    say_pong(h, &ping);
    assert_int_equal(h->s.acks_held, 0);
    half_free(h);
}

// --- 8

static void test_rule_8_dropped_data_raise_no_limit_before_rewind(void **state)
{
    (void)state;
    struct half *h = half_new(&w, false, 5 * BUF_SIZE);
    half_up(h);
    hear(h);
    struct stream *full = half_asked(h, 1, 1000), *starved = half_asked(h, 3, 1000);
    say_data(h, 1, 0, 5 * FRAME_DATA_MAX);
    say_data(h, 3, 0, 1000);
    assert_int_equal(h->s.stats.budget_dropped, 1000);
    say_data(h, 3, 0, 10); // before REWIND all is dropped
    half_pass_us(&w, ACK_DELAY_US);
    carrier_tick(&h->c);
    hear(h);
    assert_null(heard(h, FRAME_REWIND, 3));
    uint64_t limit = starved->limit_told;
    stream_due(starved, DUE_ACK);
    starved->rcv_read += 1000; // as if it could promise more
    hear(h);
    assert_int_equal(heard_limit(h, FRAME_ACK, 3), limit);
    starved->rcv_read -= 1000;
    half_read(full, FRAME_DATA_MAX, NULL); // room, though the starved one's own queue is empty
    hear(h);
    assert_int_equal(heard_acked(h, FRAME_REWIND, 3), 0);
    say_data(h, 3, 0, 1000);
    assert_int_equal(half_read(starved, 5000, NULL), 1000);
    half_free(h);
}

static void test_rule_8_without_a_carrier_rewind_goes_with_the_next(void **state)
{
    (void)state;
    struct half *h = half_new(&w, false, 5 * BUF_SIZE);
    half_up(h);
    hear(h);
    struct stream *full = half_asked(h, 1, 1000);
    half_asked(h, 3, 1000);
    say_data(h, 1, 0, 5 * FRAME_DATA_MAX);
    say_data(h, 3, 0, 1000);
    half_down(h);
    half_read(full, 3 * FRAME_DATA_MAX, NULL);
    half_up(h);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_REWIND, 3), 1);
    assert_int_equal(say_data(h, 3, 0, 1000), 0);
    assert_int_equal(h->s.stats.budget_dropped, 1000);
    half_free(h);
}

static void test_rule_8_an_abort_needs_no_room(void **state)
{
    (void)state;
    struct half *h = half_new(&w, false, 5 * BUF_SIZE);
    half_up(h);
    hear(h);
    half_asked(h, 1, 1000);
    struct stream *starved = half_asked(h, 3, 0);
    say_data(h, 1, 0, 5 * FRAME_DATA_MAX);
    say_data(h, 3, 0, 1000);
    link_shut(stream_link(starved), SHUT_ABORT);
    hear(h);
    assert_int_equal(heard_times(h, FRAME_REWIND, 3), 1);
    say_data(h, 3, 0, 1000);
    half_pass_us(&w, ACK_DELAY_US);
    carrier_tick(&h->c);
    hear(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 3), 1000);
    half_free(h);
}

// --- 12, at an end

static void test_rule_12_a_freed_stream_acks_its_end_again(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    end_one(h, 1);
    say_fin(h, 1, 0);
    hear_late(h);
    assert_int_equal(heard_acked(h, FRAME_ACK, 1), 1);
    say_reset(h, 1, WHY_ABORTED, 0);
    hear_late(h);
    assert_true(heard_acked(h, FRAME_ACK, 1) == ACKED_ALL);
    assert_int_equal(say_data(h, 1, 0, 10), 0); // all else is ignored
    assert_int_equal(say_open(h, 1, OPEN_TCP, 10), 0);
    assert_int_equal(say_ack(h, 1, 1, 1), 0);
    hear_late(h);
    assert_int_equal(h->heard_count, 0);
    half_free(h);
}

static void test_rule_12_freed_only_when_both_ends_are_acked(void **state)
{
    (void)state;
    struct half *h = half_start(&w, false, ONE_MB);
    struct stream *st = half_asked(h, 1, 1000);
    half_send(st, 10);
    link_shut(stream_link(st), SHUT_END);
    say_fin(h, 1, 0);
    hear(h);
    say_ack(h, 1, 10, 1000); // all bytes, not the FIN
    assert_int_equal(h->s.stream_count, 1);
    say_ack(h, 1, 11, 1000);
    assert_int_equal(h->s.stream_count, 0);
    half_free(h);
}

#define T(name) HALF_TEST(name, &w)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_rule_1_only_early_data_before_opened), T(test_rule_1_reset_may_follow_open),
        T(test_rule_1_what_comes_before_opened_is_held), T(test_rule_1_opened_goes_first_until_acked),
        T(test_rule_1_opened_again_is_ignored), T(test_rule_1_fin_never_waits_for_limit),
        T(test_rule_2_known_data_is_acked), T(test_rule_2_overlap_is_trimmed_and_gap_is_dropped),
        T(test_rule_2_rewind_leaves_room_for_a_frame), T(test_rule_2_old_rewind_leaves_limit_alone),
        T(test_rule_2_rewind_replaces_limit_by_a_lower_one), T(test_rule_2_rewind_repeats_an_unanswered_open),
        T(test_rule_4_reset_held_until_final), T(test_rule_4_reset_at_once_has_final_0),
        T(test_rule_4_own_abort_travels_behind_the_data), T(test_rule_4_reset_end_discards_and_goes_on_acking),
        T(test_rule_4_reset_of_an_unseen_id_marks_it_seen),
        T(test_rule_5_refusal_is_repeated_until_all_acked), T(test_rule_5_asker_acks_all_and_again_when_freed),
        T(test_rule_6_last_ack_goes_again_on_the_next_carrier), T(test_rule_6_pong_to_an_earlier_ping_keeps_it),
        T(test_rule_6_pong_to_a_later_ping_frees_it), T(test_rule_6_many_held_acks_ask_for_a_pong),
        T(test_rule_8_dropped_data_raise_no_limit_before_rewind),
        T(test_rule_8_without_a_carrier_rewind_goes_with_the_next), T(test_rule_8_an_abort_needs_no_room),
        T(test_rule_12_a_freed_stream_acks_its_end_again), T(test_rule_12_freed_only_when_both_ends_are_acked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
