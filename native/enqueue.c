#include "handle.h"

enum {
  INSERT_PARAMETERS = 9 /* of SQL_INSERT, and of each row of SQL_INSERT_BLOCK */
};

static int find_key(prismq_handle *handle, text key, int64_t *id) {
  sqlite3_stmt *statement = prepared(handle, SQL_FIND_KEY);
  if (statement == NULL || bound(handle, bind_text(statement, 1, key)) != SQLITE_OK) return handle->result.code;
  int code = first_step(handle, statement);
  if (code == SQLITE_ROW) *id = sqlite3_column_int64(statement, 0);
  if (code == SQLITE_ROW || code == SQLITE_DONE) sqlite3_reset(statement);
  return code;
}

static int reserve_ids(prismq_handle *handle, int64_t id) {
  sqlite3_stmt *statement = prepared(handle, SQL_RESERVE_IDS);
  if (statement == NULL) return handle->result.code;
  if (bound(handle, bind_number(statement, 1, id)) != SQLITE_OK ||
      bound(handle, bind_number(statement, 2, handle->id_block)) != SQLITE_OK || finish(handle, statement) != SQLITE_OK)
    return handle->result.code;
  statement = prepared(handle, SQL_RESERVED_IDS);
  if (statement == NULL) return handle->result.code;
  int code = first_step(handle, statement);
  if (code == SQLITE_ROW) handle->reserved_id = sqlite3_column_int64(statement, 0);
  if (code != SQLITE_ROW && code != SQLITE_DONE) return code;
  sqlite3_reset(statement);
  return SQLITE_OK;
}

typedef char run_after_text[TIME_BYTES + 1];

/* Binds one row of an INSERT; `run_after` holds text that must live as long as the binding. */
static int bind_task(prismq_handle *handle, sqlite3_stmt *insert, int row, const new_task *task, int64_t id,
                     run_after_text run_after) {
  int first = row * INSERT_PARAMETERS;
  if (task->run_after_ms != NO_TIME) format_time(task->run_after_ms, run_after);
  int code = id ? bind_number(insert, first + 1, id) : sqlite3_bind_null(insert, first + 1);
  if (code == SQLITE_OK) code = bind_text(insert, first + 2, task->type);
  if (code == SQLITE_OK) code = bind_number(insert, first + 3, task->priority);
  if (code == SQLITE_OK) code = bind_text(insert, first + 4, task->payload);
  if (code == SQLITE_OK) code = bind_text(insert, first + 5, task->compatibility);
  if (code == SQLITE_OK) code = bind_number(insert, first + 6, task->max_attempts);
  if (code == SQLITE_OK)
    code = bind_text(insert, first + 7, at_text(task->run_after_ms != NO_TIME ? run_after : handle->result.at));
  if (code == SQLITE_OK) code = bind_text(insert, first + 8, task->key);
  if (code == SQLITE_OK) code = bind_text(insert, first + 9, at_text(handle->result.at));
  return code;
}

/* Tells idle workers, or whoever waits for the time. */
static void announce(prismq_handle *handle, const new_task *task) {
  if (handle->news == NULL) return;
  if (task->run_after_ms != NO_TIME && task->run_after_ms > handle->result.at_ms) {
    announce_due(handle->news, task->run_after_ms, handle->result.at_ms);
  } else {
    int choosy = task->compatibility.length != 2; /* other than {} */
    announce_ready(handle->news, task->type.bytes, task->type.length, choosy);
  }
}

/* `*next_id` is 0 for the first task of a request, which SQL gives the next id; the others follow it. */
int enqueue_one(prismq_handle *handle, const new_task *task, int64_t *next_id) {
  if (task->key.bytes != NULL) {
    int64_t known = 0;
    int code = find_key(handle, task->key, &known);
    if (code == SQLITE_ROW) return put_number(handle, known);
    if (code != SQLITE_DONE) return code;
  }
  sqlite3_stmt *insert = prepared(handle, SQL_INSERT);
  if (insert == NULL) return handle->result.code;
  run_after_text run_after;
  if (bound(handle, bind_task(handle, insert, 0, task, *next_id, run_after)) != SQLITE_OK ||
      finish(handle, insert) != SQLITE_OK)
    return handle->result.code;
  int64_t id = sqlite3_last_insert_rowid(handle->database);
  *next_id = id < INT64_MAX - BLOCK_ROWS ? id + 1 : 0; /* at the end of all ids SQL says what is wrong */
  if (id > handle->reserved_id && reserve_ids(handle, id) != SQLITE_OK) return handle->result.code;
  announce(handle, task);
  return put_number(handle, id);
}

/* BLOCK_ROWS tasks without keys by one statement, which opens the table and its indexes once. */
int enqueue_block(prismq_handle *handle, const new_task *tasks, int64_t *next_id) {
  sqlite3_stmt *insert = prepared(handle, SQL_INSERT_BLOCK);
  if (insert == NULL) return handle->result.code;
  run_after_text run_after[BLOCK_ROWS];
  for (int row = 0; row < BLOCK_ROWS; row++)
    if (bound(handle, bind_task(handle, insert, row, &tasks[row], *next_id + row, run_after[row])) != SQLITE_OK)
      return handle->result.code;
  if (finish(handle, insert) != SQLITE_OK) return handle->result.code;
  for (int row = 0; row < BLOCK_ROWS; row++) {
    announce(handle, &tasks[row]);
    if (put_number(handle, *next_id + row) != SQLITE_OK) return handle->result.code;
  }
  int64_t last = *next_id + BLOCK_ROWS - 1;
  *next_id = last < INT64_MAX - BLOCK_ROWS ? last + 1 : 0;
  return last > handle->reserved_id ? reserve_ids(handle, last) : SQLITE_OK;
}
