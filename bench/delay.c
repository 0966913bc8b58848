// SPDX-License-Identifier: Apache-2.0
// A TCP relay that holds every byte back for a fixed time: delay TARGET_PORT MILLISECONDS [PORT]. With it between the two
// ends of a tunnel, loopback has the round trip of a long line and an unlimited bandwidth-delay product: up to 256 MiB
// are under way in each direction. Prints its port.
#include <sys/timerfd.h>
#include "common.h"

#define BLOCK (64 * 1024)
#define BLOCKS (256 * 1024 * 1024 / BLOCK)
#define MERGE_NS 500000 // bytes read within this time of a block's first ones leave with them

struct block {
    struct block *next;
    uint64_t due_ns;
    size_t start, end;
    uint8_t data[BLOCK];
};

struct way { // one direction
    int from, to;
    struct block *head, *tail;
    unsigned count;
    uint64_t end_due_ns; // when the peer's end passes; 0: not seen
    bool ended;
};

struct pair {
    struct pair *next;
    struct way ways[2];
    bool dead;
};

static struct pair *pairs;
static struct block *spare;
static uint64_t delay_ns;

static struct block *block_get(void)
{
    struct block *b = spare;
    if (b)
        spare = b->next;
    else
        b = malloc(sizeof(*b));
    b->next = NULL;
    b->start = b->end = 0;
    return b;
}

static struct block *tail_with_room(struct way *w, uint64_t due)
{
    if (w->tail && w->tail->end < BLOCK && due - w->tail->due_ns < MERGE_NS)
        return w->tail;
    if (w->count == BLOCKS)
        return NULL;
    struct block *b = block_get();
    b->due_ns = due;
    if (w->tail)
        w->tail->next = b;
    else
        w->head = b;
    w->tail = b;
    w->count++;
    return b;
}

static bool way_read(struct way *w, uint64_t now)
{
    while (!w->end_due_ns) {
        struct block *b = tail_with_room(w, now + delay_ns);
        if (!b)
            return true;
        ssize_t n = recv(w->from, b->data + b->end, BLOCK - b->end, 0);
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            w->end_due_ns = now + delay_ns;
        b->end += (size_t)n;
    }
    return true;
}

static bool way_write(struct way *w, uint64_t now)
{
    struct block *b;
    while ((b = w->head) && b->due_ns <= now) {
        if (b->start < b->end) {
            ssize_t n = send(w->to, b->data + b->start, b->end - b->start, MSG_NOSIGNAL);
            if (n < 0)
                return errno == EAGAIN;
            b->start += (size_t)n;
            if (b->start < b->end)
                return true;
        }
        w->head = b->next;
        if (!w->head)
            w->tail = NULL;
        w->count--;
        b->next = spare;
        spare = b;
    }
    if (!w->head && w->end_due_ns && w->end_due_ns <= now && !w->ended) {
        w->ended = true;
        shutdown(w->to, SHUT_WR);
    }
    return true;
}

static void pair_run(struct pair *p, uint64_t now)
{
    for (int i = 0; i < 2; i++)
        if (!way_write(&p->ways[i], now) || !way_read(&p->ways[i], now))
            p->dead = true;
    if (p->ways[0].ended && p->ways[1].ended)
        p->dead = true;
}

static void pair_free(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        close(p->ways[i].from);
        for (struct block *b = p->ways[i].head, *next; b; b = next) {
            next = b->next;
            free(b);
        }
    }
    free(p);
}

static void accept_all(int epoll, int listener, unsigned target)
{
    int in;
    while ((in = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in a = loopback(target);
        if (connect(out, (struct sockaddr *)&a, sizeof(a)) < 0)
            die_errno("connect to the target");
        fcntl(out, F_SETFL, O_NONBLOCK);
        set_nodelay(in);
        set_nodelay(out);
        struct pair *p = calloc(1, sizeof(*p));
        p->ways[0] = (struct way){.from = in, .to = out};
        p->ways[1] = (struct way){.from = out, .to = in};
        p->next = pairs;
        pairs = p;
        watch(epoll, in, EPOLLIN | EPOLLOUT | EPOLLET, p);
        watch(epoll, out, EPOLLIN | EPOLLOUT | EPOLLET, p);
    }
}

// Runs every pair (there are few) and returns when the next byte is due; 0: none waits.
static uint64_t run_all(void)
{
    uint64_t now = now_ns(), next = 0;
    for (struct pair **at = &pairs, *p; (p = *at);) {
        pair_run(p, now);
        if (p->dead) {
            *at = p->next;
            pair_free(p);
            continue;
        }
        for (int i = 0; i < 2; i++) {
            struct way *w = &p->ways[i];
            uint64_t due = w->head ? w->head->due_ns : w->ended ? 0 : w->end_due_ns;
            if (due > now && (!next || due < next))
                next = due;
        }
        at = &p->next;
    }
    return next;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die("usage: delay TARGET_PORT MILLISECONDS [PORT]");
    unsigned target = number(argv[1]), port = argc > 3 ? number(argv[3]) : 0;
    delay_ns = number(argv[2]) * 1000000ull;
    int epoll = epoll_create1(EPOLL_CLOEXEC), listener = listen_on(&port);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(epoll, listener, EPOLLIN, &listener);
    watch(epoll, timer, EPOLLIN | EPOLLET, &timer);
    printf("%u\n", port);
    fflush(stdout);
    struct epoll_event events[64];
    while (1) {
        int n = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr == &listener)
                accept_all(epoll, listener, target);
        uint64_t next = run_all();
        struct itimerspec at = {.it_value = {(time_t)(next / 1000000000u), (long)(next % 1000000000u)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
    }
}
