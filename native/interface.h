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
  int expired; /* CLAIM: nothing was claimed yet, leases that ran out are to be brought back first */
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

/* The entry points return 0 or SQLite's extended code, which is in the result too. A handle is used by one thread at a
 * time, the one that holds its connection. */
prismq_handle *prismq_open(void *database, const char *const *sql, int count, int64_t busy_timeout_ms);
void prismq_close(prismq_handle *handle);
prismq_result *prismq_results(prismq_handle *handle);
int prismq_execute(prismq_handle *handle, const prismq_request *request);

/* The same for one item, without packing. NULL texts: types, key. */
int prismq_enqueue(prismq_handle *handle, const char *type, int64_t type_bytes, const char *payload,
                   int64_t payload_bytes, const char *compatibility, int64_t compatibility_bytes, const char *key,
                   int64_t key_bytes, int64_t priority, int64_t max_attempts, int64_t run_after_ms);
int prismq_claim(prismq_handle *handle, const char *worker, int64_t worker_bytes, const char *types,
                 int64_t types_bytes, const char *capabilities, int64_t capabilities_bytes, int64_t strategy,
                 int64_t limit, int64_t lease_ms);
int prismq_complete(prismq_handle *handle, int64_t id, const char *worker, int64_t worker_bytes, int64_t attempt);
