/* wire: cloudflare. The vtable, and the calls that need no bridge. */
#include "cloudflare.h"

#include "log.h"

extern const char cloudflare_driver_json[];

static void *create(struct worker *worker)
{
	struct cloudflare_state *state = xcalloc(1, sizeof *state);

	lease_table_init(&state->leases, sizeof(struct lease_entry), NULL);
	return state;
}

static void destroy(void *arg)
{
	struct cloudflare_state *state = arg;

	if (!state)
		return;
	lease_table_deinit(&state->leases);
	free(state);
}

static void greet(void *state)
{
	log_write(LOG_LEVEL_INFO, NULL, "Cloudflare sandbox provider plugin ready");
}

static int validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_cloudflare_config struct cloudflare_config parsed = {0};

	cloudflare_config_parse(config, &parsed);
	cloudflare_config_validate(&parsed, config, ret);
	if (ret->errors.count == 0)
		ret->normalized = cloudflare_config_normalized(&parsed, config);
	return 0;
}

extern const struct provider cloudflare_provider;
const struct provider cloudflare_provider = {
	.driver_key = "cloudflare",
	.declaration = cloudflare_driver_json,
	.create = create,
	.destroy = destroy,
	.greet = greet,
	.validate_config = validate_config,
	.probe = cloudflare_probe,
	.acquire_lease = cloudflare_acquire_lease,
	.resume_lease = cloudflare_resume_lease,
	.release_lease = cloudflare_release_lease,
	.destroy_lease = cloudflare_destroy_lease,
	.realize_workspace = cloudflare_realize_workspace,
	.execute = cloudflare_execute,
};
