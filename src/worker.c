/*
 * Start: loop, scheduler, providers' states, then the main fiber. In stdio mode that fiber opens the channel and waits for a reason to
 * stop: `shutdown`, the end of input or of the output, SIGTERM.
 *
 * Stop, in this order: no new requests (they are refused); live ops are cancelled and answer; providers remove what must not outlive
 * the worker; the worker's own init ends what it started; `shutdown` is answered; the channel is flushed; the loop runs empty. All of
 * it takes at most some 9 s: the host waits 10 s for the answer, and half a second more for the exit.
 */
#include "worker_internal.h"

#include "base/mem.h"
#include "host_call.h"
#include "http.h"
#include "op_internal.h"
#include "protocol/json_write.h"
#include "protocol/jsonrpc.h"
#include "protocol/manifest.h"
#include "secret.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPS_END_MS 5000
#define PROVIDER_STOP_MS 2500
#define ANSWER_MS 200
#define FLUSH_MS 1000
/* A flood of log lines that the host does not take is dropped above this. */
#define LOG_QUEUE_MAX ((size_t)16 << 20)

const struct provider *const *worker_providers(const struct worker *w)
{
	return w->providers;
}

const char *worker_version(const struct worker *w)
{
	return w->version;
}

const struct provider *worker_provider(const struct worker *w, const char *driver_key, void **ret_state)
{
	for (size_t i = 0; i < w->provider_count; i++) {
		if (strcmp(w->providers[i]->driver_key, driver_key) == 0) {
			*ret_state = w->states[i];
			return w->providers[i];
		}
	}
	return NULL;
}

/* --- the worker's own init --- */

struct init_wait {
	struct list link;
	struct event event;
};

static int wait_for_other_start(struct worker *w, struct err *err)
{
	struct init_wait wait = {0};

	list_append(&w->init_waits, &wait.link);
	int rc = event_wait(&wait.event, err);

	list_remove(&wait.link);
	return rc;
}

int worker_init(struct worker *w, struct init **ret, struct err *err)
{
	while (!w->init || !init_is_alive(w->init)) {
		if (w->init_starting) {
			if (wait_for_other_start(w, err) < 0)
				return -1;
			continue;
		}
		struct init *dead = steal(&w->init);

		w->init_starting = true;
		init_stop(dead);
		int rc = init_start(&(struct init_options){0}, &w->init, err);

		w->init_starting = false;
		list_for_each(item, &w->init_waits)
			event_set(&container_of(item, struct init_wait, link)->event);
		if (rc < 0)
			return err_wrap(err, "start the process supervisor");
	}
	*ret = w->init;
	return 0;
}

struct http_client *worker_http(struct worker *w)
{
	if (!w->http) {
		cleanup_free char *user_agent = xasprintf("paperclip-sandbox-worker/%s", w->version);

		w->http = http_client_create(user_agent);
	}
	return w->http;
}

/* --- stopping --- */

void worker_stop(struct worker *w)
{
	event_set(&w->stop);
}

static bool is_shutdown(const struct op *op)
{
	return op->method && strcmp(op->method->name, "shutdown") == 0;
}

static void cancel_ops(struct worker *w)
{
	list_for_each(item, &w->ops) {
		struct op *op = container_of(item, struct op, link);

		if (!is_shutdown(op))
			op_cancel(op, "The worker is shutting down.");
	}
}

static bool only_shutdowns_left(struct worker *w)
{
	list_for_each(item, &w->ops)
		if (!is_shutdown(container_of(item, struct op, link)))
			return false;
	return true;
}

static void end_ops(struct worker *w)
{
	struct fiber_scope scope;

	shield_enter(&scope, OPS_END_MS);
	cancel_ops(w);
	while (!only_shutdowns_left(w))
		if (event_wait(&w->op_ended, NULL) < 0)
			break;
	scope_leave(&scope);
}

struct provider_stop {
	const struct provider *provider;
	void *state;
};

static void stop_provider(void *arg)
{
	const struct provider_stop *stop = arg;

	stop->provider->stop(stop->state);
}

static void stop_providers(struct worker *w)
{
	struct provider_stop *stops = xcalloc(w->provider_count, sizeof(*stops));
	struct fiber_scope scope;
	struct fiber_group group;

	shield_enter(&scope, PROVIDER_STOP_MS);
	fiber_group_init(&group);
	for (size_t i = 0; i < w->provider_count; i++) {
		stops[i] = (struct provider_stop){w->providers[i], w->states[i]};
		if (w->providers[i]->stop)
			fiber_group_start(&group, stop_provider, &stops[i]);
	}
	fiber_group_join(&group, NULL);
	scope_leave(&scope);
	free(stops);
}

static void drain(struct worker *w)
{
	w->phase = WORKER_DRAINING;
	end_ops(w);
	stop_providers(w);
	init_stop(steal(&w->init));
	w->phase = WORKER_DRAINED;
}

static void answer_shutdowns(struct worker *w)
{
	struct fiber_scope scope;

	list_for_each(item, &w->ops)
		event_set(&container_of(item, struct op, link)->go);
	shield_enter(&scope, ANSWER_MS);
	while (w->op_count > 0)
		if (event_wait(&w->op_ended, NULL) < 0)
			break;
	scope_leave(&scope);
}

/* --- stdio --- */

static void on_line(void *arg, char *line, size_t len)
{
	dispatch_line(arg, line, len);
}

static void on_overlong(void *arg, char *head, size_t len)
{
	dispatch_overlong(arg, head, len);
}

static void on_end(void *arg)
{
	worker_stop(arg);
}

static void on_record(void *arg, bool out, const char *line, size_t len)
{
	record_line(((struct worker *)arg)->record, out, line, len);
}

