/* What Python sees of the module. cffi reads this file too: plain declarations only. */

/* The statements of engine/prismq/sql.py, by the names they have there. */
typedef enum {
  SQL_BEGIN,
  SQL_BEGIN_READ,
  SQL_COMMIT,
  SQL_ROLLBACK,
  SQL_SAVEPOINT,
  SQL_RELEASE,
  SQL_ROLLBACK_TO,
  SQL_INSERT,
  SQL_INSERT_BLOCK,
  SQL_FIND_KEY,
  SQL_RESERVE_IDS,
  SQL_RESERVED_IDS,
  SQL_DUE,
  SQL_PROMOTE,
  SQL_EXPIRED,
  SQL_CONSTRAINED,
  SQL_HEAD,
  SQL_CLAIM_PRIORITY,
  SQL_CLAIM_PRIORITY_TYPED,
  SQL_CLAIM_FIFO,
  SQL_CLAIM_FIFO_TYPED,
  SQL_CLAIM_LIFO,
  SQL_CLAIM_LIFO_TYPED,
  SQL_CLAIM_LOTTERY,
  SQL_CLAIM_LOTTERY_TYPED,
  SQL_DRAW,
  SQL_TAKE,
  SQL_NORMALISE,
  SQL_COMPLETE,
  SQL_FAIL,
  SQL_RENEW,
  SQL_UNCLAIM,
  SQL_RECORD_GROUP,
  SQL_GROUP_DONE,
  SQL_GROUPS_DONE,
  SQL_STATEMENTS
} prismq_sql;

typedef enum { BLOCK_ROWS = 16 } prismq_block; /* tasks that SQL_INSERT_BLOCK inserts */

/* A request is an operation, how many items it has, and two flat arrays: numbers, and the bytes of all texts one after
 * another. A text stands among the numbers as its length in bytes, -1 for NULL. No pointers inside: a request can be
 * copied to another process as it is. Per item:
 *   ENQUEUE   type, payload, compatibility, idempotency key or NULL, priority, max_attempts, run_after or NO_TIME
 *   CLAIM     worker, types (JSON array) or NULL, capabilities (JSON object), strategy, limit, lease; one item
 *   COMPLETE  id, worker, attempt
 *   FAIL      id, worker, attempt, error, retry (0 or 1), delay
 *   RENEW     id, worker, attempt, lease
 * Times are ms since the epoch, durations ms. */
typedef enum { OP_ENQUEUE, OP_CLAIM, OP_COMPLETE, OP_FAIL, OP_RENEW } prismq_operation;
typedef enum { BY_PRIORITY, BY_FIFO, BY_LIFO, BY_LOTTERY } prismq_strategy;

typedef struct {
  int operation;
  int64_t count;
  const int64_t *numbers;
  int64_t numbers_count;
  const char *text;
  int64_t text_bytes;
} prismq_request;

/* A result belongs to its handle until the next request. `numbers` per item:
 *   ENQUEUE   id
 *   CLAIM     id, priority, attempts, max_attempts, flags; and `text` holds the claim's time and its leases' end, then
 *             per task type, payload, compatibility, run_after, created_at, error, idempotency key, each ended by NUL
 *   COMPLETE  1 done, 0 refused: the token is stale
 *   FAIL      a prismq_fail_outcome
 *   RENEW     the lease's new end, 0 refused
 * On failure `code` is SQLite's extended code. */
typedef struct {
  int code;
  int expired; /* CLAIM: nothing was claimed, but leases that ran out are about to be brought back */
  int64_t waited_ms;
  int64_t at_ms;
  int64_t numbers_count;
  int64_t *numbers;
  int64_t text_bytes;
  char *text;
  char at[24];
  char lease_until[24];
  char message[256];
} prismq_result;

typedef enum { FAIL_REFUSED, FAIL_QUEUED, FAIL_DEAD_LETTER, FAIL_FAILED } prismq_fail_outcome;
typedef enum { TASK_HAS_ERROR = 1, TASK_HAS_KEY = 2 } prismq_task_flags;

typedef struct prismq_handle prismq_handle;

/* Whether a handle's operations are done together with others, and if not, why. */
typedef enum { GROUP_ON, GROUP_OFF, GROUP_WITHOUT_FILE, GROUP_WITHOUT_SLOT } prismq_group_state;

typedef struct prismq_room prismq_room;
typedef struct prismq_keeper prismq_keeper;
typedef enum { ROOM_WOKEN, ROOM_CHANGED, ROOM_TIMED_OUT, ROOM_INTERRUPTED, ROOM_SERVED, ROOM_EXPECTING } prismq_room_end;
typedef enum { CLAIM_NUMBERS = 5 } prismq_claim_numbers; /* in the result of a claim, a task */
typedef enum {
  KEEP_ELECTED = 1,    /* this one keeps house from now on */
  KEEP_LOOK = 2,       /* tasks may have become claimable that nobody was told of */
  KEEP_CHECKPOINT = 4, /* the WAL is long */
  KEEP_CHANGED = 8,    /* something was committed, by whomever */
  KEEP_DUE = 16,       /* a delayed task is due, or a lease has ended */
  KEEP_STOPPED = 32,
  KEEP_ALONE = 64, /* there can be no sidecar file: look by yourself */
  KEEP_ORPHAN = 128 /* a task was claimed for a worker that has not got it: give it back */
} prismq_events;

