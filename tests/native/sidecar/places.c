/* places.h: who is woken for what, and that nobody is forgotten. */
#include "crew.h"

#include "places.h"

enum { TYPES = 12, CROWD = 8, WORKERS = 3, PRODUCERS = 2 };
enum { READY, GO, STOP, WOKEN, TASKS, ADDED, DONE, ROUND, PRODUCED, STOPPED }; /* words of the board */

static uint64_t type_named(const char *name) { return places_type_hash(name, (int64_t)strlen(name)); }

static void call(sidecar *view, uint64_t type, int64_t count) {
  ready_tasks ready = {type, count, 0};
  places_call(view, &ready);
}

static void call_choosy(sidecar *view, uint64_t type, int64_t count) {
  ready_tasks ready = {type, count, 1};
  places_call(view, &ready);
}

static int arm(sidecar *view, const uint64_t *types, int64_t count, int offers) {
  int place = places_enter(view, types, count, offers);
  EXPECT(place >= 0);
  places_arm(view, place);
  return place;
}

static platform_wait_end sleep_long(sidecar *view, int place) {
  platform_wait_end end;
  do end = places_sleep(view, place, 60 * SECOND_US);
  while (end == WAIT_CHANGED || end == WAIT_INTERRUPTED);
  return end;
}

/* -- who fits */

