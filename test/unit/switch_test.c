// SPDX-License-Identifier: Apache-2.0
// The frame switch in the middle of two agents: the test is both of them. Rules 7, 8 and 12 of docs/protocol.md.
#include "half.h"
#include <stdlib.h>

struct pair {
    struct half *a, *b; // the relay's sessions; agent A opens 1, the relay passes it on as 2
};

static struct worker w;

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof *p);
    memset(&w, 0, sizeof w);
    worker_init_bare(&w);
    p->a = half_new(&w, false, ONE_MB);
    p->b = half_new(&w, false, ONE_MB);
    p->a->switch_to = p->b;
    p->b->switch_to = p->a;
    half_up(p->a);
    half_up(p->b);
    hear(p->a);
    hear(p->b);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;
    half_free(p->a);
    half_free(p->b);
    assert_int_equal(w.pool.out_bytes, 0);
    worker_fini(&w);
    free(p);
    return 0;
}

static void hear_both(struct pair *p)
{
    hear_late(p->a);
    hear_late(p->b);
}

// 1 of A joined with 2 of B, answered, both with this window.
static void join(struct pair *p, uint64_t window)
{
    assert_int_equal(say_open(p->a, 1, OPEN_TCP, window), 0);
    hear(p->b);
    assert_non_null(heard(p->b, FRAME_OPEN, 2));
    assert_int_equal(say_opened(p->b, 2, 0, window), 0);
    hear(p->a);
    assert_non_null(heard(p->a, FRAME_OPENED, 1));
    hear(p->b);
}

static void test_open_and_opened_pass_with_clamped_windows(void **state)
{
    struct pair *p = *state;
    struct frame_open open;
    struct frame_opened opened;
    say_open(p->a, 1, OPEN_TCP, UINT64_MAX);
    hear(p->b);
    const struct heard *x = heard(p->b, FRAME_OPEN, 2);
    assert_int_equal(frame_get_open(&open, x->payload, x->len), 0);
    assert_int_equal(open.window, SWITCH_SHARE);
    assert_memory_equal(open.uid, p->a->open.uid, 16);
    say_opened(p->b, 2, 0, UINT64_MAX);
    hear(p->a);
    x = heard(p->a, FRAME_OPENED, 1);
    assert_int_equal(frame_get_opened(&opened, x->payload, x->len), 0);
    assert_int_equal(opened.window, SWITCH_SHARE);
}

static void test_data_and_acks_pass(void **state)
{
    struct pair *p = *state;
    join(p, 100000);
    say_data(p->a, 1, 0, 40000);
    hear_both(p);
    assert_int_equal(heard_data(p->b, 2), 40000);
    assert_null(heard(p->a, FRAME_ACK, 1)); // nothing is acknowledged by the switch itself
    assert_int_equal(p->a->budget.used, 0); // and nothing kept
    say_ack(p->b, 2, 30000, 130000);
    hear_both(p);
    assert_int_equal(heard_acked(p->a, FRAME_ACK, 1), 30000);
    assert_int_equal(heard_limit(p->a, FRAME_ACK, 1), 130000);
}

static void test_rule_7_limit_is_clamped_and_raised_by_the_switch(void **state)
{
    struct pair *p = *state;
    join(p, UINT64_MAX);
    p->a->budget.max = p->b->budget.max = 64 * ONE_MB;
    say_data(p->a, 1, 0, SWITCH_SHARE); // all it may send, and the leg to B takes it
    hear(p->b);
    assert_int_equal(heard_data(p->b, 2), SWITCH_SHARE);
    hear(p->a);
    uint64_t limit = heard_limit(p->a, FRAME_ACK, 1);
    assert_true(limit > SWITCH_SHARE && limit <= 2 * SWITCH_SHARE);
    assert_int_equal(heard_acked(p->a, FRAME_ACK, 1), 0);
    assert_int_equal(say_data(p->a, 1, 2 * SWITCH_SHARE, 1), -1); // beyond what it was told
}

static void test_rule_7_a_leg_that_is_back_rewinds_both_ends(void **state)
{
    struct pair *p = *state;
    join(p, 100000);
    say_data(p->a, 1, 0, 5000);
    say_data(p->b, 2, 0, 300);
    hear_both(p);
    say_ack(p->b, 2, 2000, 102000);
    hear_both(p);
    half_down(p->b);
    say_data(p->a, 1, 5000, 1000); // queued for nobody
    half_up(p->b);
    hear_both(p);
    assert_int_equal(heard_acked(p->a, FRAME_REWIND, 1), 2000);  // the far end's
    assert_int_equal(heard_limit(p->a, FRAME_REWIND, 1), 102000);
    assert_int_equal(heard_acked(p->b, FRAME_REWIND, 2), 0); // A never spoke
}

