/* What the operating system is asked for: one small file a system (Linux, macOS, Windows), and one for what Linux and
 * macOS have in common. */
#ifndef PRISMQ_PLATFORM_H
#define PRISMQ_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

/* -- time */

/* Milliseconds since 1970-01-01 00:00:00 UTC, by the wall clock that all processes of the machine share. */
int64_t platform_wall_clock_ms(void);

/* Microseconds by a clock that never jumps and is the same in all processes; only differences mean something. */
int64_t platform_steady_clock_us(void);

/* Sleeps about that long; what the system can't time so finely takes longer. */
void platform_sleep_us(int64_t microseconds);

/* Lets others run who wait for this processor. */
void platform_yield(void);

/* -- a file whose content processes share as memory, and whose bytes they can lock
 *
 * A lock belongs to the opened file, not to the process, and is given back by the kernel when its process dies. */

typedef struct {
  void *memory;
  size_t bytes;
  intptr_t file;    /* descriptor or HANDLE */
  intptr_t mapping; /* HANDLE, on Windows */
  uint64_t identity; /* of the file, where names of kernel objects are made of it */
} platform_region;

/* Opens `path`, creating it with the access rights of the file `like`, makes it at least `bytes` long and maps it.
 * Whether that worked. The space is really there: no access to the memory can fail for a full disk. */
int platform_map(platform_region *region, const char *path, const char *like, size_t bytes);
void platform_unmap(platform_region *region);

/* Whether `path` still names the mapped file. */
int platform_is_mapped(const platform_region *region, const char *path);

/* Whether the byte at `offset` is locked now, by this opened file. Never waits. */
int platform_try_lock(const platform_region *region, int64_t offset);
void platform_unlock(const platform_region *region, int64_t offset);

/* Whether some other opened file has it locked. */
int platform_is_locked(const platform_region *region, int64_t offset);

/* -- waiting for a word to change */

typedef enum { WAIT_WOKEN, WAIT_CHANGED, WAIT_TIMED_OUT, WAIT_INTERRUPTED } platform_wait_end;

/* Sleeps until woken, while the word holds `seen`. The word is in the region, or in this process's own memory. A wake-up
 * may come for no reason; after WAIT_INTERRUPTED a signal wants to be handled. */
platform_wait_end platform_wait(const platform_region *region, volatile uint32_t *word, uint32_t seen,
                                int64_t timeout_us);

/* Wakes one who waits for the word, which was changed before. How many were there, 0 or 1; 0 also where nobody sleeps, but
 * looks again and again. */
int platform_wake(const platform_region *region, volatile uint32_t *word);

/* -- who */

uint64_t platform_process(void);

#endif
