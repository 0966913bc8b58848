// SPDX-License-Identifier: Apache-2.0
#include "link/auth_inside.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"

static const struct auth_scheme *const schemes[] = {&auth_negotiate, &auth_digest, &auth_ntlm, &auth_basic}; // strongest first
#define CHALLENGES "Proxy-Authenticate"
#define SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

void auth_wipe(char **text)
{
    if (*text)
        OPENSSL_cleanse(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void auth_set_value(struct auth *a, char *value)
{
    auth_wipe(&a->value);
    a->value = value;
}

struct auth *auth_new(struct worker *w, const struct auth_options *o)
{
    struct auth *a = calloc(1, sizeof(*a));
    if (!a || !(a->host = strdup(o->host)))
        abort();
    a->w = w;
    a->login = o->login;
    a->allowed = o->allowed ? o->allowed : AUTH_ALL;
    a->encrypted = o->encrypted;
    // What it took the last time is said without being asked; of Basic also where nothing else is allowed.
    unsigned first = o->login && o->login->state == LOGIN_GOOD ? o->login->scheme : 0;
    if (a->login && ((first & a->allowed) == AUTH_BASIC || a->allowed == AUTH_BASIC))
        a->scheme = &auth_basic;
    return a;
}

static void drop_scheme(struct auth *a)
{
    if (a->scheme && a->scheme->reset)
        a->scheme->reset(a);
    free(a->state);
    a->state = NULL;
    a->scheme = NULL;
    a->sent = a->presented = false;
}

// What the last 407 offered, kept for the case that the strongest turns out to be impossible.
struct offered {
    struct http_head head;
    char text[HTTP_HEAD_MAX];
};

static void keep(struct auth *a, const struct http_head *h)
{
    struct offered *o = a->offered;
    size_t at = 0;
    if (!o && !(o = a->offered = malloc(sizeof(*o))))
        abort();
    o->head = (struct http_head){.status = 407};
    for (size_t i = 0; i < h->count; i++) {
        struct http_text v = h->headers[i].value;
        if (!http_text_is_nocase(h->headers[i].name, CHALLENGES) || v.len > sizeof(o->text) - at)
            continue;
        memcpy(o->text + at, v.at, v.len);
        o->head.headers[o->head.count++] =
            (struct http_header){{CHALLENGES, sizeof(CHALLENGES) - 1}, {o->text + at, v.len}};
        at += v.len;
    }
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    auth_end(a);
    drop_scheme(a);
    auth_wipe(&a->value);
    auth_wipe(&a->line);
    free(a->offered);
    free(a->host);
    free(a);
}

void auth_begin(struct auth *a, struct link *l)
{
    auth_end(a);
    a->link = l;
    login_join(&a->turn, l, a->login);
}

void auth_end(struct auth *a)
{
    login_leave(&a->turn);
    if (a->link && a->scheme && a->scheme->connection) {
        a->scheme->reset(a);
        a->sent = a->presented = false;
    }
    a->link = NULL;
}

// --- requests

static enum link_status present(struct auth *a, struct err *e)
{
    if (!a->scheme->needs_login)
        return LINK_OK;
    enum link_status s = login_take(&a->turn);
    if (s == LINK_FAILED) {
        err_set(e, ERR_UNREACHED, WHY_POLICY, "the proxy refused user or password before; correct them, then start again or send HUP");
        err_advised(e, ADVICE_PROXY_PASSWORD);
    }
    return s;
}

// --- answers

static const struct auth_scheme *find(const struct challenge *c)
{
    for (size_t i = 0; i < SCHEMES; i++)
        if (http_text_is_nocase(c->scheme, schemes[i]->name))
            return schemes[i];
    return NULL;
}

// Walks all challenges of all headers. Stops when `each` returns true.
typedef bool each_fn(struct auth *a, const struct challenge *c, void *ctx);
static bool walk(struct auth *a, const struct http_head *h, each_fn *each, void *ctx)
{
    for (size_t i = 0; i < h->count; i++) {
        struct http_text list = h->headers[i].value;
        struct challenge c;
        if (!http_text_is_nocase(h->headers[i].name, CHALLENGES))
            continue;
        while (challenge_next(&list, &c))
            if (each(a, &c, ctx))
                return true;
    }
    return false;
}

struct offers {
    char text[160]; // "Basic, NTLM"
    size_t len;
    unsigned bits;
};

static bool note_offer(struct auth *a, const struct challenge *c, void *ctx)
{
    struct offers *o = ctx;
    const struct auth_scheme *s = find(c);
    char word[32];
    log_escape(word, sizeof(word), c->scheme.at, c->scheme.len < 24 ? c->scheme.len : 24);
    if (s && (o->bits & s->bit))
        return false; // Digest comes once an algorithm
    o->bits |= s ? s->bit : 0;
    int n = snprintf(o->text + o->len, sizeof(o->text) - o->len, "%s%s", o->len ? ", " : "", word);
    if (n > 0 && (size_t)n < sizeof(o->text) - o->len)
        o->len += (size_t)n;
    else
        o->text[o->len] = 0;
    return false;
}

static bool asks_for_more(struct auth *a, const struct challenge *c, void *ctx)
{
    return find(c) == a->scheme && a->scheme->more(a, c);
}

struct taking {
    const struct auth_scheme *scheme;
    bool taken;
    const char *why;
};

static bool take(struct auth *a, const struct challenge *c, void *ctx)
{
    struct taking *t = ctx;
    if (find(c) == t->scheme)
        t->taken |= t->scheme->take(a, c, &t->why);
    return false;
}

static bool in_the_clear(const struct auth *a, const struct auth_scheme *s, unsigned offered)
{
    return s->bit == AUTH_BASIC && !a->encrypted && (offered & a->allowed & ~(unsigned)AUTH_BASIC);
}

static bool choose(struct auth *a, const struct http_head *h, unsigned offered)
{
    drop_scheme(a);
    for (size_t i = 0; i < SCHEMES; i++) {
        struct taking t = {.scheme = schemes[i]};
        if (!(schemes[i]->bit & offered & a->allowed & ~a->tried) || (schemes[i]->needs_login && !a->login) ||
            in_the_clear(a, schemes[i], offered))
            continue;
        walk(a, h, take, &t);
        if (t.taken) {
            a->scheme = schemes[i];
            return true;
        }
        if (t.why && !a->reason[0])
            snprintf(a->reason, sizeof(a->reason), "%s", t.why);
        free(a->state); // only of a scheme that keeps plain memory in take
        a->state = NULL;
    }
    return false;
}

static void list_allowed(const struct auth *a, char *out, size_t size)
{
    static const char *const names[] = {"basic", "ntlm", "digest", "negotiate"};
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < 4; i++)
        if (a->allowed & 1u << i)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? "," : "", names[i]);
}

