#include "keeper.h"

#include "atomics.h"
#include "places.h"
#include "prismq.h"

enum {
  TICK_US = 38000, /* how soon a keeper's death, a foreign commit and a lost sidecar are noticed */
  SPARE_US = 500000, /* how soon a deputy's death is */
  SOON_MS = 80,    /* what is due later will be seen at a tick */
  BURY_US = 1000000,
  ABSENT_US = 1000000,
  LOOK_REST_US = 1000,       /* between two looks, however much is committed */
  CHECKPOINT_REST_US = 20000 /* and between two checkpoints */
};

void keeper_call(sidecar *view) {
  if (view->words == NULL) return;
  keeper_words *words = &view->words->keeper;
  (void)add32(&words->calls, 1);
  (void)platform_wake(&view->region, &words->calls);
}

void keeper_ask(sidecar *view, keeper_wish wish, int now) {
  if (view->words == NULL) return;
  volatile uint32_t *wanted = &view->words->keeper.wanted;
  uint32_t before = load32(wanted);
  while (!(before & wish) && !swap32(wanted, before, before | wish)) before = load32(wanted);
  if (now && !(before & wish)) keeper_call(view);
}

void keeper_note_due(sidecar *view, int64_t due_ms, int64_t now_ms) {
  if (view->words == NULL) return;
  volatile uint64_t *earliest = &view->words->keeper.due_ms;
  uint64_t due = due_ms > 0 ? (uint64_t)due_ms : 1;
  uint64_t before = load64(earliest);
  while ((before == 0 || due < before) && !swap64(earliest, before, due)) before = load64(earliest);
  if ((before == 0 || due < before) && due_ms < now_ms + SOON_MS) keeper_call(view);
}

static uint64_t name_of(const keeper *self) { return (platform_process() << 40) ^ (uint64_t)(uintptr_t)self; }

/* One who has the lock and was stopped (a debugger, a paused container) is stood in for until it moves again. */
static int lead(keeper *self, sidecar *view) {
  if (self->leads == 2 && !keeper_is_absent(view) && load64(&view->words->keeper.seen_who) != name_of(self))
    self->leads = 0;
  if (self->leads == 1) return 0;
  int before = self->leads;
  if (platform_try_lock(&view->region, LOCK_KEEPER))
    self->leads = 1;
  else if (before == 0 && keeper_is_absent(view))
    self->leads = 2;
  return self->leads != 0 && before == 0 ? KEEP_ELECTED : 0;
}

static void deputise(keeper *self, sidecar *view) {
  if (self->leads && self->deputises) {
    platform_unlock(&view->region, LOCK_DEPUTY);
    self->deputises = 0;
  } else if (!self->leads && !self->deputises) {
    self->deputises = platform_try_lock(&view->region, LOCK_DEPUTY);
  }
}

static int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

/* A wish whose time has come is granted; the others stay, so that nobody calls for them again. */
static int take_wish(sidecar *view, keeper_wish wish, int64_t *not_before_us, int64_t rest_us, int64_t now) {
  volatile uint32_t *wanted = &view->words->keeper.wanted;
  if (now < *not_before_us || !(load32(wanted) & wish)) return 0;
  uint32_t before = load32(wanted);
  while (!swap32(wanted, before, before & ~(uint32_t)wish)) before = load32(wanted);
  *not_before_us = now + rest_us;
  return 1;
}

