// SPDX-License-Identifier: Apache-2.0
#include "trust/store.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "trust/file.h"

#define STORE_SCHEMA 1
#define HASH_SIZE 32
#define NAME_TRIES 1000 // name, name-2 … name-1000

struct store {
    sqlite3 *db;
    char *path;
};

static const char schema[] =
    "CREATE TABLE identities (pin BLOB PRIMARY KEY, name TEXT NOT NULL, created INTEGER NOT NULL, revoked INTEGER)"
    " WITHOUT ROWID;"
    "CREATE UNIQUE INDEX identity_names ON identities (name) WHERE revoked IS NULL;"
    "CREATE TABLE rules (pin BLOB NOT NULL, place INTEGER NOT NULL, verb INTEGER NOT NULL, text TEXT NOT NULL,"
    " PRIMARY KEY (pin, place)) WITHOUT ROWID;"
    "CREATE TABLE invitations (hash BLOB PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, uses_left INTEGER"
    " NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, withdrawn INTEGER) WITHOUT ROWID;"
    "CREATE TABLE invitation_rules (hash BLOB NOT NULL, place INTEGER NOT NULL, verb INTEGER NOT NULL, text TEXT"
    " NOT NULL, PRIMARY KEY (hash, place)) WITHOUT ROWID;"
    "CREATE TABLE uses (hash BLOB NOT NULL, pin BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (hash, pin))"
    " WITHOUT ROWID;"
    "CREATE TABLE listeners (place INTEGER PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL);"
    "PRAGMA user_version = 1;";

// SQLite, made bearable ----------------------------------------------------------------------------------------

static int fail(const struct store *s, struct err *e, const char *doing)
{
    int code = sqlite3_errcode(s->db);
    const char *remedy = code == SQLITE_BUSY      ? "; another process holds it, try again"
                         : code == SQLITE_FULL    ? "; make room on the disk"
                         : code == SQLITE_NOTADB  ? "; it is no store of a relay: move it away or restore a copy"
                         : code == SQLITE_CORRUPT ? "; it is damaged: restore a copy"
                                                  : "";
    return err_set(e, ERR_FAILED, WHY_INTERNAL, "%s %s: %s%s", doing, s->path, sqlite3_errmsg(s->db), remedy);
}

static int run(struct store *s, const char *sql)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -1;
}

