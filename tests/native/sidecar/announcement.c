/* announcement.h: what others hear of a transaction. */
#include "crew.h"

#include "announcement.h"
#include "keeper.h"
#include "prismq.h"

enum { ROOM = 2 * ANNOUNCED_KINDS };

static sidecar teller, hearer;
static int places[ROOM];

static uint64_t kind_number(int kind) {
  char name[32];
  int length = snprintf(name, sizeof name, "kind %d", kind);
  return places_type_hash(name, length);
}

static void announce(announcement *news, int kind, int choosy) {
  char name[32];
  int length = snprintf(name, sizeof name, "kind %d", kind);
  announce_ready(news, name, length, choosy);
}

/* A place for each kind, or several for one. */
static void take_places(int kinds, int of_each) {
  view_open(&teller);
  view_open(&hearer);
  for (int i = 0; i < kinds * of_each; i++) {
    uint64_t type = kind_number(i / of_each);
    places[i] = places_enter(&hearer, &type, 1, 0);
    places_arm(&hearer, places[i]);
  }
}

/* How many of some places were called; they are left. */
static int called(int first, int count) {
  int number = 0;
  for (int i = first; i < first + count; i++) number += leave_place(&hearer, places[i]);
  return number;
}

static uint32_t wishes(void) { return load32(&teller.words->keeper.wanted); }

static void leave(void) {
  view_close(&teller);
  view_close(&hearer);
}

static void a_commit_calls_once_for_each_task(void) {
  take_places(2, 4);
  announcement news = {.accounted = 1};
  announce(&news, 0, 0);
  announce(&news, 1, 0);
  announce(&news, 0, 0);
  announce(&news, 0, 0);
  announce(&news, 2, 0);  /* nobody waits for it */
  announce(&news, 1, 1);  /* nor has anybody what this one needs */
  announcement_publish(&news, &teller, 1);
  EXPECT(called(0, 4) == 3 && called(4, 4) == 1);
  EXPECT(wishes() == 0 && load64(&teller.words->keeper.due_ms) == 0);
  leave();
}

static void a_rollback_calls_nobody(void) {
  take_places(1, 1);
  announcement news = {0};
  announce(&news, 0, 0);
  announce_due(&news, 5, 1);
  announce_look(&news);
  announcement_publish(&news, &teller, 0);
  EXPECT(!called(0, 1) && wishes() == 0 && load64(&teller.words->keeper.due_ms) == 0);
  leave();
}

static void news_are_told_once(void) {
  take_places(1, 4);
  announcement news = {0};
  announce(&news, 0, 0);
  announcement_publish(&news, &teller, 1);
  news.accounted = 1;
  announcement_publish(&news, &teller, 1);
  EXPECT(called(0, 4) == 1);
  leave();
}

static void of_too_many_kinds_the_keeper_looks_for_the_rest(void) {
  take_places(ROOM, 1);
  announcement news = {.accounted = 1};
  for (int i = 0; i < ANNOUNCED_KINDS; i++) announce(&news, i, 0);
  EXPECT(!news.look);
  for (int i = 0; i < ROOM; i++) announce(&news, i, 0);
  announcement_publish(&news, &teller, 1);
  EXPECT(called(0, ANNOUNCED_KINDS) == ANNOUNCED_KINDS && called(ANNOUNCED_KINDS, ROOM - ANNOUNCED_KINDS) == 0);
  EXPECT(wishes() == WISH_LOOK);
  leave();
}

static void of_a_foreign_transaction_the_keeper_is_told(void) {
  take_places(1, 1);
  announcement news = {0};
  announcement_publish(&news, &teller, 1);
  EXPECT(wishes() == WISH_LOOK && !called(0, 1));
  leave();
}

static void the_earliest_time_is_noted(void) {
  take_places(0, 0);
  announcement news = {.accounted = 1};
  announce_due(&news, 9000, 1000);
  announce_due(&news, 7000, 1000);
  announce_due(&news, 8000, 1000);
  announcement_publish(&news, &teller, 1);
  EXPECT(load64(&hearer.words->keeper.due_ms) == 7000 && wishes() == 0);
  announce_due(&news, -3, 1000);
  announcement_publish(&news, &teller, 1);
  EXPECT(load64(&hearer.words->keeper.due_ms) == 1);
  leave();
}

static void nobody_may_be_told(void) {
  announce(NULL, 0, 0);
  announce_due(NULL, 1, 1);
  announce_look(NULL);
}

const test announcement_tests[] = {
    {"a commit calls once for each task", a_commit_calls_once_for_each_task},
    {"a rollback calls nobody", a_rollback_calls_nobody},
    {"news are told once", news_are_told_once},
    {"of too many kinds the keeper looks for the rest", of_too_many_kinds_the_keeper_looks_for_the_rest},
    {"of a foreign transaction the keeper is told", of_a_foreign_transaction_the_keeper_is_told},
    {"the earliest time is noted", the_earliest_time_is_noted},
    {"nobody may be told", nobody_may_be_told},
    {NULL, NULL},
};
