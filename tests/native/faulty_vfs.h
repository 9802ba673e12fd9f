/* A VFS below the one under test: it counts what happens to WAL files and lets chosen calls fail. */
#ifndef FAULTY_VFS_H
#define FAULTY_VFS_H

/* Registers it as the default; SQLite's own stays "unix". */
void faulty_vfs_register(void);

typedef enum { WAL_WRITE, WAL_SYNC, WAL_READ, WAL_SIZE, WAL_TRUNCATE, WAL_CALLS } wal_call;

typedef struct {
  long calls[WAL_CALLS];
  long largest_write;
  wal_call failing;
  long fail_at;  /* which of these calls fails, counted from arming; 0 none */
  int lasting;   /* all later ones fail as well */
  int code;      /* with this */
  int kept;      /* a failing write's bytes that still reach the file, in percent */
  long failures; /* that happened */
} wal_faults;

extern wal_faults faults;

void arm(wal_call failing, long fail_at, int lasting, int code, int kept);
void disarm(void);

#endif
