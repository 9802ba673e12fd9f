/* The least a program can do: prepared statements in a C loop, each operation timed.
 *
 * Built as a loadable extension, so that it runs on the very SQLite that the queue runs on. The parameters are named in
 * the SQL: :type :payload :now :lease :worker :priority :id (counted up from first_id, one an operation).
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include <stdint.h>
#include <string.h>

#include "sqlite_api.h"

#ifdef _WIN32
#include <windows.h>
#define EXPORT __declspec(dllexport)
static double microseconds(void) {
  LARGE_INTEGER count, frequency;
  QueryPerformanceCounter(&count);
  QueryPerformanceFrequency(&frequency);
  return (double)count.QuadPart * 1e6 / (double)frequency.QuadPart;
}
#else
#include <time.h>
#define EXPORT __attribute__((visibility("default")))
static double microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}
#endif

/* Two slots more than the queue itself uses. */
#define sqlite3_bind_parameter_index SLOT(8, int, sqlite3_stmt *, const char *)
#define sqlite3_column_count SLOT(22, int, sqlite3_stmt *)

enum { MAX_STATEMENTS = 8, TEXTS = 5, ERROR_BYTES = 256, INTEGER_COLUMN = 1 };

static const char *const text_names[TEXTS] = {":type", ":payload", ":now", ":lease", ":worker"};

typedef struct {
  sqlite3_stmt *handle;
  int texts[TEXTS]; /* parameter numbers, 0 where the statement has no such parameter */
  int priority;
  int id;
} statement;

const sqlite3_slot *sqlite3_api;
static char error[ERROR_BYTES];
static volatile sqlite3_int64 sink; /* keeps the reading of columns from being optimised away */

EXPORT int sqlite3_bare_init(sqlite3 *db, char **message, const sqlite3_slot *api) {
  (void)db;
  (void)message;
  sqlite3_api = api;
  return SQLITE_OK_LOAD_PERMANENTLY;
}

EXPORT const char *bare_error(void) { return error; }

static int prepare(sqlite3 *db, const char *sql, statement *made) {
  int code = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &made->handle, NULL);
  if (code != SQLITE_OK) return code;
  for (int i = 0; i < TEXTS; i++) made->texts[i] = sqlite3_bind_parameter_index(made->handle, text_names[i]);
  made->priority = sqlite3_bind_parameter_index(made->handle, ":priority");
  made->id = sqlite3_bind_parameter_index(made->handle, ":id");
  return SQLITE_OK;
}

static void bind(const statement *made, const char *const *texts, sqlite3_int64 priority, sqlite3_int64 id) {
  for (int i = 0; i < TEXTS; i++)
    if (made->texts[i])
      sqlite3_bind_text64(made->handle, made->texts[i], texts[i], strlen(texts[i]), SQLITE_STATIC, SQLITE_UTF8);
  if (made->priority) sqlite3_bind_int64(made->handle, made->priority, priority);
  if (made->id) sqlite3_bind_int64(made->handle, made->id, id);
}

/* Steps to the end, reading every column of every row. */
static int execute(const statement *made, int *rows) {
  int code;
  while ((code = sqlite3_step(made->handle)) == SQLITE_ROW) {
    sqlite3_int64 read = 0;
    int columns = sqlite3_column_count(made->handle);
    for (int i = 0; i < columns; i++) {
      int type = sqlite3_column_type(made->handle, i);
      if (type == INTEGER_COLUMN)
        read += sqlite3_column_int64(made->handle, i);
      else if (type != SQLITE_NULL)
        read += sqlite3_column_text(made->handle, i)[0] + sqlite3_column_bytes(made->handle, i);
    }
    sink = read;
    ++*rows;
  }
  sqlite3_reset(made->handle);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Runs `operations` times the `count` statements that make one operation; texts in the order of text_names. `timings`
 * gets the microseconds of each operation, `rows` the number of rows that came back. Returns a SQLite code. */
EXPORT int bare_run(sqlite3 *db, const char *const *sql, int count, int operations, const char *const *texts,
                    sqlite3_int64 priority, sqlite3_int64 first_id, double *timings, int *rows) {
  statement statements[MAX_STATEMENTS] = {0};
  int code = count <= MAX_STATEMENTS ? SQLITE_OK : SQLITE_MISUSE;
  for (int i = 0; i < count && code == SQLITE_OK; i++) code = prepare(db, sql[i], &statements[i]);
  *rows = 0;
  for (int k = 0; k < operations && code == SQLITE_OK; k++) {
    double started = microseconds();
    for (int i = 0; i < count && code == SQLITE_OK; i++) {
      bind(&statements[i], texts, priority, first_id + k);
      code = execute(&statements[i], rows);
    }
    timings[k] = microseconds() - started;
  }
  if (code != SQLITE_OK) strncpy(error, sqlite3_errmsg(db), ERROR_BYTES - 1);
  for (int i = 0; i < count && i < MAX_STATEMENTS; i++)
    if (statements[i].handle) sqlite3_finalize(statements[i].handle);
  return code;
}

/* -- the queue's own C entry points, called as its Python driver calls them: native/interface.h ---------------------- */

typedef int (*enqueue_call)(void *handle, const char *type, int64_t type_bytes, const char *payload,
                            int64_t payload_bytes, const char *compatibility, int64_t compatibility_bytes,
                            const char *key, int64_t key_bytes, int64_t priority, int64_t max_attempts,
                            int64_t run_after_ms);
typedef int (*claim_call)(void *handle, const char *worker, int64_t worker_bytes, const char *types,
                          int64_t types_bytes, const char *capabilities, int64_t capabilities_bytes, int64_t strategy,
                          int64_t limit, int64_t lease_ms);
typedef int (*complete_call)(void *handle, int64_t id, const char *worker, int64_t worker_bytes, int64_t attempt);

/* `texts` in the order of text_names. All return the code of the first call that failed, or 0. */
EXPORT int bare_enqueue(enqueue_call enqueue, void *handle, int operations, const char *const *texts,
                        sqlite3_int64 priority, double *timings) {
  int64_t type_bytes = (int64_t)strlen(texts[0]), payload_bytes = (int64_t)strlen(texts[1]);
  int code = SQLITE_OK;
  for (int k = 0; k < operations && code == SQLITE_OK; k++) {
    double started = microseconds();
    code = enqueue(handle, texts[0], type_bytes, texts[1], payload_bytes, "{}", 2, NULL, 0, priority, 5, INT64_MIN);
    timings[k] = microseconds() - started;
  }
  return code;
}

EXPORT int bare_claim(claim_call claim, void *handle, int operations, const char *const *texts, double *timings) {
  int64_t worker_bytes = (int64_t)strlen(texts[4]);
  int code = SQLITE_OK;
  for (int k = 0; k < operations && code == SQLITE_OK; k++) {
    double started = microseconds();
    code = claim(handle, texts[4], worker_bytes, NULL, 0, "{}", 2, 0, 1, 600000);
    timings[k] = microseconds() - started;
  }
  return code;
}

EXPORT int bare_complete(complete_call complete, void *handle, int operations, const char *const *texts,
                         sqlite3_int64 first_id, double *timings) {
  int64_t worker_bytes = (int64_t)strlen(texts[4]);
  int code = SQLITE_OK;
  for (int k = 0; k < operations && code == SQLITE_OK; k++) {
    double started = microseconds();
    code = complete(handle, first_id + k, texts[4], worker_bytes, 1);
    timings[k] = microseconds() - started;
  }
  return code;
}
