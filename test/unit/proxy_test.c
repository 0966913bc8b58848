// SPDX-License-Identifier: Apache-2.0
// Who says which proxies lie on the way, and in which order that counts.
#include "unit.h"
#include <stdlib.h>
#include "dial/proxy.h"

static const char *const *vars; // name, value, …, NULL

static const char *env(const char *name)
{
    for (const char *const *v = vars; v && *v; v += 2) {
        if (strcmp(*v, name) == 0)
            return v[1];
    }
    return NULL;
}

#define ENV(...) (vars = (const char *const[]){__VA_ARGS__, NULL})

static struct proxy_routes routes;
static struct proxy_question question;

static int find(const char *relay, const char *told, const char *saved, const char *invited, struct err *e)
{
    struct relay_url u;
    struct proxy_url t, s, i;
    proxy_routes_fini(&routes);
    assert_int_equal(relay_url_parse(&u, relay, e), 0);
    assert_int_equal(told ? proxy_url_parse(&t, told, e) : 0, 0);
    assert_int_equal(saved ? proxy_url_parse(&s, saved, e) : 0, 0);
    assert_int_equal(invited ? proxy_url_parse(&i, invited, e) : 0, 0);
    struct proxy_wishes w = {.told = &t, .told_count = told != NULL, .saved = &s, .saved_count = saved != NULL, .invited = &i,
                             .invited_count = invited != NULL, .env = env};
    return proxy_find(&routes, &question, &u, &w, e);
}

static const char *path(const char *relay, const char *told, const char *saved, const char *invited)
{
    struct err e = ERR_INIT;
    int rc = find(relay, told, saved, invited, &e);
    if (rc == 1)
        return *question.pac ? question.pac : "settings";
    assert_int_equal(rc, 0);
    assert_int_equal(routes.count, 1);
    return routes.of[0].path;
}

static void test_order(void **state)
{
    vars = NULL;
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "settings");
    assert_true(question.optional);
    ENV("all_proxy", "http://all:1", "HTTPS_PROXY", "http://upper:2", "https_proxy", "http://lower:3");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "via lower:3");
    assert_string_equal(routes.source, "environment https_proxy");
    assert_string_equal(path("relay.example", NULL, NULL, "http://invited:4"), "via invited:4");
    assert_string_equal(path("relay.example", NULL, "http://saved:6", "http://invited:4"), "via saved:6");
    assert_string_equal(routes.source, "conf_proxy");
    assert_string_equal(path("relay.example", "http://told:5", "http://saved:6", "http://invited:4"), "via told:5");
    assert_string_equal(routes.of[0].source, "--proxy");
    assert_string_equal(path("relay.example", "none", "http://saved:6", "http://invited:4"), "direct");
    assert_string_equal(path("relay.example", "auto", "http://saved:6", "http://invited:4"), "via saved:6");
    assert_string_equal(path("relay.example", "auto", NULL, "http://invited:4"), "via lower:3");
    assert_string_equal(path("relay.example", NULL, "auto", "http://invited:4"), "via lower:3");
    assert_string_equal(path("relay.example", NULL, NULL, "auto"), "via lower:3");
    assert_string_equal(path("relay.example", NULL, NULL, "none"), "direct");
    ENV("all_proxy", "http://all:1", "https_proxy", "");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "via all:1");
    ENV("https_proxy", "proxy:3128");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "via proxy:3128");
    ENV("https_proxy", "http://[2001:db8::1]:3128");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "via [2001:db8::1]:3128");
    ENV("https_proxy", "none");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "direct");
    ENV("https_proxy", "auto");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "settings");
}

static void test_plain_ws(void **state)
{
    ENV("https_proxy", "http://s:1", "http_proxy", "http://p:2", "HTTP_PROXY", "http://cgi:3");
    assert_string_equal(path("ws://relay.example", NULL, NULL, NULL), "via p:2");
    ENV("HTTP_PROXY", "http://cgi:3");
    assert_string_equal(path("ws://relay.example", NULL, NULL, NULL), "settings");
}

static void test_no_proxy(void **state)
{
    ENV("https_proxy", "http://p:1", "no_proxy", ".example,10.0.0.0/8");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "direct");
    assert_string_equal(routes.source, "environment no_proxy");
    assert_string_equal(path("10.1.2.3", NULL, NULL, NULL), "direct");
    assert_string_equal(path("relay.other", NULL, NULL, NULL), "via p:1");
    assert_string_equal(path("relay.example", "http://told:5", NULL, NULL), "via told:5"); // told is told
    assert_string_equal(path("relay.example", NULL, "http://saved:6", NULL), "via saved:6");
    ENV("https_proxy", "http://p:1", "NO_PROXY", "*");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "direct");
    ENV("NO_PROXY", "*"); // and what it takes out is not asked of the system either
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "direct");
}

static void test_other_kinds(void **state)
{
    struct err e = ERR_INIT;
    vars = NULL;
    static const char *const good[] = {"http://p", "https://p", "h2://p", "socks4a://p", "socks5://p", "socks5h://p"};
    for (size_t i = 0; i < COUNT(good); i++)
        assert_int_equal(find("relay.example", good[i], NULL, NULL, &e), 0);
    ENV("https_proxy", "pac+http://user:geheim@p/x");
    assert_int_equal(find("relay.example", NULL, NULL, NULL, &e), -1);
    assert_null(strstr(err_text(&e), "geheim"));
    assert_refused(&e, ERR_USAGE, "https_proxy");
    ENV("https_proxy", "http://p:99999");
    assert_int_equal(find("relay.example", NULL, NULL, NULL, &e), -1);
    assert_refused(&e, ERR_USAGE, "https_proxy");
}

