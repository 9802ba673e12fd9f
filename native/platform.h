/* What the operating system is asked for; one implementation a system. */
#ifndef PRISMQ_PLATFORM_H
#define PRISMQ_PLATFORM_H

#include <stdint.h>

/* Milliseconds since 1970-01-01 00:00:00 UTC, by the wall clock that all processes of the machine share. */
int64_t platform_wall_clock_ms(void);

/* Milliseconds by a clock that never jumps; only differences mean something. */
int64_t platform_steady_clock_ms(void);

/* Sleeps about that long; what the system can't time so finely takes longer. */
void platform_sleep_us(int64_t microseconds);

#endif
