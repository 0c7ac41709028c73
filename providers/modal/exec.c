/*
 * wire: modal, Operations, Exec of a command; Retries and deadlines. Once a command is started, three fibers follow it side by side: its
 * two streams and its end. The caller waits for all of them, or for the end of its time.
 */
#include "modal.h"

#include "base/str.h"
#include "base/utf8.h"
#include "protocol/shell_quote.h"

#include <string.h>

#define ARGUMENTS_MAX 65536 /* UTF-16 units */
#define WAIT_ATTEMPT_MS 60000
#define WAIT_PAUSE_MS 1000
#define GRACE_MS 1500       /* past the deadline, for the service's own kill and the last words */
#define START_GRACE_MS 4000 /* the same, of its start */
#define EARLY_MS 250        /* a kill so shortly before the deadline is the service's */
#define WORKSPACE_MS 60000
#define KILL_MS 700
#define PIPE 1
#define CODE_KILLED (128 + 9)
#define MARK "PAPERCLIP_EXEC_ID"

static const struct modal_backoff eager_backoff = {.retries = 3, .first_ms = 10, .max_ms = 5120};

void modal_exit_deinit(struct modal_exit *exit)
{
	free(exit->exec_id);
	*exit = (struct modal_exit){0};
}

static size_t utf16_units(const char *text)
{
	size_t units = 0;

	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		units += (*c & 0xC0) == 0x80 ? 0 : *c >= 0xF0 ? 2 : 1;
	return units;
}

int modal_script_check(const char *script, struct err *err)
{
	size_t n = strlen("sh") + strlen("-lc") + utf16_units(script);

	if (n <= ARGUMENTS_MAX)
		return 0;
	return err_set(err, ERR_INVALID, "Total length of CMD arguments must be less than 65536 bytes (ARG_MAX). Got %zu bytes.",
		       n);
}

/* --- starting --- */

static int start(struct modal_session *s, struct modal_lease *lease, const struct modal_command *command, const char *exec_id,
		 const struct modal_backoff *backoff, int64_t timeout_ms, struct modal_fault *fault, struct err *err)
{
	char shell[] = "sh", login[] = "-lc", mark[] = MARK;
	cleanup_free char *script = xstrdup(command->script), *id = xstrdup(exec_id), *task = xstrdup(lease->task_id);
	char *args[] = {shell, login, script};
	Modal__EnvironmentEntry entry = MODAL__ENVIRONMENT_ENTRY__INIT, *env[] = {&entry};
	Modal__TaskExecStartRequest request = MODAL__TASK_EXEC_START_REQUEST__INIT;
	cleanup_message Modal__Empty *answer = NULL;
	struct modal_rpc rpc = {
		.name = "TaskExecStart",
		.request = &request.base,
		.answer = &modal__empty__descriptor,
		.backoff = backoff,
		.timeout_ms = timeout_ms,
	};

	entry.key = mark;
	entry.value = id;
	request.task_id = task;
	request.exec_id = id;
	request.n_command_args = 3;
	request.command_args = args;
	request.has_stdout_config = request.has_stderr_config = true;
	request.stdout_config = request.stderr_config = PIPE;
	request.has_timeout_secs = command->timeout_ms > 0;
	request.timeout_secs = (uint32_t)(command->timeout_ms / 1000);
	request.n_env = command->can_be_killed ? 1 : 0;
	request.env = env;
	return modal_router_perform(s, lease, &rpc, &answer, fault, err);
}

void modal_exec_detached(struct modal_session *s, struct modal_lease *lease, const char *script, int64_t ms)
{
	struct modal_command command = {.script = script};
	cleanup_free char *exec_id = random_uuid();
	struct modal_fault fault;
	struct fiber_scope scope;

	if (!lease->task_id || !lease->jwt)
		return;
	shield_enter(&scope, ms);
	(void)start(s, lease, &command, exec_id, &eager_backoff, ms, &fault, NULL);
	scope_leave(&scope);
}

