/*
 * Four descriptors at most: stdout and stderr of the command, its stdin while there is something to write, and the watch of the
 * descriptor that feeds it. Each has a poll handle in the one struct, which is freed when the last handle is closed.
 *
 * libuv polls level-triggered. A handle that reports again before the fiber came to act on the first report is stopped until it
 * did: so a fiber that waits for the host costs no turns of the loop, and a quick one no system calls.
 */
#include "process_io.h"

#include "base/mem.h"
#include "process_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#define BUFFER_BYTES (256 * 1024)
#define TURN_BYTES (1024 * 1024) /* moved of one stream before others get their turn */
#define PIPE_BYTES (1024 * 1024) /* wanted for pipes that were seen full; what an ordinary user may ask for */
#define PIPE_DEFAULT_BYTES (64 * 1024)
#define CHUNK_BYTES (64 * 1024)

enum end_name { END_STDOUT, END_STDERR, END_STDIN, END_SOURCE, END_COUNT };

struct end {
	uv_poll_t poll;
	struct process_io *io;
	int fd;    /* owned; -1: closed or not needed */
	int event; /* UV_READABLE or UV_WRITABLE */
	bool polling;
	bool ready;
	bool enlarged; /* the pipe */
};

struct process_io {
	struct init_hanger_on hanger_on;
	unsigned refs; /* the owner's, one for each open handle */
	struct end ends[END_COUNT];
	struct input *input;   /* borrowed */
	struct output *output; /* borrowed */
	process_output_fn *take;
	void *take_arg;
	struct event *changed; /* borrowed */
	bool has_place;        /* of process_limit.h */
	char *chunk;           /* owned; from the input's descriptor, not written yet */
	size_t chunk_at, chunk_len;
};

/* --- memory --- */

/* One buffer is kept: most reads give it back at once. A fiber that waits for the host keeps its own. */
static char *spare_buffer;

static char *buffer_take(void)
{
	char *buffer = steal(&spare_buffer);

	return buffer ? buffer : xmalloc(BUFFER_BYTES);
}

static void buffer_give(char *buffer)
{
	free(spare_buffer);
	spare_buffer = buffer;
}

static void io_release(struct process_io *io)
{
	if (--io->refs)
		return;
	if (io->has_place)
		process_limit_give();
	free(io->chunk);
	free(io);
}

static void on_closed(uv_handle_t *handle)
{
	struct end *end = handle->data;

	io_release(end->io);
}

/* --- one end --- */

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct end *end = poll->data;

	(void)status; /* the next read or write tells */
	(void)events;
	if (end->ready) {
		uv_poll_stop(poll);
		end->polling = false;
		return;
	}
	end->ready = true;
	event_set(end->io->changed);
}

static void end_close(struct end *end)
{
	if (end->fd < 0)
		return;
	uv_close((uv_handle_t *)&end->poll, on_closed);
	end->fd = close_fd(end->fd);
}

/* From here on the event is set when the end is ready (again). */
static void end_watch(struct end *end, uv_poll_cb callback)
{
	end->ready = false;
	if (end->polling || end->fd < 0)
		return;
	end->polling = true;
	uv_poll_start(&end->poll, end->event, callback);
}

/* Takes fd over, makes it non-blocking. */
static int end_open(struct process_io *io, enum end_name name, int fd, int event)
{
	struct end *end = &io->ends[name];
	int rc = uv_poll_init(scheduler_loop(), &end->poll, fd);

	if (rc < 0) {
		close(fd);
		return -rc;
	}
	end->poll.data = end;
	end->fd = fd;
	end->event = event;
	io->refs++;
	return 0;
}

static void enlarge_pipe(struct end *end)
{
	if (!end->enlarged)
		fcntl(end->fd, F_SETPIPE_SZ, PIPE_BYTES); /* a favour: the user's quota may be used up */
	end->enlarged = true;
}

/* --- input --- */

static void stop_feeding(struct process_io *io)
{
	end_close(&io->ends[END_STDIN]);
	end_close(&io->ends[END_SOURCE]);
}

/* Fills the chunk from the input's descriptor. False: there is nothing now, or it has ended. */
static bool read_source(struct process_io *io)
{
	struct end *source = &io->ends[END_SOURCE];
	ssize_t n;

	if (source->fd >= 0 && !source->ready) {
		end_watch(source, on_ready);
		return false;
	}
	do
		n = read(io->input->fd, io->chunk, CHUNK_BYTES);
	while (n < 0 && errno == EINTR);
	if (source->fd >= 0)
		end_watch(source, on_ready);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN || source->fd < 0)
			stop_feeding(io);
		return false;
	}
	io->chunk_at = 0;
	io->chunk_len = (size_t)n;
	return true;
}

