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

static place_state state_of(sidecar *view, int place) {
  return (place_state)(load64(&view->words->places[place].state) & ((1 << PLACE_STATE_BITS) - 1));
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
  for (int i = 0; i < 3; i++) EXPECT(state_of(&caller, i) == PLACE_FREE);
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
  EXPECT(state_of(&caller, 0) == PLACE_FREE);
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
  EXPECT(state_of(&caller, 0) == PLACE_FREE);

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
static void sleep_until_woken(sidecar *view, int place) {
  while (places_sleep(view, place, &request, ASLEEP_US) != WAIT_WOKEN) continue;
}

static void *sleep_with_a_request(void *unused) {
  sleep_until_woken(&sleepers_view, served_place);
  sleepers_end = places_take_answer(&sleepers_view, served_place, &got);
  return unused;
}

static void views_of_two(void) {
  view_open(&server);
  view_open(&sleepers_view);
  memset(&got, 0, sizeof got);
}

/* One who falls asleep; that it lies down again after a wake-up without reason is no matter. */
static pthread_t lie_down(uint64_t type) {
  views_of_two();
  served_place = arm(&sleepers_view, &type, 1, 0);
  pthread_t thread = start_thread(sleep_with_a_request, NULL);
  while (state_of(&sleepers_view, served_place) != PLACE_ASLEEP) platform_sleep_us(100);
  return thread;
}

static void get_up(void) {
  view_close(&server);
  view_close(&sleepers_view);
}

static place_service begin_service(uint64_t type, int choosy, desk_words *claim) {
  ready_tasks ready = {type, 1, choosy};
  return places_begin_service(&server, &ready, claim);
}

static int nobody_is_served(uint64_t type, int choosy) {
  static desk_words claim;
  return begin_service(type, choosy, &claim).place == -1;
}

/* A service for the one at `served_place`. */
static place_service serve(uint64_t type) {
  static desk_words claim;
  place_service service = begin_service(type, 0, &claim);
  EXPECT(service.place == served_place && are_same(&claim, &request));
  return service;
}

/* As if asleep, without a thread of its own: whoever is woken does nothing before the test says so. */
static void doze(sidecar *view, int place) {
  uint64_t waiting = load64(&view->words->places[place].state);
  EXPECT(places_sleep(view, place, &request, 1) == WAIT_TIMED_OUT);
  EXPECT(swap64(&view->words->places[place].state, waiting, waiting - PLACE_WAITING + PLACE_ASLEEP));
}

static void a_request_on_a_desk_is_served(void) {
  static const uint32_t lengths[] = {0, 1, 100, DESK_TEXT_BYTES};
  for (uint32_t i = 0; i < 4; i++) {
    fill(&request, lengths[i], i);
    fill(&answer, lengths[3 - i], 10 + i);
    pthread_t sleeper = lie_down(type_named("a"));
    EXPECT(nobody_is_served(type_named("b"), 0) && nobody_is_served(type_named("a"), 1));
    place_service service = serve(type_named("a"));
    EXPECT(nobody_is_served(type_named("a"), 0)); /* it is served already */
    EXPECT(places_go_on_serving(&server, &service));
    places_lay_down(&server, &service, &answer);
    EXPECT(places_end_service(&server, &service, 1));
    join_thread(sleeper);
    EXPECT(sleepers_end == LEFT_SERVED && are_same(&got, &answer));
    EXPECT(!places_is_in_service(&sleepers_view, service.place) && !places_go_on_serving(&server, &service));
    EXPECT(!places_end_service(&server, &service, 1));
    EXPECT(places_leave(&sleepers_view, service.place, &got) == LEFT_ALONE);
    get_up();
  }
}

static void without_an_answer_the_served_is_called(void) {
  fill(&request, 100, 1);
  pthread_t sleeper = lie_down(1);
  place_service service = serve(1);
  EXPECT(places_is_in_service(&sleepers_view, service.place));
  EXPECT(places_end_service(&server, &service, 0));
  join_thread(sleeper);
  EXPECT(sleepers_end == LEFT_CALLED && places_leave(&sleepers_view, service.place, &got) == LEFT_CALLED);
  get_up();
}

static void without_a_request_nobody_is_served(void) {
  views_of_two();
  EXPECT(nobody_is_served(1, 0));
  int place = arm(&sleepers_view, NULL, 0, 0);
  EXPECT(nobody_is_served(1, 0));
  EXPECT(places_sleep(&sleepers_view, place, &request, 1000) == WAIT_TIMED_OUT);
  EXPECT(nobody_is_served(1, 0)); /* it is up again */
  EXPECT(places_leave(&sleepers_view, place, &got) == LEFT_ALONE);
  get_up();
}

/* Garbage, and what an earlier sleep has left. */
static void a_request_that_is_not_whole_is_not_served(void) {
  fill(&request, 100, 1);
  for (int damage = 0; damage < 4; damage++) {
    views_of_two();
    served_place = arm(&sleepers_view, NULL, 0, 0);
    if (damage == 3) { /* of another sleep */
      EXPECT(places_sleep(&sleepers_view, served_place, &request, 1) == WAIT_TIMED_OUT);
      places_arm(&sleepers_view, served_place);
      store64(&server.words->places[served_place].state, load64(&server.words->places[served_place].state) + 1);
    } else {
      doze(&sleepers_view, served_place);
    }
    desk_words *desk = &server.words->desks[served_place];
    if (damage == 0) desk->text[50] ^= 1;
    if (damage == 1) desk->numbers[1]++;
    if (damage == 2) desk->text_bytes = UINT32_MAX;
    EXPECT(nobody_is_served(1, 0));
    EXPECT(places_sleep(&sleepers_view, served_place, &request, ASLEEP_US) == WAIT_WOKEN); /* it claims by itself */
    EXPECT(places_take_answer(&sleepers_view, served_place, &got) == LEFT_CALLED);
    places_arm(&sleepers_view, served_place);
    doze(&sleepers_view, served_place);
    place_service service = serve(1); /* it has laid its claim down once more */
    EXPECT(places_end_service(&server, &service, 0));
    EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_CALLED);
    get_up();
  }
}

