/* platform.h: what the rest relies on, whatever the system. */
#include "crew.h"

#include <time.h>

#ifndef _WIN32
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

enum { BYTES = 4096, FAR = 1 << 30, SLEEPERS = 3 };
enum { READY, GO, WOKEN, RESULT }; /* words of the board */

static platform_region open_memory(void) {
  platform_region region;
  EXPECT(platform_map(&region, "memory", DATABASE, BYTES));
  return region;
}

static volatile uint32_t *word_of(const platform_region *region, int index) {
  return (volatile uint32_t *)region->memory + index;
}

static void await_go(void) {
  (void)add32(&board->words[READY], 1);
  await(&board->words[GO], 1);
}

/* -- time */

static void clocks_agree(void) {
  int64_t wall = platform_wall_clock_ms(), before = now_us();
  EXPECT(wall / 1000 >= (int64_t)time(NULL) - 2 && wall / 1000 <= (int64_t)time(NULL) + 2);
  finish_process(start_process("clock", 0));
  int64_t between = (int64_t)load64(&board->numbers[0]), after = now_us();
  EXPECT(before <= between && between <= after);
  for (int64_t last = after; last < after + 20000;) {
    int64_t now = now_us();
    EXPECT(now >= last);
    last = now;
  }
  EXPECT(platform_wall_clock_ms() - wall >= 20);
}

static void read_clock(int number) {
  (void)number;
  store64(&board->numbers[0], (uint64_t)now_us());
}

static void a_sleep_is_no_shorter(void) {
  static const int64_t lengths[] = {0, 1, 100, 5000, 20000};
  for (int i = 0; i < 5; i++) {
    int64_t began = now_us();
    platform_sleep_us(lengths[i]);
    EXPECT(now_us() - began >= lengths[i] - 1000); /* Windows counts in its own steps */
  }
}

/* -- memory */

static void memory_is_shared_and_kept(void) {
  platform_region region = open_memory(), other = open_memory();
  EXPECT(region.bytes == BYTES && region.memory != other.memory);
  for (int i = 0; i < BYTES / 4; i++) EXPECT(*word_of(&region, i) == 0);
  store32(word_of(&region, 5), 7);
  EXPECT(load32(word_of(&other, 5)) == 7);
  finish_process(start_process("add", 5));
  EXPECT(load32(word_of(&region, 5)) == 8 && load32(word_of(&other, 5)) == 8);
  platform_unmap(&region);
  platform_unmap(&other);
  platform_unmap(&other);
  region = open_memory();
  EXPECT(load32(word_of(&region, 5)) == 8);
  platform_unmap(&region);
}

static void add_one(int index) {
  platform_region region = open_memory();
  (void)add32(word_of(&region, index), 1);
  platform_unmap(&region);
}

static void a_file_of_any_length_is_made_long_enough(void) {
  static char content[BYTES + 100];
  static const size_t lengths[] = {1, 100, BYTES, sizeof content};
  memset(content, 'x', sizeof content);
  for (int i = 0; i < 4; i++) {
    write_file("memory", content, lengths[i]);
    platform_region region = open_memory();
    size_t kept = lengths[i] < BYTES ? lengths[i] : BYTES;
    EXPECT(memcmp(region.memory, content, kept) == 0);
    for (size_t at = kept; at < BYTES; at++) EXPECT(((char *)region.memory)[at] == 0);
    platform_unmap(&region);
  }
}

static void what_is_no_file_is_not_mapped(void) {
  platform_region region;
  EXPECT(!platform_map(&region, ".", DATABASE, BYTES));
  EXPECT(!platform_map(&region, "no such folder/memory", DATABASE, BYTES));
  EXPECT(!platform_map(&region, "", DATABASE, BYTES));
#ifndef _WIN32
  EXPECT(!platform_map(&region, "memory", "no such file", BYTES));
  EXPECT(symlink("elsewhere", "memory") == 0);
  EXPECT(!platform_map(&region, "memory", DATABASE, BYTES));
  EXPECT(access("elsewhere", F_OK) != 0 && unlink("memory") == 0);
  EXPECT(mkfifo("memory", 0600) == 0);
  EXPECT(!platform_map(&region, "memory", DATABASE, BYTES));
  EXPECT(unlink("memory") == 0);
#endif
}

#ifndef _WIN32

