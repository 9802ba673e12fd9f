/* The operations through the C interface alone, so that a memory checker sees our code without an interpreter's. */
#include "check.h"
#include "prismq.h"
#include "statements.h" /* made from engine/prismq/sql.py */

#define TEXT(literal) literal, (int64_t)strlen(literal)
#define NONE NULL, 0
#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

enum { STATEMENTS = sizeof statements / sizeof *statements };

static const char path[] = "requests.db";

typedef struct {
  sqlite3 *database;
  prismq_handle *handle;
  prismq_result *result;
} queue;

static queue open_queue(void) {
  queue queue;
  copy_empty_queue(path);
  EXPECT(sqlite3_open_v2(path, &queue.database, SQLITE_OPEN_READWRITE, "prismq") == SQLITE_OK);
  execute(queue.database, "PRAGMA synchronous=OFF");
  queue.handle = prismq_open(queue.database, statements, STATEMENTS, 5000, 1);
  EXPECT(queue.handle != NULL);
  queue.result = prismq_results(queue.handle);
  return queue;
}

/* Nothing may be left open or half done. */
static void close_queue(queue *queue) {
  EXPECT(sqlite3_get_autocommit(queue->database));
  for (sqlite3_stmt *each = NULL; (each = sqlite3_next_stmt(queue->database, each)) != NULL;)
    EXPECT(!sqlite3_stmt_busy(each));
  expect_integrity(queue->database);
  prismq_close(queue->handle);
  EXPECT(sqlite3_close(queue->database) == SQLITE_OK);
  remove_database(path);
}

static int enqueue(queue *queue, const char *type, const char *key, int64_t priority) {
  int64_t key_bytes = key == NULL ? 0 : (int64_t)strlen(key);
  return prismq_enqueue(queue->handle, TEXT(type), TEXT("{\"n\": 1}"), TEXT("{}"), key, key_bytes, priority, 5,
                        NO_TIME);
}

static int claim_one(queue *queue) {
  return prismq_claim(queue->handle, TEXT("worker"), NONE, TEXT("{}"), BY_PRIORITY, 1, 60000, 0);
}

static int execute_request(queue *queue, int operation, int64_t count, const int64_t *numbers, int64_t numbers_count,
                           const char *text, int64_t text_bytes) {
  prismq_request request = {operation, count, numbers, numbers_count, text, text_bytes};
  int code = prismq_execute(queue->handle, &request);
  EXPECT(code == queue->result->code);
  EXPECT(code == SQLITE_OK || queue->result->message[0] != '\0');
  EXPECT(sqlite3_get_autocommit(queue->database));
  return code;
}

static sqlite3_int64 tasks(queue *queue) { return number(queue->database, "SELECT count(*) FROM task_queue"); }

static void a_handle_needs_a_database_and_every_statement(void) {
  queue queue = open_queue();
  EXPECT(prismq_open(NULL, statements, STATEMENTS, 5000, 1) == NULL);
  EXPECT(prismq_open(queue.database, statements, STATEMENTS - 1, 5000, 1) == NULL);
  prismq_close(NULL);
  close_queue(&queue);
}

static void a_known_key_gives_its_task_and_writes_nothing(void) {
  queue queue = open_queue();
  EXPECT(enqueue(&queue, "video", "key", 1) == SQLITE_OK);
  int64_t id = queue.result->numbers[0];
  EXPECT(enqueue(&queue, "audio", "key", 2) == SQLITE_OK);
  EXPECT(queue.result->numbers_count == 1 && queue.result->numbers[0] == id && tasks(&queue) == 1);
  close_queue(&queue);
}

