/* wire: cloudflare, Requests. */
#include "cloudflare.h"

#include "fiber.h"
#include "protocol/js_value.h"
#include "protocol/json_write.h"

#include <string.h>
#include <strings.h>

#define ROOT "/api/paperclip-sandbox/v1"
#define TIMER_MAX_MS 2147483647

void cloudflare_answer_deinit(struct cloudflare_answer *a)
{
	json_decref(a->json);
	*a = (struct cloudflare_answer){0};
}

bool cloudflare_is_lost(const struct cloudflare_answer *a)
{
	return a->status == 404 || a->status == 409;
}

bool cloudflare_speaks_json(const struct http_response *response)
{
	const char *type = http_header(response, "Content-Type");

	return type && strcasestr(type, "application/json");
}

/* --- what an answer that is no success says --- */

static enum err_kind kind_of(int status)
{
	switch (status) {
	case 400:
		return ERR_INVALID;
	case 401:
	case 403:
		return ERR_AUTH;
	case 404:
		return ERR_NOT_FOUND;
	case 409:
		return ERR_CONFLICT;
	case 429:
	case 503:
		return ERR_BUSY;
	default:
		return ERR_REMOTE;
	}
}

static int set_status_error(const struct cloudflare_answer *a, struct err *err)
{
	const json_t *message = json_object_get(a->json, "message");
	cleanup_free char *trimmed = js_trimmed(message);

	if (trimmed)
		return err_set(err, kind_of(a->status), "%s", json_string_value(message));
	return err_set(err, kind_of(a->status), "Cloudflare sandbox bridge request failed with HTTP %d.", a->status);
}

int cloudflare_set_malformed(struct err *err, const char *what)
{
	return err_set(err, ERR_PROTOCOL,
		       "Cloudflare sandbox bridge gave an answer that makes no sense: %s. Is there something else behind "
		       "bridgeBaseUrl, or "
		       "a login page or proxy in front of it?",
		       what);
}

/* Time that was over while the connection was still being made is no answer's fault. */
static int set_transport_error(const struct cloudflare_call *call, const struct http_response *http, struct cloudflare_answer *a,
			       struct err *cause, struct err *err)
{
	double ms = call->header_timeout_ms > 0 && !a->status ? call->header_timeout_ms : call->timeout_ms;

	if (err_is(cause, ERR_TIMEOUT) && deadline_left_ms() == 0) {
		a->timed_out = true;
		return err_move(err, cause);
	}
	if (err_is(cause, ERR_TIMEOUT) && (a->sent || (double)http->total_ms >= call->timeout_ms)) {
		a->timed_out = true;
		return err_set(err, ERR_REMOTE, "Cloudflare sandbox bridge request timed out after %.0fms.", ms);
	}
	if (err_is(cause, ERR_TIMEOUT))
		cause->kind = ERR_TRANSPORT;
	if (err_is(cause, ERR_TRANSPORT))
		err_wrap(cause, "Cloudflare sandbox bridge request failed");
	return err_move(err, cause);
}

/* --- the request --- */

static int64_t milliseconds(double ms)
{
	return ms < 1 ? 1 : ms > TIMER_MAX_MS ? TIMER_MAX_MS : (int64_t)ms;
}

static const char *unless_empty(const char *text)
{
	return str_nonempty(text) ? text : NULL;
}

static int request(struct op *op, const struct cloudflare_config *c, const struct cloudflare_call *call,
		   struct http_response *http, struct err *err)
{
	cleanup_free char *url = xasprintf("%s" ROOT "%s", c->base_url, call->path);
	cleanup_free char *authorization = xasprintf("Bearer %s", c->token);
	const struct http_header headers[] = {
		{"Authorization", authorization},
		{"Content-Type", "application/json"},
		{"X-Paperclip-Environment-Id", unless_empty(call->base->environment_id)},
		{"X-Paperclip-Run-Id", unless_empty(call->run_id)},
		{"X-Paperclip-Issue-Id", unless_empty(call->issue_id)},
		{NULL, NULL},
	};
	struct http_request request = {
		.method = call->method,
		.url = url,
		.headers = headers,
		.body = HTTP_BYTES(call->body, call->body_len),
		.options = &c->http,
		.deadlines = {.total_ms = milliseconds(call->timeout_ms),
			      .first_byte_ms = call->header_timeout_ms > 0 ? milliseconds(call->header_timeout_ms) : 0},
		/* One request, one answer. A connection that had died before is not the bridge's answer. */
		.retry = {.repeat = call->repeatable ? HTTP_REPEAT_IDEMPOTENT : HTTP_REPEAT_NEVER, .attempts_max = 1},
		.body_max = CLOUDFLARE_ANSWER_MAX,
		.follow_redirects = true,
		.long_lived = call->runs_command,
		.on_answer = call->on_answer,
		.on_body = call->on_body,
		.arg = call->arg,
	};
	int rc = http_perform(worker_http(op_worker(op)), &request, http, err);

	mem_wipe(authorization, strlen(authorization));
	return rc;
}

/* A page of something in between is no success, whatever its status. */
static int check_success(const struct cloudflare_call *call, const struct http_response *http, const struct cloudflare_answer *a,
			 struct err *json_err, struct err *err)
{
	if (call->on_body && !a->is_json)
		return 0;
	if (a->json || (call->may_be_empty && http->body.len == 0))
		return 0;
	cleanup_free char *what = a->is_json ? xasprintf("a body that is no JSON object%s%s", json_err->kind ? ": " : "",
							 json_err->kind ? err_text(json_err) : "")
					     : xasprintf("HTTP %d without JSON", a->status);

	return cloudflare_set_malformed(err, what);
}

static int perform(struct op *op, const struct cloudflare_config *c, const struct cloudflare_call *call,
		   struct http_response *http, struct cloudflare_answer *ret, struct err *err)
{
	cleanup_err struct err cause = ERR_INIT;
	cleanup_err struct err json_err = ERR_INIT;
	int rc = request(op, c, call, http, &cause);

	ret->status = http->status;
	ret->sent = http->sent;
	ret->is_json = cloudflare_speaks_json(http);
	if (rc < 0)
		return set_transport_error(call, http, ret, &cause, err);
	if (ret->is_json && http_response_json(http, &ret->json, &json_err) == 0 && !json_is_object(ret->json)) {
		json_decref(ret->json);
		ret->json = NULL;
	}
	return http_is_success(http) ? check_success(call, http, ret, &json_err, err) : set_status_error(ret, err);
}

int cloudflare_perform(struct op *op, const struct cloudflare_config *c, const struct cloudflare_call *call,
		       struct cloudflare_answer *ret, struct err *err)
{
	cleanup_http_response struct http_response http = {0};

	*ret = (struct cloudflare_answer){0};
	return perform(op, c, call, &http, ret, err);
}

int cloudflare_perform_json(struct op *op, const struct cloudflare_config *c, const struct cloudflare_call *call,
			    const json_t *body, struct cloudflare_answer *ret, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	struct cloudflare_call with_body = *call;

	json_write_value(&text, body);
	with_body.body = text.data;
	with_body.body_len = text.len;
	return cloudflare_perform(op, c, &with_body, ret, err);
}
