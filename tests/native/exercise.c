/* Takes tasks through their life by the C interface alone, so that a memory checker sees our code without an interpreter's.
 * statements.h, made from the Python side's SQL, and queue.db, an empty queue, come from .ci/native. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prismq.h"
#include "statements.h"

#define TEXT(literal) literal, (int64_t)strlen(literal)
#define NONE NULL, 0
#define EXPECT(truth)                                                                                                  \
  do {                                                                                                                 \
    expectations++;                                                                                                    \
    if (!(truth)) {                                                                                                    \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #truth);                                                      \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

int sqlite3_prismq_init(sqlite3 *, char **, const void *);

enum { TASKS = 200, STATEMENTS = sizeof statements / sizeof *statements };

static int expectations;

static void enqueues_and_finds_a_known_key(prismq_handle *queue) {
  const prismq_result *result = prismq_results(queue);
  for (int i = 0; i < TASKS; i++)
    EXPECT(prismq_enqueue(queue, TEXT("video"), TEXT("{\"n\": 1}"), TEXT("{}"), NONE, i % 7, 5, NO_TIME) == 0);
  EXPECT(prismq_enqueue(queue, TEXT("audio"), TEXT("{}"), TEXT("{\"gpu\": true}"), TEXT("key"), 9, 5, 0) == 0);
  int64_t id = result->numbers[0];
  EXPECT(prismq_enqueue(queue, TEXT("audio"), TEXT("{}"), TEXT("{}"), TEXT("key"), 9, 5, NO_TIME) == 0);
  EXPECT(result->numbers_count == 1 && result->numbers[0] == id);
}

static void takes_a_payload_larger_than_a_page(prismq_handle *queue) {
  int64_t bytes = 1 << 20;
  char *payload = malloc((size_t)bytes);
  EXPECT(payload != NULL);
  memset(payload, '1', (size_t)bytes);
  EXPECT(prismq_enqueue(queue, TEXT("large"), payload, bytes, TEXT("{}"), NONE, 0, 5, NO_TIME) == 0);
  free(payload);
  EXPECT(prismq_claim(queue, TEXT("worker"), TEXT("[\"large\"]"), TEXT("{}"), BY_PRIORITY, 1, 60000) == 0);
  EXPECT(prismq_results(queue)->text_bytes > bytes);
}

static void settles_what_every_strategy_claims(prismq_handle *queue) {
  const prismq_result *result = prismq_results(queue);
  for (int strategy = BY_PRIORITY; strategy <= BY_LOTTERY; strategy++) {
    EXPECT(prismq_claim(queue, TEXT("worker"), NONE, TEXT("{\"gpu\": true}"), strategy, 32, 60000) == 0);
    EXPECT(result->numbers_count > 0);
    int64_t id = result->numbers[0];
    EXPECT(prismq_complete(queue, id, TEXT("another"), 1) == 0 && result->numbers[0] == 0);
    EXPECT(prismq_complete(queue, id, TEXT("worker"), 1) == 0 && result->numbers[0] == 1);
    EXPECT(prismq_complete(queue, id, TEXT("worker"), 1) == 0 && result->numbers[0] == 0);
  }
}

static void executes_packed_requests(prismq_handle *queue) {
  const prismq_result *result = prismq_results(queue);
  EXPECT(prismq_claim(queue, TEXT("w"), NONE, TEXT("{}"), BY_PRIORITY, 1, 60000) == 0);
  int64_t id = result->numbers[0];
  int64_t renewal[] = {id, 1, 1, 60000};
  prismq_request renew = {OP_RENEW, 1, renewal, 4, "w", 1};
  EXPECT(prismq_execute(queue, &renew) == 0 && result->numbers[0] != 0);
  int64_t failure[] = {id, 1, 1, 3, 1, 0};
  prismq_request fail = {OP_FAIL, 1, failure, 6, "wwhy", 4};
  EXPECT(prismq_execute(queue, &fail) == 0 && result->numbers[0] == FAIL_QUEUED);
  fail.numbers_count = 3;
  EXPECT(prismq_execute(queue, &fail) != 0 && result->message[0] != '\0');
  fail.numbers_count = 6;
  fail.text_bytes = 2;
  EXPECT(prismq_execute(queue, &fail) != 0);
}

int main(void) {
  sqlite3 *database;
  EXPECT(prismq_open(NULL, statements, STATEMENTS) == NULL);
  EXPECT(sqlite3_auto_extension((void (*)(void))sqlite3_prismq_init) == SQLITE_OK);
  EXPECT(sqlite3_open(":memory:", &database) == SQLITE_OK && sqlite3_close(database) == SQLITE_OK);
  EXPECT(sqlite3_open_v2("queue.db", &database, SQLITE_OPEN_READWRITE, "prismq") == SQLITE_OK);
  EXPECT(prismq_open(database, statements, STATEMENTS - 1) == NULL);
  prismq_handle *queue = prismq_open(database, statements, STATEMENTS);
  EXPECT(queue != NULL);

  enqueues_and_finds_a_known_key(queue);
  takes_a_payload_larger_than_a_page(queue);
  settles_what_every_strategy_claims(queue);
  executes_packed_requests(queue);

  prismq_close(queue);
  EXPECT(sqlite3_close(database) == SQLITE_OK);
  printf("%d expectations held\n", expectations);
}
