// SPDX-License-Identifier: Apache-2.0
#include "forward/listen.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/log.h"
#include "link/tcp.h"

#define PAUSE_MAX_MS 1000
#define TURN_AWAY_MAX 64 // callers turned away after a pause
#define PORT_TRIES 16

struct place {
    struct listener *l;
    struct addr at;
    struct watch *watch;
    int fd;
    dev_t dev; // of a Unix path
    ino_t ino;
};

struct listener {
    struct worker *w;
    struct place places[LISTEN_ADDRS];
    size_t count;
    int flags, reserve;
    listen_fn *on_accept;
    void *owner;
    struct timer resume;
    uint32_t pause_ms; // 0: descriptors are not short
    bool paused, closed;
    struct listen_stats stats;
    struct grave grave;
};

bool listen_addrs(const struct spec_addr *spec, struct addr out[2], size_t *count, bool *dual)
{
    *count = 1;
    *dual = false;
    if (spec->kind == SPEC_UNIX)
        return addr_unix(&out[0], spec->path);
    if (strcmp(spec->host, "*") == 0) {
        *dual = true;
        return addr_parse_ip(&out[0], "::", spec->port);
    }
    if (strcasecmp(spec->host, "localhost") == 0) {
        *count = 2;
        return addr_parse_ip(&out[0], "127.0.0.1", spec->port) && addr_parse_ip(&out[1], "::1", spec->port);
    }
    return addr_parse_ip(&out[0], spec->host, spec->port);
}

// --- sockets

