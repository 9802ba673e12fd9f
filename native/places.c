#include "places.h"

#include "atomics.h"

enum { FREE, AWAKE, WAITING, CALLED }; /* a place's state */
enum { OFFERS = 1 };                   /* its flags: the worker has capabilities */

/* FNV-1a, 64 bits. */
uint64_t places_type_hash(const char *type, int64_t bytes) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (int64_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)type[i]) * UINT64_C(1099511628211);
  return hash;
}

static uint64_t bloom_bit(uint64_t type) { return UINT64_C(1) << (type >> 58); }

typedef enum { NO, PERHAPS, YES } fit;

static fit fits(const place_words *place, const ready_tasks *ready) {
  if (ready->choosy && !(place->flags & OFFERS)) return NO;
  fit best = ready->choosy ? PERHAPS : YES;
  if (place->type_count == 0) return best;
  if (place->type_count > PLACE_TYPES) return place->types[0] & bloom_bit(ready->type) ? PERHAPS : NO;
  for (uint32_t i = 0; i < place->type_count; i++)
    if (place->types[i] == ready->type) return best;
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
  (void)add32(&place->calls, 1);
  if (platform_wake(&view->region, &place->calls)) return 1;
  /* Nobody sleeps there: about to, or dead. */
  if (platform_is_locked(&view->region, lock_of(number))) return 1;
  (void)swap32(&place->state, CALLED, FREE);
  return 0;
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
    if (state == FREE || platform_is_locked(&view->region, lock_of((int)i))) continue;
    if (swap32(&place->state, state, FREE) && state == CALLED) called = 1;
  }
  return called;
}

/* The lock comes first and goes last, so that whoever sees a place in use sees its lock too. */
int places_enter(sidecar *view, const uint64_t *types, int64_t count, int offers) {
  if (view->words == NULL) return -1;
  for (int number = 0; number < SIDECAR_PLACES; number++) {
    place_words *place = &view->words->places[number];
    if (load32(&place->state) != FREE || !platform_try_lock(&view->region, lock_of(number))) continue;
    if (!swap32(&place->state, FREE, AWAKE)) continue; /* taken by another thread of this process: the lock is its */
    place->flags = offers ? OFFERS : 0;
    place->type_count = count > PLACE_TYPES ? PLACE_TYPES + 1 : (uint32_t)count;
    if (count > PLACE_TYPES) place->types[0] = 0;
    for (int64_t i = 0; i < count; i++) {
      if (count > PLACE_TYPES)
        place->types[0] |= bloom_bit(types[i]);
      else
        place->types[i] = types[i];
    }
    for (uint32_t seen = load32(&view->words->places_used); seen <= (uint32_t)number;
         seen = load32(&view->words->places_used))
      (void)swap32(&view->words->places_used, seen, (uint32_t)number + 1);
    return number;
  }
  return -1;
}

int places_leave(sidecar *view, int place) {
  if (view->words == NULL || place < 0) return 0;
  uint32_t state = exchange32(&view->words->places[place].state, FREE);
  platform_unlock(&view->region, lock_of(place));
  return state == CALLED;
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
  store32(&view->words->places[place].state, WAITING);
  store32(&view->words->waiting, 1);
}

platform_wait_end places_sleep(sidecar *view, int place, int64_t timeout_us) {
  if (view->words == NULL || place < 0) return WAIT_CHANGED;
  place_words *own = &view->words->places[place];
  uint32_t seen = load32(&own->calls);
  if (load32(&own->state) != WAITING) return WAIT_WOKEN;
  platform_wait_end end = platform_wait(&view->region, &own->calls, seen, timeout_us);
  return load32(&own->state) != WAITING ? WAIT_WOKEN : end;
}
