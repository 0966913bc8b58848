// SPDX-License-Identifier: Apache-2.0
// The pump between two memory links: an application here, the pump in the middle, a target there.
#include "drive.h"
#include <string.h>
#include "link/mem.h"
#include "link/pump.h"
#include "link/tcp.h"
#include "talk.h"
#include "texts.h"

struct scene {
    struct worker w;
    struct link *app, *target, *near, *far; // app ══ near │pump│ far ══ target
    struct wake wake; // of app and target
    struct pump pump;
    int done;
    struct err err;
};

static void on_done(struct pump *p, const struct err *err)
{
    struct scene *s = container_of(p, struct scene, pump);
    s->done++;
    if (err)
        err_copy(&s->err, err);
}

static void on_news(struct wake *wake) { (void)wake; }

static void scene_init(struct scene *s, const struct mem_plan *near, const struct mem_plan *far, struct buf *early)
{
    mem_pair(&s->w, &s->app, &s->near, NULL, near);
    mem_pair(&s->w, &s->far, &s->target, far, NULL);
    wake_init(&s->wake, on_news);
    link_own(s->app, &s->wake);
    link_own(s->target, &s->wake);
    s->done = 0;
    s->err = ERR_INIT;
    pump_start(&s->pump, &s->w, s->near, s->far, early, on_done);
}

static void scene_fini(struct scene *s)
{
    wake_cancel(&s->wake);
    link_close(s->app);
    link_close(s->target);
    pump_stop(&s->pump);
    err_fini(&s->err);
    drive_settle(&s->w);
}

static void turn(struct scene *s) { drive_all(&s->w); }

static void hear(struct scene *s, struct link *l, const char *text)
{
    for (size_t at = 0, len = strlen(text); at < len;) {
        struct buf *b;
        enum link_status st = link_recv(l, &b);
        if (st == LINK_AGAIN) {
            turn(s);
            st = link_recv(l, &b);
        }
        assert_int_equal(st, LINK_OK);
        assert_memory_equal(buf_data(b), text + at, b->len);
        at += b->len;
        buf_put(b);
    }
}

static void hear_status(struct scene *s, struct link *l, enum link_status want)
{
    struct buf *b;
    turn(s);
    assert_int_equal(link_recv(l, &b), want);
}

static void ends_pass_in_both_orders(void **state)
{
    for (int order = 0; order < 2; order++) {
        struct scene s;
        worker_init_bare(&s.w);
        scene_init(&s, NULL, NULL, buf_copy(&s.w.pool, "early ", 6));
        struct link *first = order ? s.target : s.app, *second = order ? s.app : s.target;
        text_send(s.app, "request");
        hear(&s, s.target, "early request");
        text_send(first, "last");
        link_shut(first, SHUT_END);
        hear(&s, second, "last");
        hear_status(&s, second, LINK_END);
        assert_int_equal(s.done, 0);
        text_send(second, "but I go on");
        hear(&s, first, "but I go on");
        link_shut(second, SHUT_END);
        hear_status(&s, first, LINK_END);
        assert_int_equal(s.done, 1);
        assert_false(err_is(&s.err));
        assert_int_equal(s.pump.a_to_b, strlen("early request") + (order ? strlen("but I go on") : strlen("last")));
        scene_fini(&s);
        worker_fini(&s.w);
    }
}

static void an_abort_passes_as_an_abort(void **state)
{
    for (int side = 0; side < 2; side++) {
        for (int ended = 0; ended < 2; ended++) {
            struct scene s;
            worker_init_bare(&s.w);
            scene_init(&s, NULL, NULL, NULL);
            struct link *aborts = side ? s.target : s.app, *sees = side ? s.app : s.target;
            if (ended) { // the other direction is over already
                link_shut(sees, SHUT_END);
                hear_status(&s, aborts, LINK_END);
            }
            link_shut(aborts, SHUT_ABORT);
            hear_status(&s, sees, LINK_FAILED);
            assert_int_equal(s.done, 1);
            assert_int_equal(s.err.why, WHY_ABORTED);
            scene_fini(&s);
            worker_fini(&s.w);
        }
    }
}

