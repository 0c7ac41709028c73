/*
 * wire: docker, 4. A command is three requests: made, started with its stream, asked for its exit code. The stream runs in a fiber of its
 * own; the caller's waits for it, or for the command's time, or is cancelled; then it ends what runs.
 *
 * A start is not repeated: the command may run. That it does, is visible; and a stream that ends is no proof that the command has: after
 * the engine's restart its exit code is never known. So a code counts only from a command that does not run any more, within some seconds.
 */
#include "docker.h"

#include "base/random.h"
#include "http_duplex.h"
#include "protocol/json_write.h"

#include <string.h>

#define STARTS_MAX 16        /* at once: the engine takes them one after the other */
#define TICK_MS 1000
#define BUSY_TICKS 10        /* looks at a command whose output never pauses are rarer */
#define LINGER_MS 500        /* of a stream whose command has ended: something else holds it */
#define LAST_OUTPUT_MS 1000  /* after a kill */
#define NOTICE_MS 200        /* from the stream's end to the engine's noticing that the command has ended */
#define EXIT_WAIT_MS 4000    /* … to the exit code */
#define ENDED_NOW "what still ran of it was ended"

struct running {
	struct op *op;
	const struct docker_config *c;
	const struct docker_command *command;
	struct docker_engine *engine;
	struct docker_stream *stream;
	char *id;      /* owned; of the exec */
	char *mark;    /* owned */
	bool starting; /* a place among the starts is taken */
	bool opened;
	bool ended_seen;       /* it does not run any more, though its stream goes on */
	int64_t started_ms, ended_ms, output_ms;
	unsigned ticks;
	struct event event;
	bool done;
	int rc;
	struct err err;
	int refusal; /* status of a start that was refused; 0: it was not */
	char *refusal_text; /* owned */
};

/* --- the gate for starts --- */

struct wait {
	struct list link;
	struct event event;
	bool admitted;
};

static int enter_gate(struct running *r, struct err *err)
{
	struct docker_engine *engine = r->engine;
	struct wait wait = {0};
	int rc = 0;

	if (r->command->is_killer)
		return 0;
	if (engine->starting < STARTS_MAX && list_empty(&engine->waiting)) {
		engine->starting++;
		r->starting = true;
		return 0;
	}
	list_append(&engine->waiting, &wait.link);
	while (rc == 0 && !wait.admitted)
		rc = event_wait(&wait.event, err);
	if (!wait.admitted)
		list_remove(&wait.link);
	r->starting = wait.admitted;
	return rc;
}

static void leave_gate(struct running *r)
{
	struct docker_engine *engine = r->engine;

	if (!r->starting)
		return;
	r->starting = false;
	if (list_empty(&engine->waiting)) {
		engine->starting--;
		return;
	}
	struct wait *next = container_of(engine->waiting.next, struct wait, link);

	list_remove(&next->link);
	next->admitted = true;
	event_set(&next->event);
}

/* --- made --- */

static json_t *environment_list(const struct running *r)
{
	json_t *list = json_array();
	const char *key;
	json_t *value;

	json_array_append_new(list, json_sprintf(DOCKER_MARK "=%s", r->mark));
	json_object_foreach((json_t *)(uintptr_t)r->command->env, key, value) {
		if (json_is_string(value))
			json_array_append_new(list, json_sprintf("%s=%s", key, json_string_value(value)));
	}
	return list;
}

static json_t *create_body(const struct running *r)
{
	const struct docker_command *command = r->command;
	json_t *argv = json_array();
	json_t *body = json_pack("{s:b, s:b, s:b, s:b, s:o, s:o}", "AttachStdin", command->input != NULL, "AttachStdout", true, "AttachStderr",
				 true, "Tty", false, "Cmd", argv, "Env", environment_list(r));

	for (size_t i = 0; command->argv[i]; i++)
		json_array_append_new(argv, json_string(command->argv[i]));
	if (command->cwd)
		json_object_set_new(body, "WorkingDir", json_string(command->cwd));
	if (str_nonempty(command->user))
		json_object_set_new(body, "User", json_string(command->user));
	return body;
}

static int create(struct running *r, struct err *err)
{
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_free char *path = xasprintf("/containers/%s/exec", r->command->container);
	cleanup_json json_t *body = create_body(r);
	/* One that was made twice and started once does no harm. */
	struct docker_call call = {.method = "POST", .path = path, .json = body, .repeat = HTTP_REPEAT_IDEMPOTENT};

	if (docker_perform(r->op, r->c, &call, &answer, err) < 0)
		return -1;
	const char *id = json_string_value(json_object_get(answer.json, "Id"));

	if (!str_nonempty(id) || id[strspn(id, "0123456789abcdefghijklmnopqrstuvwxyz")] != '\0')
		return err_set(err, ERR_PROTOCOL, "The engine at %s made a command and did not say which.", r->c->place);
	r->id = xstrdup(id);
	return 0;
}

/* --- looked at --- */

struct look {
	bool ended; /* with this code */
	int code;
};

