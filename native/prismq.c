/* The queue's operations: one call from Python, one transaction, every statement prepared once a connection.
 *
 * engine/prismq/python_driver.py is the same in Python, step for step; both run the SQL of engine/prismq/sql.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"
#include "prismq.h"
#include "sqlite_api.h"
#include "wal_vfs.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum {
  ID_BLOCK = 1024,    /* ids reserved at a time: a page write less for each enqueue in between */
  PROMOTE_LIMIT = 64, /* due tasks that one claim lets in, so that no claim pays for a flood */
  REAP_LIMIT = 64,
  INSERT_PARAMETERS = 9, /* of SQL_INSERT, and of each row of SQL_INSERT_BLOCK */
  INLINE_CHECKPOINT_PAGES = 32768, /* a WAL this long means that no housekeeper keeps up: the committer helps */
  SHORTEST_WAIT_US = 100,
  LONGEST_WAIT_US = 1000,
  TIME_BYTES = 23,       /* "YYYY-MM-DD HH:MM:SS.mmm" */
  SHORT_TIME_BYTES = 19, /* as SQLite's datetime() writes it, without milliseconds */
  OLDEST_SQLITE = 3037000 /* has every slot of sqlite_api.h */
};

/* The times that the stored form can say: years 0000 to 9999, in ms since 1970. */
static const int64_t first_ms = INT64_C(-62167219200000), last_ms = INT64_C(253402300799999);

const sqlite3_slot *sqlite3_api;

/* Called by SQLite when APSW loads the module as an extension; once a process. */
EXPORT int sqlite3_prismq_init(sqlite3 *database, char **message, const void *api) {
  (void)database;
  (void)message;
  sqlite3_api = (const sqlite3_slot *)api;
  if (sqlite3_libversion_number() < OLDEST_SQLITE) {
    sqlite3_api = NULL;
    return SQLITE_ERROR;
  }
  int code = wal_vfs_register();
  return code == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : code;
}

typedef struct {
  const char *bytes; /* NULL for SQL NULL */
  int64_t length;
} text;

typedef struct {
  text type, payload, compatibility, key;
  int64_t priority, max_attempts, run_after_ms;
} new_task;

typedef struct {
  text worker, types, capabilities;
  int64_t strategy, limit, lease_ms;
} claim;

typedef struct {
  int64_t id;
  text worker;
  int64_t attempt;
} token;

struct prismq_handle {
  sqlite3 *database;
  sqlite3_stmt *statements[SQL_STATEMENTS];
  char *sql[SQL_STATEMENTS];
  int64_t reserved_id;  /* AUTOINCREMENT's counter is at least here; a hint, see SQL_RESERVE_IDS */
  int last_claim_empty; /* then look without the write lock first */
  int64_t busy_timeout_ms;
  int64_t waiting_since_ms; /* steady clock, at the first refusal of the lock */
  uint32_t jitter;
  int64_t numbers_capacity;
  int64_t text_capacity;
  prismq_result result;
};

/* -- results -------------------------------------------------------------------------------------------------------- */

static int fail_with(prismq_handle *handle, int code, const char *message) {
  handle->result.code = code;
  snprintf(handle->result.message, sizeof handle->result.message, "%s", message);
  return code;
}

