// SPDX-License-Identifier: Apache-2.0
// Long-poll: the relay's reading of a request's target, and both ends' offsets. Byte 0 even: a target, which must be written as it
// was read; odd: a receiver fed pieces at any offsets, and a sender asked for and acknowledging anything.
#include "fuzz.h"
#include "core/buf.h"
#include "wire/poll.h"

static void target(const uint8_t *data, size_t size)
{
    static const struct http_text get = {"GET", 3}, post = {"POST", 4};
    uint8_t *copy = fuzz_copy(data, size);
    struct http_text t = {(char *)copy, size};
    struct poll_request r, again;
    bool is_get = poll_get_request(&r, get, t);
    if (is_get || poll_get_request(&r, post, t)) {
        char out[POLL_TARGET_MAX + 2] = "?";
        CHECK(poll_is_target(t) && r.is_post == !is_get);
        size_t n = poll_put_query(out + 1, &r);
        CHECK(n < POLL_TARGET_MAX);
        CHECK(poll_get_request(&again, is_get ? get : post, (struct http_text){out, n + 1}));
        CHECK(memcmp(&r, &again, sizeof r) == 0);
    }
    free(copy);
}

static uint64_t take(const uint8_t **data, size_t *size, size_t n)
{
    uint64_t v = 0;
    for (; n && *size; n--, (*size)--)
        v = v << 8 | *(*data)++;
    return v;
}

static void receive(struct pool *pool, const uint8_t *data, size_t size)
{
    struct poll_in in = {0};
    while (size) {
        uint64_t how = take(&data, &size, 1), offset = take(&data, &size, 1 + how % 3) % 100000;
        struct buf *b = buf_get(pool);
        b->len = (uint32_t)take(&data, &size, 2) % BUF_ROOM;
        memset(buf_data(b), 0, b->len);
        poll_in_take(&in, offset, b);
        if (how > 250)
            poll_in_end(&in, offset);
        CHECK(in.ahead <= POLL_AHEAD_MAX && in.count <= POLL_RUNS_MAX);
        CHECK(!in.has_final || in.next <= in.final + 1);
        size_t ahead = 0;
        for (unsigned i = 0; i < in.count; i++)
            ahead += in.runs[i].data.bytes;
        CHECK(ahead == in.ahead);
    }
    poll_in_fini(&in);
}

static void send(struct pool *pool, const uint8_t *data, size_t size)
{
    struct poll_out out = {0};
    struct poll_piece piece;
    while (size) {
        unsigned how = (unsigned)take(&data, &size, 1);
        uint32_t n = (uint32_t)take(&data, &size, 2);
        if (how % 4 == 0 && !out.ended && out.held.bytes < 1 << 20) {
            struct buf *b = buf_get(pool);
            b->len = n % BUF_ROOM;
            memset(buf_data(b), 0, b->len);
            poll_out_push(&out, b);
        } else if (how % 4 == 1) {
            poll_out_ack(&out, n);
        } else if (how % 4 == 2 && poll_out_give(&out, n % 16, 1 + n / 16, &piece)) {
            struct buf *b = buf_get(pool);
            CHECK(poll_out_copy(&out, piece.offset < out.acked ? out.acked : piece.offset, 0, b));
            CHECK(piece.offset + piece.len <= out.end);
            buf_put(b);
        } else if (how % 4 == 3) {
            out.ended |= how > 250;
            poll_out_low(&out, n % 16);
        }
        CHECK(out.acked <= out.given && out.given <= out.top && out.top <= out.end + 1 && out.count <= POLL_PIECES_MAX);
    }
    poll_out_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pool pool;
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0) {
        target(data + 1, size - 1);
        return 0;
    }
    pool_init(&pool);
    receive(&pool, data + 1, size - 1);
    send(&pool, data + 1, size - 1);
    CHECK(pool.out_bytes == 0);
    pool_fini(&pool);
    return 0;
}
