// SPDX-License-Identifier: Apache-2.0
// The front's HTTP: request heads, their bodies, answers, and one request after the other on a connection.
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "relay/decoy.h"
#include "relay/front.h"

#define HEAD_ROOM (HTTP_HEAD_MAX + BUF_SIZE)

// Answers ---------------------------------------------------------------------------------------------------------

void front_say(struct front_caller *k, int status, const char *reason, const char *headers, uint64_t length)
{
    char text[BUF_ROOM], date[40];
    time_t now = time(NULL);
    struct tm tm;
    k->keep = k->keep && k->body.state == SKIP_OVER; // what is left of the body would be the next request
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\nDate: %s\r\n%sContent-Length: %llu\r\n%s\r\n", status,
                     reason, date, headers, (unsigned long long)length, k->keep ? "" : "Connection: close\r\n");
    link_send(k->top, buf_copy(&k->f->w->pool, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
}

void front_answer(struct front_caller *k, int status, const char *reason, const char *headers)
{
    char page[160], lines[FRONT_HEADERS_MAX];
    int size = snprintf(page, sizeof page, "<html><head><title>%d %s</title></head><body><h1>%d %s</h1></body></html>\r\n",
                        status, reason, status, reason);
    snprintf(lines, sizeof lines, "Content-Type: text/html\r\n%s", headers);
    front_say(k, status, reason, lines, (uint64_t)size);
    if (!k->head_only)
        link_send(k->top, buf_copy(&k->f->w->pool, page, (size_t)size));
    front_done(k);
}

static void disown(struct front_caller *k)
{
    const struct front_owner *owner = k->owner;
    k->owner = NULL;
    if (owner && owner->on_gone)
        owner->on_gone(k);
}

static bool body_is_over(const struct front_caller *k) { return k->body.state == SKIP_OVER; }

void front_done(struct front_caller *k)
{
    disown(k);
    k->served = true;
    if (k->keep && body_is_over(k)) {
        front_head_start(k);
        return;
    }
    k->stage = FRONT_ANSWERED;
    link_shut(k->top, SHUT_END);
    timer_set(k->f->w, &k->deadline, FRONT_ANSWER_MS);
    wake_post(k->f->w, &k->wake);
}

void front_drop_rest(struct front_caller *k)
{
    struct buf *b;
    enum link_status rc;
    while ((rc = link_recv(k->top, &b)) == LINK_OK) {
        k->dropped += b->len;
        buf_put(b);
        if (k->dropped > FRONT_DRAIN_MAX)
            break;
    }
    if (rc != LINK_AGAIN)
        front_end(k);
}

// Bodies ----------------------------------------------------------------------------------------------------------

bool front_is_gone(struct front_caller *k)
{
    struct buf *b;
    if (!bufq_empty(&k->rest))
        return false;
    enum link_status rc = link_recv(k->top, &b);
    if (rc == LINK_OK)
        bufq_push(&k->rest, b);
    return rc == LINK_FAILED; // an end in order may be a caller that says no more and still listens
}

static enum link_status pull(struct front_caller *k, struct buf **out)
{
    *out = bufq_pop(&k->rest);
    return *out ? LINK_OK : link_recv(k->top, out);
}

enum link_status front_recv(struct front_caller *k, struct buf **out)
{
    while (!body_is_over(k)) {
        struct buf *b;
        enum link_status rc = pull(k, &b);
        if (rc != LINK_OK)
            return rc == LINK_AGAIN ? LINK_AGAIN : LINK_FAILED;
        size_t from, len;
        http_skip_data(&k->body, (char *)buf_data(b), b->len, &from, &len);
        if (k->body.state == SKIP_BAD) {
            buf_put(b);
            return LINK_FAILED;
        }
        buf_skip(b, from);
        if (b->len == 0) {
            buf_put(b);
            continue;
        }
        *out = b;
        if (len < b->len) {
            *out = len ? buf_split(b, len) : NULL;
            bufq_push_front(&k->rest, b);
        }
        if (*out)
            return LINK_OK;
    }
    return LINK_END;
}

// Heads -----------------------------------------------------------------------------------------------------------

bool front_is_our_path(const struct front *f, struct http_text target)
{
    const char *query = memchr(target.at, '?', target.len);
    size_t len = query ? (size_t)(query - target.at) : target.len;
    for (size_t i = 0; i < f->path_count; i++)
        if (strlen(f->paths[i]) == len && !memcmp(f->paths[i], target.at, len))
            return true;
    return false;
}

// What was read behind the head goes back to where it came from, before what is there.
static void keep_rest(struct front_caller *k, size_t used)
{
    for (size_t end = k->have, n; end > used; end -= n) {
        n = end - used < BUF_ROOM ? end - used : BUF_ROOM;
        bufq_push_front(&k->rest, buf_copy(&k->f->w->pool, k->head + end - n, n));
    }
}

// A stranger has had his share of this connection, or others need its place.
static bool is_spent(const struct front_caller *k)
{
    const struct front *f = k->f;
    return k->requests >= FRONT_REQUESTS_MAX || f->w->now_ms - k->born_ms >= FRONT_LIFE_MS || f->count >= FRONT_CALLERS_MANY;
}

static void route(struct front_caller *k, const struct http_head *h, size_t used)
{
    char *head = k->head;
    const struct front_owner *const *at = front_owners;
    keep_rest(k, used);
    k->head = NULL;
    front_believe(k, h);
    k->keep = h->minor >= 1 && !http_has_token(h, "Connection", "close");
    k->head_only = http_text_is(h->method, "HEAD");
    http_skip_start(&k->body, h); // no length announced: no body
    while (!(*at)->claims(k, h))
        at++;
    bool is_known = (*at)->knows && (*at)->knows(k, h);
    if (!is_known) {
        front_count_again(k);
        k->requests++;
        k->keep = k->keep && !is_spent(k);
    }
    if (!is_known && front_is_crowded(k)) {
        k->f->stats.turned_away++;
        k->keep = false;
        front_answer(k, 503, "Service Unavailable", "");
        free(head);
        return;
    }
    k->owner = *at;
    k->state = NULL;
    k->stage = FRONT_OWNED;
    timer_stop(k->f->w, &k->deadline);
    k->owner->take(k, h);
    free(head);
}

static void refuse_head(struct front_caller *k, int status, const char *reason)
{
    k->f->stats.bad++;
    k->keep = k->head_only = false;
    if (k->f->decoy && k->kind != FRONT_REDIRECT) {
        keep_rest(k, 0);
        decoy_raw(k);
        return;
    }
    front_answer(k, status, reason, "");
}

// Looks only at what has come since the last time, and what of an end may be before it.
static bool has_end(struct front_caller *k)
{
    size_t from = k->searched < 2 ? 0 : k->searched - 2, n = k->have - from;
    k->searched = k->have;
    return memmem(k->head + from, n, "\n\r\n", 3) || memmem(k->head + from, n, "\n\n", 2);
}

// False: more is needed.
static bool parse_head(struct front_caller *k)
{
    struct http_head h;
    const char *why;
    size_t used = 0;
    // Parsed once, when its end has come: bytes that trickle in cost nothing.
    bool whole = has_end(k);
    enum http_result rc = whole ? http_parse(&h, true, k->head, k->have, &used, &why) : HTTP_MORE;
    if (rc == HTTP_OK)
        route(k, &h, used);
    else if (rc == HTTP_BAD)
        refuse_head(k, 400, "Bad Request");
    else if (k->have >= HTTP_HEAD_MAX)
        refuse_head(k, 431, "Request Header Fields Too Large");
    else
        return false;
    return true;
}

static bool make_room(struct front_caller *k)
{
    if (!k->head)
        k->head = malloc(HEAD_ROOM);
    return k->head;
}

// One head a turn, and none while the answers before it have not left: who sends requests and reads nothing costs no more.
void front_head_read(struct front_caller *k)
{
    do {
        struct buf *b;
        if (link_room(k->top) == 0)
            return;
        enum link_status rc = pull(k, &b);
        if (rc == LINK_AGAIN)
            return;
        if (rc != LINK_OK) {
            front_end_saying(k, "request", &k->top->err);
            return;
        }
        if (!make_room(k)) {
            buf_put(b);
            front_end(k);
            return;
        }
        memcpy(k->head + k->have, buf_data(b), b->len);
        k->have += b->len;
        buf_put(b);
    } while (!parse_head(k));
}

void front_head_start(struct front_caller *k)
{
    k->stage = FRONT_HEAD;
    k->have = k->searched = 0;
    timer_set(k->f->w, &k->deadline, FRONT_HEAD_MS);
    wake_post(k->f->w, &k->wake);
}
