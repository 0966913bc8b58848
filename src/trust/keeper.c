// SPDX-License-Identifier: Apache-2.0
#include "trust/keeper.h"
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/log.h"

// An enrolment; travels to the thread in `pending` and comes back in `done`.
struct job {
    struct list node;
    uint8_t token[PAIRING_TOKEN], pin[PIN_SIZE];
    uint64_t ticket;
    enum store_answer answer;
    char name[SPEC_NAME_MAX + 1];
    struct err err;
};

struct keeper {
    struct worker *w;
    const struct keeper_ops *ops;
    void *owner;
    struct policy *policy; // the worker's
    struct store *store;   // the thread's, once it runs
    uint32_t version;      // the thread's
    uv_async_t *async;     // heap: libuv frees handles late
    struct wake wake;      // posted when the async fires
    uint64_t told;         // highest ticket of a reload that its owner was told of
    pthread_t thread;

    pthread_mutex_t lock; // guards all below
    pthread_cond_t work;
    struct list pending, done;
    size_t waiting;       // jobs in pending and done
    struct policy *fresh; // for the worker to take; NULL: none
    struct addr *own;
    size_t own_count;
    bool own_changed, reread, stop;
    uint64_t asked, reread_until; // highest tickets of reloads: asked for, done
};

static void *must(void *memory)
{
    if (!memory)
        abort(); // out of memory: see core/buf.h
    return memory;
}

// The thread ----------------------------------------------------------------------------------------------------

// The own listeners as they are now; heap memory.
static struct addr *copy_own(struct keeper *k, size_t *count, bool *changed)
{
    pthread_mutex_lock(&k->lock);
    *changed = k->own_changed;
    k->own_changed = false;
    struct addr *own = must(calloc(k->own_count + 1, sizeof *own));
    *count = k->own_count;
    if (*count)
        memcpy(own, k->own, *count * sizeof *own);
    pthread_mutex_unlock(&k->lock);
    return own;
}

// Builds the policy anew and hands it over; a store that cannot be read leaves the old one in force. Called unlocked.
static void publish(struct keeper *k)
{
    struct err e = ERR_INIT;
    size_t own_count;
    bool own_changed;
    struct policy *p = store_policy(k->store, &e);
    if (!p) {
        log_event(LOG_ERROR, "the policy could not be read, the old one stays", LS("error", err_text(&e)));
        err_fini(&e);
        return;
    }
    struct addr *own = copy_own(k, &own_count, &own_changed);
    for (size_t i = 0; i < own_count; i++)
        policy_add_own(p, &own[i]);
    if (own_changed && store_set_own(k->store, own, own_count, &e) < 0) { // only explain misses them
        log_event(LOG_WARN, "the relay's listeners could not be written down", LS("error", err_text(&e)));
        err_fini(&e);
    }
    free(own);
    pthread_mutex_lock(&k->lock);
    policy_free(k->fresh);
    k->fresh = p;
    pthread_mutex_unlock(&k->lock);
    uv_async_send(k->async);
}

static void work(struct keeper *k, struct job *j)
{
    j->answer = store_enroll(k->store, j->token, j->pin, j->name, &j->err);
    OPENSSL_cleanse(j->token, sizeof j->token);
    if (j->answer == STORE_ENROLLED)
        publish(k);
}

// Looks for changes by other processes.
static void look(struct keeper *k, bool reread)
{
    uint32_t version = store_version(k->store);
    if (reread || (version && version != k->version)) {
        k->version = version;
        publish(k);
    }
}

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

// Waits until there is something to do, or until due_ms. Called locked.
static void wait_for_work(struct keeper *k, uint64_t due_ms)
{
    struct timespec until = {.tv_sec = (time_t)(due_ms / 1000), .tv_nsec = (long)(due_ms % 1000) * 1000000};
    while (list_empty(&k->pending) && !k->reread && !k->stop)
        if (pthread_cond_timedwait(&k->work, &k->lock, &until) != 0)
            return;
}

static void *run(void *arg)
{
    struct keeper *k = arg;
    uint64_t due_ms = clock_ms() + KEEPER_POLL_MS;
    pthread_mutex_lock(&k->lock);
    for (;;) {
        wait_for_work(k, due_ms);
        if (k->stop)
            break;
        bool reread = k->reread;
        struct list *node = list_pop(&k->pending);
        struct job *j = node ? list_entry(node, struct job, node) : NULL;
        k->reread = false;
        uint64_t ticket = k->asked;
        pthread_mutex_unlock(&k->lock);
        if (reread || clock_ms() >= due_ms) { // also when jobs never end
            look(k, reread);
            due_ms = clock_ms() + KEEPER_POLL_MS;
        }
        if (j)
            work(k, j);
        pthread_mutex_lock(&k->lock);
        if (j)
            list_push(&k->done, &j->node);
        if (reread)
            k->reread_until = ticket;
        if (j || reread)
            uv_async_send(k->async);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

// The worker's side ---------------------------------------------------------------------------------------------

static void free_job(struct job *j)
{
    OPENSSL_cleanse(j->token, sizeof j->token);
    err_fini(&j->err);
    free(j);
}

static void free_jobs(struct list *jobs)
{
    for (struct list *node; (node = list_pop(jobs));)
        free_job(list_entry(node, struct job, node));
}

static void deliver(struct keeper *k, struct job *j)
{
    k->ops->on_enroll(k->owner, j->ticket, j->answer, j->name, &j->err);
    free_job(j);
}

static void on_wake(struct wake *wake)
{
    struct keeper *k = container_of(wake, struct keeper, wake);
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&k->lock);
    struct policy *fresh = k->fresh;
    k->fresh = NULL;
    uint64_t reread = k->reread_until;
    list_splice(&done, &k->done);
    pthread_mutex_unlock(&k->lock);
    if (fresh) {
        policy_free(k->policy);
        k->policy = fresh;
        k->ops->on_policy(k->owner);
    }
    if (reread > k->told) {
        k->told = reread;
        k->ops->on_reload(k->owner, reread);
    }
    for (struct list *node; (node = list_pop(&done));) {
        pthread_mutex_lock(&k->lock);
        k->waiting--;
        pthread_mutex_unlock(&k->lock);
        deliver(k, list_entry(node, struct job, node));
    }
}

static void on_async(uv_async_t *async)
{
    struct keeper *k = async->data;
    if (k)
        wake_post(k->w, &k->wake);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void init_lock(struct keeper *k)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->work, &attr);
    pthread_condattr_destroy(&attr);
}

