#include "places.h"

#include <stddef.h>
#include <string.h>

#include "atomics.h"

enum { FREE, AWAKE, WAITING, CALLED, IN_SERVICE, SERVED }; /* a place's state */
enum { NO_REQUEST, HAS_REQUEST, KEEPS_REQUEST }; /* on its desk; the last: there, but its owner is up */
enum {
  DEAD_US = 5000,     /* a task claimed for one who has died is given back after that long */
  STOPPED_US = 30000, /* for one who does not come for it, after that long */
  SERVICE_US = 50000, /* a transaction may take so long before who serves is taken for dead */
  PATIENCE_US = 100000,
  SPIN_US = 500 /* an answer is awaited without sleeping at first: falling asleep and waking up take as long */
};

/* FNV-1a, 64 bits. */
uint64_t places_type_hash(const char *type, int64_t bytes) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (int64_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)type[i]) * UINT64_C(1099511628211);
  return hash;
}

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

static uint32_t used(const sidecar *view) {
  uint32_t count = load32(&view->words->places_used);
  return count < SIDECAR_PLACES ? count : SIDECAR_PLACES;
}

static int64_t lock_of(int place) { return (int64_t)LOCK_PLACES + place; }

/* Whether a living worker was called. */
static int call(sidecar *view, int number) {
  place_words *place = &view->words->places[number];
  if (!swap32(&place->state, WAITING, CALLED)) return 0;
  store64(&place->called_at_us, (uint64_t)platform_steady_clock_us());
  (void)add32(&place->calls, 1);
  if (platform_wake(&view->region, &place->calls)) return 1;
  /* Nobody sleeps there: about to, or dead. */
  if (platform_is_locked(&view->region, lock_of(number))) return 1;
  (void)swap32(&place->state, CALLED, FREE);
  return 0;
}

int places_begin_service(sidecar *view, const ready_tasks *ready, desk_words *request) {
  if (ready->choosy || !places_are_waiting(view)) return -1;
  uint32_t count = used(view) < SIDECAR_DESKS ? used(view) : SIDECAR_DESKS, first = load32(&view->words->next_place);
  for (uint32_t i = 0; i < count; i++) {
    int number = (int)((first % count + i) % count);
    place_words *place = &view->words->places[number];
    if (load32(&place->state) != WAITING || load32(&place->has_request) != HAS_REQUEST || fits(place, ready) != YES)
      continue;
    if (!platform_is_locked(&view->region, lock_of(number))) continue; /* it has died */
    store64(&place->called_at_us, (uint64_t)platform_steady_clock_us());
    if (!swap32(&place->state, WAITING, IN_SERVICE)) continue;
    if (load32(&place->has_request) != HAS_REQUEST) { /* its owner was up meanwhile, and may be writing there */
      (void)swap32(&place->state, IN_SERVICE, WAITING);
      continue;
    }
    memcpy(request, &view->words->desks[number], sizeof *request); /* what is read of it can't change any more */
    (void)add32(&place->calls, 1);
    (void)platform_wake(&view->region, &place->calls);
    store32(&view->words->next_place, (uint32_t)number + 1);
    return number;
  }
  return -1;
}

int places_go_on_serving(sidecar *view, int number) {
  if (view->words == NULL || load32(&view->words->places[number].state) != IN_SERVICE) return 0;
  store64(&view->words->places[number].called_at_us, (uint64_t)platform_steady_clock_us());
  return 1;
}

int places_end_service(sidecar *view, int number, const desk_words *answer) {
  if (view->words == NULL) return 0;
  place_words *place = &view->words->places[number];
  if (answer != NULL && load32(&place->state) == IN_SERVICE)
    memcpy(&view->words->desks[number], answer, offsetof(desk_words, text) + answer->text_bytes);
  store64(&place->called_at_us, (uint64_t)platform_steady_clock_us());
  if (!swap32(&place->state, IN_SERVICE, answer != NULL ? SERVED : CALLED)) return 0;
  (void)add32(&place->calls, 1);
  (void)platform_wake(&view->region, &place->calls);
  return 1;
}

int places_rescue(sidecar *view, orphan *found) {
  if (view->words == NULL) return 0;
  int64_t now = platform_steady_clock_us();
  uint32_t count = used(view);
  int result = 0;
  for (uint32_t i = 0; i < count; i++) {
    place_words *place = &view->words->places[i];
    uint32_t state = load32(&place->state);
    int64_t age = (int64_t)((uint64_t)now - load64(&place->called_at_us));
    if (state == CALLED && age >= STOPPED_US && swap32(&place->state, CALLED, AWAKE)) result |= RESCUE_LOOK;
    if (state == IN_SERVICE && age >= SERVICE_US) (void)places_end_service(view, (int)i, NULL);
    if (state != SERVED || age < DEAD_US || i >= SIDECAR_DESKS || (result & RESCUE_ORPHAN)) continue;
    int lives = platform_is_locked(&view->region, lock_of((int)i));
    if (lives && age < STOPPED_US) continue;
    *found = (orphan){view->words->desks[i].numbers[0], view->words->desks[i].numbers[2]};
    if (swap32(&place->state, SERVED, lives ? AWAKE : FREE)) result |= RESCUE_ORPHAN;
  }
  return result;
}

