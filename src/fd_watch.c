#include "fd_watch.h"

#include "base/mem.h"
#include "fiber.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

struct fd_watch {
	uv_poll_t poll;
	int epoll;             /* owned: what is watched in place of a shared descriptor; -1: nothing */
	int armed;             /* UV_READABLE | UV_WRITABLE that the loop looks for */
	struct event ready[2]; /* by enum fd_ready */
};

static const int masks[] = {[FD_READABLE] = UV_READABLE, [FD_WRITABLE] = UV_WRITABLE};

static void on_poll(uv_poll_t *poll, int status, int events);

static void update(struct fd_watch *watch)
{
	if (watch->armed)
		uv_poll_start(&watch->poll, watch->armed, on_poll);
	else
		uv_poll_stop(&watch->poll);
}

/*
 * The watch is level-triggered and stays armed from one wait to the next, which saves two system calls a wait. It is disarmed when it
 * fires and nobody waits: the loop would spin.
 */
static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct fd_watch *watch = poll->data;
	int unwanted = 0;

	for (int what = 0; what < 2; what++) {
		if (!((status < 0 ? watch->armed : events & watch->armed) & masks[what]))
			continue;
		if (watch->ready[what].waiter)
			event_set(&watch->ready[what]);
		else
			unwanted |= masks[what];
	}
	if (unwanted) {
		watch->armed &= ~unwanted;
		update(watch);
	}
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
	watch->epoll = -1;
	*ret = watch;
	return 0;
}

int fd_watch_create_shared(int fd, struct fd_watch **ret, struct err *err)
{
	struct epoll_event event = {.events = EPOLLIN};
	cleanup_close int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		if (errno == EPERM)
			return err_set(err, ERR_UNSUPPORTED, "a regular file cannot be watched");
		return err_set_errno(err, errno, "watch a descriptor");
	}
	if (fd_watch_create(epoll, ret, err) < 0)
		return -1;
	(*ret)->epoll = steal_fd(&epoll);
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void fd_watch_destroy(struct fd_watch *watch)
{
	if (!watch)
		return;
	uv_close((uv_handle_t *)&watch->poll, on_closed);
	watch->epoll = close_fd(watch->epoll);
}

int fd_watch_wait(struct fd_watch *watch, enum fd_ready what, struct err *err)
{
	watch->ready[what].set = false;
	if (!(watch->armed & masks[what])) {
		watch->armed |= masks[what];
		update(watch);
	}
	return event_wait(&watch->ready[what], err);
}
