// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include "wire/noproxy.h"
#include "wire/url.h"

static void relays(void **state)
{
    static const struct {
        const char *text, *same, *where;
    } good[] = {
        {"relay.example", "wss://relay.example/", "relay.example:443"},
        {"relay.example:8443", "wss://relay.example:8443/", "relay.example:8443"},
        {"WSS://relay.example:443/x/y", "wss://relay.example/x/y", "relay.example:443"},
        {"ws://[::1]:8080/t", "ws://[::1]:8080/t", "[::1]:8080"},
        {"ws://127.0.0.1", "ws://127.0.0.1/", "127.0.0.1:80"},
        {"[2001:db8::1]", "wss://[2001:db8::1]/", "[2001:db8::1]:443"},
    };
    struct relay_url u, again;
    struct err e = ERR_INIT;
    char text[URL_TEXT_MAX];
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(relay_url_parse(&u, good[i].text, &e), 0);
        assert_string_equal(relay_url_where(&u, text), good[i].where);
        assert_string_equal(relay_url_text(&u, text), good[i].same);
        assert_int_equal(relay_url_parse(&again, text, &e), 0);
        assert_memory_equal(&u, &again, sizeof u);
    }
    static const char *const bad[][2] = {
        {"https://relay.example", "wss://"},
        {"", "missing"},
        {"wss://", "missing"},
        {"r:0", "range"},
        {"wss://u@r", "no user"},
        {"r?x", "no query"},
        {"r/x#y", "contain"},
        {"r/a b", "contain"},
        {"2001:db8::1", "brackets"},
        {"r:", "port"},
        {"r/\r\nHost: x", "contain"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(relay_url_parse(&u, bad[i][0], &e), -1);
        assert_refused(&e, ERR_USAGE, bad[i][1]);
    }
}

static void proxies(void **state)
{
    static const struct {
        const char *text, *shown, *secret;
        enum proxy_kind kind;
    } good[] = {
        {"http://proxy:3128", "http://proxy:3128", "http://proxy:3128", PROXY_HTTP},
        {"proxy:3128", "http://proxy:3128", "http://proxy:3128", PROXY_HTTP},
        {"http://proxy/", "http://proxy:80", "http://proxy:80", PROXY_HTTP},
        {"HTTPS://[::1]", "https://[::1]:443", "https://[::1]:443", PROXY_HTTPS},
        {"h2://p", "h2://p:443", "h2://p:443", PROXY_H2},
        {"socks5://p", "socks5://p:1080", "socks5://p:1080", PROXY_SOCKS5},
        {"socks5h://u:p%40w@p:1", "socks5h://u:***@p:1", "socks5h://u:p%40w@p:1", PROXY_SOCKS5H},
        {"socks4a://u@p:1", "socks4a://u@p:1", "socks4a://u@p:1", PROXY_SOCKS4A},
        {"http://u:p@w@p:1", "http://u:***@p:1", "http://u:p%40w@p:1", PROXY_HTTP},
        {"none", "none", "none", PROXY_NONE},
        {"auto", "auto", "auto", PROXY_AUTO},
        {"pac+http://wpad/x.dat", "pac+http://wpad/x.dat", "pac+http://wpad/x.dat", PROXY_PAC},
    };
    struct proxy_url p, again;
    struct err e = ERR_INIT;
    char text[URL_PAC_MAX + 8], secret[2048];
    for (size_t i = 0; i < COUNT(good); i++) {
        if (proxy_url_parse(&p, good[i].text, &e) < 0)
            fail_msg("%s", err_text(&e));
        assert_int_equal(p.kind, good[i].kind);
        assert_string_equal(proxy_url_text(&p, text), good[i].shown);
        assert_true(proxy_url_secret_text(&p, secret, sizeof secret));
        assert_string_equal(secret, good[i].secret);
        assert_int_equal(proxy_url_parse(&again, secret, &e), 0);
        assert_memory_equal(&p, &again, sizeof p);
    }
    assert_int_equal(proxy_url_parse(&p, "http://us%20er:a%3Ab@p", &e), 0);
    assert_string_equal(p.user, "us er");
    assert_string_equal(p.password, "a:b");
    proxy_url_wipe(&p);
    assert_int_equal(p.password[0], 0);
    assert_false(proxy_url_secret_text(&again, secret, 3));
}

static void proxies_refused_without_their_secrets(void **state)
{
    static const char *const bad[][2] = {
        {"ftp://u:hunter2@p:1", "unknown scheme"},
        {"http://u:hunter2@", "missing"},
        {"http://u:hunter2@p:x", "port"},
        {"http://u:hunter2/@p:1", "no path"},
        {"http://u:hunter2%@p", "encode"},
        {"u:hunter2@p q", "contain"},
        {"http://", "missing"},
        {"pac+", "script"},
    };
    struct proxy_url p;
    struct err e = ERR_INIT;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(proxy_url_parse(&p, bad[i][0], &e), -1);
        if (strstr(err_text(&e), "hunter2"))
            fail_msg("tells the password: %s", err_text(&e));
        assert_refused(&e, ERR_USAGE, bad[i][1]);
    }
}

static void no_proxy(void **state)
{
    static const struct {
        const char *list, *host;
        uint16_t port;
        bool has;
    } cases[] = {
        {"*", "any", 1, true},
        {"", "any", 1, false},
        {"example.org", "example.org", 443, true},
        {"example.org", "www.Example.ORG.", 443, true},
        {"example.org", "badexample.org", 443, false},
        {".example.org", "www.example.org", 443, true},
        {".example.org", "example.org", 443, true},
        {"*.example.org", "www.example.org", 443, true},
        {"*.example.org", "xexample.org", 443, false},
        {"a, b\tc", "c", 1, true},
        {"a,,b", "b", 1, true},
        {"example.org:8443", "example.org", 8443, true},
        {"example.org:8443", "example.org", 443, false},
        {"example.org:x", "example.org", 443, false},
        {"127.0.0.1", "127.0.0.1", 1, true},
        {"10.0.0.0/8", "10.1.2.3", 1, true},
        {"10.0.0.0/8", "11.1.2.3", 1, false},
        {"10.0.0.0/8", "::ffff:10.1.2.3", 1, true},
        {"10.1.2.3:80", "10.1.2.3", 80, true},
        {"10.1.2.3:80", "10.1.2.3", 81, false},
        {"::1", "::1", 1, true},
        {"[::1]", "::1", 1, true},
        {"[::1]:80", "::1", 80, true},
        {"[::1]:80", "::1", 81, false},
        {"fd00::/8", "fd12::1", 1, true},
        {"fd00::/8", "fe12::1", 1, false},
        {"2001:db8:0:0::1", "2001:db8::1", 1, true},
        {"0.1", "10.0.0.1", 1, false},
        {".", "x", 1, false},
        {"localhost", "localhost", 1, true},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (noproxy_has(cases[i].list, cases[i].host, cases[i].port) != cases[i].has)
            fail_msg("no_proxy=\"%s\" and %s:%u", cases[i].list, cases[i].host, cases[i].port);
    assert_false(noproxy_has(NULL, "x", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relays),
        cmocka_unit_test(proxies),
        cmocka_unit_test(proxies_refused_without_their_secrets),
        cmocka_unit_test(no_proxy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
