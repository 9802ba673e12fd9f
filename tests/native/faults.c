/* The VFS "prismq" on a disk and a memory that fail at every possible call. Whatever happens, other connections see
 * exactly what was committed with success. */
#include "faulty_vfs.h"
#include "wal_content.h"

static const char scratch[] = "faults.db";

/* A transaction whose statements go on after a failure, for as long as SQLite keeps the transaction. */
static void stubborn_transaction(subject *subject, int round) {
  sqlite3 *database = subject->database;
  statement(subject, "BEGIN IMMEDIATE");
  if (!sqlite3_get_autocommit(database) && round % 2) append(subject, 10);
  if (!sqlite3_get_autocommit(database)) update(subject, round % 7 + 18, round % 7 + 48);
  if (!sqlite3_get_autocommit(database) && savepoint(subject) == SQLITE_OK) {
    update(subject, 10, ROWS - 1);
    if (!sqlite3_get_autocommit(database) && round % 3) rollback_to(subject);
  }
  if (!sqlite3_get_autocommit(database)) statement(subject, "SELECT sum(length(body)) FROM t");
  if (!sqlite3_get_autocommit(database)) append(subject, 3);
  if (!sqlite3_get_autocommit(database)) update(subject, 0, 30);
  if (!sqlite3_get_autocommit(database) && round % 4 != 3) commit(subject);
  rollback(subject);
}

static long suffer(int page_size, const char *options, wal_call failing, long fail_at, int lasting, int code,
                   int kept) {
  subject subject;
  subject_open(&subject, scratch, page_size, options);
  arm(failing, fail_at, lasting, code, kept);
  for (int round = 0; round < 4; round++) {
    stubborn_transaction(&subject, round);
    content_check(subject.observer, &subject.committed);
    update(&subject, round, round);
    content_check(subject.observer, &subject.committed);
    if (round == 1) trim(&subject);
    if (round == 2) sqlite3_exec(subject.database, "PRAGMA wal_checkpoint(RESTART)", NULL, NULL, NULL);
  }
  long failures = faults.failures;
  disarm();
  subject_check(&subject);
  for (int round = 0; round < 2; round++) {
    stubborn_transaction(&subject, round);
    EXPECT(update(&subject, round, round + 5) == SQLITE_OK);
    subject_check(&subject);
  }
  subject_close(&subject);
  return failures;
}

/* Lets the 1st, 2nd, 3rd, ... call fail, until there is no such call; steps grow so that long runs end. */
static void suffer_everywhere(wal_call failing, int lasting, int code, int kept) {
  static const char *const options[] = {"PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL"};
  for (int i = 0; i < 2; i++) {
    long failures = 0, nth = 1;
    while (suffer(i ? 1024 : 4096, options[i], failing, nth, lasting, code, kept) > 0) {
      failures++;
      nth += 1 + (quick ? 3 * nth : nth / 5);
    }
    EXPECT(failures > 0);
  }
}

static void a_failing_write_loses_no_commit(void) { suffer_everywhere(WAL_WRITE, 0, SQLITE_IOERR_WRITE, 0); }

static void a_short_write_loses_no_commit(void) { suffer_everywhere(WAL_WRITE, 0, SQLITE_IOERR_WRITE, 60); }

static void a_full_disk_loses_no_commit(void) { suffer_everywhere(WAL_WRITE, 1, SQLITE_FULL, 30); }

static void a_disk_full_for_a_moment_loses_no_commit(void) { suffer_everywhere(WAL_WRITE, 0, SQLITE_FULL, 30); }

/* SQLite was told that the first statement's pages are written. When that turns out wrong in a later statement, it
 * undoes that one alone. */
static void a_write_that_fails_late_fails_the_commit(void) {
  int survived = 0;
  for (int rows = 1; rows <= 24; rows++) {
    subject subject;
    subject_open(&subject, scratch, 1024, "PRAGMA wal_autocheckpoint=0");
    EXPECT(statement(&subject, "BEGIN") == SQLITE_OK && append(&subject, rows) == SQLITE_OK);
    arm(WAL_WRITE, 1, 0, SQLITE_FULL, 0);
    int code = update(&subject, ROWS, ROWS + rows);
    if (code != SQLITE_OK && !sqlite3_get_autocommit(subject.database)) {
      survived++;
      update(&subject, 1, 1);
      commit(&subject);
    }
    disarm();
    rollback(&subject);
    subject_check(&subject);
    EXPECT(append(&subject, rows) == SQLITE_OK);
    subject_check(&subject);
    subject_close(&subject);
  }
  EXPECT(survived > 0);
}

static void a_failing_sync_loses_no_commit(void) { suffer_everywhere(WAL_SYNC, 0, SQLITE_IOERR_FSYNC, 0); }

static void a_failing_read_loses_no_commit(void) { suffer_everywhere(WAL_READ, 0, SQLITE_IOERR_READ, 0); }

static void running_out_of_memory_loses_no_commit(void) {
  int failed = 1;
  for (long nth = 1; failed; nth += 1 + nth / (quick ? 1 : 10)) {
    subject subject;
    subject_open(&subject, scratch, 1024, "");
    fail_allocation(nth);
    stubborn_transaction(&subject, 0);
    stubborn_transaction(&subject, 1);
    failed = allocation_failed();
    fail_allocation(0);
    subject_check(&subject);
    EXPECT(update(&subject, 0, 39) == SQLITE_OK);
    subject_check(&subject);
    subject_close(&subject);
  }
}

const test fault_tests[] = {
    {"a failing write loses no commit", a_failing_write_loses_no_commit},
    {"a short write loses no commit", a_short_write_loses_no_commit},
    {"a full disk loses no commit", a_full_disk_loses_no_commit},
    {"a disk full for a moment loses no commit", a_disk_full_for_a_moment_loses_no_commit},
    {"a write that fails late fails the commit", a_write_that_fails_late_fails_the_commit},
    {"a failing sync loses no commit", a_failing_sync_loses_no_commit},
    {"a failing read loses no commit", a_failing_read_loses_no_commit},
    {"running out of memory loses no commit", running_out_of_memory_loses_no_commit},
    {NULL, NULL},
};
