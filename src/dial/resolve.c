// SPDX-License-Identifier: Apache-2.0
#include "dial/resolve.h"
#include <ares.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/time.h>

// c-ares doubles the wait each time it has gone round its servers: a dead one costs a question 0.5 s, three dead
// ones stay under RESOLVE_MS, and no question waits for another.
#define TRY_MS 500
#define TRIES 4
#define FAMILY_MAX (RESOLVE_MAX / 2)
#define RESOLV_CONF "/etc/resolv.conf"

// One c-ares channel. It reads resolv.conf when it is made and never again, so a changed file means a new channel; the
// old one answers what it was asked and goes.
struct channel {
    struct list node;
    struct resolver *r;
    ares_channel ares;
    unsigned pending;
    struct timer timer;
    struct wake wake; // frees a retired channel outside of c-ares
    struct list socks;
};

struct sock {
    struct list node;
    struct channel *ch;
    struct watch *watch;
    ares_socket_t fd;
};

struct resolver {
    struct worker *w;
    struct channel *now;
    struct list retired;
    struct stat conf;
    char *servers; // told ones instead of resolv.conf's
};

// One family of one question. c-ares cannot forget a single question, so a cancelled one has q NULL.
struct lookup {
    struct resolve *q;
    struct channel *ch;
    int which;
};

// --- sockets and time for c-ares

static void set_timer(struct channel *ch)
{
    struct timeval tv, *t = ares_timeout(ch->ares, NULL, &tv);
    if (t)
        timer_set(ch->r->w, &ch->timer, (uint64_t)t->tv_sec * 1000 + (uint64_t)t->tv_usec / 1000 + 1);
    else
        timer_stop(ch->r->w, &ch->timer);
}

static void on_socket(void *ctx, int events)
{
    struct sock *s = ctx;
    struct channel *ch = s->ch;
    ares_socket_t fd = s->fd; // s may go in here
    ares_process_fd(ch->ares, events & UV_READABLE ? fd : ARES_SOCKET_BAD, events & UV_WRITABLE ? fd : ARES_SOCKET_BAD);
    set_timer(ch);
}

static void on_timer(struct timer *timer)
{
    struct channel *ch = container_of(timer, struct channel, timer);
    ares_process_fd(ch->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(ch);
}

static struct sock *find_sock(struct channel *ch, ares_socket_t fd)
{
    list_each(&ch->socks, it) {
        struct sock *s = list_entry(it, struct sock, node);
        if (s->fd == fd)
            return s;
    }
    return NULL;
}

static void drop_sock(struct sock *s)
{
    watch_free(s->watch);
    list_del(&s->node);
    free(s);
}

static void on_sock_state(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct channel *ch = ctx;
    struct sock *s = find_sock(ch, fd);
    if (!readable && !writable) {
        if (s)
            drop_sock(s);
        return;
    }
    if (!s) {
        s = calloc(1, sizeof(*s));
        if (!s || !(s->watch = watch_new(ch->r->w, fd, on_socket, s))) {
            free(s); // this try times out, and the next one has another socket
            return;
        }
        s->ch = ch;
        s->fd = fd;
        list_push(&ch->socks, &s->node);
    }
    watch_want(s->watch, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0));
}

// --- channels

static void channel_free(struct channel *ch)
{
    ares_destroy(ch->ares); // answers what is pending, closes the sockets
    list_each(&ch->socks, it) drop_sock(list_entry(it, struct sock, node));
    timer_stop(ch->r->w, &ch->timer);
    wake_cancel(&ch->wake);
    list_del(&ch->node);
    free(ch);
}

static void on_retired(struct wake *wake)
{
    struct channel *ch = container_of(wake, struct channel, wake);
    if (ch != ch->r->now && ch->pending == 0)
        channel_free(ch);
}

