#include "protocol/multipart.h"
#include "protocol/header_value.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>

struct log {
	struct buf text;
	bool in_data;
};

static int on_part(void *arg, const struct multipart_part *part, struct err *err)
{
	struct log *log = arg;

	buf_printf(&log->text, "[%s|%s|%s|%lld:", part->name ? part->name : "-", part->filename ? part->filename : "-",
		   part->content_type ? part->content_type : "-", (long long)part->length);
	return 0;
}

static int on_data(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct log *log = arg;

	CHECK(n > 0);
	return buf_append(&log->text, bytes, n);
}

static int on_end(void *arg, struct err *err)
{
	struct log *log = arg;

	return buf_append_str(&log->text, "]");
}

/* Returns what multipart_finish (or the failing feed) did; the log goes to *ret. */
static int play(const char *type, const char *body, size_t len, size_t step, char **ret, struct err *err)
{
	struct log log = {.text = BUF_INIT(BUF_UNBOUNDED)};
	struct multipart_events events = {on_part, on_data, on_end, &log};
	struct multipart m;
	int rc = multipart_init(&m, type, &events, err);

	for (size_t at = 0; rc == 0 && at < len; at += step) {
		size_t n = step < len - at ? step : len - at;
		cleanup_free char *piece = malloc(n);

		memcpy(piece, body + at, n);
		rc = multipart_feed(&m, piece, n, err);
	}
	if (rc == 0)
		rc = multipart_finish(&m, err);
	multipart_deinit(&m);
	*ret = buf_steal(&log.text);
	return rc;
}

static void check(const char *type, const char *body, const char *want)
{
	for (size_t step = 1; step <= strlen(body); step++) {
		cleanup_free char *got = NULL;
		cleanup_err struct err err = ERR_INIT;

		CHECK_INT(play(type, body, strlen(body), step, &got, &err), 0);
		CHECK_STR(got, want);
	}
}

static void check_fails(const char *type, const char *body, const char *want)
{
	for (size_t step = 1; step <= strlen(body); step++) {
		cleanup_free char *got = NULL;
		cleanup_err struct err err = ERR_INIT;

		CHECK_INT(play(type, body, strlen(body), step, &got, &err), -1);
		CHECK(err_is(&err, ERR_PROTOCOL));
		CHECK_STR(err_text(&err), want);
	}
}

#define TYPE "multipart/form-data; boundary=DAYTONA-FILE-BOUNDARY"
#define B "DAYTONA-FILE-BOUNDARY"

/* wire: daytona, Download */
TEST(a_download_with_a_file_and_an_error)
{
	check(TYPE,
	      "--" B "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"/a/one.txt\"; filename*=utf-8''%2Fa%2Fone.txt\r\n"
	      "Content-Length: 4\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\n\r\n"
	      "--" B "\r\nContent-Disposition: form-data; name=\"error\"; filename=\"/a/none\"; filename*=utf-8''%2Fa%2Fn%C3%B6ne\r\n"
	      "Content-Type: application/json; charset=utf-8\r\n\r\n{\"statusCode\":404}\r\n--" B "--\r\n",
	      "[file|/a/one.txt|text/plain; charset=utf-8|4:one\n]"
	      "[error|/a/n\xC3\xB6ne|application/json; charset=utf-8|-1:{\"statusCode\":404}]");
}

TEST(a_stated_length_lets_the_content_hold_the_boundary)
{
	check(TYPE, "--" B "\r\nContent-Length: 33\r\n\r\na\r\n--" B "--\r\nb\r\n\r\n--" B "--", "[-|-|-|33:a\r\n--" B "--\r\nb\r\n]");
}

TEST(text_that_only_begins_like_the_boundary_is_content)
{
	check("multipart/mixed; boundary=B", "--B\r\n\r\na\r\n-\r\n--\r\n--Bc\r\n--C\r\n--B--", "[-|-|-|-1:a\r\n-\r\n--\r\n--Bc\r\n--C]");
	check("multipart/mixed; boundary=\"B\"", "--B\r\n\r\n\r\n\r\n\r\n--B--", "[-|-|-|-1:\r\n\r\n]");
}

TEST(preamble_epilogue_blanks_and_empty_parts_are_fine)
{
	check("Multipart/Mixed;boundary=\"a b\"", "preamble\r\n--a b \t\r\nX-Y: 1\r\n\r\n\r\n--a b\r\n\r\n\r\n--a b--epilogue\r\n--a b\r\n",
	      "[-|-|-|-1:][-|-|-|-1:]");
}

TEST(a_message_without_parts_is_fine)
{
	check("multipart/mixed; boundary=B", "--B--", "");
}

TEST(a_truncated_message_is_an_error)
{
	static const char early[] = "the multipart message ended before its closing boundary";

	check_fails(TYPE, "--" B, early);
	check_fails(TYPE, "--" B "\r\nContent-Length: 4\r\n\r\non", early);
	check_fails(TYPE, "--" B "\r\n\r\none", early);
	check_fails(TYPE, "--" B "\r\n\r\none\r\n--" B, early);
	check_fails(TYPE, "--" B "\r\n\r\none\r\n--" B "\r\n", early);
	check_fails(TYPE, "--" B "\r\nContent-Length: 4\r\n\r\none\n", early);
}

