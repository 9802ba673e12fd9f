/* keeper.h: exactly one keeps house, and it hears of everything. */
#include "crew.h"

#include "keeper.h"
#include "places.h"
#include "prismq.h"

#ifndef _WIN32
#include <unistd.h>
#endif

enum { KEEPERS = 3 };
enum { ELECTIONS, LEADER, CONDEMNED, STOP, READY, EVENTS, GO }; /* words of the board */
enum { LONG_US = 20 * SECOND_US };

static int wait_for(keeper *self, sidecar *view, int event) {
  int events;
  do events = keeper_wait(self, view, NULL, LONG_US);
  while (events != 0 && !(events & event));
  return events;
}

static void lead(keeper *self, sidecar *view) {
  memset(self, 0, sizeof *self);
  view_open(view);
  EXPECT(keeper_wait(self, view, NULL, 0) & KEEP_ELECTED);
  EXPECT(self->leads);
}

/* -- election */

static void keep_house(int number) {
  keeper self = {0};
  sidecar view;
  view_open(&view);
  while (!load32(&board->words[STOP])) {
    if (keeper_wait(&self, &view, NULL, 20000) & KEEP_ELECTED) {
      uint32_t before = exchange32(&board->words[LEADER], (uint32_t)number);
      EXPECT(before == load32(&board->words[CONDEMNED])); /* 0: none */
      (void)add32(&board->words[ELECTIONS], 1);
    }
    EXPECT(!self.leads || load32(&board->words[LEADER]) == (uint32_t)number);
  }
  if (self.leads) store32(&board->words[CONDEMNED], (uint32_t)number);
  keeper_resign(&self, &view);
  view_close(&view);
}

static int crew[KEEPERS + 1]; /* by their numbers, from 1 */

/* Kills the leader: how long until there is another. */
static int64_t succession(void) {
  uint32_t leader = load32(&board->words[LEADER]), elections = load32(&board->words[ELECTIONS]);
  store32(&board->words[CONDEMNED], leader);
  int64_t killed = now_us();
  kill_process(crew[leader]);
  await(&board->words[ELECTIONS], elections + 1);
  int64_t took = now_us() - killed;
  EXPECT(load32(&board->words[LEADER]) != leader);
  crew[leader] = start_process("keep", (int)leader);
  return took;
}

static void one_leads_and_is_followed_when_killed(void) {
  for (int i = 1; i <= KEEPERS; i++) crew[i] = start_process("keep", i);
  await(&board->words[ELECTIONS], 1);
  platform_sleep_us(patient_us(100000));
  EXPECT(load32(&board->words[ELECTIONS]) == 1);
  EXPECT(once_within(200000, succession));
  for (int i = 0; i < (quick ? 1 : 4); i++) (void)succession();
  store32(&board->words[STOP], 1);
  for (int i = 1; i <= KEEPERS; i++) finish_process(crew[i]);
}

static void one_who_resigns_is_followed(void) {
  keeper first, second = {0};
  sidecar view, other;
  lead(&first, &view);
  view_open(&other);
  EXPECT(keeper_wait(&second, &other, NULL, 100000) == 0 && !second.leads);
  keeper_resign(&first, &view);
  EXPECT(!first.leads && wait_for(&second, &other, KEEP_ELECTED) & KEEP_ELECTED);
  EXPECT(keeper_wait(&first, &view, NULL, 10000) == 0 && !first.leads);
  keeper_resign(&first, &view); /* it is not the first's to give */
  EXPECT(keeper_wait(&first, &view, NULL, 10000) == 0);
  view_close(&other);
  EXPECT(wait_for(&first, &view, KEEP_ELECTED) & KEEP_ELECTED);
  view_close(&view);
}

static void absence_is_known(void) {
  keeper self = {0};
  sidecar view, other;
  view_open(&other);
  EXPECT(keeper_is_absent(&other));
  lead(&self, &view);
  EXPECT(!keeper_is_absent(&other));
  for (int64_t began = now_us(); !keeper_is_absent(&other); platform_sleep_us(50000))
    EXPECT(now_us() - began < 10 * SECOND_US);
  EXPECT(keeper_wait(&self, &view, NULL, 1000) == 0 && !keeper_is_absent(&other));
  view_close(&view);
  view_close(&other);
}

