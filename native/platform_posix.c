#ifndef _WIN32

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <time.h>

#include "platform.h"

static int64_t read_ms(clockid_t clock) {
  struct timespec at = {0, 0};
  if (clock_gettime(clock, &at) != 0) return 0; /* fails only for a clock that does not exist; both are mandatory */
  return (int64_t)at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

int64_t platform_wall_clock_ms(void) { return read_ms(CLOCK_REALTIME); }

int64_t platform_steady_clock_ms(void) { return read_ms(CLOCK_MONOTONIC); }

void platform_sleep_us(int64_t microseconds) {
  struct timespec rest = {(time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000};
  (void)nanosleep(&rest, NULL); /* a signal may cut it short: the caller looks at the clock anyway */
}

#else
typedef int prismq_not_posix; /* ISO C wants a declaration in every file */
#endif
