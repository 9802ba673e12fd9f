#include "group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "failpoint.h"
#include "handover.h"

enum {
  BATCH_US = 2000,            /* nothing more is taken along after that long */
  PATIENCE_US = 5000,         /* after which one looks for oneself what has become of one's request */
  LONGEST_PATIENCE_US = 20000,
  JOIN_AGAIN_US = 1000000,
  SHORTEST_REST_US = 100, /* while somebody has the lock who will tell nobody */
  LONGEST_REST_US = 1000,
  YIELDS = 2,            /* to those who are about to submit, before a commit that takes others along */
  YIELD_IS_LONG_US = 500, /* then somebody else needs the processor, */
  YIELD_AGAIN_US = 20000, /* and is not given more of it in the midst of a transaction */
  BACK_US = 100,
  LONGEST_ORDER_US = 300000, /* of resting, before looking again */
  NAME_BYTES = 48,
  UNDONE = SQLITE_ABORT_ROLLBACK /* how a transaction ended in which something failed that was taken along */
};

static sidecar *side(prismq_handle *handle) { return &handle->file->side; }

group *new_group(void) {
  group *made = calloc(1, sizeof *made);
  if (made == NULL) return NULL;
  made->own.slot = -1;
  /* Of two that are made in one microsecond, processes and addresses tell. */
  made->own.ticket = ((uint64_t)platform_steady_clock_us() << 20) ^ (platform_process() << 44) ^ (uint64_t)(uintptr_t)made;
  return made;
}

/* -- what was done, as the database knows it */

typedef char record_name[NAME_BYTES];

/* If the file was wiped meanwhile, nobody sees any more who was not told yet: then the record is one that nobody writes
 * again. */
static void name_record(prismq_handle *handle, record_name into) {
  const group *own = handle->group;
  unsigned long long was = own->generation, unique = own->done[0].ticket;
  if (slots_generation(side(handle)) == own->generation)
    (void)snprintf(into, NAME_BYTES, "group %016llx", was);
  else
    (void)snprintf(into, NAME_BYTES, "group %016llx %016llx", was, unique);
}

/* The entry of a ticket among those of a record; NULL if it is none of them. */
static const done_operation *entry_of(const done_operation *entries, int count, uint64_t ticket) {
  for (int i = 0; i < count; i++)
    if (entries[i].ticket == ticket) return &entries[i];
  return NULL;
}

/* A row's entries; what is not of this form was not written here. */
static int read_record(sqlite3_stmt *row, done_operation entries[RECORDED_AT_MOST]) {
  const void *bytes = sqlite3_column_blob(row, 0);
  size_t length = (size_t)sqlite3_column_bytes(row, 0), count = length / sizeof *entries;
  if (bytes == NULL || length % sizeof *entries != 0 || count > RECORDED_AT_MOST) return 0;
  memcpy(entries, bytes, length);
  return (int)count;
}

/* Earlier ones whose callers were not told yet, because whoever did them is about to, or has died. */
static int carry_over(prismq_handle *handle, const char *name, const uint64_t *tickets, int tickets_count) {
  group *own = handle->group;
  done_operation before[RECORDED_AT_MOST];
  sqlite3_stmt *statement = prepared(handle, SQL_GROUP_DONE);
  if (statement == NULL) return handle->result.code;
  if (bound(handle, bind_text(statement, 1, (text){name, (int64_t)strlen(name)})) != SQLITE_OK)
    return handle->result.code;
  int code = first_step(handle, statement);
  if (code != SQLITE_ROW && code != SQLITE_DONE) return code;
  int count = code == SQLITE_ROW ? read_record(statement, before) : 0;
  sqlite3_reset(statement);
  for (int i = 0; i < tickets_count; i++) {
    const done_operation *entry = entry_of(before, count, tickets[i]);
    if (entry != NULL && own->recorded < RECORDED_AT_MOST) own->done[own->recorded++] = *entry;
  }
  return SQLITE_OK;
}

