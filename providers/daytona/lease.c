/* wire: daytona, Lifecycle. */
#include "daytona.h"

#include "log.h"
#include "protocol/js_value.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define DELETE_MS 20000
#define RELEASE_DELETE_MS 6000 /* the host waits */

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

/* --- what probe, acquire and resume have in common --- */

/* A sandbox that is ready for commands. */
struct ready {
	struct daytona_sandbox sandbox;
	char *cwd;         /* owned */
	const char *shell; /* static */
	json_t *sentinel;  /* owned */
};

static void ready_deinit(struct ready *r)
{
	daytona_sandbox_deinit(&r->sandbox);
	free(r->cwd);
	json_decref(r->sentinel);
}
#define cleanup_ready cleanup(ready_deinit)

static json_t *lease_metadata(const struct daytona_config *c, const struct ready *r, bool resumed)
{
	const struct daytona_sandbox *s = &r->sandbox;
	json_t *m = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:b}", "provider", "daytona", "shellCommand",
			      r->shell, "sandboxId", s->id, "sandboxName", s->name, "sandboxState", s->state, "image",
			      text_or_null(c->image), "snapshot", text_or_null(c->snapshot), "target", text_or_null(s->target),
			      "timeoutMs", js_number_json(c->timeout_ms), "reuseLease", c->reuse_lease);

	if (c->archive_on_release)
		json_object_set_new(m, "archiveOnRelease", json_true());
	for (size_t i = 0; i < DAYTONA_RESOURCES; i++) {
		if (!isnan(c->resources[i]))
			json_object_set_new(m, daytona_resource_names[i], js_number_json(c->resources[i]));
	}
	json_object_set_new(m, "remoteCwd", json_string(r->cwd));
	json_object_set_new(m, "resumedLease", json_boolean(resumed));
	json_object_set(m, "workspaceSentinel", r->sentinel);
	return m;
}

static void answer_lease(struct op *op, const struct daytona_config *c, const struct request_base *base, struct ready *r,
			 bool resumed, struct lease_result *ret)
{
	ret->provider_lease_id = xstrdup(r->sandbox.id);
	ret->metadata = lease_metadata(c, r, resumed);
	daytona_handle_put(op, c, base, &r->sandbox);
}

/* --- probe --- */

/* What a probe does, one after the other. */
enum probe_step { STEP_CONFIG, STEP_CREATE, STEP_WORKSPACE, STEP_SHELL, STEP_COUNT };

static const char *const step_texts[STEP_COUNT] = {
	[STEP_CONFIG] = "read the config",
	[STEP_CREATE] = "create and start a sandbox",
	[STEP_WORKSPACE] = "make the workspace directory in it, over the toolbox proxy",
	[STEP_SHELL] = "run a command in it",
};

static const char *hint_for(const struct err *err)
{
	switch ((int)err->kind) {
	case ERR_AUTH:
		return "Check apiKey: it must be a valid key of the service at apiUrl, allowed to create and delete sandboxes.";
	case ERR_BUSY:
		return "Daytona limits the rate or the quota: try again later, delete sandboxes that are not needed, or raise "
		       "the limit.";
	case ERR_TRANSPORT:
		return "The service cannot be reached from this machine: check apiUrl, the network, and proxyUrl and caFile "
		       "where these are needed.";
	case ERR_PROTOCOL:
		return "Something else than Daytona answers: check apiUrl (it ends in /api) and what stands between.";
	case ERR_NOT_FOUND:
		return "Nothing of that name is there: check apiUrl, snapshot and target.";
	case ERR_REMOTE:
		return "The service refuses or fails: check image or snapshot, target and the resources; a bigger timeoutMs if "
		       "it is slow.";
	default:
		return NULL;
	}
}

static void add_diagnostic(json_t *list, const char *severity, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void add_diagnostic(json_t *list, const char *severity, const char *code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	cleanup_free char *message = xvasprintf(format, ap);
	va_end(ap);
	json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "severity", severity, "message", message, "code", code));
}

/* Step by step, up to the one that failed. */
static json_t *diagnose(const struct daytona_config *c, enum probe_step failed, const struct err *err)
{
	json_t *list = json_array();
	const char *hint = hint_for(err);

	for (size_t i = 0; i < failed; i++)
		add_diagnostic(list, "info", "step_done", "Done: %s.", step_texts[i]);
	add_diagnostic(list, "error", "step_failed", "Failed: %s%s%s. %s", step_texts[failed],
		       c->api_url && failed == STEP_CREATE ? " at " : "", c->api_url && failed == STEP_CREATE ? c->api_url : "",
		       err_text(err));
	if (hint)
		add_diagnostic(list, "warning", "hint", "%s", hint);
	return list;
}

static int probe_sandbox(struct op *op, const struct daytona_config *c, const struct probe_params *p, struct ready *r,
			 enum probe_step *ret_step, struct err *err)
{
	struct daytona_purpose purpose = {.base = &p->base};

