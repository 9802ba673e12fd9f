#include "crew.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
#endif

enum { PROCESSES = 64, POLL_US = 200, PATIENCE_US = 30 * SECOND_US, TOO_LONG_US = 100 * SECOND_US };

extern const char *program; /* main.c */
extern int patience;

/* -- time */

int64_t now_us(void) { return platform_steady_clock_us(); }

int64_t patient_us(int64_t microseconds) { return microseconds * patience; }

int once_within(int64_t us, int64_t (*attempt)(void)) {
  for (int i = 0; i < TRIES; i++)
    if (attempt() <= patient_us(us)) return 1;
  return 0;
}

uint32_t next_random(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* -- files */

void remove_file(const char *name) {
  FILE *left;
  for (int64_t until = now_us() + PATIENCE_US; remove(name) != 0; platform_sleep_us(POLL_US)) {
    if ((left = fopen(name, "rb")) == NULL) return;
    fclose(left);
    EXPECT(now_us() < until); /* Windows waits for handles of those who were killed */
  }
}

void write_file(const char *name, const void *content, size_t bytes) {
  FILE *file = fopen(name, "wb");
  EXPECT(file != NULL && fwrite(content, 1, bytes, file) == bytes && fclose(file) == 0);
}

void clean_folder(void) {
  static const char *const names[] = {SIDECAR, "board", "lock", "memory"};
  for (int i = 0; i < 4; i++) remove_file(names[i]);
  write_file(DATABASE, "", 0);
}

/* -- the board */

board_words *board;
static platform_region board_region;

void board_open(void) {
  EXPECT(platform_map(&board_region, "board", DATABASE, sizeof *board));
  board = board_region.memory;
}

void board_close(void) { platform_unmap(&board_region); }

void await(volatile uint32_t *word, uint32_t least) {
  for (int64_t until = now_us() + PATIENCE_US; load32(word) < least; platform_sleep_us(POLL_US))
    EXPECT(now_us() < until);
}

/* -- processes: what a failing test leaves would disturb the next run */

#ifdef _WIN32

static HANDLE processes[PROCESSES];

static void spawn(int process, char **arguments) {
  char line[1024] = "";
  for (; *arguments != NULL; arguments++) snprintf(line + strlen(line), sizeof line - strlen(line), "\"%s\" ", *arguments);
  STARTUPINFOA how = {.cb = sizeof how};
  PROCESS_INFORMATION started;
  EXPECT(CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &how, &started));
  CloseHandle(started.hThread);
  processes[process] = started.hProcess;
}

static int wait_for(int process) {
  DWORD code = 1;
  WaitForSingleObject(processes[process], INFINITE);
  GetExitCodeProcess(processes[process], &code);
  CloseHandle(processes[process]);
  processes[process] = NULL;
  return code == 0;
}

static void kill_now(int process) { TerminateProcess(processes[process], 9); }

#else

static pid_t processes[PROCESSES];

static void spawn(int process, char **arguments) {
  EXPECT(posix_spawn(&processes[process], program, NULL, NULL, arguments, environ) == 0);
}

static int wait_for(int process) {
  int status = 1;
  while (waitpid(processes[process], &status, 0) < 0) continue; /* interrupted */
  processes[process] = 0;
  return status == 0;
}

static void kill_now(int process) { kill(processes[process], SIGKILL); }

#endif

int start_process(const char *role_name, int number) {
  int process = 0;
  while (process < PROCESSES && processes[process]) process++;
  EXPECT(process < PROCESSES);
  char text[2][16];
  snprintf(text[0], sizeof text[0], "%d", number);
  snprintf(text[1], sizeof text[1], "%d", patience);
  char *arguments[] = {(char *)(uintptr_t)program, "--role",     (char *)(uintptr_t)role_name, text[0],
                       "--patience",               text[1], quick ? "--quick" : NULL,     NULL};
  spawn(process, arguments);
  return process;
}

void finish_process(int process) { EXPECT(wait_for(process)); }

void kill_process(int process) {
  kill_now(process);
  (void)wait_for(process);
}

_Noreturn void give_up(const char *file, int line, const char *truth) {
  fprintf(stderr, "%s:%d: %s\n", file, line, truth);
  fflush(stderr);
  for (int i = 0; i < PROCESSES; i++)
    if (processes[i]) kill_now(i);
  _Exit(1);
}

static void *watch(void *unused) {
  for (int64_t until = now_us() + TOO_LONG_US; now_us() < until;) platform_sleep_us(SECOND_US);
  give_up(__FILE__, __LINE__, "this process hangs");
  return unused;
}

void start_watchdog(void) {
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, watch, NULL) == 0 && pthread_detach(thread) == 0);
}

/* -- threads */

pthread_t start_thread(void *(*run)(void *), void *argument) {
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, run, argument) == 0);
  return thread;
}

void join_thread(pthread_t thread) { EXPECT(pthread_join(thread, NULL) == 0); }

/* -- views */

#ifdef __SANITIZE_THREAD__

#include <sys/mman.h>

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static sidecar common;

void view_open(sidecar *view) {
  pthread_mutex_lock(&opening);
  if (common.words == NULL) sidecar_open(&common, DATABASE);
  sidecar_open(view, DATABASE);
  EXPECT(common.words != NULL && view->words != NULL);
  EXPECT(munmap(view->region.memory, view->region.bytes) == 0);
  view->region.memory = view->words = common.words;
  pthread_mutex_unlock(&opening);
}

void view_close(sidecar *view) {
  EXPECT(view->words == common.words && close((int)view->region.file) == 0);
  view->words = NULL;
}

void views_forget(void) { sidecar_close(&common); }

#else

void view_open(sidecar *view) {
  sidecar_open(view, DATABASE);
  EXPECT(view->words != NULL);
}

void view_close(sidecar *view) { sidecar_close(view); }

void views_forget(void) {}

#endif

int leave_place(sidecar *view, int place) {
  static THREAD_LOCAL desk_words answer;
  return places_leave(view, place, &answer) == LEFT_CALLED;
}