TEST(a_part_that_is_longer_than_stated_is_an_error)
{
	check_fails(TYPE, "--" B "\r\nContent-Length: 2\r\n\r\none\r\n--" B "--\r\n          ", "a part of the multipart message is longer than it states");
}

TEST(a_malformed_length_or_boundary_line_is_an_error)
{
	check_fails(TYPE, "--" B "\r\nContent-Length: -2\r\n\r\n", "a part of the multipart message states a malformed length");
	check_fails(TYPE, "--" B "\r\nContent-Length: 99999999999999999999\r\n\r\n", "a part of the multipart message states a malformed length");
	check_fails(TYPE, "--" B "\r-x", "the multipart message has a malformed boundary line");
}

TEST(endless_headers_are_an_error)
{
	cleanup_buf struct buf body = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *got = NULL;
	cleanup_err struct err err = ERR_INIT;

	buf_append_str(&body, "--" B "\r\n");
	for (int i = 0; i < 10000; i++)
		buf_append_str(&body, "X-Y: zzzzzzz\r\n");
	CHECK_INT(play(TYPE, body.data, body.len, 100, &got, &err), -1);
	CHECK_STR(err_text(&err), "a part of the multipart message has too many headers");
}

TEST(an_answer_that_is_no_multipart_message_is_refused)
{
	static const char *const types[] = {NULL, "", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "text/html; boundary=B"};

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		cleanup_err struct err err = ERR_INIT;
		struct multipart_events events = {on_part, on_data, on_end, NULL};
		struct multipart m;

		CHECK_INT(multipart_init(&m, types[i], &events, &err), -1);
		CHECK(err_is(&err, ERR_PROTOCOL));
		multipart_deinit(&m);
	}
}

/* wire: daytona, Upload */
TEST(an_upload_as_the_wire_document_shows_it)
{
	cleanup_buf struct buf body = BUF_INIT(BUF_UNBOUNDED);

	multipart_write_field(&body, "B", "files[0].path", "/tmp/paperclip-stdin-5a0e");
	multipart_write_file_head(&body, "B", "files[0].file", "paper\"clip\r\n", "application/octet-stream");
	buf_append_str(&body, "bytes");
	multipart_write_file_tail(&body);
	multipart_write_end(&body, "B");
	CHECK_STR(body.data, "--B\r\nContent-Disposition: form-data; name=\"files[0].path\"\r\n\r\n/tmp/paperclip-stdin-5a0e\r\n"
			     "--B\r\nContent-Disposition: form-data; name=\"files[0].file\"; filename=\"paper%22clip%0D%0A\"\r\n"
			     "Content-Type: application/octet-stream\r\n\r\nbytes\r\n--B--\r\n");
	check("multipart/form-data; boundary=B", body.data,
	      "[files[0].path|-|-|-1:/tmp/paperclip-stdin-5a0e][files[0].file|paper%22clip%0D%0A|application/octet-stream|-1:bytes]");
}

TEST(boundaries_are_made_of_random_bytes)
{
	unsigned char random[MULTIPART_RANDOM_BYTES] = {0x00, 0xff, 0x10};
	char boundary[MULTIPART_BOUNDARY_SIZE];

	multipart_boundary(random, boundary);
	CHECK_STR(boundary, "--------00ff1000000000000000000000000000");
}

TEST(media_types_are_compared_without_parameters_and_case)
{
	CHECK(header_is_type("Application/JSON ; charset=utf-8", "application/json"));
	CHECK(header_is_type(" text/event-stream", "text/event-stream"));
	CHECK(!header_is_type("application/json5", "application/json"));
	CHECK(!header_is_type(NULL, "application/json"));
}

TEST(parameters_are_unquoted_and_decoded)
{
	static const struct {
		const char *value, *name, *want;
	} cases[] = {
		{"a; name=x", "name", "x"},
		{"a; Name = \"x y\" ; b=1", "name", "x y"},
		{"a; name=\"q\\\"\\\\;r\"; b=1", "b", "1"},
		{"a; name=\"q\\\"\\\\;r\"; b=1", "name", "q\"\\;r"},
		{"a; filename=old; filename*=UTF-8'en'n%C3%A9w%20x", "filename", "n\xC3\xA9w x"},
		{"a; filename*=iso-8859-1''x; filename=old", "filename", "old"},
		{"a; filename=\"\xFF\"", "filename", "\xEF\xBF\xBD"},
		{"a; b; name", "name", NULL},
		{"a; xname=1", "name", NULL},
		{"a; name=\"open", "name", "open"},
		{"name=1", "name", NULL},
		{"a;;; name=1", "name", "1"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_free char *got = header_param(cases[i].value, cases[i].name);

		CHECK_STR(got, cases[i].want);
	}
}

TEST_MAIN()
