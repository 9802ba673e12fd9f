/* Waiting on macOS: its own kind of futex since 14.4, and short sleeps before that. */
#ifdef __APPLE__

#include <Availability.h>
#include <errno.h>

#include "platform.h"

#if defined(__MAC_14_4) && __MAC_OS_X_VERSION_MAX_ALLOWED >= __MAC_14_4
#include <os/clock.h>
#include <os/os_sync_wait_on_address.h>
#define HAS_WAIT_ON_ADDRESS 1
#endif

enum { POLL_US = 1000 };

static platform_wait_end poll_word(volatile uint32_t *word, uint32_t seen, int64_t timeout_us) {
  int64_t until = platform_steady_clock_us() + timeout_us;
  while (*word == seen) {
    int64_t left = until - platform_steady_clock_us();
    if (left <= 0) return WAIT_TIMED_OUT;
    platform_sleep_us(left < POLL_US ? left : POLL_US);
  }
  return WAIT_CHANGED;
}

platform_wait_end platform_wait(const platform_region *region, volatile uint32_t *word, uint32_t seen,
                                int64_t timeout_us) {
  (void)region;
  if (timeout_us <= 0) return WAIT_TIMED_OUT;
#ifdef HAS_WAIT_ON_ADDRESS
  if (__builtin_available(macOS 14.4, *)) {
    int left = os_sync_wait_on_address_with_timeout((void *)(uintptr_t)word, seen, sizeof *word,
                                                    OS_SYNC_WAIT_ON_ADDRESS_SHARED, OS_CLOCK_MACH_ABSOLUTE_TIME,
                                                    (uint64_t)timeout_us * 1000);
    if (left >= 0) return WAIT_WOKEN;
    if (errno == ETIMEDOUT) return WAIT_TIMED_OUT;
    return errno == EINTR ? WAIT_INTERRUPTED : WAIT_CHANGED;
  }
#endif
  return poll_word(word, seen, timeout_us);
}

int platform_wake(const platform_region *region, volatile uint32_t *word) {
  (void)region;
#ifdef HAS_WAIT_ON_ADDRESS
  if (__builtin_available(macOS 14.4, *))
    return os_sync_wake_by_address_any((void *)(uintptr_t)word, sizeof *word, OS_SYNC_WAKE_BY_ADDRESS_SHARED) == 0;
#endif
  (void)word;
  return 0; /* whoever polls sees the change, some time: nobody's turn is to be kept for that long */
}

#else
typedef int prismq_not_macos; /* ISO C wants a declaration in every file */
#endif
