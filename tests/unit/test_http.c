#include "http_test.h"

#include "secret.h"
#include "worker.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char *get(const char *path, struct err *err)
{
	cleanup_free char *url = stub_url("http", "%s", path);

	return perform(&(struct http_request){.url = url}, err);
}

/* As a text: the error with the server's port as PORT. */
static void check_path_fails(const char *path, enum err_kind kind, const char *text)
{
	cleanup_free char *url = stub_url("http", "%s", path), *port = xasprintf(":%d", stub_port("http"));
	cleanup_buf struct buf want = BUF_INIT(BUF_UNBOUNDED);
	const char *mark = strstr(text, ":PORT");

	buf_append(&want, text, mark ? (size_t)(mark - text) : strlen(text));
	if (mark)
		buf_printf(&want, "%s%s", port, mark + strlen(":PORT"));
	check_fails(&(struct http_request){.url = url, .retry.repeat = HTTP_REPEAT_NEVER,
					   .deadlines = {.first_byte_ms = 300, .idle_ms = 200, .total_ms = 20000}},
		    kind, want.data);
}

static int count_of(const char *key)
{
	cleanup_free char *path = xasprintf("/count/%s", key), *body = get(path, NULL);

	return body ? (int)strtol(body, NULL, 10) : -1;
}

/* --- answers --- */

HTTP_TEST(an_answer_has_status_headers_and_body)
{
	cleanup_free char *url = stub_url("http", "/ok");
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = url}, &r, NULL), 0);
	CHECK_INT(r.status, 200);
	CHECK_STR(r.body.data, "ok");
	CHECK_STR(http_header(&r, "x-served"), "1");
	CHECK(!http_header(&r, "X-None"));
	CHECK(http_is_success(&r) && r.sent && r.attempts == 1);
}

HTTP_TEST(any_status_is_a_complete_answer)
{
	static const int statuses[] = {204, 304, 400, 401, 404, 409, 500, 503};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(*statuses); i++) {
		cleanup_free char *url = stub_url("http", "/status/%d", statuses[i]);
		cleanup_http_response struct http_response r = {0};

		CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = url}, &r, NULL), 0);
		CHECK_INT(r.status, statuses[i]);
		CHECK(r.body.data != NULL);
	}
}

HTTP_TEST(json_answers_are_parsed)
{
	cleanup_free char *url = stub_url("http", "/status/404"), *text_url = stub_url("http", "/ok");
	cleanup_http_response struct http_response r = {0}, text = {0};
	cleanup_json json_t *json = NULL, *none = NULL;
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = url}, &r, NULL), 0);
	CHECK(http_is_json(&r) && http_response_json(&r, &json, NULL) == 0);
	CHECK_STR(json_string_value(json_object_get(json, "message")), "status 404");
	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = text_url}, &text, NULL), 0);
	CHECK(!http_is_json(&text));
	CHECK_INT(http_response_json(&text, &none, &err), -1);
	CHECK(err_is(&err, ERR_PROTOCOL));
}

HTTP_TEST(interim_answers_and_trailers_are_not_the_answer)
{
	cleanup_free char *interim = stub_url("http", "/interim"), *trailer = stub_url("http", "/chunked/12345");
	cleanup_http_response struct http_response r = {0}, t = {0};

	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = interim}, &r, NULL), 0);
	CHECK_INT(r.status, 200);
	CHECK_STR(r.body.data, "late");
	CHECK(!http_header(&r, "X-Early") && http_header(&r, "X-Late"));
	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = trailer}, &t, NULL), 0);
	CHECK_INT(t.body.len, 12345);
	CHECK(!http_header(&t, "X-T"));
}

HTTP_TEST(compressed_answers_are_unpacked_below_the_ceiling)
{
	cleanup_free char *body = get("/gzip", NULL), *url = stub_url("http", "/bomb"), *text = NULL;

	CHECK(body && strlen(body) == 5000 && str_starts_with(body, "text text "));
	text = xasprintf("the answer of 127.0.0.1:%d is bigger than 100000 bytes", stub_port("http"));
	check_fails(&(struct http_request){.url = url, .body_max = 100000}, ERR_PROTOCOL, text);
}

