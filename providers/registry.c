#include "providers/registry.h"

extern const struct provider local_provider;
extern const struct provider docker_provider;
extern const struct provider ssh_provider;
extern const struct provider daytona_provider;
extern const struct provider modal_provider;
extern const struct provider cloudflare_provider;
extern const struct provider e2b_provider;
extern const struct provider novita_provider;
extern const struct provider fake_plugin_provider;

const struct provider *const provider_registry[] = {
	&local_provider,
	&docker_provider,
	&ssh_provider,
	&daytona_provider,
	&modal_provider,
	&cloudflare_provider,
	&e2b_provider,
	&novita_provider,
	&fake_plugin_provider,
	NULL,
};
