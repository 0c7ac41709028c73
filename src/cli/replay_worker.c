#include "cli/replay_worker.h"

#include "base/mem.h"
#include "protocol/json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#define READ_BYTES 65536
#define LINE_BYTES_MAX ((size_t)256 << 20)

extern char **environ;

static int make_pipe(int ends[2], struct err *err)
{
	return pipe2(ends, O_CLOEXEC) < 0 ? err_set_errno(err, errno, "make a pipe") : 0;
}

int replay_worker_start(struct replay_worker *w, const char *path, struct err *err)
{
	char *argv[] = {(char *)(uintptr_t)path, NULL};
	int in[2] = {-1, -1}, out[2] = {-1, -1};
	posix_spawn_file_actions_t actions;

	*w = (struct replay_worker){.in_fd = -1, .out_fd = -1, .unsent = BUF_INIT(BUF_UNBOUNDED), .answers = json_object()};
	ndjson_init(&w->lines, LINE_BYTES_MAX);
	if (make_pipe(in, err) < 0 || make_pipe(out, err) < 0) {
		close_fd(in[0]);
		close_fd(in[1]);
		return -1;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	int rc = posix_spawn(&w->pid, path, &actions, NULL, argv, environ);

	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	w->in_fd = in[1];
	w->out_fd = out[0];
	fcntl(w->in_fd, F_SETFL, O_NONBLOCK);
	fcntl(w->out_fd, F_SETFL, O_NONBLOCK);
	if (rc != 0) {
		w->pid = 0;
		return err_set_errno(err, rc, "%s", path);
	}
	return 0;
}

void replay_worker_send(struct replay_worker *w, const char *line, size_t len)
{
	buf_append(&w->unsent, line, len);
	buf_append_char(&w->unsent, '\n');
}

char *replay_id_text(const json_t *message)
{
	const json_t *id = json_object_get(message, "id");

	return id ? json_dumps(id, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
}

static void take_line(struct replay_worker *w, const char *line, size_t len)
{
	cleanup_json json_t *message = NULL;

	if (json_read(line, len, &message, NULL) < 0 || json_object_get(message, "method"))
		return;
	cleanup_free char *id = replay_id_text(message);

	if (!id)
		return;
	if (!json_object_get(w->answers, id))
		json_object_set_new(w->answers, id, json_array());
	json_array_append(json_object_get(w->answers, id), message);
}

/* 1: something came, 0: nothing now, -1: the end. */
static int receive(struct replay_worker *w)
{
	ssize_t n = read(w->out_fd, ndjson_room(&w->lines, READ_BYTES), READ_BYTES);
	enum ndjson_event event;
	char *line;
	size_t len;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	ndjson_added(&w->lines, (size_t)n);
	while ((event = ndjson_next(&w->lines, &line, &len)) != NDJSON_NEED_MORE)
		if (event == NDJSON_LINE)
			take_line(w, line, len);
	return n == 0 ? -1 : 1;
}

static bool send_some(struct replay_worker *w)
{
	ssize_t n = write(w->in_fd, w->unsent.data, w->unsent.len);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	buf_consume(&w->unsent, (size_t)n);
	return true;
}

/* One step of both. 1: something moved, 0: silence_ms passed, -1: the worker has closed its stdout. */
static int step(struct replay_worker *w, int silence_ms)
{
	struct pollfd fds[] = {
		{.fd = w->out_fd, .events = POLLIN},
		{.fd = w->unsent.len ? w->in_fd : -1, .events = POLLOUT},
	};
	int n = poll(fds, 2, silence_ms);

	if (n <= 0)
		return n < 0 && errno == EINTR ? 1 : 0;
	if (fds[1].revents && !send_some(w)) {
		w->in_fd = close_fd(w->in_fd);
		buf_reset(&w->unsent);
	}
	return fds[0].revents && receive(w) < 0 ? -1 : 1;
}

const json_t *replay_worker_answer(const struct replay_worker *w, const char *id, size_t index)
{
	return json_array_get(json_object_get(w->answers, id), index);
}

int replay_worker_wait(struct replay_worker *w, const char *id, size_t count, int silence_ms, struct err *err)
{
	while (json_array_size(json_object_get(w->answers, id)) < count) {
		int moved = step(w, silence_ms);

		if (moved < 0)
			return err_set(err, ERR_TRANSPORT, "the worker ended before it answered");
		if (moved == 0)
			return err_set(err, ERR_TIMEOUT, "no answer: the worker was silent for %d s", silence_ms / 1000);
	}
	return 0;
}

int replay_worker_end(struct replay_worker *w, int silence_ms)
{
	int status = 0, moved = 1;

	while (w->unsent.len && w->in_fd >= 0 && (moved = step(w, silence_ms)) > 0)
		;
	w->in_fd = close_fd(w->in_fd);
	while (moved > 0)
		moved = step(w, silence_ms);
	if (moved == 0)
		kill(w->pid, SIGKILL);
	while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
		;
	w->pid = 0;
	return status;
}

void replay_worker_deinit(struct replay_worker *w)
{
	if (w->pid > 0) {
		kill(w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
	}
	if (!w->answers) /* zeroed */
		return;
	close_fd(w->in_fd);
	close_fd(w->out_fd);
	buf_wipe(&w->unsent);
	ndjson_deinit(&w->lines);
	json_decref(w->answers);
	*w = (struct replay_worker){.in_fd = -1, .out_fd = -1};
}
