/* The driver e2b (wire: e2b, The driver). */
#include "e2b.h"

#include "protocol/js_value.h"
#include "protocol/shell_quote.h"

#include <string.h>
#include <time.h>

#define STEP_LIMIT_MS 60000
#define WORKSPACE "paperclip-workspace"
#define FALLBACK_CWD "/paperclip-workspace"
#define REFRESH_MS 10000 /* of an execute's lifetime: the command does not wait longer for it */

extern const char e2b_driver_json[];

/* --- what probe, acquire and resume have in common --- */

/* posix.join(home, WORKSPACE) */
static char *workspace_in(const char *home)
{
	size_t len = strlen(home);

	while (len > 0 && home[len - 1] == '/')
		len--;
	return xasprintf("%.*s/" WORKSPACE, (int)len, home);
}

static int set_up(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, double seconds, json_t *diagnostics,
		  char **ret_cwd, struct e2b_failure *ret_failure, struct err *err)
{
	cleanup_free char *home = NULL;

	*ret_failure = (struct e2b_failure){.fault = E2B_REFUSED};
	if (e2b_sandbox_set_timeout(op, c, s->id, seconds, 0, err) < 0)
		return -1;
	e2b_tell(diagnostics, "info", "lifetime", "Its lifetime was set to %.0f s.", seconds);
	if (e2b_command_check(op, c, s, "pwd", NULL, STEP_LIMIT_MS, &home, ret_failure, err) < 0)
		return -1;
	cleanup_free char *cwd = workspace_in(home);
	if (e2b_make_directory(op, c, s, cwd, NULL, STEP_LIMIT_MS, ret_failure, err) < 0)
		return -1;
	e2b_tell(diagnostics, "info", "commands", "Commands run in it (%s); the workspace is %s.", s->envd, cwd);
	*ret_cwd = steal(&cwd);
	return 0;
}

static json_t *create_body(const struct e2b_config *c, double seconds)
{
	return json_pack("{s:s, s:{s:s}, s:o}", "templateID", c->template_id, "metadata", "paperclipProvider", "e2b", "timeout",
			 js_number_json(seconds));
}

static json_t *lease_metadata(const struct e2b_config *c, const struct e2b_sandbox *s, const char *cwd, bool resumed)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:b, s:s, s:s, s:s, s:b}", "provider", "e2b", "shellCommand", "bash", "template",
			 c->template_id, "timeoutMs", js_number_json(c->timeout_ms), "reuseLease", c->reuse_lease, "sandboxId",
			 s->id, "sandboxDomain", s->domain, "remoteCwd", cwd, "resumedLease", resumed);
}

/* --- probe --- */

static int probe_sandbox(struct op *op, const struct e2b_config *c, const struct e2b_client *client, json_t *diagnostics,
			 struct e2b_sandbox *s, char **ret_cwd, struct err *err)
{
	double seconds = e2b_lifetime_s(c->timeout_ms, -1);
	cleanup_json json_t *body = create_body(c, seconds);
	cleanup_err struct err kill_err = ERR_INIT;
	struct e2b_failure failure;

	if (e2b_sandbox_create(op, client, body, s, err) < 0)
		return -1;
	e2b_tell(diagnostics, "info", "create", "%s made sandbox %s of template %s.", client->api_url, s->id, c->template_id);
	int rc = set_up(op, client, s, seconds, diagnostics, ret_cwd, &failure, err);
	if (e2b_sandbox_kill(op, client, s->id, STEP_LIMIT_MS / 3, &kill_err) < 0)
		e2b_tell(diagnostics, "warning", "kill", "Sandbox %s could not be killed and may still be running: %s", s->id,
			 err_text(&kill_err));
	else
		e2b_tell(diagnostics, "info", "kill", "It was killed again.");
	return rc;
}

static int probe_config(struct op *op, const struct e2b_config *c, const json_t *config, json_t *diagnostics,
			struct e2b_sandbox *s, char **ret_cwd, struct err *err)
{
	cleanup_e2b_client struct e2b_client client = {0};

