#ifndef PRISMQ_VFS_H
#define PRISMQ_VFS_H

/* Registers the VFS "prismq" beside SQLite's default one. Returns a SQLite code. Needs sqlite3_api. */
int vfs_register(void);

#endif
