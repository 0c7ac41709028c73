/*
 * An op's path: op_start makes it and its fiber; the fiber finds the provider, sets the deadline (a little before the host's), serves
 * the method, answers, and ends the op. Every way out goes through op_main: a failure, a cancellation and a passed deadline all arrive
 * there as an err, and exactly one answer leaves.
 */
#include "op_internal.h"

#include "base/mem.h"
#include "base/str.h"
#include "protocol/json_write.h"

#include <assert.h>
#include <string.h>

/* Of requests there is no limit; of stacks there is (two mappings each, of which the kernel grants 65,530). Others wait their turn. */
#define FIBERS_MAX 10000

struct op_end_wait {
	struct list link;
	struct event event;
};

struct worker *op_worker(struct op *op)
{
	return op->worker;
}

void *op_state(struct op *op)
{
	return op->state;
}

struct output *op_output(struct op *op)
{
	return op->output;
}

void op_log(struct op *op, enum log_level level, json_t *meta, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vwrite(level, meta, op->invocation_id, format, ap);
	va_end(ap);
}

void op_hold_secret(struct op *op, const char *value)
{
	secret_set_hold(&op->secrets, value);
}

void op_hold_config_secrets(struct op *op, const json_t *config)
{
	if (config)
		secret_set_hold_config(&op->secrets, config, worker_secret_keys(op->worker));
}

struct op *op_create_for(struct worker *w, const struct provider *provider, void *state)
{
	struct op *op = xcalloc(1, sizeof(*op));

	op->worker = w;
	op->provider = provider;
	op->state = state;
	list_init(&op->end_waits);
	list_init(&op->backlog_link);
	list_append(&w->ops, &op->link);
	w->op_count++;
	return op;
}

void op_destroy(struct op *op)
{
	struct worker *w = op->worker;

	list_remove(&op->link);
	list_remove(&op->backlog_link);
	w->op_count--;
	event_set(&w->op_ended);
	list_for_each(item, &op->end_waits) {
		list_remove(item);
		event_set(&container_of(item, struct op_end_wait, link)->event);
	}
	output_destroy(op->output);
	secret_set_deinit(&op->secrets);
	json_decref(op->params);
	free(op->id);
	free(op->invocation_id);
	free(op->lease_key);
	free(op);
}

static void op_main(void *arg);

/* Gives the op its fiber. */
static void run(struct op *op)
{
	list_remove(&op->backlog_link);
	op->fiber = fiber_start(op_main, op);
}

void op_cancel(struct op *op, const char *reason)
{
	if (!op->cancel_reason)
		op->cancel_reason = reason;
	if (!op->fiber && op->method)
		run(op);
	if (op->fiber)
		fiber_cancel(op->fiber);
}

/* --- answers --- */

void op_begin_result(const struct op *op, struct buf *line)
{
	buf_append_str(line, "{\"jsonrpc\":\"2.0\",\"id\":");
	buf_append(line, op->id, op->id_len);
	buf_append_str(line, ",\"result\":");
}

void op_answer_message(struct op *op, struct message *m)
{
	assert(!op->answered);
	op->answered = true;
	op->worker->served++;
	channel_send(op->worker->channel, m);
}

/* What the host asked for as it is: the config that it stores, the access that a person gets. */
static bool may_hold_secrets(const char *member)
{
	return str_eq(member, "normalizedConfig") || str_eq(member, "connectionPayload");
}

/* The result with the secrets in its members masked: new reference. */
static json_t *masked_result(json_t *result)
{
	json_t *masked, *member;
	const char *key;

	if (!json_is_object(result))
		return secret_masked_json(result);
	masked = json_object();
	json_object_foreach(result, key, member)
		json_object_set_new(masked, key, may_hold_secrets(key) ? json_incref(member) : secret_masked_json(member));
	return masked;
}

void op_answer(struct op *op, json_t *result)
{
	struct message *m = message_create();
	cleanup_json json_t *masked = masked_result(result);

	rpc_write_result(message_tail(m), op->id, op->id_len, masked);
	op_answer_message(op, m);
}

static int rpc_code(const struct err *err)
{
	return err->rpc_code ? err->rpc_code : RPC_WORKER_ERROR;
}

void op_answer_error(struct op *op, struct err *err)
{
	struct message *m = message_create();

	if (err_is(err, ERR_CANCELLED) && op->cancel_reason) {
		err_clear(err);
		err_set(err, ERR_CANCELLED, "%s", op->cancel_reason);
	} else if (err_is(err, ERR_TIMEOUT)) {
		err_wrap(err, "%s timed out after %lld ms", op->method->name,
			 (long long)host_deadline_ms(op->method->timeout, op->params));
	}
	cleanup_json json_t *data = secret_masked_json(err->data);

	secret_mask_string(&err->message);
	rpc_write_error(message_tail(m), op->id, op->id_len, rpc_code(err), err_text(err), data);
	op_answer_message(op, m);
}

/* --- output --- */

