#include "providers/local/local.h"

#include "base/mem.h"
#include "tap.h"

#include <string.h>

/* The normalised config of a JSON text, or its errors joined by " | ". Owned. */
static char *judge(const char *json)
{
	cleanup_json json_t *config = json_loads(json, JSON_ALLOW_NUL, NULL);
	cleanup_config struct local_config parsed = {0};
	cleanup_strv struct strv errors = {0};
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);

	CHECK(config);
	local_config_read(config, &parsed, &errors);
	for (size_t i = 0; i < errors.count; i++)
		buf_printf(&text, "%s%s", i > 0 ? " | " : "", errors.items[i]);
	if (errors.count > 0)
		return buf_steal(&text);
	cleanup_json json_t *normalized = local_config_normalized(&parsed);
	return json_dumps(normalized, JSON_COMPACT);
}

static void check_judged(const char *file, int line, const char *json, const char *want)
{
	cleanup_free char *got = judge(json);

	tap_check_str(file, line, got, want);
}
#define CHECK_JUDGED(json, want) check_judged(__FILE__, __LINE__, json, want)

#define DEFAULTS_HEAD "{\"workdir\":\"/workspace\",\"network\":\"host\",\"binds\":[],\"env\":{}"
#define DEFAULTS_TAIL ",\"timeoutMs\":300000,\"reuseLease\":false,\"loginShell\":false}"

TEST(an_empty_config_takes_the_defaults)
{
	CHECK_JUDGED("{}", DEFAULTS_HEAD DEFAULTS_TAIL);
}

TEST(blank_and_null_values_are_defaults)
{
	CHECK_JUDGED(
		"{\"rootfs\":\" \",\"workdir\":null,\"network\":\"\",\"binds\":null,\"env\":null,\"memoryMb\":\"\",\"cpus\":null,"
		"\"timeoutMs\":\" \",\"stateDir\":\"\\t\"}",
		DEFAULTS_HEAD DEFAULTS_TAIL);
}

TEST(unknown_keys_of_the_host_are_ignored)
{
	CHECK_JUDGED("{\"streamRunLogs\":true,\"agentId\":\"a\",\"runnerIdleTimeoutMs\":5,\"sandboxId\":{},\"remoteCwd\":7}",
		     DEFAULTS_HEAD DEFAULTS_TAIL);
}

TEST(every_key_is_normalised_in_the_documented_order)
{
	CHECK_JUDGED(
		"{\"loginShell\":true,\"stateDir\":\" /a//b/ \",\"reuseLease\":true,\"timeoutMs\":\"450000.9\",\"cpuSeconds\":60,"
		"\"cpus\":\"1.5\",\"maxProcesses\":64.7,\"memoryMb\":\" 512 \",\"env\":{\"A\":\"\",\"_b9\":\" x \"},"
		"\"binds\":[{\"source\":\"/x/./y\",\"target\":\" /z \",\"writable\":true}],\"network\":\" none \","
		"\"workdir\":\"/home/agent/a\",\"rootfs\":\"/srv/root fs/\"}",
		"{\"rootfs\":\"/srv/root fs\",\"workdir\":\"/home/agent/a\",\"network\":\"none\","
		"\"binds\":[{\"source\":\"/x/y\",\"target\":\"/z\",\"writable\":true}],\"env\":{\"A\":\"\",\"_b9\":\" x \"},"
		"\"memoryMb\":512,\"maxProcesses\":64,\"cpuSeconds\":60,\"cpus\":1.5,\"timeoutMs\":450000,\"reuseLease\":true,"
		"\"stateDir\":\"/a/b\",\"loginShell\":true}");
}

TEST(normalising_a_normalised_config_changes_nothing)
{
	cleanup_free char *once = judge("{\"binds\":[\"/a:/b:rw\",\"/c\"],\"cpus\":2,\"memoryMb\":\"64\",\"stateDir\":\"/s\"}");
	cleanup_free char *twice = judge(once);

	CHECK_STR(twice, once);
}

TEST(flags_are_true_for_true_alone)
{
	CHECK_JUDGED("{\"reuseLease\":\"true\",\"loginShell\":1}", DEFAULTS_HEAD DEFAULTS_TAIL);
}

