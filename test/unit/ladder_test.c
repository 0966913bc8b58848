// SPDX-License-Identifier: Apache-2.0
// Which way is tried when, with exact times: networks are played to the ladder, millisecond by millisecond.
#include "dial/ladder.h"
#include <stdlib.h>
#include "unit.h"

#define NEVER UINT32_MAX

struct play { // how a network treats a way
    uint32_t reach_ms, stand_ms, secure_ms, open_ms; // each behind the one before; NEVER
    uint32_t refuse_ms;                              // behind `stand`, or behind `reach` when it never stands
    bool final;
    size_t addresses;
};

typedef struct play network_fn(const struct way *way, size_t nth);

struct result {
    bool up;
    struct way way;
    uint64_t at_ms;
    size_t tries;
    struct way order[LADDER_TRIES];
    uint64_t started_ms[LADDER_TRIES];
};

static const struct transport_list all = {.of = {TRANSPORT_H1, TRANSPORT_H2, TRANSPORT_POLL}, .count = 3};

static uint64_t behind(uint64_t at, uint32_t ms) { return at == 0 || ms == NEVER ? 0 : at + ms; }

// True: it is open now.
static bool step(struct ladder_try *t, const struct play *p, uint64_t now)
{
    uint64_t reached = behind(t->started_ms, p->reach_ms), stood = behind(reached, p->stand_ms);
    uint64_t secured = behind(stood, p->secure_ms), refused = behind(stood ? stood : reached ? reached : t->started_ms, p->refuse_ms);
    if (t->over)
        return false;
    t->addresses = p->addresses ? p->addresses : 1;
    if (reached && now >= reached)
        t->reached_ms = reached;
    if (stood && now >= stood)
        t->stood_ms = stood;
    t->secured = secured && now >= secured;
    if (refused && now >= refused) {
        t->over = true;
        t->final = p->final;
    }
    uint64_t open = behind(secured, p->open_ms);
    return !t->over && open && now >= open;
}

#define START 1000

static struct result play(struct ladder *l, network_fn *network)
{
    struct result r = {0};
    struct play plays[LADDER_TRIES];
    for (uint64_t now = START; now < START + 60000; now++) {
        struct way way;
        uint64_t again;
        for (size_t i = 0; i < l->count; i++) {
            if (!step(&l->tries[i], &plays[i], now))
                continue;
            r.up = true;
            r.way = l->tries[i].way;
            r.at_ms = now - START;
            r.tries = l->count;
            return r;
        }
        while (ladder_next(l, now, &way, &again)) {
            size_t i = ladder_start(l, &way, now);
            plays[i] = network(&way, i);
            r.order[i] = way;
            r.started_ms[i] = now - START;
        }
        if (!ladder_runs(l) && !ladder_next(l, now, &way, &again))
            return (struct result){.at_ms = now - START, .tries = l->count};
    }
    r.tries = l->count;
    return r;
}

static struct result run(network_fn *network, size_t routes)
{
    struct ladder l;
    ladder_init(&l, &all, routes);
    return play(&l, network);
}

#define GOOD {.reach_ms = 20, .secure_ms = 40, .open_ms = 60, .refuse_ms = NEVER}
#define SILENT {.reach_ms = 20, .secure_ms = 40, .open_ms = NEVER, .refuse_ms = NEVER}
#define STALLED {.reach_ms = 20, .secure_ms = NEVER, .open_ms = NEVER, .refuse_ms = NEVER}
#define REFUSED {.reach_ms = 20, .secure_ms = 40, .open_ms = NEVER, .refuse_ms = 60}
#define DARK {.reach_ms = NEVER, .refuse_ms = NEVER}

static void assert_way(const struct way *way, size_t route, enum transport transport, uint16_t mss)
{
    assert_int_equal(way->route, route);
    assert_int_equal(way->transport, transport);
    assert_int_equal(way->mss, mss);
}

static struct play good(const struct way *way, size_t nth) { return (struct play)GOOD; }

