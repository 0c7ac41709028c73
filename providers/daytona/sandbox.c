/* wire: daytona, The sandbox. */
#include "daytona.h"

#include "log.h"

#include <math.h>
#include <string.h>

#define POLL_FIRST_MS 100
#define POLL_EAGER_MS 5000 /* so long the pause stays the same */
#define POLL_MAX_MS 1000
#define DISCARD_MS 15000 /* what else failed has taken its time already */
#define DELETE_CALL_MS 5000
#define DELETE_PAUSE_MAX_MS 1000
#define LATE_LOOKS 4 /* for a sandbox whose creation was not answered and may still be under way */

static const char *const failed_states[] = {"error", "build_failed", NULL};

static bool is_one_of(const char *text, const char *const *list)
{
	for (; *list; list++) {
		if (strcmp(text, *list) == 0)
			return true;
	}
	return false;
}

static char *dup_or_null(const char *text)
{
	return text ? xstrdup(text) : NULL;
}

static void replace(char **place, char *text)
{
	free(*place);
	*place = text;
}

void daytona_sandbox_deinit(struct daytona_sandbox *s)
{
	if (!s)
		return;
	free(s->id);
	free(s->name);
	free(s->state);
	free(s->target);
	free(s->error_reason);
	free(s->toolbox);
	*s = (struct daytona_sandbox){0};
}

/* Without slashes at its end, and with the id. */
static void take_toolbox(struct daytona_sandbox *s, const char *url)
{
	if (!str_nonempty(url))
		return;
	cleanup_free char *base = xstrdup(url);
	for (size_t len = strlen(base); len > 0 && base[len - 1] == '/'; len--)
		base[len - 1] = '\0';
	replace(&s->toolbox, daytona_url(base, "/%s", DAYTONA_PARTS(s->id)));
}

static int take_answer(struct daytona_sandbox *s, const json_t *answer, struct err *err)
{
	const char *id = json_string_value(json_object_get(answer, "id"));
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *name = json_string_value(json_object_get(answer, "name"));
	const json_t *reason = json_object_get(answer, "errorReason");

	if (!str_nonempty(id) || !state)
		return err_set(err, ERR_PROTOCOL, "Daytona answered without a sandbox.");
	if (s->id && strcmp(s->id, id) != 0)
		return err_set(err, ERR_PROTOCOL, "Daytona sandbox handle mismatch: handle %s does not belong to lease %s.", id,
			       s->id);
	replace(&s->id, xstrdup(id));
	replace(&s->name, xstrdup(name ? name : id));
	replace(&s->state, xstrdup(state));
	replace(&s->target, dup_or_null(json_string_value(json_object_get(answer, "target"))));
	s->has_error_reason = json_is_string(reason);
	replace(&s->error_reason, xstrdup(s->has_error_reason ? json_string_value(reason) : reason ? "null" : "undefined"));
	s->recoverable = json_is_true(json_object_get(answer, "recoverable"));
	take_toolbox(s, json_string_value(json_object_get(answer, "toolboxProxyUrl")));
	return 0;
}

static int64_t timeout_ms(const struct daytona_config *c)
{
	return daytona_seconds(c->timeout_ms) * 1000;
}

/* --- looking --- */

static int look(struct op *op, const struct daytona_config *c, const char *id, int64_t ms, enum http_repeat repeat,
		struct daytona_sandbox *s, struct daytona_failure *ret_failure, struct err *err)
{
	cleanup_free char *url = daytona_url(c->api_url, "/sandbox/%s", DAYTONA_PARTS(id));
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {
		.method = "GET", .url = url, .deadline_ms = ms < daytona_call_ms(c) ? ms : daytona_call_ms(c), .repeat = repeat};
	int rc = daytona_perform(op, c, &call, &answer, err);

	if (ret_failure)
		*ret_failure = answer.failure;
	return rc < 0 ? -1 : take_answer(s, answer.json, err);
}

int daytona_sandbox_get(struct op *op, const struct daytona_config *c, const char *id, struct daytona_sandbox *s, struct err *err)
{
	if (look(op, c, id, timeout_ms(c), HTTP_REPEAT_IDEMPOTENT, s, NULL, err) < 0)
		return -1;
	if (strcmp(s->id, id) != 0)
		return err_set(err, ERR_PROTOCOL, "Daytona sandbox handle mismatch: handle %s does not belong to lease %s.",
			       s->id, id);
	return 0;
}

/* --- waiting --- */

struct goal {
	const char *const *states; /* NULL: any but not_state and failed ones */
	const char *not_state;
	bool gone_is_done; /* 404 */
	bool names_sandbox;
	const char *failed; /* "failed to start with status" */
	const char *timeout_text;
};

