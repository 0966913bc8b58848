// SPDX-License-Identifier: Apache-2.0
// What listens at the agent: -L, -D and --http, and -W, which is a caller that is there from the start.
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "agent/inside.h"
#include "core/log.h"
#include "forward/conduit.h"
#include "forward/stdio.h"
#include "link/tcp.h"
#include "trust/file.h"

// --- where things come out

static void fill_open(struct frame_open *open, const struct spec_dest *d, bool udp)
{
    open->kind = udp ? OPEN_UDP : OPEN_TCP;
    open->datagram = udp && d->kind == SPEC_SERVICE;
    if (d->kind == SPEC_SERVICE) {
        open->kind = OPEN_SERVICE;
        snprintf(open->host, sizeof(open->host), "%s@%s", d->service, d->agent);
    } else if (d->kind == SPEC_UNIX) {
        snprintf(open->host, sizeof(open->host), "unix:%s", d->path);
    } else {
        snprintf(open->host, sizeof(open->host), "%s", d->host);
        open->port = d->port;
    }
}

static struct session *on_caller(void *owner, struct frame_open *open)
{
    struct local *l = owner;
    struct agent *a = l->a;
    if (a->life != AGENT_RUNNING)
        return NULL;
    fill_open(open, &l->spec->dest, l->spec->udp);
    return agent_session(a);
}

// --- SOCKS

static void socks_connect(void *owner, const struct conduit_ask *ask, const struct socks_dest *dest)
{
    struct agent *a = owner;
    struct frame_open open = {.kind = OPEN_TCP, .port = dest->port, .origin = ask->origin};
    snprintf(open.host, sizeof(open.host), "%s", dest->host);
    conduit_to_stream(&a->fw, ask, agent_session(a), &open);
}

static struct stream *socks_flow(void *owner, const struct socks_dest *dest, const struct addr *origin)
{
    struct agent *a = owner;
    struct frame_open open = {.kind = OPEN_UDP, .port = dest->port, .origin = *origin};
    snprintf(open.host, sizeof(open.host), "%s", dest->host);
    return session_open(agent_session(a), &open);
}

static void on_socks_caller(void *owner, struct link *link, const struct addr *peer)
{
    struct local *l = owner;
    struct addr local = {0};
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(tcp_fd(link), (struct sockaddr *)&ss, &len) == 0 && addr_from(&local, (struct sockaddr *)&ss, len))
        addr_unmap(&local);
    if (l->a->life == AGENT_RUNNING && l->http)
        http_proxy_accept(l->a->http, link, peer);
    else if (l->a->life == AGENT_RUNNING)
        socks_server_accept(l->a->socks, link, peer, &local);
    else
        link_close(link);
}

static int start_socks(struct agent *a, struct err *e)
{
    char *login = NULL;
    size_t len;
    if (a->o->socks_count == 0 && a->o->reverse_count == 0 && a->o->http_count == 0)
        return 0;
    if (a->o->socks_login) {
        if (file_read(a->o->socks_login, true, &login, &len, e) < 0)
            return -1;
        login[strcspn(login, "\r\n")] = 0;
        if (!strchr(login, ':') || login[0] == ':') {
            file_wipe(login, len);
            return err_set(e, ERR_USAGE, WHY_NONE, "%s: write one line, user:password", a->o->socks_login);
        }
    }
    a->socks = socks_server_new(&a->fw, &(struct socks_way){.connect = socks_connect, .flow = socks_flow, .owner = a},
                                login);
    a->reverse_socks = socks_server_new(&a->fw, &(struct socks_way){.connect = reverse_connect, .listen = reverse_listen,
                                                                    .allows = reverse_allows, .owner = a}, login);
    a->http = http_proxy_new(&a->fw, &(struct socks_way){.connect = socks_connect, .owner = a}, login);
    if (login)
        file_wipe(login, len);
    return 0;
}

// --- opening

