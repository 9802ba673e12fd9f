/* Runs the tests of the sidecar: main [--quick] [--patience TIMES] [--only PART_OF_SENTENCE]. Works in the current folder.
 *
 * No SQLite is needed. With --role NAME NUMBER it is one of the processes that a test starts.
 */
#include "crew.h"

int quick;
int patience = 1; /* how many times slower than usual this may run */
const char *program;

static const test *const all_tests[] = {platform_tests, file_tests,   gate_tests,
                                        places_tests,   keeper_tests, announcement_tests,
#ifndef __SANITIZE_THREAD__ /* which would see nothing of other processes, nor of views that show memory of their own */
                                        hostile_tests
#endif
};
static const role *const all_roles[] = {platform_roles, file_roles, gate_roles, places_roles, keeper_roles, hostile_roles};

static int run(const test *each, const char *only) {
  int ran = 0;
  for (; each->sentence != NULL; each++) {
    if (only != NULL && strstr(each->sentence, only) == NULL) continue;
    printf("%s ... ", each->sentence);
    fflush(stdout);
    int64_t started = now_us();
    clean_folder();
    board_open();
    each->run();
    board_close();
    views_forget();
    printf("%.2f s\n", (double)(now_us() - started) / SECOND_US);
    ran++;
  }
  return ran;
}

static int take_part(const char *name, int number) {
  for (size_t i = 0; i < sizeof all_roles / sizeof *all_roles; i++)
    for (const role *each = all_roles[i]; each->name != NULL; each++) {
      if (strcmp(each->name, name) != 0) continue;
      board_open();
      each->run(number);
      views_forget();
      board_close();
      return 0;
    }
  EXPECT(!"a role that nobody knows");
  return 1;
}

int main(int argc, char **argv) {
  const char *only = NULL, *part = NULL;
  int number = 0, ran = 0;
  program = argv[0];
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) quick = 1;
    if (strcmp(argv[i], "--patience") == 0 && i + 1 < argc) patience = atoi(argv[++i]);
    if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
    if (strcmp(argv[i], "--role") == 0 && i + 2 < argc) {
      part = argv[++i];
      number = atoi(argv[++i]);
    }
  }
  start_watchdog();
  if (part != NULL) return take_part(part, number);
  for (size_t i = 0; i < sizeof all_tests / sizeof *all_tests; i++) ran += run(all_tests[i], only);
  clean_folder();
  printf("%d tests passed\n", ran);
  return ran == 0;
}
