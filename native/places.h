/* Where idle workers sleep until there is a task for them.
 *
 * Each sleeps at a place of its own that says which tasks it waits for, so that a burst of N tasks wakes about N workers,
 * and those who can take them.
 */
#ifndef PRISMQ_PLACES_H
#define PRISMQ_PLACES_H

#include "sidecar.h"

/* Tasks of one kind that have become claimable. */
typedef struct {
  uint64_t type;  /* places_type_hash */
  int64_t count;
  int choosy; /* they have needs: any worker that offers something may be the one */
} ready_tasks;

uint64_t places_type_hash(const char *type, int64_t bytes);

/* Wakes as many of those who wait for such tasks as there are tasks. */
void places_call(sidecar *view, const ready_tasks *ready);
void places_call_all(sidecar *view);

/* Whether anybody may be waiting at all. */
int places_are_waiting(sidecar *view);

/* A task that was claimed for one who did not come for it. */
typedef struct {
  int64_t id, attempt;
} orphan;

/* Sees to those who were called, or for whom somebody claims, and nothing came of it: one of the two may be dead or
 * stopped. RESCUE_LOOK: a task may wait for somebody else; RESCUE_ORPHAN: the one found is to be given back. */
enum { RESCUE_LOOK = 1, RESCUE_ORPHAN = 2 };
int places_rescue(sidecar *view, orphan *found);

/* Frees the places of those who died. Whether one of them had been called, and its task may wait for somebody else. */
int places_bury(sidecar *view);

/* -- for one who claims a task for another, at the desk of a place

 * Somebody who waits for such tasks, who is woken and whose claim is copied into `request`; -1 for nobody. */
int places_begin_service(sidecar *view, const ready_tasks *ready, desk_words *request);

/* Whether the one who is served still expects it. */
int places_go_on_serving(sidecar *view, int place);

/* There is an answer, of the task that the other one has now: whether that one will get it. Without an answer it is
 * called, to claim by itself. */
int places_end_service(sidecar *view, int place, const desk_words *answer);

/* -- for one worker; calls by the threads of one view must not overlap, but for `places_sleep` */

/* A place for tasks of these types (none given: of any), or -1 when all are taken. */
int places_enter(sidecar *view, const uint64_t *types, int64_t count, int offers);
/* How it was with the place since it was armed; served: the answer is copied. */
typedef enum { LEFT_ALONE, LEFT_CALLED, LEFT_SERVED } place_end;
place_end places_leave(sidecar *view, int place, desk_words *answer);

/* Whether somebody is claiming for this one. */
int places_is_in_service(sidecar *view, int place);

/* After WAIT_WOKEN: called or served; the answer is copied, and the place is awake. Waits for an answer under way. */
place_end places_take_answer(sidecar *view, int place, desk_words *answer);

/* From now on the place is called for new tasks: look once more, then sleep. */
void places_arm(sidecar *view, int place);

/* Ends the sleep of another thread. */
void places_interrupt(sidecar *view, int place);

/* Sleeps until called, or served if there is a request. */
platform_wait_end places_sleep(sidecar *view, int place, const desk_words *request, int64_t timeout_us);

#endif
