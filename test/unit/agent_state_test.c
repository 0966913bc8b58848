// SPDX-License-Identifier: Apache-2.0
// The agent's memory, and every crash of a join: the program is linked with wrappers around the system calls that
// change files, and ends without warning before or after the n-th of them, for every n.
#include "unit.h"
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "temp.h"
#include "trust/agent_state.h"
#include "trust/file.h"
#include "trust/store.h"

#define CRASHED 33
#define FINISHED 34

static struct {
    unsigned step, crash_at; // 0: never
    const char *rival;       // another process's file, which gets the name first
    bool unsynced, unnamed;  // bytes that no fsync followed; a rename that no fsync of the folder followed
} disk;

static void tick(void)
{
    if (disk.crash_at && ++disk.step == disk.crash_at)
        _exit(CRASHED);
}

ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    if (fd <= 2)
        return __real_write(fd, data, len);
    tick();
    ssize_t n = __real_write(fd, data, len > 1 ? len / 2 : len); // short writes too
    disk.unsynced = true;
    tick();
    return n;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    tick();
    int got = __real_fsync(fd);
    disk.unsynced = disk.unnamed = false;
    tick();
    return got;
}

static void check_synced(void)
{
    if (disk.unsynced) // the name would be on the disk before the bytes
        fail_msg("a name is given to bytes that no fsync followed");
    disk.unnamed = true;
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    tick();
    check_synced();
    int got = __real_rename(from, to);
    tick();
    return got;
}

int __real_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to)
{
    tick();
    check_synced();
    if (disk.rival)
        assert_int_equal(__real_link(disk.rival, to), 0);
    disk.rival = NULL;
    int got = __real_link(from, to);
    tick();
    return got;
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    tick();
    int got = __real_unlink(path);
    tick();
    return got;
}

static char dir[64], relay_dir[80], agent_dir[80];
static struct pairing line;

static int setup(void **state)
{
    struct err e = ERR_INIT;
    char id[STORE_INVITATION_ID];
    temp_make(dir);
    snprintf(relay_dir, sizeof relay_dir, "%s/relay", dir);
    snprintf(agent_dir, sizeof agent_dir, "%s/agent", dir);
    struct store *s = store_open(relay_dir, &e);
    struct store_invite i = {.name = "site7", .uses = 1, .ttl_s = 900};
    line = (struct pairing){.pin_count = 1, .pins = {{7}}, .proxy_count = 1};
    if (!s || store_invite(s, &i, line.token, id, &e) < 0)
        return -1;
    store_close(s);
    return relay_url_parse(&line.relay, "relay.example", &e) < 0 ||
           proxy_url_parse(&line.proxies[0], "http://u:p%40w@proxy:3128", &e) < 0;
}

static int teardown(void **state)
{
    temp_drop(dir);
    return 0;
}

// What the relay does with the token: 0 when the agent is in.
static int present(const struct agent_state *s, const struct agent_relay *r, char *name)
{
    struct err e = ERR_INIT;
    struct store *store = store_open(relay_dir, &e);
    enum store_answer answer = store_enroll(store, r->token, s->id.pin, name, &e);
    store_close(store);
    err_fini(&e);
    return answer == STORE_ENROLLED ? 0 : -1;
}

// What the agent does with a relay that it has not finished joining. A tick before and behind the relay's answer.
static int go_on(struct agent_state *s, struct err *e)
{
    struct agent_relay *r = agent_state_find(s, &line.relay);
    char name[SPEC_NAME_MAX + 1];
    if (!r || !r->has_token)
        return 0;
    if (disk.unsynced || disk.unnamed)
        return err_set(e, ERR_FAILED, WHY_NONE, "the token is presented before it is on the disk");
    tick();
    if (present(s, r, name) < 0)
        return err_set(e, ERR_UNTRUSTED, WHY_NONE, "the relay refused");
    tick();
    return agent_state_joined(s, &line.relay, name, NULL, 0, e);
}

static int join(struct err *e)
{
    struct agent_state s;
    if (agent_state_open(&s, agent_dir, true, e) < 0)
        return -1;
    int got = agent_state_join(&s, &line, e);
    if (got == 0)
        got = go_on(&s, e);
    agent_state_fini(&s);
    return got;
}

