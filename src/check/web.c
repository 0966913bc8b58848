// SPDX-License-Identifier: Apache-2.0
// The outer TLS of a way, and who really ends it; and a plain request over it, whose answer tells of portals and the time.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/inside.h"

struct web {
    struct probe probe;
    struct check_way *way;
    struct trial trial;
    struct ask ask;
    struct finding *f; // of the plain request on port 80
};

static void fini(struct probe *p)
{
    struct web *b = container_of(p, struct web, probe);
    ask_stop(&b->ask);
    trial_stop(&b->trial);
}

static void say_ms(char *out, size_t size, uint64_t us) { snprintf(out, size, "%llu ms", (unsigned long long)(us + 500) / 1000); }

static void request(const struct check *c, const char *path, char *out, size_t size)
{
    snprintf(out, size, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: culvert/" CULVERT_VERSION "\r\nAccept: */*\r\n%sConnection: close\r\n\r\n",
             path, c->host, c->o->headers ? c->o->headers : "");
}

// "https://portal.example/login" leads away from the relay.
static bool leads_away(const struct check *c, const char *location)
{
    const char *at = strstr(location, "://");
    if (!at)
        return false;
    at += 3;
    size_t len = strcspn(at, ":/?#");
    return len != strlen(c->name) || strncasecmp(at, c->name, len) != 0;
}

static bool is_portal(const struct check *c, const struct answer *a)
{
    return a->status == 511 || (a->status >= 300 && a->status < 400 && leads_away(c, a->location));
}

static void end_web(struct finding *f, struct check *c, const struct answer *a)
{
    char text[512];
    answer_text(a, text, sizeof(text));
    finding_more(f, "status", json_integer(a->status));
    if (is_portal(c, a))
        finding_end(f, CHECK_REFUSED, ADVICE_PORTAL, c->w.now_ms, "%s%s%s", text, a->location[0] ? ", leads to " : "", a->location);
    else
        finding_end(f, CHECK_OK, ADVICE_NONE, c->w.now_ms, "%s", text);
}

static void on_asked(struct ask *a, const struct err *err)
{
    struct web *b = container_of(a, struct web, ask);
    struct check *c = b->probe.c;
    char of[200];
    if (err) {
        finding_fail(b->way->web, err, c->w.now_ms);
    } else {
        end_web(b->way->web, c, &a->answer);
        snprintf(of, sizeof(of), "the answer of the relay's side");
        check_note_date(c, &a->answer, of);
    }
    probe_over(&b->probe);
}

static void end_tls(struct check_way *way, const struct link_facts *f)
{
    struct check *c = way->c;
    snprintf(way->issuer, sizeof(way->issuer), "%s", f->tls_issuer);
    finding_more(way->tls, "version", json_string(f->tls_version));
    finding_more(way->tls, "cipher", json_string(f->tls_cipher));
    finding_more(way->tls, "issuer", json_string(f->tls_issuer));
    finding_more(way->tls, "verified", json_boolean(f->outer_trusted));
    if (f->outer_trusted)
        finding_end(way->tls, CHECK_OK, ADVICE_NONE, c->w.now_ms, "%s, certificate verified, issuer %s", f->tls_version, f->tls_issuer);
    else if (c->o->outer_report)
        finding_end(way->tls, CHECK_OK, ADVICE_NONE, c->w.now_ms, "%s, certificate not trusted, which is only reported: %s", f->tls_version,
                    f->outer_reason);
    else
        finding_end(way->tls, CHECK_REFUSED, f->outer_advice, c->w.now_ms, "%s, certificate not trusted: %s", f->tls_version, f->outer_reason);
}

static void end_connect(struct check_way *way, const struct trial *t)
{
    char tcp[32], all[32];
    say_ms(tcp, sizeof(tcp), t->connected_us - t->began_us);
    say_ms(all, sizeof(all), t->passed_us - t->began_us);
    if (way->route.count > 0)
        finding_end(way->connect, CHECK_OK, ADVICE_NONE, way->c->w.now_ms, "open in %s (the proxy's TCP connection in %s)", all, tcp);
    else
        finding_end(way->connect, CHECK_OK, ADVICE_NONE, way->c->w.now_ms, "open in %s", all);
    way->connect->took_ms = (t->passed_us - t->began_us) / 1000;
}

static void failed(struct web *b, const struct err *err)
{
    struct check_way *way = b->way;
    struct check *c = way->c;
    err_copy(&way->err, err);
    if (b->trial.stage != TRIAL_TLS) {
        finding_fail(way->connect, err, c->w.now_ms);
        return;
    }
    end_connect(way, &b->trial);
    way->tls = report_add(c->report, way->group, "tls", "TLS", b->trial.passed_us / 1000);
    finding_fail(way->tls, err, c->w.now_ms);
    way->holed = err->why == WHY_TIMEOUT;
    if (way->holed) // small segments may do
        check_way_stands(way);
}

static void on_open(struct trial *t, const struct err *err)
{
    struct web *b = container_of(t, struct web, trial);
    struct check_way *way = b->way;
    struct check *c = way->c;
    char text[HTTP_HEAD_MAX / 2];
    if (err) {
        failed(b, err);
        probe_over(&b->probe);
        return;
    }
    end_connect(way, t);
    way->secured = true;
    if (c->o->relay->tls) {
        way->tls = report_add(c->report, way->group, "tls", "TLS", t->passed_us / 1000);
        end_tls(way, t->top->facts);
    }
    way->web = report_add(c->report, way->group, "web", "plain request", c->w.now_ms);
    request(c, c->o->relay->path, text, sizeof(text));
    ask_start(&b->ask, t->top, text, NULL, on_asked);
    check_way_stands(way);
}

static struct web *start(struct check *c)
{
    struct web *b = calloc(1, sizeof(*b));
    if (!b)
        abort();
    probe_start(&b->probe, c, fini);
    return b;
}

void web_probe(struct check_way *way)
{
    struct check *c = way->c;
    struct web *b = start(c);
    const struct relay_url *relay = c->o->relay;
    b->way = way;
    way->connect = report_add(c->report, way->group, "connect", "connection", c->w.now_ms);
    trial_start(&b->trial, &c->w, c->resolver,
                &(struct trial_options){.hubs = &c->hubs, .route = &way->route, .kit = c->o->kit, .host = relay->host, .port = relay->port,
                                        .tls = relay->tls ? c->tls : NULL, .name = c->name, .sni = c->o->sni, .report = true,
                                        .outer = true},
                on_open);
}

// Port 80 -----------------------------------------------------------------------------------------------------------

static void on_portal_asked(struct ask *a, const struct err *err)
{
    struct web *b = container_of(a, struct web, ask);
    struct check *c = b->probe.c;
    if (err)
        finding_end(b->f, CHECK_SKIPPED, ADVICE_NONE, c->w.now_ms, "no answer that tells anything");
    else
        end_web(b->f, c, &a->answer);
    probe_over(&b->probe);
}

static void on_portal_open(struct trial *t, const struct err *err)
{
    struct web *b = container_of(t, struct web, trial);
    char text[HTTP_HEAD_MAX / 2];
    if (err) {
        finding_end(b->f, CHECK_SKIPPED, ADVICE_NONE, t->w->now_ms, "nothing answers on port 80");
        probe_over(&b->probe);
        return;
    }
    request(b->probe.c, "/", text, sizeof(text));
    ask_start(&b->ask, t->top, text, NULL, on_portal_asked);
}

// What a person's network does to a first plain request: portals answer in the place of anybody.
void portal_probe(struct check *c)
{
    struct web *b = start(c);
    b->f = report_add(c->report, "network", "portal", "http:// request", c->w.now_ms);
    trial_start(&b->trial, &c->w, c->resolver, &(struct trial_options){.hubs = &c->hubs, .host = c->o->relay->host, .port = 80}, on_portal_open);
}
