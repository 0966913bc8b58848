// SPDX-License-Identifier: Apache-2.0
// PROXY protocol headers, whole and in pieces, right and wrong; and the link that takes them off.
#include <stdlib.h>
#include "drive.h"
#include "link/announced.h"
#include "link/mem.h"
#include "unit.h"
#include "wire/proxyproto.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"

// "from > to", "nobody", "more" or the refusal.
static const char *seen(const void *data, size_t len, size_t *used)
{
    static char out[300];
    char from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
    struct proxyproto p;
    const char *why = "?";
    uint8_t *copy = malloc(len ? len : 1); // so that a sanitizer sees a byte too far
    memcpy(copy, data, len);
    enum http_result r = proxyproto_parse(&p, copy, len, used, &why);
    free(copy);
    if (r == HTTP_MORE)
        return "more";
    if (r == HTTP_BAD)
        return why;
    if (!p.from.len)
        return "nobody";
    snprintf(out, sizeof(out), "%s > %s", addr_text(&p.from, from), addr_text(&p.to, to));
    return out;
}

struct sample {
    const char *bytes;
    size_t len;
    const char *seen;
};
#define S(bytes, seen) {bytes, sizeof(bytes) - 1, seen}

static const struct sample good[] = {
    S("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", "192.0.2.1:56324 > 198.51.100.7:443"),
    S("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", "[2001:db8::1]:1 > [2001:db8::2]:65535"),
    S("PROXY UNKNOWN\r\n", "nobody"),
    S("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "nobody"),
    S(SIG "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb", "192.0.2.1:56324 > 198.51.100.7:443"),
    S(SIG "\x21\x11\x00\x10\xc0\x00\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb\x04\x00\x01\x00",
      "192.0.2.1:56324 > 198.51.100.7:443"), // an extension behind
    S(SIG "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x00\x01\x01\xbb",
      "[2001:db8::1]:1 > [2001:db8::2]:443"),
    S(SIG "\x21\x21\x00\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x02\x00\x01\x01\xbb",
      "192.0.2.1:1 > 192.0.2.2:443"),
    S(SIG "\x20\x00\x00\x00", "nobody"),                                                        // a health check
    S(SIG "\x20\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb", "nobody"),      // local: addresses do not count
    S(SIG "\x21\x00\x00\x03zzz", "nobody"),
};

static const struct sample wrong[] = {
    S("GET / HTTP/1.1\r\n", "no PROXY header"),
    S("\x16\x03\x01", "no PROXY header"),
    S("PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n", "a bad PROXY line"),
    S("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 9\r\n", "a bad PROXY line"),
    S("PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n", "a bad PROXY line"),
    S("PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n", "a bad PROXY line"),
    S("PROXY TCP4 192.0.2.1 198.51.100.7 056 1\r\n", "a bad PROXY line"),
    S("PROXY TCP4 2001:db8::1 198.51.100.7 1 1\r\n", "a bad PROXY line"),
    S("PROXY TCP6 192.0.2.1 192.0.2.2 1 1\r\n", "a bad PROXY line"),
    S("PROXY TCP6 [2001:db8::1] 2001:db8::2 1 1\r\n", "a bad PROXY line"),
    S("PROXY UNIX /a /b 1 1\r\n", "a bad PROXY line"),
    S("PROXY UNKNOWNS\r\n", "a bad PROXY line"),
    S("PROXY TCP4 192.0.2.1 198.51.100.7 1 1\n", "a PROXY line without its end"),
    S("PROXY TCP4 name.example 198.51.100.7 1 1\r\n", "a bad PROXY line"),
    S("PROXY UNKNOWN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
      "a PROXY line without its end"),
    S(SIG "\x31\x11\x00\x0c", "a PROXY header of another version"),
    S(SIG "\x22\x11\x00\x0c", "a PROXY header of another version"),
    S(SIG "\x21\x11\x00\x0b", "a PROXY header without its addresses"),
    S(SIG "\x21\x21\x00\x0c", "a PROXY header without its addresses"),
    S(SIG "\x21\x11\xff\xff", "a PROXY header that is too long"),
};

static void test_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        char more[200];
        size_t used = 99;
        for (size_t n = 0; n < good[i].len; n++)
            assert_string_equal(seen(good[i].bytes, n, &used), "more");
        memcpy(more, good[i].bytes, good[i].len);
        memcpy(more + good[i].len, "\x16\x03\n", 3);
        assert_string_equal(seen(more, good[i].len + 3, &used), good[i].seen);
        assert_int_equal(used, good[i].len);
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {
        size_t used;
        assert_string_equal(seen(wrong[i].bytes, wrong[i].len, &used), wrong[i].seen);
        for (size_t n = 0; n < wrong[i].len; n++) // never taken for whole
            assert_true(!strchr(seen(wrong[i].bytes, n, &used), '>'));
    }
}

static void pass(const struct sample *s, const struct mem_plan *plan, bool is_good)
{
    struct worker w;
    struct link *front, *below;
    struct link_facts facts = {0};
    worker_init_bare(&w);
    mem_pair(&w, &front, &below, plan, plan);
    struct link *l = announced_over(below);
    l->facts = &facts;
    link_send(front, buf_copy(&w.pool, s->bytes, s->len));
    link_send(front, buf_copy(&w.pool, "hello", 5));
    enum link_status rc = LINK_AGAIN;
    char got[16];
    size_t have = 0;
    for (int i = 0; i < 2000 && rc == LINK_AGAIN; i++) {
        rc = link_open(l);
        drive_settle(&w);
    }
    assert_int_equal(rc, is_good ? LINK_OK : LINK_FAILED);
    if (!is_good)
        assert_non_null(strstr(err_text(&l->err), "PROXY protocol: "));
    for (int i = 0; is_good && i < 100 && have < 5; i++) {
        struct buf *b;
        if (link_recv(l, &b) == LINK_OK) {
            memcpy(got + have, buf_data(b), b->len);
            have += b->len;
            buf_put(b);
        }
        drive_settle(&w);
    }
    if (is_good) {
        char from[ADDR_TEXT_MAX] = "nobody";
        assert_memory_equal(got, "hello", 5);
        if (facts.peer.len)
            addr_text(&facts.peer, from);
        assert_int_equal(strncmp(s->seen, from, strlen(from)), 0);
    }
    link_close(l);
    link_close(front);
    drive_settle(&w);
    worker_fini(&w);
}

static void test_the_link_takes_the_header_off(void **state)
{
    const struct mem_plan plans[] = {{0}, {.cut = 1}, {.cut = 7, .again_every = 2}};
    (void)state;
    for (size_t p = 0; p < COUNT(plans); p++) {
        for (size_t i = 0; i < COUNT(good); i++)
            pass(&good[i], &plans[p], true);
        for (size_t i = 0; i < COUNT(wrong); i++)
            if (wrong[i].len > 40)
                pass(&wrong[i], &plans[p], false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_the_link_takes_the_header_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
