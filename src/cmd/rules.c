// SPDX-License-Identifier: Apache-2.0
// Rules of the command line.
#include "cmd/rules.h"
#include <stdio.h>
#include <stdlib.h>

static int add(const struct options *o, const char *flag, enum rule_verb verb, struct rules *out, struct err *e)
{
    size_t n = options_count(o, flag);
    struct rule *list = reallocarray(out->list, out->count + n + 1, sizeof *list);
    if (!list)
        return err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    out->list = list;
    for (size_t i = 0; i < n; i++) {
        const struct option_value *v = options_nth(o, flag, i);
        if (rule_parse(&list[out->count], verb, v->text, e) < 0) {
            err_prefix(e, "%s", v->place);
            return -1;
        }
        out->count++;
    }
    return 0;
}

int rules_parse(const struct options *o, const char *verb, struct rules *out, struct err *e)
{
    char listen[32], offer[32];
    *out = (struct rules){0};
    snprintf(listen, sizeof listen, "%s-listen", verb);
    snprintf(offer, sizeof offer, "%s-offer", verb);
    if (add(o, verb, RULE_ALLOW, out, e) < 0 || add(o, listen, RULE_LISTEN, out, e) < 0 ||
        add(o, offer, RULE_OFFER, out, e) < 0)
        return -1;
    return 0;
}

void rules_fini(struct rules *r)
{
    free(r->list);
    *r = (struct rules){0};
}
