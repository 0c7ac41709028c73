/*
 * wire: e2b, envd: running a command. One stream of events, of a process that is started by it or has been started before.
 *
 * The transfer runs in a fiber of its own and hands what comes to the command; the fiber that waits for it looks after the time: for the
 * first event, for the command's limit, and a little before that for what the command has started.
 */
#include "e2b.h"

#include "protocol/connect_frame.h"
#include "protocol/js_value.h"
#include "protocol/json_scan.h"

#include <math.h>
#include <string.h>

#define MESSAGE_MAX ((size_t)4 << 20)
#define GRACE_MS 1500     /* the service ends the stream at the limit; so long after it we do */
#define LAST_WORDS_MS 500 /* from the event of the end to the end of the stream */
#define LOOK_PART 10      /* of the limit: what is left of it when we look what the command has started */
#define LOOK_MIN_MS 200
#define LOOK_MAX_MS 2000
#define SILENCE_PART 5 / 6 /* of the limit of a request: so often the service has to show that it lives */

struct stream {
	struct e2b_run *run;
	bool attach;
	struct connect_frames frames;
	bool begun;    /* the start event has come */
	bool finished; /* the end of the stream has come */
	struct e2b_failure *failure;
	struct err err;
	bool judged; /* err is what an event or the end of the stream said */
	struct event changed;
	bool done;
};

/* --- what comes --- */

/* A failure that the service tells: the transfer ends with it. */
static int judge(struct stream *st, int rc)
{
	st->judged = true;
	return rc;
}

/* It sends what makes no sense, and would again. */
static int refuse(struct stream *st, const char *text, const char *what)
{
	st->failure->fault = E2B_REFUSED;
	return judge(st, err_set(&st->err, ERR_PROTOCOL, "%s%s", text, what));
}

static int end_of_stream(struct stream *st, const char *text, size_t len)
{
	struct json_member top[] = {{.key = "error"}}, members[] = {{.key = "code"}, {.key = "message"}};
	cleanup_free char *code = NULL, *message = NULL;
	enum json_kind kind;
	size_t n;

	st->finished = true;
	if (json_scan(text, len, &kind, top, 1, NULL) < 0 || top[0].value.kind != JSON_KIND_OBJECT)
		return 0;
	if (json_scan(top[0].value.text, top[0].value.len, &kind, members, 2, NULL) < 0)
		return 0;
	if (members[0].value.kind == JSON_KIND_STRING)
		code = json_slice_string(&members[0].value, &n);
	if (members[1].value.kind == JSON_KIND_STRING)
		message = json_slice_string(&members[1].value, &n);
	return judge(st, e2b_rpc_error(code, message, st->begun ? E2B_STREAMING : E2B_BEFORE_START, st->failure, &st->err));
}

static int take_start(struct stream *st, const struct e2b_event *event)
{
	st->begun = true;
	st->failure->begun = true;
	if (st->attach)
		st->run->end->gaps++;
	if (event->pid > 0)
		st->run->pid = event->pid;
	event_set(&st->changed);
	return 0;
}

static int take_data(struct stream *st, const struct e2b_event *event, struct err *err)
{
	const struct e2b_command *command = st->run->command;

	if (event->out.len > 0 && command->on_output(command->arg, OUTPUT_STDOUT, event->out.data, event->out.len, err) < 0)
		return -1;
	if (event->err.len > 0 && command->on_output(command->arg, OUTPUT_STDERR, event->err.data, event->err.len, err) < 0)
		return -1;
	return 0;
}

static int take_end(struct stream *st, struct e2b_event *event)
{
	struct e2b_end *end = st->run->end;

	end->exit_code = event->exit_code;
	end->signal = event->exited ? NULL : e2b_signal_name(event->status ? event->status : event->error);
	end->error = steal(&event->error);
	st->run->ended = true;
	event_set(&st->changed);
	return 0;
}

static int take_event(struct stream *st, struct e2b_event *event, struct err *err)
{
	if (event->kind == E2B_EVENT_START)
		return take_start(st, event);
	if (event->kind == E2B_EVENT_OTHER)
		return 0;
	if (!st->begun)
		return refuse(st, "Expected start event", "");
	return event->kind == E2B_EVENT_DATA ? take_data(st, event, err) : take_end(st, event);
}

static int on_frame(void *arg, unsigned flags, const char *message, size_t len, struct err *err)
{
	struct stream *st = arg;
	struct e2b_event event;

	if (flags & CONNECT_FRAME_COMPRESSED)
		return refuse(st, "13: [internal] received compressed envelope, but do not know how to decompress", "");
	if (flags & CONNECT_FRAME_END_STREAM)
		return end_of_stream(st, message, len);
	int rc = e2b_event_read(message, len, &event, err);
	if (rc == 0)
		rc = take_event(st, &event, err);
	e2b_event_deinit(&event);
	return rc;
}

