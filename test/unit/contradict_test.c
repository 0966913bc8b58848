// SPDX-License-Identifier: Apache-2.0
// What one agent says must never end the other's session: lies about where a shared stream stands. First the relay between them, where
// the test is both agents and A lies; then an agent whose peer lies by a relay that has not seen what both know.
#include "half.h"
#include <stdlib.h>

#define MANY (UINT64_C(1) << 62)
#define SHARED "db@b"

struct pair {
    struct half *a, *b; // the relay's sessions: A asks, B holds the service
    struct meet meet;
};

static struct worker w;

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof *p);
    memset(&w, 0, sizeof w);
    worker_init_bare(&w);
    meet_init(&p->meet, &w, 0);
    p->a = half_start(&w, false, ONE_MB);
    p->b = half_start(&w, false, ONE_MB);
    p->a->switch_to = p->b;
    p->b->switch_to = p->a;
    p->a->meet = p->b->meet = &p->meet;
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;
    half_free(p->a);
    half_free(p->b);
    meet_fini(&p->meet, NULL);
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

static int ask_with(struct half *h, uint32_t id, uint8_t flags, bool datagram, bool sealed, uint64_t window, struct frame_state state)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    struct frame_open f = {.kind = OPEN_SERVICE, .flags = flags, .datagram = datagram, .sealed = sealed, .window = window,
                           .uid = {7, 7}, .host = SHARED, .has_identity = true, .identity = {1}, .agent = "a", .state = state};
    return say(h, out, frame_put_open(out, id, &f));
}

static int ask(struct half *h, uint32_t id, uint8_t flags, uint64_t window, struct frame_state state)
{
    return ask_with(h, id, flags, false, false, window, state);
}

static int answer(struct half *h, uint32_t id, uint64_t window, struct frame_state state)
{
    uint8_t out[FRAME_HEAD + FRAME_CONTROL_MAX];
    struct frame_opened f = {.window = window, .state = state};
    return say(h, out, frame_put_opened(out, id, &f));
}

// The code of the OPENED that the half sent; -1: none.
static int answered(const struct half *h, uint32_t id)
{
    struct frame_opened f;
    const struct heard *x = heard(h, FRAME_OPENED, id);
    if (!x || x->len > HEARD_BYTES)
        return -1;
    assert_int_equal(frame_get_opened(&f, x->payload, x->len), 0);
    return f.code;
}

#define STATE(...) ((struct frame_state){.is_set = true, __VA_ARGS__})

// --- at the relay

static void test_a_new_stream_holds_nothing_yet(void **state)
{
    struct pair *p = *state;
    assert_int_equal(ask(p->a, 1, 0, 1000, STATE(.acked = MANY)), 0);
    hear_both(p);
    assert_null(heard(p->b, FRAME_OPEN, 2));
    assert_int_equal(answered(p->a, 1), WHY_PROTOCOL);
}

// Where nobody pairs: B takes it for a new one, and must not hear what A claims to hold of it.
static void test_what_is_claimed_of_a_new_stream_does_not_pass(void **state)
{
    struct pair *p = *state;
    p->a->meet = NULL;
    ask(p->a, 1, 0, 1000, STATE(.acked = MANY));
    hear(p->b);
    assert_int_equal(say_opened(p->b, 2, 0, 1000), 0);
    assert_int_equal(say_data(p->b, 2, 0, 100), 0);
    assert_int_equal(say_fin(p->b, 2, 100), 0);
    hear_both(p);
    assert_null(heard(p->b, FRAME_REWIND, 2));
    assert_null(heard(p->b, FRAME_ACK, 2));
}

static void test_only_a_stream_that_goes_on_is_asked_for_backwards(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, OPEN_BACK, 1000, STATE(.sent = 5));
    hear_both(p);
    assert_null(heard(p->b, FRAME_OPEN, 2));
    assert_int_equal(answered(p->a, 1), WHY_PROTOCOL);
}

static void test_an_end_is_not_below_what_was_sent(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, OPEN_CONTINUE, 1000, STATE(.sent = 100, .has_final = true, .final = 99));
    hear_both(p);
    assert_null(heard(p->b, FRAME_OPEN, 2));
    assert_int_equal(answered(p->a, 1), WHY_PROTOCOL);
}