// Why none of what is offered will do, and what to do.
static void explain(const struct auth *a, const struct offers *o, char *out, size_t size)
{
    char allowed[48];
    const char *login = "name user and password in its URL or in the file of --proxy-login";
    list_allowed(a, allowed, sizeof(allowed));
    if (!o->len)
        snprintf(out, size, "it offers no way to authenticate");
    else if (!o->bits)
        snprintf(out, size, "none of that is known here");
    else if (!(o->bits & a->allowed))
        snprintf(out, size, "--proxy-auth allows %s only", allowed);
    else if (a->reason[0] && a->login && (o->bits & a->allowed & AUTH_BASIC))
        snprintf(out, size, "%s; Basic would show the password to everybody on the way: if you accept that, say --proxy-auth basic",
                 a->reason);
    else if (a->reason[0] && !a->login && (o->bits & a->allowed & ~(unsigned)AUTH_NEGOTIATE))
        snprintf(out, size, "%s; or %s", a->reason, login);
    else if (a->reason[0])
        snprintf(out, size, "%s", a->reason);
    else
        snprintf(out, size, "%s", a->login ? "nothing of that can be used here" : login);
}

static bool refuse(struct err *e, const struct offers *o, enum advice advice, const char *what, const char *remedy)
{
    err_set(e, ERR_UNREACHED, WHY_POLICY, "proxy answered 407 (%s%s offered): %s", what, o->len ? o->text : "nothing", remedy);
    err_advised(e, advice);
    return false;
}

