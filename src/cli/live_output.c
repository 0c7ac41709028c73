/*
 * Bytes are written at once as long as the descriptor takes them. What it does not take waits in a buffer, for which a fiber of its
 * own then does the writing; output_write's caller waits until that has caught up.
 */
#include "cli/live_output.h"

#include "base/mem.h"
#include "fd_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* For the last bytes of a command that was ended. */
#define LAST_WORDS_MS 1000

struct stream {
	struct live_output *live;
	int fd;                 /* owned if watch, else ours to write to and never non-blocking by us */
	struct fd_watch *watch; /* NULL: writes block (files, sockets) */
	struct buf waiting;
	size_t written;         /* of waiting */
	struct fiber *writer;   /* NULL: not running */
	bool broken;
};

struct live_output {
	struct stream streams[2]; /* by enum output_stream */
	struct list waits;
	void (*on_broken)(void *arg, int number);
	void *arg;
};

struct caught_up_wait {
	struct list link;
	struct event event;
};

int descriptor_of_our_own(int fd, int access)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		return -1;
	cleanup_free char *path = xasprintf("/proc/self/fd/%d", fd);

	return open(path, access | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

static void wake_waits(struct live_output *live)
{
	list_for_each(item, &live->waits)
		event_set(&container_of(item, struct caught_up_wait, link)->event);
}

static void stream_break(struct stream *s, int number)
{
	struct live_output *live = s->live;

	if (s->broken)
		return;
	s->broken = true;
	buf_reset(&s->waiting);
	s->written = 0;
	wake_waits(live);
	if (s == &live->streams[OUTPUT_STDOUT])
		live->on_broken(live->arg, number);
}

/* How many bytes are written now; -1: broken. */
static ssize_t write_now(struct stream *s, const char *bytes, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t rc = write(s->fd, bytes + done, n - done);

		if (rc >= 0) {
			done += (size_t)rc;
		} else if (errno == EAGAIN && s->watch) {
			break;
		} else if (errno == EAGAIN) { /* somebody else made it non-blocking */
			struct pollfd pollfd = {.fd = s->fd, .events = POLLOUT};

			poll(&pollfd, 1, -1);
		} else if (errno != EINTR) {
			stream_break(s, errno);
			return -1;
		}
	}
	return (ssize_t)done;
}

static void write_waiting(void *arg)
{
	struct stream *s = arg;

	while (!s->broken && s->written < s->waiting.len) {
		if (fd_watch_wait(s->watch, FD_WRITABLE, NULL) < 0)
			break;
		ssize_t n = write_now(s, s->waiting.data + s->written, s->waiting.len - s->written);

		if (n > 0)
			s->written += (size_t)n;
	}
	buf_reset(&s->waiting);
	s->written = 0;
	s->writer = NULL;
	wake_waits(s->live);
}

static void take_raw(void *arg, enum output_stream which, const void *bytes, size_t len)
{
	struct live_output *live = arg;
	struct stream *s = &live->streams[which];

	if (s->broken)
		return;
	ssize_t n = s->writer ? 0 : write_now(s, bytes, len);

	if (n < 0 || (size_t)n == len)
		return;
	buf_append(&s->waiting, (const char *)bytes + n, len - (size_t)n);
	if (!s->writer)
		s->writer = fiber_start(write_waiting, s);
}

static bool has_caught_up(const struct live_output *live)
{
	return !live->streams[OUTPUT_STDOUT].writer && !live->streams[OUTPUT_STDERR].writer;
}

static int wait_caught_up(void *arg, struct err *err)
{
	struct live_output *live = arg;
	struct caught_up_wait wait = {0};
	int rc = 0;

	list_append(&live->waits, &wait.link);
	while (rc == 0 && !has_caught_up(live))
		rc = event_wait(&wait.event, err);
	list_remove(&wait.link);
	return rc;
}

struct output_sink live_output_sink(struct live_output *live)
{
	return (struct output_sink){.raw = take_raw, .wait = wait_caught_up, .arg = live};
}

static void stream_init(struct stream *s, struct live_output *live, int fd)
{
	int own = descriptor_of_our_own(fd, O_WRONLY);

	*s = (struct stream){.live = live, .fd = fd, .waiting = BUF_INIT(BUF_UNBOUNDED)};
	if (own >= 0 && fd_watch_create(own, &s->watch, NULL) == 0)
		s->fd = own;
	else
		close_fd(own);
}

struct live_output *live_output_create(void (*on_broken)(void *arg, int number), void *arg)
{
	struct live_output *live = xcalloc(1, sizeof(*live));

	live->on_broken = on_broken;
	live->arg = arg;
	list_init(&live->waits);
	stream_init(&live->streams[OUTPUT_STDOUT], live, STDOUT_FILENO);
	stream_init(&live->streams[OUTPUT_STDERR], live, STDERR_FILENO);
	return live;
}

void live_output_finish(struct live_output *live, bool drop)
{
	struct fiber_scope scope;

	if (drop || wait_caught_up(live, NULL) < 0) {
		shield_enter(&scope, LAST_WORDS_MS);
		wait_caught_up(live, NULL);
		scope_leave(&scope);
	}
	for (int i = 0; i < 2; i++)
		if (live->streams[i].writer)
			fiber_cancel(live->streams[i].writer);
	shield_enter(&scope, DEADLINE_NONE);
	wait_caught_up(live, NULL);
	scope_leave(&scope);
}

void live_output_destroy(struct live_output *live)
{
	if (!live)
		return;
	for (int i = 0; i < 2; i++) {
		struct stream *s = &live->streams[i];

		if (s->watch) {
			fd_watch_destroy(s->watch);
			close(s->fd);
		}
		buf_deinit(&s->waiting);
	}
	free(live);
}
