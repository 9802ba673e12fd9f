/* What the test of killed processes shares.
 *
 * Processes (or threads) work on one queue and note in a journal, which outlives them, what they asked for and what they
 * were answered. Somebody kills them at the failpoints of the module, or does worse. In the end the journal and the
 * database must agree.
 */
#ifndef KILLS_H
#define KILLS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"
#include "prismq.h"

/* Ends this process, and as the parent those that it started. */
_Noreturn void give_up(const char *file, int line, const char *truth);

#define EXPECT(truth)                                                                                                  \
  do {                                                                                                                 \
    if (!(truth)) give_up(__FILE__, __LINE__, #truth);                                                                 \
  } while (0)

#define DATABASE "queue.db"
#define SIDECAR DATABASE "-prismq"

enum { WORKERS = 8, MOST_ENTRIES = 4000000, MOST_KILLS = 100000, MOST_HIRED = MOST_KILLS + 64 };

/* -- what is done to the processes, and what then holds: main.c */

typedef enum { NONE_AT_ALL, OF_THE_DISK, OF_MEMORY } accident; /* a call may fail by it; then nothing of it happened */

typedef struct {
  const char *name;
  void (*round)(int number); /* one of as many as the command line says */
  accident accidents;
  int nothing_holds;         /* somebody writes into the sidecar: it is enough that nobody crashes or hangs */
} trial;

extern const trial *running;

/* -- the journal: what was asked for, and answered */

typedef enum { NEVER, BEGUN, ANSWERED } entry_state;

enum {
  KEYED = 1,
  BROKEN = 2,      /* can't be done, and must fail alone */
  STALE = 4,       /* the token is no longer good */
  ROLLED_BACK = 8, /* by its own caller */
  ASLEEP = 16,     /* somebody else may have claimed for this one */
  ACCIDENT = 32    /* the disk or the memory failed in this very process */
};

typedef struct {
  volatile uint32_t state, flags;
  volatile uint64_t key;
  uint32_t worker;
  uint32_t first; /* of those that happen together or not at all */
  int operation;  /* prismq_operation */
  int code;
  int64_t id, attempt; /* the token that was used or given; the id of what was added */
  int64_t answer;      /* the result's first number */
  int64_t began_us, ended_us;
} entry;

typedef struct {
  int64_t at_us;
  int failpoint;
} death;

/* In memory that all share. */
typedef struct {
  volatile uint32_t stop;
  volatile uint32_t armed;     /* a failpoint's number + 1; 0 none */
  volatile uint32_t countdown; /* who reaches it then */
  volatile uint32_t stops;     /* is stopped, not killed */
  volatile uint32_t deaths_count, hired_count;
  volatile uint64_t reached[32]; /* each failpoint, how many times */
  volatile uint32_t killed[MOST_HIRED]; /* by the workers' numbers */
  death deaths[MOST_KILLS];
  volatile uint32_t entries_count;
  entry entries[MOST_ENTRIES];
} board_words;

extern board_words *board;

/* -- failpoints.c */

enum { FAILPOINTS = 12, ANYWHERE = FAILPOINTS };
extern const char *const failpoint_names[FAILPOINTS + 1];

/* Who reaches the failpoint for the `nth` time from now dies, or stops. */
void arm_failpoint(int failpoint, uint32_t nth, int stops);
void disarm_failpoint(void);
void note_death(int failpoint);

/* -- ../failing_allocator.c */

void fail_allocation(long nth);
int allocation_failed(void);
void install_failing_allocator(void);

/* -- tasks.c: everything about one follows from its number, which is that of its entry */

typedef struct {
  const char *type, *compatibility;
  int64_t priority, max_attempts;
} task_traits;

enum { LONGEST_PAYLOAD = 100000 };

task_traits traits_of(uint32_t number);
int64_t write_payload(uint32_t number, char into[LONGEST_PAYLOAD]);
uint32_t number_in(const char *payload); /* of a task */

/* -- load.c */

typedef struct {
  int64_t id, attempt, max_attempts;
} held_task;

enum { HELD = 12 };

typedef struct {
  uint32_t number;
  int grouped, durable; /* commits with others; waits for the disk */
  char name[24];
  unsigned random;
  sqlite3 *database;
  prismq_handle *handle;
  prismq_result *result;
  sqlite3_stmt *read_row;
  held_task held[HELD];
  int held_count;
  char *payload, *expected; /* room for one each */
} worker;

void worker_open(worker *self, uint32_t number, int place);
void worker_close(worker *self);
void worker_run(worker *self); /* until the board says to stop */
uint32_t worker_in(const char *name);

/* Notes what the worker is about to ask for. */
entry *begin_entry(worker *self, int operation, uint32_t flags);
/* And how it was answered. */
void end_entry(worker *self, entry *call, int code, int64_t answer);
uint32_t number_of(const entry *call);

/* The task that a claim gave. */
void accept_task(worker *self, entry *call, const prismq_result *result);

/* -- others.c: who keeps house; who sleeps until there is a task */

void keep_house(void);
void sleep_for_tasks(worker *self);

/* -- verify.c */

/* The journal and the database agree; ends the program if not. */
void verify(void);
void report(int64_t limit_us);

unsigned next_random(unsigned *state);
unsigned hash_of(uint32_t number);
int64_t now_us(void);

#endif
