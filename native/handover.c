#include "handover.h"

#include <string.h>

/* The claim on a desk; 0 when it is none. */
static int read_claim(const desk_words *desk, claim *wanted) {
  if (desk->numbers_count > DESK_NUMBERS || desk->text_bytes > DESK_TEXT_BYTES) return 0;
  return request_claim(desk->numbers, desk->numbers_count, desk->text, desk->text_bytes, wanted);
}

/* What the handle's result holds from `first` on becomes the answer; a text that is too long is left out. */
static void write_answer(const prismq_handle *handle, int64_t first, desk_words *answer) {
  const prismq_result *result = &handle->result;
  answer->numbers_count = CLAIM_NUMBERS;
  memcpy(answer->numbers, result->numbers + first, CLAIM_NUMBERS * sizeof *answer->numbers);
  answer->text_bytes = result->text_bytes <= DESK_TEXT_BYTES ? (uint32_t)result->text_bytes : 0;
  memcpy(answer->text, result->text, answer->text_bytes);
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
  service->place = -1;
  service->claimed = 0;
  if (handle->file == NULL || !places_are_waiting(&handle->file->side)) return;
  const new_task *task = &work->task;
  if (work->operation != OP_ENQUEUE || work->is_packed || task->run_after_ms != NO_TIME || !sqlite3_get_autocommit(handle->database)) return;
  ready_tasks ready = {places_type_hash(task->type.bytes, task->type.length), 1, task->compatibility.length != 2};
  service->place = places_begin_service(&handle->file->side, &ready, &service->request);
}

void handover_claim(prismq_handle *handle, handover *service) {
  if (service->place < 0 || !places_go_on_serving(&handle->file->side, service->place)) return;
  claim wanted;
  prismq_result *result = &handle->result;
  int64_t before = result->numbers_count;
  if (read_claim(&service->request, &wanted) && claim_alone(handle, &wanted)) {
    service->claimed = 1;
    service->id = result->numbers[before];
    service->attempt = result->numbers[before + 2];
    write_answer(handle, before, &service->answer);
    announce_taken(handle->news);
  }
  /* SQLite may have undone the whole transaction, which is then everybody's failure. */
  if (!sqlite3_get_autocommit(handle->database)) result->code = SQLITE_OK;
  result->numbers_count = before;
  result->text_bytes = 0;
}

void handover_end(prismq_handle *handle, handover *service, int committed) {
  if (service->place < 0) return;
  int has_task = committed && service->claimed;
  if (places_end_service(&handle->file->side, service->place, has_task ? &service->answer : NULL) || !has_task) return;
  /* It has given up waiting, or this one was taken for dead: the task goes back. If that fails, its lease runs out. */
  claim wanted;
  if (!read_claim(&service->request, &wanted)) return;
  token held = {service->id, wanted.worker, service->attempt};
  prismq_result result = handle->result; /* of the caller's own operation, which is done */
  (void)unclaim_one(handle, &held);
  handle->result.code = result.code;
  handle->result.numbers_count = result.numbers_count;
}