static void a_task_lives_by_every_strategy(void) {
  queue queue = open_queue();
  for (int i = 0; i < 200; i++) EXPECT(enqueue(&queue, i % 2 ? "video" : "audio", NULL, i % 7) == SQLITE_OK);
  for (int strategy = BY_PRIORITY; strategy <= BY_LOTTERY; strategy++) {
    for (int typed = 0; typed < 2; typed++) {
      const char *types = typed ? "[\"video\"]" : NULL;
      EXPECT(prismq_claim(queue.handle, TEXT("worker"), types, typed ? (int64_t)strlen(types) : 0, TEXT("{}"), strategy,
                          8, 60000, 0) == SQLITE_OK);
      EXPECT(queue.result->numbers_count == 8 * 5);
      int64_t id = queue.result->numbers[0];
      EXPECT(prismq_complete(queue.handle, id, TEXT("another"), 1) == SQLITE_OK && queue.result->numbers[0] == 0);
      EXPECT(prismq_complete(queue.handle, id, TEXT("worker"), 2) == SQLITE_OK && queue.result->numbers[0] == 0);
      EXPECT(prismq_complete(queue.handle, id, TEXT("worker"), 1) == SQLITE_OK && queue.result->numbers[0] == 1);
      EXPECT(prismq_complete(queue.handle, id, TEXT("worker"), 1) == SQLITE_OK && queue.result->numbers[0] == 0);
    }
  }
  EXPECT(number(queue.database, "SELECT count(*) FROM task_queue WHERE status = 'completed'") == 8);
  EXPECT(number(queue.database, "SELECT count(*) FROM task_queue WHERE status = 'processing'") == 7 * 8);
  close_queue(&queue);
}

static void an_empty_queue_is_looked_at_without_the_write_lock(void) {
  queue queue = open_queue();
  sqlite3 *writer;
  for (int i = 0; i < 3; i++) EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->numbers_count == 0);
  EXPECT(sqlite3_open(path, &writer) == SQLITE_OK);
  execute(writer, "BEGIN IMMEDIATE");
  EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->numbers_count == 0);
  EXPECT((enqueue(&queue, "video", NULL, 1) & 0xff) == SQLITE_BUSY);
  execute(writer, "ROLLBACK");
  EXPECT(sqlite3_close(writer) == SQLITE_OK);
  EXPECT(enqueue(&queue, "video", NULL, 1) == SQLITE_OK);
  EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->numbers_count == 5);
  close_queue(&queue);
}

static void a_payload_may_be_larger_than_any_page(void) {
  queue queue = open_queue();
  int64_t bytes = 3 << 20;
  char *payload = malloc((size_t)bytes);
  EXPECT(payload != NULL);
  memset(payload, '1', (size_t)bytes);
  EXPECT(prismq_enqueue(queue.handle, TEXT("large"), payload, bytes, TEXT("{}"), NONE, 0, 5, NO_TIME) == SQLITE_OK);
  memset(payload, '2', (size_t)bytes); /* must have been copied */
  EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->text_bytes > bytes);
  const char *claimed = memchr(queue.result->text + 48, '\0', 16);
  EXPECT(claimed != NULL && claimed[1] == '1' && memcmp(claimed + 1, claimed + 2, (size_t)bytes - 1) == 0);
  free(payload);
  close_queue(&queue);
}

