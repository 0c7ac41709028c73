/*
 * fs: files and directories of the worker's own: state of leases, temporary directories.
 *
 * Small calls do their work at once (a local file system answers in microseconds); removing a tree, whose size is in the hands of
 * others, goes on in libuv's thread pool once it has turned out to be big.
 */
#ifndef FS_H
#define FS_H

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

/* All errors are ERR_SYSTEM with sys_errno, unless stated. dir_fd may be AT_FDCWD. */

/* Makes the directory and its missing parents, each with this mode (less the umask). One that is there already is fine. */
int fs_make_dirs(const char *path, mode_t mode, struct err *err);

/*
 * Makes the file hold exactly these bytes: a reader, also after a crash of this process, sees the old content or the new. Not synced
 * to the disk: after a crash of the machine the file may be empty.
 */
int fs_write_file_atomic(int dir_fd, const char *name, const void *bytes, size_t n, mode_t mode, struct err *err);

/*
 * Appends the content of the regular file. -1: ERR_SYSTEM, or ERR_INVALID if it is no regular file or does not fit under the buffer's
 * ceiling. A symbolic link as the last part is not followed. On success the buffer's data ends with a NUL, also for an empty file.
 */
int fs_read_file(int dir_fd, const char *name, struct buf *ret, struct err *err);

/*
 * Removes the file or directory and everything in it. Symbolic links are removed, never followed; directories without permission bits
 * are given them; any depth is fine. What is not there counts as removed. Goes on after a failure, and reports the first one.
 *
 * fs_remove_tree waits; if the wait ends early (cancel, deadline), the removal goes on in the background.
 * fs_remove_tree_now blocks: outside fibers.
 */
int fs_remove_tree(const char *path, struct err *err);
int fs_remove_tree_now(const char *path, struct err *err);
/* Removals for which nobody waits any more end soon, wherever they are: the process is about to exit. */
void fs_end_background(void);

#endif
