/* Operations as data: what an entry point was called with, and what lies packed in a request.
 */
#ifndef PRISMQ_REQUESTS_H
#define PRISMQ_REQUESTS_H

#include "handle.h"

typedef struct {
  const int64_t *number, *numbers_end;
  const char *byte, *bytes_end;
  int broken; /* the request is shorter than it says */
} reader;

/* An operation that one transaction does whole. */
typedef struct {
  int operation; /* prismq_operation */
  int64_t count; /* of its items */
  reader packed; /* the items, if `is_packed`; else there is one, which is one of these */
  int is_packed;
  new_task task;
  claim wanted;
  token held;
} job;

job packed_job(int operation, int64_t count, const int64_t *numbers, int64_t numbers_count, const char *text,
               int64_t text_bytes);

/* Inside a transaction. SQLITE_MISUSE for a packed one that is broken. */
int execute_job(prismq_handle *handle, const job *work);

/* Whether its failure may leave something of it behind, which is then to be undone. */
int job_has_parts(const job *work);

/* Where a job is packed into; `numbers` and `text` have room for as many as the capacities say. */
typedef struct {
  int64_t *numbers;
  int64_t numbers_count, numbers_capacity;
  char *text;
  int64_t text_bytes, text_capacity;
} packing;

/* Whether it fitted. */
int pack_job(const job *work, packing *into);

int is_claim(const claim *wanted);
int packed_claim(const job *work, claim *wanted);

/* The claim that a request's numbers and text make up; 0 when they make up none. */
int request_claim(const int64_t *numbers, int64_t numbers_count, const char *text, int64_t text_bytes, claim *wanted);

#endif
