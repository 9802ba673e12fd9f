/* The WAL's file, on which a transaction's frames arrive in one write.
 *
 * SQLite writes two pieces a frame (24 bytes of header, then the page), a system call each. Here the pieces of one
 * transaction are gathered and handed to the file together when its commit frame is complete, which is before SQLite
 * publishes the frames in the WAL index; the result of that one write is what SQLite sees as the result of its last.
 * The bytes in the file are the same, so other programs share the database as ever.
 *
 * The danger in gathering is a piece that outlives its transaction: written later, it would fall on a frame that
 * somebody else has committed meanwhile. So pieces are gathered only while the connection is seen to hold the WAL's
 * write lock, and whatever is left when it gives the lock up (a transaction rolled back after spilling pages) is thrown
 * away, as SQLite itself gave those frames up. In locking_mode=EXCLUSIVE SQLite leaves the write lock alone: then
 * nothing is gathered.
 *
 * The other danger is a write that fails after SQLite was told that the pieces are written. Then the transaction must
 * not commit: until the write lock is given up, everything that concerns those pieces fails as the write did.
 */
#include "wal_file.h"

#include <string.h>

#include "database_file.h"

enum {
  FRAME_HEADER_BYTES = 24,
  SMALLEST_PAGE = 512,
  COMMIT_MARK_OFFSET = 4, /* bytes 4..7 of a frame header: the database's size after a commit, 0 in other frames */
  GATHER_BYTES = 64 * 1024
};

static int flush(wal_file *wal) {
  if (wal->failure != SQLITE_OK || wal->length == 0) return wal->failure;
  wal->failure = wal->real->pMethods->xWrite(wal->real, wal->gathered, wal->length, wal->offset);
  wal->length = 0;
  return wal->failure;
}

void wal_file_forget(wal_file *wal) {
  wal->length = 0;
  wal->end = 0;
  wal->page_next = 0;
  wal->committing = 0;
  wal->failure = SQLITE_OK;
}

static int is_commit_header(const void *piece) {
  static const char none[4] = {0, 0, 0, 0};
  return memcmp((const char *)piece + COMMIT_MARK_OFFSET, none, sizeof none) != 0;
}

static int is_page_size(int amount) {
  return amount >= SMALLEST_PAGE && amount <= GATHER_BYTES && (amount & (amount - 1)) == 0;
}

/* A transaction begins with a frame header; then page and header take turns, each where the last one ended. Any other
 * piece is none of ours: the WAL's own header, what SQLite writes again in place, a piece that it splits to sync in
 * between (psow=0). */
static int may_gather(const wal_file *wal, int amount, sqlite3_int64 offset) {
  if (wal->database == NULL || !wal->database->writing) return 0;
  if (wal->end != 0 && offset != wal->end) return 0;
  return wal->page_next ? is_page_size(amount) : amount == FRAME_HEADER_BYTES;
}

static int write_through(wal_file *wal, const void *piece, int amount, sqlite3_int64 offset) {
  int code = flush(wal); /* bytes may be written twice: in the order of SQLite's calls */
  return code == SQLITE_OK ? wal->real->pMethods->xWrite(wal->real, piece, amount, offset) : code;
}

static int wal_write(sqlite3_file *file, const void *piece, int amount, sqlite3_int64 offset) {
  wal_file *wal = (wal_file *)file;
  if (wal->database != NULL) wal->database->written = offset + amount;
  if (!may_gather(wal, amount, offset)) return write_through(wal, piece, amount, offset);
  if (wal->gathered == NULL) wal->gathered = sqlite3_malloc64(GATHER_BYTES);
  if (wal->gathered == NULL) return write_through(wal, piece, amount, offset);
  if (wal->length + amount > GATHER_BYTES || wal->failure != SQLITE_OK) {
    int code = flush(wal);
    if (code != SQLITE_OK) return code;
  }
  if (wal->length == 0) wal->offset = offset;
  memcpy(wal->gathered + wal->length, piece, (size_t)amount);
  wal->length += amount;
  wal->end = offset + amount;
  if (!wal->page_next) wal->committing = is_commit_header(piece);
  wal->page_next = !wal->page_next;
  return wal->committing && !wal->page_next ? flush(wal) : SQLITE_OK;
}