static void packed_requests_do_the_same_for_many(void) {
  queue queue = open_queue();
  enum { MANY = 50, PER_TASK = 7 };
  int64_t numbers[MANY * PER_TASK];
  char text[MANY * 9];
  for (int i = 0; i < MANY; i++) {
    const int64_t task[PER_TASK] = {4, 2, 2, i % 10 ? -1 : 1, i % 5, 3, i % 3 ? NO_TIME : 1000 * i};
    memcpy(numbers + i * PER_TASK, task, sizeof task);
  }
  int64_t length = 0;
  for (int i = 0; i < MANY; i++)
    length += sprintf(text + length, i % 10 ? "type{}{}" : "type{}{}%c", 'a' + i / 10);
  EXPECT(execute_request(&queue, OP_ENQUEUE, MANY, numbers, COUNT(numbers), text, length) == SQLITE_OK);
  EXPECT(queue.result->numbers_count == MANY && tasks(&queue) == MANY);
  for (int i = 1; i < MANY; i++) EXPECT(queue.result->numbers[i] == queue.result->numbers[i - 1] + 1);
  EXPECT(execute_request(&queue, OP_ENQUEUE, MANY, numbers, COUNT(numbers), text, length) == SQLITE_OK);
  EXPECT(queue.result->numbers_count == MANY && tasks(&queue) == 2 * MANY - 5);

  const int64_t claim[] = {1, -1, 2, BY_FIFO, 3, 60000};
  EXPECT(execute_request(&queue, OP_CLAIM, 1, claim, COUNT(claim), "w{}", 3) == SQLITE_OK);
  EXPECT(queue.result->numbers_count == 3 * 5);
  const int64_t ids[] = {queue.result->numbers[0], queue.result->numbers[5], queue.result->numbers[10]};
  const int64_t renewals[] = {ids[0], 1, 1, 60000, ids[1], 1, 9, 60000};
  EXPECT(execute_request(&queue, OP_RENEW, 2, renewals, COUNT(renewals), "ww", 2) == SQLITE_OK);
  EXPECT(queue.result->numbers[0] > queue.result->at_ms && queue.result->numbers[1] == 0);
  const int64_t failures[] = {ids[0], 1, 1, 3, 1, 0, ids[1], 1, 1, -1, 0, 0, ids[2], 1, 7, 3, 1, 0};
  EXPECT(execute_request(&queue, OP_FAIL, 3, failures, COUNT(failures), "wwhywwwhy", 9) == SQLITE_OK);
  EXPECT(queue.result->numbers[0] == FAIL_QUEUED && queue.result->numbers[1] == FAIL_FAILED);
  EXPECT(queue.result->numbers[2] == FAIL_REFUSED);
  const int64_t tokens[] = {ids[2], 1, 1, ids[2], 1, 1};
  EXPECT(execute_request(&queue, OP_COMPLETE, 2, tokens, COUNT(tokens), "ww", 2) == SQLITE_OK);
  EXPECT(queue.result->numbers[0] == 1 && queue.result->numbers[1] == 0);
  close_queue(&queue);
}

