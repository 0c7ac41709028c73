#include "http_duplex.h"
#include "http_test.h"

#include "input.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct talk {
	struct buf log;
	size_t bytes, enough_after;
	bool in_order;
	int opened, ticks, ticks_enough;
	int64_t wait_ms;
};

static void on_open(void *arg)
{
	struct talk *talk = arg;

	talk->opened++;
}

static int on_body(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct talk *talk = arg;

	CHECK(n > 0);
	for (size_t i = 0; i < n; i++)
		talk->in_order = talk->in_order && (unsigned char)bytes[i] == (talk->bytes + i) % 256;
	talk->bytes += n;
	if (talk->log.len < 1000)
		buf_append(&talk->log, bytes, n);
	if (talk->wait_ms && fiber_sleep(talk->wait_ms, err) < 0)
		return -1;
	return talk->enough_after && talk->bytes >= talk->enough_after;
}

static int on_tick(void *arg, struct err *err)
{
	struct talk *talk = arg;

	return ++talk->ticks == talk->ticks_enough;
}

/* How a call goes: the request with what all share. Returns the status, or -1. */
static int play(struct talk *talk, const char *url, const char *body, struct input *input, const struct http_options *options,
		struct http_response *response, struct err *err)
{
	static const struct http_header headers[] = {{"Connection", "Upgrade"}, {"Upgrade", "tcp"}, {0}};
	const struct http_duplex_request request = {
		.method = "POST",
		.url = url,
		.headers = headers,
		.body = body,
		.body_len = strlen(body),
		.input = input,
		.options = options,
		.answer_ms = 2000,
		.tick_ms = talk->ticks_enough ? 20 : 0,
		.on_open = on_open,
		.on_body = on_body,
		.on_tick = on_tick,
		.arg = talk,
	};

	talk->log = BUF_INIT(BUF_UNBOUNDED);
	talk->in_order = true;
	return http_duplex(client, &request, response, err) < 0 ? -1 : response->status;
}

static int play_how(struct talk *talk, const char *server, const char *how, struct input *input, struct err *err)
{
	cleanup_free char *url = stub_url(server, "/duplex?how=%s", how);
	struct http_options options = {.ca_file = xstrdup(stub_path("ca"))};
	cleanup_http_response struct http_response response = {0};
	int status = play(talk, url, "{}", input, &options, &response, err);

	http_options_deinit(&options);
	return status;
}

static void check_log(struct talk *talk, const char *want)
{
	CHECK_STR(talk->log.data ? talk->log.data : "", want);
	buf_deinit(&talk->log);
}

HTTP_TEST(input_goes_behind_the_body_and_its_end_is_seen)
{
	struct input hello = INPUT_FROM_TEXT("hello", 5), none = INPUT_FROM_TEXT("", 0);
	struct talk talk = {0}, empty = {0};

	CHECK_INT(play_how(&talk, "http", "echo", &hello, NULL), 101);
	CHECK_INT(talk.opened, 1);
	check_log(&talk, "{}hello<5 bytes>");
	CHECK_INT(play_how(&empty, "http", "plain", &none, NULL), 200);
	check_log(&empty, "{}<0 bytes>");
}

HTTP_TEST(it_goes_over_a_unix_socket)
{
	struct http_options options = {.socket_path = xstrdup(stub_path("socket"))};
	struct input hello = INPUT_FROM_TEXT("hello", 5);
	cleanup_http_response struct http_response response = {0};
	cleanup_free char *body = perform(&(struct http_request){.url = "http://localhost/ok", .options = &options}, NULL);
	struct talk talk = {0};

	CHECK_STR(body, "ok");
	CHECK_INT(play(&talk, "http://localhost/duplex", "{}", &hello, &options, &response, NULL), 101);
	CHECK_STR(http_header(&response, "Content-Type"), "application/x-stream");
	check_log(&talk, "{}hello<5 bytes>");
	http_options_deinit(&options);
}

