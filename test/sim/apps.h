// SPDX-License-Identifier: Apache-2.0
// The applications of both simulations: two ends of a stream that write a pattern, stall, end, abort or give up, and check
// what arrives; what is wrong fails the schedule. They act only when they are owed nothing: who was answered AGAIN or room 0
// waits for its wake, so a missing wake shows as a hang. The simulation owns the pairs, opens their streams and sends the
// datagrams.
#pragma once
#include "core/worker.h"
#include "session/stream.h"

enum ending { END_FIN, END_ABORT, END_CLOSE };

struct pair;

struct app { // one end of one stream
    struct worker *w;
    struct pair *pair;
    int dir;        // 0: the opener
    struct link *l; // NULL: not yet, or closed
    struct wake wake;
    bool ready; // nothing is owed to it
    bool is_open, fin_sent, got_end, failed, aborted, closed;
    enum err_why why;
    uint32_t id;
    enum ending ending;
    uint64_t total, sent, got;
    uint32_t stall; // steps it does not read
};

struct pair {
    uint64_t key;
    struct app end[2];
    bool datagram, accepts, refused;
    uint32_t answer_in;   // steps
    struct stream *asked; // until it is answered
};

void pair_plan(struct pair *p, struct worker *w); // its key and `datagram` are set; the rest is chance
void pair_answer(struct pair *p);                 // a step nearer to it, once it is asked
bool pair_is_over(const struct pair *p);
void pair_check(const struct pair *p); // over: all must have arrived that had to
void pair_show(const struct pair *p);

void app_start(struct app *a, struct stream *st); // it owns the stream from now on
bool app_may_act(const struct app *a);
bool app_open(struct app *a);                     // a step of one that waits; true: open now
void app_move(struct app *a, unsigned stall_max); // a step of an open stream
void app_finish_sending(struct app *a);           // as was planned
void app_check(struct app *a);                    // closes it when its link has failed
