// SPDX-License-Identifier: Apache-2.0
// The relay's life: files and keys, listeners, signals, reload, drain, end.
#include "relay/relay.h"
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/footprint.h"
#include "core/log.h"
#include "core/machine.h"
#include "link/tcp.h"
#include "link/tls.h"
#include "relay/inside.h"
#include "relay/state.h"
#include "trust/cert.h"
#include "trust/file.h"

// Keys and certificates ---------------------------------------------------------------------------------------

static SSL_CTX *load_web(const struct relay *r, struct err *e)
{
    if (r->o->cert)
        return tls_server_ctx(r->o->cert, r->o->key, e);
    char *cert = file_path(r->o->state, CERT_FILE), *key = file_path(r->o->state, KEY_FILE);
    SSL_CTX *ctx = NULL;
    if (cert && key && !file_exists(cert))
        err_set(e, ERR_USAGE, WHY_NONE,
                "no web certificate in %s: make one with `culvert cert selfsigned --host NAME`, "
                "install one with `culvert cert install FILE`, or give --cert and --key",
                r->o->state);
    else if (cert && key)
        ctx = tls_server_ctx(cert, key, e);
    free(cert);
    free(key);
    return ctx;
}

static bool has_tls(const struct relay *r)
{
    return r->o->listen_count > 0;
}

static int load_keys(struct relay *r, struct err *e)
{
    if (relay_state_identity(r->o->state, &r->id, e) < 0)
        return -1;
    r->front.inner = tls_inner_ctx(true, r->id.cert, r->id.key, e);
    if (!r->front.inner)
        return -1;
    if (!has_tls(r))
        return 0;
    r->front.web = load_web(r, e);
    return r->front.web ? 0 : -1;
}

// Listeners -----------------------------------------------------------------------------------------------------

static void on_accept(void *owner, struct link *link, const struct addr *peer)
{
    struct port *p = owner;
    front_accept(&p->r->front, link, peer, p->kind);
}

static void on_full(struct front *f, bool full)
{
    struct relay *r = f->owner;
    if (full)
        log_event(LOG_WARN, "too many unknown callers, waiting", LN("callers", f->count));
    for (size_t i = 0; i < r->port_count; i++)
        listener_pause(r->ports[i].listener, full);
}

// Names are looked up at start, blocking.
static size_t resolve(const struct spec_addr *spec, struct addr *out, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int rc = getaddrinfo(spec->host, NULL, &hints, &list);
    size_t n = 0;
    if (rc)
        err_set(e, ERR_USAGE, WHY_DNS, "listen %s: %s", spec->host, gai_strerror(rc));
    for (struct addrinfo *at = list; at && n < LISTEN_ADDRS; at = at->ai_next)
        if (addr_from(&out[n], at->ai_addr, at->ai_addrlen))
            addr_set_port(&out[n++], spec->port);
    if (list)
        freeaddrinfo(list);
    return n;
}

static int open_port(struct relay *r, const struct spec_addr *spec, enum front_kind kind, struct err *e)
{
    static const char *const protocols[] = {"wss", "ws", "http"};
    struct addr at[LISTEN_ADDRS];
    struct listen_options o = {.at = at, .flags = TCP_CARRIER | TCP_SEGMENT(r->o->mss), .on_accept = on_accept};
    struct port *p = &r->ports[r->port_count];
    if (r->port_count == RELAY_PORTS_MAX)
        return err_set(e, ERR_USAGE, WHY_NONE, "at most %d --listen, --listen-plain and --redirect", RELAY_PORTS_MAX);
    if (!listen_addrs(spec, at, &o.count, &o.dual) && !(o.count = resolve(spec, at, e)))
        return -1;
    *p = (struct port){.r = r, .kind = kind};
    o.owner = p;
    p->listener = listener_open(r->w, &o, e);
    if (!p->listener)
        return -1;
    r->port_count++;
    char text[ADDR_TEXT_MAX];
    for (size_t i = 0; listener_addr(p->listener, i); i++)
        log_event(LOG_INFO, "listening", LS("address", addr_text(listener_addr(p->listener, i), text)),
                  LS("protocol", protocols[kind]));
    return 0;
}

