#include "protocol/manifest.h"

#include "base/err.h"
#include "base/str.h"

#include <assert.h>

/* minimumHostVersion is left out: the released host calls itself 0.0.0 and would refuse the plugin. */
json_t *manifest_build(const char *version, const char *const *declarations, size_t count)
{
	json_t *drivers = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *driver = json_loads(declarations[i], 0, NULL);

		assert(driver);
		json_array_append_new(drivers, driver);
	}
	json_t *manifest = json_pack(
		"{s:s, s:i, s:s, s:s, s:s, s:s, s:[s], s:[s], s:{s:s}, s:o}", "id", "paperclip-sandbox-worker", "apiVersion", 1,
		"version", version, "displayName", "Sandbox worker", "description",
		"Every sandbox provider in one small native worker: commands of agents run in sandboxes on this "
		"machine or at a provider, with live output and nothing left behind.",
		"author", "paperclip-sandbox-worker contributors", "categories", "automation", "capabilities",
		"environment.drivers.register", "entrypoints", "worker", "./worker.cjs", "environmentDrivers", drivers);

	assert(manifest);
	return manifest;
}

static void collect_secret_keys(const json_t *schema, json_t *keys)
{
	const char *name;
	json_t *member;
	size_t i;

	json_object_foreach(json_object_get(schema, "properties"), name, member) {
		if (str_eq(json_string_value(json_object_get(member, "format")), "secret-ref"))
			json_array_append_new(keys, json_string(name));
		collect_secret_keys(member, keys);
	}
	static const char *const combiners[] = {"allOf", "anyOf", "oneOf"};
	for (size_t c = 0; c < sizeof(combiners) / sizeof(combiners[0]); c++)
		json_array_foreach(json_object_get(schema, combiners[c]), i, member)
			collect_secret_keys(member, keys);
	member = json_object_get(schema, "items");
	if (member)
		collect_secret_keys(member, keys);
}

json_t *manifest_secret_keys(const json_t *declaration)
{
	json_t *keys = json_array();

	collect_secret_keys(json_object_get(declaration, "configSchema"), keys);
	return keys;
}
