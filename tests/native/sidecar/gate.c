/* gate.h: whose turn it is, and what happens when somebody does not take it. */
#include "writer.h"

enum { WRITERS = 4, SLEEPERS = 3 };
enum { READY, GO, STOP, CALLED, GOT }; /* words of the board */
enum { COMMON = 0, TURNS = 1, LONGEST = 1 + WRITERS }; /* numbers of the board: that all write; a writer's own */

static void clear_words(void) {
  for (int i = 0; i < 32; i++) store32(&board->words[i], 0);
}

/* -- many writers */

static void write_until_stopped(int number) {
  writer self;
  writer_open(&self);
  uint32_t state = (uint32_t)number;
  int64_t longest = 0;
  (void)add32(&board->words[READY], 1);
  await(&board->words[GO], 1);
  for (uint64_t turns = 1; !load32(&board->words[STOP]); turns++) {
    int64_t asked = now_us();
    EXPECT(writer_take(&self, 20 * SECOND_US) == TAKEN);
    int64_t took = now_us() - asked;
    uint64_t common = load64(&board->numbers[COMMON]);
    for (uint32_t work = next_random(&state) % 1000; work > 0; work--) (void)load32(&board->words[STOP]);
    store64(&board->numbers[COMMON], common + 1);
    writer_give(&self);
    store64(&board->numbers[TURNS + number], turns);
    if (took > longest) store64(&board->numbers[LONGEST + number], (uint64_t)(longest = took));
    if (next_random(&state) % 8 == 0) platform_sleep_us(next_random(&state) % 200);
  }
  writer_close(&self);
}

static void *write_in_a_thread(void *number) {
  write_until_stopped((int)((char *)number - (char *)board));
  return NULL;
}

static void all_writers_get_their_turns(void) {
  int processes[WRITERS];
  pthread_t threads[WRITERS];
  for (int i = 0; i < WRITERS; i++) {
    if (i % 2)
      threads[i] = start_thread(write_in_a_thread, (char *)board + i);
    else
      processes[i] = start_process("write", i);
  }
  await(&board->words[READY], WRITERS);
  store32(&board->words[GO], 1);
  platform_sleep_us(patient_us(quick ? SECOND_US / 4 : SECOND_US));
  store32(&board->words[STOP], 1);
  for (int i = 0; i < WRITERS; i++) {
    if (i % 2)
      join_thread(threads[i]);
    else
      finish_process(processes[i]);
  }
  uint64_t all = 0, fewest = UINT64_MAX;
  for (int i = 0; i < WRITERS; i++) {
    uint64_t turns = load64(&board->numbers[TURNS + i]);
    all += turns;
    if (turns < fewest) fewest = turns;
    EXPECT(load64(&board->numbers[LONGEST + i]) < (uint64_t)patient_us(2 * SECOND_US));
  }
  EXPECT(all == load64(&board->numbers[COMMON]));
  EXPECT(fewest > all / WRITERS / 20); /* a lock without turns leaves somebody out for most of such a time */
}

/* -- a turn that is kept */

/* Waits until called or let in, and says which. */
static void wait_for_call(writer *self) {
  store32(&board->words[READY], 1);
  for (;;) {
    if (self->pass.called) {
      store32(&board->words[CALLED], 1);
      return;
    }
    if (writer_ask(self) == TAKEN) {
      store32(&board->words[GOT], 1);
      writer_give(self);
      return;
    }
    gate_wait(&self->view, &self->pass, 0, SECOND_US);
  }
}

static void *wait_for_call_in_a_thread(void *self) {
  wait_for_call(self);
  await(&board->words[GO], 1);
  return NULL;
}

static void wait_for_call_in_a_process(int number) {
  writer self;
  (void)number;
  writer_open(&self);
  wait_for_call(&self);
  await(&board->words[GO], 1);
}

static int is_called_or_in(void) { return load32(&board->words[CALLED]) || load32(&board->words[GOT]); }

static void await_call(void) {
  for (int64_t until = now_us() + 20 * SECOND_US; !is_called_or_in(); platform_sleep_us(100)) EXPECT(now_us() < until);
}

static int is_refused(writer *self) {
  take_end end = writer_ask(self);
  if (end == TAKEN) writer_give(self);
  return end == TOO_LONG;
}

