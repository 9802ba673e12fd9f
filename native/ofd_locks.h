/* Locks of a queue's files that belong to the opened file, not to the process.
 *
 * SQLite's own belong to the process: a second copy of SQLite in it (Python's `sqlite3`) doesn't see them, and undoes
 * them by closing the file. Linux has the other kind too, and each kind respects the other. On Windows every lock
 * belongs to the opened file; on macOS SQLite's stay as they are.
 */
#ifndef PRISMQ_OFD_LOCKS_H
#define PRISMQ_OFD_LOCKS_H

typedef enum { OFD_NOTHING, OFD_DATABASE, OFD_WAL_INDEX } ofd_file;

#ifdef __linux__

/* Puts itself between SQLite and the system; once a process. Returns a SQLite code. Needs sqlite3_api. */
int ofd_locks_install(void);

/* What this thread has SQLite open from now on. What it so opens is locked as described above. */
void ofd_locks_expect(ofd_file what);

#else

static inline int ofd_locks_install(void) { return 0; /* SQLITE_OK */ }
static inline void ofd_locks_expect(ofd_file what) { (void)what; }

#endif

#endif
