/* Leases as the host sees them (host contract, "Config, secrets, leases"). */
#include "local.h"

#include "base/mem.h"
#include "protocol/host_time.h"

#include <string.h>

#define UNDO_MS 10000
#define MKDIR_MS 30000

static json_t *lease_metadata(const struct local_lease *lease, const struct local_config *config, bool resumed)
{
	cleanup_free char *name = local_lease_hostname(lease->record.id);
	json_t *metadata = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b}", "provider", LOCAL_PROVIDER_NAME, "shellCommand",
				     sandbox_shell(&lease->config, ""), "sandboxId", lease->record.id, "sandboxName", name,
				     "remoteCwd", lease->config.workdir, "resumedLease", resumed, "reuseLease",
				     config->reuse_lease);

	/*
	 * Where it lies, for workers that run with another environment: the host hands it back as config. Where the config says it,
	 * it is not repeated: a value that differs by a slash would keep the host from reusing the lease.
	 */
	if (!config->state_dir)
		json_object_set_new(metadata, "stateDir", json_string(lease->record.state_dir));
	return metadata;
}

static void fill_result(const struct local_lease *lease, const struct local_config *config, bool resumed,
			struct lease_result *ret)
{
	char time[ISO_TIME_BYTES];

	ret->provider_lease_id = local_lease_name(lease);
	ret->metadata = lease_metadata(lease, config, resumed);
	if (lease->record.expires_ms >= 0)
		ret->expires_at = xstrdup(iso_time_format(lease->record.expires_ms, time));
}

static void warn_of_gaps(struct op *op, const struct local_lease *lease)
{
	struct local_state *state = op_state(op);
	cleanup_strv struct strv gaps = {0};
	struct limits_plan plan;

	limits_plan(&lease->config, local_cgroup_site(state), geteuid() == 0, &plan);
	limits_describe_gaps(&plan, &gaps);
	for (size_t i = 0; i < gaps.count; i++)
		op_log(op, LOG_LEVEL_WARN, json_pack("{s:s}", "driver", LOCAL_PROVIDER_NAME), "Local sandbox: %s", gaps.items[i]);
}

/* The lease is of no use to anybody: nothing of it is left, or the log says what. */
static void undo(struct op *op, struct local_lease *lease)
{
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;

	shield_enter(&scope, UNDO_MS);
	if (local_lease_end(lease, false, LEASE_ENDED, &err) < 0)
		op_log(op, LOG_LEVEL_WARN, NULL, "Local sandbox lease " LOCAL_LEASE_SCHEME "%s is left: %s", lease->record.id,
		       err_text(&err));
	scope_leave(&scope);
}

int local_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	struct local_state *state = op_state(op);
	cleanup_config struct local_config config = {0};
	struct local_lease *lease;
	int64_t expires_ms = p->requested_expires_unix_ms;

	if (local_config_require(p->base.config, &config, err) < 0)
		return -1;
	if (expires_ms >= 0 && expires_ms <= local_now_ms())
		return err_set(err, ERR_INVALID, "requestedExpiresAt %s is in the past.", p->requested_expires_at);
	if (local_lease_create(state, &p->base, &config, expires_ms, &lease, err) < 0)
		return -1;
	int rc = local_lease_start(state, lease, NULL, err);
	if (rc < 0) {
		undo(op, lease);
	} else {
		warn_of_gaps(op, lease);
		fill_result(lease, &config, false, ret);
	}
	local_lease_unpin(lease);
	return rc;
}

int local_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	struct local_state *state = op_state(op);
	cleanup_config struct local_config config = {0};
	cleanup_err struct err e = ERR_INIT;
	struct local_lease *lease;

	if (local_config_require(p->base.config, &config, err) < 0)
		return -1;
	if (!p->provider_lease_id || local_lease_pin(state, &p->base, p->provider_lease_id, &lease, &e) < 0) {
		if (p->provider_lease_id && !err_is(&e, ERR_NOT_FOUND))
			return err_move(err, &e);
		ret->metadata = json_pack("{s:b}", "expired", true);
		return 0;
	}
	int rc = local_lease_reshape(lease, &config, err);
	if (rc == 0)
		rc = local_lease_start(state, lease, NULL, err);
	if (rc == 0)
		fill_result(lease, &config, true, ret);
	local_lease_unpin(lease);
	return rc;
}

