/*
 * Two fibers. The reader: wait until stdin can be read, read, cut lines, hand them on; while too much is queued for the host, wait
 * for the writer first. The writer: wait until something is queued, fill a piece of at most PIECE_BYTES from the first messages,
 * write it, wait while the host does not take it. Both end on cancellation (channel_close) or when their side is gone.
 */
#include "channel.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "fd_watch.h"
#include "fiber.h"
#include "protocol/json_write.h"
#include "protocol/ndjson.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define READ_BYTES (256 * 1024)
#define PIECE_BYTES (256 * 1024)
#define TEXT_PIECE_BYTES (64 * 1024) /* of raw text; escaped it is at most six times that */
#define LINE_BYTES_MAX (256 * 1024 * 1024)
#define HIGH_WATER_BYTES (1024 * 1024) /* live output waits above this */
#define LOW_WATER_BYTES (256 * 1024)
#define LINES_PER_TURN 64
#define READ_STOP_BYTES (4 * 1024 * 1024) /* of answers; above this no further request is read */

struct part {
	struct buf bytes;
	bool raw; /* to be escaped on the way out */
};

struct message {
	struct list link;
	struct part *parts; /* owned */
	size_t count;
	size_t part;   /* the first one that is not wholly written */
	size_t offset; /* in that part */
};

/* Somebody who waits for room. */
struct writable_wait {
	struct list link;
	struct event event;
};

struct channel {
	struct channel_events events;
	struct ndjson lines;
	int in_fd, out_fd;
	bool out_is_socket, in_is_socket;
	bool in_more; /* the last read was a full one */
	struct fd_watch *in_watch, *out_watch; /* NULL: always ready */
	struct fiber *reader, *writer;         /* NULL: ended */
	struct list queue;
	size_t queued;         /* bytes in the queue */
	size_t queued_literal; /* of them, not raw text */
	struct buf piece;      /* being written */
	struct list waits;
	struct event work; /* for the writer */
	struct event idle; /* for channel_close: the queue is empty or the writer has ended */
	struct event reader_ended;
	bool broken; /* output can't be written any more */
	bool ended;  /* on_end was called */
};

/* --- messages --- */

struct message *message_create(void)
{
	struct message *m = xcalloc(1, sizeof(*m));

	list_init(&m->link);
	return m;
}

void message_destroy(struct message *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->count; i++)
		buf_wipe(&m->parts[i].bytes);
	free(m->parts);
	free(m);
}

static struct part *message_add(struct message *m, bool raw)
{
	m->parts = xrealloc(m->parts, (m->count + 1) * sizeof(*m->parts));
	m->parts[m->count] = (struct part){.bytes = BUF_INIT(BUF_UNBOUNDED), .raw = raw};
	return &m->parts[m->count++];
}

struct buf *message_tail(struct message *m)
{
	if (!m->count || m->parts[m->count - 1].raw)
		return &message_add(m, false)->bytes;
	return &m->parts[m->count - 1].bytes;
}

void message_add_text(struct message *m, struct buf *text)
{
	struct part *part = message_add(m, true);

	part->bytes = *text;
	*text = BUF_INIT(text->max);
}

void message_copy_text(const struct message *m, struct buf *ret)
{
	for (size_t i = 0; i < m->count; i++)
		buf_append(ret, m->parts[i].bytes.data, m->parts[i].bytes.len);
}

/* --- sending --- */

static void count_queued(struct channel *c, const struct message *m)
{
	for (size_t i = 0; i < m->count; i++) {
		c->queued += m->parts[i].bytes.len;
		if (!m->parts[i].raw)
			c->queued_literal += m->parts[i].bytes.len;
	}
}

static void record_message(struct channel *c, const struct message *m)
{
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);

	for (size_t i = 0; i < m->count; i++) {
		const struct buf *bytes = &m->parts[i].bytes;

		if (m->parts[i].raw)
			json_write_escaped(&line, bytes->data ? bytes->data : "", bytes->len);
		else if (bytes->len)
			buf_append(&line, bytes->data, bytes->len);
	}
	c->events.on_record(c->events.arg, true, line.data, line.len - 1);
}

void channel_send(struct channel *c, struct message *m)
{
	if (c->events.on_record)
		record_message(c, m);
	if (c->broken) {
		message_destroy(m);
		return;
	}
	count_queued(c, m);
	list_append(&c->queue, &m->link);
	event_set(&c->work);
}

void channel_send_line(struct channel *c, const char *line, size_t len)
{
	struct message *m = message_create();

	buf_append(message_tail(m), line, len);
	channel_send(c, m);
}

