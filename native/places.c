#include "places.h"

#include <stddef.h>
#include <string.h>

#include "atomics.h"
#include "checksum.h"

enum {
  DEAD_US = 5000,     /* a task claimed for one who has died is given back after that long */
  STOPPED_US = 30000, /* for one who does not come for it, after that long */
  PATIENCE_US = 100000,
  LOOK_US = 50000,
  SPIN_US = 500 /* an answer is awaited without sleeping at first: falling asleep and waking up take as long */
};

/* FNV-1a, 64 bits. */
uint64_t places_type_hash(const char *type, int64_t bytes) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (int64_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)type[i]) * UINT64_C(1099511628211);
  return hash;
}

/* -- a place's state: which sleep it is of, then a place_state */

static place_state state_in(uint64_t word) { return (place_state)(word & ((1 << PLACE_STATE_BITS) - 1)); }

static uint64_t in_state(uint64_t word, place_state state) {
  return (word & ~(uint64_t)((1 << PLACE_STATE_BITS) - 1)) | (uint64_t)state;
}

/* Of the sleep after that one. The clock's is later than those that were there before the file was wiped. */
static uint64_t next_sleep(uint64_t word) {
  uint64_t next = (word >> PLACE_STATE_BITS) + 1, now = (uint64_t)platform_steady_clock_us();
  return (now > next ? now : next) << PLACE_STATE_BITS;
}

static volatile uint64_t *state_of(const sidecar *view, int place) { return &view->words->places[place].state; }

static int move(sidecar *view, int place, uint64_t found, place_state to) {
  return swap64(state_of(view, place), found, in_state(found, to));
}

static int is_waiting(uint64_t word) { return state_in(word) == PLACE_WAITING || state_in(word) == PLACE_ASLEEP; }

static uint32_t used(const sidecar *view) {
  uint32_t count = load32(&view->words->places_used);
  return count < SIDECAR_PLACES ? count : SIDECAR_PLACES;
}

static int64_t lock_of(int place) { return (int64_t)LOCK_PLACES + place; }

static int64_t service_lock_of(int place) { return (int64_t)LOCK_SERVICES + place; }

static int wake(sidecar *view, int place) {
  volatile uint32_t *calls = &view->words->places[place].calls;
  (void)add32(calls, 1);
  return platform_wake(&view->region, calls);
}

/* -- desks */

typedef enum { REQUEST, ANSWER } desk_content;

/* `word`: of this sleep, and of no other. */
static uint64_t check_of(const desk_words *desk, uint64_t word, desk_content content) {
  uint64_t salt = in_state(word, PLACE_FREE) | (uint64_t)content;
  return checksum(salt, desk->numbers, desk->numbers_count, desk->text, desk->text_bytes);
}

static void write_desk(sidecar *view, int place, uint64_t word, desk_content kind, const desk_words *content) {
  desk_words *to = &view->words->desks[place];
  uint64_t check = check_of(content, word, kind);
  memcpy(to, content, offsetof(desk_words, text) + content->text_bytes);
  to->check = check;
}

/* Whether what is copied is whole, and of this sleep. */
static int read_desk(const sidecar *view, int place, uint64_t word, desk_content kind, desk_words *copy) {
  const desk_words *from = &view->words->desks[place];
  memcpy(copy, from, offsetof(desk_words, text));
  if (copy->numbers_count > DESK_NUMBERS || copy->text_bytes > DESK_TEXT_BYTES) return 0;
  memcpy(copy->text, from->text, copy->text_bytes);
  return copy->check == check_of(copy, word, kind);
}

/* -- calling */

static uint64_t bloom_bit(uint64_t type) { return UINT64_C(1) << (type >> 58); }

typedef enum { NO, PERHAPS, YES } fit;

static fit fits(place_words *place, const ready_tasks *ready) {
  uint32_t wanted = load32(&place->type_count), count = wanted & ~(uint32_t)PLACE_OFFERS;
  if (ready->choosy && !(wanted & PLACE_OFFERS)) return NO;
  fit best = ready->choosy ? PERHAPS : YES;
  if (count == 0) return best;
  if (count > PLACE_TYPES) return load64(&place->types[0]) & bloom_bit(ready->type) ? PERHAPS : NO;
  for (uint32_t i = 0; i < count; i++)
    if (load64(&place->types[i]) == ready->type) return best;
  return NO;
}

