/* wire: e2b, Other envd calls. */
#include "e2b.h"

#include "protocol/multipart.h"
#include "protocol/url.h"

#include <string.h>

#define ENVD_PORT "49983"
#define REMOVE_MS 2000
#define OLD_USER "user"

/* base64("user:") */
#define OLD_AUTHORIZATION "Basic dXNlcjo="

/* Newer daemons have a default user; an unknown version is a new one. */
static bool wants_user(const struct e2b_sandbox *s)
{
	return s->version >= 0 && s->version < E2B_VERSION(0, 4, 0);
}

void e2b_envd_headers(struct http_header list[E2B_ENVD_HEADERS + 1], const struct e2b_sandbox *s, const struct http_header *extra)
{
	size_t n = 0;

	list[n++] = (struct http_header){"E2b-Sandbox-Id", s->id};
	list[n++] = (struct http_header){"E2b-Sandbox-Port", ENVD_PORT};
	list[n++] = (struct http_header){"X-Access-Token", s->token};
	list[n++] = (struct http_header){"Authorization", wants_user(s) ? OLD_AUTHORIZATION : NULL};
	for (; extra->name && n < E2B_ENVD_HEADERS; extra++)
		list[n++] = *extra;
	list[n] = (struct http_header){NULL, NULL};
}

/* --- unary calls --- */

static int set_unary_error(const struct http_response *response, struct e2b_failure *ret, struct err *err)
{
	cleanup_json json_t *json = NULL;

	(void)http_response_json(response, &json, NULL);
	const char *code = json_string_value(json_object_get(json, "code"));

	if (code)
		return e2b_rpc_error(code, json_string_value(json_object_get(json, "message")), E2B_UNARY, ret, err);
	return e2b_rpc_status_error(response->status, E2B_UNARY, ret, err);
}

int e2b_envd_call(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path, const json_t *body,
		  int64_t ms, json_t **ret, struct e2b_failure *ret_failure, struct err *err)
{
	cleanup_free char *url = xasprintf("%s%s", s->envd, path);
	cleanup_free char *text = json_dumps(body, JSON_COMPACT);
	cleanup_http_response struct http_response response = {0};
	struct http_header headers[E2B_ENVD_HEADERS + 1];
	cleanup_err struct err e = ERR_INIT;
	const struct http_header extra[] = {
		{"Content-Type", "application/json"}, {"Connect-Protocol-Version", "1"}, {NULL, NULL}};
	struct http_request request = {
		.method = "POST",
		.url = url,
		.body = HTTP_BYTES(text, strlen(text)),
		.options = &c->http,
		.deadlines = {.total_ms = ms},
		/* All of our unary calls may be done twice. */
		.retry = {.repeat = HTTP_REPEAT_IDEMPOTENT, .attempts_max = 3, .base_ms = 100},
	};

	*ret_failure = (struct e2b_failure){.fault = E2B_LOST};
	e2b_envd_headers(headers, s, extra);
	request.headers = headers;
	int rc = http_perform(worker_http(op_worker(op)), &request, &response, &e);

	ret_failure->sent = response.sent;
	if (rc < 0)
		return e2b_set_fetch_error(err, &e, "2: [unknown] ");
	if (response.status != 200)
		return set_unary_error(&response, ret_failure, err);
	if (http_response_json(&response, ret, NULL) < 0)
		return err_set(err, ERR_PROTOCOL, "2: [unknown] the answer of %s is no JSON", path);
	return 0;
}

int e2b_envd_kill(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, int64_t pid, int64_t ms,
		  struct err *err)
{
	cleanup_json json_t *body = json_pack("{s:{s:I}, s:s}", "process", "pid", (json_int_t)pid, "signal", "SIGNAL_SIGKILL");
	cleanup_json json_t *answer = NULL;
	cleanup_err struct err e = ERR_INIT;
	struct e2b_failure failure;

	if (e2b_envd_call(op, c, s, "/process.Process/SendSignal", body, ms, &answer, &failure, &e) == 0 ||
	    failure.fault == E2B_MISSING)
		return 0;
	return err_move(err, &e);
}

