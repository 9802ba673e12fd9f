/* The module's entry points: one call from Python is one request, executed on a handle in one transaction.
 *
 * engine/prismq/python_driver.py does the same in Python, step for step; both run the SQL of engine/prismq/sql.py.
 */
#include "handle.h"
#include "handover.h"
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

static claim next_claim(reader *from) {
  claim wanted;
  wanted.worker = next_text(from);
  wanted.types = next_text(from);
  wanted.capabilities = next_text(from);
  wanted.strategy = next_number(from);
  wanted.limit = next_number(from);
  wanted.lease_ms = next_number(from);
  return wanted;
}

static int is_claim(const claim *wanted) {
  return wanted->strategy >= BY_PRIORITY && wanted->strategy <= BY_LOTTERY && wanted->worker.bytes != NULL;
}

int request_claim(const int64_t *numbers, int64_t numbers_count, const char *text, int64_t text_bytes, claim *wanted) {
  reader from = {numbers, numbers + numbers_count, text, text + text_bytes, 0};
  *wanted = next_claim(&from);
  return !from.broken && is_claim(wanted) && wanted->capabilities.bytes != NULL && wanted->limit == 1;
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

static int execute_claim(prismq_handle *handle, const claim *wanted) {
  clear_result(handle);
  if (!is_claim(wanted)) return fail_with(handle, SQLITE_MISUSE, "not a claim");
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
    claim wanted = next_claim(&from);
    if (from.broken) return fail_with(handle, SQLITE_MISUSE, "the request is shorter than it says");
    return execute_claim(handle, &wanted);
  }
  scope opened;
  int code = begin_scope(handle, &opened);
  if (code != SQLITE_OK) return code;
  set_now(handle);
  code = execute_items(handle, request->operation, &from, request->count);
  if (code == SQLITE_MISUSE && handle->result.code == SQLITE_OK)
    fail_with(handle, code, "the request is shorter than it says or its operation unknown");
  return end_scope(handle, opened, code);
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
  handover service;
  handover_begin(handle, &service, &task);
  scope opened;
  int code = begin_scope(handle, &opened);
  if (code == SQLITE_OK) {
    set_now(handle);
    int64_t next_id = 0;
    code = enqueue_one(handle, &task, &next_id);
    if (code == SQLITE_OK) handover_claim(handle, &service);
    code = end_scope(handle, opened, code);
  }
  handover_end(handle, &service, code == SQLITE_OK);
  return code;
}

int prismq_claim(prismq_handle *handle, const char *worker, int64_t worker_bytes, const char *types,
                 int64_t types_bytes, const char *capabilities, int64_t capabilities_bytes, int64_t strategy,
                 int64_t limit, int64_t lease_ms, int expected) {
  claim wanted = {{worker, worker_bytes}, {types, types_bytes}, {capabilities, capabilities_bytes},
                  strategy,               limit,                lease_ms};
  if (expected) handle->last_claim_empty = 0;
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
  token held = {id, {worker, worker_bytes}, attempt};
  clear_result(handle);
  scope opened;
  int code = begin_scope(handle, &opened);
  if (code != SQLITE_OK) return code;
  set_now(handle);
  return end_scope(handle, opened, complete_one(handle, &held));
}
