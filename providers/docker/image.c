/* wire: docker, 2, Pull stream: failures come inside an answer of status 200. */
#include "docker.h"

#include "protocol/base64.h"
#include "protocol/json_read.h"
#include "protocol/url.h"

#include <string.h>

#define LINE_MAX_BYTES 65536
#define PROGRESS_MS 1000 /* between two log lines of one pull */
#define STALL_MS 300000  /* nothing from the engine for so long */

/* --- names --- */

/* The registry of "host:5000/name", "localhost/name", "ghcr.io/name"; Docker Hub's of all others. Owned. */
static char *registry_of(const char *image)
{
	const char *slash = strchr(image, '/');
	size_t n = slash ? (size_t)(slash - image) : 0;
	cleanup_free char *first = xstrndup(image, n);

	if (n > 0 && (strchr(first, '.') || strchr(first, ':') || strcmp(first, "localhost") == 0))
		return steal(&first);
	return xstrdup("docker.io");
}

/* "name:tag" and "name@sha256:…" in parts; a name without either is "latest". */
static void split(const char *image, char **ret_name, char **ret_tag)
{
	const char *at = strchr(image, '@'), *slash = strrchr(image, '/');
	const char *colon = strchr(slash ? slash : image, ':');

	if (at) {
		/* A tag beside a digest says nothing. */
		size_t n = colon && colon < at ? (size_t)(colon - image) : (size_t)(at - image);

		*ret_name = xstrndup(image, n);
		*ret_tag = xstrdup(at + 1);
	} else if (colon) {
		*ret_name = xstrndup(image, (size_t)(colon - image));
		*ret_tag = xstrdup(colon + 1);
	} else {
		*ret_name = xstrdup(image);
		*ret_tag = xstrdup("latest");
	}
}

/* --- looking --- */

/* 1: it is there, with its id; 0: it is not; -1. */
static int look(struct op *op, const struct docker_config *c, const char *image, char **ret_id, struct err *err)
{
	cleanup_buf struct buf path = BUF_INIT(BUF_UNBOUNDED);
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;

	/* The slashes of a name stand as they are; what would end the path is refused by validation. */
	buf_printf(&path, "/images/%s/json", image);
	struct docker_call call = {.method = "GET", .path = path.data, .repeat = HTTP_REPEAT_IDEMPOTENT};

	if (docker_perform(op, c, &call, &answer, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? 0 : err_move(err, &e);
	const char *id = json_string_value(json_object_get(answer.json, "Id"));

	*ret_id = xstrdup(id ? id : "");
	return 1;
}

/* --- pulling --- */

struct pull {
	struct op *op;
	const char *image;
	struct buf line;
	char *failure; /* owned */
	int64_t logged_ms;
};

static void log_progress(struct pull *pull, const json_t *event)
{
	const char *status = json_string_value(json_object_get(event, "status"));
	const char *id = json_string_value(json_object_get(event, "id"));
	const json_t *detail = json_object_get(event, "progressDetail");
	double current = json_number_value(json_object_get(detail, "current")), total = json_number_value(json_object_get(detail, "total"));
	bool final = status && (strcmp(status, "Pull complete") == 0 || strcmp(status, "Download complete") == 0 ||
				strcmp(status, "Already exists") == 0);

	if (!status || (!final && loop_now_ms() - pull->logged_ms < PROGRESS_MS && pull->logged_ms > 0))
		return;
	if (!final)
		pull->logged_ms = loop_now_ms();
	if (id && total > 0)
		op_log(pull->op, LOG_LEVEL_INFO, NULL, "Pulling %s: %s %s, %.1f of %.1f MB", pull->image, id, status, current / 1e6, total / 1e6);
	else
		op_log(pull->op, LOG_LEVEL_INFO, NULL, "Pulling %s: %s%s%s", pull->image, id ? id : "", id ? " " : "", status);
}

static void on_line(struct pull *pull)
{
	json_t *event = NULL;

	if (json_read(pull->line.data, pull->line.len, &event, NULL) == 0 && json_is_object(event)) {
		const char *text = json_string_value(json_object_get(json_object_get(event, "errorDetail"), "message"));

		if (!text)
			text = json_string_value(json_object_get(event, "error"));
		if (text && !pull->failure)
			pull->failure = xstrdup(text);
		else if (!text)
			log_progress(pull, event);
	}
	json_decref(event);
	buf_reset(&pull->line);
}

static int on_body(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct pull *pull = arg;

	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '\n')
			on_line(pull);
		else
			buf_append_char(&pull->line, bytes[i]); /* what is too long for a line is no message of use */
	}
	return 0;
}