static int fail_from_sqlite(prismq_handle *handle) {
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

static int put_number(prismq_handle *handle, int64_t number) {
  prismq_result *result = &handle->result;
  int64_t *numbers = with_room(handle, result->numbers, &handle->numbers_capacity, result->numbers_count + 1,
                               sizeof *result->numbers);
  if (numbers == NULL) return handle->result.code;
  result->numbers = numbers;
  result->numbers[result->numbers_count++] = number;
  return SQLITE_OK;
}

static int put_text(prismq_handle *handle, const void *bytes, int64_t length) {
  prismq_result *result = &handle->result;
  char *all = with_room(handle, result->text, &handle->text_capacity, result->text_bytes + length + 1, 1);
  if (all == NULL) return handle->result.code;
  result->text = all;
  if (length > 0) memcpy(result->text + result->text_bytes, bytes, (size_t)length);
  result->text_bytes += length;
  result->text[result->text_bytes++] = '\0';
  return SQLITE_OK;
}

static int64_t in_range(int64_t ms) { return ms < first_ms ? first_ms : ms > last_ms ? last_ms : ms; }

/* `by` milliseconds after a time in range, in range; can't overflow. */
static int64_t later(int64_t ms, int64_t by) { return in_range(by > last_ms - ms ? last_ms : ms + by); }

/* Civil date from days by the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March. */
static void format_time(int64_t any_ms, char into[TIME_BYTES + 1]) {
  int64_t ms = in_range(any_ms);
  int64_t days = ms / 86400000, rest = ms % 86400000;
  if (rest < 0) {
    rest += 86400000;
    days--;
  }
  days += 719468; /* from 0000-03-01 */
  int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  int64_t day_of_era = days - era * 146097;
  int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t shifted_month = (5 * day_of_year + 2) / 153;
  int64_t day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  int64_t year = year_of_era + era * 400 + (month <= 2);
  const int64_t parts[] = {year / 100, year % 100, month, day, rest / 3600000, rest / 60000 % 60, rest / 1000 % 60};
  static const char layout[TIME_BYTES + 1] = "0000-00-00 00:00:00.000";
  static const int at[] = {0, 2, 5, 8, 11, 14, 17};
  memcpy(into, layout, TIME_BYTES + 1);
  for (int i = 0; i < 7; i++) {
    into[at[i]] = (char)('0' + parts[i] / 10 % 10);
    into[at[i] + 1] = (char)('0' + parts[i] % 10);
  }
  into[20] = (char)('0' + rest / 100 % 10);
  into[21] = (char)('0' + rest / 10 % 10);
  into[22] = (char)('0' + rest % 10);
}

static void set_now(prismq_handle *handle) {
  handle->result.at_ms = in_range(platform_wall_clock_ms());
  format_time(handle->result.at_ms, handle->result.at);
}

/* -- statements ----------------------------------------------------------------------------------------------------- */

static sqlite3_stmt *prepared(prismq_handle *handle, int which) {
  if (handle->statements[which] == NULL &&
      sqlite3_prepare_v3(handle->database, handle->sql[which], -1, SQLITE_PREPARE_PERSISTENT,
                         &handle->statements[which], NULL) != SQLITE_OK)
    fail_from_sqlite(handle);
  return handle->statements[which];
}

static int bind_number(sqlite3_stmt *statement, int index, int64_t number) {
  return sqlite3_bind_int64(statement, index, number);
}

/* The bytes must live until the statement is reset. */
static int bind_text(sqlite3_stmt *statement, int index, text value) {
  if (value.bytes == NULL || value.length < 0) return sqlite3_bind_null(statement, index);
  return sqlite3_bind_text64(statement, index, value.bytes, (sqlite3_uint64)value.length, SQLITE_STATIC, SQLITE_UTF8);
}

static text at_text(const char *time) { return (text){time, TIME_BYTES}; }

/* Steps to the first row or the end: SQLITE_ROW, SQLITE_DONE, or a failure that is recorded. */
static int first_step(prismq_handle *handle, sqlite3_stmt *statement) {
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW || code == SQLITE_DONE) return code;
  code = fail_from_sqlite(handle);
  sqlite3_reset(statement); /* repeats the failure just recorded */
  return code;
}

/* Runs a bound statement to its end; rows are ignored. */
static int finish(prismq_handle *handle, sqlite3_stmt *statement) {
  int code = first_step(handle, statement);
  while (code == SQLITE_ROW) code = first_step(handle, statement);
  if (code != SQLITE_DONE) return code;
  sqlite3_reset(statement); /* can't fail after SQLITE_DONE */
  return SQLITE_OK;
}

