// SPDX-License-Identifier: Apache-2.0
#include "link/gss.h"
#include <dlfcn.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LIBRARY "libgssapi_krb5.so.2"

static gss_OID_desc spnego = {6, "\x2b\x06\x01\x05\x05\x02"};
static gss_OID_desc ntlmssp = {10, "\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a"};
static gss_OID_desc nt_service = {10, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04"};
static gss_OID_desc nt_user = {10, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x01"};

struct library {
    void *handle;
    __typeof__(gss_import_name) *import_name;
    __typeof__(gss_release_name) *release_name;
    __typeof__(gss_acquire_cred_with_password) *acquire_cred_with_password;
    __typeof__(gss_release_cred) *release_cred;
    __typeof__(gss_init_sec_context) *init_sec_context;
    __typeof__(gss_delete_sec_context) *delete_sec_context;
    __typeof__(gss_release_buffer) *release_buffer;
    __typeof__(gss_display_status) *display_status;
};

struct gss {
    struct worker *w;
    atomic_int refs; // the owner's, and a thread's
    int news;        // eventfd: the thread is done
    struct watch *watch;
    bool busy; // all below is the thread's then
    void (*on_done)(void *ctx);
    void *ctx;
    bool ntlm;
    char *service, *user, *password;
    struct library lib;
    gss_name_t target;
    gss_cred_id_t cred;
    gss_ctx_id_t context;
    uint8_t *in;
    size_t in_len;
    char *token;
    char error[320];
};

static void wipe(char **text)
{
    if (*text)
        OPENSSL_cleanse(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

static void unref(struct gss *g)
{
    OM_uint32 minor;
    if (atomic_fetch_sub(&g->refs, 1) > 1)
        return;
    if (g->context)
        g->lib.delete_sec_context(&minor, &g->context, GSS_C_NO_BUFFER);
    if (g->cred)
        g->lib.release_cred(&minor, &g->cred);
    if (g->target)
        g->lib.release_name(&minor, &g->target);
    // The library stays: what its mechanisms have loaded does not bear to be taken away from under other threads.
    close(g->news);
    free(g->service);
    wipe(&g->user);
    wipe(&g->password);
    wipe(&g->token);
    free(g->in);
    free(g);
}

// --- on the thread

static bool load(struct gss *g)
{
    struct library *l = &g->lib;
    if (l->handle)
        return true;
    void *h = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!h) {
        snprintf(g->error, sizeof(g->error), "%s needs the library " LIBRARY " (Debian: libgssapi-krb5-2)",
                 g->ntlm ? "NTLM" : "Negotiate");
        return false;
    }
    *(void **)&l->import_name = dlsym(h, "gss_import_name");
    *(void **)&l->release_name = dlsym(h, "gss_release_name");
    *(void **)&l->acquire_cred_with_password = dlsym(h, "gss_acquire_cred_with_password");
    *(void **)&l->release_cred = dlsym(h, "gss_release_cred");
    *(void **)&l->init_sec_context = dlsym(h, "gss_init_sec_context");
    *(void **)&l->delete_sec_context = dlsym(h, "gss_delete_sec_context");
    *(void **)&l->release_buffer = dlsym(h, "gss_release_buffer");
    *(void **)&l->display_status = dlsym(h, "gss_display_status");
    if (!l->import_name || !l->release_name || !l->acquire_cred_with_password || !l->release_cred || !l->init_sec_context ||
        !l->delete_sec_context || !l->release_buffer || !l->display_status) {
        snprintf(g->error, sizeof(g->error), LIBRARY " is of a version that is not known here");
        return false;
    }
    l->handle = h;
    return true;
}

static void fail(struct gss *g, OM_uint32 major, OM_uint32 minor)
{
    OM_uint32 ignored, more = 0;
    gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
    gss_OID mech = g->ntlm ? &ntlmssp : &spnego;
    if (g->ntlm && GSS_ROUTINE_ERROR(major) == GSS_S_BAD_MECH) {
        snprintf(g->error, sizeof(g->error), "NTLM needs the GSSAPI mechanism of gss-ntlmssp (Debian: gss-ntlmssp)");
        return;
    }
    if (!g->ntlm && (GSS_ROUTINE_ERROR(major) == GSS_S_NO_CRED || GSS_ROUTINE_ERROR(major) == GSS_S_UNAVAILABLE)) {
        snprintf(g->error, sizeof(g->error), "Negotiate: there is no Kerberos ticket (kinit gets one)");
        return;
    }
    bool good = (minor && g->lib.display_status(&ignored, minor, GSS_C_MECH_CODE, mech, &more, &text) == GSS_S_COMPLETE &&
                 text.length > 0) ||
                g->lib.display_status(&ignored, major, GSS_C_GSS_CODE, GSS_C_NO_OID, &more, &text) == GSS_S_COMPLETE;
    snprintf(g->error, sizeof(g->error), "%s: %.*s", g->ntlm ? "NTLM" : "Negotiate", good ? (int)text.length : 7,
             good ? (const char *)text.value : "refused");
    g->lib.release_buffer(&ignored, &text);
}

static bool import(struct gss *g, const char *text, gss_OID type, gss_name_t *out)
{
    OM_uint32 minor, major;
    gss_buffer_desc b = {strlen(text), (void *)text};
    major = g->lib.import_name(&minor, &b, type, out);
    if (GSS_ERROR(major))
        fail(g, major, minor);
    return !GSS_ERROR(major);
}

static bool acquire(struct gss *g)
{
    OM_uint32 minor, major, ignored;
    gss_name_t name = GSS_C_NO_NAME;
    gss_OID_set_desc mechs = {1, &ntlmssp};
    gss_buffer_desc password = {strlen(g->password), g->password};
    if (g->cred)
        return true;
    if (!import(g, g->user, &nt_user, &name))
        return false;
    major = g->lib.acquire_cred_with_password(&minor, name, &password, GSS_C_INDEFINITE, &mechs, GSS_C_INITIATE, &g->cred, NULL,
                                              NULL);
    g->lib.release_name(&ignored, &name);
    if (GSS_ERROR(major))
        fail(g, major, minor);
    return !GSS_ERROR(major);
}

static bool encode(struct gss *g, const gss_buffer_desc *out)
{
    if (out->length == 0) {
        snprintf(g->error, sizeof(g->error), "%s: nothing more to say", g->ntlm ? "NTLM" : "Negotiate");
        return false;
    }
    g->token = malloc(out->length / 3 * 4 + 5);
    if (!g->token)
        abort();
    EVP_EncodeBlock((uint8_t *)g->token, out->value, (int)out->length);
    return true;
}

static void step(struct gss *g)
{
    OM_uint32 minor, ignored;
    gss_buffer_desc in = {g->in_len, g->in}, out = GSS_C_EMPTY_BUFFER;
    if (!load(g) || (!g->target && !import(g, g->service, &nt_service, &g->target)) || (g->ntlm && !acquire(g)))
        return;
    // No delegation; the proxy is not asked to prove itself: what matters is sealed inside.
    OM_uint32 major = g->lib.init_sec_context(&minor, g->cred, &g->context, g->target, g->ntlm ? &ntlmssp : &spnego, 0, 0,
                                              GSS_C_NO_CHANNEL_BINDINGS, g->in ? &in : GSS_C_NO_BUFFER, NULL, &out, NULL, NULL);
    if (GSS_ERROR(major))
        fail(g, major, minor);
    else
        encode(g, &out);
    g->lib.release_buffer(&ignored, &out);
}

static void *run(void *arg)
{
    struct gss *g = arg;
    uint64_t one = 1;
    step(g);
    while (write(g->news, &one, sizeof(one)) < 0)
        ;
    unref(g);
    return NULL;
}

// --- on the loop

static void on_news(void *ctx, int events)
{
    struct gss *g = ctx;
    uint64_t count;
    if (read(g->news, &count, sizeof(count)) < 0 || !g->busy)
        return;
    g->busy = false;
    g->on_done(g->ctx); // g may be gone in it
}

struct gss *gss_new(struct worker *w, bool ntlm, const char *host, const char *user, const char *password)
{
    struct gss *g = calloc(1, sizeof(*g));
    if (!g || asprintf(&g->service, "HTTP@%s", host) < 0 || (user && !(g->user = strdup(user))) ||
        (password && !(g->password = strdup(password))))
        abort();
    g->w = w;
    g->ntlm = ntlm;
    atomic_init(&g->refs, 1);
    g->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g->watch = g->news < 0 ? NULL : watch_new(w, g->news, on_news, g);
    if (g->watch)
        watch_want(g->watch, UV_READABLE);
    return g;
}

void gss_free(struct gss *g)
{
    if (!g)
        return;
    watch_free(g->watch);
    g->watch = NULL;
    unref(g);
}

// Without a thread it fails; the news come all the same.
static void start(struct gss *g)
{
    pthread_t thread;
    pthread_attr_t attr;
    uint64_t one = 1;
    atomic_fetch_add(&g->refs, 1);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, run, g) != 0) {
        snprintf(g->error, sizeof(g->error), "no thread for GSSAPI");
        atomic_fetch_sub(&g->refs, 1);
        (void)!write(g->news, &one, sizeof(one));
    }
    pthread_attr_destroy(&attr);
}

void gss_step(struct gss *g, const uint8_t *token, size_t len, void (*on_done)(void *ctx), void *ctx)
{
    free(g->in);
    g->in = NULL;
    g->in_len = len;
    if (token && !(g->in = malloc(len ? len : 1)))
        abort();
    if (token)
        memcpy(g->in, token, len);
    wipe(&g->token);
    g->error[0] = 0;
    g->on_done = on_done;
    g->ctx = ctx;
    g->busy = g->watch != NULL;
    if (g->busy)
        start(g);
    else
        snprintf(g->error, sizeof(g->error), "no descriptor left for GSSAPI");
}

bool gss_is_busy(const struct gss *g) { return g->busy; }

const char *gss_token(const struct gss *g) { return g->token; }

const char *gss_error(const struct gss *g) { return g->error; }