static int open_ports(struct relay *r, struct err *e)
{
    for (size_t i = 0; i < r->o->listen_count; i++)
        if (open_port(r, &r->o->listen[i], FRONT_WEB, e) < 0)
            return -1;
    for (size_t i = 0; i < r->o->plain_count; i++)
        if (open_port(r, &r->o->plain[i], FRONT_PLAIN, e) < 0)
            return -1;
    for (size_t i = 0; i < r->o->redirect_count; i++)
        if (open_port(r, &r->o->redirect[i], FRONT_REDIRECT, e) < 0)
            return -1;
    return 0;
}

static void close_ports(struct relay *r)
{
    for (size_t i = 0; i < r->port_count; i++)
        listener_close(r->ports[i].listener);
    r->port_count = 0;
}

static void tell_own(struct relay *r)
{
    struct addr own[RELAY_PORTS_MAX * 2];
    size_t n = 0;
    for (size_t p = 0; p < r->port_count; p++)
        for (size_t i = 0; n < RELAY_PORTS_MAX * 2 && listener_addr(r->ports[p].listener, i); i++)
            own[n++] = *listener_addr(r->ports[p].listener, i);
    keeper_set_own(r->keeper, own, n);
}

// Where agents find us, for invitations: told, or made of the certificate's first name, the first port and path.
static int write_place(struct relay *r, struct err *e)
{
    struct relay_url url = {.tls = true};
    struct relay_place place = {0};
    char name[256], *cert = r->o->cert ? strdup(r->o->cert) : file_path(r->o->state, CERT_FILE);
    place.self_signed = has_tls(r) && cert && relay_state_self_signed(cert);
    if (r->o->url) {
        snprintf(place.url, sizeof place.url, "%s", r->o->url);
    } else if (has_tls(r) && cert && cert_first_name(cert, name)) {
        url.port = addr_port(listener_addr(r->ports[0].listener, 0));
        snprintf(url.host, sizeof url.host, "%s", strncmp(name, "*.", 2) ? name : name + 2);
        snprintf(url.path, sizeof url.path, "%s", r->o->paths[0]);
        relay_url_text(&url, place.url);
    }
    free(cert);
    return *place.url ? relay_state_set_place(r->o->state, &place, e) : 0;
}

static void tell_ready(const struct relay *r)
{
    if (r->o->ready_fd < 0)
        return;
    json_t *o = json_pack("{s:o,s:o,s:o}", "listen", tables_addresses(r, FRONT_WEB), "listen_plain", tables_addresses(r, FRONT_PLAIN),
                          "redirect", tables_addresses(r, FRONT_REDIRECT));
    char *text = json_dumps(o, JSON_COMPACT), *line = NULL;
    int len = text ? asprintf(&line, "%s\n", text) : -1;
    if (len < 0 || write(r->o->ready_fd, line, (size_t)len) != len) // one write: whoever reads a bit, reads it all
        log_event(LOG_WARN, "nobody reads the ready descriptor", LN("fd", r->o->ready_fd));
    if (len >= 0)
        free(line);
    free(text);
    if (r->o->ready_fd > STDERR_FILENO)
        close(r->o->ready_fd);
    json_decref(o);
}

// Policy --------------------------------------------------------------------------------------------------------

static void on_policy(void *owner)
{
    struct relay *r = owner;
    struct policy *p = keeper_policy(r->keeper);
    list_each(&r->members, mi)
    {
        struct member *m = list_entry(mi, struct member, node);
        const char *name = policy_name(p, m->pin);
        if (!name) {
            r->stats.revoked++;
            log_event(LOG_INFO, "agent revoked", LS("agent", m->name));
            member_end(m, "revoked");
            continue;
        }
        snprintf(m->name, sizeof m->name, "%s", name);
        list_each(&m->visits, vi) listeners_recheck(list_entry(vi, struct visit, node));
    }
}

static const struct keeper_ops keeper_ops = {.on_policy = on_policy, .on_enroll = hello_on_enroll,
                                              .on_reload = tables_on_reload};

// Signals -------------------------------------------------------------------------------------------------------

