// SPDX-License-Identifier: Apache-2.0
// What every command has in common: the global options, the log, the state folder, secrets, errors and exit statuses.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "cmd/command.h"
#include "core/log.h"
#include "trust/file.h"

extern char **environ;

const struct option global_options[] = {
    {"config", 0, "FILE", OPT_ARGV,
     "read this file; default /etc/culvert/culvert.ini for root, else "
     "~/.config/culvert/culvert.ini, if it is there"},
    {"state", 0, "DIR", 0, "folder of keys and state; default /var/lib/culvert for root, else ~/.local/state/culvert"},
    {"verbose", 'v', NULL, OPT_MANY | OPT_ARGV, "say more; twice: trace"},
    {"quiet", 'q', NULL, OPT_ARGV, "say only what went wrong"},
    {"log", 0, "text|json|journal", 0, "form of the log on stderr"},
    {"core-dumps", 0, NULL, 0, "let a crash write a core file, which has keys and passwords in it"},
    {"help", 'h', NULL, OPT_ARGV, "show this help"},
    {"version", 'V', NULL, OPT_ARGV, "show the version"},
    {NULL},
};

const struct command *const commands[] = {&command_relay,
                                          &command_invite,
                                          &command_grant,
                                          &command_revoke,
                                          &command_explain,
                                          &command_join,
                                          &command_agent,
                                          &command_peer,
                                          &command_conf_proxy,
                                          &command_check,
                                          &command_status,
                                          &command_table,
                                          &command_cert,
                                          NULL};

const struct command *command_find(const char *name)
{
    for (size_t i = 0; commands[i]; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

// "$XDG_…/culvert" or "~/fallback/culvert", or NULL without a home.
static char *home_folder(const char *variable, const char *fallback)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    char *out = NULL;
    int n = -1;
    if (base && *base == '/')
        n = asprintf(&out, "%s/culvert", base);
    else if (home && *home == '/')
        n = asprintf(&out, "%s/%s/culvert", home, fallback);
    return n < 0 ? NULL : out;
}

char *state_folder(struct options *o, struct err *e)
{
    const char *given = options_get(o, "state");
    char *dir = given            ? strdup(given)
                : geteuid() == 0 ? strdup("/var/lib/culvert")
                                 : home_folder("XDG_STATE_HOME", ".local/state");
    if (!dir) {
        err_set(e, ERR_USAGE, WHY_NONE, "no place for keys and state: HOME is not set; say --state DIR");
        return NULL;
    }
    if (file_state_dir(dir, e) < 0) {
        free(dir);
        return NULL;
    }
    return dir;
}

static int read_config(struct options *o, struct err *e)
{
    const char *given = options_get(o, "config");
    if (given)
        return options_file(o, given, true, e);
    char *dir = geteuid() == 0 ? strdup("/etc/culvert") : home_folder("XDG_CONFIG_HOME", ".config");
    char *path = NULL;
    int rc = 0;
    if (dir && asprintf(&path, "%s/culvert.ini", dir) > 0) {
        rc = options_file(o, path, false, e);
        free(path);
    }
    free(dir);
    return rc;
}

static int set_log(struct options *o, struct err *e)
{
    static const char *const formats[] = {"text", "json", "journal", NULL};
    unsigned format = LOG_TEXT;
    if (options_word(o, "log", formats, &format, e) < 0)
        return -1;
    size_t louder = options_count(o, "verbose");
    enum log_level level = options_has(o, "quiet") ? LOG_ERROR
                           : louder == 0           ? LOG_INFO
                           : louder == 1           ? LOG_DEBUG
                                                   : LOG_TRACE;
    log_setup(level, (enum log_format)format);
    return 0;
}

// Linux gives a handler of core files (a core_pattern of "|…") all of the memory whatever the limit is, but for a limit of one byte.
#ifdef __linux__
#define CORE_MAX 1
#else
#define CORE_MAX 0
#endif

// What is in memory stays there when the program crashes. The helper processes inherit it.
static void forbid_core_dumps(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_CORE, &lim) < 0)
        return;
    lim.rlim_cur = lim.rlim_max < CORE_MAX ? lim.rlim_max : CORE_MAX;
    setrlimit(RLIMIT_CORE, &lim);
}

int secret_read(const char *path, char *out, size_t max, struct err *e)
{
    char *data = NULL;
    size_t len = 0;
    if (strcmp(path, "-")) {
        if (file_read(path, true, &data, &len, e) < 0)
            return -1;
    } else {
        data = calloc(1, max + 1);
        ssize_t n = 1;
        while (data && len < max && (n = read(STDIN_FILENO, data + len, max - len)) > 0)
            len += (size_t)n;
        if (!data || n < 0) {
            file_wipe(data, len);
            return err_set(e, ERR_FAILED, WHY_NONE, "standard input cannot be read");
        }
    }
    size_t used = len;
    while (used && strchr(" \t\r\n", data[used - 1]))
        used--;
    int rc = used < max && !memchr(data, 0, used) ? 0 : -1;
    if (rc == 0) {
        memcpy(out, data, used);
        out[used] = 0;
    } else {
        err_set(e, ERR_USAGE, WHY_NONE, "%s: longer than a secret of this kind can be",
                strcmp(path, "-") ? path : "stdin");
    }
    file_wipe(data, len);
    return rc;
}

static int run(struct options *o, int argc, char **argv, struct err *e)
{
    if (options_parse(o, NULL, argc, argv, e) < 0)
        return -1;
    if (o->version) {
        puts("culvert " CULVERT_VERSION);
        return 0;
    }
    if (o->help || !o->command) {
        if (o->help && o->command)
            help_command(stdout, o->command);
        else
            help_program(o->help ? stdout : stderr);
        return o->help ? 0 : ERR_USAGE;
    }
    if (options_environment(o, environ, e) < 0 || read_config(o, e) < 0 || set_log(o, e) < 0)
        return -1;
    if (!options_has(o, "core-dumps"))
        forbid_core_dumps();
    return o->command->run(o, e);
}

// A closed stdout shows as an error of the last flush: a half-printed answer is no success.
static int flush(int status)
{
    if (fflush(stdout) == 0 || status)
        return status;
    fprintf(stderr, "culvert: writing the answer: %s\n", strerror(errno));
    return ERR_FAILED;
}

int command_main(int argc, char **argv)
{
    struct options o;
    struct err e = ERR_INIT;
    signal(SIGPIPE, SIG_IGN);
    umask(077);
    int status = run(&o, argc > 0 ? argc - 1 : 0, argv + 1, &e);
    if (err_is(&e)) {
        // usage errors of options name the command themselves
        char text[ERR_WHOLE_MAX];
        err_whole(&e, text, sizeof text);
        fprintf(stderr, "%s%s\n", strncmp(text, "culvert", 7) ? "culvert: " : "", text);
        status = (int)e.kind;
    }
    err_fini(&e);
    options_fini(&o);
    return flush(status < 0 ? ERR_FAILED : status);
}
