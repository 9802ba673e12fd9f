/* A handle: the statements of one connection, each prepared once, and what every operation does with them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "keeper.h"
#include "platform.h"

enum {
  ID_BLOCK = 1024, /* this and the next unless set otherwise, see engine/prismq/settings.py */
  INLINE_CHECKPOINT_PAGES = 32768,
  READERS_SHARE = 10 /* for readers one waits this many times less long than for the write lock */
};

/* -- results */

int fail_with(prismq_handle *handle, int code, const char *message) {
  handle->result.code = code;
  snprintf(handle->result.message, sizeof handle->result.message, "%s", message);
  return code;
}

int fail_from_sqlite(prismq_handle *handle) {
  int code = sqlite3_extended_errcode(handle->database);
  if (code == SQLITE_OK) code = SQLITE_ERROR;
  return fail_with(handle, code, sqlite3_errmsg(handle->database));
}

/* The array with room for `needed` items, NULL (and the failure recorded) when memory is out. */
static void *with_room(prismq_handle *handle, void *array, int64_t *capacity, int64_t needed, size_t size) {
  if (needed <= *capacity) return array;
  int64_t larger = *capacity * 2 > needed ? *capacity * 2 : needed + 64;
  void *moved = (uint64_t)larger > SIZE_MAX / size ? NULL : realloc(array, (size_t)larger * size);
  if (moved == NULL)
    fail_with(handle, SQLITE_NOMEM, "out of memory for a result");
  else
    *capacity = larger;
  return moved;
}

int has_room(prismq_handle *handle, int64_t numbers, int64_t text_bytes) {
  prismq_result *result = &handle->result;
  int64_t *all_numbers = with_room(handle, result->numbers, &handle->numbers_capacity, numbers, sizeof *result->numbers);
  if (all_numbers != NULL) result->numbers = all_numbers;
  char *all_text = with_room(handle, result->text, &handle->text_capacity, text_bytes, 1);
  if (all_text != NULL) result->text = all_text;
  if (all_numbers != NULL && all_text != NULL) return 1;
  clear_result(handle);
  return 0;
}

int put_number(prismq_handle *handle, int64_t number) {
  prismq_result *result = &handle->result;
  int64_t *numbers = with_room(handle, result->numbers, &handle->numbers_capacity, result->numbers_count + 1,
                               sizeof *result->numbers);
  if (numbers == NULL) return handle->result.code;
  result->numbers = numbers;
  result->numbers[result->numbers_count++] = number;
  return SQLITE_OK;
}

int put_text(prismq_handle *handle, const void *bytes, int64_t length) {
  prismq_result *result = &handle->result;
  char *all = with_room(handle, result->text, &handle->text_capacity, result->text_bytes + length + 1, 1);
  if (all == NULL) return handle->result.code;
  result->text = all;
  if (length > 0) memcpy(result->text + result->text_bytes, bytes, (size_t)length);
  result->text_bytes += length;
  result->text[result->text_bytes++] = '\0';
  return SQLITE_OK;
}

void clear_result(prismq_handle *handle) {
  handle->result.code = SQLITE_OK;
  handle->result.expired = 0;
  handle->result.waited_ms = 0;
  handle->result.numbers_count = 0;
  handle->result.text_bytes = 0;
}

void set_now(prismq_handle *handle) {
  handle->result.at_ms = in_range(platform_wall_clock_ms());
  format_time(handle->result.at_ms, handle->result.at);
}

static void swap_results(prismq_handle *handle) {
  prismq_result result = handle->result;
  int64_t numbers_capacity = handle->numbers_capacity, text_capacity = handle->text_capacity;
  handle->result = handle->aside.result;
  handle->numbers_capacity = handle->aside.numbers_capacity;
  handle->text_capacity = handle->aside.text_capacity;
  handle->aside.result = result;
  handle->aside.numbers_capacity = numbers_capacity;
  handle->aside.text_capacity = text_capacity;
}

/* Makes room for another result, of the same moment. */
void set_result_aside(prismq_handle *handle) {
  swap_results(handle);
  handle->result.at_ms = handle->aside.result.at_ms;
  memcpy(handle->result.at, handle->aside.result.at, sizeof handle->result.at);
}

void take_result_back(prismq_handle *handle) { swap_results(handle); }

/* -- statements */

sqlite3_stmt *prepared(prismq_handle *handle, int which) {
  if (handle->statements[which] == NULL &&
      sqlite3_prepare_v3(handle->database, handle->sql[which], -1, SQLITE_PREPARE_PERSISTENT,
                         &handle->statements[which], NULL) != SQLITE_OK)
    fail_from_sqlite(handle);
  return handle->statements[which];
}

