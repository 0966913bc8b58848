// SPDX-License-Identifier: Apache-2.0
// A whole relay, in a thread of its own, and agents made by hand: who may come in, what they may open, what happens to
// sessions, listeners and offers when carriers end, others come, rules change or the relay goes.
#include "loop.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <jansson.h>
#include "core/log.h"
#include "forward/listen.h"
#include "link/tcp.h"
#include "link/tls.h"
#include "link/ws.h"
#include "relay/relay.h"
#include "relay/state.h"
#include "session/conn.h"
#include "trust/store.h"

struct bench {
    struct worker w;
    struct budget budget;
    char folder[64], cwd[256];
    uv_thread_t thread;
    struct relay_options o;
    struct spec_addr plain;
    const char *paths[1];
    int rc;
    bool running;
    struct addr relay;
    struct identity relay_id;
    struct listener *echo;
};

struct peer {
    struct bench *b;
    struct identity id;
    struct session s;
    struct conn *conn;
    uint32_t carrier;
    bool up, down, refused, goaway;
    struct frame_welcome welcome;
    char text[FRAME_TEXT_MAX + 1];
    struct frame_open asked; // the last one that came
    struct link *accepted;
    struct wake wake;
};

struct talk { // one stream of a peer
    struct link *link;
    struct wake wake;
    enum link_status open;
    bool ended, failed;
    char in[64];
    size_t have;
};

// An echo: what comes goes back.
struct echo {
    struct link *link;
    struct wake wake;
};

static void echo_wake(struct wake *wake)
{
    struct echo *e = container_of(wake, struct echo, wake);
    struct buf *b;
    enum link_status rc;
    while ((rc = link_recv(e->link, &b)) == LINK_OK)
        link_send(e->link, b);
    if (rc == LINK_AGAIN)
        return;
    link_close(e->link);
    free(e);
}

static void echo_start(struct worker *w, struct link *link)
{
    struct echo *e = calloc(1, sizeof *e);
    e->link = link;
    wake_init(&e->wake, echo_wake);
    link_own(link, &e->wake);
    wake_post(w, &e->wake);
}

static void on_echo(void *owner, struct link *link, const struct addr *peer)
{
    struct bench *b = owner;
    echo_start(&b->w, link);
}

static void relay_thread(void *arg)
{
    struct bench *b = arg;
    struct err e = ERR_INIT;
    b->rc = relay_run(&b->o, &e);
    if (b->rc < 0)
        fprintf(stderr, "relay: %s\n", err_text(&e));
    err_fini(&e);
}

