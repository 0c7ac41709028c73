/* The vtable, the state's life, and what needs no lease. */
#include "local.h"

#include "base/mem.h"
#include "fs.h"
#include "log.h"

/* Of the worker's time for stopping: what is not removed by then goes at the next start. */
#define STOP_MS 2000

extern const char local_driver_json[];

static void *create(struct worker *worker)
{
	struct local_state *state = xcalloc(1, sizeof *state);

	list_init(&state->leases);
	return state;
}

static void end_at_stop(void *arg)
{
	struct local_lease *lease = arg;
	cleanup_err struct err err = ERR_INIT;
	bool keep = lease->record.reusable || lease->record.archived;

	if (local_lease_end(lease, keep, LEASE_ENDED, &err) < 0 && !err_is(&err, ERR_TIMEOUT) && !err_is(&err, ERR_CANCELLED))
		log_write(LOG_LEVEL_WARN, NULL, "local: lease " LOCAL_LEASE_SCHEME "%s cannot be removed: %s", lease->record.id,
			  err_text(&err));
	local_lease_unpin(lease);
}

static void stop(void *arg)
{
	struct local_state *state = arg;
	struct fiber_group group;
	struct fiber_scope scope;

	shield_enter(&scope, STOP_MS);
	local_keeper_stop(state);
	fiber_group_init(&group);
	list_for_each(item, &state->leases) {
		struct local_lease *lease = container_of(item, struct local_lease, link);
		lease->pins++;
		fiber_group_start(&group, end_at_stop, lease);
	}
	(void)fiber_group_join(&group, NULL);
	scope_leave(&scope);
	fs_end_background(); /* the next worker's sweep goes on with what is in the trash */
}

static void destroy(void *arg)
{
	struct local_state *state = arg;

	if (!state)
		return;
	list_for_each(item, &state->leases) {
		struct local_lease *lease = container_of(item, struct local_lease, link);
		list_remove(&lease->link);
		lease->gone = LEASE_ENDED;
		lease->pins++;
		local_lease_unpin(lease);
	}
	cgroup_site_deinit(&state->site);
	strv_deinit(&state->state_dirs);
	free(state);
}

static void health(void *arg, json_t *details)
{
	struct local_state *state = arg;
	cleanup_free char *bwrap = sandbox_find_bwrap();
	json_int_t leases = 0, running = 0;

	list_for_each(item, &state->leases) {
		struct local_lease *lease = container_of(item, struct local_lease, link);
		leases++;
		running += lease->init && init_is_alive(lease->init);
	}
	json_object_set_new(details, "leases", json_integer(leases));
	json_object_set_new(details, "runningSandboxes", json_integer(running));
	json_object_set_new(details, "bubblewrap", bwrap ? json_string(bwrap) : json_null());
}

static int validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_config struct local_config parsed = {0};

	local_config_read(config, &parsed, &ret->errors);
	ret->normalized = local_config_normalized(&parsed);
	return 0;
}

extern const struct provider local_provider;
const struct provider local_provider = {
	.driver_key = "local",
	.declaration = local_driver_json,
	.create = create,
	.stop = stop,
	.destroy = destroy,
	.health = health,
	.validate_config = validate_config,
	.probe = local_probe,
	.acquire_lease = local_acquire_lease,
	.resume_lease = local_resume_lease,
	.release_lease = local_release_lease,
	.destroy_lease = local_destroy_lease,
	.realize_workspace = local_realize_workspace,
	.execute = local_execute,
};