static void an_answer_that_is_not_whole_is_none(void) {
  fill(&request, 100, 1);
  fill(&answer, 100, 2);
  views_of_two();
  served_place = arm(&sleepers_view, NULL, 0, 0);
  doze(&sleepers_view, served_place);
  place_service service = serve(1);
  places_lay_down(&server, &service, &answer);
  server.words->desks[served_place].text[99] ^= 1;
  EXPECT(places_end_service(&server, &service, 1));
  EXPECT(places_take_answer(&sleepers_view, served_place, &got) == LEFT_CALLED);
  EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_ALONE);
  get_up();
}

/* Who has waited for its answer in vain looks for itself, and arms its place for the next sleep. */
static void an_answer_that_comes_late_is_not_lost(void) {
  fill(&request, 100, 1);
  fill(&answer, 100, 2);
  pthread_t sleeper = lie_down(1);
  int64_t began = now_us();
  place_service service = serve(1);
  join_thread(sleeper);
  EXPECT(sleepers_end == LEFT_ALONE && now_us() - began >= 50000);
  for (int late = 0; late < 2; late++) {
    if (late) places_lay_down(&server, &service, &answer);
    if (late) EXPECT(places_end_service(&server, &service, 1));
    places_arm(&sleepers_view, served_place);
    EXPECT(places_sleep(&sleepers_view, served_place, &request, ASLEEP_US) == WAIT_WOKEN);
    EXPECT(places_take_answer(&sleepers_view, served_place, &got) == (late ? LEFT_SERVED : LEFT_ALONE));
  }
  EXPECT(are_same(&got, &answer));
  EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_ALONE);
  get_up();
}

static void an_answer_that_comes_as_its_owner_leaves_is_taken_along(void) {
  fill(&request, 100, 1);
  fill(&answer, 100, 2);
  views_of_two();
  served_place = arm(&sleepers_view, NULL, 0, 0);
  doze(&sleepers_view, served_place);
  place_service service = serve(1);
  places_lay_down(&server, &service, &answer);
  EXPECT(places_end_service(&server, &service, 1));
  EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_SERVED && are_same(&got, &answer));
  get_up();
}

/* Its next owner waits for another type. */
static void who_serves_a_place_that_has_changed_hands_serves_nobody(void) {
  uint64_t type = 7;
  fill(&answer, 100, 2);
  for (int asleep = 0; asleep < 2; asleep++) {
    fill(&request, 100, 1);
    views_of_two();
    served_place = arm(&sleepers_view, NULL, 0, 0);
    doze(&sleepers_view, served_place);
    place_service stopped = serve(1);
    EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_ALONE);
    fill(&request, 200, 3);
    EXPECT(arm(&sleepers_view, &type, 1, 0) == served_place);
    if (asleep) doze(&sleepers_view, served_place);
    EXPECT(!places_go_on_serving(&server, &stopped));
    places_lay_down(&server, &stopped, &answer);
    EXPECT(!places_end_service(&server, &stopped, 1)); /* so it gives its task back */
    if (!asleep) doze(&sleepers_view, served_place);
    place_service service = serve(type);
    EXPECT(places_end_service(&server, &service, 0));
    EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_CALLED);
    get_up();
  }
}

