/* Claiming a task for somebody who sleeps, in the transaction that adds one.
 *
 * The sleeper then wakes up with its task: no second transaction, no second waiting for a turn. Its claim lies on its
 * desk in the sidecar, where the task is laid down, and may be taken from when the transaction is committed. It is woken as
 * the transaction begins, so that it is wide awake at its end.
 */
#ifndef PRISMQ_HANDOVER_H
#define PRISMQ_HANDOVER_H

#include "places.h"
#include "requests.h"

typedef struct {
  place_service at;
  int claimed;
  int64_t id, attempt; /* of the task that it gets */
  desk_words request;
} handover;

/* At the beginning of the transaction: if the work adds a task, looks for somebody who waits for such tasks, and wakes it.
 * Not before the write lock is there: that may take longer than anybody expects a task. */
void handover_begin(prismq_handle *handle, handover *service, const job *work);

/* After the task was added: claims for that one. A failure is that one's own and not told here, unless the transaction is
 * gone with it: then it stands in the result. */
void handover_claim(prismq_handle *handle, handover *service);

/* After the transaction. */
void handover_end(prismq_handle *handle, handover *service, int committed);

/* An answer as the result of the claim that it answers, and as that of `prismq_keeper_orphan`. 0 when it is none: it comes
 * from shared memory. */
int handover_result(desk_words *answer, prismq_result *result);
int handover_orphan(desk_words *answer, prismq_result *result);

#endif