static void a_malformed_request_is_refused_whole(void) {
  queue queue = open_queue();
  const int64_t good[] = {1, 2, 2, -1, 0, 5, NO_TIME, 1, 2, 2, -1, 0, 5, NO_TIME};
  EXPECT(execute_request(&queue, OP_ENQUEUE, 2, good, COUNT(good), "a{}{}a{}{}", 10) == SQLITE_OK);
  EXPECT(tasks(&queue) == 2);
  for (int64_t numbers = 0; numbers < COUNT(good); numbers++)
    EXPECT(execute_request(&queue, OP_ENQUEUE, 2, good, numbers, "a{}{}a{}{}", 10) == SQLITE_MISUSE);
  for (int64_t bytes = 0; bytes < 10; bytes++)
    EXPECT(execute_request(&queue, OP_ENQUEUE, 2, good, COUNT(good), "a{}{}a{}{}", bytes) == SQLITE_MISUSE);
  static const int64_t sizes[] = {-1, INT64_MIN, -5};
  for (int i = 0; i < 3; i++) {
    EXPECT(execute_request(&queue, OP_ENQUEUE, sizes[i], good, COUNT(good), "a{}{}a{}{}", 10) == SQLITE_MISUSE);
    EXPECT(execute_request(&queue, OP_ENQUEUE, 2, good, sizes[i], "a{}{}a{}{}", 10) == SQLITE_MISUSE);
    EXPECT(execute_request(&queue, OP_ENQUEUE, 2, good, COUNT(good), "a{}{}a{}{}", sizes[i]) == SQLITE_MISUSE);
  }
  EXPECT(execute_request(&queue, OP_ENQUEUE, INT64_MAX, good, COUNT(good), "a{}{}a{}{}", 10) == SQLITE_MISUSE);
  EXPECT(execute_request(&queue, OP_ENQUEUE, 2, NULL, COUNT(good), "a{}{}a{}{}", 10) == SQLITE_MISUSE);
  EXPECT(execute_request(&queue, OP_ENQUEUE, 2, good, COUNT(good), NULL, 10) == SQLITE_MISUSE);
  EXPECT(execute_request(&queue, OP_ENQUEUE, 1, NULL, 0, NULL, 0) == SQLITE_MISUSE);
  EXPECT(execute_request(&queue, OP_ENQUEUE, 0, NULL, 0, NULL, 0) == SQLITE_OK);
  static const int64_t lengths[] = {7, 1000, INT64_MAX, INT64_MAX - 1};
  for (int i = 0; i < 4; i++) {
    const int64_t text_too_long[] = {1, lengths[i], 2, -1, 0, 5, NO_TIME};
    EXPECT(execute_request(&queue, OP_ENQUEUE, 1, text_too_long, 7, "a{}{}", 5) == SQLITE_MISUSE);
  }
  const int64_t without_type[] = {-1, 2, 2, -1, 0, 5, NO_TIME};
  EXPECT((execute_request(&queue, OP_ENQUEUE, 1, without_type, 7, "{}{}", 4) & 0xff) == SQLITE_CONSTRAINT);
  static const int operations[] = {-1, 5, 6, 1 << 30};
  for (int i = 0; i < 4; i++)
    EXPECT(execute_request(&queue, operations[i], 1, good, COUNT(good), "a{}{}a{}{}", 10) == SQLITE_MISUSE);
  const int64_t claim[] = {1, -1, 2, BY_FIFO, 3, 60000};
  for (int64_t numbers = 0; numbers < COUNT(claim); numbers++)
    EXPECT(execute_request(&queue, OP_CLAIM, 1, claim, numbers, "w{}", 3) == SQLITE_MISUSE);
  EXPECT(execute_request(&queue, OP_CLAIM, 2, claim, COUNT(claim), "w{}", 3) == SQLITE_MISUSE);
  EXPECT(execute_request(&queue, OP_CLAIM, 0, claim, COUNT(claim), "w{}", 3) == SQLITE_MISUSE);
  static const int64_t strategies[] = {-1, 4, INT64_MAX, INT64_MIN};
  for (int i = 0; i < 4; i++) {
    const int64_t by_nothing[] = {1, -1, 2, strategies[i], 3, 60000};
    EXPECT(execute_request(&queue, OP_CLAIM, 1, by_nothing, 6, "w{}", 3) == SQLITE_MISUSE);
  }
  const int64_t by_nobody[] = {-1, -1, 2, BY_FIFO, 3, 60000};
  EXPECT(execute_request(&queue, OP_CLAIM, 1, by_nobody, 6, "{}", 2) == SQLITE_MISUSE);
  const int64_t not_json[] = {1, 1, 1, BY_FIFO, 3, 60000};
  EXPECT(execute_request(&queue, OP_CLAIM, 1, not_json, 6, "w[{", 3) != SQLITE_OK);
  EXPECT(tasks(&queue) == 2);
  EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->numbers_count == 5);
  close_queue(&queue);
}

static void times_out_of_range_end_at_its_ends(void) {
  queue queue = open_queue();
  static const int64_t times[] = {INT64_MIN + 1, -1, 0, INT64_MAX};
  for (int i = 0; i < 4; i++) {
    const int64_t task[] = {1, 2, 2, -1, 0, 5, times[i]};
    EXPECT(execute_request(&queue, OP_ENQUEUE, 1, task, 7, "a{}{}", 5) == SQLITE_OK);
  }
  EXPECT(number(queue.database,
                "SELECT group_concat(run_after_utc) = '0000-01-01 00:00:00.000,1969-12-31 23:59:59.999,"
                "1970-01-01 00:00:00.000,9999-12-31 23:59:59.999' FROM task_queue") == 1);
  static const int64_t leases[] = {INT64_MAX, INT64_MIN, 0};
  for (int i = 0; i < 3; i++) {
    EXPECT(prismq_claim(queue.handle, TEXT("w"), NONE, TEXT("{}"), BY_FIFO, 1, leases[i], 0) == SQLITE_OK);
    EXPECT(queue.result->numbers_count == 5);
    int64_t id = queue.result->numbers[0], attempt = queue.result->numbers[2];
    const int64_t renewal[] = {id, 1, attempt, leases[i]};
    EXPECT(execute_request(&queue, OP_RENEW, 1, renewal, 4, "w", 1) == SQLITE_OK && queue.result->numbers[0] != 0);
    const int64_t failure[] = {id, 1, attempt, 0, 1, leases[i]};
    EXPECT(execute_request(&queue, OP_FAIL, 1, failure, 6, "w", 1) == SQLITE_OK);
    EXPECT(queue.result->numbers[0] == FAIL_QUEUED);
  }
  close_queue(&queue);
}