static void who_serves_is_alone_at_the_desk(void) {
  sidecar other;
  fill(&request, 100, 1);
  views_of_two();
  view_open(&other);
  served_place = arm(&sleepers_view, NULL, 0, 0);
  doze(&sleepers_view, served_place);
  place_service stopped = serve(1);
  EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_ALONE);
  EXPECT(arm(&sleepers_view, NULL, 0, 0) == served_place);
  doze(&sleepers_view, served_place);
  ready_tasks ready = {1, 1, 0};
  EXPECT(places_begin_service(&other, &ready, &got).place == -1);
  EXPECT(!places_end_service(&server, &stopped, 1));
  place_service service = places_begin_service(&other, &ready, &got);
  EXPECT(service.place == served_place && places_end_service(&other, &service, 0));
  (void)leave_place(&sleepers_view, served_place);
  view_close(&other);
  get_up();
}

#ifndef _WIN32

/* A file that has lost its name is used until what is under way in it has ended. */
static void a_service_in_a_lost_file_comes_to_its_end(void) {
  fill(&request, 100, 1);
  fill(&answer, 100, 2);
  for (int ends = 0; ends < 2; ends++) {
    views_of_two();
    served_place = arm(&sleepers_view, NULL, 0, 0);
    doze(&sleepers_view, served_place);
    place_service service = serve(1);
    remove_file(SIDECAR);
    sidecar_check(&server);
    places_arm(&sleepers_view, served_place);
    EXPECT(places_is_in_service(&sleepers_view, served_place));
    if (ends) places_lay_down(&server, &service, &answer);
    if (ends) EXPECT(places_end_service(&server, &service, 1) && places_has_answer(&sleepers_view, served_place));
    EXPECT(places_take_answer(&sleepers_view, served_place, &got) == (ends ? LEFT_SERVED : LEFT_ALONE));
    EXPECT(!places_is_in_service(&sleepers_view, served_place)); /* nobody would rescue it */
    if (!ends) EXPECT(!places_end_service(&server, &service, 1));
    (void)leave_place(&sleepers_view, served_place);
    get_up();
  }
}

#endif

static void serve_and_die(int number) {
  static desk_words claim;
  view_open(&server);
  place_service service = begin_service(1, 0, &claim);
  EXPECT(service.place == 0);
  fill(&answer, 100, 5);
  if (number) places_lay_down(&server, &service, &answer);
  store32(&board->words[DONE], 1);
  await(&board->words[GO], 1);
}

/* Before it has claimed a task, or after: then it may have committed that. */
static void who_is_served_by_one_who_died_is_called(void) {
  static desk_words orphan;
  for (int claimed = 0; claimed < 2; claimed++) {
    fill(&request, 100, 1);
    fill(&answer, 100, 5);
    store32(&board->words[DONE], 0);
    pthread_t sleeper = lie_down(1);
    int64_t began = now_us();
    int dead = start_process("serve and die", claimed);
    await(&board->words[DONE], 1);
    platform_sleep_us(60000); /* however long it takes while it lives, as others' syncs may */
    EXPECT(places_rescue(&server, &orphan) == 0 && places_is_in_service(&server, served_place));
    kill_process(dead);
    int found = 0;
    while (places_is_in_service(&server, served_place)) {
      found = places_rescue(&server, &orphan);
      EXPECT(now_us() - began < patient_us(20 * SECOND_US));
    }
    EXPECT(found == (claimed ? RESCUE_ORPHAN : 0));
    EXPECT(!claimed || are_same(&orphan, &answer));
    join_thread(sleeper);
    EXPECT(sleepers_end != LEFT_SERVED && places_leave(&sleepers_view, served_place, &got) != LEFT_SERVED);
    get_up();
  }
}

/* Who leaves does not take away what only the next keeper can see. */
static void the_task_of_one_who_died_serving_is_an_orphan_though_the_served_has_left(void) {
  static desk_words orphan;
  fill(&request, 100, 1);
  fill(&answer, 100, 5);
  views_of_two();
  served_place = arm(&sleepers_view, NULL, 0, 0);
  doze(&sleepers_view, served_place);
  int dead = start_process("serve and die", 1);
  await(&board->words[DONE], 1);
  kill_process(dead);
  EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_ALONE);
  EXPECT(!places_bury(&server));
  EXPECT(places_rescue(&server, &orphan) == RESCUE_ORPHAN && are_same(&orphan, &answer));
  EXPECT(state_of(&server, served_place) == PLACE_FREE);
  get_up();
}

