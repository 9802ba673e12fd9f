/* Afterwards: what was answered is what stands in the database, and nothing else does. */
#include "kills.h"

#include "atomics.h"

typedef struct {
  int64_t id, attempts, lease_until_ms;
  uint32_t number; /* of the task, by its payload */
  uint32_t worker; /* who has or had it; NOBODY */
  char status;     /* its first letter */
  int64_t key;     /* -1 none */
  uint32_t error;  /* the entry that its error message names */
} row;

enum { NOBODY = UINT32_MAX - 1, NO_ROW = UINT32_MAX };

static row *rows; /* by id */
static uint32_t rows_count;
static uint32_t *row_of;       /* by the task's number */
static uint32_t *calls;        /* entries that have a token, sorted by it */
static uint32_t calls_count;
static uint32_t *unexplained;  /* by worker: tasks that it has without having been told */

#define FOR_EACH_ENTRY(call) for (entry *call = board->entries; call < board->entries + board->entries_count; call++)

static int is_done(const entry *call) { return call->state == ANSWERED && call->code == SQLITE_OK; }

/* One whose process died over it may have been done or not. */
static int may_be_done(const entry *call) {
  return call->state == BEGUN || (is_done(call) && !(call->flags & ROLLED_BACK));
}

static void *zeroed(size_t count, size_t size) {
  void *made = calloc(count + 1, size);
  EXPECT(made != NULL);
  return made;
}

/* A failure of verification names what it is about. */
#define EXPECT_OF(call, truth)                                                                                         \
  do {                                                                                                                 \
    if (!(truth)) print_entry(call);                                                                                   \
    EXPECT(truth);                                                                                                     \
  } while (0)

static void print_entry(const entry *call) {
  fprintf(stderr, "entry %u of worker %u%s: operation %d, flags %u, task %lld, attempt %lld: ", number_of(call),
          call->worker, board->killed[call->worker] ? ", killed" : "", call->operation, call->flags,
          (long long)call->id, (long long)call->attempt);
  if (call->state == ANSWERED)
    fprintf(stderr, "code %d, answer %lld\n", call->code, (long long)call->answer);
  else
    fprintf(stderr, "not answered\n");
}

/* -- reading */

static void expect_same_task(sqlite3_stmt *read, uint32_t number) {
  static char payload[LONGEST_PAYLOAD];
  task_traits traits = traits_of(number);
  (void)write_payload(number, payload);
  EXPECT(strcmp((const char *)sqlite3_column_text(read, 1), payload) == 0);
  EXPECT(strcmp((const char *)sqlite3_column_text(read, 2), traits.type) == 0);
  EXPECT(strcmp((const char *)sqlite3_column_text(read, 3), traits.compatibility) == 0);
  EXPECT(sqlite3_column_int64(read, 4) == traits.priority);
  EXPECT(sqlite3_column_int64(read, 5) == traits.max_attempts);
}

static void read_row(sqlite3_stmt *read, row *into) {
  const char *worker = (const char *)sqlite3_column_text(read, 8), *key = (const char *)sqlite3_column_text(read, 9);
  const char *error = (const char *)sqlite3_column_text(read, 11);
  into->id = sqlite3_column_int64(read, 0);
  into->number = number_in((const char *)sqlite3_column_text(read, 1));
  into->status = (char)sqlite3_column_text(read, 6)[0];
  into->attempts = sqlite3_column_int64(read, 7);
  into->worker = worker == NULL ? NOBODY : worker_in(worker);
  into->key = key == NULL ? -1 : atoll(key + strlen("key "));
  into->lease_until_ms = sqlite3_column_int64(read, 10);
  into->error = error == NULL ? 0 : (uint32_t)atoll(error + strlen("entry "));
  EXPECT(into->number < board->entries_count);
  expect_same_task(read, into->number);
}

static sqlite3_int64 number(sqlite3 *database, const char *sql) {
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  sqlite3_int64 value = sqlite3_column_int64(statement, 0);
  EXPECT(sqlite3_finalize(statement) == SQLITE_OK);
  return value;
}

