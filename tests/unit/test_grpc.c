#include "grpc_test.h"

static void check_call_fails(const char *method, int64_t timeout_ms, enum grpc_status status, const char *text)
{
	struct grpc_call call = {.timeout_ms = timeout_ms};
	cleanup_grpc_answer struct grpc_answer answer = {0};
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(call_with("h2c", method, "hi", &call, &answer, &err), -1);
	CHECK_INT(answer.status, status);
	CHECK_INT(err.kind, grpc_status_kind(status));
	if (!strstr(err_text(&err), text))
		CHECK_STR(err_text(&err), text);
}

HTTP_TEST(a_message_goes_there_and_one_comes_back)
{
	static const char *const servers[] = {"h2c", "h2"};

	for (size_t i = 0; has_http2() && i < 2; i++) {
		static const struct http_header metadata[] = {{"x-one", "1"}, {"x-none", NULL}, {NULL, NULL}};
		struct grpc_call call = {.metadata = metadata, .timeout_ms = 60000};
		cleanup_grpc_answer struct grpc_answer answer = {0};

		CHECK_INT(call_with(servers[i], "echo", "hi there", &call, &answer, NULL), 0);
		CHECK_STR(answer.message.data, "hi there|application/grpc|trailers|60000m|1");
		CHECK(answer.status == GRPC_OK && answer.sent);
	}
}

HTTP_TEST(every_way_to_fail_has_its_status_and_its_text)
{
	if (!has_http2())
		return;
	check_call_fails("status-5", 0, GRPC_NOT_FOUND, "/grpc.Stub/status-5 NOT_FOUND: nö: 5%");
	check_call_fails("trailers-only-16", 0, GRPC_UNAUTHENTICATED, "/grpc.Stub/trailers-only-16 UNAUTHENTICATED: nö: 5%");
	check_call_fails("status-99", 0, GRPC_UNKNOWN, "UNKNOWN: nö: 5%");
	check_call_fails("http-503", 0, GRPC_UNAVAILABLE, "UNAVAILABLE: Received HTTP status code 503");
	check_call_fails("http-404", 0, GRPC_UNIMPLEMENTED, "UNIMPLEMENTED: Received HTTP status code 404");
	check_call_fails("rst-8", 0, GRPC_CANCELLED, "CANCELLED: ");
	check_call_fails("rst-2", 0, GRPC_INTERNAL, "INTERNAL: ");
	check_call_fails("rst-11", 0, GRPC_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED: ");
	check_call_fails("nothing", 0, GRPC_INTERNAL, "INTERNAL: the answer ended without a status");
	check_call_fails("empty", 0, GRPC_UNIMPLEMENTED, "UNIMPLEMENTED: No message received");
	check_call_fails("half", 0, GRPC_INTERNAL, "INTERNAL: the stream ended in the middle of a message");
	check_call_fails("twice", 0, GRPC_INTERNAL, "INTERNAL: the answer holds more than one message");
	check_call_fails("compressed", 0, GRPC_INTERNAL, "compressed");
	check_call_fails("close", 0, GRPC_UNAVAILABLE, "UNAVAILABLE: network error: ");
	check_call_fails("stall", 100, GRPC_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED: no complete answer from 127.0.0.1:");
}

HTTP_TEST(a_whole_message_is_an_answer_though_its_status_was_lost)
{
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};

	if (!has_http2())
		return;
	CHECK_INT(call_with("h2c", "no-status", "", &call, &answer, NULL), 0);
	CHECK_STR(answer.message.data, "x");
	CHECK(answer.status == GRPC_OK && !answer.told);
}

HTTP_TEST(details_come_with_a_refusal)
{
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};

	if (!has_http2())
		return;
	CHECK_INT(call_with("h2c", "details", "", &call, &answer, NULL), -1);
	CHECK(answer.told);
	CHECK_MEM(answer.details.data, answer.details.len, "\x08\x08", 2);
}