// B has been told the early bytes and acknowledges them, whatever A says afterwards.
static void test_asking_again_takes_nothing_back(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, 0, 1000, (struct frame_state){0});
    say_data(p->a, 1, 0, 500);
    hear_both(p);
    assert_int_equal(heard_data(p->b, 2), 500);
    ask(p->a, 3, 0, 1000, STATE(.sent = 0));
    hear_both(p);
    assert_int_equal(say_opened(p->b, 2, 0, 1000), 0);
    assert_int_equal(say_ack(p->b, 2, 500, 1500), 0);
}

static void test_asking_again_does_not_move_the_end(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, 0, 1000, (struct frame_state){0});
    say_data(p->a, 1, 0, 100);
    say_fin(p->a, 1, 100);
    hear_both(p);
    assert_int_equal(heard_offset(p->b, FRAME_FIN, 2), 100);
    ask(p->a, 3, 0, 1000, STATE(.sent = 100, .has_final = true, .final = 200));
    hear_both(p);
    assert_int_equal(answered(p->a, 3), WHY_PROTOCOL);
    assert_null(heard(p->b, FRAME_FIN, 2));
}

// B knows nothing of it, and has sent nothing that A could hold.
static void test_asking_again_for_a_new_stream_claims_nothing(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, 0, 1000, STATE(.sent = 0));
    hear_both(p);
    ask(p->a, 3, OPEN_CONTINUE, 1000, STATE(.acked = MANY));
    hear_both(p);
    assert_int_equal(say_opened(p->b, 2, 0, 1000), 0);
    assert_int_equal(say_data(p->b, 2, 0, 100), 0);
    assert_int_equal(say_fin(p->b, 2, 100), 0);
    hear_both(p);
    assert_null(heard(p->b, FRAME_REWIND, 2));
    assert_int_equal(heard(p->b, FRAME_RESET, 2)->payload[1], WHY_MOVED);
}

// B was told a window by OPEN and uses it.
static void test_asking_again_takes_no_window_back(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, OPEN_CONTINUE, 100000, STATE(.acked = 0));
    hear_both(p);
    ask(p->a, 3, OPEN_CONTINUE, 0, STATE(.acked = 0));
    hear_both(p);
    assert_int_equal(answer(p->b, 2, 1000, STATE(.sent = 0)), 0);
    assert_int_equal(say_data(p->b, 2, 0, 100000), 0);
    assert_int_equal(say_data(p->b, 2, 100000, 1), -1);
}

// B has left an id, or never took it, and answers what comes there by itself.
static void test_a_fin_without_its_bytes_may_be_acknowledged(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, 0, 1000, (struct frame_state){0});
    say_fin(p->a, 1, 1000);
    hear_both(p);
    assert_int_equal(say_ack(p->b, 2, 1001, 0), 0);
    assert_int_equal(say_ack(p->b, 2, 1002, 0), -1);
}

static void test_who_goes_on_says_where(void **state)
{
    struct pair *p = *state;
    ask(p->a, 1, OPEN_CONTINUE, 1000, STATE(.acked = 5, .sent = 5));
    hear_both(p);
    assert_int_equal(say_opened(p->b, 2, 0, 1000), -1); // and A hears nothing of it
    hear(p->a);
    assert_int_equal(answered(p->a, 1), -1);
}

// --- at an agent

struct end {
    struct half *h; // B
    struct meet meet;
};

static const struct session_ops limbo_ops;

static int end_setup(void **state)
{
    struct end *e = calloc(1, sizeof *e);
    memset(&w, 0, sizeof w);
    worker_init_bare(&w);
    e->h = half_start(&w, true, ONE_MB);
    meet_init(&e->meet, &w, 60000);
    meet_start_limbo(&e->meet, &limbo_ops, NULL, &e->h->budget);
    e->h->s.meet = &e->meet;
    *state = e;
    return 0;
}

static int end_teardown(void **state)
{
    struct end *e = *state;
    struct err none = ERR_INIT;
    session_end_streams(&e->h->s, NULL);
    meet_fini(&e->meet, &none);
    half_free(e->h);
    assert_int_equal(w.pool.out_bytes, 0);
    worker_fini(&w);
    free(e);
    return 0;
}

// Not the session: only the stream that is shared with A.
static void only_the_stream(struct end *e, uint32_t id)
{
    hear_late(e->h);
    const struct heard *x = heard(e->h, FRAME_RESET, id);
    assert_non_null(x);
    assert_int_equal(x->payload[1], WHY_PROTOCOL);
    assert_false(err_is(&e->h->s.err));
    assert_int_equal(say_ack(e->h, id, ACKED_ALL, 0), 0);
}

