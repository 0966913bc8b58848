// SPDX-License-Identifier: Apache-2.0
// Addresses: one TCP connection to each, because a race hides those that are dead.
#include <stdio.h>
#include <stdlib.h>
#include "check/inside.h"
#include "dial/advise.h"
#include "link/tcp.h"

#define ADDRESS_MS 4000

struct address {
    struct probe probe;
    struct finding *f;
    struct link *link;
    struct wake wake;
    struct timer deadline;
    bool of_proxy;
};

static void fini(struct probe *p)
{
    struct address *a = container_of(p, struct address, probe);
    wake_cancel(&a->wake);
    timer_stop(&p->c->w, &a->deadline);
    link_close(a->link);
}

static void on_wake(struct wake *wake)
{
    struct address *a = container_of(wake, struct address, wake);
    struct check *c = a->probe.c;
    enum link_status s = link_open(a->link);
    if (s == LINK_AGAIN)
        return;
    if (s == LINK_OK) {
        finding_end(a->f, CHECK_OK, ADVICE_NONE, c->w.now_ms, "connects");
    } else {
        dial_advise(&a->link->err, a->of_proxy);
        finding_fail(a->f, &a->link->err, c->w.now_ms);
    }
    probe_over(&a->probe);
}

static void on_deadline(struct timer *timer)
{
    struct address *a = container_of(timer, struct address, deadline);
    finding_end(a->f, CHECK_FAILED, a->of_proxy ? ADVICE_PROXY_SILENT : ADVICE_SILENT, a->probe.c->w.now_ms,
                "no answer in %d s: packets vanish", ADDRESS_MS / 1000);
    probe_over(&a->probe);
}

void address_probe(struct check *c, const char *group, const struct addr *to, bool of_proxy)
{
    struct address *a = calloc(1, sizeof(*a));
    char text[ADDR_TEXT_MAX];
    if (!a)
        abort();
    a->of_proxy = of_proxy;
    a->f = report_add(c->report, group, "address", addr_text(to, text), c->w.now_ms);
    wake_init(&a->wake, on_wake);
    timer_init(&a->deadline, on_deadline);
    timer_set(&c->w, &a->deadline, ADDRESS_MS);
    probe_start(&a->probe, c, fini);
    a->link = tcp_dial(&c->w, to, 0);
    link_own(a->link, &a->wake);
    wake_post(&c->w, &a->wake);
}