static void a_hash_is_the_one_of_the_standard(void) {
  EXPECT(places_type_hash("", 0) == UINT64_C(0xcbf29ce484222325)); /* FNV's own test vectors */
  EXPECT(places_type_hash("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
  EXPECT(places_type_hash("foobar", 6) == UINT64_C(0x85944171f73967e8));
  EXPECT(places_type_hash("foobar\0", 7) != places_type_hash("foobar", 6));
}

static void a_place_is_called_for_its_types_only(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  const uint64_t types[] = {type_named("a"), type_named("b"), type_named("c"), type_named("d"), type_named("e")};
  for (int count = 1; count <= PLACE_TYPES; count++) {
    int place = arm(&view, types, count, 0);
    call(&caller, type_named("other"), 3);
    for (int i = count; i < PLACE_TYPES; i++) call(&caller, types[i], 3);
    EXPECT(!places_leave(&view, place));
    for (int i = 0; i < count; i++) {
      place = arm(&view, types, count, 0);
      call(&caller, types[i], 1);
      EXPECT(places_leave(&view, place));
    }
  }
  int place = arm(&view, NULL, 0, 0); /* for tasks of any type */
  call(&caller, type_named("other"), 1);
  EXPECT(places_leave(&view, place));
  view_close(&caller);
  view_close(&view);
}

/* A place has no room for so many: it is called for each of them, for few others, and never instead of somebody. */
static void a_place_of_many_types_is_called_for_all_of_them(void) {
  sidecar caller, view, other;
  view_open(&caller);
  view_open(&view);
  view_open(&other);
  uint64_t types[TYPES];
  char name[32];
  for (int i = 0; i < TYPES; i++) {
    snprintf(name, sizeof name, "type %d", i);
    types[i] = type_named(name);
  }
  for (int count = PLACE_TYPES + 1; count <= TYPES; count++)
    for (int i = 0; i < count; i++) {
      int place = arm(&view, types, count, 0);
      call(&caller, types[i], 1);
      EXPECT(places_leave(&view, place));
      place = arm(&view, types, count, 0);
      int exact = arm(&other, &types[i], 1, 0);
      call(&caller, types[i], 1);
      EXPECT(places_leave(&other, exact));
      (void)places_leave(&view, place);
    }
  int called = 0;
  for (int i = 0; i < 200; i++) {
    int place = arm(&view, types, PLACE_TYPES + 1, 0);
    snprintf(name, sizeof name, "other %d", i);
    call(&caller, type_named(name), 1);
    called += places_leave(&view, place);
  }
  EXPECT(called < 100);
  view_close(&caller);
  view_close(&view);
  view_close(&other);
}

static void a_choosy_task_calls_all_who_offer_something(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  uint64_t type = type_named("a"), other = type_named("b");
  int plain = arm(&view, &type, 1, 0), offering[] = {arm(&view, &type, 1, 1), arm(&view, NULL, 0, 1)};
  int elsewhere = arm(&view, &other, 1, 1);
  call_choosy(&caller, type, 1);
  EXPECT(!places_leave(&view, plain) && !places_leave(&view, elsewhere));
  EXPECT(places_leave(&view, offering[0]) && places_leave(&view, offering[1]));
  offering[0] = arm(&view, &type, 1, 1); /* who offers something takes what needs nothing too */
  call(&caller, type, 1);
  EXPECT(places_leave(&view, offering[0]));
  view_close(&caller);
  view_close(&view);
}

/* -- how many are woken */

static int called_places(sidecar *view, const int *places, int count) {
  int called = 0;
  for (int i = 0; i < count; i++) called += places_leave(view, places[i]);
  return called;
}

static void as_many_are_called_as_there_are_tasks(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  uint64_t type = type_named("a");
  int places[CROWD];
  for (int64_t tasks = 0; tasks <= CROWD + 2; tasks++) {
    for (int i = 0; i < CROWD; i++) places[i] = arm(&view, &type, 1, 0);
    call(&caller, type, tasks);
    EXPECT(called_places(&view, places, CROWD) == (tasks < CROWD ? tasks : CROWD));
  }
  for (int i = 0; i < CROWD; i++) places[i] = arm(&view, &type, 1, 0);
  places_call_all(&caller);
  EXPECT(called_places(&view, places, CROWD) == CROWD);
  view_close(&caller);
  view_close(&view);
}

static void the_work_goes_round(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  int places[CROWD], calls[CROWD] = {0};
  for (int i = 0; i < CROWD; i++) places[i] = arm(&view, NULL, 0, 0);
  for (int round = 0; round < 3 * CROWD; round++) {
    call(&caller, 1, 1);
    for (int i = 0; i < CROWD; i++) {
      if (!places_leave(&view, places[i])) {
        places[i] = arm(&view, NULL, 0, 0);
        continue;
      }
      calls[i]++;
      places[i] = arm(&view, NULL, 0, 0);
    }
  }
  for (int i = 0; i < CROWD; i++) EXPECT(calls[i] == 3);
  view_close(&caller);
  view_close(&view);
}

static void it_is_known_whether_anybody_waits(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  EXPECT(!places_are_waiting(&caller));
  uint64_t type = type_named("a");
  int place = arm(&view, &type, 1, 0);
  call(&caller, type_named("b"), 1);
  EXPECT(places_are_waiting(&caller));
  call(&caller, type, 1);
  EXPECT(places_leave(&view, place));
  call(&caller, type, 1); /* finds nobody */
  EXPECT(!places_are_waiting(&caller));
  place = arm(&view, &type, 1, 0);
  EXPECT(places_are_waiting(&caller));
  view_close(&caller);
  view_close(&view);
}

/* -- sleep */

static sidecar views[CROWD];
static int crowd_places[CROWD];

static void *sleep_in_the_crowd(void *view) {
  int own = (int)((sidecar *)view - views);
  (void)add32(&board->words[READY], 1);
  EXPECT(sleep_long(&views[own], crowd_places[own]) == WAIT_WOKEN);
  (void)add32(&board->words[WOKEN], 1);
  return NULL;
}

static void a_burst_wakes_as_many_sleepers(void) {
  pthread_t threads[CROWD];
  sidecar caller;
  view_open(&caller);
  for (int i = 0; i < CROWD; i++) {
    view_open(&views[i]);
    crowd_places[i] = arm(&views[i], NULL, 0, 0);
    threads[i] = start_thread(sleep_in_the_crowd, &views[i]);
  }
  await(&board->words[READY], CROWD);
  for (uint32_t called = 1; called < CROWD; called += 2) {
    if (called % 4 == 1) platform_sleep_us(2000);
    call(&caller, 1, called == 1 ? 1 : 2);
    await(&board->words[WOKEN], called);
    platform_sleep_us(5000);
    EXPECT(load32(&board->words[WOKEN]) == called);
  }
  places_call_all(&caller);
  for (int i = 0; i < CROWD; i++) {
    join_thread(threads[i]);
    EXPECT(places_leave(&views[i], crowd_places[i]));
    view_close(&views[i]);
  }
  view_close(&caller);
}

static void a_call_before_the_sleep_is_not_lost(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  int64_t began = now_us();
  for (int i = 0; i < 100; i++) {
    int place = arm(&view, NULL, 0, 0);
    call(&caller, 1, 1);
    EXPECT(places_sleep(&view, place, 60 * SECOND_US) == WAIT_WOKEN);
    if (i % 2) places_arm(&view, place); /* it has looked again: from now on another call counts */
    EXPECT(places_leave(&view, place) == !(i % 2));
  }
  EXPECT(now_us() - began < 30 * SECOND_US);
  int place = arm(&view, NULL, 0, 0);
  EXPECT(places_sleep(&view, place, 20000) == WAIT_TIMED_OUT && places_sleep(&view, place, 0) == WAIT_TIMED_OUT);
  EXPECT(!places_leave(&view, place));
  view_close(&caller);
  view_close(&view);
}

static void a_sleep_can_be_interrupted(void) {
  sidecar caller;
  view_open(&caller);
  view_open(&views[0]);
  int64_t began = now_us();
  for (int i = 0; i < (quick ? 5 : 50); i++) {
    store32(&board->words[READY], 0);
    crowd_places[0] = arm(&views[0], NULL, 0, 0);
    pthread_t sleeper = start_thread(sleep_in_the_crowd, &views[0]);
    await(&board->words[READY], 1);
    if (i % 2) platform_sleep_us(2000);
    places_interrupt(&views[0], crowd_places[0]);
    join_thread(sleeper);
    EXPECT(!places_leave(&views[0], crowd_places[0]));
  }
  EXPECT(now_us() - began < 30 * SECOND_US);
  view_close(&caller);
  view_close(&views[0]);
}

/* -- workers who come and go while others are called */

static void *come_and_go(void *view) {
  uint64_t types[] = {1, 2, 3, 4, 5, 6, 7};
  int own = (int)((sidecar *)view - views);
  uint32_t state = (uint32_t)own, calls = 0;
  while (!load32(&board->words[STOP])) {
    int place = arm(view, types, next_random(&state) % 8, next_random(&state) % 2);
    if (next_random(&state) % 2) (void)places_sleep(view, place, 200);
    calls += (uint32_t)places_leave(view, place);
  }
  (void)add32(&board->words[WOKEN], calls);
  return NULL;
}

static void workers_come_and_go_while_others_are_called(void) {
  pthread_t threads[3];
  sidecar caller;
  view_open(&caller);
  for (int i = 0; i < 3; i++) {
    view_open(&views[i]);
    threads[i] = start_thread(come_and_go, &views[i]);
  }
  for (int64_t until = now_us() + SECOND_US / 5; now_us() < until;) {
    call(&caller, 3, 2);
    call_choosy(&caller, 4, 2);
    (void)places_bury(&caller);
  }
  store32(&board->words[STOP], 1);
  for (int i = 0; i < 3; i++) {
    join_thread(threads[i]);
    view_close(&views[i]);
  }
  EXPECT(load32(&board->words[WOKEN]) > 0);
  EXPECT(!places_bury(&caller));
  for (int i = 0; i < 3; i++) EXPECT(load32(&caller.words->places[i].state) == 0);
  view_close(&caller);
}

/* -- all places taken */

static void all_places_can_be_taken(void) {
  sidecar view, other;
  view_open(&view);
  view_open(&other);
  static int numbers[SIDECAR_PLACES];
  static char taken[SIDECAR_PLACES];
  for (int i = 0; i < SIDECAR_PLACES; i++) {
    numbers[i] = arm(i % 2 ? &view : &other, NULL, 0, 0);
    EXPECT(numbers[i] < SIDECAR_PLACES && !taken[numbers[i]]);
    taken[numbers[i]] = 1;
  }
  EXPECT(places_enter(&view, NULL, 0, 0) == -1 && places_enter(&other, NULL, 0, 0) == -1);
  places_arm(&view, -1);
  EXPECT(places_sleep(&view, -1, SECOND_US) == WAIT_CHANGED);
  places_interrupt(&view, -1);
  EXPECT(!places_leave(&view, -1));
  EXPECT(!places_leave(&view, numbers[101]));
  EXPECT(places_enter(&other, NULL, 0, 0) == numbers[101] && places_enter(&view, NULL, 0, 0) == -1);
  EXPECT(!places_leave(&other, numbers[101]));
  sidecar caller;
  view_open(&caller);
  call(&caller, 1, SIDECAR_PLACES);
  for (int i = 0; i < SIDECAR_PLACES; i++)
    EXPECT(places_leave(i % 2 ? &view : &other, numbers[i]) == (i != 101));
  view_close(&caller);
  view_close(&view);
  view_close(&other);
}

/* -- the dead */

static void sleep_in_a_process(int number) {
  sidecar view;
  view_open(&view);
  int place = arm(&view, NULL, 0, 0);
  EXPECT(place == number);
  store32(&board->words[READY], 1);
  (void)sleep_long(&view, place);
  store32(&board->words[WOKEN], 1);
  await(&board->words[GO], 1);
}

static int start_sleeper(int place) {
  store32(&board->words[READY], 0);
  int sleeper = start_process("sleep at place", place);
  await(&board->words[READY], 1);
  platform_sleep_us(patient_us(2000));
  return sleeper;
}

static void another_process_can_be_woken(void) {
  sidecar caller;
  view_open(&caller);
  int sleeper = start_sleeper(0);
  call(&caller, 1, 1);
  await(&board->words[WOKEN], 1);
  store32(&board->words[GO], 1);
  finish_process(sleeper);
  view_close(&caller);
}

static void a_killed_sleeper_is_passed_over(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  kill_process(start_sleeper(0));
  int place = arm(&view, NULL, 0, 0);
  EXPECT(place == 1); /* nobody knows yet */
  call(&caller, 1, 1);
  EXPECT(load32(&caller.words->places[0].state) == 0);
  EXPECT(places_leave(&view, place));
  EXPECT(arm(&view, NULL, 0, 0) == 0);
  view_close(&caller);
  view_close(&view);
}

static void the_dead_are_buried(void) {
  sidecar caller, view;
  view_open(&caller);
  view_open(&view);
  kill_process(start_sleeper(0));
  EXPECT(!places_bury(&caller)); /* nobody called it */
  EXPECT(load32(&caller.words->places[0].state) == 0);

  int sleeper = start_sleeper(0), place = arm(&view, NULL, 0, 0);
  EXPECT(!places_bury(&caller)); /* both live */
  call(&caller, 1, 1);
  await(&board->words[WOKEN], 1);
  kill_process(sleeper);
  EXPECT(places_bury(&caller)); /* its task may wait for somebody else */
  EXPECT(!places_bury(&caller));
  call(&caller, 1, 1);
  EXPECT(places_leave(&view, place));
  view_close(&caller);
  view_close(&view);
}

/* -- many tasks: whoever was called finds one, and no task waits while somebody sleeps */

static int take_task(void) {
  uint32_t tasks = load32(&board->words[TASKS]);
  while (tasks > 0 && !swap32(&board->words[TASKS], tasks, tasks - 1)) tasks = load32(&board->words[TASKS]);
  return tasks > 0;
}

static uint32_t rounds(void) { return quick ? 100 : 1000; }

/* As idle.py waits; whoever finds a task without being called passes a call on that has come meanwhile. */
static void work(int number) {
  (void)number;
  sidecar view;
  view_open(&view);
  while (!load32(&board->words[STOP])) {
    int place = arm(&view, NULL, 0, 0), called = 0;
    while (!take_task() && !load32(&board->words[STOP])) {
      called = sleep_long(&view, place) == WAIT_WOKEN;
      if (called && take_task()) break;
      called = 0;
      places_arm(&view, place);
    }
    if (places_leave(&view, place) && !called) call(&view, 1, 1);
    (void)add32(&board->words[DONE], 1);
  }
  (void)add32(&board->words[STOPPED], 1);
  view_close(&view);
}

static void *work_in_a_thread(void *unused) {
  work(0);
  return unused;
}

static void produce(int number) {
  uint32_t state = (uint32_t)number;
  sidecar view;
  view_open(&view);
  for (uint32_t round = 1; round <= rounds(); round++) {
    await(&board->words[ROUND], round);
    for (uint32_t calls = next_random(&state) % 4; calls > 0; calls--) {
      uint32_t count = next_random(&state) % 3 + 1;
      (void)add32(&board->words[ADDED], count);
      (void)add32(&board->words[TASKS], count);
      call(&view, 1, count);
      if (next_random(&state) % 2) platform_sleep_us(next_random(&state) % 100);
    }
    (void)add32(&board->words[PRODUCED], 1);
  }
  view_close(&view);
}

/* Nothing but the call ends a worker's sleep, so a lost one shows as a task that is never done. */
static void no_task_waits_while_somebody_sleeps(void) {
  int workers[WORKERS], producers[PRODUCERS];
  pthread_t threads[WORKERS];
  sidecar view;
  view_open(&view);
  for (int i = 0; i < WORKERS; i++) {
    workers[i] = start_process("work", i);
    threads[i] = start_thread(work_in_a_thread, NULL);
  }
  for (int i = 0; i < PRODUCERS; i++) producers[i] = start_process("produce", 100 + i);
  for (uint32_t round = 1; round <= rounds(); round++) {
    store32(&board->words[ROUND], round);
    await(&board->words[PRODUCED], round * PRODUCERS);
    await(&board->words[DONE], load32(&board->words[ADDED]));
  }
  store32(&board->words[STOP], 1);
  while (load32(&board->words[STOPPED]) < 2 * WORKERS) {
    places_call_all(&view);
    platform_sleep_us(1000);
  }
  for (int i = 0; i < WORKERS; i++) {
    finish_process(workers[i]);
    join_thread(threads[i]);
  }
  for (int i = 0; i < PRODUCERS; i++) finish_process(producers[i]);
  EXPECT(load32(&board->words[TASKS]) == 0);
  view_close(&view);
}

const test places_tests[] = {
    {"a hash is the one of the standard", a_hash_is_the_one_of_the_standard},
    {"a place is called for its types only", a_place_is_called_for_its_types_only},
    {"a place of many types is called for all of them", a_place_of_many_types_is_called_for_all_of_them},
    {"a choosy task calls all who offer something", a_choosy_task_calls_all_who_offer_something},
    {"as many are called as there are tasks", as_many_are_called_as_there_are_tasks},
    {"the work goes round", the_work_goes_round},
    {"it is known whether anybody waits", it_is_known_whether_anybody_waits},
    {"a burst wakes as many sleepers", a_burst_wakes_as_many_sleepers},
    {"a call before the sleep is not lost", a_call_before_the_sleep_is_not_lost},
    {"a sleep can be interrupted", a_sleep_can_be_interrupted},
    {"workers come and go while others are called", workers_come_and_go_while_others_are_called},
    {"all places can be taken", all_places_can_be_taken},
    {"another process can be woken", another_process_can_be_woken},
    {"a killed sleeper is passed over", a_killed_sleeper_is_passed_over},
    {"the dead are buried", the_dead_are_buried},
    {"no task waits while somebody sleeps", no_task_waits_while_somebody_sleeps},
    {NULL, NULL},
};

const role places_roles[] = {{"sleep at place", sleep_in_a_process}, {"work", work}, {"produce", produce}, {NULL, NULL}};
