/* The VFS "prismq" without faults: what it writes, and when. */
#include "faulty_vfs.h"
#include "wal_content.h"

static const char scratch[] = "wal.db";

static void a_transaction_is_one_write(void) {
  subject subject;
  subject_open(&subject, scratch, 4096, "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=100");
  EXPECT(update(&subject, 0, 9) == SQLITE_OK);
  for (int i = 0; i < 20; i++) {
    arm(WAL_WRITE, 0, 0, 0, 0);
    EXPECT(update(&subject, i, i + 3) == SQLITE_OK);
    EXPECT(faults.calls[WAL_WRITE] == 1 && faults.calls[WAL_SYNC] == 1);
    EXPECT(faults.largest_write > 4096 && faults.largest_write % (4096 + 24) == 0);
  }
  subject_check(&subject);
  subject_close(&subject);
}

static void a_restarted_log_costs_its_header_more(void) {
  subject subject;
  subject_open(&subject, scratch, 4096, "PRAGMA synchronous=NORMAL; PRAGMA cache_size=100");
  for (int i = 0; i < 5; i++) {
    execute(subject.database, "PRAGMA wal_checkpoint(RESTART)");
    arm(WAL_WRITE, 0, 0, 0, 0);
    EXPECT(update(&subject, i, i) == SQLITE_OK);
    EXPECT(faults.calls[WAL_WRITE] == 2);
  }
  subject_close(&subject);
}

static void sqlite_itself_writes_twice_a_frame(void) {
  subject subject;
  subject_open(&subject, scratch, 4096, "PRAGMA synchronous=NORMAL");
  sqlite3 *plain = connect_to(scratch, "faulty");
  execute(plain, "PRAGMA synchronous=NORMAL; CREATE TABLE plain (x); INSERT INTO plain VALUES (1)");
  arm(WAL_WRITE, 0, 0, 0, 0);
  execute(plain, "INSERT INTO plain VALUES (2)");
  EXPECT(faults.calls[WAL_WRITE] >= 2 && faults.calls[WAL_WRITE] % 2 == 0);
  EXPECT(sqlite3_close(plain) == SQLITE_OK);
  subject_close(&subject);
}

/* Every kind of transaction, with spilled pages, on a log that is used, restarted and truncated. */
static void live(subject *subject) {
  static const char *const checkpoints[] = {"PASSIVE", "FULL", "RESTART", "TRUNCATE"};
  char checkpoint[64];
  for (int round = 0; round < (quick ? 4 : 8); round++) {
    EXPECT(update(subject, round, round) == SQLITE_OK);
    subject_check(subject);

    EXPECT(statement(subject, "BEGIN IMMEDIATE") == SQLITE_OK && update(subject, 0, ROWS - 1) == SQLITE_OK);
    rollback(subject);
    subject_check(subject);

    EXPECT(statement(subject, "BEGIN") == SQLITE_OK && update(subject, 0, ROWS - 1) == SQLITE_OK);
    content_check(subject->database, &subject->pending);
    content_check(subject->observer, &subject->committed);
    EXPECT(update(subject, 5, 30) == SQLITE_OK && update(subject, 0, 20) == SQLITE_OK);
    EXPECT(commit(subject) == SQLITE_OK);
    subject_check(subject);

    EXPECT(statement(subject, "BEGIN") == SQLITE_OK && update(subject, 20, 39) == SQLITE_OK);
    EXPECT(savepoint(subject) == SQLITE_OK && update(subject, 0, ROWS - 1) == SQLITE_OK);
    EXPECT(rollback_to(subject) == SQLITE_OK);
    if (round % 2) content_check(subject->database, &subject->pending);
    EXPECT(update(subject, 3, 3 + 4 * round) == SQLITE_OK && commit(subject) == SQLITE_OK);
    subject_check(subject);

    snprintf(checkpoint, sizeof checkpoint, "PRAGMA wal_checkpoint(%s)", checkpoints[round % 4]);
    execute(round % 3 ? subject->database : subject->observer, checkpoint);
    subject_check(subject);
  }
}

static void every_page_size_keeps_its_content(void) {
  for (int page_size = 512; page_size <= 65536; page_size *= 2) {
    if (quick && page_size != 512 && page_size != 4096 && page_size != 65536) continue;
    subject subject;
    subject_open(&subject, scratch, page_size, page_size % 3 == 1 ? "PRAGMA synchronous=FULL" : "");
    live(&subject);
    subject_close(&subject);
  }
}