static struct channel *channel_new(struct resolver *r, struct err *e)
{
    struct channel *ch = calloc(1, sizeof(*ch));
    struct ares_options o = {.timeout = TRY_MS, .tries = TRIES, .lookups = (char *)"b",
                             .sock_state_cb = on_sock_state, .sock_state_cb_data = ch};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
    int rc = ch ? ares_init_options(&ch->ares, &o, mask) : ARES_ENOMEM;
    if (rc == ARES_SUCCESS && r->servers && (rc = ares_set_servers_ports_csv(ch->ares, r->servers)) != ARES_SUCCESS)
        ares_destroy(ch->ares);
    if (rc != ARES_SUCCESS) {
        free(ch);
        err_set(e, ERR_FAILED, WHY_DNS, "cannot set up the resolver: %s", ares_strerror(rc));
        return NULL;
    }
    ch->r = r;
    list_init(&ch->node);
    list_init(&ch->socks);
    timer_init(&ch->timer, on_timer);
    wake_init(&ch->wake, on_retired);
    return ch;
}

static void renew(struct resolver *r)
{
    struct err e = ERR_INIT;
    struct channel *ch = channel_new(r, &e);
    err_fini(&e);
    if (!ch)
        return; // the old one goes on
    list_push(&r->retired, &r->now->node);
    wake_post(r->w, &r->now->wake);
    r->now = ch;
}

static void look_at_conf(struct resolver *r)
{
    struct stat st = {0};
    if (r->servers || stat(RESOLV_CONF, &st) < 0)
        return;
    if (st.st_ino == r->conf.st_ino && st.st_size == r->conf.st_size && st.st_mtim.tv_sec == r->conf.st_mtim.tv_sec &&
        st.st_mtim.tv_nsec == r->conf.st_mtim.tv_nsec)
        return;
    r->conf = st;
    renew(r);
}

struct resolver *resolver_new(struct worker *w, struct err *e)
{
    struct resolver *r = calloc(1, sizeof(*r));
    int rc = ares_library_init(ARES_LIB_INIT_ALL); // counted; nothing but a counter on this system
    if (!r || rc != ARES_SUCCESS) {
        free(r);
        err_set(e, ERR_FAILED, WHY_DNS, "cannot set up the resolver: out of memory");
        return NULL;
    }
    r->w = w;
    list_init(&r->retired);
    if (stat(RESOLV_CONF, &r->conf) < 0)
        memset(&r->conf, 0, sizeof(r->conf));
    r->now = channel_new(r, e);
    if (!r->now) {
        ares_library_cleanup();
        free(r);
        return NULL;
    }
    return r;
}

bool resolver_servers(struct resolver *r, const char *csv)
{
    char *copy = strdup(csv);
    if (!copy || ares_set_servers_ports_csv(r->now->ares, copy) != ARES_SUCCESS) {
        free(copy);
        return false;
    }
    free(r->servers);
    r->servers = copy;
    return true;
}

size_t resolver_list(const struct resolver *r, char (*out)[RESOLVER_TEXT_MAX], size_t max)
{
    struct ares_addr_port_node *all = NULL;
    size_t n = 0;
    if (ares_get_servers_ports(r->now->ares, &all) != ARES_SUCCESS)
        return 0;
    for (struct ares_addr_port_node *it = all; it && n < max; it = it->next, n++) {
        struct addr a = {0};
        a.sa.sa_family = (sa_family_t)it->family;
        a.len = it->family == AF_INET ? sizeof(a.in) : sizeof(a.in6);
        if (it->family == AF_INET)
            a.in.sin_addr = it->addr.addr4;
        else
            memcpy(&a.in6.sin6_addr, &it->addr.addr6, sizeof(a.in6.sin6_addr));
        char text[ADDR_TEXT_MAX];
        addr_set_port(&a, (uint16_t)(it->udp_port ? it->udp_port : 53));
        snprintf(out[n], RESOLVER_TEXT_MAX, "%.79s", addr_text(&a, text));
    }
    ares_free_data(all);
    return n;
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    list_each(&r->retired, it) channel_free(list_entry(it, struct channel, node));
    channel_free(r->now);
    ares_library_cleanup();
    free(r->servers);
    free(r);
}

// --- questions

static void add(struct resolve *q, const struct sockaddr *sa, socklen_t len)
{
    struct addr a;
    if (q->count == RESOLVE_MAX || !addr_from(&a, sa, len))
        return;
    addr_set_port(&a, q->port);
    for (size_t i = 0; i < q->count; i++) {
        if (addr_equal(&q->addrs[i], &a))
            return;
    }
    q->addrs[q->count++] = a;
}

