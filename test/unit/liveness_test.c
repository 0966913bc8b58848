// SPDX-License-Identifier: Apache-2.0
#include "session/liveness.h"
#include "unit.h"

#define S 1000000u
#define MS 1000u
#define MINUTE (60ull * S)
#define HOUR (60 * MINUTE)

// A carrier whose first PING was answered after `rtt_us`, at time 100 s.
static struct liveness fresh(bool is_agent, const struct liveness_lesson *lesson, uint64_t rtt_us)
{
    struct liveness l;
    liveness_init(&l, is_agent, lesson, 12345, 100 * S - rtt_us);
    assert_true(l.ping_due);
    liveness_pinged(&l, 100 * S - rtt_us);
    liveness_ponged(&l, 100 * S);
    return l;
}

static void assert_next(struct liveness *l, uint64_t at, enum liveness_verdict before, enum liveness_verdict then)
{
    assert_int_equal(liveness_deadline(l), at);
    assert_int_equal(liveness_check(l, at - 1), before);
    assert_int_equal(liveness_check(l, at), then);
}

// Active -------------------------------------------------------------------------------------------------------

static void test_active(void **state)
{
    for (int agent = 0; agent < 2; agent++) {
        struct liveness l = fresh(agent, NULL, 50 * MS);
        liveness_moved(&l, 100 * S);
        assert_next(&l, 101 * S, LIVENESS_FINE, LIVENESS_FINE);
        assert_true(l.ping_due);
        liveness_pinged(&l, 101 * S);
        assert_false(l.ping_due);
        assert_next(&l, 102500 * MS, LIVENESS_FINE, LIVENESS_SUSPECT);
        assert_next(&l, 117500 * MS, LIVENESS_SUSPECT, LIVENESS_DEAD);
    }
}

static void test_answer_ends_suspicion(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_moved(&l, 100 * S);
    liveness_check(&l, 101 * S);
    liveness_pinged(&l, 101 * S);
    assert_int_equal(liveness_check(&l, 102500 * MS), LIVENESS_SUSPECT);
    liveness_heard(&l, 104 * S); // anything counts
    assert_int_equal(liveness_check(&l, 104 * S), LIVENESS_FINE);
    assert_next(&l, 105500 * MS, LIVENESS_FINE, LIVENESS_SUSPECT);
    liveness_ponged(&l, 106 * S);
    assert_int_equal(liveness_check(&l, 106 * S), LIVENESS_FINE);
    assert_false(l.ping_out);
    assert_true(l.srtt_us > 600 * MS); // and the slow answer was a measure
}

// A PING that cannot leave counts from when it was wanted.
static void test_blocked(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_moved(&l, 100 * S);
    liveness_check(&l, 101 * S);
    assert_next(&l, 102500 * MS, LIVENESS_FINE, LIVENESS_SUSPECT);
}

static void test_pause(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_moved(&l, 105 * S + 1); // idle for more than 5 s: the first byte carries a PING
    assert_true(l.ping_due);
    liveness_pinged(&l, 105 * S + 1);
    assert_next(&l, 106500 * MS + 1, LIVENESS_FINE, LIVENESS_SUSPECT);
    l = fresh(true, NULL, 50 * MS);
    liveness_moved(&l, 104 * S); // no pause
    assert_false(l.ping_due);
    l = fresh(true, NULL, 50 * MS);
    liveness_heard(&l, 110 * S); // what came shows that the path lives
    liveness_moved(&l, 110 * S);
    assert_false(l.ping_due);
}

// Slow is not dead ---------------------------------------------------------------------------------------------

static void test_rtt(void **state)
{
    struct liveness l = {0};
    liveness_rtt(&l, 100 * MS);
    assert_int_equal(l.srtt_us, 100 * MS);
    assert_int_equal(l.rttvar_us, 50 * MS);
    liveness_rtt(&l, 200 * MS);
    assert_int_equal(l.srtt_us, 112500);
    assert_int_equal(l.rttvar_us, 62500);
    liveness_rtt(&l, UINT64_MAX);
    assert_true(l.srtt_us > 60 * S);
}

