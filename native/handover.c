#include "handover.h"

#include <string.h>

/* An answer's numbers: a claim's result, when that was (ms), and how long the worker's name is that follows the text. */
enum { ANSWER_AT = CLAIM_NUMBERS, ANSWER_NAME, ANSWER_NUMBERS };
enum { TASK_ID = 0, TASK_ATTEMPT = 2 };

/* The claim on a desk; 0 when it is none. */
static int read_claim(const desk_words *desk, claim *wanted) {
  if (desk->numbers_count > DESK_NUMBERS || desk->text_bytes > DESK_TEXT_BYTES) return 0;
  return request_claim(desk->numbers, desk->numbers_count, desk->text, desk->text_bytes, wanted);
}

/* What the handle's result holds from `first` on becomes the answer; a text that is too long is left out. */
static void write_answer(const prismq_handle *handle, int64_t first, const claim *wanted, desk_words *answer) {
  const prismq_result *result = &handle->result;
  int64_t name = wanted->worker.length, length = result->text_bytes <= DESK_TEXT_BYTES - name ? result->text_bytes : 0;
  answer->numbers_count = ANSWER_NUMBERS;
  memcpy(answer->numbers, result->numbers + first, CLAIM_NUMBERS * sizeof *answer->numbers);
  answer->numbers[ANSWER_AT] = result->at_ms;
  answer->numbers[ANSWER_NAME] = name;
  answer->text_bytes = (uint32_t)(length + name);
  memcpy(answer->text, result->text, (size_t)length);
  memcpy(answer->text + length, wanted->worker.bytes, (size_t)name);
}

static int is_answer(const desk_words *answer) {
  return answer->numbers_count == ANSWER_NUMBERS && answer->text_bytes <= DESK_TEXT_BYTES &&
         answer->numbers[ANSWER_NAME] >= 0 && answer->numbers[ANSWER_NAME] <= answer->text_bytes;
}

int handover_result(desk_words *answer, prismq_result *result) {
  if (!is_answer(answer)) return 0;
  result->numbers = answer->numbers;
  result->numbers_count = CLAIM_NUMBERS;
  result->text = answer->text;
  result->text_bytes = answer->text_bytes - answer->numbers[ANSWER_NAME];
  return 1;
}

int handover_orphan(desk_words *answer, prismq_result *result) {
  if (!is_answer(answer) || answer->numbers[ANSWER_AT] != in_range(answer->numbers[ANSWER_AT])) return 0;
  result->numbers = answer->numbers;
  result->numbers_count = ANSWER_AT + 1;
  result->text = answer->text + answer->text_bytes - answer->numbers[ANSWER_NAME];
  result->text_bytes = answer->numbers[ANSWER_NAME];
  return 1;
}

/* Alone, so that its failure undoes nothing else. Whether a task was claimed. */
static int claim_alone(prismq_handle *handle, const claim *wanted) {
  int64_t before = handle->result.numbers_count;
  scope opened;
  int code = begin_scope(handle, &opened);
  if (code == SQLITE_OK) code = end_scope(handle, opened, claim_heads(handle, wanted));
  return code == SQLITE_OK && handle->result.numbers_count == before + CLAIM_NUMBERS;
}

void handover_begin(prismq_handle *handle, handover *service, const job *work) {
  service->at.place = -1;
  service->claimed = 0;
  if (handle->file == NULL || !places_are_waiting(&handle->file->side)) return;
  const new_task *task = &work->task;
  if (work->operation != OP_ENQUEUE || work->is_packed || task->run_after_ms != NO_TIME) return;
  ready_tasks ready = {places_type_hash(task->type.bytes, task->type.length), 1, task->compatibility.length != 2};
  service->at = places_begin_service(&handle->file->side, &ready, &service->request);
}

void handover_claim(prismq_handle *handle, handover *service) {
  if (service->at.place < 0 || !places_go_on_serving(&handle->file->side, &service->at)) return;
  claim wanted;
  desk_words answer;
  prismq_result *result = &handle->result;
  int64_t before = result->numbers_count;
  if (read_claim(&service->request, &wanted) && claim_alone(handle, &wanted)) {
    service->claimed = 1;
    service->id = result->numbers[before + TASK_ID];
    service->attempt = result->numbers[before + TASK_ATTEMPT];
    write_answer(handle, before, &wanted, &answer);
    /* Now, as whoever finds this one dead after the commit is to find the task. */
    places_lay_down(&handle->file->side, &service->at, &answer);
    announce_taken(handle->news);
  }
  /* SQLite may have undone the whole transaction, which is then everybody's failure. */
  if (!sqlite3_get_autocommit(handle->database)) result->code = SQLITE_OK;
  result->numbers_count = before;
  result->text_bytes = 0;
}

void handover_end(prismq_handle *handle, handover *service, int committed) {
  if (service->at.place < 0) return;
  int has_task = committed && service->claimed;
  if (places_end_service(&handle->file->side, &service->at, has_task) || !has_task) return;
  /* It has left: the task goes back. If that fails, its lease runs out. */
  claim wanted;
  if (!read_claim(&service->request, &wanted)) return;
  token held = {service->id, wanted.worker, service->attempt};
  prismq_result result = handle->result; /* of the caller's own operation, which is done */
  (void)unclaim_one(handle, &held);
  handle->result.code = result.code;
  handle->result.numbers_count = result.numbers_count;
}