static void frames_split_at_sectors_keep_their_content(void) {
  /* Without powersafe overwrite SQLite repeats the commit frame up to the end of a sector and syncs inside a frame. */
  for (int page_size = 512; page_size <= 4096; page_size *= 8) {
    subject subject;
    subject_open_uri(&subject, scratch, "?psow=0", page_size,
                     "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=100");
    for (int i = 0; i < (quick ? 60 : 600); i++) {
      EXPECT(update(&subject, i % ROWS, i % ROWS) == SQLITE_OK);
      content_check(subject.observer, &subject.committed);
    }
    execute(subject.database, "PRAGMA cache_size=5");
    live(&subject);
    subject_close(&subject);
  }
}

/* Rolled-back pieces must not come back after the other connection's frames took their place. */
static void a_rolled_back_spill_stays_away(void) {
  subject subject;
  subject_open(&subject, scratch, 4096, "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0");
  for (int i = 0; i < 10; i++) {
    EXPECT(statement(&subject, "BEGIN") == SQLITE_OK && update(&subject, 0, 20) == SQLITE_OK);
    rollback(&subject);
    sqlite3 *under_test = subject.database;
    subject.database = subject.observer;
    EXPECT(update(&subject, i, i + 15) == SQLITE_OK);
    subject.database = under_test;
    subject_check(&subject);
    EXPECT(update(&subject, i, i) == SQLITE_OK);
    subject_check(&subject);
  }
  subject_close(&subject);
}

/* In exclusive mode SQLite takes no locks of the WAL index, so that nothing says where a transaction ends. */
static void an_exclusive_connection_hands_over_a_clean_log(void) {
  static const char *const ways_in[] = {"PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE",
                                        "PRAGMA busy_timeout=100; PRAGMA locking_mode=EXCLUSIVE"};
  for (int way = 0; way < 2; way++) {
    subject subject;
    subject_open(&subject, scratch, 4096, "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0");
    for (int i = 0; i < 10; i++) {
      EXPECT(sqlite3_close(subject.observer) == SQLITE_OK); /* it would keep the connection from being exclusive */
      subject.observer = NULL;
      execute(subject.database, "PRAGMA wal_checkpoint(TRUNCATE)"); /* pages are read from the database, not the log */
      execute(subject.database, ways_in[way]);
      EXPECT(statement(&subject, "BEGIN") == SQLITE_OK && append(&subject, 10) == SQLITE_OK);
      rollback(&subject);
      if (i % 2) EXPECT(update(&subject, i, i) == SQLITE_OK);
      execute(subject.database, "PRAGMA locking_mode=NORMAL; SELECT count(*) FROM t");
      subject.observer = connect_to(scratch, "unix");
      sqlite3 *under_test = subject.database;
      subject.database = subject.observer;
      EXPECT(update(&subject, i, i + 20) == SQLITE_OK);
      subject.database = under_test;
      subject_check(&subject);
      EXPECT(update(&subject, i + 1, i + 1) == SQLITE_OK);
      subject_check(&subject);
      arm(WAL_WRITE, 0, 0, 0, 0);
      execute(subject.database, "PRAGMA cache_size=100");
      EXPECT(update(&subject, 1, 3) == SQLITE_OK && faults.calls[WAL_WRITE] == 1);
      execute(subject.database, "PRAGMA cache_size=5");
    }
    subject_close(&subject);
  }
}