	*ret_step = STEP_CREATE;
	if (daytona_sandbox_create(op, c, &purpose, &r->sandbox, err) < 0)
		return -1;
	*ret_step = STEP_WORKSPACE;
	int rc = daytona_make_workspace(op, c, &r->sandbox, &r->cwd, err);
	if (rc == 0) {
		*ret_step = STEP_SHELL;
		rc = daytona_find_shell(op, c, &r->sandbox, &r->shell, err);
	}
	daytona_sandbox_discard(op, c, r->sandbox.id);
	return rc;
}

static void report_ready(const struct daytona_config *c, const struct ready *r, struct probe_report *ret)
{
	const struct daytona_sandbox *s = &r->sandbox;

	ret->ok = true;
	ret->summary = xasprintf("Connected to Daytona sandbox %s.", s->name);
	ret->metadata = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:s}", "provider", "daytona", "shellCommand",
				  r->shell, "sandboxId", s->id, "sandboxName", s->name, "target", text_or_null(s->target),
				  "image", text_or_null(c->image), "snapshot", text_or_null(c->snapshot), "timeoutMs",
				  js_number_json(c->timeout_ms), "reuseLease", c->reuse_lease, "remoteCwd", r->cwd);
}

int daytona_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_ready struct ready r = {0};
	cleanup_err struct err e = ERR_INIT;
	enum probe_step step = STEP_CONFIG;

	if (daytona_config_read(op, p->base.config, &c, &e) == 0 && probe_sandbox(op, &c, p, &r, &step, &e) == 0) {
		report_ready(&c, &r, ret);
		return 0;
	}
	if (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	ret->summary = xstrdup("Daytona sandbox probe failed.");
	ret->diagnostics = diagnose(&c, step, &e);
	ret->metadata = json_pack("{s:s, s:o, s:o, s:o, s:b, s:s}", "provider", "daytona", "image", text_or_null(c.image),
				  "snapshot", text_or_null(c.snapshot), "timeoutMs", js_number_json(c.timeout_ms), "reuseLease",
				  c.reuse_lease, "error", err_text(&e));
	return 0;
}

/* --- acquire, resume --- */

static int set_up(struct op *op, const struct daytona_config *c, const struct acquire_params *p, struct ready *r, struct err *err)
{
	if (daytona_make_workspace(op, c, &r->sandbox, &r->cwd, err) < 0 ||
	    daytona_find_shell(op, c, &r->sandbox, &r->shell, err) < 0)
		return -1;
	return daytona_sentinel_write(op, c, &r->sandbox, p, r->cwd, &r->sentinel, err);
}

int daytona_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_ready struct ready r = {0};
	struct daytona_purpose purpose = {.base = &p->base, .run_id = p->run_id};

	if (daytona_config_read(op, p->base.config, &c, err) < 0 || daytona_sandbox_create(op, &c, &purpose, &r.sandbox, err) < 0)
		return -1;
	if (set_up(op, &c, p, &r, err) < 0) {
		daytona_sandbox_discard(op, &c, r.sandbox.id);
		return -1;
	}
	answer_lease(op, &c, &p->base, &r, /* resumed= */ false, ret);
	return 0;
}

static int check_sentinel(struct op *op, const struct daytona_config *c, const struct lease_params *p, struct ready *r,
			  bool *ret_matched, struct err *err)
{
	if (p->is_named_by_person) {
		r->sentinel = json_pack("{s:n, s:n, s:s}", "path", "token", "result", "skipped");
		*ret_matched = true;
		return 0;
	}
	if (daytona_sentinel_check(op, c, &r->sandbox, p->lease_metadata, &r->sentinel, err) < 0)
		return -1;
	*ret_matched = daytona_sentinel_matches(r->sentinel);
	return 0;
}

/* *ret_matched false: the sandbox is another's, and stays as it is. */
static int set_up_again(struct op *op, const struct daytona_config *c, const struct lease_params *p, struct ready *r,
			bool *ret_matched, struct err *err)
{
	if (daytona_make_workspace(op, c, &r->sandbox, &r->cwd, err) < 0 || check_sentinel(op, c, p, r, ret_matched, err) < 0)
		return -1;
	return *ret_matched ? daytona_find_shell(op, c, &r->sandbox, &r->shell, err) : 0;
}