	if (e2b_config_client(op, c, config, &client, err) < 0)
		return -1;
	e2b_tell(diagnostics, "info", "config", "The API is %s; the key comes from %s.", client.api_url,
		 c->api_key ? "the config" : client.service->key_variable);
	if (probe_sandbox(op, c, &client, diagnostics, s, ret_cwd, err) == 0)
		return 0;
	e2b_tell_failure(diagnostics, &client, s->id ? "commands" : "create", err);
	return -1;
}

static int probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_e2b_config struct e2b_config c = {0};
	cleanup_e2b_sandbox struct e2b_sandbox s = {0};
	cleanup_json json_t *diagnostics = json_array();
	cleanup_free char *cwd = NULL;
	cleanup_err struct err e = ERR_INIT;

	e2b_config_parse(p->base.config, &c);
	ret->ok = probe_config(op, &c, p->base.config, diagnostics, &s, &cwd, &e) == 0;
	if (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	ret->metadata = json_pack("{s:s, s:s, s:o, s:b}", "provider", "e2b", "template", c.template_id, "timeoutMs",
				  js_number_json(c.timeout_ms), "reuseLease", c.reuse_lease);
	if (ret->ok) {
		ret->summary = xasprintf("Connected to E2B sandbox template %s.", c.template_id);
		json_object_set_new(ret->metadata, "sandboxId", json_string(s.id));
		json_object_set_new(ret->metadata, "sandboxDomain", json_string(s.domain));
		json_object_set_new(ret->metadata, "remoteCwd", json_string(cwd));
	} else {
		ret->summary = xasprintf("E2B sandbox probe failed for template %s.", c.template_id);
		json_object_set_new(ret->metadata, "error", json_string(err_text(&e)));
		if (json_array_size(diagnostics) == 0)
			e2b_tell(diagnostics, "error", "config", "%s", err_text(&e));
	}
	ret->diagnostics = steal(&diagnostics);
	return 0;
}

/* --- acquire, resume --- */

static int acquire(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_e2b_config struct e2b_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_e2b_sandbox struct e2b_sandbox s = {0};
	cleanup_free char *cwd = NULL;
	struct e2b_failure failure;

	e2b_config_parse(p->base.config, &c);
	if (e2b_config_client(op, &c, p->base.config, &client, err) < 0)
		return -1;
	double seconds = e2b_lifetime_s(c.timeout_ms, p->requested_expires_unix_ms);
	cleanup_json json_t *body = create_body(&c, seconds);
	if (e2b_sandbox_create(op, &client, body, &s, err) < 0)
		return -1;
	if (p->requested_expires_at)
		ret->expires_at = xstrdup(p->requested_expires_at);
	/* Time has passed since. */
	seconds = e2b_lifetime_s(c.timeout_ms, p->requested_expires_unix_ms);
	if (set_up(op, &client, &s, seconds, NULL, &cwd, &failure, err) < 0) {
		e2b_sandbox_discard(op, &client, s.id);
		return -1;
	}
	ret->provider_lease_id = xstrdup(s.id);
	ret->metadata = lease_metadata(&c, &s, cwd, /* resumed= */ false);
	e2b_lease_keep(op, &client, &p->base, &s);
	return 0;
}

static int set_expired(struct lease_result *ret)
{
	ret->metadata = json_pack("{s:b}", "expired", true);
	return 0;
}