static void test_rule_7_the_queue_of_a_lost_leg_is_thrown_away(void **state)
{
    struct pair *p = *state;
    join(p, 100000);
    half_down(p->b);
    say_data(p->a, 1, 0, 5000);
    assert_true(p->a->budget.used > 0);
    half_up(p->b);
    half_down(p->b);
    assert_int_equal(p->a->budget.used, 0);
    half_up(p->b);
    hear_both(p);
    assert_int_equal(heard_data(p->b, 2), 0);
    assert_int_equal(heard_acked(p->a, FRAME_REWIND, 1), 0);
    say_data(p->a, 1, 0, 5000); // as asked
    hear_both(p);
    assert_int_equal(heard_data(p->b, 2), 5000);
}

static void test_rule_7_a_rewind_that_passes_sets_the_next_offset_back(void **state)
{
    struct pair *p = *state;
    join(p, 100000);
    say_data(p->a, 1, 0, 5000);
    hear_both(p);
    say_rewind(p->b, 2, 1000, 50000);
    hear_both(p);
    assert_int_equal(heard_acked(p->a, FRAME_REWIND, 1), 1000);
    assert_int_equal(heard_limit(p->a, FRAME_REWIND, 1), 50000);
    say_data(p->a, 1, 1500, 100); // a gap
    hear_both(p);
    assert_int_equal(heard_data(p->b, 2), 0);
    say_data(p->a, 1, 1000, 4000);
    hear_both(p);
    assert_int_equal(heard_offset(p->b, FRAME_DATA, 2), 1000);
    assert_int_equal(heard_data(p->b, 2), 4000);
}

static void test_rule_7_known_data_is_answered_with_the_far_ends_ack(void **state)
{
    struct pair *p = *state;
    join(p, 100000);
    say_data(p->a, 1, 0, 5000);
    hear_both(p);
    say_ack(p->b, 2, 3000, 100000);
    hear_both(p);
    say_data(p->a, 1, 0, 4000);
    hear_both(p);
    assert_int_equal(heard_acked(p->a, FRAME_ACK, 1), 3000);
    assert_int_equal(heard_data(p->b, 2), 0);
}

static void test_rule_8_the_switch_drops_and_rewinds_to_the_far_ends_ack(void **state)
{
    struct pair *p = *state;
    p->a->budget.max = 6 * BUF_SIZE;
    join(p, 200000);
    say_data(p->a, 1, 0, 1000);
    hear_both(p);
    say_ack(p->b, 2, 600, 200000);
    hear_both(p);
    half_down(p->b); // so that it queues
    say_data(p->a, 1, 600, 7 * FRAME_DATA_MAX);
    assert_true(p->a->s.stats.budget_dropped > 0);
    hear(p->a);
    assert_null(heard(p->a, FRAME_REWIND, 1));
    half_up(p->b); // the queue is thrown away only with a carrier; this one was parked
    hear(p->b);
    hear(p->a);
    assert_int_equal(heard_acked(p->a, FRAME_REWIND, 1), 600);
}

static void test_rule_12_freed_when_both_finals_are_acked(void **state)
{
    struct pair *p = *state;
    join(p, 1000);
    say_data(p->a, 1, 0, 10);
    say_fin(p->a, 1, 10);
    say_fin(p->b, 2, 0);
    hear_both(p);
    assert_int_equal(heard_offset(p->b, FRAME_FIN, 2), 10);
    assert_int_equal(heard_offset(p->a, FRAME_FIN, 1), 0);
    say_ack(p->b, 2, 11, 1000);
    assert_int_equal(p->a->s.stream_count, 1);
    say_ack(p->a, 1, 1, 1000);
    assert_int_equal(p->a->s.stream_count + p->b->s.stream_count, 0);
    hear_both(p);
    assert_int_equal(heard_acked(p->a, FRAME_ACK, 1), 11);
    assert_int_equal(heard_acked(p->b, FRAME_ACK, 2), 1);
    say_fin(p->a, 1, 10); // from now on it answers by itself
    hear_both(p);
    assert_int_equal(heard_acked(p->a, FRAME_ACK, 1), 11);
    assert_int_equal(p->b->heard_count, 0);
}