// One statement with its arguments, by a letter each: b pin or hash (32 bytes), t text, i int64. NULL on failure.
static sqlite3_stmt *ask(struct store *s, const char *sql, const char *kinds, ...)
{
    sqlite3_stmt *q;
    va_list ap;
    int bad = 0;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
        return NULL;
    va_start(ap, kinds);
    for (int i = 1; kinds[i - 1]; i++)
        switch (kinds[i - 1]) {
        case 'b':
            bad |= sqlite3_bind_blob(q, i, va_arg(ap, const void *), HASH_SIZE, SQLITE_TRANSIENT);
            break;
        case 't':
            bad |= sqlite3_bind_text(q, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
            break;
        default:
            bad |= sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
        }
    va_end(ap);
    if (bad) {
        sqlite3_finalize(q);
        return NULL;
    }
    return q;
}

// Steps once and ends the statement when there is no row: 1 row, 0 none, -1 failed. NULL is a failure.
static int step(sqlite3_stmt **q)
{
    int got = *q ? sqlite3_step(*q) : SQLITE_ERROR;
    if (got == SQLITE_ROW)
        return 1;
    sqlite3_finalize(*q);
    *q = NULL;
    return got == SQLITE_DONE ? 0 : -1;
}

// A statement without rows; returns the rows it changed, or -1.
static int change(struct store *s, sqlite3_stmt *q)
{
    int got = step(&q);
    sqlite3_finalize(q);
    return got < 0 ? -1 : sqlite3_changes(s->db);
}

static void copy_text(char *out, size_t size, sqlite3_stmt *q, int column)
{
    const unsigned char *text = sqlite3_column_text(q, column);
    snprintf(out, size, "%s", text ? (const char *)text : "");
}

static bool copy_pin(uint8_t pin[PIN_SIZE], sqlite3_stmt *q, int column)
{
    if (sqlite3_column_bytes(q, column) != PIN_SIZE)
        return false;
    memcpy(pin, sqlite3_column_blob(q, column), PIN_SIZE);
    return true;
}

static int64_t now(void)
{
    return (int64_t)time(NULL);
}

// Opening -------------------------------------------------------------------------------------------------------

static int schema_version(struct store *s)
{
    sqlite3_stmt *q = ask(s, "PRAGMA user_version", "");
    int version = step(&q) == 1 ? sqlite3_column_int(q, 0) : -1;
    sqlite3_finalize(q);
    return version;
}

// Of two processes that find no tables one makes them: the question is asked again under the write lock.
static int make_schema(struct store *s, struct err *e)
{
    if (run(s, "BEGIN IMMEDIATE") < 0)
        return fail(s, e, "make");
    if (schema_version(s) == 0 && run(s, schema) < 0) {
        fail(s, e, "make");
        run(s, "ROLLBACK");
        return -1;
    }
    return run(s, "COMMIT") < 0 ? fail(s, e, "make") : 0;
}

static int prepare(struct store *s, struct err *e)
{
    sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
    // WAL: readers never wait for a writer; FULL: each commit is on the disk before it is answered
    if (run(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF") < 0)
        return fail(s, e, "open");
    int version = schema_version(s);
    if (version == 0)
        return make_schema(s, e);
    if (version < 0)
        return fail(s, e, "open");
    if (version > STORE_SCHEMA)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s was written by a newer culvert (schema %d); run that one", s->path,
                       version);
    return 0;
}

// SQLite gives its journals the mode of the store, so that the store is made here, for its owner alone.
static int make_file(struct store *s, struct err *e)
{
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, errno, "open %s", s->path);
    close(fd);
    return 0;
}

struct store *store_open(const char *state, struct err *e)
{
    if (file_state_dir(state, e) < 0)
        return NULL;
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->path = file_path(state, STORE_FILE);
    if (make_file(s, e) < 0)
        goto out;
    if (sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        fail(s, e, "open");
        goto out;
    }
    if (prepare(s, e) == 0)
        return s;
out:
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    sqlite3_close(s->db);
    free(s->path);
    free(s);
}

uint32_t store_version(struct store *s)
{
    sqlite3_stmt *q = ask(s, "PRAGMA data_version", "");
    uint32_t version = step(&q) == 1 ? (uint32_t)sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return version;
}

// Invitations ---------------------------------------------------------------------------------------------------

static bool hash_token(const uint8_t token[PAIRING_TOKEN], uint8_t hash[HASH_SIZE])
{
    return EVP_Q_digest(NULL, "SHA256", NULL, token, PAIRING_TOKEN, hash, NULL) == 1;
}

// 1 when an identity that is not revoked has the name, 0 when none, -1 failed.
static int name_taken(struct store *s, const char *name)
{
    sqlite3_stmt *q = ask(s, "SELECT 1 FROM identities WHERE name = ? AND revoked IS NULL", "t", name);
    int got = step(&q);
    sqlite3_finalize(q);
    return got;
}

static int add_invitation(struct store *s, const struct store_invite *i, const uint8_t hash[HASH_SIZE], const char *id)
{
    int64_t at = now();
    int64_t ttl = i->ttl_s > INT32_MAX ? INT32_MAX : (int64_t)i->ttl_s;
    sqlite3_stmt *q = ask(s, "INSERT INTO invitations VALUES (?, ?, ?, ?, ?, ?, NULL)", "bttiii", hash, id, i->name,
                          (int64_t)i->uses, at, at + ttl);
    if (change(s, q) < 0)
        return -1;
    for (size_t k = 0; k < i->rule_count; k++) {
        q = ask(s, "INSERT INTO invitation_rules VALUES (?, ?, ?, ?)", "biit", hash, (int64_t)k,
                (int64_t)i->rules[k].verb, i->rules[k].text);
        if (change(s, q) < 0)
            return -1;
    }
    return 0;
}

static int check_invite(const struct store_invite *i, struct err *e)
{
    if (!spec_is_name(i->name))
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "\"%.100s\" is no name for an agent: 1 to 63 letters, digits, '.', '_', "
                       "'-'",
                       i->name);
    if (i->uses == 0 || i->ttl_s == 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "an invitation needs at least one use and one second");
    if (i->rule_count > POLICY_RULES_MAX)
        return err_set(e, ERR_USAGE, WHY_NONE, "an agent has at most %d rules", POLICY_RULES_MAX);
    return 0;
}

