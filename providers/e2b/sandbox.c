/* wire: e2b, API requests; What a better client does, 3 and 4. */
#include "e2b.h"

#include "http_retry.h"
#include "log.h"
#include "protocol/host_time.h"
#include "protocol/js_value.h"
#include "protocol/url.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define LIST_PATH "/v2/sandboxes"
#define LIST_PAGES_MAX 20
#define ENVD_PORT "49983"
#define KILL_CALL_MS 5000
#define DISCARD_MS 15000
#define DISCARD_CANCELLED_MS 4000 /* the worker waits */
#define CREATE_ATTEMPTS 4
#define LATE_LOOKS 5 /* for a sandbox whose creation was not answered and may still be under way */
#define LATE_PAUSE_MS 200

static const struct http_retry harmless = {.repeat = HTTP_REPEAT_IDEMPOTENT};

void e2b_sandbox_deinit(struct e2b_sandbox *s)
{
	if (!s)
		return;
	free(s->id);
	free(s->domain);
	str_wipe_free(s->token);
	free(s->envd);
	*s = (struct e2b_sandbox){0};
}

double e2b_lifetime_s(double ms, int64_t expires_unix_ms)
{
	struct timespec now;
	double seconds = ceil(ms / 1000);

	if (expires_unix_ms < 0)
		return seconds;
	clock_gettime(CLOCK_REALTIME, &now);
	double left = floor(((double)expires_unix_ms - (double)now.tv_sec * 1000 - (double)now.tv_nsec / 1e6) / 1000);
	return fmax(1, fmin(seconds, left));
}

double e2b_lease_lifetime_s(double ms, const struct lease_ref *lease)
{
	return e2b_lifetime_s(ms, lease->expires_at ? iso_time_parse(lease->expires_at) : -1);
}

/* --- what the service says of a sandbox --- */

static int version_of(const char *text)
{
	int parts[3] = {0};

	if (!text || *text < '0' || *text > '9')
		return -1;
	for (int i = 0; i < 3; i++) {
		char *end;
		long part = strtol(text, &end, 10);

		parts[i] = part >= 0 && part < 1000 ? (int)part : 999;
		if (*end != '.')
			break;
		text = end + 1;
	}
	return E2B_VERSION(parts[0], parts[1], parts[2]);
}

static bool is_one_of(const char *text, const char *const *list)
{
	for (; *list; list++) {
		if (strcmp(text, *list) == 0)
			return true;
	}
	return false;
}

/* The domains on which Novita's ids hold the client's. */
bool e2b_is_old_domain(const char *domain)
{
	static const char *const list[] = {
		"sandbox.novita.ai",
		"us-01.sandbox.novita.ai",
		"us-ga-01.sandbox.novita.ai",
		"us-ga-1.sandbox.novita.ai",
		"sandbox-dev.novita.ai",
		"us-01.sandbox-dev.novita.ai",
		"us-ga-01.sandbox-dev.novita.ai",
		"us-ca-1.sandbox-dev.novita.ai",
		NULL,
	};

	return is_one_of(domain, list);
}

static char *envd_of(const struct e2b_client *c, const struct e2b_sandbox *s)
{
	static const char *const shared[] = {"e2b.app", "e2b.dev", "e2b.pro", "e2b-staging.dev", NULL};

	if (c->sandbox_url)
		return xstrdup(c->sandbox_url);
	if (c->service->shared_hosts && is_one_of(s->domain, shared))
		return xasprintf("https://sandbox.%s", s->domain);
	return xasprintf("https://" ENVD_PORT "-%s.%s", s->id, s->domain);
}

static char *id_of(const struct e2b_client *c, const json_t *answer)
{
	const char *id = json_string_value(json_object_get(answer, "sandboxID"));
	const char *client = json_string_value(json_object_get(answer, "clientID"));

	if (!str_nonempty(id))
		return NULL;
	if (c->service->client_in_id && str_nonempty(client) && e2b_is_old_domain(c->domain))
		return xasprintf("%s-%s", id, client);
	return xstrdup(id);
}

static bool is_id(const char *text)
{
	return *text && !text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")];
}

