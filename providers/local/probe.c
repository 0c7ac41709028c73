/* The probe makes a real sandbox, runs a shell in it and removes it, and tells step by step what it met. */
#include "local.h"

#include "base/mem.h"

#define UNDO_MS 10000

static void tell(json_t *diagnostics, const char *severity, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void tell(json_t *diagnostics, const char *severity, const char *code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	cleanup_free char *message = xvasprintf(format, ap);
	va_end(ap);
	json_array_append_new(diagnostics, json_pack("{s:s, s:s, s:s}", "severity", severity, "message", message, "code", code));
}

static void tell_limits(json_t *diagnostics, const struct local_config *config, const struct cgroup_site *site)
{
	cleanup_strv struct strv gaps = {0};
	struct limits_plan plan;

	if (site->kind == CGROUP_NONE)
		tell(diagnostics, "info", "limits",
		     "Limits are resource limits (rlimits): no control group (cgroup v2) is delegated to this process.");
	else
		tell(diagnostics, "info", "limits", "Limits are control groups (%s): %s%s%s.", cgroup_kind_name(site->kind),
		     site->paths[CGROUP_MEMORY] ? "memory " : "", site->paths[CGROUP_PIDS] ? "processes " : "",
		     site->paths[CGROUP_CPU] ? "processors" : "");
	limits_plan(config, site, geteuid() == 0, &plan);
	limits_describe_gaps(&plan, &gaps);
	for (size_t i = 0; i < gaps.count; i++)
		tell(diagnostics, "warning", "limits", "%s", gaps.items[i]);
}

static void tell_surroundings(json_t *diagnostics, const struct local_config *config)
{
	cleanup_free char *state_dir = local_state_dir_path(config->state_dir);

	tell(diagnostics, "info", "state", "Sandboxes keep their files in %s.", state_dir);
	tell(diagnostics, "info", "network",
	     config->host_network ? "Commands use this machine's network." : "Commands have no network but their own loopback.");
	if (geteuid() == 0)
		tell(diagnostics, "warning", "root",
		     "The worker runs as root. Commands have no privileges, but to the kernel they are still the same user; run "
		     "the "
		     "worker as an ordinary user for a stronger wall.");
}

static int try_sandbox(struct op *op, const struct probe_params *p, const struct local_config *config, char **ret_name,
		       struct err *err)
{
	struct local_state *state = op_state(op);
	cleanup_err struct err end_err = ERR_INIT;
	struct local_lease *lease;
	struct fiber_scope scope;
	char sh[] = "sh", flag[] = "-c", script[] = "exit 0";
	char *const argv[] = {sh, flag, script, NULL};

	if (local_lease_create(state, &p->base, config, -1, &lease, err) < 0)
		return -1;
	int rc = local_lease_start(state, lease, NULL, err);
	if (rc == 0 && (rc = local_run_quietly(lease, argv, err)) < 0)
		err_wrap(err, "The sandbox started, but has no working shell");
	*ret_name = local_lease_hostname(lease->record.id);
	shield_enter(&scope, UNDO_MS);
	if (local_lease_end(lease, false, LEASE_ENDED, &end_err) < 0)
		op_log(op, LOG_LEVEL_WARN, NULL, "The probe's sandbox is left: %s", err_text(&end_err));
	scope_leave(&scope);
	local_lease_unpin(lease);
	return rc;
}

static int probe_config(struct op *op, const struct probe_params *p, json_t *diagnostics, char **ret_name, struct err *err)
{
	cleanup_config struct local_config config = {0};
	cleanup_free char *bwrap = sandbox_find_bwrap();

	if (local_config_require(p->base.config, &config, err) < 0)
		return -1;
	config.reuse_lease = false;
	if (bwrap)
		tell(diagnostics, "info", "bubblewrap", "bubblewrap is installed: %s.", bwrap);
	if (try_sandbox(op, p, &config, ret_name, err) < 0)
		return -1;
	tell(diagnostics, "info", "sandbox", "A sandbox was started, a shell ran in it, and it was removed again.");
	tell_limits(diagnostics, &config, local_cgroup_site(op_state(op)));
	tell_surroundings(diagnostics, &config);
	return 0;
}

int local_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_json json_t *diagnostics = json_array();
	cleanup_err struct err e = ERR_INIT;
	cleanup_free char *name = NULL;

	ret->ok = probe_config(op, p, diagnostics, &name, &e) == 0;
	/* These are about the request, not about the machine. */
	if (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	if (ret->ok) {
		ret->summary = xasprintf("Connected to local sandbox %s.", name);
		ret->metadata = json_pack("{s:s, s:s}", "provider", LOCAL_PROVIDER_NAME, "sandboxName", name);
	} else {
		tell(diagnostics, "error", "sandbox", "%s", err_text(&e));
		ret->summary = xstrdup("Local sandbox probe failed.");
		ret->metadata = json_pack("{s:s, s:s}", "provider", LOCAL_PROVIDER_NAME, "error", err_text(&e));
	}
	ret->diagnostics = steal(&diagnostics);
	return 0;
}
