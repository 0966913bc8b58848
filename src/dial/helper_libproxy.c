// SPDX-License-Identifier: Apache-2.0
// Asks libproxy, on the main thread of a process of its own: its script runner works nowhere else. What it finds on its way (the
// settings' own words, the script's whole answer) it says on stderr when asked to; its API drops HTTPS entries, and failures become "direct".
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "dial/helper.h"

struct px {
    void *(*new)(void);
    char **(*get_proxies)(void *factory, const char *url);
};

// The desktop's words stay; what our caller reads by itself, and what is ours, goes.
static void clean_environment(void)
{
    static const char *const ours[] = {"http_proxy",  "HTTP_PROXY",  "https_proxy", "HTTPS_PROXY", "ftp_proxy",       "FTP_PROXY",
                                       "all_proxy",   "ALL_PROXY",   "no_proxy",    "NO_PROXY",    "_PX_DEBUG_PACURL"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        unsetenv(ours[i]);
}

// A script sees nothing of this machine but names and addresses, and writes nothing.
static void bare_environment(int script)
{
    struct rlimit none = {0, 0};
    const char *modules = getenv("PX_MODULE_PATH"); // where a libproxy of one's own keeps its plugins
    char url[64], *kept = modules ? strdup(modules) : NULL;
    clearenv();
    if (kept)
        setenv("PX_MODULE_PATH", kept, 1);
    snprintf(url, sizeof url, "pac+file:///proc/self/fd/%d", script);
    setenv("PATH", "/usr/bin:/bin", 1);
    setenv("HOME", "/nonexistent", 1);
    setenv("https_proxy", url, 1);
    setenv("http_proxy", url, 1);
    setrlimit(RLIMIT_FSIZE, &none);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static bool load(struct px *px)
{
    void *lib = dlopen("libproxy.so.1", RTLD_NOW);
    if (!lib)
        return false;
    *(void **)&px->new = dlsym(lib, "px_proxy_factory_new");
    *(void **)&px->get_proxies = dlsym(lib, "px_proxy_factory_get_proxies");
    return px->new && px->get_proxies;
}

void helper_ask(void *ctx, int out)
{
    const struct helper_ask *a = ctx;
    struct px px;
    dup2(out, STDERR_FILENO); // where libproxy talks
    if (a->script >= 0)
        bare_environment(a->script);
    else
        clean_environment();
    setenv("_PX_DEBUG", "1", 1);
    if (!load(&px)) {
        dprintf(out, HELPER_MISSING "%s\n", dlerror());
        return;
    }
    void *factory = px.new();
    char **all = factory ? px.get_proxies(factory, a->url) : NULL;
    if (!all)
        dprintf(out, HELPER_FAILED "\n");
    for (; all && *all; all++)
        dprintf(out, "= %s\n", *all);
}
