#include "base/err.h"
#include "protocol/json_read.h"
#include "protocol/jsonrpc.h"
#include "tap.h"

#include <string.h>

struct line_case {
	const char *line;
	enum rpc_kind kind;
	const char *id, *method; /* NULL: none */
};

static void check_slice(const struct json_slice *slice, const char *want)
{
	if (want)
		CHECK_MEM(slice->text, slice->len, want, strlen(want));
	else
		CHECK_INT(slice->kind, JSON_KIND_NONE);
}

TEST(lines_are_classified)
{
	static const struct line_case cases[] = {
		{"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"health\",\"params\":{}}", RPC_REQUEST, "5", "health"},
		{"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"health\"}", RPC_REQUEST, "5", "health"},
		{"{\"method\":\"health\",\"id\":5,\"jsonrpc\":\"2.0\"}", RPC_REQUEST, "5", "health"},
		{" { \"\\u006asonrpc\" : \"2\\u002e0\" , \"id\" : 5 , \"method\" : \"\" } ", RPC_REQUEST, "5", ""},
		/* ids of every type */
		{"{\"jsonrpc\":\"2.0\",\"id\":\"a\\u0000\\\"b\",\"method\":\"m\"}", RPC_REQUEST, "\"a\\u0000\\\"b\"", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"m\"}", RPC_REQUEST, "\"\"", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"m\"}", RPC_REQUEST, "0", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":-1.50e+3,\"method\":\"m\"}", RPC_REQUEST, "-1.50e+3", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":123456789012345678901234567890,\"method\":\"m\"}", RPC_REQUEST,
		 "123456789012345678901234567890", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"m\"}", RPC_REQUEST, "true", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":false,\"method\":\"m\"}", RPC_REQUEST, "false", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":[1, 2],\"method\":\"m\"}", RPC_REQUEST, "[1, 2]", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":{\"a\":1},\"method\":\"m\"}", RPC_REQUEST, "{\"a\":1}", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"m\"}", RPC_IGNORED, "null", "m"},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"id\":2,\"method\":\"b\"}", RPC_REQUEST, "2", "b"},
		/* notifications */
		{"{\"jsonrpc\":\"2.0\",\"method\":\"onEvent\",\"params\":{}}", RPC_NOTIFICATION, NULL, "onEvent"},
		/* responses */
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}", RPC_RESPONSE, "1", NULL},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32001,\"message\":\"no\"}}", RPC_RESPONSE, "1", NULL},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{}}", RPC_RESPONSE, "1", NULL},
		{"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{}}", RPC_IGNORED, "null", NULL},
		{"{\"jsonrpc\":\"2.0\",\"result\":1}", RPC_IGNORED, NULL, NULL},
		/* none of these */
		{"{\"jsonrpc\":\"2.0\"}", RPC_IGNORED, NULL, NULL},
		{"{\"jsonrpc\":\"2.0\",\"id\":1}", RPC_IGNORED, "1", NULL},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", RPC_IGNORED, "1", NULL},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":null,\"result\":1}", RPC_IGNORED, "1", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_err struct err err = ERR_INIT;
		struct rpc_message m;

		CHECK_INT(rpc_read(cases[i].line, strlen(cases[i].line), &m, &err), 0);
		if (m.kind != cases[i].kind)
			tap_fail(__FILE__, __LINE__, "kind %d of %s", m.kind, cases[i].line);
		check_slice(&m.id, cases[i].id);
		CHECK_STR(m.method, cases[i].method);
		rpc_message_deinit(&m);
	}
}

TEST(params_result_and_error_are_cut_out)
{
	static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"m\",\"params\":{\"a\": [1]}}";
	static const char response[] = "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":[true],\"error\":{\"code\":1}}";
	struct rpc_message m;

	CHECK_INT(rpc_read(request, strlen(request), &m, NULL), 0);
	check_slice(&m.params, "{\"a\": [1]}");
	check_slice(&m.result, NULL);
	rpc_message_deinit(&m);
	CHECK_INT(rpc_read(response, strlen(response), &m, NULL), 0);
	check_slice(&m.params, NULL);
	check_slice(&m.result, "[true]");
	check_slice(&m.error, "{\"code\":1}");
	rpc_message_deinit(&m);
}

