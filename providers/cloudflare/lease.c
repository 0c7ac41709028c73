/* wire: cloudflare, Probe, acquire; Resume, release, destroy; Realize workspace. */
#include "cloudflare.h"

#include "fiber.h"
#include "log.h"
#include "protocol/js_value.h"
#include "protocol/url.h"

#include <math.h>
#include <string.h>

/* How long an acquire that nobody waits for any more may take to say what it has made. A worker that stops waits for 5 s. */
#define LATE_ANSWER_MS 3000

/* --- leases that have ended --- */

static char *key_of(const struct cloudflare_config *c, const struct request_base *base, const char *lease_id)
{
	return lease_key(base, lease_id, (const char *const[]){c->base_url, c->token, NULL});
}

static void mark_ended(struct op *op, const struct cloudflare_config *c, const struct request_base *base, const char *lease_id)
{
	struct cloudflare_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, lease_id);
	struct lease_entry *lease = lease_table_pin(&state->leases, key);

	lease_table_end(&state->leases, lease);
	lease_table_unpin(&state->leases, lease);
}

/* A reused sandbox has the same id each time. */
static void mark_alive(struct op *op, const struct cloudflare_config *c, const struct request_base *base, const char *lease_id)
{
	struct cloudflare_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, lease_id);
	struct lease_entry *lease = lease_table_find(&state->leases, key);

	if (lease)
		lease_table_keep(&state->leases, lease);
}

int cloudflare_lease_check(struct op *op, const struct cloudflare_config *c, const struct request_base *base,
			   const char *lease_id, struct err *err)
{
	struct cloudflare_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, lease_id);
	const struct lease_entry *lease = lease_table_find(&state->leases, key);

	if (lease && lease->ended)
		return err_set(err, ERR_NOT_FOUND, "Cloudflare sandbox lease %s is no longer active.", lease_id);
	return 0;
}

/* --- bodies and answers --- */

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text)
		json_object_set_new(object, key, json_string(text));
}

static void add_settings(json_t *body, const struct cloudflare_config *c)
{
	set_text(body, "sleepAfter", c->sleep_after);
	set_text(body, "sessionStrategy", cloudflare_session_strategy(c));
	set_text(body, "sessionId", c->session_id);
	json_object_set_new(body, "keepAlive", json_boolean(c->keep_alive));
	json_object_set_new(body, "normalizeId", json_boolean(c->normalize_id));
	json_object_set_new(body, "timeoutMs", js_number_json(c->timeout_ms));
}

/* The trimmed text, or the fallback if it is blank or NULL. Owned. */
static char *trimmed_or(const char *text, const char *fallback)
{
	size_t len = 0;
	const char *trimmed = text ? js_trim(text, strlen(text), &len) : NULL;

	return len > 0 ? xstrndup(trimmed, len) : fallback ? xstrdup(fallback) : NULL;
}

static json_t *taken(json_t *object, const char *key)
{
	json_t *value = json_incref(json_object_get(object, key));

	json_object_del(object, key);
	return value;
}

/* The answer is the result as it came, members that nobody knows too. */
static int take_lease(struct cloudflare_answer *a, struct lease_result *ret, struct err *err)
{
	const char *id = json_string_value(json_object_get(a->json, "providerLeaseId"));

	if (!str_nonempty(id) || strlen(id) != json_string_length(json_object_get(a->json, "providerLeaseId")))
		return cloudflare_set_malformed(err, "a lease without providerLeaseId");
	ret->provider_lease_id = xstrdup(id);
	json_object_del(a->json, "providerLeaseId");
	if (json_is_object(json_object_get(a->json, "metadata")))
		ret->metadata = taken(a->json, "metadata");
	ret->extra = json_incref(a->json);
	return 0;
}

/* --- acquire --- */

struct acquiring {
	struct op *op;
	const struct cloudflare_config *c;
	const struct cloudflare_call *call;
	const json_t *body;
	struct cloudflare_answer answer;
	struct err err;
	int rc;
	struct event done;
};

static void request_lease(void *arg)
{
	struct acquiring *a = arg;

	a->rc = cloudflare_perform_json(a->op, a->c, a->call, a->body, &a->answer, &a->err);
	event_set(&a->done);
}

/*
 * Closing the connection would not stop the bridge from making a sandbox, and only its answer says which. So a cancelled acquire waits
 * for a moment more; what it gets then is destroyed by whoever finds that the host does not wait.
 */
static void request_lease_to_its_end(struct acquiring *a)
{
	struct fiber_group group;
	struct fiber_scope scope;

	fiber_group_init(&group);
	fiber_group_start(&group, request_lease, a);
	bool given_up = event_wait(&a->done, NULL) < 0;

	shield_enter(&scope, LATE_ANSWER_MS);
	if (given_up && event_wait(&a->done, NULL) < 0)
		fiber_group_cancel(&group);
	scope_leave(&scope);
	shield_enter(&scope, DEADLINE_NONE);
	fiber_group_join(&group, NULL);
	scope_leave(&scope);
}

