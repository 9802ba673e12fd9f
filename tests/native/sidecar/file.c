/* sidecar.h: the file itself, from its first byte to the loss of its name. */
#include "crew.h"

#include "announcement.h"
#include "gate.h"
#include "keeper.h"
#include "prismq.h"

#ifndef _WIN32
#include <sys/stat.h>
#include <unistd.h>
#endif

enum { OPENERS = 2 };
enum { ARRIVED, ENTERED, DONE, RESULT }; /* words of the board */

static int is_zero(const void *memory, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (((const char *)memory)[i] != 0) return 0;
  return 1;
}

static int is_new(const sidecar *view) {
  size_t format = sizeof view->words->format;
  return load64(&view->words->format) != 0 && is_zero((char *)view->words + format, sizeof *view->words - format);
}

static void a_new_file_is_empty_and_shared(void) {
  sidecar view, other;
  sidecar_open(&view, DATABASE);
  EXPECT(view.words != NULL && is_new(&view));
  store32(&view.words->next_place, 77);
  sidecar_open(&other, DATABASE);
  EXPECT(other.words != view.words && load32(&other.words->next_place) == 77);
  EXPECT(!sidecar_renew(&view) && !sidecar_renew(&other));
  sidecar_check(&view);
  EXPECT(load32(&view.words->retired) == 0);
  sidecar_close(&view);
  sidecar_close(&other);
  sidecar_close(&other);
  sidecar_open(&view, DATABASE);
  EXPECT(load32(&view.words->next_place) == 77);
  sidecar_close(&view);
}

static void another_layout_is_wiped(void) {
  static unsigned char content[sizeof(sidecar_words) + 1000];
  static const size_t lengths[] = {1, 8, 100, sizeof(sidecar_words) - 1, sizeof content};
  uint32_t state = 1;
  for (int i = 0; i < 5; i++) {
    for (size_t at = 0; at < sizeof content; at++) content[at] = (unsigned char)next_random(&state);
    write_file(SIDECAR, content, lengths[i]);
    sidecar view;
    sidecar_open(&view, DATABASE);
    EXPECT(view.words != NULL && is_new(&view));
    sidecar_close(&view);
  }
}

/* -- workers who all come at once to a new file */

static pthread_t openers[OPENERS];
static sidecar opened[OPENERS];
static int places[OPENERS];

/* Threads that wait by turning in circles arrive together as no others do. */
static void meet(int word, uint32_t count) {
  (void)add32(&board->words[word], 1);
  while (load32(&board->words[word]) < count) continue;
}

static void *open_and_enter(void *number) {
  int own = (int)((sidecar *)number - opened);
  uint64_t type = 1;
  meet(ARRIVED, OPENERS);
  sidecar_open(&opened[own], DATABASE);
  EXPECT(opened[own].words != NULL);
  places[own] = places_enter(&opened[own], &type, 1, 0);
  places_arm(&opened[own], places[own]);
  return NULL;
}

static void those_who_make_the_file_at_once_are_all_called(void) {
  sidecar view;
  for (int round = 0; round < (quick ? 100 : 400); round++) {
    store32(&board->words[ARRIVED], 0);
    for (int i = 0; i < OPENERS; i++) openers[i] = start_thread(open_and_enter, &opened[i]);
    for (int i = 0; i < OPENERS; i++) join_thread(openers[i]);
    sidecar_open(&view, DATABASE);
    ready_tasks ready = {1, OPENERS, 0};
    places_call(&view, &ready);
    for (int i = 0; i < OPENERS; i++) {
      EXPECT(places[i] >= 0 && leave_place(&opened[i], places[i]));
      sidecar_close(&opened[i]);
    }
    sidecar_close(&view);
    remove_file(SIDECAR);
  }
}

/* -- without a file */

