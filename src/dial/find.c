// SPDX-License-Identifier: Apache-2.0
#include "dial/find.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "dial/helper.h"

extern char **environ;

static void finish(struct find *f)
{
    struct proxy_routes routes = f->routes;
    struct err e = ERR_INIT;
    err_move(&e, &f->err);
    f->routes = (struct proxy_routes){0};
    f->busy = false;
    if (err_is(&e)) {
        proxy_routes_fini(&routes);
        f->on_done(f, NULL, &e); // f may be gone in it
    } else {
        f->on_done(f, &routes, NULL);
    }
    err_fini(&e);
}

static void on_wake(struct wake *wake) { finish(container_of(wake, struct find, wake)); }

// --- the process

// It and what it has started: a group of its own. What was killed goes at once, so that waiting for it is no wait.
static void end_helper(struct find *f)
{
    if (f->pid == 0)
        return;
    watch_free(f->watch);
    close(f->out);
    kill(-f->pid, SIGKILL);
    kill(f->pid, SIGKILL);
    while (waitpid(f->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    f->watch = NULL;
    f->pid = 0;
    timer_stop(f->w, &f->deadline);
}

static void drop_answer(struct find *f)
{
    if (f->answer)
        OPENSSL_cleanse(f->answer, f->len);
    free(f->answer);
    f->answer = NULL;
}

static void answered(struct find *f)
{
    struct found *found = calloc(1, sizeof(*found));
    if (!found)
        abort();
    end_helper(f);
    found_parse(found, f->answer, f->len);
    drop_answer(f);
    proxy_found(&f->routes, &f->question, found, &f->err);
    found_wipe(found);
    free(found);
    finish(f);
}

static bool is_whole(const struct find *f)
{
    return f->len == FOUND_ANSWER_MAX || (f->len >= 5 && memcmp(f->answer + f->len - 5, "end \n", 5) == 0);
}

static void on_readable(void *ctx, int events)
{
    struct find *f = ctx;
    ssize_t n = read(f->out, f->answer + f->len, FOUND_ANSWER_MAX - f->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    f->len += n > 0 ? (size_t)n : 0;
    if (n <= 0 || is_whole(f))
        answered(f);
}

static void on_deadline(struct timer *timer) { answered(container_of(timer, struct find, deadline)); }

// Ours is not the helper's business, and may hold secrets.
static char **environment(void)
{
    size_t count = 0, n = 0;
    while (environ[count])
        count++;
    char **out = calloc(count + 1, sizeof(*out));
    if (!out)
        abort();
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "CULVERT_", 8) != 0)
            out[n++] = environ[i];
    return out;
}

static int spawn(const struct find *f, int in, int out, pid_t *pid)
{
    const char *program = f->program ? f->program : "/proc/self/exe";
    char *argv[] = {(char *)(uintptr_t)"culvert", (char *)(uintptr_t)HELPER_WORD, NULL}, **env = environment();
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setsigmask(&attr, &none);
    int rc = posix_spawn(pid, program, &files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    free(env);
    return rc;
}

// A request fits a pipe: nothing waits.
static int request(const struct find *f, const struct relay_url *relay, const char *ca)
{
    char text[HELPER_REQUEST_MAX];
    int ends[2];
    bool usual = relay->port == (relay->tls ? 443 : 80), v6 = strchr(relay->host, ':') != NULL;
    size_t n = (size_t)snprintf(text, sizeof(text), "url %s://%s%s%s", relay->tls ? "https" : "http", v6 ? "[" : "", relay->host,
                                v6 ? "]" : "");
    n += (size_t)snprintf(text + n, sizeof(text) - n, usual ? "/\n" : ":%u/\n", relay->port);
    if (f->question.pac[0])
        n += (size_t)snprintf(text + n, sizeof(text) - n, "pac %s\n", f->question.pac);
    if (ca && n < sizeof(text))
        n += (size_t)snprintf(text + n, sizeof(text) - n, "ca %s\n", ca);
    if (n >= sizeof(text) || pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    bool whole = write(ends[1], text, n) == (ssize_t)n;
    close(ends[1]);
    if (!whole)
        close(ends[0]);
    return whole ? ends[0] : -1;
}

static int start_helper(struct find *f, const struct relay_url *relay, const char *ca)
{
    int ends[2], in = request(f, relay, ca), rc = in < 0 ? errno : 0;
    pid_t pid = 0;
    if (rc == 0 && pipe2(ends, O_CLOEXEC) < 0)
        rc = errno;
    else if (rc == 0) {
        rc = spawn(f, in, ends[1], &pid);
        close(ends[1]);
        if (rc)
            close(ends[0]);
    }
    if (in >= 0)
        close(in);
    if (rc)
        return err_errno(&f->err, rc, "the helper process that asks for proxies cannot be started");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    f->pid = pid;
    f->out = ends[0];
    f->len = 0;
    f->answer = malloc(FOUND_ANSWER_MAX);
    f->watch = watch_new(f->w, f->out, on_readable, f);
    if (!f->answer || !f->watch)
        abort();
    watch_want(f->watch, UV_READABLE);
    timer_set(f->w, &f->deadline, FIND_MS);
    return 0;
}

// Nobody can be asked: that is no reason not to go.
static void go_without(struct find *f)
{
    struct found *none = calloc(1, sizeof(*none));
    if (!none)
        abort();
    snprintf(none->fail, sizeof(none->fail), "%s", err_text(&f->err));
    err_fini(&f->err);
    proxy_found(&f->routes, &f->question, none, &f->err);
    free(none);
}

void find_start(struct find *f, struct worker *w, const struct relay_url *relay, const struct proxy_wishes *wishes, const char *ca_file,
                void (*on_done)(struct find *f, struct proxy_routes *routes, const struct err *err))
{
    find_stop(f);
    f->w = w;
    f->on_done = on_done;
    f->busy = true;
    wake_init(&f->wake, on_wake);
    timer_init(&f->deadline, on_deadline);
    int rc = proxy_find(&f->routes, &f->question, relay, wishes, &f->err);
    if (rc == 1 && start_helper(f, relay, ca_file) == 0)
        return;
    if (rc == 1 && f->question.optional)
        go_without(f);
    wake_post(w, &f->wake);
}

void find_stop(struct find *f)
{
    if (!f->w || !f->busy)
        return;
    wake_cancel(&f->wake);
    end_helper(f);
    drop_answer(f);
    proxy_routes_fini(&f->routes);
    err_fini(&f->err);
    f->busy = false;
}