/* Writes n bytes; what the command takes. 0: not now, or never again (the end is closed then). */
static size_t write_piece(struct process_io *io, const char *bytes, size_t n)
{
	struct end *end = &io->ends[END_STDIN];
	ssize_t done;

	do
		done = write(end->fd, bytes, n);
	while (done < 0 && errno == EINTR);
	if (done >= 0)
		return (size_t)done;
	if (errno == EAGAIN)
		end_watch(end, on_ready);
	else
		stop_feeding(io); /* EPIPE: the command does not want it, which is its right */
	return 0;
}

/* What is to be written next; *ret_n is 0 if there is nothing at present, or for good (the end is closed then, unless it stays open). */
static const char *next_piece(struct process_io *io, size_t *ret_n)
{
	struct input *input = io->input;

	*ret_n = input->len - input->taken;
	if (*ret_n > 0)
		return input->data + input->taken;
	if (input->fd < 0) {
		if (!input->stays_open)
			stop_feeding(io);
		return NULL;
	}
	if (io->chunk_at == io->chunk_len && !read_source(io))
		io->chunk_at = io->chunk_len = 0;
	*ret_n = io->chunk_len - io->chunk_at;
	return io->chunk + io->chunk_at;
}

static void feed(struct process_io *io)
{
	struct end *end = &io->ends[END_STDIN];
	size_t moved = 0;

	while (end->fd >= 0 && end->ready && moved < TURN_BYTES) {
		size_t n;
		bool is_data = io->input->taken < io->input->len;
		const char *piece = next_piece(io, &n);

		if (n == 0)
			return;
		n = write_piece(io, piece, n < TURN_BYTES ? n : TURN_BYTES);
		moved += n;
		if (is_data)
			io->input->taken += n;
		else
			io->chunk_at += n;
	}
	if (moved >= TURN_BYTES)
		end_watch(end, on_ready);
}

/*
 * The source itself must stay as it is: O_NONBLOCK would hit all who share it, such as the shell whose terminal it is. So what
 * is polled is an epoll instance that holds it. Files that cannot be watched (EPERM) are always readable.
 */
static int open_source(struct process_io *io)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = epoll_create1(EPOLL_CLOEXEC);

	io->chunk = xmalloc(CHUNK_BYTES);
	if (fd < 0)
		return errno;
	if (epoll_ctl(fd, EPOLL_CTL_ADD, io->input->fd, &event) == 0)
		return end_open(io, END_SOURCE, fd, UV_READABLE);
	int error = errno;

	close(fd);
	return error == EPERM || error == EBADF ? 0 : error; /* a bad descriptor reads as an empty one */
}