static void a_good_network_costs_one_try(void **state)
{
    struct result r = run(good, 1);
    assert_true(r.up);
    assert_int_equal(r.tries, 1);
    assert_way(&r.way, 0, TRANSPORT_H1, 0);
}

static struct play dark(const struct way *way, size_t nth) { return (struct play)DARK; }

static void what_does_not_connect_costs_one_try_a_route(void **state)
{
    struct result r = run(dark, 1);
    assert_false(r.up);
    assert_int_equal(r.tries, 1);
    r = run(dark, 3);
    assert_int_equal(r.tries, 3);
    assert_int_equal(r.started_ms[2], 2 * LADDER_STAGGER_MS);
}

static struct play hole(const struct way *way, size_t nth)
{
    return way->mss ? (struct play)GOOD : (struct play)STALLED;
}

static void a_hole_for_large_packets_is_passed_with_small_ones(void **state)
{
    struct result r = run(hole, 1);
    assert_true(r.up);
    assert_way(&r.way, 0, TRANSPORT_H1, LADDER_MSS);
    assert_int_equal(r.at_ms, 20 + LADDER_STALL_MS + 120);
}

static struct play small_hole(const struct way *way, size_t nth)
{
    return way->mss == LADDER_MSS_MIN ? (struct play)GOOD : (struct play)STALLED;
}

static void a_hole_for_smaller_ones_is_passed_soon_after(void **state)
{
    struct result r = run(small_hole, 1);
    assert_true(r.up);
    assert_way(&r.way, 0, TRANSPORT_H1, LADDER_MSS_MIN);
    assert_int_equal(r.at_ms, 20 + LADDER_STALL_MS + LADDER_STAGGER_MS + 120);
}

static void full_segments_are_better_than_limited_ones(void **state)
{
    struct way full = {0}, limited = {.mss = LADDER_MSS}, small = {.mss = LADDER_MSS_MIN};
    assert_true(ladder_better(&all, &full, &limited) && ladder_better(&all, &limited, &small) && ladder_better(&all, &full, &small));
    assert_false(ladder_better(&all, &limited, &full) || ladder_better(&all, &small, &limited) || ladder_better(&all, &full, &full));
}

static struct play no_upgrade(const struct way *way, size_t nth)
{
    return way->transport == TRANSPORT_POLL ? (struct play)GOOD : (struct play)REFUSED;
}

static void a_refused_transport_brings_the_next_at_once(void **state)
{
    struct result r = run(no_upgrade, 1);
    assert_true(r.up);
    assert_way(&r.way, 0, TRANSPORT_POLL, 0);
    assert_int_equal(r.at_ms, 80 + 80 + 120);
    assert_int_equal(r.tries, 3);
}

static struct play mute(const struct way *way, size_t nth)
{
    return way->transport == TRANSPORT_POLL ? (struct play)GOOD : (struct play)SILENT;
}

static void silence_to_an_upgrade_is_passed_in_five_seconds(void **state)
{
    struct result r = run(mute, 1);
    assert_true(r.up);
    assert_way(&r.way, 0, TRANSPORT_POLL, 0);
    assert_in_range(r.at_ms, LADDER_SILENT_MS + LADDER_STALL_MS, 5000);
}

static struct play hole_and_no_upgrade(const struct way *way, size_t nth)
{
    return !way->mss ? (struct play)STALLED : no_upgrade(way, nth);
}

static void a_transport_inherits_the_segments_that_passed(void **state)
{
    struct result r = run(hole_and_no_upgrade, 1);
    assert_true(r.up);
    assert_way(&r.way, 0, TRANSPORT_POLL, LADDER_MSS);
    assert_in_range(r.at_ms, 0, 2500);
}

static struct play frozen(const struct way *way, size_t nth) { return (struct play)STALLED; }

static void what_says_nothing_at_all_is_asked_five_times(void **state)
{
    struct result r = run(frozen, 1);
    assert_false(r.up);
    assert_int_equal(r.tries, 5); // three sizes, and the two other transports
    struct ladder l;
    ladder_init(&l, &all, 1);
    l.most = 2;
    r = play(&l, frozen);
    assert_int_equal(r.tries, 2);
}

