/* Committing together: operations of many callers in one transaction, and one sync.
 *
 * Who gets the write lock at once does its own operation, then those of all who have submitted theirs meanwhile, commits,
 * and tells everybody. Who does not get it submits, and sleeps until it is told. If nobody tells it, it asks for the lock
 * itself; having it, it knows that no other transaction is open, and the database says whether its operation was done:
 * each transaction that did others' operations has also written down their tickets.
 */
#ifndef PRISMQ_GROUP_H
#define PRISMQ_GROUP_H

#include "requests.h"
#include "slots.h"

enum { RECORDED_AT_MOST = 2 * GROUP_SLOTS }; /* a transaction's own, and others' that are still to be told */

typedef struct {
  uint64_t ticket;
  int64_t outcome; /* the first number of the result, 0 if there is none */
} done_operation;

/* What a handle needs to commit together with others. */
struct group {
  slot_request own; /* `slot` is -1 without one */
  uint32_t mapping; /* of the sidecar, when the slot was got */
  int64_t join_at_us;  /* steady clock: not before then */
  int64_t yield_at_us; /* neither */
  int buries; /* it got none: slots of the dead are to be freed, which takes the write lock */
  int count;          /* of those that the running transaction takes along */
  slot_request taken[GROUP_SLOTS];
  uint64_t generation; /* of the file that they were taken from */
  int recorded;
  done_operation done[RECORDED_AT_MOST];
  slot_words request; /* a copy of the one that is being done */
};

/* NULL when out of memory. */
group *new_group(void);

/* Does the work in a transaction, inside the caller's if there is one. */
int perform(prismq_handle *handle, const job *work);

#endif
