/* wire: modal, Metadata headers; Retries and deadlines; Errors as JSON-RPC. */
#include "modal.h"

#include "base/str.h"
#include "base/utf8.h"
#include "http.h"

#include <stdio.h>
#include <string.h>

#define CONTROL "/modal.client.ModalClient/"
#define ROUTER "/modal.task_command_router.TaskCommandRouter/"
#define CALL_MS 60000
#define THROTTLE_MIN_MS 100
#define RETRY_POLICY "RPCRetryPolicy"

static const struct modal_backoff control_backoff = {.retries = 3, .first_ms = 100, .max_ms = 1000};

bool modal_is_passing(enum grpc_status status)
{
	return status == GRPC_DEADLINE_EXCEEDED || status == GRPC_UNAVAILABLE || status == GRPC_CANCELLED ||
	       status == GRPC_INTERNAL || status == GRPC_UNKNOWN;
}

bool modal_is_refusal(const struct modal_fault *fault)
{
	return fault->told && fault->status != GRPC_OK && !modal_is_passing(fault->status);
}

void modal_message_free_p(void *place)
{
	ProtobufCMessage *message = *(ProtobufCMessage **)place;

	if (message)
		protobuf_c_message_free_unpacked(message, NULL);
}

/* --- throttling --- */

static int64_t retry_after(const Modal__Status *status)
{
	for (size_t i = 0; i < status->n_details; i++) {
		const Modal__Any *any = status->details[i];

		if (!any->type_url || !str_ends_with(any->type_url, RETRY_POLICY))
			continue;
		cleanup_message Modal__RPCRetryPolicy *policy = modal__rpcretry_policy__unpack(NULL, any->value.len,
											       any->value.data);
		double seconds = policy ? (double)policy->retry_after_secs : -1;

		if (seconds >= 0 && seconds < 86400)
			return seconds * 1000 > THROTTLE_MIN_MS ? (int64_t)(seconds * 1000) : THROTTLE_MIN_MS;
	}
	return -1;
}

static int64_t read_retry_after(const struct grpc_answer *answer)
{
	if (!answer->details.data)
		return -1;
	cleanup_message Modal__Status *status = modal__status__unpack(NULL, answer->details.len,
								      (const uint8_t *)answer->details.data);

	return status ? retry_after(status) : -1;
}

/* --- one attempt --- */

struct stream {
	const struct modal_rpc *rpc;
};

/* Texts are UTF-8 (proto3), which protobuf-c does not look at; none of ours is repeated. Deeper messages follow. */
static bool has_valid_texts(const ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *descriptor = message->descriptor;

	for (unsigned i = 0; i < descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		bool is_text = field->type == PROTOBUF_C_TYPE_STRING;

		if (field->label == PROTOBUF_C_LABEL_REPEATED || !(is_text || field->type == PROTOBUF_C_TYPE_MESSAGE))
			continue;
		const void *member = *(void *const *)((const char *)message + field->offset);

		if (member && !(is_text ? utf8_is_valid(member, strlen(member)) : has_valid_texts(member)))
			return false;
	}
	return true;
}

static ProtobufCMessage *unpack(const struct modal_rpc *rpc, const char *bytes, size_t len, struct err *err)
{
	ProtobufCMessage *message = protobuf_c_message_unpack(rpc->answer, NULL, len, (const uint8_t *)bytes);

	if (message && has_valid_texts(message))
		return message;
	modal_message_free_p(&message);
	err_set(err, ERR_PROTOCOL, "Modal's answer to %s is malformed", rpc->name);
	return NULL;
}

static int on_message(void *arg, const char *bytes, size_t len, struct err *err)
{
	const struct stream *stream = arg;
	cleanup_message ProtobufCMessage *message = unpack(stream->rpc, bytes, len, err);

	return message ? stream->rpc->on_message(stream->rpc->arg, message, err) : -1;
}

static char *pack(const ProtobufCMessage *message, size_t *ret_len)
{
	*ret_len = protobuf_c_message_get_packed_size(message);
	char *bytes = xmalloc(*ret_len + 1);

	protobuf_c_message_pack(message, (uint8_t *)bytes);
	return bytes;
}

static int attempt(struct modal_session *s, const char *server, const char *service, const struct modal_rpc *rpc,
		   const struct http_header *metadata, void *ret, struct modal_fault *fault, struct err *err)
{
	size_t size;
	char *bytes = pack(rpc->request, &size);
	cleanup_free char *path = xasprintf("%s%s", service, rpc->name);
	cleanup_grpc_answer struct grpc_answer answer = {0};
	struct stream stream = {rpc};
	struct grpc_call call = {
		.server = server,
		.path = path,
		.metadata = metadata,
		.options = &s->config.http,
		.message = bytes,
		.size = size,
		.timeout_ms = rpc->timeout_ms < 0 ? 0
			      : rpc->timeout_ms   ? rpc->timeout_ms
						  : CALL_MS,
		.idempotent = true, /* by their nature, or by a key that they carry */
		.long_lived = rpc->long_lived,
		.on_message = rpc->on_message ? on_message : NULL,
		.arg = &stream,
	};
	int rc = grpc_perform(worker_http(op_worker(s->op)), &call, &answer, err);

	mem_wipe(bytes, size);
	free(bytes);
	*fault = (struct modal_fault){
		.status = answer.status, .sent = answer.sent, .told = answer.told, .retry_after_ms = read_retry_after(&answer)};
	if (rc < 0) {
		if (err && answer.status != GRPC_OK)
			err->rpc_code = (int)answer.status;
		return -1;
	}
	if (rpc->on_message)
		return 0;
	ProtobufCMessage *message = unpack(rpc, answer.message.data, answer.message.len, err);

	*(ProtobufCMessage **)ret = message;
	return message ? 0 : -1;
}