HTTP_TEST(a_unix_socket_that_is_not_there_is_named)
{
	struct http_options options = {.socket_path = xstrdup("/no/such/socket")};
	cleanup_http_response struct http_response response = {0};
	cleanup_err struct err err = ERR_INIT;
	struct talk talk = {0};

	CHECK_INT(play(&talk, "http://localhost/duplex", "{}", NULL, &options, &response, &err), -1);
	CHECK_INT(err.kind, ERR_TRANSPORT);
	CHECK_STR(err_text(&err), "connect ENOENT /no/such/socket");
	CHECK(!response.sent);
	check_log(&talk, "");
	check_fails(&(struct http_request){.url = "http://localhost/ok", .options = &options, .retry = {.repeat = HTTP_REPEAT_NEVER}}, ERR_TRANSPORT,
		    "connect ENOENT /no/such/socket");
	http_options_deinit(&options);
}

HTTP_TEST(a_client_certificate_is_shown_to_who_asks_for_it)
{
	struct http_options with = {.ca_file = xstrdup(stub_path("ca")), .cert_file = xstrdup(stub_path("client_certificate")),
				    .key_file = xstrdup(stub_path("client_key"))};
	struct http_options without = {.ca_file = xstrdup(stub_path("ca"))};
	struct http_options wrong = {.ca_file = xstrdup(stub_path("ca")), .cert_file = xstrdup(stub_path("ca"))};
	cleanup_free char *url = stub_url("strict", "/ok"), *stream = stub_url("strict", "/duplex?how=send&n=300");
	struct http_request request = {.url = url, .retry = {.repeat = HTTP_REPEAT_NEVER}};
	cleanup_err struct err missing = ERR_INIT, unusable = ERR_INIT;
	cleanup_http_response struct http_response response = {0};
	struct talk talk = {0};

	request.options = &with;
	cleanup_free char *body = perform(&request, NULL);
	CHECK_STR(body, "ok");
	CHECK_INT(play(&talk, stream, "", NULL, &with, &response, NULL), 101);
	CHECK(talk.bytes == 300 && talk.in_order);
	buf_deinit(&talk.log);
	request.options = &without;
	CHECK(!perform(&request, &missing));
	CHECK_INT(missing.kind, ERR_TRANSPORT);
	request.options = &wrong; /* no key in there */
	CHECK(!perform(&request, &unusable));
	CHECK_INT(unusable.kind, ERR_INVALID);
	CHECK(strstr(err_text(&unusable), "client certificate"));
	http_options_deinit(&with);
	http_options_deinit(&without);
	http_options_deinit(&wrong);
}

HTTP_TEST(many_bytes_go_both_ways_at_once)
{
	size_t size = 3000000;
	char *data = malloc(size);
	struct input input = INPUT_FROM_TEXT(data, size);
	struct talk talk = {0};

	for (size_t i = 0; i < size; i++)
		data[i] = (char)((i + 2) % 256); /* behind "{}" as the echo has it */
	CHECK_INT(play_how(&talk, "http", "echo", &input, NULL), 101);
	CHECK_INT(talk.bytes, 2 + size + strlen("<3000000 bytes>"));
	CHECK_INT(input.taken, size);
	buf_deinit(&talk.log);
	free(data);
}

HTTP_TEST(a_descriptor_is_sent_as_it_gives_and_what_stands_before_it_first)
{
	int fds[2], file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct talk piped = {0}, from_file = {0};

	CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
	CHECK_INT(write(fds[1], "world", 5), 5);
	close(fds[1]);
	struct input input = {.data = "hello ", .len = 6, .fd = fds[0]};

	CHECK_INT(play_how(&piped, "http", "echo", &input, NULL), 101);
	check_log(&piped, "{}hello world<11 bytes>");
	close(fds[0]);
	char text[64];
	struct input whole = INPUT_FROM_FD(file);

	snprintf(text, sizeof text, "{}<%lld bytes>", (long long)lseek(file, 0, SEEK_END));
	CHECK_INT(play_how(&from_file, "http", "count", &whole, NULL), 101);
	check_log(&from_file, text);
	close(file);
}

HTTP_TEST(an_input_that_stays_open_is_not_ended)
{
	struct input hello = INPUT_FROM_TEXT("hello", 5);
	struct talk talk = {.enough_after = 7};

	hello.stays_open = true;
	CHECK_INT(play_how(&talk, "http", "echo", &hello, NULL), 101);
	check_log(&talk, "{}hello");
}

