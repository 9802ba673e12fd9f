/* What Linux and macOS have in common. */
#ifndef _WIN32

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "platform.h"

#ifndef F_OFD_SETLK /* in Apple's headers for some SDKs only */
#define F_OFD_SETLK 90
#define F_OFD_GETLK 92
#endif

static int64_t read_us(clockid_t clock) {
  struct timespec at = {0, 0};
  if (clock_gettime(clock, &at) != 0) return 0; /* fails only for a clock that does not exist; both are mandatory */
  return (int64_t)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

int64_t platform_wall_clock_ms(void) { return read_us(CLOCK_REALTIME) / 1000; }

int64_t platform_steady_clock_us(void) { return read_us(CLOCK_MONOTONIC); }

void platform_sleep_us(int64_t microseconds) {
  struct timespec rest = {(time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000};
  (void)nanosleep(&rest, NULL); /* a signal may cut it short: the caller looks at the clock anyway */
}

void platform_yield(void) { (void)sched_yield(); /* never fails on either */ }

/* Holes would be filled at the first access, where a full disk is a fatal signal. */
static int make_long(int file, size_t bytes) {
  struct stat now;
  if (fstat(file, &now) != 0) return 0;
  if (now.st_size >= (off_t)bytes) return 1;
#ifdef __APPLE__
  static const char zero[4096];
  for (off_t at = now.st_size; at < (off_t)bytes;) {
    size_t piece = (size_t)((off_t)bytes - at) < sizeof zero ? (size_t)((off_t)bytes - at) : sizeof zero;
    ssize_t written = pwrite(file, zero, piece, at);
    if (written <= 0) return 0;
    at += written;
  }
  return 1;
#else
  return posix_fallocate(file, 0, (off_t)bytes) == 0;
#endif
}

int platform_map(platform_region *region, const char *path, const char *like, size_t bytes) {
  struct stat model;
  if (stat(like, &model) != 0) return 0;
  int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0 && errno == ENOENT) {
    file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, model.st_mode & 0777);
    if (file >= 0) {
      /* Against the umask, and for a queue that belongs to somebody else than root who made this: where it is refused,
       * those who can't open it go without. */
      if (fchmod(file, model.st_mode & 0777) != 0) errno = 0;
      if (fchown(file, model.st_uid, model.st_gid) != 0) errno = 0;
    } else if (errno == EEXIST) {
      file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    }
  }
  if (file < 0) return 0;
  struct stat kind;
  void *memory = MAP_FAILED;
  if (fstat(file, &kind) == 0 && S_ISREG(kind.st_mode) && make_long(file, bytes))
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) {
    (void)close(file);
    return 0;
  }
  *region = (platform_region){.memory = memory, .bytes = bytes, .file = file, .identity = (uint64_t)kind.st_ino};
  return 1;
}

void platform_unmap(platform_region *region) {
  if (region->memory == NULL) return;
  (void)munmap(region->memory, region->bytes); /* fails only for what was never mapped */
  (void)close((int)region->file);              /* nothing is written through it */
  region->memory = NULL;
}

int platform_is_mapped(const platform_region *region, const char *path) {
  struct stat mapped, named;
  return fstat((int)region->file, &mapped) == 0 && stat(path, &named) == 0 && mapped.st_ino == named.st_ino &&
         mapped.st_dev == named.st_dev && mapped.st_size >= (off_t)region->bytes;
}

static struct flock one_byte(int64_t offset, short type) {
  struct flock lock = {0};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = (off_t)offset;
  lock.l_len = 1;
  return lock;
}

int platform_try_lock(const platform_region *region, int64_t offset) {
  struct flock lock = one_byte(offset, F_WRLCK);
  return fcntl((int)region->file, F_OFD_SETLK, &lock) == 0;
}

void platform_unlock(const platform_region *region, int64_t offset) {
  struct flock lock = one_byte(offset, F_UNLCK);
  (void)fcntl((int)region->file, F_OFD_SETLK, &lock); /* closing the file gives up what would stay */
}

int platform_is_locked(const platform_region *region, int64_t offset) {
  struct flock lock = one_byte(offset, F_WRLCK);
  return fcntl((int)region->file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

uint64_t platform_process(void) { return (uint64_t)getpid(); }

#else
typedef int prismq_not_posix; /* ISO C wants a declaration in every file */
#endif
