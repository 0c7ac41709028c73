/*
 * cleanup: values that free themselves at the end of their scope, as crun and systemd do it.
 *
 *	cleanup_free char *path = xasprintf(…);
 *	cleanup_close int fd = open(…);
 *	return steal(&path);          hands it out; the local is NULL now
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_p(void *p)
{
	free(*(void **)p);
}

/* Closes fd unless it is negative; returns -1, so that `fd = close_fd(fd)` forgets it. */
static inline int close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
	return -1;
}

static inline void cleanup_close_p(int *fd)
{
	close_fd(*fd);
}

#define cleanup(function) __attribute__((cleanup(function)))
#define cleanup_free cleanup(cleanup_free_p)
#define cleanup_close cleanup(cleanup_close_p)

/* The value of *p, which becomes NULL. */
#define steal(p) __extension__({ __typeof__(*(p)) stolen_ = *(p); *(p) = NULL; stolen_; })

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
