// SPDX-License-Identifier: Apache-2.0
// A bad road between the two ends of a tunnel: a TCP relay on loopback that delays, throttles, freezes and cuts.
//   road TARGET_PORT [DELAY_MS [PORT [SEED]]]
// Prints its port, then obeys lines on stdin and answers each with one line ("ok", or stats as JSON). With a delay alone
// loopback has the round trip of a long line and an unlimited bandwidth-delay product: up to 256 MiB are under way in each
// direction. "up" is from callers to the target. HOW is one or more of r RST, f FIN, s silence, u and d silence of one
// direction only; one of them is drawn for each cut.
//   delay MS                  each byte of both directions is held back that long
//   rate BYTES_PER_S QUEUE    of all connections together, each direction alone, behind a queue of that many bytes; 0 0: none.
//                             For connections from then on the kernel's own buffers are small
//   wire BYTES                as well, for connections from then on: segments of that size at most, and buffers of a few of them, so
//                             that hardly anything waits in front of the queue; 0: none
//   cut MIN MAX HOW           each new connection is cut at a byte drawn from MIN…MAX (small ones as likely as large); 0 0 r: none
//   life MIN_MS MAX_MS HOW    each new connection is cut at an age drawn from there; 0 0 r: none
//   idle MS HOW               connections that were silent that long are cut; 0 r: none
//   end HOW                   all connections are cut now
//   freeze up|down|both       nothing passes, neither of old connections nor of new ones, until: thaw
//   refuse on|off             new connections are reset
//   target PORT               of new connections
//   stats                     {"accepted", "open", "cuts", "up", "down", "pieces"}; pieces: how often bytes passed
// What a cut drops is gone; after silence a connection stays open and carries nothing more.
#include <math.h>
#include <sys/timerfd.h>
#include "common.h"

#define BLOCK (64 * 1024)
#define BLOCKS (256 * 1024 * 1024 / BLOCK)
#define BLOCKS_AT_ONCE 16 // without a delay: no deeper than a socket
#define MERGE_NS 500000 // bytes read within this time of a block's first ones leave with them
#define FIN_PATIENCE_NS 2000000000ull
#define RATE_RCVBUF (32 * 1024)
#define WIRE_RCVBUF (8 * 1024)
#define SECOND_NS 1000000000ull

enum { UP, DOWN };

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
    uint64_t room_ns;    // not read before, the queue is full; 0: no wait
    bool ended, silent, read;
};

struct pair {
    struct pair *next;
    struct way ways[2];
    uint64_t bytes, cut_at; // passed on in both directions; cut there (0: never)
    uint64_t life_ns;       // cut then (0: never)
    uint64_t heard_ns;
    uint64_t fin_ns; // both ends were shut by us; what still comes is dropped until then
    char cut_how, life_how;
    bool was_cut, dead;
};

struct plan {
    uint64_t min, max;
    char how[8];
};

static struct {
    unsigned target, port;
    int listener, segment; // segment: 0: loopback's own
    uint64_t delay_ns, rate, queue_ns, free_ns[2]; // free_ns: when the line has sent all that was read
    uint64_t random, accepted, cuts, passed[2], pieces;
    struct plan cut, life, idle;
    bool frozen[2], refuse;
} road;

static struct pair *pairs;
static struct block *spare;

static double draw(void) // 0 … 1
{
    uint64_t x = road.random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    road.random = x;
    return (double)(x >> 11) / 9007199254740992.0;
}

static char draw_how(const struct plan *p)
{
    return p->how[(size_t)(draw() * (double)strlen(p->how))];
}

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
    if (w->count >= (road.delay_ns || road.rate ? BLOCKS : BLOCKS_AT_ONCE))
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

static void block_drop(struct way *w)
{
    struct block *b = w->head;
    w->head = b->next;
    if (!w->head)
        w->tail = NULL;
    w->count--;
    b->next = spare;
    spare = b;
}

static void reset(int fd)
{
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    close(fd);
}