static void a_slow_reader_holds_its_source_back(void **state)
{
    enum { QUEUE = 30000 };
    struct mem_plan small = {.queue_max = QUEUE};
    struct scene s;
    worker_init_bare(&s.w);
    scene_init(&s, NULL, &small, NULL);
    size_t sent = 0, got = 0;
    for (int i = 0; i < 100 && link_room(s.app) > 0; i++) {
        struct buf *b = buf_get(&s.w.pool);
        b->len = 10000;
        for (size_t k = 0; k < b->len; k++)
            buf_data(b)[k] = talk_byte(sent + k);
        sent += b->len;
        link_send(s.app, b);
        turn(&s);
    }
    assert_true(s.pump.a_to_b <= QUEUE + BUF_SIZE); // the rest waits at the app
    assert_int_equal(link_room(s.app), 0);
    text_send(s.target, "the other way is free");
    hear(&s, s.app, "the other way is free");
    link_shut(s.app, SHUT_END);
    for (;;) {
        struct buf *b;
        enum link_status st = link_recv(s.target, &b);
        if (st == LINK_AGAIN) {
            turn(&s);
            st = link_recv(s.target, &b);
        }
        if (st == LINK_END)
            break;
        assert_int_equal(st, LINK_OK);
        for (size_t k = 0; k < b->len; k++)
            assert_int_equal(buf_data(b)[k], talk_byte(got + k));
        got += b->len;
        buf_put(b);
        assert_true(s.pump.a_to_b <= got + QUEUE + BUF_SIZE);
    }
    assert_int_equal(got, sent);
    scene_fini(&s);
    worker_fini(&s.w);
}

static void stopping_says_nothing_and_aborts(void **state)
{
    struct scene s;
    worker_init_bare(&s.w);
    scene_init(&s, NULL, NULL, buf_copy(&s.w.pool, "x", 1));
    pump_stop(&s.pump);
    pump_stop(&s.pump);
    turn(&s);
    assert_int_equal(s.done, 0);
    hear(&s, s.target, "x");
    hear_status(&s, s.app, LINK_FAILED);
    hear_status(&s, s.target, LINK_FAILED);
    scene_fini(&s);
    worker_fini(&s.w);
}

// Two talkers with a pump between them, which must be over by itself however its links behave.
static bool pumped(const struct mem_plan *near, const struct mem_plan *far, bool must_work)
{
    struct scene s;
    struct talk t;
    worker_init_bare(&s.w);
    mem_pair(&s.w, &s.app, &s.near, NULL, near);
    mem_pair(&s.w, &s.far, &s.target, far, NULL);
    s.done = 0;
    s.err = ERR_INIT;
    talk_start(&t, &s.w, s.app, s.target, "", 100000, 70001);
    pump_start(&s.pump, &s.w, s.near, s.far, NULL, on_done);
    drive_until(&s.w, &t.done);
    drive_settle(&s.w);
    bool worked = t.client.result == TALK_OK && t.server.result == TALK_OK;
    assert_true(t.done);
    assert_int_equal(s.done, 1);
    assert_true(!must_work || worked);
    err_fini(&s.err);
    talk_fini(&t);
    worker_fini(&s.w);
    return worked;
}

static void a_pump_pays_and_collects_every_debt(void **state)
{
    for (unsigned k = 1; k < 60; k++) {
        struct mem_plan again = {.again_at = k, .cut = 5000}, no_room = {.noroom_at = k, .queue_max = 20000};
        pumped(&again, NULL, true);
        pumped(NULL, &again, true);
        pumped(&no_room, &again, true);
        pumped(&again, &no_room, true);
    }
    struct mem_plan all = {.again_every = 2, .noroom_every = 2, .queue_max = 1, .cut = 77};
    pumped(&all, &all, true);
    for (int side = 0; side < 2; side++) {
        unsigned k = 1;
        for (bool worked = false; !worked; k++) {
            struct mem_plan fails = {.fail_at = k, .cut = 5000};
            worked = side ? pumped(NULL, &fails, false) : pumped(&fails, NULL, false);
        }
        assert_true(k > 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_pass_in_both_orders),
        cmocka_unit_test(an_abort_passes_as_an_abort),
        cmocka_unit_test(a_slow_reader_holds_its_source_back),
        cmocka_unit_test(stopping_says_nothing_and_aborts),
        cmocka_unit_test(a_pump_pays_and_collects_every_debt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
