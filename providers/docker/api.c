/* wire: docker, 1 and 2: one request, in a version that both sides speak. */
#include "docker.h"

#include "protocol/json_write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The newest version that the driver was written for. What it uses has been there since 1.40. */
#define VERSION_MAX 51
#define VERSION_MIN 40
#define RETRY_MS 60 /* engines are near */

void docker_answer_deinit(struct docker_answer *a)
{
	http_response_deinit(&a->http);
	json_decref(a->json);
	*a = (struct docker_answer){0};
}

/* --- errors --- */

const char *docker_message(const json_t *json)
{
	const char *message = json_string_value(json_object_get(json, "message"));

	return str_nonempty(message) ? message : NULL;
}

/* Podman tells the kind in `cause`, Docker in the text. */
static bool says(const json_t *json, const char *words)
{
	const char *cause = json_string_value(json_object_get(json, "cause")), *message = docker_message(json);

	return (cause && strcasestr(cause, words)) || (message && strcasestr(message, words));
}

/* A path that the service does not know answers 404 too: only its own words prove that a thing is not there. */
static bool is_missing(int status, const json_t *json)
{
	static const char *const words[] = {"no such container", "no such image", "no such exec", "no container with", "image not known"};

	for (size_t i = 0; status == 404 && i < sizeof words / sizeof words[0]; i++) {
		if (says(json, words[i]))
			return true;
	}
	return false;
}

static enum err_kind kind_of(int status, const json_t *json)
{
	if (is_missing(status, json))
		return ERR_NOT_FOUND;
	if (status == 401 || status == 403)
		return ERR_AUTH;
	if (status == 409 || says(json, "container state improper") || says(json, "already in use"))
		return ERR_CONFLICT;
	return ERR_REMOTE;
}

int docker_set_refusal(const struct docker_config *c, const struct http_response *http, const json_t *json, struct err *err)
{
	const char *message = docker_message(json);

	if (message)
		return err_set(err, kind_of(http->status, json), "%s", message);
	return err_set(err, ERR_PROTOCOL, "%s answered HTTP %d without saying why: is it a container engine, and nothing in between?", c->place,
		       http->status);
}

static const char *advice_of(const struct docker_config *c)
{
	const char *path = c->http.socket_path;

	if (!path)
		return "Does the engine listen there, with TLS, and are host, caFile, tlsCertFile and tlsKeyFile right?";
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return "There is no such socket. Is the engine installed and its service started (systemctl start docker; systemctl start "
		       "podman.socket), and is socketPath right?";
	if (access(path, W_OK) < 0)
		return "This user may not use the socket. Add it to the socket's group (often docker), or use the engine rootless.";
	return "Is the engine's service running (systemctl start docker; systemctl start podman.socket)?";
}

int docker_set_unreachable(const struct docker_config *c, struct err *cause, struct err *err)
{
	if (!err_is(cause, ERR_TRANSPORT))
		return err_move(err, cause);
	err_set(err, ERR_TRANSPORT, "The container engine cannot be reached: %s. %s", err_text(cause), advice_of(c));
	err_clear(cause);
	return -1;
}

/* --- one request --- */

static int request(struct op *op, const struct docker_config *c, const char *url, const struct docker_call *call, struct docker_answer *ret,
		   struct err *err)
{
	cleanup_buf struct buf body = BUF_INIT(BUF_UNBOUNDED);
	struct http_header headers[4] = {{"Content-Type", "application/json"}};
	size_t n = 1;

	for (const struct http_header *h = call->headers; h && h->name && n < 3; h++)
		headers[n++] = *h;
	if (call->json)
		json_write_value(&body, call->json);
	struct http_request request = {
		.method = call->method,
		.url = url,
		.headers = call->json ? headers : headers + 1,
		.body = HTTP_BYTES(body.data, body.len),
		.options = &c->http,
		.deadlines = {.total_ms = call->deadline_ms ? call->deadline_ms : DOCKER_CALL_MS},
		.retry = {.repeat = call->repeat, .attempts_max = 3, .base_ms = RETRY_MS},
		.body_max = call->answer_max,
		.long_lived = call->long_lived,
		.on_body = call->on_body,
		.arg = call->arg,
	};
	int rc = http_perform(worker_http(op_worker(op)), &request, &ret->http, err);

	ret->sent = ret->http.sent;
	if (rc == 0)
		http_response_json(&ret->http, &ret->json, NULL);
	return rc;
}

/* An engine that answers too late is the engine's fault, not the host's deadline. */
static int set_failure(const struct docker_config *c, const struct docker_call *call, struct docker_answer *a, struct err *cause, struct err *err)
{
	if (err_is(cause, ERR_TIMEOUT) && deadline_left_ms() > 0)
		return err_set(err, ERR_REMOTE, "The container engine at %s did not answer within %lld ms (%s %s).", c->place,
			       (long long)(call->deadline_ms ? call->deadline_ms : DOCKER_CALL_MS), call->method, call->path);
	/* What may be repeated was: nobody is there. */
	return a->sent && call->repeat < HTTP_REPEAT_IDEMPOTENT ? err_move(err, cause) : docker_set_unreachable(c, cause, err);
}