/* The entry points return 0 or SQLite's extended code, which is in the result too. A handle is used by one thread at a
 * time, the one that holds its connection. With `group_commit`, operations that would wait for the write lock are done
 * together with others, see native/group.h. */
prismq_handle *prismq_open(void *database, const char *const *sql, int count, int64_t busy_timeout_ms,
                           int group_commit);
/* Other than the defaults: whether the connection syncs its commits (then no other one that doesn't does its operations),
 * ids reserved at a time, and how many pages of WAL make the committer help. */
void prismq_set(prismq_handle *handle, int syncs, int64_t id_block, int64_t inline_checkpoint_pages);
void prismq_close(prismq_handle *handle);
prismq_group_state prismq_group_of(prismq_handle *handle);
prismq_result *prismq_results(prismq_handle *handle);
int prismq_execute(prismq_handle *handle, const prismq_request *request);

/* The same for one item, without packing. NULL texts: types, key. A claim that is not `expected` to find a task looks
 * without the write lock first if the last one found none. */
int prismq_enqueue(prismq_handle *handle, const char *type, int64_t type_bytes, const char *payload,
                   int64_t payload_bytes, const char *compatibility, int64_t compatibility_bytes, const char *key,
                   int64_t key_bytes, int64_t priority, int64_t max_attempts, int64_t run_after_ms);
int prismq_claim(prismq_handle *handle, const char *worker, int64_t worker_bytes, const char *types,
                 int64_t types_bytes, const char *capabilities, int64_t capabilities_bytes, int64_t strategy,
                 int64_t limit, int64_t lease_ms, int expected);
/* Is there a task for such a claim? The result has one number, 1 or 0, and `expired` as a claim's. */
int prismq_look(prismq_handle *handle, const char *types, int64_t types_bytes, const char *capabilities,
                int64_t capabilities_bytes);
int prismq_complete(prismq_handle *handle, int64_t id, const char *worker, int64_t worker_bytes, int64_t attempt);

/* Where one idle worker waits, from one thread. NULL: out of memory. */
prismq_room *prismq_room_open(const char *database_path);
void prismq_room_close(prismq_room *room);
/* Takes a place for tasks of these types (prismq_type_hash; none: all) and is called from now on: look for a task once
 * more, then sleep. 0: there is no place, keep looking. */
int prismq_room_arm(prismq_room *room, const uint64_t *types, int64_t count, int offers);
int prismq_room_sleep(prismq_room *room, int64_t timeout_us);
/* What would be claimed, so that who adds a task can claim it for the one who sleeps: ROOM_EXPECTING when that begins
 * (sleep on), ROOM_SERVED when the task is there. NULL: nothing. */
void prismq_room_request(prismq_room *room, const prismq_request *claim);
/* As a claim's result, valid until the next call. Without text the task was too long: read its row. */
prismq_result *prismq_room_result(prismq_room *room);
/* Ends the sleep of another thread, which has not left. */
void prismq_room_interrupt(prismq_room *room);
/* Gives the place up; unless `served`, a call since it was armed is passed on to somebody else. 1: it was
 * served meanwhile, and has a task to give back. */
int prismq_room_leave(prismq_room *room, int served);
uint64_t prismq_type_hash(const char *type, int64_t type_bytes);

/* Who keeps house, with a handle of its own. `prismq_keeper_wait` returns prismq_events, 0 after the timeout. */
prismq_keeper *prismq_keeper_open(prismq_handle *handle);
void prismq_keeper_close(prismq_keeper *keeper);
int prismq_keeper_wait(prismq_keeper *keeper, int64_t timeout_us);
/* After KEEP_ORPHAN, valid until the next wait: the numbers are a claim's and when that was (ms), the text is the worker.
 * Where the database has that claim, the task is to be given back. No numbers: there is none. */
prismq_result *prismq_keeper_orphan(prismq_keeper *keeper);
/* Ends the wait of another thread, now and for ever. */
void prismq_keeper_stop(prismq_keeper *keeper, const char *database_path);
int prismq_keeper_is_anybody_waiting(prismq_keeper *keeper);
void prismq_keeper_call(prismq_keeper *keeper, const char *type, int64_t type_bytes, int choosy, int64_t count);
/* The next delayed task or end of a lease was read from the database: forget, read, then say. */
void prismq_keeper_forget_due(prismq_keeper *keeper);
void prismq_keeper_note_due(prismq_keeper *keeper, int64_t due_ms);
/* Has what checkpoints have copied into the database reach the disk. SQLite's code. */
int prismq_keeper_sync(prismq_keeper *keeper);
/* How long every writer rests before its turn, for the next 0.3 s; 2^31 - 1: nobody writes. */
void prismq_keeper_order_rest(prismq_keeper *keeper, int64_t rest_us);
