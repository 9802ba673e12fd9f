/* What a worker does with the task it holds; refused when its token is stale. */
#include "handle.h"

static sqlite3_stmt *settling(prismq_handle *handle, int which, const token *held) {
  sqlite3_stmt *statement = prepared(handle, which);
  if (statement == NULL) return NULL;
  int code = bind_number(statement, 1, held->id);
  if (code == SQLITE_OK) code = bind_text(statement, 2, held->worker);
  if (code == SQLITE_OK) code = bind_number(statement, 3, held->attempt);
  if (code == SQLITE_OK) code = bind_text(statement, 4, at_text(handle->result.at));
  return bound(handle, code) == SQLITE_OK ? statement : NULL;
}

int complete_one(prismq_handle *handle, const token *held) {
  sqlite3_stmt *statement = settling(handle, SQL_COMPLETE, held);
  if (statement == NULL || finish(handle, statement) != SQLITE_OK) return handle->result.code;
  return put_number(handle, sqlite3_changes(handle->database));
}

int fail_one(prismq_handle *handle, const token *held, text error, int64_t retry, int64_t delay_ms) {
  sqlite3_stmt *statement = settling(handle, SQL_FAIL, held);
  if (statement == NULL) return handle->result.code;
  char retry_at[TIME_BYTES + 1];
  format_time(later(handle->result.at_ms, delay_ms), retry_at);
  int code = bind_text(statement, 5, error);
  if (code == SQLITE_OK) code = bind_number(statement, 6, retry);
  if (code == SQLITE_OK) code = bind_text(statement, 7, at_text(retry_at));
  if (bound(handle, code) != SQLITE_OK) return handle->result.code;
  code = first_step(handle, statement);
  int64_t outcome = FAIL_REFUSED;
  if (code == SQLITE_ROW) {
    outcome = sqlite3_column_int64(statement, 0);
    code = finish(handle, statement);
    if (outcome == FAIL_QUEUED)
      announce_due(handle->news, later(handle->result.at_ms, delay_ms), handle->result.at_ms);
  } else if (code == SQLITE_DONE) {
    code = sqlite3_reset(statement);
  }
  return code == SQLITE_OK ? put_number(handle, outcome) : code;
}

/* In a transaction of its own. */
int unclaim_one(prismq_handle *handle, const token *held) {
  sqlite3_stmt *statement = settling(handle, SQL_UNCLAIM, held);
  return statement == NULL ? handle->result.code : finish(handle, statement);
}

int renew_one(prismq_handle *handle, const token *held, int64_t lease_ms) {
  sqlite3_stmt *statement = settling(handle, SQL_RENEW, held);
  if (statement == NULL) return handle->result.code;
  int64_t lease_end = later(handle->result.at_ms, lease_ms);
  format_time(lease_end, handle->result.lease_until);
  if (bound(handle, bind_text(statement, 5, at_text(handle->result.lease_until))) != SQLITE_OK ||
      finish(handle, statement) != SQLITE_OK)
    return handle->result.code;
  announce_due(handle->news, lease_end, handle->result.at_ms);
  return put_number(handle, sqlite3_changes(handle->database) ? lease_end : 0);
}