static void reload(struct relay *r)
{
    struct err e = ERR_INIT;
    SSL_CTX *web = has_tls(r) ? load_web(r, &e) : NULL;
    if (web)
        front_set_web(&r->front, web);
    if (err_is(&e))
        log_event(LOG_ERROR, "reload: the old certificate stays", LS("reason", err_text(&e)));
    else if (write_place(r, &e) < 0)
        log_event(LOG_WARN, "reload", LS("reason", err_text(&e)));
    keeper_reload(r->keeper, 0);
    log_event(LOG_INFO, "reloaded");
    err_fini(&e);
}

// What must end before a draining relay may go. A stream that listens is no work in hand.
static size_t work_left(const struct relay *r)
{
    size_t n = r->fw.conduit_count + r->fw.flow_count;
    list_each((struct list *)&r->members, mi)
    {
        const struct member *m = list_entry(mi, struct member, node);
        list_each((struct list *)&m->visits, vi)
        {
            const struct visit *v = list_entry(vi, struct visit, node);
            if (v->s.stream_count > v->listener_count)
                n += v->s.stream_count - v->listener_count;
        }
    }
    return n;
}

static void on_drain(struct timer *t)
{
    struct relay *r = container_of(t, struct relay, drain);
    size_t left = work_left(r);
    if (left && r->w->now_ms < r->drain_until_ms) {
        timer_set(r->w, t, DRAIN_TICK_MS);
        return;
    }
    log_event(LOG_INFO, "drained", LN("streams_left", left));
    worker_stop(r->w);
}

static void drain(struct relay *r)
{
    r->draining = true;
    r->drain_until_ms = r->w->now_ms + r->o->drain_ms;
    log_event(LOG_INFO, "draining", LN("streams", work_left(r)), LN("seconds", r->o->drain_ms / 1000));
    close_ports(r);
    front_drain(&r->front);
    list_each(&r->members, mi)
    {
        struct member *m = list_entry(mi, struct member, node);
        list_each(&m->visits, vi)
        {
            struct visit *v = list_entry(vi, struct visit, node);
            if (visit_is_up(v))
                session_goaway(&v->s, 0, RELAY_RETRY_MS, "the relay is going down");
            else
                visit_end(v, "nobody can come back to a relay that is going down");
        }
    }
    timer_set(r->w, &r->drain, DRAIN_TICK_MS);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct relay *r = h->data;
    worker_clock(r->w);
    if (signum == SIGHUP)
        reload(r);
    else if (r->draining)
        worker_stop(r->w);
    else
        drain(r);
}

static void watch_signals(struct relay *r)
{
    static const int signums[] = {SIGHUP, SIGTERM, SIGINT};
    for (size_t i = 0; i < 3; i++) {
        uv_signal_init(&r->w->loop, &r->signals[i]);
        r->signals[i].data = r;
        uv_signal_start(&r->signals[i], on_signal, signums[i]);
    }
}

// Start and end -------------------------------------------------------------------------------------------------

static void start_control(struct relay *r)
{
    struct err e = ERR_INIT;
    r->control = control_start(r->w, r->o->state, "relay", &relay_control_ops, r, &e);
    if (!r->control)
        log_event(LOG_WARN, "no control socket: status and table will not work", LS("reason", err_text(&e)));
    err_fini(&e);
}

// Where the redirect leads: the URL that agents use, as far as it is known.
static void set_redirect(struct relay *r)
{
    struct err e = ERR_INIT;
    r->front.redirect_port = has_tls(r) ? addr_port(listener_addr(r->ports[0].listener, 0)) : 443;
    if (r->o->url && relay_url_parse(&r->url, r->o->url, &e) == 0) {
        r->front.redirect_host = r->url.host;
        r->front.redirect_port = r->url.port;
    }
    err_fini(&e);
}

// A decoy that is this relay itself would be asked by itself, again and again.
static int check_decoy(const struct relay *r, struct err *e)
{
    const struct proxy_url *decoy = r->o->decoy;
    struct addr at = {0};
    bool is_local = decoy && (!strcmp(decoy->host, "localhost") || (addr_parse_ip(&at, decoy->host, 0) && addr_is_loopback(&at)));
    for (size_t p = 0; is_local && p < r->port_count; p++)
        for (size_t i = 0; listener_addr(r->ports[p].listener, i); i++)
            if (addr_port(listener_addr(r->ports[p].listener, i)) == decoy->port)
                return err_set(e, ERR_USAGE, WHY_NONE, "--decoy: port %u is this relay's own; name another web server", decoy->port);
    return 0;
}