static void test_rule_12_freed_when_a_reset_is_acked(void **state)
{
    struct pair *p = *state;
    join(p, 1000);
    say_reset(p->a, 1, WHY_ABORTED, 0);
    hear_both(p);
    assert_non_null(heard(p->b, FRAME_RESET, 2));
    say_ack(p->b, 2, ACKED_ALL, 0);
    hear_both(p);
    assert_true(heard_acked(p->a, FRAME_ACK, 1) == ACKED_ALL);
    assert_int_equal(p->a->s.stream_count + p->b->s.stream_count, 0);
    say_reset(p->a, 1, WHY_ABORTED, 0);
    hear_late(p->a);
    assert_true(heard_acked(p->a, FRAME_ACK, 1) == ACKED_ALL);
}

// a asks, b refuses, and a hears it.
static void refuse(struct pair *p)
{
    say_open(p->a, 1, OPEN_TCP, 1000);
    hear_late(p->b);
    say_opened(p->b, 2, WHY_REFUSED, 0);
    hear_both(p);
}

static void test_rule_12_a_refusal_passes_and_is_freed(void **state)
{
    struct pair *p = *state;
    refuse(p);
    struct frame_opened f;
    assert_int_equal(frame_get_opened(&f, heard(p->a, FRAME_OPENED, 1)->payload, heard(p->a, FRAME_OPENED, 1)->len), 0);
    assert_int_equal(f.code, WHY_REFUSED);
    say_ack(p->a, 1, ACKED_ALL, 0);
    hear_both(p);
    assert_true(heard_acked(p->b, FRAME_ACK, 2) == ACKED_ALL);
    assert_int_equal(p->a->s.stream_count + p->b->s.stream_count, 0);
}

// Also when the session that it was passed on to is gone: else the relay waits for the opener, and the opener for the relay.
static void test_a_reset_that_crosses_a_refusal_is_answered(void **state)
{
    struct pair *p = *state;
    refuse(p);
    say_reset(p->a, 1, WHY_MOVED, 0);
    session_end_streams(&p->b->s, NULL);
    hear_late(p->a);
    assert_true(heard_acked(p->a, FRAME_ACK, 1) == ACKED_ALL);
    assert_int_equal(p->a->s.stream_count, 0);
}

static void test_an_end_whose_twin_is_gone_is_reset(void **state)
{
    struct pair *p = *state;
    join(p, 1000);
    session_end_streams(&p->b->s, NULL);
    hear(p->a);
    const struct heard *x = heard(p->a, FRAME_RESET, 1);
    assert_non_null(x);
    assert_int_equal(x->payload[1], WHY_LOST);
    say_ack(p->a, 1, ACKED_ALL, 0);
    assert_int_equal(p->a->s.stream_count, 0);
}

static void test_a_stream_switched_within_one_session(void **state)
{
    struct pair *p = *state;
    p->a->switch_to = p->a; // an agent that asks for its own service
    say_open(p->a, 1, OPEN_TCP, 1000);
    hear(p->a);
    assert_non_null(heard(p->a, FRAME_OPEN, 2));
    say_opened(p->a, 2, 0, 1000);
    say_data(p->a, 1, 0, 100);
    hear(p->a);
    assert_int_equal(heard_data(p->a, 2), 100);
}

// What one agent says must never end the other's session.

static void test_fin_below_what_was_passed_on_ends_only_its_own_session(void **state)
{
    struct pair *p = *state;
    join(p, 100000);
    say_data(p->a, 1, 0, 1000);
    hear_both(p); // B has 1000, and acknowledges none of it yet
    say_rewind(p->b, 2, 0, 100000);
    hear_both(p);
    assert_int_equal(say_fin(p->a, 1, 600), -1);
}

static void test_contradictions_end_only_their_own_session(void **state)
{
    struct pair *p = *state;
    join(p, 1000);
    say_data(p->a, 1, 0, 100);
    hear_both(p);
    assert_int_equal(say_fin(p->a, 1, 50), -1);
    assert_int_equal(say_fin(p->a, 1, UINT64_MAX - 1), -1);
    assert_int_equal(say_fin(p->a, 1, 200), 0);
    assert_int_equal(say_fin(p->a, 1, 201), -1);
    assert_int_equal(say_data(p->a, 1, 150, 51), -1);
    assert_int_equal(say_data(p->a, 1, UINT64_MAX - 3, 10), -1);
    assert_int_equal(say_ack(p->a, 1, 1, 1000), -1); // B sent nothing
    assert_int_equal(say_ack(p->a, 1, ACKED_ALL, 0), -1);
    assert_int_equal(say_opened(p->a, 1, 0, 10), -1);
    hear(p->b);
    assert_int_equal(heard_offset(p->b, FRAME_FIN, 2), 200);
    assert_false(err_is(&p->b->s.err));
}