HTTP_TEST(a_body_up_to_the_ceiling_is_taken_and_none_above)
{
	cleanup_free char *exact = stub_url("http", "/big/100000"), *over = stub_url("http", "/chunked/100001");
	cleanup_free char *body = perform(&(struct http_request){.url = exact, .body_max = 100000}, NULL);
	cleanup_free char *text = xasprintf("the answer of 127.0.0.1:%d is bigger than 100000 bytes", stub_port("http"));

	CHECK(body != NULL);
	check_fails(&(struct http_request){.url = over, .body_max = 100000}, ERR_PROTOCOL, text);
}

/* --- requests --- */

static json_t *echo(struct http_request *request)
{
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = perform(request, &err);

	CHECK_STR(err_text(&err), "no error");
	return json_loads(body ? body : "null", JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

static const char *echoed_header(const json_t *echoed, const char *name)
{
	const json_t *pair;
	size_t i;

	json_array_foreach(json_object_get(echoed, "headers"), i, pair)
		if (strcasecmp(json_string_value(json_array_get(pair, 0)), name) == 0)
			return json_string_value(json_array_get(pair, 1));
	return NULL;
}

HTTP_TEST(methods_and_bodies_arrive_as_they_are)
{
	static const struct {
		const char *method, *body, *content_length;
	} cases[] = {
		{"GET", NULL, NULL},	 {"POST", NULL, "0"},	{"POST", "{\"a\":1}", "7"}, {"PUT", "x", "1"},
		{"PUT", NULL, "0"},	 {"PATCH", "y", "1"},	{"DELETE", NULL, NULL},	    {"DELETE", "z", "1"},
		{"OPTIONS", NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_free char *url = stub_url("http", "/echo/a%%20b?q=%%2F#fragment");
		struct http_request request = {.method = cases[i].method, .url = url};

		if (cases[i].body)
			request.body = HTTP_BYTES(cases[i].body, strlen(cases[i].body));
		cleanup_json json_t *echoed = echo(&request);

		CHECK_STR(json_string_value(json_object_get(echoed, "method")), cases[i].method);
		CHECK_STR(json_string_value(json_object_get(echoed, "target")), "/echo/a%20b?q=%2F");
		CHECK_STR(json_string_value(json_object_get(echoed, "text")), cases[i].body ? cases[i].body : "");
		CHECK_STR(echoed_header(echoed, "content-length"), cases[i].content_length);
		CHECK(!echoed_header(echoed, "expect") && !echoed_header(echoed, "transfer-encoding"));
		CHECK(!echoed_header(echoed, "content-type"));
	}
}

HTTP_TEST(headers_are_sent_as_given)
{
	cleanup_free char *url = stub_url("http", "/echo");
	const struct http_header headers[] = {
		{"Authorization", "Bearer k"}, {"X-None", NULL}, {"X-Empty", ""}, {"Content-Type", "application/json"}, {0}};
	const struct http_header own_agent[] = {{"user-agent", "mine/2"}, {0}};
	cleanup_json json_t *echoed = echo(&(struct http_request){.method = "POST", .url = url, .headers = headers});
	cleanup_json json_t *other = echo(&(struct http_request){.method = "POST", .url = url, .headers = own_agent});

	CHECK_STR(echoed_header(echoed, "authorization"), "Bearer k");
	CHECK_STR(echoed_header(echoed, "content-type"), "application/json");
	CHECK_STR(echoed_header(echoed, "x-empty"), "");
	CHECK(!echoed_header(echoed, "x-none"));
	CHECK_STR(echoed_header(echoed, "user-agent"), "test/1");
	CHECK_STR(echoed_header(other, "user-agent"), "mine/2");
}

HTTP_TEST(header_values_cannot_smuggle_further_lines_and_are_not_shown)
{
	static const char *const values[] = {"a\r\nX-Evil: 1", "a\nb", "a\rb", "secret\x01", "\x7F"};
	cleanup_free char *url = stub_url("http", "/echo");
	cleanup_free char *text =
		xasprintf("the header X-Key for 127.0.0.1:%d holds a character that is not allowed there", stub_port("http"));

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		const struct http_header headers[] = {{"X-Key", values[i]}, {0}};

		check_fails(&(struct http_request){.url = url, .headers = headers}, ERR_INVALID, text);
	}
}

HTTP_TEST(plain_http_is_for_loopback_only_and_urls_hold_no_credentials)
{
	check_fails(&(struct http_request){.url = "http://service.example/x?key=secret"}, ERR_INVALID,
		    "service.example is asked for without encryption: http:// is for loopback addresses only; use https://");
	check_fails(&(struct http_request){.url = "http://127.0.0.1.example/"}, ERR_INVALID,
		    "127.0.0.1.example is asked for without encryption: http:// is for loopback addresses only; use https://");
	check_fails(&(struct http_request){.url = "https://user:secret@service.example/"}, ERR_INVALID,
		    "the address of service.example must not hold a user name or password");
	check_fails(&(struct http_request){.url = "ftp://service.example/"}, ERR_INVALID, "requests go to https:// addresses only, not to ftp://");
	check_fails(&(struct http_request){.url = "no url"}, ERR_INVALID, "the URL has no scheme");
	check_fails(&(struct http_request){.url = "file:///etc/passwd"}, ERR_INVALID, "requests go to https:// addresses only, not to file://");
}

HTTP_TEST(credentials_that_were_sent_are_masked_from_then_on)
{
	cleanup_free char *url = stub_url("http", "/ok");
	const struct http_header headers[] = {{"authorization", "Bearer token-1234"}, {"X-API-KEY", "e2b_0123"}, {"X-Other", "not-secret"}, {0}};
	cleanup_free char *body = perform(&(struct http_request){.url = url, .headers = headers}, NULL);

	CHECK_STR(body, "ok");
	char *text = xstrdup("bad key e2b_0123, bad token token-1234 (Bearer), not-secret");

	secret_mask_string(&text);
	CHECK_STR(text, "bad key ***, bad token *** (Bearer), not-secret");
	free(text);
	secret_forget();
}

static int call_from_worker(struct worker *w, void *arg)
{
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(http_perform(worker_http(w), &(struct http_request){.method = "GET", .url = arg}, &r, NULL), 0);
	CHECK(worker_http(w) == worker_http(w));
	CHECK_STR(r.body.data, "ok");
	return 7;
}

TEST(a_workers_client_ends_with_it)
{
	static const struct provider *const none[] = {NULL};
	cleanup_free char *url = stub_url("http", "/ok");
	struct worker *w = NULL;

	CHECK_INT(worker_create(&(struct worker_options){.version = "1", .providers = none}, &w, NULL), 0);
	CHECK_INT(worker_run(w, call_from_worker, url), 7);
	worker_destroy(w);
}

/* --- bodies that are not in memory --- */

#define BIG ((size_t)3000000)

static char *big_bytes(void)
{
	char *bytes = xmalloc(BIG);

	for (size_t i = 0; i < BIG; i++)
		bytes[i] = (char)(i * 7 + i / 1000);
	return bytes;
}

static void check_big_arrived(struct http_request *request, const char *transfer_encoding)
{
	cleanup_free char *url = stub_url("http", "/echo"), *bytes = big_bytes();
	cleanup_json json_t *memory = echo(&(struct http_request){.method = "POST", .url = url, .body = HTTP_BYTES(bytes, BIG)});

	request->url = url;
	cleanup_json json_t *echoed = echo(request);

	CHECK_INT(json_integer_value(json_object_get(memory, "length")), BIG);
	CHECK_INT(json_integer_value(json_object_get(echoed, "length")), BIG);
	CHECK_STR(json_string_value(json_object_get(echoed, "sha256")), json_string_value(json_object_get(memory, "sha256")));
	CHECK_STR(echoed_header(echoed, "transfer-encoding"), transfer_encoding);
}

static int temp_file(const char *bytes, size_t n)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
	return fd;
}

HTTP_TEST(a_file_is_sent_with_its_length)
{
	cleanup_free char *bytes = big_bytes();
	cleanup_close int fd = temp_file(bytes, BIG);
	struct input input = INPUT_FROM_FD(fd);
	struct http_piece piece = http_input_piece(&input);

	check_big_arrived(&(struct http_request){.method = "POST", .body = {.pieces = &piece, .count = 1}}, NULL);
}

struct feeder {
	const char *bytes;
	size_t len, done;
	int fd;
	int rounds;
};

/* Writes in uneven pieces, with pauses. */
static void feed_pipe(void *arg)
{
	struct feeder *f = arg;

	while (f->done < f->len) {
		size_t n = f->len - f->done < 40000 ? f->len - f->done : 40000;
		ssize_t wrote = write(f->fd, f->bytes + f->done, n);

		if (wrote > 0)
			f->done += (size_t)wrote;
		if (fiber_sleep(wrote > 0 && ++f->rounds % 10 ? 0 : 1, NULL) < 0)
			break;
	}
	close(f->fd);
}

HTTP_TEST(a_pipe_is_sent_as_it_comes)
{
	cleanup_free char *bytes = big_bytes();
	struct feeder feeder = {.bytes = bytes, .len = BIG};
	struct fiber_group group;
	int fds[2];

	CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	feeder.fd = fds[1];
	fiber_group_init(&group);
	fiber_group_start(&group, feed_pipe, &feeder);
	struct input input = INPUT_FROM_FD(fds[0]);
	struct http_piece piece = http_input_piece(&input);

	check_big_arrived(&(struct http_request){.method = "POST", .body = {.pieces = &piece, .count = 1}}, "chunked");
	CHECK_INT(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	fiber_group_join(&group, NULL);
	close(fds[0]);
}

static int read_slowly(void *arg, void *room, size_t n, size_t *ret_n, struct err *err)
{
	struct feeder *f = arg;
	size_t left = f->len - f->done;

	if (++f->rounds % 5 == 0 && fiber_sleep(1, err) < 0)
		return -1;
	*ret_n = n < left ? n : left;
	if (*ret_n > 50000)
		*ret_n = 50000;
	memcpy(room, f->bytes + f->done, *ret_n);
	f->done += *ret_n;
	return 0;
}

HTTP_TEST(pieces_of_all_kinds_make_one_body)
{
	cleanup_free char *bytes = big_bytes();
	cleanup_close int fd = temp_file(bytes + 1000, 500000);
	struct feeder feeder = {.bytes = bytes + 501000, .len = BIG - 501000 - 77};
	struct http_piece pieces[] = {
		HTTP_PIECE(bytes, 1000),
		{.kind = HTTP_PIECE_FD, .fd = fd},
		HTTP_PIECE("", 0),
		{.kind = HTTP_PIECE_SOURCE, .read = read_slowly, .arg = &feeder, .size = (int64_t)feeder.len},
		HTTP_PIECE(bytes + BIG - 77, 77),
	};

	check_big_arrived(&(struct http_request){.method = "POST", .body = {.pieces = pieces, .count = 5}}, NULL);
}

HTTP_TEST(a_source_that_ends_early_is_an_error)
{
	cleanup_free char *url = stub_url("http", "/echo");
	struct feeder feeder = {.bytes = "12345", .len = 5};
	struct http_piece piece = {.kind = HTTP_PIECE_SOURCE, .read = read_slowly, .arg = &feeder, .size = 6};

	check_fails(&(struct http_request){.method = "POST", .url = url, .body = {.pieces = &piece, .count = 1}}, ERR_INVALID,
		    "the request's body ended before its announced size");
}

static int read_failing(void *arg, void *room, size_t n, size_t *ret_n, struct err *err)
{
	*ret_n = 10;
	memset(room, 'x', 10);
	if (++*(int *)arg == 3)
		return err_set(err, ERR_REMOTE, "the source has failed");
	return fiber_yield(err);
}

HTTP_TEST(a_source_that_fails_fails_the_call)
{
	cleanup_free char *url = stub_url("http", "/echo");
	int calls = 0;
	struct http_piece piece = {.kind = HTTP_PIECE_SOURCE, .read = read_failing, .arg = &calls, .size = -1};

	check_fails(&(struct http_request){.method = "POST", .url = url, .body = {.pieces = &piece, .count = 1}}, ERR_REMOTE, "the source has failed");
	CHECK_INT(calls, 3);
}

HTTP_TEST(two_sources_are_refused)
{
	struct http_piece piece = {.kind = HTTP_PIECE_SOURCE, .size = -1}, pieces[] = {piece, piece};

	check_fails(&(struct http_request){.method = "POST", .url = "http://127.0.0.1:1/", .body = {.pieces = pieces, .count = 2}}, ERR_INVALID,
		    "a request's body can have one source only");
}

static int read_never(void *arg, void *room, size_t n, size_t *ret_n, struct err *err)
{
	return fiber_sleep(DEADLINE_NONE, err);
}

HTTP_TEST(a_refusal_before_the_whole_body_was_sent_is_the_answer)
{
	cleanup_free char *url = stub_url("http", "/early");
	struct http_piece piece = {.kind = HTTP_PIECE_SOURCE, .read = read_never, .size = -1};
	cleanup_http_response struct http_response r = {0};
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = url, .body = {.pieces = &piece, .count = 1}}, &r, &err), 0);
	CHECK_INT(r.status, 413);
	CHECK_STR(err_text(&err), "no error");
}

