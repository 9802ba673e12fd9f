#include "sidecar.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "atomics.h"
#include "places.h"

/* "prismq" and the layout's version, in the byte order of this machine. */
static const uint64_t FORMAT = UINT64_C(0x716d736972700003);

enum { LONGEST_PATH = 4096, WIPE_TRIES = 1000, WIPE_REST_US = 1000 };

static int name_of(const sidecar *view, char into[LONGEST_PATH]) {
  int length = snprintf(into, LONGEST_PATH, "%s-prismq", view->database);
  return length > 0 && length < LONGEST_PATH;
}

/* A file that was retired and is found under its name has got it back: it is wiped, so that all who use it see that. */
static int is_usable(const sidecar *view) {
  return load64(&view->words->format) == FORMAT && load32(&view->words->retired) == 0;
}

/* Of a file that was used until now the slots stay as they are: what is in them is true for those who await it. */
static void wipe(sidecar *view) {
  int is_ours = load64(&view->words->format) == FORMAT;
  size_t first = sizeof view->words->format, end = is_ours ? offsetof(sidecar_words, group) : sizeof *view->words;
  memset((char *)view->words + first, 0, end - first);
  store64(&view->words->format, FORMAT);
}

static void attach(sidecar *view) {
  char path[LONGEST_PATH];
  view->words = NULL;
  if (!name_of(view, path) || !platform_map(&view->region, path, view->database, sizeof(sidecar_words))) return;
  view->words = view->region.memory;
  view->mapping++;
  if (is_usable(view)) return;
  /* New, or another version's: nobody depends on what is in it, so it is simply wiped; but once, by one of those who come
   * at the same time. */
  int locked = platform_try_lock(&view->region, LOCK_FORMAT);
  for (int tries = 0; !locked && tries < WIPE_TRIES; tries++) {
    platform_sleep_us(WIPE_REST_US);
    if (is_usable(view)) return;
    locked = platform_try_lock(&view->region, LOCK_FORMAT);
  }
  if (!locked) { /* who has the lock was stopped: this one goes without */
    sidecar_close(view);
    return;
  }
  if (!is_usable(view)) wipe(view);
  platform_unlock(&view->region, LOCK_FORMAT);
}

void sidecar_open(sidecar *view, const char *database) {
  memset(view, 0, sizeof *view);
  view->database = database;
  attach(view);
}

void sidecar_close(sidecar *view) {
  if (view->words == NULL) return;
  view->words = NULL;
  platform_unmap(&view->region);
}

int sidecar_renew(sidecar *view) {
  if (view->words == NULL || load32(&view->words->retired) == 0) return 0;
  platform_unmap(&view->region);
  attach(view);
  return 1;
}

void sidecar_check(sidecar *view) {
  char path[LONGEST_PATH];
  if (view->words == NULL || !name_of(view, path) || platform_is_mapped(&view->region, path)) return;
  store32(&view->words->retired, 1);
  places_call_all(view);
}
