// SPDX-License-Identifier: Apache-2.0
// The answering side of the control socket. The socket is bound through /proc/self/fd/N of the state folder, so that a
// deep folder does not exceed what a socket's path may hold.
#include "control/control.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/log.h"
#include "forward/listen.h"

struct control {
    struct worker *w;
    const struct control_ops *ops;
    void *owner;
    const char *role;
    int dir;
    struct listener *listener;
    struct list callers;
    unsigned caller_count;
    uint64_t last_ticket;
};

struct caller {
    struct list node;
    struct control *c;
    struct link *link;
    struct wake wake;
    struct timer deadline;
    struct grave grave;
    char request[CONTROL_REQUEST_MAX];
    size_t have;
    char *answer; // heap; NULL until the request is in
    size_t len, sent;
    bool shut;
    uint64_t ticket; // waits for the policy; 0: for nothing
};

static void bury(struct grave *g)
{
    struct caller *k = container_of(g, struct caller, grave);
    free(k->answer);
    free(k);
}

static void caller_end(struct caller *k)
{
    struct control *c = k->c;
    link_close(k->link);
    timer_stop(c->w, &k->deadline);
    wake_cancel(&k->wake);
    list_del(&k->node);
    if (c->caller_count-- == CONTROL_CALLERS)
        listener_pause(c->listener, false);
    worker_bury(c->w, &k->grave, bury);
}

static json_t *answer_status(struct control *c)
{
    json_t *o = json_object(), *more = c->ops->status(c->owner);
    json_object_set_new(o, "role", json_string(c->role));
    json_object_set_new(o, "pid", json_integer(getpid()));
    json_object_set_new(o, "version", json_string(CULVERT_VERSION));
    if (more)
        json_object_update(o, more);
    json_decref(more);
    return o;
}

static json_t *error(const char *text)
{
    return json_pack("{s:s}", "error", text);
}

// NULL: the answer comes later.
static json_t *answer(struct caller *k, const json_t *request)
{
    struct control *c = k->c;
    const char *ask = json_string_value(json_object_get(request, "ask"));
    const char *name = json_string_value(json_object_get(request, "name"));
    json_t *ok = NULL;
    if (!ask)
        return error("not a request");
    if (!strcmp(ask, "policy") && c->ops->policy) {
        k->ticket = ++c->last_ticket;
        return NULL;
    }
    if (!strcmp(ask, "status"))
        ok = answer_status(c);
    else if (!strcmp(ask, "table") && name)
        ok = c->ops->table(c->owner, name);
    else if (!strcmp(ask, "proxy") && c->ops->proxy)
        ok = c->ops->proxy(c->owner);
    return ok ? json_pack("{s:o}", "ok", ok) : error("not here");
}

static void write_some(struct caller *k)
{
    while (k->sent < k->len) {
        if (link_room(k->link) == 0)
            return;
        size_t n = k->len - k->sent < BUF_ROOM ? k->len - k->sent : BUF_ROOM;
        link_send(k->link, buf_copy(&k->c->w->pool, k->answer + k->sent, n));
        k->sent += n;
    }
    if (!k->shut) {
        k->shut = true;
        link_shut(k->link, SHUT_END);
    }
}

static void give(struct caller *k, json_t *a)
{
    char *text = json_dumps(a, JSON_COMPACT);
    json_decref(a);
    int n = text ? asprintf(&k->answer, "%s\n", text) : -1;
    free(text);
    if (n < 0) {
        k->answer = NULL;
        caller_end(k);
        return;
    }
    k->len = (size_t)n;
    write_some(k);
}

static void take_line(struct caller *k, size_t len)
{
    json_t *request = json_loadb(k->request, len, JSON_REJECT_DUPLICATES, NULL), *a = answer(k, request);
    json_decref(request);
    if (a)
        give(k, a);
    else
        k->c->ops->policy(k->c->owner, k->ticket);
}

void control_policy_read(struct control *c, uint64_t ticket)
{
    if (!c)
        return;
    list_each(&c->callers, it)
    {
        struct caller *k = list_entry(it, struct caller, node);
        if (k->ticket && k->ticket <= ticket) {
            k->ticket = 0;
            give(k, json_pack("{s:b}", "ok", 1));
        }
    }
}

// True when the caller has ended.
static bool read_some(struct caller *k)
{
    struct buf *b;
    enum link_status rc;
    while ((rc = link_recv(k->link, &b)) == LINK_OK) {
        size_t n = b->len < sizeof k->request - k->have ? b->len : sizeof k->request - k->have;
        bool asked = k->answer || k->ticket, fits = n == b->len || asked;
        memcpy(k->request + k->have, buf_data(b), n);
        k->have += n;
        buf_put(b);
        char *end = memchr(k->request, '\n', k->have);
        if (!asked && end) {
            take_line(k, (size_t)(end - k->request));
        } else if (!fits || (asked && k->have == sizeof k->request)) {
            caller_end(k);
            return true;
        }
        if (!list_linked(&k->node))
            return true;
    }
    if (rc == LINK_FAILED || (rc == LINK_END && !k->ticket && (!k->answer || k->shut))) {
        caller_end(k);
        return true;
    }
    return false;
}

static void on_wake(struct wake *wake)
{
    struct caller *k = container_of(wake, struct caller, wake);
    if (!read_some(k) && k->answer)
        write_some(k);
}

static void on_deadline(struct timer *t)
{
    caller_end(container_of(t, struct caller, deadline));
}

static void on_accept(void *owner, struct link *link, const struct addr *peer)
{
    struct control *c = owner;
    struct caller *k = calloc(1, sizeof *k);
    if (!k) {
        link_close(link);
        return;
    }
    k->c = c;
    k->link = link;
    wake_init(&k->wake, on_wake);
    timer_init(&k->deadline, on_deadline);
    link_own(link, &k->wake);
    list_push(&c->callers, &k->node);
    if (++c->caller_count == CONTROL_CALLERS)
        listener_pause(c->listener, true);
    timer_set(c->w, &k->deadline, CONTROL_MS);
    wake_post(c->w, &k->wake);
}

struct control *control_start(struct worker *w, const char *state, const char *role, const struct control_ops *ops,
                              void *owner, struct err *e)
{
    struct control *c = calloc(1, sizeof *c);
    char path[96];
    if (!c) {
        err_set(e, ERR_FAILED, WHY_NONE, "control socket: out of memory");
        return NULL;
    }
    *c = (struct control){.w = w, .ops = ops, .owner = owner, .role = role};
    list_init(&c->callers);
    c->dir = open(state, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->dir < 0) {
        err_errno(e, errno, "control socket in %s", state);
        free(c);
        return NULL;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d/control-%s-%d.sock", c->dir, role, (int)getpid());
    struct addr at;
    addr_unix(&at, path);
    struct listen_options o = {.at = &at, .count = 1, .on_accept = on_accept, .owner = c};
    c->listener = listener_open(w, &o, e);
    if (!c->listener) {
        err_prefix(e, "control socket in %s", state);
        close(c->dir);
        free(c);
        return NULL;
    }
    return c;
}

void control_stop(struct control *c)
{
    if (!c)
        return;
    list_each(&c->callers, it) caller_end(list_entry(it, struct caller, node));
    listener_close(c->listener);
    close(c->dir);
    free(c);
}
