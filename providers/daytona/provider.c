/* wire: daytona. The vtable, and the calls that need no service. */
#include "daytona.h"

extern const char daytona_driver_json[];

static void *create(struct worker *worker)
{
	struct daytona_state *state = xcalloc(1, sizeof *state);

	daytona_state_init(state);
	return state;
}

static void destroy(void *state)
{
	if (!state)
		return;
	daytona_state_deinit(state);
	free(state);
}

static int validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config parsed = {0};

	daytona_config_parse(config, &parsed);
	daytona_config_validate(&parsed, config, &ret->errors);
	if (ret->errors.count == 0)
		ret->normalized = daytona_config_normalized(&parsed, config);
	return 0;
}

extern const struct provider daytona_provider;
const struct provider daytona_provider = {
	.driver_key = "daytona",
	.declaration = daytona_driver_json,
	.create = create,
	.destroy = destroy,
	.validate_config = validate_config,
	.probe = daytona_probe,
	.acquire_lease = daytona_acquire_lease,
	.resume_lease = daytona_resume_lease,
	.release_lease = daytona_release_lease,
	.destroy_lease = daytona_destroy_lease,
	.realize_workspace = daytona_realize_workspace,
	.execute = daytona_execute,
	.sync_in = daytona_sync_in,
	.sync_out = daytona_sync_out,
	.start_setup = daytona_start_setup,
	.get_setup = daytona_get_setup,
	.capture_template = daytona_capture_template,
	.cancel_setup = daytona_cancel_setup,
	.delete_template = daytona_delete_template,
};