size_t channel_queued(const struct channel *c)
{
	return c->queued;
}

bool channel_is_open(const struct channel *c)
{
	return !c->broken;
}

/* Waits until at most `enough` bytes are left in one of the queue's counters. */
static int wait_until_left(struct channel *c, const size_t *counter, size_t enough, struct err *err)
{
	struct writable_wait wait = {0};
	int rc = 0;

	list_append(&c->waits, &wait.link);
	while (rc == 0 && !c->broken && *counter > enough)
		rc = event_wait(&wait.event, err);
	list_remove(&wait.link);
	return rc;
}

int channel_wait_writable(struct channel *c, struct err *err)
{
	if (c->broken || c->queued <= HIGH_WATER_BYTES)
		return 0;
	return wait_until_left(c, &c->queued, LOW_WATER_BYTES, err);
}

static void wake_waits(struct channel *c)
{
	list_for_each(item, &c->waits)
		event_set(&container_of(item, struct writable_wait, link)->event);
}

static void end(struct channel *c)
{
	if (c->ended)
		return;
	c->ended = true;
	c->events.on_end(c->events.arg);
}

/* --- the writer --- */

/* Moves the next bytes of a part to the piece. */
static void take_from_part(struct channel *c, struct message *m, struct part *part)
{
	const char *from = part->bytes.data + m->offset;
	size_t left = part->bytes.len - m->offset;

	if (part->raw) {
		size_t n = left > TEXT_PIECE_BYTES ? utf8_floor(from, TEXT_PIECE_BYTES) : left;

		json_write_escaped(&c->piece, from, n);
		left = n;
	} else {
		if (left > PIECE_BYTES)
			left = PIECE_BYTES;
		buf_append(&c->piece, from, left);
		c->queued_literal -= left;
	}
	c->queued -= left;
	m->offset += left;
	if (m->offset == part->bytes.len) {
		buf_wipe(&part->bytes);
		m->part++;
		m->offset = 0;
	}
}

static void fill_piece(struct channel *c)
{
	while (c->piece.len < PIECE_BYTES && !list_empty(&c->queue)) {
		struct message *m = container_of(c->queue.next, struct message, link);

		if (m->part < m->count && m->parts[m->part].bytes.len > 0) {
			take_from_part(c, m, &m->parts[m->part]);
		} else if (m->part < m->count) {
			m->part++;
		} else {
			list_remove(&m->link);
			message_destroy(m);
		}
	}
}

