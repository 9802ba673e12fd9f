/* What the files of the module share: a handle, and how its statements and transactions are run.
 *
 * Each function that can fail returns SQLITE_OK or SQLite's code, which is then recorded in the handle's result.
 */
#ifndef PRISMQ_HANDLE_H
#define PRISMQ_HANDLE_H

#include <stddef.h>

#include "database_file.h"
#include "prismq.h"
#include "sqlite_api.h"

enum {
  TIME_BYTES = 23 /* "YYYY-MM-DD HH:MM:SS.mmm" */
};

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

typedef struct group group;

struct prismq_handle {
  sqlite3 *database;
  sqlite3_stmt *statements[SQL_STATEMENTS];
  char *sql[SQL_STATEMENTS];
  int64_t reserved_id;  /* AUTOINCREMENT's counter is at least here; a hint, see SQL_RESERVE_IDS */
  int64_t id_block;     /* ids reserved at a time: a page write less for each enqueue in between */
  int64_t inline_checkpoint_pages; /* a WAL this long, and nobody who keeps house: the committer helps */
  int syncs;            /* its commits, to the disk */
  int last_claim_empty; /* then look without the write lock first */
  database_file *file;      /* NULL when the connection has another VFS */
  announcement *news;       /* of the transaction; NULL without the file */
  int64_t busy_timeout_ms;
  int64_t waiting_since_us; /* steady clock, at the first refusal of the lock */
  int64_t asked_at_us;      /* before that, if it had waited otherwise; else 0 */
  int at_once;              /* and not at all if it is refused */
  gate_pass pass; /* for connections without the file */
  struct group *group; /* NULL when it commits alone */
  int64_t numbers_capacity;
  int64_t text_capacity;
  prismq_result result;
  struct {
    int64_t numbers_capacity, text_capacity;
    prismq_result result;
  } aside; /* while another's operation is done */
};

/* -- results: handle.c */

int fail_with(prismq_handle *handle, int code, const char *message);
int fail_from_sqlite(prismq_handle *handle);
void clear_result(prismq_handle *handle);
/* Whether so much can be put into the result without fail. */
int has_room(prismq_handle *handle, int64_t numbers, int64_t text_bytes);
int put_number(prismq_handle *handle, int64_t number);
int put_text(prismq_handle *handle, const void *bytes, int64_t length);
void set_now(prismq_handle *handle);
void set_result_aside(prismq_handle *handle);
void take_result_back(prismq_handle *handle);

/* -- time: time_text.c */

int64_t in_range(int64_t ms);
int64_t later(int64_t ms, int64_t by);
void format_time(int64_t any_ms, char into[TIME_BYTES + 1]);

/* -- statements: handle.c */

sqlite3_stmt *prepared(prismq_handle *handle, int which);
int bind_number(sqlite3_stmt *statement, int index, int64_t number);
int bind_text(sqlite3_stmt *statement, int index, text value);
text at_text(const char *time);
int first_step(prismq_handle *handle, sqlite3_stmt *statement);
int finish(prismq_handle *handle, sqlite3_stmt *statement);
int run_statement(prismq_handle *handle, int which);
int bound(prismq_handle *handle, int code);
int has_row(prismq_handle *handle, int which, int with_time);

/* -- transactions: handle.c */

typedef enum { OWN, JOINED } scope;

int begin_own(prismq_handle *handle);
int begin_at_once(prismq_handle *handle); /* SQLITE_BUSY if that can't be */
int begin_scope(prismq_handle *handle, scope *opened);
int end_scope(prismq_handle *handle, scope opened, int code);

/* -- operations, inside a transaction */

int enqueue_one(prismq_handle *handle, const new_task *task, int64_t *next_id);
int enqueue_block(prismq_handle *handle, const new_task *tasks, int64_t *next_id);
int claim_heads(prismq_handle *handle, const claim *wanted);
int look_for_task(prismq_handle *handle, const claim *wanted, int *found);
int complete_one(prismq_handle *handle, const token *held);
int fail_one(prismq_handle *handle, const token *held, text error, int64_t retry, int64_t delay_ms);
int unclaim_one(prismq_handle *handle, const token *held);
int renew_one(prismq_handle *handle, const token *held, int64_t lease_ms);

#endif