TEST(binds_may_be_strings)
{
	CHECK_JUDGED(
		"{\"binds\":[\"/a\",\"/b:/c\",\"/d:ro\",\"/e:/f:rw\",\"/g:rw\",\" /h \"]}",
		"{\"workdir\":\"/workspace\",\"network\":\"host\",\"binds\":[{\"source\":\"/a\",\"target\":\"/"
		"a\",\"writable\":false},"
		"{\"source\":\"/b\",\"target\":\"/c\",\"writable\":false},{\"source\":\"/d\",\"target\":\"/"
		"d\",\"writable\":false},"
		"{\"source\":\"/e\",\"target\":\"/f\",\"writable\":true},{\"source\":\"/g\",\"target\":\"/g\",\"writable\":true},"
		"{\"source\":\"/h\",\"target\":\"/h\",\"writable\":false}],\"env\":{}" DEFAULTS_TAIL);
}

TEST(all_errors_are_told_in_the_documented_order)
{
	CHECK_JUDGED(
		"{\"loginShell\":0,\"stateDir\":\"x\",\"timeoutMs\":0,\"cpus\":0,\"cpuSeconds\":-1,\"maxProcesses\":1,"
		"\"memoryMb\":\"big\","
		"\"env\":{\"BAD-KEY\":\"1\",\"A\":2},\"binds\":[7],\"network\":\"bridge\",\"workdir\":\"a\",\"rootfs\":[]}",
		"rootfs must be a string. | workdir must be an absolute path. | network must be \"host\" or \"none\". | "
		"binds[0] must be an object with a source, or a string. | Invalid sandbox environment variable key: BAD-KEY | "
		"env.A must be a string. | memoryMb must be a number. | maxProcesses must be between 8 and 4194304. | "
		"cpuSeconds must be between 1 and 31536000. | cpus must be between 0.01 and 1024. | "
		"timeoutMs must be between 1 and 86400000. | stateDir must be an absolute path.");
}

TEST(the_timeout_has_the_hosts_bounds)
{
	const char *error = "timeoutMs must be between 1 and 86400000.";

	CHECK_JUDGED("{\"timeoutMs\":0}", error);
	CHECK_JUDGED("{\"timeoutMs\":0.9}", error);
	CHECK_JUDGED("{\"timeoutMs\":-1}", error);
	CHECK_JUDGED("{\"timeoutMs\":86400001}", error);
	CHECK_JUDGED("{\"timeoutMs\":1.7e308}", error);
	CHECK_JUDGED("{\"timeoutMs\":\"5 minutes\"}", "timeoutMs must be a number.");
	CHECK_JUDGED("{\"timeoutMs\":\"inf\"}", "timeoutMs must be a number.");
	CHECK_JUDGED("{\"timeoutMs\":true}", "timeoutMs must be a number.");
	CHECK_JUDGED("{\"timeoutMs\":86400000.9}",
		     DEFAULTS_HEAD ",\"timeoutMs\":86400000,\"reuseLease\":false,\"loginShell\":false}");
}

TEST(paths_must_be_absolute_and_go_nowhere_else)
{
	CHECK_JUDGED("{\"rootfs\":\"/a/../b\"}", "rootfs must not contain \"..\".");
	CHECK_JUDGED("{\"rootfs\":\"//\"}", "rootfs must not be /; leave it empty to use this machine's own system directories.");
	CHECK_JUDGED("{\"stateDir\":\"~/x\"}", "stateDir must be an absolute path.");
	CHECK_JUDGED("{\"stateDir\":\"/a\\u0000b\"}", "stateDir must not contain a null character.");
	CHECK_JUDGED("{\"workdir\":\"/..\"}", "workdir must not contain \"..\".");
	CHECK_JUDGED("{\"workdir\":\"/a..b/.c\"}",
		     "{\"workdir\":\"/a..b/.c\",\"network\":\"host\",\"binds\":[],\"env\":{}" DEFAULTS_TAIL);
}

