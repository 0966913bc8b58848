// SPDX-License-Identifier: Apache-2.0
// Sealed streams over a pair of sessions in memory: who is believed, what an end is, what a cut is; and datagrams sealed
// each by itself.
#include "drive.h"
#include "unit.h"
#include "core/log.h"
#include "duo.h"
#include "texts.h"
#include "forward/seal.h"
#include "forward/seal_dgram.h"
#include "link/tls.h"
#include "trust/identity.h"

struct world {
    struct worker w;
    struct duo duo;
    struct identity asker, answerer;
    struct seal_way asks, answers;
    struct seal_asker named; // what the relay says
    const char *host;        // under which the answering end was asked; NULL: as it was
    bool plain;              // the answering end does not seal
    struct link *near, *far; // tops of the two ends
    struct stream *far_st;
    struct wake wake;
    bool admits;
};

static void on_news(struct wake *wake) { (void)wake; }

static bool admit(void *owner, const uint8_t pin[32], const struct seal_asker *asker, struct err *e)
{
    struct world *x = owner;
    assert_memory_equal(pin, x->asker.pin, 32);
    assert_string_equal(asker->name, "far");
    if (!x->admits)
        err_set(e, ERR_UNTRUSTED, WHY_POLICY, "not you");
    return x->admits;
}

static void on_open(struct session *s, struct stream *st, const struct frame_open *asked)
{
    struct world *x = s->owner;
    struct frame_open open = *asked;
    x->far_st = st;
    if (x->plain) {
        stream_accept(st, NULL);
        x->far = stream_link(st);
    } else {
        assert_true(open.sealed);
        if (x->host)
            snprintf(open.host, sizeof(open.host), "%s", x->host);
        x->far = seal_accept(&x->answers, st, &open);
    }
    link_own(x->far, &x->wake);
}

static const struct session_ops ops = {.on_open = on_open};

static void turn(struct world *x) { drive_all(&x->w); }

static void world_init(struct world *x)
{
    struct err e = ERR_INIT;
    memset(x, 0, sizeof(*x));
    log_setup(LOG_ERROR, LOG_TEXT);
    worker_init_bare(&x->w);
    x->w.now_ms = 1000;
    duo_init(&x->duo, &x->w, &ops, &ops, x);
    wake_init(&x->wake, on_news);
    assert_int_equal(identity_make(&x->asker, &e), 0);
    assert_int_equal(identity_make(&x->answerer, &e), 0);
    x->asks.client = tls_inner_ctx(false, x->asker.cert, x->asker.key, &e);
    x->answers.server = tls_inner_ctx(true, x->answerer.cert, x->answerer.key, &e);
    x->answers.admit = admit;
    x->answers.owner = x;
    x->admits = true;
    strcpy(x->named.name, "far");
}

static void world_fini(struct world *x)
{
    link_close(x->near);
    link_close(x->far);
    drive_settle(&x->w);
    duo_fini(&x->duo);
    wake_cancel(&x->wake);
    SSL_CTX_free(x->asks.client);
    SSL_CTX_free(x->answers.server);
    identity_fini(&x->asker);
    identity_fini(&x->answerer);
    worker_fini(&x->w);
}

// Opens it@near, and drives both ends until neither has more to do. Answers what the asking end says.
static enum link_status open_both(struct world *x, const uint8_t pin[32], bool answers)
{
    struct frame_open open = {.kind = OPEN_SERVICE, .host = "it@near", .sealed = true};
    struct seal_peer peer = {.pin_count = 1};
    struct err e = ERR_INIT;
    enum link_status near = LINK_AGAIN, far = LINK_AGAIN;
    memcpy(peer.pins[0], pin, 32);
    x->near = seal_over(&x->asks, session_open(&x->duo.agent.s, &open), "it@near", &peer);
    link_own(x->near, &x->wake);
    for (int i = 0; i < 20; i++) {
        if (near == LINK_AGAIN)
            near = link_open(x->near);
        turn(x);
        if (x->far && !x->plain && far == LINK_AGAIN && (far = link_open(x->far)) == LINK_OK && answers) {
            seal_admits(&x->answers, x->far, &x->named, &e);
            seal_answer(x->far, err_is(&e) ? &e : NULL);
        }
        turn(x);
    }
    err_fini(&e);
    return near;
}

