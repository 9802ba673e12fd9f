#include "announcement.h"

#include <string.h>

#include "keeper.h"

void announce_ready(announcement *news, const char *type, int64_t type_bytes, int choosy) {
  if (news == NULL) return;
  uint64_t hash = places_type_hash(type, type_bytes);
  for (int i = 0; i < news->kinds; i++) {
    if (news->ready[i].type != hash || news->ready[i].choosy != choosy) continue;
    news->ready[i].count++;
    return;
  }
  if (news->kinds == ANNOUNCED_KINDS)
    news->look = 1;
  else
    news->ready[news->kinds++] = (ready_tasks){hash, 1, choosy};
}

void announce_taken(announcement *news) {
  if (news != NULL && news->kinds > 0 && news->ready[0].count > 0) news->ready[0].count--;
}

void announce_due(announcement *news, int64_t due_ms, int64_t now_ms) {
  if (news == NULL) return;
  if (due_ms <= 0) due_ms = 1;
  if (news->due_ms == 0 || due_ms < news->due_ms) news->due_ms = due_ms;
  news->now_ms = now_ms;
}

void announce_look(announcement *news) {
  if (news != NULL) news->look = 1;
}

void announcement_publish(announcement *news, sidecar *view, int committed) {
  if (committed && view->words != NULL) {
    for (int i = 0; i < news->kinds; i++) places_call(view, &news->ready[i]);
    if (news->due_ms != 0) keeper_note_due(view, news->due_ms, news->now_ms);
    if (news->look || !news->accounted) keeper_ask(view, WISH_LOOK, places_are_waiting(view));
  }
  memset(news, 0, sizeof *news);
}