int store_invite(struct store *s, const struct store_invite *i, uint8_t token[PAIRING_TOKEN], char *id, struct err *e)
{
    uint8_t hash[HASH_SIZE], random[6];
    if (check_invite(i, e) < 0)
        return -1;
    if (RAND_bytes(token, PAIRING_TOKEN) != 1 || RAND_bytes(random, sizeof random) != 1 || !hash_token(token, hash))
        return err_set(e, ERR_FAILED, WHY_INTERNAL, "make a token: the system gives no random bytes");
    snprintf(id, STORE_INVITATION_ID, "inv-%02x%02x%02x%02x%02x%02x", random[0], random[1], random[2], random[3],
             random[4], random[5]);
    if (run(s, "BEGIN IMMEDIATE") < 0)
        return fail(s, e, "write");
    int taken = name_taken(s, i->name);
    if (taken == 1) {
        run(s, "ROLLBACK");
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "an agent %s exists; revoke it first, invite another name, or change its "
                       "rules with `culvert grant %s`",
                       i->name, i->name);
    }
    if (taken < 0 || add_invitation(s, i, hash, id) < 0 || run(s, "COMMIT") < 0) {
        fail(s, e, "write");
        run(s, "ROLLBACK");
        return -1;
    }
    return 0;
}

int store_each_invitation(struct store *s, store_invitation_fn *fn, void *ctx, struct err *e)
{
    sqlite3_stmt *q = ask(s,
                          "SELECT id, name, uses_left, created, expires FROM invitations WHERE withdrawn IS NULL"
                          " AND uses_left > 0 AND expires > ? ORDER BY created, id",
                          "i", now());
    int got;
    while ((got = step(&q)) == 1) {
        struct store_invitation i = {.uses_left = (unsigned)sqlite3_column_int64(q, 2),
                                     .created = sqlite3_column_int64(q, 3),
                                     .expires = sqlite3_column_int64(q, 4)};
        copy_text(i.id, sizeof i.id, q, 0);
        copy_text(i.name, sizeof i.name, q, 1);
        fn(&i, ctx);
    }
    return got < 0 ? fail(s, e, "read") : 0;
}

// Enrolling -----------------------------------------------------------------------------------------------------

struct invitation {
    uint8_t hash[HASH_SIZE];
    char name[SPEC_NAME_MAX + 1];
    bool used_by_key; // this key has used it before
};

// 1: the token opens; 0: it does not; -1: failed.
static int find_invitation(struct store *s, struct invitation *i, const uint8_t pin[PIN_SIZE])
{
    sqlite3_stmt *q = ask(s,
                          "SELECT name, uses_left, (SELECT 1 FROM uses WHERE hash = ?1 AND pin = ?2) FROM invitations"
                          " WHERE hash = ?1 AND withdrawn IS NULL AND expires > ?3",
                          "bbi", i->hash, pin, now());
    int got = step(&q);
    if (got == 1) {
        copy_text(i->name, sizeof i->name, q, 0);
        i->used_by_key = sqlite3_column_int(q, 2) == 1;
        got = i->used_by_key || sqlite3_column_int64(q, 1) > 0;
    }
    sqlite3_finalize(q);
    return got;
}