void e2b_envd_remove(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path)
{
	cleanup_json json_t *body = json_pack("{s:s}", "path", path);
	cleanup_json json_t *answer = NULL;
	struct e2b_failure failure;
	struct fiber_scope scope;

	shield_enter(&scope, REMOVE_MS);
	(void)e2b_envd_call(op, c, s, "/filesystem.Filesystem/Remove", body, REMOVE_MS, &answer, &failure, NULL);
	scope_leave(&scope);
}

/* --- files --- */

static int set_upload_error(const struct http_response *response, struct err *err)
{
	cleanup_json json_t *json = NULL;

	(void)http_response_json(response, &json, NULL);
	cleanup_free char *message = e2b_message_of(response, json);

	switch (response->status) {
	case 400:
	case 404:
	case 507:
		return err_set(err, ERR_REMOTE, "%s", message);
	case 401:
		return err_set(err, ERR_AUTH, "%s", message);
	case 429:
		return err_set(err, ERR_BUSY, "%s: The requests are being rate limited.", message);
	case 502:
		return err_set(err, ERR_REMOTE, "%s: " E2B_SANDBOX_TIMEOUT, message);
	default:
		return err_set(err, ERR_REMOTE, "%d: %s", response->status, message);
	}
}

/* A success lists the files: anything else is another's, such as a login page's. */
static int check_upload(const struct http_response *response, struct err *err)
{
	cleanup_json json_t *json = NULL;

	if (http_response_json(response, &json, NULL) == 0 && json_is_array(json))
		return 0;
	return err_set(err, ERR_PROTOCOL, "%d: the answer to an upload does not name the file", response->status);
}

static int upload(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *url, const char *type,
		  const struct http_piece *pieces, size_t count, struct err *err)
{
	cleanup_http_response struct http_response response = {0};
	struct http_header headers[E2B_ENVD_HEADERS + 1];
	cleanup_err struct err e = ERR_INIT;
	const struct http_header extra[] = {{"Content-Type", type}, {NULL, NULL}};
	struct http_request request = {
		.method = "POST",
		.url = url,
		.body = {.pieces = pieces, .count = count},
		.options = &c->http,
		.deadlines = {.total_ms = c->request_ms},
		.retry = {.repeat = HTTP_REPEAT_IDEMPOTENT},
	};

	e2b_envd_headers(headers, s, extra);
	request.headers = headers;
	if (http_perform(worker_http(op_worker(op)), &request, &response, &e) < 0)
		return e2b_set_fetch_error(err, &e, "");
	return http_is_success(&response) ? check_upload(&response, err) : set_upload_error(&response, err);
}

int e2b_envd_upload(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path,
		    struct http_piece content, struct err *err)
{
	cleanup_buf struct buf url = BUF_INIT(BUF_UNBOUNDED), head = BUF_INIT(BUF_UNBOUNDED), tail = BUF_INIT(BUF_UNBOUNDED);
	unsigned char random[MULTIPART_RANDOM_BYTES];
	char boundary[MULTIPART_BOUNDARY_SIZE];

	buf_printf(&url, "%s/files", s->envd);
	url_add_query(&url, "path", path);
	if (wants_user(s))
		url_add_query(&url, "username", OLD_USER);
	if (s->version >= E2B_VERSION(0, 5, 7))
		return upload(op, c, s, url.data, "application/octet-stream", &content, 1, err);
	random_bytes(random, sizeof(random));
	multipart_boundary(random, boundary);
	multipart_write_file_head(&head, boundary, "file", path, "application/octet-stream");
	multipart_write_file_tail(&tail);
	multipart_write_end(&tail, boundary);
	cleanup_free char *type = xasprintf("multipart/form-data; boundary=%s", boundary);
	const struct http_piece pieces[] = {HTTP_PIECE(head.data, head.len), content, HTTP_PIECE(tail.data, tail.len)};
	return upload(op, c, s, url.data, type, pieces, 3, err);
}