static struct play hole_and_mute(const struct way *way, size_t nth) { return !way->mss ? (struct play)STALLED : mute(way, nth); }

static void the_worst_of_both_is_passed_in_ten_seconds(void **state)
{
    struct result r = run(hole_and_mute, 1);
    assert_true(r.up);
    assert_way(&r.way, 0, TRANSPORT_POLL, LADDER_MSS);
    assert_in_range(r.at_ms, 0, 9999);
}

static struct play only_the_proxy(const struct way *way, size_t nth)
{
    return way->route == 1 ? (struct play)GOOD : (struct play)DARK;
}

static void routes_are_raced(void **state)
{
    struct result r = run(only_the_proxy, 2);
    assert_true(r.up);
    assert_way(&r.way, 1, TRANSPORT_H1, 0);
    assert_int_equal(r.at_ms, LADDER_STAGGER_MS + 120);
}

static struct play proxy_says_no(const struct way *way, size_t nth)
{
    if (way->route == 0) // reached, but never stands
        return (struct play){.reach_ms = 5, .stand_ms = NEVER, .refuse_ms = 5};
    return (struct play)GOOD;
}

static void a_route_that_fails_brings_the_next_at_once(void **state)
{
    struct result r = run(proxy_says_no, 2);
    assert_true(r.up);
    assert_int_equal(r.tries, 2); // no other transport to a proxy that says no
    assert_int_equal(r.at_ms, 10 + 120);
}

static struct play first_address_stalls(const struct way *way, size_t nth)
{
    struct play p = nth == 0 ? (struct play)STALLED : (struct play)GOOD;
    p.addresses = 2;
    return p;
}

static void an_address_that_stalls_brings_another(void **state)
{
    struct result r = run(first_address_stalls, 1);
    assert_true(r.up);
    assert_in_range(r.at_ms, 0, 1999);
    assert_int_equal(r.tries, 2);
}

static struct play first_address_fails(const struct way *way, size_t nth)
{
    struct play p = nth == 0 ? (struct play)REFUSED : (struct play)GOOD;
    p.addresses = 2;
    return p;
}

static void an_address_that_fails_brings_another_at_once(void **state)
{
    struct ladder l;
    ladder_init(&l, &(struct transport_list){.of = {TRANSPORT_H1}, .count = 1}, 1);
    struct result r = play(&l, first_address_fails);
    assert_true(r.up);
    assert_int_equal(r.at_ms, 80 + 120);
}

static struct play all_addresses_stall(const struct way *way, size_t nth)
{
    struct play p = nth < 3 ? (struct play)STALLED : (struct play)GOOD;
    p.addresses = 4;
    return p;
}

static void many_addresses_have_their_turn(void **state)
{
    struct ladder l;
    ladder_init(&l, &(struct transport_list){.of = {TRANSPORT_H1}, .count = 1}, 1);
    struct result r = play(&l, all_addresses_stall);
    assert_true(r.up);
    assert_int_equal(r.tries, 4);
}

static struct play untrusted(const struct way *way, size_t nth)
{
    struct play p = REFUSED;
    p.final = true;
    return p;
}

static void who_is_not_trusted_is_not_asked_by_other_means(void **state)
{
    struct result r = run(untrusted, 1);
    assert_false(r.up);
    assert_int_equal(r.tries, 1);
    assert_int_equal(r.at_ms, 80);
    r = run(untrusted, 2); // but another route may lead elsewhere
    assert_int_equal(r.tries, 2);
}

static void what_worked_goes_first_and_the_others_follow(void **state)
{
    struct ladder l;
    ladder_init(&l, &all, 2);
    l.has_first = true;
    l.first = (struct way){.route = 1, .transport = TRANSPORT_POLL};
    struct result r = play(&l, dark);
    assert_way(&r.order[0], 1, TRANSPORT_POLL, 0);
    assert_way(&r.order[1], 0, TRANSPORT_H1, 0);
    assert_way(&r.order[2], 1, TRANSPORT_H1, 0);
    assert_int_equal(r.started_ms[1], LADDER_STAGGER_MS);
    assert_int_equal(r.started_ms[2], 2 * LADDER_STAGGER_MS);
}

