/* Those who are there beside the workers: who keeps house, and who sleeps until there is a task. */
#include "kills.h"

#include "atomics.h"
#include "statements.h"

enum { STATEMENTS = sizeof statements / sizeof *statements, TIMEOUT_MS = 3600000, TURN_US = 20000, LEASE_MS = 36000000 };

/* -- as engine/prismq/housekeeping.py does, but that no lease ends here */

static void give_back(sqlite3 *database, prismq_keeper *keeper) {
  sqlite3_stmt *statement;
  const char *sql = "UPDATE task_queue SET status = 'queued', attempts = attempts - 1, locked_by = NULL,"
                    " lease_until_utc = NULL WHERE id = ?1 AND status = 'processing' AND locked_by = ?2 AND attempts = ?3"
                    " AND reserved_at_utc = strftime('%Y-%m-%d %H:%M:%f', ?4 / 1000.0, 'unixepoch')";
  const prismq_result *orphan = prismq_keeper_orphan(keeper);
  if (orphan->numbers_count == 0) return;
  EXPECT(sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK);
  sqlite3_bind_int64(statement, 1, orphan->numbers[0]);
  sqlite3_bind_text(statement, 2, orphan->text, (int)orphan->text_bytes, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 3, orphan->numbers[2]);
  sqlite3_bind_int64(statement, 4, orphan->numbers[5]);
  EXPECT(sqlite3_step(statement) == SQLITE_DONE && sqlite3_finalize(statement) == SQLITE_OK);
}

void keep_house(void) {
  sqlite3 *database;
  EXPECT(sqlite3_open_v2(DATABASE, &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, "prismq") == SQLITE_OK);
  EXPECT(sqlite3_busy_timeout(database, TIMEOUT_MS) == SQLITE_OK);
  EXPECT(sqlite3_exec(database, "SELECT 1 FROM queue_state", NULL, NULL, NULL) == SQLITE_OK); /* opens the WAL */
  /* From here on the connection has the WAL's index, as engine/prismq/post.py sees to. */
  EXPECT(sqlite3_exec(database, "PRAGMA user_version", NULL, NULL, NULL) == SQLITE_OK);
  prismq_handle *handle = prismq_open(database, statements, STATEMENTS, TIMEOUT_MS, 0);
  EXPECT(handle != NULL);
  prismq_keeper *keeper = prismq_keeper_open(handle);
  EXPECT(keeper != NULL);
  while (!load32(&board->stop)) {
    int events = prismq_keeper_wait(keeper, TURN_US);
    if (events & KEEP_DUE) prismq_keeper_forget_due(keeper);
    if (events & KEEP_ORPHAN) give_back(database, keeper);
    if (events & KEEP_CHECKPOINT) (void)sqlite3_wal_checkpoint_v2(database, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (events == 0) continue;
    platform_sleep_us(1000); /* what somebody wrote into the file may call again and again */
  }
  prismq_keeper_close(keeper);
  prismq_close(handle);
  EXPECT(sqlite3_close(database) == SQLITE_OK);
}

/* -- as engine/prismq/idle.py does */

static void leave_request(worker *self, prismq_room *room) {
  int64_t name_bytes = (int64_t)strlen(self->name);
  const int64_t numbers[] = {name_bytes, -1, 2, BY_PRIORITY, 1, LEASE_MS};
  char text[64];
  int64_t length = sprintf(text, "%s{}", self->name);
  prismq_request request = {OP_CLAIM, 1, numbers, sizeof numbers / sizeof *numbers, text, length};
  prismq_room_request(room, &request);
}

static void sleep_once(worker *self, prismq_room *room) {
  entry *call = begin_entry(self, OP_CLAIM, ASLEEP);
  int end = prismq_room_sleep(room, TURN_US);
  if (end == ROOM_EXPECTING) end = prismq_room_sleep(room, 0);
  int served = end == ROOM_SERVED;
  if (served) accept_task(self, call, prismq_room_result(room));
  if (prismq_room_leave(room, served)) accept_task(self, call, prismq_room_result(room));
  end_entry(self, call, SQLITE_OK, call->id);
}

static void settle_all(worker *self) {
  while (self->held_count > 0) {
    held_task task = self->held[--self->held_count];
    entry *call = begin_entry(self, OP_COMPLETE, 0);
    call->id = task.id;
    call->attempt = task.attempt;
    int code = prismq_complete(self->handle, task.id, self->name, (int64_t)strlen(self->name), task.attempt);
    int64_t answer = code == SQLITE_OK ? prismq_results(self->handle)->numbers[0] : 0;
    EXPECT(code != SQLITE_OK || answer == 1 || running->nothing_holds);
    end_entry(self, call, code, answer);
  }
}

void sleep_for_tasks(worker *self) {
  prismq_room *room = prismq_room_open(DATABASE);
  EXPECT(room != NULL);
  uint64_t types[8];
  for (int i = 0; i < 8; i++) types[i] = prismq_type_hash("video", 5) + (uint64_t)i;
  while (!load32(&board->stop)) {
    static const int64_t counts[] = {0, 1, 8};
    leave_request(self, room);
    (void)prismq_room_arm(room, types, counts[next_random(&self->random) % 3], 0);
    sleep_once(self, room);
    settle_all(self);
  }
  prismq_room_close(room);
}
