// SPDX-License-Identifier: Apache-2.0
// SOCKS5, fed whole and in pieces: the same conversation comes out. Byte 0: a login is wanted, and granted; byte 1: piece
// size. The rest is also taken as a datagram of an association.
#include "fuzz.h"
#include "wire/socks.h"

struct talk {
    uint8_t said[1024];
    size_t said_len;
    enum socks_state end;
    struct socks_dest dest;
};

static void say(struct talk *t, const struct socks *s)
{
    CHECK(s->out_len <= sizeof(s->out));
    if (s->out_len <= sizeof(t->said) - t->said_len) {
        memcpy(t->said + t->said_len, s->out, s->out_len);
        t->said_len += s->out_len;
    }
}

// False: over.
static bool act(struct talk *t, struct socks *s, enum socks_event event, bool grant)
{
    say(t, s);
    if (event == SOCKS_ASK) {
        event = socks_login(s, grant);
        say(t, s);
    }
    if (event == SOCKS_ASKED) {
        CHECK(memchr(s->dest.host, 0, sizeof(s->dest.host)));
        t->dest = s->dest;
        socks_reply(s, SOCKS_OK, NULL);
        say(t, s);
        return false;
    }
    return event != SOCKS_REFUSED;
}

static void converse(struct talk *t, const uint8_t *data, size_t size, uint8_t how, size_t piece)
{
    struct socks s;
    memset(t, 0, sizeof(*t));
    socks_init(&s, how & 1);
    bool on = true;
    while (size && on) {
        size_t n = size < piece ? size : piece;
        uint8_t *copy = fuzz_copy(data, n);
        for (size_t at = 0; at < n && on;) {
            enum socks_event event = SOCKS_MORE;
            size_t used = socks_feed(&s, copy + at, n - at, &event);
            CHECK(used <= n - at && (used || event == SOCKS_REFUSED));
            at += used;
            on = act(t, &s, event, how & 2);
        }
        free(copy);
        data += n;
        size -= n;
    }
    t->end = s.state;
    socks_wipe(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct talk whole, pieces;
    if (size < 2)
        return 0;
    converse(&whole, data + 2, size - 2, data[0], SIZE_MAX);
    converse(&pieces, data + 2, size - 2, data[0], 1 + data[1] % 7);
    CHECK(whole.said_len == pieces.said_len && memcmp(whole.said, pieces.said, whole.said_len) == 0);
    CHECK(whole.end == pieces.end && whole.dest.port == pieces.dest.port);
    CHECK(strcmp(whole.dest.host, pieces.dest.host) == 0);
    struct socks_dest dest;
    size_t used = 0;
    uint8_t *copy = fuzz_copy(data + 2, size - 2);
    if (socks_udp_parse(copy, size - 2, &dest, &used))
        CHECK(used <= size - 2 && memchr(dest.host, 0, sizeof(dest.host)));
    free(copy);
    return 0;
}