// The identity of a key: 1 with its name, 2 when it is revoked, 0 when unknown, -1 failed.
static int find_identity(struct store *s, const uint8_t pin[PIN_SIZE], char *name)
{
    sqlite3_stmt *q = ask(s, "SELECT name, revoked IS NOT NULL FROM identities WHERE pin = ?", "b", pin);
    int got = step(&q);
    if (got == 1) {
        copy_text(name, SPEC_NAME_MAX + 1, q, 0);
        got = sqlite3_column_int(q, 1) ? 2 : 1;
    }
    sqlite3_finalize(q);
    return got;
}

// The first of name, name-2, name-3 … that nobody has.
static int free_name(struct store *s, const char *wished, char *name)
{
    snprintf(name, SPEC_NAME_MAX + 1, "%s", wished);
    for (int n = 2; n <= NAME_TRIES; n++) {
        int taken = name_taken(s, name);
        if (taken <= 0)
            return taken;
        snprintf(name, SPEC_NAME_MAX + 1, "%.58s-%d", wished, n);
    }
    return -1;
}

static int count_rules(struct store *s, const uint8_t pin[PIN_SIZE], int64_t *count, int64_t *next)
{
    sqlite3_stmt *q = ask(s, "SELECT count(*), coalesce(max(place), -1) + 1 FROM rules WHERE pin = ?", "b", pin);
    int got = step(&q);
    if (got == 1) {
        *count = sqlite3_column_int64(q, 0);
        *next = sqlite3_column_int64(q, 1);
    }
    sqlite3_finalize(q);
    return got == 1 ? 0 : -1;
}

// Finds a rule that allows the same; 1 and its place, 0, or -1.
static int find_rule(struct store *s, const uint8_t pin[PIN_SIZE], const struct rule *r, int64_t *at)
{
    sqlite3_stmt *q = ask(s, "SELECT place, text FROM rules WHERE pin = ? AND verb = ?", "bi", pin, (int64_t)r->verb);
    int got;
    while ((got = step(&q)) == 1) {
        char text[RULE_TEXT_MAX];
        struct rule have;
        struct err e = ERR_INIT;
        copy_text(text, sizeof text, q, 1);
        bool same = rule_parse(&have, r->verb, text, &e) == 0 ? rule_same(&have, r) : strcmp(text, r->text) == 0;
        err_fini(&e);
        if (same) {
            *at = sqlite3_column_int64(q, 0);
            break;
        }
    }
    sqlite3_finalize(q);
    return got;
}

// 1 added, 0 it was there or there are too many (*full), -1 failed.
static int add_rule(struct store *s, const uint8_t pin[PIN_SIZE], const struct rule *r, bool *full)
{
    int64_t at, count, next;
    int got = find_rule(s, pin, r, &at);
    if (got != 0)
        return got < 0 ? -1 : 0;
    if (count_rules(s, pin, &count, &next) < 0)
        return -1;
    if (count >= POLICY_RULES_MAX) {
        *full = true;
        return 0;
    }
    return change(s, ask(s, "INSERT INTO rules VALUES (?, ?, ?, ?)", "biit", pin, next, (int64_t)r->verb, r->text));
}

static int drop_rule(struct store *s, const uint8_t pin[PIN_SIZE], const struct rule *r)
{
    int64_t at;
    int got = find_rule(s, pin, r, &at);
    if (got != 1)
        return got;
    return change(s, ask(s, "DELETE FROM rules WHERE pin = ? AND place = ?", "bi", pin, at));
}

// The invitation's rules become the identity's.
static int copy_rules(struct store *s, const struct invitation *i, const uint8_t pin[PIN_SIZE])
{
    sqlite3_stmt *q = ask(s, "SELECT verb, text FROM invitation_rules WHERE hash = ? ORDER BY place", "b", i->hash);
    bool full = false;
    int got;
    while ((got = step(&q)) == 1) {
        char text[RULE_TEXT_MAX];
        struct rule r;
        struct err e = ERR_INIT;
        copy_text(text, sizeof text, q, 1);
        int parsed = rule_parse(&r, (enum rule_verb)(sqlite3_column_int(q, 0) % 3), text, &e);
        err_fini(&e);
        if (parsed == 0 && add_rule(s, pin, &r, &full) < 0) {
            sqlite3_finalize(q);
            return -1;
        }
    }
    return got;
}

