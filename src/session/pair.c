// SPDX-License-Identifier: Apache-2.0
// The relay's side of streams that outlive it: OPENs of one uid are paired (rule 10 of docs/protocol.md). A tie stands for an OPEN
// that was passed on and is not answered; its stream is the half towards who was asked, the half's twin is who asked.
#include "session/meet.h"
#include "session/stream.h"

static bool is_same(const struct tie *t, const struct frame_open *open, const uint8_t asker[32], const uint8_t holder[32])
{
    return memcmp(t->asker, asker, 32) == 0 && memcmp(t->holder, holder, 32) == 0 && strcmp(t->host, open->host) == 0 &&
           t->st->datagram == open->datagram;
}

// The half lives on under the id, and in the session, of an OPEN that has just come. An id that it had from us may have been taken up
// meanwhile by an agent that has left its own question: it is told that there is nobody.
static void adopt(struct stream *half, struct stream *fresh)
{
    struct session *s = fresh->s, *old = half->s;
    uint32_t id = fresh->node.key, old_id = half->node.key;
    meet_drop(fresh);
    stream_leave(half);
    if (session_is_own(old, old_id))
        stream_leave_husk(half, old, old_id);
    buf_put(half->note);
    half->note = NULL;
    stream_enter(half, s, id);
}

enum meet_result meet_pair(struct meet *m, struct stream *st, const struct frame_open *open, const uint8_t asker[32],
                           const uint8_t holder[32])
{
    struct tie *t = meet_find(m, open->uid, NULL);
    while (t && !is_same(t, open, asker, holder))
        t = meet_find(m, open->uid, t);
    if (!t)
        return switch_is_sound_question(NULL, open) ? MEET_NONE : MEET_REFUSED;
    struct stream *half = t->st;
    bool is_again = t->back == ((open->flags & OPEN_BACK) != 0);
    if (!switch_is_sound_question(is_again ? half->twin : half, open))
        return MEET_REFUSED;
    if (is_again) { // asked again by another session of the same agent
        adopt(half->twin, st);
        half->twin->continued |= (open->flags & OPEN_CONTINUE) != 0;
        half->twin->known |= (open->flags & OPEN_CONTINUE) != 0;
        switch_note_state(half->twin, &open->state, open->window);
        return MEET_PAIRED;
    }
    if (!(open->flags & OPEN_CONTINUE) && !half->twin->continued)
        return MEET_REFUSED; // neither end knows the stream
    meet_untie(half);
    adopt(half, st);
    half->opener = false; // both have asked, and both get OPENED
    switch_note_state(half, &open->state, open->window);
    switch_meet(half, open->flags & OPEN_BACK ? open->sealed : half->twin->seal); // as the accepter has agreed
    return MEET_PAIRED;
}

void meet_wait(struct meet *m, struct stream *st, const struct frame_open *open, const uint8_t asker[32],
               const uint8_t holder[32])
{
    struct tie *t = meet_tie(m, st->twin, open);
    t->back = open->flags & OPEN_BACK;
    memcpy(t->asker, asker, sizeof t->asker);
    memcpy(t->holder, holder, sizeof t->holder);
}