static void a_turn_is_kept_for_the_called(void) {
  writer holder, called, newcomer;
  writer_open(&holder);
  writer_open(&called);
  writer_open(&newcomer);
  int kept = 0;
  for (int i = 0; i < TRIES; i++) {
    clear_words();
    EXPECT(writer_take(&holder, SECOND_US) == TAKEN);
    pthread_t waiter = start_thread(wait_for_call_in_a_thread, &called);
    await(&board->words[READY], 1);
    platform_sleep_us(patient_us(2500));
    writer_give(&holder);
    int refused = is_refused(&newcomer) + is_refused(&holder);
    await_call();
    kept += refused == 2 && load32(&board->words[CALLED]);
    platform_sleep_us(5000);
    EXPECT(writer_ask(&newcomer) == TAKEN); /* who was called does not come */
    writer_give(&newcomer);
    store32(&board->words[GO], 1);
    join_thread(waiter);
    if (called.pass.called) gate_give_up(&called.view, &called.pass);
  }
  EXPECT(kept > 0);
  writer_close(&holder);
  writer_close(&called);
  writer_close(&newcomer);
}

static void a_called_one_goes_in_and_ends_the_keeping(void) {
  writer called, newcomer;
  writer_open(&called);
  writer_open(&newcomer);
  gate_words *gate = &called.view.words->gate;
  int kept = 0;
  for (int i = 0; i < TRIES; i++) {
    called.pass.called = called.pass.queued = 1;
    store64(&gate->kept_until_us, (uint64_t)now_us() + 2000);
    kept += is_refused(&newcomer);
    EXPECT(writer_ask(&called) == TAKEN && !called.pass.called && load64(&gate->kept_until_us) == 0);
    writer_give(&called);
    EXPECT(writer_ask(&newcomer) == TAKEN);
    writer_give(&newcomer);
  }
  EXPECT(kept > 0);
  writer_close(&called);
  writer_close(&newcomer);
}

static int64_t lapse(int die_asleep) {
  writer holder, other;
  clear_words();
  writer_open(&holder);
  writer_open(&other);
  EXPECT(writer_take(&holder, SECOND_US) == TAKEN);
  int waiter = start_process("be called", 0);
  await(&board->words[READY], 1);
  platform_sleep_us(patient_us(3000));
  if (die_asleep) kill_process(waiter);
  writer_give(&holder);
  if (!die_asleep) {
    await_call();
    kill_process(waiter);
  }
  int64_t began = now_us();
  EXPECT(writer_take(&other, 10 * SECOND_US) == TAKEN);
  int64_t took = now_us() - began;
  writer_give(&other);
  writer_close(&holder);
  writer_close(&other);
  return took;
}

static int64_t lapse_of_one_called(void) { return lapse(0); }
static int64_t lapse_of_one_asleep(void) { return lapse(1); }

static void a_killed_waiter_holds_nobody_up(void) {
  EXPECT(once_within(50000, lapse_of_one_called));
  EXPECT(once_within(50000, lapse_of_one_asleep));
}

/* -- a holder that dies */

static void take_and_stay(int number) {
  writer self;
  (void)number;
  writer_open(&self);
  EXPECT(writer_take(&self, SECOND_US) == TAKEN);
  store32(&board->words[READY], 1);
  await(&board->words[GO], 1);
}

static void *take_and_give(void *number) {
  writer self;
  writer_open(&self);
  EXPECT(writer_take(&self, 20 * SECOND_US) == TAKEN);
  store64((volatile uint64_t *)number, (uint64_t)now_us());
  writer_give(&self);
  writer_close(&self);
  return NULL;
}

static int64_t time_after_death(void) {
  pthread_t waiters[SLEEPERS];
  int64_t took = 0;
  clear_words();
  int holder = start_process("take", 0);
  await(&board->words[READY], 1);
  for (int i = 0; i < SLEEPERS; i++) waiters[i] = start_thread(take_and_give, (void *)(uintptr_t)&board->numbers[i]);
  platform_sleep_us(patient_us(20000));
  int64_t killed = now_us();
  kill_process(holder);
  for (int i = 0; i < SLEEPERS; i++) {
    join_thread(waiters[i]);
    int64_t waited = (int64_t)load64(&board->numbers[i]) - killed;
    EXPECT(waited >= 0 && waited < patient_us(10 * SECOND_US));
    if (waited > took) took = waited;
  }
  return took;
}

static void a_killed_holder_holds_nobody_up(void) { EXPECT(once_within(50000, time_after_death)); }