static void the_last_id_of_all_is_given_out_and_no_other(void) {
  queue queue = open_queue();
  execute(queue.database,
          "INSERT INTO task_queue (id, type, payload) VALUES (9223372036854775806, 'before the last', '{}')");
  EXPECT(enqueue(&queue, "last", NULL, 1) == SQLITE_OK && queue.result->numbers[0] == INT64_MAX);
  int64_t numbers[7 * 40];
  char text[5 * 40];
  for (int i = 0; i < 40; i++) {
    const int64_t task[] = {1, 2, 2, -1, 0, 5, NO_TIME};
    memcpy(numbers + 7 * i, task, sizeof task);
    memcpy(text + 5 * i, "a{}{}", 5);
  }
  EXPECT(execute_request(&queue, OP_ENQUEUE, 40, numbers, COUNT(numbers), text, COUNT(text)) != SQLITE_OK);
  execute(queue.database, "DELETE FROM task_queue; UPDATE queue_state SET value = 9223372036854775780");
  EXPECT(execute_request(&queue, OP_ENQUEUE, 40, numbers, COUNT(numbers), text, COUNT(text)) != SQLITE_OK);
  EXPECT(tasks(&queue) == 0);
  close_queue(&queue);
}

static void operations_join_the_callers_transaction(void) {
  queue queue = open_queue();
  EXPECT(enqueue(&queue, "before", NULL, 1) == SQLITE_OK);
  const int64_t three[] = {1, 2, 2, -1, 0, 5, NO_TIME, 1, 2, 2, -1, 0, 5, NO_TIME, -1, 2, 2, -1, 0, 5, NO_TIME};
  prismq_request request = {OP_ENQUEUE, 2, three, 14, "a{}{}b{}{}{}{}", 14};
  execute(queue.database, "BEGIN");
  EXPECT(enqueue(&queue, "inside", NULL, 1) == SQLITE_OK);
  EXPECT(prismq_execute(queue.handle, &request) == SQLITE_OK && tasks(&queue) == 4);
  request.count = 3;
  request.numbers_count = 21;
  EXPECT((prismq_execute(queue.handle, &request) & 0xff) == SQLITE_CONSTRAINT); /* all or none of them */
  EXPECT(tasks(&queue) == 4 && !sqlite3_get_autocommit(queue.database));
  EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->numbers_count == 5);
  execute(queue.database, "ROLLBACK");
  EXPECT(tasks(&queue) == 1);
  EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->numbers_count == 5);
  close_queue(&queue);
}

static void another_handle_of_the_database_sees_its_tasks(void) {
  queue queue = open_queue();
  prismq_handle *other = prismq_open(queue.database, statements, STATEMENTS, 5000, 1);
  EXPECT(other != NULL && enqueue(&queue, "video", NULL, 1) == SQLITE_OK);
  EXPECT(prismq_claim(other, TEXT("other"), NONE, TEXT("{}"), BY_FIFO, 1, 1000, 0) == SQLITE_OK);
  EXPECT(prismq_results(other)->numbers_count == 5);
  prismq_close(other);
  EXPECT(claim_one(&queue) == SQLITE_OK && queue.result->numbers_count == 0);
  close_queue(&queue);
}

