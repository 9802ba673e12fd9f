/* SQLite calls open, close and fcntl by a table that can be changed; here are the three that stand in for them.
 *
 * That table is one for the process, and so is what is kept here: which descriptors are of a queue's files. Those that
 * SQLite opens for somebody who doesn't use this library are handled as ever.
 *
 * SQLite takes a lock by one descriptor of a file and may give it up by another, as its locks are the process's. So
 * each file has one more descriptor, which has all the locks and is used for nothing else. Most of all it is never
 * mapped: a mapping keeps a file open, and its locks held, in each child that is forked.
 *
 * To close a descriptor takes from this process all the other kind of locks that it has on the file, which are the
 * other SQLite's. So a file's descriptors are closed when nobody has a lock on it, and kept until then: to be opened
 * again, or closed later.
 */
#ifdef __linux__

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64 /* so that struct flock is SQLite's */

#include "ofd_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "sqlite_api.h"

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

enum {
  DESCRIPTORS = 1 << 20, /* the most of a process, unless Linux is told otherwise; unused tables take no memory */
  FIRST_DESCRIPTOR = 3,  /* SQLite uses none of those that others may write to unseen */
  MOST_IDLE = 32,        /* files without users that are kept */
  CLOSED = -1,
  PENDING_BYTE = 0x40000000 /* its read lock is how SQLite begins to lock an unlocked database */
};

typedef struct known_file {
  dev_t device;
  ino_t inode;
  ofd_file what;
  _Atomic(int) lock;      /* the descriptor that has the locks; CLOSED: the structure is free */
  int users;              /* descriptors that SQLite has open */
  _Atomic(int) is_locked; /* a database: by `lock`. Used under SQLite's own mutex for the file */
  unsigned idle_since;    /* without users: a number that grows */
  struct known_file *next;
} known_file;

static int (*system_open)(const char *, int, int); /* these three are written once, by ofd_locks_install */
static int (*system_close)(int);
static int (*system_fcntl)(int, int, ...);

static THREAD_LOCAL ofd_file expected;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* for what follows, when it is changed */
static _Atomic(known_file *) file_of[DESCRIPTORS];        /* read without it by who has the descriptor open */
static unsigned char is_kept[DESCRIPTORS];                /* SQLite has closed it */
static int highest = -1;                                  /* descriptor that ever had a file there */
static known_file not_ours;                               /* in `file_of`: was looked up */
static _Atomic(known_file *) files;                       /* never freed: used again */

static void enter(void) { (void)pthread_mutex_lock(&mutex); /* neither fails for a mutex of this kind */ }
static void leave(void) { (void)pthread_mutex_unlock(&mutex); }

static known_file *look_up(int descriptor) {
  if (descriptor < 0 || descriptor >= DESCRIPTORS) return NULL;
  return atomic_load_explicit(&file_of[descriptor], memory_order_acquire);
}

static void write_down(int descriptor, known_file *file) {
  if (descriptor > highest) highest = descriptor;
  is_kept[descriptor] = 0;
  atomic_store_explicit(&file_of[descriptor], file, memory_order_release);
}

/* -- files */

static int is_of(int descriptor, const known_file *file) {
  struct stat facts;
  return fstat(descriptor, &facts) == 0 && facts.st_dev == file->device && facts.st_ino == file->inode;
}

static int lock_whole(const known_file *file, short type) {
  struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
  return system_fcntl(file->lock, F_OFD_SETLK, &whole) == 0;
}

/* A program that closes whatever is open, as daemons do, also closes what was kept: that is another file's by now. */
static void forget_file(known_file *file) {
  for (int descriptor = 0; descriptor <= highest; descriptor++)
    if (look_up(descriptor) == file) write_down(descriptor, NULL);
  file->lock = CLOSED;
  file->users = 0;
}

static known_file *file_with(const struct stat *facts) {
  for (known_file *file = atomic_load(&files); file != NULL; file = file->next) {
    if (file->lock == CLOSED || file->device != facts->st_dev || file->inode != facts->st_ino) continue;
    if (file->users > 0 || is_of(file->lock, file)) return file;
    forget_file(file);
  }
  return NULL;
}

/* Some systems that call themselves Linux, and some file systems, know no such locks: there the file stays SQLite's. */
static int can_lock(int descriptor) {
  struct flock any = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  return descriptor >= FIRST_DESCRIPTOR && system_fcntl(descriptor, F_OFD_GETLK, &any) == 0;
}