/* Whether a living worker was called, whose place was found waiting. */
static int call(sidecar *view, int place, uint64_t found) {
  while (!move(view, place, found, PLACE_CALLED)) {
    uint64_t now = load64(state_of(view, place));
    if (!is_waiting(now) || in_state(now, PLACE_FREE) != in_state(found, PLACE_FREE)) return 0;
    found = now; /* it has just fallen asleep, or got up */
  }
  store64(&view->words->places[place].called_at_us, (uint64_t)platform_steady_clock_us());
  if (wake(view, place)) return 1;
  /* Nobody sleeps there: about to, or dead. */
  if (platform_is_locked(&view->region, lock_of(place))) return 1;
  (void)move(view, place, in_state(found, PLACE_CALLED), PLACE_FREE);
  return 0;
}

static int anybody_waits(const sidecar *view) {
  uint32_t count = used(view);
  for (uint32_t i = 0; i < count; i++)
    if (is_waiting(load64(state_of(view, (int)i)))) return 1;
  return 0;
}

int places_are_waiting(sidecar *view) { return view->words != NULL && load32(&view->words->waiting) != 0; }

void places_call(sidecar *view, const ready_tasks *ready) {
  if (!places_are_waiting(view)) return;
  uint32_t count = used(view), first = load32(&view->words->next_place);
  int64_t left = ready->count;
  int met = 0; /* somebody was waiting */
  for (uint32_t i = 0; i < count && left > 0; i++) {
    uint32_t number = (first % count + i) % count;
    uint64_t found = load64(state_of(view, (int)number));
    if (!is_waiting(found)) continue;
    met = 1;
    fit how = fits(&view->words->places[number], ready);
    if (how == NO || !call(view, (int)number, found)) continue;
    if (how == YES) left--;
    store32(&view->words->next_place, number + 1);
  }
  if (met) return;
  store32(&view->words->waiting, 0);
  if (anybody_waits(view)) store32(&view->words->waiting, 1); /* who has just come */
}

void places_call_all(sidecar *view) {
  if (view->words == NULL) return;
  uint32_t count = used(view);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t found = load64(state_of(view, (int)i));
    if (is_waiting(found)) (void)call(view, (int)i, found);
  }
}

/* -- serving */

/* Whether the one who sleeps there is served from now on; the lock of the service is this one's. */
static int begin_at(sidecar *view, int place, uint64_t found, desk_words *request) {
  if (!move(view, place, found, PLACE_IN_SERVICE)) return 0;
  if (read_desk(view, place, found, REQUEST, request)) {
    (void)wake(view, place);
    return 1;
  }
  store64(&view->words->places[place].called_at_us, (uint64_t)platform_steady_clock_us());
  (void)move(view, place, in_state(found, PLACE_IN_SERVICE), PLACE_CALLED); /* it lays its claim down once more */
  (void)wake(view, place);
  return 0;
}

place_service places_begin_service(sidecar *view, const ready_tasks *ready, desk_words *request) {
  place_service nobody = {-1, 0};
  if (ready->choosy || !places_are_waiting(view)) return nobody;
  uint32_t count = used(view) < SIDECAR_DESKS ? used(view) : SIDECAR_DESKS, first = load32(&view->words->next_place);
  for (uint32_t i = 0; i < count; i++) {
    int place = (int)((first % count + i) % count);
    uint64_t found = load64(state_of(view, place));
    if (state_in(found) != PLACE_ASLEEP || fits(&view->words->places[place], ready) != YES) continue;
    if (!platform_is_locked(&view->region, lock_of(place))) continue; /* it has died */
    /* Its own: a service that it gave up may still be going on. */
    if (!platform_try_lock(&view->region, service_lock_of(place))) continue;
    if (begin_at(view, place, found, request)) {
      store32(&view->words->next_place, (uint32_t)place + 1);
      return (place_service){place, in_state(found, PLACE_IN_SERVICE)};
    }
    platform_unlock(&view->region, service_lock_of(place));
  }
  return nobody;
}

int places_go_on_serving(sidecar *view, const place_service *service) {
  return view->words != NULL && load64(state_of(view, service->place)) == service->begun;
}

/* If it has left meanwhile, its next claim may be there, half written: then the check tells that neither is whole. */
void places_lay_down(sidecar *view, const place_service *service, desk_words *answer) {
  if (places_go_on_serving(view, service)) write_desk(view, service->place, service->begun, ANSWER, answer);
}

int places_end_service(sidecar *view, const place_service *service, int served) {
  if (view->words == NULL) return 0;
  int place = service->place;
  store64(&view->words->places[place].called_at_us, (uint64_t)platform_steady_clock_us());
  int still = move(view, place, service->begun, served ? PLACE_SERVED : PLACE_CALLED);
  if (still) (void)wake(view, place);
  platform_unlock(&view->region, service_lock_of(place));
  return still;
}

