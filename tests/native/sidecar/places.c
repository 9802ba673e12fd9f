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
  do end = places_sleep(view, place, NULL, 60 * SECOND_US);
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
    EXPECT(!leave_place(&view, place));
    for (int i = 0; i < count; i++) {
      place = arm(&view, types, count, 0);
      call(&caller, types[i], 1);
      EXPECT(leave_place(&view, place));
    }
  }
  int place = arm(&view, NULL, 0, 0); /* for tasks of any type */
  call(&caller, type_named("other"), 1);
  EXPECT(leave_place(&view, place));
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
      EXPECT(leave_place(&view, place));
      place = arm(&view, types, count, 0);
      int exact = arm(&other, &types[i], 1, 0);
      call(&caller, types[i], 1);
      EXPECT(leave_place(&other, exact));
      (void)leave_place(&view, place);
    }
  int called = 0;
  for (int i = 0; i < 200; i++) {
    int place = arm(&view, types, PLACE_TYPES + 1, 0);
    snprintf(name, sizeof name, "other %d", i);
    call(&caller, type_named(name), 1);
    called += leave_place(&view, place);
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
  EXPECT(!leave_place(&view, plain) && !leave_place(&view, elsewhere));
  EXPECT(leave_place(&view, offering[0]) && leave_place(&view, offering[1]));
  offering[0] = arm(&view, &type, 1, 1); /* who offers something takes what needs nothing too */
  call(&caller, type, 1);
  EXPECT(leave_place(&view, offering[0]));
  view_close(&caller);
  view_close(&view);
}

/* -- how many are woken */

static int called_places(sidecar *view, const int *places, int count) {
  int called = 0;
  for (int i = 0; i < count; i++) called += leave_place(view, places[i]);
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
      if (!leave_place(&view, places[i])) {
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
  EXPECT(leave_place(&view, place));
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
    EXPECT(leave_place(&views[i], crowd_places[i]));
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
    EXPECT(places_sleep(&view, place, NULL, 60 * SECOND_US) == WAIT_WOKEN);
    if (i % 2) places_arm(&view, place); /* it has looked again: from now on another call counts */
    EXPECT(leave_place(&view, place) == !(i % 2));
  }
  EXPECT(now_us() - began < 30 * SECOND_US);
  int place = arm(&view, NULL, 0, 0);
  EXPECT(places_sleep(&view, place, NULL, 20000) == WAIT_TIMED_OUT && places_sleep(&view, place, NULL, 0) == WAIT_TIMED_OUT);
  EXPECT(!leave_place(&view, place));
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
    EXPECT(!leave_place(&views[0], crowd_places[0]));
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
    if (next_random(&state) % 2) (void)places_sleep(view, place, NULL, 200);
    calls += (uint32_t)leave_place(view, place);
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
  EXPECT(places_sleep(&view, -1, NULL, SECOND_US) == WAIT_CHANGED);
  places_interrupt(&view, -1);
  EXPECT(!leave_place(&view, -1));
  EXPECT(!leave_place(&view, numbers[101]));
  EXPECT(places_enter(&other, NULL, 0, 0) == numbers[101] && places_enter(&view, NULL, 0, 0) == -1);
  EXPECT(!leave_place(&other, numbers[101]));
  sidecar caller;
  view_open(&caller);
  call(&caller, 1, SIDECAR_PLACES);
  for (int i = 0; i < SIDECAR_PLACES; i++)
    EXPECT(leave_place(i % 2 ? &view : &other, numbers[i]) == (i != 101));
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
  EXPECT(leave_place(&view, place));
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
  EXPECT(leave_place(&view, place));
  view_close(&caller);
  view_close(&view);
}

/* -- the desk: who adds a task claims it for one who sleeps */

enum { ASLEEP_US = 60 * SECOND_US };

static sidecar server, sleepers_view;
static desk_words request, answer, got;
static int served_place;
static place_end sleepers_end;

static void fill(desk_words *desk, uint32_t text_bytes, uint32_t seed) {
  memset(desk, 0, sizeof *desk);
  desk->numbers_count = DESK_NUMBERS;
  desk->text_bytes = text_bytes;
  for (int i = 0; i < DESK_NUMBERS; i++) desk->numbers[i] = (int64_t)next_random(&seed) << 20 ^ next_random(&seed);
  for (uint32_t i = 0; i < text_bytes; i++) desk->text[i] = (char)next_random(&seed);
}

