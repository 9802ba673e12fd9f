/* What a transaction has made claimable, told to others once it is committed. */
#ifndef PRISMQ_ANNOUNCEMENT_H
#define PRISMQ_ANNOUNCEMENT_H

#include "places.h"

enum { ANNOUNCED_KINDS = 8 };

typedef struct {
  ready_tasks ready[ANNOUNCED_KINDS];
  int kinds;
  int look;       /* more than this tells: whoever keeps house is to look */
  int accounted;  /* the transaction is one operation of the queue, which says itself what it did */
  int64_t due_ms; /* the earliest delayed task or end of a lease in it; 0 for none */
  int64_t now_ms;
} announcement;

/* In these, NULL is nobody to tell. */
void announce_ready(announcement *news, const char *type, int64_t type_bytes, int choosy);
void announce_due(announcement *news, int64_t due_ms, int64_t now_ms);
/* One of the ready ones was taken in the same transaction. */
void announce_taken(announcement *news);
void announce_look(announcement *news);

/* The transaction is over: tells the others, if it was committed. */
void announcement_publish(announcement *news, sidecar *view, int committed);

#endif
