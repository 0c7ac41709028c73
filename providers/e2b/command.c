/* wire: e2b, What a better client does, 1, 6 to 10: a command to its end, whatever becomes of the connection. */
#include "e2b.h"

#include "log.h"
#include "protocol/js_value.h"

#include <string.h>

#define ATTACH_PAUSE_MS 100
#define ATTACH_PAUSE_MAX_MS 2000
#define END_MS 3000     /* release and destroy wait */
#define END_LATE_MS 700 /* the host waits */
#define CHECK_ATTEMPTS 3
#define CHECK_PAUSE_MS 250
#define CHECK_OUTPUT_MAX ((size_t)1 << 20)

void e2b_end_deinit(struct e2b_end *end)
{
	if (!end)
		return;
	free(end->timeout_text);
	free(end->error);
	*end = (struct e2b_end){0};
}

static bool is_past_limit(const struct e2b_run *run)
{
	return run->limit_at != INT64_MAX && loop_now_ms() >= run->limit_at;
}

/* --- after a cut stream --- */

static int set_end_missed(struct err *err)
{
	return err_set(err, ERR_TRANSPORT,
		       "2: [unknown] terminated: the connection was cut, and the command ended before it was there again; its "
		       "exit code is not known");
}

/* There is no envd, or none that is reached. True, with err set, if there is no sandbox either. */
static bool has_died(struct e2b_run *run, struct err *err)
{
	enum e2b_condition state = E2B_RUNNING;

	if (e2b_sandbox_look(run->op, run->client, run->sandbox->id, &state, NULL) < 0 || state == E2B_RUNNING)
		return false;
	err_set(err, ERR_REMOTE, "%s", e2b_died_text);
	return true;
}

/* What attaching came to: true with *ret_rc if that is the end of it. */
static bool is_settled(struct e2b_run *run, struct e2b_failure *failure, struct err *e, struct err *err)
{
	if (e2b_is_our_end(e) || failure->fault == E2B_LATE || failure->fault == E2B_REFUSED) {
		err_move(err, e);
		return true;
	}
	if (failure->fault == E2B_MISSING) {
		set_end_missed(err);
		return true;
	}
	failure->ended = failure->fault == E2B_ABSENT && has_died(run, err);
	return failure->ended;
}

/* Attaches to the process again, for as long as its limit and the silence allow. cut: what happened to the first stream. */
static int follow(struct e2b_run *run, struct err *cut, struct e2b_failure *ret_failure, struct err *err)
{
	int64_t give_up_at = loop_now_ms() + run->client->request_ms, pause = 0;

	for (;;) {
		cleanup_err struct err e = ERR_INIT;

		if (fiber_sleep(pause, err) < 0)
			return -1;
		if (e2b_stream(run, /* attach= */ true, ret_failure, &e) == 0)
			return 0;
		if (is_settled(run, ret_failure, &e, err))
			return -1;
		if (is_past_limit(run)) {
			ret_failure->fault = E2B_LATE;
			return err_set(err, ERR_REMOTE, "%s", e2b_timeout_text);
		}
		if (ret_failure->begun) {
			give_up_at = loop_now_ms() + run->client->request_ms;
			pause = 0;
		}
		if (loop_now_ms() >= give_up_at)
			return err_move(err, cut);
		pause = pause ? (pause * 2 < ATTACH_PAUSE_MAX_MS ? pause * 2 : ATTACH_PAUSE_MAX_MS) : ATTACH_PAUSE_MS;
	}
}

/* --- one command --- */

static int start_and_follow(struct e2b_run *run, struct e2b_failure *ret_failure, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (e2b_stream(run, /* attach= */ false, ret_failure, &e) == 0)
		return 0;
	if (run->command->harmless || e2b_is_our_end(&e) || ret_failure->fault != E2B_LOST || run->pid == 0)
		return err_move(err, &e);
	return follow(run, &e, ret_failure, err);
}

/* Nothing of it may go on unseen. */
static void end_what_runs(struct e2b_run *run, const struct e2b_failure *failure, const struct err *err)
{
	bool may_run = run->pid || (failure->sent && failure->fault == E2B_LOST) || err_is(err, ERR_CANCELLED);

	if (run->command->harmless || failure->fault == E2B_MISSING)
		return;
	if (failure->fault == E2B_LATE && run->looked)
		e2b_tree_end_rest(run, END_MS);
	if (may_run && !failure->ended)
		e2b_tree_end(run, err_is(err, ERR_TIMEOUT) ? END_LATE_MS : END_MS);
}

