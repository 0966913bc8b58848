// SPDX-License-Identifier: Apache-2.0
// What a SOCKS proxy answers, fed whole and in pieces: the same end. Byte 0: version, and whether there is a login; byte 1: piece size.
#include "fuzz.h"
#include "wire/socks_client.h"

static size_t converse(struct socks_client *c, const uint8_t *data, size_t size, uint8_t how, size_t piece)
{
    size_t total = 0;
    CHECK(socks_client_init(c, how & 1, how & 4 ? "10.0.0.1" : "relay.example", 443, how & 2 ? "user" : NULL));
    while (total < size) {
        enum socks_client_event event;
        size_t n = size - total < piece ? size - total : piece;
        uint8_t *copy = fuzz_copy(data + total, n);
        size_t used = socks_client_feed(c, copy, n, &event);
        free(copy);
        CHECK(used <= n && c->out_len <= sizeof(c->out));
        total += used;
        if (event == SOCKS_CLIENT_LOGIN)
            CHECK(socks_client_login(c, "user", "password"));
        if (event == SOCKS_CLIENT_OPEN || event == SOCKS_CLIENT_FAILED)
            break;
        CHECK(used > 0);
    }
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct socks_client whole, pieces;
    if (size < 2)
        return 0;
    size_t a = converse(&whole, data + 2, size - 2, data[0], SIZE_MAX);
    size_t b = converse(&pieces, data + 2, size - 2, data[0], 1 + data[1] % 7);
    CHECK((a == b || whole.state != SOCKS_ASK_OPEN) && whole.state == pieces.state && whole.problem == pieces.problem && whole.code == pieces.code);
    CHECK(socks_client_reason(&whole));
    socks_client_why(&whole);
    socks_client_wipe(&whole);
    return 0;
}
