#include "gate.h"

#include "atomics.h"

enum {
  KEPT_US = 2000,          /* how long a turn is kept: far longer than waking takes, unless that process is stopped */
  TURN_TIMES = 8, /* transactions in a turn */
  TURN_US = 1000,
  BACK_US = 100,  /* who comes back so soon has more to do */
  WATCH_US = 1000,
  LONGEST_SLEEP_US = 5000, /* so soon the death of the lock's holder is noticed */
  ORDER_US = 300000,
  SHORTEST_WAIT_US = 100,
  LONGEST_WAIT_US = 1000
};

/* The address of a thread's own variable tells it from the others of its process, also in another container. */
static uint64_t this_thread(void) {
  static THREAD_LOCAL char own;
  return (platform_process() << 40) ^ (uint64_t)(uintptr_t)&own;
}

int gate_may_ask(sidecar *view, gate_pass *pass) {
  if (view->words == NULL || pass->called) return 1;
  gate_words *gate = &view->words->gate;
  int64_t now = platform_steady_clock_us();
  if (!pass->queued) {
    pass->comes_back = now - pass->left_at_us < BACK_US;
    pass->asked_at_us = now;
  }
  uint64_t kept_until = load64(&gate->kept_until_us);
  if (kept_until == 0) return 1;
  int64_t left = (int64_t)(kept_until - (uint64_t)now);
  if (left > 0 && left <= KEPT_US) return 0;
  (void)swap64(&gate->kept_until_us, kept_until, 0); /* who was called did not come */
  return 1;
}

void gate_enter(sidecar *view, gate_pass *pass) {
  if (view->words == NULL) return;
  store64(&view->words->gate.holder, this_thread());
  if (pass->called) store64(&view->words->gate.kept_until_us, 0);
  if (pass->queued || !pass->comes_back) pass->times = 0;
  if (pass->times++ == 0) pass->turn_began_us = pass->queued ? platform_steady_clock_us() : pass->asked_at_us;
  pass->queued = pass->called = pass->rested = 0;
}

static void keep_turn(gate_words *gate) {
  store64(&gate->kept_until_us, (uint64_t)(platform_steady_clock_us() + KEPT_US));
}

/* Whether somebody waited here. */
static int wake_next(sidecar *view) {
  gate_words *gate = &view->words->gate;
  if (exchange32(&gate->contended, 0) == 0) return 0;
  keep_turn(gate);
  (void)add32(&gate->releases, 1);
  if (platform_wake(&view->region, &gate->releases)) return 1;
  store64(&gate->kept_until_us, 0);
  return 0;
}

int gate_leave(sidecar *view, gate_pass *pass, int submitted) {
  if (view->words == NULL) return 0;
  gate_words *gate = &view->words->gate;
  store64(&gate->holder, 0);
  pass->left_at_us = platform_steady_clock_us();
  if (pass->comes_back && pass->times < TURN_TIMES && pass->left_at_us - pass->turn_began_us < TURN_US) return submitted;
  pass->times = 0;
  int contended = load32(&gate->contended) != 0;
  if (!submitted || (contended && load32(&gate->slots_next) == 0)) {
    if (wake_next(view)) {
      store32(&gate->slots_next, 1);
      return 0;
    }
    return submitted;
  }
  store32(&gate->slots_next, 0);
  if (contended || pass->comes_back) keep_turn(gate); /* who comes back without a pause would be first again */
  return 1;
}

void gate_skip(sidecar *view) {
  if (view->words == NULL) return;
  store64(&view->words->gate.kept_until_us, 0);
  (void)wake_next(view);
}

int gate_is_own(sidecar *view) { return view->words != NULL && load64(&view->words->gate.holder) == this_thread(); }

int gate_is_held(sidecar *view) { return view->words != NULL && load64(&view->words->gate.holder) != 0; }

/* An order that is not renewed lapses: who gave it may be dead. */
static int64_t ordered_rest_us(sidecar *view, const gate_pass *pass) {
  if (view->words == NULL || pass->exempt) return 0;
  gate_words *gate = &view->words->gate;
  uint32_t rest = load32(&gate->rest_us);
  if (rest == 0) return 0;
  int64_t left = (int64_t)(load64(&gate->rest_until_us) - (uint64_t)platform_steady_clock_us());
  return left > 0 && left <= ORDER_US ? (int64_t)rest : 0;
}

/* Waits an eighth of the wait so far; half of that is random, so that waiters don't meet again. */
void gate_rest(gate_pass *pass, int64_t waited_us, int64_t left_us) {
  int64_t longest = waited_us / 8;
  if (longest < SHORTEST_WAIT_US) longest = SHORTEST_WAIT_US;
  if (longest > LONGEST_WAIT_US) longest = LONGEST_WAIT_US;
  pass->jitter = pass->jitter * 1664525u + 1013904223u; /* Numerical Recipes' linear congruential generator */
  int64_t chosen = longest / 2 + (int64_t)(pass->jitter >> 16) % (longest / 2);
  platform_sleep_us(chosen < left_us ? chosen : left_us);
}

void gate_wait(sidecar *view, gate_pass *pass, int64_t waited_us, int64_t left_us) {
  int64_t ordered = pass->rested ? 0 : ordered_rest_us(view, pass);
  if (ordered > 0 && ordered < GATE_CLOSED) {
    platform_sleep_us(ordered < left_us ? ordered : left_us);
    pass->rested = 1;
    return;
  }
  if (view->words == NULL || gate_is_closed(view, pass)) {
    gate_rest(pass, waited_us, left_us);
    return;
  }
  gate_words *gate = &view->words->gate;
  /* Only from now on a release wakes somebody: what was released a moment ago is to be asked for once more. */
  if (exchange32(&gate->contended, 1) == 0 || !pass->queued) {
    pass->queued = 1;
    pass->seen = load32(&gate->releases);
    return;
  }
  if (load64(&gate->holder) == 0 && load64(&gate->kept_until_us) == 0) {
    gate_rest(pass, waited_us, left_us); /* the holder is no connection of ours: nobody will call */
  } else {
    int watches = swap32(&gate->watched, 0, 1);
    int64_t longest = watches ? WATCH_US : LONGEST_SLEEP_US;
    platform_wait_end end =
        platform_wait(&view->region, &gate->releases, pass->seen, left_us < longest ? left_us : longest);
    pass->called = end == WAIT_WOKEN;
    if (watches || end == WAIT_TIMED_OUT) store32(&gate->watched, 0); /* who watched may be dead */
  }
  store32(&gate->contended, 1); /* others may be waiting still */
  pass->seen = load32(&gate->releases);
}

void gate_give_up(sidecar *view, gate_pass *pass) {
  int called = pass->called;
  pass->queued = pass->called = pass->rested = 0;
  if (view->words != NULL && called) gate_skip(view);
}

void gate_order_rest(sidecar *view, int64_t rest_us) {
  if (view->words == NULL) return;
  store64(&view->words->gate.rest_until_us, (uint64_t)(platform_steady_clock_us() + ORDER_US));
  store32(&view->words->gate.rest_us, (uint32_t)(rest_us < GATE_CLOSED ? rest_us : GATE_CLOSED));
}

int gate_is_closed(sidecar *view, const gate_pass *pass) { return ordered_rest_us(view, pass) >= GATE_CLOSED; }

int64_t gate_rest_ordered_us(sidecar *view, const gate_pass *pass) {
  int64_t ordered = ordered_rest_us(view, pass);
  return pass->rested && ordered < GATE_CLOSED ? 0 : ordered;
}

void gate_has_rested(gate_pass *pass) { pass->rested = 1; }
