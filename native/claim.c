#include <string.h>

#include "handle.h"

enum {
  PROMOTE_LIMIT = 64, /* due tasks that one claim lets in, so that no claim pays for a flood */
  SHORT_TIME_BYTES = 19 /* as SQLite's datetime() writes it, without milliseconds */
};

#ifdef PRISMQ_SLOWER_CLAIM
/* So many turns of nothing for each task taken: shows that the guard of costs sees a claim that got slower. */
static void dawdle(void) {
  for (volatile int turn = 0; turn < PRISMQ_SLOWER_CLAIM; turn++) continue;
}
#else
#define dawdle() (void)0
#endif

static int promote(prismq_handle *handle) {
  sqlite3_stmt *statement = prepared(handle, SQL_PROMOTE);
  if (statement == NULL) return handle->result.code;
  int code = bind_text(statement, 1, at_text(handle->result.at));
  if (code == SQLITE_OK) code = bind_number(statement, 2, PROMOTE_LIMIT);
  return bound(handle, code) == SQLITE_OK ? finish(handle, statement) : handle->result.code;
}

/* The statement that finds the next task of a claim, bound; NULL on failure. */
static sqlite3_stmt *head_statement(prismq_handle *handle, const claim *wanted) {
  static const int by_strategy[][2] = {{SQL_CLAIM_PRIORITY, SQL_CLAIM_PRIORITY_TYPED},
                                       {SQL_CLAIM_FIFO, SQL_CLAIM_FIFO_TYPED},
                                       {SQL_CLAIM_LIFO, SQL_CLAIM_LIFO_TYPED},
                                       {SQL_CLAIM_LOTTERY, SQL_CLAIM_LOTTERY_TYPED}};
  int typed = wanted->types.bytes != NULL;
  int which = by_strategy[wanted->strategy][typed];
  if (which == SQL_CLAIM_PRIORITY) {
    int choosy = has_row(handle, SQL_CONSTRAINED, 0);
    if (choosy == SQLITE_DONE) return prepared(handle, SQL_HEAD);
    if (choosy != SQLITE_ROW) return NULL;
  }
  sqlite3_stmt *statement = prepared(handle, which);
  if (statement == NULL) return NULL;
  int code = typed ? bind_text(statement, 1, wanted->types) : SQLITE_OK;
  if (code == SQLITE_OK) code = bind_text(statement, 2, wanted->capabilities);
  return bound(handle, code) == SQLITE_OK ? statement : NULL;
}

static int put_column(prismq_handle *handle, sqlite3_stmt *row, int column) {
  const unsigned char *bytes = sqlite3_column_text(row, column);
  int length = sqlite3_column_bytes(row, column);
  if (bytes == NULL && sqlite3_column_type(row, column) != SQLITE_NULL)
    return fail_with(handle, SQLITE_NOMEM, "out of memory for a task's text");
  return put_text(handle, bytes, length);
}

static int put_task(prismq_handle *handle, sqlite3_stmt *row) {
  int64_t flags = 0;
  if (sqlite3_column_type(row, 9) != SQLITE_NULL) flags |= TASK_HAS_ERROR;
  if (sqlite3_column_type(row, 10) != SQLITE_NULL) flags |= TASK_HAS_KEY;
  for (int column = 4; column <= 10; column++)
    if (put_column(handle, row, column) != SQLITE_OK) return handle->result.code;
  int code = put_number(handle, sqlite3_column_int64(row, 0));
  if (code == SQLITE_OK) code = put_number(handle, sqlite3_column_int64(row, 1));
  if (code == SQLITE_OK) code = put_number(handle, sqlite3_column_int64(row, 2) + 1);
  if (code == SQLITE_OK) code = put_number(handle, sqlite3_column_int64(row, 3));
  return code == SQLITE_OK ? put_number(handle, flags) : code;
}

