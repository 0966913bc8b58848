// SPDX-License-Identifier: Apache-2.0
// `culvert conf_proxy`: saves the proxies that the agents of this state folder shall use, has the running ones use them now, and says how
// that went.
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cmd/command.h"
#include "cmd/connect.h"
#include "control/control.h"
#include "trust/saved_proxy.h"

#define WAIT_MS 15000 // for the agents to stand on the new way
#define LOOK_MS 100

static const struct option *const tables[] = {NULL};

static int show(const struct saved_proxy *s)
{
    char text[URL_PAC_MAX + 8];
    for (size_t i = 0; i < s->count; i++)
        puts(proxy_url_text(&s->of[i], text));
    if (s->count == 0)
        puts("none");
    return 0;
}

// The words of argv as lines, or stdin.
static int read_words(struct options *o, struct saved_proxy *s, struct err *e)
{
    char text[PAIRING_PROXIES * 2048] = "";
    int rc = 0;
    if (o->arg_count == 1 && strcmp(o->args[0], "-") == 0) {
        rc = secret_read("-", text, sizeof text, e);
    } else {
        for (int i = 0, n = 0; i < o->arg_count && rc == 0; i++) {
            n += snprintf(text + n, sizeof text - (size_t)n, "%s\n", o->args[i]);
            if ((size_t)n >= sizeof text)
                rc = err_set(e, ERR_USAGE, WHY_NONE, "conf_proxy: longer than a proxy can be");
        }
    }
    if (rc == 0)
        rc = saved_proxy_parse(s, text, "conf_proxy", e);
    OPENSSL_cleanse(text, sizeof text);
    if (rc == 0 && s->count == 0)
        rc = err_set(e, ERR_USAGE, WHY_NONE, "conf_proxy: no proxy is named; none clears what is saved");
    for (size_t i = 0; i < s->count && rc == 0; i++)
        rc = connect_ask_password(&s->of[i], "conf_proxy", e);
    if (rc == 0 && s->count == 1 && s->of[0].kind == PROXY_NONE)
        s->count = 0;
    return rc;
}

// --- what the running agents make of it

static json_t *ask(const char *state, const char *what, struct err *e)
{
    json_t *request = json_pack("{s:s}", "ask", what), *answers = NULL;
    int rc = control_ask(state, request, &answers, e);
    json_decref(request);
    return rc == 0 ? answers : NULL;
}

static bool is_agent(const json_t *one)
{
    const char *role = json_string_value(json_object_get(one, "role"));
    return role && strcmp(role, "agent") == 0;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static bool decided(const json_t *answers)
{
    size_t i;
    const json_t *one;
    json_array_foreach(answers, i, one)
    {
        const json_t *proxy = json_object_get(json_object_get(one, "answer"), "proxy");
        if (is_agent(one) && proxy && !json_is_true(json_object_get(proxy, "settled")) &&
            !json_is_true(json_object_get(proxy, "failed")))
            return false;
    }
    return true;
}

// One agent; false: it is not there yet.
static bool tell(const json_t *one, bool told)
{
    const json_t *answer = json_object_get(one, "answer"), *proxy = json_object_get(answer, "proxy");
    const char *error = text_of(proxy, "error"), *used = text_of(proxy, "used"), *from = text_of(proxy, "from");
    int pid = (int)json_integer_value(json_object_get(one, "pid"));
    if (*error == 0)
        error = text_of(json_object_get(answer, "carrier"), "last_error");
    if (told)
        printf("agent %d: was started with --proxy, which goes first\n", pid);
    else if (json_is_true(json_object_get(proxy, "settled")) && *used)
        printf("agent %d: connected %s%s%s\n", pid, used, *from ? " from " : "", from);
    else
        printf("agent %d: not connected by it yet: %s\n", pid, *error ? error : text_of(one, "error"));
    return told || (json_is_true(json_object_get(proxy, "settled")) && *used);
}

static bool was_told(const json_t *answers, const json_t *of)
{
    size_t i;
    const json_t *one;
    json_array_foreach(answers, i, one)
    {
        if (json_equal(json_object_get(one, "pid"), json_object_get(of, "pid")))
            return json_is_true(json_object_get(json_object_get(one, "answer"), "told"));
    }
    return false;
}

static int apply(const char *state, struct err *e)
{
    json_t *applied = ask(state, "proxy", e), *now = NULL;
    size_t i, agents = 0, behind = 0;
    json_t *one;
    for (unsigned waited = 0; applied && waited < WAIT_MS; waited += LOOK_MS) {
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000l}, NULL);
        json_decref(now);
        now = ask(state, "status", e);
        if (!now || decided(now))
            break;
    }
    json_array_foreach(now, i, one)
    {
        agents += is_agent(one);
        behind += is_agent(one) && !tell(one, was_told(applied, one));
    }
    json_decref(applied);
    json_decref(now);
    if (err_is(e))
        return -1;
    if (agents == 0)
        puts("saved; no agent is running with this state folder");
    return behind ? ERR_UNREACHED : 0;
}

static int run(struct options *o, struct err *e)
{
    char *state = state_folder(o, e);
    struct saved_proxy *s = calloc(1, sizeof *s);
    int rc = state && s ? 0 : -1;
    if (rc == 0 && o->arg_count == 0) {
        rc = saved_proxy_read(s, state, e);
        if (rc == 0)
            rc = show(s);
    } else if (rc == 0) {
        rc = read_words(o, s, e);
        if (rc == 0)
            rc = saved_proxy_write(s, state, e);
        if (rc == 0)
            rc = apply(state, e);
    }
    if (s)
        saved_proxy_wipe(s);
    free(s);
    free(state);
    return rc;
}

const struct command command_conf_proxy = {
    .name = "conf_proxy",
    .section = "agent",
    .usage = "[PROXY… | none | -]",
    .args_min = 0,
    .args_max = PAIRING_PROXIES,
    .summary = "save the proxy for agents and use it now; without argument: show it",
    .about = "Saves what agents of this state folder put before the environment and the system's settings (a --proxy flag still\n"
             "goes first), readable by its owner only, and has the running ones use it at once: streams stay, since the new\n"
             "connection stands before the old one ends. Several PROXY are a chain, in order. none clears what is saved; auto\n"
             "looks in the environment and the system's settings even if the invitation names a proxy; - reads it from stdin,\n"
             "one a line, so that a password is in no process list. Exit status 3: saved, but an agent cannot connect by it.",
    .examples = "  culvert conf_proxy http://proxy.corp:3128\n"
                "  culvert conf_proxy - < proxy.txt                  one with user:password\n"
                "  culvert conf_proxy pac+http://wpad.corp/proxy.pac\n"
                "  culvert conf_proxy none\n",
    .tables = tables,
    .run = run,
};
