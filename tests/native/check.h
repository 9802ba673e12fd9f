/* What the C tests share: they stop the program at the first expectation that does not hold. */
#ifndef CHECK_H
#define CHECK_H

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(truth)                                                                                                  \
  do {                                                                                                                 \
    if (!(truth)) {                                                                                                    \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #truth);                                                      \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

typedef struct {
  const char *sentence;
  void (*run)(void);
} test;

/* Ended by a test without a sentence. */
extern const test request_tests[], wal_tests[], fault_tests[];

extern int quick;               /* a slow memory checker is watching: fewer repetitions of the same */
extern const char *empty_queue; /* the path of a database with the schema and no task, made by Python */

/* -- main.c -------------------------------------------------------------------------------------------------------- */

/* Removes a database and its companions. */
void remove_database(const char *path);

/* A copy of the empty queue at `path`. */
void copy_empty_queue(const char *path);

void execute(sqlite3 *database, const char *sql);
sqlite3_int64 number(sqlite3 *database, const char *sql);
void expect_integrity(sqlite3 *database);

/* The same numbers in every run. */
unsigned next_random(unsigned *state);

/* -- allocations --------------------------------------------------------------------------------------------------- */

/* Lets the `nth` allocation from now fail (1 is the next), by SQLite and by the module; 0 none. */
void fail_allocation(long nth);
int allocation_failed(void);
void install_failing_allocator(void);

#endif
