/* How long the others waited for one who died. */
#include "kills.h"

#include "atomics.h"

typedef struct {
  int failpoint;
  int64_t waited_us;
} wait;

enum { MOST_WAITS = 1000000 };

static wait *waits;
static size_t waits_count;

static void add_wait(int failpoint, int64_t waited_us) {
  EXPECT(waits_count < MOST_WAITS);
  waits[waits_count++] = (wait){failpoint, waited_us};
}

static int by_wait(const void *one, const void *other) {
  const wait *a = one, *b = other;
  if (a->failpoint != b->failpoint) return a->failpoint - b->failpoint;
  return a->waited_us < b->waited_us ? -1 : a->waited_us > b->waited_us;
}

static uint32_t first_death_after(int64_t us) {
  uint32_t first = 0, end = board->deaths_count;
  while (first < end) {
    uint32_t middle = first + (end - first) / 2;
    if (board->deaths[middle].at_us <= us)
      first = middle + 1;
    else
      end = middle;
  }
  return first;
}

/* Every call that was under way when somebody died, and returned. */
static void collect_waits(void) {
  for (uint32_t i = 0; i < board->entries_count; i++) {
    const entry *call = &board->entries[i];
    if (call->state != ANSWERED || call->flags & ASLEEP || (call->operation == OP_ENQUEUE && call->first != i)) continue;
    for (uint32_t k = first_death_after(call->began_us); k < board->deaths_count; k++) {
      if (board->deaths[k].at_us >= call->ended_us) break;
      add_wait(board->deaths[k].failpoint, call->ended_us - board->deaths[k].at_us);
    }
  }
}

static double ms(const wait *sorted, size_t count, double share) {
  return count == 0 ? 0 : (double)sorted[(size_t)((double)(count - 1) * share)].waited_us / 1000;
}

static int deaths_at(int failpoint) {
  int count = 0;
  for (uint32_t i = 0; i < board->deaths_count; i++) count += board->deaths[i].failpoint == failpoint;
  return count;
}

static void print_waits(int failpoint, const wait *sorted, size_t count) {
  printf("%-10s %5d %9.0f %7zu %7.1f %7.1f %7.1f\n", failpoint_names[failpoint], deaths_at(failpoint),
         failpoint < FAILPOINTS ? (double)board->reached[failpoint] : 0.0, count, ms(sorted, count, 0.5),
         ms(sorted, count, 0.99), ms(sorted, count, 1));
}

/* Accidents befall those whose operations somebody else does, too. */
static void report_accidents(void) {
  int own = 0, others = 0;
  for (uint32_t i = 0; i < board->entries_count; i++) {
    const entry *call = &board->entries[i];
    if (call->state != ANSWERED || call->code == SQLITE_OK || call->flags & BROKEN) continue;
    *(call->flags & ACCIDENT ? &own : &others) += 1;
  }
  printf("%d calls failed by an accident in their own process, %d by one in another\n", own, others);
  /* Whoever takes others along and runs out of memory has them do theirs alone; only at the commit itself it hits all. */
  EXPECT(own > 0 && (others > 0 || running->accidents == OF_MEMORY));
}

void report(int64_t limit_us) {
  if (running->accidents != NONE_AT_ALL) report_accidents();
  EXPECT((waits = malloc(MOST_WAITS * sizeof *waits)) != NULL);
  collect_waits();
  if (waits_count > 0) qsort(waits, waits_count, sizeof *waits, by_wait);
  printf("%u calls, %u processes\n", board->entries_count, board->hired_count);
  printf("failpoint  kills   reached   calls  p50 ms  p99 ms  max ms\n");
  size_t first = 0;
  for (int failpoint = 0; failpoint <= FAILPOINTS; failpoint++) {
    size_t end = first;
    while (end < waits_count && waits[end].failpoint == failpoint) end++;
    print_waits(failpoint, waits + first, end - first);
    first = end;
  }
  for (size_t i = 0; i < waits_count; i++) waits[i].failpoint = 0;
  qsort(waits, waits_count, sizeof *waits, by_wait);
  printf("all of them %u calls under way: p50 %.1f ms, p99 %.1f ms, max %.1f ms\n", (unsigned)waits_count,
         ms(waits, waits_count, 0.5), ms(waits, waits_count, 0.99), ms(waits, waits_count, 1));
  if (limit_us > 0) EXPECT(ms(waits, waits_count, 0.99) * 1000 < (double)limit_us);
  free(waits);
}
