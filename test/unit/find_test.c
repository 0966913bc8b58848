// SPDX-License-Identifier: Apache-2.0
// Asking a helper process: its answer, garbage, too much, a death, and an end before it has answered. The helper is played by a shell.
#include "loop.h"
#include "unit.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dial/find.h"

struct bench {
    struct worker w;
    struct find find;
    char program[64], text[2048];
    struct proxy_routes routes;
    struct err err;
    unsigned answers;
};

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    assert_int_equal(worker_init(&b->w, 0, 1), 0);
    strcpy(b->program, "/tmp/culvert-helper-XXXXXX");
    close(mkstemp(b->program));
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    find_stop(&b->find);
    proxy_routes_fini(&b->routes);
    err_fini(&b->err);
    unlink(b->program);
    worker_fini(&b->w);
    free(b);
    return 0;
}

static void on_done(struct find *f, struct proxy_routes *routes, const struct err *err)
{
    struct bench *b = container_of(f, struct bench, find);
    b->answers++;
    proxy_routes_fini(&b->routes);
    err_fini(&b->err);
    if (routes) {
        b->routes = *routes;
        *routes = (struct proxy_routes){0};
    } else {
        err_copy(&b->err, err);
    }
}

static void start(struct bench *b, const char *told, const char *script)
{
    struct err e = ERR_INIT;
    struct relay_url relay;
    struct proxy_url proxy;
    FILE *f = fopen(b->program, "w");
    fprintf(f, "#!/bin/sh\n%s\n", script);
    fclose(f);
    chmod(b->program, 0700);
    assert_int_equal(relay_url_parse(&relay, "relay.example:8443", &e), 0);
    assert_int_equal(told ? proxy_url_parse(&proxy, told, &e) : 0, 0);
    struct proxy_wishes wishes = {.told = &proxy, .told_count = told != NULL, .env = no_env};
    b->find.program = b->program;
    b->answers = 0;
    find_start(&b->find, &b->w, &relay, &wishes, "/ca.pem", on_done);
    assert_int_equal(b->answers, 0); // never from within
}

static void ask(struct bench *b, const char *told, const char *script)
{
    start(b, told, script);
    loop_until(&b->w, b->answers > 0);
    assert_int_equal(b->answers, 1);
}

static void test_what_is_known_needs_no_helper(void **state)
{
    struct bench *b = *state;
    ask(b, "http://a:1", "exit 1");
    assert_string_equal(b->routes.of[0].path, "via a:1");
    assert_false(b->routes.asked);
}

static void test_a_question_and_its_answer(void **state)
{
    struct bench *b = *state;
    ask(b, "pac+http://p/x.pac", "echo answer PROXY $(tr '\\n ' '__' | tr -c 'a-z0-9\\n' -).test:1\necho 'end '");
    assert_int_equal(b->routes.count, 1);
    assert_string_equal(b->routes.of[0].hops[0].host, "url-https---relay-example-8443--pac-http---p-x-pac-ca--ca-pem-.test");
}

static void test_the_system_says_nothing(void **state)
{
    struct bench *b = *state;
    ask(b, NULL, "cat >/dev/null; echo 'end '");
    assert_string_equal(b->routes.of[0].path, "direct");
    assert_string_equal(b->routes.note, "");
}

static void test_no_sensible_answer(void **state)
{
    struct bench *b = *state;
    static const char *const bad[] = {"exit 1", "kill -9 $$", "echo nonsense", "head -c 100000 /dev/zero", "yes use http://a:1",
                                      "echo use http://a:1", "exec >&-; sleep 1000"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        ask(b, "pac+http://p/x.pac", bad[i]);
        assert_refused(&b->err, ERR_UNREACHED, "PAC http://p/x.pac: the helper process ended without an answer");
        ask(b, NULL, bad[i]);
        assert_string_equal(b->routes.of[0].path, "direct");
        assert_true(b->routes.failed);
    }
}

static void test_no_helper(void **state)
{
    struct bench *b = *state;
    struct err e = ERR_INIT;
    struct relay_url relay;
    struct proxy_wishes wishes = {.env = no_env};
    assert_int_equal(relay_url_parse(&relay, "relay.example", &e), 0);
    b->find.program = "/nonexistent/helper";
    find_start(&b->find, &b->w, &relay, &wishes, NULL, on_done);
    loop_until(&b->w, b->answers > 0);
    assert_string_equal(b->routes.of[0].path, "direct");
    assert_non_null(strstr(b->routes.note, "cannot be started"));
}

static void test_an_end_before_the_answer(void **state)
{
    struct bench *b = *state;
    start(b, NULL, "sleep 1000");
    pid_t pid = b->find.pid;
    assert_true(pid > 0 && kill(pid, 0) == 0);
    find_stop(&b->find);
    assert_true(kill(pid, 0) < 0 && errno == ESRCH);
    find_stop(&b->find);
    assert_int_equal(b->answers, 0);
    start(b, NULL, "sleep 1000"); // and a new question ends the old one
    pid = b->find.pid;
    ask(b, "http://a:1", "exit 1");
    assert_true(kill(pid, 0) < 0 && errno == ESRCH);
    assert_string_equal(b->routes.of[0].path, "via a:1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_known_needs_no_helper, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_question_and_its_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_system_says_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_sensible_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_helper, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_end_before_the_answer, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
