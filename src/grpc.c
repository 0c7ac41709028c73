#include "grpc.h"

#include "base/mem.h"
#include "base/str.h"
#include "fiber.h"
#include "protocol/base64.h"

#include <string.h>

#define DETAILS_MAX 65536
#define METADATA_MAX 32

void grpc_answer_deinit(struct grpc_answer *answer)
{
	if (!answer)
		return;
	buf_wipe(&answer->message);
	buf_wipe(&answer->details);
	*answer = (struct grpc_answer){0};
}

/* --- the messages of an answer --- */

struct receiver {
	const struct grpc_call *call;
	struct grpc_answer *answer;
	struct grpc_frames frames;
	unsigned count;
	size_t len; /* of the one message */
	bool enough;
	bool consumer_failed;
};

static int on_message(void *arg, const char *message, size_t len, struct err *err)
{
	struct receiver *r = arg;

	r->count++;
	if (!r->call->on_message) {
		if (r->count > 1)
			return err_set(err, ERR_PROTOCOL, "the answer holds more than one message");
		r->len = len;
		return 0;
	}
	int rc = r->call->on_message(r->call->arg, message, len, err);

	r->enough = rc > 0;
	r->consumer_failed = rc < 0;
	return rc == 0 ? 0 : -1;
}

static int on_body(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct receiver *r = arg;

	if (grpc_frames_feed(&r->frames, bytes, n, err) == 0)
		return 0;
	return r->enough ? 1 : -1;
}

/* The body of a call with one answer becomes the message: it may be big, and is not copied. */
static int take_body(struct receiver *r, struct buf *body, struct err *err)
{
	if (grpc_frames_feed(&r->frames, body->data, body->len, err) < 0)
		return -1;
	if (r->count > 0) {
		buf_consume(body, GRPC_FRAME_HEAD_BYTES);
		buf_truncate(body, r->len);
		r->answer->message = *body;
		*body = BUF_INIT(0);
	}
	return 0;
}

/* What is no gRPC is not fed to the frames. */
static int on_answer(void *arg, const struct http_response *response, enum http_take *ret, struct err *err)
{
	*ret = response->status == 200 ? HTTP_STREAM : HTTP_COLLECT;
	return 0;
}

/* --- how it ended --- */

static int set_status(const struct grpc_call *call, struct grpc_answer *answer, enum grpc_status status, const char *details,
		      struct err *err)
{
	answer->status = status;
	return err_set(err, grpc_status_kind(status), "%s %s: %s", call->path, grpc_status_name(status), details);
}

static void take_details(const struct http_response *response, struct grpc_answer *answer)
{
	const char *text = http_trailer(response, "grpc-status-details-bin");

	if (!text)
		text = http_header(response, "grpc-status-details-bin");
	if (text)
		base64_decode(&answer->details, text, strlen(text));
}

/* The body is all there. */
static int finish_messages(struct receiver *r, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (grpc_frames_finish(&r->frames, &e) < 0)
		return set_status(r->call, r->answer, GRPC_INTERNAL, err_text(&e), err);
	if (!r->call->on_message && r->count == 0)
		return set_status(r->call, r->answer, GRPC_UNIMPLEMENTED, "No message received", err);
	return 0;
}

static int take_status(struct receiver *r, const struct http_response *response, struct err *err)
{
	const char *status = http_trailer(response, "grpc-status"), *message = http_trailer(response, "grpc-message");

	/* An answer without messages may have it all in one block of headers. */
	if (!status) {
		status = http_header(response, "grpc-status");
		message = http_header(response, "grpc-message");
	}
	if (!status && response->status != 200) {
		cleanup_free char *text = xasprintf("Received HTTP status code %d", response->status);

		return set_status(r->call, r->answer, grpc_status_of_http(response->status), text, err);
	}
	/*
	 * libcurl before 8.0 loses the trailers of a stream that ends while another one of its connection is held, or after GOAWAY. One whole
	 * message is an answer all the same: a service that refuses a call sends none.
	 */
	if (!status && !r->call->on_message && r->count == 1)
		return finish_messages(r, err);
	if (!status)
		return set_status(r->call, r->answer, GRPC_INTERNAL, "the answer ended without a status", err);
	if (grpc_status_parse(status) == GRPC_OK)
		return finish_messages(r, err);
	cleanup_free char *text = grpc_message_decode(message ? message : "");

	r->answer->told = true;
	take_details(response, r->answer);
	return set_status(r->call, r->answer, grpc_status_parse(status), text, err);
}