/* One who was served and does not fetch its task. */
static void serve_nobody(const place_service *service, uint32_t seed) {
  fill(&answer, 100, seed);
  places_lay_down(&server, service, &answer);
  EXPECT(places_end_service(&server, service, 1));
}

static void a_task_that_is_not_fetched_is_an_orphan(void) {
  static desk_words orphan;
  views_of_two();
  fill(&request, 100, 1);
  served_place = arm(&sleepers_view, NULL, 0, 0);
  doze(&sleepers_view, served_place);
  place_service service = serve(1);
  int64_t began = now_us();
  serve_nobody(&service, 3);
  while (!places_rescue(&server, &orphan)) EXPECT(now_us() - began < patient_us(20 * SECOND_US));
  EXPECT(now_us() - began >= 30000); /* it lives */
  EXPECT(are_same(&orphan, &answer));
  EXPECT(places_rescue(&server, &orphan) == 0);
  EXPECT(places_take_answer(&sleepers_view, served_place, &got) == LEFT_ALONE); /* too late */
  EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_ALONE);
  get_up();
}

static void sleep_and_never_fetch(int number) {
  (void)number;
  view_open(&sleepers_view);
  served_place = arm(&sleepers_view, NULL, 0, 0);
  fill(&request, 100, 1);
  store32(&board->words[READY], 1);
  sleep_until_woken(&sleepers_view, served_place);
  store32(&board->words[WOKEN], 1);
  await(&board->words[GO], 1);
}

static void the_task_of_one_who_died_is_an_orphan(void) {
  static desk_words orphan;
  view_open(&server);
  fill(&request, 100, 1);
  served_place = 0;
  int sleeper = start_process("never fetch", 0);
  await(&board->words[READY], 1);
  while (state_of(&server, 0) != PLACE_ASLEEP) platform_sleep_us(100);
  place_service service = serve(1);
  await(&board->words[WOKEN], 1);
  kill_process(sleeper);
  EXPECT(!places_bury(&server) && places_is_in_service(&server, 0)); /* who serves sees what becomes of it */
  int64_t began = now_us();
  serve_nobody(&service, 4);
  EXPECT(!places_bury(&server));
  while (!places_rescue(&server, &orphan)) EXPECT(now_us() - began < patient_us(20 * SECOND_US));
  EXPECT(now_us() - began >= 5000);
  EXPECT(are_same(&orphan, &answer));
  EXPECT(state_of(&server, 0) == PLACE_FREE);
  view_close(&server);
}

static void who_has_left_is_not_served(void) {
  fill(&request, 100, 1);
  fill(&answer, 100, 2);
  pthread_t sleeper = lie_down(1);
  place_service service = serve(1);
  join_thread(sleeper);
  EXPECT(places_leave(&sleepers_view, served_place, &got) == LEFT_ALONE);
  EXPECT(!places_go_on_serving(&server, &service) && !places_end_service(&server, &service, 1));
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
      sleep_until_woken(&view, place);
      called = 1;
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
    {"a request that is not whole is not served", a_request_that_is_not_whole_is_not_served},
    {"an answer that is not whole is none", an_answer_that_is_not_whole_is_none},
    {"an answer that comes late is not lost", an_answer_that_comes_late_is_not_lost},
    {"an answer that comes as its owner leaves is taken along", an_answer_that_comes_as_its_owner_leaves_is_taken_along},
    {"who serves a place that has changed hands serves nobody", who_serves_a_place_that_has_changed_hands_serves_nobody},
    {"who serves is alone at the desk", who_serves_is_alone_at_the_desk},
#ifndef _WIN32 /* where a file in use can't be deleted */
    {"a service in a lost file comes to its end", a_service_in_a_lost_file_comes_to_its_end},
#endif
    {"who is served by one who died is called", who_is_served_by_one_who_died_is_called},
    {"the task of one who died serving is an orphan, though the served has left",
     the_task_of_one_who_died_serving_is_an_orphan_though_the_served_has_left},
    {"a task that is not fetched is an orphan", a_task_that_is_not_fetched_is_an_orphan},
    {"the task of one who died is an orphan", the_task_of_one_who_died_is_an_orphan},
    {"who has left is not served", who_has_left_is_not_served},
    {"no task waits while somebody sleeps", no_task_waits_while_somebody_sleeps},
    {NULL, NULL},
};

const role places_roles[] = {{"sleep at place", sleep_in_a_process},
                             {"serve and die", serve_and_die},
                             {"never fetch", sleep_and_never_fetch},
                             {"work", work},
                             {"produce", produce},
                             {NULL, NULL}};
