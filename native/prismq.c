/* The module's entry points: one call from Python is one request, executed on a handle in one transaction.
 *
 * engine/prismq/python_driver.py does the same in Python, step for step; both run the SQL of engine/prismq/sql.py.
 */
#include "group.h"
#include "vfs.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { OLDEST_SQLITE = 3037000 /* has every slot of sqlite_api.h */ };

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
  int code = vfs_register();
  return code == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : code;
}

/* -- requests */

/* Idle workers look without the write lock first, so that they don't take turns with writers. */
static int execute_claim(prismq_handle *handle, const claim *wanted) {
  if (!is_claim(wanted)) return fail_with(handle, SQLITE_MISUSE, "not a claim");
  set_now(handle);
  job work = {.operation = OP_CLAIM, .count = 1, .wanted = *wanted};
  int alone = sqlite3_get_autocommit(handle->database);
  if (!handle->last_claim_empty || !alone) {
    int code = perform(handle, &work);
    if (code != SQLITE_OK || handle->result.numbers_count > 0 || !alone) return code;
  }
  int found = 0;
  int code = look_for_task(handle, wanted, &found);
  if (code == SQLITE_OK && found) code = perform(handle, &work);
  handle->last_claim_empty = handle->result.numbers_count == 0;
  return code;
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
  job work = packed_job(request->operation, request->count, numbers, request->numbers_count, bytes, request->text_bytes);
  if (request->operation != OP_CLAIM) return perform(handle, &work);
  claim wanted;
  if (request->count != 1) return fail_with(handle, SQLITE_MISUSE, "a request has one claim");
  if (!packed_claim(&work, &wanted)) return fail_with(handle, SQLITE_MISUSE, "the request is shorter than it says");
  return execute_claim(handle, &wanted);
}

int prismq_enqueue(prismq_handle *handle, const char *type, int64_t type_bytes, const char *payload,
                   int64_t payload_bytes, const char *compatibility, int64_t compatibility_bytes, const char *key,
                   int64_t key_bytes, int64_t priority, int64_t max_attempts, int64_t run_after_ms) {
  job work = {.operation = OP_ENQUEUE, .count = 1};
  work.task = (new_task){{type, type_bytes},
                         {payload, payload_bytes},
                         {compatibility, compatibility_bytes},
                         {key, key_bytes},
                         priority,
                         max_attempts,
                         run_after_ms};
  clear_result(handle);
  return perform(handle, &work);
}

int prismq_claim(prismq_handle *handle, const char *worker, int64_t worker_bytes, const char *types,
                 int64_t types_bytes, const char *capabilities, int64_t capabilities_bytes, int64_t strategy,
                 int64_t limit, int64_t lease_ms, int expected) {
  claim wanted = {{worker, worker_bytes}, {types, types_bytes}, {capabilities, capabilities_bytes},
                  strategy,               limit,                lease_ms};
  if (expected) handle->last_claim_empty = 0;
  clear_result(handle);
  return execute_claim(handle, &wanted);
}

int prismq_look(prismq_handle *handle, const char *types, int64_t types_bytes, const char *capabilities,
                int64_t capabilities_bytes) {
  claim wanted = {{NULL, 0}, {types, types_bytes}, {capabilities, capabilities_bytes}, BY_PRIORITY, 1, 0};
  clear_result(handle);
  set_now(handle);
  int found = 0;
  int code = look_for_task(handle, &wanted, &found);
  return code == SQLITE_OK ? put_number(handle, found) : code;
}

int prismq_complete(prismq_handle *handle, int64_t id, const char *worker, int64_t worker_bytes, int64_t attempt) {
  job work = {.operation = OP_COMPLETE, .count = 1};
  work.held = (token){id, {worker, worker_bytes}, attempt};
  clear_result(handle);
  return perform(handle, &work);
}