/* --- failures of the network --- */

HTTP_TEST(a_refused_connection_names_the_address)
{
	cleanup_free char *url = stub_url("refused", "/"), *by_name = xasprintf("http://localhost:%d/", stub_port("refused"));
	cleanup_free char *text = xasprintf("connect ECONNREFUSED 127.0.0.1:%d", stub_port("refused"));
	cleanup_free char *name_text = xasprintf(" (localhost:%d)", stub_port("refused"));
	cleanup_err struct err err = ERR_INIT;
	cleanup_http_response struct http_response r = {0};

	check_fails(&(struct http_request){.url = url, .retry.repeat = HTTP_REPEAT_NEVER}, ERR_TRANSPORT, text);
	CHECK(!perform(&(struct http_request){.url = by_name, .retry.repeat = HTTP_REPEAT_NEVER}, &err));
	CHECK(str_starts_with(err_text(&err), "connect ECONNREFUSED ") && str_ends_with(err_text(&err), name_text));
	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = url, .retry.base_ms = 1}, &r, NULL), -1);
	CHECK(r.status == 0 && !r.sent && r.attempts == 4);
}

HTTP_TEST(broken_answers_are_errors_that_say_how)
{
	static const struct {
		const char *path, *text;
	} cases[] = {
		{"/reset/before", "read ECONNRESET (127.0.0.1:PORT)"},
		{"/reset/headers", "read ECONNRESET (127.0.0.1:PORT)"},
		{"/reset/body", "read ECONNRESET (127.0.0.1:PORT)"},
		{"/close/before", "socket hang up (127.0.0.1:PORT)"},
		{"/close/length", "the connection to 127.0.0.1:PORT was closed in the middle of the answer"},
		{"/close/chunked", "the connection to 127.0.0.1:PORT was closed in the middle of the answer"},
		{"/close/chunk", "the connection to 127.0.0.1:PORT was closed in the middle of the answer"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		check_path_fails(cases[i].path, ERR_TRANSPORT, cases[i].text);
}

HTTP_TEST(headers_that_are_cut_off_are_an_error)
{
	check_path_fails("/close/headers", ERR_TRANSPORT, "the connection to 127.0.0.1:PORT was closed in the middle of the answer");
}

HTTP_TEST(too_many_headers_are_an_error)
{
	cleanup_free char *body = NULL;
	cleanup_err struct err err = ERR_INIT;

	check_path_fails("/many-headers", ERR_PROTOCOL, "the answer of 127.0.0.1:PORT has too many headers");
	body = get("/huge-header", &err);
	CHECK(!body && err.kind != ERR_NONE && err.kind != ERR_TIMEOUT);
}

HTTP_TEST(bytes_that_are_no_http_are_an_error)
{
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = get("/garbage", &err);

	CHECK(!body);
	CHECK_INT(err.kind, ERR_PROTOCOL);
}

HTTP_TEST(bytes_beyond_the_stated_length_are_not_the_next_answer)
{
	cleanup_free char *body = get("/long-length", NULL), *next = get("/ok", NULL);

	CHECK_STR(body, "good");
	CHECK_STR(next, "ok");
}

HTTP_TEST(silence_ends_each_phase_at_its_deadline)
{
	check_path_fails("/stall/before", ERR_TIMEOUT, "no answer from 127.0.0.1:PORT within 300 ms");
	check_path_fails("/stall/headers", ERR_TIMEOUT, "the answer of 127.0.0.1:PORT stalled: nothing came for 200 ms");
	check_path_fails("/stall/body", ERR_TIMEOUT, "the answer of 127.0.0.1:PORT stalled: nothing came for 200 ms");
}

HTTP_TEST(a_connection_that_does_not_come_about_ends_at_its_deadline)
{
	cleanup_free char *url = stub_url("full", "/");
	cleanup_free char *text = xasprintf("connect ETIMEDOUT 127.0.0.1:%d: no connection within 200 ms", stub_port("full"));

	check_fails(&(struct http_request){.url = url, .deadlines.connect_ms = 200, .retry.repeat = HTTP_REPEAT_NEVER}, ERR_TIMEOUT, text);
}

HTTP_TEST(a_slow_answer_is_fine_while_something_comes)
{
	cleanup_free char *url = stub_url("http", "/drip?n=20&ms=30");
	cleanup_free char *body = perform(&(struct http_request){.url = url, .deadlines = {.first_byte_ms = 5000, .idle_ms = 5000}}, NULL);

	CHECK_STR(body, "....................");
}

HTTP_TEST(the_whole_calls_deadline_ends_even_an_answer_that_drips)
{
	cleanup_free char *url = stub_url("http", "/drip?n=100000&ms=10");
	cleanup_free char *text = xasprintf("no complete answer from 127.0.0.1:%d within 150 ms", stub_port("http"));

	check_fails(&(struct http_request){.url = url, .deadlines = {.idle_ms = 5000, .total_ms = 150}}, ERR_TIMEOUT, text);
}

HTTP_TEST(the_fibers_own_deadline_counts_too)
{
	cleanup_free char *url = stub_url("http", "/stall/before");
	cleanup_free char *text = xasprintf("no complete answer from 127.0.0.1:%d before the deadline", stub_port("http"));
	struct fiber_scope scope;

	deadline_enter(&scope, 100);
	check_fails(&(struct http_request){.url = url, .deadlines.total_ms = 60000}, ERR_TIMEOUT, text);
	scope_leave(&scope);
}

/* --- repeating --- */

HTTP_TEST(failures_are_repeated_as_the_policy_allows)
{
	static const struct {
		const char *method, *how;
		enum http_repeat repeat;
		bool succeeds;
	} cases[] = {
		{"GET", "reset", HTTP_REPEAT_IDEMPOTENT, true},	 {"GET", "close", HTTP_REPEAT_IDEMPOTENT, true},
		{"POST", "500", HTTP_REPEAT_IDEMPOTENT, true},	 {"GET", "503", HTTP_REPEAT_IDEMPOTENT, true},
		{"POST", "429", HTTP_REPEAT_REJECTED, true},	 {"POST", "503", HTTP_REPEAT_REJECTED, true},
		{"POST", "500", HTTP_REPEAT_REJECTED, false},	 {"POST", "reset", HTTP_REPEAT_REJECTED, false},
		{"POST", "429", HTTP_REPEAT_UNSENT, false},	 {"POST", "reset", HTTP_REPEAT_UNSENT, false},
		{"GET", "reset", HTTP_REPEAT_NEVER, false},	 {"GET", "404", HTTP_REPEAT_IDEMPOTENT, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_free char *key = xasprintf("policy-%zu", i), *url = stub_url("http", "/flaky/%s/2/%s", key, cases[i].how);
		cleanup_http_response struct http_response r = {0};
		int rc = http_perform(client, &(struct http_request){.method = cases[i].method, .url = url,
								     .retry = {.repeat = cases[i].repeat, .base_ms = 1}}, &r, NULL);

		CHECK_INT(rc == 0 && r.status == 200, cases[i].succeeds);
		/* A death on a kept connection is repeated by libcurl itself. */
		CHECK(cases[i].succeeds ? r.attempts == 2 || r.attempts == 3 : r.attempts == 1);
		CHECK_INT(count_of(key), cases[i].succeeds ? 3 : 1);
		CHECK(r.sent);
	}
}

HTTP_TEST(the_last_failure_is_the_result_when_no_attempt_is_left)
{
	cleanup_free char *url = stub_url("http", "/flaky/exhausted/10/503");
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(http_perform(client, &(struct http_request){.method = "GET", .url = url,
							      .retry = {.repeat = HTTP_REPEAT_REJECTED, .attempts_max = 3, .base_ms = 1}},
			       &r, NULL), 0);
	CHECK_INT(r.status, 503);
	CHECK_INT(count_of("exhausted"), 3);
}

HTTP_TEST(retry_after_is_waited_for_only_inside_the_deadline)
{
	cleanup_free char *soon = stub_url("http", "/flaky/soon/1/429?retry-after=1"), *late = stub_url("http", "/flaky/late/1/429?retry-after=60");
	struct http_retry retry = {.repeat = HTTP_REPEAT_REJECTED, .needs_retry_after = true};
	cleanup_http_response struct http_response r = {0}, l = {0};

	CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = soon, .retry = retry}, &r, NULL), 0);
	CHECK(r.status == 200 && r.attempts == 2 && r.total_ms >= 1000);
	CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = late, .retry = retry, .deadlines.total_ms = 30000}, &l, NULL), 0);
	CHECK(l.status == 429 && l.attempts == 1);
	CHECK_STR(http_header(&l, "Retry-After"), "60");
}

