/* A VFS that is SQLite's own but for two files, the database's, whose write lock is asked for in turn, and the WAL's;
 * and but for what its locks belong to (ofd_locks.h). */
#include "vfs.h"

#include <string.h>

#include "database_file.h"
#include "ofd_locks.h"
#include "wal_file.h"

typedef struct {
  sqlite3_vfs base;
  sqlite3_vfs *real;
} queue_vfs;

static queue_vfs the_vfs; /* written once, by vfs_register */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags) {
  sqlite3_vfs *real = ((queue_vfs *)vfs)->real;
  if (flags & SQLITE_OPEN_WAL) return wal_file_open(real, name, file, flags, out_flags);
  if (flags & SQLITE_OPEN_MAIN_DB) return database_file_open(real, name, file, flags, out_flags);
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
  size_t of_database = database_file_bytes(real), of_wal = aligned(sizeof(wal_file)) + (size_t)real->szOsFile;
  the_vfs.base.szOsFile = (int)(of_database > of_wal ? of_database : of_wal);
  the_vfs.real = real;
  int code = ofd_locks_install();
  if (code == SQLITE_OK) code = sqlite3_vfs_register(&the_vfs.base, 0);
  if (code != SQLITE_OK) the_vfs.real = NULL;
  return code;
}

/* Two threads may load the module at once. */
int vfs_register(void) {
  sqlite3_mutex *mutex = sqlite3_mutex_alloc(SQLITE_MUTEX_STATIC_APP1);
  sqlite3_mutex_enter(mutex);
  int code = register_once();
  sqlite3_mutex_leave(mutex);
  return code;
}