static void a_new_file_may_be_used_by_those_who_may_use_its_model(void) {
  static const mode_t modes[] = {0600, 0640, 0666};
  mode_t mask = umask(0077);
  for (int i = 0; i < 3; i++) {
    struct stat made;
    EXPECT(chmod(DATABASE, modes[i]) == 0);
    platform_region region = open_memory();
    EXPECT(stat("memory", &made) == 0 && (made.st_mode & 0777) == modes[i]);
    EXPECT(fcntl((int)region.file, F_GETFD) & FD_CLOEXEC);
    platform_unmap(&region);
    remove_file("memory");
  }
  umask(mask);
}

static void a_file_that_lost_its_name_is_noticed(void) {
  platform_region region = open_memory(), other;
  EXPECT(platform_is_mapped(&region, "memory"));
  EXPECT(rename("memory", "moved") == 0 && !platform_is_mapped(&region, "memory"));
  other = open_memory();
  EXPECT(!platform_is_mapped(&region, "memory") && platform_is_mapped(&other, "memory"));
  EXPECT(rename("moved", "memory") == 0);
  EXPECT(platform_is_mapped(&region, "memory") && !platform_is_mapped(&other, "memory"));
  EXPECT(truncate("memory", BYTES - 1) == 0 && !platform_is_mapped(&region, "memory"));
  EXPECT(unlink("memory") == 0 && !platform_is_mapped(&region, "memory"));
  platform_unmap(&region);
  platform_unmap(&other);
}

#endif

/* -- locks */

static void a_lock_keeps_other_opened_files_out(void) {
  platform_region region = open_memory(), other = open_memory();
  EXPECT(!platform_is_locked(&other, FAR));
  EXPECT(platform_try_lock(&region, FAR));
  EXPECT(platform_is_locked(&other, FAR) && !platform_try_lock(&other, FAR));
  EXPECT(!platform_is_locked(&other, FAR + 1) && platform_try_lock(&other, FAR + 1));
  EXPECT(platform_is_locked(&region, FAR + 1) && !platform_try_lock(&region, FAR + 1));
  finish_process(start_process("locked", FAR));
  finish_process(start_process("locked", FAR + 1));
  finish_process(start_process("not locked", FAR + 2));
  *word_of(&other, 0) = 1; /* locks are far from the memory */
  platform_unlock(&region, FAR);
  EXPECT(!platform_is_locked(&other, FAR) && platform_try_lock(&other, FAR));
  platform_unlock(&other, FAR);
  finish_process(start_process("not locked", FAR));
  platform_unmap(&other); /* which still has one */
  EXPECT(!platform_is_locked(&region, FAR + 1) && platform_try_lock(&region, FAR + 1));
  platform_unmap(&region);
}

static void find_locked(int offset) {
  platform_region region = open_memory();
  EXPECT(platform_is_locked(&region, offset) && !platform_try_lock(&region, offset));
  platform_unmap(&region);
}

static void find_not_locked(int offset) {
  platform_region region = open_memory();
  EXPECT(!platform_is_locked(&region, offset) && platform_try_lock(&region, offset));
  platform_unmap(&region);
}

static void a_lock_goes_when_its_process_is_killed(void) {
  platform_region region = open_memory();
  for (int i = 0; i < (quick ? 1 : 5); i++) {
    store32(&board->words[READY], 0);
    int holder = start_process("hold", FAR);
    await(&board->words[READY], 1);
    EXPECT(platform_is_locked(&region, FAR) && !platform_try_lock(&region, FAR));
    kill_process(holder);
    EXPECT(!platform_is_locked(&region, FAR) && platform_try_lock(&region, FAR));
    platform_unlock(&region, FAR);
  }
  platform_unmap(&region);
}

static void hold_lock(int offset) {
  platform_region region = open_memory();
  EXPECT(platform_try_lock(&region, offset));
  await_go();
}

/* -- waiting */

static void a_wait_ends_in_time(void) {
  platform_region region = open_memory();
  volatile uint32_t own = 3;
  volatile uint32_t *const words[] = {word_of(&region, 9), &own};
  for (int i = 0; i < 2; i++) {
    uint32_t seen = load32(words[i]);
    EXPECT(platform_wait(&region, words[i], seen, 0) == WAIT_TIMED_OUT);
    EXPECT(platform_wait(&region, words[i], seen, -5) == WAIT_TIMED_OUT);
    EXPECT(platform_wait(&region, words[i], seen, 1) != WAIT_CHANGED);
    int64_t began = now_us();
    platform_wait_end end;
    while ((end = platform_wait(&region, words[i], seen, 50000)) != WAIT_TIMED_OUT && now_us() - began < SECOND_US)
      EXPECT(end == WAIT_WOKEN); /* for no reason */
    int64_t took = now_us() - began;
    EXPECT(end == WAIT_TIMED_OUT && took >= 48000 && took < patient_us(10 * SECOND_US));
  }
  platform_unmap(&region);
}