static int run(prismq_handle *handle, int which) {
  sqlite3_stmt *statement = prepared(handle, which);
  return statement == NULL ? handle->result.code : finish(handle, statement);
}

static int bound(prismq_handle *handle, int code) { return code == SQLITE_OK ? code : fail_from_sqlite(handle); }

/* Does the statement, given the time, have a row? SQLITE_ROW, SQLITE_DONE or a failure. */
static int has_row(prismq_handle *handle, int which, int with_time) {
  sqlite3_stmt *statement = prepared(handle, which);
  if (statement == NULL) return handle->result.code;
  if (with_time && bound(handle, bind_text(statement, 1, at_text(handle->result.at))) != SQLITE_OK)
    return handle->result.code;
  int code = first_step(handle, statement);
  if (code == SQLITE_ROW) sqlite3_reset(statement);
  if (code == SQLITE_DONE) sqlite3_reset(statement);
  return code;
}

/* -- transactions --------------------------------------------------------------------------------------------------- */

typedef enum { OWN, JOINED } scope;

/* Alone, an operation is a transaction. Inside the caller's it joins by a savepoint: it happens whole or not at all. */
static int begin(prismq_handle *handle, scope *opened) {
  if (!sqlite3_get_autocommit(handle->database)) {
    *opened = JOINED;
    return run(handle, SQL_SAVEPOINT);
  }
  *opened = OWN;
  int64_t asked = platform_steady_clock_ms();
  int code = run(handle, SQL_BEGIN);
  if (code != SQLITE_OK) handle->result.waited_ms = platform_steady_clock_ms() - asked;
  return code;
}

/* Ends what `begin` opened; keeps the first failure. SQLite may have rolled back by itself (disk full, I/O error). */
static int end(prismq_handle *handle, scope opened, int code) {
  if (code == SQLITE_OK) code = run(handle, opened == OWN ? SQL_COMMIT : SQL_RELEASE);
  if (code == SQLITE_OK || sqlite3_get_autocommit(handle->database)) return code;
  prismq_result first = handle->result;
  int undone = run(handle, opened == OWN ? SQL_ROLLBACK : SQL_ROLLBACK_TO);
  if (undone == SQLITE_OK && opened == JOINED) undone = run(handle, SQL_RELEASE);
  handle->result.code = first.code; /* the cause, not its aftermath */
  memcpy(handle->result.message, first.message, sizeof first.message);
  return code;
}

/* -- enqueue -------------------------------------------------------------------------------------------------------- */

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
      bound(handle, bind_number(statement, 2, ID_BLOCK)) != SQLITE_OK || finish(handle, statement) != SQLITE_OK)
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

/* `*next_id` is 0 for the first task of a request, which SQL gives the next id; the others follow it. */
static int enqueue_one(prismq_handle *handle, const new_task *task, int64_t *next_id) {
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
  return put_number(handle, id);
}

/* BLOCK_ROWS tasks without keys by one statement, which opens the table and its indexes once. */
static int enqueue_block(prismq_handle *handle, const new_task *tasks, int64_t *next_id) {
  sqlite3_stmt *insert = prepared(handle, SQL_INSERT_BLOCK);
  if (insert == NULL) return handle->result.code;
  run_after_text run_after[BLOCK_ROWS];
  for (int row = 0; row < BLOCK_ROWS; row++)
    if (bound(handle, bind_task(handle, insert, row, &tasks[row], *next_id + row, run_after[row])) != SQLITE_OK)
      return handle->result.code;
  if (finish(handle, insert) != SQLITE_OK) return handle->result.code;
  for (int row = 0; row < BLOCK_ROWS; row++)
    if (put_number(handle, *next_id + row) != SQLITE_OK) return handle->result.code;
  int64_t last = *next_id + BLOCK_ROWS - 1;
  *next_id = last < INT64_MAX - BLOCK_ROWS ? last + 1 : 0;
  return last > handle->reserved_id ? reserve_ids(handle, last) : SQLITE_OK;
}

