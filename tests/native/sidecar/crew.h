/* What the tests of the sidecar share: processes and threads that take part, and a board on which they leave word.
 *
 * A process that takes part is this very program, started again in the same folder with the name of a role, so that the
 * same test runs on every system.
 */
#ifndef CREW_H
#define CREW_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* more of POSIX than ISO C has; of no concern to Windows */
#endif

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "places.h"
#include "sidecar.h"

/* Ends this process and those that it started. */
_Noreturn void give_up(const char *file, int line, const char *truth);

#define EXPECT(truth)                                                                                                  \
  do {                                                                                                                 \
    if (!(truth)) give_up(__FILE__, __LINE__, #truth);                                                                 \
  } while (0)

typedef struct {
  const char *sentence;
  void (*run)(void);
} test;

typedef struct {
  const char *name;
  void (*run)(int number);
} role;

/* Ended by one without a sentence or a name. */
extern const test platform_tests[], file_tests[], gate_tests[], places_tests[], keeper_tests[], announcement_tests[],
    hostile_tests[];
extern const role platform_roles[], file_roles[], gate_roles[], places_roles[], keeper_roles[], hostile_roles[];

extern int quick; /* fewer repetitions of the same */

/* -- time: on a busy machine any single thing may take long, so what must be fast has to be so once in some tries */

enum { SECOND_US = 1000000, TRIES = 20 };

int64_t now_us(void);

/* That long, or as much longer as the tool is slower under which this runs. */
int64_t patient_us(int64_t microseconds);

/* Whether one of some tries takes less than `us`. Each returns how long it took. */
int once_within(int64_t us, int64_t (*attempt)(void));

/* -- the folder that a test finds when it begins: an empty database, and neither a board nor a sidecar */

#define DATABASE "database"
#define SIDECAR DATABASE "-prismq"

void clean_folder(void);
void remove_file(const char *name);
void write_file(const char *name, const void *content, size_t bytes);

/* -- the board: all zero when a test begins */

typedef struct {
  volatile uint32_t words[32];
  volatile uint64_t numbers[32];
} board_words;

extern board_words *board;

void board_open(void);
void board_close(void);

/* Waits until the word is at least that. */
void await(volatile uint32_t *word, uint32_t least);

/* -- processes */

int start_process(const char *role_name, int number);
void finish_process(int process); /* which ends well by itself */
void kill_process(int process);

/* Ends the program if it is still there after a time that no test takes. */
void start_watchdog(void);

/* -- threads */

pthread_t start_thread(void *(*run)(void *), void *argument);
void join_thread(pthread_t thread);

/* -- views of the sidecar; under ThreadSanitizer those of one process show the same memory, or it would see nothing */

void view_open(sidecar *view);
void view_close(sidecar *view);
void views_forget(void);

/* Leaves a place for which nobody has claimed: whether it was called. */
int leave_place(sidecar *view, int place);

/* The same numbers in every run. */
uint32_t next_random(uint32_t *state);

#endif
