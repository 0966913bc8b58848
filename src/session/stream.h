// SPDX-License-Identifier: Apache-2.0
// The inside of a stream, for the files of this folder only. A stream is one half at one session: either an *end*, whose link a
// pump uses, or *switched*: joined with its twin in another session, passing frames. In both, snd is what goes out to this session's
// peer and rcv what came from it; a switched stream queues what came from its peer in the twin's snd. Memory lives until
// the protocol is done with it (freed) and the link was closed (detached).
#pragma once
#include "session/session.h"

enum { // control frames that wait to be sent
    DUE_OPEN = 1,
    DUE_OPENED = 2,
    DUE_REWIND = 4,
    DUE_ACK = 8,
    DUE_FIN = 16,
    DUE_RESET = 32,
};

#define UNSENT_MAX (256 * 1024) // bytes accepted from the application and not sent yet
#define NO_FINAL UINT64_MAX

struct stream {
    struct link link;
    struct hash_node node;
    struct grave grave;
    struct session *s;   // NULL: the session is gone
    struct carrier *carrier; // what goes out goes by this one; NULL: none stands, or freed
    struct stream *twin; // switched
    void *user;
    uint8_t kind, due;
    bool opener;         // we opened it (or, switched: we passed the OPEN on)
    bool datagram;
    bool attached;       // the link has an owner
    bool open_sent;      // OPEN has left, perhaps by a carrier that was lost
    bool answered;       // OPENED was seen (opener) or sent (accepter)
    bool opened_acked;   // accepter: the opener has our OPENED
    bool refused;        // OPENED carries a code
    bool seal, sealed;   // OPEN asked for sealing; OPENED agreed to it
    bool freed;          // the protocol is done with it
    bool fin;            // send side: FIN was asked for; final is snd_end (switched: fin_final)
    bool rst;            // we send RESET until it is acked
    bool rst_in;         // the peer's RESET took effect
    bool dropped;        // DATA was dropped for the budget: REWIND owed, no limit raised
    bool want_room;      // a wake is owed to the link's owner
    bool scheduled;      // in the carrier's fresh or busy
    bool buried;
    bool asking;         // end: its peer is not there; an OPEN *continue* waits for its answer, or for a session
    bool joined;         // end: OPENED answers an OPEN of a stream that was there already
    bool husk;           // only says that the stream has gone elsewhere
    bool continued;      // switched: not opened for the first time; only OPEN passes before the answer
    bool known;          // switched: its end asked, or was asked, by OPEN continue: only a state answers that
    uint16_t rst_code, rst_in_code;
    int32_t deficit;
    struct list control, data, lazy;
    struct list left;    // in session.left: freed, while its owner still has the link
    struct budget_waiter room_waiter; // DATA was dropped
    struct budget_waiter send_waiter; // the owner found no room
    struct buf *note;    // encoded OPEN or OPENED, until acknowledged
    struct addr *bound;  // from OPENED; NULL: none
    struct tie *tie;     // meet.h; NULL: none
    uint8_t uid[16];

    struct bufq snd;     // end: [snd_una, snd_end); switched: [snd_nxt, snd_end)
    struct buf *cur;     // end: the buffer that holds snd_nxt; NULL: snd_nxt is where snd begins
    uint64_t cur_key;    // offset of cur's storage: base + (offset - cur_key) is where a byte is
    uint64_t snd_una, snd_nxt, snd_max, snd_end, snd_limit;
    uint64_t fin_final;  // switched: final that passed, NO_FINAL before
    uint64_t rst_final;

    struct bufq rcv;     // end only
    uint64_t rcv_nxt;    // next expected: what is before it is held here (end) or was passed on (switched: twin's snd_end)
    uint64_t rcv_read;   // handed to the owner
    uint64_t rcv_final, rst_in_final; // NO_FINAL: not known
    uint64_t limit_told, limit_max;   // last and highest limit the peer was told
    uint64_t ack_told;
    uint32_t window;
    uint32_t moved_at;                // last DATA in or out, in units of 2^20 us
    uint64_t tune_us, tune_read;      // when and where the present window's measure began

    uint32_t dgram_seq;
    uint64_t dgrams_in, dgrams_out, dgram_bytes_in, dgram_bytes_out;
    struct bufq parts;   // a datagram being put together
    uint8_t part_next;
    uint32_t part_seq;

    uint64_t opened_us;
};

// session.c
int session_broken(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3))); // -1, sets s->err
struct stream *session_find(struct session *s, uint32_t id);
// `by`: the carrier that brought the OPEN, NULL: ours.
struct stream *stream_new(struct session *s, uint32_t id, const struct frame_open *open, struct carrier *by);
void stream_release(struct stream *st); // frees the memory once freed and detached
void stream_free_protocol(struct stream *st); // out of the session's tables; `freed` from now on

// carriers.c: which carrier a stream uses
void carrier_output(struct carrier *c);      // something waits to be sent; NULL: none stands
void carrier_ask_ping(struct carrier *c);    // with the next frames; NULL is allowed
void carrier_ack_soon(struct carrier *c);    // delayed ACKs go within ACK_DELAY_US
void stream_attach(struct stream *st, struct carrier *by); // chooses; `by` (may be NULL) wins a tie
void stream_detach(struct stream *st);       // leaves the carrier's lists
void stream_change(struct stream *st, struct carrier *to); // goes on there, behind a REWIND; NULL: waits for the next one
void stream_unschedule(struct stream *st);