static void pair_free(struct pair *p, bool by_reset)
{
    for (int i = 0; i < 2; i++) {
        while (p->ways[i].head)
            block_drop(&p->ways[i]);
        if (by_reset)
            reset(p->ways[i].from);
        else
            close(p->ways[i].from);
    }
    free(p);
}

static void pair_cut(struct pair *p, char how, uint64_t now)
{
    road.cuts++;
    p->cut_at = p->life_ns = 0;
    p->was_cut = true;
    for (int i = 0; i < 2; i++) {
        struct way *w = &p->ways[i];
        if (how == 's' || how == (i == UP ? 'u' : 'd'))
            w->silent = true;
        while ((how == 'f' || how == 'r') && w->head)
            block_drop(w);
        if (how == 'f')
            shutdown(w->to, SHUT_WR);
    }
    if (how == 'f')
        p->fin_ns = now + FIN_PATIENCE_NS;
    p->dead = how == 'r';
}

// False: the connection failed. Reads what the line takes: all there is, or what its rate and queue allow.
static bool way_read(struct pair *p, int i, uint64_t now)
{
    struct way *w = &p->ways[i];
    w->room_ns = 0;
    while (!w->end_due_ns) {
        size_t most = BLOCK;
        if (road.rate) {
            most = road.rate / 1000 < 1448 ? 1448 : road.rate / 1000;
            if (road.free_ns[i] < now)
                road.free_ns[i] = now;
            if (road.free_ns[i] - now > road.queue_ns) {
                w->room_ns = road.free_ns[i] - road.queue_ns;
                return true;
            }
        }
        uint64_t due = (road.rate ? road.free_ns[i] : now) + road.delay_ns;
        struct block *b = tail_with_room(w, due);
        if (!b)
            return true;
        ssize_t n = recv(w->from, b->data + b->end, BLOCK - b->end < most ? BLOCK - b->end : most, 0);
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            w->end_due_ns = due;
        if (road.rate)
            road.free_ns[i] += (uint64_t)n * SECOND_NS / road.rate;
        b->end += (size_t)n;
        w->read = true;
        p->heard_ns = now;
    }
    return true;
}

static bool way_write(struct pair *p, int i, uint64_t now)
{
    struct way *w = &p->ways[i];
    struct block *b;
    while ((b = w->head) && b->due_ns <= now) {
        size_t len = b->end - b->start;
        if (p->cut_at && len > p->cut_at - p->bytes)
            len = p->cut_at - p->bytes;
        if (len) {
            ssize_t n = send(w->to, b->data + b->start, len, MSG_NOSIGNAL);
            if (n < 0)
                return errno == EAGAIN;
            b->start += (size_t)n;
            p->bytes += (uint64_t)n;
            road.passed[i] += (uint64_t)n;
            road.pieces++;
            if (p->cut_at && p->bytes == p->cut_at) {
                pair_cut(p, p->cut_how, now);
                return true;
            }
            if (b->start < b->end)
                return true;
        }
        block_drop(w);
    }
    if (!w->head && w->end_due_ns && w->end_due_ns <= now && !w->ended) {
        w->ended = true;
        shutdown(w->to, SHUT_WR);
    }
    return true;
}

static bool way_run(struct pair *p, int i, uint64_t now)
{
    do {
        p->ways[i].read = false;
        if (!way_write(p, i, now) || (!p->fin_ns && !p->dead && !way_read(p, i, now)))
            return false;
    } while (!p->fin_ns && !p->dead && p->ways[i].read);
    return true;
}

// After our FIN: what comes is dropped until both have ended too.
static void pair_drain(struct pair *p, uint64_t now)
{
    static uint8_t bin[BLOCK];
    bool open = false;
    for (int i = 0; i < 2; i++) {
        ssize_t n;
        while ((n = recv(p->ways[i].from, bin, sizeof(bin), 0)) > 0)
            ;
        open |= n < 0 && errno == EAGAIN;
    }
    p->dead = !open || now >= p->fin_ns;
}

