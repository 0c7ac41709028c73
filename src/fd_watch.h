/*
 * fd_watch: a fiber waits until a descriptor can be read or written. At most one fiber waits for each direction at a time.
 */
#ifndef FD_WATCH_H
#define FD_WATCH_H

#include "base/err.h"

struct fd_watch;

enum fd_ready { FD_READABLE, FD_WRITABLE };

/*
 * Watches fd (borrowed; libuv sets O_NONBLOCK on it). Regular files cannot be watched: -1, ERR_UNSUPPORTED; they are always
 * ready. Destroy the watch before closing fd. destroy takes NULL, from fibers and callbacks alike.
 */
int fd_watch_create(int fd, struct fd_watch **ret, struct err *err);
/* As fd_watch_create for a descriptor that others share: its O_NONBLOCK would hit all of them, and stays as it is. */
int fd_watch_create_shared(int fd, struct fd_watch **ret, struct err *err);
void fd_watch_destroy(struct fd_watch *watch);
/* Waits. A descriptor with an error or a hang-up counts as ready: the following call tells. */
int fd_watch_wait(struct fd_watch *watch, enum fd_ready what, struct err *err);

#endif