/* What there is to do for the one who leads; 0 for nothing. */
static int due_events(keeper *self, sidecar *view, const volatile uint32_t *change, int64_t now) {
  int events = 0;
  int rescued = places_rescue(view, &self->orphan);
  if (rescued & RESCUE_ORPHAN) events |= KEEP_ORPHAN;
  if (rescued & RESCUE_LOOK) events |= KEEP_LOOK;
  if (take_wish(view, WISH_LOOK, &self->look_at_us, LOOK_REST_US, now)) events |= KEEP_LOOK;
  if (take_wish(view, WISH_CHECKPOINT, &self->checkpoint_at_us, CHECKPOINT_REST_US, now)) events |= KEEP_CHECKPOINT;
  uint64_t due = load64(&view->words->keeper.due_ms);
  if (due != 0 && (int64_t)due <= platform_wall_clock_ms()) events |= KEEP_DUE;
  if (change != NULL && *change != self->change && now >= self->change_at_us) {
    self->change = *change;
    self->change_at_us = now + TICK_US; /* who commits through this library says itself what there is to do */
    events |= KEEP_CHANGED;
  }
  if (now >= self->bury_at_us) {
    self->bury_at_us = now + BURY_US;
    if (places_bury(view)) events |= KEEP_LOOK;
  }
  return events;
}

/* How long the one who leads may sleep. */
static int64_t until_next_us(const keeper *self, const sidecar *view, int64_t at_most, int64_t now) {
  if (self->change_at_us > now) at_most = smaller(at_most, self->change_at_us - now);
  const keeper_words *words = &view->words->keeper;
  uint32_t wanted = load32((volatile uint32_t *)&words->wanted);
  if (wanted & WISH_LOOK) at_most = smaller(at_most, self->look_at_us - now);
  if (wanted & WISH_CHECKPOINT) at_most = smaller(at_most, self->checkpoint_at_us - now);
  uint64_t due = load64((volatile uint64_t *)&words->due_ms);
  if (due == 0) return at_most;
  int64_t left_ms = (int64_t)due - platform_wall_clock_ms();
  return left_ms < at_most / 1000 ? left_ms * 1000 : at_most;
}

int keeper_wait(keeper *self, sidecar *view, const volatile uint32_t *change, int64_t timeout_us) {
  int64_t now = platform_steady_clock_us(), until = now + timeout_us;
  for (;; now = platform_steady_clock_us()) {
    if (load32(&self->stopping)) return KEEP_STOPPED;
    if (sidecar_renew(view)) self->leads = self->deputises = 0;
    if (view->words == NULL) return KEEP_ALONE;
    uint32_t seen = load32(&view->words->keeper.calls); /* before looking: what comes later changes it */
    int events = lead(self, view);
    deputise(self, view);
    if (self->leads) {
      store64(&view->words->keeper.seen_at_us, (uint64_t)now);
      store64(&view->words->keeper.seen_who, name_of(self));
      events |= due_events(self, view, change, now);
    }
    if (events) return events;
    if (now >= until) return 0;
    int64_t longest = smaller(until - now, self->leads || self->deputises ? TICK_US : SPARE_US);
    if (self->leads)
      (void)platform_wait(&view->region, &view->words->keeper.calls, seen, until_next_us(self, view, longest, now));
    else
      (void)platform_wait(&view->region, &self->calls, 0, longest);
    if (self->leads || ++self->ticks % 4 == 0) sidecar_check(view); /* one is enough to tell everybody */
  }
}

int keeper_is_absent(sidecar *view) {
  if (view->words == NULL) return 1;
  int64_t since = (int64_t)((uint64_t)platform_steady_clock_us() - load64(&view->words->keeper.seen_at_us));
  return since < 0 || since > ABSENT_US;
}

void keeper_stop(keeper *self) {
  static const platform_region none; /* the word is this process's own */
  store32(&self->stopping, 1);
  store32(&self->calls, 1);
  (void)platform_wake(&none, &self->calls);
}

void keeper_forget_due(sidecar *view) {
  if (view->words != NULL) store64(&view->words->keeper.due_ms, 0);
}

void keeper_resign(keeper *self, sidecar *view) {
  if (view->words == NULL) return;
  if (self->deputises) platform_unlock(&view->region, LOCK_DEPUTY);
  self->deputises = 0;
  if (self->leads == 0) return;
  store64(&view->words->keeper.seen_at_us, 0);
  if (self->leads == 2) return;
  platform_unlock(&view->region, LOCK_KEEPER);
  self->leads = 0;
}
