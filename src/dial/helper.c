// SPDX-License-Identifier: Apache-2.0
#include "dial/helper.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "wire/found.h"

#define ASK_OUT_MAX 65536 // bytes that libproxy says in a step
#define LINE_TEXT_MAX 1900
#define WPAD_URL "http://wpad/wpad.dat" // in the search domain, as libproxy looks for it

struct request {
    char text[HELPER_REQUEST_MAX];
    const char *url, *pac, *ca;
};

// One line of the answer; what would end it early becomes a blank.
__attribute__((format(printf, 2, 3))) static void say(const char *word, const char *fmt, ...)
{
    char text[LINE_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *at = text; *at; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    printf("%s %s\n", word, text);
    fflush(stdout);
}

static bool read_request(struct request *r)
{
    size_t len = 0;
    ssize_t n;
    while (len < sizeof r->text - 1 && (n = read(STDIN_FILENO, r->text + len, sizeof r->text - 1 - len)) != 0) {
        if (n < 0 && errno != EINTR)
            return false;
        len += n > 0 ? (size_t)n : 0;
    }
    r->text[len] = 0;
    char *save = NULL;
    for (char *line = strtok_r(r->text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "url ", 4) == 0)
            r->url = line + 4;
        else if (strncmp(line, "pac ", 4) == 0)
            r->pac = line + 4;
        else if (strncmp(line, "ca ", 3) == 0)
            r->ca = line + 3;
    }
    return r->url != NULL;
}

// Why a step has no result, or NULL. `what` and `not_done`: "the script", "has not ended".
static const char *trouble(const struct step_result *r, const struct step *s, const char *what, const char *not_done, char *out,
                           size_t size)
{
    switch (r->end) {
    case STEP_DONE:
        return NULL;
    case STEP_LATE:
        snprintf(out, size, "%s %s in %u s", what, not_done, s->ms / 1000);
        break;
    case STEP_HUNGRY:
        snprintf(out, size, "%s took more than %u MiB of memory", what, HELPER_MEMORY_MAX / 1024 / 1024);
        break;
    case STEP_LONG:
        snprintf(out, size, "%s is longer than %zu bytes", what, s->max - 1);
        break;
    case STEP_CRASHED:
        if (r->how == SIGXCPU)
            snprintf(out, size, "%s %s in %d s of computing", what, not_done, HELPER_CPU_S);
        else
            snprintf(out, size, "%s crashed (signal %d)", what, r->how);
        break;
    }
    return out;
}

// The text behind `mark` up to the end of its line, or NULL. The last one counts.
static char *last_line(char *data, const char *mark)
{
    char *found = NULL;
    for (char *at = data; (at = strstr(at, mark)); at++)
        found = at + strlen(mark);
    if (found)
        found[strcspn(found, "\n")] = 0;
    return found;
}

static bool starts_line(const char *data, const char *what)
{
    for (const char *at = data; (at = strstr(at, what)); at++)
        if (at == data || at[-1] == '\n')
            return true;
    return false;
}

static void say_uses(char *data)
{
    char *save = NULL;
    for (char *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, "= ", 2) == 0)
            say("use", "%s", line + 2);
}

// --- a script

static int hold_script(const char *data, size_t len)
{
    int fd = memfd_create("proxy.pac", 0); // the step opens it by number
    for (ssize_t n; fd >= 0 && len > 0 && (n = write(fd, data, len)) > 0; data += n)
        len -= (size_t)n;
    return fd;
}

static void say_answer(struct step_result *r)
{
    char *answer;
    if (starts_line(r->data, HELPER_MISSING))
        say("fail", "scripts are run by libproxy, which is not installed: install libproxy1v5 and libproxy1-plugin-webkit");
    else if (strstr(r->data, "Unable to find a required pacrunner"))
        say("fail", "libproxy has nothing to run scripts with: install libproxy1-plugin-webkit");
    else if (starts_line(r->data, HELPER_FAILED))
        say("fail", "the script cannot be understood (a syntax error?)");
    else if ((answer = last_line(r->data, "Pacrunner returned: ")) && *answer)
        say("answer", "%s", answer);
    else if (answer)
        say("fail", "the script failed, or its FindProxyForURL gives no text");
    else
        say_uses(r->data); // another libproxy than we know: only what its API says
}

static void run_script(const struct request *q, const char *script, size_t len)
{
    struct helper_ask ask = {.url = q->url, .script = hold_script(script, len)};
    struct step s = {.work = helper_ask, .ctx = &ask, .ms = HELPER_RUN_MS, .max = ASK_OUT_MAX};
    struct step_result r;
    char text[200];
    if (ask.script < 0) {
        say("fail", "the script cannot be kept: %s", strerror(errno));
        return;
    }
    step_run(&s, &r);
    const char *why = trouble(&r, &s, "the script", "has not ended", text, sizeof text);
    if (why)
        say("fail", "%s", why);
    else
        say_answer(&r);
    free(r.data);
    close(ask.script);
}

static void use_script(const struct request *q, const char *url)
{
    struct helper_fetch fetch = {.url = url, .ca = q->ca};
    struct step s = {.work = helper_fetch, .ctx = &fetch, .ms = HELPER_FETCH_MS, .max = PAC_SCRIPT_MAX + 2};
    struct step_result r;
    char text[200];
    say("pac", "%s", url);
    step_run(&s, &r);
    const char *why = trouble(&r, &s, "the script", "has not come", text, sizeof text);
    if (why)
        say("fail", "%s", why);
    else if (r.data[0] == 'P')
        run_script(q, r.data + 1, r.len - 1);
    else
        say("fail", "%s", r.len > 1 ? r.data + 1 : "it could not be fetched");
    free(r.data);
}

// --- the system's settings

// The settings name a script: it is ours to fetch.
static bool names_script(const char *data, size_t len)
{
    const char *config = strstr(data, "Config is:"), *at = config ? strchr(config, '\n') : NULL;
    if (!at || at[1] != '\t' || !strchr(at + 1, '\n'))
        return false;
    return strncmp(at + 2, "pac+", 4) == 0 || strncmp(at + 2, "wpad:", 5) == 0;
}

static void use_settings(const struct request *q)
{
    struct helper_ask ask = {.url = q->url, .script = -1};
    struct step s = {.work = helper_ask, .ctx = &ask, .ms = HELPER_SETTINGS_MS, .max = ASK_OUT_MAX, .enough = names_script};
    struct step_result r;
    char text[200];
    step_run(&s, &r);
    const char *why = trouble(&r, &s, "libproxy", "has not answered", text, sizeof text);
    if (why) {
        say("note", "the system's proxy settings are not known: %s", why);
    } else if (starts_line(r.data, HELPER_MISSING)) {
        say("note", "the system's proxy settings were not asked: libproxy is not installed (packages libproxy1v5; "
                    "libproxy1-plugin-gsettings for GNOME's settings, libproxy1-plugin-webkit for PAC scripts)");
    } else if (names_script(r.data, r.len)) {
        char *config = strstr(r.data, "Config is:"), *url = strchr(config, '\n') + 2;
        url[strcspn(url, "\n")] = 0;
        use_script(q, strncmp(url, "pac+", 4) == 0 ? url + 4 : WPAD_URL);
    } else {
        say_uses(r.data);
    }
    free(r.data);
}

int helper_main(void)
{
    static struct request q;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_range(STDERR_FILENO + 1, ~0u, 0);
    if (!read_request(&q))
        return 2;
    if (q.pac)
        use_script(&q, q.pac);
    else
        use_settings(&q);
    say("end", "%s", "");
    return 0;
}
