/* One who writes: it takes the write lock as database_file.c does, but that the lock is a byte of a file instead of
 * SQLite's. */
#ifndef WRITER_H
#define WRITER_H

#include "crew.h"
#include "gate.h"

typedef struct {
  sidecar view;
  gate_pass pass;
  platform_region lock;
} writer;

typedef enum { TAKEN, TOO_LONG, BY_ITSELF } take_end;

void writer_open(writer *self);
void writer_close(writer *self);

/* One try. */
take_end writer_ask(writer *self);

take_end writer_take(writer *self, int64_t timeout_us);
void writer_give(writer *self);

#endif
