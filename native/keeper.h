/* Who keeps house: of all processes that have the database open, one thread copies the WAL into the database, lets in
 * tasks that are due, brings back those whose lease ran out, and wakes workers for what plain SQL or a foreign program
 * has put in. It holds a lock on the sidecar that goes to another one when its process dies. That one is the deputy, who
 * looks at each tick whether it is; so that the others, however many, need not. */
#ifndef PRISMQ_KEEPER_H
#define PRISMQ_KEEPER_H

#include "places.h"

typedef enum {
  WISH_LOOK = 1,      /* something was committed that nobody has looked at for what it makes claimable */
  WISH_CHECKPOINT = 2 /* the WAL is long */
} keeper_wish;

/* One who would keep house, and does if the lock is its. */
typedef struct {
  int leads; /* 2: in place of one who has the lock and does not move */
  int deputises;
  volatile uint32_t stopping; /* set by another thread */
  volatile uint32_t calls;    /* the word at which one sleeps who does not lead */
  int64_t look_at_us;       /* steady clock: not before then; wishes are kept until the time has come */
  int64_t checkpoint_at_us;
  int64_t change_at_us;
  int64_t bury_at_us;
  desk_words orphan; /* with KEEP_ORPHAN: an answer that nobody has fetched */
  uint32_t ticks;
  uint32_t change; /* of the WAL index, as last seen */
} keeper;

/* Leaves a wish with whoever keeps house, and wakes it if `now`. */
void keeper_ask(sidecar *view, keeper_wish wish, int now);

/* Says that a delayed task is due, or a lease ends, at `due_ms` (wall clock), it being `now_ms`. */
void keeper_note_due(sidecar *view, int64_t due_ms, int64_t now_ms);

/* `change` is a word that is another one after each commit, also a foreign program's. Returns prismq_events. */
int keeper_wait(keeper *self, sidecar *view, const volatile uint32_t *change, int64_t timeout_us);

/* Whether nobody has kept house for a while: who should is stopped, or there is nobody. */
int keeper_is_absent(sidecar *view);

/* Makes the wait of another thread end, if it does not lead; `keeper_call` wakes the one who does. */
void keeper_stop(keeper *self);
void keeper_call(sidecar *view);
void keeper_forget_due(sidecar *view);
void keeper_resign(keeper *self, sidecar *view);

#endif
