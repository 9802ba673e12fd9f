/* What a worker does: all that one can do with a queue, at random, and every answer is what it must be. */
#include "kills.h"

#include "atomics.h"
#include "faulty_vfs.h"
#include "statements.h" /* made from engine/prismq/sql.py */

#define TEXT(literal) literal, (int64_t)strlen(literal)
#define NONE NULL, 0

enum {
  STATEMENTS = sizeof statements / sizeof *statements,
  BUSY_TIMEOUT_MS = 3600000, /* as LEASE_MS: longer than any test, even on a machine that stands still for minutes */
  LEASE_MS = 36000000,
  KEYS = 40,         /* in use at a time */
  MANY = 20          /* in one request; some of them go by blocks */
};

/* -- opening */

static void configure(worker *self, const char *sql) {
  EXPECT(sqlite3_exec(self->database, sql, NULL, NULL, NULL) == SQLITE_OK);
}

static void connect_to_queue(worker *self) {
  EXPECT(sqlite3_open_v2(DATABASE, &self->database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, "prismq") == SQLITE_OK);
  EXPECT(sqlite3_busy_timeout(self->database, BUSY_TIMEOUT_MS) == SQLITE_OK);
  configure(self, self->durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
  self->handle = prismq_open(self->database, statements, STATEMENTS, BUSY_TIMEOUT_MS, self->grouped);
  EXPECT(self->handle != NULL);
  self->result = prismq_results(self->handle);
  EXPECT(sqlite3_prepare_v2(self->database,
                            "SELECT payload, idempotency_key, status, locked_by, attempts, max_attempts, type, priority,"
                            " compatibility FROM task_queue WHERE id = ?1",
                            -1, &self->read_row, NULL) == SQLITE_OK);
}

static void disconnect(worker *self) {
  EXPECT(sqlite3_get_autocommit(self->database));
  EXPECT(sqlite3_finalize(self->read_row) == SQLITE_OK);
  prismq_close(self->handle);
  EXPECT(sqlite3_close(self->database) == SQLITE_OK);
}

/* Whoever takes the place of one who died is as that one was, so that there are always some of each kind. */
void worker_open(worker *self, uint32_t number, int place) {
  memset(self, 0, sizeof *self);
  self->number = number;
  self->random = hash_of(number) ^ (unsigned)now_us();
  self->grouped = place % 4 != 3;
  self->durable = place / 4 % 2;
  snprintf(self->name, sizeof self->name, "worker %u", number);
  self->payload = malloc(LONGEST_PAYLOAD);
  self->expected = malloc(LONGEST_PAYLOAD);
  EXPECT(self->payload != NULL && self->expected != NULL);
  connect_to_queue(self);
}

void worker_close(worker *self) {
  disconnect(self);
  free(self->payload);
  free(self->expected);
}

uint32_t worker_in(const char *name) {
  unsigned number = 0;
  EXPECT(name != NULL && sscanf(name, "worker %u", &number) == 1 && number < MOST_HIRED);
  return number;
}

/* -- accidents: in this process alone one of the next calls to the WAL's file fails, or one of the next allocations */

static int chance(worker *self, unsigned one_of) { return next_random(&self->random) % one_of == 0; }

static void begin_accident(worker *self) {
  static const struct {
    wal_call failing;
    int code, kept;
    unsigned within; /* so many calls */
  } each[] = {{WAL_WRITE, SQLITE_FULL, 30, 2},     {WAL_WRITE, SQLITE_IOERR_WRITE, 0, 2},
              {WAL_SYNC, SQLITE_IOERR_FSYNC, 0, 1}, {WAL_READ, SQLITE_IOERR_READ, 0, 12}};
  if (running->accidents == NONE_AT_ALL || !chance(self, 6)) return;
  if (running->accidents == OF_MEMORY) { /* few are needed, or hundreds, when all is done for the first time */
    fail_allocation(1 + next_random(&self->random) % (1u << next_random(&self->random) % 11));
    return;
  }
  unsigned which = next_random(&self->random) % 4;
  arm(each[which].failing, 1 + next_random(&self->random) % each[which].within, chance(self, 2), each[which].code,
      each[which].kept);
}

static int had_accident(void) {
  if (running->accidents == OF_MEMORY) return allocation_failed();
  return running->accidents == OF_THE_DISK && faults.failures > 0;
}

static void end_accidents(void) {
  if (running->accidents == OF_MEMORY) fail_allocation(0);
  if (running->accidents == OF_THE_DISK) disarm();
}

/* -- the journal */

uint32_t number_of(const entry *call) { return (uint32_t)(call - board->entries); }

entry *begin_entry(worker *self, int operation, uint32_t flags) {
  uint32_t at = add32(&board->entries_count, 1);
  EXPECT(at < MOST_ENTRIES);
  entry *call = &board->entries[at];
  call->worker = self->number;
  call->first = at;
  call->operation = operation;
  call->began_us = now_us();
  store32(&call->flags, flags); /* who claims the task reads this */
  store32(&call->state, BEGUN);
  return call;
}

/* Whether the trial lets such things happen; then nothing was done. */
static int is_accident(int code) {
  int kind = code & 0xff;
  if (running->accidents == OF_MEMORY) return kind == SQLITE_NOMEM;
  return running->accidents == OF_THE_DISK && (kind == SQLITE_IOERR || kind == SQLITE_FULL);
}

static void add_flag(entry *call, uint32_t flag) { store32(&call->flags, load32(&call->flags) | flag); }

static int is_of_the_request(int code) { return code == SQLITE_ERROR || (code & 0xff) == SQLITE_CONSTRAINT; }

static void expect_code(const worker *self, const entry *call, int code) {
  int expected = call->flags & BROKEN ? is_of_the_request(code) : code == SQLITE_OK;
  if (!expected && !is_accident(code))
    fprintf(stderr, "operation %d, flags %u: code %d, %s\n", call->operation, call->flags, code, self->result->message);
  EXPECT(expected || is_accident(code));
  EXPECT(code == SQLITE_OK || self->result->message[0] != '\0');
  EXPECT(code == self->result->code || call->flags & ASLEEP); /* which is not an operation of the handle */
}

void end_entry(worker *self, entry *call, int code, int64_t answer) {
  if (!running->nothing_holds) expect_code(self, call, code);
  EXPECT(sqlite3_get_autocommit(self->database));
  if (had_accident()) add_flag(call, ACCIDENT);
  call->code = code;
  call->answer = answer;
  call->ended_us = now_us();
  store32(&call->state, ANSWERED);
}

static int64_t first_number(const worker *self, int code) {
  return code == SQLITE_OK && self->result->numbers_count > 0 ? self->result->numbers[0] : 0;
}

/* -- what stands in the database, once it is said to */

static const char *column(const worker *self, int which) {
  return (const char *)sqlite3_column_text(self->read_row, which);
}

/* The caller resets the statement. */
static void find_row(worker *self, int64_t id) {
  end_accidents();
  EXPECT(sqlite3_bind_int64(self->read_row, 1, id) == SQLITE_OK);
  EXPECT(sqlite3_step(self->read_row) == SQLITE_ROW);
}

static void expect_payload(worker *self, const char *payload) {
  uint32_t number = number_in(payload);
  EXPECT(number < load32(&board->entries_count));
  (void)write_payload(number, self->expected);
  EXPECT(strcmp(payload, self->expected) == 0);
}

static void expect_added(worker *self, const entry *call) {
  if (running->nothing_holds || !chance(self, 4)) return;
  find_row(self, call->id);
  expect_payload(self, column(self, 0));
  if (!(call->flags & KEYED)) EXPECT(number_in(column(self, 0)) == number_of(call));
  sqlite3_reset(self->read_row);
}

static void expect_status(worker *self, const held_task *task, const char *status, int is_mine) {
  if (running->nothing_holds || !chance(self, 4)) return;
  find_row(self, task->id);
  EXPECT(strcmp(column(self, 2), status) == 0);
  EXPECT(sqlite3_column_int64(self->read_row, 4) == task->attempt);
  if (is_mine) EXPECT(strcmp(column(self, 3), self->name) == 0);
  sqlite3_reset(self->read_row);
}

/* -- adding */

/* A text that ends too early, or none where one must be. */
static int64_t write_task(worker *self, const entry *call, task_traits *traits) {
  uint32_t number = number_of(call);
  *traits = traits_of(number);
  int64_t length = write_payload(number, self->payload);
  if (call->flags & BROKEN && hash_of(number) % 3 == 0) length--;
  if (call->flags & BROKEN && hash_of(number) % 3 == 1) traits->compatibility = "{\"gpu\":";
  if (call->flags & BROKEN && hash_of(number) % 3 == 2) traits->type = NULL;
  return length;
}

static void choose_key(worker *self, entry *call) {
  store64(&call->key, load32(&board->entries_count) / 1000 * KEYS + next_random(&self->random) % KEYS);
  add_flag(call, KEYED);
}

static int write_key(entry *call, char into[24]) { return snprintf(into, 24, "key %d", (int)load64(&call->key)); }

static int call_enqueue(worker *self, entry *call) {
  task_traits traits;
  char key[24];
  int64_t length = write_task(self, call, &traits), key_bytes = write_key(call, key);
  int keyed = (call->flags & KEYED) != 0;
  return prismq_enqueue(self->handle, traits.type, traits.type == NULL ? 0 : (int64_t)strlen(traits.type), self->payload,
                        length, TEXT(traits.compatibility), keyed ? key : NULL, keyed ? key_bytes : 0, traits.priority,
                        traits.max_attempts, NO_TIME);
}

static void enqueue(worker *self) {
  entry *call = begin_entry(self, OP_ENQUEUE, chance(self, 16) ? BROKEN : 0);
  if (call->flags == 0 && chance(self, 6)) choose_key(self, call);
  int code = call_enqueue(self, call);
  call->id = first_number(self, code);
  end_entry(self, call, code, call->id);
  if (code == SQLITE_OK) expect_added(self, call);
}

/* A request that is being packed. */
typedef struct {
  int64_t numbers[MANY * 7], numbers_count;
  char *text;
  int64_t text_bytes, text_capacity;
} packed;

static void pack_number(packed *into, int64_t number) { into->numbers[into->numbers_count++] = number; }

static void pack(packed *into, const char *bytes, int64_t length) {
  pack_number(into, bytes == NULL ? -1 : length);
  if (bytes == NULL) return;
  if (into->text_bytes + length > into->text_capacity)
    EXPECT((into->text = realloc(into->text, (size_t)(into->text_capacity = 2 * (into->text_bytes + length)))) != NULL);
  memcpy(into->text + into->text_bytes, bytes, (size_t)length);
  into->text_bytes += length;
}

static int execute_packed(worker *self, int operation, int64_t count, packed *with) {
  prismq_request request = {operation, count, with->numbers, with->numbers_count, with->text, with->text_bytes};
  int code = prismq_execute(self->handle, &request);
  free(with->text);
  return code;
}

/* Several in one request: all of them or, if one is broken, none. */
static void enqueue_many(worker *self) {
  entry *calls[MANY];
  packed all = {.numbers_count = 0};
  int count = 1 + (int)(next_random(&self->random) % MANY), broken = chance(self, 6);
  for (int i = 0; i < count; i++) {
    calls[i] = begin_entry(self, OP_ENQUEUE, broken ? BROKEN : 0);
    calls[i]->first = number_of(calls[0]);
    task_traits traits;
    int64_t length = write_task(self, calls[i], &traits);
    if (i < count - 1) traits = traits_of(number_of(calls[i])); /* in every way but its payload only the last is bad */
    pack(&all, traits.type, traits.type == NULL ? 0 : (int64_t)strlen(traits.type));
    pack(&all, self->payload, length);
    pack(&all, TEXT(traits.compatibility));
    pack(&all, NONE);
    pack_number(&all, traits.priority);
    pack_number(&all, traits.max_attempts);
    pack_number(&all, NO_TIME);
  }
  int code = execute_packed(self, OP_ENQUEUE, count, &all);
  if (code == SQLITE_OK) EXPECT(self->result->numbers_count == count || running->nothing_holds);
  for (int i = 0; i < count; i++) {
    calls[i]->id = code == SQLITE_OK && i < self->result->numbers_count ? self->result->numbers[i] : 0;
    end_entry(self, calls[i], code, calls[i]->id);
  }
  if (code == SQLITE_OK) expect_added(self, calls[count - 1]);
}

/* -- claiming */

static void hold(worker *self, const entry *call, int64_t max_attempts) {
  if (self->held_count == HELD) memmove(self->held, self->held + 1, (size_t)--self->held_count * sizeof *self->held);
  self->held[self->held_count++] = (held_task){call->id, call->attempt, max_attempts};
}

/* Of a task whose text did not fit, or whose claim was found in the database, its worker reads the row. */
static int64_t read_claimed(worker *self, entry *call) {
  find_row(self, call->id);
  int64_t max_attempts = sqlite3_column_int64(self->read_row, 5);
  call->attempt = sqlite3_column_int64(self->read_row, 4);
  if (!running->nothing_holds) {
    expect_payload(self, column(self, 0));
    EXPECT(strcmp(column(self, 2), "processing") == 0 && strcmp(column(self, 3), self->name) == 0);
  }
  sqlite3_reset(self->read_row);
  return max_attempts;
}

/* The claim's time, its lease's end, type, payload, compatibility, run_after, created_at, error, key: each with its NUL. */
static void expect_claimed_text(worker *self, const prismq_result *result) {
  enum { TYPE = 2, PAYLOAD, COMPATIBILITY, KEY = 8, TEXTS };
  if (running->nothing_holds) return;
  const char *texts[TEXTS], *next = result->text, *end = result->text + result->text_bytes;
  for (int i = 0; i < TEXTS; i++) {
    EXPECT(next < end);
    texts[i] = next;
    next += strlen(next) + 1;
  }
  EXPECT(next == end);
  expect_payload(self, texts[PAYLOAD]);
  entry *added = &board->entries[number_in(texts[PAYLOAD])];
  task_traits traits = traits_of(number_of(added));
  char key[24] = "";
  if (load32(&added->flags) & KEYED) (void)write_key(added, key);
  EXPECT(strcmp(texts[TYPE], traits.type) == 0 && strcmp(texts[COMPATIBILITY], traits.compatibility) == 0);
  EXPECT(strcmp(texts[KEY], key) == 0 && (result->numbers[4] & TASK_HAS_KEY) == (key[0] ? TASK_HAS_KEY : 0));
  EXPECT(result->numbers[1] == traits.priority && result->numbers[3] == traits.max_attempts);
}

void accept_task(worker *self, entry *call, const prismq_result *result) {
  int64_t max_attempts = result->numbers[3];
  call->id = result->numbers[0];
  call->attempt = result->numbers[2];
  if (result->text_bytes > 1)
    expect_claimed_text(self, result);
  else
    max_attempts = read_claimed(self, call);
  hold(self, call, max_attempts);
}

static void claim_task(worker *self) {
  entry *call = begin_entry(self, OP_CLAIM, 0);
  const char *types = chance(self, 3) ? "[\"video\",\"x\"]" : NULL;
  const char *capabilities = chance(self, 3) ? "{\"gpu\":true}" : "{}";
  int64_t strategy = next_random(&self->random) % 4;
  int code = prismq_claim(self->handle, TEXT(self->name), types, types == NULL ? 0 : (int64_t)strlen(types),
                          TEXT(capabilities), strategy, 1, LEASE_MS, chance(self, 2));
  if (running->nothing_holds) { /* the task may be anybody's */
    end_entry(self, call, code, 0);
    return;
  }
  int64_t id = first_number(self, code);
  if (code == SQLITE_OK) EXPECT(self->result->numbers_count == (id ? CLAIM_NUMBERS : 0));
  if (id) accept_task(self, call, self->result);
  end_entry(self, call, code, id);
}

/* -- settling */

static held_task *choose_held(worker *self) {
  return self->held_count == 0 ? NULL : &self->held[next_random(&self->random) % (unsigned)self->held_count];
}

static void let_go(worker *self, const held_task *task) {
  int at = (int)(task - self->held);
  self->held[at] = self->held[--self->held_count];
}

static entry *begin_settling(worker *self, int operation, const held_task *task, int stale) {
  entry *call = begin_entry(self, operation, 0);
  call->id = task->id;
  call->attempt = task->attempt;
  if (!stale) return call;
  add_flag(call, STALE);
  call->attempt += 1000;
  return call;
}

/* The token is this worker's alone: what it asks for is done, or was done already, which must not be. */
static void end_settling(worker *self, entry *call, int code, int64_t expected) {
  int64_t answer = first_number(self, code);
  if (code == SQLITE_OK && !running->nothing_holds) {
    EXPECT(self->result->numbers_count == 1);
    if (answer != expected)
      fprintf(stderr, "operation %d of task %lld, attempt %lld: %lld, not %lld\n", call->operation, (long long)call->id,
              (long long)call->attempt, (long long)answer, (long long)expected);
    EXPECT(answer == expected);
  }
  end_entry(self, call, code, answer);
}

static int call_complete(worker *self, const entry *call) {
  if (chance(self, 2)) return prismq_complete(self->handle, call->id, TEXT(self->name), call->attempt);
  packed one = {.numbers_count = 0};
  pack_number(&one, call->id);
  pack(&one, TEXT(self->name));
  pack_number(&one, call->attempt);
  return execute_packed(self, OP_COMPLETE, 1, &one);
}

static void complete(worker *self) {
  held_task *task = choose_held(self);
  if (task == NULL) return;
  int stale = chance(self, 8);
  entry *call = begin_settling(self, OP_COMPLETE, task, stale);
  int code = call_complete(self, call);
  end_settling(self, call, code, !stale);
  if (code != SQLITE_OK || stale) return;
  expect_status(self, task, "completed", 1);
  held_task done = *task;
  let_go(self, task);
  if (!chance(self, 4)) return;
  call = begin_settling(self, OP_COMPLETE, &done, 0); /* once more */
  add_flag(call, STALE);
  code = call_complete(self, call);
  end_settling(self, call, code, 0);
}

static void fail_task(worker *self) {
  held_task *task = choose_held(self);
  if (task == NULL) return;
  int stale = chance(self, 8), retries = !chance(self, 4);
  int64_t expected = stale ? FAIL_REFUSED : FAIL_FAILED;
  if (retries && !stale) expected = task->attempt < task->max_attempts ? FAIL_QUEUED : FAIL_DEAD_LETTER;
  entry *call = begin_settling(self, OP_FAIL, task, stale);
  packed one = {.numbers_count = 0};
  char error[24];
  snprintf(error, sizeof error, "entry %u", number_of(call));
  pack_number(&one, call->id);
  pack(&one, TEXT(self->name));
  pack_number(&one, call->attempt);
  pack(&one, TEXT(error));
  pack_number(&one, retries);
  pack_number(&one, chance(self, 4) ? next_random(&self->random) % 20 : 0);
  int code = execute_packed(self, OP_FAIL, 1, &one);
  end_settling(self, call, code, expected);
  if (code == SQLITE_OK && !stale) let_go(self, task);
}

static void renew(worker *self) {
  held_task *task = choose_held(self);
  if (task == NULL) return;
  int stale = chance(self, 8);
  entry *call = begin_settling(self, OP_RENEW, task, stale);
  packed one = {.numbers_count = 0};
  pack_number(&one, call->id);
  pack(&one, TEXT(self->name));
  pack_number(&one, call->attempt);
  pack_number(&one, LEASE_MS + next_random(&self->random) % LEASE_MS);
  int code = execute_packed(self, OP_RENEW, 1, &one);
  int64_t answer = first_number(self, code);
  EXPECT(running->nothing_holds || code != SQLITE_OK || (answer != 0) == !stale);
  end_settling(self, call, code, answer);
  if (code == SQLITE_OK && !stale) expect_status(self, task, "processing", 1);
}

/* -- inside a transaction of its own */

static int run(worker *self, const char *sql) { return sqlite3_exec(self->database, sql, NULL, NULL, NULL); }

static int do_inside(worker *self, entry **calls, int count, held_task *task) {
  int code = SQLITE_OK;
  for (int i = 0; i < count && code == SQLITE_OK; i++) {
    if (calls[i]->operation == OP_ENQUEUE) {
      code = call_enqueue(self, calls[i]);
      calls[i]->id = first_number(self, code);
      calls[i]->answer = calls[i]->id;
    } else {
      code = prismq_complete(self->handle, task->id, TEXT(self->name), task->attempt);
      calls[i]->answer = first_number(self, code);
      if (code == SQLITE_OK && !running->nothing_holds) EXPECT(calls[i]->answer == 1);
    }
  }
  return code;
}

/* Some tasks, and the completion of one, which happen together. */
static void transact(worker *self) {
  enum { MOST = 4 };
  entry *calls[MOST];
  uint32_t flags = chance(self, 4) ? ROLLED_BACK : 0;
  int count = 1 + (int)(next_random(&self->random) % (MOST - 1));
  held_task *task = chance(self, 2) ? choose_held(self) : NULL;
  for (int i = 0; i < count; i++) calls[i] = begin_entry(self, OP_ENQUEUE, flags);
  if (task != NULL) {
    calls[count++] = begin_settling(self, OP_COMPLETE, task, 0);
    add_flag(calls[count - 1], flags);
  }
  for (int i = 0; i < count; i++) calls[i]->first = number_of(calls[0]);
  int code = run(self, "BEGIN IMMEDIATE");
  if (code == SQLITE_OK) code = do_inside(self, calls, count, task);
  if (code == SQLITE_OK) code = run(self, flags ? "ROLLBACK" : "COMMIT");
  int failed = code != SQLITE_OK;
  end_accidents();
  if (failed && !sqlite3_get_autocommit(self->database)) EXPECT(run(self, "ROLLBACK") == SQLITE_OK);
  EXPECT(!failed || running->nothing_holds || is_accident(code));
  for (int i = 0; i < count; i++) {
    calls[i]->code = code;
    calls[i]->ended_us = now_us();
    store32(&calls[i]->state, ANSWERED);
  }
  if (task != NULL && !failed && !flags) let_go(self, task);
}

/* -- */

/* What is done for the first time needs memory, and a place among the others. */
static void connect_anew(worker *self) {
  disconnect(self);
  connect_to_queue(self);
}

void worker_run(worker *self) {
  static const struct {
    void (*run)(worker *self);
    unsigned times;
  } mix[] = {{enqueue, 34},  {claim_task, 30}, {complete, 16}, {fail_task, 7},
             {renew, 7},     {transact, 3},    {enqueue_many, 1}};
  while (!load32(&board->stop)) {
    unsigned chosen = next_random(&self->random) % 98;
    size_t which = 0;
    while (chosen >= mix[which].times) chosen -= mix[which++].times;
    begin_accident(self);
    mix[which].run(self);
    end_accidents();
    if (chance(self, running->accidents == OF_MEMORY ? 10 : 300)) connect_anew(self);
    if (chance(self, 10)) platform_sleep_us(next_random(&self->random) % 500);
  }
}