static int on_body(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct stream *st = arg;

	if (connect_frames_feed(&st->frames, bytes, n, err) == 0)
		return 0;
	/* The text is in st->err already; this one only has to be there. */
	return st->judged ? err_set(err, ERR_REMOTE, "the service ended the stream") : -1;
}

static int on_answer(void *arg, const struct http_response *response, enum http_take *ret, struct err *err)
{
	struct stream *st = arg;
	const char *type = http_header(response, "Content-Type");

	*ret = response->status == 200 ? HTTP_STREAM : HTTP_COLLECT;
	if (response->status != 200 || (type && str_starts_with(type, "application/connect+json")))
		return 0;
	refuse(st, "2: [unknown] unsupported content type ", type ? type : "");
	return err_set(err, ERR_PROTOCOL, "not a stream of Connect");
}

/* --- the transfer --- */

static int64_t limit_left_ms(const struct e2b_run *run)
{
	return run->limit_at == INT64_MAX ? INT64_MAX : run->limit_at - loop_now_ms();
}

static json_t *request_body(const struct stream *st)
{
	const struct e2b_run *run = st->run;

	if (st->attach)
		return json_pack("{s:{s:I}}", "process", "pid", (json_int_t)run->pid);
	json_t *process = json_pack("{s:s, s:[s, s, s]}", "cmd", "/bin/bash", "args", "-l", "-c", run->command->script);
	if (run->command->cwd)
		json_object_set_new(process, "cwd", json_string(run->command->cwd));
	return json_pack("{s:o, s:b}", "process", process, "stdin", 0);
}

/* What the transfer came to, if the service itself did not say. */
static void judge_transfer(struct stream *st, int rc, const struct http_response *response, struct err *e)
{
	st->failure->sent = response->sent;
	if (st->judged)
		return;
	if (rc < 0) {
		st->failure->fault = E2B_LOST;
		if (err_is(e, ERR_PROTOCOL) && response->status == 200) {
			st->failure->fault = E2B_REFUSED;
			err_set(&st->err, ERR_PROTOCOL, "13: [internal] %s", err_text(e));
		} else if (e2b_is_our_end(e)) {
			err_move(&st->err, e);
		} else if (response->status == 200) {
			err_set(&st->err, ERR_TRANSPORT, "2: [unknown] terminated: %s", err_text(e));
		} else {
			e2b_set_fetch_error(&st->err, e, "2: [unknown] ");
		}
	} else if (response->status != 200) {
		e2b_rpc_status_error(response->status, st->attach ? E2B_STREAMING : E2B_BEFORE_START, st->failure, &st->err);
		if (st->attach && response->status == 502)
			st->failure->fault = E2B_ABSENT;
	} else if (!st->finished) {
		st->failure->fault = E2B_LOST;
		err_set(&st->err, ERR_TRANSPORT, "2: [unknown] missing EndStreamResponse");
	} else {
		st->failure->fault = E2B_REFUSED;
		err_set(&st->err, ERR_REMOTE, st->begun ? "Process exited without a result" : "Expected start event");
	}
}

static void perform(struct stream *st, const char *url, const struct buf *body, struct http_response *response, struct err *err)
{
	struct e2b_run *run = st->run;
	const struct e2b_client *c = run->client;
	int64_t ping_ms = c->request_ms * SILENCE_PART, left = limit_left_ms(run);
	cleanup_free char *ping = xasprintf("%lld", (long long)(ping_ms > 1000 ? ping_ms / 1000 : 1));
	cleanup_free char *limit = left == INT64_MAX ? NULL : xasprintf("%lld", (long long)(left > 1 ? left : 1));
	struct http_header headers[E2B_ENVD_HEADERS + 1];
	const struct http_header extra[] = {
		{"Content-Type", "application/connect+json"},
		{"Connect-Protocol-Version", "1"},
		{"Connect-Timeout-Ms", limit},
		{"Keepalive-Ping-Interval", ping},
		{NULL, NULL},
	};
	struct http_request request = {
		.method = "POST",
		.url = url,
		.headers = headers,
		.body = HTTP_BYTES(body->data, body->len),
		.options = &c->http,
		/* Silence of two and a half pings: nobody is there. */
		.deadlines = {.idle_ms = (ping_ms > 1000 ? ping_ms : 1000) * 5 / 2},
		.retry = {.repeat = st->attach ? HTTP_REPEAT_UNSENT : HTTP_REPEAT_REJECTED, .attempts_max = 3},
		.on_answer = on_answer,
		.on_body = on_body,
		.arg = st,
	};

	e2b_envd_headers(headers, run->sandbox, extra);
	int rc = http_perform(worker_http(op_worker(run->op)), &request, response, err);
	if (!run->ended)
		judge_transfer(st, rc, response, err);
}