/* known_id: of the lease; NULL: it is a new sandbox. */
static int take_answer(const struct e2b_client *c, const json_t *answer, const char *known_id, struct e2b_sandbox *ret,
		       struct err *err)
{
	cleanup_free char *id = id_of(c, answer);
	const char *bare = json_string_value(json_object_get(answer, "sandboxID"));
	const char *domain = json_string_value(json_object_get(answer, "domain"));
	const char *token = json_string_value(json_object_get(answer, "envdAccessToken"));

	if (!id || !is_id(id))
		return err_set(err, ERR_PROTOCOL, "%s answered without a sandbox.", c->service->name);
	if (known_id && strcmp(id, known_id) != 0 && strcmp(bare, known_id) != 0)
		return err_set(err, ERR_PROTOCOL, "%s answered with sandbox %s instead of %s.", c->service->name, id, known_id);
	if (str_nonempty(domain) && !e2b_is_domain(domain))
		return err_set(err, ERR_PROTOCOL, "%s answered with a sandbox domain that is no host name.", c->service->name);
	*ret = (struct e2b_sandbox){
		.id = known_id ? xstrdup(known_id) : steal(&id),
		.domain = xstrdup(str_nonempty(domain) ? domain : c->domain),
		.token = str_nonempty(token) ? xstrdup(token) : NULL,
		.version = version_of(json_string_value(json_object_get(answer, "envdVersion"))),
	};
	ret->envd = envd_of(c, ret);
	return 0;
}

/* --- killing --- */

int e2b_sandbox_kill(struct op *op, const struct e2b_client *c, const char *id, int64_t ms, struct err *err)
{
	cleanup_e2b_answer struct e2b_answer answer = {0};
	struct fiber_scope scope;
	cleanup_err struct err e = ERR_INIT;
	struct e2b_call call = {
		.method = "DELETE",
		.path = "/sandboxes/%s",
		.id = id,
		.deadline_ms = ms,
		.retry = {.repeat = HTTP_REPEAT_IDEMPOTENT, .attempts_max = 8, .base_ms = 100},
	};

	shield_enter(&scope, ms);
	int rc = e2b_api(op, c, &call, &answer, &e);
	scope_leave(&scope);
	/* A conflict: it is being killed already. */
	if (rc == 0 || err_is(&e, ERR_NOT_FOUND) || err_is(&e, ERR_CONFLICT))
		return 0;
	/* Its own time was over, not the request's. */
	if (err_is(&e, ERR_TIMEOUT))
		return err_set(err, ERR_TRANSPORT, "The operation was aborted due to timeout: %s", err_text(&e));
	return err_move(err, &e);
}

static int64_t discard_ms(void)
{
	return fiber_is_cancelled() ? DISCARD_CANCELLED_MS : DISCARD_MS;
}

void e2b_sandbox_discard(struct op *op, const struct e2b_client *c, const char *id)
{
	cleanup_err struct err err = ERR_INIT;

	if (e2b_sandbox_kill(op, c, id, discard_ms(), &err) < 0)
		op_log(op, LOG_LEVEL_ERROR, NULL, "%s sandbox %s could not be killed and may still be running: %s",
		       c->service->name, id, err_text(&err));
}

/* --- sandboxes whose creation was not answered --- */

struct strays {
	const char *create_id;
	const char *kept; /* the one that was answered; NULL: none */
	unsigned found;
};

static void kill_strays_of_page(struct op *op, const struct e2b_client *c, struct strays *strays, const json_t *page)
{
	const json_t *item;
	size_t i;

	json_array_foreach(page, i, item) {
		const json_t *metadata = json_object_get(item, "metadata");
		cleanup_free char *id = id_of(c, item);

		/* The service may not filter: only what bears our own value is ours. */
		if (!id || !str_eq(json_string_value(json_object_get(metadata, c->service->create_key)), strays->create_id))
			continue;
		if (str_eq(id, strays->kept))
			continue;
		strays->found++;
		e2b_sandbox_discard(op, c, id);
	}
}