static int anybody_waits(const sidecar *view) {
  uint32_t count = used(view);
  for (uint32_t i = 0; i < count; i++)
    if (load32(&view->words->places[i].state) == WAITING) return 1;
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
    place_words *place = &view->words->places[number];
    if (load32(&place->state) != WAITING) continue;
    met = 1;
    fit how = fits(place, ready);
    if (how == NO || !call(view, (int)number)) continue;
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
  for (uint32_t i = 0; i < count; i++) (void)call(view, (int)i);
}

int places_bury(sidecar *view) {
  if (view->words == NULL) return 0;
  uint32_t count = used(view);
  int called = 0;
  for (uint32_t i = 0; i < count; i++) {
    place_words *place = &view->words->places[i];
    uint32_t state = load32(&place->state);
    if (state == FREE || (state == SERVED && i < SIDECAR_DESKS)) continue; /* the latter is for places_rescue */
    if (platform_is_locked(&view->region, lock_of((int)i))) continue;
    if (swap32(&place->state, state, FREE) && state == CALLED) called = 1;
  }
  return called;
}

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
    if (load32(&place->state) != FREE || !platform_try_lock(&view->region, lock_of(number))) continue;
    if (!swap32(&place->state, FREE, AWAKE)) continue; /* taken by another thread of this process: the lock is its */
    store32(&place->has_request, NO_REQUEST);
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
static uint32_t outcome(sidecar *view, int place) {
  place_words *own = &view->words->places[place];
  int64_t began = platform_steady_clock_us();
  uint32_t state = load32(&own->state);
  for (int64_t now = began; state == IN_SERVICE && now - began < PATIENCE_US; state = load32(&own->state)) {
    uint32_t seen = load32(&own->calls);
    now = platform_steady_clock_us();
    if (now - began < SPIN_US) continue;
    if (load32(&own->state) == IN_SERVICE) (void)platform_wait(&view->region, &own->calls, seen, SERVICE_US);
  }
  return state;
}

int places_is_in_service(sidecar *view, int place) {
  return view->words != NULL && place >= 0 && load32(&view->words->places[place].state) == IN_SERVICE;
}

place_end places_take_answer(sidecar *view, int place, desk_words *answer) {
  if (view->words == NULL || place < 0) return LEFT_ALONE;
  uint32_t state = outcome(view, place);
  if (state != SERVED || place >= SIDECAR_DESKS) return state == CALLED ? LEFT_CALLED : LEFT_ALONE;
  memcpy(answer, &view->words->desks[place], sizeof *answer);
  /* Else the task was given back meanwhile, as this one did not come for it. */
  return swap32(&view->words->places[place].state, SERVED, AWAKE) ? LEFT_SERVED : LEFT_CALLED;
}

place_end places_leave(sidecar *view, int place, desk_words *answer) {
  if (view->words == NULL || place < 0) return LEFT_ALONE;
  place_words *own = &view->words->places[place];
  place_end end = LEFT_ALONE;
  uint32_t state = load32(&own->state);
  do {
    if (state == IN_SERVICE || state == SERVED) end = places_take_answer(view, place, answer);
    state = load32(&own->state);
  } while (!swap32(&own->state, state, FREE));
  platform_unlock(&view->region, lock_of(place));
  return state == CALLED ? LEFT_CALLED : end;
}

void places_interrupt(sidecar *view, int place) {
  if (view->words == NULL || place < 0) return;
  place_words *own = &view->words->places[place];
  (void)swap32(&own->state, WAITING, AWAKE);
  (void)add32(&own->calls, 1);
  (void)platform_wake(&view->region, &own->calls);
}

void places_arm(sidecar *view, int place) {
  if (view->words == NULL || place < 0) return;
  be_in_use(view, place); /* the file may have been wiped */
  store32(&view->words->places[place].has_request, NO_REQUEST); /* there may be an answer in its place */
  store32(&view->words->places[place].state, WAITING);
  store32(&view->words->waiting, 1);
}

platform_wait_end places_sleep(sidecar *view, int place, const desk_words *request, int64_t timeout_us) {
  if (view->words == NULL || place < 0) return WAIT_CHANGED;
  place_words *own = &view->words->places[place];
  uint32_t seen = load32(&own->calls);
  if (load32(&own->state) != WAITING) return WAIT_WOKEN;
  int lies_there = request != NULL && place < SIDECAR_DESKS;
  /* Written once, while nobody serves: who begins to as a sleep ends would find it half written by the next one. */
  if (lies_there && load32(&own->has_request) == NO_REQUEST)
    memcpy(&view->words->desks[place], request, offsetof(desk_words, text) + request->text_bytes);
  if (lies_there) store32(&own->has_request, HAS_REQUEST);
  platform_wait_end end = platform_wait(&view->region, &own->calls, seen, timeout_us);
  if (lies_there) store32(&own->has_request, KEEPS_REQUEST);
  return load32(&own->state) != WAITING ? WAIT_WOKEN : end;
}
