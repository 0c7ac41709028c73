#include "base/err.h"
#include "protocol/manifest.h"
#include "protocol/mask.h"
#include "tap.h"

static const char declaration[] = "{\"driverKey\":\"d\",\"configSchema\":{\"type\":\"object\",\"properties\":{"
				  "\"apiKey\":{\"type\":\"string\",\"format\":\"secret-ref\"},\"image\":{\"type\":\"string\"},"
				  "\"registry\":{\"type\":\"object\",\"properties\":{\"password\":{\"format\":\"secret-ref\"}}},"
				  "\"list\":{\"items\":{\"properties\":{\"token\":{\"format\":\"secret-ref\"}}}}},"
				  "\"anyOf\":[{\"properties\":{\"key\":{\"format\":\"secret-ref\"}}}]}}";

TEST(the_manifest_holds_each_declaration_and_no_minimum_host_version)
{
	const char *const declarations[] = {declaration, "{\"driverKey\":\"e\"}"};
	cleanup_json json_t *manifest = manifest_build("1.2.3", declarations, 2);
	const json_t *drivers = json_object_get(manifest, "environmentDrivers");

	CHECK_INT(json_array_size(drivers), 2);
	CHECK_STR(json_string_value(json_object_get(json_array_get(drivers, 1), "driverKey")), "e");
	CHECK_STR(json_string_value(json_object_get(manifest, "version")), "1.2.3");
	CHECK(!json_object_get(manifest, "minimumHostVersion"));
}

TEST(secret_keys_are_found_at_any_level_of_the_schema)
{
	cleanup_json json_t *parsed = json_loads(declaration, 0, NULL);
	cleanup_json json_t *keys = manifest_secret_keys(parsed);
	cleanup_json json_t *want = json_pack("[s, s, s, s]", "apiKey", "password", "token", "key");

	CHECK(json_equal(keys, want));
}

TEST(secrets_and_environment_values_are_masked_at_any_level)
{
	cleanup_json json_t *keys = json_pack("[s]", "apiKey");
	cleanup_json json_t *got = json_loads(
		"{\"params\":{\"config\":{\"apiKey\":\"s3cret\",\"image\":\"i\",\"env\":{\"A\":\"x\"}},"
		"\"list\":[{\"apiKey\":\"t\"}],\"apiKey\":null,\"env\":{\"TOKEN\":\"y\",\"N\":5}}}",
		0, NULL);
	cleanup_json json_t *want = json_loads(
		"{\"params\":{\"config\":{\"apiKey\":\"***\",\"image\":\"i\",\"env\":{\"A\":\"***\"}},"
		"\"list\":[{\"apiKey\":\"***\"}],\"apiKey\":null,\"env\":{\"TOKEN\":\"***\",\"N\":5}}}",
		0, NULL);

	mask_secrets(got, keys);
	CHECK(json_equal(got, want));
}

TEST_MAIN()
