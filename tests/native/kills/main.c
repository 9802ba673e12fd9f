/* Kills processes that work on one queue: main EMPTY_QUEUE [--trial NAME] [--times N] [--limit-ms N] [--seed N].
 * Works in the current folder.
 */
#include "kills.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "faulty_vfs.h"
#include "sidecar.h"

enum {
  SECOND_US = 1000000,
  SLEEPERS = 2, /* after the workers */
  HOUSEKEEPER = WORKERS + SLEEPERS,
  PROCESSES,
  LONG_US = 20 * SECOND_US, /* after that a failpoint is never reached, and who should end hangs */
  LOOK_US = 50000
};

board_words *board;
const trial *running;
static const char *empty_queue;
static unsigned random_state = 1;
static pid_t parent;

static struct {
  pid_t pid;
  uint32_t number;
} crew[PROCESSES];

int sqlite3_prismq_init(sqlite3 *database, char **message, const void *api);

_Noreturn void give_up(const char *file, int line, const char *truth) {
  fprintf(stderr, "%s:%d: %s\n", file, line, truth);
  fflush(stderr);
  for (int i = 0; i < PROCESSES && getpid() == parent; i++)
    if (crew[i].pid != 0) kill(crew[i].pid, SIGKILL);
  _exit(1);
}

static unsigned up_to(unsigned most) { return 1 + next_random(&random_state) % most; }

/* -- processes */

static void work(int place, uint32_t number) {
  worker self;
  if (place == HOUSEKEEPER) {
    keep_house();
  } else {
    worker_open(&self, number, place);
    if (place < WORKERS)
      worker_run(&self);
    else
      sleep_for_tasks(&self);
    worker_close(&self);
  }
  exit(0);
}

static void hire(int place) {
  uint32_t number = add32(&board->hired_count, 1);
  EXPECT(number < MOST_HIRED);
  fflush(stdout);
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) work(place, number);
  crew[place].pid = pid;
  crew[place].number = number;
}

static int place_of(pid_t pid) {
  for (int i = 0; i < PROCESSES; i++)
    if (crew[i].pid == pid) return i;
  EXPECT(!"a child that nobody knows");
  return -1;
}

/* Replaces one who was killed; who ended by itself has found something wrong. Whether there was one, or one who stopped,
 * whose place is given. */
typedef enum { NOTHING, DIED, STOPPED } event;

static event look_after(int *place) {
  int status;
  pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED);
  EXPECT(pid >= 0);
  if (pid == 0) return NOTHING;
  *place = place_of(pid);
  if (WIFSTOPPED(status) && load32(&board->stops)) return STOPPED;
  if (WIFSTOPPED(status)) { /* by somebody else, who will see to it */
    fprintf(stderr, "worker %u was stopped by somebody else\n", crew[*place].number);
    return NOTHING;
  }
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
    fprintf(stderr, "worker %u ended with status %x\n", crew[*place].number, (unsigned)status);
  EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  store32(&board->killed[crew[*place].number], 1);
  hire(*place);
  return DIED;
}

/* Looks so many times instead of at the clock: on a shared machine all of this may be stopped for minutes. */
static event wait_for_event(int64_t longest_us, int *place) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  for (int64_t left = longest_us;; left -= LOOK_US) {
    event happened = look_after(place);
    if (happened != NOTHING || left <= 0) return happened;
    int64_t rested = left < LOOK_US ? left : LOOK_US, since = now_us();
    struct timespec longest = {0, (long)rested * 1000};
    if (sigtimedwait(&child, NULL, &longest) >= 0) left += LOOK_US;
    if (now_us() - since > rested + SECOND_US) fprintf(stderr, "all of this was stopped by somebody else\n");
  }
}

/* Replaces whoever dies, until then. */
static void rest(int64_t us) {
  int place;
  for (int64_t until = now_us() + us; now_us() < until;) EXPECT(wait_for_event(until - now_us(), &place) != STOPPED);
}

static void finish_all(void) {
  disarm_failpoint();
  store32(&board->stop, 1);
  for (int i = 0; i < PROCESSES; i++) {
    int status = 0;
    pid_t ended = 0;
    for (int64_t left = LONG_US; ended == 0 && left > 0; left -= 1000) {
      ended = waitpid(crew[i].pid, &status, WNOHANG);
      if (ended == 0) platform_sleep_us(1000);
    }
    if (ended == 0) fprintf(stderr, "worker %u hangs\n", crew[i].number);
    EXPECT(ended == crew[i].pid);
    crew[i].pid = 0;
    EXPECT(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)); /* at a failpoint, just now */
    if (status != 0) store32(&board->killed[crew[i].number], 1);
  }
}