static void test_scripts(void **state)
{
    struct err e = ERR_INIT;
    vars = NULL;
    assert_string_equal(path("relay.example", "pac+http://p/proxy.pac", NULL, NULL), "http://p/proxy.pac");
    assert_false(question.optional);
    ENV("https_proxy", "pac+file:///p");
    assert_string_equal(path("relay.example", NULL, NULL, NULL), "file:///p");
    assert_string_equal(question.from, "environment https_proxy");
    assert_int_equal(find("relay.example", NULL, "pac+ftp://p", NULL, &e), -1);
    assert_refused(&e, ERR_USAGE, "conf_proxy");
}

static int answer(const char *lines, struct err *e)
{
    struct found f;
    found_parse(&f, lines, strlen(lines));
    proxy_routes_fini(&routes);
    return proxy_found(&routes, &question, &f, e);
}

static void test_answers_of_a_script(void **state)
{
    struct err e = ERR_INIT;
    vars = NULL;
    path("relay.example", NULL, "pac+http://p/proxy.pac", NULL);
    assert_int_equal(answer("pac http://p/proxy.pac\nanswer PROXY a:1; SOCKS5 b:2; DIRECT\nend\n", &e), 0);
    assert_int_equal(routes.count, 3);
    assert_true(routes.asked);
    assert_string_equal(routes.of[0].path, "via a:1");
    assert_string_equal(routes.of[1].path, "via b:2");
    assert_string_equal(routes.of[2].path, "direct");
    assert_string_equal(routes.of[1].source, "PAC http://p/proxy.pac of conf_proxy");
    assert_int_equal(answer("pac http://p/proxy.pac\nfail its server answers 404\nend\n", &e), -1);
    assert_refused(&e, ERR_UNREACHED, "PAC http://p/proxy.pac of conf_proxy: its server answers 404");
    assert_int_equal(answer("pac http://p/proxy.pac\nanswer nothing sensible\nend\n", &e), -1);
    assert_refused(&e, ERR_UNREACHED, "names no proxy");
    assert_int_equal(answer("pac http://p/proxy.pac\nanswer PROXY a:1\n", &e), -1);
    assert_refused(&e, ERR_UNREACHED, "ended without an answer");
}

static void test_answers_of_the_system(void **state)
{
    struct err e = ERR_INIT;
    vars = NULL;
    path("relay.example", NULL, NULL, NULL);
    assert_int_equal(answer("use http://a:1\nuse direct://\nend\n", &e), 0);
    assert_int_equal(routes.count, 2);
    assert_string_equal(routes.source, "the system's settings");
    assert_int_equal(answer("use direct://\nend\n", &e), 0); // nothing is set
    assert_string_equal(routes.of[0].path, "direct");
    assert_string_equal(routes.source, "");
    assert_int_equal(answer("end\n", &e), 0); // says nothing
    assert_int_equal(routes.count, 1);
    assert_string_equal(routes.of[0].path, "direct");
    assert_string_equal(routes.source, "");
    assert_int_equal(answer("note libproxy is not installed\nend\n", &e), 0);
    assert_string_equal(routes.note, "libproxy is not installed");
    assert_int_equal(answer("pac http://wpad/x\nfail its server is not known\nend\n", &e), 0); // direct, and told
    assert_string_equal(routes.of[0].path, "direct");
    assert_non_null(strstr(routes.note, "PAC http://wpad/x of the system's settings: its server is not known"));
    assert_int_equal(answer("", &e), 0); // a helper that died
    assert_string_equal(routes.of[0].path, "direct");
    assert_non_null(strstr(routes.note, "without an answer"));
}

static void test_ids(void **state)
{
    struct err e = ERR_INIT;
    vars = NULL;
    path("relay.example", "pac+file:///p", NULL, NULL);
    assert_int_equal(answer("answer PROXY a:1; HTTPS a:1; SOCKS5 a:1; PROXY a:2; PROXY b:1; DIRECT\nend\n", &e), 0);
    assert_int_equal(routes.count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_ptr_equal(proxy_routes_find(&routes, routes.of[i].id), &routes.of[i]);
    uint64_t id = routes.of[0].id;
    path("other.example", "http://a:1", NULL, NULL);
    assert_true(routes.of[0].id == id);
    path("other.example", "http://u:p@a:1", NULL, NULL);
    assert_null(proxy_routes_find(&routes, id));
}

static void test_login_and_wipe(void **state)
{
    ENV("https_proxy", "http://user:p%40ss@p:1");
    path("relay.example", NULL, NULL, NULL);
    assert_string_equal(routes.of[0].hops[0].user, "user");
    assert_string_equal(routes.of[0].hops[0].password, "p@ss");
    assert_null(strstr(routes.of[0].path, "p@ss"));
    proxy_routes_fini(&routes);
}

static int teardown(void **state)
{
    proxy_routes_fini(&routes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_plain_ws),
        cmocka_unit_test(test_no_proxy),
        cmocka_unit_test(test_other_kinds),
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_answers_of_a_script),
        cmocka_unit_test(test_answers_of_the_system),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_login_and_wipe),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
