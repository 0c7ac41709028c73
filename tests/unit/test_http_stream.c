#include "http_test.h"
#include "protocol/sse.h"

#include <stdio.h>
#include <string.h>

static int count_of(const char *key)
{
	cleanup_free char *url = stub_url("http", "/count/%s", key), *body = perform(&(struct http_request){.url = url}, NULL);

	return body ? (int)strtol(body, NULL, 10) : -1;
}

/* What a consumer does, and what it saw. */
struct consumer {
	size_t got, pieces, largest;
	size_t enough_after;  /* bytes; 0: never */
	size_t fail_after;
	int64_t wait_ms;      /* after each piece */
	enum http_take take;  /* answered by on_answer, if `decides` */
	bool decides, answered, in_order;
	struct event *hold;   /* waits for it at the first piece */
};

static int on_answer(void *arg, const struct http_response *response, enum http_take *ret, struct err *err)
{
	struct consumer *c = arg;

	CHECK(!c->answered && c->got == 0 && response->status > 0);
	c->answered = true;
	if (c->decides)
		*ret = c->take;
	return 0;
}

static int on_body(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct consumer *c = arg;

	for (size_t i = 0; i < n; i++)
		c->in_order = c->in_order && (unsigned char)bytes[i] == (c->got + i) % 256;
	c->got += n;
	c->pieces++;
	if (n > c->largest)
		c->largest = n;
	if (c->hold && event_wait(c->hold, err) < 0)
		return -1;
	c->hold = NULL;
	if (c->wait_ms && fiber_sleep(c->wait_ms, err) < 0)
		return -1;
	if (c->fail_after && c->got >= c->fail_after)
		return err_set(err, ERR_REMOTE, "the consumer has failed");
	return c->enough_after && c->got >= c->enough_after;
}

static int stream(const char *server, const char *path, struct consumer *c, struct http_response *response, struct err *err)
{
	cleanup_free char *url = stub_url(server, "%s", path);
	cleanup_json json_t *config = json_pack("{s:s}", "caFile", stub_path("ca"));
	struct http_options options;
	struct http_request request = {.method = "GET", .url = url, .options = &options, .on_answer = on_answer, .on_body = on_body, .arg = c,
				       .deadlines = {.idle_ms = 5000}};

	http_options_read(config, &options, NULL);
	c->in_order = true;
	int rc = http_perform(client, &request, response, err);

	http_options_deinit(&options);
	return rc;
}

HTTP_TEST(a_streamed_answer_comes_in_pieces_and_whole)
{
	static const char *const paths[] = {"/big/1000000", "/chunked/1000000", "/chunked/1000000?size=100000", "/big/0"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		struct consumer c = {0};
		cleanup_http_response struct http_response r = {0};

		CHECK_INT(stream("http", paths[i], &c, &r, NULL), 0);
		CHECK(r.status == 200 && r.body.len == 0 && c.answered && c.in_order);
		CHECK_INT(c.got, strcmp(paths[i], "/big/0") == 0 ? 0 : 1000000);
	}
}

HTTP_TEST(tiny_chunks_make_the_same_answer)
{
	struct consumer c = {0};
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(stream("http", "/chunked/20000?size=1", &c, &r, NULL), 0);
	CHECK(c.got == 20000 && c.in_order);
}

HTTP_TEST(a_refusal_is_collected_instead_of_streamed)
{
	struct consumer c = {0};
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(stream("http", "/status/404", &c, &r, NULL), 0);
	CHECK_INT(r.status, 404);
	CHECK_STR(r.body.data, "{\"message\": \"status 404\"}");
	CHECK(c.answered && c.got == 0);
}

HTTP_TEST(the_caller_decides_what_becomes_of_an_answer)
{
	struct consumer collects = {.decides = true, .take = HTTP_COLLECT}, streams = {.decides = true, .take = HTTP_STREAM};
	cleanup_http_response struct http_response r = {0}, s = {0};

	CHECK_INT(stream("http", "/big/100000", &collects, &r, NULL), 0);
	CHECK(r.body.len == 100000 && collects.got == 0);
	CHECK_INT(stream("http", "/status/500", &streams, &s, NULL), 0);
	CHECK(s.status == 500 && s.body.len == 0 && streams.got > 0);
}

HTTP_TEST(a_consumer_that_has_enough_ends_the_call_with_success)
{
	struct consumer c = {.enough_after = 100000};
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(stream("http", "/endless/enough", &c, &r, NULL), 0);
	CHECK(r.status == 200 && c.got >= 100000 && c.got < 400000);
}

