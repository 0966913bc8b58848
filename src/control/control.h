// SPDX-License-Identifier: Apache-2.0
// The control socket: how `status` and `table` ask a running relay or agent. Each process listens on a Unix socket of
// its own, STATE/control-ROLE-PID.sock (0600); a request is one line of JSON, {"ask":"status"}, {"ask":"table",
// "name":"streams"}, {"ask":"policy"} or {"ask":"proxy"}, the answer one line too, {"ok":…} or {"error":"…"}. The server owns its
// listener and callers, at most CONTROL_CALLERS of them, each cut off after CONTROL_MS. The role answers from its own
// memory, at once.
#pragma once
#include <jansson.h>
#include "core/err.h"
#include "core/worker.h"

#define CONTROL_CALLERS 16
#define CONTROL_MS 10000
#define CONTROL_REQUEST_MAX 4096
#define CONTROL_ANSWER_MAX (64 * 1024 * 1024)

struct control_ops {
    // A new object; shown by `status` key by key, nested objects and arrays of objects indented. "role", "pid" and
    // "version" are added to it.
    json_t *(*status)(void *owner);
    // A new array of flat objects, all with the same keys in the order of the columns; NULL: this role has no such
    // table.
    json_t *(*table)(void *owner, const char *name);
    // Somebody changed the store: read it again, and call control_policy_read with the ticket when it is in force.
    // Tickets rise by one. NULL: this role has none.
    void (*policy)(void *owner, uint64_t ticket);
    // Somebody saved other proxies: read them, begin to use them, and say with a new object what that means. NULL: none.
    json_t *(*proxy)(void *owner);
};

struct control;

// `role` is "relay" or "agent". NULL with *e set. The owner may go on without (a full disk is no reason not to tunnel).
struct control *control_start(struct worker *w, const char *state, const char *role, const struct control_ops *ops,
                              void *owner, struct err *e);
void control_policy_read(struct control *c, uint64_t ticket); // c NULL is allowed
void control_stop(struct control *c); // removes the socket; NULL is allowed

// Tells the relays of the folder that the store has changed, and waits until they follow. What goes wrong is nobody's
// business: they look by themselves too.
void control_tell_policy(const char *state);

// The asking side: blocking, for commands. Asks every process of the state folder; *answers becomes a new array of
// {"role","pid","answer"} or, for one that did not answer, {"role","pid","error"}. Sockets whose process is gone are
// removed. 0 (also when none runs: an empty array), or -1 with *e set.
int control_ask(const char *state, const json_t *request, json_t **answers, struct err *e);
