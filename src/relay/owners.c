// SPDX-License-Identifier: Apache-2.0
// Which request is whose: the table, and its simple owners.
#include "link/ws.h"
#include "relay/owners.h"
#include "relay/poll.h"

// Native: a WebSocket on one of our paths with our subprotocol -----------------------------------------------------

static bool native_claims(const struct front_caller *k, const struct http_head *h)
{
    return front_is_our_path(k->f, h->target) && ws_is_good_upgrade(h, WS_SUBPROTOCOL);
}

static void native_take(struct front_caller *k, const struct http_head *h)
{
    struct buf *rest = bufq_pop(&k->rest);
    bufq_clear(&k->rest); // more than a buffer behind the head, before our answer: a carrier sends none
    front_carrier(k, ws_server_over(k->top, h, WS_SUBPROTOCOL, rest));
}

static const struct front_owner native = {.name = "native", .claims = native_claims, .take = native_take};

// Nobody's ----------------------------------------------------------------------------------------------------------

static bool claims_all(const struct front_caller *k, const struct http_head *h)
{
    (void)k, (void)h;
    return true;
}

static void nothing_take(struct front_caller *k, const struct http_head *h)
{
    (void)h;
    k->f->stats.not_found++;
    front_answer(k, 404, "Not Found", "");
}

static const struct front_owner nothing = {.name = "nothing", .claims = claims_all, .take = nothing_take};

const struct front_owner *const front_owners[] = {&front_redirect, &native, &front_poll, &front_decoy, &nothing};
