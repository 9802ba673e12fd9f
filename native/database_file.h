#ifndef PRISMQ_DATABASE_FILE_H
#define PRISMQ_DATABASE_FILE_H

#include <stddef.h>

#include "announcement.h"
#include "gate.h"
#include "sqlite_api.h"
#include "wal_file.h"

/* Beside SQLite's own codes, and understood by engine/prismq/errors.py. No busy handler is asked about them. */
enum {
  SQLITE_LOCKED_BY_LIMIT = 0x7d06, /* nobody writes: the WAL has grown to its limit */
  SQLITE_LOCKED_TOO_LONG = 0x7e06, /* the write lock was not to be had within the busy timeout */
  SQLITE_LOCKED_BY_ITSELF = 0x7f06 /* this very thread has it, by another connection */
};

/* What is known of an open database beyond the default VFS's own file structure, which it follows in memory so that
 * that VFS's methods find what they expect at the front. */
struct database_file {
  const sqlite3_io_methods *original;
  sqlite3_io_methods methods;
  sqlite3_file *file;
  wal_file *wal;
  int writing;           /* holds the WAL's write lock */
  sqlite3_int64 written; /* end of what was last written to the WAL under that lock; 0 for nothing */
  int waits;             /* a refusal is not the end: a busy handler or a timeout follows */
  int lock_timeout_ms;   /* how long SQLite lets the next lock wait; 0 for not at all */
  sidecar side;
  int keeps_side; /* even if the sidecar file was replaced */
  gate_pass pass;
  announcement news;
};

size_t database_file_bytes(const sqlite3_vfs *real);
int database_file_open(sqlite3_vfs *real, const char *name, sqlite3_file *file, int flags, int *out_flags);

/* The one of a file opened here, else NULL. */
database_file *database_file_of(sqlite3_file *file);

/* The one of a connection's main database, NULL when another VFS has it. */
database_file *database_file_of_connection(sqlite3 *connection);

/* Has what was copied into the database reach the disk. SQLite's code. */
int database_file_sync(database_file *database);

/* A word in the WAL index that is another one after each commit by whomever; NULL before the index was needed. */
const volatile uint32_t *database_file_change(database_file *database);

#endif