/* Writes down, in the transaction that does them, whose operations are done. */
static int record(prismq_handle *handle) {
  group *own = handle->group;
  record_name name;
  uint64_t ours = 0, tickets[GROUP_SLOTS];
  for (int i = 0; i < own->count; i++) ours |= UINT64_C(1) << own->taken[i].slot;
  int unsettled = slots_unsettled(side(handle), ours, tickets); /* before the name: a file that was wiped has another */
  name_record(handle, name);
  if (unsettled > 0 && carry_over(handle, name, tickets, unsettled) != SQLITE_OK) return handle->result.code;
  sqlite3_stmt *statement = prepared(handle, SQL_RECORD_GROUP);
  if (statement == NULL) return handle->result.code;
  int code = bind_text(statement, 1, (text){name, (int64_t)strlen(name)});
  if (code == SQLITE_OK)
    code = sqlite3_bind_blob(statement, 2, own->done, own->recorded * (int)sizeof *own->done, SQLITE_STATIC);
  return bound(handle, code) == SQLITE_OK ? finish(handle, statement) : handle->result.code;
}

/* Whether this handle's request was done. SQLITE_ROW, SQLITE_DONE for no, or a failure. */
static int find_done(prismq_handle *handle, int64_t *outcome) {
  group *own = handle->group;
  sqlite3_stmt *statement = prepared(handle, SQL_GROUPS_DONE);
  if (statement == NULL) return handle->result.code;
  int code = first_step(handle, statement);
  while (code == SQLITE_ROW) {
    done_operation entries[RECORDED_AT_MOST];
    const done_operation *entry = entry_of(entries, read_record(statement, entries), own->own.ticket);
    if (entry != NULL) {
      *outcome = entry->outcome;
      sqlite3_reset(statement);
      return SQLITE_ROW;
    }
    code = first_step(handle, statement);
  }
  if (code == SQLITE_DONE) sqlite3_reset(statement);
  return code;
}

/* -- doing what others have submitted */

/* The result of the request just done goes into its slot. Nobody reads it before it is answered. */
static void write_result(prismq_handle *handle, const slot_request *taken) {
  slot_words *to = slots_of(side(handle), taken->slot);
  const prismq_result *result = &handle->result;
  int64_t length = result->text_bytes <= SLOT_TEXT_BYTES ? result->text_bytes : 0; /* it reads a longer task once more */
  int64_t numbers = result->numbers_count <= SLOT_NUMBERS ? result->numbers_count : 0;
  store32(&to->numbers_count, (uint32_t)numbers);
  store32(&to->text_bytes, (uint32_t)length);
  if (numbers > 0) memcpy(to->numbers, result->numbers, (size_t)numbers * sizeof *to->numbers);
  if (length > 0) memcpy(to->text, result->text, (size_t)length);
}

static int is_single(const job *work) {
  claim wanted;
  if (work->count != 1) return 0;
  if (work->operation != OP_CLAIM) return 1;
  if (!work->is_packed) return work->wanted.limit == 1;
  return packed_claim(work, &wanted) && wanted.limit == 1;
}

/* A failure may have left half of the operation behind, or have undone everything: it is one of the whole transaction. */
static int do_taken(prismq_handle *handle, const slot_request *taken) {
  group *own = handle->group;
  const slot_words *request = &own->request;
  job work = packed_job((int)request->operation, request->count, request->numbers, request->numbers_count,
                        request->text, request->text_bytes);
  clear_result(handle);
  if (!is_single(&work)) return fail_with(handle, SQLITE_MISUSE, "a slot has one operation");
  int code = execute_job(handle, &work);
  if (code != SQLITE_OK) return code;
  write_result(handle, taken);
  int64_t outcome = handle->result.numbers_count > 0 ? handle->result.numbers[0] : 0;
  own->done[own->recorded++] = (done_operation){taken->ticket, outcome};
  return SQLITE_OK;
}

/* Lets others run for a moment, whom it has just woken or who are about to submit: it is hot, they are not, and who comes
 * first otherwise gets more than a fair share. */
static void let_others_run(prismq_handle *handle) {
  int64_t now = platform_steady_clock_us();
  if (now < handle->group->yield_at_us) return;
  platform_yield();
  int64_t back = platform_steady_clock_us();
  if (back - now > YIELD_IS_LONG_US) handle->group->yield_at_us = back + YIELD_AGAIN_US;
}