static void expect_nothing_but_no_harm(sidecar *view) {
  gate_pass pass = {0};
  EXPECT(view->words == NULL && !sidecar_renew(view));
  sidecar_check(view);

  EXPECT(gate_may_ask(view, &pass));
  gate_enter(view, &pass);
  EXPECT(!gate_is_own(view) && gate_may_ask(view, &pass));
  EXPECT(!gate_leave(view, &pass, 0) && !gate_leave(view, &pass, 1));
  gate_skip(view);
  for (int64_t waited = 0; waited < 20000; waited += 2000) gate_wait(view, &pass, waited, 20000 - waited);
  gate_give_up(view, &pass);
  gate_order_rest(view, 1000);
  EXPECT(!gate_rest_ordered_us(view, &pass));
  gate_order_rest(view, GATE_CLOSED);
  EXPECT(!gate_rest_ordered_us(view, &pass) && !gate_is_closed(view, &pass));

  uint64_t type = 1;
  ready_tasks ready = {1, 3, 0};
  EXPECT(places_enter(view, &type, 1, 0) == -1);
  EXPECT(!places_are_waiting(view) && !places_bury(view) && !leave_place(view, 0) && !leave_place(view, -1));
  places_arm(view, 0);
  places_call(view, &ready);
  places_call_all(view);
  places_interrupt(view, 0);
  EXPECT(places_sleep(view, 0, NULL, SECOND_US) == WAIT_CHANGED && places_sleep(view, -1, NULL, SECOND_US) == WAIT_CHANGED);

  keeper self = {0};
  keeper_ask(view, WISH_LOOK, 1);
  keeper_note_due(view, 1, 1);
  keeper_call(view);
  keeper_forget_due(view);
  EXPECT(keeper_wait(&self, view, NULL, SECOND_US) == KEEP_ALONE && !self.leads && keeper_is_absent(view));
  keeper_resign(&self, view);
  keeper_stop(&self);
  EXPECT(keeper_wait(&self, view, NULL, SECOND_US) == KEEP_STOPPED);

  announcement news = {0};
  announce_ready(&news, "type", 4, 0);
  announce_due(&news, 1, 1);
  announcement_publish(&news, view, 1);
  EXPECT(is_zero(&news, sizeof news));
  sidecar_close(view);
}

static void without_a_file_all_goes_on(void) {
  static char too_long[8000];
  sidecar view;
  sidecar_open(&view, "no such folder/" DATABASE);
  expect_nothing_but_no_harm(&view);
  memset(too_long, 'x', sizeof too_long - 1);
  sidecar_open(&view, too_long);
  expect_nothing_but_no_harm(&view);
  memset(&view, 0, sizeof view); /* as in a connection to a temporary database */
  expect_nothing_but_no_harm(&view);
}

#ifndef _WIN32

static void without_the_right_to_make_the_file_all_goes_on(void) {
  EXPECT(mkdir("closed", 0755) == 0 && mkdir("private", 0755) == 0);
  write_file("closed/" DATABASE, "", 0);
  write_file("private/" DATABASE, "", 0);
  sidecar view;
  sidecar_open(&view, "private/" DATABASE);
  EXPECT(view.words != NULL && chmod("private/" SIDECAR, 0400) == 0);
  EXPECT(chmod("closed", 0555) == 0 && chmod(".", 0755) == 0);
  finish_process(start_process("stranger", 0));
  sidecar_close(&view);
  remove_file("private/" SIDECAR);
  remove_file("private/" DATABASE);
  remove_file("closed/" DATABASE);
  EXPECT(rmdir("closed") == 0 && rmdir("private") == 0);
}

static void be_a_stranger(int number) {
  enum { NOBODY = 65534 };
  (void)number;
  if (geteuid() == 0) EXPECT(setgid(NOBODY) == 0 && setuid(NOBODY) == 0); /* root may do all */
  sidecar view;
  sidecar_open(&view, "closed/" DATABASE);
  expect_nothing_but_no_harm(&view);
  sidecar_open(&view, "private/" DATABASE);
  expect_nothing_but_no_harm(&view);
}

/* -- a file that loses its name */

static void expect_new_and_common(sidecar *view, sidecar *other) {
  EXPECT(sidecar_renew(view) && sidecar_renew(other));
  EXPECT(is_new(view) && is_new(other));
  store32(&view->words->next_place, 5);
  EXPECT(load32(&other->words->next_place) == 5);
  EXPECT(!sidecar_renew(view) && !sidecar_renew(other));
}