static int are_same(const desk_words *one, const desk_words *other) {
  return one->numbers_count == other->numbers_count && one->text_bytes == other->text_bytes &&
         memcmp(one->numbers, other->numbers, sizeof one->numbers) == 0 &&
         memcmp(one->text, other->text, one->text_bytes) == 0;
}

/* As idle.c waits. */
static void *sleep_with_a_request(void *unused) {
  while (places_sleep(&sleepers_view, served_place, &request, ASLEEP_US) != WAIT_WOKEN) continue;
  sleepers_end = places_take_answer(&sleepers_view, served_place, &got);
  return unused;
}

/* One who falls asleep; that it lies down again after a wake-up without reason is no matter. */
static pthread_t lie_down(uint64_t type) {
  view_open(&server);
  view_open(&sleepers_view);
  memset(&got, 0, sizeof got);
  served_place = arm(&sleepers_view, &type, 1, 0);
  pthread_t thread = start_thread(sleep_with_a_request, NULL);
  await(&sleepers_view.words->places[served_place].has_request, 1);
  return thread;
}

static void get_up(void) {
  view_close(&server);
  view_close(&sleepers_view);
}

static int begin_service(uint64_t type, int choosy, desk_words *claim) {
  ready_tasks ready = {type, 1, choosy};
  return places_begin_service(&server, &ready, claim);
}

static void a_request_on_a_desk_is_served(void) {
  static const uint32_t lengths[] = {0, 1, 100, DESK_TEXT_BYTES};
  static desk_words claim;
  for (uint32_t i = 0; i < 4; i++) {
    fill(&request, lengths[i], i);
    fill(&answer, lengths[3 - i], 10 + i);
    pthread_t sleeper = lie_down(type_named("a"));
    EXPECT(begin_service(type_named("b"), 0, &claim) == -1 && begin_service(type_named("a"), 1, &claim) == -1);
    int place = begin_service(type_named("a"), 0, &claim);
    EXPECT(place == served_place && are_same(&claim, &request));
    EXPECT(begin_service(type_named("a"), 0, &claim) == -1); /* it is served already */
    EXPECT(places_go_on_serving(&server, place));
    EXPECT(places_end_service(&server, place, &answer));
    join_thread(sleeper);
    EXPECT(sleepers_end == LEFT_SERVED && are_same(&got, &answer));
    EXPECT(!places_is_in_service(&sleepers_view, place) && !places_go_on_serving(&server, place));
    EXPECT(!places_end_service(&server, place, &answer));
    EXPECT(places_leave(&sleepers_view, place, &got) == LEFT_ALONE);
    get_up();
  }
}

static void without_an_answer_the_served_is_called(void) {
  static desk_words claim;
  fill(&request, 100, 1);
  pthread_t sleeper = lie_down(1);
  int place = begin_service(1, 0, &claim);
  EXPECT(place == served_place && places_is_in_service(&sleepers_view, place));
  EXPECT(places_end_service(&server, place, NULL));
  join_thread(sleeper);
  EXPECT(sleepers_end == LEFT_CALLED && places_leave(&sleepers_view, place, &got) == LEFT_CALLED);
  get_up();
}

static void without_a_request_nobody_is_served(void) {
  static desk_words claim;
  view_open(&server);
  view_open(&sleepers_view);
  EXPECT(begin_service(1, 0, &claim) == -1);
  int place = arm(&sleepers_view, NULL, 0, 0);
  EXPECT(begin_service(1, 0, &claim) == -1);
  EXPECT(places_sleep(&sleepers_view, place, &request, 1000) == WAIT_TIMED_OUT);
  EXPECT(begin_service(1, 0, &claim) == -1); /* it is up again */
  EXPECT(places_leave(&sleepers_view, place, &got) == LEFT_ALONE);
  get_up();
}

static void serve_and_die(int number) {
  static desk_words claim;
  view_open(&server);
  EXPECT(begin_service(1, 0, &claim) == number);
  store32(&board->words[DONE], 1);
  await(&board->words[GO], 1);
}

static void who_is_served_by_one_who_died_is_called(void) {
  orphan found = {0};
  fill(&request, 100, 1);
  pthread_t sleeper = lie_down(1);
  int64_t began = now_us();
  int dead = start_process("serve and die", served_place);
  await(&board->words[DONE], 1);
  kill_process(dead);
  while (load32(&server.words->places[served_place].state) == 4) { /* IN_SERVICE */
    EXPECT(places_rescue(&server, &found) == 0);
    EXPECT(now_us() - began < patient_us(20 * SECOND_US));
  }
  EXPECT(now_us() - began >= 50000);
  join_thread(sleeper);
  EXPECT(sleepers_end != LEFT_SERVED && places_leave(&sleepers_view, served_place, &got) != LEFT_SERVED);
  get_up();
}