static void count_identity(const struct store_identity *i, void *ctx)
{
    ++*(int *)ctx;
}

// In the end there is one agent, of the key on the disk, with its name and without a token.
static void check_joined(void)
{
    struct agent_state s;
    struct err e = ERR_INIT;
    uint8_t pin[PIN_SIZE];
    int count = 0;
    if (agent_state_open(&s, agent_dir, false, &e) < 0)
        fail_msg("%s", err_text(&e));
    assert_int_equal(s.relay_count, 1);
    assert_string_equal(s.relays[0].name, "site7");
    assert_false(s.relays[0].has_token);
    struct store *store = store_open(relay_dir, &e);
    struct policy *p = store_policy(store, &e);
    assert_true(policy_find(p, "site7", pin));
    assert_memory_equal(pin, s.id.pin, PIN_SIZE);
    assert_int_equal(store_each_identity(store, count_identity, &count, &e), 0);
    assert_int_equal(count, 1);
    policy_free(p);
    store_close(store);
    agent_state_fini(&s);
}

static int crash_at(unsigned step)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct err e = ERR_INIT;
        disk.step = 0;
        disk.crash_at = step;
        int got = join(&e);
        disk.crash_at = 0;
        if (got < 0)
            fprintf(stderr, "%s\n", err_text(&e));
        _exit(got == 0 ? FINISHED : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static void every_crash_is_mended_by_joining_again(void **state)
{
    int got;
    unsigned step = 0;
    do {
        assert_int_equal(setup(NULL), 0);
        got = crash_at(++step);
        assert_true(got == CRASHED || got == FINISHED);
        struct err e = ERR_INIT;
        if (join(&e) < 0)
            fail_msg("after a crash at step %u: %s", step, err_text(&e));
        check_joined();
        teardown(NULL);
    } while (got == CRASHED);
    assert_true(step > 20); // the wrappers are in place
}

// Once the token is on the disk, a plain start of the agent finishes the join.
static void every_crash_is_mended_by_the_agent_alone(void **state)
{
    int got;
    unsigned step = 0, mended = 0;
    do {
        assert_int_equal(setup(NULL), 0);
        got = crash_at(++step);
        struct agent_state s;
        struct err e = ERR_INIT;
        if (agent_state_open(&s, agent_dir, false, &e) == 0 && s.relay_count) {
            if (go_on(&s, &e) < 0)
                fail_msg("after a crash at step %u: %s", step, err_text(&e));
            agent_state_fini(&s);
            check_joined();
            mended++;
        } else {
            if (!err_is(&e))
                agent_state_fini(&s);
            err_fini(&e);
        }
        teardown(NULL);
    } while (got == CRASHED);
    assert_true(mended > 5);
}

static void remembers(void **state)
{
    struct agent_state s, again;
    struct err e = ERR_INIT;
    struct stat st;
    char path[128];
    uint8_t next[1][PIN_SIZE] = {{8}}, pins[PAIRING_PINS + AGENT_NEXT_PINS][PIN_SIZE];
    assert_int_equal(agent_state_open(&s, agent_dir, false, &e), -1);
    assert_refused(&e, ERR_USAGE, "culvert join");
    assert_int_equal(agent_state_open(&s, agent_dir, true, &e), 0);
    line.outer_report = true;
    assert_int_equal(agent_state_join(&s, &line, &e), 0);
    snprintf(path, sizeof path, "%s/%s", agent_dir, AGENT_STATE_FILE);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(agent_state_open(&again, agent_dir, false, &e), 0);
    assert_int_equal(again.relay_count, 1);
    assert_memory_equal(&again.relays[0], &s.relays[0], sizeof s.relays[0]);
    assert_memory_equal(again.id.pin, s.id.pin, PIN_SIZE);
    assert_true(again.relays[0].has_token);
    assert_memory_equal(again.relays[0].token, line.token, PAIRING_TOKEN);
    assert_string_equal(again.relays[0].proxies[0].password, "p@w");
    assert_true(again.relays[0].outer_report);
    assert_int_equal(agent_state_joined(&s, &line.relay, "site7", (const uint8_t(*)[PIN_SIZE])next, 1, &e), 0);
    assert_int_equal(agent_state_reload(&again, &e), 0);
    assert_false(again.relays[0].has_token);
    assert_int_equal(agent_relay_pins(&again.relays[0], pins), 2);
    assert_int_equal(pins[0][0], 7);
    assert_int_equal(pins[1][0], 8);

    // the same news are not written again
    assert_int_equal(unlink(path), 0);
    assert_int_equal(agent_state_joined(&again, &line.relay, "site7", (const uint8_t(*)[PIN_SIZE])next, 1, &e), 0);
    assert_false(file_exists(path));
    agent_state_fini(&again);
    agent_state_fini(&s);
}

static void several_relays_and_processes(void **state)
{
    struct agent_state a, b;
    struct err e = ERR_INIT;
    struct pairing other = line;
    assert_int_equal(relay_url_parse(&other.relay, "wss://other.example:8443/x", &e), 0);
    assert_int_equal(agent_state_open(&a, agent_dir, true, &e), 0);
    assert_int_equal(agent_state_open(&b, agent_dir, true, &e), 0);
    assert_int_equal(agent_state_join(&a, &line, &e), 0);
    assert_int_equal(agent_state_join(&b, &other, &e), 0); // does not undo what a wrote meanwhile
    assert_int_equal(b.relay_count, 2);
    assert_int_equal(agent_state_joined(&a, &line.relay, "site7", NULL, 0, &e), 0);
    assert_int_equal(a.relay_count, 2);
    assert_int_equal(agent_state_join(&a, &line, &e), 0); // joined again: comes last, keeps its name
    assert_string_equal(a.relays[1].url.host, "relay.example");
    assert_string_equal(a.relays[1].name, "site7");
    assert_true(a.relays[1].has_token);
    assert_int_equal(agent_state_forget(&b, &other.relay, &e), 0);
    assert_int_equal(agent_state_reload(&a, &e), 0);
    assert_int_equal(a.relay_count, 1);
    assert_null(agent_state_find(&a, &other.relay));
    char host[64];
    for (int i = 1; i < AGENT_RELAYS; i++) {
        snprintf(host, sizeof host, "r%d.example", i);
        assert_int_equal(relay_url_parse(&other.relay, host, &e), 0);
        assert_int_equal(agent_state_join(&a, &other, &e), 0);
    }
    assert_int_equal(relay_url_parse(&other.relay, "one-more.example", &e), 0);
    assert_int_equal(agent_state_join(&a, &other, &e), -1);
    assert_refused(&e, ERR_USAGE, "at most");
    agent_state_fini(&a);
    agent_state_fini(&b);
}

// Two processes make a key at once: one key counts, for both.
static void the_quicker_key_counts(void **state)
{
    struct identity quick, slow;
    struct err e = ERR_INIT;
    char quick_path[96], path[96];
    bool made;
    snprintf(quick_path, sizeof quick_path, "%s/quick", dir);
    snprintf(path, sizeof path, "%s/key", dir);
    assert_int_equal(identity_open(&quick, quick_path, &made, &e), 0);
    disk.rival = quick_path;
    assert_int_equal(identity_open(&slow, path, &made, &e), 0);
    assert_false(made);
    assert_memory_equal(slow.pin, quick.pin, PIN_SIZE);
    identity_fini(&quick);
    identity_fini(&slow);
}

static void peers_are_known_by_their_pins(void **state)
{
    static const uint8_t one[PIN_SIZE] = {1}, two[PIN_SIZE] = {2};
    struct agent_state s, other;
    struct err e = ERR_INIT;
    assert_int_equal(agent_state_open(&s, agent_dir, true, &e), 0);
    assert_int_equal(agent_state_open(&other, agent_dir, true, &e), 0);
    line.peer_count = 1;
    strcpy(line.peers[0].name, "site7");
    memcpy(line.peers[0].pin, one, PIN_SIZE);
    assert_int_equal(agent_state_join(&s, &line, &e), 0);
    assert_int_equal(agent_state_join(&s, &line, &e), 0);
    assert_int_equal(s.peer_count, 1);
    assert_int_equal(s.peers[0].pin_count, 1);
    assert_null(agent_state_find_peer(&other, "site7"));
    agent_state_fresh_peers(&other); // another process has joined
    assert_true(agent_peer_has(agent_state_find_peer(&other, "SITE7"), one));
    assert_false(agent_peer_has(agent_state_find_peer(&other, "site7"), two));
    // A line with another key for it is not believed, and leaves nothing behind.
    memcpy(line.peers[0].pin, two, PIN_SIZE);
    line.token[0] ^= 1;
    assert_int_equal(agent_state_join(&s, &line, &e), -1);
    assert_refused(&e, ERR_UNTRUSTED, "culvert peer remove site7");
    assert_int_equal(agent_state_reload(&s, &e), 0);
    assert_int_not_equal(s.relays[0].token[0], line.token[0]);
    // By hand it may have two; others come and go.
    assert_int_equal(agent_state_add_peer(&s, "site7", two, &e), 0);
    assert_int_equal(agent_state_join(&s, &line, &e), 0);
    assert_int_equal(agent_state_add_peer(&s, "x", two, &e), 0);
    assert_int_equal(agent_state_drop_peer(&s, "site7", one, &e), 0);
    assert_int_equal(agent_state_drop_peer(&s, "site7", one, &e), -1);
    assert_refused(&e, ERR_USAGE, "with that pin");
    agent_state_fresh_peers(&other);
    assert_int_equal(other.peer_count, 2);
    assert_false(agent_peer_has(agent_state_find_peer(&other, "site7"), one));
    assert_true(agent_peer_has(agent_state_find_peer(&other, "site7"), two));
    assert_int_equal(agent_state_drop_peer(&other, "site7", NULL, &e), 0);
    assert_null(agent_state_find_peer(&other, "site7"));
    for (uint8_t i = 1; i < AGENT_PEER_PINS; i++)
        assert_int_equal(agent_state_add_peer(&s, "x", (uint8_t[PIN_SIZE]){9, i}, &e), 0);
    assert_int_equal(agent_state_add_peer(&s, "x", one, &e), -1);
    assert_refused(&e, ERR_USAGE, "at most 4 pins");
    agent_state_fini(&s);
    agent_state_fini(&other);
}

static void damaged_files_are_told(void **state)
{
    static const char *const bad[][2] = {
        {"{", "line 1"},
        {"{}", "no list"},
        {"[]", "no list"},
        {"{\"relays\": [{}]}", "relay 1"},
        {"{\"relays\": [{\"url\": \"r\", \"outer\": \"verify\", \"pins\": []}]}", "relay 1"},
        {"{\"relays\": [{\"url\": \"r\", \"outer\": \"verify\", \"pins\": [3]}]}", "relay 1"},
        {"{\"relays\": [{\"url\": \"r\", \"outer\": \"verify\", \"pins\": [\"x\"]}]}", "relay 1"},
        {"{\"relays\": [1]}", "relay 1"},
        {"{\"relays\": [], \"peers\": {}}", "peers"},
        {"{\"relays\": [], \"peers\": [{\"name\": \"x\", \"pins\": []}]}", "peers"},
        {"{\"relays\": [], \"peers\": [{\"name\": \"x y\", \"pins\": [\"x\"]}]}", "peers"},
    };
    struct agent_state s;
    struct err e = ERR_INIT;
    char path[128];
    assert_int_equal(agent_state_open(&s, agent_dir, true, &e), 0);
    snprintf(path, sizeof path, "%s/%s", agent_dir, AGENT_STATE_FILE);
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(file_write(path, bad[i][0], strlen(bad[i][0]), 0600, &e), 0);
        assert_int_equal(agent_state_reload(&s, &e), -1);
        assert_refused(&e, ERR_USAGE, bad[i][1]);
        assert_int_equal(s.relay_count, 0);
    }
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(agent_state_reload(&s, &e), -1);
    assert_refused(&e, ERR_USAGE, "chmod 600");
    agent_state_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_crash_is_mended_by_joining_again),
        cmocka_unit_test(every_crash_is_mended_by_the_agent_alone),
        cmocka_unit_test_setup_teardown(remembers, setup, teardown),
        cmocka_unit_test_setup_teardown(several_relays_and_processes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_quicker_key_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(peers_are_known_by_their_pins, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_files_are_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