/* -- the dead and the stopped */

/* Of one who died as it served. Whether it had laid something down: it may have been killed before its transaction ended,
 * or after. */
static int end_for_the_dead(sidecar *view, int place, uint64_t found, desk_words *orphan) {
  if (platform_is_locked(&view->region, service_lock_of(place))) return 0;
  int lies_there = read_desk(view, place, found, ANSWER, orphan);
  int lives = platform_is_locked(&view->region, lock_of(place));
  store64(&view->words->places[place].called_at_us, (uint64_t)platform_steady_clock_us());
  if (!move(view, place, found, lives ? PLACE_CALLED : PLACE_FREE)) return 0;
  (void)wake(view, place);
  return lies_there;
}

/* Of one who was served and does not come. */
static int take_back(sidecar *view, int place, uint64_t found, int64_t age, desk_words *orphan) {
  if (age < DEAD_US) return 0;
  int lives = platform_is_locked(&view->region, lock_of(place));
  if (lives && age < STOPPED_US) return 0;
  int is_whole = read_desk(view, place, found, ANSWER, orphan);
  return move(view, place, found, lives ? PLACE_AWAKE : PLACE_FREE) && is_whole;
}

int places_rescue(sidecar *view, desk_words *orphan) {
  if (view->words == NULL) return 0;
  int64_t now = platform_steady_clock_us();
  uint32_t count = used(view);
  int result = 0;
  for (int i = 0; i < (int)count; i++) {
    uint64_t found = load64(state_of(view, i));
    int64_t age = (int64_t)((uint64_t)now - load64(&view->words->places[i].called_at_us));
    if (state_in(found) == PLACE_CALLED && age >= STOPPED_US && move(view, i, found, PLACE_AWAKE)) result |= RESCUE_LOOK;
    if (i >= SIDECAR_DESKS || (result & RESCUE_ORPHAN)) continue;
    if (state_in(found) == PLACE_IN_SERVICE && end_for_the_dead(view, i, found, orphan)) result |= RESCUE_ORPHAN;
    if (state_in(found) == PLACE_SERVED && take_back(view, i, found, age, orphan)) result |= RESCUE_ORPHAN;
  }
  return result;
}

/* Whether it is for others to see what becomes of it: who serves there, or `places_rescue`. */
static int is_served(uint64_t word, int place) {
  return place < SIDECAR_DESKS && (state_in(word) == PLACE_IN_SERVICE || state_in(word) == PLACE_SERVED);
}

int places_bury(sidecar *view) {
  if (view->words == NULL) return 0;
  uint32_t count = used(view);
  int called = 0;
  for (int i = 0; i < (int)count; i++) {
    uint64_t found = load64(state_of(view, i));
    if (state_in(found) == PLACE_FREE || is_served(found, i)) continue;
    if (platform_is_locked(&view->region, lock_of(i))) continue;
    if (move(view, i, found, PLACE_FREE) && state_in(found) == PLACE_CALLED) called = 1;
  }
  return called;
}

/* -- a worker's own */

static void be_in_use(sidecar *view, int number) {
  volatile uint32_t *count = &view->words->places_used;
  for (uint32_t seen = load32(count); seen <= (uint32_t)number; seen = load32(count))
    (void)swap32(count, seen, (uint32_t)number + 1);
}

/* The lock comes first and goes last, so that whoever sees a place in use sees its lock too. */
int places_enter(sidecar *view, const uint64_t *types, int64_t count, int offers) {
  if (view->words == NULL) return -1;
  for (int number = 0; number < SIDECAR_PLACES; number++) {
    place_words *place = &view->words->places[number];
    uint64_t found = load64(&place->state);
    if (state_in(found) != PLACE_FREE || !platform_try_lock(&view->region, lock_of(number))) continue;
    if (!move(view, number, found, PLACE_AWAKE)) continue; /* taken by another thread of this process: the lock is its */
    uint64_t kinds = 0; /* of more types than can be named */
    for (int64_t i = 0; i < count; i++) {
      kinds |= bloom_bit(types[i]);
      if (i < PLACE_TYPES) store64(&place->types[i], types[i]);
    }
    if (count > PLACE_TYPES) store64(&place->types[0], kinds);
    store32(&place->type_count, (uint32_t)(count > PLACE_TYPES ? PLACE_TYPES + 1 : count) | (offers ? PLACE_OFFERS : 0));
    be_in_use(view, number);
    return number;
  }
  return -1;
}