static void a_changed_word_is_not_waited_for(void) {
  platform_region region = open_memory();
  volatile uint32_t own = 3;
  for (int i = 0; i < 20; i++) {
    int64_t began = now_us();
    EXPECT(platform_wait(&region, word_of(&region, 9), 1, 20 * SECOND_US) == WAIT_CHANGED);
    EXPECT(platform_wait(&region, &own, 4, 20 * SECOND_US) != WAIT_TIMED_OUT);
    EXPECT(now_us() - began < 10 * SECOND_US);
  }
  platform_unmap(&region);
}

static volatile uint32_t own_word;

/* Sleeps at the word until it is no longer 0, and says so. */
static void sleep_at(const platform_region *region, volatile uint32_t *word) {
  (void)add32(&board->words[READY], 1);
  while (load32(word) == 0) {
    platform_wait_end end = platform_wait(region, word, 0, 60 * SECOND_US);
    EXPECT(end == WAIT_WOKEN || end == WAIT_CHANGED);
  }
  (void)add32(&board->words[WOKEN], 1);
}

static void *sleep_at_own_word(void *region) {
  sleep_at(region, &own_word);
  return NULL;
}

static void *sleep_at_shared_word(void *region) {
  sleep_at(region, word_of(region, 9));
  return NULL;
}

static void sleep_in_another_process(int number) {
  platform_region region = open_memory();
  (void)number;
  sleep_at(&region, word_of(&region, 9));
  platform_unmap(&region);
}

static void threads_wake_each_other(void) {
  platform_region region = open_memory(), other = open_memory();
  static const platform_region none;
  for (int i = 0; i < (quick ? 10 : 100); i++) {
    store32(&own_word, 0);
    store32(word_of(&region, 9), 0);
    store32(&board->words[READY], 0);
    store32(&board->words[WOKEN], 0);
    pthread_t at_own = start_thread(sleep_at_own_word, &region), at_shared = start_thread(sleep_at_shared_word, &region);
    await(&board->words[READY], 2);
    if (i % 2) platform_sleep_us(2000);
    store32(&own_word, 1);
    (void)platform_wake(&none, &own_word);
    store32(word_of(&other, 9), 1);
    (void)platform_wake(&other, word_of(&other, 9));
    await(&board->words[WOKEN], 2);
    join_thread(at_own);
    join_thread(at_shared);
  }
  platform_unmap(&region);
  platform_unmap(&other);
}

static void processes_wake_each_other(void) {
  platform_region region = open_memory();
  for (int i = 0; i < (quick ? 2 : 10); i++) {
    store32(word_of(&region, 9), 0);
    store32(&board->words[READY], 0);
    store32(&board->words[WOKEN], 0);
    int sleeper = start_process("sleep", 0);
    await(&board->words[READY], 1);
    if (i % 2) platform_sleep_us(2000);
    store32(word_of(&region, 9), 1);
    (void)platform_wake(&region, word_of(&region, 9));
    await(&board->words[WOKEN], 1);
    finish_process(sleeper);
  }
  platform_unmap(&region);
}

static void *sleep_once(void *region) {
  (void)add32(&board->words[READY], 1);
  EXPECT(platform_wait(region, word_of(region, 9), 0, 60 * SECOND_US) == WAIT_WOKEN);
  (void)add32(&board->words[WOKEN], 1);
  return NULL;
}