static int write_identity(struct store *s, const struct invitation *i, const uint8_t pin[PIN_SIZE], char *name)
{
    int known = find_identity(s, pin, name);
    if (known < 0)
        return -1;
    if (known != 1) {
        if (free_name(s, i->name, name) < 0)
            return -1;
        if (change(s, ask(s, "DELETE FROM rules WHERE pin = ?", "b", pin)) < 0 ||
            change(s, ask(s, "INSERT OR REPLACE INTO identities VALUES (?, ?, ?, NULL)", "bti", pin, name, now())) < 0)
            return -1;
    }
    return copy_rules(s, i, pin);
}

// Within a transaction: 1 enrolled, 0 refused, -1 failed.
static int enroll(struct store *s, struct invitation *i, const uint8_t pin[PIN_SIZE], char *name)
{
    int got = find_invitation(s, i, pin);
    if (got != 1)
        return got;
    if (i->used_by_key) // a WELCOME that was lost; but a key revoked since stays so
        return find_identity(s, pin, name) == 1;
    if (write_identity(s, i, pin, name) < 0 ||
        change(s, ask(s, "INSERT INTO uses VALUES (?, ?, ?)", "bbi", i->hash, pin, now())) != 1 ||
        change(s, ask(s, "UPDATE invitations SET uses_left = uses_left - 1 WHERE hash = ?", "b", i->hash)) != 1)
        return -1;
    return 1;
}

// The token opens nothing (any more), but the key may have come in with it: a crash before it was erased, a late retry.
static enum store_answer enrolled_before(struct store *s, const uint8_t pin[PIN_SIZE], char *name, struct err *e)
{
    int got = find_identity(s, pin, name);
    if (got < 0) {
        fail(s, e, "read");
        return STORE_BROKEN;
    }
    return got == 1 ? STORE_ENROLLED : STORE_REFUSED;
}

enum store_answer store_enroll(struct store *s, const uint8_t token[PAIRING_TOKEN], const uint8_t pin[PIN_SIZE],
                               char *name, struct err *e)
{
    struct invitation i = {0};
    int got = -1;
    if (!hash_token(token, i.hash)) {
        err_set(e, ERR_FAILED, WHY_INTERNAL, "SHA-256 is not to be had");
        return STORE_BROKEN;
    }
    int opens = find_invitation(s, &i, pin); // guessing does not even take the write lock
    if (opens == 0)
        return enrolled_before(s, pin, name, e);
    if (opens == 1 && run(s, "BEGIN IMMEDIATE") == 0)
        got = enroll(s, &i, pin, name);
    if (got >= 0 && run(s, got == 1 && !i.used_by_key ? "COMMIT" : "ROLLBACK") < 0)
        got = -1;
    if (got < 0) {
        fail(s, e, "write");
        run(s, "ROLLBACK");
        return STORE_BROKEN;
    }
    return got ? STORE_ENROLLED : STORE_REFUSED;
}

// Granting and revoking -----------------------------------------------------------------------------------------

// An identity that is not revoked, by name or pin: 1, 0, -1.
static int find_agent(struct store *s, const char *agent, uint8_t pin[PIN_SIZE])
{
    uint8_t asked[PIN_SIZE] = {0};
    bool is_pin = pin_parse(asked, agent);
    sqlite3_stmt *q = ask(s,
                          "SELECT pin FROM identities WHERE (name = ?1 OR (?3 AND pin = ?2)) AND revoked IS NULL"
                          " ORDER BY name = ?1 DESC",
                          "tbi", agent, asked, (int64_t)is_pin);
    int got = step(&q);
    if (got == 1 && !copy_pin(pin, q, 0))
        got = -1;
    sqlite3_finalize(q);
    return got;
}

static int no_agent(struct err *e, const char *agent)
{
    return err_set(e, ERR_USAGE, WHY_NONE,
                   "there is no agent \"%.100s\" here; `culvert table agents` shows those there "
                   "are",
                   agent);
}