TEST(commands_do_not_work_in_system_directories)
{
	const char *error = "workdir must not be / or /home, or lie in a system directory.";

	CHECK_JUDGED("{\"workdir\":\"/\"}", error);
	CHECK_JUDGED("{\"workdir\":\"/usr/local/work\"}", error);
	CHECK_JUDGED("{\"workdir\":\"/etc\"}", error);
	CHECK_JUDGED("{\"workdir\":\"/proc/1\"}", error);
	CHECK_JUDGED("{\"workdir\":\"/home\"}", error);
	CHECK_JUDGED("{\"workdir\":\"/usrlocal\"}",
		     "{\"workdir\":\"/usrlocal\",\"network\":\"host\",\"binds\":[],\"env\":{}" DEFAULTS_TAIL);
	CHECK_JUDGED("{\"workdir\":\"/usr/src/x\",\"binds\":[\"/y:/usr/src:rw\"]}",
		     "{\"workdir\":\"/usr/src/x\",\"network\":\"host\",\"binds\":[{\"source\":\"/y\",\"target\":\"/usr/"
		     "src\",\"writable\":true}],"
		     "\"env\":{}" DEFAULTS_TAIL);
}

TEST(wrong_binds_are_named_by_their_place)
{
	CHECK_JUDGED("{\"binds\":\"/a\"}", "binds must be a list.");
	CHECK_JUDGED("{\"binds\":[{}]}", "binds[0].source is required.");
	CHECK_JUDGED("{\"binds\":[\"\"]}", "binds[0].source is required.");
	CHECK_JUDGED("{\"binds\":[\":/b\"]}", "binds[0].source is required.");
	CHECK_JUDGED("{\"binds\":[\"a:/b\"]}", "binds[0].source must be an absolute path.");
	CHECK_JUDGED("{\"binds\":[\"/a:b\"]}", "binds[0].target must be an absolute path.");
	CHECK_JUDGED("{\"binds\":[\"/a\",{\"source\":\"/a\",\"target\":\"/x/../y\"}]}",
		     "binds[1].target must not contain \"..\".");
	CHECK_JUDGED("{\"binds\":[{\"source\":3,\"target\":\"/x\"}]}", "binds[0].source must be a string.");
	CHECK_JUDGED("{\"binds\":[\"/a:/\"]}", "binds[0].target must not be / or lie in /proc, /dev or /sys.");
	CHECK_JUDGED("{\"binds\":[\"/:/host\"]}", "binds[0].source must not be /.");
	CHECK_JUDGED("{\"binds\":[\"/a:/dev/sda\"]}", "binds[0].target must not be / or lie in /proc, /dev or /sys.");
	CHECK_JUDGED("{\"binds\":[\"/a:/x\",\"/b:/x/\"]}", "binds[1].target is used twice: /x.");
}

TEST(too_many_binds_are_refused)
{
	cleanup_json json_t *config = json_pack("{s:[]}", "binds");

	for (int i = 0; i < 129; i++)
		json_array_append_new(json_object_get(config, "binds"), json_sprintf("/a/%d", i));
	cleanup_free char *text = json_dumps(config, 0);
	CHECK_JUDGED(text, "binds must have at most 128 entries.");
}

TEST(env_keys_and_values_are_checked)
{
	CHECK_JUDGED("{\"env\":[]}", "env must be an object of strings.");
	CHECK_JUDGED("{\"env\":{\"\":\"x\"}}", "Invalid sandbox environment variable key: ");
	CHECK_JUDGED("{\"env\":{\"1A\":\"x\"}}", "Invalid sandbox environment variable key: 1A");
	CHECK_JUDGED("{\"env\":{\"A=B\":\"x\"}}", "Invalid sandbox environment variable key: A=B");
	CHECK_JUDGED("{\"env\":{\"\xc3\xa9\":\"x\"}}", "Invalid sandbox environment variable key: \xc3\xa9");
	CHECK_JUDGED("{\"env\":{\"A\":\"x\\u0000y\"}}", "env.A must not contain a null character.");
	CHECK_JUDGED("{\"env\":{\"A\":null}}", "env.A must be a string.");
}

TEST(a_wrong_network_is_none_where_errors_are_not_asked)
{
	cleanup_json json_t *config = json_pack("{s:s}", "network", "hots");
	cleanup_config struct local_config parsed = {0};
	cleanup_strv struct strv errors = {0};

	local_config_read(config, &parsed, &errors);
	CHECK(!parsed.host_network);
}

