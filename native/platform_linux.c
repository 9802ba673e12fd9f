/* Waiting on Linux: futexes, which work on any memory that processes share. */
#ifdef __linux__

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform.h"

platform_wait_end platform_wait(const platform_region *region, volatile uint32_t *word, uint32_t seen,
                                int64_t timeout_us) {
  (void)region;
  if (timeout_us <= 0) return WAIT_TIMED_OUT;
  struct timespec longest = {(time_t)(timeout_us / 1000000), (long)(timeout_us % 1000000) * 1000};
  if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &longest, NULL, 0) == 0) return WAIT_WOKEN;
  if (errno == ETIMEDOUT) return WAIT_TIMED_OUT;
  return errno == EINTR ? WAIT_INTERRUPTED : WAIT_CHANGED;
}

int platform_wake(const platform_region *region, volatile uint32_t *word) {
  (void)region;
  return syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) > 0;
}

#else
typedef int prismq_not_linux; /* ISO C wants a declaration in every file */
#endif
