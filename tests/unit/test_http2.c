#include "http_test.h"

#include <string.h>

static int ask(const char *server, const char *path, struct http_response *r, struct err *err)
{
	cleanup_free char *url = stub_url(server, "%s", path);
	cleanup_json json_t *config = json_pack("{s:s}", "caFile", stub_path("ca"));
	struct http_options options;

	http_options_read(config, &options, NULL);
	int rc = http_perform(client, &(struct http_request){.method = "GET", .url = url, .options = &options, .http2_only = true}, r, err);

	http_options_deinit(&options);
	return rc;
}

static bool has_http2(void)
{
	if (stub_port("h2c"))
		return true;
	tap_skip("python3-h2 is not installed");
	return false;
}

HTTP_TEST(trailers_are_kept_apart_from_headers)
{
	static const char *const servers[] = {"h2", "h2c"};

	for (size_t i = 0; has_http2() && i < 2; i++) {
		cleanup_http_response struct http_response r = {0};

		CHECK_INT(ask(servers[i], "/trailers/100000", &r, NULL), 0);
		CHECK(r.status == 200 && r.body.len == 100000);
		CHECK_STR(http_header(&r, "X-Head"), "one");
		CHECK(!http_header(&r, "x-tail"));
		CHECK_STR(http_trailer(&r, "X-Tail"), "two");
		CHECK_STR(http_trailer(&r, "x-head"), "three");
	}
}

HTTP_TEST(the_code_of_a_stream_that_the_service_resets_is_known)
{
	static const int codes[] = {2, 8, 11};

	for (size_t i = 0; has_http2() && i < sizeof(codes) / sizeof(*codes); i++) {
		cleanup_free char *path = xasprintf("/rst-body?code=%d", codes[i]);
		cleanup_http_response struct http_response r = {0};
		cleanup_err struct err err = ERR_INIT;

		CHECK_INT(ask("h2c", path, &r, &err), -1);
		CHECK(err_is(&err, ERR_TRANSPORT));
		CHECK_INT(r.http2_error, codes[i]);
	}
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(ask("refused", "/", &r, NULL), -1);
	CHECK_INT(r.http2_error, -1);
}

HTTP_TEST(a_service_that_speaks_http_1_is_refused_where_http_2_is_needed)
{
	cleanup_http_response struct http_response r = {0};
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(ask("https", "/ok", &r, &err), -1);
	CHECK(err_is(&err, ERR_PROTOCOL) && strstr(err_text(&err), "answers in HTTP/1, and HTTP/2 is needed"));
	CHECK_INT(r.attempts, 1);
}

HTTP_TEST(http_2_alone_asks_for_no_compressed_answer)
{
	cleanup_http_response struct http_response r = {0};

	if (!has_http2())
		return;
	CHECK_INT(ask("h2c", "/echo", &r, NULL), 0);
	CHECK(!strstr(r.body.data, "accept-encoding"));
}

static int done;

static void ask_slowly(void *server)
{
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(ask(server, "/wait?ms=100", &r, NULL), 0);
	done++;
}

HTTP_TEST(many_calls_run_at_once_plain_and_encrypted)
{
	struct fiber_group group;

	if (!has_http2())
		return;
	fiber_group_init(&group);
	for (int i = 0; i < 150; i++) {
		static char servers[][4] = {"h2", "h2c"};

		fiber_group_start(&group, ask_slowly, servers[i % 2]);
	}
	fiber_group_join(&group, NULL);
	CHECK_INT(done, 150);
}

TEST_MAIN()
