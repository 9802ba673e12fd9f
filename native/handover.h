/* Claiming a task for somebody who sleeps, in the transaction that adds one.
 *
 * The sleeper then wakes up with its task: no second transaction, no second waiting for a turn. Its claim lies on its
 * desk in the sidecar, where the task is laid when the transaction is committed. It is woken as the transaction begins,
 * so that it is wide awake at its end.
 */
#ifndef PRISMQ_HANDOVER_H
#define PRISMQ_HANDOVER_H

#include "requests.h"

typedef struct {
  int place; /* of the one who is served; -1 for nobody */
  int claimed;
  int64_t id, attempt; /* of the task that it gets */
  desk_words request, answer;
} handover;

/* Before the transaction that will do the work: if that adds a task, looks for somebody who waits for such tasks, and
 * wakes it. */
void handover_begin(prismq_handle *handle, handover *service, const job *work);

/* Inside the transaction, after the task was added: claims for that one. A failure is that one's own and not told here, unless the
 * transaction is gone with it: then it stands in the result. */
void handover_claim(prismq_handle *handle, handover *service);

/* After the transaction. */
void handover_end(prismq_handle *handle, handover *service, int committed);

#endif