/* A program that knows nothing of the gate, as the sqlite3 shell. */
static int64_t time_after_stranger(void) {
  writer stranger;
  pthread_t waiter;
  writer_open(&stranger);
  EXPECT(platform_try_lock(&stranger.lock, 1 << 20));
  waiter = start_thread(take_and_give, (void *)(uintptr_t)&board->numbers[0]);
  platform_sleep_us(patient_us(20000));
  int64_t given = now_us();
  platform_unlock(&stranger.lock, 1 << 20);
  join_thread(waiter);
  writer_close(&stranger);
  return (int64_t)load64(&board->numbers[0]) - given;
}

static void the_lock_of_a_stranger_is_got_soon(void) { EXPECT(once_within(50000, time_after_stranger)); }

/* -- order */

static writer sleepers[SLEEPERS];

static void *sleep_until_called(void *writer_in_line) {
  writer *self = writer_in_line;
  gate_wait(&self->view, &self->pass, 0, SECOND_US); /* says that it waits */
  store32(&self->view.words->gate.watched, 1);       /* who watches comes and goes */
  (void)add32(&board->words[READY], 1);
  gate_wait(&self->view, &self->pass, 0, SECOND_US);
  return NULL;
}

static void the_longest_sleeper_is_called_first(void) {
  pthread_t threads[SLEEPERS];
  writer holder;
  writer_open(&holder);
  for (int i = 0; i < SLEEPERS; i++) writer_open(&sleepers[i]);
  int calls[SLEEPERS] = {0};
  for (int i = 0; i < TRIES; i++) {
    clear_words();
    EXPECT(writer_take(&holder, SECOND_US) == TAKEN);
    for (uint32_t j = 0; j < SLEEPERS; j++) {
      threads[j] = start_thread(sleep_until_called, &sleepers[j]);
      await(&board->words[READY], j + 1);
      platform_sleep_us(300);
    }
    writer_give(&holder);
    for (int j = 0; j < SLEEPERS; j++) join_thread(threads[j]);
    for (int j = 0; j < SLEEPERS; j++) calls[j] += sleepers[j].pass.called;
    for (int j = 0; j < SLEEPERS; j++) gate_give_up(&sleepers[j].view, &sleepers[j].pass);
    store64(&holder.view.words->gate.kept_until_us, 0);
  }
  EXPECT(patient_us(1) > 1 || calls[0] > calls[1] + calls[2]); /* sleep is over before all lie down, in a slow tool */
  for (int i = 0; i < SLEEPERS; i++) writer_close(&sleepers[i]);
  writer_close(&holder);
}

static void who_gives_up_passes_its_turn_on(void) {
  writer called, other;
  writer_open(&called);
  writer_open(&other);
  gate_words *gate = &called.view.words->gate;

  store64(&gate->kept_until_us, (uint64_t)now_us() + 2000);
  store32(&gate->contended, 1);
  called.pass.called = called.pass.queued = 1;
  uint32_t releases = load32(&gate->releases);
  gate_give_up(&called.view, &called.pass);
  EXPECT(!called.pass.called && !called.pass.queued);
  EXPECT(load32(&gate->releases) == releases + 1 && load32(&gate->contended) == 0);
  EXPECT(load64(&gate->kept_until_us) == 0); /* nobody was there */

  other.pass.queued = 1; /* was never called */
  store32(&gate->contended, 1);
  gate_give_up(&other.view, &other.pass);
  EXPECT(load32(&gate->releases) == releases + 1 && load32(&gate->contended) == 1);
  writer_close(&called);
  writer_close(&other);
}

static void a_turn_ends_for_one_who_keeps_coming(void) {
  writer self;
  writer_open(&self);
  gate_words *gate = &self.view.words->gate;
  int most = 0;
  for (int i = 0; i < 10 * TRIES; i++) {
    int times = 0;
    store32(&gate->contended, 1);
    for (; load32(&gate->contended); times++) {
      EXPECT(writer_ask(&self) == TAKEN);
      writer_give(&self);
    }
    EXPECT(times <= 8);
    if (times > most) most = times;
  }
  EXPECT(patient_us(1) > 1 || most > 1);
  writer_close(&self);
}

/* -- timeouts */

static void *find_it_taken(void *self) {
  int64_t began = now_us();
  EXPECT(writer_take(self, 0) == TOO_LONG && writer_take(self, 30000) == TOO_LONG);
  EXPECT(now_us() - began >= 29000);
  EXPECT(now_us() - began < patient_us(10 * SECOND_US));
  return NULL;
}