HTTP_TEST(a_body_from_a_pipe_is_not_sent_twice)
{
	cleanup_free char *url = stub_url("http", "/flaky/pipe/1/500");
	struct feeder feeder = {.bytes = "12345", .len = 5};
	struct http_piece piece = {.kind = HTTP_PIECE_SOURCE, .read = read_slowly, .arg = &feeder, .size = -1};
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = url, .body = {.pieces = &piece, .count = 1}, .retry.repeat = HTTP_REPEAT_IDEMPOTENT},
			       &r, NULL), 0);
	CHECK(r.status == 500 && r.attempts == 1);
}

/* --- kept connections --- */

HTTP_TEST(connections_are_used_again)
{
	for (int i = 1; i <= 5; i++) {
		cleanup_free char *body = get("/ok", NULL);

		CHECK_STR(body, "ok");
	}
	CHECK_INT(http_client_stats(client).connections, 1);
	CHECK_INT(http_client_stats(client).requests, 5);
}

HTTP_TEST(a_kept_connection_that_the_service_closes_is_replaced_for_calls_that_may_be_repeated)
{
	for (int i = 0; i < 3; i++) {
		cleanup_free char *body = get("/once/get", NULL);

		CHECK_STR(body, "once");
	}
	/* The first on the first connection; then each was refused by a used one and repeated on a fresh one. */
	CHECK_INT(count_of("get"), 5);
}