// IPv6 first, then the families in turn (RFC 8305 section 4).
static void interleave(struct resolve *q)
{
    struct addr out[RESOLVE_MAX];
    size_t at[2] = {0, 0}, n = 0;
    while (n < q->count) {
        for (int f = 0; f < 2; f++) {
            int family = f == 0 ? AF_INET6 : AF_INET;
            while (at[f] < q->count && q->addrs[at[f]].sa.sa_family != family)
                at[f]++;
            if (at[f] < q->count)
                out[n++] = q->addrs[at[f]++];
        }
    }
    memcpy(q->addrs, out, n * sizeof(out[0]));
}

static void forget(struct resolve *q)
{
    for (int i = 0; i < 2; i++) {
        if (q->lookups[i])
            q->lookups[i]->q = NULL;
        q->lookups[i] = NULL;
    }
    timer_stop(q->w, &q->timer);
    wake_cancel(&q->wake);
    q->busy = false;
}

static void on_over(struct wake *wake)
{
    struct resolve *q = container_of(wake, struct resolve, wake);
    forget(q);
    if (q->count == 0 && !err_is(&q->err))
        err_set(&q->err, ERR_UNREACHED, WHY_DNS, "resolve %s: no address", q->host);
    if (q->count > 0)
        err_fini(&q->err);
    interleave(q);
    struct addr addrs[RESOLVE_MAX]; // q may be asked again, or gone, in on_done
    struct err err = ERR_INIT;
    size_t count = q->count;
    memcpy(addrs, q->addrs, count * sizeof(addrs[0]));
    err_move(&err, &q->err);
    q->on_done(q, addrs, count, count > 0 ? NULL : &err);
    err_fini(&err);
}

static void on_late(struct timer *timer)
{
    struct resolve *q = container_of(timer, struct resolve, timer);
    if (q->count == 0) {
        err_set(&q->err, ERR_UNREACHED, WHY_DNS, "resolve %s: no answer from DNS in %d s", q->host, RESOLVE_MS / 1000);
        err_advise(&q->err, ADVICE_NAME_SILENT);
    }
    on_over(&q->wake);
}

static const char *status_text(int status)
{
    switch (status) {
    case ARES_ENOTFOUND:
        return "no such name";
    case ARES_ENODATA:
        return "the name has no address";
    case ARES_EBADNAME:
        return "not a name";
    case ARES_ETIMEOUT:
        return "no answer from DNS";
    case ARES_ECONNREFUSED:
        return "no DNS server answers";
    default:
        return ares_strerror(status);
    }
}

static enum advice status_advice(int status)
{
    return status == ARES_ETIMEOUT || status == ARES_ECONNREFUSED ? ADVICE_NAME_SILENT : ADVICE_NAME_UNKNOWN;
}

static void on_answer(void *ctx, int status, int timeouts, struct ares_addrinfo *ai)
{
    struct lookup *l = ctx;
    struct resolve *q = l->q;
    (void)timeouts;
    if (--l->ch->pending == 0)
        wake_post(l->ch->r->w, &l->ch->wake);
    if (q) {
        q->lookups[l->which] = NULL;
        size_t n = 0;
        for (struct ares_addrinfo_node *it = ai ? ai->nodes : NULL; it && n < FAMILY_MAX; it = it->ai_next, n++)
            add(q, it->ai_addr, it->ai_addrlen);
        if (status != ARES_SUCCESS && !err_is(&q->err)) {
            err_set(&q->err, ERR_UNREACHED, WHY_DNS, "resolve %s: %s", q->host, status_text(status));
            err_advise(&q->err, status_advice(status));
        }
        if (!q->lookups[0] && !q->lookups[1])
            wake_post(q->w, &q->wake);
        else if (q->count > 0)
            timer_set(q->w, &q->timer, RESOLVE_PATIENCE_MS);
    }
    free(l);
    ares_freeaddrinfo(ai);
}

// Whether the names of a line of the hosts file, behind its address, have this one.
static bool has_name(char **rest, const char *host)
{
    char *word;
    while ((word = strsep(rest, " \t\r\n")) && *word != '#') {
        if (strcasecmp(word, host) == 0)
            return true;
    }
    return false;
}