/* -- claim ---------------------------------------------------------------------------------------------------------- */

static int act_on_time(prismq_handle *handle, int which, int limit) {
  sqlite3_stmt *statement = prepared(handle, which);
  if (statement == NULL) return handle->result.code;
  int code = bind_text(statement, 1, at_text(handle->result.at));
  if (code == SQLITE_OK) code = bind_number(statement, 2, limit);
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
static int claim_heads(prismq_handle *handle, const claim *wanted) {
  format_time(later(handle->result.at_ms, wanted->lease_ms), handle->result.lease_until);
  handle->result.text_bytes = 0;
  if (put_text(handle, handle->result.at, TIME_BYTES) != SQLITE_OK ||
      put_text(handle, handle->result.lease_until, TIME_BYTES) != SQLITE_OK)
    return handle->result.code;
  int due = has_row(handle, SQL_DUE, 1);
  if (due == SQLITE_ROW && act_on_time(handle, SQL_PROMOTE, PROMOTE_LIMIT) != SQLITE_OK) return handle->result.code;
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
    taken++;
  }
  return SQLITE_OK;
}

/* Is there anything for this claim? Asked in a read transaction, so that idle workers don't take turns with writers.
 * Expired leases come back here: nobody waits for a worker that has nothing to do. */
static int look(prismq_handle *handle, const claim *wanted, int *found) {
  int code = run(handle, SQL_BEGIN_READ);
  if (code != SQLITE_OK) return code;
  int expired = has_row(handle, SQL_EXPIRED, 1);
  int due = has_row(handle, SQL_DUE, 1);
  sqlite3_stmt *head = expired == SQLITE_DONE && due == SQLITE_DONE ? head_statement(handle, wanted) : NULL;
  int ready = head == NULL ? SQLITE_DONE : first_step(handle, head);
  if (head != NULL && (ready == SQLITE_ROW || ready == SQLITE_DONE)) sqlite3_reset(head);
  code = end(handle, OWN, handle->result.code);
  if (code != SQLITE_OK) return code;
  *found = expired == SQLITE_ROW || due == SQLITE_ROW || ready == SQLITE_ROW;
  if (expired == SQLITE_ROW) {
    scope opened;
    code = begin(handle, &opened);
    if (code == SQLITE_OK) code = end(handle, opened, act_on_time(handle, SQL_REAP, REAP_LIMIT));
  }
  return code;
}

static int claim_in_transaction(prismq_handle *handle, const claim *wanted) {
  scope opened;
  int code = begin(handle, &opened);
  if (code != SQLITE_OK) return code;
  set_now(handle); /* the lease begins when the lock is ours */
  return end(handle, opened, claim_heads(handle, wanted));
}

static int claim_tasks(prismq_handle *handle, const claim *wanted) {
  int alone = sqlite3_get_autocommit(handle->database);
  if (!handle->last_claim_empty || !alone) {
    int code = claim_in_transaction(handle, wanted);
    if (code != SQLITE_OK || handle->result.numbers_count > 0 || !alone) return code;
  }
  int found = 0;
  int code = look(handle, wanted, &found);
  if (code == SQLITE_OK && found) code = claim_in_transaction(handle, wanted);
  handle->last_claim_empty = handle->result.numbers_count == 0;
  return code;
}

/* -- settle --------------------------------------------------------------------------------------------------------- */

static sqlite3_stmt *settling(prismq_handle *handle, int which, const token *held) {
  sqlite3_stmt *statement = prepared(handle, which);
  if (statement == NULL) return NULL;
  int code = bind_number(statement, 1, held->id);
  if (code == SQLITE_OK) code = bind_text(statement, 2, held->worker);
  if (code == SQLITE_OK) code = bind_number(statement, 3, held->attempt);
  if (code == SQLITE_OK) code = bind_text(statement, 4, at_text(handle->result.at));
  return bound(handle, code) == SQLITE_OK ? statement : NULL;
}