// A stream of A's at B, 100 bytes and their end received.
static void share(struct end *e)
{
    assert_int_equal(ask(e->h, 2, 0, 1000, (struct frame_state){0}), 0);
    stream_accept(e->h->asked, NULL);
    say_data(e->h, 2, 0, 100);
    assert_int_equal(say_fin(e->h, 2, 100), 0);
    hear_late(e->h);
}

// The relay, or another one, passes on what contradicts that: it has seen none of it.
static void test_another_end_by_another_way(void **state)
{
    struct end *e = *state;
    share(e);
    assert_int_equal(ask(e->h, 4, OPEN_CONTINUE, 1000, STATE(.sent = 100, .has_final = true, .final = 200)), 0);
    hear_late(e->h);
    assert_int_equal(answered(e->h, 4), WHY_NONE);
    assert_int_equal(say_fin(e->h, 4, 200), 0);
    only_the_stream(e, 4);
}

static void test_bytes_behind_the_end_by_another_way(void **state)
{
    struct end *e = *state;
    share(e);
    ask(e->h, 4, 0, 1000, STATE(.sent = 100));
    hear_late(e->h);
    assert_int_equal(say_data(e->h, 4, 100, 10), 0);
    only_the_stream(e, 4);
    assert_int_equal(say_data(e->h, 2, 100, 10), 0); // nor on the id that it has left
    assert_false(err_is(&e->h->s.err));
}

static void test_more_acknowledged_than_was_sent(void **state)
{
    struct end *e = *state;
    share(e);
    assert_int_equal(say_rewind(e->h, 2, MANY, MANY), 0);
    only_the_stream(e, 2);
}

static void test_all_acknowledged_without_reason(void **state)
{
    struct end *e = *state;
    share(e);
    assert_int_equal(say_ack(e->h, 2, ACKED_ALL, 0), 0);
    only_the_stream(e, 2);
}

static void test_data_on_a_flow_that_is_sealed_elsewhere(void **state)
{
    struct end *e = *state;
    assert_int_equal(ask_with(e->h, 2, 0, true, false, 0, (struct frame_state){0}), 0);
    stream_accept(e->h->asked, NULL);
    hear_late(e->h);
    ask_with(e->h, 4, OPEN_CONTINUE, true, true, 0, STATE(.sent = 0));
    hear_late(e->h);
    assert_int_equal(say_data(e->h, 4, 0, 10), 0);
    only_the_stream(e, 4);
}

static void test_an_answer_without_the_state(void **state)
{
    struct end *e = *state;
    share(e);
    half_down(e->h);
    meet_cast(&e->meet, &e->h->s, false);
    half_up(e->h);
    struct stream *st = e->h->asked;
    assert_true(meet_ask(st->tie, &e->h->s));
    uint32_t id = stream_id(st);
    hear_late(e->h);
    assert_non_null(heard(e->h, FRAME_OPEN, id));
    assert_int_equal(say_opened(e->h, id, 0, 1000), 0);
    only_the_stream(e, id);
    assert_int_equal(e->meet.adrift_count, 0);
}

// A relay's own streams are its own word: that ends its session.
static void test_what_a_relay_says_for_itself_ends_its_session(void **state)
{
    struct end *e = *state;
    assert_int_equal(say_open(e->h, 2, OPEN_ACCEPTED, 1000), 0);
    assert_int_equal(say_ack(e->h, 2, 1, 1000), -1);
    assert_true(err_is(&e->h->s.err));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define E(name) cmocka_unit_test_setup_teardown(name, end_setup, end_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_new_stream_holds_nothing_yet), T(test_what_is_claimed_of_a_new_stream_does_not_pass),
        T(test_only_a_stream_that_goes_on_is_asked_for_backwards), T(test_an_end_is_not_below_what_was_sent),
        T(test_asking_again_takes_nothing_back), T(test_asking_again_does_not_move_the_end),
        T(test_asking_again_for_a_new_stream_claims_nothing), T(test_asking_again_takes_no_window_back),
        T(test_a_fin_without_its_bytes_may_be_acknowledged), T(test_who_goes_on_says_where),
        E(test_another_end_by_another_way), E(test_bytes_behind_the_end_by_another_way),
        E(test_more_acknowledged_than_was_sent), E(test_all_acknowledged_without_reason),
        E(test_data_on_a_flow_that_is_sealed_elsewhere), E(test_an_answer_without_the_state),
        E(test_what_a_relay_says_for_itself_ends_its_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
