// SPDX-License-Identifier: Apache-2.0
// `culvert cert`: the relay's web certificate.
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"
#include "trust/cert.h"
#include "trust/file.h"

static const struct option own_options[] = {
    {"host", 0, "NAME", OPT_MANY | OPT_ARGV,
     "a name or address the certificate is for; the first goes into invitations"},
    {"days", 0, "N", OPT_ARGV, "selfsigned: how long it is good; default 90"},
    {"out", 0, "FILE", OPT_ARGV, "request: write it there instead of to stdout"},
    {"json", 0, NULL, OPT_ARGV, "show: as JSON"},
    {NULL},
};
static const struct option *const tables[] = {own_options, NULL};

struct cert_call {
    struct options *o;
    const char *state;
    const char *hosts[CERT_HOSTS_MAX];
    size_t host_count;
};

static int need_hosts(struct cert_call *c, struct err *e)
{
    c->host_count = options_count(c->o, "host");
    if (!c->host_count)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert cert %s: --host NAME is missing", c->o->args[0]);
    if (c->host_count > CERT_HOSTS_MAX)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert cert: at most %d hosts", CERT_HOSTS_MAX);
    for (size_t i = 0; i < c->host_count; i++)
        c->hosts[i] = options_nth(c->o, "host", i)->text;
    return 0;
}

static int selfsigned(struct cert_call *c, struct err *e)
{
    uint64_t days = 90;
    if (need_hosts(c, e) < 0 || options_number(c->o, "days", 1, CERT_DAYS_MAX, &days, e) < 0 ||
        cert_selfsigned(c->state, c->hosts, c->host_count, (unsigned)days, e) < 0)
        return -1;
    printf("installed a self-signed certificate for %s%s in %s; HUP tells a running relay\n", c->hosts[0],
           c->host_count > 1 ? " and others" : "", c->state);
    return 0;
}

static int request(struct cert_call *c, struct err *e)
{
    char *pem = NULL;
    const char *out = options_get(c->o, "out");
    if (need_hosts(c, e) < 0 || cert_request(c->state, c->hosts, c->host_count, &pem, e) < 0)
        return -1;
    int rc = out ? file_write(out, pem, strlen(pem), 0644, e) : 0;
    if (!out)
        fputs(pem, stdout);
    free(pem);
    return rc;
}

static char *read_stdin(size_t *len, struct err *e)
{
    size_t cap = FILE_SECRET_MAX;
    char *data = malloc(cap + 1);
    *len = data ? fread(data, 1, cap + 1, stdin) : 0;
    if (data && !ferror(stdin) && *len <= cap) {
        data[*len] = 0;
        return data;
    }
    free(data);
    err_set(e, ERR_FAILED, WHY_NONE, "standard input: cannot be read, or is longer than a certificate can be");
    return NULL;
}

static int install(struct cert_call *c, struct err *e)
{
    char *pem = NULL;
    size_t len = 0;
    if (c->o->arg_count < 2)
        return err_set(e, ERR_USAGE, WHY_NONE, "culvert cert install: FILE is missing (- is stdin)");
    if (!strcmp(c->o->args[1], "-"))
        pem = read_stdin(&len, e);
    else if (file_read(c->o->args[1], false, &pem, &len, e) < 0)
        return -1;
    int rc = pem ? cert_install(c->state, pem, len, e) : -1;
    file_wipe(pem, len);
    if (rc == 0)
        printf("installed in %s; HUP tells a running relay\n", c->state);
    return rc;
}

static int show(struct cert_call *c, struct err *e)
{
    char *path = c->o->arg_count > 1 ? strdup(c->o->args[1]) : file_path(c->state, CERT_FILE);
    int rc = path ? cert_show(path, options_has(c->o, "json"), stdout, e) : -1;
    free(path);
    return rc;
}

static int run(struct options *o, struct err *e)
{
    static const struct {
        const char *name;
        int args_max;
        int (*fn)(struct cert_call *c, struct err *e);
    } verbs[] = {{"selfsigned", 1, selfsigned}, {"request", 1, request}, {"install", 2, install}, {"show", 2, show}};
    char *state = NULL;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(o->args[0], verbs[i].name))
            continue;
        if (o->arg_count > verbs[i].args_max)
            return err_set(e, ERR_USAGE, WHY_NONE, "culvert cert %s: \"%.60s\" is one argument too many", o->args[0],
                           o->args[verbs[i].args_max]);
        state = state_folder(o, e);
        struct cert_call c = {.o = o, .state = state};
        int rc = state ? verbs[i].fn(&c, e) : -1;
        free(state);
        return rc;
    }
    return err_set(e, ERR_USAGE, WHY_NONE, "culvert cert: \"%.60s\" is none of selfsigned, request, install and show",
                   o->args[0]);
}

const struct command command_cert = {
    .name = "cert",
    .section = "relay",
    .usage = "selfsigned | request | install FILE|- | show [FILE]",
    .args_min = 1,
    .args_max = 2,
    .summary = "make, ask for, install or show the relay's web certificate",
    .about =
        "The certificate that callers of the HTTPS port see. It lives in the state folder (web.crt, web.key). Agents\n"
        "trust the relay by its own key besides; where the certificate is self-signed, invitations say outer=report,\n"
        "and the relay's key alone decides.",
    .examples = "  culvert cert selfsigned --host relay.example --host 192.0.2.1\n"
                "  culvert cert request --host relay.example > relay.csr     have it signed, then:\n"
                "  culvert cert install relay.pem && kill -HUP RELAY_PID\n"
                "  culvert cert show\n",
    .tables = tables,
    .run = run,
};
