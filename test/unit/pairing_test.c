// SPDX-License-Identifier: Apache-2.0
#include "unit.h"
#include <stdio.h>
#include <string.h>
#include "wire/pairing.h"

#define PIN "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define TOKEN "oKGio6SlpqeoqaqrrK2urw"

static void reads_a_line(void **state)
{
    struct pairing p;
    struct err e = ERR_INIT;
    assert_int_equal(pairing_parse(&p,
                                   "  culvert://relay.example:8443/x?pin=" PIN "&token=" TOKEN
                                   "&later=1&proxy=http://u%3Ap%2540w%40proxy:3128&outer=report\r\n",
                                   &e),
                     0);
    assert_string_equal(p.relay.host, "relay.example");
    assert_int_equal(p.relay.port, 8443);
    assert_string_equal(p.relay.path, "/x");
    assert_true(p.relay.tls);
    assert_int_equal(p.pin_count, 1);
    for (int i = 0; i < 32; i++)
        assert_int_equal(p.pins[0][i], i);
    assert_int_equal(p.token[0], 0xa0);
    assert_int_equal(p.token[15], 0xaf);
    assert_int_equal(p.proxy_count, 1);
    assert_string_equal(p.proxies[0].user, "u");
    assert_string_equal(p.proxies[0].password, "p@w");
    assert_true(p.outer_report);
    pairing_wipe(&p);
    assert_int_equal(p.token[15], 0);
}

static void goes_there_and_back(void **state)
{
    struct pairing p = {.pin_count = PAIRING_PINS, .proxy_count = 2, .outer_report = true}, again;
    struct err e = ERR_INIT;
    char text[PAIRING_TEXT_MAX], twice[PAIRING_TEXT_MAX];
    assert_int_equal(relay_url_parse(&p.relay, "ws://[2001:db8::1]:8080/a/b", &e), 0);
    memset(p.pins, 0x5a, sizeof p.pins);
    memset(p.token, 0xfe, sizeof p.token);
    assert_int_equal(proxy_url_parse(&p.proxies[0], "https://u&=?#:p%25%20@proxy:1", &e), -1);
    err_fini(&e);
    assert_int_equal(proxy_url_parse(&p.proxies[0], "https://u&=%3f%23:p%25%20@proxy:1", &e), 0);
    assert_int_equal(proxy_url_parse(&p.proxies[1], "socks5h://[::1]", &e), 0);
    p.peer_count = 2;
    strcpy(p.peers[0].name, "site7");
    memset(p.peers[0].pin, 0x77, 32);
    strcpy(p.peers[1].name, "a.b-c_9");
    assert_true(pairing_text(&p, text));
    assert_non_null(strstr(text, "&peer=site7:d3d3"));
    assert_null(strpbrk(text, " '\"\\$`"));
    assert_int_equal(pairing_parse(&again, text, &e), 0);
    assert_memory_equal(&p, &again, sizeof p);
    assert_true(pairing_text(&again, twice));
    assert_string_equal(text, twice);
}

static void default_ports_survive(void **state)
{
    static const char *const relays[] = {"ws://a", "wss://a", "ws://a:443", "wss://a:80"};
    struct pairing p = {.pin_count = 1}, again;
    struct err e = ERR_INIT;
    char text[PAIRING_TEXT_MAX];
    for (size_t i = 0; i < COUNT(relays); i++) {
        assert_int_equal(relay_url_parse(&p.relay, relays[i], &e), 0);
        assert_true(pairing_text(&p, text));
        assert_int_equal(pairing_parse(&again, text, &e), 0);
        assert_memory_equal(&p.relay, &again.relay, sizeof p.relay);
    }
}

static void refused_without_telling(void **state)
{
    static const char *const bad[][2] = {
        {"", "starts with culvert://"},
        {"https://relay", "starts with culvert://"},
        {"culvert://", "relay is damaged"},
        {"culvert://relay/", "no pin"},
        {"culvert://[::1AAECpin=" PIN "&token=" TOKEN, "relay is damaged"}, // its ? was lost
        {"culvert://relay/?pin=" PIN "&proxy=http://p/token=" TOKEN, "proxy is damaged"},
        {"culvert://relay/?pin=" PIN, "no token"},
        {"culvert://relay/?token=" TOKEN, "no pin"},
        {"culvert://relay/?pin=short&token=" TOKEN, "pin is damaged"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "x", "token is damaged"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&token=" TOKEN, "two tokens"},
        {"culvert://relay/?pin=" PIN "&pin=" PIN "&pin=" PIN "&pin=" PIN "&pin=" PIN, "more than"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&peer=site7", "peer is damaged"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&peer=site7:" PIN "x", "peer is damaged"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&peer=:" PIN, "peer is damaged"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&peer=a%20b:" PIN, "peer is damaged"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&outer=never", "neither"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&tls=maybe", "neither"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&proxy=ftp://u:hunter2%40p", "proxy is damaged"},
        {"culvert://relay/?pin=" PIN "&token=" TOKEN "&proxy=%0", "proxy is damaged"},
        {"culvert://u:hunter2@relay/?pin=" PIN "&token=" TOKEN, "relay is damaged"},
    };
    struct pairing p;
    struct err e = ERR_INIT;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (pairing_parse(&p, bad[i][0], &e) == 0)
            fail_msg("\"%s\" was taken", bad[i][0]);
        if (strstr(err_text(&e), TOKEN) || strstr(err_text(&e), "hunter2"))
            fail_msg("tells a secret: %s", err_text(&e));
        assert_refused(&e, ERR_USAGE, bad[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_line),
        cmocka_unit_test(goes_there_and_back),
        cmocka_unit_test(default_ports_survive),
        cmocka_unit_test(refused_without_telling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
