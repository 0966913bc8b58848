// SPDX-License-Identifier: Apache-2.0
// A whole connection to a joined relay, as an agent makes it, for probes that want to talk by it: dials by one way and one transport,
// shakes hands inside and out, says HELLO with a session of its own, and then sends and counts bare frames instead of carrying
// streams. Embedded in its probe; after TALK_UP comes what happens to it, after TALK_DOWN nothing. May be stopped at any time.
#pragma once
#include "dial/dial.h"
#include "session/carrier.h"
#include "wire/frame.h"

#define TALK_MS 7000 // until WELCOME

enum talk_event {
    TALK_UP,   // WELCOME is in
    TALK_PONG, // to the newest talk_ping
    TALK_PADDED, // all that was asked for by talk_want is in
    TALK_DOWN, // err says why
};

struct talk {
    struct worker *w;
    struct dial_options o;
    struct dial dial;
    struct link *inner; // owned; the top
    struct wake wake;
    struct timer deadline;
    enum { TALK_DIALLING, TALK_OPENING, TALK_ASKING, TALK_TALKING, TALK_OVER } state;
    bool peel, peeled, exporter; // peel: ask for it; exporter: it could be asked for
    struct frame_hello hello;
    struct frame_welcome welcome;
    uint8_t head[FRAME_HEAD], body[FRAME_CONTROL_MAX];
    size_t head_have, body_have;
    struct frame_head frame;
    uint64_t began_us, open_us, asked_us, up_us;
    uint64_t padded; // bytes of PAD that came
    uint64_t wanted; // 0: none, or all is in
    uint64_t pings;
    uint64_t spoken_ms; // when something was last sent or came
    void (*on_event)(struct talk *t, enum talk_event what, const struct err *err);
};

// o: copied, what it points to must stay. Each has a session of its own, so that the end of one ends no other.
void talk_start(struct talk *t, struct worker *w, struct resolver *r, const struct dial_options *o, bool peel,
                void (*on_event)(struct talk *t, enum talk_event what, const struct err *err));
void talk_pad(struct talk *t, size_t bytes);        // sends that much of nothing
void talk_want(struct talk *t, uint32_t bytes);     // asks for as much back
void talk_ping(struct talk *t, uint32_t interval_ms);
void talk_stop(struct talk *t); // says goodbye if it stands; legal when over, and on a zeroed one