static void test_patience(void **state)
{
    static const struct {
        uint32_t srtt, rttvar;
        uint64_t patience;
    } rows[] = {
        {50 * MS, 10 * MS, 1500 * MS},  {600 * MS, 0, 1500 * MS}, {600 * MS, 300 * MS, 1800 * MS},
        {2 * S, 100 * MS, 4 * S},       {2 * S, 1 * S, 6 * S},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct liveness l = fresh(true, NULL, 50 * MS);
        l.srtt_us = rows[i].srtt;
        l.rttvar_us = rows[i].rttvar;
        liveness_ask(&l, 200 * S);
        liveness_pinged(&l, 200 * S);
        assert_next(&l, 200 * S + rows[i].patience, LIVENESS_FINE, LIVENESS_SUSPECT);
    }
    struct liveness l;
    liveness_init(&l, true, NULL, 1, 200 * S);
    assert_next(&l, 203 * S, LIVENESS_FINE, LIVENESS_SUSPECT); // nothing is known of the path
    liveness_init(&l, true, NULL, 1, 200 * S);
    liveness_rtt(&l, 4 * S); // WELCOME was as slow
    assert_next(&l, 212 * S, LIVENESS_FINE, LIVENESS_SUSPECT);
}

// 600 ms each and every time, for an hour of typing: no suspicion, ever.
static void test_satellite(void **state)
{
    struct liveness l = fresh(true, NULL, 600 * MS);
    uint64_t pong = 0, now = 100 * S;
    for (; now < 100 * S + HOUR; now += 10 * MS) {
        if (pong && now >= pong) {
            liveness_ponged(&l, now);
            pong = 0;
        }
        if (now % (7 * S) == 0)
            liveness_moved(&l, now);
        assert_int_equal(liveness_check(&l, now), LIVENESS_FINE);
        if (l.ping_due && !l.ping_out) {
            liveness_pinged(&l, now);
            pong = now + 600 * MS;
        }
    }
}

// A modem's queue of ten seconds in front of the PING: TCP goes on acknowledging 10 kB/s, nothing else is heard.
static void test_modem(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    uint64_t acked = 5000;
    liveness_moved(&l, 101 * S);
    liveness_ask(&l, 101 * S);
    liveness_pinged(&l, 101 * S);
    liveness_progress(&l, acked, 100000, 101 * S);
    uint64_t now = 101 * S;
    for (uint64_t next; (next = liveness_deadline(&l)) < 111 * S; now = next) {
        assert_true(next > now);
        acked = 5000 + (next - 101 * S) / 100;
        liveness_progress(&l, acked, 200000, next); // and more is sent behind it
        assert_int_equal(liveness_check(&l, next), LIVENESS_FINE);
    }
    liveness_progress(&l, 105000, 200000, 111 * S); // the PING is through: now the answer is due
    liveness_progress(&l, 150000, 200000, 112 * S); // what moves behind it shows nothing
    assert_int_equal(liveness_check(&l, 112 * S), LIVENESS_FINE);
    assert_next(&l, 112500 * MS, LIVENESS_FINE, LIVENESS_SUSPECT);
}

// Somebody nearer than the peer takes each keystroke from us, and the path behind is dead.
static void test_dead_behind_a_proxy(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_moved(&l, 100 * S);
    liveness_check(&l, 101 * S);
    liveness_pinged(&l, 101 * S);
    liveness_progress(&l, 1000, 50, 101 * S);
    liveness_progress(&l, 1050, 0, 101 * S + 20 * MS);
    for (uint64_t now = 101200 * MS; now < 102520 * MS; now += 100 * MS) {
        liveness_progress(&l, 1050 + (now - 101 * S) / 1000, 0, now);
        assert_int_equal(liveness_check(&l, now), LIVENESS_FINE);
    }
    assert_int_equal(liveness_check(&l, 102520 * MS), LIVENESS_SUSPECT);
}

// Progress ends a suspicion too.
static void test_progress_late(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_ask(&l, 101 * S);
    liveness_pinged(&l, 101 * S);
    liveness_progress(&l, 1000, 5000, 101 * S);
    assert_int_equal(liveness_check(&l, 102500 * MS), LIVENESS_SUSPECT);
    liveness_progress(&l, 3000, 3000, 103 * S);
    assert_int_equal(liveness_check(&l, 103 * S), LIVENESS_FINE);
    liveness_progress(&l, 3000, 3000, 104500 * MS);
    assert_int_equal(liveness_check(&l, 104500 * MS), LIVENESS_SUSPECT);
    assert_int_equal(liveness_check(&l, 119500 * MS), LIVENESS_DEAD);
}

// Idle ---------------------------------------------------------------------------------------------------------