static void say(struct world *x, struct link *from, const char *text)
{
    assert_true(link_room(from) > 0);
    text_send(from, text);
    turn(x);
}

static void says(const struct link *l, enum err_kind kind, const char *part)
{
    assert_int_equal(l->err.kind, kind);
    if (!strstr(err_text(&l->err), part))
        fail_msg("\"%s\" does not say \"%s\"", err_text(&l->err), part);
}

static void both_directions_end_by_themselves(void **state)
{
    struct world x;
    struct buf *b;
    world_init(&x);
    assert_int_equal(open_both(&x, x.answerer.pin, true), LINK_OK);
    say(&x, x.near, "question");
    text_recv(x.far, "question");
    link_shut(x.near, SHUT_END);
    turn(&x);
    assert_int_equal(link_recv(x.far, &b), LINK_END);
    assert_int_equal(link_recv(x.near, &b), LINK_AGAIN);
    say(&x, x.far, "answer");
    text_recv(x.near, "answer");
    // Ended, but what ends the stream below has not come yet: closing now would reset it.
    assert_int_equal(link_recv(x.near, &b), LINK_AGAIN);
    link_shut(x.far, SHUT_END);
    turn(&x);
    assert_int_equal(link_recv(x.near, &b), LINK_END);
    assert_true(link_room(x.near) > 0);
    assert_true(link_room(x.far) > 0);
    link_close(x.near);
    link_close(x.far);
    x.near = x.far = NULL;
    drive_settle(&x.w);
    turn(&x);
    assert_int_equal(x.duo.agent.s.stats.reset + x.duo.relay.s.stats.reset, 0);
    world_fini(&x);
}

// The relay ends the stream below: no end of the bytes inside, whatever came before.
static void a_cut_is_no_end(void **state)
{
    struct world x;
    struct buf *b;
    world_init(&x);
    assert_int_equal(open_both(&x, x.answerer.pin, true), LINK_OK);
    say(&x, x.far, "half of it");
    link_shut(stream_link(x.far_st), SHUT_END);
    turn(&x);
    text_recv(x.near, "half of it");
    assert_int_equal(link_recv(x.near, &b), LINK_FAILED);
    says(x.near, ERR_FAILED, "without close_notify");
    world_fini(&x);
}

static void a_reset_passes(void **state)
{
    struct world x;
    struct buf *b;
    world_init(&x);
    assert_int_equal(open_both(&x, x.answerer.pin, true), LINK_OK);
    say(&x, x.near, "last");
    link_shut(x.near, SHUT_ABORT);
    turn(&x);
    text_recv(x.far, "last");
    assert_int_equal(link_recv(x.far, &b), LINK_FAILED);
    says(x.far, ERR_FAILED, "aborted");
    assert_int_equal(x.far->err.why, WHY_ABORTED);
    world_fini(&x);
}

static void bytes_that_were_changed_are_refused(void **state)
{
    static const uint8_t record[] = {23, 3, 3, 0, 32, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
                                     19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32};
    struct world x;
    struct buf *b;
    world_init(&x);
    assert_int_equal(open_both(&x, x.answerer.pin, true), LINK_OK);
    link_send(stream_link(x.far_st), buf_copy(&x.w.pool, record, sizeof(record)));
    turn(&x);
    assert_int_equal(link_recv(x.near, &b), LINK_FAILED);
    says(x.near, ERR_FAILED, "TLS with it@near");
    world_fini(&x);
}

static void another_key_is_refused(void **state)
{
    struct world x;
    struct buf *b;
    world_init(&x);
    assert_int_equal(open_both(&x, x.asker.pin, true), LINK_FAILED);
    says(x.near, ERR_UNTRUSTED, "not the pinned one");
    assert_int_not_equal(link_recv(x.far, &b), LINK_OK);
    world_fini(&x);
}