static void pair_run(struct pair *p, uint64_t now)
{
    if (p->fin_ns) {
        pair_drain(p, now);
        return;
    }
    if (p->life_ns && p->life_ns <= now)
        pair_cut(p, p->life_how, now);
    else if (road.idle.max && !p->was_cut && now - p->heard_ns >= road.idle.max * 1000000u)
        pair_cut(p, draw_how(&road.idle), now);
    for (int i = 0; i < 2 && !p->fin_ns && !p->dead; i++)
        if (!road.frozen[i] && !p->ways[i].silent && !way_run(p, i, now))
            p->dead = true;
    if (p->ways[UP].ended && p->ways[DOWN].ended)
        p->dead = true;
}

static void accept_all(int epoll, int listener, uint64_t now)
{
    int in;
    while ((in = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in a = loopback(road.target);
        road.accepted++;
        if (road.rate) { // the queue is the road's, not the kernel's, and what a window lets go is no lump of 64 KiB
            int space = road.segment ? WIRE_RCVBUF : RATE_RCVBUF;
            setsockopt(in, SOL_SOCKET, SO_RCVBUF, &space, sizeof(space));
            setsockopt(out, SOL_SOCKET, SO_RCVBUF, &space, sizeof(space));
        }
        if (road.segment)
            setsockopt(out, IPPROTO_TCP, TCP_MAXSEG, &road.segment, sizeof(road.segment));
        if (road.refuse || connect(out, (struct sockaddr *)&a, sizeof(a)) < 0) {
            reset(in);
            close(out);
            continue;
        }
        fcntl(out, F_SETFL, O_NONBLOCK);
        set_nodelay(in);
        set_nodelay(out);
        struct pair *p = calloc(1, sizeof(*p));
        p->ways[UP] = (struct way){.from = in, .to = out};
        p->ways[DOWN] = (struct way){.from = out, .to = in};
        p->heard_ns = now;
        if (road.cut.max) {
            p->cut_at = (uint64_t)((double)road.cut.min * pow((double)road.cut.max / (double)road.cut.min, draw()));
            p->cut_how = draw_how(&road.cut);
        }
        if (road.life.max) {
            p->life_ns = now + (uint64_t)(1e6 * ((double)road.life.min + draw() * (double)(road.life.max - road.life.min)));
            p->life_how = draw_how(&road.life);
        }
        p->next = pairs;
        pairs = p;
        watch(epoll, in, EPOLLIN | EPOLLOUT | EPOLLET, p);
        watch(epoll, out, EPOLLIN | EPOLLOUT | EPOLLET, p);
    }
}

static void earlier(uint64_t *next, uint64_t at)
{
    if (at && (!*next || at < *next))
        *next = at;
}

static void pair_next(const struct pair *p, uint64_t now, uint64_t *next)
{
    earlier(next, p->fin_ns);
    if (p->fin_ns)
        return;
    earlier(next, p->life_ns);
    if (road.idle.max && !p->was_cut)
        earlier(next, p->heard_ns + road.idle.max * 1000000u);
    for (int i = 0; i < 2; i++) {
        const struct way *w = &p->ways[i];
        if (road.frozen[i] || w->silent)
            continue;
        uint64_t due = w->head ? w->head->due_ns : w->ended ? 0 : w->end_due_ns;
        if (due > now)
            earlier(next, due);
        earlier(next, w->room_ns);
    }
}

// Runs every pair (there are few) and returns when the next thing is due; 0: nothing.
static uint64_t run_all(void)
{
    uint64_t now = now_ns(), next = 0;
    for (struct pair **at = &pairs, *p; (p = *at);) {
        pair_run(p, now);
        if (p->dead) {
            *at = p->next;
            pair_free(p, !p->fin_ns && !(p->ways[UP].ended && p->ways[DOWN].ended));
            continue;
        }
        pair_next(p, now, &next);
        at = &p->next;
    }
    return next;
}

static bool plan_set(struct plan *p, uint64_t min, uint64_t max, const char *how)
{
    if (!*how || how[strspn(how, "rfsud")] || max < min || (max && !min))
        return false;
    p->min = min;
    p->max = max;
    strcpy(p->how, how);
    return true;
}

static unsigned open_pairs(void)
{
    unsigned count = 0;
    for (struct pair *p = pairs; p; p = p->next)
        count++;
    return count;
}

static bool obey(const char *line, uint64_t now)
{
    unsigned long long a, b;
    char word[8];
    if (sscanf(line, "delay %llu", &a) == 1) {
        road.delay_ns = a * 1000000;
    } else if (sscanf(line, "rate %llu %llu", &a, &b) == 2) {
        road.rate = a;
        road.queue_ns = a ? b * SECOND_NS / a : 0;
    } else if (sscanf(line, "wire %llu", &a) == 1 && a < 65536) {
        road.segment = (int)a;
        setsockopt(road.listener, IPPROTO_TCP, TCP_MAXSEG, &road.segment, sizeof(road.segment));
    } else if (sscanf(line, "cut %llu %llu %7s", &a, &b, word) == 3) {
        return plan_set(&road.cut, a, b, word);
    } else if (sscanf(line, "life %llu %llu %7s", &a, &b, word) == 3) {
        return plan_set(&road.life, a, b, word);
    } else if (sscanf(line, "idle %llu %7s", &a, word) == 2) {
        return plan_set(&road.idle, a, a, word);
    } else if (sscanf(line, "end %7s", word) == 1) {
        struct plan how = {0};
        if (!plan_set(&how, 0, 0, word))
            return false;
        for (struct pair *p = pairs; p; p = p->next)
            if (!p->fin_ns)
                pair_cut(p, draw_how(&how), now);
    } else if (sscanf(line, "freeze %7s", word) == 1) {
        road.frozen[UP] |= word[0] != 'd';
        road.frozen[DOWN] |= word[0] != 'u';
    } else if (!strcmp(line, "thaw")) {
        road.frozen[UP] = road.frozen[DOWN] = false;
    } else if (sscanf(line, "refuse %7s", word) == 1) {
        road.refuse = !strcmp(word, "on");
    } else if (sscanf(line, "target %llu", &a) == 1) {
        road.target = (unsigned)a;
    } else {
        return false;
    }
    return true;
}

// False: stdin has ended.
static bool commands(void)
{
    static char text[1024];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, text + len, sizeof(text) - len);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    len += (size_t)n;
    for (char *end; (end = memchr(text, '\n', len));) {
        *end = '\0';
        if (!strcmp(text, "stats"))
            printf("{\"accepted\": %llu, \"open\": %u, \"cuts\": %llu, \"up\": %llu, \"down\": %llu, \"pieces\": %llu}\n",
                   (unsigned long long)road.accepted, open_pairs(), (unsigned long long)road.cuts,
                   (unsigned long long)road.passed[UP], (unsigned long long)road.passed[DOWN],
                   (unsigned long long)road.pieces);
        else
            puts(obey(text, now_ns()) ? "ok" : "what?");
        fflush(stdout);
        len -= (size_t)(end + 1 - text);
        memmove(text, end + 1, len);
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        die("usage: road TARGET_PORT [DELAY_MS [PORT [SEED]]]");
    road.target = number(argv[1]);
    road.delay_ns = argc > 2 ? number(argv[2]) * 1000000ull : 0;
    road.port = argc > 3 ? number(argv[3]) : 0;
    road.random = (argc > 4 ? number(argv[4]) : 1) * 0x9e3779b97f4a7c15ull | 1;
    int epoll = epoll_create1(EPOLL_CLOEXEC), listener = road.listener = listen_on(&road.port);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(epoll, listener, EPOLLIN, &listener);
    watch(epoll, timer, EPOLLIN | EPOLLET, &timer);
    struct epoll_event in = {.events = EPOLLIN, .data.ptr = &in};
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &in); // fails for a file or /dev/null: then there are no commands
    printf("%u\n", road.port);
    fflush(stdout);
    struct epoll_event events[64];
    while (1) {
        int n = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &listener)
                accept_all(epoll, listener, now_ns());
            else if (events[i].data.ptr == &in && !commands())
                epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        }
        uint64_t next = run_all();
        struct itimerspec at = {.it_value = {(time_t)(next / SECOND_NS), (long)(next % SECOND_NS)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
    }
}