static void one_who_is_stopped_is_stood_in_for(void) {
  keeper first, second = {0};
  sidecar view, other;
  lead(&first, &view);
  view_open(&other);
  int64_t began = now_us();
  EXPECT(wait_for(&second, &other, KEEP_ELECTED) & KEEP_ELECTED);
  EXPECT(now_us() - began >= 900000 && now_us() - began < patient_us(10 * SECOND_US));
  EXPECT(second.leads == 2 && first.leads == 1);
  keeper_ask(&view, WISH_LOOK, 1);
  EXPECT(wait_for(&second, &other, KEEP_LOOK) & KEEP_LOOK);
  EXPECT(keeper_wait(&first, &view, NULL, 0) == 0 && first.leads == 1); /* it moves again */
  EXPECT(keeper_wait(&second, &other, NULL, 0) == 0 && second.leads == 0);
  view_close(&view);
  view_close(&other);
}

/* -- wishes */

static void wishes_are_granted_once_and_not_too_often(void) {
  static const struct {
    keeper_wish wish;
    int event;
    int64_t rest_us;
  } kinds[] = {{WISH_LOOK, KEEP_LOOK, 1000}, {WISH_CHECKPOINT, KEEP_CHECKPOINT, 20000}};
  keeper self;
  sidecar view, other;
  lead(&self, &view);
  view_open(&other);
  for (int i = 0; i < 2; i++) {
    EXPECT(keeper_wait(&self, &view, NULL, 0) == 0);
    for (int times = 0; times < 5; times++) {
      keeper_ask(&other, kinds[i].wish, times % 2);
      keeper_ask(&other, kinds[i].wish, 1);
      int64_t before = now_us();
      EXPECT(wait_for(&self, &view, kinds[i].event) == kinds[i].event);
      keeper_ask(&other, kinds[i].wish, 1);
      EXPECT(wait_for(&self, &view, kinds[i].event) == kinds[i].event);
      EXPECT(now_us() - before >= kinds[i].rest_us);
      EXPECT(keeper_wait(&self, &view, NULL, 0) == 0);
    }
  }
  keeper_ask(&other, WISH_LOOK, 0);
  keeper_ask(&other, WISH_CHECKPOINT, 0);
  int events = 0;
  while (events != (KEEP_LOOK | KEEP_CHECKPOINT)) {
    int more = keeper_wait(&self, &view, NULL, LONG_US);
    EXPECT(more != 0 && !(events & more));
    events |= more;
  }
  view_close(&view);
  view_close(&other);
}

static void wishes_wait_for_a_keeper(void) {
  keeper self;
  sidecar view, other;
  view_open(&other);
  keeper_ask(&other, WISH_CHECKPOINT, 1);
  keeper_note_due(&other, 1, 1);
  memset(&self, 0, sizeof self);
  view_open(&view);
  EXPECT(keeper_wait(&self, &view, NULL, 0) == (KEEP_ELECTED | KEEP_CHECKPOINT | KEEP_DUE));
  view_close(&view);
  view_close(&other);
}

/* -- a keeper asleep in a thread of its own */

static keeper sleeper;
static sidecar sleepers_view;
static pthread_t sleepers_thread;
static const volatile uint32_t *change;
static volatile uint64_t woken_at;

static void *sleep_as_keeper(void *unused) {
  store32(&board->words[READY], 1);
  int events = keeper_wait(&sleeper, &sleepers_view, change, LONG_US);
  store64(&woken_at, (uint64_t)now_us());
  store32(&board->words[EVENTS], (uint32_t)events);
  return unused;
}

static void fall_asleep(void) {
  store32(&board->words[READY], 0);
  sleepers_thread = start_thread(sleep_as_keeper, NULL);
  await(&board->words[READY], 1);
  platform_sleep_us(patient_us(3000));
}

static int64_t wake_up(int64_t since, int events) {
  join_thread(sleepers_thread);
  EXPECT(load32(&board->words[EVENTS]) == (uint32_t)events);
  return (int64_t)load64(&woken_at) - since;
}

static sidecar asker;

static int64_t time_to_hear_a_call(void) {
  fall_asleep();
  int64_t asked = now_us();
  keeper_ask(&asker, WISH_LOOK, 1);
  return wake_up(asked, KEEP_LOOK);
}

static int64_t time_to_hear_a_whisper(void) {
  fall_asleep();
  int64_t asked = now_us();
  keeper_ask(&asker, WISH_LOOK, 0);
  return wake_up(asked, KEEP_LOOK);
}

static int64_t lateness(int64_t due_in_ms) {
  fall_asleep();
  int64_t noted = platform_wall_clock_ms(), due = noted + due_in_ms;
  keeper_note_due(&asker, due + 50, noted); /* the earliest counts */
  keeper_note_due(&asker, due, noted);
  keeper_note_due(&asker, due + 20, noted);
  (void)wake_up(0, KEEP_DUE);
  int64_t late = platform_wall_clock_ms() - due;
  keeper_forget_due(&asker);
  EXPECT(late >= 0 && keeper_wait(&sleeper, &sleepers_view, NULL, 0) == 0);
  return late * 1000;
}