static int look(struct running *r, struct look *ret, struct err *err)
{
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_free char *path = xasprintf("/exec/%s/json", r->id);
	struct docker_call call = {.method = "GET", .path = path, .repeat = HTTP_REPEAT_IDEMPOTENT, .deadline_ms = 10000};

	*ret = (struct look){0};
	if (docker_perform(r->op, r->c, &call, &answer, err) < 0)
		return -1;
	const json_t *code = json_object_get(answer.json, "ExitCode");
	/* Podman: what it never saw begin has not ended either, though it tells a code (its service was restarted meanwhile). */
	bool begun = !r->engine->is_podman || !json_is_false(json_object_get(answer.json, "CanRemove"));

	ret->ended = begun && json_is_integer(code) && !json_is_true(json_object_get(answer.json, "Running"));
	ret->code = (int)json_integer_value(code);
	return 0;
}

/* --- started --- */

static void on_open(void *arg)
{
	struct running *r = arg;

	leave_gate(r);
	r->opened = true;
	r->started_ms = r->output_ms = loop_now_ms();
	event_set(&r->event);
}

static int on_body(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct running *r = arg;
	int rc = docker_stream_feed(r->stream, bytes, n, err);

	r->output_ms = loop_now_ms();
	return rc;
}

/*
 * Docker keeps a stream open for as long as anything holds it, a background process for one; Podman does not. A command that has ended
 * gets a moment for its last bytes.
 */
static int on_tick(void *arg, struct err *err)
{
	struct running *r = arg;
	struct look now;
	bool quiet = loop_now_ms() - r->output_ms >= TICK_MS;

	r->ticks++;
	if (r->ended_seen)
		return loop_now_ms() - r->ended_ms >= LINGER_MS;
	if (r->engine->is_podman || (!quiet && r->ticks % BUSY_TICKS != 0))
		return 0;
	if (look(r, &now, NULL) == 0 && now.ended) {
		r->ended_seen = true;
		r->ended_ms = loop_now_ms();
	}
	return fiber_is_cancelled() ? err_set(err, ERR_CANCELLED, "cancelled") : 0;
}

static int run_stream(struct running *r, struct err *err)
{
	static const struct http_header headers[] = {
		{"Content-Type", "application/json"}, {"Connection", "Upgrade"}, {"Upgrade", "tcp"}, {NULL, NULL}};
	static const char body[] = "{\"Detach\":false,\"Tty\":false}";
	cleanup_free char *path = xasprintf("/exec/%s/start", r->id);
	cleanup_free char *url = docker_url(r->c, r->engine, path);
	cleanup_http_response struct http_response response = {0};
	struct http_duplex_request request = {
		.method = "POST",
		.url = url,
		.headers = headers,
		.body = body,
		.body_len = strlen(body),
		.input = r->command->input,
		.options = &r->c->http,
		.tick_ms = TICK_MS,
		.on_open = on_open,
		.on_body = on_body,
		.on_tick = on_tick,
		.arg = r,
	};

	if (http_duplex(worker_http(op_worker(r->op)), &request, &response, err) < 0)
		return -1;
	if (response.status == 101 || http_is_success(&response))
		return r->ended_seen ? 0 : docker_stream_finish(r->stream, err);
	cleanup_json json_t *json = NULL;
	json_t *parsed = NULL;

	http_response_json(&response, &parsed, NULL);
	json = parsed;
	r->refusal = response.status;
	r->refusal_text = docker_message(json) ? xstrdup(docker_message(json)) : NULL;
	return docker_set_refusal(r->c, &response, json, err);
}

static void play(void *arg)
{
	struct running *r = arg;

	r->rc = enter_gate(r, &r->err);
	if (r->rc == 0)
		r->rc = create(r, &r->err);
	if (r->rc == 0)
		r->rc = run_stream(r, &r->err);
	leave_gate(r);
	r->done = true;
	event_set(&r->event);
}

/* --- ended --- */

static int end_all(struct running *r, bool *ret_found, struct err *err)
{
	*ret_found = false;
	if (!r->id || r->command->is_killer)
		return 0;
	return docker_kill_marked(r->op, r->c, r->command->container, r->command->user, r->mark, ret_found, err);
}

/* What its end looks like is nobody's concern any more. */
static void end_and_log(struct running *r)
{
	cleanup_err struct err e = ERR_INIT;
	bool found;

	if (end_all(r, &found, &e) < 0)
		op_log(r->op, LOG_LEVEL_ERROR, NULL, "A command in container %s may still run: %s", r->command->container, err_text(&e));
}

static int set_lost(struct running *r, const struct err *cause, const char *fate, struct err *err)
{
	bool has_cause = cause && cause->kind != ERR_NONE;

	return err_set(err, ERR_TRANSPORT,
		       "The connection to the container engine at %s was lost while the command ran%s%s; its exit code is not known, and %s.",
		       r->c->place, has_cause ? ": " : "", has_cause ? err_text(cause) : "", fate);
}

