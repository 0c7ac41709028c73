#include "protocol/sse.h"
#include "tap.h"

#include <string.h>

static int note(void *arg, const struct sse_event *event, struct err *err)
{
	struct buf *log = arg;

	CHECK_INT(strlen(event->data), event->data_len);
	buf_printf(log, "<%s|%s>", event->name, event->data);
	return 0;
}

/* Feeds the stream in pieces of at most step bytes. Returns the log, owned. */
static char *play(const char *stream, size_t len, size_t step)
{
	cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
	struct sse s;

	sse_init(&s, 1000, note, &log);
	for (size_t at = 0; at < len; at += step) {
		size_t n = step < len - at ? step : len - at;
		cleanup_free char *piece = malloc(n); /* its end is watched by the sanitizer */

		memcpy(piece, stream + at, n);
		CHECK_INT(sse_feed(&s, piece, n, NULL), 0);
	}
	CHECK_INT(sse_finish(&s, NULL), 0);
	sse_deinit(&s);
	return buf_steal(&log);
}

static void check(const char *stream, const char *want)
{
	size_t len = strlen(stream);

	for (size_t step = 1; step <= len; step++) {
		cleanup_free char *log = play(stream, len, step);

		CHECK_STR(log, want);
	}
}

TEST(events_come_out_the_same_wherever_the_stream_is_cut)
{
	/* wire: cloudflare, as recorded */
	check("event: stdout\ndata: {\"data\":\"h\xC3\xA9llo\\n\"}\n\n: keepalive\n\nevent: complete\ndata: {\"exitCode\":3}\n\n",
	      "<stdout|{\"data\":\"h\xC3\xA9llo\\n\"}><complete|{\"exitCode\":3}>");
}

TEST(lines_end_in_lf_crlf_and_cr)
{
	check("event: a\r\ndata: 1\r\n\r\nevent: b\rdata: 2\r\revent: c\ndata: 3\n\n", "<a|1><b|2><c|3>");
	check("data: 1\r\n\r\n\r\n\r\ndata: 2\r\r\n", "<|1><|2>");
}

TEST(data_lines_are_joined_and_lose_one_blank)
{
	check("data: {\ndata:\"a\":\ndata:  1}\n\n", "<|{\n\"a\":\n 1}>");
	check("data\ndata\n\n", "<|\n>");
	check("data:\n\n", "<|>");
}

TEST(names_are_trimmed_and_the_last_one_wins)
{
	check("event:  a \t\ndata: 1\nevent:b\n\ndata: 2\n\n", "<b|1><|2>");
}

TEST(what_is_no_event_is_dropped)
{
	check(": comment\n\n\nevent: a\n\nid: 1\nretry: 5\n event: x\ndatax: 1\nDATA: 1\ndata: 2\n\n", "<|2>");
}

TEST(the_name_does_not_outlive_an_event_without_data)
{
	check("event: a\n\ndata: 1\n\n", "<|1>");
}

TEST(an_unfinished_last_event_counts)
{
	check("event: a\ndata: 1", "<a|1>");
	check("event: a\ndata: 1\n", "<a|1>");
	check("event: a\ndata: 1\r", "<a|1>");
	check("event: a", "");
	check("", "");
}

TEST(a_byte_order_mark_is_dropped_at_the_start_only)
{
	check("\xEF\xBB\xBF" "data: \xEF\xBB\xBF" "1\n\n", "<|\xEF\xBB\xBF" "1>");
	check("\xEF\xBB" "data: 1\n\ndata: 2\n\n", "<|2>");
	check("data: \xEF\xBB\xBF\n\n\xEF\xBB\xBF" "data: 2\n\n", "<|\xEF\xBB\xBF>");
}

TEST(bytes_that_are_no_utf8_become_replacement_characters)
{
	check("event: a\xFF\ndata: \xC3\ndata: (\xED\xA0\x80)\n\n", "<a\xEF\xBF\xBD|\xEF\xBF\xBD\n(\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD)>");
}

TEST(an_event_above_the_ceiling_is_an_error)
{
	cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err err = ERR_INIT, second = ERR_INIT;
	struct sse s;

	sse_init(&s, 20, note, &log);
	CHECK_INT(sse_feed(&s, "data: 12345678901234\n\n", 22, &err), 0);
	CHECK_INT(sse_feed(&s, "data: 123456789012345\n", 22, &err), -1);
	CHECK(err_is(&err, ERR_PROTOCOL));
	sse_deinit(&s);
	sse_init(&s, 20, note, &log);
	CHECK_INT(sse_feed(&s, "data: 1234567890\ndata: 12345\n", 29, &second), 0);
	CHECK_INT(sse_feed(&s, "data: 1234\n", 11, &second), -1);
	sse_deinit(&s);
	CHECK_STR(log.data, "<|12345678901234>");
}

static int stop(void *arg, const struct sse_event *event, struct err *err)
{
	return err_set(err, ERR_REMOTE, "%s", event->data);
}

TEST(the_callers_refusal_ends_the_feeding)
{
	cleanup_err struct err err = ERR_INIT;
	struct sse s;

	sse_init(&s, 100, stop, NULL);
	CHECK_INT(sse_feed(&s, "data: first\n\ndata: second\n\n", 27, &err), -1);
	CHECK_STR(err_text(&err), "first");
	sse_deinit(&s);
}

TEST_MAIN()