static int grant(struct store *s, const uint8_t pin[PIN_SIZE], const struct rule *add, size_t add_count,
                 const struct rule *drop, size_t drop_count, unsigned *changed, bool *full)
{
    for (size_t i = 0; i < drop_count; i++) {
        int got = drop_rule(s, pin, &drop[i]);
        if (got < 0)
            return -1;
        *changed += got > 0;
    }
    for (size_t i = 0; i < add_count; i++) {
        int got = add_rule(s, pin, &add[i], full);
        if (got < 0)
            return -1;
        *changed += got > 0;
    }
    return 0;
}

int store_grant(struct store *s, const char *agent, const struct rule *add, size_t add_count, const struct rule *drop,
                size_t drop_count, unsigned *changed, struct err *e)
{
    uint8_t pin[PIN_SIZE];
    bool full = false;
    *changed = 0;
    if (run(s, "BEGIN IMMEDIATE") < 0)
        return fail(s, e, "write");
    int got = find_agent(s, agent, pin);
    if (got == 1 && grant(s, pin, add, add_count, drop, drop_count, changed, &full) < 0)
        got = -1;
    if (got < 0 || (got == 1 && !full && run(s, "COMMIT") < 0)) {
        fail(s, e, "write");
        run(s, "ROLLBACK");
        return -1;
    }
    if (got == 1 && !full)
        return 0;
    run(s, "ROLLBACK");
    *changed = 0;
    return full ? err_set(e, ERR_USAGE, WHY_NONE, "an agent has at most %d rules; drop some", POLICY_RULES_MAX)
                : no_agent(e, agent);
}

// With an identity goes what is left of the invitations it came by: who lost the key may have lost the line too.
static int revoke_identity(struct store *s, const uint8_t pin[PIN_SIZE])
{
    if (change(s, ask(s,
                      "UPDATE invitations SET withdrawn = ? WHERE withdrawn IS NULL AND hash IN (SELECT hash FROM uses"
                      " WHERE pin = ?)",
                      "ib", now(), pin)) < 0)
        return -1;
    return change(s, ask(s, "UPDATE identities SET revoked = ? WHERE pin = ?", "ib", now(), pin));
}

int store_revoke(struct store *s, const char *what, enum store_kind *kind, struct err *e)
{
    uint8_t pin[PIN_SIZE];
    if (run(s, "BEGIN IMMEDIATE") < 0)
        return fail(s, e, "write");
    int got = find_agent(s, what, pin);
    *kind = STORE_AGENT;
    if (got == 1) {
        got = revoke_identity(s, pin);
    } else if (got == 0) {
        *kind = STORE_INVITATION;
        got = change(
            s, ask(s, "UPDATE invitations SET withdrawn = ? WHERE id = ? AND withdrawn IS NULL", "it", now(), what));
    }
    if (got < 0 || run(s, "COMMIT") < 0) {
        fail(s, e, "write");
        run(s, "ROLLBACK");
        return -1;
    }
    if (got == 0)
        return err_set(e, ERR_USAGE, WHY_NONE,
                       "there is no agent, pin or invitation \"%.100s\" here (or it is revoked "
                       "already); `culvert table agents` and `culvert table invitations` show those there are",
                       what);
    return 0;
}

// Reading -------------------------------------------------------------------------------------------------------

int store_each_identity(struct store *s, store_identity_fn *fn, void *ctx, struct err *e)
{
    sqlite3_stmt *q = ask(s,
                          "SELECT pin, name, created, coalesce(revoked, 0) FROM identities ORDER BY name, created", "");
    int got;
    while ((got = step(&q)) == 1) {
        struct store_identity i = {.created = sqlite3_column_int64(q, 2), .revoked = sqlite3_column_int64(q, 3)};
        copy_text(i.name, sizeof i.name, q, 1);
        if (copy_pin(i.pin, q, 0))
            fn(&i, ctx);
    }
    return got < 0 ? fail(s, e, "read") : 0;
}