static void a_lost_file_is_made_anew_by_all(void) {
  sidecar view, other;
  sidecar_open(&view, DATABASE);
  sidecar_open(&other, DATABASE);

  remove_file(SIDECAR);
  EXPECT(!sidecar_renew(&other)); /* it is not looked for where time matters */
  sidecar_check(&view);
  expect_new_and_common(&view, &other);

  write_file("new", "", 0);
  EXPECT(rename("new", SIDECAR) == 0);
  sidecar_check(&other);
  expect_new_and_common(&view, &other);

  EXPECT(truncate(SIDECAR, sizeof(sidecar_words) - 8) == 0); /* the last bytes are in memory all the same */
  sidecar_check(&other);
  EXPECT(sidecar_renew(&view) && view.words != NULL && other.words != NULL);
  sidecar_check(&view);
  EXPECT(!sidecar_renew(&view)); /* it is long again, and the same for all */
  store32(&view.words->next_place, 6);
  EXPECT(load32(&other.words->next_place) == 6);

  sidecar_close(&view);
  sidecar_close(&other);
}

/* A database that is moved while it is open, or one whose folder is out of sight for a moment. */
static void a_file_that_got_its_name_back_is_used_again(void) {
  sidecar view, other;
  sidecar_open(&view, DATABASE);
  EXPECT(rename(SIDECAR, "elsewhere") == 0);
  sidecar_check(&view);
  EXPECT(rename("elsewhere", SIDECAR) == 0);
  EXPECT(sidecar_renew(&view) && view.words != NULL);
  EXPECT(!sidecar_renew(&view));
  sidecar_open(&other, DATABASE);
  EXPECT(!sidecar_renew(&other));
  sidecar_close(&view);
  sidecar_close(&other);
}

static void a_file_that_cannot_be_made_anew_is_gone_without(void) {
  sidecar view;
  sidecar_open(&view, DATABASE);
  remove_file(SIDECAR);
  EXPECT(mkdir(SIDECAR, 0755) == 0);
  sidecar_check(&view);
  EXPECT(sidecar_renew(&view));
  expect_nothing_but_no_harm(&view);
  EXPECT(rmdir(SIDECAR) == 0);
}

static void *sleep_at_place(void *view) {
  int place = places_enter(view, NULL, 0, 0);
  places_arm(view, place);
  store32(&board->words[ENTERED], 1);
  EXPECT(places_sleep(view, place, NULL, 60 * SECOND_US) == WAIT_WOKEN);
  return NULL;
}

static void the_loss_of_the_file_wakes_all_who_sleep_by_it(void) {
  sidecar view, other;
  sidecar_open(&view, DATABASE);
  sidecar_open(&other, DATABASE);
  pthread_t sleeper = start_thread(sleep_at_place, &other);
  await(&board->words[ENTERED], 1);
  platform_sleep_us(patient_us(2000));
  remove_file(SIDECAR);
  sidecar_check(&view);
  join_thread(sleeper);
  sidecar_close(&view);
  sidecar_close(&other);
}

#endif

const test file_tests[] = {
    {"a new file is empty and shared", a_new_file_is_empty_and_shared},
    {"another layout is wiped", another_layout_is_wiped},
    {"those who make the file at once are all called", those_who_make_the_file_at_once_are_all_called},
    {"without a file all goes on", without_a_file_all_goes_on},
#ifndef _WIN32
    {"without the right to make the file all goes on", without_the_right_to_make_the_file_all_goes_on},
    {"a lost file is made anew by all", a_lost_file_is_made_anew_by_all},
    {"a file that got its name back is used again", a_file_that_got_its_name_back_is_used_again},
    {"a file that cannot be made anew is gone without", a_file_that_cannot_be_made_anew_is_gone_without},
    {"the loss of the file wakes all who sleep by it", the_loss_of_the_file_wakes_all_who_sleep_by_it},
#endif
    {NULL, NULL},
};

const role file_roles[] = {
#ifndef _WIN32
    {"stranger", be_a_stranger},
#endif
    {NULL, NULL},
};
