/* A VFS that is SQLite's own but for one thing: the frames of a transaction reach the WAL in one write.
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
#include <string.h>

#include "sqlite_api.h"
#include "wal_vfs.h"

enum {
  FRAME_HEADER_BYTES = 24,
  SMALLEST_PAGE = 512,
  COMMIT_MARK_OFFSET = 4, /* bytes 4..7 of a frame header: the database's size after a commit, 0 in other frames */
  GATHER_BYTES = 64 * 1024,
  WAL_WRITE_LOCK = 0 /* its index among the locks of the WAL index */
};

typedef struct wal_file wal_file;

/* Follows the default VFS's own file structure in memory, so that its methods find what they expect at the front. */
typedef struct {
  const sqlite3_io_methods *original;
  sqlite3_io_methods methods;
  wal_file *wal;
  int writing; /* holds the WAL's write lock */
} database_tail;

struct wal_file {
  sqlite3_file base;
  sqlite3_file *real;      /* the default VFS's file, right behind this structure */
  database_tail *database; /* NULL when SQLite did not say which database the WAL is of */
  char *gathered;
  int length;
  sqlite3_int64 offset; /* of the first gathered byte in the file, or of the first one lost by a failure */
  sqlite3_int64 end;    /* where this transaction's next piece goes; 0 before its first */
  int page_next;        /* and whether that is a page or a frame header */
  int committing;       /* the last frame header is the commit frame's */
  int failure;          /* of writing gathered pieces, in this transaction */
};

typedef struct {
  sqlite3_vfs base;
  sqlite3_vfs *real;
} wal_vfs;

static wal_vfs the_vfs; /* written once, by wal_vfs_register */

static size_t aligned(int size) { return ((size_t)size + 15) & ~(size_t)15; }

static database_tail *tail_of(sqlite3_file *file) {
  return (database_tail *)(void *)((char *)file + aligned(the_vfs.real->szOsFile));
}

/* -- the WAL file ------------------------------------------------------------------------------------------------- */

static int flush(wal_file *wal) {
  if (wal->failure != SQLITE_OK || wal->length == 0) return wal->failure;
  wal->failure = wal->real->pMethods->xWrite(wal->real, wal->gathered, wal->length, wal->offset);
  wal->length = 0;
  return wal->failure;
}

static void forget_transaction(wal_file *wal) {
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

/* -- the database file, whose methods are the default VFS's but for an eye on the write lock ----------------------- */

static int database_shm_lock(sqlite3_file *file, int offset, int count, int flags) {
  database_tail *tail = tail_of(file);
  int of_writer = offset == WAL_WRITE_LOCK && (flags & SQLITE_SHM_EXCLUSIVE);
  if (of_writer && (flags & SQLITE_SHM_UNLOCK)) {
    tail->writing = 0;
    if (tail->wal != NULL) forget_transaction(tail->wal);
  }
  int code = tail->original->xShmLock(file, offset, count, flags);
  if (of_writer && (flags & SQLITE_SHM_LOCK) && code == SQLITE_OK) tail->writing = 1;
  return code;
}

static int open_database(sqlite3_vfs *real, const char *name, sqlite3_file *file, int flags, int *out_flags) {
  database_tail *tail = tail_of(file);
  memset(tail, 0, sizeof *tail);
  int code = real->xOpen(real, name, file, flags, out_flags);
  if (code != SQLITE_OK || file->pMethods == NULL || file->pMethods->iVersion < 2) return code;
  tail->original = file->pMethods;
  tail->methods = *file->pMethods;
  if (tail->methods.iVersion > 3) tail->methods.iVersion = 3;
  tail->methods.xShmLock = database_shm_lock;
  file->pMethods = &tail->methods;
  return code;
}

static int open_wal(sqlite3_vfs *real, const char *name, sqlite3_file *file, int flags, int *out_flags) {
  wal_file *wal = (wal_file *)file;
  memset(wal, 0, sizeof *wal);
  wal->real = (sqlite3_file *)(void *)((char *)file + aligned((int)sizeof *wal));
  int code = real->xOpen(real, name, wal->real, flags, out_flags);
  if (wal->real->pMethods == NULL) return code; /* then SQLite must not call xClose: ours stays NULL too */
  wal->base.pMethods = &wal_methods;
  sqlite3_file *database = name != NULL ? sqlite3_database_file_object(name) : NULL;
  if (database != NULL && database->pMethods != NULL && database->pMethods == &tail_of(database)->methods) {
    wal->database = tail_of(database);
    wal->database->wal = wal;
    wal->database->writing = 0; /* a lock of an earlier WAL index went with it */
  }
  return code;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags) {
  sqlite3_vfs *real = ((wal_vfs *)vfs)->real;
  if (flags & SQLITE_OPEN_WAL) return open_wal(real, name, file, flags, out_flags);
  if (flags & SQLITE_OPEN_MAIN_DB) return open_database(real, name, file, flags, out_flags);
  return real->xOpen(real, name, file, flags, out_flags);
}

static int register_once(void) {
  if (the_vfs.real != NULL) return SQLITE_OK;
  sqlite3_vfs *real = sqlite3_vfs_find(NULL);
  if (real == NULL) return SQLITE_ERROR;
  the_vfs.base = *real; /* every other method works on the copy: they use its pAppData at most */
  the_vfs.base.iVersion = real->iVersion < 3 ? real->iVersion : 3;
  the_vfs.base.pNext = NULL;
  the_vfs.base.zName = "prismq";
  the_vfs.base.xOpen = vfs_open;
  size_t behind_tail = aligned(real->szOsFile) + sizeof(database_tail);
  size_t behind_wal = aligned((int)sizeof(wal_file)) + (size_t)real->szOsFile;
  the_vfs.base.szOsFile = (int)(behind_tail > behind_wal ? behind_tail : behind_wal);
  the_vfs.real = real;
  int code = sqlite3_vfs_register(&the_vfs.base, 0);
  if (code != SQLITE_OK) the_vfs.real = NULL;
  return code;
}

/* Two threads may load the module at once. */
int wal_vfs_register(void) {
  sqlite3_mutex *mutex = sqlite3_mutex_alloc(SQLITE_MUTEX_STATIC_APP1);
  sqlite3_mutex_enter(mutex);
  int code = register_once();
  sqlite3_mutex_leave(mutex);
  return code;
}