static void send_log(void *arg, enum log_level level, const char *message, const json_t *meta, const char *invocation_id)
{
	struct worker *w = arg;
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);

	if (!w->channel || channel_queued(w->channel) > LOG_QUEUE_MAX)
		return;
	json_t *params = json_pack("{s:s, s:s}", "level", log_level_name(level), "message", message);

	if (!params) /* the message is no valid UTF-8 */
		return;
	if (meta)
		json_object_set_new(params, "meta", json_deep_copy(meta));
	rpc_write_notification(&line, "log", params, invocation_id);
	json_decref(params);
	channel_send_line(w->channel, line.data, line.len);
}

struct stdio {
	int in_fd, out_fd;
};

static int serve(struct worker *w, void *arg)
{
	const struct stdio *stdio = arg;
	struct channel_events events = {
		.on_line = on_line,
		.on_overlong = on_overlong,
		.on_end = on_end,
		.on_record = w->record ? on_record : NULL,
		.arg = w,
	};

	w->channel = channel_create(stdio->in_fd, stdio->out_fd, &events);
	log_set_sink(send_log, w);
	event_wait(&w->stop, NULL);
	drain(w);
	answer_shutdowns(w);
	channel_close(w->channel, FLUSH_MS);
	log_set_sink(NULL, NULL);
	return 0;
}

/* --- running --- */

static void on_signal(uv_signal_t *handle, int number)
{
	struct worker *w = handle->data;

	w->signal = number;
	worker_stop(w);
	if (!w->channel && w->main)
		fiber_cancel(w->main);
}

static void watch_signals(struct worker *w)
{
	uv_signal_init(&w->loop, &w->sigterm);
	uv_signal_init(&w->loop, &w->sigint);
	w->sigterm.data = w->sigint.data = w;
	uv_signal_start(&w->sigterm, on_signal, SIGTERM);
	uv_signal_start(&w->sigint, on_signal, SIGINT);
}

static void unwatch_signals(struct worker *w)
{
	uv_close((uv_handle_t *)&w->sigterm, NULL);
	uv_close((uv_handle_t *)&w->sigint, NULL);
}

struct main_call {
	struct worker *worker;
	int (*main)(struct worker *w, void *arg);
	void *arg;
};

static void run_main(void *arg)
{
	const struct main_call *call = arg;
	struct worker *w = call->worker;

	w->exit_status = call->main(w, call->arg);
	if (w->phase == WORKER_RUNNING)
		drain(w);
	w->main = NULL;
	unwatch_signals(w);
	if (w->op_count > 0) {
		/* An operation that does not end is a fault of ours; what it holds ends with the process. */
		fputs("paperclip-sandbox-worker: an operation did not end; exiting without it\n", stderr);
		_exit(w->exit_status);
	}
}

int worker_run(struct worker *w, int (*main)(struct worker *w, void *arg), void *arg)
{
	struct main_call call = {w, main, arg};

	watch_signals(w);
	w->main = fiber_start(run_main, &call);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	return w->exit_status;
}

int worker_serve(struct worker *w, int in_fd, int out_fd)
{
	struct stdio stdio = {in_fd, out_fd};

	return worker_run(w, serve, &stdio);
}

int worker_signal(const struct worker *w)
{
	return w->signal;
}

/* --- life --- */

static json_t *secret_keys(const struct worker *w)
{
	json_t *keys = json_array();

	for (size_t i = 0; i < w->provider_count; i++) {
		cleanup_json json_t *declaration = json_loads(w->providers[i]->declaration, 0, NULL);
		cleanup_json json_t *own = manifest_secret_keys(declaration);

		json_array_extend(keys, own);
	}
	return keys;
}

const json_t *worker_secret_keys(struct worker *w)
{
	if (!w->secret_keys)
		w->secret_keys = secret_keys(w);
	return w->secret_keys;
}

int worker_create(const struct worker_options *options, struct worker **ret, struct err *err)
{
	struct worker *w = xcalloc(1, sizeof(*w));
	int rc = uv_loop_init(&w->loop);

	if (rc < 0) {
		free(w);
		return err_set_errno(err, -rc, "start the event loop");
	}
	/* A JSON value that silently lacks a member would be worse than the end of the process. */
	json_set_alloc_funcs(xmalloc, free);
	w->version = options->version;
	w->providers = options->providers;
	while (w->providers[w->provider_count])
		w->provider_count++;
	if (options->record_path && record_open(options->record_path, secret_keys(w), &w->record, err) < 0) {
		uv_loop_close(&w->loop);
		free(w);
		return -1;
	}
	list_init(&w->ops);
	list_init(&w->backlog);
	list_init(&w->init_waits);
	w->scheduler = scheduler_create(&w->loop);
	w->started_ms = loop_now_ms();
	w->health = BUF_INIT(BUF_UNBOUNDED);
	w->host_calls = host_calls_create();
	w->states = xcalloc(w->provider_count, sizeof(*w->states));
	for (size_t i = 0; i < w->provider_count; i++)
		if (w->providers[i]->create)
			w->states[i] = w->providers[i]->create(w);
	*ret = w;
	return 0;
}

void worker_destroy(struct worker *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->provider_count; i++)
		if (w->providers[i]->destroy)
			w->providers[i]->destroy(w->states[i]);
	http_client_destroy(w->http);
	channel_destroy(w->channel);
	scheduler_destroy(w->scheduler);
	int busy = uv_loop_close(&w->loop);

	assert(busy == 0);
	(void)busy;
	record_close(w->record);
	json_decref(w->secret_keys);
	secret_forget();
	host_calls_destroy(w->host_calls);
	buf_deinit(&w->health);
	free(w->states);
	free(w);
}
