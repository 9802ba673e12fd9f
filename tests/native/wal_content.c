#include "wal_content.h"

/* fill(id, version): a hundred to some thousand bytes that follow from both. */
static void fill(sqlite3_context *context, int count, sqlite3_value **values) {
  (void)count;
  sqlite3_uint64 state = (sqlite3_uint64)sqlite3_value_int(values[0]) << 32 | (unsigned)sqlite3_value_int(values[1]);
  unsigned seed = (unsigned)sqlite3_value_int(values[0]) * 7919u + (unsigned)sqlite3_value_int(values[1]);
  int words = 12 + (int)(next_random(&seed) % 380);
  sqlite3_uint64 *bytes = sqlite3_malloc(words * 8);
  if (bytes == NULL) {
    sqlite3_result_error_nomem(context);
    return;
  }
  for (int i = 0; i < words; i++) bytes[i] = state = state * 6364136223846793005u + 1442695040888963407u;
  sqlite3_result_blob(context, bytes, words * 8, sqlite3_free);
}

static sqlite3 *connect_with(const char *path, int flags, const char *vfs) {
  sqlite3 *database;
  int code = sqlite3_open_v2(path, &database, flags, vfs);
  if (code != SQLITE_OK) fprintf(stderr, "%s: %s\n", path, sqlite3_errmsg(database));
  EXPECT(code == SQLITE_OK);
  EXPECT(sqlite3_create_function(database, "fill", 2, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, fill, NULL, NULL) ==
         SQLITE_OK);
  return database;
}

sqlite3 *connect_to(const char *path, const char *vfs) {
  sqlite3 *database = connect_with(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs);
  if (strcmp(vfs, "unix") == 0) execute(database, "PRAGMA synchronous=OFF"); /* no power is cut here */
  return database;
}

void content_check(sqlite3 *database, const content *expected) {
  sqlite3_stmt *rows;
  EXPECT(sqlite3_prepare_v2(database,
                            "SELECT id, version, body IS fill(id, version) AND tag IS id * 1000000 + version FROM t "
                            "ORDER BY id",
                            -1, &rows, NULL) == SQLITE_OK);
  for (int id = 0; id < expected->rows; id++) {
    int code = sqlite3_step(rows);
    if (code != SQLITE_ROW) fprintf(stderr, "row %d: %s\n", id, sqlite3_errmsg(database));
    EXPECT(code == SQLITE_ROW);
    EXPECT(sqlite3_column_int(rows, 0) == id);
    if (sqlite3_column_int(rows, 1) != expected->version[id])
      fprintf(stderr, "row %d has version %d, not %d\n", id, sqlite3_column_int(rows, 1), expected->version[id]);
    EXPECT(sqlite3_column_int(rows, 1) == expected->version[id]);
    EXPECT(sqlite3_column_int(rows, 2) == 1);
  }
  EXPECT(sqlite3_step(rows) == SQLITE_DONE);
  EXPECT(sqlite3_finalize(rows) == SQLITE_OK);
}

void subject_check(subject *subject) {
  content_check(subject->observer, &subject->committed);
  expect_integrity(subject->observer);
  content_check(subject->database, &subject->committed);
}

void subject_open_uri(subject *subject, const char *path, const char *parameters, int page_size, const char *options) {
  char text[256];
  remove_database(path);
  memset(subject, 0, sizeof *subject);
  subject->committed.rows = subject->pending.rows = ROWS;
  snprintf(subject->path, sizeof subject->path, "%s", path);
  snprintf(text, sizeof text, "file:%s%s", path, parameters);
  subject->database = connect_with(text, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, "prismq");
  snprintf(text, sizeof text, "PRAGMA page_size=%d; PRAGMA journal_mode=wal; PRAGMA cache_size=5; %s", page_size,
           options);
  execute(subject->database, text);
  execute(subject->database,
          "CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, tag INTEGER UNIQUE, body BLOB);"
          "WITH RECURSIVE n (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n LIMIT 40)"
          "INSERT INTO t SELECT id, 0, id * 1000000, fill(id, 0) FROM n;");
  subject->observer = connect_to(path, "unix");
}

void subject_open(subject *subject, const char *path, int page_size, const char *options) {
  subject_open_uri(subject, path, "", page_size, options);
}

void subject_close(subject *subject) {
  EXPECT(sqlite3_close(subject->database) == SQLITE_OK);
  if (subject->observer != NULL) EXPECT(sqlite3_close(subject->observer) == SQLITE_OK);
  sqlite3 *again = connect_to(subject->path, "unix");
  content_check(again, &subject->committed);
  expect_integrity(again);
  EXPECT(sqlite3_close(again) == SQLITE_OK);
  remove_database(subject->path);
}

int statement(subject *subject, const char *sql) {
  int code = sqlite3_exec(subject->database, sql, NULL, NULL, NULL);
  if (sqlite3_get_autocommit(subject->database)) subject->pending = subject->committed;
  return code;
}

/* Runs a statement that turns what is pending into `then`. */
static int change(subject *subject, const char *sql, const content *then) {
  int alone = sqlite3_get_autocommit(subject->database);
  int code = statement(subject, sql);
  if (code != SQLITE_OK) return code;
  subject->pending = *then;
  if (alone) subject->committed = *then;
  return code;
}

int update(subject *subject, int first, int last) {
  char sql[200];
  content then = subject->pending;
  for (int id = first; id <= last && id < then.rows; id++) then.version[id]++;
  /* The UNIQUE column makes it a statement that may abort half-way, for which SQLite keeps a journal of its own. */
  snprintf(sql, sizeof sql,
           "UPDATE t SET version = version + 1, tag = id * 1000000 + version + 1, body = fill(id, version + 1) "
           "WHERE id BETWEEN %d AND %d",
           first, last);
  return change(subject, sql, &then);
}

int append(subject *subject, int rows) {
  char sql[200];
  content then = subject->pending;
  EXPECT(then.rows + rows <= MOST_ROWS);
  for (int i = 0; i < rows; i++) then.version[then.rows++] = 0;
  snprintf(sql, sizeof sql,
           "WITH RECURSIVE n (id) AS (SELECT %d UNION ALL SELECT id + 1 FROM n LIMIT %d) "
           "INSERT INTO t SELECT id, 0, id * 1000000, fill(id, 0) FROM n",
           then.rows - rows, rows);
  return change(subject, sql, &then);
}

int trim(subject *subject) {
  content then = subject->pending;
  then.rows = ROWS;
  return change(subject, "DELETE FROM t WHERE id >= 40", &then);
}

int savepoint(subject *subject) {
  int code = statement(subject, "SAVEPOINT s");
  if (code == SQLITE_OK) subject->at_savepoint = subject->pending;
  return code;
}

int rollback_to(subject *subject) {
  int code = statement(subject, "ROLLBACK TO s");
  if (code == SQLITE_OK) subject->pending = subject->at_savepoint;
  return code;
}

int commit(subject *subject) {
  int code = sqlite3_exec(subject->database, "COMMIT", NULL, NULL, NULL);
  if (code == SQLITE_OK) subject->committed = subject->pending;
  return code;
}

void rollback(subject *subject) {
  if (!sqlite3_get_autocommit(subject->database)) {
    int code = sqlite3_exec(subject->database, "ROLLBACK", NULL, NULL, NULL);
    EXPECT(code == SQLITE_OK || sqlite3_get_autocommit(subject->database));
  }
  EXPECT(sqlite3_get_autocommit(subject->database));
  subject->pending = subject->committed;
}
