/* Content that makes no sense: it may cost time, but nobody crashes, hangs, or is in the dark for good. */
#include "crew.h"

#include <stddef.h>

#include "keeper.h"
#include "places.h"
#include "prismq.h"
#include "writer.h"

enum { HELPERS = 2, SHORT_US = 50000, SLACK_US = 2 * SECOND_US };
enum { READY, STOP, WROTE, WORKED, KEPT }; /* words of the board */

/* -- every word, every value that may be a border */

static const uint64_t borders[] = {
    0,          1,          2,           3,           5,
    6,          255,        256,         257,         0x7fffffff,
    0x80000000, 0xffffffff, 0x100000000, INT64_MAX,   (uint64_t)INT64_MIN,
    UINT64_MAX, (uint64_t)INT64_MIN + 1, UINT64_MAX / 2 + 1000000, UINT64_MAX - 1000000};

enum { BORDERS = sizeof borders / sizeof *borders };

#ifndef _WIN32

/* All that anybody does with a sidecar, for a moment each. */
static void use_all(sidecar *view, writer *own, keeper *self) {
  uint64_t types[] = {1, 2, 3, 4, 5, 6, 7};
  ready_tasks ready = {3, 2, 0}, choosy = {3, 2, 1};
  take_end end = writer_take(own, 1000);
  EXPECT(end != BY_ITSELF);
  if (end == TAKEN) writer_give(own);
  (void)gate_rest_ordered_us(view, &own->pass);
  gate_order_rest(view, 0);
  for (int count = 0; count <= 7; count += 7) {
    int place = places_enter(view, types, count, 1);
    places_arm(view, place);
    places_call(&own->view, &ready);
    places_call(&own->view, &choosy);
    (void)places_sleep(view, place, NULL, 100);
    places_interrupt(view, place);
    (void)places_sleep(view, place, NULL, 100);
    (void)leave_place(view, place);
  }
  places_call_all(view);
  keeper_ask(view, WISH_LOOK, 1);
  keeper_note_due(view, 5, 10);
  (void)keeper_is_absent(view);
  (void)keeper_wait(self, view, NULL, 100);
  self->bury_at_us = 0;
  (void)keeper_wait(self, view, NULL, 100);
  keeper_forget_due(view);
}

#endif

/* Some words mean a time, and are dangerous near the present. */
static uint64_t hostile_value(uint32_t *state) {
  uint64_t random = (uint64_t)next_random(state) << 40 ^ (uint64_t)next_random(state) << 20 ^ next_random(state);
  switch (next_random(state) % 4) {
  case 0: return borders[random % BORDERS];
  case 1: return (uint64_t)now_us() + random % 100000;
  case 2: return (uint64_t)platform_wall_clock_ms() + random % 100;
  default: return random;
  }
}

#ifndef _WIN32

static void no_value_of_any_word_does_harm(void) {
  sidecar view;
  writer own;
  keeper self = {0};
  sidecar_open(&view, DATABASE);
  writer_open(&own);
  size_t head = sizeof *view.words - sizeof view.words->places + 2 * sizeof *view.words->places;
  for (size_t at = offsetof(sidecar_words, retired) + 4; at < head; at += 4)
    for (int i = 0; i < BORDERS; i += quick ? 7 : 2) {
      uint64_t value = borders[i];
      memcpy((char *)view.words + at, &value, at % 8 == 0 ? 8 : 4);
      use_all(&view, &own, &self);
    }
  keeper_resign(&self, &view);
  sidecar_close(&view);
  writer_close(&own);
}

#endif

/* Another version wipes the file when it opens it. */
static void who_waits_while_the_file_is_wiped_is_called_again(void) {
  sidecar view, caller;
  sidecar_open(&view, DATABASE);
  sidecar_open(&caller, DATABASE);
  int place = places_enter(&view, NULL, 0, 0);
  places_arm(&view, place);
  size_t format = sizeof view.words->format;
  memset((char *)view.words + format, 0, sizeof *view.words - format);
  EXPECT(places_sleep(&view, place, NULL, 20 * SECOND_US) == WAIT_WOKEN); /* it is to look once more */
  places_arm(&view, place);
  ready_tasks ready = {1, 1, 0};
  places_call(&caller, &ready);
  EXPECT(leave_place(&view, place));
  sidecar_close(&view);
  sidecar_close(&caller);
}