/* There is no complete answer. */
static int take_failure(struct receiver *r, const struct http_response *response, struct err *failure, struct err *err)
{
	const struct grpc_call *call = r->call;
	bool over = err_is(failure, ERR_TIMEOUT) && deadline_left_ms() <= 0;

	if (r->consumer_failed || over || err_is(failure, ERR_CANCELLED) || err_is(failure, ERR_INVALID))
		return err_move(err, failure);
	if (err_is(failure, ERR_TIMEOUT))
		return set_status(call, r->answer, GRPC_DEADLINE_EXCEEDED, err_text(failure), err);
	if (response->http2_error >= 0)
		return set_status(call, r->answer, grpc_status_of_reset(response->http2_error), err_text(failure), err);
	if (err_is(failure, ERR_PROTOCOL))
		return set_status(call, r->answer, GRPC_INTERNAL, err_text(failure), err);
	cleanup_free char *text = xasprintf("network error: %s", err_text(failure));

	return set_status(call, r->answer, GRPC_UNAVAILABLE, text, err);
}

/* --- a call --- */

static size_t add_metadata(const struct grpc_call *call, struct http_header *headers, size_t count)
{
	for (const struct http_header *h = call->metadata; h && h->name && count < METADATA_MAX - 1; h++)
		headers[count++] = *h;
	return count;
}

static int perform(struct http_client *client, struct receiver *r, struct http_response *response, struct err *err)
{
	const struct grpc_call *call = r->call;
	struct http_header headers[METADATA_MAX] = {{"content-type", "application/grpc"}, {"te", "trailers"}};
	cleanup_free char *url = xasprintf("%s%s", call->server, call->path);
	unsigned char head[GRPC_FRAME_HEAD_BYTES];
	char timeout[GRPC_TIMEOUT_BYTES];
	size_t count = 2;

	if (call->timeout_ms > 0)
		headers[count++] = (struct http_header){"grpc-timeout", grpc_timeout_format(call->timeout_ms, timeout)};
	add_metadata(call, headers, count);
	grpc_frame_head(head, call->size);
	const struct http_piece pieces[] = {HTTP_PIECE(head, sizeof(head)), HTTP_PIECE(call->message, call->size)};
	/* A small message goes out with its head, from one place. */
	cleanup_free char *whole = call->size <= 16384 ? xmalloc(sizeof(head) + call->size) : NULL;

	if (whole) {
		memcpy(whole, head, sizeof(head));
		if (call->size > 0)
			memcpy(whole + sizeof(head), call->message, call->size);
	}
	struct http_request request = {
		.method = "POST",
		.url = url,
		.headers = headers,
		.body = whole ? HTTP_BYTES(whole, sizeof(head) + call->size) : (struct http_body){.pieces = pieces, .count = 2},
		.options = call->options,
		.deadlines = {.total_ms = call->timeout_ms},
		.retry = {.repeat = call->idempotent ? HTTP_REPEAT_IDEMPOTENT : HTTP_REPEAT_UNSENT, .attempts_max = 1},
		.body_max = (call->message_max ? call->message_max : GRPC_MESSAGE_MAX) + GRPC_FRAME_HEAD_BYTES,
		.long_lived = call->long_lived,
		.http2_only = true,
		.on_answer = call->on_message ? on_answer : NULL,
		.on_body = call->on_message ? on_body : NULL,
		.arg = r,
	};

	return http_perform(client, &request, response, err);
}

/* The connection ended after the request went out, and before anything of an answer. */
static bool is_unanswered(const struct http_response *response, const struct err *failure)
{
	return err_is(failure, ERR_TRANSPORT) && response->sent && response->status == 0 && response->http2_error < 0;
}

int grpc_perform(struct http_client *client, const struct grpc_call *call, struct grpc_answer *answer, struct err *err)
{
	size_t message_max = call->message_max ? call->message_max : GRPC_MESSAGE_MAX;
	struct receiver r = {.call = call, .answer = answer};
	cleanup_http_response struct http_response response = {0};
	cleanup_err struct err failure = ERR_INIT;

	*answer = (struct grpc_answer){.details = BUF_INIT(DETAILS_MAX)};
	grpc_frames_init(&r.frames, message_max, on_message, &r);
	int rc = perform(client, &r, &response, &failure);

	if (rc < 0 && call->idempotent && is_unanswered(&response, &failure)) {
		/* It was a kept one that is dead, perhaps, or one that the service has said good-bye on. */
		err_clear(&failure);
		http_response_deinit(&response);
		rc = perform(client, &r, &response, &failure);
	}

	answer->sent = response.sent;
	if (rc == 0 && !call->on_message && response.status == 200)
		rc = take_body(&r, &response.body, &failure);
	if (rc < 0)
		rc = take_failure(&r, &response, &failure, err);
	else if (!r.enough)
		rc = take_status(&r, &response, err);
	grpc_frames_deinit(&r.frames);
	return rc;
}
