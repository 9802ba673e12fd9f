/* The database's file, whose methods are the default VFS's but for those about locks.
 *
 * Every write transaction of a connection, whoever began it and how, asks for the WAL's write lock here. So this is where
 * turns are taken (gate.h), and where it is known that a transaction is over (announcement.h).
 */
#include "database_file.h"

#include <string.h>

#include "keeper.h"
#include "ofd_locks.h"
#include "slots.h"

enum {
  WAL_WRITE_LOCK = 0, /* its index among the locks of the WAL index */
  SHORTEST_TIMEOUT_US = 500000, /* SQLite sets shorter ones for moments, and goes on by other ways after them */
  CHECKPOINT_BYTES = 4 * 1024 * 1024 /* a WAL so long is worth a checkpoint */
};

static size_t place_in(int bytes_before) { return aligned((size_t)bytes_before); }

/* -- the write lock */

static void set_real_timeout(database_file *database, int ms) {
  (void)database->original->xFileControl(database->file, SQLITE_FCNTL_LOCK_TIMEOUT, &ms); /* unknown without timeouts */
}

/* One try: never waits. */
static int ask(database_file *database) {
  if (database->waits && gate_rest_ordered_us(&database->side, &database->pass) > 0) return SQLITE_BUSY;
  if (!gate_may_ask(&database->side, &database->pass)) return SQLITE_BUSY;
  int code = database->original->xShmLock(database->file, WAL_WRITE_LOCK, 1, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE);
  if (code == SQLITE_OK) {
    gate_enter(&database->side, &database->pass);
    database->writing = 1;
    database->written = 0;
  } else if ((code & 0xff) == SQLITE_BUSY && gate_is_own(&database->side)) {
    return SQLITE_LOCKED_BY_ITSELF;
  }
  return code;
}

/* SQLite lets this lock wait for its busy timeout, which it would do by looking every millisecond. */
static int ask_until_timeout(database_file *database) {
  int64_t asked = platform_steady_clock_us(), waited = 0, timeout = (int64_t)database->lock_timeout_ms * 1000;
  int waits = database->waits;
  set_real_timeout(database, 0);
  database->waits = 1;
  int code = ask(database);
  while ((code & 0xff) == SQLITE_BUSY && waited < timeout) {
    gate_wait(&database->side, &database->pass, waited, timeout - waited);
    code = ask(database);
    waited = platform_steady_clock_us() - asked;
  }
  database->waits = waits;
  set_real_timeout(database, database->lock_timeout_ms);
  if ((code & 0xff) != SQLITE_BUSY || timeout < SHORTEST_TIMEOUT_US) return code;
  int closed = gate_is_closed(&database->side, &database->pass);
  gate_give_up(&database->side, &database->pass);
  return closed ? SQLITE_LOCKED_BY_LIMIT : SQLITE_LOCKED_TOO_LONG;
}

static int take_write_lock(database_file *database) {
  if (!database->keeps_side) (void)sidecar_renew(&database->side);
  return database->lock_timeout_ms > 0 ? ask_until_timeout(database) : ask(database);
}

static int give_write_lock_up(database_file *database) {
  if (database->wal != NULL) wal_file_forget(database->wal);
  database->writing = 0;
  int code =
      database->original->xShmLock(database->file, WAL_WRITE_LOCK, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
  int submitted = slots_waiting(&database->side, 1) != 0;
  if (gate_leave(&database->side, &database->pass, submitted) && !slots_call(&database->side)) gate_skip(&database->side);
  announcement_publish(&database->news, &database->side, database->written != 0);
  if (database->written > CHECKPOINT_BYTES) keeper_ask(&database->side, WISH_CHECKPOINT, 1);
  return code;
}

/* -- methods */

static int database_shm_lock(sqlite3_file *file, int offset, int count, int flags) {
  database_file *database = database_file_of(file);
  if (offset != WAL_WRITE_LOCK || count != 1 || !(flags & SQLITE_SHM_EXCLUSIVE))
    return database->original->xShmLock(file, offset, count, flags);
  return flags & SQLITE_SHM_LOCK ? take_write_lock(database) : give_write_lock_up(database);
}

/* The first call opens the index. */
static int database_shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **into) {
  ofd_locks_expect(OFD_WAL_INDEX);
  int code = database_file_of(file)->original->xShmMap(file, region, bytes, extend, into);
  ofd_locks_expect(OFD_NOTHING);
  return code;
}

static int database_file_control(sqlite3_file *file, int operation, void *argument) {
  database_file *database = database_file_of(file);
  if (operation == SQLITE_FCNTL_LOCK_TIMEOUT) database->lock_timeout_ms = *(int *)argument; /* then it takes the old */
  return database->original->xFileControl(file, operation, argument);
}

static int database_close(sqlite3_file *file) {
  database_file *database = database_file_of(file);
  sidecar_close(&database->side);
  return database->original->xClose(file);
}

/* -- opening */

static size_t default_bytes; /* of the default VFS's file structure; written once, as the VFS is registered */

size_t database_file_bytes(const sqlite3_vfs *real) {
  default_bytes = place_in(real->szOsFile);
  return default_bytes + sizeof(database_file);
}

database_file *database_file_of(sqlite3_file *file) {
  if (file == NULL || file->pMethods == NULL || file->pMethods->xShmLock != database_shm_lock) return NULL;
  return (database_file *)(void *)((char *)file + default_bytes);
}

database_file *database_file_of_connection(sqlite3 *connection) {
  sqlite3_file *file = NULL;
  if (sqlite3_file_control(connection, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK) return NULL;
  return database_file_of(file);
}

int database_file_sync(database_file *database) {
  return database->original->xSync(database->file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
}

const volatile uint32_t *database_file_change(database_file *database) {
  void volatile *index = NULL;
  enum { REGION_BYTES = 32768, CHANGE = 2 }; /* WalIndexHdr.iChange, "counter incremented each transaction" */
  if (database_shm_map(database->file, 0, REGION_BYTES, 0, &index) != SQLITE_OK || index == NULL) return NULL;
  return (const volatile uint32_t *)index + CHANGE;
}

int database_file_open(sqlite3_vfs *real, const char *name, sqlite3_file *file, int flags, int *out_flags) {
  database_file *database = (database_file *)(void *)((char *)file + default_bytes);
  memset(database, 0, sizeof *database);
  ofd_locks_expect(OFD_DATABASE);
  int code = real->xOpen(real, name, file, flags, out_flags);
  ofd_locks_expect(OFD_NOTHING);
  if (code != SQLITE_OK || file->pMethods == NULL || file->pMethods->iVersion < 2) return code;
  database->file = file;
  database->original = file->pMethods;
  database->methods = *file->pMethods;
  if (database->methods.iVersion > 3) database->methods.iVersion = 3;
  database->methods.xShmMap = database_shm_map;
  database->methods.xShmLock = database_shm_lock;
  database->methods.xFileControl = database_file_control;
  database->methods.xClose = database_close;
  database->pass.jitter = (uint32_t)(uintptr_t)file ^ (uint32_t)platform_steady_clock_us();
  file->pMethods = &database->methods;
  if (name != NULL) sidecar_open(&database->side, name);
  return code;
}
