#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0602 /* Windows 8: GetSystemTimePreciseAsFileTime, WaitOnAddress */
#endif
#include <windows.h>

#include <stdio.h>

#include "platform.h"

int64_t platform_wall_clock_ms(void) {
  FILETIME at; /* 100 ns steps since 1601-01-01 */
  GetSystemTimePreciseAsFileTime(&at);
  int64_t steps = ((int64_t)at.dwHighDateTime << 32) | (int64_t)at.dwLowDateTime;
  return steps / 10000 - INT64_C(11644473600000);
}

int64_t platform_steady_clock_us(void) {
  LARGE_INTEGER ticks, per_second; /* neither call can fail since Windows XP */
  QueryPerformanceCounter(&ticks);
  QueryPerformanceFrequency(&per_second);
  return ticks.QuadPart / per_second.QuadPart * 1000000 +
         ticks.QuadPart % per_second.QuadPart * 1000000 / per_second.QuadPart;
}

static DWORD as_ms(int64_t microseconds) { return (DWORD)((microseconds + 999) / 1000); }

void platform_sleep_us(int64_t microseconds) { Sleep(as_ms(microseconds)); }

void platform_yield(void) { (void)SwitchToThread(); /* whether there was somebody is all the same */ }

/* SQLite's VFS hands out UTF-8. */
static int wide(const char *path, wchar_t *into, int capacity) {
  return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, into, capacity) > 0;
}

enum { LONGEST_PATH = 4096 };

/* The file's access rights are those that its folder hands down, as the database's are: `like` is not needed. */
int platform_map(platform_region *region, const char *path, const char *like, size_t bytes) {
  (void)like;
  wchar_t name[LONGEST_PATH];
  if (!wide(path, name, LONGEST_PATH)) return 0;
  HANDLE file = CreateFileW(name, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                            NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
  if (file == INVALID_HANDLE_VALUE) return 0;
  BY_HANDLE_FILE_INFORMATION facts;
  HANDLE mapping = NULL;
  void *memory = NULL;
  if (GetFileInformationByHandle(file, &facts)) /* a mapping longer than the file makes the file that long */
    mapping = CreateFileMappingW(file, NULL, PAGE_READWRITE, 0, (DWORD)bytes, NULL);
  if (mapping != NULL) memory = MapViewOfFile(mapping, FILE_MAP_ALL_ACCESS, 0, 0, bytes);
  if (memory == NULL) {
    if (mapping != NULL) CloseHandle(mapping);
    CloseHandle(file);
    return 0;
  }
  region->memory = memory;
  region->bytes = bytes;
  region->file = (intptr_t)file;
  region->mapping = (intptr_t)mapping;
  region->identity = ((uint64_t)facts.nFileIndexHigh << 32 | facts.nFileIndexLow) ^
                     (uint64_t)facts.dwVolumeSerialNumber << 32;
  return 1;
}

void platform_unmap(platform_region *region) {
  if (region->memory == NULL) return;
  UnmapViewOfFile(region->memory);
  CloseHandle((HANDLE)region->mapping);
  CloseHandle((HANDLE)region->file);
  region->memory = NULL;
}

/* A mapped file can't be deleted or replaced. */
int platform_is_mapped(const platform_region *region, const char *path) {
  (void)region;
  (void)path;
  return 1;
}

int platform_try_lock(const platform_region *region, int64_t offset) {
  OVERLAPPED at = {0};
  at.Offset = (DWORD)offset;
  return LockFileEx((HANDLE)region->file, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at) != 0;
}

void platform_unlock(const platform_region *region, int64_t offset) {
  OVERLAPPED at = {0};
  at.Offset = (DWORD)offset;
  (void)UnlockFileEx((HANDLE)region->file, 0, 1, 0, &at); /* closing the file gives up what would stay */
}

int platform_is_locked(const platform_region *region, int64_t offset) {
  if (!platform_try_lock(region, offset)) return 1;
  platform_unlock(region, offset);
  return 0;
}

/* Processes wait for a word at a semaphore that is named after the file and the word's place in it. It exists while
 * somebody waits, so the one who wakes learns whether there is anybody. In a session of its own a process finds others'
 * semaphores no more than they find its, and another user may not open them: there the timeouts remain. */
static int is_shared(const platform_region *region, volatile uint32_t *word) {
  uintptr_t at = (uintptr_t)word, start = (uintptr_t)region->memory;
  return region->memory != NULL && at >= start && at < start + region->bytes;
}

static void name_semaphore(const platform_region *region, volatile uint32_t *word, char into[64]) {
  unsigned long place = (unsigned long)((uintptr_t)word - (uintptr_t)region->memory);
  snprintf(into, 64, "Local\\prismq-%08lx%08lx-%lx", (unsigned long)(region->identity >> 32),
           (unsigned long)(region->identity & 0xffffffffu), place);
}

platform_wait_end platform_wait(const platform_region *region, volatile uint32_t *word, uint32_t seen,
                                int64_t timeout_us) {
  if (timeout_us <= 0) return WAIT_TIMED_OUT;
  if (!is_shared(region, word))
    return WaitOnAddress(word, &seen, sizeof seen, as_ms(timeout_us)) ? WAIT_WOKEN : WAIT_TIMED_OUT;
  char name[64];
  name_semaphore(region, word, name);
  HANDLE semaphore = CreateSemaphoreA(NULL, 0, 1, name);
  if (semaphore == NULL) {
    platform_sleep_us(timeout_us < 1000 ? timeout_us : 1000);
    return WAIT_CHANGED; /* may have */
  }
  platform_wait_end end = WAIT_CHANGED;
  if (*word == seen) /* from here on whoever changes it finds the semaphore */
    end = WaitForSingleObject(semaphore, as_ms(timeout_us)) == WAIT_OBJECT_0 ? WAIT_WOKEN : WAIT_TIMED_OUT;
  CloseHandle(semaphore);
  return end;
}

int platform_wake(const platform_region *region, volatile uint32_t *word) {
  if (!is_shared(region, word)) {
    WakeByAddressSingle((void *)(uintptr_t)word);
    return 1;
  }
  char name[64];
  name_semaphore(region, word, name);
  HANDLE semaphore = OpenSemaphoreA(SEMAPHORE_MODIFY_STATE, FALSE, name);
  if (semaphore == NULL) return 0;
  (void)ReleaseSemaphore(semaphore, 1, NULL); /* refused when it was released already and not yet seen */
  CloseHandle(semaphore);
  return 1;
}

uint64_t platform_process(void) { return (uint64_t)GetCurrentProcessId(); }

#else
typedef int prismq_not_windows; /* ISO C wants a declaration in every file */
#endif
