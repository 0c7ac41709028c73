/* wire: docker. The vtable, and the calls that need no engine. */
#include "docker.h"

#include "owner.h"

extern const char docker_driver_json[];

static void *create(struct worker *worker)
{
	struct docker_state *state = xcalloc(1, sizeof *state);

	list_init(&state->engines);
	lease_table_init(&state->leases, sizeof(struct docker_lease), NULL);
	state->owner = owner_self();
	return state;
}

static void destroy(void *arg)
{
	struct docker_state *state = arg;

	if (!state)
		return;
	list_for_each(link, &state->engines) {
		struct docker_engine *engine = container_of(link, struct docker_engine, link);

		list_remove(link);
		free(engine->place);
		free(engine);
	}
	lease_table_deinit(&state->leases);
	free(state->owner);
	free(state);
}

static int validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_docker_config struct docker_config parsed = {0};

	docker_config_parse(config, &parsed, &ret->errors);
	if (ret->errors.count == 0)
		ret->normalized = docker_config_normalized(&parsed, config);
	return 0;
}

extern const struct provider docker_provider;
const struct provider docker_provider = {
	.driver_key = "docker",
	.declaration = docker_driver_json,
	.create = create,
	.destroy = destroy,
	.validate_config = validate_config,
	.probe = docker_probe,
	.acquire_lease = docker_acquire_lease,
	.resume_lease = docker_resume_lease,
	.release_lease = docker_release_lease,
	.destroy_lease = docker_destroy_lease,
	.realize_workspace = docker_realize_workspace,
	.execute = docker_execute,
	.start_setup = docker_start_setup,
	.get_setup = docker_get_setup,
	.capture_template = docker_capture_template,
	.cancel_setup = docker_cancel_setup,
	.delete_template = docker_delete_template,
	.reap = docker_reap,
};
