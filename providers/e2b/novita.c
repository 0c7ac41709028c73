/* The driver novita (wire: e2b, Novita). */
#include "e2b.h"

#include "protocol/js_value.h"

#include <string.h>

#define TEMPLATE_DEFAULT "base"
#define PROBE_KILL_MS 20000
#define FIND_SHELL "if command -v bash >/dev/null 2>&1; then printf bash; else printf sh; fi"

extern const char e2b_novita_driver_json[];

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

/* --- what probe, acquire and resume have in common --- */

struct ready {
	struct e2b_sandbox sandbox;
	char *cwd;         /* owned */
	const char *shell; /* static */
};

static void ready_deinit(struct ready *r)
{
	e2b_sandbox_deinit(&r->sandbox);
	free(r->cwd);
}
#define cleanup_ready cleanup(ready_deinit)

static void set_if_any(json_t *object, const char *key, const char *text)
{
	if (text)
		json_object_set_new(object, key, json_string(text));
}

static json_t *create_body(const struct novita_config *c, const struct e2b_client *client, const struct request_base *base,
			   const char *run_id, double seconds)
{
	bool secure = c->secure < 0 ? !e2b_is_old_domain(client->domain) : c->secure;
	json_t *metadata = json_pack("{s:s}", "paperclip-provider", "novita");

	set_if_any(metadata, "paperclip-company-id", base->company_id);
	set_if_any(metadata, "paperclip-environment-id", base->environment_id);
	set_if_any(metadata, "paperclip-issue-id", base->issue_id);
	set_if_any(metadata, "paperclip-run-id", run_id);
	json_t *body = json_pack("{s:b, s:s, s:o, s:o, s:b, s:b}", "autoPause", c->auto_pause, "templateID",
				 c->template_id ? c->template_id : TEMPLATE_DEFAULT, "metadata", metadata, "timeout",
				 js_number_json(seconds), "secure", secure, "allow_internet_access", true);
	if (c->auto_pause)
		json_object_set_new(body, "autoResume", json_pack("{s:b}", "enabled", false));
	return body;
}

/* The directory and the shell. */
static int set_up(struct op *op, const struct e2b_client *client, const struct novita_config *c, struct ready *r,
		  json_t *diagnostics, struct e2b_failure *ret_failure, struct err *err)
{
	cleanup_free char *shell = NULL;
	cleanup_err struct err e = ERR_INIT;
	struct e2b_failure failure;

	if (e2b_make_directory(op, client, &r->sandbox, r->cwd, "/", c->request_ms, ret_failure, err) < 0)
		return -1;
	if (e2b_command_check(op, client, &r->sandbox, FIND_SHELL, "/", c->request_ms, &shell, &failure, &e) < 0 &&
	    e2b_is_our_end(&e))
		return err_move(err, &e);
	r->shell = str_eq(shell, "bash") ? "bash" : "sh";
	e2b_tell(diagnostics, "info", "commands", "Commands run in it (%s); the workspace is %s, the shell %s.", r->sandbox.envd,
		 r->cwd, r->shell);
	return 0;
}

static json_t *lease_metadata(const struct novita_config *c, const struct ready *r, bool resumed)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:b, s:s, s:b}", "provider", "novita", "shellCommand", r->shell,
			 "sandboxId", r->sandbox.id, "template", text_or_null(c->template_id), "timeoutMs",
			 js_number_json(c->timeout_ms), "requestTimeoutMs", js_number_json(c->request_ms), "autoPause",
			 c->auto_pause, "reuseLease", c->reuse_lease, "remoteCwd", r->cwd, "resumedLease", resumed);
}

/* --- probe --- */

