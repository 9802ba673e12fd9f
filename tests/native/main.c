/* Runs the C tests: main EMPTY_QUEUE [--quick] [--only PART_OF_SENTENCE]. Works in the current folder.
 *
 * The module is linked in and gets the system's SQLite through the table that an extension gets.
 */
#include <time.h>

#include "check.h"
#include "faulty_vfs.h"

int quick;
const char *empty_queue;

int sqlite3_prismq_init(sqlite3 *database, char **message, const void *api);

void remove_database(const char *path) {
  static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
  char name[256];
  for (int i = 0; i < 4; i++) {
    snprintf(name, sizeof name, "%s%s", path, endings[i]);
    remove(name);
  }
}

void copy_empty_queue(const char *path) {
  remove_database(path);
  FILE *from = fopen(empty_queue, "rb");
  FILE *to = fopen(path, "wb");
  EXPECT(from != NULL && to != NULL);
  char bytes[4096];
  size_t read;
  while ((read = fread(bytes, 1, sizeof bytes, from)) > 0) EXPECT(fwrite(bytes, 1, read, to) == read);
  EXPECT(fclose(from) == 0 && fclose(to) == 0);
}

void execute(sqlite3 *database, const char *sql) {
  char *message = NULL;
  if (sqlite3_exec(database, sql, NULL, NULL, &message) != SQLITE_OK) {
    fprintf(stderr, "%s: %s\n", sql, message);
    exit(1);
  }
}

sqlite3_int64 number(sqlite3 *database, const char *sql) {
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  sqlite3_int64 value = sqlite3_column_int64(statement, 0);
  EXPECT(sqlite3_finalize(statement) == SQLITE_OK);
  return value;
}

void expect_integrity(sqlite3 *database) {
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(database, "PRAGMA integrity_check", -1, &statement, NULL) == SQLITE_OK);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  const char *verdict = (const char *)sqlite3_column_text(statement, 0);
  if (verdict == NULL || strcmp(verdict, "ok") != 0) {
    fprintf(stderr, "integrity_check: %s\n", verdict == NULL ? "no answer" : verdict);
    exit(1);
  }
  EXPECT(sqlite3_finalize(statement) == SQLITE_OK);
}

unsigned next_random(unsigned *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static int run(const test *tests, const char *only) {
  int ran = 0;
  for (; tests->sentence != NULL; tests++) {
    if (only != NULL && strstr(tests->sentence, only) == NULL) continue;
    printf("%s ... ", tests->sentence);
    fflush(stdout);
    clock_t started = clock();
    tests->run();
    printf("%.1f s\n", (double)(clock() - started) / CLOCKS_PER_SEC);
    ran++;
  }
  return ran;
}

int main(int argc, char **argv) {
  const char *only = NULL;
  EXPECT(argc >= 2);
  empty_queue = argv[1];
  for (int i = 2; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) quick = 1;
    if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
  }
  install_failing_allocator();
  faulty_vfs_register();
  sqlite3 *first;
  EXPECT(sqlite3_auto_extension((void (*)(void))sqlite3_prismq_init) == SQLITE_OK);
  EXPECT(sqlite3_open(":memory:", &first) == SQLITE_OK && sqlite3_close(first) == SQLITE_OK);
  sqlite3_reset_auto_extension();
  int ran = run(request_tests, only) + run(wal_tests, only) + run(fault_tests, only);
  EXPECT(sqlite3_shutdown() == SQLITE_OK);
  printf("%d tests passed\n", ran);
  return ran == 0;
}
