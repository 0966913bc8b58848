// SPDX-License-Identifier: Apache-2.0
// An HTTP proxy for callers' links: CONNECT, and plain requests for http:// URLs, each of which is the only one on its connection. Names
// are never resolved here: they go out as they are. With a login callers say it by Basic.
#pragma once
#include "forward/conduit.h"
#include "forward/forward.h"
#include "forward/socks.h"

#define HTTP_PROXY_MS 30000         // from the first byte to the whole head
#define HTTP_PROXY_CALLERS_MAX 1024 // that have not asked yet

struct http_proxy;

// Of the way only `connect` is used. login: "user:password", copied; NULL: none is asked for.
struct http_proxy *http_proxy_new(struct forward *fw, const struct socks_way *way, const char *login);
// A caller: its open link, owned from now on.
void http_proxy_accept(struct http_proxy *p, struct link *link, const struct addr *origin);
void http_proxy_free(struct http_proxy *p); // ends callers that have not asked yet; NULL is allowed
