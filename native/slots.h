/* Where those who would wait for the write lock leave their operation with whoever has it.
 *
 * Each caller has a slot of its own. What is in it is a request, then its result:
 *
 *   FREE -> SUBMITTED        by its owner, who then sleeps
 *   SUBMITTED -> FREE        by its owner: withdrawn
 *   SUBMITTED -> TAKEN       by one who has the write lock, who then writes the result, before it commits
 *   TAKEN -> ANSWERED        by that one, after its transaction ended, with the code of that end
 *   TAKEN -> FREE            by its owner, who has the write lock itself by now and so knows that the other's transaction
 *                            is over; whether it was committed stands in the database (group.h)
 *   ANSWERED -> FREE         by its owner
 *
 * A state carries the number of its request: who was stopped for a while changes nothing of a later one.
 */
#ifndef PRISMQ_SLOTS_H
#define PRISMQ_SLOTS_H

#include "sidecar.h"

enum { SLOT_NUMBER_MASK = 0x3fffffff };

typedef enum { SLOT_FREE, SLOT_SUBMITTED, SLOT_TAKEN, SLOT_ANSWERED } slot_state;

/* One's request in a slot. */
typedef struct {
  int slot; /* -1 for none */
  uint32_t number; /* the ticket's lowest bits */
  uint64_t ticket;
} slot_request;

/* Which file this is, by a number that no other one had. */
uint64_t slots_generation(sidecar *view);

/* -- for the owner of a slot

 * A slot for as long as the file is open, or -1 when all are taken. */
int slots_join(sidecar *view);

slot_words *slots_of(sidecar *view, int slot);

/* Puts the request there; `syncs` if it may only be done in a transaction that is synced to the disk. */
void slots_submit(sidecar *view, const slot_request *own, slot_words *request, int syncs);

/* Sleeps until called; `seen` is the slot's `calls` before its owner last looked. */
platform_wait_end slots_sleep(sidecar *view, const slot_request *own, uint32_t seen, int64_t timeout_us);

/* Whether the request is in this state; with ANSWERED, how its transaction ended. */
int slots_is(sidecar *view, const slot_request *own, slot_state state);
int slots_code(sidecar *view, const slot_request *own);

/* SUBMITTED -> FREE, TAKEN -> FREE, ANSWERED -> FREE: whether it was so. */
int slots_withdraw(sidecar *view, const slot_request *own);
int slots_take_back(sidecar *view, const slot_request *own);
int slots_be_done(sidecar *view, const slot_request *own);

/* -- for one who has the write lock

 * Whose requests may wait for one that syncs its transactions, or doesn't: a bit for each slot. */
uint64_t slots_waiting(sidecar *view, int syncs);

/* Takes a request of these, the first in turn, and copies it, as what stands in the file may change at any moment. The
 * bit of the slot that it looked at goes; `taken->slot` is -1 if there was no request of somebody who still waits, or one
 * that is to be synced by one who doesn't. */
void slots_take(sidecar *view, uint64_t *of, int syncs, slot_request *taken, slot_words *copy);

/* Requests that were taken, by whomever, and whose owners don't know yet what became of them: their tickets, but for those
 * of the slots `except`. How many. */
int slots_unsettled(sidecar *view, uint64_t except, uint64_t tickets[GROUP_SLOTS]);

/* Drops taken requests whose owner has died. */
void slots_bury(sidecar *view);

/* Before the transaction ends: the results in the slots stand there for owners who find out by the write lock that it is
 * over. The lock orders the two as well, but it is the system's, of which the compiler knows nothing. */
void slots_publish(sidecar *view);

/* -- after the transaction

 * How it ended; the result stands in the slot. Wakes its owner. */
void slots_answer(sidecar *view, const slot_request *taken, int code);

/* -- for one who has given the write lock up

 * Wakes one whose request nobody has taken. Whether one slept. */
int slots_call(sidecar *view);

#endif