/* -- killing */

static void kill_anybody(void) {
  int place;
  rest(up_to(5000));
  note_death(ANYWHERE);
  kill(crew[up_to(PROCESSES) - 1].pid, SIGKILL);
  EXPECT(wait_for_event(LONG_US, &place) == DIED);
}

/* Whether somebody came there. */
static int kill_at(int failpoint, int64_t within_us) {
  int place;
  if (failpoint == ANYWHERE) {
    kill_anybody();
    return 1;
  }
  arm_failpoint(failpoint, up_to(20), 0);
  event happened = wait_for_event(within_us, &place);
  EXPECT(happened != STOPPED);
  disarm_failpoint();
  return happened == DIED;
}

static void expect_reached(int failpoint, int reached) {
  if (!reached) fprintf(stderr, "nobody came to \"%s\"\n", failpoint_names[failpoint]);
  EXPECT(reached);
}

static void kill_at_each_failpoint(int number) {
  (void)number;
  for (int failpoint = 0; failpoint <= FAILPOINTS; failpoint++) {
    expect_reached(failpoint, kill_at(failpoint, LONG_US));
    if (up_to(3) > 1) rest(up_to(15000)); /* else the next one dies while the others still see to this one */
  }
}

/* -- stopping: who goes on finds a world in which the others went on without it, or died waiting for it */

static void stop_at(int failpoint) {
  int stopped, place;
  arm_failpoint(failpoint, up_to(20), 1);
  event happened = DIED; /* one who was killed a moment ago */
  while (happened == DIED) happened = wait_for_event(LONG_US, &stopped);
  expect_reached(failpoint, happened == STOPPED);
  int64_t until = now_us() + 50000 + up_to(250000);
  while (now_us() < until) {
    if (up_to(2) == 1) {
      (void)kill_at((int)up_to(FAILPOINTS) - 1, until - now_us());
    } else if (up_to(8) == 1) {
      place = (int)up_to(PROCESSES) - 1;
      note_death(ANYWHERE);
      kill(crew[place].pid, SIGKILL); /* it may be the one who has stopped */
    }
    rest(up_to(20000));
  }
  kill(crew[stopped].pid, SIGCONT);
  rest(up_to(10000));
}

static void stop_at_each_failpoint(int number) {
  (void)number;
  for (int failpoint = 0; failpoint < FAILPOINTS; failpoint++) stop_at(failpoint);
}

/* -- the sidecar */

static void work_on(void) {
  rest(up_to(10000));
  if (up_to(3) == 1) (void)kill_at((int)up_to(FAILPOINTS) - 1, 100000);
  if (up_to(6) == 1) kill_anybody();
}

/* Whoever keeps house finds out after a while; until then some have the old one and some the new. */
static void delete_the_sidecar(int number) {
  (void)number;
  (void)remove(SIDECAR);
  work_on();
}

/* As another version would, or one who finds a file that was moved away and back. */
static void wipe_the_sidecar(int number) {
  sidecar view;
  sidecar_open(&view, DATABASE);
  EXPECT(view.words != NULL);
  if (number % 2)
    store64(&view.words->format, 1);
  else
    store32(&view.words->retired, 1);
  sidecar_close(&view);
  sidecar_open(&view, DATABASE);
  sidecar_close(&view);
  work_on();
}

static void overwrite(char byte, int at_random) {
  static char content[sizeof(sidecar_words)];
  memset(content, byte, sizeof content);
  for (size_t i = 0; at_random && i < sizeof content; i++) content[i] = (char)next_random(&random_state);
  FILE *file = fopen(SIDECAR, "r+b");
  if (file == NULL) return;
  EXPECT(fwrite(content, 1, sizeof content, file) == sizeof content && fclose(file) == 0);
}

static void zero_the_sidecar(int number) {
  (void)number;
  overwrite(0, 0);
  work_on();
}

/* All of it, or words here and there. */
static void scribble_over_the_sidecar(int number) {
  sidecar view;
  if (number % 4 == 0) overwrite(0, 1);
  sidecar_open(&view, DATABASE);
  for (int i = 0; view.words != NULL && i < 2000; i++) {
    size_t at = next_random(&random_state) % (sizeof *view.words / 8), group = offsetof(sidecar_words, group) / 8;
    if (i % 2) at = group + next_random(&random_state) % (sizeof(group_words) / 8);
    uint64_t value = (uint64_t)next_random(&random_state) << 40 ^ next_random(&random_state);
    if (i % 4 < 2) value = next_random(&random_state) % 16;
    store64((volatile uint64_t *)view.words + at, value);
  }
  sidecar_close(&view);
  work_on();
}

