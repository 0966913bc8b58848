// SPDX-License-Identifier: Apache-2.0
#include "drive.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char trail[256];

static void note(char c)
{
    size_t n = strlen(trail);
    assert_true(n + 1 < sizeof(trail));
    trail[n] = c;
    trail[n + 1] = 0;
}

struct actor {
    struct worker *w;
    char name;
    int times;
    struct wake wake, *other;
    bool other_late;
    struct timer timer;
    struct grave grave;
};

static void on_wake(struct wake *wake)
{
    struct actor *a = container_of(wake, struct actor, wake);
    note(a->name);
    if (--a->times > 0)
        wake_post(a->w, wake);
    if (a->other && a->other_late)
        wake_post_late(a->w, a->other);
    else if (a->other)
        wake_post(a->w, a->other);
}

static struct actor actor(struct worker *w, char name)
{
    struct actor a = {.w = w, .name = name, .times = 1};
    return a;
}

static void on_bury(struct grave *g)
{
    note(container_of(g, struct actor, grave)->name);
}

static void wakes_run_once_in_order_then_late_then_graves(void **state)
{
    struct worker w;
    worker_init_bare(&w);
    struct actor a = actor(&w, 'a'), b = actor(&w, 'b'), l = actor(&w, 'L'), g = actor(&w, 'G');
    struct actor *all[] = {&a, &b, &l, &g};
    for (int i = 0; i < 4; i++)
        wake_init(&all[i]->wake, on_wake);
    trail[0] = 0;
    a.other = &b.wake; // news of a for b, in the same turn
    worker_bury(&w, &g.grave, on_bury);
    wake_post_late(&w, &l.wake);
    wake_post(&w, &a.wake);
    wake_post(&w, &a.wake);
    worker_turn(&w);
    assert_string_equal(trail, "abLG");
    worker_turn(&w);
    assert_string_equal(trail, "abLG");
    wake_post(&w, &a.wake);
    wake_cancel(&a.wake);
    wake_cancel(&a.wake);
    worker_turn(&w);
    assert_string_equal(trail, "abLG");
    worker_fini(&w);
}

static void a_wake_that_posts_itself_does_not_hold_the_turn(void **state)
{
    struct worker w;
    worker_init_bare(&w);
    struct actor a = actor(&w, 'a'), l = actor(&w, 'L');
    wake_init(&a.wake, on_wake);
    wake_init(&l.wake, on_wake);
    a.times = 150;
    trail[0] = 0;
    wake_post(&w, &a.wake);
    wake_post_late(&w, &l.wake);
    worker_turn(&w);
    assert_non_null(strchr(trail, 'L'));
    assert_true(a.times > 0);
    while (a.times > 0)
        worker_turn(&w);
    worker_fini(&w);
}

static void on_timer(struct timer *t)
{
    struct actor *a = container_of(t, struct actor, timer);
    note(a->name);
    if (--a->times > 0)
        timer_set(a->w, t, 0);
}

static void timers_run_in_order_and_can_move_and_stop(void **state)
{
    struct worker w;
    worker_init_bare(&w);
    struct actor a = actor(&w, 'a'), b = actor(&w, 'b'), c = actor(&w, 'c');
    struct actor *all[] = {&a, &b, &c};
    for (int i = 0; i < 3; i++)
        timer_init(&all[i]->timer, on_timer);
    trail[0] = 0;
    timer_set(&w, &a.timer, 30);
    timer_set(&w, &b.timer, 10);
    timer_set(&w, &c.timer, 20);
    assert_int_equal(worker_run_timers(&w), 10);
    timer_set(&w, &a.timer, 5); // sooner
    timer_set(&w, &b.timer, 50); // later
    timer_stop(&w, &c.timer);
    timer_stop(&w, &c.timer);
    assert_false(timer_is_set(&c.timer));
    w.now_ms = 49;
    assert_int_equal(worker_run_timers(&w), 1);
    assert_string_equal(trail, "a");
    w.now_ms = 50;
    assert_int_equal(worker_run_timers(&w), UINT64_MAX);
    assert_string_equal(trail, "ab");
    c.times = 3; // set again with no delay: once a run
    timer_set(&w, &c.timer, 0);
    assert_int_equal(worker_run_timers(&w), 0);
    assert_string_equal(trail, "abc");
    timer_set(&w, &a.timer, UINT64_MAX); // does not wrap
    timer_stop(&w, &c.timer);
    assert_true(worker_run_timers(&w) > 1000000);
    timer_stop(&w, &a.timer);
    worker_fini(&w);
}

struct shuffled {
    struct timer timer;
    struct worker *w;
    uint64_t *last;
    int *fired;
};

static void on_shuffled(struct timer *t)
{
    struct shuffled *s = container_of(t, struct shuffled, timer);
    assert_true(s->timer.due_ms <= s->w->now_ms);
    assert_true(s->timer.due_ms >= *s->last);
    *s->last = s->timer.due_ms;
    ++*s->fired;
}

static void many_timers_keep_the_heap_right(void **state)
{
    enum { N = 500 };
    struct worker w;
    worker_init_bare(&w);
    struct shuffled *s = calloc(N, sizeof(*s));
    uint64_t last = 0;
    int fired = 0, live = 0;
    unsigned seed = 7;
    for (int i = 0; i < N; i++) {
        s[i] = (struct shuffled){.w = &w, .last = &last, .fired = &fired};
        timer_init(&s[i].timer, on_shuffled);
    }
    for (int i = 0; i < 20000; i++) {
        struct timer *t = &s[rand_r(&seed) % N].timer;
        if (rand_r(&seed) % 3 == 0)
            timer_stop(&w, t);
        else
            timer_set(&w, t, 1 + rand_r(&seed) % 1000);
    }
    for (int i = 0; i < N; i++)
        live += timer_is_set(&s[i].timer);
    assert_int_equal(live, w.heap_len);
    for (w.now_ms = 1; w.now_ms <= 1000; w.now_ms++)
        worker_run_timers(&w);
    assert_int_equal(fired, live);
    free(s);
    worker_fini(&w);
}