static void read_rows(sqlite3 *database) {
  sqlite3_stmt *read;
  const char *sql = "SELECT id, payload, type, compatibility, priority, max_attempts, status, attempts, locked_by,"
                    " idempotency_key, CAST(round((julianday(lease_until_utc) - 2440587.5) * 86400000) AS INTEGER),"
                    " error_message FROM task_queue ORDER BY id";
  rows_count = (uint32_t)number(database, "SELECT count(*) FROM task_queue");
  rows = zeroed(rows_count, sizeof *rows);
  row_of = zeroed(board->entries_count, sizeof *row_of);
  for (uint32_t i = 0; i < board->entries_count; i++) row_of[i] = NO_ROW;
  EXPECT(sqlite3_prepare_v2(database, sql, -1, &read, NULL) == SQLITE_OK);
  for (uint32_t i = 0; i < rows_count; i++) {
    EXPECT(sqlite3_step(read) == SQLITE_ROW);
    read_row(read, &rows[i]);
    EXPECT_OF(&board->entries[rows[i].number], row_of[rows[i].number] == NO_ROW); /* no task is there twice */
    row_of[rows[i].number] = i;
  }
  EXPECT(sqlite3_step(read) == SQLITE_DONE && sqlite3_finalize(read) == SQLITE_OK);
}

static const row *find(int64_t id) {
  uint32_t first = 0, end = rows_count;
  while (first < end) {
    uint32_t middle = first + (end - first) / 2;
    if (rows[middle].id < id)
      first = middle + 1;
    else
      end = middle;
  }
  return first < rows_count && rows[first].id == id ? &rows[first] : NULL;
}

/* -- added tasks */

static void verify_added(const entry *call) {
  uint32_t at = row_of[number_of(call)];
  const row *task = find(call->id);
  if (is_done(call) && !(call->flags & ROLLED_BACK)) {
    EXPECT_OF(call, task != NULL);
    if (call->flags & KEYED)
      EXPECT_OF(call, task->key == (int64_t)call->key); /* it may be that of an earlier one */
    else
      EXPECT_OF(call, at != NO_ROW && &rows[at] == task);
  } else if (call->state == ANSWERED) {
    EXPECT_OF(call, at == NO_ROW);
  }
  if (at == NO_ROW) return;
  EXPECT_OF(call, !(call->flags & (BROKEN | ROLLED_BACK)) && call->state != NEVER);
  EXPECT_OF(call, rows[at].key == (call->flags & KEYED ? (int64_t)call->key : -1));
}

/* All or none of those that happen together. */
static void verify_together(const entry *call) {
  const entry *first = &board->entries[call->first];
  if (first == call || first->operation != OP_ENQUEUE || call->operation != OP_ENQUEUE) return;
  EXPECT_OF(call, (row_of[call->first] == NO_ROW) == (row_of[number_of(call)] == NO_ROW));
}

/* -- tokens: who got which attempt of which task, and what became of it */

static int has_token(const entry *call) {
  if (call->operation == OP_ENQUEUE || call->id == 0 || call->flags & (STALE | ROLLED_BACK)) return 0;
  return call->operation != OP_CLAIM || is_done(call);
}

static int by_token(const void *one, const void *other) {
  const entry *a = &board->entries[*(const uint32_t *)one], *b = &board->entries[*(const uint32_t *)other];
  if (a->id != b->id) return a->id < b->id ? -1 : 1;
  if (a->attempt != b->attempt) return a->attempt < b->attempt ? -1 : 1;
  return a < b ? -1 : 1;
}

static void sort_calls(void) {
  calls = zeroed(board->entries_count, sizeof *calls);
  FOR_EACH_ENTRY(call)
    if (has_token(call)) calls[calls_count++] = number_of(call);
  qsort(calls, calls_count, sizeof *calls, by_token);
}

/* All that concerns one attempt. */
typedef struct {
  const entry *claimed, *completed, *failed, *renewed; /* NULL for none */
} story;

/* The calls of one token from `at` on; returns where the next one's begin. */
static uint32_t read_story(uint32_t at, story *told) {
  const entry *first = &board->entries[calls[at]];
  *told = (story){NULL, NULL, NULL, NULL};
  for (; at < calls_count; at++) {
    const entry *call = &board->entries[calls[at]];
    if (call->id != first->id || call->attempt != first->attempt) break;
    EXPECT_OF(call, call->operation != OP_CLAIM || told->claimed == NULL); /* nobody else got it */
    if (call->operation == OP_CLAIM) told->claimed = call;
    if (call->operation == OP_COMPLETE && may_be_done(call)) told->completed = call;
    if (call->operation == OP_FAIL && may_be_done(call)) told->failed = call;
    if (call->operation == OP_RENEW && may_be_done(call)) told->renewed = call;
    if (told->claimed != NULL) EXPECT_OF(call, call->worker == told->claimed->worker);
  }
  return at;
}

static int is_answered(const entry *call) { return call != NULL && call->state == ANSWERED; }