/* -- a disk or a memory that fails */

static void rest_a_moment(int number) {
  (void)number;
  rest(10000);
}

/* -- threads */

static void *work_in_a_thread(void *number) {
  worker self;
  int place = (int)(uintptr_t)number;
  worker_open(&self, (uint32_t)place, place);
  if (place < WORKERS)
    worker_run(&self);
  else
    sleep_for_tasks(&self);
  worker_close(&self);
  return NULL;
}

static void *keep_house_in_a_thread(void *unused) {
  keep_house();
  return unused;
}

static void run_threads(int times) {
  enum { THREADS = WORKERS + SLEEPERS };
  pthread_t threads[THREADS], housekeeper;
  for (uintptr_t i = 0; i < THREADS; i++) {
    EXPECT(pthread_create(&threads[i], NULL, work_in_a_thread, (void *)i) == 0);
    (void)add32(&board->hired_count, 1);
  }
  EXPECT(pthread_create(&housekeeper, NULL, keep_house_in_a_thread, NULL) == 0);
  platform_sleep_us(times * 100000);
  store32(&board->stop, 1);
  for (int i = 0; i < THREADS; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
  EXPECT(pthread_join(housekeeper, NULL) == 0);
}

/* -- */

static const trial trials[] = {
    {"kill", kill_at_each_failpoint, 0, 0}, {"stop", stop_at_each_failpoint, 0, 0},
    {"delete", delete_the_sidecar, 0, 0},   {"wipe", wipe_the_sidecar, 0, 0},
    {"zero", zero_the_sidecar, 0, 0},       {"scribble", scribble_over_the_sidecar, 0, 1},
    {"disk", rest_a_moment, OF_THE_DISK, 0}, {"memory", rest_a_moment, OF_MEMORY, 0},
    {"threads", NULL, 0, 0},
};

static void copy_empty_queue(void) {
  static const char *const endings[] = {"", "-wal", "-shm", "-prismq"};
  char name[64], bytes[4096];
  for (int i = 0; i < 4; i++) {
    snprintf(name, sizeof name, "%s%s", DATABASE, endings[i]);
    remove(name);
  }
  FILE *from = fopen(empty_queue, "rb"), *to = fopen(DATABASE, "wb");
  EXPECT(from != NULL && to != NULL);
  for (size_t read; (read = fread(bytes, 1, sizeof bytes, from)) > 0;) EXPECT(fwrite(bytes, 1, read, to) == read);
  EXPECT(fclose(from) == 0 && fclose(to) == 0);
}

/* The module is linked in and gets the system's SQLite through the table that an extension gets. */
static void load_module(void) {
  sqlite3 *first;
  if (running->accidents == OF_MEMORY) install_failing_allocator();
  if (running->accidents == OF_THE_DISK) faulty_vfs_register(); /* below the module's own */
  EXPECT(sqlite3_auto_extension((void (*)(void))sqlite3_prismq_init) == SQLITE_OK);
  EXPECT(sqlite3_open(":memory:", &first) == SQLITE_OK && sqlite3_close(first) == SQLITE_OK);
  sqlite3_reset_auto_extension();
}

static void run_processes(int times) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  EXPECT(sigprocmask(SIG_BLOCK, &child, NULL) == 0);
  for (int i = 0; i < PROCESSES; i++) hire(i);
  rest(50000);
  for (int i = 0; i < times; i++) running->round(i);
  rest(100000);
  finish_all();
}

int main(int argc, char **argv) {
  int times = 3, limit_ms = 0;
  EXPECT(argc >= 2);
  empty_queue = argv[1];
  running = &trials[0];
  for (int i = 2; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--times") == 0) times = atoi(argv[i + 1]);
    if (strcmp(argv[i], "--limit-ms") == 0) limit_ms = atoi(argv[i + 1]);
    if (strcmp(argv[i], "--seed") == 0) random_state = (unsigned)atoi(argv[i + 1]);
    for (size_t k = 0; strcmp(argv[i], "--trial") == 0 && k < sizeof trials / sizeof *trials; k++)
      if (strcmp(argv[i + 1], trials[k].name) == 0) running = &trials[k];
  }
  parent = getpid();
  board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  EXPECT(board != MAP_FAILED);
  copy_empty_queue();
  load_module();
  if (running->round == NULL)
    run_threads(times);
  else
    run_processes(times);
  report((int64_t)limit_ms * 1000);
  verify();
  printf("verified\n");
  return 0;
}