int e2b_command_run(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const struct e2b_command *command,
		    struct e2b_end *ret, struct e2b_failure *ret_failure, struct err *err)
{
	struct e2b_state *state = op_state(op);
	struct e2b_run run = {
		.op = op,
		.client = c,
		.sandbox = s,
		.command = command,
		.end = ret,
		.limit_at = command->limit_ms > 0 && command->limit_ms < 1e12 ? loop_now_ms() + (int64_t)command->limit_ms
									      : INT64_MAX,
	};
	cleanup_err struct err e = ERR_INIT;

	list_append(&state->runs, &run.link);
	int rc = start_and_follow(&run, ret_failure, &e);
	if (rc < 0)
		end_what_runs(&run, ret_failure, &e);
	list_remove(&run.link);
	free(run.started);
	/* The request's own deadline is the limit of a command that has none. */
	if (rc < 0 && (ret_failure->fault == E2B_LATE || (err_is(&e, ERR_TIMEOUT) && run.pid))) {
		ret->timed_out = true;
		ret->timeout_text = xstrdup(err_is(&e, ERR_TIMEOUT) ? e2b_timeout_text : err_text(&e));
		return 0;
	}
	return rc < 0 ? err_move(err, &e) : 0;
}

/* --- commands of our own --- */

static int keep_stdout(void *arg, enum output_stream stream, const void *bytes, size_t n, struct err *err)
{
	struct buf *out = arg;

	if (stream == OUTPUT_STDOUT && buf_append(out, bytes, n) < 0)
		return err_set(err, ERR_PROTOCOL, "a command of ours printed more than it should");
	return 0;
}

static int check_once(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const struct e2b_command *command,
		      struct e2b_failure *ret_failure, struct err *err)
{
	cleanup_e2b_end struct e2b_end end = {0};

	if (e2b_command_run(op, c, s, command, &end, ret_failure, err) < 0)
		return -1;
	ret_failure->fault = E2B_REFUSED;
	if (end.timed_out)
		return err_set(err, ERR_REMOTE, "%s", end.timeout_text);
	if (end.exit_code != 0 && end.error)
		return err_set(err, ERR_REMOTE, "%s", end.error);
	return end.exit_code != 0 ? err_set(err, ERR_REMOTE, "exit status %d", end.exit_code) : 0;
}

static bool is_worth_repeating(const struct e2b_failure *failure, const struct err *err)
{
	return !e2b_is_our_end(err) && (failure->fault == E2B_LOST || failure->fault == E2B_ABSENT);
}

int e2b_command_check(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *script, const char *cwd,
		      double limit_ms, char **ret, struct e2b_failure *ret_failure, struct err *err)
{
	for (int attempt = 1;; attempt++) {
		cleanup_buf struct buf out = BUF_INIT(CHECK_OUTPUT_MAX);
		cleanup_err struct err e = ERR_INIT;
		struct e2b_command command = {.script = script,
					      .cwd = cwd,
					      .limit_ms = limit_ms,
					      .harmless = true,
					      .on_output = keep_stdout,
					      .arg = &out};
		size_t len;

		if (check_once(op, c, s, &command, ret_failure, &e) == 0) {
			const char *text = js_trim(out.data ? out.data : "", out.len, &len);

			if (ret)
				*ret = xmemdup0(text, len);
			return 0;
		}
		if (attempt >= CHECK_ATTEMPTS || !is_worth_repeating(ret_failure, &e) ||
		    fiber_sleep(CHECK_PAUSE_MS * attempt, NULL) < 0)
			return err_move(err, &e);
	}
}

bool e2b_sandbox_is_gone(struct op *op, const struct e2b_client *c, const char *id, const struct e2b_failure *failure,
			 const struct err *err)
{
	enum e2b_condition state = E2B_RUNNING;

	if (e2b_is_our_end(err) || (failure->fault != E2B_ABSENT && failure->fault != E2B_LOST && !err_is(err, ERR_NOT_FOUND)))
		return false;
	return e2b_sandbox_look(op, c, id, &state, NULL) == 0 && state == E2B_GONE;
}
