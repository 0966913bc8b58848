// SPDX-License-Identifier: Apache-2.0
#include "forward/entry.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "core/log.h"
#include "forward/conduit.h"
#include "forward/inside.h"

static void bury(struct grave *g)
{
    struct entry *en = container_of(g, struct entry, grave);
    free(en->dest);
    free(en->socks);
    free(en->buckets);
    free(en);
}

static void on_accept(void *owner, struct link *link, const struct addr *peer)
{
    struct entry *en = owner;
    struct frame_open open = {.origin = *peer};
    struct session *s = en->o.on_caller(en->o.owner, &open);
    if (!s) {
        en->turned_away++;
        link_close(link);
        return;
    }
    en->callers++;
    conduit_to_stream(en->fw, &(struct conduit_ask){.kind = en->o.kind, .caller = link, .origin = *peer,
                                                    .dest = en->dest}, s, &open);
}

static int start(struct entry *en, struct err *e)
{
    if (en->o.udp)
        return entry_udp_open(en, e);
    en->listener = listener_open(en->fw->w, &(struct listen_options){.at = en->o.at, .count = en->o.count,
                                                                     .dual = en->o.dual, .on_accept = on_accept,
                                                                     .owner = en}, e);
    return en->listener ? 0 : -1;
}

struct entry *entry_open(struct forward *fw, const struct entry_options *o, struct err *e)
{
    struct entry *en = calloc(1, sizeof(*en));
    if (!en)
        abort();
    en->fw = fw;
    en->o = *o;
    en->dest = strdup(o->dest ? o->dest : "");
    en->flows_max = o->flows_max ? o->flows_max : ENTRY_FLOWS_MAX;
    list_init(&en->node);
    if (start(en, e) < 0) {
        worker_bury(fw->w, &en->grave, bury);
        return NULL;
    }
    en->o.at = NULL;
    list_push(&fw->entries, &en->node);
    return en;
}

void entry_close(struct entry *en)
{
    if (!en || en->closed)
        return;
    en->closed = true;
    listener_close(en->listener);
    entry_udp_close(en);
    list_del(&en->node);
    worker_bury(en->fw->w, &en->grave, bury);
}

const struct addr *entry_addr(const struct entry *en, size_t i)
{
    return en->o.udp ? entry_udp_addr(en, i) : listener_addr(en->listener, i);
}

json_t *entry_counts(const struct entry *en)
{
    uint64_t away = en->turned_away, dropped = en->dropped + entry_udp_unsent(en);
    if (en->listener)
        away += listener_stats(en->listener)->turned_away;
    return json_pack("{s:I, s:I, s:I}", "callers", (json_int_t)en->callers, "turned_away", (json_int_t)away,
                     "packets_dropped", (json_int_t)dropped);
}
