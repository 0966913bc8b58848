// SPDX-License-Identifier: Apache-2.0
#include "dial/network.h"
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX 4096

// Questions ----------------------------------------------------------------------------------------------------

struct question {
    struct nlmsghdr head;
    union {
        struct rtmsg route;
        struct ndmsg neighbour;
    };
    char attributes[64];
};

static const void *host_of(const struct addr *a, size_t *len)
{
    bool v6 = a->sa.sa_family == AF_INET6;
    *len = v6 ? 16 : 4;
    return v6 ? (const void *)&a->in6.sin6_addr : &a->in.sin_addr;
}

static void add_attribute(struct question *q, uint16_t type, const void *data, size_t len)
{
    struct rtattr *at = (struct rtattr *)((char *)q + NLMSG_ALIGN(q->head.nlmsg_len));
    at->rta_type = type;
    at->rta_len = (unsigned short)RTA_LENGTH(len);
    memcpy(RTA_DATA(at), data, len);
    q->head.nlmsg_len = NLMSG_ALIGN(q->head.nlmsg_len) + (uint32_t)RTA_ALIGN(at->rta_len);
}

// The kernel has answered when send returns. The length of the answer's first message of `type`, or -1.
static ssize_t ask(const struct question *q, uint16_t type, void *answer)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0)
        return -1;
    ssize_t n = send(fd, q, q->head.nlmsg_len, 0);
    if (n > 0)
        n = recv(fd, answer, ANSWER_MAX, 0);
    close(fd);
    const struct nlmsghdr *h = answer;
    return n > 0 && NLMSG_OK(h, (size_t)n) && h->nlmsg_type == type ? (ssize_t)h->nlmsg_len : -1;
}

static void take_address(struct addr *a, int family, const struct rtattr *at)
{
    if (family == AF_INET && RTA_PAYLOAD(at) == 4) {
        *a = (struct addr){.len = sizeof(a->in), .in = {.sin_family = AF_INET}};
        memcpy(&a->in.sin_addr, RTA_DATA(at), 4);
    } else if (family == AF_INET6 && RTA_PAYLOAD(at) == 16) {
        *a = (struct addr){.len = sizeof(a->in6), .in6 = {.sin6_family = AF_INET6}};
        memcpy(&a->in6.sin6_addr, RTA_DATA(at), 16);
    }
}

// A gateway of the other family (RFC 5549).
static void take_via(struct addr *a, const struct rtattr *at)
{
    const struct rtvia *via = RTA_DATA(at);
    size_t len = RTA_PAYLOAD(at) - sizeof(*via);
    if (RTA_PAYLOAD(at) >= sizeof(*via) && via->rtvia_family == AF_INET6 && len == 16) {
        *a = (struct addr){.len = sizeof(a->in6), .in6 = {.sin6_family = AF_INET6}};
        memcpy(&a->in6.sin6_addr, via->rtvia_addr, 16);
    }
}

static unsigned parse_route(struct network_route *r, const struct nlmsghdr *h)
{
    const struct rtmsg *m = NLMSG_DATA(h);
    size_t left = RTM_PAYLOAD(h);
    unsigned device = 0;
    for (const struct rtattr *at = RTM_RTA(m); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        if (at->rta_type == RTA_GATEWAY)
            take_address(&r->gateway, m->rtm_family, at);
        else if (at->rta_type == RTA_VIA)
            take_via(&r->gateway, at);
        else if (at->rta_type == RTA_PREFSRC)
            take_address(&r->source, m->rtm_family, at);
        else if (at->rta_type == RTA_OIF && RTA_PAYLOAD(at) == sizeof(device))
            memcpy(&device, RTA_DATA(at), sizeof(device));
    }
    return device;
}