static void a_log_without_shared_memory_keeps_its_content(void) {
  subject subject;
  subject_open(&subject, scratch, 1024, "");
  EXPECT(sqlite3_close(subject.observer) == SQLITE_OK && sqlite3_close(subject.database) == SQLITE_OK);
  subject.database = connect_to(scratch, "prismq");
  subject.observer = NULL;
  execute(subject.database, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=5");
  for (int i = 0; i < 10; i++) {
    EXPECT(statement(&subject, "BEGIN") == SQLITE_OK && update(&subject, 0, 30) == SQLITE_OK);
    if (i % 2)
      rollback(&subject);
    else
      EXPECT(commit(&subject) == SQLITE_OK);
    content_check(subject.database, &subject.committed);
    expect_integrity(subject.database);
    if (i % 3 == 0) execute(subject.database, "PRAGMA wal_checkpoint(TRUNCATE)");
  }
  subject_close(&subject);
}

static void attached_databases_have_logs_of_their_own(void) {
  subject subject, other;
  subject_open(&other, "attached.db", 1024, "");
  subject_open(&subject, scratch, 4096, "");
  execute(subject.database, "ATTACH 'attached.db' AS other; PRAGMA other.cache_size=5");
  for (int i = 0; i < 10; i++) {
    EXPECT(statement(&subject, "BEGIN") == SQLITE_OK && update(&subject, 0, 35) == SQLITE_OK);
    execute(subject.database,
            "UPDATE other.t SET version = version + 1, tag = id * 1000000 + version + 1, body = fill(id, version + 1)");
    if (i % 2) {
      rollback(&subject);
    } else {
      EXPECT(commit(&subject) == SQLITE_OK);
      for (int id = 0; id < ROWS; id++) other.committed.version[id]++;
      other.pending = other.committed;
    }
    subject_check(&subject);
    subject_check(&other);
    EXPECT(update(&other, i, i) == SQLITE_OK);
  }
  subject_close(&subject);
  subject_close(&other);
}

static void journal_modes_vacuum_and_backup_work(void) {
  subject subject;
  subject_open(&subject, scratch, 1024, "");
  for (int i = 0; i < 4; i++) {
    EXPECT(update(&subject, 0, ROWS - 1) == SQLITE_OK);
    execute(subject.database, "VACUUM");
    subject_check(&subject);
    EXPECT(sqlite3_close(subject.observer) == SQLITE_OK);
    execute(subject.database, i % 2 ? "PRAGMA journal_mode=DELETE" : "PRAGMA journal_mode=TRUNCATE");
    EXPECT(update(&subject, 3, 9) == SQLITE_OK);
    EXPECT(statement(&subject, "BEGIN") == SQLITE_OK && update(&subject, 0, 30) == SQLITE_OK);
    rollback(&subject);
    execute(subject.database, "PRAGMA journal_mode=WAL");
    subject.observer = connect_to(scratch, "unix");
    live(&subject);
  }
  remove_database("copy.db");
  sqlite3 *copy = connect_to("copy.db", "prismq");
  execute(copy, "PRAGMA page_size=1024; PRAGMA journal_mode=WAL");
  sqlite3_backup *backup = sqlite3_backup_init(copy, "main", subject.database, "main");
  EXPECT(backup != NULL && sqlite3_backup_step(backup, -1) == SQLITE_DONE);
  EXPECT(sqlite3_backup_finish(backup) == SQLITE_OK);
  content_check(copy, &subject.committed);
  EXPECT(sqlite3_close(copy) == SQLITE_OK);
  remove_database("copy.db");
  subject_close(&subject);
}

static void closing_in_a_transaction_leaves_nothing(void) {
  for (int i = 0; i < 4; i++) {
    subject subject;
    subject_open(&subject, scratch, 4096, "");
    EXPECT(statement(&subject, "BEGIN") == SQLITE_OK && update(&subject, 0, ROWS - 1) == SQLITE_OK);
    EXPECT(sqlite3_close(subject.database) == SQLITE_OK);
    subject.pending = subject.committed;
    subject.database = connect_to(scratch, "prismq");
    subject_check(&subject);
    subject_close(&subject);
  }
}

const test wal_tests[] = {
    {"a transaction is one write", a_transaction_is_one_write},
    {"a restarted log costs its header more", a_restarted_log_costs_its_header_more},
    {"SQLite itself writes twice a frame", sqlite_itself_writes_twice_a_frame},
    {"every page size keeps its content", every_page_size_keeps_its_content},
    {"frames split at sectors keep their content", frames_split_at_sectors_keep_their_content},
    {"a rolled-back spill stays away", a_rolled_back_spill_stays_away},
    {"an exclusive connection hands over a clean log", an_exclusive_connection_hands_over_a_clean_log},
    {"a log without shared memory keeps its content", a_log_without_shared_memory_keeps_its_content},
    {"attached databases have logs of their own", attached_databases_have_logs_of_their_own},
    {"journal modes, VACUUM and backup work", journal_modes_vacuum_and_backup_work},
    {"closing in a transaction leaves nothing", closing_in_a_transaction_leaves_nothing},
    {NULL, NULL},
};
