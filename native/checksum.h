/* Tells what was written whole from half of it, from what is older, and from garbage. */
#ifndef PRISMQ_CHECKSUM_H
#define PRISMQ_CHECKSUM_H

#include <stdint.h>
#include <string.h>

static inline uint64_t checksum_step(uint64_t sum, uint64_t word) {
  return ((sum ^ sum >> 29) ^ word) * UINT64_C(0x9e3779b97f4a7c15);
}

/* Of numbers and a text, as `salt` names them; never 0. */
static inline uint64_t checksum(uint64_t salt, const int64_t *numbers, uint32_t numbers_count, const char *text,
                                uint32_t text_bytes) {
  uint64_t sum = checksum_step(checksum_step(0, salt), (uint64_t)numbers_count << 32 | text_bytes), word = 0;
  for (uint32_t i = 0; i < numbers_count; i++) sum = checksum_step(sum, (uint64_t)numbers[i]);
  for (uint32_t i = 0; i < text_bytes; i += sizeof word) {
    uint32_t left = text_bytes - i;
    word = 0;
    memcpy(&word, text + i, left < sizeof word ? left : sizeof word);
    sum = checksum_step(sum, word);
  }
  return (sum ^ sum >> 32) | 1;
}

#endif