static ssize_t write_some(const struct channel *c, const char *bytes, size_t n)
{
	if (c->out_is_socket)
		return send(c->out_fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	return write(c->out_fd, bytes, n);
}

static int write_piece(struct channel *c)
{
	size_t done = 0;

	while (done < c->piece.len) {
		ssize_t n = write_some(c, c->piece.data + done, c->piece.len - done);

		if (n >= 0) {
			done += (size_t)n;
		} else if (errno == EAGAIN && c->out_watch) {
			if (fd_watch_wait(c->out_watch, FD_WRITABLE, NULL) < 0)
				return -1;
		} else if (errno != EINTR) {
			return -1;
		}
	}
	buf_reset(&c->piece);
	wake_waits(c);
	return 0;
}

static void drop_queue(struct channel *c)
{
	for (struct list *item = list_pop(&c->queue); item; item = list_pop(&c->queue))
		message_destroy(container_of(item, struct message, link));
	c->queued = c->queued_literal = 0;
}

static void write_messages(void *arg)
{
	struct channel *c = arg;

	for (;;) {
		fill_piece(c);
		if (c->piece.len == 0) {
			event_set(&c->idle);
			if (event_wait(&c->work, NULL) < 0)
				break;
		} else if (write_piece(c) < 0) {
			break;
		}
	}
	c->broken = true;
	drop_queue(c);
	wake_waits(c);
	c->writer = NULL;
	event_set(&c->idle);
	end(c);
}

/* --- the reader --- */

static void hand_on(struct channel *c, enum ndjson_event event, char *line, size_t len)
{
	if (c->events.on_record)
		c->events.on_record(c->events.arg, false, line, len);
	if (event == NDJSON_LINE)
		c->events.on_line(c->events.arg, line, len);
	else
		c->events.on_overlong(c->events.arg, line, len);
}

/* 1: bytes came, 0: end of input, -1: cancelled or broken. */
static int read_some(struct channel *c)
{
	for (;;) {
		/* After a short read there is nothing more yet, most of the time. */
		if (!c->in_more && c->in_watch && fd_watch_wait(c->in_watch, FD_READABLE, NULL) < 0)
			return -1;
		char *room = ndjson_room(&c->lines, READ_BYTES);
		ssize_t n = c->in_is_socket ? recv(c->in_fd, room, READ_BYTES, MSG_DONTWAIT) : read(c->in_fd, room, READ_BYTES);

		c->in_more = n == READ_BYTES;
		if (n > 0) {
			ndjson_added(&c->lines, (size_t)n);
			return 1;
		}
		if (n == 0)
			return 0;
		if (errno != EINTR && !(errno == EAGAIN && c->in_watch))
			return 0; /* a reset connection, a closed descriptor: the host is gone */
	}
}

/*
 * Hands on the lines that are there. A request that is served without waiting ends before many more are started, so that a flood of
 * them needs few stacks; and their answers reach the host before more work is taken on.
 */
static int hand_on_lines(struct channel *c)
{
	enum ndjson_event event;
	char *line;
	size_t len;

	for (unsigned n = 1; (event = ndjson_next(&c->lines, &line, &len)) != NDJSON_NEED_MORE; n++) {
		hand_on(c, event, line, len);
		if (n % LINES_PER_TURN == 0 && fiber_yield(NULL) < 0)
			return -1;
	}
	if (fiber_yield(NULL) < 0)
		return -1;
	return wait_until_left(c, &c->queued_literal, READ_STOP_BYTES, NULL);
}

static void read_lines(void *arg)
{
	struct channel *c = arg;
	enum ndjson_event event;
	char *line;
	size_t len;
	int got;

	while ((got = read_some(c)) > 0)
		if (hand_on_lines(c) < 0)
			break;
	if (got == 0 && (event = ndjson_finish(&c->lines, &line, &len)) != NDJSON_NEED_MORE)
		hand_on(c, event, line, len);
	c->reader = NULL;
	event_set(&c->reader_ended);
	end(c);
}

/* --- life --- */

/*
 * A non-blocking descriptor for our use. Sockets take MSG_DONTWAIT. Of pipes and terminals others (a shell, the next program of a
 * pipeline) share the description, so O_NONBLOCK goes to one of our own; where there is no /proc, to the shared one.
 */
static int own_description(int fd, bool *ret_is_socket, int access)
{
	struct stat st;

	*ret_is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	if (*ret_is_socket || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		return fd;
	cleanup_free char *path = xasprintf("/proc/self/fd/%d", fd);
	int own = open(path, access | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (own < 0)
		return fd;
	close(fd);
	return own;
}

struct channel *channel_create(int in_fd, int out_fd, const struct channel_events *events)
{
	struct channel *c = xcalloc(1, sizeof(*c));

	c->events = *events;
	ndjson_init(&c->lines, LINE_BYTES_MAX);
	list_init(&c->queue);
	list_init(&c->waits);
	c->piece = BUF_INIT(BUF_UNBOUNDED);
	c->in_fd = own_description(in_fd, &c->in_is_socket, O_RDONLY);
	c->out_fd = own_description(out_fd, &c->out_is_socket, O_WRONLY);
	if (fd_watch_create(c->in_fd, &c->in_watch, NULL) < 0)
		c->in_watch = NULL;
	if (fd_watch_create(c->out_fd, &c->out_watch, NULL) < 0)
		c->out_watch = NULL;
	c->reader = fiber_start(read_lines, c);
	c->writer = fiber_start(write_messages, c);
	return c;
}

void channel_close(struct channel *c, int64_t ms)
{
	struct fiber_scope scope;

	shield_enter(&scope, ms);
	while (c->writer && (c->queued || c->piece.len)) {
		if (event_wait(&c->idle, NULL) < 0)
			break;
	}
	scope_leave(&scope);
	shield_enter(&scope, DEADLINE_NONE);
	c->ended = true;
	if (c->writer)
		fiber_cancel(c->writer);
	while (c->writer)
		event_wait(&c->idle, NULL);
	if (c->reader)
		fiber_cancel(c->reader);
	while (c->reader)
		event_wait(&c->reader_ended, NULL);
	scope_leave(&scope);
	/* A watch stays armed between waits, and an armed one would keep the loop going for as long as the host's end is open. */
	fd_watch_destroy(steal(&c->in_watch));
	fd_watch_destroy(steal(&c->out_watch));
}

void channel_destroy(struct channel *c)
{
	if (!c)
		return;
	fd_watch_destroy(c->in_watch);
	fd_watch_destroy(c->out_watch);
	close_fd(c->in_fd);
	close_fd(c->out_fd);
	drop_queue(c);
	buf_wipe(&c->piece);
	ndjson_deinit(&c->lines);
	free(c);
}