// The hardware address of a gateway, which tells one 192.168.1.1 from another. 0: not known (yet).
static size_t neighbour(const struct addr *gateway, unsigned device, uint8_t out[32])
{
    struct question q = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(q.neighbour)), .nlmsg_type = RTM_GETNEIGH,
                                  .nlmsg_flags = NLM_F_REQUEST},
                         .neighbour = {.ndm_family = (uint8_t)gateway->sa.sa_family, .ndm_ifindex = (int)device}};
    _Alignas(struct nlmsghdr) char answer[ANSWER_MAX];
    size_t len;
    const void *host = host_of(gateway, &len);
    add_attribute(&q, NDA_DST, host, len);
    if (ask(&q, RTM_NEWNEIGH, answer) < 0)
        return 0;
    const struct nlmsghdr *h = (const void *)answer;
    const struct ndmsg *m = NLMSG_DATA(h);
    size_t left = NLMSG_PAYLOAD(h, sizeof(*m));
    const struct rtattr *at = (const void *)((const char *)m + NLMSG_ALIGN(sizeof(*m)));
    for (; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        if (at->rta_type != NDA_LLADDR || RTA_PAYLOAD(at) > 32)
            continue;
        memcpy(out, RTA_DATA(at), RTA_PAYLOAD(at));
        return RTA_PAYLOAD(at);
    }
    return 0;
}

static void make_key(struct network_route *r, unsigned device)
{
    uint8_t text[128], hash[EVP_MAX_MD_SIZE];
    const struct addr *a = r->gateway.len ? &r->gateway : &r->source;
    size_t n = strlen(r->device) + 1, len = 0;
    memcpy(text, r->device, n);
    if (a->len) {
        const void *host = host_of(a, &len);
        memcpy(text + n, host, len);
        n += len;
    }
    if (r->gateway.len)
        n += neighbour(&r->gateway, device, text + n);
    r->key[0] = 0;
    if (!EVP_Digest(text, n, hash, NULL, EVP_sha256(), NULL))
        return;
    for (size_t i = 0; i < 8; i++)
        snprintf(r->key + 2 * i, 3, "%02x", hash[i]);
}

bool network_route(const struct addr *to, struct network_route *r)
{
    struct addr plain = *to;
    memset(r, 0, sizeof(*r));
    if (plain.len == 0 || plain.sa.sa_family == AF_UNIX)
        return false;
    addr_unmap(&plain);
    struct question q = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(q.route)), .nlmsg_type = RTM_GETROUTE,
                                  .nlmsg_flags = NLM_F_REQUEST},
                         .route = {.rtm_family = (uint8_t)plain.sa.sa_family}};
    _Alignas(struct nlmsghdr) char answer[ANSWER_MAX];
    size_t len;
    const void *host = host_of(&plain, &len);
    q.route.rtm_dst_len = (uint8_t)(8 * len);
    add_attribute(&q, RTA_DST, host, len);
    if (ask(&q, RTM_NEWROUTE, answer) < 0)
        return false;
    unsigned device = parse_route(r, (const void *)answer);
    char name[IF_NAMESIZE];
    snprintf(r->device, sizeof(r->device), "%s", device && if_indextoname(device, name) ? name : "?");
    make_key(r, device);
    return true;
}

bool network_same_route(const struct network_route *a, const struct network_route *b)
{
    bool source = a->source.len == b->source.len && (!a->source.len || addr_equal_host(&a->source, &b->source));
    bool gateway = a->gateway.len == b->gateway.len && (!a->gateway.len || addr_equal_host(&a->gateway, &b->gateway));
    return source && gateway && strcmp(a->device, b->device) == 0;
}

