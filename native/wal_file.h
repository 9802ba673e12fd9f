#ifndef PRISMQ_WAL_FILE_H
#define PRISMQ_WAL_FILE_H

#include <stddef.h>

#include "sqlite_api.h"

typedef struct database_file database_file;

typedef struct wal_file {
  sqlite3_file base;
  sqlite3_file *real;      /* the default VFS's file, right behind this structure */
  database_file *database; /* NULL when SQLite did not say which database the WAL is of */
  char *gathered;
  int length;
  sqlite3_int64 offset; /* of the first gathered byte in the file, or of the first one lost by a failure */
  sqlite3_int64 end;    /* where this transaction's next piece goes; 0 before its first */
  int page_next;        /* and whether that is a page or a frame header */
  int committing;       /* the last frame header is the commit frame's */
  int failure;          /* of writing gathered pieces, in this transaction */
} wal_file;

static inline size_t aligned(size_t size) { return (size + 15) & ~(size_t)15; }

int wal_file_open(sqlite3_vfs *real, const char *name, sqlite3_file *file, int flags, int *out_flags);

/* The write lock is about to be given up: what was gathered and not committed must never be written. */
void wal_file_forget(wal_file *wal);

#endif
