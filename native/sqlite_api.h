/* The part of SQLite's C interface that this module calls, without SQLite's headers.
 *
 * A loadable extension is handed a table of function pointers that only ever grows at its end, so a slot's number never
 * changes. Each line below names one slot; tests/native compares every number with the real sqlite3ext.h.
 */
#ifndef PRISMQ_SQLITE_API_H
#define PRISMQ_SQLITE_API_H

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;
typedef struct sqlite3_file sqlite3_file;
typedef struct sqlite3_vfs sqlite3_vfs;
typedef struct sqlite3_mutex sqlite3_mutex;
typedef struct sqlite3_io_methods sqlite3_io_methods;
typedef long long int sqlite3_int64; /* as in sqlite3.h: int64_t may be a long */
typedef unsigned long long int sqlite3_uint64;
typedef void (*sqlite3_slot)(void);

/* Written once, when SQLite loads the module; before that NULL. */
extern const sqlite3_slot *sqlite3_api;

#define SLOT(number, result, ...) ((result(*)(__VA_ARGS__))sqlite3_api[number])

#define sqlite3_bind_blob SLOT(2, int, sqlite3_stmt *, int, const void *, int, void (*)(void *))
#define sqlite3_bind_int64 SLOT(5, int, sqlite3_stmt *, int, sqlite3_int64)
#define sqlite3_bind_null SLOT(6, int, sqlite3_stmt *, int)
#define sqlite3_busy_handler SLOT(13, int, sqlite3 *, int (*)(void *, int), void *)
#define sqlite3_changes SLOT(15, int, sqlite3 *)
#define sqlite3_column_blob SLOT(19, const void *, sqlite3_stmt *, int)
#define sqlite3_column_bytes SLOT(20, int, sqlite3_stmt *, int)
#define sqlite3_column_int64 SLOT(29, sqlite3_int64, sqlite3_stmt *, int)
#define sqlite3_column_text SLOT(36, const unsigned char *, sqlite3_stmt *, int)
#define sqlite3_column_type SLOT(38, int, sqlite3_stmt *, int)
#define sqlite3_errmsg SLOT(53, const char *, sqlite3 *)
#define sqlite3_finalize SLOT(57, int, sqlite3_stmt *)
#define sqlite3_free SLOT(58, void, void *)
#define sqlite3_get_autocommit SLOT(60, int, sqlite3 *)
#define sqlite3_last_insert_rowid SLOT(65, sqlite3_int64, sqlite3 *)
#define sqlite3_libversion_number SLOT(67, int, void)
#define sqlite3_reset SLOT(77, int, sqlite3_stmt *)
#define sqlite3_step SLOT(94, int, sqlite3_stmt *)
#define sqlite3_errstr SLOT(183, const char *, int)
#define sqlite3_file_control SLOT(127, int, sqlite3 *, const char *, int, void *)
#define sqlite3_mutex_alloc SLOT(130, sqlite3_mutex *, int)
#define sqlite3_mutex_enter SLOT(131, void, sqlite3_mutex *)
#define sqlite3_mutex_leave SLOT(133, void, sqlite3_mutex *)
#define sqlite3_vfs_find SLOT(141, sqlite3_vfs *, const char *)
#define sqlite3_vfs_register SLOT(142, int, sqlite3_vfs *, int)
#define sqlite3_extended_errcode SLOT(166, int, sqlite3 *)
#define sqlite3_wal_hook SLOT(175, void *, sqlite3 *, int (*)(void *, sqlite3 *, const char *, int), void *)
#define sqlite3_wal_checkpoint_v2 SLOT(191, int, sqlite3 *, const char *, int, int *, int *)
#define sqlite3_bind_text64                                                                                            \
  SLOT(194, int, sqlite3_stmt *, int, const char *, sqlite3_uint64, void (*)(void *), unsigned char)
#define sqlite3_malloc64 SLOT(197, void *, sqlite3_uint64)
#define sqlite3_prepare_v3 SLOT(217, int, sqlite3 *, const char *, int, unsigned int, sqlite3_stmt **, const char **)
#define sqlite3_database_file_object SLOT(251, sqlite3_file *, const char *)