/* --- the end --- */

/* A directory that only looks like a lease is of no use to anybody either. */
static int end_unknown(const struct lease_params *p, const struct local_config *config, enum lease_end *ret, struct err *err)
{
	cleanup_free char *state_dir = NULL;

	if (lease_id_parse(p->provider_lease_id) && (local_state_dir(config->state_dir, &state_dir, err) < 0 ||
						     local_lease_remove_broken(state_dir, p->provider_lease_id, err) < 0))
		return -1;
	*ret = LEASE_DESTROYED;
	return 0;
}

static int archive(struct local_lease *lease, struct err *err)
{
	lease->record.archived = true;
	return lease_record_save(&lease->record, err);
}

static int end_lease(struct op *op, const struct lease_params *p, bool release, enum lease_end *ret, struct err *err)
{
	cleanup_config struct local_config config = {0};
	cleanup_strv struct strv ignored = {0};
	cleanup_err struct err e = ERR_INIT;
	struct local_lease *lease;

	if (!str_nonempty(p->provider_lease_id))
		return 0;
	local_config_read(p->base.config, &config, &ignored);
	if (local_lease_pin(op_state(op), &p->base, p->provider_lease_id, &lease, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? end_unknown(p, &config, ret, err) : err_move(err, &e);
	bool keep = release && (config.reuse_lease || config.archive_on_release);
	int rc = keep && !config.reuse_lease ? archive(lease, err) : 0;
	if (rc == 0)
		rc = local_lease_end(lease, keep, LEASE_ENDED, err);
	local_lease_unpin(lease);
	if (rc == 0)
		*ret = keep ? LEASE_STOPPED : LEASE_DESTROYED;
	return rc;
}

int local_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, true, ret, err);
}

int local_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, false, ret, err);
}

/* --- workspace --- */

static const char *wanted_cwd(const struct realize_params *p, const struct local_config *config)
{
	const char *remote = json_string_value(json_object_get(p->lease.metadata, "remoteCwd"));

	if (str_nonempty(remote))
		return remote;
	/* Not localPath: it is a path of the host's, which means nothing in here. */
	return str_nonempty(p->remote_path) ? p->remote_path : config->workdir;
}

static int make_cwd(struct local_state *state, struct local_lease *lease, const char *cwd, struct err *err)
{
	char make[] = "mkdir", parents[] = "-p", end[] = "--";
	cleanup_free char *path = xstrdup(cwd);
	char *const argv[] = {make, parents, end, path, NULL};
	struct fiber_scope scope;

	/* A mount point: it is there, and stays there. */
	if (sandbox_workdir_is_private(&lease->config) && strcmp(cwd, lease->config.workdir) == 0)
		return 0;
	if (local_lease_start(state, lease, NULL, err) < 0)
		return -1;
	deadline_enter(&scope, MKDIR_MS);
	int rc = local_run_quietly(lease, argv, err);
	scope_leave(&scope);
	return rc < 0 ? err_wrap(err, "The working directory %s cannot be made in the sandbox", cwd) : 0;
}

int local_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	struct local_state *state = op_state(op);
	cleanup_config struct local_config config = {0};
	cleanup_strv struct strv ignored = {0};
	struct local_lease *lease = NULL;

	local_config_read(p->base.config, &config, &ignored);
	if (p->lease.provider_lease_id && local_lease_pin(state, &p->base, p->lease.provider_lease_id, &lease, err) < 0)
		return -1;
	cleanup_free char *cwd = xstrdup(wanted_cwd(p, lease ? &lease->config : &config));
	int rc = *cwd == '/' ? 0 : err_set(err, ERR_INVALID, "The working directory must be an absolute path, not %s.", cwd);
	if (rc == 0 && lease)
		rc = make_cwd(state, lease, cwd, err);
	local_lease_unpin(lease);
	if (rc < 0)
		return -1;
	ret->metadata = json_pack("{s:s, s:s}", "provider", LOCAL_PROVIDER_NAME, "remoteCwd", cwd);
	ret->cwd = steal(&cwd);
	return 0;
}