static void another_service_is_refused(void **state)
{
    static const char *const others[] = {"other@near", "i@near", "itt@near", "@near"};
    for (size_t i = 0; i < COUNT(others); i++) {
        struct world x;
        world_init(&x);
        x.host = others[i];
        assert_int_equal(open_both(&x, x.answerer.pin, true), LINK_FAILED);
        says(x.near, ERR_UNREACHED, "sealed stream: TLS with it@near");
        assert_int_not_equal(link_open(x.far), LINK_OK);
        world_fini(&x);
    }
}

static void an_unsealed_answer_is_refused(void **state)
{
    struct world x;
    struct buf *b;
    world_init(&x);
    x.plain = true;
    assert_int_equal(open_both(&x, x.answerer.pin, true), LINK_FAILED);
    says(x.near, ERR_UNTRUSTED, "answered unsealed");
    assert_true(link_room(x.near) > 0); // what failed takes anything, and sends nothing
    assert_int_equal(link_recv(x.far, &b), LINK_OK); // a ClientHello, and nothing of the caller's
    assert_int_equal(*buf_data(b), 22);
    buf_put(b);
    world_fini(&x);
}

static void nothing_is_taken_before_the_other_has_proved_its_key(void **state)
{
    struct world x;
    struct frame_open open = {.kind = OPEN_SERVICE, .host = "it@near", .sealed = true};
    struct seal_peer peer = {.pin_count = 1};
    world_init(&x);
    memcpy(peer.pins[0], x.answerer.pin, 32);
    x.near = seal_over(&x.asks, session_open(&x.duo.agent.s, &open), "it@near", &peer);
    link_own(x.near, &x.wake);
    assert_int_equal(link_open(x.near), LINK_AGAIN);
    assert_int_equal(link_room(x.near), 0);
    turn(&x);
    assert_int_equal(link_open(x.near), LINK_AGAIN); // OPENED is in, the other's flight is not
    assert_int_equal(link_room(x.near), 0);
    assert_int_equal(link_open(x.far), LINK_AGAIN);
    turn(&x);
    assert_int_equal(link_open(x.near), LINK_AGAIN); // proved; the answer is still to come
    assert_true(link_room(x.near) > 0);
    say(&x, x.near, "early");
    assert_int_equal(link_open(x.far), LINK_OK);
    text_recv(x.far, "early");
    seal_answer(x.far, NULL);
    say(&x, x.far, "in one piece with the answer");
    assert_int_equal(link_open(x.near), LINK_OK);
    text_recv(x.near, "in one piece with the answer");
    world_fini(&x);
}

static void a_refusal_inside_says_why(void **state)
{
    struct world x;
    world_init(&x);
    x.admits = false;
    assert_int_equal(open_both(&x, x.answerer.pin, true), LINK_FAILED);
    says(x.near, ERR_POLICY, "not you");
    assert_int_equal(x.near->err.why, WHY_POLICY);
    world_fini(&x);
}

static void an_end_instead_of_the_answer_is_a_failure(void **state)
{
    struct world x;
    world_init(&x);
    assert_int_equal(open_both(&x, x.answerer.pin, false), LINK_AGAIN);
    link_shut(x.far, SHUT_END);
    turn(&x);
    assert_int_equal(link_open(x.near), LINK_FAILED);
    says(x.near, ERR_FAILED, "before it answered");
    world_fini(&x);
}

// Datagrams ----------------------------------------------------------------------------------------------------

struct dgrams {
    struct seal_dgram *asker, *answerer;
};

static struct dgrams dgrams_new(void)
{
    uint8_t keys[SEAL_DGRAM_KEYS];
    for (size_t i = 0; i < sizeof(keys); i++)
        keys[i] = (uint8_t)(i + 1);
    return (struct dgrams){seal_dgram_new(keys, true), seal_dgram_new(keys, false)};
}

static void dgrams_free(struct dgrams *d)
{
    seal_dgram_free(d->asker);
    seal_dgram_free(d->answerer);
}

