#include "base/mem.h"
#include "protocol/ndjson.h"
#include "random.h"
#include "tap.h"

#include <string.h>

#define BYTES(literal) literal, sizeof(literal) - 1

static void feed(struct ndjson *n, const char *bytes, size_t len)
{
	if (!len)
		return;
	memcpy(ndjson_room(n, len), bytes, len);
	ndjson_added(n, len);
}

/* Writes the events down: "<line>" or "!<length>:<first bytes>" for one that was too long. */
static void drain(struct ndjson *n, bool at_end, struct buf *log)
{
	enum ndjson_event event;
	char *line;
	size_t len;

	while ((event = at_end ? ndjson_finish(n, &line, &len) : ndjson_next(n, &line, &len)) != NDJSON_NEED_MORE) {
		if (event == NDJSON_OVERLONG)
			buf_printf(log, "!%zu:", len);
		buf_append_char(log, '<');
		buf_append(log, line, len < 100 ? len : 100);
		buf_append_char(log, '>');
		memset(line, '#', len); /* the line is ours until the next call */
	}
}

/* The events of bytes that come in two pieces, or (step > 0) in pieces of that size. */
static void play(size_t line_max, const char *bytes, size_t len, size_t cut, size_t step, struct buf *log)
{
	struct ndjson n;

	ndjson_init(&n, line_max);
	if (step) {
		for (size_t at = 0; at < len; at += step) {
			feed(&n, bytes + at, step < len - at ? step : len - at);
			drain(&n, false, log);
		}
	} else {
		feed(&n, bytes, cut);
		drain(&n, false, log);
		feed(&n, bytes + cut, len - cut);
		drain(&n, false, log);
	}
	drain(&n, true, log);
	buf_append_char(log, '.');
	drain(&n, true, log); /* says nothing twice */
	ndjson_deinit(&n);
}

struct stream {
	const char *bytes;
	size_t len;
	size_t line_max;
	const char *events;
};

static const struct stream streams[] = {
	{BYTES(""), 100, "."},
	{BYTES("a\n"), 100, "<a>."},
	{BYTES("a\nbc\n\nd\n"), 100, "<a><bc><d>."},
	/* the end of the stream ends a line too */
	{BYTES("a\nb"), 100, "<a><b>."},
	{BYTES("a\r"), 100, "<a>."},
	/* \r */
	{BYTES("a\r\nb\r\n"), 100, "<a><b>."},
	{BYTES("a\r\r\nb\rc\n"), 100, "<a\r><b\rc>."},
	/* blank lines */
	{BYTES("\n\n\r\n \t\r\n a \n\n"), 100, "< a >."},
	{BYTES(" \t"), 100, "."},
	/* the byte order mark, at the start of the stream only, and what merely looks like one */
	{BYTES("\xEF\xBB\xBF"
	       "a\n\xEF\xBB\xBF"
	       "b\n"),
	 100,
	 "<a><\xEF\xBB\xBF"
	 "b>."},
	{BYTES("\xEF\xBB\xBF"), 100, "."},
	{BYTES("\xEF\xBB\xBF\xEF\xBB\xBF\n"), 100, "<\xEF\xBB\xBF>."},
	{BYTES("\xEF\xBB"), 100, "<\xEF\xBB>."},
	{BYTES("\xEF\xBB\n"), 100, "<\xEF\xBB>."},
	{BYTES("\xEF\xBBx\n"), 100, "<\xEF\xBBx>."},
	{BYTES("\n\xEF\xBB\xBF"
	       "a\n"),
	 100,
	 "<\xEF\xBB\xBF"
	 "a>."},
	/* other line ends are not ours */
	{BYTES("a\xE2\x80\xA8"
	       "b\xE2\x80\xA9"
	       "c\xC2\x85"
	       "d\v\f\n"),
	 100,
	 "<a\xE2\x80\xA8"
	 "b\xE2\x80\xA9"
	 "c\xC2\x85"
	 "d\v\f>."},
	{BYTES("a\0b\n\0\n"), 100, NULL},
	/* the ceiling */
	{BYTES("12345\n"), 5, "<12345>."},
	{BYTES("123456\na\n"), 5, "!6:<123456><a>."},
	{BYTES("12345\r\n1234\r\n"), 5, "!6:<12345\r><1234>."},
	{BYTES("a\n1234567890\n1234567\nb\n"), 5, "<a>!10:<1234567890>!7:<1234567><b>."},
	{BYTES("a\n1234567890"), 5, "<a>!10:<1234567890>."},
	{BYTES("12345"), 5, "<12345>."},
	{BYTES("      \n\na\n"), 5, "!6:<      ><a>."},
	{BYTES("\xEF\xBB\xBF"
	       "12345\n"),
	 5, "<12345>."},
	{BYTES("\n\n\r\na"), 0, "!1:<\r>!1:<a>."},
};