// All lines count, as in the C library; c-ares would stop at the first one with the name.
static void add_hosts_file(struct resolve *q)
{
    struct addr found[2][FAMILY_MAX]; // IPv6, IPv4
    size_t count[2] = {0}, size = 0;
    char *line = NULL;
    FILE *file = fopen("/etc/hosts", "re");
    while (file && getline(&line, &size, file) > 0) {
        char *rest = line + strspn(line, " \t"), *address = strsep(&rest, " \t\r\n");
        struct addr a;
        if (!rest || !addr_parse_ip(&a, address, 0) || !has_name(&rest, q->host))
            continue;
        int family = a.sa.sa_family == AF_INET;
        if (count[family] < FAMILY_MAX)
            found[family][count[family]++] = a;
    }
    for (int family = 0; family < 2; family++) {
        for (size_t i = 0; i < count[family]; i++)
            add(q, &found[family][i].sa, found[family][i].len);
    }
    free(line);
    if (file)
        fclose(file);
}

static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t len = strlen(host), n = sizeof(name) - 1;
    if (len > 0 && host[len - 1] == '.')
        len--;
    return len >= n && strncasecmp(host + len - n, name, n) == 0 && (len == n || host[len - n - 1] == '.');
}

static bool is_literal(struct resolve *q)
{
    struct addr a;
    if (!addr_parse_ip(&a, q->host, q->port))
        return false;
    add(q, &a.sa, a.len);
    return true;
}

// What needs no DNS: /etc/hosts, localhost (RFC 6761 section 6.3).
static bool answer_here(struct resolve *q)
{
    struct addr a;
    add_hosts_file(q);
    if (q->count == 0 && is_localhost(q->host)) {
        addr_parse_ip(&a, "127.0.0.1", 0);
        add(q, &a.sa, a.len);
        addr_parse_ip(&a, "::1", 0);
        add(q, &a.sa, a.len);
    }
    return q->count > 0;
}

static void ask(struct resolver *r, struct resolve *q)
{
    static const int family[2] = {AF_INET6, AF_INET};
    for (int i = 0; i < 2; i++) {
        q->lookups[i] = malloc(sizeof(struct lookup));
        if (q->lookups[i])
            *q->lookups[i] = (struct lookup){q, r->now, i};
    }
    for (int i = 0; i < 2; i++) { // c-ares may answer at once
        struct ares_addrinfo_hints hints = {
            .ai_flags = ARES_AI_NOSORT | ARES_AI_NUMERICSERV, .ai_family = family[i], .ai_socktype = SOCK_STREAM};
        if (!q->lookups[i])
            continue;
        r->now->pending++;
        ares_getaddrinfo(r->now->ares, q->host, NULL, &hints, on_answer, q->lookups[i]);
    }
    set_timer(r->now);
    if (!q->lookups[0] && !q->lookups[1])
        wake_post(q->w, &q->wake);
}

void resolve_start(struct resolver *r, struct resolve *q, const char *host, uint16_t port,
                   void (*on_done)(struct resolve *q, const struct addr *addrs, size_t count, const struct err *err))
{
    memset(q, 0, sizeof(*q));
    q->w = r->w;
    q->port = port;
    q->on_done = on_done;
    q->busy = true;
    wake_init(&q->wake, on_over);
    timer_init(&q->timer, on_late);
    size_t len = strlen(host);
    if (len == 0 || len >= sizeof(q->host)) {
        err_set(&q->err, ERR_UNREACHED, WHY_DNS, "resolve: a name of %zu characters is none", len);
        wake_post(q->w, &q->wake);
        return;
    }
    memcpy(q->host, host, len + 1);
    q->here = is_literal(q) || answer_here(q);
    if (q->here) {
        wake_post(q->w, &q->wake);
        return;
    }
    look_at_conf(r);
    timer_set(q->w, &q->timer, RESOLVE_MS);
    ask(r, q);
}

void resolve_cancel(struct resolve *q)
{
    if (!q->busy)
        return;
    forget(q);
    err_fini(&q->err);
}
