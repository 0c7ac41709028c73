/* wire: ssh. The vtable, the state's life, and what needs no connection. */
#include "ssh.h"

#include "owner.h"

/* Of the worker's time for stopping. */
#define STOP_MS 3000

extern const char ssh_driver_json[];

static void *create(struct worker *worker)
{
	struct ssh_state *state = xcalloc(1, sizeof *state);

	state->worker = worker;
	state->owner = owner_self();
	ssh_dir_init(&state->dir);
	list_init(&state->accounts);
	lease_table_init(&state->leases, sizeof(struct lease_entry), NULL);
	return state;
}

static void stop(void *arg)
{
	struct ssh_state *state = arg;
	struct fiber_scope scope;

	state->stopping = true;
	list_for_each(item, &state->accounts) {
		struct ssh_account *account = container_of(item, struct ssh_account, link);
		list_for_each(link, &account->masters) {
			struct ssh_master *master = container_of(link, struct ssh_master, link);
			if (master->fiber)
				fiber_cancel(master->fiber);
		}
	}
	shield_enter(&scope, STOP_MS);
	while (state->masters + state->sessions > 0 && event_wait(&state->stopped, NULL) == 0)
		;
	scope_leave(&scope);
}

static void destroy(void *arg)
{
	struct ssh_state *state = arg;

	if (!state)
		return;
	list_for_each(item, &state->accounts)
		ssh_account_destroy(container_of(item, struct ssh_account, link));
	ssh_dir_deinit(&state->dir);
	lease_table_deinit(&state->leases);
	free(state->owner);
	free(state);
}

static void health(void *arg, json_t *details)
{
	struct ssh_state *state = arg;

	json_object_set_new(details, "connections", json_integer(state->masters));
}

static int validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config parsed = {0};

	ssh_config_parse(config, &parsed);
	ssh_config_validate(&parsed, config, ret);
	if (ret->errors.count == 0)
		ret->normalized = ssh_config_normalized(&parsed);
	return 0;
}

extern const struct provider ssh_provider;
const struct provider ssh_provider = {
	.driver_key = SSH_NAME,
	.declaration = ssh_driver_json,
	.create = create,
	.stop = stop,
	.destroy = destroy,
	.health = health,
	.validate_config = validate_config,
	.probe = ssh_probe,
	.acquire_lease = ssh_acquire_lease,
	.resume_lease = ssh_resume_lease,
	.release_lease = ssh_release_lease,
	.destroy_lease = ssh_destroy_lease,
	.realize_workspace = ssh_realize_workspace,
	.execute = ssh_execute,
	.reap = ssh_reap,
};