#define STREAMS (sizeof(streams) / sizeof(*streams))

static void check_events(const struct stream *s, const struct buf *log)
{
	if (s->events)
		CHECK_MEM(log->data, log->len, s->events, strlen(s->events));
	else
		CHECK_MEM(log->data, log->len, "<a\0b><\0>.", 9);
}

TEST(a_stream_gives_its_lines)
{
	for (size_t i = 0; i < STREAMS; i++) {
		cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);

		play(streams[i].line_max, streams[i].bytes, streams[i].len, 0, 0, &log);
		check_events(&streams[i], &log);
	}
}

TEST(a_cut_at_any_byte_gives_the_same_lines)
{
	for (size_t i = 0; i < STREAMS; i++) {
		for (size_t cut = 0; cut <= streams[i].len; cut++) {
			cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);

			play(streams[i].line_max, streams[i].bytes, streams[i].len, cut, 0, &log);
			check_events(&streams[i], &log);
		}
	}
}

TEST(pieces_of_any_size_give_the_same_lines)
{
	for (size_t i = 0; i < STREAMS; i++) {
		for (size_t step = 1; step < 8; step++) {
			cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);

			play(streams[i].line_max, streams[i].bytes, streams[i].len, 0, step, &log);
			check_events(&streams[i], &log);
		}
	}
}

TEST(random_streams_in_random_pieces_give_the_same_lines)
{
	static const char bits[] = "\n\n\r ab{\xEF\xBB\xBF";
	struct random r = {5};

	for (int round = 0; round < 3000; round++) {
		cleanup_buf struct buf whole = BUF_INIT(BUF_UNBOUNDED), pieces = BUF_INIT(BUF_UNBOUNDED);
		char bytes[120];
		size_t len = random_below(&r, sizeof(bytes)), line_max = random_below(&r, 12);
		struct ndjson n;

		for (size_t i = 0; i < len; i++)
			bytes[i] = bits[random_below(&r, sizeof(bits) - 1)];
		play(line_max, bytes, len, len, 0, &whole);
		ndjson_init(&n, line_max);
		for (size_t at = 0, step; at < len; at += step) {
			step = random_below(&r, 20);
			step = step < len - at ? step : len - at;
			feed(&n, bytes + at, step);
			if (random_below(&r, 2))
				drain(&n, false, &pieces);
		}
		drain(&n, true, &pieces);
		ndjson_deinit(&n);
		buf_append_char(&pieces, '.');
		CHECK_MEM(pieces.data, pieces.len, whole.data, whole.len);
	}
}

