// SPDX-License-Identifier: Apache-2.0
// X-Forwarded-For and X-Forwarded-Proto, from listed fronts alone. Each hop appends whom it saw, so the list is read from its
// end: the last address that is no listed front's is the caller. What stands before it may be anybody's invention.
#include <string.h>
#include "relay/front.h"

static struct http_text trim(struct http_text t)
{
    while (t.len && (*t.at == ' ' || *t.at == '\t'))
        t.at++, t.len--;
    while (t.len && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
        t.len--;
    return t;
}

// Takes the last element off the list.
static struct http_text take_last(struct http_text *list)
{
    const char *comma = memrchr(list->at, ',', list->len);
    struct http_text one = *list;
    if (comma) {
        one.at = comma + 1;
        one.len = (size_t)(list->at + list->len - one.at);
        list->len = (size_t)(comma - list->at);
    } else {
        list->len = 0;
    }
    return trim(one);
}

// "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"; the port is of no use.
static bool parse_node(struct addr *a, struct http_text t)
{
    char text[64];
    if (t.len == 0 || t.len >= sizeof text)
        return false;
    memcpy(text, t.at, t.len);
    text[t.len] = 0;
    char *colon = strchr(text, ':'), *bracket = strchr(text, ']');
    if (text[0] == '[' && bracket)
        bracket[1] = 0;
    else if (colon && !strchr(colon + 1, ':'))
        *colon = 0;
    if (!addr_parse_ip(a, text, 0))
        return false;
    addr_unmap(a);
    return true;
}

// Goes through one header from its end. True: the caller is found, or what stands there is no address.
static bool search(struct front_caller *k, struct http_text list)
{
    while (list.len) {
        struct addr a;
        if (!parse_node(&a, take_last(&list)))
            return true;
        k->peer = a;
        if (!front_trusts(k->f, &a))
            return true;
    }
    return false;
}

void front_believe(struct front_caller *k, const struct http_head *h)
{
    if (!k->trusted)
        return;
    k->peer = k->near;
    k->https = k->kind == FRONT_WEB;
    for (size_t i = h->count; i-- > 0;)
        if (http_text_is_nocase(h->headers[i].name, "X-Forwarded-For") && search(k, h->headers[i].value))
            break;
    for (size_t i = 0; i < h->count; i++) {
        struct http_text list = h->headers[i].value;
        if (http_text_is_nocase(h->headers[i].name, "X-Forwarded-Proto"))
            k->https = http_text_is_nocase(take_last(&list), "https");
    }
    k->single = !addr_equal(&k->peer, &k->near);
    if (k->top->facts)
        k->top->facts->peer = k->peer;
}
