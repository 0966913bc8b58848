// SPDX-License-Identifier: Apache-2.0
// How long a connection on which nothing is said survives: several at once, each silent for another time and then asked by one
// PING. A box that forgets a connection in silence shows as a PING without an answer, one that cuts as an end.
#include <stdio.h>
#include <stdlib.h>
#include "check/inside.h"

#define ANSWER_MS 6000

static const uint32_t steps_ms[] = {20000, 40000, 60000, 120000, CHECK_IDLE_MS};
#define STEPS (sizeof(steps_ms) / sizeof(steps_ms[0]))

struct idle;

struct silence {
    struct idle *all;
    struct talk talk;
    struct timer timer; // until the PING, then for its answer
    bool up, asked, over, survived;
    uint64_t cut_ms; // it ended by itself after so long; 0: it did not
};

struct idle {
    struct probe probe;
    struct finding *f;
    struct silence silences[STEPS];
};

static void fini(struct probe *p)
{
    struct idle *i = container_of(p, struct idle, probe);
    for (size_t k = 0; k < STEPS; k++) {
        timer_stop(&p->c->w, &i->silences[k].timer);
        talk_stop(&i->silences[k].talk);
    }
}

static void say(struct idle *i, uint64_t survived_ms, const struct silence *dead)
{
    struct check *c = i->probe.c;
    unsigned lived = (unsigned)(survived_ms / 1000), cut = (unsigned)(dead->cut_ms / 1000);
    finding_more(i->f, "survives_s", json_integer(lived));
    if (dead->cut_ms) {
        finding_more(i->f, "cut_s", json_integer(cut));
        finding_end(i->f, CHECK_OK, ADVICE_IDLE, c->w.now_ms, "a silent connection is cut after %u s", cut);
    } else if (survived_ms) {
        finding_end(i->f, CHECK_OK, ADVICE_IDLE, c->w.now_ms, "a silent connection survives %u s, and is dead after %u s", lived,
                    (unsigned)(steps_ms[dead - i->silences] / 1000));
    } else {
        finding_end(i->f, CHECK_OK, ADVICE_IDLE, c->w.now_ms, "a silent connection is dead after %u s", steps_ms[0] / 1000);
    }
}

// The shortest that died tells; what is silent for longer dies of the same.
static void judge(struct idle *i)
{
    uint64_t survived = 0;
    for (size_t k = 0; k < STEPS; k++) {
        struct silence *s = &i->silences[k];
        if (!s->over)
            return;
        if (!s->survived) {
            say(i, survived, s);
            probe_over(&i->probe);
            return;
        }
        survived = steps_ms[k];
    }
    finding_more(i->f, "survives_s", json_integer(CHECK_IDLE_MS / 1000));
    finding_end(i->f, CHECK_OK, ADVICE_NONE, i->probe.c->w.now_ms, "a silent connection survives %d s", CHECK_IDLE_MS / 1000);
    probe_over(&i->probe);
}

static void over(struct silence *s, bool survived)
{
    struct check *c = s->all->probe.c;
    s->over = true;
    s->survived = survived;
    timer_stop(&c->w, &s->timer);
    talk_stop(&s->talk);
    if (!survived && s->cut_ms) { // all longer ones end alike
        for (size_t k = 0; k < STEPS; k++) {
            struct silence *other = &s->all->silences[k];
            if (!other->over && steps_ms[k] > s->cut_ms) {
                other->over = true;
                other->cut_ms = s->cut_ms;
                timer_stop(&c->w, &other->timer);
                talk_stop(&other->talk);
            }
        }
    }
    judge(s->all);
}

static void on_timer(struct timer *timer)
{
    struct silence *s = container_of(timer, struct silence, timer);
    struct check *c = s->all->probe.c;
    if (s->asked) {
        over(s, false);
        return;
    }
    s->asked = true;
    timer_set(&c->w, &s->timer, ANSWER_MS);
    talk_ping(&s->talk, CHECK_IDLE_MS);
}

static void on_event(struct talk *talk, enum talk_event what, const struct err *err)
{
    struct silence *s = container_of(talk, struct silence, talk);
    struct idle *i = s->all;
    struct check *c = i->probe.c;
    if (what == TALK_UP) {
        s->up = true;
        timer_set(&c->w, &s->timer, steps_ms[s - i->silences]);
    } else if (what == TALK_PONG) {
        over(s, true);
    } else if (what != TALK_DOWN) {
        return;
    } else if (!s->up) { // nothing is learnt of silence
        finding_fail(i->f, err, c->w.now_ms);
        probe_over(&i->probe);
    } else {
        s->cut_ms = s->asked ? 0 : c->w.now_ms - talk->spoken_ms;
        over(s, false);
    }
}

void idle_probe(struct check_way *way)
{
    struct check *c = way->c;
    struct idle *i = calloc(1, sizeof(*i));
    struct dial_options o;
    if (!i)
        abort();
    i->f = report_add(c->report, way->group, "idle", "silence, up to 5 minutes", c->w.now_ms);
    probe_start(&i->probe, c, fini);
    check_dial_options(way, way->transport, way->mss, &o);
    for (size_t k = 0; k < STEPS; k++) {
        struct silence *s = &i->silences[k];
        s->all = i;
        timer_init(&s->timer, on_timer);
        talk_start(&s->talk, &c->w, c->resolver, &o, !c->o->peel_never, on_event);
    }
}