static int resume(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_e2b_config struct e2b_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_e2b_sandbox struct e2b_sandbox s = {0};
	cleanup_free char *cwd = NULL;
	cleanup_err struct err e = ERR_INIT;
	struct e2b_failure failure;
	const char *id = p->provider_lease_id;

	if (!str_nonempty(id))
		return set_expired(ret);
	e2b_config_parse(p->base.config, &c);
	if (e2b_config_client(op, &c, p->base.config, &client, err) < 0)
		return -1;
	double seconds = e2b_lifetime_s(c.timeout_ms, -1);
	if (e2b_lease_connect(op, &client, &p->base, id, seconds, &s, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? set_expired(ret) : err_move(err, &e);
	if (set_up(op, &client, &s, seconds, NULL, &cwd, &failure, &e) < 0)
		return e2b_sandbox_is_gone(op, &client, id, &failure, &e) ? set_expired(ret) : err_move(err, &e);
	ret->provider_lease_id = xstrdup(id);
	ret->metadata = lease_metadata(&c, &s, cwd, /* resumed= */ true);
	e2b_lease_keep(op, &client, &p->base, &s);
	return 0;
}

/* --- release, destroy, realize --- */

static int end_lease(struct op *op, const struct lease_params *p, bool may_keep, const char *what, enum lease_end *ret,
		     struct err *err)
{
	cleanup_e2b_config struct e2b_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};

	if (!str_nonempty(p->provider_lease_id))
		return 0;
	e2b_config_parse(p->base.config, &c);
	if (e2b_config_client(op, &c, p->base.config, &client, err) < 0)
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

static int realize(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_e2b_config struct e2b_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_e2b_sandbox struct e2b_sandbox s = {0};
	cleanup_free char *path = e2b_workspace_path(p, FALLBACK_CWD);
	const char *id = p->lease.provider_lease_id;
	struct e2b_failure failure;

	if (str_nonempty(id)) {
		e2b_config_parse(p->base.config, &c);
		if (e2b_config_client(op, &c, p->base.config, &client, err) < 0 ||
		    e2b_lease_connect(op, &client, &p->base, id, e2b_lease_lifetime_s(c.timeout_ms, &p->lease), &s, err) < 0 ||
		    e2b_make_directory(op, &client, &s, path, NULL, STEP_LIMIT_MS, &failure, err) < 0)
			return -1;
	}
	ret->metadata = json_pack("{s:s, s:s}", "provider", "e2b", "remoteCwd", path);
	ret->cwd = steal(&path);
	return 0;
}

/* --- execute --- */

static int run(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const struct execute_params *p,
	       double limit_ms, struct execute_result *ret, struct err *err)
{
	cleanup_free char *stdin_path = e2b_stdin_path(p, "/tmp/paperclip-stdin-");
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	struct shell_script script = {
		.exec = true, .env = p->env, .command = p->command, .args = p->args, .stdin_path = stdin_path};

	shell_write_script(&text, &script);
	struct e2b_execute x = {.stdin_path = stdin_path, .script = text.data, .cwd = p->cwd, .limit_ms = limit_ms};
	return e2b_execute_command(op, c, s, p, &x, ret, err);
}

static int execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_e2b_config struct e2b_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_e2b_sandbox struct e2b_sandbox s = {0};
	const char *id = p->lease.provider_lease_id;

	if (!str_nonempty(id))
		return e2b_execute_refuse(op, "No provider lease ID available for execution.", ret);
	e2b_config_parse(p->base.config, &c);
	if (e2b_config_client(op, &c, p->base.config, &client, err) < 0 || shell_check_env(p->env, err) < 0)
		return -1;
	if (e2b_lease_has_ended(op, &client, &p->base, id))
		return err_set(err, ERR_NOT_FOUND, "E2B sandbox lease %s is no longer active.", id);
	double seconds = e2b_lease_lifetime_s(c.timeout_ms, &p->lease);
	if (e2b_lease_connect(op, &client, &p->base, id, seconds, &s, err) < 0)
		return -1;
	cleanup_err struct err ignored = ERR_INIT;
	if (e2b_sandbox_set_timeout(op, &client, id, seconds, REFRESH_MS, &ignored) < 0 && e2b_is_our_end(&ignored))
		return err_move(err, &ignored);
	return run(op, &client, &s, p, e2b_execute_limit_ms(p, c.timeout_ms), ret, err);
}

extern const struct provider e2b_provider;
const struct provider e2b_provider = {
	.driver_key = "e2b",
	.declaration = e2b_driver_json,
	.create = e2b_state_create,
	.destroy = e2b_state_destroy,
	.validate_config = e2b_validate_config,
	.probe = probe,
	.acquire_lease = acquire,
	.resume_lease = resume,
	.release_lease = release,
	.destroy_lease = destroy,
	.realize_workspace = realize,
	.execute = execute,
};