/* The answer may be under way: it is worth a moment, as otherwise a task would be claimed for nobody. */
static uint64_t outcome(sidecar *view, int place) {
  place_words *own = &view->words->places[place];
  int64_t began = platform_steady_clock_us();
  uint64_t found = load64(&own->state);
  for (int64_t now = began; state_in(found) == PLACE_IN_SERVICE && now - began < PATIENCE_US; found = load64(&own->state)) {
    uint32_t seen = load32(&own->calls);
    now = platform_steady_clock_us();
    if (now - began < SPIN_US) continue;
    if (state_in(load64(&own->state)) == PLACE_IN_SERVICE)
      (void)platform_wait(&view->region, &own->calls, seen, LOOK_US);
  }
  return found;
}

int places_is_in_service(sidecar *view, int place) {
  return view->words != NULL && place >= 0 && state_in(load64(state_of(view, place))) == PLACE_IN_SERVICE;
}

int places_has_answer(sidecar *view, int place) {
  return view->words != NULL && place >= 0 && state_in(load64(state_of(view, place))) == PLACE_SERVED;
}

place_end places_take_answer(sidecar *view, int place, desk_words *answer) {
  if (view->words == NULL || place < 0) return LEFT_ALONE;
  uint64_t found = outcome(view, place);
  if (state_in(found) == PLACE_CALLED) return LEFT_CALLED;
  if (!is_served(found, place)) return LEFT_ALONE;
  if (state_in(found) == PLACE_IN_SERVICE) {
    /* Of a file that has lost its name nobody but the two sees what becomes of it. */
    if (load32(&view->words->retired)) (void)move(view, place, found, PLACE_AWAKE);
    return LEFT_ALONE;
  }
  int is_whole = read_desk(view, place, found, ANSWER, answer);
  /* Else the task was given back meanwhile, as this one did not come for it. */
  return move(view, place, found, PLACE_AWAKE) && is_whole ? LEFT_SERVED : LEFT_CALLED;
}

/* Of one who died as it served here, others see what it has done. */
static int is_left_to_others(sidecar *view, int place, uint64_t found) {
  return is_served(found, place) && state_in(found) == PLACE_IN_SERVICE &&
         !platform_is_locked(&view->region, service_lock_of(place));
}

place_end places_leave(sidecar *view, int place, desk_words *answer) {
  if (view->words == NULL || place < 0) return LEFT_ALONE;
  place_end end = LEFT_ALONE;
  for (int waited = 0;;) {
    uint64_t found = load64(state_of(view, place));
    if (is_served(found, place) && (state_in(found) == PLACE_SERVED || !waited)) {
      end = places_take_answer(view, place, answer);
      waited = 1;
    } else if (is_left_to_others(view, place, found) || move(view, place, found, PLACE_FREE)) {
      if (state_in(found) == PLACE_CALLED) end = LEFT_CALLED;
      break;
    }
  }
  platform_unlock(&view->region, lock_of(place));
  return end;
}

void places_interrupt(sidecar *view, int place) {
  if (view->words == NULL || place < 0) return;
  uint64_t found = load64(state_of(view, place));
  while (is_waiting(found) && !move(view, place, found, PLACE_AWAKE)) found = load64(state_of(view, place));
  (void)wake(view, place);
}

void places_arm(sidecar *view, int place) {
  if (view->words == NULL || place < 0) return;
  be_in_use(view, place); /* the file may have been wiped */
  uint64_t found = load64(state_of(view, place));
  while (!is_served(found, place) && !swap64(state_of(view, place), found, next_sleep(found) | PLACE_WAITING))
    found = load64(state_of(view, place));
  store32(&view->words->waiting, 1);
}

platform_wait_end places_sleep(sidecar *view, int place, const desk_words *request, int64_t timeout_us) {
  if (view->words == NULL || place < 0) return WAIT_CHANGED;
  place_words *own = &view->words->places[place];
  uint32_t seen = load32(&own->calls);
  uint64_t found = load64(&own->state);
  if (state_in(found) != PLACE_WAITING) return WAIT_WOKEN;
  int lies_there = request != NULL && place < SIDECAR_DESKS;
  if (lies_there) {
    write_desk(view, place, found, REQUEST, request);
    if (!move(view, place, found, PLACE_ASLEEP)) return WAIT_WOKEN;
  }
  platform_wait_end end = platform_wait(&view->region, &own->calls, seen, timeout_us);
  if (lies_there) (void)move(view, place, in_state(found, PLACE_ASLEEP), PLACE_WAITING);
  return state_in(load64(&own->state)) != PLACE_WAITING ? WAIT_WOKEN : end;
}
