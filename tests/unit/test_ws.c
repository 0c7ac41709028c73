#include "http_test.h"
#include "ws.h"

#include <string.h>

struct talk {
	struct ws *ws;
	struct buf log;
	const char *reply; /* sent at each message; NULL: nothing */
	size_t bytes, enough_after;
	bool in_order;
	int64_t wait_ms;
};

static int on_message(void *arg, enum websocket_opcode opcode, const char *payload, size_t len, struct err *err)
{
	struct talk *talk = arg;

	for (size_t i = 0; i < len; i++)
		talk->in_order = talk->in_order && (unsigned char)payload[i] == (talk->bytes + i) % 256;
	talk->bytes += len;
	if (len < 100)
		buf_printf(&talk->log, "<%d|%.*s>", (int)opcode, (int)len, payload);
	if (talk->wait_ms && fiber_sleep(talk->wait_ms, err) < 0)
		return -1;
	if (talk->reply && ws_send(talk->ws, WEBSOCKET_TEXT, talk->reply, strlen(talk->reply), err) < 0)
		return -1;
	talk->reply = NULL;
	return talk->enough_after && talk->bytes >= talk->enough_after;
}

static char *socket_url(const char *server, const char *query)
{
	cleanup_free char *url = stub_url(server, "/ws%s", query);

	return xasprintf("ws%s", url + strlen("http"));
}

/* Opens, sends the order, runs to the end. Returns the close code, or -1. */
static int play_order(const char *server, const char *order, struct talk *talk, struct err *err)
{
	cleanup_free char *url = socket_url(server, "?x=1");
	cleanup_json json_t *config = json_pack("{s:s}", "caFile", stub_path("ca"));
	const struct http_header headers[] = {{"Authorization", "Bearer k"}, {0}};
	cleanup_http_response struct http_response refusal = {0};
	struct http_options options;
	int code = -1;

	talk->in_order = true;
	talk->log = BUF_INIT(BUF_UNBOUNDED);
	http_options_read(config, &options, NULL);
	if (ws_open(client, &(struct ws_request){.url = url, .headers = headers, .options = &options}, &talk->ws, &refusal, err) == 0) {
		CHECK_STR(http_header(&refusal, "X-Auth"), "Bearer k");
		CHECK_INT(ws_send(talk->ws, WEBSOCKET_TEXT, order, strlen(order), err), 0);
		if (ws_run(talk->ws, on_message, talk, &code, err) < 0)
			code = -1;
		ws_close(talk->ws);
	}
	http_options_deinit(&options);
	return code;
}

static void check_log(struct talk *talk, const char *want)
{
	CHECK_STR(talk->log.data ? talk->log.data : "", want);
	buf_deinit(&talk->log);
}

HTTP_TEST(messages_go_both_ways_until_the_service_closes)
{
	struct talk talk = {.reply = "close 1000"}, tls = {.reply = "close 1000"}, bare = {0};

	CHECK_INT(play_order("http", "hello", &talk, NULL), 1000);
	check_log(&talk, "<1|hello>");
	CHECK_INT(play_order("https", "hello", &tls, NULL), 1000);
	check_log(&tls, "<1|hello>");
	CHECK_INT(play_order("http", "close 1011", &bare, NULL), 1011);
	check_log(&bare, "");
}

HTTP_TEST(pings_are_answered)
{
	struct talk talk = {.reply = "close 1000"};

	CHECK_INT(play_order("http", "ping", &talk, NULL), 1000);
	check_log(&talk, "<1|pong are you there>");
}

HTTP_TEST(fragments_are_put_together_with_pings_between_them)
{
	struct talk talk = {.reply = "close 1000"};

	CHECK_INT(play_order("https", "fragments", &talk, NULL), 1000);
	check_log(&talk, "<1|one two three>");
}

HTTP_TEST(a_lost_connection_is_not_an_end)
{
	static const char *const orders[] = {"drop", "reset"};
	static const char *const servers[] = {"http", "https"};

	for (size_t i = 0; i < 4; i++) {
		struct talk talk = {0};
		cleanup_err struct err err = ERR_INIT;

		CHECK_INT(play_order(servers[i / 2], orders[i % 2], &talk, &err), -1);
		CHECK_INT(err.kind, ERR_TRANSPORT);
		check_log(&talk, "");
	}
}