/* Nobody can find a sandbox whose name only a lost answer knew. */
static void warn_of_lost_answer(struct op *op, const struct cloudflare_config *c, const struct acquire_params *p,
				const struct cloudflare_answer *a)
{
	bool refused = a->status >= 300 && a->status < 502;

	if (!a->sent || refused)
		return;
	if (c->reuse_lease)
		op_log(op, LOG_LEVEL_WARN, NULL,
		       "The answer to an acquire was lost. The reusable Cloudflare sandbox of environment %s may be running; the "
		       "next acquire "
		       "finds it.",
		       p->base.environment_id ? p->base.environment_id : "");
	else
		op_log(op, LOG_LEVEL_WARN, NULL,
		       "The answer to an acquire was lost. A Cloudflare sandbox whose id begins with pc-%s- may be left "
		       "running%s%s.",
		       p->run_id ? p->run_id : "",
		       c->keep_alive ? ", and keepAlive keeps it so: delete it by hand" : " until it goes to sleep after ",
		       c->keep_alive ? "" : c->sleep_after);
}

static json_t *acquire_body(const struct cloudflare_config *c, const struct acquire_params *p)
{
	cleanup_free char *cwd = trimmed_or(p->requested_cwd, c->requested_cwd);
	json_t *body = json_object();

	set_text(body, "environmentId", p->base.environment_id);
	set_text(body, "runId", p->run_id);
	set_text(body, "issueId", p->base.issue_id);
	if (p->base.issue_id_given && !p->base.issue_id)
		json_object_set_new(body, "issueId", json_null());
	json_object_set_new(body, "reuseLease", json_boolean(c->reuse_lease));
	set_text(body, "requestedCwd", cwd);
	add_settings(body, c);
	return body;
}

int cloudflare_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_cloudflare_config struct cloudflare_config c = {0};

	if (cloudflare_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	cleanup_json json_t *body = acquire_body(&c, p);
	struct cloudflare_call call = {
		.method = "POST",
		.path = "/leases/acquire",
		.base = &p->base,
		.issue_id = p->base.issue_id,
		.run_id = p->run_id,
		.timeout_ms = c.request_timeout_ms,
	};
	struct acquiring a = {.op = op, .c = &c, .call = &call, .body = body};

	request_lease_to_its_end(&a);
	int rc = a.rc < 0 ? err_move(err, &a.err) : take_lease(&a.answer, ret, err);

	if (rc < 0)
		warn_of_lost_answer(op, &c, p, &a.answer);
	else
		mark_alive(op, &c, &p->base, ret->provider_lease_id);
	cloudflare_answer_deinit(&a.answer);
	return rc;
}

/* --- resume --- */

static json_t *resume_body(const struct cloudflare_config *c, const struct lease_params *p)
{
	cleanup_free char *cwd = js_trimmed(json_object_get(p->lease_metadata, "remoteCwd"));
	json_t *body = json_object();

	set_text(body, "providerLeaseId", p->provider_lease_id);
	set_text(body, "requestedCwd", cwd ? cwd : c->requested_cwd);
	add_settings(body, c);
	return body;
}

int cloudflare_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_cloudflare_config struct cloudflare_config c = {0};
	cleanup_cloudflare_answer struct cloudflare_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;

	if (!str_nonempty(p->provider_lease_id))
		return err_set(err, ERR_INVALID, "providerLeaseId is required.");
	if (cloudflare_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	cleanup_json json_t *body = resume_body(&c, p);
	struct cloudflare_call call = {
		.method = "POST",
		.path = "/leases/resume",
		.base = &p->base,
		.issue_id = p->base.issue_id,
		.timeout_ms = c.request_timeout_ms,
		.repeatable = true,
	};

	if (cloudflare_perform_json(op, &c, &call, body, &answer, &e) == 0) {
		if (take_lease(&answer, ret, err) < 0)
			return -1;
		mark_alive(op, &c, &p->base, ret->provider_lease_id);
		return 0;
	}
	if (!cloudflare_is_lost(&answer))
		return err_move(err, &e);
	/* The empty container that the bridge may have started to find this out goes with the host's destroy. */
	ret->metadata = json_pack("{s:s, s:b}", "provider", "cloudflare", "expired", true);
	return 0;
}

/* --- release, destroy --- */

static int request_release(struct op *op, const struct cloudflare_config *c, const struct lease_params *p, struct err *err)
{
	cleanup_cloudflare_answer struct cloudflare_answer answer = {0};
	cleanup_json json_t *body = json_pack("{s:s, s:b, s:b}", "providerLeaseId", p->provider_lease_id, "reuseLease",
					      c->reuse_lease, "keepAlive", c->keep_alive);
	struct cloudflare_call call = {
		.method = "POST",
		.path = "/leases/release",
		.base = &p->base,
		.issue_id = p->base.issue_id,
		.timeout_ms = c->request_timeout_ms,
		.may_be_empty = true,
		.repeatable = true,
	};

	return cloudflare_perform_json(op, c, &call, body, &answer, err);
}