static enum advice advice_of(const struct auth *a, const struct offers *o)
{
    return a->login || !(o->bits & a->allowed) ? ADVICE_PROXY_SCHEME : ADVICE_PROXY_LOGIN;
}

bool auth_challenged(struct auth *a, const struct http_head *h, struct err *e)
{
    struct offers o = {0};
    char why[640];
    walk(a, h, note_offer, &o);
    keep(a, h);
    if (a->rounds >= AUTH_ROUNDS_MAX)
        return refuse(e, &o, ADVICE_PROXY_PASSWORD, "", "it asks again and again");
    if (a->sent && walk(a, h, asks_for_more, NULL))
        return true;
    if (a->sent) {
        a->tried |= a->scheme->bit;
        if (a->presented && a->scheme->needs_login && (o.bits & a->scheme->bit)) { // else nobody looked at it
            login_told(&a->turn, false);
            return refuse(e, &o, ADVICE_PROXY_PASSWORD, "user or password refused; ", "correct them; they are not tried again until then");
        }
        snprintf(a->reason, sizeof(a->reason), "its %s was tried and refused", a->scheme->name);
    }
    if (choose(a, h, o.bits))
        return true;
    explain(a, &o, why, sizeof(why));
    return refuse(e, &o, advice_of(a, &o), "", why);
}

// The chosen scheme failed before anything of it was sent.
static bool next_best(struct auth *a, struct err *e)
{
    struct offers o = {0};
    char why[640];
    if (!a->offered)
        return false;
    a->tried |= a->scheme->bit;
    if (!a->reason[0])
        snprintf(a->reason, sizeof(a->reason), "%s", err_text(e));
    err_fini(e);
    walk(a, &a->offered->head, note_offer, &o);
    if (choose(a, &a->offered->head, o.bits))
        return true;
    explain(a, &o, why, sizeof(why));
    return refuse(e, &o, advice_of(a, &o), "", why);
}

enum link_status auth_line(struct auth *a, const char *target, const char **line, struct err *e)
{
    enum link_status s;
    *line = "";
    if (!a->scheme) {
        if (a->login && a->login->state == LOGIN_REFUSED) { // not even a question: its answer would be the same
            err_set(e, ERR_UNREACHED, WHY_POLICY,
                    "the proxy refused user or password before; correct them, then start again or send HUP");
            err_advised(e, ADVICE_PROXY_PASSWORD);
            return LINK_FAILED;
        }
        a->rounds++;
        return LINK_OK;
    }
    for (;;) {
        if ((s = present(a, e)) != LINK_OK)
            return s;
        if ((s = a->scheme->answer(a, target, e)) != LINK_FAILED || a->sent)
            break;
        if (!next_best(a, e)) // impossible here: no ticket, no library
            return LINK_FAILED;
    }
    if (s != LINK_OK)
        return s;
    auth_wipe(&a->line);
    if (asprintf(&a->line, "Proxy-Authorization: %s\r\n", a->value) < 0)
        abort();
    auth_wipe(&a->value);
    a->sent = true;
    a->rounds++;
    *line = a->line;
    return LINK_OK;
}

bool auth_stays(const struct auth *a) { return a->scheme && a->scheme->connection && a->sent; }

void auth_accepted(struct auth *a)
{
    if (a->presented && a->scheme->needs_login) {
        login_told(&a->turn, true);
        a->login->scheme = a->scheme->bit;
    }
}
