// SPDX-License-Identifier: Apache-2.0
#include "dial/transport.h"
#include <string.h>

static const char *const names[TRANSPORTS] = {"h1", "h2", "poll"};

const struct transport_list transports_usual = {.of = {TRANSPORT_H1, TRANSPORT_H2, TRANSPORT_POLL}, .count = 3};

const char *transport_name(enum transport t) { return names[t]; }

const char *transport_title(enum transport t)
{
    static const char *const titles[TRANSPORTS] = {
        [TRANSPORT_H1] = "WebSocket over HTTP/1.1",
        [TRANSPORT_H2] = "WebSocket over HTTP/2",
        [TRANSPORT_POLL] = "whole requests (long-poll)",
    };
    return titles[t];
}

bool transport_find(const char *name, size_t len, enum transport *out)
{
    for (size_t i = 0; i < transports_usual.count; i++) {
        const char *known = names[transports_usual.of[i]];
        if (strlen(known) == len && strncmp(known, name, len) == 0) {
            *out = transports_usual.of[i];
            return true;
        }
    }
    return false;
}

bool transport_has(const struct transport_list *l, enum transport t)
{
    for (size_t i = 0; i < l->count; i++) {
        if (l->of[i] == t)
            return true;
    }
    return false;
}

int transport_parse(struct transport_list *out, const char *text, struct err *e)
{
    *out = (struct transport_list){.count = 0};
    for (const char *at = text;; at++) {
        enum transport t;
        size_t len = strcspn(at, ",");
        if (!transport_find(at, len, &t)) {
            char known[32] = "";
            for (size_t i = 0; i < transports_usual.count; i++) {
                strcat(known, i ? ", " : "");
                strcat(known, names[transports_usual.of[i]]);
            }
            return err_set(e, ERR_USAGE, WHY_NONE, "\"%.*s\" is no transport; there is %s", (int)(len < 40 ? len : 40), at, known);
        }
        if (transport_has(out, t))
            return err_set(e, ERR_USAGE, WHY_NONE, "%s is named twice", names[t]);
        out->of[out->count++] = t;
        at += len;
        if (!*at)
            return 0;
    }
}
