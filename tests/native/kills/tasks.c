/* Tasks of which everything follows from their number. */
#include "kills.h"

enum {
  SLOT_BYTES = 3520, /* of a request's texts in a slot: sidecar.h */
  AROUND = 150
};

unsigned next_random(unsigned *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

unsigned hash_of(uint32_t number) {
  unsigned state = number * 2654435761u;
  (void)next_random(&state);
  return next_random(&state);
}

int64_t now_us(void) { return platform_steady_clock_us(); }

task_traits traits_of(uint32_t number) {
  static const char *const types[] = {"video", "audio", "a type whose name is longer than what an error says", "x"};
  unsigned hash = hash_of(number);
  return (task_traits){types[hash % 4], hash % 10 == 3 ? "{\"gpu\":true}" : "{}", hash / 4 % 7, 1 + hash / 28 % 4};
}

/* Most are short; some just fit into a slot or just don't, a few fill pages. */
static int64_t filler_of(uint32_t number) {
  unsigned hash = hash_of(~number);
  if (hash % 200 == 0) return 4000 + hash / 200 % 80000;
  if (hash % 30 == 0) return SLOT_BYTES - AROUND + hash / 30 % AROUND;
  return hash % 60;
}

int64_t write_payload(uint32_t number, char into[LONGEST_PAYLOAD]) {
  int length = sprintf(into, "{\"n\":%u,\"filler\":\"", number);
  int64_t filler = filler_of(number);
  memset(into + length, 'a' + (int)(number % 26), (size_t)filler);
  return length + filler + sprintf(into + length + filler, "\"}");
}

uint32_t number_in(const char *payload) {
  unsigned number = 0;
  EXPECT(payload != NULL && sscanf(payload, "{\"n\":%u,", &number) == 1);
  return number;
}