static const int64_t odd_numbers[] = {INT64_MIN, INT64_MIN + 1, -1, 0,       1,         2, 3, 4,
                                      5,         7,             60000, 1 << 20, INT64_MAX - 1, INT64_MAX};

static int64_t odd_number(unsigned *state) { return odd_numbers[next_random(state) % COUNT(odd_numbers)]; }

/* From a copy in memory that ends where the request says it ends. */
static int execute_copy(queue *queue, int operation, int64_t count, const int64_t *numbers, int64_t numbers_count,
                        const char *text, int64_t text_bytes) {
  int64_t *copied_numbers = malloc((size_t)numbers_count * sizeof *numbers);
  char *copied_text = malloc((size_t)text_bytes);
  if (numbers_count > 0) memcpy(copied_numbers, numbers, (size_t)numbers_count * sizeof *numbers);
  if (text_bytes > 0) memcpy(copied_text, text, (size_t)text_bytes);
  int code = execute_request(queue, operation, count, copied_numbers, numbers_count, copied_text, text_bytes);
  free(copied_numbers);
  free(copied_text);
  return code;
}

static void numbers_and_bytes_without_sense_do_no_harm(void) {
  queue queue = open_queue();
  unsigned state = 20240229;
  for (int i = 0; i < (quick ? 300 : 5000); i++) {
    int64_t numbers[30], numbers_count = next_random(&state) % 30, text_bytes = next_random(&state) % 40;
    char text[40];
    for (int k = 0; k < 30; k++) numbers[k] = odd_number(&state);
    for (int k = 0; k < 40; k++) text[k] = (char)next_random(&state);
    int64_t count = next_random(&state) % 2 && numbers_count > 0 ? odd_number(&state) : next_random(&state) % 4;
    execute_copy(&queue, (int)(next_random(&state) % 7) - 1, count, numbers, numbers_count, text, text_bytes);
  }
  close_queue(&queue);
}

static void good_requests_with_a_flaw_do_no_harm(void) {
  static const struct {
    int operation;
    int64_t count, numbers[21], numbers_count;
    const char *text;
  } good[] = {
      {OP_ENQUEUE, 3, {1, 2, 2, -1, 0, 5, NO_TIME, 1, 2, 2, 1, 3, 1, 0, 2, 7, 2, -1, 9, 2, NO_TIME}, 21,
       "a{}{}b{}{}kcc{\"x\":1}{}"},
      {OP_CLAIM, 1, {1, -1, 2, BY_PRIORITY, 2, 60000}, 6, "w{}"},
      {OP_CLAIM, 1, {1, 5, 2, BY_LOTTERY, 1, 1}, 6, "w[\"a\"]{}"},
      {OP_COMPLETE, 2, {1, 1, 1, 2, 1, 1}, 6, "ww"},
      {OP_FAIL, 1, {3, 1, 1, 3, 1, 0}, 6, "wwhy"},
      {OP_RENEW, 1, {4, 1, 1, 60000}, 4, "w"},
  };
  queue queue = open_queue();
  unsigned state = 5;
  int accepted = 0, refused = 0;
  for (int i = 0; i < (quick ? 300 : 5000); i++) {
    int which = (int)(next_random(&state) % COUNT(good));
    int64_t numbers[21], numbers_count = good[which].numbers_count, count = good[which].count;
    int64_t text_bytes = (int64_t)strlen(good[which].text);
    char text[64];
    memcpy(numbers, good[which].numbers, sizeof numbers);
    memcpy(text, good[which].text, (size_t)text_bytes);
    for (unsigned flaws = next_random(&state) % 3; flaws > 0; flaws--) {
      switch (next_random(&state) % 5) {
        case 0:
          numbers[next_random(&state) % 21] = odd_number(&state);
          break;
        case 1:
          text[next_random(&state) % 20] = (char)next_random(&state);
          break;
        case 2:
          numbers_count = next_random(&state) % 22;
          break;
        case 3:
          text_bytes = next_random(&state) % ((unsigned)strlen(good[which].text) + 1);
          break;
        default:
          count = odd_number(&state);
      }
    }
    int code = execute_copy(&queue, good[which].operation, count, numbers, numbers_count, text, text_bytes);
    accepted += code == SQLITE_OK;
    refused += code != SQLITE_OK;
  }
  EXPECT(accepted > 10 && refused > 10 && tasks(&queue) > 10);
  close_queue(&queue);
}