static const struct goal goal_started = {
	.states = (const char *const[]){"started", NULL},
	.names_sandbox = true,
	.failed = "failed to start with status",
	.timeout_text = "Sandbox failed to become ready within the timeout period",
};

static const struct goal goal_stopped = {
	.states = (const char *const[]){"stopped", "destroyed", NULL},
	.gone_is_done = true,
	.failed = "failed to stop with status",
	.timeout_text = "Sandbox failed to become stopped within the timeout period",
};

static int set_failed(const struct goal *goal, const struct daytona_sandbox *s, struct err *err)
{
	return err_set(err, ERR_REMOTE, "Sandbox %s%s%s: %s, error reason: %s", goal->names_sandbox ? s->id : "",
		       goal->names_sandbox ? " " : "", goal->failed, s->state, s->error_reason);
}

static const struct goal goal_captured = {
	.not_state = "snapshotting",
	.names_sandbox = true,
	.failed = "snapshot failed with state",
	.timeout_text = "Sandbox snapshot did not complete within the timeout period",
};

static bool is_reached(const struct goal *goal, const char *state)
{
	return goal->states ? is_one_of(state, goal->states) : strcmp(state, goal->not_state) != 0;
}

/* An answer that will be the same the next time; anything else may be a bad moment. */
static bool is_final(const struct daytona_failure *failure)
{
	return failure->status >= 400 && failure->status < 500 && failure->status != 408 && failure->status != 409 &&
	       failure->status != 429;
}

/* *ret_late: the time was over. */
static int wait_for(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const struct goal *goal,
		    int64_t deadline, bool *ret_late, struct err *err)
{
	int64_t began = loop_now_ms();
	double pause = POLL_FIRST_MS;

	for (bool first = true;; first = false) {
		if (is_one_of(s->state, failed_states))
			return set_failed(goal, s, err);
		if (is_reached(goal, s->state))
			return 0;
		int64_t left = deadline - loop_now_ms();
		if (left <= 0 && !first) {
			*ret_late = true;
			return err_set(err, ERR_REMOTE, "%s", goal->timeout_text);
		}
		if (!first && fiber_sleep((int64_t)pause < left ? (int64_t)pause : left, err) < 0)
			return -1;
		if (loop_now_ms() - began > POLL_EAGER_MS)
			pause = fmin(pause * 1.1, POLL_MAX_MS);
		/* The last look is one after the end of the time. */
		cleanup_err struct err e = ERR_INIT;
		struct daytona_failure failure = {0};
		left = deadline - loop_now_ms();
		if (look(op, c, s->id, left > 1000 ? left : 1000, HTTP_REPEAT_UNSENT, s, &failure, &e) == 0)
			continue;
		if (goal->gone_is_done && failure.status == 404)
			return 0;
		if (is_final(&failure) || err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT) || err_is(&e, ERR_INVALID))
			return err_move(err, &e);
	}
}

/* --- deleting --- */

struct delete_try {
	bool done;
	bool again; /* may work later */
};

static struct delete_try try_delete(struct op *op, const struct daytona_config *c, const char *id, bool may_come_late,
				    struct err *err)
{
	cleanup_free char *url = daytona_url(c->api_url, "/sandbox/%s", DAYTONA_PARTS(id));
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {.method = "DELETE", .url = url, .deadline_ms = DELETE_CALL_MS, .repeat = HTTP_REPEAT_UNSENT};

	/* Only an answer with the sandbox says that it is going; the next try tells what any other meant. */
	if (daytona_perform(op, c, &call, &answer, err) == 0) {
		if (str_nonempty(json_string_value(json_object_get(answer.json, "id"))))
			return (struct delete_try){.done = true};
		err_set(err, ERR_PROTOCOL, "Daytona answered the deletion of sandbox %s without a sandbox.", id);
		return (struct delete_try){.again = true};
	}
	if (answer.failure.status == 404)
		return (struct delete_try){.done = !may_come_late, .again = may_come_late};
	return (struct delete_try){.again = !is_final(&answer.failure) && !err_is(err, ERR_INVALID)};
}

static int delete_within(struct op *op, const struct daytona_config *c, const char *id, int64_t ms, bool may_come_late,
			 struct err *err)
{
	int64_t deadline = loop_now_ms() + ms;
	int64_t pause = 100;

	for (int looks = 1;; looks++) {
		cleanup_err struct err e = ERR_INIT;
		struct delete_try result = try_delete(op, c, id, may_come_late && looks < LATE_LOOKS, &e);
		if (result.done)
			return 0;
		if (!result.again || loop_now_ms() + pause >= deadline)
			return err_move(err, &e);
		if (fiber_sleep(pause, err) < 0)
			return -1;
		pause = pause * 2 < DELETE_PAUSE_MAX_MS ? pause * 2 : DELETE_PAUSE_MAX_MS;
	}
}