HTTP_TEST(many_bytes_come_in_order_to_a_slow_consumer)
{
	struct talk plain = {.enough_after = 3000000}, tls = {.enough_after = 1024 * 300, .wait_ms = 1};

	CHECK_INT(play_order("http", "send 3000000", &plain, NULL), 0);
	CHECK(plain.bytes == 3000000 && plain.in_order);
	check_log(&plain, "");
	CHECK_INT(play_order("https", "send 3000000", &tls, NULL), 0);
	CHECK(tls.bytes == 1024 * 300 && tls.in_order);
	check_log(&tls, "");
}

/* --- opening --- */

static struct ws *open_with(const char *server, const char *query, struct http_response *refusal, struct err *err)
{
	cleanup_free char *url = socket_url(server, query);
	struct ws *ws = NULL;

	ws_open(client, &(struct ws_request){.url = url, .answer_ms = 300}, &ws, refusal, err);
	return ws;
}

HTTP_TEST(a_refusal_is_handed_on)
{
	cleanup_http_response struct http_response refusal = {0};
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *want = xasprintf("127.0.0.1:%d refused the WebSocket with HTTP 404", stub_port("http"));

	CHECK(!open_with("http", "?how=refuse", &refusal, &err));
	CHECK(err_is(&err, ERR_REMOTE) && refusal.status == 404);
	CHECK_STR(err_text(&err), want);
	CHECK_STR(refusal.body.data, "{\"message\": \"not found: command not found\"}");
}

HTTP_TEST(services_that_do_not_agree_as_they_should_are_errors)
{
	cleanup_http_response struct http_response wrong = {0}, silent = {0}, refused = {0}, untrusted = {0}, plain = {0};
	cleanup_err struct err accept = ERR_INIT, timeout = ERR_INIT, connect = ERR_INIT, tls = ERR_INIT, clear = ERR_INIT;
	cleanup_free char *connect_text = xasprintf("connect ECONNREFUSED 127.0.0.1:%d", stub_port("refused"));
	struct ws *ws = NULL;

	CHECK(!open_with("http", "?how=wrong-accept", &wrong, &accept));
	CHECK(err_is(&accept, ERR_PROTOCOL));
	CHECK(!open_with("http", "?how=stall", &silent, &timeout));
	CHECK(err_is(&timeout, ERR_TIMEOUT) && strstr(err_text(&timeout), "within 300 ms"));
	CHECK(!open_with("refused", "", &refused, &connect));
	CHECK_STR(err_text(&connect), connect_text);
	CHECK(!refused.sent);
	CHECK(!open_with("expired", "", &untrusted, &tls));
	CHECK(err_is(&tls, ERR_TRANSPORT) && strstr(err_text(&tls), "is not trusted"));
	CHECK_INT(ws_open(client, &(struct ws_request){.url = "ws://service.example/"}, &ws, &plain, &clear), -1);
	CHECK(err_is(&clear, ERR_INVALID));
}

HTTP_TEST(a_frame_right_behind_the_consent_is_not_lost)
{
	cleanup_http_response struct http_response refusal = {0};
	struct ws *ws = open_with("http", "?how=early", &refusal, NULL);
	struct talk talk = {.ws = ws, .log = BUF_INIT(BUF_UNBOUNDED), .enough_after = 5};
	int code = -1;

	CHECK_INT(ws_run(ws, on_message, &talk, &code, NULL), 0);
	CHECK_INT(code, 0);
	check_log(&talk, "<2|early>");
	ws_close(ws);
}

