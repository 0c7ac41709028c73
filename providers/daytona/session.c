/*
 * wire: daytona, Sessions. A lease has one session, made at its first command. Its commands run one after the other, so one that is given
 * up must not stay: its session is deleted, which ends it.
 */
#include "daytona.h"

#include "output.h"

#include <math.h>
#include <string.h>

#define DELETE_MS 3000
#define POLL_MS 50
#define EXIT_MS 400       /* from the end of a stream to the exit code's appearance */
#define LATE_LOGS_MS 5000 /* beyond a command's time */
#define LOGS_MAX ((size_t)256 << 20)

void daytona_session_delete(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *session)
{
	cleanup_daytona_answer struct daytona_answer answer = {0};
	struct fiber_scope scope;

	shield_enter(&scope, DELETE_MS);
	if (daytona_find_toolbox(op, c, s, NULL) == 0) {
		cleanup_free char *url = daytona_url(s->toolbox, "/process/session/%s", DAYTONA_PARTS(session));
		struct daytona_call call = {
			.method = "DELETE", .url = url, .deadline_ms = DELETE_MS, .repeat = HTTP_REPEAT_IDEMPOTENT};
		(void)daytona_perform(op, c, &call, &answer, NULL);
	}
	scope_leave(&scope);
}

/* Forgets it if it is still the lease's, so that the next command opens a new one. */
static void drop(struct daytona_handle *handle, const char *session)
{
	if (str_eq(handle->session, session)) {
		free(handle->session);
		handle->session = NULL;
	}
}

/* --- one session for all commands of a lease --- */

static int lock(struct daytona_handle *handle, struct err *err)
{
	while (handle->session_busy) {
		if (daytona_handle_wait(handle, err) < 0)
			return -1;
	}
	handle->session_busy = true;
	return 0;
}

static void unlock(struct daytona_handle *handle)
{
	handle->session_busy = false;
	daytona_handle_wake(handle);
}

static int create(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, int64_t ms, struct err *err)
{
	cleanup_free char *uuid = random_uuid();
	cleanup_free char *name = xasprintf("paperclip-%s", uuid);
	cleanup_json json_t *body = json_pack("{s:s}", "sessionId", name);
	cleanup_daytona_answer struct daytona_answer answer = {0};

	if (daytona_find_toolbox(op, c, &handle->sandbox, err) < 0)
		return -1;
	cleanup_free char *url = daytona_url(handle->sandbox.toolbox, "/process/session", NULL);
	struct daytona_call call = {
		.method = "POST", .url = url, .json = body, .deadline_ms = ms, .repeat = HTTP_REPEAT_REJECTED};
	if (daytona_perform(op, c, &call, &answer, err) < 0)
		return -1;
	handle->session = steal(&name);
	return 0;
}

/* *ret: a copy of the session's name. ms: of the command that it is for. */
static int open_session(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, int64_t ms, char **ret,
			struct err *err)
{
	if (lock(handle, err) < 0)
		return -1;
	int rc = handle->session ? 0 : create(op, c, handle, ms < daytona_call_ms(c) ? ms : daytona_call_ms(c), err);
	if (rc == 0)
		*ret = xstrdup(handle->session);
	unlock(handle);
	return rc;
}

/* --- one command --- */

/* The daemon was restarted, or the session's shell has died. Nothing has run. */
static bool is_lost(const struct daytona_failure *failure, const char *text)
{
	return failure->status == 404 ||
	       (failure->status == 500 && (strstr(text, "session not found") || strstr(text, "failed to write command")));
}

static int start(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, const char *session,
		 const char *script, int64_t seconds, char **ret_command, bool *ret_lost, struct err *err)
{
	cleanup_free char *text = xasprintf("( %s )", script);
	cleanup_json json_t *body = json_pack("{s:s, s:b}", "command", text, "runAsync", true);
	cleanup_free char *url = daytona_url(handle->sandbox.toolbox, "/process/session/%s/exec", DAYTONA_PARTS(session));
	cleanup_daytona_answer struct daytona_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;

	*ret_lost = false;
	if (!body)
		return err_set(err, ERR_INVALID, "The command is no valid text.");
	struct daytona_call call = {
		.method = "POST", .url = url, .json = body, .deadline_ms = seconds * 1000, .repeat = HTTP_REPEAT_REJECTED};
	if (daytona_perform(op, c, &call, &answer, &e) < 0) {
		*ret_lost = is_lost(&answer.failure, err_text(&e));
		return err_move(err, &e);
	}
	const char *command = json_string_value(json_object_get(answer.json, "cmdId"));
	if (!str_nonempty(command))
		return err_set(err, ERR_PROTOCOL, "Daytona started a command in a session without saying which.");
	*ret_command = xstrdup(command);
	return 0;
}

int daytona_command_look(struct op *op, const struct daytona_config *c, const char *url, int64_t deadline, bool *ret_ended,
			 int *ret_code, struct err *err)
{
	int64_t left = deadline - loop_now_ms();
	cleanup_daytona_answer struct daytona_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;
	struct daytona_call call = {.method = "GET",
				    .url = url,
				    .deadline_ms = left < daytona_call_ms(c) ? left : daytona_call_ms(c),
				    .repeat = HTTP_REPEAT_UNSENT};

	*ret_ended = false;
	if (left <= 0)
		return 0;
	if (daytona_perform(op, c, &call, &answer, &e) == 0) {
		const json_t *code = json_object_get(answer.json, "exitCode");
		*ret_ended = json_is_number(code);
		*ret_code = (int)json_number_value(code);
		return 0;
	}
	/* Anything else may be a bad moment of the service. */
	bool is_final = err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT) || err_is(&e, ERR_NOT_FOUND) ||
			err_is(&e, ERR_AUTH) || err_is(&e, ERR_INVALID);
	return is_final ? err_move(err, &e) : 0;
}

