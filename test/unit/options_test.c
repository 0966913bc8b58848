// SPDX-License-Identifier: Apache-2.0
// The command line's engine on tables of its own: argv, environment, file, their precedence, and what is said of mistakes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmd/command.h"

const struct option global_options[] = {
    {"state", 0, "DIR", 0, "state"},
    {"config", 0, "FILE", OPT_ARGV, "file"},
    {"verbose", 'v', NULL, OPT_MANY | OPT_ARGV, "louder"},
    {"help", 'h', NULL, OPT_ARGV, "help"},
    {"version", 'V', NULL, OPT_ARGV, "version"},
    {NULL},
};
const struct option connect_options[] = {{"proxy", 0, "PROXY", OPT_MANY, "a proxy"}, {NULL}};
static const struct option agent_options[] = {
    {"local", 'L', "ADDR:DEST", OPT_MANY, "a forward"},
    {"once", 0, NULL, 0, "end at once"},
    {"drain", 0, "TIME", 0, "patience"},
    {"memory", 0, "SIZE", 0, "memory"},
    {"peel", 0, "auto|never", 0, "peel"},
    {"ready-fd", 0, "N", OPT_ARGV, "descriptor"},
    {NULL},
};
static const struct option *const agent_tables[] = {agent_options, connect_options, NULL};
static const struct option *const join_tables[] = {connect_options, NULL};

static int run(struct options *o, struct err *e) { return 0; }

const struct command command_agent = {.name = "agent", .section = "agent", .usage = "", .summary = "s", .about = "about",
                                      .examples = "  culvert agent -L …\n", .tables = agent_tables, .run = run};
const struct command command_join = {.name = "join", .section = "agent", .usage = "PAIRING", .args_min = 1, .args_max = 1,
                                     .summary = "s", .about = "about", .examples = "", .tables = join_tables, .run = run};
const struct command *const commands[] = {&command_agent, &command_join, NULL};