/* The gate passes turns on by this, and places skip the dead. */
static void a_wake_wakes_one_or_says_that_there_is_none(void) {
  platform_region region = open_memory(), other = open_memory();
  pthread_t sleepers[SLEEPERS];
#ifndef __APPLE__ /* who polls is not known there */
  for (int i = 0; i < 10; i++) EXPECT(platform_wake(&region, word_of(&region, 9)) == 0);
#endif
  for (int i = 0; i < SLEEPERS; i++) sleepers[i] = start_thread(sleep_once, &region);
  await(&board->words[READY], SLEEPERS);
#ifdef __APPLE__
  store32(word_of(&region, 9), 1);
#endif
  for (uint32_t woken = 0; woken < SLEEPERS;) {
    if (platform_wake(&other, word_of(&other, 9)) == 0) {
      platform_sleep_us(1000); /* not asleep yet */
      continue;
    }
    await(&board->words[WOKEN], ++woken);
#ifndef __APPLE__
    platform_sleep_us(5000);
    EXPECT(load32(&board->words[WOKEN]) == woken);
#endif
  }
  for (int i = 0; i < SLEEPERS; i++) join_thread(sleepers[i]);
#ifndef __APPLE__
  for (int i = 0; i < 10; i++) EXPECT(platform_wake(&region, word_of(&region, 9)) == 0);
#endif
  platform_unmap(&region);
  platform_unmap(&other);
}

static void a_killed_sleeper_is_not_woken(void) {
  platform_region region = open_memory();
  int sleeper = start_process("sleep", 0);
  await(&board->words[READY], 1);
  platform_sleep_us(patient_us(5000));
  kill_process(sleeper);
#ifndef __APPLE__
  EXPECT(platform_wake(&region, word_of(&region, 9)) == 0);
#endif
  platform_unmap(&region);
}

#ifndef _WIN32

static void ignore(int number) { (void)number; }

static void *sleep_until_signal(void *region) {
  (void)add32(&board->words[READY], 1);
  platform_wait_end end = platform_wait(region, word_of(region, 9), 0, 60 * SECOND_US);
  store32(&board->words[RESULT], (uint32_t)end + 1);
  return NULL;
}

/* So that Python can handle it: also one that would have a system call started again. */
static void a_signal_interrupts(void) {
  platform_region region = open_memory();
  for (int restarts = 0; restarts < 2; restarts++) {
    struct sigaction action = {.sa_handler = ignore, .sa_flags = restarts ? SA_RESTART : 0};
    EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
    store32(&board->words[READY], 0);
    store32(&board->words[RESULT], 0);
    pthread_t sleeper = start_thread(sleep_until_signal, &region);
    await(&board->words[READY], 1);
    while (load32(&board->words[RESULT]) == 0) {
      EXPECT(pthread_kill(sleeper, SIGUSR1) == 0);
      platform_sleep_us(1000);
    }
    EXPECT(load32(&board->words[RESULT]) == WAIT_INTERRUPTED + 1);
    join_thread(sleeper);
  }
  platform_unmap(&region);
}

#endif

static void processes_have_numbers_of_their_own(void) {
  finish_process(start_process("who", 0));
  EXPECT(load64(&board->numbers[0]) != 0 && load64(&board->numbers[0]) != platform_process());
}

static void say_who(int number) {
  (void)number;
  store64(&board->numbers[0], platform_process());
}

const test platform_tests[] = {
    {"clocks agree", clocks_agree},
    {"a sleep is no shorter", a_sleep_is_no_shorter},
    {"memory is shared and kept", memory_is_shared_and_kept},
    {"a file of any length is made long enough", a_file_of_any_length_is_made_long_enough},
    {"what is no file is not mapped", what_is_no_file_is_not_mapped},
#ifndef _WIN32
    {"a new file may be used by those who may use its model", a_new_file_may_be_used_by_those_who_may_use_its_model},
    {"a file that lost its name is noticed", a_file_that_lost_its_name_is_noticed},
#endif
    {"a lock keeps other opened files out", a_lock_keeps_other_opened_files_out},
    {"a lock goes when its process is killed", a_lock_goes_when_its_process_is_killed},
    {"a wait ends in time", a_wait_ends_in_time},
    {"a changed word is not waited for", a_changed_word_is_not_waited_for},
    {"threads wake each other", threads_wake_each_other},
    {"processes wake each other", processes_wake_each_other},
    {"a wake wakes one or says that there is none", a_wake_wakes_one_or_says_that_there_is_none},
    {"a killed sleeper is not woken", a_killed_sleeper_is_not_woken},
#ifndef _WIN32
    {"a signal interrupts", a_signal_interrupts},
#endif
    {"processes have numbers of their own", processes_have_numbers_of_their_own},
    {NULL, NULL},
};

const role platform_roles[] = {
    {"clock", read_clock},   {"add", add_one},    {"locked", find_locked},        {"not locked", find_not_locked},
    {"hold", hold_lock},     {"who", say_who},    {"sleep", sleep_in_another_process}, {NULL, NULL},
};