HTTP_TEST(a_consumer_that_fails_fails_the_call_and_it_is_not_repeated)
{
	cleanup_free char *url = stub_url("http", "/endless/fails");
	struct consumer c = {.fail_after = 1};
	cleanup_http_response struct http_response r = {0};
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = url, .on_body = on_body, .arg = &c,
							      .retry.repeat = HTTP_REPEAT_IDEMPOTENT}, &r, &err), -1);
	CHECK_STR(err_text(&err), "the consumer has failed");
	CHECK(r.attempts == 1 && c.pieces == 1);
}

HTTP_TEST(a_stream_that_breaks_gives_what_came_and_an_error)
{
	static const char *const paths[] = {"/reset/body", "/close/length", "/close/chunked"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		struct consumer c = {0};
		cleanup_http_response struct http_response r = {0};
		cleanup_err struct err err = ERR_INIT;

		CHECK_INT(stream("http", paths[i], &c, &r, &err), -1);
		CHECK(err_is(&err, ERR_TRANSPORT) && r.status == 200 && r.attempts == 1);
		CHECK_INT(c.got, 10);
	}
}

/* --- backpressure --- */

static void stream_endless(void *arg)
{
	struct consumer *c = arg;
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(stream("http", "/endless/held", c, &r, NULL), 0);
}

HTTP_TEST(a_consumer_that_waits_stops_the_service)
{
	struct event go = {0};
	struct consumer c = {.hold = &go, .enough_after = 3000000};
	struct fiber_group group;
	int before = -1, now = 0;

	fiber_group_init(&group);
	fiber_group_start(&group, stream_endless, &c);
	/* Until the sockets' buffers are full, and the service stands still. */
	while (now != before || now == 0) {
		before = now;
		fiber_sleep(200, NULL);
		now = count_of("held");
	}
	CHECK_INT(c.pieces, 1);
	CHECK(now < 30000000);
	event_set(&go);
	fiber_group_join(&group, NULL);
	/* What had been read ahead comes at once, but is no more than that. */
	CHECK(c.got >= 3000000 && c.largest <= 140000);
}

HTTP_TEST(a_slow_consumer_gets_everything)
{
	struct consumer c = {.wait_ms = 2};
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(stream("http", "/big/5000000", &c, &r, NULL), 0);
	CHECK(c.got == 5000000 && c.in_order && c.largest <= 140000);
}

HTTP_TEST(a_consumers_own_wait_is_no_silence_of_the_service)
{
	cleanup_free char *url = stub_url("http", "/chunked/300000");
	struct consumer c = {.wait_ms = 300};
	cleanup_http_response struct http_response r = {0};
	struct http_request request = {.method = "GET", .url = url, .on_body = on_body, .arg = &c, .deadlines.idle_ms = 100};

	c.in_order = true;
	CHECK_INT(http_perform(client, &request, &r, NULL), 0);
	CHECK(c.got == 300000 && c.in_order);
}

HTTP_TEST(a_held_stream_is_cancelled_at_once)
{
	struct event never = {0};
	struct consumer c = {.hold = &never};
	cleanup_free char *url = stub_url("http", "/endless/cancelled");
	cleanup_http_response struct http_response r = {0};
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;

	deadline_enter(&scope, 200);
	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = url, .on_body = on_body, .arg = &c}, &r, &err), -1);
	scope_leave(&scope);
	CHECK(err_is(&err, ERR_TIMEOUT));
}

/* --- codecs on streams --- */

static int on_event(void *arg, const struct sse_event *event, struct err *err)
{
	buf_printf(arg, "%s:%s;", event->name, event->data);
	return strcmp(event->data, "{\"n\":4}") == 0 ? err_set(err, ERR_REMOTE, "complete") : 0;
}

static int feed_sse(void *arg, const char *bytes, size_t n, struct err *err)
{
	return sse_feed(arg, bytes, n, err);
}

HTTP_TEST(events_come_while_the_stream_is_open)
{
	cleanup_free char *url = stub_url("http", "/sse?n=5&ms=5&stay=1");
	cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
	cleanup_http_response struct http_response r = {0};
	cleanup_err struct err err = ERR_INIT;
	struct sse s;

	sse_init(&s, 1000, on_event, &log);
	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = url, .on_body = feed_sse, .arg = &s}, &r, &err), -1);
	CHECK_STR(err_text(&err), "complete");
	CHECK_STR(log.data, "stdout:{\"n\":0};stdout:{\"n\":1};stdout:{\"n\":2};stdout:{\"n\":3};stdout:{\"n\":4};");
	sse_deinit(&s);
}