static int complete_one(prismq_handle *handle, const token *held) {
  sqlite3_stmt *statement = settling(handle, SQL_COMPLETE, held);
  if (statement == NULL || finish(handle, statement) != SQLITE_OK) return handle->result.code;
  return put_number(handle, sqlite3_changes(handle->database));
}

static int fail_one(prismq_handle *handle, const token *held, text error, int64_t retry, int64_t delay_ms) {
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
  } else if (code == SQLITE_DONE) {
    code = sqlite3_reset(statement);
  }
  return code == SQLITE_OK ? put_number(handle, outcome) : code;
}

static int renew_one(prismq_handle *handle, const token *held, int64_t lease_ms) {
  sqlite3_stmt *statement = settling(handle, SQL_RENEW, held);
  if (statement == NULL) return handle->result.code;
  int64_t lease_end = later(handle->result.at_ms, lease_ms);
  format_time(lease_end, handle->result.lease_until);
  if (bound(handle, bind_text(statement, 5, at_text(handle->result.lease_until))) != SQLITE_OK ||
      finish(handle, statement) != SQLITE_OK)
    return handle->result.code;
  return put_number(handle, sqlite3_changes(handle->database) ? lease_end : 0);
}

/* -- requests ------------------------------------------------------------------------------------------------------- */

typedef struct {
  const int64_t *number, *numbers_end;
  const char *byte, *bytes_end;
  int broken; /* the request is shorter than it says */
} reader;

static int64_t next_number(reader *from) {
  if (from->number == from->numbers_end) {
    from->broken = 1;
    return 0;
  }
  return *from->number++;
}

static text next_text(reader *from) {
  int64_t length = next_number(from);
  if (length < 0) return (text){NULL, 0};
  if (length > from->bytes_end - from->byte) {
    from->broken = 1;
    return (text){NULL, 0};
  }
  text value = {from->byte, length};
  from->byte += length;
  return value;
}

static token next_token(reader *from) {
  token held;
  held.id = next_number(from);
  held.worker = next_text(from);
  held.attempt = next_number(from);
  return held;
}

static new_task next_task(reader *from) {
  new_task task;
  task.type = next_text(from);
  task.payload = next_text(from);
  task.compatibility = next_text(from);
  task.key = next_text(from);
  task.priority = next_number(from);
  task.max_attempts = next_number(from);
  task.run_after_ms = next_number(from);
  return task;
}

static int enqueue_all(prismq_handle *handle, reader *from, int64_t count) {
  int64_t next_id = 0;
  int code = SQLITE_OK;
  for (int64_t done = 0; code == SQLITE_OK && done < count;) {
    new_task tasks[BLOCK_ROWS];
    int rows = next_id && count - done >= BLOCK_ROWS ? BLOCK_ROWS : 1;
    int keys = 0;
    for (int row = 0; row < rows; row++) {
      tasks[row] = next_task(from);
      keys += tasks[row].key.bytes != NULL;
    }
    if (from->broken) return SQLITE_MISUSE;
    if (rows == BLOCK_ROWS && keys == 0) {
      code = enqueue_block(handle, tasks, &next_id);
    } else {
      for (int row = 0; code == SQLITE_OK && row < rows; row++) code = enqueue_one(handle, &tasks[row], &next_id);
    }
    done += rows;
  }
  return code;
}

static int settle_one(prismq_handle *handle, int operation, reader *from) {
  token held = next_token(from);
  switch (operation) {
    case OP_COMPLETE:
      return from->broken ? SQLITE_MISUSE : complete_one(handle, &held);
    case OP_FAIL: {
      text error = next_text(from);
      int64_t retry = next_number(from);
      int64_t delay_ms = next_number(from);
      return from->broken ? SQLITE_MISUSE : fail_one(handle, &held, error, retry != 0, delay_ms);
    }
    case OP_RENEW: {
      int64_t lease_ms = next_number(from);
      return from->broken ? SQLITE_MISUSE : renew_one(handle, &held, lease_ms);
    }
    default:
      return SQLITE_MISUSE;
  }
}

