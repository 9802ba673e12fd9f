/* The entry points for those who wait: idle workers, and whoever keeps house. */
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "handover.h"
#include "keeper.h"

/* -- a worker */

struct prismq_room {
  sidecar side;
  int place; /* -1 for none */
  int has_request;
  int expecting; /* and has said so */
  desk_words request, answer;
  prismq_result result; /* of the answer */
  char path[];          /* of the database */
};

prismq_room *prismq_room_open(const char *database_path) {
  size_t bytes = strlen(database_path) + 1;
  prismq_room *room = calloc(1, sizeof *room + bytes);
  if (room == NULL) return NULL;
  memcpy(room->path, database_path, bytes);
  room->place = -1;
  sidecar_open(&room->side, room->path);
  return room;
}

void prismq_room_close(prismq_room *room) {
  if (room == NULL) return;
  sidecar_close(&room->side); /* gives up the place's lock */
  free(room);
}

void prismq_room_request(prismq_room *room, const prismq_request *claim) {
  room->has_request = claim != NULL && claim->numbers_count <= DESK_NUMBERS && claim->text_bytes <= DESK_TEXT_BYTES;
  if (!room->has_request) return;
  room->request.numbers_count = (uint32_t)claim->numbers_count;
  room->request.text_bytes = (uint32_t)claim->text_bytes;
  memcpy(room->request.numbers, claim->numbers, (size_t)claim->numbers_count * sizeof *claim->numbers);
  memcpy(room->request.text, claim->text, (size_t)claim->text_bytes);
}

static int is_awaited(prismq_room *room) {
  return places_is_in_service(&room->side, room->place) || places_has_answer(&room->side, room->place);
}

int prismq_room_arm(prismq_room *room, const uint64_t *types, int64_t count, int offers) {
  /* What is under way in a file that has lost its name comes to its end there. */
  if (!is_awaited(room) && sidecar_renew(&room->side)) room->place = -1;
  if (room->place < 0) room->place = places_enter(&room->side, types, count, offers);
  places_arm(&room->side, room->place);
  return room->place >= 0;
}

int prismq_room_sleep(prismq_room *room, int64_t timeout_us) {
  platform_wait_end end = WAIT_WOKEN;
  if (!room->expecting)
    end = places_sleep(&room->side, room->place, room->has_request ? &room->request : NULL, timeout_us);
  room->expecting = !room->expecting && places_is_in_service(&room->side, room->place);
  if (room->expecting) return ROOM_EXPECTING;
  if (end == WAIT_WOKEN && places_take_answer(&room->side, room->place, &room->answer) == LEFT_SERVED)
    return handover_result(&room->answer, &room->result) ? ROOM_SERVED : ROOM_WOKEN;
  /* Without anybody who looks for what nobody is told of, each looks for itself now and then. */
  return (int)(end == WAIT_TIMED_OUT && keeper_is_absent(&room->side) ? WAIT_WOKEN : end);
}

prismq_result *prismq_room_result(prismq_room *room) { return &room->result; }

void prismq_room_interrupt(prismq_room *room) { places_interrupt(&room->side, room->place); }

int prismq_room_leave(prismq_room *room, int served) {
  place_end end = places_leave(&room->side, room->place, &room->answer);
  if (end == LEFT_CALLED && !served) keeper_ask(&room->side, WISH_LOOK, 1);
  room->place = -1;
  room->expecting = 0;
  return end == LEFT_SERVED && handover_result(&room->answer, &room->result);
}

uint64_t prismq_type_hash(const char *type, int64_t type_bytes) { return places_type_hash(type, type_bytes); }

/* -- whoever keeps house */

struct prismq_keeper {
  prismq_handle *handle;
  sidecar none; /* in place of the file's, for a connection of another VFS */
  keeper state;
  prismq_result orphan;
};

prismq_keeper *prismq_keeper_open(prismq_handle *handle) {
  prismq_keeper *keeper = calloc(1, sizeof *keeper);
  if (keeper == NULL) return NULL;
  keeper->handle = handle;
  if (handle->file != NULL) handle->file->pass.exempt = 1;
  return keeper;
}

static sidecar *side_of(prismq_keeper *keeper) {
  return keeper->handle->file != NULL ? &keeper->handle->file->side : &keeper->none;
}

void prismq_keeper_close(prismq_keeper *keeper) {
  if (keeper == NULL) return;
  keeper_resign(&keeper->state, side_of(keeper));
  free(keeper);
}

int prismq_keeper_wait(prismq_keeper *keeper, int64_t timeout_us) {
  database_file *file = keeper->handle->file;
  const volatile uint32_t *change = file != NULL ? database_file_change(file) : NULL;
  return keeper_wait(&keeper->state, side_of(keeper), change, timeout_us);
}

prismq_result *prismq_keeper_orphan(prismq_keeper *keeper) {
  static const prismq_result none;
  keeper->orphan = none;
  (void)handover_orphan(&keeper->state.orphan, &keeper->orphan);
  return &keeper->orphan;
}

/* By a view of its own: the keeper's may be opened anew meanwhile. */
void prismq_keeper_stop(prismq_keeper *keeper, const char *database_path) {
  sidecar view;
  keeper_stop(&keeper->state);
  sidecar_open(&view, database_path);
  keeper_call(&view);
  sidecar_close(&view);
}

int prismq_keeper_is_anybody_waiting(prismq_keeper *keeper) { return places_are_waiting(side_of(keeper)); }

void prismq_keeper_call(prismq_keeper *keeper, const char *type, int64_t type_bytes, int choosy, int64_t count) {
  ready_tasks ready = {places_type_hash(type, type_bytes), count, choosy};
  places_call(side_of(keeper), &ready);
}

void prismq_keeper_forget_due(prismq_keeper *keeper) { keeper_forget_due(side_of(keeper)); }

void prismq_keeper_note_due(prismq_keeper *keeper, int64_t due_ms) {
  keeper_note_due(side_of(keeper), due_ms, INT64_MIN / 2); /* its own call would wake nobody but itself */
}

int prismq_keeper_sync(prismq_keeper *keeper) {
  return keeper->handle->file != NULL ? database_file_sync(keeper->handle->file) : SQLITE_OK;
}

void prismq_keeper_order_rest(prismq_keeper *keeper, int64_t rest_us) { gate_order_rest(side_of(keeper), rest_us); }