TEST(of_a_line_above_the_ceiling_the_head_is_reported_and_little_is_kept)
{
	static const size_t sizes[] = {NDJSON_HEAD_BYTES, NDJSON_HEAD_BYTES + 1, 5 * 1000 * 1000};
	struct ndjson n;
	char piece[10000], *line;
	size_t len;

	ndjson_init(&n, 1000);
	for (size_t s = 0; s < 3; s++) {
		memset(piece, 'x', sizeof(piece));
		memcpy(piece, "{\"id\":7,", 8);
		for (size_t sent = 0, step; sent < sizes[s]; sent += step) {
			step = sizeof(piece) < sizes[s] - sent ? sizeof(piece) : sizes[s] - sent;
			feed(&n, piece, step);
			memset(piece, 'x', 8);
			CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_NEED_MORE);
		}
		CHECK(n.cap <= 4 * NDJSON_HEAD_BYTES);
		feed(&n, BYTES("\nnext\n"));
		CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_OVERLONG);
		CHECK_INT(len, NDJSON_HEAD_BYTES);
		CHECK_MEM(line, 9, "{\"id\":7,x", 9);
		CHECK(line[len - 1] == 'x');
		CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_LINE);
		CHECK_MEM(line, len, "next", 4);
	}
	ndjson_deinit(&n);
}

TEST(a_big_line_below_the_ceiling_comes_whole_and_its_memory_is_given_back)
{
	size_t size = 20 * 1000 * 1000, len;
	struct ndjson n;
	char *line;

	ndjson_init(&n, size);
	for (int round = 0; round < 2; round++) {
		for (size_t sent = 0; sent < size; sent += 100000) {
			memset(ndjson_room(&n, 100000), 'a' + (int)(sent / 100000 % 26), 100000);
			ndjson_added(&n, 100000);
			CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_NEED_MORE);
		}
		feed(&n, BYTES("\nx"));
		CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_LINE);
		CHECK_INT(len, size);
		for (size_t at = 0; at < size; at += 99999) {
			if (line[at] != (char)('a' + at / 100000 % 26))
				tap_fail(__FILE__, __LINE__, "byte %zu is wrong", at);
		}
		CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_NEED_MORE);
		CHECK(n.cap <= 1 << 20);
		feed(&n, BYTES("y\n"));
		CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_LINE);
		CHECK_MEM(line, len, "xy", 2);
	}
	ndjson_deinit(&n);
}

TEST(there_is_always_the_room_that_was_asked_for)
{
	static const size_t wants[] = {1, 100, 65536, 1, 3000000, 7, 65536};
	struct ndjson n;
	size_t len, total = 0;
	char *line;

	ndjson_init(&n, SIZE_MAX);
	for (size_t i = 0; i < 7; i++) {
		memset(ndjson_room(&n, wants[i]), 'x', wants[i]);
		ndjson_added(&n, wants[i] / 2);
		total += wants[i] / 2;
	}
	CHECK_INT(ndjson_finish(&n, &line, &len), NDJSON_LINE);
	CHECK_INT(len, total);
	ndjson_deinit(&n);
}

TEST(what_was_used_is_overwritten)
{
	struct ndjson n;
	size_t len;
	char *line;

	ndjson_init(&n, 1000);
	feed(&n, BYTES("secret\nother\nrest"));
	CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_LINE);
	char *secret = line;

	CHECK_INT(ndjson_next(&n, &line, &len), NDJSON_LINE);
	CHECK_MEM(secret, 7, "\0\0\0\0\0\0\0", 7);
	CHECK_MEM(line, len, "other", 5);
	ndjson_deinit(&n);
	CHECK(!n.data);
	ndjson_deinit(&n);
	ndjson_deinit(NULL);
}

TEST(a_hundred_thousand_lines_of_one_read_are_not_moved)
{
	struct ndjson n;
	size_t count = 100000, len, seen = 0;
	char *line, *previous = NULL, *room;

	ndjson_init(&n, 1000);
	room = ndjson_room(&n, 10 * count);
	for (size_t i = 0; i < count; i++)
		memcpy(room + 10 * i, "{\"id\": 5}\n", 10);
	ndjson_added(&n, 10 * count);
	while (ndjson_next(&n, &line, &len) == NDJSON_LINE) {
		if (previous && line != previous + 10)
			tap_fail(__FILE__, __LINE__, "line %zu was moved", seen);
		previous = line;
		seen++;
	}
	CHECK_INT(seen, count);
	ndjson_deinit(&n);
}

TEST_MAIN()