/* Takes along what others have submitted. A failure is one of the whole transaction; the handle's own result stays. */
static int serve(prismq_handle *handle) {
  group *own = handle->group;
  sidecar *view = side(handle);
  int64_t began = platform_steady_clock_us();
  int code = SQLITE_OK;
  set_result_aside(handle);
  own->recorded = 0;
  own->generation = slots_generation(view);
  for (uint64_t waiting = slots_waiting(view, handle->syncs); waiting != 0 && own->count < GROUP_SLOTS;) {
    slot_request *taken = &own->taken[own->count];
    slots_take(view, &waiting, handle->syncs, taken, &own->request);
    if (taken->slot >= 0) {
      own->count++;
      FAILPOINT(taken);
      code = do_taken(handle, taken);
      FAILPOINT(executed);
    }
    if (code != SQLITE_OK || platform_steady_clock_us() - began > BATCH_US) break;
    for (int yields = 0; waiting == 0 && (waiting = slots_waiting(view, handle->syncs)) == 0 && yields < YIELDS; yields++)
      let_others_run(handle);
  }
  if (code == SQLITE_OK && own->recorded > 0) code = record(handle);
  FAILPOINT(recorded);
  take_result_back(handle);
  return code;
}

static void answer_taken(prismq_handle *handle, int code) {
  group *own = handle->group;
  for (int i = 0; i < own->count; i++) {
    slots_answer(side(handle), &own->taken[i], code);
    FAILPOINT(answered);
  }
}

static int may_group(prismq_handle *handle) { return handle->group != NULL && side(handle)->words != NULL; }

/* Something that was taken along failed. Nothing is done then: everybody does theirs alone, and who fails is told so. */
static int start_over(prismq_handle *handle, const job *work) {
  (void)end_scope(handle, OWN, SQLITE_ABORT);
  FAILPOINT(undone);
  answer_taken(handle, UNDONE);
  clear_result(handle);
  int code = begin_own(handle);
  if (code != SQLITE_OK) return code;
  set_now(handle);
  return end_scope(handle, OWN, execute_job(handle, work));
}

/* The write lock is this one's: does its work, and that of others. */
static int lead(prismq_handle *handle, const job *work) {
  group *own = handle->group;
  handover service;
  handover_begin(handle, &service, work);
  set_now(handle);
  FAILPOINT(began);
  int code = execute_job(handle, work);
  if (code == SQLITE_OK) {
    handover_claim(handle, &service);
    code = handle->result.code;
  }
  int groups = may_group(handle);
  if (groups) own->count = 0;
  if (groups && own->buries && code == SQLITE_OK) {
    slots_bury(side(handle));
    own->buries = 0;
    own->join_at_us = 0;
  }
  if (code == SQLITE_OK && groups && slots_waiting(side(handle), handle->syncs) != 0 && serve(handle) != SQLITE_OK) {
    handover_end(handle, &service, 0);
    return start_over(handle, work);
  }
  if (groups && own->count > 0) slots_publish(side(handle));
  FAILPOINT(commits);
  code = end_scope(handle, OWN, code);
  FAILPOINT(committed);
  if (groups) answer_taken(handle, code);
  handover_end(handle, &service, code == SQLITE_OK);
  return code;
}

/* Waits for the lock as long as it takes. */
static int lead_in_turn(prismq_handle *handle, const job *work) {
  int code = begin_own(handle);
  return code == SQLITE_OK ? lead(handle, work) : code;
}

/* -- having it done by others */

/* A slot for this handle, also after the sidecar file was replaced. Whether there is one. */
static int join(prismq_handle *handle) {
  group *own = handle->group;
  sidecar *view = side(handle);
  if (own->own.slot >= 0 && own->mapping == view->mapping) return 1;
  own->own.slot = -1;
  int64_t now = platform_steady_clock_us();
  if (own->mapping == view->mapping && now < own->join_at_us) return 0;
  own->join_at_us = now + JOIN_AGAIN_US;
  own->mapping = view->mapping;
  own->own.slot = slots_join(view);
  own->buries = own->own.slot < 0;
  return own->own.slot >= 0;
}

prismq_group_state prismq_group_of(prismq_handle *handle) {
  if (handle->group == NULL) return GROUP_OFF;
  if (side(handle)->words == NULL) return GROUP_WITHOUT_FILE;
  return join(handle) ? GROUP_ON : GROUP_WITHOUT_SLOT;
}