static void transfer(void *arg)
{
	struct stream *st = arg;
	cleanup_free char *url = xasprintf("%s/process.Process/%s", st->run->sandbox->envd, st->attach ? "Connect" : "Start");
	cleanup_json json_t *json = request_body(st);
	cleanup_http_response struct http_response response = {0};
	cleanup_buf struct buf body = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	cleanup_err struct err err = ERR_INIT;

	if (!text) {
		st->failure->fault = E2B_REFUSED;
		err_set(&st->err, ERR_INVALID, "The command is no valid text.");
	} else {
		connect_frame_write(&body, 0, text, strlen(text));
		perform(st, url, &body, &response, &err);
	}
	st->done = true;
	event_set(&st->changed);
}

/* --- the time --- */

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When we look what the command has started; INT64_MAX: not at all. */
static int64_t look_at(const struct e2b_run *run)
{
	double before = fmin(fmax(run->command->limit_ms / LOOK_PART, LOOK_MIN_MS), LOOK_MAX_MS);

	if (run->looked || run->pid == 0 || run->limit_at == INT64_MAX || run->command->limit_ms < 2 * LOOK_MIN_MS)
		return INT64_MAX;
	return run->limit_at - (int64_t)before;
}

enum late { IN_TIME, NO_START, PAST_LIMIT };

/* Waits until the transfer is over, or has to be ended. */
static int watch(struct stream *st, enum late *ret_late, struct err *err)
{
	struct e2b_run *run = st->run;
	int64_t start_by = loop_now_ms() + run->client->request_ms, ended_at = INT64_MAX;

	*ret_late = IN_TIME;
	while (!st->done) {
		int64_t now = loop_now_ms(), look = look_at(run);
		int64_t limit = run->limit_at == INT64_MAX ? INT64_MAX : run->limit_at + GRACE_MS;
		bool set;

		if (run->ended && ended_at == INT64_MAX)
			ended_at = now + LAST_WORDS_MS;
		int64_t until = run->ended ? ended_at : earlier(limit, st->begun ? look : start_by);
		if (now < until) {
			if (event_wait_for(&st->changed, until == INT64_MAX ? -1 : until - now, &set, err) < 0)
				return -1;
			continue;
		}
		if (run->ended)
			return 0;
		if (st->begun && now >= look && now < limit) {
			e2b_tree_look(run);
			continue;
		}
		*ret_late = now >= limit ? PAST_LIMIT : NO_START;
		return 0;
	}
	return 0;
}

static int set_handshake_error(struct stream *st, struct err *err)
{
	cleanup_free char *text = xasprintf("Request handshake timed out after %lldms", (long long)st->run->client->request_ms);

	e2b_rpc_error("canceled", text, E2B_BEFORE_START, st->failure, err);
	st->failure->fault = E2B_LOST;
	st->failure->sent = true;
	return -1;
}

static int conclude(struct stream *st, enum late late, struct err *err)
{
	struct e2b_run *run = st->run;

	if (run->ended)
		return 0;
	if (late == NO_START)
		return set_handshake_error(st, err);
	if (late == PAST_LIMIT || (st->failure->fault == E2B_LATE && limit_left_ms(run) <= 0)) {
		st->failure->fault = E2B_LATE;
		err_clear(&st->err);
		return err_set(err, ERR_REMOTE, "%s", e2b_timeout_text);
	}
	return err_move(err, &st->err);
}

int e2b_stream(struct e2b_run *run, bool attach, struct e2b_failure *ret_failure, struct err *err)
{
	/* Not on the fiber's small stack. */
	struct stream *st = xcalloc(1, sizeof(*st));
	struct fiber_group group;
	enum late late;

	*ret_failure = (struct e2b_failure){.fault = E2B_LOST};
	*st = (struct stream){.run = run, .attach = attach, .failure = ret_failure};
	connect_frames_init(&st->frames, MESSAGE_MAX, on_frame, st);
	fiber_group_init(&group);
	fiber_group_start(&group, transfer, st);
	int rc = watch(st, &late, err);
	fiber_group_cancel(&group);
	fiber_group_join(&group, NULL);
	if (rc == 0)
		rc = conclude(st, late, err);
	err_clear(&st->err);
	connect_frames_deinit(&st->frames);
	free(st);
	return rc;
}
