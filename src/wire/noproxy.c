// SPDX-License-Identifier: Apache-2.0
#include "wire/noproxy.h"
#include <string.h>
#include <strings.h>
#include "core/addr.h"
#include "wire/scan.h"

#define ENTRY_MAX 256

struct target {
    char host[ENTRY_MAX]; // without final dot
    struct addr ip;       // len 0: a name
    uint16_t port;
};

static void drop_final_dot(char *host)
{
    size_t n = strlen(host);
    if (n > 1 && host[n - 1] == '.')
        host[n - 1] = 0;
}

// Takes ":port" off the entry. False: the port is another one, or none.
static bool port_fits(char *entry, uint16_t port)
{
    char *colon = entry[0] == '[' ? strstr(entry, "]:") : strchr(entry, ':');
    if (!colon)
        return true;
    if (entry[0] != '[' && strchr(colon + 1, ':')) // a bare IPv6 address
        return true;
    colon += entry[0] == '[';
    struct err e = ERR_INIT;
    uint16_t wanted;
    bool good = scan_port(&(struct scan){"no_proxy", entry, &e}, colon + 1, strlen(colon + 1), false, &wanted) == 0;
    err_fini(&e);
    *colon = 0;
    return good && wanted == port;
}

static bool block_fits(const char *entry, const struct addr *ip)
{
    struct cidr block;
    struct addr plain = *ip;
    addr_unmap(&plain);
    return cidr_parse(&block, entry) && (cidr_has(&block, ip) || cidr_has(&block, &plain));
}

static bool name_fits(char *entry, const char *host)
{
    if (strncmp(entry, "*.", 2) == 0)
        entry++;
    drop_final_dot(entry);
    const char *tail = entry[0] == '.' ? entry + 1 : entry;
    size_t n = strlen(tail), len = strlen(host);
    if (n == 0)
        return false;
    if (len == n)
        return strcasecmp(host, tail) == 0;
    return len > n && host[len - n - 1] == '.' && strcasecmp(host + len - n, tail) == 0;
}

static bool entry_fits(char *entry, const struct target *t)
{
    if (strcmp(entry, "*") == 0)
        return true;
    if (!port_fits(entry, t->port))
        return false;
    return t->ip.len ? block_fits(entry, &t->ip) : name_fits(entry, t->host);
}

bool noproxy_has(const char *list, const char *host, uint16_t port)
{
    struct target t = {.port = port};
    if (!list || !scan_copy(t.host, sizeof t.host, host, strlen(host)))
        return false;
    drop_final_dot(t.host);
    addr_parse_ip(&t.ip, t.host, port);
    for (const char *at = list; *at;) {
        char entry[ENTRY_MAX];
        size_t n = strcspn(at, ", \t\r\n");
        if (n && scan_copy(entry, sizeof entry, at, n) && entry_fits(entry, &t))
            return true;
        at += n;
        at += strspn(at, ", \t\r\n");
    }
    return false;
}