static void send_live(void *arg, enum output_stream stream, const char *text, size_t len)
{
	struct op *op = arg;
	struct message *m = message_create();
	struct buf *line = message_tail(m);

	buf_printf(line, "{\"jsonrpc\":\"2.0\",\"method\":\"execute.log\",\"params\":{\"stream\":\"%s\",\"chunk\":",
		   stream == OUTPUT_STDOUT ? "stdout" : "stderr");
	json_write_string(line, text, len);
	buf_append_str(line, "},\"paperclipInvocationId\":");
	json_write_string(line, op->invocation_id, strlen(op->invocation_id));
	buf_append_str(line, "}\n");
	channel_send(op->worker->channel, m);
}

static int wait_live(void *arg, struct err *err)
{
	struct op *op = arg;

	return channel_wait_writable(op->worker->channel, err);
}

static size_t queued(void *arg)
{
	const struct op *op = arg;

	return channel_queued(op->worker->channel);
}

void op_open_output(struct op *op)
{
	struct output_sink sink = {.queued = queued, .arg = op};

	if (op->invocation_id) {
		sink.live = send_live;
		sink.wait = wait_live;
	}
	op->output = output_create(&sink);
}

/* --- leases --- */

char *op_lease_key(const char *driver_key, const char *company_id, const char *environment_id, const char *lease_id)
{
	/* No part can hold a line end unescaped by accident: ids that could collide this way would be the host's own doing. */
	return xasprintf("%s\n%s\n%s\n%s", driver_key, company_id ? company_id : "", environment_id ? environment_id : "",
			 lease_id ? lease_id : "");
}

static struct op *find_execute(struct worker *w, const char *lease_key)
{
	list_for_each(item, &w->ops) {
		struct op *op = container_of(item, struct op, link);

		if (op->lease_key && strcmp(op->lease_key, lease_key) == 0)
			return op;
	}
	return NULL;
}

static void cancel_executes(struct worker *w, const char *lease_key, const char *reason)
{
	list_for_each(item, &w->ops) {
		struct op *op = container_of(item, struct op, link);

		if (op->lease_key && strcmp(op->lease_key, lease_key) == 0)
			op_cancel(op, reason);
	}
}

int op_end_executes(struct op *op, const char *lease_key, const char *reason, struct err *err)
{
	struct op *running;

	while ((running = find_execute(op->worker, lease_key))) {
		struct op_end_wait wait = {0};

		/* Each time: others may have come meanwhile. */
		cancel_executes(op->worker, lease_key, reason);
		list_append(&running->end_waits, &wait.link);
		int rc = event_wait(&wait.event, err);

		list_remove(&wait.link);
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* --- life --- */

bool method_in_provider(const struct method *method, const struct provider *provider)
{
	void (*slot)(void);

	memcpy(&slot, (const char *)provider + method->slot, sizeof(slot));
	return slot != NULL;
}

/* Finds the driver that the request names; methods without a slot need none. */
static int find_provider(struct op *op, struct err *err)
{
	const char *key = json_string_value(json_object_get(op->params, "driverKey"));

	if (op->method->slot == 0)
		return 0;
	if (!key)
		return err_set(err, ERR_INVALID, "params.driverKey must be a string");
	op->provider = worker_provider(op->worker, key, &op->state);
	if (!op->provider)
		return err_set(err, ERR_INVALID, "Unknown sandbox driver \"%s\".", key);
	if (method_in_provider(op->method, op->provider))
		return 0;
	err->rpc_code = RPC_NOT_IMPLEMENTED;
	return err_set(err, ERR_UNSUPPORTED, "%s is not implemented by this plugin", op->method->name);
}

static void op_main(void *arg)
{
	struct op *op = arg;
	struct worker *w = op->worker;
	struct fiber_scope scope;
	json_t *result = NULL;
	cleanup_err struct err err = ERR_INIT;

	deadline_enter(&scope, host_deadline_ms(op->method->timeout, op->params) - (loop_now_ms() - op->arrived_ms));
	op_hold_config_secrets(op, json_object_get(op->params, "config"));
	if (find_provider(op, &err) < 0 || op->method->serve(op, &result, &err) < 0)
		op_answer_error(op, &err);
	else if (!op->answered)
		op_answer(op, result);
	scope_leave(&scope);
	json_decref(result);
	op_destroy(op);
	if (!list_empty(&w->backlog) && fiber_count() <= FIBERS_MAX)
		run(container_of(w->backlog.next, struct op, backlog_link));
}

void op_start(struct worker *w, const struct method *method, struct rpc_message *message, json_t *params)
{
	struct op *op = op_create_for(w, NULL, NULL);

	op->method = method;
	op->id = xmemdup0(message->id.text, message->id.len);
	op->id_len = message->id.len;
	op->params = params;
	op->invocation_id = steal(&message->invocation_id);
	op->arrived_ms = loop_now_ms();
	if (method->urgent || fiber_count() < FIBERS_MAX)
		run(op);
	else
		list_append(&w->backlog, &op->backlog_link);
}