/* Short text goes into the pipe at once, which then needs no watch. */
static bool text_fits(int fd, struct input *input)
{
	if (input->fd >= 0 || input->len - input->taken > PIPE_DEFAULT_BYTES || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return false;
	while (input->taken < input->len) {
		ssize_t n = write(fd, input->data + input->taken, input->len - input->taken);

		if (n < 0 && errno != EINTR)
			return false;
		input->taken += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static int open_input(struct process_io *io, int *ret_theirs)
{
	int fds[2];

	if (!io->input) {
		*ret_theirs = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return *ret_theirs < 0 ? errno : 0;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return errno;
	*ret_theirs = fds[0];
	bool fits = text_fits(fds[1], io->input);

	if (fits && !io->input->stays_open) {
		close(fds[1]);
		return 0;
	}
	int error = end_open(io, END_STDIN, fds[1], UV_WRITABLE);

	if (error || fits)
		return error;
	io->ends[END_STDIN].ready = true; /* until a write says no */
	enlarge_pipe(&io->ends[END_STDIN]);
	return io->input->fd >= 0 ? open_source(io) : 0;
}

/* --- output --- */

static int open_output(struct process_io *io, enum end_name name, int *ret_theirs)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return errno;
	*ret_theirs = fds[1];
	int error = end_open(io, name, fds[0], UV_READABLE);

	if (!error)
		end_watch(&io->ends[name], on_ready);
	return error;
}

/* Reads once. Returns the number of bytes; 0: nothing is there now, or the end was reached and closed. */
static size_t read_piece(struct end *end, char *buffer)
{
	ssize_t n;

	do
		n = read(end->fd, buffer, BUFFER_BYTES);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		end_close(end);
		return 0;
	}
	if (n >= PIPE_DEFAULT_BYTES)
		enlarge_pipe(end);
	return (size_t)n;
}

static int read_output(struct process_io *io, enum end_name name, bool may_wait, struct err *err)
{
	enum output_stream stream = name == END_STDOUT ? OUTPUT_STDOUT : OUTPUT_STDERR;
	struct end *end = &io->ends[name];
	char *buffer = buffer_take();
	size_t total = 0, n;
	int rc = 0;

	while (rc == 0 && total < TURN_BYTES && end->fd >= 0 && (n = read_piece(end, buffer)) > 0) {
		total += n;
		if (io->take)
			rc = io->take(io->take_arg, stream, buffer, n, may_wait, err);
		if (!io->output)
			continue;
		if (may_wait)
			rc = output_write(io->output, stream, buffer, n, err);
		else
			output_put(io->output, stream, buffer, n);
	}
	buffer_give(buffer);
	end_watch(end, on_ready);
	return rc;
}

static void on_dropped_output(uv_poll_t *poll, int status, int events)
{
	struct end *end = poll->data;
	struct process_io *io = end->io;
	char *buffer = buffer_take();

	(void)status;
	(void)events;
	read_piece(end, buffer);
	buffer_give(buffer);
	if (!process_io_at_end(io))
		return;
	list_remove(&io->hanger_on.link);
	io_release(io);
}

/* --- all of it --- */

static int open_all(struct process_io *io, int stdio[3])
{
	int error = open_input(io, &stdio[0]);

	if (!error)
		error = open_output(io, END_STDOUT, &stdio[1]);
	if (!error)
		error = open_output(io, END_STDERR, &stdio[2]);
	return error;
}

int process_io_open(struct input *input, struct output *output, struct event *changed, int stdio[3], struct process_io **ret)
{
	struct process_io *io = xcalloc(1, sizeof(*io));

	io->refs = 1;
	io->input = input;
	io->output = output;
	io->changed = changed;
	list_init(&io->hanger_on.link);
	for (int i = 0; i < END_COUNT; i++)
		io->ends[i] = (struct end){.io = io, .fd = -1};
	for (int i = 0; i < 3; i++)
		stdio[i] = -1;
	int error = open_all(io, stdio);

	if (!error) {
		*ret = io;
		return 0;
	}
	for (int i = 0; i < 3; i++)
		close_fd(stdio[i]);
	process_io_close(io);
	return error;
}

void process_io_close(struct process_io *io)
{
	for (int i = 0; i < END_COUNT; i++)
		end_close(&io->ends[i]);
	io_release(io);
}

void process_io_set_taker(struct process_io *io, process_output_fn *take, void *arg)
{
	io->take = take;
	io->take_arg = arg;
}

void process_io_take_place(struct process_io *io)
{
	io->has_place = true;
}

static void close_dropped(struct init_hanger_on *hanger_on)
{
	process_io_close(container_of(hanger_on, struct process_io, hanger_on));
}

void process_io_drop(struct process_io *io, struct init *init)
{
	stop_feeding(io);
	if (process_io_at_end(io) || !init_is_alive(init)) {
		process_io_close(io);
		return;
	}
	for (int i = END_STDOUT; i <= END_STDERR; i++) {
		struct end *end = &io->ends[i];

		if (end->fd >= 0) {
			end->polling = true;
			uv_poll_start(&end->poll, UV_READABLE, on_dropped_output);
		}
	}
	io->hanger_on.close = close_dropped;
	init_add_hanger_on(init, &io->hanger_on);
}

int process_io_pump(struct process_io *io, enum process_io_mode mode, struct err *err)
{
	for (int i = END_STDOUT; i <= END_STDERR; i++) {
		const struct end *end = &io->ends[i];

		if (end->fd >= 0 && (end->ready || mode != PROCESS_IO_READY) &&
		    read_output(io, (enum end_name)i, mode != PROCESS_IO_REST, err) < 0)
			return -1;
	}
	if (mode != PROCESS_IO_REST)
		feed(io);
	return 0;
}

bool process_io_at_end(const struct process_io *io)
{
	return io->ends[END_STDOUT].fd < 0 && io->ends[END_STDERR].fd < 0;
}
