#include "slots.h"

#include <string.h>

#include "atomics.h"
#include "checksum.h"

enum {
  FRESH_US = 100000, /* an owner that was awake since then is alive */
  GENERATION_BITS = 16,
  STATE_BITS = 2,
  CODE_SHIFT = 32
};

static uint64_t bit(int slot) { return UINT64_C(1) << slot; }

static int64_t lock_of(int slot) { return (int64_t)LOCK_SLOTS + slot; }

/* A state as it stands in the file: the code in the upper half, then the request's number, then the state. */
static uint64_t word(uint32_t number, slot_state state, int code) {
  return ((uint64_t)(uint32_t)code << CODE_SHIFT) | (uint32_t)(number << STATE_BITS) | (uint32_t)state;
}

static slot_state state_in(uint64_t word) { return (slot_state)(word & ((1 << STATE_BITS) - 1)); }

static volatile uint64_t *state_of(const sidecar *view, int slot) { return &view->words->group.states[slot]; }

static int move(sidecar *view, const slot_request *request, slot_state from, slot_state to, int code) {
  return swap64(state_of(view, request->slot), word(request->number, from, 0), word(request->number, to, code));
}

slot_words *slots_of(sidecar *view, int slot) { return &view->words->slots[slot]; }

uint64_t slots_generation(sidecar *view) {
  volatile uint64_t *generation = &view->words->group.generation;
  uint64_t known = load64(generation);
  if (known != 0) return known;
  /* Of two files made in one millisecond, their makers' clocks and addresses tell. */
  uint64_t maker = (uint64_t)platform_steady_clock_us() ^ (platform_process() << 7) ^ ((uint64_t)(uintptr_t)view >> 4);
  uint64_t made = ((uint64_t)platform_wall_clock_ms() << GENERATION_BITS) | (maker & ((1 << GENERATION_BITS) - 1));
  return swap64(generation, 0, made) ? made : load64(generation);
}

int slots_join(sidecar *view) {
  if (view->words == NULL) return -1;
  for (int slot = 0; slot < GROUP_SLOTS; slot++) {
    if (!platform_try_lock(&view->region, lock_of(slot))) continue;
    /* It may be that of a caller who died: what nobody has taken is dropped, what somebody is about is left to that one. */
    uint64_t found = load64(state_of(view, slot));
    if (state_in(found) != SLOT_TAKEN && swap64(state_of(view, slot), found, word(0, SLOT_FREE, 0))) return slot;
    platform_unlock(&view->region, lock_of(slot));
  }
  return -1;
}

static uint64_t check_of(const slot_words *request, uint64_t ticket) {
  uint64_t salt = ticket ^ (uint64_t)request->operation << 48 ^ (uint64_t)request->count << 32;
  return checksum(salt, request->numbers, request->numbers_count, request->text, request->text_bytes);
}

void slots_submit(sidecar *view, const slot_request *own, slot_words *request, int syncs) {
  slot_words *to = slots_of(view, own->slot);
  store64(&to->check, check_of(request, own->ticket)); /* of the original: the copy may be wiped at once */
  store32(&to->operation, request->operation);
  store32(&to->count, request->count);
  store32(&to->numbers_count, request->numbers_count);
  store32(&to->text_bytes, request->text_bytes);
  memcpy(to->numbers, request->numbers, request->numbers_count * sizeof *to->numbers);
  memcpy(to->text, request->text, request->text_bytes);
  store64(&to->ticket, own->ticket);
  store64(&to->seen_at_us, (uint64_t)platform_steady_clock_us());
  if (syncs)
    (void)or64(&view->words->group.synced, bit(own->slot));
  else if (load64(&view->words->group.synced) & bit(own->slot))
    (void)and64(&view->words->group.synced, ~bit(own->slot)); /* an earlier owner's */
  store64(state_of(view, own->slot), word(own->number, SLOT_SUBMITTED, 0));
  (void)or64(&view->words->group.submitted, bit(own->slot));
}

platform_wait_end slots_sleep(sidecar *view, const slot_request *own, uint32_t seen, int64_t timeout_us) {
  slot_words *at = slots_of(view, own->slot);
  platform_wait_end end = platform_wait(&view->region, &at->calls, seen, timeout_us);
  store64(&at->seen_at_us, (uint64_t)platform_steady_clock_us());
  return end;
}

int slots_is(sidecar *view, const slot_request *own, slot_state state) {
  uint32_t found = (uint32_t)load64(state_of(view, own->slot));
  return found == (uint32_t)word(own->number, state, 0);
}

int slots_code(sidecar *view, const slot_request *own) {
  return (int)(load64(state_of(view, own->slot)) >> CODE_SHIFT);
}

int slots_withdraw(sidecar *view, const slot_request *own) {
  if (!move(view, own, SLOT_SUBMITTED, SLOT_FREE, 0)) return 0;
  (void)and64(&view->words->group.submitted, ~bit(own->slot));
  return 1;
}

int slots_take_back(sidecar *view, const slot_request *own) {
  (void)load64(&view->words->group.submitted); /* after `slots_publish` */
  return move(view, own, SLOT_TAKEN, SLOT_FREE, 0);
}