static int probe_sandbox(struct op *op, const struct novita_config *c, const struct e2b_client *client,
			 const struct probe_params *p, json_t *diagnostics, struct ready *r, struct err *err)
{
	cleanup_json json_t *body = create_body(c, client, &p->base, NULL, e2b_lifetime_s(c->timeout_ms, -1));
	cleanup_err struct err kill_err = ERR_INIT;
	struct e2b_failure failure;

	if (e2b_sandbox_create(op, client, body, &r->sandbox, err) < 0)
		return -1;
	e2b_tell(diagnostics, "info", "create", "%s made sandbox %s.", client->api_url, r->sandbox.id);
	r->cwd = xstrdup(c->requested_cwd);
	int rc = set_up(op, client, c, r, diagnostics, &failure, err);
	if (e2b_sandbox_kill(op, client, r->sandbox.id, PROBE_KILL_MS, &kill_err) < 0)
		e2b_tell(diagnostics, "warning", "kill", "Sandbox %s could not be killed and may still be running: %s",
			 r->sandbox.id, err_text(&kill_err));
	else
		e2b_tell(diagnostics, "info", "kill", "It was killed again.");
	return rc;
}

static int probe_config(struct op *op, const struct novita_config *c, const struct probe_params *p, json_t *diagnostics,
			struct ready *r, struct err *err)
{
	cleanup_e2b_client struct e2b_client client = {0};

	if (novita_config_client(op, c, p->base.config, &client, err) < 0) {
		e2b_tell(diagnostics, "error", "config", "%s", err_text(err));
		return -1;
	}
	e2b_tell(diagnostics, "info", "config", "The API is %s; the key comes from %s.", client.api_url,
		 c->api_key ? "the config" : client.service->key_variable);
	if (probe_sandbox(op, c, &client, p, diagnostics, r, err) == 0)
		return 0;
	e2b_tell_failure(diagnostics, &client, r->sandbox.id ? "commands" : "create", err);
	return -1;
}

static int probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_novita_config struct novita_config c = {0};
	cleanup_ready struct ready r = {0};
	cleanup_json json_t *diagnostics = json_array();
	cleanup_err struct err e = ERR_INIT;

	novita_config_parse(p->base.config, &c);
	ret->ok = probe_config(op, &c, p, diagnostics, &r, &e) == 0;
	if (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	if (ret->ok) {
		ret->summary = xasprintf("Connected to Novita sandbox %s.", r.sandbox.id);
		ret->metadata = lease_metadata(&c, &r, /* resumed= */ false);
	} else {
		ret->summary = xstrdup("Novita sandbox probe failed.");
		ret->metadata = json_pack("{s:s, s:o, s:o, s:o, s:b, s:s}", "provider", "novita", "template",
					  text_or_null(c.template_id), "timeoutMs", js_number_json(c.timeout_ms),
					  "requestTimeoutMs", js_number_json(c.request_ms), "reuseLease", c.reuse_lease, "error",
					  err_text(&e));
	}
	ret->diagnostics = steal(&diagnostics);
	return 0;
}

/* --- acquire, resume --- */

static char *cwd_of(const struct novita_config *c, const char *requested)
{
	cleanup_json json_t *value = requested ? json_string(requested) : NULL;
	char *cwd = js_trimmed(value);

	return cwd ? cwd : xstrdup(c->requested_cwd);
}

static int acquire(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_novita_config struct novita_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_ready struct ready r = {0};
	struct e2b_failure failure;

	novita_config_parse(p->base.config, &c);
	if (novita_config_client(op, &c, p->base.config, &client, err) < 0)
		return -1;
	double seconds = e2b_lifetime_s(c.timeout_ms, p->requested_expires_unix_ms);
	cleanup_json json_t *body = create_body(&c, &client, &p->base, p->run_id, seconds);
	if (e2b_sandbox_create(op, &client, body, &r.sandbox, err) < 0)
		return -1;
	r.cwd = cwd_of(&c, p->requested_cwd);
	if (set_up(op, &client, &c, &r, NULL, &failure, err) < 0) {
		e2b_sandbox_discard(op, &client, r.sandbox.id);
		return -1;
	}
	if (p->requested_expires_at)
		ret->expires_at = xstrdup(p->requested_expires_at);
	ret->provider_lease_id = xstrdup(r.sandbox.id);
	ret->metadata = lease_metadata(&c, &r, /* resumed= */ false);
	e2b_lease_keep(op, &client, &p->base, &r.sandbox);
	return 0;
}

