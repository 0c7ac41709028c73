/* wire: e2b, API requests. */
#include "e2b.h"

#include "protocol/url.h"

#include <string.h>

void e2b_answer_deinit(struct e2b_answer *a)
{
	if (!a)
		return;
	http_response_deinit(&a->http);
	json_decref(a->json);
	*a = (struct e2b_answer){0};
}

/* --- what an answer that is no success says --- */

static const char *reason_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{413, "Payload Too Large"},
		{422, "Unprocessable Entity"},
		{429, "Too Many Requests"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(*phrases); i++) {
		if (phrases[i].status == status)
			return phrases[i].phrase;
	}
	return "";
}

char *e2b_message_of(const struct http_response *http, const json_t *json)
{
	const char *message = json_string_value(json_object_get(json, "message"));

	if (str_nonempty(message))
		return xstrdup(message);
	return xstrdup(http->body.len > 0 && !message ? http->body.data : reason_phrase(http->status));
}

/* The sentence, and what the service has to add. */
static int set_sentence(struct err *err, enum err_kind kind, const char *sentence, const struct e2b_answer *a)
{
	const char *message = json_string_value(json_object_get(a->json, "message"));

	if (!message && a->http.body.len > 0)
		message = a->http.body.data;
	return err_set(err, kind, "%s%s%s", sentence, str_nonempty(message) ? " - " : "", str_nonempty(message) ? message : "");
}

static int set_status_error(const struct e2b_answer *a, struct err *err)
{
	if (a->status == 401)
		return set_sentence(err, ERR_AUTH, "Unauthorized, please check your credentials.", a);
	if (a->status == 429)
		return set_sentence(err, ERR_BUSY, "Rate limit exceeded, please try again later", a);
	if (a->status == 503)
		return set_sentence(err, ERR_BUSY, "Service temporarily unavailable, please retry", a);
	cleanup_free char *message = e2b_message_of(&a->http, a->json);
	enum err_kind kind = a->code == 404     ? ERR_NOT_FOUND
			     : a->code == 409   ? ERR_CONFLICT
			     : a->status == 403 ? ERR_AUTH
						: ERR_REMOTE;
	return err_set(err, kind, "%d: %s", a->status, message);
}

bool e2b_is_our_end(const struct err *err)
{
	return err_is(err, ERR_CANCELLED) || err_is(err, ERR_INVALID) || (err_is(err, ERR_TIMEOUT) && deadline_left_ms() == 0);
}

int e2b_set_fetch_error(struct err *err, struct err *from, const char *prefix)
{
	if (e2b_is_our_end(from))
		return err_move(err, from);
	/* The kind is not ours to time out by: the request's own deadline goes on. */
	enum err_kind kind = err_is(from, ERR_TIMEOUT) ? ERR_TRANSPORT : from->kind;
	const char *what = err_is(from, ERR_TIMEOUT) ? "The operation was aborted due to timeout" : "fetch failed";

	err_set(err, kind, "%s%s: %s", prefix, what, err_text(from));
	err_clear(from);
	return -1;
}

/* --- the request --- */

static char *url_of(const struct e2b_client *c, const struct e2b_call *call)
{
	struct buf url = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&url, c->api_url);
	for (const char *path = call->path; *path; path++) {
		if (path[0] == '%' && path[1] == 's') {
			url_encode_component(&url, call->id);
			path++;
		} else {
			buf_append_char(&url, *path);
		}
	}
	buf_append_str(&url, call->query ? call->query : "");
	return buf_steal(&url);
}

static void read_answer(struct e2b_answer *a)
{
	a->status = a->http.status;
	(void)http_response_json(&a->http, &a->json, NULL);
	if (a->status >= 400)
		a->code = (int)json_integer_value(json_object_get(a->json, "code"));
}

static int perform(struct op *op, const struct e2b_client *c, const struct e2b_call *call, const char *body,
		   struct e2b_answer *ret, struct err *err)
{
	cleanup_free char *url = url_of(c, call);
	cleanup_free char *authorization = c->bearer ? xasprintf("Bearer %s", c->bearer) : NULL;
	int64_t deadline_ms = call->deadline_ms ? call->deadline_ms : c->request_ms;
	cleanup_err struct err e = ERR_INIT;
	const struct http_header headers[] = {
		{"X-API-KEY", c->api_key},
		{"Authorization", authorization},
		{"Accept", "application/json"},
		{"Content-Type", body ? "application/json" : NULL},
		{NULL, NULL},
	};
	struct http_request request = {
		.method = call->method,
		.url = url,
		.headers = headers,
		.body = HTTP_BYTES(body, body ? strlen(body) : 0),
		.options = &c->http,
		/* What may be done twice gets a second chance after an attempt that is never answered. */
		.deadlines = {.total_ms = deadline_ms,
			      .first_byte_ms = call->retry.repeat == HTTP_REPEAT_IDEMPOTENT ? deadline_ms / 2 : 0},
		.retry = call->retry,
	};
	int rc = http_perform(worker_http(op_worker(op)), &request, &ret->http, &e);

	ret->sent = ret->http.sent;
	if (authorization)
		mem_wipe(authorization, strlen(authorization));
	if (rc < 0)
		return e2b_set_fetch_error(err, &e, "");
	read_answer(ret);
	return http_is_success(&ret->http) ? 0 : set_status_error(ret, err);
}

int e2b_api(struct op *op, const struct e2b_client *c, const struct e2b_call *call, struct e2b_answer *ret, struct err *err)
{
	*ret = (struct e2b_answer){0};
	if (!call->json)
		return perform(op, c, call, call->body, ret, err);
	cleanup_free char *text = json_dumps(call->json, JSON_COMPACT);
	return perform(op, c, call, text, ret, err);
}
