#include "faulty_vfs.h"

#include "check.h"

typedef struct {
  sqlite3_file base;
  int is_wal;
  sqlite3_file *real;
} faulty_file;

wal_faults faults;
static sqlite3_vfs the_vfs;
static sqlite3_vfs *real_vfs;

void arm(wal_call failing, long fail_at, int lasting, int code, int kept) {
  faults = (wal_faults){.failing = failing, .fail_at = fail_at, .lasting = lasting, .code = code, .kept = kept};
}

void disarm(void) { faults.fail_at = 0; }

static int fails(const faulty_file *file, wal_call call) {
  if (!file->is_wal) return 0;
  long nth = ++faults.calls[call];
  if (faults.fail_at == 0 || call != faults.failing) return 0;
  if (nth != faults.fail_at && !(faults.lasting && nth > faults.fail_at)) return 0;
  faults.failures++;
  return 1;
}

#define REAL(file) (((faulty_file *)(file))->real)
#define CALL(file, method) REAL(file)->pMethods->method

static int close_file(sqlite3_file *file) { return CALL(file, xClose)(REAL(file)); }

static int read_file(sqlite3_file *file, void *into, int amount, sqlite3_int64 offset) {
  if (fails((faulty_file *)file, WAL_READ)) return faults.code;
  return CALL(file, xRead)(REAL(file), into, amount, offset);
}

static int write_file(sqlite3_file *file, const void *from, int amount, sqlite3_int64 offset) {
  if (fails((faulty_file *)file, WAL_WRITE)) {
    int kept = (int)((sqlite3_int64)amount * faults.kept / 100);
    if (kept > 0) EXPECT(CALL(file, xWrite)(REAL(file), from, kept, offset) == SQLITE_OK);
    return faults.code;
  }
  if (((faulty_file *)file)->is_wal && amount > faults.largest_write) faults.largest_write = amount;
  return CALL(file, xWrite)(REAL(file), from, amount, offset);
}

static int truncate_file(sqlite3_file *file, sqlite3_int64 size) {
  return fails((faulty_file *)file, WAL_TRUNCATE) ? faults.code : CALL(file, xTruncate)(REAL(file), size);
}

static int sync_file(sqlite3_file *file, int flags) {
  (void)flags; /* the disk's part is not tested here, its time is saved */
  return fails((faulty_file *)file, WAL_SYNC) ? faults.code : SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size) {
  return fails((faulty_file *)file, WAL_SIZE) ? faults.code : CALL(file, xFileSize)(REAL(file), size);
}

static int lock(sqlite3_file *file, int level) { return CALL(file, xLock)(REAL(file), level); }

static int unlock(sqlite3_file *file, int level) { return CALL(file, xUnlock)(REAL(file), level); }

static int check_reserved_lock(sqlite3_file *file, int *result) {
  return CALL(file, xCheckReservedLock)(REAL(file), result);
}

static int file_control(sqlite3_file *file, int operation, void *argument) {
  return CALL(file, xFileControl)(REAL(file), operation, argument);
}

static int sector_size(sqlite3_file *file) { return CALL(file, xSectorSize)(REAL(file)); }

static int device_characteristics(sqlite3_file *file) { return CALL(file, xDeviceCharacteristics)(REAL(file)); }

static int shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **into) {
  return CALL(file, xShmMap)(REAL(file), region, size, extend, into);
}

static int shm_lock(sqlite3_file *file, int offset, int count, int flags) {
  return CALL(file, xShmLock)(REAL(file), offset, count, flags);
}

static void shm_barrier(sqlite3_file *file) { CALL(file, xShmBarrier)(REAL(file)); }

static int shm_unmap(sqlite3_file *file, int remove) { return CALL(file, xShmUnmap)(REAL(file), remove); }

static const sqlite3_io_methods faulty_methods = {
    .iVersion = 2, /* no memory mapping: every access is a call */
    .xClose = close_file,
    .xRead = read_file,
    .xWrite = write_file,
    .xTruncate = truncate_file,
    .xSync = sync_file,
    .xFileSize = file_size,
    .xLock = lock,
    .xUnlock = unlock,
    .xCheckReservedLock = check_reserved_lock,
    .xFileControl = file_control,
    .xSectorSize = sector_size,
    .xDeviceCharacteristics = device_characteristics,
    .xShmMap = shm_map,
    .xShmLock = shm_lock,
    .xShmBarrier = shm_barrier,
    .xShmUnmap = shm_unmap,
};

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags) {
  (void)vfs;
  faulty_file *opened = (faulty_file *)file;
  memset(opened, 0, sizeof *opened);
  opened->is_wal = (flags & SQLITE_OPEN_WAL) != 0;
  opened->real = (sqlite3_file *)(opened + 1);
  int code = real_vfs->xOpen(real_vfs, name, opened->real, flags, out_flags);
  if (opened->real->pMethods != NULL) opened->base.pMethods = &faulty_methods;
  return code;
}

void faulty_vfs_register(void) {
  real_vfs = sqlite3_vfs_find("unix");
  EXPECT(real_vfs != NULL);
  the_vfs = *real_vfs;
  the_vfs.zName = "faulty";
  the_vfs.xOpen = open_file;
  the_vfs.szOsFile = (int)sizeof(faulty_file) + real_vfs->szOsFile;
  EXPECT(sqlite3_vfs_register(&the_vfs, 1) == SQLITE_OK);
}