// A path that nobody listens on is left over from a crash and may go; a live one is somebody's.
static int clear_path(const struct addr *at)
{
    struct stat st;
    const char *path = at->un.sun_path;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -1;
    if (!S_ISSOCK(st.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int rc = connect(fd, &at->sa, at->len);
    bool dead = rc < 0 && errno == ECONNREFUSED;
    close(fd);
    if (!dead) {
        errno = EADDRINUSE;
        return -1;
    }
    return unlink(path) < 0 && errno != ENOENT ? -1 : 0;
}

static int prepare(int fd, const struct addr *at, int type, bool dual)
{
    int one = 1, only6 = !dual;
    if (at->sa.sa_family == AF_UNIX)
        return clear_path(at) < 0 || fchmod(fd, 0600) < 0 ? -1 : 0; // Linux gives the path the socket's mode
    if (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
        return -1;
    if (at->sa.sa_family == AF_INET6)
        return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof(only6));
    return 0;
}

static int bind_one(const struct addr *at, int type, bool dual)
{
    int fd = socket(at->sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (prepare(fd, at, type, dual) < 0 || bind(fd, &at->sa, at->len) < 0) {
        int errnum = errno;
        close(fd);
        errno = errnum;
        return -1;
    }
    return fd;
}

static bool no_ipv6(int errnum) { return errnum == EAFNOSUPPORT || errnum == EADDRNOTAVAIL; }

int listen_socket(const struct addr *at, int type, bool dual, struct err *e)
{
    char text[ADDR_TEXT_MAX];
    int fd = bind_one(at, type, dual);
    if (fd < 0 && dual && no_ipv6(errno)) {
        struct addr any;
        addr_parse_ip(&any, "0.0.0.0", addr_port(at));
        fd = bind_one(&any, type, false);
    }
    if (fd < 0) {
        int errnum = errno;
        err_errno(e, errnum, "listen %s", addr_text(at, text));
        errno = errnum;
    }
    return fd;
}

bool listen_may_skip(const struct addr *at, size_t count, size_t i, int errnum)
{
    if (at[i].sa.sa_family != AF_INET6 || !no_ipv6(errnum))
        return false;
    for (size_t k = 0; k < count; k++)
        if (at[k].sa.sa_family == AF_INET)
            return true;
    return false;
}

static void read_local(int fd, struct addr *out)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
        addr_from(out, (struct sockaddr *)&ss, len);
}

// --- accepting

static bool is_shortage(int errnum)
{
    return errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS || errnum == ENOMEM;
}

static void want(struct listener *l)
{
    bool on = !l->paused && l->pause_ms == 0;
    for (size_t i = 0; i < l->count; i++)
        watch_want(l->places[i].watch, on ? UV_READABLE : 0);
}

static void pause_short(struct listener *l, int errnum)
{
    if (l->pause_ms == 0) {
        l->stats.pauses++;
        log_event(LOG_WARN, "accepting pauses: the system is short of descriptors or memory",
                  LS("reason", strerror(errnum)));
    }
    l->pause_ms = l->pause_ms ? l->pause_ms * 2 : LISTEN_PAUSE_MS;
    if (l->pause_ms > PAUSE_MAX_MS)
        l->pause_ms = PAUSE_MAX_MS;
    timer_set(l->w, &l->resume, l->pause_ms);
    want(l);
}

static void give(struct listener *l, int fd, struct sockaddr_storage *ss, socklen_t len)
{
    struct addr peer = {0};
    if (addr_from(&peer, (struct sockaddr *)ss, len))
        addr_unmap(&peer);
    if (peer.len && peer.sa.sa_family == AF_UNIX && peer.len <= offsetof(struct sockaddr_un, sun_path))
        peer.len = 0;
    l->stats.accepted++;
    l->on_accept(l->owner, tcp_take(l->w, fd, l->flags | TCP_INHERITED), &peer);
}

static int accept_one(struct place *p, struct sockaddr_storage *ss, socklen_t *len)
{
    *len = sizeof(*ss);
    return accept4(p->fd, (struct sockaddr *)ss, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

// 0: drained or enough for now; an errno value when the system is short.
static int accept_batch(struct place *p)
{
    struct listener *l = p->l;
    for (int i = 0; i < LISTEN_BATCH && !l->closed && !l->paused; i++) {
        struct sockaddr_storage ss;
        socklen_t len;
        int fd = accept_one(p, &ss, &len);
        if (fd >= 0) {
            give(l, fd, &ss, len);
            continue;
        }
        if (is_shortage(errno))
            return errno;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        // else the caller has gone already, or the network failed for it (accept(2))
    }
    return 0;
}

static void on_readable(void *ctx, int events)
{
    struct place *p = ctx;
    (void)events;
    if (p->l->closed || p->l->pause_ms)
        return;
    int errnum = accept_batch(p);
    if (errnum && !p->l->closed)
        pause_short(p->l, errnum);
}

static void open_reserve(struct listener *l)
{
    if (l->reserve < 0)
        l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// Still none after a pause: better a clear refusal than callers that hang.
static void turn_away(struct listener *l, struct place *p)
{
    static const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (l->reserve < 0)
        return;
    for (int i = 0; i < TURN_AWAY_MAX; i++) {
        struct sockaddr_storage ss;
        socklen_t len;
        close(l->reserve);
        int fd = accept_one(p, &ss, &len);
        l->reserve = -1;
        if (fd >= 0) {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
            close(fd);
            l->stats.turned_away++;
        }
        open_reserve(l);
        if (fd < 0)
            return;
    }
}

static void on_resume(struct timer *timer)
{
    struct listener *l = container_of(timer, struct listener, resume);
    int errnum = 0;
    open_reserve(l);
    for (size_t i = 0; i < l->count && !l->closed; i++) {
        int one = accept_batch(&l->places[i]);
        if (one && !l->closed)
            turn_away(l, &l->places[i]);
        errnum = one ? one : errnum;
    }
    if (l->closed)
        return;
    if (errnum) {
        pause_short(l, errnum);
        return;
    }
    l->pause_ms = 0;
    want(l);
    log_event(LOG_INFO, "accepting goes on", LN("turned_away", l->stats.turned_away));
}

// --- life

static int open_place(struct listener *l, const struct addr *at, bool dual, struct err *e)
{
    struct place *p = &l->places[l->count];
    char text[ADDR_TEXT_MAX];
    int fd = listen_socket(at, SOCK_STREAM, dual, e);
    if (fd < 0)
        return -1;
    p->l = l;
    p->fd = fd;
    tcp_set_options(fd, l->flags);
    if (listen(fd, LISTEN_BACKLOG) < 0 || !(p->watch = watch_new(l->w, fd, on_readable, p))) {
        int errnum = errno;
        err_errno(e, errnum, "listen %s", addr_text(at, text));
        close(fd);
        errno = errnum;
        return -1;
    }
    read_local(fd, &p->at);
    struct stat st;
    if (at->sa.sa_family == AF_UNIX && lstat(at->un.sun_path, &st) == 0) {
        p->dev = st.st_dev;
        p->ino = st.st_ino;
    }
    l->count++;
    return 0;
}

static void close_place(struct place *p)
{
    struct stat st;
    watch_free(p->watch);
    if (p->ino && lstat(p->at.un.sun_path, &st) == 0 && st.st_dev == p->dev && st.st_ino == p->ino)
        unlink(p->at.un.sun_path);
    close(p->fd);
}

static void close_places(struct listener *l)
{
    for (size_t i = 0; i < l->count; i++)
        close_place(&l->places[i]);
    l->count = 0;
}

static int open_places(struct listener *l, const struct listen_options *o, struct err *e)
{
    for (size_t i = 0; i < o->count; i++) {
        struct addr at = o->at[i];
        if (l->count > 0 && addr_port(&at) == 0)
            addr_set_port(&at, addr_port(&l->places[0].at));
        if (open_place(l, &at, o->dual, e) < 0 && !listen_may_skip(o->at, o->count, i, errno)) {
            close_places(l);
            return -1;
        }
    }
    return 0;
}

// With port 0 and several addresses, the port chosen for the first may be taken at another one: choose again.
static int open_all(struct listener *l, const struct listen_options *o, struct err *e)
{
    int tries = o->count > 1 && addr_port(&o->at[0]) == 0 ? PORT_TRIES : 1;
    while (open_places(l, o, e) < 0) {
        if (--tries == 0)
            return -1;
    }
    err_fini(e);
    return 0;
}

static void bury(struct grave *g) { free(container_of(g, struct listener, grave)); }

struct listener *listener_open(struct worker *w, const struct listen_options *o, struct err *e)
{
    assert(o->count > 0 && o->count <= LISTEN_ADDRS);
    struct listener *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    l->w = w;
    l->flags = o->flags;
    l->on_accept = o->on_accept;
    l->owner = o->owner;
    l->reserve = -1;
    timer_init(&l->resume, on_resume);
    if (open_all(l, o, e) < 0) {
        free(l);
        return NULL;
    }
    open_reserve(l);
    want(l);
    return l;
}

void listener_close(struct listener *l)
{
    if (!l || l->closed)
        return;
    l->closed = true;
    timer_stop(l->w, &l->resume);
    close_places(l);
    if (l->reserve >= 0)
        close(l->reserve);
    worker_bury(l->w, &l->grave, bury);
}

void listener_pause(struct listener *l, bool paused)
{
    l->paused = paused;
    want(l);
}

const struct addr *listener_addr(const struct listener *l, size_t i) { return i < l->count ? &l->places[i].at : NULL; }

const struct listen_stats *listener_stats(const struct listener *l) { return &l->stats; }