static void a_thread_that_has_the_lock_is_told_so(void) {
  writer holder, other;
  writer_open(&holder);
  writer_open(&other);
  EXPECT(!gate_is_own(&other.view));
  EXPECT(writer_take(&holder, SECOND_US) == TAKEN);
  EXPECT(gate_is_own(&other.view) && writer_take(&other, 100 * SECOND_US) == BY_ITSELF);
  join_thread(start_thread(find_it_taken, &other));
  writer_give(&holder);
  EXPECT(!gate_is_own(&other.view) && writer_take(&other, SECOND_US) == TAKEN);
  writer_give(&other);
  writer_close(&holder);
  writer_close(&other);
}

/* -- orders to rest */

static void all_but_the_exempt_follow_an_order(void) {
  writer self, other;
  writer_open(&self);
  writer_open(&other);
  other.pass.exempt = 1;
  EXPECT(!gate_rest_ordered_us(&self.view, &self.pass) && !gate_is_closed(&self.view, &self.pass));
  gate_order_rest(&other.view, 20000);
  EXPECT(gate_rest_ordered_us(&self.view, &self.pass) && !gate_is_closed(&self.view, &self.pass));
  EXPECT(!gate_rest_ordered_us(&other.view, &other.pass));
  int64_t began = now_us();
  gate_wait(&self.view, &self.pass, 0, SECOND_US);
  EXPECT(now_us() - began >= 20000);
  gate_order_rest(&other.view, 20000);
  EXPECT(!gate_rest_ordered_us(&self.view, &self.pass)); /* it has rested for this turn */
  EXPECT(writer_ask(&self) == TAKEN);
  writer_give(&self);
  gate_order_rest(&other.view, 20000);
  EXPECT(gate_rest_ordered_us(&self.view, &self.pass));
  gate_order_rest(&other.view, 0);
  EXPECT(!gate_rest_ordered_us(&self.view, &self.pass));

  static const int64_t closed[] = {GATE_CLOSED, INT64_MAX};
  for (int i = 0; i < 2; i++) {
    gate_order_rest(&other.view, closed[i]);
    EXPECT(gate_rest_ordered_us(&self.view, &self.pass) && gate_is_closed(&self.view, &self.pass));
    EXPECT(!gate_is_closed(&other.view, &other.pass));
    EXPECT(writer_take(&self, 20000) == TOO_LONG && writer_take(&other, 20000) == TAKEN);
    writer_give(&other);
  }
  writer_close(&self);
  writer_close(&other);
}

static void an_order_to_rest_lapses(void) {
  sidecar view, other;
  gate_pass pass = {0};
  view_open(&view);
  view_open(&other);
  int64_t ordered = now_us();
  gate_order_rest(&view, GATE_CLOSED);
  while (gate_is_closed(&other, &pass)) {
    EXPECT(now_us() - ordered < 5 * SECOND_US);
    platform_sleep_us(10000);
  }
  EXPECT(!gate_rest_ordered_us(&other, &pass));
  EXPECT(now_us() - ordered >= 300000);
  view_close(&view);
  view_close(&other);
}

const test gate_tests[] = {
    {"all writers get their turns", all_writers_get_their_turns},
    {"a turn is kept for the called", a_turn_is_kept_for_the_called},
    {"a called one goes in and ends the keeping", a_called_one_goes_in_and_ends_the_keeping},
    {"a killed waiter holds nobody up", a_killed_waiter_holds_nobody_up},
    {"a killed holder holds nobody up", a_killed_holder_holds_nobody_up},
    {"the lock of a stranger is got soon", the_lock_of_a_stranger_is_got_soon},
    {"the longest sleeper is called first", the_longest_sleeper_is_called_first},
    {"who gives up passes its turn on", who_gives_up_passes_its_turn_on},
    {"a turn ends for one who keeps coming", a_turn_ends_for_one_who_keeps_coming},
    {"a thread that has the lock is told so", a_thread_that_has_the_lock_is_told_so},
    {"all but the exempt follow an order", all_but_the_exempt_follow_an_order},
    {"an order to rest lapses", an_order_to_rest_lapses},
    {NULL, NULL},
};

const role gate_roles[] = {
    {"write", write_until_stopped}, {"be called", wait_for_call_in_a_process}, {"take", take_and_stay}, {NULL, NULL}};
