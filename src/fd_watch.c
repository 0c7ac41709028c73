#include "fd_watch.h"

#include "base/mem.h"
#include "fiber.h"

#include <errno.h>
#include <stdlib.h>

struct fd_watch {
	uv_poll_t poll;
	int wanted;            /* UV_READABLE | UV_WRITABLE that somebody waits for */
	struct event ready[2]; /* by enum fd_ready */
};

static void on_poll(uv_poll_t *poll, int status, int events);

/* Level-triggered: watch only what is waited for, or the loop would spin. */
static void update(struct fd_watch *watch)
{
	if (watch->wanted)
		uv_poll_start(&watch->poll, watch->wanted, on_poll);
	else
		uv_poll_stop(&watch->poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct fd_watch *watch = poll->data;
	int got = status < 0 ? watch->wanted : events & watch->wanted;

	watch->wanted &= ~got;
	if (got & UV_READABLE)
		event_set(&watch->ready[FD_READABLE]);
	if (got & UV_WRITABLE)
		event_set(&watch->ready[FD_WRITABLE]);
	update(watch);
}

int fd_watch_create(int fd, struct fd_watch **ret, struct err *err)
{
	struct fd_watch *watch = xcalloc(1, sizeof(*watch));
	int rc = uv_poll_init(scheduler_loop(), &watch->poll, fd);

	if (rc < 0) {
		free(watch);
		if (rc == UV_EPERM)
			return err_set(err, ERR_UNSUPPORTED, "a regular file cannot be watched");
		return err_set_errno(err, -rc, "watch a descriptor");
	}
	watch->poll.data = watch;
	*ret = watch;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void fd_watch_destroy(struct fd_watch *watch)
{
	if (watch)
		uv_close((uv_handle_t *)&watch->poll, on_closed);
}

int fd_watch_wait(struct fd_watch *watch, enum fd_ready what, struct err *err)
{
	int mask = what == FD_READABLE ? UV_READABLE : UV_WRITABLE;

	watch->ready[what].set = false;
	watch->wanted |= mask;
	update(watch);
	if (event_wait(&watch->ready[what], err) < 0) {
		watch->wanted &= ~mask;
		update(watch);
		return -1;
	}
	return 0;
}
