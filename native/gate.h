/* The writers' gate: whose turn it is to ask for the write lock.
 *
 * The lock itself is SQLite's, which the kernel gives back when its holder dies; the gate is where those sleep who did
 * not get it. Whoever gives the lock up wakes the one who has slept longest, and for a moment keeps the turn for that
 * one, so that nobody who comes meanwhile goes first.
 *
 * A turn is a few transactions long for one who comes back at once: its caches are warm, and waking the next one takes as
 * long as a transaction.
 */
#ifndef PRISMQ_GATE_H
#define PRISMQ_GATE_H

#include "sidecar.h"

/* A connection's way through the gate. */
typedef struct {
  uint32_t seen;   /* of `releases`, before the lock was last refused */
  uint32_t jitter; /* state of a random number generator */
  int queued;      /* has waited, so that others may be waiting behind */
  int called;      /* was woken: the turn is kept for this one */
  int rested;      /* as ordered, for this turn */
  int exempt;      /* from such orders: it gives them */
  int times;       /* it had the lock in this turn */
  int comes_back;  /* asked again right after it had given the lock up */
  int64_t asked_at_us;
  int64_t turn_began_us;
  int64_t left_at_us;
} gate_pass;

/* Whether this one may ask SQLite for the write lock, or somebody else's turn it is. */
int gate_may_ask(sidecar *view, gate_pass *pass);

/* The lock was got. */
void gate_enter(sidecar *view, gate_pass *pass);

/* The lock was given back. `submitted`: somebody waits for it in a slot, not here; the two kinds get every other turn.
 * Whether one of those is to be called now. */
int gate_leave(sidecar *view, gate_pass *pass, int submitted);

/* None of those could be called: the turn, if it was kept for them, goes to one who waits here. */
void gate_skip(sidecar *view);

/* Whether the lock's holder is this very thread, by another connection: waiting would never end. */
int gate_is_own(sidecar *view);

/* Whether somebody has the lock who will let those who wait know when it is free. */
int gate_is_held(sidecar *view);

/* After a refusal: sleeps until it may be this one's turn, at most `left_us`. `waited_us` is how long it has been. */
void gate_wait(sidecar *view, gate_pass *pass, int64_t waited_us, int64_t left_us);

/* Sleeps a moment, whoever's turn it is. */
void gate_rest(gate_pass *pass, int64_t waited_us, int64_t left_us);

/* Waits no more: the turn goes on if it was kept for this one. */
void gate_give_up(sidecar *view, gate_pass *pass);

/* Whoever keeps house may order writers to rest before each turn, for the next moments; GATE_CLOSED: there is no turn. */
enum { GATE_CLOSED = 0x7fffffff };
void gate_order_rest(sidecar *view, int64_t rest_us);
int gate_is_closed(sidecar *view, const gate_pass *pass);

/* How long this one is to rest before it asks, in us; GATE_CLOSED: until the order is taken back. `gate_wait` does it; who
 * rests elsewhere says so afterwards. */
int64_t gate_rest_ordered_us(sidecar *view, const gate_pass *pass);
void gate_has_rested(gate_pass *pass);

#endif