/* base64url, with padding: Podman refuses it otherwise. NULL: no credentials. Owned. */
static char *registry_auth(const struct docker_config *c, const char *image)
{
	if (!c->registry_password)
		return NULL;
	cleanup_free char *registry = registry_of(image);
	const char *address = strcmp(registry, "docker.io") == 0 ? "https://index.docker.io/v1/" : registry;
	cleanup_json json_t *json = json_pack("{s:s, s:s, s:s}", "username", c->registry_username, "password", c->registry_password,
					      "serveraddress", address);
	char *text = json_dumps(json, JSON_COMPACT);
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	base64_encode(&out, text, strlen(text));
	str_wipe_free(text);
	for (char *p = out.data; *p; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	return buf_steal(&out);
}

static int set_pull_failure(const struct docker_config *c, const char *image, const char *text, struct err *err)
{
	static const struct {
		const char *words, *advice;
	} known[] = {
		{"docker login", "Is the name right? A private image needs registryUsername and registryPassword."},
		{"unauthorized", "Are registryUsername and registryPassword right?"},
		{"authentication required", "Are registryUsername and registryPassword right?"},
		{"manifest unknown", "The registry has no such tag."},
		{"toomanyrequests", "The registry wants fewer pulls; signing in (registryUsername, registryPassword) raises the limit."},
		{"HTTP response to HTTPS client", "The engine has to be told that this registry is insecure."},
		{"short-name", "Podman wants the whole name, with its registry: docker.io/library/debian:12."},
		{"no space left", "The engine's disk is full."},
	};
	const char *advice = "";

	for (size_t i = 0; i < sizeof known / sizeof known[0] && !*advice; i++) {
		if (strstr(text, known[i].words))
			advice = known[i].advice;
	}
	return err_set(err, ERR_REMOTE, "The image %s cannot be pulled by the engine at %s: %s%s%s", image, c->place, text, *advice ? ". " : "",
		       advice);
}

static int pull_image(struct op *op, const struct docker_config *c, const char *image, struct err *err)
{
	cleanup_free char *name = NULL;
	cleanup_free char *tag = NULL;
	cleanup_buf struct buf path = BUF_INIT(BUF_UNBOUNDED);
	char *auth = registry_auth(c, image);
	const struct http_header headers[] = {{"X-Registry-Auth", auth}, {NULL, NULL}};
	struct pull pull = {.op = op, .image = image, .line = BUF_INIT(LINE_MAX_BYTES)};
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;

	op_hold_secret(op, auth);
	split(image, &name, &tag);
	buf_append_str(&path, "/images/create");
	url_add_query(&path, "fromImage", name);
	url_add_query(&path, "tag", tag);
	struct docker_call call = {.method = "POST",
				   .path = path.data,
				   .headers = headers,
				   .deadline_ms = (int64_t)c->timeout_ms > STALL_MS ? (int64_t)c->timeout_ms : STALL_MS,
				   .long_lived = true,
				   .on_body = on_body,
				   .arg = &pull};

	op_log(op, LOG_LEVEL_INFO, NULL, "Pulling %s", image);
	int rc = docker_perform(op, c, &call, &answer, &e);

	if (pull.line.len > 0)
		on_line(&pull);
	if (rc < 0 && (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT) || (err_is(&e, ERR_TRANSPORT) && !pull.failure)))
		err_move(err, &e);
	else if (rc < 0 || pull.failure)
		rc = set_pull_failure(c, image, pull.failure ? pull.failure : err_text(&e), err);
	buf_deinit(&pull.line);
	free(pull.failure);
	str_wipe_free(auth);
	return rc;
}

int docker_image_ensure(struct op *op, const struct docker_config *c, const char *image, char **ret_id, struct err *err)
{
	int found = c->pull == DOCKER_PULL_ALWAYS ? 0 : look(op, c, image, ret_id, err);

	if (found != 0)
		return found < 0 ? -1 : 0;
	if (c->pull == DOCKER_PULL_NEVER)
		return err_set(err, ERR_REMOTE, "The image %s is not at the engine %s, and pullPolicy is never.", image, c->place);
	if (pull_image(op, c, image, err) < 0)
		return -1;
	found = look(op, c, image, ret_id, err);
	if (found == 0)
		return err_set(err, ERR_REMOTE, "The engine at %s says that it pulled %s, and has no such image.", c->place, image);
	return found < 0 ? -1 : 0;
}
