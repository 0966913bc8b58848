// SPDX-License-Identifier: Apache-2.0
// Which streams between agents are sealed, and whom this agent believes. The relay is not believed: whose pin is known here
// is spoken to sealed or not at all, whatever the relay says of him (docs/security.md, "Sealed streams").
#include <string.h>
#include "agent/inside.h"
#include "core/log.h"
#include "forward/seal.h"
#include "link/tls.h"

static enum seal_choice choose(void *owner, const char *service, struct seal_peer *peer, struct err *e)
{
    struct agent *a = owner;
    const char *at = strchr(service, '@');
    const char *name = at ? at + 1 : service;
    if (a->o->seal == AGENT_SEAL_NEVER)
        return SEAL_PLAIN;
    agent_state_fresh_peers(&a->state);
    const struct agent_peer *known = agent_state_find_peer(&a->state, name);
    if (known) {
        _Static_assert(AGENT_PEER_PINS <= SEAL_PINS_MAX, "all pins of a peer are accepted");
        memcpy(peer->pins, known->pins, known->pin_count * PIN_SIZE);
        peer->pin_count = known->pin_count;
        return SEAL_SEALED;
    }
    if (a->o->seal == AGENT_SEAL_AUTO)
        return SEAL_PLAIN;
    err_set(e, ERR_UNTRUSTED, WHY_POLICY, "--seal always: no pin of %s is known here; culvert peer add %s:PIN", name, name);
    return SEAL_REFUSED;
}

static bool knows(const struct agent *a, const uint8_t pin[PIN_SIZE])
{
    for (size_t i = 0; i < a->state.peer_count; i++)
        if (agent_peer_has(&a->state.peers[i], pin))
            return true;
    return false;
}

// The key was proved inside; name and identity are the relay's words.
static bool admit(void *owner, const uint8_t pin[32], const struct seal_asker *asker, struct err *e)
{
    struct agent *a = owner;
    char text[PIN_TEXT_MAX];
    agent_state_fresh_peers(&a->state);
    const struct agent_peer *named = agent_state_find_peer(&a->state, asker->name);
    if (asker->has_identity && !pin_equal(asker->identity, pin))
        err_set(e, ERR_UNTRUSTED, WHY_POLICY, "the asker's key is not the one that the relay names");
    else if (named && !agent_peer_has(named, pin))
        err_set(e, ERR_UNTRUSTED, WHY_POLICY, "%s is known here by another pin than %s", named->name, pin_text(pin, text));
    else if (a->o->seal == AGENT_SEAL_ALWAYS && !knows(a, pin))
        err_set(e, ERR_UNTRUSTED, WHY_POLICY, "--seal always: the asker's pin %s is not known here", pin_text(pin, text));
    return !err_is(e);
}

const char *sealing_objection(struct agent *a, const struct frame_open *open)
{
    if (open->sealed)
        return a->o->seal == AGENT_SEAL_NEVER ? "this agent does not seal (--seal never)" : NULL;
    if (a->o->seal == AGENT_SEAL_NEVER)
        return NULL;
    if (a->o->seal == AGENT_SEAL_ALWAYS)
        return "only sealed streams come in here (--seal always): the asker needs this agent's pin";
    agent_state_fresh_peers(&a->state);
    if (agent_state_find_peer(&a->state, open->agent) || (open->has_identity && knows(a, open->identity)))
        return "the asker's pin is known here, and its stream came unsealed: it needs this agent's pin too";
    return NULL;
}

int sealing_init(struct agent *a, struct err *e)
{
    if (a->o->seal == AGENT_SEAL_NEVER)
        return 0;
    a->seal = (struct seal_way){.choose = choose, .admit = admit, .owner = a};
    a->seal.client = tls_inner_ctx(false, a->state.id.cert, a->state.id.key, e);
    a->seal.server = a->seal.client ? tls_inner_ctx(true, a->state.id.cert, a->state.id.key, e) : NULL;
    if (!a->seal.server)
        return -1;
    a->fw.seal = &a->seal;
    return 0;
}

void sealing_fini(struct agent *a)
{
    SSL_CTX_free(a->seal.client);
    SSL_CTX_free(a->seal.server);
}
