/* A table whose content is known: rows of many sizes, each with a version that its other columns follow from. */
#ifndef WAL_CONTENT_H
#define WAL_CONTENT_H

#include "check.h"

enum { ROWS = 40, MOST_ROWS = 400 };

typedef struct {
  int rows;
  int version[MOST_ROWS];
} content;

/* A connection under test, an observer on SQLite's own VFS, and what must be seen. */
typedef struct {
  char path[64];
  sqlite3 *database;
  sqlite3 *observer;
  content committed, pending, at_savepoint;
} subject;

/* A new database with the rows, opened with the VFS "prismq"; `options` are further pragmas. */
void subject_open(subject *subject, const char *path, int page_size, const char *options);
/* The same by a URI with parameters. */
void subject_open_uri(subject *subject, const char *path, const char *parameters, int page_size, const char *options);
void subject_close(subject *subject);

/* The observer and the connection itself see exactly the committed rows, and nothing is corrupt. */
void subject_check(subject *subject);
void content_check(sqlite3 *database, const content *expected);

sqlite3 *connect_to(const char *path, const char *vfs);

/* Each runs one statement; what it changed is in `pending` when it succeeded, all of it or nothing. Return SQLite's
 * code. When SQLite gives up the whole transaction, `pending` falls back too. */
int update(subject *subject, int first, int last);
int append(subject *subject, int rows);
int trim(subject *subject); /* to ROWS rows */
int statement(subject *subject, const char *sql);
int savepoint(subject *subject);
int rollback_to(subject *subject);
int commit(subject *subject);
void rollback(subject *subject);

#endif