/* Whatever allocation fails, the operation happened or it did not. */
static void running_out_of_memory_undoes_an_operation(void) {
  queue queue = open_queue();
  int64_t numbers[7 * 20];
  char text[5 * 20];
  for (int i = 0; i < 20; i++) {
    const int64_t task[] = {1, 2, 2, -1, 0, 5, NO_TIME};
    memcpy(numbers + 7 * i, task, sizeof task);
    memcpy(text + 5 * i, "a{}{}", 5);
  }
  int failed = 1;
  int64_t known = 0;
  for (long nth = 1; failed; nth += 1 + nth / (quick ? 2 : 8)) {
    prismq_close(queue.handle); /* so that statements and results are allocated again */
    fail_allocation(nth);
    queue.handle = prismq_open(queue.database, statements, STATEMENTS, 5000, 1);
    int code = SQLITE_NOMEM, claimed = SQLITE_NOMEM, completed = SQLITE_NOMEM;
    int64_t many = 0;
    if (queue.handle != NULL) {
      queue.result = prismq_results(queue.handle);
      code = execute_request(&queue, OP_ENQUEUE, 20, numbers, COUNT(numbers), text, COUNT(text));
      claimed = prismq_claim(queue.handle, TEXT("w"), NONE, TEXT("{}"), BY_FIFO, 5, 60000, 0);
      many = claimed == SQLITE_OK ? queue.result->numbers_count / 5 : 0;
      int64_t id = many ? queue.result->numbers[0] : 0;
      if (many) completed = prismq_complete(queue.handle, id, TEXT("w"), 1);
    }
    failed = allocation_failed();
    fail_allocation(0);
    if (queue.handle == NULL) {
      queue.handle = prismq_open(queue.database, statements, STATEMENTS, 5000, 1);
      EXPECT(queue.handle != NULL);
      queue.result = prismq_results(queue.handle);
    }
    known += code == SQLITE_OK ? 20 : 0;
    EXPECT(tasks(&queue) == known);
    EXPECT(number(queue.database, "SELECT count(*) FROM task_queue WHERE status <> 'queued'") == many);
    EXPECT(number(queue.database, "SELECT count(*) FROM task_queue WHERE status = 'completed'") ==
           (completed == SQLITE_OK));
    execute(queue.database, "UPDATE task_queue SET status = 'queued', attempts = 0, lease_until_utc = NULL");
  }
  close_queue(&queue);
}

const test request_tests[] = {
    {"a handle needs a database and every statement", a_handle_needs_a_database_and_every_statement},
    {"a known key gives its task and writes nothing", a_known_key_gives_its_task_and_writes_nothing},
    {"a task lives by every strategy", a_task_lives_by_every_strategy},
    {"an empty queue is looked at without the write lock", an_empty_queue_is_looked_at_without_the_write_lock},
    {"a payload may be larger than any page", a_payload_may_be_larger_than_any_page},
    {"packed requests do the same for many", packed_requests_do_the_same_for_many},
    {"a malformed request is refused whole", a_malformed_request_is_refused_whole},
    {"times out of range end at its ends", times_out_of_range_end_at_its_ends},
    {"the last id of all is given out and no other", the_last_id_of_all_is_given_out_and_no_other},
    {"operations join the caller's transaction", operations_join_the_callers_transaction},
    {"another handle of the database sees its tasks", another_handle_of_the_database_sees_its_tasks},
    {"numbers and bytes without sense do no harm", numbers_and_bytes_without_sense_do_no_harm},
    {"good requests with a flaw do no harm", good_requests_with_a_flaw_do_no_harm},
    {"running out of memory undoes an operation", running_out_of_memory_undoes_an_operation},
    {NULL, NULL},
};