/* Whether the work fits into the slot and is there now. */
static int submit(prismq_handle *handle, const job *work) {
  group *own = handle->group;
  if (!is_single(work) || !join(handle) || !has_room(handle, CLAIM_NUMBERS, SLOT_TEXT_BYTES + 1)) return 0;
  slot_words *request = &own->request;
  packing into = {request->numbers, 0, SLOT_NUMBERS, request->text, 0, SLOT_TEXT_BYTES};
  if (!pack_job(work, &into)) return 0;
  request->operation = (uint32_t)work->operation;
  request->count = 1;
  request->numbers_count = (uint32_t)into.numbers_count;
  request->text_bytes = (uint32_t)into.text_bytes;
  own->own.ticket++;
  own->own.number = (uint32_t)own->own.ticket & SLOT_NUMBER_MASK;
  FAILPOINT(packed);
  slots_submit(side(handle), &own->own, request, handle->syncs);
  FAILPOINT(submitted);
  return 1;
}

/* How many numbers a result has. */
static int is_count_of(const job *work, uint32_t numbers) {
  return work->operation == OP_CLAIM ? numbers == 0 || numbers == CLAIM_NUMBERS : numbers == 1;
}

/* The result that stands in the slot. Whether it is one: it comes from memory that others can write. */
static int take_answer(prismq_handle *handle, const job *work) {
  group *own = handle->group;
  slot_words *from = slots_of(side(handle), own->own.slot);
  int code = slots_code(side(handle), &own->own);
  uint32_t numbers = load32(&from->numbers_count), bytes = load32(&from->text_bytes);
  if (bytes > SLOT_TEXT_BYTES || numbers > SLOT_NUMBERS) return 0;
  clear_result(handle);
  if (code != SQLITE_OK) {
    fail_with(handle, code, sqlite3_errstr(code));
  } else if (!is_count_of(work, numbers)) {
    return 0;
  } else {
    for (uint32_t i = 0; i < numbers; i++)
      if (put_number(handle, from->numbers[i]) != SQLITE_OK) break;
    (void)put_text(handle, from->text, bytes > 0 ? (int64_t)bytes - 1 : 0); /* which ends it with a NUL again */
  }
  return slots_be_done(side(handle), &own->own); /* else the file was wiped while this was read */
}

/* Whether it was taken along, and undone with all the rest because something of that failed. */
static int is_undone(prismq_handle *handle) {
  slot_request *own = &handle->group->own;
  return slots_is(side(handle), own, SLOT_ANSWERED) && slots_code(side(handle), own) == UNDONE &&
         slots_be_done(side(handle), own);
}

/* The result of what is known to be done; of a claimed task its worker reads the rest. */
static int result_of(prismq_handle *handle, const job *work, int64_t outcome) {
  clear_result(handle);
  if (work->operation != OP_CLAIM) return put_number(handle, outcome);
  if (put_text(handle, "", 0) != SQLITE_OK) return handle->result.code;
  for (int i = 0; outcome != 0 && i < CLAIM_NUMBERS; i++)
    if (put_number(handle, i == 0 ? outcome : 0) != SQLITE_OK) return handle->result.code;
  return SQLITE_OK;
}

/* The write lock is this one's, so that nobody is about its request: does it unless it is done. Whether it is settled, with
 * `*code`: else that is why it can't be known now. */
static int settle(prismq_handle *handle, const job *work, int *code) {
  group *own = handle->group;
  sidecar *view = side(handle);
  int64_t outcome = 0;
  FAILPOINT(settles);
  if (slots_withdraw(view, &own->own) || is_undone(handle)) {
    *code = lead(handle, work);
    return 1;
  }
  int answered = slots_is(view, &own->own, SLOT_ANSWERED) && take_answer(handle, work);
  int found = answered ? SQLITE_DONE : find_done(handle, &outcome);
  if (!answered && found == SQLITE_DONE) {
    (void)(slots_take_back(view, &own->own) || slots_be_done(view, &own->own));
    clear_result(handle); /* of an answer that was none */
    *code = lead(handle, work);
    return 1;
  }
  (void)end_scope(handle, OWN, SQLITE_ABORT); /* nothing was written; it keeps the result */
  *code = answered ? handle->result.code : found;
  if (found == SQLITE_ROW) {
    (void)(slots_take_back(view, &own->own) || slots_be_done(view, &own->own));
    *code = result_of(handle, work, outcome);
  }
  return answered || found == SQLITE_ROW;
}

static int give_up(prismq_handle *handle, int64_t waited_us) {
  int closed = gate_is_closed(side(handle), &handle->file->pass);
  fail_with(handle, closed ? SQLITE_LOCKED_BY_LIMIT : SQLITE_BUSY, sqlite3_errstr(SQLITE_BUSY));
  handle->result.waited_ms = waited_us / 1000;
  return handle->result.code;
}

