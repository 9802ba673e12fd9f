/* The file beside a database through which its processes see and wake each other.
 *
 * All in it are hints: what it says may be old, wrong or gone at any moment, and then somebody wakes up later than they
 * could or once for nothing. What is true stands in the database, and in file locks that vanish with their owner.
 * Deleting the file while it is in use loses nothing: those who use it make a new one.
 */
#ifndef PRISMQ_SIDECAR_H
#define PRISMQ_SIDECAR_H

#include <stdint.h>

#include "platform.h"

enum {
  SIDECAR_PLACES = 256,    /* idle workers that can be woken one by one; further ones look every few ms */
  PLACE_TYPES = 5,         /* task types that a place names exactly */
  PLACE_OFFERS = 1 << 16,  /* the worker has capabilities */
  SIDECAR_DESKS = 64,      /* the first places have one */
  DESK_NUMBERS = 8,
  DESK_TEXT_BYTES = 4096 - 16 - 8 * DESK_NUMBERS,
  GROUP_SLOTS = 64,        /* callers that can commit together: a bit each in a word */
  SLOT_NUMBERS = 64,
  SLOT_TEXT_BYTES = 4096 - 64 - 8 * SLOT_NUMBERS
};

/* Where writers wait for their turn: gate.h. */
typedef struct {
  volatile uint32_t releases;  /* goes up when the write lock is given up and somebody may be waiting for it */
  volatile uint32_t contended; /* somebody may be waiting */
  volatile uint64_t kept_until_us; /* until then (steady clock) the turn is kept for the one who was woken; 0 for nobody */
  volatile uint64_t holder;        /* the thread that has the write lock; 0 none that comes through the gate */
  volatile uint64_t rest_until_us; /* until then (steady clock) the following holds */
  volatile uint32_t rest_us;       /* how long each writer is to rest before its turn, so that the WAL stays bounded */
  volatile uint32_t watched; /* one of those who wait looks again soon, in case nobody calls */
  volatile uint32_t slots_next; /* the next turn is that of one who has submitted its operation: group.h */
  uint32_t unused[3];
} gate_words;

/* Where the one who keeps house is called: keeper.h. */
typedef struct {
  volatile uint32_t calls; /* goes up with each call */
  volatile uint32_t wanted; /* keeper_wish bits */
  volatile uint64_t due_ms; /* wall clock: when the next delayed task is due or lease ends, as far as known; 0 unknown */
  volatile uint64_t seen_at_us; /* steady clock: when whoever keeps house was last awake */
  volatile uint64_t seen_who;   /* and which one that was */
  uint32_t unused[8];
} keeper_words;

/* Where an idle worker sleeps: places.h. */
typedef struct {
  volatile uint32_t calls;
  volatile uint32_t type_count; /* 0: any; more than PLACE_TYPES: types[0] has a bit for each; and PLACE_OFFERS */
  volatile uint64_t state;      /* a place_state, and which sleep it is of */
  volatile uint64_t types[PLACE_TYPES];
  volatile uint64_t called_at_us; /* steady clock; or when it was served */
} place_words;

/* Where the claim of one who sleeps lies, so that who adds a task can claim it for that one: handover.h. Later the task
 * lies there. */
typedef struct {
  uint32_t numbers_count;
  uint32_t text_bytes;
  uint64_t check; /* of the rest, of which sleep it is, and of whether it is an answer */
  int64_t numbers[DESK_NUMBERS];
  char text[DESK_TEXT_BYTES];
} desk_words;

/* Where a caller's operation lies, so that whoever has the write lock can do it: slots.h. Later its result lies there. */
typedef struct {
  volatile uint32_t calls; /* goes up when the caller is to look */
  volatile uint32_t operation;  /* prismq_operation; of a result, its code */
  volatile uint32_t count;
  volatile uint32_t numbers_count;
  volatile uint32_t text_bytes;
  uint32_t unused[5];
  volatile uint64_t check;      /* of the request as it was submitted: slots_check */
  volatile uint64_t ticket;     /* of this request, and of no other */
  volatile uint64_t seen_at_us; /* steady clock: when the caller was last awake */
  int64_t numbers[SLOT_NUMBERS];
  char text[SLOT_TEXT_BYTES];
} slot_words;

typedef struct {
  volatile uint64_t submitted;  /* a bit for each slot that may have a request for somebody to do */
  volatile uint64_t generation; /* a number of this file, and of no other; 0 for none yet */
  volatile uint64_t synced;     /* a bit for each slot whose owner syncs its commits: who doesn't leaves its requests */
  volatile uint32_t next;       /* whose request is done first, so that nobody is always last */
  uint32_t unused[9];
  volatile uint64_t states[GROUP_SLOTS]; /* side by side, to be seen at a glance */
} group_words;

typedef struct {
  volatile uint64_t format;  /* says which layout this is */
  volatile uint32_t retired; /* the file has lost its name: make a new one */
  volatile uint32_t waiting; /* somebody may be waiting at a place */
  volatile uint32_t places_used; /* no place from here on was ever used */
  volatile uint32_t next_place;  /* whom to look at first, so that the work goes round */
  uint32_t unused[10];
  gate_words gate;
  keeper_words keeper;
  place_words places[SIDECAR_PLACES];
  desk_words desks[SIDECAR_DESKS];
  group_words group;
  slot_words slots[GROUP_SLOTS];
} sidecar_words;

/* A view of the file by one connection or one process. */
typedef struct {
  platform_region region;
  sidecar_words *words; /* NULL without one: read-only folder, full disk; everybody then polls */
  const char *database; /* its path, which outlives the view */
  uint32_t mapping;     /* goes up whenever another file is mapped */
} sidecar;

/* Locks on bytes of the file, far behind its content, as Windows' locks would keep others from what is locked. */
enum {
  LOCK_KEEPER = 1 << 30,
  LOCK_PLACES = LOCK_KEEPER + 1, /* and as many as there are places */
  LOCK_FORMAT = LOCK_PLACES + SIDECAR_PLACES, /* whoever wipes the file */
  LOCK_SLOTS,                                 /* and as many as there are slots */
  LOCK_SERVICES = LOCK_SLOTS + GROUP_SLOTS,   /* and as many as there are desks */
  LOCK_DEPUTY = LOCK_SERVICES + SIDECAR_DESKS
};

void sidecar_open(sidecar *view, const char *database);
void sidecar_close(sidecar *view);

/* Opens the file anew after it was deleted or replaced. Whether it was. */
int sidecar_renew(sidecar *view);

/* Finds out whether the file was deleted or replaced, and tells everybody who still uses it. */
void sidecar_check(sidecar *view);

#endif