int daytona_sandbox_delete(struct op *op, const struct daytona_config *c, const char *id_or_name, int64_t ms, struct err *err)
{
	struct fiber_scope scope;

	shield_enter(&scope, ms + DELETE_CALL_MS);
	int rc = delete_within(op, c, id_or_name, ms, /* may_come_late= */ false, err);
	scope_leave(&scope);
	return rc;
}

static void discard(struct op *op, const struct daytona_config *c, const char *id, bool may_come_late)
{
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;

	shield_enter(&scope, DISCARD_MS + DELETE_CALL_MS);
	if (delete_within(op, c, id, DISCARD_MS, may_come_late, &err) < 0)
		op_log(op, LOG_LEVEL_ERROR, NULL, "Daytona sandbox %s could not be deleted and may still be running: %s", id,
		       err_text(&err));
	scope_leave(&scope);
}

void daytona_sandbox_discard(struct op *op, const struct daytona_config *c, const char *id)
{
	discard(op, c, id, /* may_come_late= */ false);
}

/* --- creating --- */

static json_t *labels_of(const struct daytona_config *c, const struct daytona_purpose *purpose)
{
	const struct request_base *base = purpose->base;
	json_t *labels = json_pack("{s:s}", "paperclip-provider", "daytona");

	if (base->company_id)
		json_object_set_new(labels, "paperclip-company-id", json_string(base->company_id));
	if (base->environment_id)
		json_object_set_new(labels, "paperclip-environment-id", json_string(base->environment_id));
	json_object_set_new(labels, "paperclip-reuse-lease", json_string(c->reuse_lease ? "true" : "false"));
	if (purpose->run_id)
		json_object_set_new(labels, "paperclip-run-id", json_string(purpose->run_id));
	if (purpose->is_setup)
		json_object_set_new(labels, "paperclip-purpose", json_string("interactive_setup"));
	if (purpose->setup_session_id)
		json_object_set_new(labels, "paperclip-setup-session-id", json_string(purpose->setup_session_id));
	json_object_set_new(labels, "code-toolbox-language", json_string(c->language ? c->language : "python"));
	return labels;
}

static json_t *number_json(double number)
{
	return number == trunc(number) && fabs(number) < 9e15 ? json_integer((json_int_t)number) : json_real(number);
}

static json_t *create_body(const struct daytona_config *c, const struct daytona_purpose *purpose, const char *name)
{
	json_t *body = json_pack("{s:s}", "name", name);

	if (c->image) {
		cleanup_free char *dockerfile = xasprintf("FROM %s\n", c->image);
		json_object_set_new(body, "buildInfo", json_pack("{s:s}", "dockerfileContent", dockerfile));
	} else if (c->snapshot) {
		json_object_set_new(body, "snapshot", json_string(c->snapshot));
	}
	json_object_set_new(body, "env", json_object());
	json_object_set_new(body, "labels", labels_of(c, purpose));
	if (c->target)
		json_object_set_new(body, "target", json_string(c->target));
	for (size_t i = 0; c->image && i < DAYTONA_RESOURCES; i++) {
		if (!isnan(c->resources[i]))
			json_object_set_new(body, daytona_resource_names[i], number_json(c->resources[i]));
	}
	for (size_t i = 0; i < DAYTONA_INTERVALS; i++)
		json_object_set_new(body, daytona_interval_names[i], number_json(c->intervals[i]));
	return body;
}

static int set_create_timeout(const struct daytona_config *c, struct err *err)
{
	err_clear(err);
	return err_set(err, ERR_REMOTE, "Failed to create and start sandbox within %lld seconds. Operation timed out.",
		       (long long)daytona_seconds(c->timeout_ms));
}

/* A refusal says that there is none, unless it speaks of a start that failed; without an answer there may be one, or be one soon. */
static bool may_have_created(const struct daytona_answer *answer)
{
	int status = answer->failure.status;

	if (status == 400)
		return answer->http.body.data && strstr(answer->http.body.data, "failed to start");
	if (status >= 400 && status < 500 && status != 408)
		return false;
	return answer->failure.sent;
}

static int create(struct op *op, const struct daytona_config *c, const char *name, const json_t *body,
		  struct daytona_sandbox *ret, struct err *err)
{
	cleanup_free char *url = daytona_url(c->api_url, "/sandbox", NULL);
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {
		.method = "POST", .url = url, .json = body, .deadline_ms = timeout_ms(c), .repeat = HTTP_REPEAT_REJECTED};