HTTP_TEST(a_post_that_dies_on_a_kept_connection_is_not_sent_again)
{
	cleanup_free char *url = stub_url("http", "/once/post"), *safe_url = stub_url("http", "/once/safe"), *first = get("/ok", NULL);
	cleanup_http_response struct http_response r = {0}, s = {0};
	cleanup_err struct err err = ERR_INIT;

	CHECK(first);
	CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = url}, &r, &err), -1);
	CHECK(err_is(&err, ERR_TRANSPORT) && r.sent);
	CHECK(str_starts_with(err_text(&err), "socket hang up (127.0.0.1:"));
	CHECK_INT(count_of("post"), 1);
	CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = safe_url, .retry.repeat = HTTP_REPEAT_IDEMPOTENT}, &s, NULL), 0);
	CHECK_INT(s.status, 200);
}

/* --- redirects --- */

HTTP_TEST(redirects_are_followed_only_on_demand_and_inside_the_origin)
{
	cleanup_free char *ok = stub_url("http", "/ok"), *other = stub_url("https", "/ok"), *same_by_url = stub_url("http", "/redirect?to=%s", ok);
	cleanup_free char *by_path = stub_url("http", "/redirect?to=/ok"), *away = stub_url("http", "/redirect?to=%s", other);
	cleanup_free char *tricky = stub_url("http", "/redirect?to=//evil.example/"), *post = stub_url("http", "/redirect?to=/ok&status=303");
	cleanup_free char *kept = stub_url("http", "/redirect?to=/echo&status=307");
	const struct {
		struct http_request request;
		int status;
	} cases[] = {
		{{.method = "GET", .url = by_path}, 302},
		{{.method = "GET", .url = by_path, .follow_redirects = true}, 200},
		{{.method = "GET", .url = same_by_url, .follow_redirects = true}, 200},
		{{.method = "GET", .url = away, .follow_redirects = true}, 302},
		{{.method = "GET", .url = tricky, .follow_redirects = true}, 302},
		{{.method = "POST", .url = post, .follow_redirects = true}, 303},
		{{.method = "GET", .url = post, .follow_redirects = true}, 200},
		{{.method = "POST", .url = kept, .follow_redirects = true, .body = HTTP_BYTES("again", 5)}, 200},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_http_response struct http_response r = {0};

		CHECK_INT(http_perform(client, &cases[i].request, &r, NULL), 0);
		CHECK_INT(r.status, cases[i].status);
		if (i == 7)
			CHECK(strstr(r.body.data, "\"text\": \"again\""));
	}
}