int modal_router_attempt(struct modal_session *s, const char *server, const char *jwt, const struct modal_rpc *rpc, void *ret,
			 struct modal_fault *fault, struct err *err)
{
	char *authorization = xasprintf("Bearer %s", jwt);
	const struct http_header metadata[] = {{"authorization", authorization}, {NULL, NULL}};
	int rc = attempt(s, server, ROUTER, rpc, metadata, ret, fault, err);

	str_wipe_free(authorization);
	return rc;
}

/* --- the control plane --- */

/* What is the same, and what changes, in all attempts of one call. */
struct attempts {
	const char *key;
	unsigned count;     /* repeated so often, by the SDK's count */
	unsigned throttled; /* and so often because the service asked for it */
	int64_t started_ms;
};

#define NUMBER_BYTES 24

static int control_attempt(struct modal_session *s, const struct modal_rpc *rpc, const char *token, const struct attempts *a,
			   void *ret, struct modal_fault *fault, struct err *err)
{
	char count[NUMBER_BYTES], delay[NUMBER_BYTES], throttled[NUMBER_BYTES];
	bool unary = !rpc->on_message;

	snprintf(count, sizeof(count), "%u", a->count);
	snprintf(throttled, sizeof(throttled), "%u", a->throttled);
	snprintf(delay, sizeof(delay), "%.3f", (double)(loop_now_ms() - a->started_ms) / 1000);
	const struct http_header metadata[] = {
		{"x-modal-client-type", "8"},
		{"x-modal-client-version", "1.0.0"},
		{"x-modal-libmodal-version", "modal-js/0.7.4"},
		{"x-modal-token-id", s->config.token_id},
		{"x-modal-token-secret", s->config.token_secret},
		{"x-modal-auth-token", token},
		{"x-idempotency-key", unary ? a->key : NULL},
		{"x-retry-attempt", unary ? count : NULL},
		{"x-retry-delay", unary && a->count > 0 ? delay : NULL},
		{"x-throttle-retry-attempt", a->throttled > 0 ? throttled : NULL},
		{"x-throttle-retry-delay", a->throttled > 0 ? delay : NULL},
		{NULL, NULL},
	};

	return attempt(s, s->config.server, CONTROL, rpc, metadata, ret, fault, err);
}

/* The pause before the next attempt; -1: there is none. */
static int64_t pause_of(const struct modal_rpc *rpc, const struct modal_fault *fault, struct attempts *a)
{
	const struct modal_backoff *backoff = rpc->backoff ? rpc->backoff : &control_backoff;

	if (fault->status == GRPC_OK || rpc->on_message)
		return -1;
	if (fault->retry_after_ms >= 0 && a->throttled < MODAL_THROTTLES_MAX) {
		a->throttled++;
		return fault->retry_after_ms;
	}
	if (!modal_is_passing(fault->status) || a->count >= backoff->retries)
		return -1;
	int64_t pause = backoff->first_ms;

	for (unsigned i = 0; i < a->count && pause < backoff->max_ms; i++)
		pause *= 2;
	a->count++;
	return pause < backoff->max_ms ? pause : backoff->max_ms;
}

/* After the pause: 0, or -1 with the better of two errors. Waits. */
static int pause_before_next(int64_t pause, struct err *failure, struct err *err)
{
	cleanup_err struct err wait = ERR_INIT;

	if (pause < 0 || pause >= deadline_left_ms())
		return err_move(err, failure);
	if (fiber_sleep(pause, &wait) < 0)
		return err_move(err, err_is(&wait, ERR_CANCELLED) ? &wait : failure);
	return 0;
}

static int perform(struct modal_session *s, const struct modal_rpc *rpc, bool with_token, const char *key, void *ret,
		   struct modal_fault *fault, struct err *err)
{
	cleanup_free char *own_key = key ? NULL : random_uuid();
	struct attempts a = {.key = key ? key : own_key, .started_ms = loop_now_ms()};
	bool sent = false, renewed = false;

	for (;;) {
		cleanup_err struct err e = ERR_INIT;
		char *token = NULL;
		bool fresh = true;

		*fault = (struct modal_fault){.retry_after_ms = -1, .sent = sent};
		if (with_token && modal_token_get(s, &token, &fresh, &fault->status, err) < 0)
			return -1;
		int rc = control_attempt(s, rpc, token, &a, ret, fault, &e);

		if (rc < 0 && fault->status == GRPC_UNAUTHENTICATED && with_token)
			modal_token_drop(s->account, token);
		str_wipe_free(token);
		if (rc == 0)
			return 0;
		sent = fault->sent = sent || (fault->sent && !modal_is_refusal(fault));
		/* A token that was kept may have been taken back. */
		if (fault->status == GRPC_UNAUTHENTICATED && with_token && !fresh && !renewed) {
			renewed = true;
			continue;
		}
		if (pause_before_next(pause_of(rpc, fault, &a), &e, err) < 0)
			return -1;
	}
}

int modal_control(struct modal_session *s, const struct modal_rpc *rpc, const char *key, void *ret, struct modal_fault *fault,
		  struct err *err)
{
	struct modal_fault ignored;

	return perform(s, rpc, true, key, ret, fault ? fault : &ignored, err);
}

int modal_control_untold(struct modal_session *s, const struct modal_rpc *rpc, void *ret, struct modal_fault *fault,
			 struct err *err)
{
	return perform(s, rpc, false, NULL, ret, fault, err);
}