static int start_front(struct relay *r, struct err *e)
{
    struct front *f = &r->front;
    f->paths = r->o->paths;
    f->path_count = r->o->path_count;
    f->trusted = r->o->trusted;
    f->trusted_count = r->o->trusted_count;
    f->announced = r->o->proxy_protocol;
    f->peel = !r->o->peel_never;
    f->owner = r;
    f->on_hello = hello_on;
    f->on_full = on_full;
    if (r->o->decoy && !(f->decoy = decoy_new(r->w, r->resolver, r->o->decoy, e)))
        return -1;
    return 0;
}

static void on_tidy(struct timer *t)
{
    struct relay *r = container_of(t, struct relay, tidy);
    r->tidied_ms = r->w->now_ms;
    footprint_shrink();
}

void relay_tidy_soon(struct relay *r)
{
    uint64_t since = r->w->now_ms - r->tidied_ms;
    if (!timer_is_set(&r->tidy))
        timer_set(r->w, &r->tidy, !r->tidied_ms || since >= TIDY_GAP_MS ? TIDY_MS : (uint32_t)(TIDY_GAP_MS - since));
}

static int start(struct relay *r, struct err *e)
{
    char pin[PIN_TEXT_MAX];
    machine_raise_descriptors();
    r->since = (uint64_t)time(NULL);
    list_init(&r->members);
    meet_init(&r->meet, r->w, 0);
    timer_init(&r->drain, on_drain);
    timer_init(&r->tidy, on_tidy);
    budget_init(&r->budget, r->o->memory, NULL);
    pressure_init(r);
    front_init(&r->front, r->w);
    if (load_keys(r, e) < 0 || !(r->resolver = resolver_new(r->w, e)) || start_front(r, e) < 0)
        return -1;
    forward_init(&r->fw, r->w, r->resolver, r->o->udp_idle_ms);
    r->fw_up = true;
    if (!(r->keeper = keeper_start(r->w, r->o->state, &keeper_ops, r, e)) || open_ports(r, e) < 0 ||
        check_decoy(r, e) < 0 || write_place(r, e) < 0)
        return -1;
    set_redirect(r);
    tell_own(r);
    start_control(r);
    watch_signals(r);
    log_event(LOG_INFO, "relay up", LS("version", CULVERT_VERSION), LS("pin", pin_text(r->id.pin, pin)),
              LS("state", r->o->state));
    tell_ready(r);
    return 0;
}

static void stop(struct relay *r)
{
    control_stop(r->control);
    close_ports(r);
    timer_stop(r->w, &r->drain);
    timer_stop(r->w, &r->tidy);
    pressure_fini(r);
    front_fini(&r->front);
    decoy_free(r->front.decoy);
    list_each(&r->members, mi) member_end(list_entry(mi, struct member, node), "the relay ends");
    if (r->fw_up)
        forward_fini(&r->fw);
    meet_fini(&r->meet, NULL);
    keeper_stop(r->keeper);
    worker_turn(r->w); // burials
    worker_turn(r->w);
    resolver_free(r->resolver);
    budget_fini(&r->budget);
    identity_fini(&r->id);
}

int relay_run(const struct relay_options *o, struct err *e)
{
    struct relay *r = calloc(1, sizeof *r);
    struct worker *w = calloc(1, sizeof *w);
    int rc = -1;
    if (!r || !w || worker_init(w, 0, 1) < 0) {
        free(r);
        free(w);
        return err_set(e, ERR_FAILED, WHY_NONE, "the event loop cannot be made");
    }
    r->w = w;
    r->o = o;
    w->role = r;
    if (start(r, e) == 0) {
        footprint_shrink();
        worker_run(w);
        rc = 0;
    }
    stop(r);
    worker_fini(w);
    free(w);
    free(r);
    return rc;
}
