/* For ThreadSanitizer, which can't tell that two mappings show the same memory: here all views of one file in this process
 * share one. Each still has a file of its own, and so locks of its own. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kills.h"

int shared_platform_map(platform_region *region, const char *path, const char *like, size_t bytes);
void shared_platform_unmap(platform_region *region);

enum { MAPPINGS = 64 };

typedef struct {
  uint64_t identity;
  void *memory;
  int views;
} mapping;

static mapping mappings[MAPPINGS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* One with views of the file, else one without any. */
static mapping *mapping_of(uint64_t identity) {
  mapping *unused = NULL;
  for (int i = 0; i < MAPPINGS; i++) {
    if (mappings[i].views > 0 && mappings[i].identity == identity) return &mappings[i];
    if (mappings[i].views == 0) unused = &mappings[i];
  }
  EXPECT(unused != NULL);
  return unused;
}

int shared_platform_map(platform_region *region, const char *path, const char *like, size_t bytes) {
  pthread_mutex_lock(&mutex);
  int mapped = platform_map(region, path, like, bytes);
  mapping *common = mapped ? mapping_of(region->identity) : NULL;
  if (mapped && common->views++ > 0) {
    EXPECT(munmap(region->memory, region->bytes) == 0);
    region->memory = common->memory;
  } else if (mapped) {
    *common = (mapping){region->identity, region->memory, 1};
  }
  pthread_mutex_unlock(&mutex);
  return mapped;
}

void shared_platform_unmap(platform_region *region) {
  if (region->memory == NULL) return;
  pthread_mutex_lock(&mutex);
  mapping *common = mapping_of(region->identity);
  EXPECT(common->views > 0 && common->memory == region->memory);
  if (--common->views == 0) {
    platform_unmap(region);
  } else {
    EXPECT(close((int)region->file) == 0);
    region->memory = NULL;
  }
  pthread_mutex_unlock(&mutex);
}