/* Polls until the exit code is there, or the time is over: *ret_ended false. */
static int await_exit(struct op *op, const struct daytona_config *c, const char *url, int64_t deadline, bool *ret_ended,
		      int *ret_code, struct err *err)
{
	for (;;) {
		if (daytona_command_look(op, c, url, deadline, ret_ended, ret_code, err) < 0)
			return -1;
		int64_t left = deadline - loop_now_ms();
		if (*ret_ended || left <= 0)
			return 0;
		if (fiber_sleep(left < POLL_MS ? left : POLL_MS, err) < 0)
			return -1;
	}
}

static int put_member(struct op *op, struct daytona_log *log, enum output_stream stream, const json_t *object, const char *key,
		      struct err *err)
{
	const json_t *text = json_object_get(object, key);

	if (!json_is_string(text))
		return err_set(err, ERR_PROTOCOL, "Daytona answered a command's logs without its %s.", key);
	return daytona_log_put(op, log, stream, json_string_value(text), json_string_length(text), err);
}

/* What was not delivered yet. */
static int read_logs(struct op *op, const struct daytona_config *c, const char *command_url, int64_t ms, struct daytona_log *log,
		     struct err *err)
{
	cleanup_free char *url = xasprintf("%s/logs", command_url);
	cleanup_daytona_answer struct daytona_answer answer = {0};
	struct daytona_call call = {
		.method = "GET",
		.url = url,
		.deadline_ms = ms,
		.repeat = HTTP_REPEAT_IDEMPOTENT,
		.answer_max = LOGS_MAX,
	};

	if (daytona_perform(op, c, &call, &answer, err) < 0 || put_member(op, log, OUTPUT_STDOUT, answer.json, "stdout", err) < 0)
		return -1;
	return put_member(op, log, OUTPUT_STDERR, answer.json, "stderr", err);
}

/* *ret_whole: all output was delivered, and the command has ended. Else the caller polls. */
static int follow(struct op *op, const struct daytona_config *c, const char *url, int64_t deadline, struct daytona_log *log,
		  bool *ret_whole, int *ret_code, struct err *err)
{
	*ret_whole = false;
	/* A second lost connection in a row, without anything new from it, is one too many. */
	for (int losses = 0; losses < 2 && loop_now_ms() < deadline; losses++) {
		uint64_t before = log->delivered[OUTPUT_STDOUT] + log->delivered[OUTPUT_STDERR];
		bool closed;

		if (daytona_follow(op, c, url, deadline, log, &closed, err) < 0)
			return -1;
		int64_t soon = loop_now_ms() + EXIT_MS;
		if (closed && await_exit(op, c, url, soon < deadline ? soon : deadline, ret_whole, ret_code, err) < 0)
			return -1;
		if (*ret_whole)
			return daytona_log_finish(op, log, err);
		if (log->delivered[OUTPUT_STDOUT] + log->delivered[OUTPUT_STDERR] > before)
			losses = -1;
	}
	return 0;
}

static int run(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, const char *session,
	       const char *command, int64_t deadline, bool *ret_late, struct execute_result *ret, struct err *err)
{
	cleanup_free char *url = daytona_url(handle->sandbox.toolbox, "/process/session/%s/command/%s",
					     DAYTONA_PARTS(session, command));
	struct daytona_log log = {0};
	bool ended = false;

	if (c->use_log_stream && follow(op, c, url, deadline, &log, &ended, &ret->exit_code, err) < 0)
		return -1;
	if (ended) {
		ret->has_exit_code = true;
		return 0;
	}
	if (await_exit(op, c, url, deadline, &ended, &ret->exit_code, err) < 0)
		return -1;
	*ret_late = !ended;
	/* What was printed in time is part of the result; if it cannot be had, the result is the same without it. */
	if (*ret_late)
		return read_logs(op, c, url, LATE_LOGS_MS, &log, NULL) < 0 && fiber_is_cancelled()
			       ? err_set(err, ERR_CANCELLED, "cancelled")
			       : 0;
	ret->has_exit_code = true;
	return read_logs(op, c, url, daytona_call_ms(c), &log, err);
}

int daytona_session_run(struct op *op, const struct daytona_config *c, struct daytona_handle *handle,
			const struct execute_params *p, const char *script, double timeout_ms, struct execute_result *ret,
			struct err *err)
{
	int64_t deadline = loop_now_ms() + (int64_t)timeout_ms;
	int64_t seconds = daytona_seconds(timeout_ms);
	cleanup_free char *session = NULL;
	cleanup_free char *command = NULL;
	cleanup_err struct err e = ERR_INIT;
	bool lost, late = false;

	if (open_session(op, c, handle, seconds * 1000, &session, err) < 0)
		return -1;
	int rc = start(op, c, handle, session, script, seconds, &command, &lost, &e);
	if (rc < 0 && lost) {
		drop(handle, session);
		free(steal(&session));
		err_clear(&e);
		if (open_session(op, c, handle, seconds * 1000, &session, err) < 0)
			return -1;
		rc = start(op, c, handle, session, script, seconds, &command, &lost, &e);
	}
	if (rc == 0)
		rc = run(op, c, handle, session, command, deadline, &late, ret, &e);
	if (rc < 0 || late) {
		/* It may still be running, and whatever comes next would wait for it. */
		drop(handle, session);
		daytona_session_delete(op, c, &handle->sandbox, session);
	}
	if (late) {
		cleanup_free char *text = xasprintf("Command timed out after %.0f s.", round(timeout_ms / 1000));
		daytona_report_timeout(op, p, timeout_ms, text, ret);
	}
	return rc < 0 ? err_move(err, &e) : 0;
}