static bool done;

static void on_done_timer(struct timer *t)
{
    struct actor *a = container_of(t, struct actor, timer);
    note(a->name);
    assert_true(a->w->now_ms >= t->due_ms);
    done = true;
}

static void the_alarm_wakes_a_sleeping_loop(void **state)
{
    struct worker w;
    assert_int_equal(worker_init(&w, 0, 1), 0);
    struct actor a = actor(&w, 'a'), b = actor(&w, 'b');
    timer_init(&a.timer, on_done_timer);
    timer_init(&b.timer, on_done_timer);
    trail[0] = 0;
    done = false;
    timer_set(&w, &a.timer, 100000);
    timer_set(&w, &b.timer, 3);
    drive_until(&w, &done);
    assert_string_equal(trail, "b");
    done = false;
    timer_set(&w, &a.timer, 20);
    drive_until(&w, &done);
    assert_string_equal(trail, "ba");
    worker_fini(&w);
}

static void on_last_wake(struct wake *wake) { done = true; }
static struct wake last_wake;

static void on_forward_wake(struct wake *wake)
{
    struct actor *a = container_of(wake, struct actor, wake);
    wake_post(a->w, &last_wake); // from a late wake: the loop must not go to sleep on it
}

static void a_wake_left_over_keeps_the_loop_awake(void **state)
{
    struct worker w;
    assert_int_equal(worker_init(&w, 0, 1), 0);
    struct actor a = actor(&w, 'a');
    wake_init(&a.wake, on_forward_wake);
    wake_init(&last_wake, on_last_wake);
    done = false;
    wake_post_late(&w, &a.wake);
    drive_until(&w, &done);
    worker_fini(&w);
}

struct reader {
    struct watch *watch;
    int fd, events, calls;
};

static void on_readable(void *ctx, int events)
{
    struct reader *r = ctx;
    char c;
    r->events |= events;
    r->calls++;
    if (read(r->fd, &c, 1) <= 0)
        watch_want(r->watch, 0);
    done = true;
}

static void watches_call_until_told_otherwise(void **state)
{
    struct worker w;
    int fds[2];
    assert_int_equal(worker_init(&w, 0, 1), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct reader r = {.fd = fds[0]};
    r.watch = watch_new(&w, fds[0], on_readable, &r);
    assert_non_null(r.watch);
    watch_want(r.watch, UV_READABLE);
    assert_int_equal(write(fds[1], "ab", 2), 2);
    done = false;
    drive_until(&w, &done);
    done = false;
    drive_until(&w, &done); // level triggered: the second byte
    watch_want(r.watch, 0);
    int calls = r.calls;
    assert_int_equal(write(fds[1], "c", 1), 1);
    drive_settle(&w);
    assert_int_equal(r.calls, calls);
    assert_int_equal(r.events, UV_READABLE);
    watch_free(r.watch);
    watch_free(NULL);
    close(fds[0]);
    close(fds[1]);
    worker_fini(&w);
}

// As while a child that was just started still holds what its exec will close.
static void a_closed_descriptor_with_a_duplicate_is_silent(void **state)
{
    struct worker w;
    struct epoll_event ev;
    int fds[2];
    assert_int_equal(worker_init(&w, 0, 1), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct reader r = {.fd = fds[0]};
    struct watch *watch = watch_edges(&w, fds[0], on_readable, &r);
    assert_non_null(watch);
    int held = dup(fds[0]);
    watch_free(watch);
    close(fds[0]);
    assert_int_equal(write(fds[1], "a", 1), 1);
    assert_int_equal(epoll_wait(w.epoll_fd, &ev, 1, 0), 0);
    drive_settle(&w);
    assert_int_equal(r.calls, 0);
    close(held);
    close(fds[1]);
    worker_fini(&w);
}

static void a_file_cannot_be_watched(void **state)
{
    struct worker w;
    assert_int_equal(worker_init(&w, 0, 1), 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    assert_null(watch_new(&w, fd, on_readable, NULL));
    close(fd);
    worker_fini(&w);
}

static void random_bytes_differ_and_leave_no_trace(void **state)
{
    struct worker w;
    worker_init_bare(&w);
    uint8_t x[16], y[16], big[4096], zero[16] = {0};
    worker_random(&w, x, sizeof(x));
    for (int i = 0; i < 200; i++) { // across several refills
        worker_random(&w, y, sizeof(y));
        assert_memory_not_equal(x, y, sizeof(x));
    }
    size_t used = sizeof(w.random) - w.random_left;
    assert_memory_equal(w.random + used - 16, zero, 16);
    worker_random(&w, big, sizeof(big));
    assert_memory_not_equal(big, big + 2048, 2048);
    worker_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wakes_run_once_in_order_then_late_then_graves),
        cmocka_unit_test(a_wake_that_posts_itself_does_not_hold_the_turn),
        cmocka_unit_test(timers_run_in_order_and_can_move_and_stop),
        cmocka_unit_test(many_timers_keep_the_heap_right),
        cmocka_unit_test(the_alarm_wakes_a_sleeping_loop),
        cmocka_unit_test(a_wake_left_over_keeps_the_loop_awake),
        cmocka_unit_test(watches_call_until_told_otherwise),
        cmocka_unit_test(a_closed_descriptor_with_a_duplicate_is_silent),
        cmocka_unit_test(a_file_cannot_be_watched),
        cmocka_unit_test(random_bytes_differ_and_leave_no_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