HTTP_TEST(through_a_proxy)
{
	cleanup_free char *url = xasprintf("wss://service.test:%d/ws?how=refuse", stub_port("https")), *proxy = xasprintf("http://127.0.0.1:%d", stub_port("proxy"));
	cleanup_json json_t *config = json_pack("{s:s, s:s}", "caFile", stub_path("ca"), "proxyUrl", proxy);
	cleanup_http_response struct http_response refusal = {0};
	struct http_options options;
	struct ws *ws = NULL;

	http_options_read(config, &options, NULL);
	CHECK_INT(ws_open(client, &(struct ws_request){.url = url, .options = &options}, &ws, &refusal, NULL), -1);
	CHECK_INT(refusal.status, 404);
	http_options_deinit(&options);
}

/* --- waiting --- */

static struct ws *open_pinging(int64_t ping_ms)
{
	cleanup_free char *url = socket_url("http", "");
	cleanup_http_response struct http_response refusal = {0};
	struct ws *ws = NULL;

	CHECK_INT(ws_open(client, &(struct ws_request){.url = url, .ping_ms = ping_ms}, &ws, &refusal, NULL), 0);
	return ws;
}

HTTP_TEST(silence_is_met_with_pings_and_a_deadline_ends_it)
{
	struct ws *ws = open_pinging(50);
	struct talk talk = {.ws = ws, .log = BUF_INIT(BUF_UNBOUNDED)};
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;
	int code;

	/* The stub echoes a ping's payload as a frame of its own kind: it is alive, so only the deadline ends this. */
	deadline_enter(&scope, 400);
	CHECK_INT(ws_run(ws, on_message, &talk, &code, &err), -1);
	scope_leave(&scope);
	CHECK_INT(err.kind, ERR_TIMEOUT);
	CHECK(!strstr(err_text(&err), "silent"));
	ws_close(ws);
	buf_deinit(&talk.log);
}

HTTP_TEST(a_service_that_does_not_answer_a_ping_is_gone)
{
	struct ws *ws = open_pinging(100);
	struct talk talk = {.ws = ws, .log = BUF_INIT(BUF_UNBOUNDED)};
	cleanup_free char *want = xasprintf("127.0.0.1:%d has been silent for 200 ms and does not answer a ping", stub_port("http"));
	cleanup_err struct err err = ERR_INIT;
	int code;

	CHECK_INT(ws_send(ws, WEBSOCKET_TEXT, "mute", 4, NULL), 0);
	CHECK_INT(ws_run(ws, on_message, &talk, &code, &err), -1);
	CHECK_INT(err.kind, ERR_TIMEOUT);
	CHECK_STR(err_text(&err), want);
	ws_close(ws);
	buf_deinit(&talk.log);
}

static void run_until_cancelled(void *arg)
{
	struct talk *talk = arg;
	cleanup_err struct err err = ERR_INIT;
	int code;

	CHECK_INT(ws_run(talk->ws, on_message, talk, &code, &err), -1);
	CHECK_INT(err.kind, ERR_CANCELLED);
}

HTTP_TEST(a_cancelled_wait_ends_at_once)
{
	struct talk talk = {.ws = open_pinging(0), .log = BUF_INIT(BUF_UNBOUNDED)};
	struct fiber_group group;

	fiber_group_init(&group);
	fiber_group_start(&group, run_until_cancelled, &talk);
	fiber_sleep(50, NULL);
	fiber_group_cancel(&group);
	fiber_group_join(&group, NULL);
	ws_close(talk.ws);
	buf_deinit(&talk.log);
}

HTTP_TEST(other_calls_leave_an_open_socket_alone)
{
	struct talk talk = {.ws = open_pinging(0), .log = BUF_INIT(BUF_UNBOUNDED), .enough_after = 5};
	int code;

	for (int i = 0; i < 3; i++) {
		cleanup_free char *url = stub_url("http", "/ok");
		cleanup_free char *body = perform(&(struct http_request){.url = url, .long_lived = true}, NULL);

		CHECK_STR(body, "ok");
		fiber_sleep(1100, NULL); /* libcurl looks for dead connections once a second */
	}
	CHECK_INT(ws_send(talk.ws, WEBSOCKET_TEXT, "still", 5, NULL), 0);
	CHECK_INT(ws_run(talk.ws, on_message, &talk, &code, NULL), 0);
	check_log(&talk, "<1|still>");
	ws_close(talk.ws);
}

TEST_MAIN()