TEST(a_shape_reads_back_as_itself_and_holds_no_environment)
{
	cleanup_json json_t *config = json_loads("{\"env\":{\"TOKEN\":\"secret\"},\"network\":\"none\",\"memoryMb\":64,\"binds\":"
						 "[\"/a:/b:rw\"],\"workdir\":\"/w\"}",
						 0, NULL);
	cleanup_config struct local_config first = {0};
	cleanup_config struct local_config second = {0};
	cleanup_strv struct strv errors = {0};

	local_config_read(config, &first, &errors);
	cleanup_json json_t *shape = local_config_shape(&first);
	local_config_read(shape, &second, &errors);
	cleanup_json json_t *again = local_config_shape(&second);
	CHECK(json_equal(shape, again));
	CHECK(!json_object_get(shape, "env"));
	CHECK_INT(errors.count, 0);
}

TEST(the_declaration_is_what_the_manifest_allows_and_knows_all_keys)
{
	extern const char local_driver_json[];
	static const char *const allowed[] = {"driverKey",          "kind",         "displayName",
					      "description",        "configSchema", "supportsReusableLeases",
					      "sandboxCapabilities"};
	cleanup_json json_t *driver = json_loads(local_driver_json, 0, NULL);
	cleanup_config struct local_config parsed = {0};
	cleanup_strv struct strv errors = {0};
	const char *key;
	json_t *value;

	json_object_foreach(driver, key, value) {
		bool known = false;
		for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
			known = known || strcmp(key, allowed[i]) == 0;
		if (!known)
			tap_fail(__FILE__, __LINE__, "unknown driver key %s", key);
	}
	CHECK(json_string_length(json_object_get(driver, "displayName")) <= 100);
	CHECK(json_string_length(json_object_get(driver, "description")) <= 500);
	json_t *properties = json_object_get(json_object_get(driver, "configSchema"), "properties");
	cleanup_json json_t *full = json_loads(
		"{\"rootfs\":\"/r\",\"memoryMb\":64,\"maxProcesses\":64,\"cpuSeconds\":1,\"cpus\":1,\"stateDir\":\"/s\"}", 0,
		NULL);
	local_config_read(full, &parsed, &errors);
	cleanup_json json_t *normalized = local_config_normalized(&parsed);
	CHECK_INT(json_object_size(normalized), json_object_size(properties));
	json_object_foreach(properties, key, value) {
		if (!json_object_get(normalized, key))
			tap_fail(__FILE__, __LINE__, "the schema's %s is not read", key);
		CHECK(json_is_string(json_object_get(value, "title")) && json_is_string(json_object_get(value, "description")));
	}
}

TEST(the_declared_defaults_are_the_real_ones)
{
	extern const char local_driver_json[];
	cleanup_json json_t *driver = json_loads(local_driver_json, 0, NULL);
	cleanup_json json_t *nothing = json_object();
	cleanup_config struct local_config parsed = {0};
	cleanup_strv struct strv errors = {0};
	const char *key;
	json_t *value;

	local_config_read(nothing, &parsed, &errors);
	cleanup_json json_t *normalized = local_config_normalized(&parsed);
	json_object_foreach(json_object_get(json_object_get(driver, "configSchema"), "properties"), key, value) {
		json_t *declared = json_object_get(value, "default");
		if (declared && !json_equal(declared, json_object_get(normalized, key)))
			tap_fail(__FILE__, __LINE__, "the default of %s is another one", key);
	}
}

TEST(lease_ids_from_outside_are_taken_only_if_they_are_ours)
{
	static const char *const bad[] = {"",
					  "local://",
					  "local://../../etc",
					  "local:///etc/passwd",
					  "sandbox://0123456789abcdef0123456789abcdef",
					  "local://0123456789abcdef0123456789abcde",
					  "local://0123456789abcdef0123456789abcdeff",
					  "local://0123456789ABCDEF0123456789abcdef",
					  "local://0123456789abcdef0123456789abcde/",
					  "0123456789abcdef0123456789abcdef",
					  "LOCAL://0123456789abcdef0123456789abcdef"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK(!lease_id_parse(bad[i]));
	CHECK(!lease_id_parse(NULL));
	CHECK_STR(lease_id_parse("local://0123456789abcdef0123456789abcdef"), "0123456789abcdef0123456789abcdef");
}

TEST_MAIN()