/* Gives the task to the worker. */
static int take(prismq_handle *handle, const claim *wanted, int64_t id) {
  if (wanted->strategy == BY_LOTTERY) {
    sqlite3_stmt *draw = prepared(handle, SQL_DRAW);
    if (draw == NULL || bound(handle, bind_number(draw, 1, id)) != SQLITE_OK || finish(handle, draw) != SQLITE_OK)
      return handle->result.code;
  }
  sqlite3_stmt *update = prepared(handle, SQL_TAKE);
  if (update == NULL) return handle->result.code;
  announce_due(handle->news, later(handle->result.at_ms, wanted->lease_ms), handle->result.at_ms);
  int code = bind_number(update, 1, id);
  if (code == SQLITE_OK) code = bind_text(update, 2, wanted->worker);
  if (code == SQLITE_OK) code = bind_text(update, 3, at_text(handle->result.lease_until));
  if (code == SQLITE_OK) code = bind_text(update, 4, at_text(handle->result.at));
  return bound(handle, code) == SQLITE_OK ? finish(handle, update) : handle->result.code;
}

/* Is the head's due time text that compares as it should? */
static int has_stored_time(sqlite3_stmt *head) {
  int bytes = sqlite3_column_bytes(head, 7);
  return bytes == TIME_BYTES || bytes == SHORT_TIME_BYTES;
}

static int normalise(prismq_handle *handle, int64_t id) {
  sqlite3_stmt *statement = prepared(handle, SQL_NORMALISE);
  if (statement == NULL) return handle->result.code;
  int code = bind_number(statement, 1, id);
  if (code == SQLITE_OK) code = bind_text(statement, 2, at_text(handle->result.at));
  return bound(handle, code) == SQLITE_OK ? finish(handle, statement) : handle->result.code;
}

/* Takes heads until `limit` or the end. */
int claim_heads(prismq_handle *handle, const claim *wanted) {
  format_time(later(handle->result.at_ms, wanted->lease_ms), handle->result.lease_until);
  handle->result.text_bytes = 0;
  if (put_text(handle, handle->result.at, TIME_BYTES) != SQLITE_OK ||
      put_text(handle, handle->result.lease_until, TIME_BYTES) != SQLITE_OK)
    return handle->result.code;
  int due = has_row(handle, SQL_DUE, 1);
  if (due == SQLITE_ROW) {
    if (promote(handle) != SQLITE_OK) return handle->result.code;
    announce_look(handle->news); /* it lets in more than it takes */
  }
  if (due != SQLITE_ROW && due != SQLITE_DONE) return due;
  sqlite3_stmt *head = head_statement(handle, wanted);
  if (head == NULL) return handle->result.code;
  for (int64_t taken = 0; taken < wanted->limit;) {
    int code = first_step(handle, head);
    if (code == SQLITE_DONE) {
      sqlite3_reset(head);
      break;
    }
    if (code != SQLITE_ROW) return code;
    int64_t id = sqlite3_column_int64(head, 0);
    int stored = has_stored_time(head);
    if (stored) code = put_task(handle, head);
    sqlite3_reset(head);
    if (!stored) {
      if (normalise(handle, id) != SQLITE_OK) return handle->result.code;
      continue; /* it is in its place now, which may be elsewhere */
    }
    if (code != SQLITE_OK || take(handle, wanted, id) != SQLITE_OK) return handle->result.code;
    dawdle();
    taken++;
  }
  return SQLITE_OK;
}

/* Is there anything for this claim? Asked in a read transaction, so that idle workers don't take turns with writers.
 * Leases that ran out are only reported: bringing them back is the housekeeper's. */
int look_for_task(prismq_handle *handle, const claim *wanted, int *found) {
  int alone = sqlite3_get_autocommit(handle->database);
  int code = alone ? run_statement(handle, SQL_BEGIN_READ) : SQLITE_OK;
  if (code != SQLITE_OK) return code;
  int expired = has_row(handle, SQL_EXPIRED, 1);
  int due = has_row(handle, SQL_DUE, 1);
  sqlite3_stmt *head = due == SQLITE_DONE ? head_statement(handle, wanted) : NULL;
  int ready = head == NULL ? SQLITE_DONE : first_step(handle, head);
  if (head != NULL && (ready == SQLITE_ROW || ready == SQLITE_DONE)) sqlite3_reset(head);
  code = alone ? end_scope(handle, OWN, handle->result.code) : handle->result.code;
  if (code != SQLITE_OK) return code;
  handle->result.expired = expired == SQLITE_ROW;
  *found = due == SQLITE_ROW || ready == SQLITE_ROW;
  return SQLITE_OK;
}