int bind_number(sqlite3_stmt *statement, int index, int64_t number) {
  return sqlite3_bind_int64(statement, index, number);
}

/* The bytes must live until the statement is reset. */
int bind_text(sqlite3_stmt *statement, int index, text value) {
  if (value.bytes == NULL || value.length < 0) return sqlite3_bind_null(statement, index);
  return sqlite3_bind_text64(statement, index, value.bytes, (sqlite3_uint64)value.length, SQLITE_STATIC, SQLITE_UTF8);
}

text at_text(const char *time) { return (text){time, TIME_BYTES}; }

/* Steps to the first row or the end: SQLITE_ROW, SQLITE_DONE, or a failure that is recorded. */
int first_step(prismq_handle *handle, sqlite3_stmt *statement) {
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW || code == SQLITE_DONE) return code;
  code = fail_from_sqlite(handle);
  sqlite3_reset(statement); /* repeats the failure just recorded */
  return code;
}

/* Runs a bound statement to its end; rows are ignored. */
int finish(prismq_handle *handle, sqlite3_stmt *statement) {
  int code = first_step(handle, statement);
  while (code == SQLITE_ROW) code = first_step(handle, statement);
  if (code != SQLITE_DONE) return code;
  sqlite3_reset(statement); /* can't fail after SQLITE_DONE */
  return SQLITE_OK;
}

int run_statement(prismq_handle *handle, int which) {
  sqlite3_stmt *statement = prepared(handle, which);
  return statement == NULL ? handle->result.code : finish(handle, statement);
}

int bound(prismq_handle *handle, int code) { return code == SQLITE_OK ? code : fail_from_sqlite(handle); }

/* Does the statement, given the time, have a row? SQLITE_ROW, SQLITE_DONE or a failure. */
int has_row(prismq_handle *handle, int which, int with_time) {
  sqlite3_stmt *statement = prepared(handle, which);
  if (statement == NULL) return handle->result.code;
  if (with_time && bound(handle, bind_text(statement, 1, at_text(handle->result.at))) != SQLITE_OK)
    return handle->result.code;
  int code = first_step(handle, statement);
  if (code == SQLITE_ROW) sqlite3_reset(statement);
  if (code == SQLITE_DONE) sqlite3_reset(statement);
  return code;
}

/* -- transactions */

int begin_own(prismq_handle *handle) {
  if (handle->news != NULL) handle->news->accounted = 1;
  int64_t asked = platform_steady_clock_us();
  int code = run_statement(handle, SQL_BEGIN);
  if (code == SQLITE_OK) return code;
  if (handle->asked_at_us != 0) asked = handle->asked_at_us;
  handle->result.waited_ms = (platform_steady_clock_us() - asked) / 1000;
  if (code == SQLITE_BUSY && !handle->at_once && handle->file != NULL && gate_is_closed(&handle->file->side, &handle->file->pass))
    code = handle->result.code = SQLITE_LOCKED_BY_LIMIT;
  if (handle->news != NULL) handle->news->accounted = 0;
  return code;
}

int begin_at_once(prismq_handle *handle) {
  handle->at_once = 1;
  int code = begin_own(handle);
  handle->at_once = 0;
  if ((code & 0xff) == SQLITE_BUSY) clear_result(handle);
  return code;
}

/* Alone, an operation is a transaction. Inside the caller's it joins by a savepoint: it happens whole or not at all. */
int begin_scope(prismq_handle *handle, scope *opened) {
  *opened = sqlite3_get_autocommit(handle->database) ? OWN : JOINED;
  return *opened == OWN ? begin_own(handle) : run_statement(handle, SQL_SAVEPOINT);
}

/* Ends what `begin_scope` opened; keeps the first failure. SQLite may have rolled back by itself (disk full, I/O error). */
int end_scope(prismq_handle *handle, scope opened, int code) {
  if (code == SQLITE_OK) code = run_statement(handle, opened == OWN ? SQL_COMMIT : SQL_RELEASE);
  if (code == SQLITE_OK || sqlite3_get_autocommit(handle->database)) return code;
  prismq_result first = handle->result;
  int undone = run_statement(handle, opened == OWN ? SQL_ROLLBACK : SQL_ROLLBACK_TO);
  if (undone == SQLITE_NOMEM && !sqlite3_get_autocommit(handle->database)) /* it was not prepared yet: one try more */
    undone = run_statement(handle, opened == OWN ? SQL_ROLLBACK : SQL_ROLLBACK_TO);
  if (undone == SQLITE_OK && opened == JOINED) undone = run_statement(handle, SQL_RELEASE);
  handle->result.code = first.code; /* the cause, not its aftermath */
  memcpy(handle->result.message, first.message, sizeof first.message);
  return code;
}