static void test_datagrams_pass_with_their_age_and_seq(void **state)
{
    struct pair *p = *state;
    struct frame_dgram f = {.seq = 77, .age_ms = 5, .ttl_ms = 100, .parts = 1, .data = (const uint8_t *)"abc", .len = 3};
    say_open(p->a, 1, OPEN_UDP, 0);
    hear(p->b);
    say_dgram(p->a, 1, &f);
    half_pass_us(&w, 20000);
    hear(p->b);
    const struct heard *x = heard(p->b, FRAME_DGRAM, 2);
    struct frame_dgram g;
    assert_non_null(x);
    assert_int_equal(frame_get_dgram(&g, x->payload, x->len), 0);
    assert_int_equal(g.seq, 77);
    assert_int_equal(g.age_ms, 25);
    f.age_ms = 90;
    say_dgram(p->a, 1, &f);
    half_pass_us(&w, 11000);
    hear(p->b);
    assert_null(heard(p->b, FRAME_DGRAM, 2));
    assert_int_equal(p->b->s.stats.dgrams_dropped_stale, 1);
}

static void test_the_largest_part_passes(void **state)
{
    struct pair *p = *state;
    static const uint8_t data[FRAME_PART_MAX];
    struct frame_dgram f = {.ttl_ms = 100, .parts = 2, .data = data, .len = FRAME_PART_MAX};
    say_open(p->a, 1, OPEN_UDP, 0);
    hear(p->b);
    assert_int_equal(say_dgram(p->a, 1, &f), 0);
    hear(p->b);
    assert_int_equal(heard(p->b, FRAME_DGRAM, 2)->len, FRAME_PAYLOAD_MAX);
}

static struct stream_info info_of(struct half *h, uint32_t id)
{
    struct stream_info info;
    stream_get_info(session_find(&h->s, id), &info);
    return info;
}

static void test_what_passes_is_told_of_both_halves(void **state)
{
    struct pair *p = *state;
    join(p, 100000);
    say_data(p->a, 1, 0, 40000);
    say_data(p->b, 2, 0, 300);
    hear_both(p);
    assert_int_equal(info_of(p->a, 1).bytes_in, 40000);
    assert_int_equal(info_of(p->a, 1).bytes_out, 300);
    assert_int_equal(info_of(p->b, 2).bytes_in, 300);
    assert_int_equal(info_of(p->b, 2).bytes_out, 40000);
}

static void test_datagrams_that_pass_are_told_of_both_halves(void **state)
{
    struct pair *p = *state;
    struct frame_dgram f = {.ttl_ms = 100, .parts = 2, .data = (const uint8_t *)"abc", .len = 3};
    say_open(p->a, 1, OPEN_UDP, 0);
    hear(p->b);
    say_dgram(p->a, 1, &f);
    f.part = 1;
    say_dgram(p->a, 1, &f);
    f.age_ms = 101; // too late
    say_dgram(p->a, 1, &f);
    struct stream_info in = info_of(p->a, 1), out = info_of(p->b, 2);
    assert_true(in.datagram && in.speaks && !out.speaks);
    assert_int_equal(in.packets_in, 1);
    assert_int_equal(in.bytes_in, 6);
    assert_int_equal(in.packets_out + in.bytes_out, 0);
    assert_int_equal(out.packets_out, 1);
    assert_int_equal(out.bytes_out, 6);
    assert_int_equal(p->a->s.stats.bytes_in, 6);
    assert_int_equal(p->b->s.stats.bytes_out, 6);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_open_and_opened_pass_with_clamped_windows), T(test_data_and_acks_pass),
        T(test_rule_7_limit_is_clamped_and_raised_by_the_switch), T(test_rule_7_a_leg_that_is_back_rewinds_both_ends),
        T(test_rule_7_the_queue_of_a_lost_leg_is_thrown_away),
        T(test_rule_7_a_rewind_that_passes_sets_the_next_offset_back),
        T(test_rule_7_known_data_is_answered_with_the_far_ends_ack),
        T(test_rule_8_the_switch_drops_and_rewinds_to_the_far_ends_ack),
        T(test_rule_12_freed_when_both_finals_are_acked), T(test_rule_12_freed_when_a_reset_is_acked),
        T(test_rule_12_a_refusal_passes_and_is_freed), T(test_a_reset_that_crosses_a_refusal_is_answered), T(test_an_end_whose_twin_is_gone_is_reset),
        T(test_a_stream_switched_within_one_session),
        T(test_fin_below_what_was_passed_on_ends_only_its_own_session),
        T(test_contradictions_end_only_their_own_session),
        T(test_datagrams_pass_with_their_age_and_seq), T(test_the_largest_part_passes),
        T(test_what_passes_is_told_of_both_halves), T(test_datagrams_that_pass_are_told_of_both_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