TEST(the_invocation_is_read)
{
	static const struct {
		const char *invocation, *id, *company, *traceparent;
	} cases[] = {
		{"{\"id\":\"u-1\",\"scope\":{\"companyId\":\"c-1\"},\"traceparent\":\"00-ab\"}", "u-1", "c-1", "00-ab"},
		{"{\"scope\":{\"x\":{\"companyId\":\"no\"},\"companyId\":\"c\\u002d1\"},\"id\":\"\\u0075\",\"more\":[]}", "u",
		 "c-1", NULL},
		{"{\"id\":\"u\"}", "u", NULL, NULL},
		{"{\"id\":7,\"scope\":\"x\",\"traceparent\":null}", NULL, NULL, NULL},
		{"{\"id\":\"u\",\"scope\":{\"companyId\":5}}", "u", NULL, NULL},
		{"{\"id\":\"a\\u0000b\",\"scope\":{\"companyId\":\"a\\u0000b\"}}", NULL, NULL, NULL},
		{"null", NULL, NULL, NULL},
		{"[\"id\",\"u\"]", NULL, NULL, NULL},
		{"\"id\"", NULL, NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);
		struct rpc_message m;

		buf_printf(&line, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"m\",\"paperclipInvocation\":%s}",
			   cases[i].invocation);
		CHECK_INT(rpc_read(line.data, line.len, &m, NULL), 0);
		CHECK_STR(m.invocation_id, cases[i].id);
		CHECK_STR(m.company_id, cases[i].company);
		CHECK_STR(m.traceparent, cases[i].traceparent);
		rpc_message_deinit(&m);
	}
}

TEST(a_method_name_that_holds_nul_is_nobodys)
{
	static const char line[] = "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"health\\u0000x\"}";
	struct rpc_message m;

	CHECK_INT(rpc_read(line, strlen(line), &m, NULL), 0);
	CHECK_STR(m.method, "health\xEF\xBF\xBDx");
	rpc_message_deinit(&m);
	rpc_message_deinit(&m);
	rpc_message_deinit(NULL);
}

/* The line is refused with this text, and this id can be answered. */
static void check_refused(const char *line, size_t len, const char *message, const char *id)
{
	cleanup_err struct err err = ERR_INIT;
	struct rpc_message m;

	CHECK_INT(rpc_read(line, len, &m, &err), -1);
	CHECK(err_is(&err, ERR_PROTOCOL));
	CHECK_INT(err.rpc_code, RPC_PARSE_ERROR);
	CHECK_STR(err_text(&err), message);
	check_slice(&m.id, id);
	CHECK(!m.method);
	rpc_message_deinit(&m);
}

static void check_refused_text(const char *line, const char *message, const char *id)
{
	check_refused(line, strlen(line), message, id);
}

TEST(lines_that_are_no_messages_are_refused_with_the_references_texts)
{
	check_refused_text("nope", "Parse error: Invalid JSON: nope", NULL);
	check_refused_text(" \t{\"a\":}", "Parse error: Invalid JSON: {\"a\":}", NULL);
	check_refused_text("42", "Parse error: Message must be a JSON object", NULL);
	check_refused_text("\"x\"", "Parse error: Message must be a JSON object", NULL);
	check_refused_text("null", "Parse error: Message must be a JSON object", NULL);
	check_refused_text("{}", "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got undefined)", NULL);
	check_refused_text("[]", "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got undefined)", NULL);
	check_refused_text("{\"jsonrpc\":2.0}", "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got 2)",
			   NULL);
	check_refused_text("{\"jsonrpc\":\"1.0\"}",
			   "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got \"1.0\")", NULL);
	check_refused_text("{\"jsonrpc\":\"2.0\\u0000\"}",
			   "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got \"2.0\\u0000\")", NULL);
	check_refused_text("{\"jsonrpc\":null}", "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got null)",
			   NULL);
	check_refused_text("{\"jsonrpc\":{ \"a\" : [ 1.50 ] }}",
			   "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got {\"a\":[1.5]})", NULL);
	check_refused_text("{\"jsonrpc\":\"2.0\",\"jsonrpc\":true}",
			   "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got true)", NULL);
}