static int request_destroy(struct op *op, const struct cloudflare_config *c, const struct lease_params *p, struct err *err)
{
	cleanup_cloudflare_answer struct cloudflare_answer answer = {0};
	cleanup_buf struct buf path = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&path, "/leases/");
	url_encode_component(&path, p->provider_lease_id);
	struct cloudflare_call call = {
		.method = "DELETE",
		.path = path.data,
		.base = &p->base,
		.issue_id = p->base.issue_id,
		.timeout_ms = c->request_timeout_ms,
		.may_be_empty = true,
		.repeatable = true,
	};

	return cloudflare_perform(op, c, &call, &answer, err);
}

/*
 * Only a deletion proves that what runs in the sandbox has ended: the bridge keeps a reusable one running at its release, and is silent
 * about the failed end of others.
 */
static int end_lease(struct op *op, const struct lease_params *p, bool destroy, enum lease_end *ret, struct err *err)
{
	cleanup_cloudflare_config struct cloudflare_config c = {0};

	if (!str_nonempty(p->provider_lease_id))
		return 0;
	if (cloudflare_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	bool with_proof = p->cancel_active_work;

	/* Before the request, so that a late command does not make the sandbox anew. */
	if (destroy || with_proof || !c.reuse_lease)
		mark_ended(op, &c, &p->base, p->provider_lease_id);
	if (!destroy && !with_proof)
		return request_release(op, &c, p, err);
	if (request_destroy(op, &c, p, err) < 0)
		return -1;
	*ret = with_proof ? LEASE_DESTROYED : LEASE_UNPROVEN;
	return 0;
}

int cloudflare_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* destroy= */ false, ret, err);
}

int cloudflare_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* destroy= */ true, ret, err);
}

/* --- realize --- */

static char *workspace_path(const struct cloudflare_config *c, const struct realize_params *p)
{
	char *path = js_trimmed(json_object_get(p->lease.metadata, "remoteCwd"));

	if (path)
		return path;
	return xstrdup(p->remote_path ? p->remote_path : p->local_path ? p->local_path : c->requested_cwd);
}

static char *realize_issue(const struct realize_params *p)
{
	const json_t *request = json_object_get(json_object_get(p->workspace, "metadata"), "workspaceRealizationRequest");
	char *issue = trimmed_or(p->base.issue_id, NULL);

	return issue ? issue : js_trimmed(json_object_get(request, "issueId"));
}

static int check_mkdir(const json_t *result, struct err *err)
{
	const json_t *code = json_object_get(result, "exitCode");
	cleanup_free char *text = js_trimmed(json_object_get(result, "stderr"));
	bool timed_out = json_is_true(json_object_get(result, "timedOut"));

	if (!timed_out && json_is_integer(code) && json_integer_value(code) == 0)
		return 0;
	if (text)
		return err_set(err, ERR_REMOTE, "%s", text);
	if (timed_out)
		return err_set(err, ERR_REMOTE, "mkdir timed out");
	if (!json_is_integer(code))
		return cloudflare_set_malformed(err, "a command without exitCode");
	return err_set(err, ERR_REMOTE, "mkdir exited with %" JSON_INTEGER_FORMAT, json_integer_value(code));
}

static int make_directory(struct op *op, const struct cloudflare_config *c, const struct realize_params *p, const char *path,
			  struct err *err)
{
	cleanup_cloudflare_answer struct cloudflare_answer answer = {0};
	cleanup_free char *issue = realize_issue(p);
	cleanup_json json_t *body = json_pack("{s:s, s:s, s:[s, s], s:s, s:o, s:s, s:s, s:b}", "providerLeaseId",
					      p->lease.provider_lease_id, "command", "mkdir", "args", "-p", path, "cwd", "/",
					      "timeoutMs", js_number_json(c->timeout_ms), "sessionStrategy",
					      cloudflare_session_strategy(c), "sessionId", c->session_id, "streamOutput", false);
	struct cloudflare_call call = {
		.method = "POST",
		.path = "/exec",
		.base = &p->base,
		.issue_id = issue,
		.timeout_ms = fmax(c->request_timeout_ms, c->timeout_ms),
		.repeatable = true,
		.runs_command = true,
	};

	if (cloudflare_lease_check(op, c, &p->base, p->lease.provider_lease_id, err) < 0 ||
	    cloudflare_perform_json(op, c, &call, body, &answer, err) < 0)
		return -1;
	return check_mkdir(answer.json, err);
}

int cloudflare_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_cloudflare_config struct cloudflare_config c = {0};
	cleanup_err struct err e = ERR_INIT;
	bool has_lease = str_nonempty(p->lease.provider_lease_id);

	if (has_lease && cloudflare_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	if (!has_lease)
		cloudflare_config_parse(p->base.config, &c);
	cleanup_free char *path = workspace_path(&c, p);

	if (has_lease && make_directory(op, &c, p, path, &e) < 0) {
		err_wrap(&e, "Failed to prepare Cloudflare sandbox workspace at %s", path);
		return err_move(err, &e);
	}
	ret->metadata = json_pack("{s:s, s:s}", "provider", "cloudflare", "remoteCwd", path);
	ret->cwd = steal(&path);
	return 0;
}