static int kill_strays_once(struct op *op, const struct e2b_client *c, struct strays *strays, struct err *err)
{
	cleanup_free char *filter = xasprintf("%s=%s", c->service->create_key, strays->create_id);
	cleanup_free char *next = NULL;

	for (int page = 0; page < LIST_PAGES_MAX; page++) {
		cleanup_buf struct buf query = BUF_INIT(BUF_UNBOUNDED);
		cleanup_e2b_answer struct e2b_answer answer = {0};

		url_add_query(&query, "metadata", filter);
		url_add_query(&query, "state", "running,paused");
		if (next)
			url_add_query(&query, "nextToken", next);
		struct e2b_call call = {
			.method = "GET", .path = LIST_PATH, .query = query.data, .deadline_ms = KILL_CALL_MS, .retry = harmless};
		if (e2b_api(op, c, &call, &answer, err) < 0)
			return -1;
		if (!json_is_array(answer.json))
			return err_set(err, ERR_PROTOCOL, "the list of sandboxes is no list");
		kill_strays_of_page(op, c, strays, answer.json);
		const char *token = http_header(&answer.http, "X-Next-Token");
		free(next);
		next = str_nonempty(token) ? xstrdup(token) : NULL;
		if (!next)
			break;
	}
	return 0;
}

/* Looks for what a creation may have left, again and again: it may come late. */
static void kill_strays(struct op *op, const struct e2b_client *c, const char *create_id, const char *kept, int looks)
{
	struct strays strays = {.create_id = create_id, .kept = kept};
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;
	int64_t pause = LATE_PAUSE_MS;

	shield_enter(&scope, discard_ms());
	for (int look = 1;; look++, pause *= 2) {
		err_clear(&err);
		int rc = kill_strays_once(op, c, &strays, &err);

		if ((rc == 0 && strays.found > 0) || look >= looks || fiber_sleep(pause, NULL) < 0)
			break;
	}
	scope_leave(&scope);
	if (err.kind != ERR_NONE)
		op_log(op, LOG_LEVEL_ERROR, NULL,
		       "A %s sandbox with the metadata %s=%s may have been made, and could not be looked for: %s",
		       c->service->name, c->service->create_key, create_id, err_text(&err));
}

/* --- creating --- */

static double random_fraction(void)
{
	unsigned char byte;

	random_bytes(&byte, 1);
	return byte / 256.0;
}

/* A limit of the account has no Retry-After, and waiting does not help; a lack of capacity passes. */
static int64_t pause_before_next(const struct e2b_answer *answer, unsigned attempt, int64_t left_ms)
{
	const struct http_retry policy = {
		.repeat = HTTP_REPEAT_REJECTED, .attempts_max = CREATE_ATTEMPTS, .needs_retry_after = answer->status == 429};
	const struct http_attempt tried = {
		.number = attempt,
		.status = answer->status,
		.sent = answer->sent,
		.hopeless = answer->status == 0,
		.retry_after_ms = http_retry_after(http_header(&answer->http, "Retry-After"), (int64_t)time(NULL) * 1000),
	};

	return http_retry_pause(&policy, &tried, random_fraction(), left_ms);
}

static int check_version(const struct e2b_sandbox *s, struct err *err)
{
	if (s->version >= 0 && s->version < E2B_VERSION(0, 1, 0))
		return err_set(err, ERR_REMOTE, "You need to update the template to use the new SDK.");
	return 0;
}

/* *ret_doubts: how often to look for what may have been left. *ret_pause: before another attempt; -1: there is none. */
static int create_once(struct op *op, const struct e2b_client *c, const json_t *body, unsigned attempt, int64_t left_ms,
		       struct e2b_sandbox *ret, int *ret_doubts, int64_t *ret_pause, struct err *err)
{
	cleanup_e2b_answer struct e2b_answer answer = {0};
	struct e2b_call call = {
		.method = "POST",
		.path = c->service->create_path,
		.json = body,
		.deadline_ms = left_ms,
		.retry = {.repeat = HTTP_REPEAT_UNSENT},
	};

	*ret_pause = -1;
	if (e2b_api(op, c, &call, &answer, err) == 0 && take_answer(c, answer.json, NULL, ret, err) == 0)
		return 0;
	*ret_pause = pause_before_next(&answer, attempt, left_ms);
	if (answer.status == 503)
		*ret_doubts = *ret_doubts > 1 ? *ret_doubts : 1;
	else if (answer.sent && (answer.status < 400 || answer.status >= 500))
		*ret_doubts = LATE_LOOKS;
	return -1;
}