/* -- waiting */

/* Stands in for SQLite's own busy handler, which soon sleeps for 5, 10, 25 ms and more while newcomers go first: here
 * one sleeps at the gate until it is one's turn. */
static int wait_for_turn(void *context, int times) {
  static sidecar none; /* never opened */
  prismq_handle *handle = context;
  sidecar *gate = handle->file != NULL ? &handle->file->side : &none;
  gate_pass *pass = handle->file != NULL ? &handle->file->pass : &handle->pass;
  int64_t now = platform_steady_clock_us();
  if (handle->at_once) return 0;
  if (times == 0) handle->waiting_since_us = handle->asked_at_us != 0 ? handle->asked_at_us : now;
  int for_readers = handle->file != NULL && handle->file->writing; /* so as to begin the WAL anew, and all writers wait */
  int64_t waited = now - handle->waiting_since_us;
  int64_t left = handle->busy_timeout_ms * 1000 / (for_readers ? READERS_SHARE : 1) - waited;
  if (left <= 0) {
    gate_give_up(gate, pass);
    return 0;
  }
  if (for_readers)
    gate_rest(pass, waited, left);
  else
    gate_wait(gate, pass, waited, left);
  return 1;
}

/* -- checkpoints */

/* Stands in for SQLite's own hook, which checkpoints inside an unlucky caller's commit every 1,000 pages. Housekeepers
 * do that on connections of their own. */
static int after_commit(void *context, sqlite3 *database, const char *name, int pages) {
  prismq_handle *handle = context;
  if (pages >= handle->inline_checkpoint_pages && (handle->file == NULL || keeper_is_absent(&handle->file->side))) {
    /* The commit stands whatever comes of this: busy means that somebody else is at it, and an I/O error will meet the
     * next commit too. */
    (void)sqlite3_wal_checkpoint_v2(database, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
  }
  return SQLITE_OK;
}

/* -- handles */

prismq_result *prismq_results(prismq_handle *handle) { return &handle->result; }

/* NULL when out of memory, when the module was not loaded into SQLite, or when `sql` has another number of statements. */
prismq_handle *prismq_open(void *database, const char *const *sql, int count, int64_t busy_timeout_ms,
                           int group_commit) {
  if (sqlite3_api == NULL || database == NULL || count != SQL_STATEMENTS) return NULL;
  prismq_handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) return NULL;
  handle->database = database;
  handle->file = database_file_of_connection(database);
  if (handle->file != NULL) {
    handle->news = &handle->file->news;
    handle->file->waits = 1;
  }
  handle->pass.jitter = (uint32_t)(uintptr_t)handle ^ (uint32_t)platform_steady_clock_us();
  for (int i = 0; i < SQL_STATEMENTS; i++) {
    size_t bytes = strlen(sql[i]) + 1;
    handle->sql[i] = malloc(bytes);
    if (handle->sql[i] == NULL) {
      prismq_close(handle);
      return NULL;
    }
    memcpy(handle->sql[i], sql[i], bytes);
  }
  if (group_commit && handle->file != NULL && (handle->group = new_group()) == NULL) {
    prismq_close(handle);
    return NULL;
  }
  handle->busy_timeout_ms = busy_timeout_ms;
  prismq_set(handle, 0, ID_BLOCK, INLINE_CHECKPOINT_PAGES);
  sqlite3_wal_hook(database, after_commit, handle);
  if (sqlite3_busy_handler(database, wait_for_turn, handle) != SQLITE_OK) {
    prismq_close(handle);
    return NULL;
  }
  return handle;
}

void prismq_set(prismq_handle *handle, int syncs, int64_t id_block, int64_t inline_checkpoint_pages) {
  handle->syncs = syncs;
  handle->id_block = id_block;
  handle->inline_checkpoint_pages = inline_checkpoint_pages;
}

void prismq_close(prismq_handle *handle) {
  if (handle == NULL) return;
  sqlite3_wal_hook(handle->database, NULL, NULL);
  sqlite3_busy_handler(handle->database, NULL, NULL);
  for (int i = 0; i < SQL_STATEMENTS; i++) {
    sqlite3_finalize(handle->statements[i]); /* its code repeats the last step's failure, long since reported */
    free(handle->sql[i]);
  }
  free(handle->result.numbers);
  free(handle->result.text);
  free(handle->aside.result.numbers);
  free(handle->aside.result.text);
  free(handle->group);
  free(handle);
}
