/* Where idle workers sleep until there is a task for them.
 *
 * Each sleeps at a place of its own that says which tasks it waits for, so that a burst of N tasks wakes about N workers,
 * and those who can take them. The first places have a desk: who has the write lock can claim a task there for the one
 * who sleeps. Its claim lies on the desk, later the task.
 *
 *   FREE -> AWAKE            by its owner, who has the lock of the place
 *   AWAKE -> WAITING         by its owner, who looks for a task once more; the next sleep begins
 *   CALLED -> WAITING        the same
 *   WAITING -> ASLEEP        by its owner, whose claim lies on the desk
 *   ASLEEP -> WAITING        by its owner, who is up
 *   WAITING -> CALLED        by whoever has made a task claimable
 *   ASLEEP -> CALLED         the same
 *   ASLEEP -> IN_SERVICE     by one who has the write lock and the lock of the service
 *   IN_SERVICE -> SERVED     by that one, whose transaction has ended well; the task lies on the desk
 *   IN_SERVICE -> CALLED     by that one, who has no task for it, or for that one after its death
 *   SERVED -> AWAKE          by its owner, who has the task, or by one who gives the task back, as nobody has come for it
 *   WAITING -> AWAKE         by its owner's other thread
 *   ASLEEP -> AWAKE          the same
 *   CALLED -> AWAKE          by one who looks in its stead, as it has not come
 *   each -> FREE             by its owner, who leaves, or after its death
 *
 * A state carries the number of the sleep: who was stopped for a while changes nothing of a later one. So a task is given
 * back by exactly one: who serves, if the place has left IN_SERVICE; else whoever takes it from IN_SERVICE or SERVED.
 */
#ifndef PRISMQ_PLACES_H
#define PRISMQ_PLACES_H

#include "sidecar.h"

typedef enum {
  PLACE_FREE,
  PLACE_AWAKE,
  PLACE_WAITING,
  PLACE_ASLEEP,
  PLACE_CALLED,
  PLACE_IN_SERVICE,
  PLACE_SERVED
} place_state;

enum { PLACE_STATE_BITS = 3 };

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

/* Sees to those who were called, or for whom somebody claims, and nothing came of it: one of the two may be dead or
 * stopped. RESCUE_LOOK: a task may wait for somebody else; RESCUE_ORPHAN: this answer was fetched by nobody, its task is to
 * be given back if it was claimed. */
enum { RESCUE_LOOK = 1, RESCUE_ORPHAN = 2 };
int places_rescue(sidecar *view, desk_words *orphan);

/* Frees the places of those who died. Whether one of them had been called, and its task may wait for somebody else. */
int places_bury(sidecar *view);

/* -- for one who has the write lock, and claims a task for another */

typedef struct {
  int place; /* -1 for none */
  uint64_t begun; /* the state that it was given */
} place_service;

/* Somebody who waits for such tasks, who is woken and whose claim is copied into `request`. */
place_service places_begin_service(sidecar *view, const ready_tasks *ready, desk_words *request);

/* Whether the one who is served still expects it. */
int places_go_on_serving(sidecar *view, const place_service *service);

/* Lays down what it will get, before the transaction ends. */
void places_lay_down(sidecar *view, const place_service *service, desk_words *answer);

/* After the transaction: whether that one gets what was laid down, if that is `served`; else it is called, to claim by
 * itself. */
int places_end_service(sidecar *view, const place_service *service, int served);

/* -- for one worker; calls by the threads of one view must not overlap, but for `places_sleep` */

/* A place for tasks of these types (none given: of any), or -1 when all are taken. */
int places_enter(sidecar *view, const uint64_t *types, int64_t count, int offers);
/* How it was with the place since it was armed; served: the answer is copied. */
typedef enum { LEFT_ALONE, LEFT_CALLED, LEFT_SERVED } place_end;
place_end places_leave(sidecar *view, int place, desk_words *answer);

/* Whether somebody is claiming for this one; or has, and it has not taken the answer. */
int places_is_in_service(sidecar *view, int place);
int places_has_answer(sidecar *view, int place);

/* After WAIT_WOKEN: called or served; the answer is copied, and the place is awake. Waits for an answer under way. */
place_end places_take_answer(sidecar *view, int place, desk_words *answer);

/* From now on the place is called for new tasks: look once more, then sleep. If somebody is claiming for it, or has, that
 * goes on, and ends the next sleep. */
void places_arm(sidecar *view, int place);

/* Ends the sleep of another thread. */
void places_interrupt(sidecar *view, int place);

/* Sleeps until called, or served if there is a request. */
platform_wait_end places_sleep(sidecar *view, int place, const desk_words *request, int64_t timeout_us);

#endif
