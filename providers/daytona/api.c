/* wire: daytona, The two HTTP services. */
#include "daytona.h"

#include "protocol/url.h"

#include <string.h>

/* The daemon answers session logs with their streams apart from 0.167.0 on. */
#define SDK_VERSION "0.203.0"
#define CALL_MAX_MS 60000

void daytona_answer_deinit(struct daytona_answer *a)
{
	if (!a)
		return;
	http_response_deinit(&a->http);
	json_decref(a->json);
	*a = (struct daytona_answer){0};
}

int64_t daytona_call_ms(const struct daytona_config *c)
{
	int64_t ms = daytona_seconds(c->timeout_ms) * 1000;

	return ms < CALL_MAX_MS ? ms : CALL_MAX_MS;
}

/* --- what an answer that is no success says --- */

static enum err_kind kind_of(int status)
{
	switch (status) {
	case 404:
		return ERR_NOT_FOUND;
	case 401:
	case 403:
		return ERR_AUTH;
	case 409:
		return ERR_CONFLICT;
	case 429:
		return ERR_BUSY;
	default:
		return ERR_REMOTE;
	}
}

static int set_status_error(const struct daytona_answer *a, struct err *err)
{
	enum err_kind kind = kind_of(a->http.status);
	const char *text = json_string_value(json_object_get(a->json, "message"));

	if (!text)
		text = json_string_value(json_object_get(a->json, "error"));
	if (text)
		return err_set(err, kind, "%s", text);
	if (a->json) {
		cleanup_free char *dump = json_dumps(a->json, JSON_COMPACT);
		return err_set(err, kind, "%s", dump);
	}
	if (a->http.body.len > 0)
		return err_set(err, kind, "%s", a->http.body.data);
	return err_set(err, kind, "Request failed with status code %d", a->http.status);
}

/* The service's or our own deadline for this call; the request's goes on as it is. */
static int set_deadline_error(int64_t ms, struct err *err)
{
	return err_set(
		err, ERR_REMOTE,
		"HTTP request timed out after %lldms waiting for a response. This is a client-side deadline "
		"(DaytonaConfig.requestTimeoutMs, or the per-call operation/execution timeout); any operation already started on "
		"the server may still be running.",
		(long long)ms);
}

/* --- the request --- */

void daytona_headers_init(struct daytona_headers *h, const struct daytona_config *c, const char *accept, const char *content_type)
{
	h->authorization = xasprintf("Bearer %s", c->api_key);
	const struct http_header items[] = {
		{"Authorization", h->authorization},
		{"X-Daytona-Source", "sdk-typescript"},
		{"X-Daytona-SDK-Version", SDK_VERSION},
		{"User-Agent", "sdk-typescript/" SDK_VERSION},
		{"Accept", accept ? accept : "application/json"},
		{"Content-Type", content_type},
		{NULL, NULL},
	};
	memcpy(h->items, items, sizeof items);
}

void daytona_headers_deinit(struct daytona_headers *h)
{
	str_wipe_free(h->authorization);
}

static int perform(struct op *op, const struct daytona_config *c, const struct daytona_call *call, struct http_body body,
		   struct daytona_answer *ret, struct err *err)
{
	cleanup_daytona_headers struct daytona_headers headers;
	cleanup_err struct err e = ERR_INIT;

	daytona_headers_init(&headers, c, call->accept, call->json ? "application/json" : call->content_type);
	struct http_request request = {
		.method = call->method,
		.url = call->url,
		.headers = headers.items,
		.body = body,
		.options = &c->http,
		.deadlines = {.total_ms = call->deadline_ms},
		.retry = {.repeat = call->repeat, .attempts_max = 3},
		.body_max = call->answer_max,
		.long_lived = call->long_lived,
		.on_answer = call->on_answer,
		.on_body = call->on_body,
		.arg = call->arg,
	};
	int rc = http_perform(worker_http(op_worker(op)), &request, &ret->http, &e);

	ret->failure = (struct daytona_failure){.status = rc == 0 ? ret->http.status : 0, .sent = ret->http.sent};
	if (rc < 0 && err_is(&e, ERR_TIMEOUT) && deadline_left_ms() > 0) {
		ret->failure.timed_out = true;
		return set_deadline_error(call->deadline_ms, err);
	}
	if (rc < 0)
		return err_move(err, &e);
	ret->failure.timed_out = ret->http.status == 408 || ret->http.status == 504;
	if (http_response_json(&ret->http, &ret->json, NULL) == 0 && !json_is_object(ret->json)) {
		json_decref(ret->json);
		ret->json = NULL;
	}
	if (!http_is_success(&ret->http))
		return set_status_error(ret, err);
	const char *type = http_header(&ret->http, "content-type");
	if (type && str_starts_with(type, "text/html"))
		return err_set(
			err, ERR_PROTOCOL,
			"Daytona's answer is a web page: something in between answers, such as the login page of a proxy.");
	return 0;
}

int daytona_perform(struct op *op, const struct daytona_config *c, const struct daytona_call *call, struct daytona_answer *ret,
		    struct err *err)
{
	*ret = (struct daytona_answer){0};
	if (!call->json)
		return perform(op, c, call, call->body, ret, err);
	cleanup_free char *text = json_dumps(call->json, JSON_COMPACT);
	return perform(op, c, call, HTTP_BYTES(text, strlen(text)), ret, err);
}

char *daytona_url(const char *base, const char *path, const char *const *parts)
{
	struct buf url = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&url, base);
	for (; *path; path++) {
		if (path[0] == '%' && path[1] == 's') {
			url_encode_component(&url, *parts++);
			path++;
		} else {
			buf_append_char(&url, *path);
		}
	}
	return buf_steal(&url);
}