int slots_be_done(sidecar *view, const slot_request *own) {
  uint64_t found = load64(state_of(view, own->slot));
  return slots_is(view, own, SLOT_ANSWERED) && swap64(state_of(view, own->slot), found, word(own->number, SLOT_FREE, 0));
}

uint64_t slots_waiting(sidecar *view, int syncs) {
  if (view->words == NULL) return 0;
  uint64_t submitted = load64(&view->words->group.submitted);
  return syncs || submitted == 0 ? submitted : submitted & ~load64(&view->words->group.synced);
}

static int first_in_turn(sidecar *view, uint64_t of) {
  uint32_t first = load32(&view->words->group.next) % GROUP_SLOTS;
  for (uint32_t i = 0; i < GROUP_SLOTS; i++) {
    int slot = (int)((first + i) % GROUP_SLOTS);
    if (of & bit(slot)) return slot;
  }
  return -1;
}

/* Of one who has died nothing is done any more: hours may have passed, and who started it again has asked again. */
static int is_awaited(const sidecar *view, int slot) {
  int64_t age = (int64_t)((uint64_t)platform_steady_clock_us() - load64(&view->words->slots[slot].seen_at_us));
  return (age >= 0 && age < FRESH_US) || platform_is_locked(&view->region, lock_of(slot));
}

static uint32_t smaller(uint32_t one, uint32_t other) { return one < other ? one : other; }

static void copy_request(slot_words *from, slot_words *copy) {
  copy->operation = load32(&from->operation);
  copy->count = load32(&from->count);
  copy->numbers_count = smaller(load32(&from->numbers_count), SLOT_NUMBERS);
  copy->text_bytes = smaller(load32(&from->text_bytes), SLOT_TEXT_BYTES);
  memcpy(copy->numbers, from->numbers, copy->numbers_count * sizeof *copy->numbers);
  memcpy(copy->text, from->text, copy->text_bytes);
}

void slots_take(sidecar *view, uint64_t *of, int syncs, slot_request *taken, slot_words *copy) {
  int slot = first_in_turn(view, *of);
  taken->slot = -1;
  if (slot < 0) return;
  *of &= ~bit(slot);
  (void)and64(&view->words->group.submitted, ~bit(slot));
  uint64_t found = load64(state_of(view, slot));
  if (state_in(found) != SLOT_SUBMITTED) return;
  uint32_t number = (uint32_t)found >> STATE_BITS;
  if (!is_awaited(view, slot)) {
    (void)swap64(state_of(view, slot), found, word(number, SLOT_FREE, 0));
    return;
  }
  if (!swap64(state_of(view, slot), found, word(number, SLOT_TAKEN, 0))) return; /* withdrawn just now */
  store32(&view->words->group.next, (uint32_t)slot + 1);
  *taken = (slot_request){slot, number, load64(&slots_of(view, slot)->ticket)};
  copy_request(slots_of(view, slot), copy);
  int is_whole = load64(&slots_of(view, slot)->check) == check_of(copy, taken->ticket);
  int may_do = syncs || !(load64(&view->words->group.synced) & bit(slot)); /* it may have another owner by now */
  if (is_whole && may_do && (taken->ticket & SLOT_NUMBER_MASK) == number) return;
  (void)slots_take_back(view, taken); /* its owner will do it */
  taken->slot = -1;
}

int slots_unsettled(sidecar *view, uint64_t except, uint64_t tickets[GROUP_SLOTS]) {
  int count = 0;
  for (int slot = 0; slot < GROUP_SLOTS; slot++) {
    slot_state state = state_in(load64(state_of(view, slot)));
    if ((state == SLOT_TAKEN || state == SLOT_ANSWERED) && !(except & bit(slot)))
      tickets[count++] = load64(&slots_of(view, slot)->ticket);
  }
  return count;
}

void slots_bury(sidecar *view) {
  for (int slot = 0; slot < GROUP_SLOTS; slot++) {
    uint64_t found = load64(state_of(view, slot));
    if (state_in(found) == SLOT_TAKEN && !platform_is_locked(&view->region, lock_of(slot)))
      (void)swap64(state_of(view, slot), found, word(0, SLOT_FREE, 0));
  }
}

void slots_publish(sidecar *view) { (void)or64(&view->words->group.submitted, 0); }

void slots_answer(sidecar *view, const slot_request *taken, int code) {
  if (!move(view, taken, SLOT_TAKEN, SLOT_ANSWERED, code)) return; /* its owner has found out by itself */
  slot_words *to = slots_of(view, taken->slot);
  (void)add32(&to->calls, 1);
  (void)platform_wake(&view->region, &to->calls);
}

int slots_call(sidecar *view) {
  for (uint64_t waiting = slots_waiting(view, 1); waiting != 0;) {
    int slot = first_in_turn(view, waiting);
    slot_words *called = slots_of(view, slot);
    (void)add32(&called->calls, 1);
    if (platform_wake(&view->region, &called->calls)) return 1;
    waiting &= ~bit(slot); /* about to sleep, and then it looks once more; or dead */
  }
  return 0;
}