static known_file *new_file(const char *path, const struct stat *facts, ofd_file what) {
  known_file *file = atomic_load(&files);
  while (file != NULL && file->lock != CLOSED) file = file->next;
  if (file == NULL) {
    file = calloc(1, sizeof *file);
    if (file == NULL) return NULL;
    file->lock = CLOSED;
    file->next = atomic_load(&files);
    atomic_store(&files, file);
  }
  file->device = facts->st_dev;
  file->inode = facts->st_ino;
  file->what = what;
  file->users = 0;
  file->is_locked = 0;
  int lock = system_open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
  if (lock < 0) return NULL;
  if (!can_lock(lock) || !is_of(lock, file)) {
    (void)system_close(lock);
    return NULL;
  }
  file->lock = lock;
  for (int other = 0; other <= highest; other++) /* may be of this file: they are looked up again */
    if (look_up(other) == &not_ours) write_down(other, NULL);
  return file;
}

static void add_user(int descriptor, known_file *file) {
  file->users++;
  write_down(descriptor, file);
}

/* When the last one goes so do all locks; SQLite gives some up only by closing the file. */
static void remove_user(known_file *file) {
  static unsigned count;
  if (--file->users > 0) return;
  (void)lock_whole(file, F_UNLCK); /* what would stay is given up by closing `lock` */
  file->is_locked = 0;
  file->idle_since = ++count;
}

static void forget(int descriptor) {
  known_file *file = look_up(descriptor);
  int was_used = file != NULL && file != &not_ours && !is_kept[descriptor];
  write_down(descriptor, NULL);
  if (was_used) remove_user(file);
}

static void remember(int descriptor, const char *path, ofd_file what) {
  struct stat facts;
  if (descriptor < FIRST_DESCRIPTOR || descriptor >= DESCRIPTORS) return;
  if (look_up(descriptor) != NULL) forget(descriptor); /* was closed by somebody else than SQLite */
  if (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode)) return;
  known_file *file = file_with(&facts);
  if (file == NULL) file = new_file(path, &facts, what);
  if (file != NULL) add_user(descriptor, file);
}

/* A connection that was opened past this library may be to a queue's file: SQLite knows one set of locks for both. */
static known_file *find_out(int descriptor) {
  struct stat facts;
  if (descriptor < 0 || descriptor >= DESCRIPTORS || fstat(descriptor, &facts) != 0) return NULL;
  enter();
  known_file *file = look_up(descriptor);
  if (file == NULL) { /* else another thread was faster */
    file = file_with(&facts);
    if (file != NULL)
      add_user(descriptor, file);
    else
      write_down(descriptor, &not_ours);
  }
  leave();
  return file;
}

/* -- open and close */

static void close_idle(known_file *file) {
  for (int descriptor = 0; descriptor <= highest; descriptor++) {
    if (look_up(descriptor) != file) continue;
    write_down(descriptor, NULL);
    if (is_of(descriptor, file)) (void)system_close(descriptor); /* SQLite would only log a failure, too */
  }
  (void)system_close(file->lock);
  file->lock = CLOSED;
}

/* Who gets the whole file's lock knows that nobody has one, nor will before everything is closed. */
static void close_what_can_be(void) {
  int idle = 0;
  known_file *oldest = NULL;
  for (known_file *file = atomic_load(&files); file != NULL; file = file->next) {
    if (file->lock == CLOSED || file->users > 0) continue;
    if (!is_of(file->lock, file)) {
      forget_file(file);
    } else if (lock_whole(file, F_WRLCK)) {
      close_idle(file);
    } else {
      idle++;
      if (oldest == NULL || file->idle_since < oldest->idle_since) oldest = file;
    }
  }
  /* Then rather the other SQLite's locks on that one than every descriptor that the process may have. */
  if (idle > MOST_IDLE) close_idle(oldest);
}

/* A descriptor that was kept, if one is what opening would give; else CLOSED. */
static int reopen(const char *path, int flags) {
  struct stat facts;
  int access = (flags & O_ACCMODE) == O_RDONLY ? R_OK : R_OK | W_OK;
  if (flags & O_EXCL || lstat(path, &facts) != 0) return CLOSED;
  known_file *file = file_with(&facts);
  for (int descriptor = 0; file != NULL && descriptor <= highest; descriptor++) {
    if (look_up(descriptor) != file || !is_kept[descriptor] || !is_of(descriptor, file)) continue;
    int opened = system_fcntl(descriptor, F_GETFL, NULL);
    if (opened < 0 || (opened & O_ACCMODE) != (flags & O_ACCMODE)) continue;
    if (faccessat(AT_FDCWD, path, access, AT_EACCESS) != 0) return CLOSED;
    add_user(descriptor, file);
    return descriptor;
  }
  return CLOSED;
}

