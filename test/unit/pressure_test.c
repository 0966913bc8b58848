// SPDX-License-Identifier: Apache-2.0
// Which parked sessions a relay ends when memory is short, and which it leaves alone.
#include "half.h"
#include "relay/inside.h"

#define PARK_MS 60000

struct place {
    struct worker w;
    struct relay r;
    struct relay_options o;
    struct budget_waiter waiter;
};

static void on_room(struct budget_waiter *w) {}

static struct place *place_new(size_t memory)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    worker_init_bare(&p->w);
    half_pass_us(&p->w, 1000000);
    p->o = (struct relay_options){.park_ms = PARK_MS, .memory_agent = memory};
    p->r.w = &p->w;
    p->r.o = &p->o;
    list_init(&p->r.members);
    budget_init(&p->r.budget, memory, NULL);
    pressure_init(&p->r);
    list_init(&p->waiter.node);
    p->waiter.on_room = on_room;
    return p;
}

static void place_free(struct place *p)
{
    list_del(&p->waiter.node);
    pressure_fini(&p->r);
    list_each(&p->r.members, it) member_end(list_entry(it, struct member, node), "test ends");
    for (int i = 0; i < 4; i++)
        worker_turn(&p->w);
    assert_true(list_empty(&p->r.members));
    budget_fini(&p->r.budget);
    worker_fini(&p->w);
    free(p);
}

// A session of agent `name` that is parked and holds `bytes` for it.
static struct visit *parked(struct place *p, uint8_t name, size_t bytes)
{
    struct frame_hello hello = {.session = {name}};
    uint8_t pin[PIN_SIZE] = {name};
    bool resumed;
    struct visit *v = visit_find(&p->r, pin, "agent", &hello, &resumed);
    assert_non_null(v);
    struct frame_open open = {.kind = OPEN_ACCEPTED};
    struct stream *st = session_open(&v->s, &open);
    half_send(st, bytes);
    link_close(stream_link(st));
    timer_set(&p->w, &v->park, PARK_MS);
    return v;
}

static unsigned left(const struct place *p)
{
    unsigned n = 0;
    list_each((struct list *)&p->r.members, it)
    {
        const struct member *m = list_entry(it, struct member, node);
        n += !list_empty(&m->visits);
    }
    return n;
}

static void look(struct place *p)
{
    assert_true(timer_is_set(&p->r.pressure));
    timer_stop(&p->w, &p->r.pressure);
    p->r.pressure.run(&p->r.pressure);
}

static void test_the_one_parked_longest_ends(void **state)
{
    struct place *p = place_new(80000);
    parked(p, 1, 10);
    half_pass_us(&p->w, 1000000);
    struct visit *second = parked(p, 2, 16000);
    half_pass_us(&p->w, 1000000);
    parked(p, 3, 16000);
    assert_false(timer_is_set(&p->r.pressure));
    assert_int_equal(left(p), 3);
    struct member *m = second->m;
    budget_wait(&m->budget, &p->waiter); // two 16 KiB are sent: half of what there is is not enough for another
    look(p);
    assert_int_equal(left(p), 3); // but they are away since a moment only
    half_pass_us(&p->w, PRESSURE_PARKED_MS * 1000);
    look(p);
    assert_int_equal(left(p), 2);
    uint8_t pin[PIN_SIZE] = {1};
    assert_true(list_empty(&member_find(&p->r, pin)->visits));
    place_free(p);
}

static void test_nobody_ends_while_there_is_room_or_nobody_waits(void **state)
{
    struct place *p = place_new(1 << 20);
    struct visit *v = parked(p, 1, 16000);
    half_pass_us(&p->w, PRESSURE_PARKED_MS * 1000);
    budget_wait(&v->m->budget, &p->waiter);
    assert_false(timer_is_set(&p->r.pressure));
    place_free(p);
}

static void test_a_session_that_holds_nothing_is_left_alone(void **state)
{
    struct place *p = place_new(60000);
    parked(p, 1, 0);
    struct visit *v = parked(p, 2, 16000);
    timer_stop(&p->w, &v->park); // its carrier stands
    half_pass_us(&p->w, PRESSURE_PARKED_MS * 1000);
    budget_take(&v->m->budget, 40000);
    budget_wait(&v->m->budget, &p->waiter);
    look(p);
    assert_int_equal(left(p), 2);
    budget_give(&v->m->budget, 40000);
    place_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_one_parked_longest_ends),
        cmocka_unit_test(test_nobody_ends_while_there_is_room_or_nobody_waits),
        cmocka_unit_test(test_a_session_that_holds_nothing_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