int store_each_rule(struct store *s, store_rule_fn *fn, void *ctx, struct err *e)
{
    sqlite3_stmt *q = ask(s,
                          "SELECT name, verb, text FROM rules JOIN identities USING (pin) WHERE revoked IS NULL"
                          " ORDER BY name, place",
                          "");
    int got;
    while ((got = step(&q)) == 1) {
        char name[SPEC_NAME_MAX + 1], text[RULE_TEXT_MAX];
        copy_text(name, sizeof name, q, 0);
        copy_text(text, sizeof text, q, 2);
        fn(name, (enum rule_verb)sqlite3_column_int(q, 1), text, ctx);
    }
    return got < 0 ? fail(s, e, "read") : 0;
}

static int read_subjects(struct store *s, struct policy *p)
{
    sqlite3_stmt *q = ask(s, "SELECT pin, name FROM identities WHERE revoked IS NULL ORDER BY pin", "");
    int got;
    while ((got = step(&q)) == 1) {
        uint8_t pin[PIN_SIZE];
        char name[SPEC_NAME_MAX + 1];
        copy_text(name, sizeof name, q, 1);
        if (copy_pin(pin, q, 0))
            policy_add(p, pin, name);
    }
    return got;
}

// A rule that this version cannot read allows nothing.
static int read_rules(struct store *s, struct policy *p)
{
    sqlite3_stmt *q = ask(s, "SELECT pin, verb, text FROM rules ORDER BY pin, place", "");
    int got;
    while ((got = step(&q)) == 1) {
        uint8_t pin[PIN_SIZE];
        char text[RULE_TEXT_MAX];
        struct rule r;
        struct err e = ERR_INIT;
        int verb = sqlite3_column_int(q, 1);
        copy_text(text, sizeof text, q, 2);
        if (copy_pin(pin, q, 0) && verb >= RULE_ALLOW && verb <= RULE_OFFER &&
            rule_parse(&r, (enum rule_verb)verb, text, &e) == 0)
            policy_add_rule(p, pin, &r);
        err_fini(&e);
    }
    return got;
}

struct policy *store_policy(struct store *s, struct err *e)
{
    struct policy *p = policy_new();
    // one read transaction, so that subjects and rules are of one moment
    if (run(s, "BEGIN") < 0 || read_subjects(s, p) < 0 || read_rules(s, p) < 0 || run(s, "COMMIT") < 0) {
        fail(s, e, "read");
        run(s, "ROLLBACK");
        policy_free(p);
        return NULL;
    }
    return p;
}

// The relay's listeners ------------------------------------------------------------------------------------------

static int write_listeners(struct store *s, const struct addr *listeners, size_t count)
{
    if (run(s, "DELETE FROM listeners") < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char host[ADDR_TEXT_MAX];
        if (listeners[i].len && listeners[i].sa.sa_family != AF_UNIX &&
            change(s, ask(s, "INSERT INTO listeners VALUES (?, ?, ?)", "iti", (int64_t)i,
                          addr_host(&listeners[i], host), (int64_t)addr_port(&listeners[i]))) < 0)
            return -1;
    }
    return 0;
}

int store_set_own(struct store *s, const struct addr *listeners, size_t count, struct err *e)
{
    if (run(s, "BEGIN IMMEDIATE") == 0 && write_listeners(s, listeners, count) == 0 && run(s, "COMMIT") == 0)
        return 0;
    fail(s, e, "write");
    run(s, "ROLLBACK");
    return -1;
}

int store_add_own(struct store *s, struct policy *p, struct err *e)
{
    sqlite3_stmt *q = ask(s, "SELECT host, port FROM listeners ORDER BY place", "");
    int got;
    while ((got = step(&q)) == 1) {
        char host[ADDR_TEXT_MAX];
        struct addr a;
        copy_text(host, sizeof host, q, 0);
        if (addr_parse_ip(&a, host, (uint16_t)sqlite3_column_int(q, 1)))
            policy_add_own(p, &a);
    }
    return got < 0 ? fail(s, e, "read") : 0;
}
