// SPDX-License-Identifier: Apache-2.0
#include "dial/kit.h"
#include <string.h>
#include "link/tls.h"

void proxy_kit_init(struct proxy_kit *k, const char *ca_file, unsigned schemes)
{
    *k = (struct proxy_kit){.ca_file = ca_file, .schemes = schemes};
    logins_init(&k->logins);
}

void proxy_kit_fini(struct proxy_kit *k)
{
    SSL_CTX_free(k->tls);
    logins_fini(&k->logins);
    memset(k, 0, sizeof(*k));
}

void proxy_kit_forgive(struct proxy_kit *k)
{
    if (k)
        logins_forgive(&k->logins);
}

SSL_CTX *proxy_kit_tls(struct proxy_kit *k, struct err *e)
{
    if (!k->tls)
        k->tls = tls_client_ctx(k->ca_file, e);
    if (!k->tls && k->ca_file)
        err_prefix(e, "--proxy-ca");
    return k->tls;
}

struct login *proxy_kit_login(struct proxy_kit *k, const struct proxy_url *hop)
{
    char where[URL_TEXT_MAX];
    return hop->has_login ? logins_get(&k->logins, proxy_url_where(hop, where), hop->user, hop->password) : NULL;
}
