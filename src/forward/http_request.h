// SPDX-License-Identifier: Apache-2.0
// A caller's link behind the head of its request: first what was read behind the head, then what follows, up to the end of that
// request's body. What comes then is dropped, since it would be meant for another destination. CONNECT has no such end.
#pragma once
#include "link/link.h"
#include "wire/http.h"

// `rest` is emptied. h: the request, NULL for CONNECT; not kept.
struct link *http_request_over(struct link *below, struct bufq *rest, const struct http_head *h);
