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

/* Frees the places of those who died. Whether one of them had been called, and its task may wait for somebody else. */
int places_bury(sidecar *view);

/* -- for one worker; calls by the threads of one view must not overlap, but for `places_sleep` */

/* A place for tasks of these types (none given: of any), or -1 when all are taken. */
int places_enter(sidecar *view, const uint64_t *types, int64_t count, int offers);
/* Whether the place was called since it was armed. */
int places_leave(sidecar *view, int place);

/* From now on the place is called for new tasks: look once more, then sleep. */
void places_arm(sidecar *view, int place);

/* Ends the sleep of another thread. */
void places_interrupt(sidecar *view, int place);

/* Sleeps until called. */
platform_wait_end places_sleep(sidecar *view, int place, int64_t timeout_us);

#endif