/* Its state says that a task lies on a desk, which only the first places have. */
static void a_place_without_a_desk_has_no_answer(void) {
  static desk_words answer;
  sidecar view;
  sidecar_open(&view, DATABASE);
  int place = -1;
  while (place < SIDECAR_PLACES - 1) place = places_enter(&view, NULL, 0, 0);
  for (uint64_t state = 0; state < 8; state++) {
    store64(&view.words->places[place].state, state);
    EXPECT(places_take_answer(&view, place, &answer) != LEFT_SERVED);
  }
  store64(&view.words->places[place].state, PLACE_SERVED);
  EXPECT(places_leave(&view, place, &answer) != LEFT_SERVED);
  sidecar_close(&view);
}

/* -- words that change between two looks at them */

static void *flicker(void *word) {
  uint32_t state = 5;
  while (!load32(&board->words[STOP])) {
    store32(word, next_random(&state) % 8);
    store32(word, UINT32_MAX - next_random(&state) % 8);
  }
  return NULL;
}

static void a_number_that_changes_while_it_is_read_does_no_harm(void) {
  sidecar view, caller, scribbler;
  sidecar_open(&view, DATABASE);
  sidecar_open(&caller, DATABASE);
  sidecar_open(&scribbler, DATABASE);
  ready_tasks ready = {UINT64_C(0x123456789), 1, 0};
  int place = places_enter(&view, NULL, 0, 0);
  volatile uint32_t *const words[] = {(volatile uint32_t *)&scribbler.words->places[place].type_count,
                                      &scribbler.words->places_used, &scribbler.words->next_place,
                                      (volatile uint32_t *)&scribbler.words->places[place].state};
  for (int i = 0; i < 4; i++) {
    store32(&board->words[STOP], 0);
    pthread_t thread = start_thread(flicker, (void *)(uintptr_t)words[i]);
    for (int64_t until = now_us() + (quick ? SECOND_US / 10 : SECOND_US / 2); now_us() < until;) {
      places_arm(&view, place);
      places_call(&caller, &ready);
      (void)places_bury(&caller);
    }
    store32(&board->words[STOP], 1);
    join_thread(thread);
  }
  sidecar_close(&view);
  sidecar_close(&caller);
  sidecar_close(&scribbler);
}

/* -- all at once */

static void scribble(int number) {
  platform_region region;
  uint32_t state = (uint32_t)number;
  EXPECT(platform_map(&region, SIDECAR, DATABASE, sizeof(sidecar_words)));
  store32(&board->words[READY], 1);
  while (!load32(&board->words[STOP])) {
    size_t at = next_random(&state) % (sizeof(sidecar_words) / 8);
    if (next_random(&state) % 2) at %= 32 + 8 * 8; /* most is in front */
    volatile uint64_t *word = (volatile uint64_t *)region.memory + at;
    store64(word, hostile_value(&state));
    if (next_random(&state) % 16 == 0) platform_sleep_us(next_random(&state) % 200);
  }
  platform_unmap(&region);
}

/* No longer than it was to take. */
static void expect_soon(int64_t began, int64_t timeout_us) {
  EXPECT(now_us() - began < timeout_us + patient_us(SLACK_US));
}

static void write_all_the_same(int number) {
  (void)number;
  while (!load32(&board->words[STOP])) {
    writer self;
    writer_open(&self);
    for (int i = 0; i < 100 && !load32(&board->words[STOP]); i++) {
      int64_t began = now_us();
      take_end end = writer_take(&self, SHORT_US);
      expect_soon(began, SHORT_US);
      EXPECT(end != BY_ITSELF);
      if (end != TAKEN) continue;
      (void)add32(&board->words[WROTE], 1);
      writer_give(&self);
    }
    writer_close(&self);
  }
}

static void work_all_the_same(int number) {
  uint32_t random = (uint32_t)number;
  while (!load32(&board->words[STOP])) {
    sidecar view, other;
    uint64_t types[7];
    for (int i = 0; i < 7; i++) types[i] = next_random(&random) % 8;
    sidecar_open(&view, DATABASE);
    sidecar_open(&other, DATABASE);
    EXPECT(view.words != NULL && other.words != NULL);
    int place = -1;
    for (int i = 0; i < 100 && !load32(&board->words[STOP]); i++) {
      int64_t began = now_us();
      if (sidecar_renew(&view)) place = -1;
      if (place < 0) place = places_enter(&view, types, next_random(&random) % 8, next_random(&random) % 2);
      EXPECT(place >= -1 && place < SIDECAR_PLACES);
      places_arm(&view, place);
      ready_tasks ready = {next_random(&random) % 8, next_random(&random) % 4, next_random(&random) % 2};
      places_call(&other, &ready);
      (void)places_sleep(&view, place, NULL, SHORT_US);
      expect_soon(began, SHORT_US);
      if (next_random(&random) % 2) {
        (void)leave_place(&view, place);
        place = -1;
      }
      (void)add32(&board->words[WORKED], 1);
    }
    (void)leave_place(&view, place);
    sidecar_close(&view);
    sidecar_close(&other);
  }
}