	if (daytona_perform(op, c, &call, &answer, err) == 0 && take_answer(ret, answer.json, err) == 0)
		return 0;
	if (may_have_created(&answer))
		discard(op, c, name, /* may_come_late= */ answer.failure.status != 400);
	return answer.failure.timed_out ? set_create_timeout(c, err) : -1;
}

int daytona_sandbox_create(struct op *op, const struct daytona_config *c, const struct daytona_purpose *purpose,
			   struct daytona_sandbox *ret, struct err *err)
{
	int64_t deadline = loop_now_ms() + timeout_ms(c);
	bool late = false;

	if (daytona_config_check_create(c, err) < 0)
		return -1;
	cleanup_free char *uuid = random_uuid();
	cleanup_free char *name = xasprintf("paperclip-%s", uuid);
	cleanup_json json_t *body = create_body(c, purpose, name);
	if (create(op, c, name, body, ret, err) < 0)
		return -1;
	if (wait_for(op, c, ret, &goal_started, deadline, &late, err) == 0)
		return 0;
	daytona_sandbox_discard(op, c, ret->id);
	return late ? set_create_timeout(c, err) : -1;
}

/* --- starting, stopping, archiving --- */

static int change(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *path, struct err *err)
{
	cleanup_free char *url = daytona_url(c->api_url, path, DAYTONA_PARTS(s->id));
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {.method = "POST", .url = url, .deadline_ms = timeout_ms(c), .repeat = HTTP_REPEAT_REJECTED};

	if (daytona_perform(op, c, &call, &answer, err) < 0)
		return -1;
	return answer.json ? take_answer(s, answer.json, err) : 0;
}

/* Where a start can be asked for. It may be on its way elsewhere, by another hand or by the service's own. */
static const struct goal goal_settled = {
	.states = (const char *const[]){"started", "stopped", "archived", "paused", "destroyed", NULL},
	.names_sandbox = true,
	.failed = "failed to start with status",
	.timeout_text = "Sandbox failed to become ready within the timeout period",
};

static int recover(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err)
{
	if (!s->recoverable)
		return err_set(err, ERR_CONFLICT, "Daytona sandbox %s is in an unrecoverable error state: %s", s->id,
			       s->has_error_reason ? s->error_reason : "unknown error");
	return change(op, c, s, "/sandbox/%s/recover", err);
}

int daytona_sandbox_ensure_started(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err)
{
	int64_t deadline = loop_now_ms() + timeout_ms(c);
	bool late = false;

	if (strcmp(s->state, "started") == 0)
		return 0;
	if (strcmp(s->state, "error") == 0)
		return recover(op, c, s, err) < 0 ? -1 : wait_for(op, c, s, &goal_started, deadline, &late, err);
	for (;;) {
		cleanup_err struct err e = ERR_INIT;
		if (change(op, c, s, "/sandbox/%s/start", &e) == 0)
			return wait_for(op, c, s, &goal_started, deadline, &late, err);
		/* A conflict: a change is under way. It may be the start itself, or one that ends in a state to start from. */
		if (!err_is(&e, ERR_CONFLICT) || loop_now_ms() >= deadline)
			return err_move(err, &e);
		replace(&s->state, xstrdup("unknown"));
		if (fiber_sleep(POLL_FIRST_MS, err) < 0 || wait_for(op, c, s, &goal_settled, deadline, &late, err) < 0)
			return -1;
		if (strcmp(s->state, "started") == 0)
			return 0;
	}
}

int daytona_sandbox_stop(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err)
{
	int64_t deadline = loop_now_ms() + timeout_ms(c);
	bool late = false;

	if (change(op, c, s, "/sandbox/%s/stop?force=false", err) < 0)
		return -1;
	return wait_for(op, c, s, &goal_stopped, deadline, &late, err);
}

int daytona_sandbox_archive(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err)
{
	if (change(op, c, s, "/sandbox/%s/autodelete/60", err) < 0)
		return -1;
	return change(op, c, s, "/sandbox/%s/archive", err);
}

int daytona_sandbox_capture(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *name,
			    int64_t ms, struct err *err)
{
	int64_t deadline = loop_now_ms() + ms;
	bool late = false;
	cleanup_json json_t *body = json_pack("{s:s}", "name", name);
	cleanup_free char *url = daytona_url(c->api_url, "/sandbox/%s/snapshot", DAYTONA_PARTS(s->id));
	cleanup_daytona_answer struct daytona_answer answer = {0};
	struct daytona_call call = {
		.method = "POST", .url = url, .json = body, .deadline_ms = ms, .repeat = HTTP_REPEAT_REJECTED};

	if (daytona_perform(op, c, &call, &answer, err) < 0 || take_answer(s, answer.json, err) < 0)
		return -1;
	return wait_for(op, c, s, &goal_captured, deadline, &late, err);
}
