// SPDX-License-Identifier: Apache-2.0
#include "wire/frame.h"
#include <string.h>

// A writer that stops at its bound, and a reader that fails beyond its end: every length is checked by subtraction.
struct out {
    uint8_t *at;
    size_t left;
};
struct in {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static void put(struct out *o, const void *data, size_t n)
{
    if (n > o->left)
        n = 0;
    if (n)
        memcpy(o->at, data, n);
    o->at += n;
    o->left -= n;
}

static void put_int(struct out *o, uint64_t v, unsigned bytes)
{
    uint8_t b[8];
    for (unsigned i = 0; i < bytes; i++)
        b[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    put(o, b, bytes);
}

// A TLV goes in whole or not at all.
static void put_tlv(struct out *o, uint8_t tag, const void *data, size_t n)
{
    if (o->left < 3 || n > o->left - 3)
        return;
    put_int(o, tag, 1);
    put_int(o, n, 2);
    put(o, data, n);
}

static void put_text_tlv(struct out *o, uint8_t tag, const char *text)
{
    if (text[0])
        put_tlv(o, tag, text, strlen(text));
}

static const uint8_t *take(struct in *i, size_t n)
{
    if (i->bad || n > i->left) {
        i->bad = true;
        return NULL;
    }
    const uint8_t *p = i->at;
    i->at += n;
    i->left -= n;
    return p;
}

static uint64_t take_int(struct in *i, unsigned bytes)
{
    const uint8_t *p = take(i, bytes);
    uint64_t v = 0;
    for (unsigned k = 0; p && k < bytes; k++)
        v = v << 8 | p[k];
    return v;
}

static void take_bytes(struct in *i, void *out, size_t n)
{
    const uint8_t *p = take(i, n);
    if (p)
        memcpy(out, p, n);
}

// The next TLV; false at the end or when it is cut short (then i->bad).
static bool take_tlv(struct in *i, uint8_t *tag, const uint8_t **data, size_t *n)
{
    if (i->bad || i->left == 0)
        return false;
    *tag = (uint8_t)take_int(i, 1);
    *n = (size_t)take_int(i, 2);
    *data = take(i, *n);
    return !i->bad;
}

static bool is_text(const void *data, size_t n)
{
    const uint8_t *at = data;
    for (size_t k = 0; k < n; k++)
        if (at[k] < 0x20 || at[k] == 0x7f)
            return false;
    return true;
}

bool frame_is_text(const char *text) { return is_text(text, strlen(text)); }

// Copies a text that must hold no control bytes and fit with its ending 0.
static bool copy_text(char *out, size_t size, const uint8_t *data, size_t n)
{
    if (n >= size || !is_text(data, n))
        return false;
    if (n)
        memcpy(out, data, n);
    out[n] = 0;
    return true;
}

static size_t copy_value(void *out, size_t want, const uint8_t *data, size_t n)
{
    if (n != want)
        return 0;
    memcpy(out, data, n);
    return n;
}

// An address: family 1 (0 none, 1 unix, 4, 6), then 4 or 16 bytes and port 2, or length 1 and path.
static void put_addr(struct out *o, const struct addr *a)
{
    if (a->len && a->sa.sa_family == AF_INET) {
        put_int(o, 4, 1);
        put(o, &a->in.sin_addr, 4);
        put_int(o, ntohs(a->in.sin_port), 2);
    } else if (a->len && a->sa.sa_family == AF_INET6) {
        put_int(o, 6, 1);
        put(o, &a->in6.sin6_addr, 16);
        put_int(o, ntohs(a->in6.sin6_port), 2);
    } else if (a->len && a->sa.sa_family == AF_UNIX) {
        size_t n = strnlen(a->un.sun_path, sizeof a->un.sun_path - 1);
        put_int(o, 1, 1);
        put_int(o, n, 1);
        put(o, a->un.sun_path, n);
    } else {
        put_int(o, 0, 1);
    }
}

static void take_unix(struct in *i, struct addr *a)
{
    size_t n = (size_t)take_int(i, 1);
    const uint8_t *p = take(i, n);
    if (!p || n >= sizeof a->un.sun_path || memchr(p, 0, n)) {
        i->bad = true;
        return;
    }
    a->un.sun_family = AF_UNIX;
    memcpy(a->un.sun_path, p, n);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
}

static void take_addr(struct in *i, struct addr *a)
{
    memset(a, 0, sizeof *a);
    switch (take_int(i, 1)) {
    case 0:
        break;
    case 1:
        take_unix(i, a);
        break;
    case 4:
        a->in.sin_family = AF_INET;
        take_bytes(i, &a->in.sin_addr, 4);
        a->in.sin_port = htons((uint16_t)take_int(i, 2));
        a->len = sizeof a->in;
        break;
    case 6:
        a->in6.sin6_family = AF_INET6;
        take_bytes(i, &a->in6.sin6_addr, 16);
        a->in6.sin6_port = htons((uint16_t)take_int(i, 2));
        a->len = sizeof a->in6;
        break;
    default:
        i->bad = true;
    }
    if (i->bad)
        a->len = 0;
}

void frame_put_head(uint8_t *out, uint32_t length, uint8_t type, uint32_t stream)
{
    out[0] = (uint8_t)(length >> 16);
    out[1] = (uint8_t)(length >> 8);
    out[2] = (uint8_t)length;
    out[3] = type;
    out[4] = (uint8_t)(stream >> 24);
    out[5] = (uint8_t)(stream >> 16);
    out[6] = (uint8_t)(stream >> 8);
    out[7] = (uint8_t)stream;
}

void frame_get_head(struct frame_head *h, const uint8_t in[FRAME_HEAD])
{
    h->length = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
    h->type = in[3];
    h->stream = (uint32_t)in[4] << 24 | (uint32_t)in[5] << 16 | (uint32_t)in[6] << 8 | in[7];
}

static struct out begin(uint8_t *out) { return (struct out){out + FRAME_HEAD, FRAME_CONTROL_MAX}; }

static size_t finish(uint8_t *out, const struct out *o, uint8_t type, uint32_t stream)
{
    size_t payload = (size_t)(o->at - out) - FRAME_HEAD;
    frame_put_head(out, (uint32_t)payload, type, stream);
    return FRAME_HEAD + payload;
}

static void put_given_up(struct out *o, const struct frame_hello *f)
{
    uint8_t numbers[4 * FRAME_GIVEN_UP_MAX];
    struct out list = {numbers, sizeof numbers};
    for (unsigned i = 0; i < f->given_up_count; i++)
        put_int(&list, f->given_up[i], 4);
    if (f->given_up_count)
        put_tlv(o, TLV_GIVEN_UP, numbers, 4 * f->given_up_count);
}

size_t frame_put_hello(uint8_t *out, const struct frame_hello *f)
{
    struct out o = begin(out);
    put_int(&o, f->ver_min, 1);
    put_int(&o, f->ver_max, 1);
    put_int(&o, f->flags, 2);
    put(&o, f->session, 16);
    put(&o, f->instance, 16);
    put_int(&o, f->carrier, 4);
    if (f->has_exporter)
        put_tlv(&o, TLV_EXPORTER, f->exporter, 32);
    put_text_tlv(&o, TLV_NAME, f->name);
    if (f->has_token)
        put_tlv(&o, TLV_TOKEN, f->token, 16);
    put_given_up(&o, f);
    return finish(out, &o, FRAME_HELLO, 0);
}

static bool take_given_up(struct frame_hello *f, const uint8_t *data, size_t n)
{
    if (n % 4 || n / 4 > FRAME_GIVEN_UP_MAX || f->given_up_count)
        return false;
    struct in i = {data, n, false};
    for (f->given_up_count = 0; f->given_up_count < n / 4; f->given_up_count++)
        f->given_up[f->given_up_count] = (uint32_t)take_int(&i, 4);
    return true;
}

static bool hello_tlv(struct frame_hello *f, uint8_t tag, const uint8_t *data, size_t n)
{
    switch (tag) {
    case TLV_EXPORTER:
        return f->has_exporter = copy_value(f->exporter, 32, data, n);
    case TLV_TOKEN:
        return f->has_token = copy_value(f->token, 16, data, n);
    case TLV_NAME:
        return copy_text(f->name, sizeof f->name, data, n);
    case TLV_GIVEN_UP:
        return take_given_up(f, data, n);
    default:
        return true;
    }
}

int frame_get_hello(struct frame_hello *f, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    memset(f, 0, sizeof *f);
    f->ver_min = (uint8_t)take_int(&i, 1);
    f->ver_max = (uint8_t)take_int(&i, 1);
    f->flags = (uint16_t)take_int(&i, 2);
    take_bytes(&i, f->session, 16);
    take_bytes(&i, f->instance, 16);
    f->carrier = (uint32_t)take_int(&i, 4);
    uint8_t tag;
    const uint8_t *data;
    size_t n;
    while (take_tlv(&i, &tag, &data, &n))
        if (!hello_tlv(f, tag, data, n))
            return -1;
    return i.bad || f->ver_min > f->ver_max ? -1 : 0;
}

size_t frame_put_welcome(uint8_t *out, const struct frame_welcome *f)
{
    struct out o = begin(out);
    uint8_t retry[4] = {(uint8_t)(f->retry_ms >> 24), (uint8_t)(f->retry_ms >> 16), (uint8_t)(f->retry_ms >> 8),
                        (uint8_t)f->retry_ms};
    put_int(&o, f->ver, 1);
    put_int(&o, f->status, 1);
    put_int(&o, f->flags, 2);
    put(&o, f->session, 16);
    put(&o, f->birth, 8);
    put_text_tlv(&o, TLV_NAME, f->name);
    put_text_tlv(&o, TLV_TEXT, f->text);
    if (f->retry_ms)
        put_tlv(&o, TLV_RETRY, retry, 4);
    for (unsigned k = 0; k < f->next_pin_count && k < 4; k++)
        put_tlv(&o, TLV_NEXT_PIN, f->next_pins[k], 32);
    return finish(out, &o, FRAME_WELCOME, 0);
}

static bool welcome_tlv(struct frame_welcome *f, uint8_t tag, const uint8_t *data, size_t n)
{
    struct in i = {data, n, false};
    switch (tag) {
    case TLV_NAME:
        return copy_text(f->name, sizeof f->name, data, n);
    case TLV_TEXT:
        return copy_text(f->text, sizeof f->text, data, n);
    case TLV_RETRY:
        f->retry_ms = (uint32_t)take_int(&i, 4);
        return n == 4;
    case TLV_NEXT_PIN:
        return f->next_pin_count < 4 && copy_value(f->next_pins[f->next_pin_count++], 32, data, n);
    default:
        return true;
    }
}

int frame_get_welcome(struct frame_welcome *f, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    memset(f, 0, sizeof *f);
    f->ver = (uint8_t)take_int(&i, 1);
    f->status = (uint8_t)take_int(&i, 1);
    f->flags = (uint16_t)take_int(&i, 2);
    take_bytes(&i, f->session, 16);
    take_bytes(&i, f->birth, 8);
    uint8_t tag;
    const uint8_t *data;
    size_t n;
    while (take_tlv(&i, &tag, &data, &n))
        if (!welcome_tlv(f, tag, data, n))
            return -1;
    return i.bad ? -1 : 0;
}

static void put_state(struct out *o, const struct frame_state *s)
{
    uint8_t b[16];
    put64(b, s->acked);
    put64(b + 8, s->sent);
    if (s->is_set)
        put_tlv(o, TLV_STATE, b, 16);
    put64(b, s->final);
    if (s->has_final)
        put_tlv(o, TLV_FINAL, b, 8);
}

static bool state_tlv(struct frame_state *s, uint8_t tag, const uint8_t *data, size_t n)
{
    if (tag == TLV_FINAL) {
        s->has_final = n == 8;
        s->final = n == 8 ? get64(data) : 0;
        return n == 8 && s->final <= FRAME_FINAL_MAX;
    }
    s->is_set = n == 16;
    if (n != 16)
        return false;
    s->acked = get64(data);
    s->sent = get64(data + 8);
    return s->acked != ACKED_ALL && s->sent <= FRAME_FINAL_MAX;
}

size_t frame_put_open(uint8_t *out, uint32_t stream, const struct frame_open *f)
{
    struct out o = begin(out);
    size_t hlen = strnlen(f->host, 255);
    put_int(&o, f->kind, 1);
    put_int(&o, f->flags, 1);
    put_int(&o, f->window, 8);
    put(&o, f->uid, 16);
    put_int(&o, f->port, 2);
    put_int(&o, hlen, 1);
    put(&o, f->host, hlen);
    if (f->origin.len) {
        uint8_t text[128];
        struct out a = {text, sizeof text};
        put_addr(&a, &f->origin);
        put_tlv(&o, TLV_ORIGIN, text, (size_t)(a.at - text));
    }
    if (f->listener) {
        uint8_t id[4] = {(uint8_t)(f->listener >> 24), (uint8_t)(f->listener >> 16), (uint8_t)(f->listener >> 8),
                         (uint8_t)f->listener};
        put_tlv(&o, TLV_LISTENER, id, 4);
    }
    if (f->has_identity)
        put_tlv(&o, TLV_IDENTITY, f->identity, 32);
    put_text_tlv(&o, TLV_AGENT, f->agent);
    if (f->ttl_ms)
        put_tlv(&o, TLV_TTL, (uint8_t[]){(uint8_t)(f->ttl_ms >> 8), (uint8_t)f->ttl_ms}, 2);
    if (f->datagram)
        put_tlv(&o, TLV_DATAGRAM, NULL, 0);
    if (f->sealed)
        put_tlv(&o, TLV_SEALED, NULL, 0);
    put_state(&o, &f->state);
    return finish(out, &o, FRAME_OPEN, stream);
}

static bool open_tlv(struct frame_open *f, uint8_t tag, const uint8_t *data, size_t n)
{
    struct in i = {data, n, false};
    switch (tag) {
    case TLV_ORIGIN:
        take_addr(&i, &f->origin);
        return !i.bad && i.left == 0;
    case TLV_LISTENER:
        f->listener = (uint32_t)take_int(&i, 4);
        return n == 4;
    case TLV_IDENTITY:
        return f->has_identity = copy_value(f->identity, 32, data, n);
    case TLV_AGENT:
        return copy_text(f->agent, sizeof f->agent, data, n);
    case TLV_TTL:
        f->ttl_ms = (uint16_t)take_int(&i, 2);
        return n == 2;
    case TLV_DATAGRAM:
        return f->datagram = n == 0;
    case TLV_SEALED:
        return f->sealed = n == 0;
    case TLV_STATE:
    case TLV_FINAL:
        return state_tlv(&f->state, tag, data, n);
    default:
        return true;
    }
}

int frame_get_open(struct frame_open *f, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    memset(f, 0, sizeof *f);
    f->kind = (uint8_t)take_int(&i, 1);
    f->flags = (uint8_t)take_int(&i, 1);
    f->window = take_int(&i, 8);
    take_bytes(&i, f->uid, 16);
    f->port = (uint16_t)take_int(&i, 2);
    size_t hlen = (size_t)take_int(&i, 1);
    const uint8_t *host = take(&i, hlen);
    if (!host || !copy_text(f->host, sizeof f->host, host, hlen))
        return -1;
    uint8_t tag;
    const uint8_t *data;
    size_t n;
    while (take_tlv(&i, &tag, &data, &n))
        if (!open_tlv(f, tag, data, n))
            return -1;
    return i.bad ? -1 : 0;
}

size_t frame_put_opened(uint8_t *out, uint32_t stream, const struct frame_opened *f)
{
    struct out o = begin(out);
    put_int(&o, f->code, 2);
    put_int(&o, f->window, 8);
    put_addr(&o, &f->address);
    put_text_tlv(&o, TLV_TEXT, f->text);
    if (f->sealed)
        put_tlv(&o, TLV_SEALED, NULL, 0);
    put_state(&o, &f->state);
    return finish(out, &o, FRAME_OPENED, stream);
}

static bool opened_tlv(struct frame_opened *f, uint8_t tag, const uint8_t *data, size_t n)
{
    if (tag == TLV_TEXT)
        return copy_text(f->text, sizeof f->text, data, n);
    if (tag == TLV_SEALED)
        return f->sealed = n == 0;
    return (tag != TLV_STATE && tag != TLV_FINAL) || state_tlv(&f->state, tag, data, n);
}

int frame_get_opened(struct frame_opened *f, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    memset(f, 0, sizeof *f);
    f->code = (uint16_t)take_int(&i, 2);
    f->window = take_int(&i, 8);
    take_addr(&i, &f->address);
    uint8_t tag;
    const uint8_t *data;
    size_t n;
    while (take_tlv(&i, &tag, &data, &n))
        if (!opened_tlv(f, tag, data, n))
            return -1;
    return i.bad ? -1 : 0;
}

size_t frame_put_ping(uint8_t *out, uint8_t type, uint64_t opaque, uint32_t interval_ms)
{
    struct out o = begin(out);
    put_int(&o, opaque, 8);
    put_int(&o, interval_ms, 4);
    return finish(out, &o, type, 0);
}

int frame_get_ping(uint64_t *opaque, uint32_t *interval_ms, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    *opaque = take_int(&i, 8);
    *interval_ms = (uint32_t)take_int(&i, 4);
    return i.bad || i.left ? -1 : 0;
}

size_t frame_put_goaway(uint8_t *out, uint16_t code, uint32_t retry_ms, const char *text)
{
    struct out o = begin(out);
    put_int(&o, code, 2);
    put_int(&o, retry_ms, 4);
    put(&o, text, strnlen(text, FRAME_TEXT_MAX));
    return finish(out, &o, FRAME_GOAWAY, 0);
}

int frame_get_goaway(uint16_t *code, uint32_t *retry_ms, char text[FRAME_TEXT_MAX + 1], const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    *code = (uint16_t)take_int(&i, 2);
    *retry_ms = (uint32_t)take_int(&i, 4);
    if (i.bad)
        return -1;
    return copy_text(text, FRAME_TEXT_MAX + 1, i.at, i.left) ? 0 : -1;
}

size_t frame_put_probe(uint8_t *out, uint32_t bytes)
{
    struct out o = begin(out);
    put_int(&o, bytes, 4);
    return finish(out, &o, FRAME_PROBE, 0);
}

int frame_get_probe(uint32_t *bytes, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    uint32_t n = (uint32_t)take_int(&i, 4);
    *bytes = n < FRAME_PROBE_MAX ? n : FRAME_PROBE_MAX;
    return i.bad || i.left ? -1 : 0;
}

size_t frame_put_ack(uint8_t *out, uint8_t type, uint32_t stream, uint64_t acked, uint64_t limit)
{
    frame_put_head(out, 16, type, stream);
    put64(out + FRAME_HEAD, acked);
    put64(out + FRAME_HEAD + 8, limit);
    return FRAME_HEAD + 16;
}

int frame_get_ack(uint64_t *acked, uint64_t *limit, const uint8_t *in, size_t len)
{
    if (len != 16)
        return -1;
    *acked = get64(in);
    *limit = get64(in + 8);
    return 0;
}

size_t frame_put_fin(uint8_t *out, uint32_t stream, uint64_t final)
{
    frame_put_head(out, 8, FRAME_FIN, stream);
    put64(out + FRAME_HEAD, final);
    return FRAME_HEAD + 8;
}

int frame_get_fin(uint64_t *final, const uint8_t *in, size_t len)
{
    if (len != 8)
        return -1;
    *final = get64(in);
    return *final > FRAME_FINAL_MAX ? -1 : 0;
}

size_t frame_put_reset(uint8_t *out, uint32_t stream, uint16_t code, uint64_t final)
{
    struct out o = begin(out);
    put_int(&o, code, 2);
    put_int(&o, final, 8);
    return finish(out, &o, FRAME_RESET, stream);
}

int frame_get_reset(uint16_t *code, uint64_t *final, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    *code = (uint16_t)take_int(&i, 2);
    *final = take_int(&i, 8);
    return i.bad || i.left || *final > FRAME_FINAL_MAX ? -1 : 0;
}

size_t frame_put_dgram_head(uint8_t *out, uint32_t stream, const struct frame_dgram *f)
{
    struct out o = {out + FRAME_HEAD, FRAME_DGRAM_FIXED};
    put_int(&o, f->seq, 4);
    put_int(&o, f->age_ms, 2);
    put_int(&o, f->ttl_ms, 2);
    put_int(&o, f->part, 1);
    put_int(&o, f->parts, 1);
    frame_put_head(out, (uint32_t)(FRAME_DGRAM_FIXED + f->len), FRAME_DGRAM, stream);
    return FRAME_HEAD + FRAME_DGRAM_FIXED;
}

int frame_get_dgram(struct frame_dgram *f, const uint8_t *in, size_t len)
{
    struct in i = {in, len, false};
    f->seq = (uint32_t)take_int(&i, 4);
    f->age_ms = (uint16_t)take_int(&i, 2);
    f->ttl_ms = (uint16_t)take_int(&i, 2);
    f->part = (uint8_t)take_int(&i, 1);
    f->parts = (uint8_t)take_int(&i, 1);
    f->data = i.at;
    f->len = i.left;
    return i.bad || f->parts == 0 || f->part >= f->parts ? -1 : 0;
}