static int64_t lateness_soon(void) { return lateness(10); }
static int64_t lateness_later(void) { return lateness(150); }
static int64_t lateness_at_once(void) { return lateness(0); }

static void a_call_wakes_the_keeper_at_once(void) {
  lead(&sleeper, &sleepers_view);
  view_open(&asker);
  EXPECT(once_within(15000, time_to_hear_a_call));
  EXPECT(once_within(100000, time_to_hear_a_whisper));
  view_close(&asker);
  view_close(&sleepers_view);
}

static void the_keeper_wakes_when_something_is_due(void) {
  lead(&sleeper, &sleepers_view);
  view_open(&asker);
  EXPECT(once_within(5000, lateness_at_once));
  EXPECT(once_within(5000, lateness_soon));
  EXPECT(once_within(5000, lateness_later));
  keeper_note_due(&asker, -7, 0); /* before 1970 */
  EXPECT(keeper_wait(&sleeper, &sleepers_view, NULL, 0) == KEEP_DUE);
  EXPECT(keeper_wait(&sleeper, &sleepers_view, NULL, 0) == KEEP_DUE); /* until it is forgotten */
  keeper_forget_due(&asker);
  EXPECT(keeper_wait(&sleeper, &sleepers_view, NULL, 0) == 0);
  view_close(&asker);
  view_close(&sleepers_view);
}

static void the_keeper_sees_that_something_was_committed(void) {
  static volatile uint32_t commits;
  store32(&commits, 0);
  change = &commits;
  lead(&sleeper, &sleepers_view);
  for (int i = 0; i < 3; i++) {
    fall_asleep();
    (void)add32(&commits, 1);
    (void)wake_up(0, KEEP_CHANGED);
  }
  EXPECT(keeper_wait(&sleeper, &sleepers_view, change, 60000) == 0);
  change = NULL;
  view_close(&sleepers_view);
}

/* Whoever commits without a pause is looked at now and then, not after each commit. */
static void commits_do_not_keep_the_keeper_busy(void) {
  static volatile uint32_t commits;
  store32(&commits, 0);
  lead(&sleeper, &sleepers_view);
  (void)add32(&commits, 1);
  EXPECT(keeper_wait(&sleeper, &sleepers_view, &commits, LONG_US) == KEEP_CHANGED);
  int64_t began = now_us();
  for (int i = 0; i < 3; i++) {
    (void)add32(&commits, 1);
    EXPECT(keeper_wait(&sleeper, &sleepers_view, &commits, LONG_US) == KEEP_CHANGED);
  }
  EXPECT(now_us() - began > 3 * 30000);
  (void)add32(&commits, 1);
  EXPECT(keeper_wait(&sleeper, &sleepers_view, &commits, 1000) == 0);
  (void)keeper_wait(&sleeper, &sleepers_view, NULL, 0);
  view_close(&sleepers_view);
}

static int64_t time_to_stop_a_leader(void) {
  lead(&sleeper, &sleepers_view);
  fall_asleep();
  int64_t stopped = now_us();
  keeper_stop(&sleeper);
  keeper_call(&asker);
  int64_t took = wake_up(stopped, KEEP_STOPPED);
  EXPECT(keeper_wait(&sleeper, &sleepers_view, NULL, LONG_US) == KEEP_STOPPED);
  keeper_resign(&sleeper, &sleepers_view);
  view_close(&sleepers_view);
  return took;
}

static keeper leader;
static sidecar leaders_view;

static int64_t time_to_stop_a_follower(void) {
  memset(&sleeper, 0, sizeof sleeper);
  view_open(&sleepers_view);
  fall_asleep();
  int64_t stopped = now_us();
  keeper_stop(&sleeper);
  int64_t took = wake_up(stopped, KEEP_STOPPED);
  view_close(&sleepers_view);
  return took;
}

static void a_wait_can_be_stopped(void) {
  view_open(&asker);
  EXPECT(once_within(15000, time_to_stop_a_leader));
  lead(&leader, &leaders_view);
  EXPECT(once_within(15000, time_to_stop_a_follower));
  view_close(&leaders_view);
  view_close(&asker);
}

/* -- others' deaths */

static void die_called(int number) {
  sidecar view;
  (void)number;
  view_open(&view);
  int place = places_enter(&view, NULL, 0, 0);
  places_arm(&view, place);
  store32(&board->words[READY], 1);
  await(&board->words[GO], 1);
}

