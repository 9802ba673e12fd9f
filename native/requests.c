#include "requests.h"

#include <string.h>

/* -- reading */

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

int is_claim(const claim *wanted) {
  return wanted->strategy >= BY_PRIORITY && wanted->strategy <= BY_LOTTERY && wanted->worker.bytes != NULL;
}

int packed_claim(const job *work, claim *wanted) {
  reader from = work->packed;
  *wanted = next_claim(&from);
  return !from.broken;
}

/* Whether SQLite and Python will read the bytes as what they are (RFC 3629). */
static int is_utf8(text value) {
  const unsigned char *at = (const unsigned char *)value.bytes, *end = at + value.length;
  while (at < end) {
    unsigned char first = *at++;
    if (first < 0x80) continue;
    if (first < 0xc2 || first > 0xf4) return 0;
    int more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    if (end - at < more) return 0;
    /* No longer form than needed, no surrogates, nothing beyond the last code point. */
    if ((first == 0xe0 && *at < 0xa0) || (first == 0xed && *at > 0x9f)) return 0;
    if ((first == 0xf0 && *at < 0x90) || (first == 0xf4 && *at > 0x8f)) return 0;
    for (; more > 0; more--)
      if ((*at++ & 0xc0) != 0x80) return 0;
  }
  return 1;
}

int request_claim(const int64_t *numbers, int64_t numbers_count, const char *text, int64_t text_bytes, claim *wanted) {
  reader from = {numbers, numbers + numbers_count, text, text + text_bytes, 0};
  *wanted = next_claim(&from);
  return !from.broken && is_claim(wanted) && wanted->capabilities.bytes != NULL && wanted->limit == 1 &&
         is_utf8(wanted->worker) && is_utf8(wanted->types) && is_utf8(wanted->capabilities);
}

/* -- doing */

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

static int execute_packed(prismq_handle *handle, int operation, reader from, int64_t count) {
  if (operation == OP_ENQUEUE) return enqueue_all(handle, &from, count);
  if (operation == OP_CLAIM) {
    claim wanted = next_claim(&from);
    return from.broken || count != 1 || !is_claim(&wanted) ? SQLITE_MISUSE : claim_heads(handle, &wanted);
  }
  int code = SQLITE_OK;
  for (int64_t i = 0; code == SQLITE_OK && i < count; i++) code = settle_one(handle, operation, &from);
  return code;
}

job packed_job(int operation, int64_t count, const int64_t *numbers, int64_t numbers_count, const char *text,
               int64_t text_bytes) {
  job work = {.operation = operation, .count = count, .is_packed = 1};
  work.packed = (reader){numbers, numbers + numbers_count, text, text + text_bytes, 0};
  return work;
}

int execute_job(prismq_handle *handle, const job *work) {
  int code;
  if (work->is_packed) {
    code = execute_packed(handle, work->operation, work->packed, work->count);
  } else if (work->operation == OP_ENQUEUE) {
    int64_t next_id = 0;
    code = enqueue_one(handle, &work->task, &next_id);
  } else if (work->operation == OP_CLAIM) {
    code = claim_heads(handle, &work->wanted);
  } else {
    code = complete_one(handle, &work->held);
  }
  if (code == SQLITE_MISUSE && handle->result.code == SQLITE_OK)
    fail_with(handle, code, "the request is shorter than it says or its operation unknown");
  return code;
}

int job_has_parts(const job *work) { return work->count > 1 || work->operation == OP_CLAIM; }

/* -- packing */

static void pack_number(packing *into, int64_t number) {
  if (into->numbers_count < into->numbers_capacity) into->numbers[into->numbers_count] = number;
  into->numbers_count++;
}

static void pack_text(packing *into, text value) {
  pack_number(into, value.bytes != NULL ? value.length : -1);
  if (value.bytes == NULL) return;
  if (value.length <= into->text_capacity - into->text_bytes)
    memcpy(into->text + into->text_bytes, value.bytes, (size_t)value.length);
  into->text_bytes = value.length < INT64_MAX - into->text_bytes ? into->text_bytes + value.length : INT64_MAX;
}

static void pack_items(const reader *from, packing *into) {
  int64_t numbers = from->numbers_end - from->number, bytes = from->bytes_end - from->byte;
  if (numbers <= into->numbers_capacity) memcpy(into->numbers, from->number, (size_t)numbers * sizeof *from->number);
  if (bytes <= into->text_capacity) memcpy(into->text, from->byte, (size_t)bytes);
  into->numbers_count = numbers;
  into->text_bytes = bytes;
}

int pack_job(const job *work, packing *into) {
  into->numbers_count = into->text_bytes = 0;
  if (work->is_packed) {
    pack_items(&work->packed, into);
  } else if (work->operation == OP_ENQUEUE) {
    pack_text(into, work->task.type);
    pack_text(into, work->task.payload);
    pack_text(into, work->task.compatibility);
    pack_text(into, work->task.key);
    pack_number(into, work->task.priority);
    pack_number(into, work->task.max_attempts);
    pack_number(into, work->task.run_after_ms);
  } else if (work->operation == OP_CLAIM) {
    pack_text(into, work->wanted.worker);
    pack_text(into, work->wanted.types);
    pack_text(into, work->wanted.capabilities);
    pack_number(into, work->wanted.strategy);
    pack_number(into, work->wanted.limit);
    pack_number(into, work->wanted.lease_ms);
  } else {
    pack_number(into, work->held.id);
    pack_text(into, work->held.worker);
    pack_number(into, work->held.attempt);
  }
  return into->numbers_count <= into->numbers_capacity && into->text_bytes <= into->text_capacity;
}
