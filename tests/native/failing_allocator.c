/* Every allocation of SQLite and of the module goes through here: the module is compiled with malloc, calloc and
 * realloc renamed to these. */
#include "check.h"

void *failing_malloc(size_t bytes);
void *failing_calloc(size_t count, size_t bytes);
void *failing_realloc(void *memory, size_t bytes);

static long countdown;
static int failed;
static sqlite3_mem_methods original;

void fail_allocation(long nth) {
  countdown = nth;
  failed = 0;
}

int allocation_failed(void) { return failed; }

static int fails(void) {
  if (countdown == 0 || --countdown > 0) return 0;
  failed = 1;
  return 1;
}

void *failing_malloc(size_t bytes) { return fails() ? NULL : malloc(bytes); }

void *failing_calloc(size_t count, size_t bytes) { return fails() ? NULL : calloc(count, bytes); }

void *failing_realloc(void *memory, size_t bytes) { return fails() ? NULL : realloc(memory, bytes); }

static void *sqlite_malloc(int bytes) { return fails() ? NULL : original.xMalloc(bytes); }

static void *sqlite_realloc(void *memory, int bytes) { return fails() ? NULL : original.xRealloc(memory, bytes); }

void install_failing_allocator(void) {
  EXPECT(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &original) == SQLITE_OK);
  sqlite3_mem_methods methods = original;
  methods.xMalloc = sqlite_malloc;
  methods.xRealloc = sqlite_realloc;
  EXPECT(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK);
  EXPECT(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK); /* so that every allocation comes here */
}