// One that is not of this machine cannot be bound.
bool network_is_local(const struct addr *a)
{
    struct addr at = *a;
    if (a->len == 0 || a->sa.sa_family == AF_UNIX)
        return true;
    int fd = socket(a->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true;
    addr_set_port(&at, 0);
    bool gone = bind(fd, &at.sa, at.len) < 0 && errno == EADDRNOTAVAIL;
    close(fd);
    return !gone;
}

// Sleep --------------------------------------------------------------------------------------------------------

static uint64_t read_us(clockid_t which)
{
    struct timespec ts;
    clock_gettime(which, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

bool network_slept(struct network *n, uint64_t monotonic_us, uint64_t boot_us)
{
    uint64_t asleep = boot_us > monotonic_us ? boot_us - monotonic_us : 0;
    bool slept = asleep > n->asleep_us + NETWORK_SLEPT_US;
    n->asleep_us = asleep;
    return slept;
}

static bool look_at_clocks(struct network *n)
{
    uint64_t monotonic = read_us(CLOCK_MONOTONIC);
    if (!network_slept(n, monotonic, read_us(CLOCK_BOOTTIME)))
        return false;
    n->on_event(n, NETWORK_SLEPT);
    return true;
}

static void on_clock(struct timer *t)
{
    struct network *n = container_of(t, struct network, clock);
    timer_set(n->w, &n->clock, NETWORK_CLOCK_MS);
    look_at_clocks(n);
}

// A timer of the wall clock, far away, which the kernel cancels when that clock is set: also by waking up.
static int arm_clock(int fd)
{
    struct itimerspec far = {.it_value = {.tv_sec = (time_t)1 << 40}};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

static void on_clock_set(void *ctx, int events)
{
    struct network *n = ctx;
    uint64_t rung;
    (void)events;
    while (read(n->clock_fd, &rung, sizeof(rung)) < 0 && errno == EINTR)
        ;
    if (arm_clock(n->clock_fd) < 0)
        watch_want(n->clock_watch, 0);
    look_at_clocks(n);
}

// Changes ------------------------------------------------------------------------------------------------------

static void on_settled(struct timer *t)
{
    struct network *n = container_of(t, struct network, settle);
    n->told_ms = n->w->now_ms;
    n->changes++;
    if (!look_at_clocks(n))
        n->on_event(n, NETWORK_CHANGED);
}

static void on_message(void *ctx, int events)
{
    struct network *n = ctx;
    char text[ANSWER_MAX];
    (void)events;
    for (;;) { // what it says is asked for later; ENOBUFS says that there was more
        ssize_t got = recv(n->fd, text, sizeof(text), 0);
        if (got < 0 && errno != EINTR && errno != ENOBUFS)
            break;
    }
    uint64_t next = n->told_ms + NETWORK_GAP_MS;
    uint64_t now = n->w->now_ms;
    if (!timer_is_set(&n->settle))
        timer_set(n->w, &n->settle, n->changes && next > now + NETWORK_SETTLE_MS ? next - now : NETWORK_SETTLE_MS);
}

static int open_netlink(void)
{
    struct sockaddr_nl at = {.nl_family = AF_NETLINK,
                             .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
                                          RTMGRP_IPV6_ROUTE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static struct watch *watch_reads(struct network *n, int fd, void (*on)(void *ctx, int events))
{
    struct watch *watch = fd >= 0 ? watch_new(n->w, fd, on, n) : NULL;
    if (watch)
        watch_want(watch, UV_READABLE);
    return watch;
}

void network_start(struct network *n, struct worker *w, void (*on_event)(struct network *n, enum network_event what), void *owner)
{
    *n = (struct network){.w = w, .on_event = on_event, .owner = owner};
    timer_init(&n->settle, on_settled);
    timer_init(&n->clock, on_clock);
    network_slept(n, read_us(CLOCK_MONOTONIC), read_us(CLOCK_BOOTTIME));
    timer_set(w, &n->clock, NETWORK_CLOCK_MS);
    n->fd = open_netlink();
    n->watch = watch_reads(n, n->fd, on_message);
    n->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (n->clock_fd >= 0 && arm_clock(n->clock_fd) == 0)
        n->clock_watch = watch_reads(n, n->clock_fd, on_clock_set);
}

static void close_fd(struct watch *watch, int fd)
{
    watch_free(watch);
    if (fd >= 0)
        close(fd);
}

void network_stop(struct network *n)
{
    if (!n->w)
        return;
    timer_stop(n->w, &n->settle);
    timer_stop(n->w, &n->clock);
    close_fd(n->watch, n->fd);
    close_fd(n->clock_watch, n->clock_fd);
    n->w = NULL;
}