/* How long to sleep: while nobody is known to have the lock, not long. */
static int64_t rest_us(sidecar *view, int64_t waited, int64_t patience) {
  if (gate_is_held(view)) return patience;
  int64_t rest = waited / 8;
  return rest < SHORTEST_REST_US ? SHORTEST_REST_US : rest > LONGEST_REST_US ? LONGEST_REST_US : rest;
}

/* The request is submitted: sleeps until it is done, or does it. */
static int follow(prismq_handle *handle, const job *work) {
  group *own = handle->group;
  sidecar *view = side(handle);
  gate_pass *pass = &handle->file->pass;
  int64_t timeout = handle->busy_timeout_ms * 1000, patience = PATIENCE_US;
  for (int impatient = 0;;) {
    uint32_t seen = load32(&slots_of(view, own->own.slot)->calls);
    if (is_undone(handle)) return lead_in_turn(handle, work);
    if (slots_is(view, &own->own, SLOT_ANSWERED) && take_answer(handle, work)) return handle->result.code;
    int64_t now = platform_steady_clock_us(), waited = now - handle->asked_at_us;
    if (waited >= timeout && slots_withdraw(view, &own->own)) return give_up(handle, waited);
    int64_t ordered = gate_rest_ordered_us(view, pass);
    int stuck = impatient && !slots_is(view, &own->own, SLOT_SUBMITTED);
    if (stuck || (ordered == 0 && (impatient || pass->called || !gate_is_held(view)))) {
      /* Who took it has died or stopped, if not just slow: then this one waits in turn, as nobody else will call it. */
      pass->exempt = stuck; /* from orders to rest: what has become of it must be known */
      int code = stuck ? begin_own(handle) : begin_at_once(handle);
      pass->exempt = pass->called = 0;
      if (code == SQLITE_OK && settle(handle, work, &code)) return code;
      if ((code & 0xff) != SQLITE_BUSY && (slots_withdraw(view, &own->own) || waited >= timeout)) return code;
      clear_result(handle);
    }
    int64_t rest = ordered > 0 && ordered < LONGEST_ORDER_US ? ordered : rest_us(view, waited, patience);
    if (waited < timeout && rest > timeout - waited) rest = timeout - waited;
    FAILPOINT(sleeps);
    pass->called = slots_sleep(view, &own->own, seen, rest) == WAIT_WOKEN && slots_is(view, &own->own, SLOT_SUBMITTED);
    impatient = platform_steady_clock_us() - now >= rest;
    if (impatient && ordered > 0 && ordered < GATE_CLOSED) gate_has_rested(pass);
    if (impatient && patience < LONGEST_PATIENCE_US) patience *= 2;
  }
}

/* -- */

static int perform_joined(prismq_handle *handle, const job *work) {
  scope opened;
  int code = begin_scope(handle, &opened);
  if (code != SQLITE_OK) return code;
  set_now(handle);
  return end_scope(handle, opened, execute_job(handle, work));
}

static int perform_in_group(prismq_handle *handle, const job *work) {
  sidecar *view = side(handle);
  gate_pass *pass = &handle->file->pass;
  if (handle->group->count > 0 && platform_steady_clock_us() - pass->left_at_us < BACK_US) let_others_run(handle);
  if (!gate_is_held(view) && gate_rest_ordered_us(view, pass) == 0) {
    int code = begin_at_once(handle);
    if (code == SQLITE_OK) return lead(handle, work);
    if ((code & 0xff) != SQLITE_BUSY) return code;
  }
  if (gate_is_own(view)) return lead_in_turn(handle, work);
  handle->asked_at_us = platform_steady_clock_us();
  handle->file->keeps_side = 1;
  int code = submit(handle, work) ? follow(handle, work) : lead_in_turn(handle, work);
  handle->file->keeps_side = 0;
  if (pass->called) gate_give_up(view, pass);
  pass->rested = 0; /* if others have done it, this was not its turn */
  handle->asked_at_us = 0;
  return code;
}

int perform(prismq_handle *handle, const job *work) {
  if (!sqlite3_get_autocommit(handle->database)) return perform_joined(handle, work);
  if (handle->group != NULL) (void)sidecar_renew(side(handle));
  return may_group(handle) ? perform_in_group(handle, work) : lead_in_turn(handle, work);
}