static void read_ready(struct bench *b, int fd)
{
    char line[512] = "", *at;
    for (size_t n = 0; !strchr(line, '\n');) {
        ssize_t got = read(fd, line + n, sizeof line - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
    }
    close(fd);
    json_t *o = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
    const char *text = json_string_value(json_array_get(json_object_get(o, "listen_plain"), 0));
    assert_non_null(text);
    at = strrchr(text, ':');
    assert_true(addr_parse_ip(&b->relay, "127.0.0.1", (uint16_t)atoi(at + 1)));
    json_decref(o);
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err e = ERR_INIT;
    int fds[2];
    log_setup(LOG_ERROR, LOG_TEXT);
    signal(SIGPIPE, SIG_IGN);
    strcpy(b->folder, "/tmp/culvert-relay-XXXXXX");
    assert_non_null(mkdtemp(b->folder));
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(spec_addr_parse(&b->plain, "127.0.0.1:0", "*", &e), 0);
    b->paths[0] = "/";
    b->o = (struct relay_options){.state = b->folder, .plain = &b->plain, .plain_count = 1, .paths = b->paths,
                                  .path_count = 1, .park_ms = 60000, .udp_idle_ms = 60000, .drain_ms = 20000,
                                  .memory = 64 << 20, .memory_agent = 16 << 20, .ready_fd = fds[1]};
    assert_int_equal(relay_state_identity(b->folder, &b->relay_id, &e), 0);
    assert_int_equal(worker_init(&b->w, 0, 1), 0);
    budget_init(&b->budget, 64 << 20, NULL);
    assert_int_equal(uv_thread_create(&b->thread, relay_thread, b), 0);
    b->running = true;
    read_ready(b, fds[0]);
    struct addr at;
    addr_parse_ip(&at, "127.0.0.1", 0);
    struct listen_options lo = {.at = &at, .count = 1, .on_accept = on_echo, .owner = b};
    b->echo = listener_open(&b->w, &lo, &e);
    assert_non_null(b->echo);
    *state = b;
    return 0;
}

static void stop_relay(struct bench *b)
{
    if (b->running) {
        kill(getpid(), SIGTERM);
        kill(getpid(), SIGTERM);
        uv_thread_join(&b->thread);
    }
    b->running = false;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    char command[100];
    stop_relay(b);
    listener_close(b->echo);
    for (int i = 0; i < 8; i++)
        worker_poll(&b->w, false);
    budget_fini(&b->budget);
    worker_fini(&b->w);
    identity_fini(&b->relay_id);
    snprintf(command, sizeof command, "rm -rf %s", b->folder);
    assert_int_equal(system(command), 0);
    free(b);
    return 0;
}

// The agent's side -----------------------------------------------------------------------------------------------

static void on_open(struct session *s, struct stream *st, const struct frame_open *open)
{
    struct peer *p = s->owner;
    p->asked = *open;
    stream_accept(st, NULL);
    echo_start(&p->b->w, stream_link(st));
}

static void on_goaway(struct session *s, uint16_t code, uint32_t retry_ms, const char *text)
{
    ((struct peer *)s->owner)->goaway = true;
}

static const struct session_ops session_ops = {.on_open = on_open, .on_goaway = on_goaway};

static bool on_welcome(struct conn *c, const struct frame_welcome *w)
{
    struct peer *p = c->owner;
    p->welcome = *w;
    return p->up = true;
}

static void on_down(struct conn *c, const struct err *err, const struct frame_welcome *refusal)
{
    struct peer *p = c->owner;
    p->down = true;
    p->refused = refusal != NULL;
    if (refusal)
        p->welcome = *refusal;
    snprintf(p->text, sizeof p->text, "%s", refusal ? refusal->text : err_text(err));
}

static const struct conn_ops conn_ops = {.on_welcome = on_welcome, .on_down = on_down};

static void peer_init(struct bench *b, struct peer *p, const struct identity *id)
{
    struct err e = ERR_INIT;
    uint8_t session[16];
    *p = (struct peer){.b = b};
    if (id)
        p->id = (struct identity){.key = id->key, .cert = id->cert}, memcpy(p->id.pin, id->pin, PIN_SIZE);
    else
        assert_int_equal(identity_make(&p->id, &e), 0);
    worker_random(&b->w, session, 16);
    session_init(&p->s, &b->w, true, session, &session_ops, p, &b->budget);
}

static void peer_hang_up(struct peer *p)
{
    if (p->conn)
        conn_free(p->conn);
    p->conn = NULL;
}

static void peer_fini(struct peer *p, bool own_id)
{
    peer_hang_up(p);
    session_fini(&p->s, NULL);
    if (own_id)
        identity_fini(&p->id);
}

// Dials, says HELLO and waits for the answer.
static void peer_dial(struct peer *p, const uint8_t *token)
{
    struct bench *b = p->b;
    struct err e = ERR_INIT;
    struct frame_hello hello = {.ver_min = 1, .ver_max = 1, .carrier = ++p->carrier};
    SSL_CTX *ctx = tls_inner_ctx(false, p->id.cert, p->id.key, &e);
    struct ws_client_options ws = {.host = "relay", .path = "/", .protocol = WS_SUBPROTOCOL};
    struct tls_options inner = {.ctx = ctx, .pins = (const uint8_t(*)[32])b->relay_id.pin, .pin_count = 1, .who = "relay"};
    memcpy(hello.session, p->s.id, 16);
    hello.has_token = token != NULL;
    if (token)
        memcpy(hello.token, token, 16);
    p->up = p->down = p->refused = false;
    struct link *top = tls_over(ws_client_over(tcp_dial(&b->w, &b->relay, TCP_CARRIER), &ws), &inner, NULL);
    p->conn = conn_agent(&b->w, top, &hello, true, 20000, &p->s, &conn_ops, p);
    SSL_CTX_free(ctx);
    loop_until(&b->w, p->up || p->down);
}

static void invite(struct bench *b, const char *name, const char *const *allow, const char *listen, const char *offer,
                   uint8_t token[16])
{
    struct err e = ERR_INIT;
    struct rule rules[8];
    struct store_invite i = {.name = name, .rules = rules, .uses = 1, .ttl_s = 600};
    char id[STORE_INVITATION_ID];
    for (; allow && *allow; allow++)
        assert_int_equal(rule_parse(&rules[i.rule_count++], RULE_ALLOW, *allow, &e), 0);
    if (listen)
        assert_int_equal(rule_parse(&rules[i.rule_count++], RULE_LISTEN, listen, &e), 0);
    if (offer)
        assert_int_equal(rule_parse(&rules[i.rule_count++], RULE_OFFER, offer, &e), 0);
    struct store *s = store_open(b->folder, &e);
    assert_non_null(s);
    assert_int_equal(store_invite(s, &i, token, id, &e), 0);
    store_close(s);
}

static const char *const local[] = {"127.0.0.1:1024-65535", "web@site", NULL};

static void join(struct bench *b, struct peer *p, const char *name, const char *listen, const char *offer)
{
    uint8_t token[16];
    invite(b, name, local, listen, offer, token);
    peer_init(b, p, NULL);
    peer_dial(p, token);
    assert_true(p->up);
    assert_string_equal(p->welcome.name, name);
}

static void talk_wake(struct wake *wake)
{
    struct talk *t = container_of(wake, struct talk, wake);
    struct buf *b;
    enum link_status rc;
    if (t->open != LINK_OK)
        t->open = link_open(t->link);
    if (t->open != LINK_OK)
        return;
    while ((rc = link_recv(t->link, &b)) == LINK_OK) {
        if (t->have + b->len < sizeof t->in)
            memcpy(t->in + t->have, buf_data(b), b->len);
        t->have += b->len;
        buf_put(b);
    }
    t->ended |= rc == LINK_END;
    t->failed |= rc == LINK_FAILED;
}

static void talk_open(struct peer *p, struct talk *t, uint8_t kind, const char *host, uint16_t port)
{
    struct frame_open open = {.kind = kind, .port = port};
    snprintf(open.host, sizeof open.host, "%s", host);
    *t = (struct talk){.open = LINK_AGAIN};
    t->link = stream_link(session_open(&p->s, &open));
    wake_init(&t->wake, talk_wake);
    link_own(t->link, &t->wake);
    wake_post(&p->b->w, &t->wake);
    loop_until(&p->b->w, t->open != LINK_AGAIN);
}

static void talk_close(struct talk *t)
{
    link_close(t->link);
    wake_cancel(&t->wake);
}

static void talk_echo(struct bench *b, struct talk *t, const char *word)
{
    t->have = 0;
    link_send(t->link, buf_copy(&b->w.pool, word, strlen(word)));
    loop_until(&b->w, t->have >= strlen(word) || t->failed);
    assert_false(t->failed);
    assert_memory_equal(t->in, word, strlen(word));
}

static uint16_t echo_port(struct bench *b) { return addr_port(listener_addr(b->echo, 0)); }

// The tests ------------------------------------------------------------------------------------------------------

static void test_strangers_are_refused_alike(void **state)
{
    struct bench *b = *state;
    static struct peer known, p;
    uint8_t token[16], guess[16] = {1};
    char first[FRAME_TEXT_MAX + 1];
    peer_init(b, &p, NULL);
    peer_dial(&p, NULL); // an unknown key
    assert_true(p.refused);
    assert_int_equal(p.welcome.status, WELCOME_STOP);
    strcpy(first, p.text);
    peer_hang_up(&p);
    peer_dial(&p, guess); // an unknown token
    assert_true(p.refused);
    assert_int_equal(p.welcome.status, WELCOME_STOP);
    assert_string_equal(p.text, first);
    peer_hang_up(&p);
    invite(b, "once", NULL, NULL, NULL, token);
    peer_init(b, &known, NULL);
    peer_dial(&known, token);
    assert_true(known.up);
    peer_dial(&p, token); // a used one
    assert_true(p.refused);
    assert_string_equal(p.text, first);
    peer_hang_up(&known);
    peer_dial(&known, token); // the same key is welcome again
    assert_true(known.up);
    peer_fini(&known, true);
    peer_fini(&p, true);
}

static void test_a_stream_comes_out_where_the_policy_allows(void **state)
{
    struct bench *b = *state;
    static struct peer p;
    static struct talk t;
    join(b, &p, "site", NULL, NULL);
    talk_open(&p, &t, OPEN_TCP, "127.0.0.1", echo_port(b));
    assert_int_equal(t.open, LINK_OK);
    talk_echo(b, &t, "hello");
    talk_close(&t);
    talk_open(&p, &t, OPEN_TCP, "127.0.0.2", echo_port(b));
    assert_int_equal(t.open, LINK_FAILED);
    assert_int_equal(t.link->err.why, WHY_POLICY);
    talk_close(&t);
    talk_open(&p, &t, OPEN_TCP, "localhost", echo_port(b)); // the address it resolves to is what is asked about
    assert_int_equal(t.open, LINK_OK);
    talk_close(&t);
    talk_open(&p, &t, OPEN_TCP, "relay.invalid", 80); // no rule could allow any address of it: not looked up
    assert_int_equal(t.link->err.why, WHY_POLICY);
    talk_close(&t);
    talk_open(&p, &t, OPEN_TCP, "unix:/run/x", 0);
    assert_int_equal(t.link->err.why, WHY_POLICY);
    talk_close(&t);
    talk_open(&p, &t, OPEN_ACCEPTED, "x", 1);
    assert_int_equal(t.link->err.why, WHY_PROTOCOL);
    talk_close(&t);
    talk_open(&p, &t, OPEN_SERVICE, "web@site", 0);
    assert_int_equal(t.link->err.why, WHY_ABSENT);
    talk_close(&t);
    peer_fini(&p, true);
}

static void test_a_session_survives_its_carrier(void **state)
{
    struct bench *b = *state;
    static struct peer p;
    static struct talk t;
    join(b, &p, "site", NULL, NULL);
    talk_open(&p, &t, OPEN_TCP, "127.0.0.1", echo_port(b));
    talk_echo(b, &t, "one");
    peer_hang_up(&p);
    peer_dial(&p, NULL);
    assert_true(p.up);
    assert_true(p.welcome.flags & WELCOME_RESUMED);
    talk_echo(b, &t, "two");
    uint32_t used = p.carrier;
    peer_hang_up(&p);
    p.carrier = used - 1; // the same number once more
    peer_dial(&p, NULL);
    assert_true(p.refused);
    assert_int_equal(p.welcome.status, WELCOME_WAIT);
    peer_hang_up(&p);
    peer_dial(&p, NULL);
    assert_true(p.up);
    talk_echo(b, &t, "three");
    talk_close(&t);
    peer_fini(&p, true);
}

static void test_a_service_is_reached_through_the_relay(void **state)
{
    struct bench *b = *state;
    static struct peer site, user;
    static struct talk offer, forbidden, t;
    join(b, &site, "site", NULL, "web");
    join(b, &user, "user", NULL, NULL);
    talk_open(&site, &forbidden, OPEN_LISTEN_TCP, "service:ssh", 0);
    assert_int_equal(forbidden.link->err.why, WHY_POLICY);
    talk_close(&forbidden);
    talk_open(&site, &offer, OPEN_LISTEN_TCP, "service:web", 0);
    assert_int_equal(offer.open, LINK_OK);
    talk_open(&user, &t, OPEN_SERVICE, "web@site", 0);
    assert_int_equal(t.open, LINK_OK);
    assert_string_equal(site.asked.host, "web@site");
    assert_true(site.asked.has_identity);
    assert_memory_equal(site.asked.identity, user.id.pin, PIN_SIZE);
    assert_string_equal(site.asked.agent, "user");
    talk_echo(b, &t, "through");
    talk_close(&t);
    talk_open(&user, &t, OPEN_SERVICE, "ssh@site", 0);
    assert_int_equal(t.link->err.why, WHY_POLICY);
    talk_close(&t);
    talk_close(&offer);
    peer_fini(&user, true);
    peer_fini(&site, true);
}

static int dial_port(uint16_t port)
{
    struct addr at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    addr_parse_ip(&at, "127.0.0.1", port);
    assert_int_equal(connect(fd, &at.sa, at.len), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void test_a_reverse_listener_lives_with_its_stream(void **state)
{
    struct bench *b = *state;
    static struct peer p;
    static struct talk l;
    join(b, &p, "site", "127.0.0.1:*", NULL);
    talk_open(&p, &l, OPEN_LISTEN_TCP, "127.0.0.1", 0);
    assert_int_equal(l.open, LINK_OK);
    const struct addr *bound = stream_bound(stream_of(l.link));
    uint16_t port = addr_port(bound);
    assert_true(port > 0);
    int fd = dial_port(port);
    assert_int_equal(send(fd, "ping", 4, 0), 4);
    char in[8];
    ssize_t n = -1;
    loop_until(&b->w, (n = recv(fd, in, sizeof in, 0)) > 0);
    assert_memory_equal(in, "ping", 4);
    assert_int_equal(p.asked.kind, OPEN_ACCEPTED);
    assert_int_equal(p.asked.listener, stream_id(stream_of(l.link)));
    assert_true(addr_is_loopback(&p.asked.origin));
    talk_close(&l);
    struct addr at;
    addr_parse_ip(&at, "127.0.0.1", port);
    int again = -1, rc = 0;
    loop_until(&b->w, (close(again), again = socket(AF_INET, SOCK_STREAM, 0), rc = connect(again, &at.sa, at.len)) < 0);
    assert_int_equal(rc, -1);
    close(again);
    close(fd);
    talk_open(&p, &l, OPEN_LISTEN_TCP, "*", 0);
    assert_int_equal(l.link->err.why, WHY_POLICY);
    talk_close(&l);
    peer_fini(&p, true);
}

static void test_the_newest_session_has_the_listener(void **state)
{
    struct bench *b = *state;
    static struct peer old, fresh;
    static struct talk first, second;
    join(b, &old, "site", "127.0.0.1:*", NULL);
    talk_open(&old, &first, OPEN_LISTEN_TCP, "127.0.0.1", 0);
    uint16_t port = addr_port(stream_bound(stream_of(first.link)));
    talk_close(&first);
    talk_open(&old, &first, OPEN_LISTEN_TCP, "127.0.0.1", port);
    assert_int_equal(first.open, LINK_OK);
    peer_init(b, &fresh, &old.id);
    peer_dial(&fresh, NULL);
    assert_true(fresh.up);
    talk_open(&fresh, &second, OPEN_LISTEN_TCP, "127.0.0.1", port);
    assert_int_equal(second.open, LINK_OK);
    loop_until(&b->w, first.failed);
    assert_int_equal(first.link->err.why, WHY_MOVED);
    talk_close(&first);
    talk_close(&second);
    peer_fini(&fresh, false);
    peer_fini(&old, true);
}

static void test_listeners_are_bounded_and_names_not_asked_for_nothing(void **state)
{
    struct bench *b = *state;
    static struct peer p[3];
    static struct talk offers[512], t;
    char name[32];
    join(b, &p[0], "site", NULL, "*");
    talk_open(&p[0], &t, OPEN_LISTEN_TCP, "nobody.invalid", 8080);
    assert_int_equal(t.link->err.why, WHY_POLICY); // not WHY_DNS: the name was not looked up
    talk_close(&t);
    for (int i = 1; i < 3; i++) {
        peer_init(b, &p[i], &p[0].id);
        peer_dial(&p[i], NULL);
        assert_true(p[i].up);
    }
    for (int i = 0; i < 512; i++) {
        snprintf(name, sizeof name, "service:s%d", i);
        talk_open(&p[i / 256], &offers[i], OPEN_LISTEN_TCP, name, 0);
        assert_int_equal(offers[i].open, LINK_OK);
    }
    for (int i = 0; i < 3; i += 2) { // full itself; the identity is full
        talk_open(&p[i], &t, OPEN_LISTEN_TCP, "service:more", 0);
        assert_int_equal(t.link->err.why, WHY_LIMIT);
        talk_close(&t);
    }
    for (int i = 0; i < 512; i++)
        talk_close(&offers[i]);
    for (int i = 3; i-- > 0;)
        peer_fini(&p[i], i == 0);
}

static void test_a_revoked_agent_is_out(void **state)
{
    struct bench *b = *state;
    static struct peer p;
    static struct talk t;
    struct err e = ERR_INIT;
    enum store_kind kind;
    join(b, &p, "site", NULL, NULL);
    talk_open(&p, &t, OPEN_TCP, "127.0.0.1", echo_port(b));
    struct store *s = store_open(b->folder, &e);
    assert_int_equal(store_revoke(s, "site", &kind, &e), 0);
    store_close(s);
    loop_until(&b->w, p.down);
    assert_false(p.refused);
    peer_hang_up(&p);
    peer_dial(&p, NULL);
    assert_true(p.refused);
    assert_int_equal(p.welcome.status, WELCOME_STOP);
    talk_close(&t);
    peer_fini(&p, true);
}

static void test_a_dropped_rule_ends_its_listener(void **state)
{
    struct bench *b = *state;
    static struct peer p;
    static struct talk l;
    struct err e = ERR_INIT;
    struct rule r;
    unsigned changed;
    join(b, &p, "site", "127.0.0.1:*", NULL);
    talk_open(&p, &l, OPEN_LISTEN_TCP, "127.0.0.1", 0);
    assert_int_equal(l.open, LINK_OK);
    assert_int_equal(rule_parse(&r, RULE_LISTEN, "127.0.0.1:*", &e), 0);
    struct store *s = store_open(b->folder, &e);
    assert_int_equal(store_grant(s, "site", NULL, 0, &r, 1, &changed, &e), 0);
    store_close(s);
    loop_until(&b->w, l.failed);
    assert_int_equal(l.link->err.why, WHY_POLICY);
    assert_false(p.down);
    talk_close(&l);
    peer_fini(&p, true);
}

static void test_a_term_drains(void **state)
{
    struct bench *b = *state;
    static struct peer p;
    static struct talk t;
    join(b, &p, "site", NULL, NULL);
    talk_open(&p, &t, OPEN_TCP, "127.0.0.1", echo_port(b));
    kill(getpid(), SIGTERM);
    loop_until(&b->w, p.goaway);
    talk_echo(b, &t, "still here");
    assert_null(session_open(&p.s, &(struct frame_open){.kind = OPEN_TCP}));
    talk_close(&t);
    loop_until(&b->w, p.down);
    uv_thread_join(&b->thread);
    b->running = false;
    assert_int_equal(b->rc, 0);
    peer_fini(&p, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_strangers_are_refused_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stream_comes_out_where_the_policy_allows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_survives_its_carrier, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_service_is_reached_through_the_relay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reverse_listener_lives_with_its_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_newest_session_has_the_listener, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listeners_are_bounded_and_names_not_asked_for_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_revoked_agent_is_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_dropped_rule_ends_its_listener, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_term_drains, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
