/* From a line to an op: what a line is, and who serves it. Lines that cannot be served are answered here. */
#include "base/mem.h"
#include "base/utf8.h"
#include "host_call.h"
#include "op_internal.h"
#include "protocol/json_read.h"

#include <stdio.h>
#include <string.h>

static const struct method *find_in(const struct method *table, const char *name)
{
	for (; table->name; table++)
		if (strcmp(table->name, name) == 0)
			return table;
	return NULL;
}

static const struct method *find_method(const char *name)
{
	const struct method *method = find_in(environment_methods, name);

	return method ? method : find_in(general_methods, name);
}

/* Methods that the host knows and this worker does not offer: -32004, where an unknown name is -32601. */
static bool is_known_to_host(const char *name)
{
	static const char *const names[] = {
		"validateConfig",
		"onEvent",
		"runJob",
		"handleWebhook",
		"handleApiRequest",
		"getData",
		"performAction",
		"executeTool",
		"detectExternalObjects",
		"resolveExternalObject",
		"refreshExternalObjects",
		"environmentRunnerIngressEndpoint",
		"loginPtyOpen",
		"loginPtyInput",
		"loginPtyStop",
		"loginPtyClose",
		"duplexChannelOpen",
		"duplexChannelWrite",
		"duplexChannelStop",
		"duplexChannelClose",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void answer_error(struct worker *w, const struct json_slice *id, int code, const char *text)
{
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);
	bool has_id = id->kind != JSON_KIND_NONE;

	rpc_write_error(&line, has_id ? id->text : "null", has_id ? id->len : 4, code, text, NULL);
	w->served++;
	channel_send_line(w->channel, line.data, line.len);
}

static void refuse_method(struct worker *w, const struct rpc_message *message)
{
	if (is_known_to_host(message->method)) {
		cleanup_free char *text = xasprintf("%s is not implemented by this plugin", message->method);

		answer_error(w, &message->id, RPC_NOT_IMPLEMENTED, text);
	} else {
		cleanup_free char *text = xasprintf("Unknown method: %s", message->method);

		answer_error(w, &message->id, RPC_METHOD_NOT_FOUND, text);
	}
}

/* The params as an object: absent and null are an empty one. */
static int read_params(const struct json_slice *slice, json_t **ret, struct err *err)
{
	if (slice->kind == JSON_KIND_NONE || slice->kind == JSON_KIND_NULL) {
		*ret = json_object();
		return 0;
	}
	if (slice->kind != JSON_KIND_OBJECT)
		return err_set(err, ERR_INVALID, "params must be an object");
	return json_read(slice->text, slice->len, ret, err);
}

static void serve_request(struct worker *w, struct rpc_message *message)
{
	const struct method *method = find_method(message->method);
	json_t *params = NULL;
	cleanup_err struct err err = ERR_INIT;

	if (!method)
		refuse_method(w, message);
	else if (w->phase != WORKER_RUNNING && strcmp(message->method, "shutdown") != 0)
		answer_error(w, &message->id, RPC_WORKER_ERROR, "The worker is shutting down.");
	else if (read_params(&message->params, &params, &err) < 0)
		answer_error(w, &message->id, RPC_WORKER_ERROR, err_text(&err));
	else
		op_start(w, method, message, params);
}

static void dispatch_text(struct worker *w, const char *line, size_t len)
{
	struct rpc_message message = {0};
	cleanup_err struct err err = ERR_INIT;

	if (rpc_read(line, len, &message, &err) < 0) {
		answer_error(w, &message.id, RPC_PARSE_ERROR, err_text(&err));
	} else {
		switch (message.kind) {
		case RPC_REQUEST:
			serve_request(w, &message);
			break;
		case RPC_RESPONSE:
			host_calls_answer(w->host_calls, &message);
			break;
		case RPC_NOTIFICATION:
		case RPC_IGNORED:
			break;
		}
	}
	rpc_message_deinit(&message);
}

void dispatch_line(struct worker *w, char *line, size_t len)
{
	struct utf8_repair repair = {0};
	struct buf text = BUF_INIT(BUF_UNBOUNDED);

	if (utf8_is_valid(line, len)) {
		dispatch_text(w, line, len);
		return;
	}
	utf8_repair_append(&repair, line, len, &text);
	utf8_repair_finish(&repair, &text);
	dispatch_text(w, text.data, text.len);
	buf_wipe(&text);
}

/* A cut line is broken JSON, but its id mostly stands before what made it so long. */
void dispatch_overlong(struct worker *w, char *head, size_t len)
{
	struct rpc_message message = {0};

	if (utf8_is_valid(head, utf8_floor(head, len)))
		rpc_read(head, utf8_floor(head, len), &message, NULL);
	answer_error(w, &message.id, RPC_PARSE_ERROR, "Parse error: the line is longer than 256 MiB");
	rpc_message_deinit(&message);
}
