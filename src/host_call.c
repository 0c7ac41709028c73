#include "host_call.h"

#include "base/list.h"
#include "base/mem.h"
#include "op_internal.h"
#include "protocol/json_read.h"

#include <stdlib.h>

#define HOST_CALL_MS 30000

struct host_calls {
	struct list pending;
	uint64_t last_id;
};

struct pending {
	struct list link;
	uint64_t id;
	struct event answered;
	json_t *result; /* owned until the caller takes it */
	struct err error;
};

struct host_calls *host_calls_create(void)
{
	struct host_calls *calls = xcalloc(1, sizeof(*calls));

	list_init(&calls->pending);
	return calls;
}

void host_calls_destroy(struct host_calls *calls)
{
	free(calls);
}

int host_call(struct op *op, const char *method, const json_t *params, json_t **ret, struct err *err)
{
	struct host_calls *calls = op->worker->host_calls;
	struct channel *channel = op->worker->channel;
	struct fiber_scope scope;

	if (!channel)
		return err_set(err, ERR_UNSUPPORTED, "there is no host to ask for %s", method);
	struct pending call = {.id = ++calls->last_id};
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);

	rpc_write_request(&line, call.id, method, params, op->invocation_id);
	list_append(&calls->pending, &call.link);
	channel_send_line(channel, line.data, line.len);
	deadline_enter(&scope, HOST_CALL_MS);
	int rc = event_wait(&call.answered, err);

	scope_leave(&scope);
	list_remove(&call.link);
	if (rc == 0 && call.error.kind != ERR_NONE)
		rc = err_move(err, &call.error);
	if (rc == 0)
		*ret = call.result;
	else
		json_decref(call.result);
	err_clear(&call.error);
	return rc < 0 ? err_wrap(err, "%s", method) : 0;
}

static void read_error(const struct json_slice *slice, struct err *ret)
{
	cleanup_json json_t *error = NULL;
	const char *message = NULL;

	if (json_read(slice->text, slice->len, &error, NULL) == 0) {
		message = json_string_value(json_object_get(error, "message"));
		ret->rpc_code = (int)json_integer_value(json_object_get(error, "code"));
	}
	err_set(ret, ERR_REMOTE, "%s", message ? message : "the host refused without a message");
}

void host_calls_answer(struct host_calls *calls, const struct rpc_message *response)
{
	char id[24] = "";

	if (response->id.kind != JSON_KIND_NUMBER || response->id.len >= sizeof(id))
		return;
	for (size_t i = 0; i < response->id.len; i++)
		id[i] = response->id.text[i];
	uint64_t number = strtoull(id, NULL, 10);

	list_for_each(item, &calls->pending) {
		struct pending *call = container_of(item, struct pending, link);

		if (call->id != number || call->answered.set || call->result)
			continue;
		if (response->error.kind != JSON_KIND_NONE)
			read_error(&response->error, &call->error);
		else
			json_read(response->result.text, response->result.len, &call->result, &call->error);
		event_set(&call->answered);
	}
}