/* --- many at once --- */

struct crowd {
	const char *server, *path;
	struct fiber_group group;
	int ok, failed;
	bool long_lived;
	struct http_options options;
};

static void call_in_crowd(void *arg)
{
	struct crowd *crowd = arg;
	cleanup_free char *url = stub_url(crowd->server, "%s", crowd->path);
	cleanup_err struct err err = ERR_INIT;
	struct http_request request = {.url = url, .options = &crowd->options, .long_lived = crowd->long_lived, .deadlines.total_ms = 120000};
	cleanup_free char *body = perform(&request, &err);

	if (!body && crowd->failed == 0)
		CHECK_STR(err_text(&err), "no error");
	*(body ? &crowd->ok : &crowd->failed) += 1;
}

static void play_crowd(struct crowd *crowd, int count)
{
	cleanup_json json_t *config = json_pack("{s:s}", "caFile", stub_path("ca"));

	http_options_read(config, &crowd->options, NULL);
	fiber_group_init(&crowd->group);
	for (int i = 0; i < count; i++)
		fiber_group_start(&crowd->group, call_in_crowd, crowd);
	fiber_group_join(&crowd->group, NULL);
	http_options_deinit(&crowd->options);
	CHECK_INT(crowd->ok, count);
	CHECK_INT(crowd->failed, 0);
}

HTTP_TEST(fifteen_hundred_calls_share_a_bounded_number_of_connections)
{
	struct crowd crowd = {.server = "http", .path = "/ok"};

	play_crowd(&crowd, 1500);
	CHECK(http_client_stats(client).open_max <= 64);
	printf("# %llu connections\n", (unsigned long long)http_client_stats(client).connections);
}

HTTP_TEST(long_calls_do_not_delay_short_ones)
{
	struct crowd slow = {.server = "http", .path = "/wait?ms=1500", .long_lived = true};
	struct crowd quick = {.server = "http", .path = "/ok"};

	fiber_group_init(&slow.group);
	for (int i = 0; i < 100; i++)
		fiber_group_start(&slow.group, call_in_crowd, &slow);
	fiber_sleep(100, NULL);
	play_crowd(&quick, 50);
	CHECK_INT(slow.ok, 0);
	fiber_group_join(&slow.group, NULL);
	CHECK_INT(slow.ok, 100);
}

/* --- HTTP/2 --- */

struct unreachable {
	int port;
	enum err_kind kind;
};

static void call_unreachable(void *arg)
{
	struct unreachable *call = arg;
	cleanup_free char *url = xasprintf("https://127.0.0.1:%d/", call->port);
	cleanup_err struct err err = ERR_INIT;

	CHECK(!perform(&(struct http_request){.url = url, .deadlines.connect_ms = 400, .retry.repeat = HTTP_REPEAT_NEVER}, &err));
	call->kind = err.kind;
}

HTTP_TEST(calls_share_a_connection_over_http2)
{
	if (!stub_port("h2")) {
		tap_skip("python3-h2 is not installed");
		return;
	}
	struct crowd crowd = {.server = "h2_wide", .path = "/ok"};

	play_crowd(&crowd, 200);
	CHECK(http_client_stats(client).connections <= 2);
}

HTTP_TEST(fifteen_hundred_calls_need_at_most_sixteen_connections_over_http2)
{
	if (!stub_port("h2")) {
		tap_skip("python3-h2 is not installed");
		return;
	}
	struct crowd crowd = {.server = "h2", .path = "/wait?ms=20"};

	play_crowd(&crowd, 1500);
	CHECK(http_client_stats(client).open_max <= 16);
	printf("# %llu connections\n", (unsigned long long)http_client_stats(client).connections);
}

HTTP_TEST(fifteen_hundred_long_calls_run_at_once_over_sixteen_connections)
{
	if (!stub_port("h2")) {
		tap_skip("python3-h2 is not installed");
		return;
	}
	struct crowd crowd = {.server = "h2", .path = "/wait?ms=3000", .long_lived = true};
	int64_t start = loop_now_ms();

	play_crowd(&crowd, 1500);
	CHECK(http_client_stats(client).open_max <= 16);
	printf("# %llu connections, %lld ms\n", (unsigned long long)http_client_stats(client).connections, (long long)(loop_now_ms() - start));
}