HTTP_TEST(a_service_that_cannot_be_reached_is_unavailable)
{
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(call_with("refused", "echo", "", &call, &answer, &err), -1);
	CHECK(answer.status == GRPC_UNAVAILABLE && !answer.sent && !answer.told && err_is(&err, ERR_TRANSPORT));
	CHECK(strstr(err_text(&err), "UNAVAILABLE: network error: connect ECONNREFUSED"));
}

/* --- streams --- */

struct consumer {
	unsigned count, enough_at, fail_at;
	size_t bytes;
};

static int on_message(void *arg, const char *message, size_t len, struct err *err)
{
	struct consumer *c = arg;

	c->count++;
	c->bytes += len;
	if (c->fail_at == c->count)
		return err_set(err, ERR_REMOTE, "the consumer has failed");
	return c->enough_at == c->count;
}

static int stream(const char *method, struct consumer *c, enum grpc_status *ret, struct err *err)
{
	struct grpc_call call = {.on_message = on_message, .arg = c};
	cleanup_grpc_answer struct grpc_answer answer = {0};
	int rc = call_with("h2c", method, "", &call, &answer, err);

	*ret = answer.status;
	return rc;
}

HTTP_TEST(a_stream_of_messages_comes_one_by_one)
{
	struct consumer all = {0}, some = {.enough_at = 3}, failing = {.fail_at = 2}, none = {0};
	cleanup_err struct err err = ERR_INIT;
	enum grpc_status status;

	if (!has_http2())
		return;
	CHECK_INT(stream("stream", &all, &status, NULL), 0);
	CHECK(all.count == 1000 && all.bytes == 1000 * 1000);
	CHECK_INT(stream("stream", &some, &status, NULL), 0);
	CHECK_INT(some.count, 3);
	CHECK_INT(stream("stream", &failing, &status, &err), -1);
	CHECK_STR(err_text(&err), "the consumer has failed");
	CHECK_INT(status, GRPC_OK);
	CHECK_INT(stream("empty", &none, &status, NULL), 0);
	CHECK_INT(none.count, 0);
}

HTTP_TEST(a_stream_that_breaks_gives_what_came_before)
{
	static const char *const methods[] = {"stream-rst", "stream-half", "stream-no-status", "stream-status"};
	static const enum grpc_status statuses[] = {GRPC_INTERNAL, GRPC_INTERNAL, GRPC_INTERNAL, GRPC_UNAVAILABLE};

	for (size_t i = 0; has_http2() && i < 4; i++) {
		struct consumer c = {0};
		cleanup_err struct err err = ERR_INIT;
		enum grpc_status status;

		CHECK_INT(stream(methods[i], &c, &status, &err), -1);
		CHECK_INT(status, statuses[i]);
		CHECK_INT(c.count, 2);
	}
}

static void cancel_soon(void *arg)
{
	struct consumer c = {0};
	enum grpc_status status;
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(stream("stall", &c, &status, &err), -1);
	CHECK(err_is(&err, ERR_CANCELLED) && status == GRPC_OK);
	(void)arg;
}

HTTP_TEST(the_fibers_own_deadline_is_none_of_the_services)
{
	struct grpc_call call = {.timeout_ms = 60000};
	cleanup_grpc_answer struct grpc_answer answer = {0};
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;

	if (!has_http2())
		return;
	deadline_enter(&scope, 100);
	CHECK_INT(call_with("h2c", "stall", "", &call, &answer, &err), -1);
	scope_leave(&scope);
	CHECK(err_is(&err, ERR_TIMEOUT) && answer.status == GRPC_OK && answer.sent);
}

HTTP_TEST(a_cancelled_call_ends_at_once)
{
	struct fiber_group group;

	if (!has_http2())
		return;
	fiber_group_init(&group);
	fiber_group_start(&group, cancel_soon, NULL);
	fiber_sleep(50, NULL);
	fiber_group_cancel(&group);
	fiber_group_join(&group, NULL);
}

TEST_MAIN()