// At start, before the loop runs: blocking is no harm.
static int bind_addrs(const struct spec_addr *spec, struct addr at[LISTEN_ADDRS], size_t *count, bool *dual,
                      struct err *e)
{
    if (listen_addrs(spec, at, count, dual))
        return 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int rc = getaddrinfo(spec->host, NULL, &hints, &list);
    *count = 0;
    for (struct addrinfo *it = list; rc == 0 && it && *count < LISTEN_ADDRS; it = it->ai_next) {
        if (addr_from(&at[*count], it->ai_addr, it->ai_addrlen))
            addr_set_port(&at[(*count)++], spec->port);
    }
    if (list)
        freeaddrinfo(list);
    return *count > 0 ? 0 : err_set(e, ERR_USAGE, WHY_DNS, "listen %s: %s", spec->host, gai_strerror(rc));
}

static int open_one(struct local *l, struct err *e)
{
    struct addr at[LISTEN_ADDRS];
    size_t count;
    bool dual;
    if (bind_addrs(&l->spec->listen, at, &count, &dual, e) < 0)
        return -1;
    if (l->spec->socks) {
        l->listener = listener_open(&l->a->w, &(struct listen_options){.at = at, .count = count, .dual = dual,
                                                                       .on_accept = on_socks_caller, .owner = l}, e);
        return l->listener ? 0 : -1;
    }
    l->entry = entry_open(&l->a->fw, &(struct entry_options){.at = at, .count = count, .dual = dual,
                                                             .udp = l->spec->udp, .kind = "local", .dest = l->dest,
                                                             .on_caller = on_caller, .owner = l}, e);
    return l->entry ? 0 : -1;
}

int locals_open(struct agent *a, struct err *e)
{
    const struct agent_options *o = a->o;
    if (start_socks(a, e) < 0)
        return -1;
    a->locals = calloc(o->local_count + o->socks_count + o->http_count + 1, sizeof(*a->locals));
    if (!a->locals)
        abort();
    size_t socks_end = o->local_count + o->socks_count;
    for (size_t i = 0; i < socks_end + o->http_count; i++) {
        struct local *l = &a->locals[a->local_count];
        l->a = a;
        l->http = i >= socks_end;
        l->spec = i < o->local_count ? &o->locals[i] : l->http ? &o->https[i - socks_end] : &o->socks[i - o->local_count];
        if (!l->spec->socks)
            spec_dest_text(&l->spec->dest, l->dest);
        if (open_one(l, e) < 0)
            return -1;
        a->local_count++;
    }
    return 0;
}

void locals_close(struct agent *a)
{
    for (size_t i = 0; i < a->local_count; i++) {
        entry_close(a->locals[i].entry);
        listener_close(a->locals[i].listener);
        a->locals[i].entry = NULL;
        a->locals[i].listener = NULL;
    }
}

// --- -W

// What a failed stream means for the exit status: policy is 5, a target that cannot be reached 3.
static int status_of(const struct err *err)
{
    if (!err)
        return 0;
    if (err->kind == ERR_UNTRUSTED)
        return ERR_UNTRUSTED;
    switch (err->why) {
    case WHY_POLICY:
        return ERR_POLICY;
    case WHY_REFUSED:
    case WHY_UNREACHABLE:
    case WHY_TIMEOUT:
    case WHY_DNS:
    case WHY_ABSENT:
        return ERR_UNREACHED;
    default:
        return ERR_FAILED;
    }
}

static void on_stdio_end(struct conduit *c, const struct err *err)
{
    struct agent *a = c->ask.owner;
    a->stdio_over = true;
    if (a->status == 0)
        a->status = status_of(err);
    if (err && !err_is(&a->err)) {
        err_copy(&a->err, err);
        err_prefix(&a->err, "%s", c->ask.dest);
    }
    agent_check(a);
}

void stdio_start(struct agent *a)
{
    static const struct conduit_ops ops = {.on_end = on_stdio_end};
    char dest[SPEC_TEXT_MAX];
    struct frame_open open = {0};
    if (!a->o->stdio || a->stdio_started)
        return;
    a->stdio_started = true;
    fill_open(&open, a->o->stdio, false);
    conduit_to_stream(&a->fw, &(struct conduit_ask){.kind = "stdio", .caller = stdio_link(&a->w, STDIN_FILENO, STDOUT_FILENO),
                                                    .dest = spec_dest_text(a->o->stdio, dest), .ops = &ops, .owner = a, .quiet = true},
                      agent_session(a), &open);
}