TEST(the_id_of_a_refused_line_is_found)
{
	static const char version[] = "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got undefined)";

	check_refused_text("{\"id\":7,\"method\":\"m\"}", version, "7");
	check_refused_text("{\"id\":\"a\"}", version, "\"a\"");
	check_refused_text("{\"id\":true}", version, NULL);
	check_refused_text("{\"id\":null}", version, NULL);
	check_refused_text("{\"id\":[1]}", version, NULL);
	check_refused_text("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{\"a\":",
			   "Parse error: Invalid JSON: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{\"a\":", "7");
	check_refused_text("{\"id\":\"x\",,}", "Parse error: Invalid JSON: {\"id\":\"x\",,}", "\"x\"");
	check_refused_text("{\"id\":7", "Parse error: Invalid JSON: {\"id\":7", NULL);
	check_refused_text("{\"params\":{\"id\":7},", "Parse error: Invalid JSON: {\"params\":{\"id\":7},", NULL);
}

TEST(the_id_of_a_broken_answer_is_not_taken_for_that_of_a_request)
{
	static const char version[] = "Parse error: Invalid or missing jsonrpc version (expected \"2.0\", got undefined)";

	check_refused_text("{\"id\":7,\"result\":1}", version, NULL);
	check_refused_text("{\"id\":7,\"error\":{}}", version, NULL);
	check_refused_text("{\"id\":7,\"result\":{\"a\":", "Parse error: Invalid JSON: {\"id\":7,\"result\":{\"a\":", NULL);
	check_refused_text("{\"id\":7,\"error\":", "Parse error: Invalid JSON: {\"id\":7,\"error\":", NULL);
}

TEST(two_hundred_characters_of_a_bad_line_are_quoted)
{
	static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};

	for (size_t c = 0; c < 4; c++) {
		/* JavaScript counts a character beyond U+FFFF twice. */
		for (size_t count = c == 3 ? 99 : 199, limit = count + 1; count <= limit + 1; count++) {
			cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED), want = BUF_INIT(BUF_UNBOUNDED);

			buf_append_str(&want, "Parse error: Invalid JSON: ");
			for (size_t i = 0; i < count; i++) {
				buf_append_str(&line, characters[c]);
				if (i < limit)
					buf_append_str(&want, characters[c]);
			}
			check_refused(line.data, line.len, want.data, NULL);
		}
	}
	cleanup_buf struct buf odd = BUF_INIT(BUF_UNBOUNDED);

	for (size_t i = 0; i < 199; i++)
		buf_append_char(&odd, 'x');
	cleanup_buf struct buf want = BUF_INIT(BUF_UNBOUNDED);
	buf_printf(&want, "Parse error: Invalid JSON: %s", odd.data);
	buf_append_str(&odd, "\xF0\x9F\x98\x80"); /* would be cut in the middle */
	check_refused(odd.data, odd.len, want.data, NULL);
	check_refused("a\0b", 3,
		      "Parse error: Invalid JSON: a\xEF\xBF\xBD"
		      "b",
		      NULL);
}

static void check_line(struct buf *out, const char *want)
{
	CHECK_STR(out->data, want);
	buf_reset(out);
}