#define SQLITE_OK 0
#define SQLITE_ERROR 1
#define SQLITE_ABORT 4
#define SQLITE_ABORT_ROLLBACK 516
#define SQLITE_NOMEM 7
#define SQLITE_TOOBIG 18
#define SQLITE_CONSTRAINT 19
#define SQLITE_MISMATCH 20
#define SQLITE_MISUSE 21
#define SQLITE_ROW 100
#define SQLITE_DONE 101
#define SQLITE_OK_LOAD_PERMANENTLY 256
#define SQLITE_NULL 5
#define SQLITE_UTF8 1
#define SQLITE_STATIC ((void (*)(void *))0)
#define SQLITE_PREPARE_PERSISTENT 0x01
#define SQLITE_CHECKPOINT_PASSIVE 0
#define SQLITE_MUTEX_STATIC_APP1 8

#define SQLITE_BUSY 5
#define SQLITE_FCNTL_FILE_POINTER 7
#define SQLITE_FCNTL_LOCK_TIMEOUT 34
#define SQLITE_OPEN_MAIN_DB 0x00000100
#define SQLITE_OPEN_WAL 0x00080000
#define SQLITE_SHM_UNLOCK 1
#define SQLITE_SHM_LOCK 2
#define SQLITE_SHM_EXCLUSIVE 8
#define SQLITE_SYNC_NORMAL 0x00002
#define SQLITE_SYNC_DATAONLY 0x00010

struct sqlite3_file {
  const sqlite3_io_methods *pMethods;
};

struct sqlite3_io_methods {
  int iVersion;
  int (*xClose)(sqlite3_file *);
  int (*xRead)(sqlite3_file *, void *, int, sqlite3_int64);
  int (*xWrite)(sqlite3_file *, const void *, int, sqlite3_int64);
  int (*xTruncate)(sqlite3_file *, sqlite3_int64);
  int (*xSync)(sqlite3_file *, int);
  int (*xFileSize)(sqlite3_file *, sqlite3_int64 *);
  int (*xLock)(sqlite3_file *, int);
  int (*xUnlock)(sqlite3_file *, int);
  int (*xCheckReservedLock)(sqlite3_file *, int *);
  int (*xFileControl)(sqlite3_file *, int, void *);
  int (*xSectorSize)(sqlite3_file *);
  int (*xDeviceCharacteristics)(sqlite3_file *);
  /* version 2 */
  int (*xShmMap)(sqlite3_file *, int, int, int, void volatile **);
  int (*xShmLock)(sqlite3_file *, int, int, int);
  void (*xShmBarrier)(sqlite3_file *);
  int (*xShmUnmap)(sqlite3_file *, int);
  /* version 3 */
  int (*xFetch)(sqlite3_file *, sqlite3_int64, int, void **);
  int (*xUnfetch)(sqlite3_file *, sqlite3_int64, void *);
};

struct sqlite3_vfs {
  int iVersion;
  int szOsFile;
  int mxPathname;
  sqlite3_vfs *pNext;
  const char *zName;
  void *pAppData;
  int (*xOpen)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
  int (*xDelete)(sqlite3_vfs *, const char *, int);
  int (*xAccess)(sqlite3_vfs *, const char *, int, int *);
  int (*xFullPathname)(sqlite3_vfs *, const char *, int, char *);
  void *(*xDlOpen)(sqlite3_vfs *, const char *);
  void (*xDlError)(sqlite3_vfs *, int, char *);
  sqlite3_slot (*xDlSym)(sqlite3_vfs *, void *, const char *);
  void (*xDlClose)(sqlite3_vfs *, void *);
  int (*xRandomness)(sqlite3_vfs *, int, char *);
  int (*xSleep)(sqlite3_vfs *, int);
  int (*xCurrentTime)(sqlite3_vfs *, double *);
  int (*xGetLastError)(sqlite3_vfs *, int, char *);
  /* version 2 */
  int (*xCurrentTimeInt64)(sqlite3_vfs *, sqlite3_int64 *);
  /* version 3 */
  int (*xSetSystemCall)(sqlite3_vfs *, const char *, sqlite3_slot);
  sqlite3_slot (*xGetSystemCall)(sqlite3_vfs *, const char *);
  const char *(*xNextSystemCall)(sqlite3_vfs *, const char *);
};

#endif