HTTP_TEST(calls_that_wait_for_a_connection_fail_with_the_one_that_tried)
{
	struct fiber_group group;
	struct unreachable calls[50];

	fiber_group_init(&group);
	for (int i = 0; i < 50; i++) {
		calls[i] = (struct unreachable){.port = stub_port("full")};
		fiber_group_start(&group, call_unreachable, &calls[i]);
	}
	fiber_group_join(&group, NULL);
	for (int i = 0; i < 50; i++)
		CHECK_INT(calls[i].kind, ERR_TIMEOUT);
	CHECK_INT(http_client_stats(client).connections, 1);
}

HTTP_TEST(a_cancelled_call_hands_its_turn_on)
{
	struct crowd crowd = {.server = "h2", .path = "/ok"};
	struct unreachable first = {.port = stub_port("full")}, second = first;
	struct fiber_group one, two;

	if (!stub_port("h2")) {
		tap_skip("python3-h2 is not installed");
		return;
	}
	fiber_group_init(&one);
	fiber_group_init(&two);
	fiber_group_start(&one, call_unreachable, &first);
	fiber_group_start(&two, call_unreachable, &second);
	fiber_sleep(50, NULL);
	fiber_group_cancel(&one);
	fiber_group_join(&one, NULL);
	CHECK_INT(first.kind, ERR_CANCELLED);
	fiber_group_join(&two, NULL);
	CHECK_INT(second.kind, ERR_TIMEOUT);
	CHECK_INT(http_client_stats(client).connections, 2);
	play_crowd(&crowd, 10);
}

HTTP_TEST(streams_over_http2_come_whole_and_slow_consumers_do_not_stop_short_calls)
{
	struct consumer fast = {0}, slow = {.wait_ms = 5};
	cleanup_http_response struct http_response f = {0}, s = {0};
	struct crowd quick = {.server = "h2", .path = "/ok"};

	if (!stub_port("h2")) {
		tap_skip("python3-h2 is not installed");
		return;
	}
	CHECK_INT(stream("h2", "/big/3000000", &fast, &f, NULL), 0);
	CHECK(fast.got == 3000000 && fast.in_order);
	CHECK_INT(stream("h2", "/big/2000000", &slow, &s, NULL), 0);
	CHECK(slow.got == 2000000 && slow.in_order && slow.largest <= 140000);
	play_crowd(&quick, 20);
}

struct held_stream {
	struct consumer c;
	bool done;
};

static void stream_held(void *arg)
{
	struct held_stream *held = arg;
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(stream("h2", "/big/3000000", &held->c, &r, NULL), 0);
	held->done = true;
}

HTTP_TEST(while_a_stream_over_http2_is_held_short_calls_go_on_and_other_streams_finish_after_it)
{
	struct event go = {0};
	struct held_stream held = {.c = {.hold = &go}}, other = {0};
	struct crowd quick = {.server = "h2", .path = "/ok"};
	struct fiber_group group;

	if (!stub_port("h2")) {
		tap_skip("python3-h2 is not installed");
		return;
	}
	fiber_group_init(&group);
	fiber_group_start(&group, stream_held, &held);
	while (held.c.pieces == 0)
		fiber_sleep(10, NULL);
	fiber_group_start(&group, stream_held, &other);
	play_crowd(&quick, 30);
	CHECK(!held.done);
	event_set(&go);
	fiber_group_join(&group, NULL);
	CHECK(held.done && other.done && held.c.got == 3000000 && other.c.got == 3000000 && held.c.in_order && other.c.in_order);
}

HTTP_TEST(streams_that_the_service_resets_are_errors_or_repeated)
{
	struct consumer c = {0}, again = {0}, never = {0};
	cleanup_http_response struct http_response r = {0}, refused = {0}, gone = {0};
	cleanup_err struct err err = ERR_INIT, reset = ERR_INIT, goaway = ERR_INIT;

	if (!stub_port("h2")) {
		tap_skip("python3-h2 is not installed");
		return;
	}
	CHECK_INT(stream("h2", "/rst-body", &c, &r, &err), -1);
	CHECK(err_is(&err, ERR_TRANSPORT) && r.sent);
	CHECK(strstr(err_text(&err), "ended the HTTP/2 stream"));
	CHECK_INT(stream("h2", "/refused", &again, &refused, &reset), 0);
	CHECK_INT(refused.status, 200);
	CHECK_INT(stream("h2", "/goaway", &never, &gone, &goaway), -1);
	CHECK(err_is(&goaway, ERR_TRANSPORT) && never.got == 0);
}

TEST_MAIN()