static int perform(struct op *op, const struct docker_config *c, const char *url, const struct docker_call *call, struct docker_answer *ret,
		   struct err *err)
{
	cleanup_err struct err cause = ERR_INIT;

	*ret = (struct docker_answer){0};
	if (request(op, c, url, call, ret, &cause) < 0)
		return set_failure(c, call, ret, &cause, err);
	if (http_is_success(&ret->http) || ret->http.status == 304)
		return 0;
	return docker_set_refusal(c, &ret->http, ret->json, err);
}

/* --- versions --- */

/* "1.41": 41; -1: none of that form. */
static int minor_of(const char *version)
{
	char *end = NULL;
	long minor = version && str_starts_with(version, "1.") ? strtol(version + 2, &end, 10) : -1;

	return end && *end == '\0' && minor >= 0 && minor < 10000 ? (int)minor : -1;
}

static int ask_oldest(struct op *op, const struct docker_config *c, int *ret, struct err *err)
{
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_free char *url = xasprintf("%s/version", c->base_url);
	struct docker_call call = {.method = "GET", .path = "/version", .repeat = HTTP_REPEAT_IDEMPOTENT};

	if (perform(op, c, url, &call, &answer, err) < 0)
		return -1;
	*ret = minor_of(json_string_value(json_object_get(answer.json, "MinAPIVersion")));
	return 0;
}

static int negotiate(struct op *op, const struct docker_config *c, struct docker_engine *engine, struct err *err)
{
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_free char *url = xasprintf("%s/_ping", c->base_url);
	struct docker_call call = {.method = "GET", .path = "/_ping", .repeat = HTTP_REPEAT_IDEMPOTENT};
	int oldest = -1;

	if (perform(op, c, url, &call, &answer, err) < 0)
		return -1;
	const char *server = http_header(&answer.http, "Server");
	int newest = minor_of(http_header(&answer.http, "Api-Version"));

	if (newest < 0)
		return err_set(err, ERR_PROTOCOL, "What answers at %s is no container engine: it names no API version.", c->place);
	if (newest > VERSION_MAX && ask_oldest(op, c, &oldest, err) < 0)
		return -1;
	if (newest < VERSION_MIN || oldest > VERSION_MAX)
		return err_set(err, ERR_UNSUPPORTED, "The container engine at %s speaks API 1.%d%s; this driver speaks 1.%d to 1.%d.", c->place,
			       newest < VERSION_MIN ? newest : oldest, newest < VERSION_MIN ? " at most" : " at least", VERSION_MIN, VERSION_MAX);
	engine->is_podman = http_header(&answer.http, "Libpod-Api-Version") || (server && str_starts_with(server, "Libpod"));
	snprintf(engine->version, sizeof engine->version, "1.%d", newest < VERSION_MAX ? newest : VERSION_MAX);
	return 0;
}

static struct docker_engine *engine_of(struct docker_state *state, const char *place)
{
	list_for_each(link, &state->engines) {
		struct docker_engine *engine = container_of(link, struct docker_engine, link);

		if (strcmp(engine->place, place) == 0)
			return engine;
	}
	struct docker_engine *engine = xcalloc(1, sizeof *engine);

	engine->place = xstrdup(place);
	list_init(&engine->waiting);
	list_append(&state->engines, &engine->link);
	return engine;
}

int docker_engine_find(struct op *op, const struct docker_config *c, struct docker_engine **ret, struct err *err)
{
	*ret = engine_of(op_state(op), c->place);
	return (*ret)->version[0] ? 0 : negotiate(op, c, *ret, err);
}

char *docker_url(const struct docker_config *c, const struct docker_engine *engine, const char *path)
{
	return xasprintf("%s/v%s%s", c->base_url, engine->version, path);
}

/* The engine was replaced by an older or newer one. */
static bool is_version_refused(const struct docker_answer *a)
{
	return a->http.status == 400 && says(a->json, "client version");
}

int docker_perform(struct op *op, const struct docker_config *c, const struct docker_call *call, struct docker_answer *ret, struct err *err)
{
	for (int attempt = 1;; attempt++) {
		struct docker_engine *engine;
		cleanup_err struct err e = ERR_INIT;

		*ret = (struct docker_answer){0};
		if (docker_engine_find(op, c, &engine, err) < 0)
			return -1;
		cleanup_free char *url = docker_url(c, engine, call->path);
		int rc = perform(op, c, url, call, ret, &e);

		if (rc == 0)
			return 0;
		if (attempt > 1 || !is_version_refused(ret))
			return err_move(err, &e);
		engine->version[0] = '\0';
		docker_answer_deinit(ret);
	}
}
