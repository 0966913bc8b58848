// SPDX-License-Identifier: Apache-2.0
// A step of the helper: work in a child process, watched by time, memory and length of what it says.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "dial/helper.h"

#define LOOK_MS 50 // between two looks at its memory

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void work(const struct step *s, int out, pid_t parent)
{
    struct rlimit cpu = {HELPER_CPU_S, HELPER_CPU_S}, none = {0, 0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setrlimit(RLIMIT_CPU, &cpu);
    setrlimit(RLIMIT_CORE, &none);
    int nothing = open("/dev/null", O_RDWR); // what others print is no answer
    dup2(nothing, STDIN_FILENO);
    dup2(nothing, STDOUT_FILENO);
    s->work(s->ctx, out);
    _exit(0);
}

static size_t resident(pid_t pid)
{
    char path[64];
    size_t total = 0, pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%zu %zu", &total, &pages) != 2)
        pages = 0;
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

// Reads what is there. False: that was all.
static bool take(const struct step *s, struct step_result *r, int fd)
{
    ssize_t n = read(fd, r->data + r->len, s->max - r->len);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    r->len += (size_t)n;
    r->data[r->len] = 0;
    if (n > 0 && r->len == s->max)
        r->end = STEP_LONG;
    return n > 0 && r->end != STEP_LONG && !(s->enough && s->enough(r->data, r->len));
}

static void watch(const struct step *s, struct step_result *r, int fd, pid_t pid)
{
    uint64_t until = now_ms() + s->ms;
    for (bool more = true; more;) {
        uint64_t now = now_ms(), left = until > now ? until - now : 0;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left == 0) {
            r->end = STEP_LATE;
            return;
        }
        if (poll(&p, 1, left < LOOK_MS ? (int)left : LOOK_MS) > 0)
            more = take(s, r, fd);
        if (more && resident(pid) > HELPER_MEMORY_MAX) {
            r->end = STEP_HUNGRY;
            return;
        }
    }
}

static void fail(struct step_result *r)
{
    r->end = STEP_CRASHED;
    r->how = 0;
}

void step_run(const struct step *s, struct step_result *r)
{
    int ends[2], status = 0;
    *r = (struct step_result){.data = calloc(1, s->max + 1)};
    if (!r->data)
        abort();
    if (pipe2(ends, O_CLOEXEC) < 0) {
        fail(r);
        return;
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        close(ends[0]);
        work(s, ends[1], parent);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        fail(r);
        return;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    watch(s, r, ends[0], pid);
    close(ends[0]);
    // It has said all, closed its output or must go: a process that was ended by us is not one that crashed.
    bool killed = r->end != STEP_DONE || (s->enough && s->enough(r->data, r->len));
    if (killed)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        r->end = STEP_CRASHED;
        r->how = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    }
}
