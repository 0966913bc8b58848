// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
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

static int find(struct proxy_route *r, const char *relay, const char *told, const char *invited, struct err *e)
{
    struct relay_url u;
    struct proxy_url t, i;
    assert_int_equal(relay_url_parse(&u, relay, e), 0);
    assert_int_equal(told ? proxy_url_parse(&t, told, e) : 0, 0);
    assert_int_equal(invited ? proxy_url_parse(&i, invited, e) : 0, 0);
    return proxy_find(r, &u, &t, told != NULL, &i, invited != NULL, env, e);
}

static const char *path(const char *relay, const char *told, const char *invited)
{
    static struct proxy_route r;
    struct err e = ERR_INIT;
    assert_int_equal(find(&r, relay, told, invited, &e), 0);
    return r.path;
}

static void test_order(void **state)
{
    vars = NULL;
    assert_string_equal(path("relay.example", NULL, NULL), "direct");
    ENV("all_proxy", "http://all:1", "HTTPS_PROXY", "http://upper:2", "https_proxy", "http://lower:3");
    assert_string_equal(path("relay.example", NULL, NULL), "via lower:3");
    assert_string_equal(path("relay.example", NULL, "http://invited:4"), "via invited:4");
    assert_string_equal(path("relay.example", "http://told:5", "http://invited:4"), "via told:5");
    assert_string_equal(path("relay.example", "none", "http://invited:4"), "direct");
    assert_string_equal(path("relay.example", "auto", "http://invited:4"), "via lower:3");
    ENV("all_proxy", "http://all:1", "https_proxy", "");
    assert_string_equal(path("relay.example", NULL, NULL), "via all:1");
    ENV("https_proxy", "proxy:3128");
    assert_string_equal(path("relay.example", NULL, NULL), "via proxy:3128");
    ENV("https_proxy", "http://[2001:db8::1]:3128");
    assert_string_equal(path("relay.example", NULL, NULL), "via [2001:db8::1]:3128");
}

static void test_plain_ws(void **state)
{
    ENV("https_proxy", "http://s:1", "http_proxy", "http://p:2", "HTTP_PROXY", "http://cgi:3");
    assert_string_equal(path("ws://relay.example", NULL, NULL), "via p:2");
    ENV("HTTP_PROXY", "http://cgi:3");
    assert_string_equal(path("ws://relay.example", NULL, NULL), "direct");
}

static void test_no_proxy(void **state)
{
    ENV("https_proxy", "http://p:1", "no_proxy", ".example,10.0.0.0/8");
    assert_string_equal(path("relay.example", NULL, NULL), "direct");
    assert_string_equal(path("10.1.2.3", NULL, NULL), "direct");
    assert_string_equal(path("relay.other", NULL, NULL), "via p:1");
    assert_string_equal(path("relay.example", "http://told:5", NULL), "via told:5"); // told is told
    ENV("https_proxy", "http://p:1", "NO_PROXY", "*");
    assert_string_equal(path("relay.example", NULL, NULL), "direct");
}

static void test_other_kinds(void **state)
{
    struct proxy_route r;
    struct err e = ERR_INIT;
    vars = NULL;
    static const char *const good[] = {"http://p", "https://p", "h2://p", "socks4a://p", "socks5://p", "socks5h://p"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(find(&r, "relay.example", good[i], NULL, &e), 0);
    ENV("https_proxy", "pac+http://user:geheim@p/x");
    assert_int_equal(find(&r, "relay.example", NULL, NULL, &e), -1);
    assert_int_equal(e.kind, ERR_USAGE);
    assert_non_null(strstr(err_text(&e), "https_proxy"));
    assert_null(strstr(err_text(&e), "geheim"));
    err_fini(&e);
    assert_int_equal(find(&r, "relay.example", "pac+http://p/proxy.pac", NULL, &e), -1);
    assert_non_null(strstr(err_text(&e), "--proxy"));
    err_fini(&e);
    ENV("https_proxy", "http://p:99999");
    assert_int_equal(find(&r, "relay.example", NULL, NULL, &e), -1);
    assert_non_null(strstr(err_text(&e), "https_proxy"));
    err_fini(&e);
}

static void test_login_and_wipe(void **state)
{
    struct proxy_route r;
    struct err e = ERR_INIT;
    ENV("https_proxy", "http://user:p%40ss@p:1");
    assert_int_equal(find(&r, "relay.example", NULL, NULL, &e), 0);
    assert_int_equal(r.count, 1);
    assert_string_equal(r.hops[0].user, "user");
    assert_string_equal(r.hops[0].password, "p@ss");
    assert_null(strstr(r.path, "p@ss"));
    proxy_route_wipe(&r);
    assert_null(memmem(&r, sizeof(r), "p@ss", 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),       cmocka_unit_test(test_plain_ws),       cmocka_unit_test(test_no_proxy),
        cmocka_unit_test(test_other_kinds), cmocka_unit_test(test_login_and_wipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
