/* What happens to calls when their connections end, and how many of these there are. */
#include "grpc_test.h"

/* One call that the service lets down the first time, over a connection that was used before. */
static int let_down(const char *method, bool idempotent, struct grpc_answer *answer, struct err *err)
{
	struct grpc_call first = {0}, call = {.idempotent = idempotent};
	cleanup_grpc_answer struct grpc_answer warm = {0};

	CHECK_INT(call_with("h2", "echo", "", &first, &warm, NULL), 0);
	return call_with("h2", method, "", &call, answer, err);
}

static int times(const char *method)
{
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};

	CHECK_INT(call_with("h2", "count", method, &call, &answer, NULL), 0);
	return (int)strtol(answer.message.data, NULL, 10);
}

HTTP_TEST(what_may_be_done_twice_is_sent_again_when_its_connection_ends)
{
	static const char *const methods[] = {"drop/twice", "unseen/twice", "seen/twice"};

	for (size_t i = 0; has_http2() && i < 3; i++) {
		cleanup_grpc_answer struct grpc_answer answer = {0};

		CHECK_INT(let_down(methods[i], /* idempotent= */ true, &answer, NULL), 0);
		CHECK_INT(times(methods[i]), 2);
	}
}

HTTP_TEST(what_may_not_be_done_twice_is_unavailable_when_its_connection_ends)
{
	static const char *const methods[] = {"drop/once", "seen/once"};

	for (size_t i = 0; has_http2() && i < 2; i++) {
		cleanup_grpc_answer struct grpc_answer answer = {0};
		cleanup_err struct err err = ERR_INIT;

		CHECK_INT(let_down(methods[i], /* idempotent= */ false, &answer, &err), -1);
		CHECK_INT(answer.status, GRPC_UNAVAILABLE);
		CHECK(answer.sent && !answer.told);
		CHECK(strstr(err_text(&err), "UNAVAILABLE: network error: "));
		CHECK_INT(times(methods[i]), 1);
	}
}

struct many {
	const char *method;
	int ok;
};

static void call_one(void *arg)
{
	struct many *many = arg;
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};
	cleanup_err struct err err = ERR_INIT;

	if (call_with("h2", many->method, "x", &call, &answer, &err) == 0)
		many->ok++;
	else
		CHECK_STR(err_text(&err), "");
}

static void call_many(struct many *many, int n)
{
	struct fiber_group group;

	fiber_group_init(&group);
	for (int i = 0; i < n; i++)
		fiber_group_start(&group, call_one, many);
	fiber_group_join(&group, NULL);
}

HTTP_TEST(many_calls_share_few_connections)
{
	struct many many = {.method = "echo"};

	if (!has_http2())
		return;
	call_many(&many, 300);
	CHECK_INT(many.ok, 300);
	CHECK(http_client_stats(client).connections <= 12);
}

HTTP_TEST(a_service_that_goes_away_is_called_again_on_another_connection)
{
	for (int i = 0; has_http2() && i < 3; i++) {
		struct grpc_call call = {0};
		cleanup_grpc_answer struct grpc_answer answer = {0};

		CHECK_INT(call_with("h2", "leave", "", &call, &answer, NULL), 0);
		CHECK_STR(answer.message.data, "leave");
	}
	CHECK(!has_http2() || times("leave") == 3);
}

/* --- backpressure --- */

struct slow {
	struct event go;
	unsigned count;
	size_t bytes;
	int rc;
};

static int on_message(void *arg, const char *message, size_t len, struct err *err)
{
	struct slow *slow = arg;

	slow->bytes += len;
	return slow->count++ == 0 ? event_wait(&slow->go, err) : 0;
}

static void read_flood(void *arg)
{
	struct slow *slow = arg;
	struct grpc_call call = {.on_message = on_message, .arg = slow};
	cleanup_grpc_answer struct grpc_answer answer = {0};

	slow->rc = call_with("h2", "flood", "", &call, &answer, NULL);
}

static long long flooded(void)
{
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};

	CHECK_INT(call_with("h2", "flooded", "", &call, &answer, NULL), 0);
	return strtoll(answer.message.data, NULL, 10);
}

HTTP_TEST(a_consumer_that_waits_stops_the_service_and_no_other_call)
{
	struct slow slow = {.rc = -1};
	struct fiber_group group;
	long long before = -1, now = 0;

	if (!has_http2())
		return;
	fiber_group_init(&group);
	fiber_group_start(&group, read_flood, &slow);
	while (slow.count == 0 || now != before) {
		before = now;
		fiber_sleep(100, NULL);
		now = flooded();
	}
	CHECK_INT(slow.count, 1);
	CHECK(now < 40 << 20);
	event_set(&slow.go);
	fiber_group_join(&group, NULL);
	CHECK_INT(slow.rc, 0);
	CHECK(slow.bytes >= 60 << 20);
}

TEST_MAIN()