static int execute_items(prismq_handle *handle, int operation, reader *from, int64_t count) {
  if (operation == OP_ENQUEUE) return enqueue_all(handle, from, count);
  int code = SQLITE_OK;
  for (int64_t i = 0; code == SQLITE_OK && i < count; i++) code = settle_one(handle, operation, from);
  return code;
}

static void clear_result(prismq_handle *handle) {
  handle->result.code = SQLITE_OK;
  handle->result.waited_ms = 0;
  handle->result.numbers_count = 0;
  handle->result.text_bytes = 0;
}

static int execute_claim(prismq_handle *handle, const claim *wanted) {
  clear_result(handle);
  if (wanted->strategy < BY_PRIORITY || wanted->strategy > BY_LOTTERY || wanted->worker.bytes == NULL)
    return fail_with(handle, SQLITE_MISUSE, "not a claim");
  set_now(handle);
  return claim_tasks(handle, wanted);
}

int prismq_execute(prismq_handle *handle, const prismq_request *request) {
  static const int64_t no_numbers[1] = {0};
  clear_result(handle);
  if (request->count < 0 || request->numbers_count < 0 || request->text_bytes < 0)
    return fail_with(handle, SQLITE_MISUSE, "a request of negative size");
  if ((request->numbers == NULL && request->numbers_count > 0) || (request->text == NULL && request->text_bytes > 0))
    return fail_with(handle, SQLITE_MISUSE, "a request without its numbers or its text");
  const int64_t *numbers = request->numbers == NULL ? no_numbers : request->numbers;
  const char *bytes = request->text == NULL ? "" : request->text;
  reader from = {numbers, numbers + request->numbers_count, bytes, bytes + request->text_bytes, 0};
  if (request->operation == OP_CLAIM) {
    if (request->count != 1) return fail_with(handle, SQLITE_MISUSE, "a request has one claim");
    claim wanted;
    wanted.worker = next_text(&from);
    wanted.types = next_text(&from);
    wanted.capabilities = next_text(&from);
    wanted.strategy = next_number(&from);
    wanted.limit = next_number(&from);
    wanted.lease_ms = next_number(&from);
    if (from.broken) return fail_with(handle, SQLITE_MISUSE, "the request is shorter than it says");
    return execute_claim(handle, &wanted);
  }
  scope opened;
  int code = begin(handle, &opened);
  if (code != SQLITE_OK) return code;
  set_now(handle);
  code = execute_items(handle, request->operation, &from, request->count);
  if (code == SQLITE_MISUSE && handle->result.code == SQLITE_OK)
    fail_with(handle, code, "the request is shorter than it says or its operation unknown");
  return end(handle, opened, code);
}

int prismq_enqueue(prismq_handle *handle, const char *type, int64_t type_bytes, const char *payload,
                   int64_t payload_bytes, const char *compatibility, int64_t compatibility_bytes, const char *key,
                   int64_t key_bytes, int64_t priority, int64_t max_attempts, int64_t run_after_ms) {
  new_task task = {{type, type_bytes},
                   {payload, payload_bytes},
                   {compatibility, compatibility_bytes},
                   {key, key_bytes},
                   priority,
                   max_attempts,
                   run_after_ms};
  clear_result(handle);
  scope opened;
  int code = begin(handle, &opened);
  if (code != SQLITE_OK) return code;
  set_now(handle);
  int64_t next_id = 0;
  return end(handle, opened, enqueue_one(handle, &task, &next_id));
}

int prismq_claim(prismq_handle *handle, const char *worker, int64_t worker_bytes, const char *types,
                 int64_t types_bytes, const char *capabilities, int64_t capabilities_bytes, int64_t strategy,
                 int64_t limit, int64_t lease_ms) {
  claim wanted = {{worker, worker_bytes}, {types, types_bytes}, {capabilities, capabilities_bytes},
                  strategy,               limit,                lease_ms};
  return execute_claim(handle, &wanted);
}