static void test_idle_agent(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    // Lately active by definition for 5 s: one PING a second, then silence.
    uint64_t now;
    while ((now = liveness_deadline(&l)) <= 105 * S) {
        liveness_check(&l, now);
        liveness_pinged(&l, now);
        liveness_ponged(&l, now);
    }
    uint32_t interval = LIVENESS_IDLE_MS;
    uint64_t heard = l.heard_us;
    for (int i = 0; i < 10; i++) {
        now = liveness_deadline(&l);
        assert_in_range(now - heard, interval * 900, interval * 1000);
        assert_int_equal(liveness_check(&l, now - 1), LIVENESS_FINE);
        assert_false(l.ping_due);
        assert_int_equal(liveness_check(&l, now), LIVENESS_FINE);
        assert_true(l.ping_due);
        interval = interval + 5000 < 40000 ? interval + 5000 : 40000;
        assert_int_equal(liveness_interval(&l), interval); // the peer is told how long it may become
        liveness_pinged(&l, now);
        liveness_ponged(&l, now + 50 * MS);
        heard = now + 50 * MS;
    }
}

static void test_idle_relay(void **state)
{
    struct liveness l = fresh(false, NULL, 50 * MS);
    liveness_peer_interval(&l, 20000);
    while (liveness_deadline(&l) <= 105 * S) {
        uint64_t now = liveness_deadline(&l);
        liveness_check(&l, now);
        liveness_pinged(&l, now);
        liveness_ponged(&l, now);
    }
    assert_int_equal(l.heard_us, 104 * S);
    assert_next(&l, 154 * S, LIVENESS_FINE, LIVENESS_DEAD); // two and a half intervals
    assert_false(l.ping_due);
    liveness_peer_interval(&l, 0);
    assert_int_equal(liveness_deadline(&l), 106500 * MS);
    liveness_peer_interval(&l, UINT32_MAX);
    assert_int_equal(liveness_deadline(&l), 254 * S);
}

// A network with an idle session over it, for so long: what it cuts, and when it was asked.
struct network {
    uint64_t cut_us; // a silence that is cut; 0: none
    bool silent;     // without telling anybody
    uint64_t pings, cuts, last_cut;
};

static void idle_session(struct network *n, struct liveness_lesson *lesson, uint64_t from, uint64_t to)
{
    uint64_t now = from;
    while (now < to) {
        struct liveness l;
        uint64_t last = now;
        liveness_init(&l, true, lesson, (uint32_t)now + 1, now);
        liveness_pinged(&l, now);
        liveness_ponged(&l, now);
        for (bool dead = false; now < to && !dead;) {
            uint64_t next = liveness_deadline(&l);
            assert_true(next > now);
            bool cut = n->cut_us && next > last + n->cut_us;
            now = cut && !n->silent ? last + n->cut_us : next;
            dead = cut && !n->silent;
            if (dead) {
                liveness_lost(&l, true, now);
                break;
            }
            dead = liveness_check(&l, now) == LIVENESS_DEAD;
            if (dead)
                liveness_lost(&l, true, now);
            if (l.ping_due) {
                n->pings++;
                liveness_pinged(&l, now);
                if (!cut)
                    liveness_ponged(&l, now);
                last = cut ? last : now;
            }
        }
        *lesson = l.lesson;
        n->cuts += now < to;
        n->last_cut = now < to ? now : n->last_cut;
    }
}

static void test_quiet(void **state)
{
    struct network n = {0};
    struct liveness_lesson lesson = {0};
    idle_session(&n, &lesson, 0, 5 * MINUTE);
    n.pings = 0;
    idle_session(&n, &lesson, 0, 24 * HOUR); // begins anew, and settles within three minutes
    assert_int_equal(n.cuts, 0);
    assert_in_range(n.pings, 24 * 60, 2 * 24 * 60 + 10); // each is answered: 4 frames a minute
    assert_int_equal(lesson.cut_ms, 0);
}

static void test_cutters(void **state)
{
    static const uint64_t cuts[] = {16, 20, 30, 45, 60};
    for (size_t i = 0; i < 2 * COUNT(cuts); i++) {
        struct network n = {.cut_us = cuts[i / 2] * S, .silent = i % 2};
        struct liveness_lesson lesson = {0};
        idle_session(&n, &lesson, 0, HOUR / 2);
        assert_in_range(n.cuts, 0, n.silent ? 4 : 2); // learnt,
        uint64_t learnt = n.cuts;
        n.pings = 0;
        idle_session(&n, &lesson, HOUR / 2, 3 * HOUR / 4);
        assert_int_equal(n.cuts, learnt); // and not lost for it again
        if (cuts[i / 2] >= 20)
            assert_in_range(n.pings, 15, 4 * 15 + 6); // four PINGs a minute where silence is cut at 20 s
        idle_session(&n, &lesson, 3 * HOUR / 4, 48 * HOUR);
        assert_in_range(n.cuts - learnt, 0, 14); // it tries again, ever more seldom
    }
}