HTTP_TEST(redirects_in_a_circle_end)
{
	cleanup_free char *url = stub_url("http", "/circle");
	cleanup_free char *text = xasprintf("127.0.0.1:%d redirects in a circle", stub_port("http"));

	check_fails(&(struct http_request){.url = url, .follow_redirects = true}, ERR_PROTOCOL, text);
}

/* --- cancelling --- */

struct cancelled_call {
	const char *path;
	enum err_kind kind;
	bool done;
};

static void call_until_cancelled(void *arg)
{
	struct cancelled_call *call = arg;
	cleanup_free char *url = stub_url(strcmp(call->path, "/full") == 0 ? "full" : "http", "%s", call->path);
	cleanup_err struct err err = ERR_INIT;

	free(perform(&(struct http_request){.url = url}, &err));
	call->kind = err.kind;
	call->done = true;
}

HTTP_TEST(a_cancelled_call_ends_at_once_in_every_phase)
{
	static const char *const paths[] = {"/full", "/stall/before", "/stall/headers", "/stall/body", "/drip?n=100000&ms=1", "/flaky/cancel/100/503?retry-after=50"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		struct cancelled_call call = {.path = paths[i]};
		struct fiber_group group;
		int64_t start = loop_now_ms();

		fiber_group_init(&group);
		fiber_group_start(&group, call_until_cancelled, &call);
		fiber_sleep(60, NULL);
		CHECK(!call.done || strstr(paths[i], "flaky"));
		fiber_group_cancel(&group);
		fiber_group_join(&group, NULL);
		CHECK(call.done && (call.kind == ERR_CANCELLED || strstr(paths[i], "flaky")));
		CHECK(loop_now_ms() - start < 10000);
	}
}

TEST_MAIN()