TEST(lines_are_written_whole)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	cleanup_json json_t *value = json_pack("{s:[i,n]}", "a", 1);

	CHECK_INT(rpc_write_result(&out, "5", 1, value), 0);
	check_line(&out, "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"a\":[1,null]}}\n");
	CHECK_INT(rpc_write_result(&out, "\"x\"", 3, NULL), 0);
	check_line(&out, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":null}\n");
	CHECK_INT(rpc_write_error(&out, NULL, 0, RPC_PARSE_ERROR, "Parse error: \"\n", NULL), 0);
	check_line(&out, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"Parse error: \\\"\\n\"}}\n");
	CHECK_INT(rpc_write_error(&out, "1", 1, RPC_WORKER_ERROR, "", value), 0);
	check_line(&out,
		   "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32002,\"message\":\"\",\"data\":{\"a\":[1,null]}}}\n");
	CHECK_INT(rpc_write_notification(&out, "log", value, "inv\"1"), 0);
	check_line(
		&out,
		"{\"jsonrpc\":\"2.0\",\"method\":\"log\",\"params\":{\"a\":[1,null]},\"paperclipInvocationId\":\"inv\\\"1\"}\n");
	CHECK_INT(rpc_write_notification(&out, "log", NULL, NULL), 0);
	check_line(&out, "{\"jsonrpc\":\"2.0\",\"method\":\"log\"}\n");
	CHECK_INT(rpc_write_request(&out, UINT64_MAX, "state.get", value, NULL), 0);
	check_line(&out,
		   "{\"jsonrpc\":\"2.0\",\"id\":18446744073709551615,\"method\":\"state.get\",\"params\":{\"a\":[1,null]}}\n");
	CHECK_INT(rpc_write_request(&out, 1, "m", NULL, "i"), 0);
	check_line(&out, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"paperclipInvocationId\":\"i\"}\n");
}

TEST(error_texts_that_are_not_utf8_are_repaired)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	CHECK_INT(rpc_write_error(&out, "1", 1, -1, "file \xFF\xE2\x80\xA8 \xC3", NULL), 0);
	check_line(
		&out,
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1,\"message\":\"file \xEF\xBF\xBD\\u2028 \xEF\xBF\xBD\"}}\n");
}

TEST(an_echoed_id_never_ends_the_line)
{
	static const char line[] =
		"{\"jsonrpc\":\"2.0\",\"id\":[\"a\xE2\x80\xA8\xE2\x80\xA9\xE2\x82\xAC\",\r1 ],\"method\":\"m\"}";
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	struct rpc_message m;

	CHECK_INT(rpc_read(line, strlen(line), &m, NULL), 0);
	CHECK_INT(rpc_write_result(&out, m.id.text, m.id.len, NULL), 0);
	check_line(&out, "{\"jsonrpc\":\"2.0\",\"id\":[\"a\\u2028\\u2029\xE2\x82\xAC\", 1 ],\"result\":null}\n");
	rpc_message_deinit(&m);
}

TEST(a_line_that_does_not_fit_leaves_the_buffer_as_it_was)
{
	cleanup_json json_t *value = json_pack("{s:s}", "a", "b");

	for (size_t max = 2; max <= 120; max++) {
		cleanup_buf struct buf a = BUF_INIT(max), b = BUF_INIT(max), c = BUF_INIT(max), d = BUF_INIT(max);
		struct buf *all[] = {&a, &b, &c, &d};
		int rc[4];

		for (size_t i = 0; i < 4; i++)
			buf_append_str(all[i], "x\n");
		rc[0] = rpc_write_result(&a, "\"id\"", 4, value);
		rc[1] = rpc_write_error(&b, "\"id\"", 4, -32002, "message", value);
		rc[2] = rpc_write_notification(&c, "method", value, "invocation");
		rc[3] = rpc_write_request(&d, 7, "method", value, "invocation");
		for (size_t i = 0; i < 4; i++) {
			CHECK(all[i]->data[all[i]->len - 1] == '\n');
			CHECK(rc[i] == 0 ? all[i]->len > 2 : all[i]->len == 2);
			CHECK(max < 120 || rc[i] == 0);
		}
	}
}

TEST_MAIN()