/* Everything that carries its mark. Twice, since what is being killed may be starting more. */
static void kill_command(struct modal_session *s, struct modal_lease *lease, const char *exec_id)
{
	cleanup_free char *script = xasprintf("for i in 1 2; do for d in /proc/[0-9]*; do "
					      "if tr '\\0' '\\n' <\"$d/environ\" 2>/dev/null | grep -qx '" MARK "=%s'; "
					      "then kill -9 \"${d#/proc/}\"; fi; done; done",
					      exec_id);

	modal_exec_detached(s, lease, script, KILL_MS);
}

/* The way that was kept leads nowhere: it has to be asked for again, and the sandbox may have ended. */
static bool is_lost(const struct modal_fault *fault)
{
	return fault->status == GRPC_UNAUTHENTICATED || fault->status == GRPC_NOT_FOUND ||
	       fault->status == GRPC_FAILED_PRECONDITION || modal_is_passing(fault->status);
}

/* A service that hangs already here has let the command's time pass. */
static int start_in_time(struct modal_session *s, struct modal_lease *lease, const struct modal_command *command,
			 const struct modal_backoff *backoff, struct modal_exit *ret, struct modal_fault *fault, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;
	struct fiber_scope scope;

	deadline_enter(&scope, command->timeout_ms > 0 ? command->timeout_ms + START_GRACE_MS : DEADLINE_NONE);
	int rc = start(s, lease, command, ret->exec_id, backoff, 0, fault, &e);

	scope_leave(&scope);
	if (rc == 0)
		return 0;
	if (command->timeout_ms == 0 || !err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	ret->timed_out = true;
	kill_command(s, lease, ret->exec_id);
	return 0;
}

static int find_and_start(struct modal_session *s, struct modal_lease *lease, const struct modal_command *command,
			  struct modal_exit *ret, struct err *err)
{
	bool kept = lease->known && lease->task_id && lease->jwt, *ret_gone = command->must_be_there ? NULL : &ret->gone;
	struct modal_fault fault;
	cleanup_err struct err e = ERR_INIT;

	if (modal_lease_reach(s, lease, ret_gone, err) < 0)
		return -1;
	if (ret->gone)
		return 0;
	if (start_in_time(s, lease, command, kept ? &eager_backoff : NULL, ret, &fault, &e) == 0)
		return 0;
	if (!kept || !is_lost(&fault))
		return err_move(err, &e);
	modal_lease_doubt(lease);
	if (modal_lease_reach(s, lease, ret_gone, err) < 0)
		return -1;
	/* The same id is the same command: it runs once. */
	return ret->gone ? 0 : start_in_time(s, lease, command, NULL, ret, &fault, err);
}

/* --- following --- */

struct run;

struct stream {
	struct run *run;
	enum output_stream which;
	uint64_t offset;
	bool moved, over;
	struct err err;
};

struct run {
	struct modal_session *s;
	struct modal_lease *lease;
	const struct modal_command *command;
	char *exec_id, *task_id; /* borrowed; owned */
	struct event changed;
	struct stream streams[2];
	bool ended; /* the exit status is there */
	int64_t ended_ms;
	int code;       /* 128 and its number: a signal */
	struct err err; /* of the wait for it */
};

static int on_stdio(void *arg, const ProtobufCMessage *message, struct err *err)
{
	struct stream *stream = arg;
	const struct modal_command *command = stream->run->command;
	const Modal__TaskExecStdioReadResponse *item = (const Modal__TaskExecStdioReadResponse *)message;

	stream->moved = true;
	stream->offset += item->data.len;
	return item->data.len > 0
		       ? command->on_output(command->arg, stream->which, (const char *)item->data.data, item->data.len, err)
		       : 0;
}

static int read_stream(struct stream *stream, struct err *err)
{
	struct run *run = stream->run;
	struct modal_retry retry = {0};

	for (;;) {
		Modal__TaskExecStdioReadRequest request = MODAL__TASK_EXEC_STDIO_READ_REQUEST__INIT;
		struct modal_rpc rpc = {
			.name = "TaskExecStdioRead",
			.request = &request.base,
			.answer = &modal__task_exec_stdio_read_response__descriptor,
			.timeout_ms = -1,
			.on_message = on_stdio,
			.arg = stream,
		};
		struct modal_fault fault;
		cleanup_err struct err e = ERR_INIT;

		request.task_id = run->task_id;
		request.exec_id = run->exec_id;
		request.has_offset = stream->offset > 0;
		request.offset = stream->offset;
		request.has_file_descriptor = stream->which == OUTPUT_STDERR;
		request.file_descriptor = 1;
		stream->moved = false;
		if (modal_router_call(run->s, run->lease, &rpc, &retry, NULL, &fault, &e) == 0)
			return 0;
		if (stream->moved)
			retry = (struct modal_retry){.access = retry.access};
		if (modal_router_pause(run->s, run->lease, &retry, &modal_router_backoff, &fault, &e, err) < 0)
			return -1;
	}
}

static void follow_stream(void *arg)
{
	struct stream *stream = arg;

	(void)read_stream(stream, &stream->err);
	stream->over = true;
	event_set(&stream->run->changed);
}

static int take_exit(struct run *run, const Modal__TaskExecWaitResponse *answer, struct err *err)
{
	if (answer->exit_status_case == MODAL__TASK_EXEC_WAIT_RESPONSE__EXIT_STATUS_CODE) {
		run->code = answer->code;
	} else if (answer->exit_status_case == MODAL__TASK_EXEC_WAIT_RESPONSE__EXIT_STATUS_SIGNAL) {
		run->code = 128 + answer->signal;
	} else {
		return err_set(err, ERR_PROTOCOL, "Unexpected exit status");
	}
	return 0;
}

/* As often as it takes: how long that may be is the caller's business. */
static int wait_for_exit(struct run *run, struct err *err)
{
	struct modal_retry retry = {0};
	static const struct modal_backoff forever = {.retries = UINT32_MAX, .first_ms = 10, .max_ms = WAIT_PAUSE_MS};

	for (;;) {
		Modal__TaskExecWaitRequest request = MODAL__TASK_EXEC_WAIT_REQUEST__INIT;
		cleanup_message Modal__TaskExecWaitResponse *answer = NULL;
		struct modal_rpc rpc = {
			.name = "TaskExecWait",
			.request = &request.base,
			.answer = &modal__task_exec_wait_response__descriptor,
			.timeout_ms = WAIT_ATTEMPT_MS,
			.long_lived = true,
		};
		struct modal_fault fault;
		cleanup_err struct err e = ERR_INIT;
		int64_t began = loop_now_ms();

		request.task_id = run->task_id;
		request.exec_id = run->exec_id;
		if (modal_router_call(run->s, run->lease, &rpc, &retry, &answer, &fault, &e) == 0)
			return take_exit(run, answer, err);
		/* A long silence is how it goes with a command that takes long. */
		if (fault.status == GRPC_DEADLINE_EXCEEDED && loop_now_ms() - began > WAIT_PAUSE_MS)
			continue;
		if (modal_router_pause(run->s, run->lease, &retry, &forever, &fault, &e, err) < 0)
			return -1;
	}
}

static void follow_exit(void *arg)
{
	struct run *run = arg;

	run->ended = wait_for_exit(run, &run->err) == 0;
	run->ended_ms = loop_now_ms();
	event_set(&run->changed);
}

/* --- waiting for all of it --- */

/* The error of one that failed; NULL: none has. */
static struct err *first_failure(struct run *run)
{
	struct err *errors[] = {&run->err, &run->streams[0].err, &run->streams[1].err};

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (errors[i]->kind != ERR_NONE)
			return errors[i];
	return NULL;
}

static bool is_complete(const struct run *run)
{
	return run->ended && run->streams[0].over && run->streams[1].over;
}

/* *ret_late: the time is over before all of it was there. */
static int await_all(struct run *run, int64_t limit, bool *ret_late, struct err *err)
{
	while (!is_complete(run)) {
		struct err *failure = first_failure(run);
		int64_t left = limit - loop_now_ms();
		bool set;

		if (failure)
			return err_move(err, failure);
		*ret_late = left <= 0;
		if (*ret_late)
			return 0;
		if (event_wait_for(&run->changed, left, &set, err) < 0)
			return -1;
	}
	return first_failure(run) ? err_move(err, first_failure(run)) : 0;
}

static void stop_following(struct fiber_group *group)
{
	struct fiber_scope scope;

	shield_enter(&scope, DEADLINE_NONE);
	fiber_group_cancel(group);
	fiber_group_join(group, NULL);
	scope_leave(&scope);
}

static int follow(struct run *run, int64_t started_ms, struct modal_exit *ret, struct err *err)
{
	const struct modal_command *command = run->command;
	int64_t patience = command->timeout_ms > 0 ? command->timeout_ms + GRACE_MS : command->patience_ms;
	struct fiber_group group;
	cleanup_err struct err e = ERR_INIT;
	bool late = false;

	fiber_group_init(&group);
	for (int i = 0; i < 2; i++) {
		run->streams[i] = (struct stream){
			.run = run, .which = i ? OUTPUT_STDERR : OUTPUT_STDOUT, .over = !command->on_output};
		if (command->on_output)
			fiber_group_start(&group, follow_stream, &run->streams[i]);
	}
	fiber_group_start(&group, follow_exit, run);
	int rc = await_all(run, started_ms + patience, &late, &e);

	stop_following(&group);
	for (int i = 0; i < 2; i++)
		err_clear(&run->streams[i].err);
	err_clear(&run->err);
	/* The request's own deadline is one of the command's. */
	if (rc < 0 && err_is(&e, ERR_TIMEOUT))
		late = true;
	else if (rc < 0)
		err_move(err, &e);
	if (!run->ended && command->can_be_killed)
		kill_command(run->s, run->lease, run->exec_id);
	if (rc < 0 && !late)
		return -1;
	bool killed = run->ended && run->code == CODE_KILLED && command->timeout_ms > 0 &&
		      run->ended_ms - started_ms >= command->timeout_ms - EARLY_MS;

	/* Also if the exit status is there, but not all of the output: it is not to be taken for whole. */
	ret->timed_out = late || killed;
	ret->code = run->code;
	return 0;
}

/* What failed may have failed because the sandbox has ended. */
static int explain(struct modal_session *s, struct modal_lease *lease, struct err *failure, struct err *err)
{
	bool gone = false;

	if (err_is(failure, ERR_CANCELLED))
		return err_move(err, failure);
	modal_lease_doubt(lease);
	if (modal_sandbox_look(s, lease, lease->id, &gone, NULL) == 0 && gone)
		return err_set(err, ERR_REMOTE, "Modal sandbox %s ended while the command was running: %s", lease->id,
			       err_text(failure));
	return err_move(err, failure);
}

int modal_exec(struct modal_session *s, struct modal_lease *lease, const struct modal_command *command, struct modal_exit *ret,
	       struct err *err)
{
	*ret = (struct modal_exit){0};
	if (modal_script_check(command->script, err) < 0)
		return -1;
	cleanup_err struct err e = ERR_INIT;

	ret->exec_id = random_uuid();
	if (find_and_start(s, lease, command, ret, err) < 0)
		return -1;
	if (ret->gone || ret->timed_out)
		return 0;
	/* Not on the fiber's small stack, since three fibers look at it. */
	struct run *run = xcalloc(1, sizeof(*run));

	run->s = s;
	run->lease = lease;
	run->command = command;
	run->exec_id = ret->exec_id;
	run->task_id = xstrdup(lease->task_id);
	int rc = follow(run, loop_now_ms(), ret, &e);

	free(run->task_id);
	free(run);
	return rc < 0 ? explain(s, lease, &e, err) : 0;
}

int modal_make_workspace(struct modal_session *s, struct modal_lease *lease, const char *path, bool *ret_gone, struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	struct modal_command command = {.patience_ms = WORKSPACE_MS, .must_be_there = !ret_gone};
	cleanup_modal_exit struct modal_exit exit = {0};

	buf_append_str(&script, "mkdir -p ");
	shell_quote(&script, path);
	command.script = script.data;
	if (modal_exec(s, lease, &command, &exit, err) < 0)
		return -1;
	if (ret_gone)
		*ret_gone = exit.gone;
	if (exit.gone)
		return 0;
	if (exit.timed_out)
		return err_set(err, ERR_REMOTE, "Failed to create remote workspace directory '%s': mkdir did not end within %d s",
			       path, WORKSPACE_MS / 1000);
	if (exit.code != 0)
		return err_set(err, ERR_REMOTE, "Failed to create remote workspace directory '%s': mkdir exited with code %d",
			       path, exit.code);
	return 0;
}