static void verify_last_attempt(const story *told, const row *task) {
  const entry *claimed = told->claimed;
  int settled = is_answered(told->completed) || is_answered(told->failed);
  EXPECT_OF(claimed, task->worker == claimed->worker || (task->status == 'q' && task->worker == NOBODY));
  switch (task->status) {
    case 'p': /* nobody has lost it, least of all those who died */
      EXPECT_OF(claimed, !settled);
      if (is_answered(told->renewed)) EXPECT_OF(told->renewed, task->lease_until_ms == told->renewed->answer);
      break;
    case 'c':
      EXPECT_OF(claimed, told->completed != NULL && !is_answered(told->failed));
      break;
    case 'f':
    case 'd':
      EXPECT_OF(claimed, told->failed != NULL && !is_answered(told->completed) && task->error == number_of(told->failed));
      if (is_answered(told->failed))
        EXPECT_OF(told->failed, told->failed->answer == (task->status == 'f' ? FAIL_FAILED : FAIL_DEAD_LETTER));
      break;
    default:
      EXPECT_OF(claimed, told->failed != NULL && !is_answered(told->completed));
      EXPECT_OF(told->failed, told->failed->state == BEGUN || told->failed->answer == FAIL_QUEUED);
  }
}

/* Every attempt of every task, in order. */
static void verify_attempts(void) {
  int64_t id = 0, attempt = 0;
  for (uint32_t at = 0; at < calls_count;) {
    story told;
    const entry *first = &board->entries[calls[at]];
    at = read_story(at, &told);
    const row *task = find(first->id);
    EXPECT_OF(first, task != NULL && told.claimed != NULL && first->attempt <= task->attempts);
    EXPECT_OF(first, first->attempt == (first->id == id ? attempt : 0) + 1); /* none is missing */
    id = first->id;
    attempt = first->attempt;
    if (attempt == task->attempts)
      verify_last_attempt(&told, task);
    else
      EXPECT_OF(first, told.failed != NULL && (told.failed->state == BEGUN || told.failed->answer == FAIL_QUEUED));
  }
}

/* Attempts that nobody was told of: at most the claims over which somebody died. */
static void count_unexplained(void) {
  int64_t *told_of = zeroed(rows_count, sizeof *told_of);
  unexplained = zeroed(board->hired_count, sizeof *unexplained);
  for (uint32_t i = 0; i < calls_count; i++) {
    const entry *call = &board->entries[calls[i]];
    if (call->operation == OP_CLAIM) told_of[find(call->id) - rows] = call->attempt;
  }
  for (uint32_t i = 0; i < rows_count; i++) {
    if (rows[i].attempts == told_of[i]) continue;
    EXPECT_OF(&board->entries[rows[i].number], rows[i].attempts == told_of[i] + 1 && rows[i].status == 'p');
    unexplained[rows[i].worker]++;
  }
  free(told_of);
}

static void verify_unexplained(void) {
  uint32_t *open = zeroed(board->hired_count, sizeof *open);
  FOR_EACH_ENTRY(call) {
    if (call->state == NEVER) continue;
    if (call->state == BEGUN) EXPECT_OF(call, board->killed[call->worker]);
    if (call->operation == OP_CLAIM && (call->state == BEGUN || (call->flags & ASLEEP && call->id == 0))) open[call->worker]++;
  }
  for (uint32_t i = 0; i < board->hired_count; i++) {
    if (unexplained[i] > open[i]) fprintf(stderr, "worker %u has %u tasks it was not told of\n", i, unexplained[i]);
    EXPECT(unexplained[i] <= open[i]);
  }
  free(open);
}

/* -- */

static void expect_integrity(sqlite3 *database) {
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(database, "PRAGMA integrity_check", -1, &statement, NULL) == SQLITE_OK);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  const char *verdict = (const char *)sqlite3_column_text(statement, 0);
  if (strcmp(verdict, "ok") != 0) fprintf(stderr, "integrity_check: %s\n", verdict);
  EXPECT(strcmp(verdict, "ok") == 0);
  EXPECT(sqlite3_finalize(statement) == SQLITE_OK);
}

void verify(void) {
  sqlite3 *database;
  EXPECT(sqlite3_open_v2(DATABASE, &database, SQLITE_OPEN_READWRITE, "unix") == SQLITE_OK);
  EXPECT(sqlite3_exec(database, "BEGIN IMMEDIATE; ROLLBACK", NULL, NULL, NULL) == SQLITE_OK); /* nobody has a lock */
  expect_integrity(database);
  if (!running->nothing_holds) {
    read_rows(database);
    FOR_EACH_ENTRY(call) {
      if (call->operation == OP_ENQUEUE && call->state != NEVER) {
        verify_added(call);
        verify_together(call);
      }
    }
    sort_calls();
    verify_attempts();
    count_unexplained();
    verify_unexplained();
  }
  EXPECT(sqlite3_close(database) == SQLITE_OK);
}