static int start_thread(struct keeper *k, struct err *e)
{
    sigset_t all, old;
    k->async = must(calloc(1, sizeof *k->async));
    int got = uv_async_init(&k->w->loop, k->async, on_async);
    if (got < 0) {
        free(k->async);
        k->async = NULL;
        return err_set(e, ERR_FAILED, WHY_INTERNAL, "start the store's thread: %s", uv_strerror(got));
    }
    k->async->data = k;
    uv_unref((uv_handle_t *)k->async);
    sigfillset(&all); // signals are the loop's
    pthread_sigmask(SIG_SETMASK, &all, &old);
    got = pthread_create(&k->thread, NULL, run, k);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (got == 0)
        return 0;
    uv_close((uv_handle_t *)k->async, on_closed);
    k->async = NULL;
    return err_errno(e, got, "start the store's thread");
}

static void free_keeper(struct keeper *k)
{
    free_jobs(&k->pending);
    free_jobs(&k->done);
    policy_free(k->fresh);
    policy_free(k->policy);
    store_close(k->store);
    free(k->own);
    pthread_cond_destroy(&k->work);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

struct keeper *keeper_start(struct worker *w, const char *state, const struct keeper_ops *ops, void *owner,
                            struct err *e)
{
    struct keeper *k = must(calloc(1, sizeof *k));
    *k = (struct keeper){.w = w, .ops = ops, .owner = owner};
    list_init(&k->pending);
    list_init(&k->done);
    wake_init(&k->wake, on_wake);
    init_lock(k);
    k->store = store_open(state, e);
    if (k->store) {
        k->version = store_version(k->store); // before the policy is read: a change in between is seen later
        k->policy = store_policy(k->store, e);
    }
    if (k->policy && start_thread(k, e) == 0)
        return k;
    free_keeper(k);
    return NULL;
}

struct policy *keeper_policy(const struct keeper *k)
{
    return k->policy;
}

// Sets the flag that makes the thread read everything again. Called locked.
static void ask_reread(struct keeper *k)
{
    k->reread = true;
    pthread_cond_signal(&k->work);
}

void keeper_set_own(struct keeper *k, const struct addr *listeners, size_t count)
{
    struct addr *own = must(calloc(count + 1, sizeof *own));
    if (count)
        memcpy(own, listeners, count * sizeof *own);
    pthread_mutex_lock(&k->lock);
    free(k->own);
    k->own = own;
    k->own_count = count;
    k->own_changed = true;
    ask_reread(k);
    pthread_mutex_unlock(&k->lock);
}

void keeper_reload(struct keeper *k, uint64_t ticket)
{
    pthread_mutex_lock(&k->lock);
    if (ticket > k->asked)
        k->asked = ticket;
    ask_reread(k);
    pthread_mutex_unlock(&k->lock);
}

// Takes the job over.
static bool queue(struct keeper *k, struct job *j)
{
    pthread_mutex_lock(&k->lock);
    bool fits = k->waiting < KEEPER_JOBS_MAX;
    if (fits) {
        k->waiting++;
        list_push(&k->pending, &j->node);
        pthread_cond_signal(&k->work);
    }
    pthread_mutex_unlock(&k->lock);
    if (!fits)
        free_job(j);
    return fits;
}

static struct job *new_job(void)
{
    struct job *j = must(calloc(1, sizeof *j));
    list_init(&j->node);
    return j;
}

bool keeper_enroll(struct keeper *k, const uint8_t token[PAIRING_TOKEN], const uint8_t pin[PIN_SIZE], uint64_t ticket)
{
    struct job *j = new_job();
    memcpy(j->token, token, PAIRING_TOKEN);
    memcpy(j->pin, pin, PIN_SIZE);
    j->ticket = ticket;
    return queue(k, j);
}

void keeper_stop(struct keeper *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    k->stop = true;
    pthread_cond_signal(&k->work);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    wake_cancel(&k->wake);
    k->async->data = NULL;
    uv_close((uv_handle_t *)k->async, on_closed);
    free_keeper(k);
}
