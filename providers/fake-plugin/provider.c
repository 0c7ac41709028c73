/* wire: fake-plugin. The vtable, and the calls that need no state. */
#include "fake.h"

#include "base/mem.h"
#include "log.h"

extern const char fake_plugin_driver_json[];

static void *create(struct worker *worker)
{
	struct fake_state *state = xcalloc(1, sizeof *state);

	list_init(&state->leases);
	list_init(&state->sessions);
	list_init(&state->templates);
	return state;
}

/* The host starts a worker that has died again, and so what that one left goes soon. */
static void greet(void *state)
{
	fake_sweep_start(state);
	log_write(LOG_LEVEL_INFO, NULL, "Fake sandbox provider plugin ready");
}

static void stop(void *arg)
{
	struct fake_state *state = arg;

	fake_sweep_stop(state);
	fake_lease_remove_all(state);
}

static void destroy(void *arg)
{
	struct fake_state *state = arg;

	if (!state)
		return;
	fake_lease_forget_all(state);
	fake_setup_forget_all(state);
	free(state);
}

static size_t list_length(const struct list *list)
{
	size_t n = 0;

	for (const struct list *item = list->next; item != list; item = item->next)
		n++;
	return n;
}

static void health(void *arg, json_t *details)
{
	struct fake_state *state = arg;

	json_object_set_new(details, "leases", json_integer((json_int_t)list_length(&state->leases)));
	json_object_set_new(details, "setupSessions", json_integer((json_int_t)list_length(&state->sessions)));
}

static int validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_config struct fake_config parsed = {0};

	fake_config_parse(config, &parsed);
	ret->normalized = fake_config_normalized(&parsed);
	return 0;
}

static int probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_config struct fake_config config = {0};

	fake_config_parse(p->base.config, &config);
	ret->ok = true;
	ret->summary = xasprintf("Fake sandbox provider is ready for image %s.", json_string_value(config.image));
	ret->metadata = json_pack("{s:s, s:O, s:O, s:b}", "provider", FAKE_PROVIDER_NAME, "image", config.image, "timeoutMs",
				  config.timeout, "reuseLease", config.reuse_lease);
	return 0;
}

extern const struct provider fake_plugin_provider;
const struct provider fake_plugin_provider = {
	.driver_key = "fake-plugin",
	.declaration = fake_plugin_driver_json,
	.leases_end_with_worker = true,
	.create = create,
	.stop = stop,
	.destroy = destroy,
	.greet = greet,
	.health = health,
	.validate_config = validate_config,
	.probe = probe,
	.acquire_lease = fake_acquire_lease,
	.resume_lease = fake_resume_lease,
	.release_lease = fake_release_lease,
	.destroy_lease = fake_destroy_lease,
	.realize_workspace = fake_realize_workspace,
	.execute = fake_execute,
	.start_setup = fake_start_setup,
	.get_setup = fake_get_setup,
	.capture_template = fake_capture_template,
	.cancel_setup = fake_cancel_setup,
	.delete_template = fake_delete_template,
};