static void only_better_ways_are_tried_above_a_floor(void **state)
{
    struct ladder l;
    ladder_init(&l, &all, 1);
    l.has_floor = true;
    l.floor = (struct way){.transport = TRANSPORT_POLL};
    struct result r = play(&l, no_upgrade); // h1 and h2 are refused
    assert_false(r.up);
    assert_int_equal(r.tries, 2);
    ladder_init(&l, &all, 1);
    l.has_floor = true;
    l.floor = (struct way){.transport = TRANSPORT_H1, .mss = LADDER_MSS};
    r = play(&l, hole);
    assert_false(r.up);
    assert_int_equal(r.tries, 1);
    ladder_init(&l, &all, 1);
    l.has_floor = true;
    l.floor = (struct way){.transport = TRANSPORT_H1};
    r = play(&l, good); // there is nothing better
    assert_int_equal(r.tries, 0);
}

static uint32_t seed;

static uint32_t draw(uint32_t n) { return (seed = seed * 1664525u + 1013904223u) / 65536u % n; }

static struct play any(const struct way *way, size_t nth)
{
    static const uint32_t times[] = {0, 20, 300, 2000, NEVER};
    return (struct play){.reach_ms = times[draw(5)], .stand_ms = times[draw(5)], .secure_ms = times[draw(5)], .open_ms = NEVER,
                         .refuse_ms = times[draw(5)], .final = draw(8) == 0, .addresses = draw(4)};
}

// Whatever happens: the bound holds, nothing is due in the past for ever, and no try repeats without another address.
static void any_network_is_bounded(void **state)
{
    for (seed = 1; seed < 300; seed += 7) {
        struct ladder l;
        ladder_init(&l, &all, 1 + draw(LADDER_ROUTES));
        struct result r = play(&l, any);
        assert_false(r.up);
        assert_in_range(r.tries, 1, LADDER_TRIES);
    }
}

static void lists(void **state)
{
    struct transport_list l;
    struct err e = ERR_INIT;
    assert_int_equal(transport_parse(&l, "h1", &e), 0);
    assert_int_equal(l.count, 1);
    assert_true(transport_has(&l, TRANSPORT_H1) && !transport_has(&l, TRANSPORT_POLL));
    static const char *const wrong[] = {"", "h1,", ",h1", "h1,h1", "h3", "h1 h2", "H1"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        assert_int_equal(transport_parse(&l, wrong[i], &e), -1);
        assert_int_equal(e.kind, ERR_USAGE);
    }
    err_fini(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_network_costs_one_try),
        cmocka_unit_test(what_does_not_connect_costs_one_try_a_route),
        cmocka_unit_test(a_hole_for_large_packets_is_passed_with_small_ones),
        cmocka_unit_test(a_hole_for_smaller_ones_is_passed_soon_after),
        cmocka_unit_test(full_segments_are_better_than_limited_ones),
        cmocka_unit_test(a_refused_transport_brings_the_next_at_once),
        cmocka_unit_test(silence_to_an_upgrade_is_passed_in_five_seconds),
        cmocka_unit_test(a_transport_inherits_the_segments_that_passed),
        cmocka_unit_test(what_says_nothing_at_all_is_asked_five_times),
        cmocka_unit_test(the_worst_of_both_is_passed_in_ten_seconds),
        cmocka_unit_test(routes_are_raced),
        cmocka_unit_test(a_route_that_fails_brings_the_next_at_once),
        cmocka_unit_test(an_address_that_stalls_brings_another),
        cmocka_unit_test(an_address_that_fails_brings_another_at_once),
        cmocka_unit_test(many_addresses_have_their_turn),
        cmocka_unit_test(who_is_not_trusted_is_not_asked_by_other_means),
        cmocka_unit_test(what_worked_goes_first_and_the_others_follow),
        cmocka_unit_test(only_better_ways_are_tried_above_a_floor),
        cmocka_unit_test(any_network_is_bounded),
        cmocka_unit_test(lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