static int set_expired(struct lease_result *ret)
{
	ret->metadata = json_pack("{s:s, s:b}", "provider", "novita", "expired", true);
	return 0;
}

static int resume(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_novita_config struct novita_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_ready struct ready r = {0};
	cleanup_err struct err e = ERR_INIT;
	struct e2b_failure failure;
	const char *id = p->provider_lease_id;

	if (!str_nonempty(id))
		return set_expired(ret);
	novita_config_parse(p->base.config, &c);
	if (novita_config_client(op, &c, p->base.config, &client, err) < 0)
		return -1;
	double seconds = e2b_lifetime_s(c.timeout_ms, -1);
	if (e2b_lease_connect(op, &client, &p->base, id, seconds, &r.sandbox, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? set_expired(ret) : err_move(err, &e);
	if (e2b_sandbox_set_timeout(op, &client, id, seconds, 0, &e) < 0 && e2b_is_our_end(&e))
		return err_move(err, &e);
	err_clear(&e);
	r.cwd = js_trimmed(json_object_get(p->lease_metadata, "remoteCwd"));
	if (!r.cwd)
		r.cwd = xstrdup(c.requested_cwd);
	if (set_up(op, &client, &c, &r, NULL, &failure, &e) < 0)
		return e2b_sandbox_is_gone(op, &client, id, &failure, &e) ? set_expired(ret) : err_move(err, &e);
	ret->provider_lease_id = xstrdup(id);
	ret->metadata = lease_metadata(&c, &r, /* resumed= */ true);
	e2b_lease_keep(op, &client, &p->base, &r.sandbox);
	return 0;
}

/* --- release, destroy, realize --- */

static int end_lease(struct op *op, const struct lease_params *p, bool may_keep, const char *what, enum lease_end *ret,
		     struct err *err)
{
	cleanup_novita_config struct novita_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};

	if (!str_nonempty(p->provider_lease_id))
		return 0;
	novita_config_parse(p->base.config, &c);
	if (novita_config_client(op, &c, p->base.config, &client, err) < 0)
		return -1;
	if (may_keep && c.reuse_lease)
		return e2b_lease_pause_or_kill(op, &client, p, ret, err);
	return e2b_lease_kill(op, &client, p, what, ret, err);
}

static int release(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* may_keep= */ true, "lease release", ret, err);
}

static int destroy(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* may_keep= */ false, "lease destroy", ret, err);
}

/* A sandbox that is not there any more is the next call's to tell. */
static int make_workspace(struct op *op, const struct novita_config *c, const struct realize_params *p, const char *path,
			  struct err *err)
{
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_e2b_sandbox struct e2b_sandbox s = {0};
	cleanup_err struct err e = ERR_INIT;
	struct e2b_failure failure;
	double seconds = e2b_lease_lifetime_s(c->timeout_ms, &p->lease);

	if (novita_config_client(op, c, p->base.config, &client, err) < 0)
		return -1;
	if (e2b_lease_connect(op, &client, &p->base, p->lease.provider_lease_id, seconds, &s, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? 0 : err_move(err, &e);
	return e2b_make_directory(op, &client, &s, path, "/", c->request_ms, &failure, err);
}

static int realize(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_novita_config struct novita_config c = {0};

	novita_config_parse(p->base.config, &c);
	cleanup_free char *path = e2b_workspace_path(p, c.requested_cwd);
	if (str_nonempty(p->lease.provider_lease_id) && make_workspace(op, &c, p, path, err) < 0)
		return -1;
	ret->metadata = json_pack("{s:s, s:s}", "provider", "novita", "remoteCwd", path);
	ret->cwd = steal(&path);
	return 0;
}

extern const struct provider novita_provider;
const struct provider novita_provider = {
	.driver_key = "novita",
	.declaration = e2b_novita_driver_json,
	.create = e2b_state_create,
	.destroy = e2b_state_destroy,
	.validate_config = novita_validate_config,
	.probe = probe,
	.acquire_lease = acquire,
	.resume_lease = resume,
	.release_lease = release,
	.destroy_lease = destroy,
	.realize_workspace = realize,
	.execute = novita_execute,
};