static int end_lost(struct running *r, const struct err *cause, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;
	bool found = false;
	int rc = end_all(r, &found, &e);

	return set_lost(r, cause, rc < 0 ? "it may still run" : found ? ENDED_NOW : "nothing of it runs any more", err);
}

/* A start that was refused because there is nothing to run is the command's result. */
static int take_refusal(struct running *r, struct docker_ended *ret, struct err *err)
{
	struct look now;

	if (r->refusal != 400 || look(r, &now, NULL) < 0 || !now.ended || (now.code != 126 && now.code != 127))
		return err_move(err, &r->err);
	ret->exit_code = now.code;
	if (r->refusal_text && r->command->on_output)
		return r->command->on_output(r->command->arg, OUTPUT_STDERR, r->refusal_text, strlen(r->refusal_text), err);
	return 0;
}

static int set_forgotten(struct err *err)
{
	return err_set(err, ERR_REMOTE,
		       "The container or its engine's memory of the command is gone: it was removed, or the engine was restarted, while the "
		       "command ran. Its exit code is not known.");
}

/*
 * The stream has ended, which a lost connection looks like as well. The engine knows at once that a command has ended; one that seems to
 * run on is looked for in the container: what still runs is ended, and its output was cut short.
 */
static int take_exit_code(struct running *r, struct docker_ended *ret, struct err *err)
{
	int64_t since_ms = loop_now_ms();
	bool searched = false;

	for (int64_t pause = 5;; pause = pause < 100 ? pause * 2 : 100) {
		cleanup_err struct err e = ERR_INIT;
		struct look now;

		if (look(r, &now, &e) == 0 && now.ended) {
			ret->exit_code = now.code;
			return 0;
		}
		if (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT))
			return err_move(err, &e);
		if (err_is(&e, ERR_NOT_FOUND))
			return set_forgotten(err);
		if (err_is(&e, ERR_NONE) && !searched && loop_now_ms() - since_ms >= NOTICE_MS) {
			bool found = false;

			searched = end_all(r, &found, NULL) == 0;
			if (found)
				return set_lost(r, NULL, ENDED_NOW, err);
		}
		if (loop_now_ms() - since_ms >= EXIT_WAIT_MS)
			return end_lost(r, &e, err);
		if (fiber_sleep(pause, err) < 0)
			return -1;
	}
}

static int take_result(struct running *r, struct docker_ended *ret, struct err *err)
{
	if (r->rc == 0)
		return take_exit_code(r, ret, err);
	if (r->refusal)
		return take_refusal(r, ret, err);
	bool broken = err_is(&r->err, ERR_TRANSPORT) || err_is(&r->err, ERR_PROTOCOL) || err_is(&r->err, ERR_TIMEOUT);

	if (r->id && broken)
		return end_lost(r, &r->err, err);
	return err_move(err, &r->err);
}

/* Waits for the stream's end, or the command's time: 1. -1: cancelled, or the request's time is over. */
static int await(struct running *r, struct err *err)
{
	while (!r->done) {
		int64_t limit = r->command->timeout_ms > 0 && r->opened ? r->started_ms + r->command->timeout_ms - loop_now_ms() : -1;
		bool set;

		if (limit < 0 && r->opened && r->command->timeout_ms > 0)
			return 1;
		if (event_wait_for(&r->event, limit, &set, err) < 0)
			return -1;
		if (!set && !r->done)
			return 1;
	}
	return 0;
}

static void await_last_output(struct running *r)
{
	struct fiber_scope scope;

	shield_enter(&scope, LAST_OUTPUT_MS);
	while (!r->done && event_wait(&r->event, NULL) == 0)
		continue;
	scope_leave(&scope);
}

static void join(struct fiber_group *group)
{
	struct fiber_scope scope;

	fiber_group_cancel(group);
	shield_enter(&scope, DEADLINE_NONE);
	fiber_group_join(group, NULL);
	scope_leave(&scope);
}

static int supervise(struct running *r, struct docker_ended *ret, struct err *err)
{
	struct fiber_group group;
	struct err e = ERR_INIT;

	fiber_group_init(&group);
	fiber_group_start(&group, play, r);
	int rc = await(r, &e);

	if (rc == 0) {
		join(&group);
		return take_result(r, ret, err);
	}
	end_and_log(r);
	if (rc > 0 || err_is(&e, ERR_TIMEOUT))
		await_last_output(r);
	join(&group);
	if (rc < 0 && !err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	err_clear(&e);
	ret->timed_out = true;
	return 0;
}

int docker_exec_plain(struct op *op, const struct docker_config *c, const struct docker_command *command, struct docker_ended *ret,
		      struct err *err)
{
	struct running r = {.op = op, .c = c, .command = command};

	*ret = (struct docker_ended){0};
	if (docker_engine_find(op, c, &r.engine, err) < 0)
		return -1;
	r.mark = random_uuid();
	r.stream = docker_stream_create(command);
	int rc = supervise(&r, ret, err);

	docker_stream_destroy(r.stream);
	free(r.id);
	free(r.mark);
	free(r.refusal_text);
	err_clear(&r.err);
	return rc;
}