int daytona_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_ready struct ready r = {0};
	cleanup_err struct err e = ERR_INIT;
	bool matched = false;

	if (!str_nonempty(p->provider_lease_id))
		return err_set(err, ERR_INVALID, "providerLeaseId is missing: there is no lease to resume");
	if (daytona_config_read(op, p->base.config, &c, err) < 0 ||
	    daytona_handle_await_end(op, &c, &p->base, p->provider_lease_id, err) < 0)
		return -1;
	if (daytona_sandbox_get(op, &c, p->provider_lease_id, &r.sandbox, &e) < 0) {
		if (!err_is(&e, ERR_NOT_FOUND))
			return err_move(err, &e);
		ret->metadata = json_pack("{s:b}", "expired", true);
		return 0;
	}
	if (daytona_sandbox_ensure_started(op, &c, &r.sandbox, err) < 0)
		return -1;
	if (set_up_again(op, &c, p, &r, &matched, err) < 0) {
		daytona_sandbox_discard(op, &c, r.sandbox.id);
		return -1;
	}
	if (matched)
		answer_lease(op, &c, &p->base, &r, /* resumed= */ true, ret);
	else
		ret->metadata = json_pack("{s:b, s:O}", "expired", true, "workspaceSentinel", r.sentinel);
	return 0;
}

/* --- release, destroy --- */

enum ending { END_DELETE, END_STOP, END_ARCHIVE };

static int keep(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, enum ending ending, struct err *err)
{
	if (strcmp(s->state, "stopped") != 0 && daytona_sandbox_stop(op, c, s, err) < 0)
		return -1;
	return ending == END_ARCHIVE ? daytona_sandbox_archive(op, c, s, err) : 0;
}

static int keep_or_delete(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, enum ending ending,
			  enum lease_end *ret)
{
	cleanup_err struct err err = ERR_INIT;
	cleanup_err struct err delete_err = ERR_INIT;

	*ret = LEASE_STOPPED;
	if (keep(op, c, s, ending, &err) == 0)
		return 0;
	*ret = LEASE_UNPROVEN;
	op_log(op, LOG_LEVEL_WARN, NULL, "Daytona sandbox %s could not be %s and is deleted instead: %s", s->id,
	       ending == END_ARCHIVE ? "archived" : "stopped", err_text(&err));
	if (daytona_sandbox_delete(op, c, s->id, DELETE_MS, &delete_err) == 0)
		*ret = LEASE_DESTROYED;
	else
		op_log(op, LOG_LEVEL_ERROR, NULL, "Daytona sandbox %s could not be deleted and may still be running: %s", s->id,
		       err_text(&delete_err));
	return 0;
}

static enum ending ending_of(const struct daytona_config *c)
{
	return c->reuse_lease ? END_STOP : c->archive_on_release ? END_ARCHIVE : END_DELETE;
}

/* *ret: what is proven. */
static int tear_down(struct op *op, const struct daytona_config *c, const char *lease_id, const char *session, enum ending ending,
		     enum lease_end *ret, struct err *err)
{
	cleanup_daytona_sandbox struct daytona_sandbox s = {0};
	cleanup_err struct err e = ERR_INIT;

	*ret = LEASE_DESTROYED;
	if (daytona_sandbox_get(op, c, lease_id, &s, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? 0 : err_move(err, &e);
	if (ending == END_DELETE)
		return daytona_sandbox_delete(op, c, s.id, RELEASE_DELETE_MS, err);
	if (session)
		daytona_session_delete(op, c, &s, session);
	return keep_or_delete(op, c, &s, ending, ret);
}

static int end_lease(struct op *op, const struct lease_params *p, bool always_delete, enum lease_end *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	enum lease_end end;

	if (!str_nonempty(p->provider_lease_id))
		return 0;
	if (daytona_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	struct daytona_handle *handle = daytona_handle_begin_end(op, &c, &p->base, p->provider_lease_id);
	cleanup_free char *session = steal(&handle->session);
	int rc = tear_down(op, &c, p->provider_lease_id, session, always_delete ? END_DELETE : ending_of(&c), &end, err);
	daytona_handle_finish_end(op, handle);
	/* The host wants proof only where it asked for the end of active work; else the answer is null. */
	if (rc == 0 && p->cancel_active_work)
		*ret = end;
	return rc;
}

int daytona_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* always_delete= */ false, ret, err);
}

int daytona_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* always_delete= */ true, ret, err);
}

/* --- realize --- */

static char *workspace_path(const struct realize_params *p)
{
	char *path = js_trimmed(json_object_get(p->lease.metadata, "remoteCwd"));

	if (path)
		return path;
	return xstrdup(p->remote_path ? p->remote_path : p->local_path ? p->local_path : "/paperclip-workspace");
}

int daytona_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_free char *path = workspace_path(p);
	struct daytona_handle *handle;

	if (str_nonempty(p->lease.provider_lease_id)) {
		if (daytona_config_read(op, p->base.config, &c, err) < 0 ||
		    daytona_handle_pin(op, &c, &p->base, p->lease.provider_lease_id, &handle, err) < 0)
			return -1;
		int rc = daytona_make_folder(op, &c, &handle->sandbox, path, err);
		daytona_handle_unpin(op, handle);
		if (rc < 0)
			return -1;
	}
	ret->metadata = json_pack("{s:s, s:s}", "provider", "daytona", "remoteCwd", path);
	ret->cwd = steal(&path);
	return 0;
}