static void keep_all_the_same(int number) {
  uint32_t state = (uint32_t)number;
  while (!load32(&board->words[STOP])) {
    keeper self = {0};
    sidecar view;
    sidecar_open(&view, DATABASE);
    EXPECT(view.words != NULL);
    for (int i = 0; i < 100 && !load32(&board->words[STOP]); i++) {
      int64_t began = now_us();
      int events = keeper_wait(&self, &view, NULL, SHORT_US);
      expect_soon(began, SHORT_US);
      EXPECT((events & ~(KEEP_ELECTED | KEEP_LOOK | KEEP_CHECKPOINT | KEEP_DUE | KEEP_ORPHAN)) == 0);
      if (events & KEEP_DUE) keeper_forget_due(&view);
      if (next_random(&state) % 4 == 0) keeper_note_due(&view, platform_wall_clock_ms() + 5, platform_wall_clock_ms());
      if (next_random(&state) % 4 == 0) keeper_ask(&view, WISH_CHECKPOINT, 1);
      if (next_random(&state) % 4 == 0) gate_order_rest(&view, 100);
      (void)keeper_is_absent(&view);
      if (events) (void)add32(&board->words[KEPT], 1);
    }
    keeper_resign(&self, &view);
    sidecar_close(&view);
  }
}

/* After all that the file is as good as new. */
static void expect_recovery(void) {
  sidecar view, caller;
  keeper self = {0};
  writer own;
  sidecar_open(&view, DATABASE);
  sidecar_open(&caller, DATABASE);
  for (int renewed = 0; sidecar_renew(&view) || sidecar_renew(&caller);) EXPECT(++renewed < 3);
  for (int events = 1, times = 0; events != 0; times++) {
    EXPECT(times < 10);
    events = keeper_wait(&self, &view, NULL, 1000);
    if (events & KEEP_DUE) keeper_forget_due(&view);
  }
  EXPECT(self.leads);
  int place = places_enter(&view, NULL, 0, 0);
  places_arm(&view, place);
  ready_tasks ready = {1, 1, 0};
  places_call(&caller, &ready);
  EXPECT(place >= 0 && leave_place(&view, place));
  writer_open(&own);
  gate_order_rest(&own.view, 0);
  EXPECT(writer_take(&own, 10 * SECOND_US) == TAKEN);
  writer_give(&own);
  writer_close(&own);
  keeper_resign(&self, &view);
  sidecar_close(&view);
  sidecar_close(&caller);
}

static void a_scribbler_hurts_nobody_for_long(void) {
  int helpers[3 * HELPERS];
  sidecar view;
  sidecar_open(&view, DATABASE);
  int scribbler = start_process("scribble", 1);
  await(&board->words[READY], 1);
  for (int i = 0; i < HELPERS; i++) {
    helpers[3 * i] = start_process("hostile write", i);
    helpers[3 * i + 1] = start_process("hostile work", i);
    helpers[3 * i + 2] = start_process("hostile keep", i);
  }
  platform_sleep_us(patient_us(quick ? SECOND_US / 2 : 2 * SECOND_US));
  store32(&board->words[STOP], 1);
  for (int i = 0; i < 3 * HELPERS; i++) finish_process(helpers[i]);
  finish_process(scribbler);
  EXPECT(load32(&board->words[WROTE]) > 0 && load32(&board->words[WORKED]) > 0 && load32(&board->words[KEPT]) > 0);
  sidecar_close(&view);
  expect_recovery();
}

const test hostile_tests[] = {
#ifndef _WIN32 /* where the shortest sleep is so long that this would take minutes */
    {"no value of any word does harm", no_value_of_any_word_does_harm},
#endif
    {"who waits while the file is wiped is called again", who_waits_while_the_file_is_wiped_is_called_again},
    {"a place without a desk has no answer", a_place_without_a_desk_has_no_answer},
    {"a number that changes while it is read does no harm", a_number_that_changes_while_it_is_read_does_no_harm},
    {"a scribbler hurts nobody for long", a_scribbler_hurts_nobody_for_long},
    {NULL, NULL},
};

const role hostile_roles[] = {{"scribble", scribble},
                              {"hostile write", write_all_the_same},
                              {"hostile work", work_all_the_same},
                              {"hostile keep", keep_all_the_same},
                              {NULL, NULL}};
