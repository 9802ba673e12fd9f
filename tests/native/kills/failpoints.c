/* Where a process dies or stops, and a little disorder everywhere. */
#include "kills.h"

#include <signal.h>
#include <unistd.h>

#include "atomics.h"
#include "failpoint.h"

const char *const failpoint_names[FAILPOINTS + 1] = {"began",    "commits", "committed", "answered", "taken",  "executed", "undone",
                                                     "recorded", "packed",  "submitted", "settles",  "sleeps", "anywhere"};

void arm_failpoint(int failpoint, uint32_t nth, int stops) {
  store32(&board->countdown, nth);
  store32(&board->stops, (uint32_t)stops);
  store32(&board->armed, (uint32_t)failpoint + 1);
}

void disarm_failpoint(void) { store32(&board->armed, 0); }

void note_death(int failpoint) {
  uint32_t at = add32(&board->deaths_count, 1);
  EXPECT(at < MOST_KILLS);
  board->deaths[at] = (death){now_us(), failpoint};
}

static int number_of_failpoint(const char *name) {
  for (int i = 0; i < FAILPOINTS; i++)
    if (strcmp(name, failpoint_names[i]) == 0) return i;
  EXPECT(!"a failpoint that the test does not know");
  return -1;
}

/* Now and then somebody is slow, so that others come in between. */
static void be_slow_sometimes(void) {
  static THREAD_LOCAL unsigned random;
  if (random == 0) random = (unsigned)now_us() ^ (unsigned)getpid() << 8;
  if (next_random(&random) % 64 == 0) platform_sleep_us(next_random(&random) % 300);
}

void failpoint_reached(const char *name) {
  int failpoint = number_of_failpoint(name);
  __atomic_fetch_add(&board->reached[failpoint], 1, __ATOMIC_RELAXED);
  if (load32(&board->armed) == (uint32_t)failpoint + 1 && add32(&board->countdown, UINT32_MAX) == 1) {
    uint32_t stops = load32(&board->stops);
    disarm_failpoint();
    if (!stops) note_death(failpoint);
    (void)kill(getpid(), stops ? SIGSTOP : SIGKILL);
  }
  be_slow_sometimes();
}