// What cut once (a relay that was restarted) is not believed for ever.
static void test_forgiven(void **state)
{
    struct network n = {0};
    struct liveness_lesson lesson = {.cut_ms = 12000, .strikes = 1};
    idle_session(&n, &lesson, 0, HOUR);
    assert_int_equal(lesson.cut_ms, 0);
}

static void test_lessons(void **state)
{
    struct liveness_lesson before = {.cut_ms = 20000, .strikes = 1};
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_lost(&l, true, 120 * S);
    assert_int_equal(l.lesson.cut_ms, 20000);
    l = fresh(true, NULL, 50 * MS);
    liveness_lost(&l, false, 120 * S); // somebody meant it
    assert_int_equal(l.lesson.cut_ms, 0);
    l = fresh(true, NULL, 50 * MS);
    liveness_moved(&l, 118 * S);
    liveness_lost(&l, true, 120 * S); // not idle
    assert_int_equal(l.lesson.cut_ms, 0);
    l = fresh(true, NULL, 50 * MS);
    liveness_lost(&l, true, 106 * S); // too soon to blame silence
    assert_int_equal(l.lesson.cut_ms, 0);
    l = fresh(false, NULL, 50 * MS);
    liveness_lost(&l, true, 120 * S); // the agent's business
    assert_int_equal(l.lesson.cut_ms, 0);
    l = fresh(true, &before, 50 * MS);
    assert_int_equal(l.interval_ms, 10000); // halved,
    for (int i = 0; i < 20; i++) {
        uint64_t at = liveness_deadline(&l);
        liveness_check(&l, at);
        liveness_pinged(&l, at);
        liveness_ponged(&l, at);
    }
    assert_int_equal(l.interval_ms, 18000); // and stretched to what it bears
}

static void test_jitter(void **state)
{
    struct liveness a, b;
    liveness_init(&a, true, NULL, 1, 0);
    liveness_init(&b, true, NULL, 99, 0);
    assert_int_not_equal(a.wait_ms, b.wait_ms);
}

// Sleep and late looks -----------------------------------------------------------------------------------------

static void test_hurry(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_ask(&l, 101 * S);
    liveness_pinged(&l, 101 * S);
    liveness_hurry(&l, 102 * S);
    assert_true(l.ping_due);
    assert_false(l.ping_out);
    liveness_pinged(&l, 102 * S);
    assert_next(&l, 103 * S, LIVENESS_FINE, LIVENESS_SUSPECT); // one second
    l = fresh(true, NULL, 800 * MS);
    liveness_hurry(&l, 102 * S);
    liveness_pinged(&l, 102 * S);
    assert_next(&l, 103600 * MS, LIVENESS_FINE, LIVENESS_SUSPECT); // but two round trips
    liveness_ponged(&l, 104 * S);
    liveness_ask(&l, 104 * S);
    assert_false(l.hurried);
}

// The process was stopped: its own lateness condemns nobody.
static void test_late(void **state)
{
    struct liveness l = fresh(true, NULL, 50 * MS);
    liveness_ask(&l, 101 * S);
    liveness_pinged(&l, 101 * S);
    assert_int_equal(liveness_check(&l, 130 * S), LIVENESS_FINE);
    assert_true(l.ping_due); // asks again instead
    liveness_pinged(&l, 130 * S);
    assert_next(&l, 131 * S, LIVENESS_FINE, LIVENESS_SUSPECT);
    assert_int_equal(liveness_check(&l, 200 * S), LIVENESS_FINE); // stopped while suspicious
    assert_false(l.suspect);
    l = fresh(false, NULL, 50 * MS);
    liveness_peer_interval(&l, 15000);
    assert_int_equal(liveness_check(&l, 300 * S), LIVENESS_FINE);
    assert_true(l.ping_due);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_active),      cmocka_unit_test(test_answer_ends_suspicion),
        cmocka_unit_test(test_blocked),     cmocka_unit_test(test_pause),
        cmocka_unit_test(test_rtt),         cmocka_unit_test(test_patience),
        cmocka_unit_test(test_satellite),   cmocka_unit_test(test_modem),
        cmocka_unit_test(test_dead_behind_a_proxy), cmocka_unit_test(test_progress_late),
        cmocka_unit_test(test_idle_agent),  cmocka_unit_test(test_idle_relay),
        cmocka_unit_test(test_quiet),       cmocka_unit_test(test_cutters),
        cmocka_unit_test(test_forgiven),    cmocka_unit_test(test_lessons),
        cmocka_unit_test(test_jitter),      cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