static void datagrams_go_both_ways(void **state)
{
    struct dgrams d = dgrams_new();
    uint8_t sealed[2000 + SEAL_DGRAM_MORE], plain[2000], data[2000];
    for (size_t len = 0; len <= sizeof(data); len += len < 40 ? 1 : 490) {
        size_t n;
        memset(data, (int)len + 1, sizeof(data));
        assert_int_equal(seal_dgram_put(d.asker, sealed, data, len), len + SEAL_DGRAM_MORE);
        size_t n_back;
        assert_false(seal_dgram_get(d.asker, plain, &n_back, sealed, len + SEAL_DGRAM_MORE)); // not its own
        assert_true(seal_dgram_get(d.answerer, plain, &n, sealed, len + SEAL_DGRAM_MORE));
        assert_int_equal(n, len);
        assert_memory_equal(plain, data, len);
        assert_int_equal(seal_dgram_put(d.answerer, sealed, data, len), len + SEAL_DGRAM_MORE);
        assert_true(seal_dgram_get(d.asker, plain, &n, sealed, len + SEAL_DGRAM_MORE));
        assert_memory_equal(plain, data, len);
    }
    dgrams_free(&d);
}

static void every_changed_bit_is_refused(void **state)
{
    struct dgrams d = dgrams_new();
    uint8_t sealed[5 + SEAL_DGRAM_MORE], plain[5];
    size_t n, len = seal_dgram_put(d.asker, sealed, (const uint8_t *)"hello", 5);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(seal_dgram_get(d.answerer, plain, &n, sealed, len));
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++)
        assert_false(seal_dgram_get(d.answerer, plain, &n, sealed, cut));
    assert_true(seal_dgram_get(d.answerer, plain, &n, sealed, len)); // the forged ones have moved nothing
    dgrams_free(&d);
}

#define MANY (3 * SEAL_DGRAM_WINDOW)

static void each_is_taken_once_and_the_old_not_at_all(void **state)
{
    static uint8_t sealed[MANY][1 + SEAL_DGRAM_MORE];
    struct dgrams d = dgrams_new();
    uint8_t plain[1];
    size_t n;
    for (size_t i = 0; i < MANY; i++)
        seal_dgram_put(d.asker, sealed[i], (const uint8_t *)"x", 1);
    // In steps back and forth: every second one first, then those left out.
    for (size_t i = 0; i < SEAL_DGRAM_WINDOW; i += 2)
        assert_true(seal_dgram_get(d.answerer, plain, &n, sealed[i], sizeof(sealed[i])));
    for (size_t i = 0; i < SEAL_DGRAM_WINDOW; i++)
        assert_int_equal(seal_dgram_get(d.answerer, plain, &n, sealed[i], sizeof(sealed[i])), i % 2 == 1);
    for (size_t i = 0; i < SEAL_DGRAM_WINDOW; i++)
        assert_false(seal_dgram_get(d.answerer, plain, &n, sealed[i], sizeof(sealed[i])));
    // A leap: what lies within the window of the newest is still taken, once, what lies before it is not.
    assert_true(seal_dgram_get(d.answerer, plain, &n, sealed[MANY - 1], sizeof(sealed[0])));
    for (size_t i = SEAL_DGRAM_WINDOW; i < MANY; i++)
        assert_int_equal(seal_dgram_get(d.answerer, plain, &n, sealed[i], sizeof(sealed[i])),
                         i >= MANY - SEAL_DGRAM_WINDOW && i != MANY - 1);
    for (size_t i = 0; i < MANY; i++)
        assert_false(seal_dgram_get(d.answerer, plain, &n, sealed[i], sizeof(sealed[i])));
    dgrams_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_directions_end_by_themselves),
        cmocka_unit_test(a_cut_is_no_end),
        cmocka_unit_test(a_reset_passes),
        cmocka_unit_test(bytes_that_were_changed_are_refused),
        cmocka_unit_test(another_key_is_refused),
        cmocka_unit_test(another_service_is_refused),
        cmocka_unit_test(an_unsealed_answer_is_refused),
        cmocka_unit_test(nothing_is_taken_before_the_other_has_proved_its_key),
        cmocka_unit_test(a_refusal_inside_says_why),
        cmocka_unit_test(an_end_instead_of_the_answer_is_a_failure),
        cmocka_unit_test(datagrams_go_both_ways),
        cmocka_unit_test(every_changed_bit_is_refused),
        cmocka_unit_test(each_is_taken_once_and_the_old_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