bool stream_is_quiet(const struct stream *st, uint64_t now_us); // nothing under way, no DATA lately: cheap to move
void session_balance(struct session *s);
void stream_follow(struct stream *st, struct carrier *c); // the peer's REWIND came by c

// last_ack.c: the last ACKs of freed streams, rule 6
void stream_last_ack(struct stream *st, uint64_t acked); // by the stream's carrier; it is about to be freed
void carrier_last_ack(struct session *s, struct carrier *c, uint32_t id, uint64_t acked); // c NULL: by the next carrier
size_t carrier_put_last_ack(struct carrier *c, uint8_t *out); // 0: none
void carrier_pass_last_acks(struct carrier *c, struct carrier *to); // c is lost; to NULL: to the next carrier
void last_acks_free(struct session *s, struct list *acks);

// session.c, meet.c
bool session_is_own(const struct session *s, uint32_t id);
uint32_t session_take_id(struct session *s); // 0: it opens none
void stream_leave(struct stream *st);        // its session, without a word to the peer
void stream_enter(struct stream *st, struct session *s, uint32_t id);
// In the place of a stream that has left: tells the peer so, and takes nothing that comes.
void stream_leave_husk(const struct stream *st, struct session *s, uint32_t id);
struct tie *meet_tie(struct meet *m, struct stream *st, const struct frame_open *open);
struct tie *meet_find(const struct meet *m, const uint8_t uid[16], struct tie *after);
void meet_untie(struct stream *st);
void meet_remember(struct stream *st);   // it is over at this end
void meet_drop(struct stream *fresh);    // an OPEN that needs no answer
// 1: handled, 0: a new stream, -1: the peer broke the protocol.
int meet_on_open(struct session *s, struct stream *fresh, const struct frame_open *open);
bool meet_on_opened(struct stream *st, const struct frame_opened *f, int *result); // false: an ordinary answer
bool meet_on_reset(struct stream *st, uint16_t code, uint64_t final);              // true: adrift

// stream.c: frames for an end
void stream_finish(struct stream *st); // all was done; no last ACK
// The peer contradicts itself. -1: the session ends by that; 0: only the stream does, as it is another agent's word.
int stream_broken(struct stream *st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void stream_after_receive(struct stream *st);
void stream_encode_opened(struct stream *st); // meet.c: the answer to one who knows the stream
void stream_due(struct stream *st, unsigned due);
void stream_schedule(struct stream *st);
void stream_init_link(struct stream *st);
int stream_on_opened(struct stream *st, const struct frame_opened *f);
int stream_on_data(struct stream *st, uint64_t offset, struct buf *b); // owns b
int stream_on_ack(struct stream *st, uint64_t acked, uint64_t limit, bool rewind);
int stream_on_fin(struct stream *st, uint64_t final);
int stream_on_reset(struct stream *st, uint16_t code, uint64_t final);
void stream_on_open_again(struct stream *st);
void stream_carrier_lost(struct stream *st);
void stream_carrier_new(struct stream *st);
void stream_abort(struct stream *st, enum err_why why, bool at_once);
void stream_session_gone(struct stream *st, const struct err *why);
void stream_outlive(struct stream *st); // it is over, and its session goes; what was received may still be read
void stream_wake_room(struct stream *st);
// A delayed ACK is worth its bytes before DATA that goes anyway: a conversation's would otherwise come due in the middle of it,
// and wake both ends once more.
bool stream_ack_rides(const struct stream *st);
// The acknowledgement and limit that an ACK or REWIND for this stream carries now.
void stream_ack_values(struct stream *st, bool rewind, uint64_t *acked, uint64_t *limit);
uint64_t stream_sendable(const struct stream *st); // bytes of DATA that may go now

// switch.c: the same for a switched stream
int switch_on_opened(struct stream *st, const struct frame_opened *f);
int switch_on_data(struct stream *st, uint64_t offset, struct buf *b);
int switch_on_ack(struct stream *st, uint64_t acked, uint64_t limit, bool rewind);
int switch_on_fin(struct stream *st, uint64_t final);
int switch_on_reset(struct stream *st, uint16_t code, uint64_t final);
void switch_on_open_again(struct stream *st);
void switch_carrier_lost(struct stream *st);
void switch_carrier_new(struct stream *st);
void switch_session_gone(struct stream *st, const struct err *why);
void switch_note_state(struct stream *st, const struct frame_state *f, uint64_t window); // from st's peer
// What an agent asks, by itself and after what it has asked and sent before (st: the half towards it; NULL: nothing). Anything else would
// make the other agent hear contradictions.
bool switch_is_sound_question(const struct stream *st, const struct frame_open *open);
bool switch_has_met(const struct stream *st); // or need not: it is no half of a stream that was opened again
void switch_meet(struct stream *st, bool sealed); // both ends have said where they stand
void switch_ack_values(struct stream *st, bool rewind, uint64_t *acked, uint64_t *limit);
void switch_sent(struct stream *st); // DATA left: the limit may be raised

// dgram.c
bool dgram_queue(struct stream *st, const void *data, size_t len, uint16_t age_ms, uint16_t ttl_ms);
bool dgram_pass(struct stream *to, const struct frame_dgram *f);
size_t dgram_fill(struct carrier *c, struct buf *b, size_t room); // bytes written
void dgram_pass_queue(struct carrier *c, struct carrier *to); // c is lost; to NULL: to the next carrier
int dgram_receive(struct stream *st, const struct frame_dgram *f);
void dgram_clear_parts(struct stream *st);