int prismq_complete(prismq_handle *handle, int64_t id, const char *worker, int64_t worker_bytes, int64_t attempt) {
  token held = {id, {worker, worker_bytes}, attempt};
  clear_result(handle);
  scope opened;
  int code = begin(handle, &opened);
  if (code != SQLITE_OK) return code;
  set_now(handle);
  return end(handle, opened, complete_one(handle, &held));
}

/* -- waiting -------------------------------------------------------------------------------------------------------- */

/* Stands in for SQLite's own busy handler, which soon sleeps for 5, 10, 25 ms and more while newcomers go first: here
 * the waits stay short, so that the turn comes soon. Half of a wait is random, so that waiters don't meet again. */
static int wait_for_turn(void *context, int times) {
  prismq_handle *handle = context;
  int64_t now = platform_steady_clock_ms();
  if (times == 0) handle->waiting_since_ms = now;
  int64_t waited = now - handle->waiting_since_ms;
  if (waited >= handle->busy_timeout_ms) return 0;
  int64_t longest = waited * 1000 / 8; /* microseconds */
  if (longest < SHORTEST_WAIT_US) longest = SHORTEST_WAIT_US;
  if (longest > LONGEST_WAIT_US) longest = LONGEST_WAIT_US;
  handle->jitter = handle->jitter * 1664525u + 1013904223u; /* Numerical Recipes' linear congruential generator */
  platform_sleep_us(longest / 2 + (int64_t)(handle->jitter >> 16) % (longest / 2));
  return 1;
}

/* -- checkpoints ---------------------------------------------------------------------------------------------------- */

/* Stands in for SQLite's own hook, which checkpoints inside an unlucky caller's commit every 1,000 pages. Housekeepers
 * do that on connections of their own. */
static int after_commit(void *context, sqlite3 *database, const char *name, int pages) {
  (void)context;
  if (pages >= INLINE_CHECKPOINT_PAGES) {
    /* The commit stands whatever comes of this: busy means that somebody else is at it, and an I/O error will meet the
     * next commit too. */
    (void)sqlite3_wal_checkpoint_v2(database, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
  }
  return SQLITE_OK;
}

/* -- handles -------------------------------------------------------------------------------------------------------- */

prismq_result *prismq_results(prismq_handle *handle) { return &handle->result; }

/* NULL when out of memory, when the module was not loaded into SQLite, or when `sql` has another number of statements. */
prismq_handle *prismq_open(void *database, const char *const *sql, int count, int64_t busy_timeout_ms) {
  if (sqlite3_api == NULL || database == NULL || count != SQL_STATEMENTS) return NULL;
  prismq_handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) return NULL;
  handle->database = database;
  handle->jitter = (uint32_t)(uintptr_t)handle ^ (uint32_t)platform_wall_clock_ms();
  for (int i = 0; i < SQL_STATEMENTS; i++) {
    size_t bytes = strlen(sql[i]) + 1;
    handle->sql[i] = malloc(bytes);
    if (handle->sql[i] == NULL) {
      prismq_close(handle);
      return NULL;
    }
    memcpy(handle->sql[i], sql[i], bytes);
  }
  handle->busy_timeout_ms = busy_timeout_ms;
  sqlite3_wal_hook(database, after_commit, NULL);
  if (sqlite3_busy_handler(database, wait_for_turn, handle) != SQLITE_OK) {
    prismq_close(handle);
    return NULL;
  }
  return handle;
}

void prismq_close(prismq_handle *handle) {
  if (handle == NULL) return;
  sqlite3_busy_handler(handle->database, NULL, NULL);
  for (int i = 0; i < SQL_STATEMENTS; i++) {
    sqlite3_finalize(handle->statements[i]); /* its code repeats the last step's failure, long since reported */
    free(handle->sql[i]);
  }
  free(handle->result.numbers);
  free(handle->result.text);
  free(handle);
}
