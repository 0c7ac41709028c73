/* wire: modal, Operations, request by request. */
#include "modal.h"

#include "base/str.h"
#include "protocol/host_time.h"
#include "protocol/js_value.h"

#include <math.h>
#include <string.h>

#define RELEASE_MS 10000 /* the host waits */
#define EXPIRES_KEY "sandboxExpiresAt"

static json_t *lease_metadata(const struct modal_session *s, const struct modal_lease *lease, bool resumed)
{
	const struct modal_config *c = &s->config;
	json_t *m = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:b, s:s, s:b}", "provider", "modal", "shellCommand", "sh",
			      "sandboxId", lease->id, "appName", c->app_name, "image", c->image, "sandboxTimeoutMs",
			      js_number_json(c->sandbox_timeout_ms), "idleTimeoutMs",
			      isnan(c->idle_timeout_ms) ? json_null() : js_number_json(c->idle_timeout_ms), "reuseLease",
			      c->reuse_lease, "remoteCwd", c->workdir, "resumedLease", resumed);
	char text[ISO_TIME_BYTES];

	if (lease->expires_unix_ms > 0)
		json_object_set_new(m, EXPIRES_KEY, json_string(iso_time_format(lease->expires_unix_ms, text)));
	return m;
}

static void answer_lease(struct modal_session *s, struct modal_lease *lease, bool resumed, struct lease_result *ret)
{
	struct modal_state *state = op_state(s->op);
	char text[ISO_TIME_BYTES];

	lease_table_keep(&state->leases, lease);
	ret->provider_lease_id = xstrdup(lease->id);
	ret->metadata = lease_metadata(s, lease, resumed);
	if (lease->expires_unix_ms > 0)
		ret->expires_at = xstrdup(iso_time_format(lease->expires_unix_ms, text));
}

/* --- acquire, resume --- */

int modal_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_modal_session struct modal_session s = {0};
	struct modal_purpose purpose = {.run_id = p->run_id, .requested_expires_unix_ms = p->requested_expires_unix_ms};
	struct modal_sandbox sandbox;

	if (modal_session_open(&s, op, &p->base, err) < 0)
		return -1;
	purpose.reuse = s.config.reuse_lease;
	if (modal_sandbox_create(&s, &purpose, &sandbox, err) < 0) {
		modal_sandbox_deinit(&sandbox);
		return -1;
	}
	struct modal_lease *lease = modal_lease_pin(&s, sandbox.id);

	lease->made_here = lease->known = true;
	lease->expires_unix_ms = sandbox.expires_unix_ms;
	int rc = modal_make_workspace(&s, lease, s.config.workdir, NULL, err);

	if (rc == 0)
		answer_lease(&s, lease, /* resumed= */ false, ret);
	else
		modal_sandbox_discard(&s, sandbox.id);
	modal_lease_unpin(&s, lease);
	modal_sandbox_deinit(&sandbox);
	return rc;
}

static void take_expiry(struct modal_lease *lease, const json_t *metadata)
{
	const char *text = json_string_value(json_object_get(metadata, EXPIRES_KEY));
	int64_t expires = text ? iso_time_parse(text) : -1;

	if (lease->expires_unix_ms == 0 && expires > 0)
		lease->expires_unix_ms = expires;
}

static int resume(struct modal_session *s, struct modal_lease *lease, const struct lease_params *p, struct lease_result *ret,
		  struct err *err)
{
	bool gone;

	/* Whatever we know of it: the host asks whether it is there. */
	lease->known = false;
	if (modal_make_workspace(s, lease, s->config.workdir, &gone, err) < 0)
		return -1;
	if (gone) {
		ret->metadata = json_pack("{s:b}", "expired", true);
		return 0;
	}
	take_expiry(lease, p->lease_metadata);
	answer_lease(s, lease, /* resumed= */ true, ret);
	return 0;
}

int modal_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_modal_session struct modal_session s = {0};

	if (!str_nonempty(p->provider_lease_id))
		return err_set(err, ERR_INVALID, "providerLeaseId is missing: there is no lease to resume");
	if (modal_session_open(&s, op, &p->base, err) < 0)
		return -1;
	struct modal_lease *lease = modal_lease_pin(&s, p->provider_lease_id);
	int rc = resume(&s, lease, p, ret, err);

	modal_lease_unpin(&s, lease);
	return rc;
}

/* --- release, destroy --- */

/* What is remembered of a lease that has ended is its end alone. */
static void end(struct modal_session *s, struct modal_lease *lease)
{
	struct modal_state *state = op_state(s->op);

	modal_lease_doubt(lease);
	lease_table_end(&state->leases, lease);
}

static int end_lease(struct op *op, const struct lease_params *p, bool always, enum lease_end *ret, struct err *err)
{
	cleanup_modal_session struct modal_session s = {0};

	if (!str_nonempty(p->provider_lease_id))
		return 0;
	if (modal_session_open(&s, op, &p->base, err) < 0)
		return -1;
	struct modal_lease *lease = modal_lease_pin(&s, p->provider_lease_id);
	int rc = 0;

	end(&s, lease);
	/* Where the host wants proof that nothing goes on running, only the sandbox's own end is one: there is no pause. */
	if (always || !s.config.reuse_lease || p->cancel_active_work) {
		rc = modal_sandbox_terminate(&s, lease, lease->id, RELEASE_MS, err);
		if (rc == 0 && p->cancel_active_work)
			*ret = LEASE_DESTROYED;
	}
	modal_lease_unpin(&s, lease);
	return rc;
}

int modal_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* always= */ false, ret, err);
}

int modal_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* always= */ true, ret, err);
}

/* --- realize --- */

static char *workspace_path(const struct realize_params *p)
{
	char *path = js_trimmed(json_object_get(p->lease.metadata, "remoteCwd"));

	if (path)
		return path;
	if (p->remote_path || p->local_path)
		return xstrdup(p->remote_path ? p->remote_path : p->local_path);
	struct modal_config c;

	modal_config_parse(p->base.config, &c);
	path = steal(&c.workdir);
	modal_config_deinit(&c);
	return path;
}

static int realize(struct op *op, const struct realize_params *p, const char *path, struct err *err)
{
	cleanup_modal_session struct modal_session s = {0};
	bool gone;

	if (modal_session_open(&s, op, &p->base, err) < 0)
		return -1;
	struct modal_lease *lease = modal_lease_pin(&s, p->lease.provider_lease_id);
	/* One that is gone is found out by the first command. */
	int rc = lease->entry.ended ? 0 : modal_make_workspace(&s, lease, path, &gone, err);

	modal_lease_unpin(&s, lease);
	return rc;
}

int modal_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_free char *path = workspace_path(p);

	if (str_nonempty(p->lease.provider_lease_id) && realize(op, p, path, err) < 0)
		return -1;
	ret->metadata = json_pack("{s:s, s:s}", "provider", "modal", "remoteCwd", path);
	ret->cwd = steal(&path);
	return 0;
}