int e2b_sandbox_create(struct op *op, const struct e2b_client *c, json_t *body, struct e2b_sandbox *ret, struct err *err)
{
	cleanup_free char *create_id = random_uuid();
	int64_t deadline = loop_now_ms() + c->request_ms;
	int doubts = 0, rc;

	json_object_set_new(json_object_get(body, "metadata"), c->service->create_key, json_string(create_id));
	for (unsigned attempt = 1;; attempt++) {
		cleanup_err struct err e = ERR_INIT;
		int64_t pause, left = deadline - loop_now_ms();

		rc = create_once(op, c, body, attempt, left > 1 ? left : 1, ret, &doubts, &pause, &e);
		if (rc == 0 || pause < 0 || fiber_sleep(pause, NULL) < 0) {
			if (rc < 0)
				err_move(err, &e);
			break;
		}
	}
	if (doubts > 0)
		kill_strays(op, c, create_id, ret->id, rc == 0 ? 1 : doubts);
	if (rc == 0 && check_version(ret, err) < 0) {
		e2b_sandbox_discard(op, c, ret->id);
		return -1;
	}
	if (rc == 0)
		op_hold_secret(op, ret->token);
	return rc;
}

/* --- a sandbox that is there --- */

static int set_missing(struct err *err, const char *what, const char *id)
{
	err_clear(err);
	return err_set(err, ERR_NOT_FOUND, "%s %s not found", what, id);
}

int e2b_sandbox_connect(struct op *op, const struct e2b_client *c, const char *id, double seconds, struct e2b_sandbox *ret,
			struct err *err)
{
	cleanup_json json_t *body = json_pack("{s:o}", "timeout", js_number_json(seconds));
	cleanup_e2b_answer struct e2b_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;
	struct e2b_call call = {.method = "POST", .path = c->service->connect_path, .id = id, .json = body, .retry = harmless};

	if (e2b_api(op, c, &call, &answer, &e) < 0) {
		if (err_is(&e, ERR_NOT_FOUND))
			return set_missing(err, "Paused sandbox", id);
		return err_move(err, &e);
	}
	if (take_answer(c, answer.json, id, ret, err) < 0)
		return -1;
	op_hold_secret(op, ret->token);
	return check_version(ret, err);
}

int e2b_sandbox_set_timeout(struct op *op, const struct e2b_client *c, const char *id, double seconds, int64_t deadline_ms,
			    struct err *err)
{
	cleanup_json json_t *body = json_pack("{s:o}", "timeout", js_number_json(seconds));
	cleanup_e2b_answer struct e2b_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;
	struct e2b_call call = {.method = "POST",
				.path = "/sandboxes/%s/timeout",
				.id = id,
				.json = body,
				.deadline_ms = deadline_ms,
				.retry = harmless};

	if (e2b_api(op, c, &call, &answer, &e) == 0)
		return 0;
	return err_is(&e, ERR_NOT_FOUND) ? set_missing(err, "Sandbox", id) : err_move(err, &e);
}

int e2b_sandbox_look(struct op *op, const struct e2b_client *c, const char *id, enum e2b_condition *ret, struct err *err)
{
	cleanup_e2b_answer struct e2b_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;
	struct e2b_call call = {.method = "GET", .path = "/sandboxes/%s", .id = id, .retry = harmless};

	if (e2b_api(op, c, &call, &answer, &e) < 0) {
		if (!err_is(&e, ERR_NOT_FOUND))
			return err_move(err, &e);
		*ret = E2B_GONE;
		return 0;
	}
	*ret = str_eq(json_string_value(json_object_get(answer.json, "state")), "paused") ? E2B_PAUSED : E2B_RUNNING;
	return 0;
}

int e2b_sandbox_pause(struct op *op, const struct e2b_client *c, const char *id, struct err *err)
{
	cleanup_e2b_answer struct e2b_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;
	struct e2b_call call = {
		.method = "POST", .path = "/sandboxes/%s/pause", .id = id, .body = c->service->pause_body, .retry = harmless};

	if (e2b_api(op, c, &call, &answer, &e) == 0 || err_is(&e, ERR_CONFLICT))
		return 0;
	return err_is(&e, ERR_NOT_FOUND) ? set_missing(err, "Sandbox", id) : err_move(err, &e);
}