static int wal_close(sqlite3_file *file) {
  wal_file *wal = (wal_file *)file;
  sqlite3_free(wal->gathered);
  wal->gathered = NULL;
  if (wal->database != NULL && wal->database->wal == wal) wal->database->wal = NULL;
  return wal->real->pMethods->xClose(wal->real);
}

static int wal_read(sqlite3_file *file, void *into, int amount, sqlite3_int64 offset) {
  wal_file *wal = (wal_file *)file;
  int code = offset + amount > wal->offset ? flush(wal) : SQLITE_OK;
  return code == SQLITE_OK ? wal->real->pMethods->xRead(wal->real, into, amount, offset) : code;
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size) {
  wal_file *wal = (wal_file *)file;
  int code = flush(wal);
  return code == SQLITE_OK ? wal->real->pMethods->xTruncate(wal->real, size) : code;
}

static int wal_sync(sqlite3_file *file, int flags) {
  wal_file *wal = (wal_file *)file;
  int code = flush(wal);
  return code == SQLITE_OK ? wal->real->pMethods->xSync(wal->real, flags) : code;
}

static int wal_file_size(sqlite3_file *file, sqlite3_int64 *size) {
  wal_file *wal = (wal_file *)file;
  int code = flush(wal);
  return code == SQLITE_OK ? wal->real->pMethods->xFileSize(wal->real, size) : code;
}

static int wal_lock(sqlite3_file *file, int level) {
  wal_file *wal = (wal_file *)file;
  return wal->real->pMethods->xLock(wal->real, level);
}

static int wal_unlock(sqlite3_file *file, int level) {
  wal_file *wal = (wal_file *)file;
  return wal->real->pMethods->xUnlock(wal->real, level);
}

static int wal_check_reserved_lock(sqlite3_file *file, int *result) {
  wal_file *wal = (wal_file *)file;
  return wal->real->pMethods->xCheckReservedLock(wal->real, result);
}

static int wal_file_control(sqlite3_file *file, int operation, void *argument) {
  wal_file *wal = (wal_file *)file;
  return wal->real->pMethods->xFileControl(wal->real, operation, argument);
}

static int wal_sector_size(sqlite3_file *file) {
  wal_file *wal = (wal_file *)file;
  return wal->real->pMethods->xSectorSize(wal->real);
}

static int wal_device_characteristics(sqlite3_file *file) {
  wal_file *wal = (wal_file *)file;
  return wal->real->pMethods->xDeviceCharacteristics(wal->real);
}

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1,
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_file_size,
    .xLock = wal_lock,
    .xUnlock = wal_unlock,
    .xCheckReservedLock = wal_check_reserved_lock,
    .xFileControl = wal_file_control,
    .xSectorSize = wal_sector_size,
    .xDeviceCharacteristics = wal_device_characteristics,
};

int wal_file_open(sqlite3_vfs *real, const char *name, sqlite3_file *file, int flags, int *out_flags) {
  wal_file *wal = (wal_file *)file;
  memset(wal, 0, sizeof *wal);
  wal->real = (sqlite3_file *)(void *)((char *)file + aligned(sizeof *wal));
  int code = real->xOpen(real, name, wal->real, flags, out_flags);
  if (wal->real->pMethods == NULL) return code; /* then SQLite must not call xClose: ours stays NULL too */
  wal->base.pMethods = &wal_methods;
  wal->database = name == NULL ? NULL : database_file_of(sqlite3_database_file_object(name));
  if (wal->database != NULL) {
    wal->database->wal = wal;
    wal->database->writing = 0; /* a lock of an earlier WAL index went with it */
  }
  return code;
}
