#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "platform.h"

int64_t platform_wall_clock_ms(void) {
  FILETIME at; /* 100 ns steps since 1601-01-01 */
  GetSystemTimePreciseAsFileTime(&at);
  int64_t steps = ((int64_t)at.dwHighDateTime << 32) | (int64_t)at.dwLowDateTime;
  return steps / 10000 - INT64_C(11644473600000);
}

int64_t platform_steady_clock_ms(void) { return (int64_t)GetTickCount64(); }

void platform_sleep_us(int64_t microseconds) { Sleep((DWORD)((microseconds + 999) / 1000)); }

#else
typedef int prismq_not_windows; /* ISO C wants a declaration in every file */
#endif
