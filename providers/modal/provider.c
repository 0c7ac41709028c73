/* wire: modal. The vtable, and the calls that need no service. */
#include "modal.h"

extern const char modal_driver_json[];

static void *create(struct worker *worker)
{
	struct modal_state *state = xcalloc(1, sizeof(*state));

	lease_table_init(&state->accounts, sizeof(struct modal_account), modal_account_deinit);
	lease_table_init(&state->leases, sizeof(struct modal_lease), modal_lease_deinit);
	return state;
}

static void destroy(void *data)
{
	struct modal_state *state = data;

	if (!state)
		return;
	lease_table_deinit(&state->leases);
	lease_table_deinit(&state->accounts);
	free(state);
}

static int validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_modal_config struct modal_config parsed = {0};

	modal_config_parse(config, &parsed);
	modal_config_validate(&parsed, config, &ret->errors);
	if (ret->errors.count == 0)
		ret->normalized = modal_config_normalized(&parsed, config);
	return 0;
}

extern const struct provider modal_provider;
const struct provider modal_provider = {
	.driver_key = "modal",
	.declaration = modal_driver_json,
	.create = create,
	.destroy = destroy,
	.validate_config = validate_config,
	.probe = modal_probe,
	.acquire_lease = modal_acquire_lease,
	.resume_lease = modal_resume_lease,
	.release_lease = modal_release_lease,
	.destroy_lease = modal_destroy_lease,
	.realize_workspace = modal_realize_workspace,
	.execute = modal_execute,
};