const struct command *command_find(const char *name)
{
    for (size_t i = 0; commands[i]; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static int parse(struct options *o, struct err *e, const char *line)
{
    static char copy[512], *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    return options_parse(o, NULL, argc, argv, e);
}

static void refuses(const char *line, const char *text)
{
    struct options o;
    struct err e = ERR_INIT;
    assert_int_equal(parse(&o, &e, line), -1);
    assert_int_equal(e.kind, ERR_USAGE);
    assert_string_equal(err_text(&e), text);
    err_fini(&e);
    options_fini(&o);
}

static void test_argv(void **state)
{
    struct options o;
    struct err e = ERR_INIT;
    assert_int_equal(parse(&o, &e, "--state=x -vv agent -L1:a:1 -L 2:b:2 --drain 5s --drain=6s --once --proxy none"), 0);
    assert_string_equal(o.command->name, "agent");
    assert_string_equal(options_get(&o, "state"), "x");
    assert_int_equal(options_count(&o, "verbose"), 2);
    assert_int_equal(options_count(&o, "local"), 2);
    assert_string_equal(options_nth(&o, "local", 0)->text, "1:a:1");
    assert_string_equal(options_nth(&o, "local", 1)->text, "2:b:2");
    assert_null(options_nth(&o, "local", 2));
    assert_string_equal(options_get(&o, "drain"), "6s");
    assert_true(options_has(&o, "once"));
    assert_false(options_has(&o, "memory"));
    options_fini(&o);
    assert_int_equal(parse(&o, &e, "join -- --odd"), 0);
    assert_string_equal(o.args[0], "--odd");
    options_fini(&o);
    assert_int_equal(parse(&o, &e, "join -"), 0);
    assert_string_equal(o.args[0], "-");
    options_fini(&o);
}

static void test_mistakes_name_the_remedy(void **state)
{
    refuses("agent --proxi x",
            "culvert agent: unknown option --proxi (did you mean --proxy?); see culvert agent --help");
    refuses("agent --zzzzzz", "culvert agent: unknown option --zzzzzz; see culvert agent --help");
    refuses("agent -x", "culvert agent: unknown option -x; see culvert agent --help");
    refuses("agent --drain", "culvert agent: --drain needs a value: --drain TIME; see culvert agent --help");
    refuses("agent -L", "culvert agent: -L needs a value: -L ADDR:DEST; see culvert agent --help");
    refuses("agent --once=1", "culvert agent: --once takes no value");
    refuses("agnet", "culvert: unknown command \"agnet\" (did you mean agent?); see culvert --help");
    refuses("frob", "culvert: unknown command \"frob\"; see culvert --help");
    refuses("join", "culvert join: PAIRING is missing; see culvert join --help");
    refuses("join a b", "culvert join: \"b\" is one argument too many; see culvert join --help");
    refuses("agent x", "culvert agent: \"x\" is one argument too many; see culvert agent --help");
    refuses("join --drain 3s x", "culvert join: unknown option --drain; see culvert join --help");
}

static char folder[] = "/tmp/culvert-options-XXXXXX";
static char path[64];

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_folder(void **state)
{
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/culvert.ini", folder);
    return 0;
}

static int drop_folder(void **state)
{
    unlink(path);
    rmdir(folder);
    return 0;
}

static void test_a_flag_beats_the_environment_which_beats_the_file(void **state)
{
    struct options o;
    struct err e = ERR_INIT;
    char *env[] = {"CULVERT_DRAIN=2s", "CULVERT_LOCAL=1:e:1 2:e:2", "CULVERT_STATE=env", "CULVERT_ODD=1", "X=y",
                   "CULVERT_VERBOSE=on", NULL};
    write_file("state = file\n"
               "[agent]\n"
               "; a comment\n"
               "drain = 3s\n"
               "memory = 64M\n"
               "local = 7:f:7\n"
               "once = on\n"
               "[relay]\n");
    assert_int_equal(parse(&o, &e, "agent --drain 1s"), 0);
    assert_int_equal(options_environment(&o, env, &e), 0);
    assert_int_equal(options_file(&o, path, true, &e), 0);
    assert_string_equal(options_get(&o, "drain"), "1s");
    assert_int_equal(options_count(&o, "drain"), 1);
    assert_string_equal(options_get(&o, "state"), "env");
    assert_int_equal(options_count(&o, "local"), 2);
    assert_string_equal(options_nth(&o, "local", 1)->text, "2:e:2");
    assert_string_equal(options_get(&o, "memory"), "64M");
    assert_true(options_has(&o, "once"));
    assert_false(options_has(&o, "verbose")); // of argv only
    options_fini(&o);
    // what belongs to `agent` alone is no mistake when `join` reads the same file
    assert_int_equal(parse(&o, &e, "join x"), 0);
    assert_int_equal(options_file(&o, path, true, &e), 0);
    assert_string_equal(options_get(&o, "state"), "file");
    assert_int_equal(o.count, 1);
    options_fini(&o);
}

static void file_refuses(const char *text, const char *end)
{
    struct options o;
    struct err e = ERR_INIT;
    write_file(text);
    assert_int_equal(parse(&o, &e, "agent"), 0);
    assert_int_equal(options_file(&o, path, true, &e), -1);
    assert_int_equal(e.kind, ERR_USAGE);
    assert_true(!strncmp(err_text(&e), path, strlen(path)));
    assert_string_equal(err_text(&e) + strlen(path), end);
    err_fini(&e);
    options_fini(&o);
}

static void test_a_bad_file_names_its_line(void **state)
{
    char big[400];
    file_refuses("[agent]\n\nproxi = x\n", ":3: unknown key \"proxi\" in [agent] (did you mean proxy?)");
    file_refuses("[agnt]\nx = 1\n", ":2: unknown section [agnt]: there are [relay] and [agent]");
    file_refuses("proxy = x\n", ":1: unknown key \"proxy\"");
    file_refuses("[agent]\njust words\n", ":2: neither a [section] nor key = value");
    file_refuses("[agent]\nonce = maybe\n", ":2: once: \"maybe\" is neither on nor off");
    file_refuses("[agent]\nhelp = on\n", ":2: unknown key \"help\" in [agent]");
    file_refuses("[agent]\n\001\002\n", ":2: holds a control character; this is no text file");
    memset(big, 'x', sizeof big);
    snprintf(big, sizeof big, "[agent]\nproxy = ");
    memset(big + 16, 'x', 300);
    big[316] = 0;
    file_refuses(big, ":2: too long");
}

static void test_a_file_of_zeros_is_refused(void **state)
{
    struct options o;
    struct err e = ERR_INIT;
    FILE *f = fopen(path, "w");
    assert_int_equal(fwrite("\0\0", 1, 2, f), 2);
    fclose(f);
    assert_int_equal(parse(&o, &e, "agent"), 0);
    assert_int_equal(options_file(&o, path, true, &e), -1);
    assert_int_equal(e.kind, ERR_USAGE);
    assert_non_null(strstr(err_text(&e), ":1: holds a control character"));
    err_fini(&e);
    options_fini(&o);
}

static void test_a_missing_file(void **state)
{
    struct options o;
    struct err e = ERR_INIT;
    assert_int_equal(parse(&o, &e, "agent"), 0);
    assert_int_equal(options_file(&o, "/nonexistent/culvert.ini", false, &e), 0);
    assert_int_equal(options_file(&o, "/nonexistent/culvert.ini", true, &e), -1);
    assert_string_equal(err_text(&e), "configuration /nonexistent/culvert.ini: No such file or directory");
    err_fini(&e);
    options_fini(&o);
}

static void test_typed_values(void **state)
{
    static const char *const words[] = {"auto", "never", NULL};
    struct options o;
    struct err e = ERR_INIT;
    uint64_t v;
    size_t n;
    unsigned w = 9;
    assert_true(parse_ms("500ms", &v) && v == 500);
    assert_true(parse_ms("60", &v) && v == 60000);
    assert_true(parse_ms("2h", &v) && v == 7200000);
    assert_true(parse_size("4096", &n) && n == 4096);
    assert_true(parse_size("256M", &n) && n == 256u << 20);
    assert_true(parse_size("2GiB", &n) && n == 2ull << 30);
    assert_false(parse_ms("", &v) || parse_ms("-1", &v) || parse_ms("1x", &v) || parse_ms("s", &v) || parse_ms("1 s", &v));
    assert_false(parse_ms("99999999999999999999", &v) || parse_size("18446744073709551615G", &n));
    assert_int_equal(parse(&o, &e, "agent --drain 3x --memory lots --peel perhaps"), 0);
    assert_int_equal(options_ms(&o, "drain", &v, &e), -1);
    assert_string_equal(err_text(&e), "--drain 3x: \"3x\" is no duration; write 500ms, 60s, 15m, 2h or 7d");
    assert_int_equal(options_size(&o, "memory", &n, &e), -1);
    assert_string_equal(err_text(&e), "--memory lots: \"lots\" is no size; write 65536, 64K, 256M or 2G");
    assert_int_equal(options_word(&o, "peel", words, &w, &e), -1);
    assert_string_equal(err_text(&e), "--peel perhaps: \"perhaps\" must be auto or never");
    options_fini(&o);
    assert_int_equal(parse(&o, &e, "agent --peel never"), 0);
    assert_int_equal(options_word(&o, "peel", words, &w, &e), 0);
    assert_int_equal(w, 1);
    v = 77;
    assert_int_equal(options_ms(&o, "drain", &v, &e), 0);
    assert_int_equal(v, 77);
    options_fini(&o);
    err_fini(&e);
}

static void test_a_descriptor_must_be_open(void **state)
{
    struct options o = {0};
    struct err e = ERR_INIT;
    char line[64], want[96];
    int fds[2], fd = -1;
    assert_int_equal(pipe(fds), 0);
    snprintf(line, sizeof line, "agent --ready-fd %d", fds[1]);
    assert_int_equal(parse(&o, &e, line), 0);
    assert_int_equal(options_descriptor(&o, "ready-fd", &fd, &e), 0);
    assert_int_equal(fd, fds[1]);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(options_descriptor(&o, "ready-fd", &fd, &e), -1);
    assert_int_equal(e.kind, ERR_USAGE);
    snprintf(want, sizeof want, "--ready-fd %d: descriptor %d is not open", fds[1], fds[1]);
    assert_string_equal(err_text(&e), want);
    options_fini(&o);
    assert_int_equal(parse(&o, &e, "agent --ready-fd 2"), 0);
    int flags = fcntl(2, F_GETFD);
    assert_int_equal(options_descriptor(&o, "ready-fd", &fd, &e), 0);
    assert_int_equal(fcntl(2, F_GETFD), flags); // our children's too
    options_fini(&o);
    fd = -1;
    assert_int_equal(parse(&o, &e, "agent"), 0);
    assert_int_equal(options_descriptor(&o, "ready-fd", &fd, &e), 0);
    assert_int_equal(fd, -1);
    options_fini(&o);
    err_fini(&e);
}

static void test_help_shows_every_option_and_the_example(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    help_command(f, &command_agent);
    fclose(f);
    for (size_t t = 0; agent_tables[t]; t++) {
        for (const struct option *o = agent_tables[t]; o->name; o++) {
            char flag[40];
            snprintf(flag, sizeof flag, "--%s", o->name);
            assert_non_null(strstr(text, flag));
        }
    }
    assert_non_null(strstr(text, "examples:\n  culvert agent -L …\n"));
    assert_non_null(strstr(text, "[agent]"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argv),
        cmocka_unit_test(test_mistakes_name_the_remedy),
        cmocka_unit_test(test_a_flag_beats_the_environment_which_beats_the_file),
        cmocka_unit_test(test_a_bad_file_names_its_line),
        cmocka_unit_test(test_a_file_of_zeros_is_refused),
        cmocka_unit_test(test_a_missing_file),
        cmocka_unit_test(test_typed_values),
        cmocka_unit_test(test_a_descriptor_must_be_open),
        cmocka_unit_test(test_help_shows_every_option_and_the_example),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
