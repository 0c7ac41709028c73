#include "base/err.h"
#include "protocol/host_time.h"
#include "tap.h"

static int64_t timeout(enum host_timeout rule, const char *params)
{
	cleanup_json json_t *object = json_loads(params, 0, NULL);

	CHECK(object);
	return host_timeout_ms(rule, object);
}

TEST(the_hosts_timeouts_are_those_of_the_contract)
{
	CHECK_INT(timeout(HOST_TIMEOUT_DEFAULT, "{}"), 30000);
	CHECK_INT(timeout(HOST_TIMEOUT_PROBE, "{\"config\":{\"timeoutMs\":5}}"), 120000);
	CHECK_INT(timeout(HOST_TIMEOUT_CONFIG, "{\"config\":{\"timeoutMs\":1234}}"), 31234);
	CHECK_INT(timeout(HOST_TIMEOUT_CONFIG, "{\"config\":{\"timeoutMs\":1234,\"bridgeRequestTimeoutMs\":40000}}"), 70000);
	CHECK_INT(timeout(HOST_TIMEOUT_CONFIG, "{\"config\":{\"timeoutMs\":\"x\"}}"), 30000);
	CHECK_INT(timeout(HOST_TIMEOUT_CONFIG, "{}"), 30000);
	CHECK_INT(timeout(HOST_TIMEOUT_RESUME, "{\"config\":{\"timeoutMs\":1234}}"), 31234);
	CHECK_INT(timeout(HOST_TIMEOUT_RESUME, "{\"config\":{\"timeoutMs\":300000}}"), 60000);
	CHECK_INT(timeout(HOST_TIMEOUT_EXECUTE, "{\"timeoutMs\":1000,\"config\":{\"timeoutMs\":5000}}"), 31000);
	CHECK_INT(timeout(HOST_TIMEOUT_EXECUTE, "{\"timeoutMs\":1000.9}"), 31000);
	CHECK_INT(timeout(HOST_TIMEOUT_EXECUTE, "{\"timeoutMs\":0,\"config\":{\"timeoutMs\":5000}}"), 35000);
	CHECK_INT(timeout(HOST_TIMEOUT_EXECUTE, "{\"timeoutMs\":-5}"), 30000);
	CHECK_INT(timeout(HOST_TIMEOUT_EXECUTE, "{\"timeoutMs\":1e18}"), 2147483647);
	CHECK_INT(timeout(HOST_TIMEOUT_SETUP, "{\"timeoutMs\":1,\"config\":{\"timeoutMs\":5000}}"), 35000);
	CHECK_INT(host_timeout_ms(HOST_TIMEOUT_EXECUTE, NULL), 30000);
}

TEST(the_workers_own_deadline_is_a_little_earlier)
{
	CHECK_INT(host_deadline_ms(HOST_TIMEOUT_DEFAULT, NULL), 29000);
	CHECK_INT(host_deadline_ms(HOST_TIMEOUT_PROBE, NULL), 119000);
}

TEST(times_are_parsed_and_printed_as_iso_8601)
{
	char buffer[ISO_TIME_BYTES];

	CHECK_INT(iso_time_parse("1970-01-01T00:00:01.250Z"), 1250);
	CHECK_INT(iso_time_parse("2030-01-01T00:00:00Z"), 1893456000000);
	CHECK_INT(iso_time_parse("2030-01-01T02:00:00.000+02:00"), 1893456000000);
	CHECK_INT(iso_time_parse("2029-12-31T19:30:00-04:30"), 1893456000000);
	CHECK_INT(iso_time_parse("2030-01-01T00:00:00.123456789Z"), 1893456000123);
	CHECK_STR(iso_time_format(1893456000123, buffer), "2030-01-01T00:00:00.123Z");
	static const char *const bad[] = {
		"", "soon", "2030-13-01T00:00:00Z", "2030-01-01", "2030-01-01T00:00:00Zx", "2030-01-01T00:00:00+2"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_INT(iso_time_parse(bad[i]), -1);
}

TEST_MAIN()
