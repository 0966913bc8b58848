// SPDX-License-Identifier: Apache-2.0
// What the bench's load programs share: dying with a reason, clocks, sockets on loopback. They are helpers of a
// measurement, not part of culvert: the first failure ends them, and the bench says what they said.
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static inline void __attribute__((noreturn)) die_errno(const char *what)
{
    die("%s: %s", what, strerror(errno));
}

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline struct sockaddr_in loopback(unsigned port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline unsigned number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (!*text || *end || n > UINT32_MAX)
        die("not a number: %s", text);
    return (unsigned)n;
}

static inline void set_nodelay(int fd)
{
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) < 0)
        die_errno("TCP_NODELAY");
}

static inline void watch(int epoll, int fd, uint32_t events, void *ctx)
{
    struct epoll_event e = {.events = events, .data.ptr = ctx};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e) < 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
        die_errno("epoll_ctl");
}

// A listening socket on 127.0.0.1; port 0: one is chosen. Returns the descriptor, *port is the port.
static inline int listen_on(unsigned *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = loopback(*port);
    socklen_t len = sizeof(a);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        die_errno("listen");
    *port = ntohs(a.sin_port);
    return fd;
}