/* The mutex is held meanwhile, so that no child is forked with a descriptor that nobody knows of. */
static int open_file(const char *path, int flags, int mode) {
  if (expected == OFD_NOTHING) {
    int descriptor = system_open(path, flags, mode);
    if (look_up(descriptor) == NULL) return descriptor;
    enter();
    forget(descriptor); /* was closed by somebody else than SQLite */
    leave();
    return descriptor;
  }
  enter();
  int descriptor = reopen(path, flags);
  if (descriptor == CLOSED) {
    descriptor = system_open(path, flags, mode);
    int failure = errno;
    remember(descriptor, path, expected);
    errno = failure;
  }
  leave();
  return descriptor;
}

static int close_file(int descriptor) {
  known_file *file = look_up(descriptor);
  if (file == NULL) return system_close(descriptor);
  int code = 0;
  enter();
  if (file == &not_ours) {
    write_down(descriptor, NULL);
    code = system_close(descriptor);
  } else {
    is_kept[descriptor] = 1;
    remove_user(file);
    close_what_can_be();
  }
  leave();
  return code;
}

/* -- fcntl */

static int ofd_operation(int operation) {
  switch (operation) {
    case F_GETLK: return F_OFD_GETLK;
    case F_SETLK: return F_OFD_SETLK;
    case F_SETLKW: return F_OFD_SETLKW;
    default: return 0;
  }
}

static int is_whole(const struct flock *lock) { return lock->l_start == 0 && lock->l_len == 0; }

/* Locks that were taken as the process's, by a connection that was there before the file was known, are given up so. */
static int lock_database(known_file *file, int descriptor, int operation, struct flock *lock) {
  if (operation != F_GETLK && lock->l_type == F_RDLCK && lock->l_start == PENDING_BYTE) file->is_locked = 1;
  if (operation != F_GETLK && !file->is_locked) return system_fcntl(descriptor, operation, lock);
  int code = system_fcntl(file->lock, ofd_operation(operation), lock);
  if (code == 0 && operation != F_GETLK && lock->l_type == F_UNLCK && is_whole(lock)) file->is_locked = 0;
  return code;
}

static int lock_file(int descriptor, int operation, ...) {
  va_list rest;
  va_start(rest, operation);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  if (ofd_operation(operation) == 0) return system_fcntl(descriptor, operation, argument);
  known_file *file = look_up(descriptor);
  if (file == NULL && atomic_load_explicit(&files, memory_order_relaxed) != NULL) file = find_out(descriptor);
  if (file == NULL || file == &not_ours) return system_fcntl(descriptor, operation, argument);
  struct flock *lock = argument;
  lock->l_pid = 0;
  if (file->what == OFD_DATABASE) return lock_database(file, descriptor, operation, lock);
  return system_fcntl(file->lock, ofd_operation(operation), lock);
}

/* -- fork
 *
 * A child has its parent's open files: were the parent killed in a transaction its locks would stay for as long as the
 * child lives, and what the child unlocked the parent would lose. So the child closes them, and what SQLite has open
 * there is handled as ever. Only functions that are safe in a signal handler are called. */

static void cut_child_off(void) {
  for (int descriptor = 0; descriptor <= highest; descriptor++) {
    if (is_kept[descriptor] && is_of(descriptor, look_up(descriptor))) (void)close(descriptor);
    write_down(descriptor, NULL);
  }
  for (known_file *file = atomic_load(&files); file != NULL; file = file->next) {
    if (file->lock != CLOSED && is_of(file->lock, file)) (void)close(file->lock);
    file->lock = CLOSED;
    file->users = 0;
  }
  leave();
}

/* -- */

void ofd_locks_expect(ofd_file what) { expected = what; }

int ofd_locks_install(void) {
  if (system_fcntl != NULL) return SQLITE_OK;
  sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
  if (vfs == NULL || vfs->iVersion < 3) return SQLITE_OK; /* whatever SQLite this is, its locks stay as they are */
  sqlite3_slot opens = vfs->xGetSystemCall(vfs, "open");
  sqlite3_slot closes = vfs->xGetSystemCall(vfs, "close");
  sqlite3_slot locks = vfs->xGetSystemCall(vfs, "fcntl");
  if (opens == NULL || closes == NULL || locks == NULL) return SQLITE_OK;
  if (pthread_atfork(enter, leave, cut_child_off) != 0) return SQLITE_NOMEM;
  system_open = (int (*)(const char *, int, int))opens;
  system_close = (int (*)(int))closes;
  system_fcntl = (int (*)(int, int, ...))locks;
  /* No file is known before all three are in their place. */
  int code = vfs->xSetSystemCall(vfs, "fcntl", (sqlite3_slot)lock_file);
  if (code == SQLITE_OK) code = vfs->xSetSystemCall(vfs, "close", (sqlite3_slot)close_file);
  if (code == SQLITE_OK) code = vfs->xSetSystemCall(vfs, "open", (sqlite3_slot)open_file);
  return code;
}

#else
typedef int prismq_no_ofd_locks; /* ISO C wants a declaration in every file */
#endif