static void the_keeper_looks_when_a_called_worker_has_died(void) {
  keeper self;
  sidecar view;
  lead(&self, &view);
  int worker = start_process("die called", 0);
  await(&board->words[READY], 1);
  ready_tasks ready = {1, 1, 0};
  places_call(&view, &ready);
  kill_process(worker);
  int64_t began = now_us();
  EXPECT(wait_for(&self, &view, KEEP_LOOK) == KEEP_LOOK);
  EXPECT(now_us() - began < patient_us(2 * SECOND_US));
  while (load64(&view.words->places[0].state) % 8 != PLACE_FREE) { /* it is buried later */
    (void)keeper_wait(&self, &view, NULL, 50000);
    EXPECT(now_us() - began < patient_us(5 * SECOND_US));
  }
  view_close(&view);
}

/* As when a process with several workers is killed. */
static void of_many_orphans_none_is_lost(void) {
  enum { ORPHANS = 5 };
  static desk_words content;
  keeper self = {0};
  sidecar view, workers;
  view_open(&view);
  view_open(&workers);
  for (int i = 0; i < ORPHANS; i++) {
    EXPECT(places_enter(&workers, NULL, 0, 0) == i);
    places_arm(&workers, i);
    EXPECT(places_sleep(&workers, i, &content, 1) == WAIT_TIMED_OUT);
    store64(&view.words->places[i].state, load64(&view.words->places[i].state) + PLACE_ASLEEP - PLACE_WAITING);
    ready_tasks ready = {1, 1, 0};
    place_service service = places_begin_service(&view, &ready, &content);
    EXPECT(service.place == i);
    content = (desk_words){.numbers_count = 1, .numbers = {100 + i}};
    places_lay_down(&view, &service, &content);
    EXPECT(places_end_service(&view, &service, 1));
  }
  view_close(&workers); /* their locks go */
  int found[ORPHANS] = {0};
  for (int i = 0; i < ORPHANS; i++) {
    EXPECT(wait_for(&self, &view, KEEP_ORPHAN) & KEEP_ORPHAN);
    found[self.orphan.numbers[0] - 100]++;
  }
  for (int i = 0; i < ORPHANS; i++) EXPECT(found[i] == 1 && load64(&view.words->places[i].state) % 8 == PLACE_FREE);
  EXPECT(!(keeper_wait(&self, &view, NULL, 0) & KEEP_ORPHAN));
  view_close(&view);
}

#ifndef _WIN32

static void the_keeper_of_a_lost_file_keeps_the_next_one(void) {
  keeper self = {0}, other = {0};
  sidecar view, others_view;
  sidecar_open(&view, DATABASE);
  sidecar_open(&others_view, DATABASE);
  EXPECT(keeper_wait(&self, &view, NULL, 0) & KEEP_ELECTED);
  EXPECT(keeper_wait(&other, &others_view, NULL, 0) == 0);
  remove_file(SIDECAR);
  EXPECT(wait_for(&other, &others_view, KEEP_ELECTED) & KEEP_ELECTED); /* the new file's lock is free */
  EXPECT(keeper_wait(&self, &view, NULL, 0) == 0 && !self.leads);      /* it had not yet slept over the loss */
  EXPECT(keeper_wait(&other, &others_view, NULL, 0) == 0 && other.leads);
  sidecar_close(&view);
  sidecar_close(&others_view);
}

#endif

const test keeper_tests[] = {
    {"one leads and is followed when killed", one_leads_and_is_followed_when_killed},
    {"one who resigns is followed", one_who_resigns_is_followed},
    {"one who is stopped is stood in for", one_who_is_stopped_is_stood_in_for},
    {"absence is known", absence_is_known},
    {"wishes are granted once and not too often", wishes_are_granted_once_and_not_too_often},
    {"wishes wait for a keeper", wishes_wait_for_a_keeper},
    {"a call wakes the keeper at once", a_call_wakes_the_keeper_at_once},
    {"the keeper wakes when something is due", the_keeper_wakes_when_something_is_due},
    {"the keeper sees that something was committed", the_keeper_sees_that_something_was_committed},
    {"commits do not keep the keeper busy", commits_do_not_keep_the_keeper_busy},
    {"a wait can be stopped", a_wait_can_be_stopped},
    {"the keeper looks when a called worker has died", the_keeper_looks_when_a_called_worker_has_died},
    {"of many orphans none is lost", of_many_orphans_none_is_lost},
#ifndef _WIN32
    {"the keeper of a lost file keeps the next one", the_keeper_of_a_lost_file_keeps_the_next_one},
#endif
    {NULL, NULL},
};

const role keeper_roles[] = {{"keep", keep_house}, {"die called", die_called}, {NULL, NULL}};
