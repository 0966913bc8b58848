// SPDX-License-Identifier: Apache-2.0
// Who may come in: HELLO is in, inside an unbroken TLS whose other end proved its key. A token goes to the store first,
// off the loop; then the key must be known to the policy. Whatever is wrong with a token or a key looks the same from
// outside.
#include <string.h>
#include "core/log.h"
#include "relay/inside.h"

static const char refused_text[] =
    "this key is not enrolled at the relay, or its invitation is not good (unknown, used "
    "or expired); ask for a new one";

static const uint8_t *pin_of(const struct front_caller *k)
{
    const struct link_facts *facts = conn_facts(k->conn);
    return facts && facts->has_pin ? facts->pin : NULL;
}

static void refuse(struct front_caller *k, enum welcome_status status, const char *text, const char *reason)
{
    struct relay *r = k->f->owner;
    const uint8_t *pin = pin_of(k);
    char peer[ADDR_TEXT_MAX], text_of_pin[PIN_TEXT_MAX];
    const char *key = pin ? pin_text(pin, text_of_pin) : "none";
    r->stats.refused++;
    log_event(LOG_INFO, "agent refused", LS("peer", addr_text(&conn_facts(k->conn)->peer, peer)), LS("key", key),
              LS("reason", reason));
    conn_refuse(k->conn, status, status == WELCOME_WAIT ? RELAY_RETRY_MS : 0, text);
}

// The key is known: into its session.
static void admit(struct front_caller *k, const char *name)
{
    struct relay *r = k->f->owner;
    struct frame_hello hello = k->hello;
    bool resumed;
    struct visit *v = visit_find(r, pin_of(k), name, &hello, &resumed);
    if (!v) {
        refuse(k, WELCOME_WAIT, "too many sessions of this agent", "too many sessions");
        return;
    }
    if (!visit_take_number(v, hello.carrier)) {
        refuse(k, WELCOME_WAIT, "this carrier's number was used", "carrier number used");
        return;
    }
    r->stats.welcomed++;
    r->stats.resumed += resumed;
    visit_up(v, front_take(k), resumed, &hello);
}

static void admit_known(struct front_caller *k, const char *reason)
{
    struct relay *r = k->f->owner;
    const char *name = policy_name(keeper_policy(r->keeper), pin_of(k));
    if (name)
        admit(k, name);
    else
        refuse(k, WELCOME_STOP, refused_text, reason);
}

void hello_on(struct front_caller *k, const struct frame_hello *hello)
{
    struct relay *r = k->f->owner;
    const uint8_t *pin = pin_of(k);
    k->hello = *hello;
    if (!pin) {
        refuse(k, WELCOME_STOP, refused_text, "no key");
    } else if (r->draining) {
        refuse(k, WELCOME_WAIT, "the relay is going down", "draining");
    } else if (!hello->has_token) {
        admit_known(k, "key unknown or revoked");
    } else {
        k->ticket = ++r->last_ticket;
        if (!keeper_enroll(r->keeper, hello->token, pin, k->ticket))
            refuse(k, WELCOME_WAIT, "the relay is busy", "too many enrolments wait");
        OPENSSL_cleanse(k->hello.token, sizeof k->hello.token);
    }
}

static struct front_caller *waiting(struct relay *r, uint64_t ticket)
{
    list_each(&r->front.callers, it)
    {
        struct front_caller *k = list_entry(it, struct front_caller, node);
        if (k->ticket == ticket && k->conn)
            return k;
    }
    return NULL;
}

void hello_on_enroll(void *owner, uint64_t ticket, enum store_answer answer, const char *name, const struct err *err)
{
    struct relay *r = owner;
    struct front_caller *k = waiting(r, ticket);
    if (answer == STORE_BROKEN)
        log_event(LOG_ERROR, "enrolment failed", LS("reason", err_text(err)));
    if (answer == STORE_ENROLLED) {
        r->stats.enrolled++;
        log_event(LOG_INFO, "agent joined", LS("agent", name));
    }
    if (!k)
        return;
    k->ticket = 0;
    if (r->draining)
        refuse(k, WELCOME_WAIT, "the relay is going down", "draining");
    else if (answer == STORE_BROKEN)
        refuse(k, WELCOME_WAIT, "the relay cannot reach its store", "the store failed");
    else // by the policy of now: it has the new agent already, and one revoked in the same moment no more
        admit_known(k, answer == STORE_ENROLLED ? "revoked at once" : "invitation not good");
}