HTTP_TEST(input_that_nobody_reads_is_no_error)
{
	size_t size = 3000000;
	char *data = calloc(1, size);

	for (int i = 0; i < 2; i++) {
		struct input input = INPUT_FROM_TEXT(data, size);
		struct talk talk = {0};

		CHECK_INT(play_how(&talk, i ? "https" : "http", "deaf", &input, NULL), 101);
		CHECK_INT(talk.opened, 1);
		buf_deinit(&talk.log); /* a reset may overtake the bytes before it */
	}
	free(data);
}

HTTP_TEST(over_tls_bytes_come_in_order_to_a_slow_consumer)
{
	struct talk talk = {.wait_ms = 1};

	CHECK_INT(play_how(&talk, "https", "send&n=300000", NULL, NULL), 101);
	CHECK_INT(talk.bytes, 300002);
	buf_deinit(&talk.log);
}

HTTP_TEST(a_refusal_is_handed_on_with_its_body)
{
	static const char *const hows[] = {"refuse", "refuse-in-chunks"};

	for (size_t i = 0; i < 2; i++) {
		cleanup_free char *url = stub_url("http", "/duplex?how=%s", hows[i]);
		cleanup_http_response struct http_response response = {0};
		struct talk talk = {0};

		CHECK_INT(play(&talk, url, "{}", NULL, NULL, &response, NULL), 409);
		cleanup_free char *body = xstrdup(response.body.data);
		CHECK(strstr(body, "is not running"));
		CHECK_INT(talk.opened, 0);
		check_log(&talk, "");
	}
}

HTTP_TEST(interim_answers_are_passed_over)
{
	struct input hello = INPUT_FROM_TEXT("hello", 5);
	struct talk talk = {0};

	CHECK_INT(play_how(&talk, "http", "interim", &hello, NULL), 101);
	check_log(&talk, "{}hello<5 bytes>");
}

HTTP_TEST(services_that_do_not_answer_as_they_should_are_errors)
{
	static const struct {
		const char *how;
		enum err_kind kind;
	} cases[] = {{"stall", ERR_TIMEOUT}, {"cut-head", ERR_TRANSPORT}, {"garbage", ERR_PROTOCOL}, {"reset", ERR_TRANSPORT}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		cleanup_err struct err err = ERR_INIT;
		struct talk talk = {0};

		CHECK_INT(play_how(&talk, "http", cases[i].how, NULL, &err), -1);
		CHECK_INT(err.kind, cases[i].kind);
		buf_deinit(&talk.log);
	}
}

HTTP_TEST(a_silent_stream_ticks_and_a_tick_may_end_it)
{
	struct talk talk = {.ticks_enough = 3};

	CHECK_INT(play_how(&talk, "http", "silent", NULL, NULL), 101);
	CHECK_INT(talk.ticks, 3);
	check_log(&talk, "{}");
}

HTTP_TEST(a_deadline_ends_a_silent_stream)
{
	struct talk talk = {0};
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;

	deadline_enter(&scope, 100);
	CHECK_INT(play_how(&talk, "http", "silent", NULL, &err), -1);
	scope_leave(&scope);
	CHECK_INT(err.kind, ERR_TIMEOUT);
	check_log(&talk, "{}");
}

static void play_until_cancelled(void *arg)
{
	struct input input = INPUT_FROM_FD(*(int *)arg);
	cleanup_err struct err err = ERR_INIT;
	struct talk talk = {0};

	CHECK_INT(play_how(&talk, "http", "echo", &input, &err), -1);
	CHECK_INT(err.kind, ERR_CANCELLED);
	buf_deinit(&talk.log);
}

HTTP_TEST(a_cancelled_call_ends_at_once_with_its_input_open)
{
	struct fiber_group group;
	int fds[2];

	CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
	fiber_group_init(&group);
	fiber_group_start(&group, play_until_cancelled, &fds[0]);
	fiber_sleep(50, NULL);
	fiber_group_cancel(&group);
	fiber_group_join(&group, NULL);
	close(fds[0]);
	close(fds[1]);
}

TEST_MAIN()
