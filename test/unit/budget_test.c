// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include "session/budget.h"

struct waiter {
    struct budget_waiter w;
    struct budget *b;
    size_t takes; // when served
    unsigned served;
    unsigned *order;
    unsigned place;
};

static void on_room(struct budget_waiter *w)
{
    struct waiter *x = container_of(w, struct waiter, w);
    x->served++;
    x->place = ++*x->order;
    budget_take(x->b, x->takes);
}

static void wait_for(struct waiter *x, struct budget *b, size_t takes, unsigned *order)
{
    *x = (struct waiter){.b = b, .takes = takes, .order = order};
    list_init(&x->w.node);
    x->w.on_room = on_room;
    budget_wait(b, &x->w);
}

static void every_level_counts(void **state)
{
    struct budget root, a, b;
    budget_init(&root, 1000, NULL);
    budget_init(&a, 800, &root);
    budget_init(&b, 800, &root);
    budget_take(&a, 700);
    assert_true(budget_has(&a, 100));
    assert_false(budget_has(&a, 101));
    assert_true(budget_has(&b, 277));
    assert_false(budget_has(&b, 278)); // the parent's, without what is reserved for each child: 15
    assert_false(budget_has(&b, SIZE_MAX));
    budget_take(&b, 400); // may exceed
    assert_false(budget_has(&b, 0));
    budget_give(&a, 700);
    budget_give(&b, 400);
    assert_int_equal(root.used, 0);
    budget_fini(&a);
    budget_fini(&b);
    budget_fini(&root);
}

static void sent_bytes_take_at_most_half(void **state)
{
    struct budget root, a;
    budget_init(&root, 10000, NULL);
    budget_init(&a, 1000, &root);
    assert_true(budget_has_to_send(&a, 500));
    assert_false(budget_has_to_send(&a, 501));
    budget_take_sent(&a, 500);
    assert_false(budget_has_to_send(&a, 1));
    assert_true(budget_has(&a, 500)); // receiving goes on
    budget_give_sent(&a, 500);
    assert_int_equal(a.sent + a.used + root.sent + root.used, 0);
    budget_fini(&a);
    budget_fini(&root);
}

static void waiters_are_served_in_turn_once_there_is_room(void **state)
{
    struct budget b;
    struct waiter x[3];
    unsigned order = 0;
    budget_init(&b, 800, NULL);
    budget_take(&b, 800);
    for (int i = 0; i < 3; i++)
        wait_for(&x[i], &b, 100, &order);
    budget_wait(&b, &x[0].w); // once
    budget_give(&b, 99); // not an eighth yet
    assert_int_equal(order, 0);
    budget_give(&b, 101); // room for two
    assert_int_equal(order, 2);
    assert_int_equal(x[0].place, 1);
    assert_int_equal(x[1].place, 2);
    budget_give(&b, 100);
    assert_int_equal(x[2].place, 3);
    assert_int_equal(x[0].served, 1);
    budget_give(&b, b.used);
    budget_fini(&b);
}

static void room_in_the_parent_serves_the_children(void **state)
{
    struct budget root, a, b;
    struct waiter x;
    unsigned order = 0;
    budget_init(&root, 800, NULL);
    budget_init(&a, 800, &root);
    budget_init(&b, 800, &root);
    budget_take(&a, 800);
    wait_for(&x, &b, 0, &order);
    budget_give(&a, 130); // of another child
    assert_int_equal(x.served, 1);
    budget_give(&a, 670);
    budget_fini(&a);
    budget_fini(&b);
    budget_fini(&root);
}

static void every_child_has_something_of_its_own(void **state)
{
    struct budget root, a, b;
    struct waiter x;
    unsigned order = 0;
    budget_init(&root, 6400, NULL);
    budget_init(&a, 6400, &root);
    budget_init(&b, 6400, &root);
    budget_take(&a, 6250); // all but b's 100, and what is a's to send
    budget_take_sent(&a, 50);
    assert_false(budget_has(&a, 1));
    assert_true(budget_has(&b, 50));
    assert_false(budget_has(&b, 51));
    assert_true(budget_has_to_send(&b, 50));
    budget_take_sent(&b, 50);
    assert_false(budget_has_to_send(&b, 1));
    budget_take(&b, 50);
    assert_int_equal(root.used, root.max);
    assert_false(budget_has(&b, 1));
    wait_for(&x, &b, 0, &order);
    budget_give(&b, 50); // its own again
    assert_int_equal(x.served, 1);
    budget_give_sent(&b, 50);
    budget_give(&a, 6250);
    budget_give_sent(&a, 50);
    assert_int_equal(root.used + root.common + root.sent, 0);
    budget_fini(&a);
    budget_fini(&b);
    budget_fini(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_counts), cmocka_unit_test(sent_bytes_take_at_most_half),
        cmocka_unit_test(waiters_are_served_in_turn_once_there_is_room),
        cmocka_unit_test(room_in_the_parent_serves_the_children),
        cmocka_unit_test(every_child_has_something_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