/* One who was served and does not fetch its task. */
static void serve_nobody(int place, uint32_t seed) {
  fill(&answer, 100, seed);
  EXPECT(places_end_service(&server, place, &answer));
}

static void a_task_that_is_not_fetched_is_an_orphan(void) {
  orphan found = {0};
  static desk_words claim;
  view_open(&server);
  view_open(&sleepers_view);
  served_place = arm(&sleepers_view, NULL, 0, 0);
  store32(&sleepers_view.words->places[served_place].has_request, 1);
  int place = begin_service(1, 0, &claim);
  EXPECT(place == served_place);
  int64_t began = now_us();
  serve_nobody(place, 3);
  while (!places_rescue(&server, &found)) EXPECT(now_us() - began < patient_us(20 * SECOND_US));
  EXPECT(now_us() - began >= 30000); /* it lives */
  EXPECT(found.id == answer.numbers[0] && found.attempt == answer.numbers[2]);
  EXPECT(places_rescue(&server, &found) == 0);
  EXPECT(places_take_answer(&sleepers_view, place, &got) == LEFT_ALONE); /* too late */
  EXPECT(places_leave(&sleepers_view, place, &got) == LEFT_ALONE);
  get_up();
}

static void sleep_and_never_fetch(int number) {
  (void)number;
  view_open(&sleepers_view);
  served_place = arm(&sleepers_view, NULL, 0, 0);
  fill(&request, 100, 1);
  store32(&board->words[READY], 1);
  while (places_sleep(&sleepers_view, served_place, &request, ASLEEP_US) != WAIT_WOKEN) continue;
  store32(&board->words[WOKEN], 1);
  await(&board->words[GO], 1);
}

static void the_task_of_one_who_died_is_an_orphan(void) {
  orphan found = {0};
  static desk_words claim;
  view_open(&server);
  int sleeper = start_process("never fetch", 0);
  await(&board->words[READY], 1);
  await(&server.words->places[0].has_request, 1);
  EXPECT(begin_service(1, 0, &claim) == 0);
  await(&board->words[WOKEN], 1);
  kill_process(sleeper);
  int64_t began = now_us();
  serve_nobody(0, 4);
  while (!places_rescue(&server, &found)) EXPECT(now_us() - began < patient_us(20 * SECOND_US));
  EXPECT(now_us() - began >= 5000);
  EXPECT(found.id == answer.numbers[0] && found.attempt == answer.numbers[2]);
  EXPECT(load32(&server.words->places[0].state) == 0);
  view_close(&server);
}

/* It has patience for 0.1 s, for it may be about to get a task. */
static void who_gave_up_is_not_served(void) {
  static desk_words claim;
  fill(&request, 100, 1);
  fill(&answer, 100, 2);
  pthread_t sleeper = lie_down(1);
  int64_t began = now_us();
  int place = begin_service(1, 0, &claim);
  EXPECT(place == served_place);
  join_thread(sleeper);
  EXPECT(sleepers_end == LEFT_ALONE && now_us() - began >= 50000);
  EXPECT(places_leave(&sleepers_view, place, &got) == LEFT_ALONE);
  EXPECT(!places_go_on_serving(&server, place) && !places_end_service(&server, place, &answer));
  get_up();
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
    if (leave_place(&view, place) && !called) call(&view, 1, 1);
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
    {"a request on a desk is served", a_request_on_a_desk_is_served},
    {"without an answer the served is called", without_an_answer_the_served_is_called},
    {"without a request nobody is served", without_a_request_nobody_is_served},
    {"who is served by one who died is called", who_is_served_by_one_who_died_is_called},
    {"a task that is not fetched is an orphan", a_task_that_is_not_fetched_is_an_orphan},
    {"the task of one who died is an orphan", the_task_of_one_who_died_is_an_orphan},
    {"who gave up is not served", who_gave_up_is_not_served},
    {"no task waits while somebody sleeps", no_task_waits_while_somebody_sleeps},
    {NULL, NULL},
};

const role places_roles[] = {{"sleep at place", sleep_in_a_process},
                             {"serve and die", serve_and_die},
                             {"never fetch", sleep_and_never_fetch},
                             {"work", work},
                             {"produce", produce},
                             {NULL, NULL}};
