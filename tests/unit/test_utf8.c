#include "base/utf8.h"
#include "random.h"
#include "tap.h"

#include <string.h>

#define R "\xEF\xBF\xBD"

struct repair_case {
	const char *bytes;
	size_t len;
	const char *text;
};
#define BYTES(literal) literal, sizeof(literal) - 1

/* Expected texts: what TextDecoder("utf-8", {ignoreBOM: true}) gives. */
static const struct repair_case cases[] = {
	{BYTES(""), ""},
	{BYTES("plain"), "plain"},
	{BYTES("h\xC3\xA9llo \xE2\x82\xAC \xF0\x9F\x98\x80"), "h\xC3\xA9llo \xE2\x82\xAC \xF0\x9F\x98\x80"},
	{BYTES("\xEF\xBB\xBF"
	       "bom"),
	 "\xEF\xBB\xBF"
	 "bom"},
	/* tails alone, leads alone, bytes that never occur */
	{BYTES("\x80"), R},
	{BYTES("\x80\xBF"), R R},
	{BYTES("\xC2"), R},
	{BYTES("\xC2"
	       "A"),
	 R "A"},
	{BYTES("\xE2\x82"), R},
	{BYTES("\xE2\x82"
	       "A"),
	 R "A"},
	{BYTES("\xF0\x9F\x98"), R},
	{BYTES("\xF0\x9F\x98"
	       "A"),
	 R "A"},
	{BYTES("\xF0\x9F"
	       "A"),
	 R "A"},
	{BYTES("\xFF\xFE\xFA"), R R R},
	{BYTES("\xF5\x80\x80\x80"), R R R R},
	{BYTES("\xF8\x88\x80\x80\x80"), R R R R R},
	/* overlong */
	{BYTES("\xC0\x80"), R R},
	{BYTES("\xC1\xBF"), R R},
	{BYTES("\xE0\x80\x80"), R R R},
	{BYTES("\xE0\x9F\xBF"), R R R},
	{BYTES("\xE0\xA0\x80"), "\xE0\xA0\x80"},
	{BYTES("\xF0\x80\x80\x80"), R R R R},
	{BYTES("\xF0\x8F\xBF\xBF"), R R R R},
	{BYTES("\xF0\x90\x80\x80"), "\xF0\x90\x80\x80"},
	/* surrogates, and the end of Unicode */
	{BYTES("\xED\x9F\xBF"), "\xED\x9F\xBF"},
	{BYTES("\xED\xA0\x80"), R R R},
	{BYTES("\xED\xBF\xBF"), R R R},
	{BYTES("\xED\xA0\xBD\xED\xB8\x80"), R R R R R R},
	{BYTES("\xEE\x80\x80"), "\xEE\x80\x80"},
	{BYTES("\xF4\x8F\xBF\xBF"), "\xF4\x8F\xBF\xBF"},
	{BYTES("\xF4\x90\x80\x80"), R R R R},
	/* a sequence that another one interrupts (Unicode, table 3-8 and following) */
	{BYTES("\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"), R R R "b" R "c" R R "d"},
	{BYTES("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), R R R R "A"},
	{BYTES("\xE2\x82\xE2\x82\xAC"), R "\xE2\x82\xAC"},
	{BYTES("\xF0\xF0\x9F\x98\x80"), R "\xF0\x9F\x98\x80"},
};

/* WHATWG's algorithm, word for word, a byte at a time. */
static void decode_slowly(const unsigned char *s, size_t n, struct buf *out)
{
	uint32_t point = 0;
	int needed = 0, seen = 0;
	unsigned char low = 0x80, high = 0xBF;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = s[i];

		if (needed == 0) {
			if (c < 0x80) {
				utf8_append_codepoint(out, c);
			} else if (c >= 0xC2 && c <= 0xDF) {
				needed = 1;
				point = c & 0x1Fu;
			} else if (c >= 0xE0 && c <= 0xEF) {
				low = c == 0xE0 ? 0xA0 : 0x80;
				high = c == 0xED ? 0x9F : 0xBF;
				needed = 2;
				point = c & 0xFu;
			} else if (c >= 0xF0 && c <= 0xF4) {
				low = c == 0xF0 ? 0x90 : 0x80;
				high = c == 0xF4 ? 0x8F : 0xBF;
				needed = 3;
				point = c & 0x7u;
			} else {
				buf_append_str(out, R);
			}
			continue;
		}
		if (c < low || c > high) {
			needed = seen = 0;
			low = 0x80;
			high = 0xBF;
			buf_append_str(out, R);
			i--; /* "restore byte to ioQueue" */
			continue;
		}
		low = 0x80;
		high = 0xBF;
		point = point << 6 | (c & 0x3Fu);
		if (++seen == needed) {
			utf8_append_codepoint(out, point);
			needed = seen = 0;
		}
	}
	if (needed)
		buf_append_str(out, R);
}

static void repair_pieces(const char *bytes, size_t len, size_t first, size_t second, struct buf *out)
{
	struct utf8_repair state = {0};

	CHECK_INT(utf8_repair_append(&state, bytes, first, out), 0);
	CHECK_INT(utf8_repair_append(&state, bytes + first, second - first, out), 0);
	CHECK_INT(utf8_repair_append(&state, bytes + second, len - second, out), 0);
	CHECK_INT(utf8_repair_finish(&state, out), 0);
}

TEST(ill_formed_bytes_become_replacement_characters)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED), slow = BUF_INIT(BUF_UNBOUNDED);

		repair_pieces(cases[i].bytes, cases[i].len, cases[i].len, cases[i].len, &out);
		CHECK_MEM(out.data, out.len, cases[i].text, strlen(cases[i].text));
		decode_slowly((const unsigned char *)cases[i].bytes, cases[i].len, &slow);
		CHECK_MEM(slow.data, slow.len, cases[i].text, strlen(cases[i].text));
	}
}

TEST(any_two_cuts_give_the_same_text)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (size_t first = 0; first <= cases[i].len; first++) {
			for (size_t second = first; second <= cases[i].len; second++) {
				cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

				repair_pieces(cases[i].bytes, cases[i].len, first, second, &out);
				CHECK_MEM(out.data, out.len, cases[i].text, strlen(cases[i].text));
			}
		}
	}
}

TEST(every_pair_and_triple_of_edge_bytes_is_decoded_as_the_standard_says)
{
	static const unsigned char edge[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
					     0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
	size_t n = sizeof(edge);

	for (size_t i = 0; i < n * n * n * n; i++) {
		unsigned char s[4] = {edge[i % n], edge[i / n % n], edge[i / n / n % n], edge[i / n / n / n]};
		cleanup_buf struct buf fast = BUF_INIT(100), slow = BUF_INIT(100);

		repair_pieces((const char *)s, 4, i % 5, 4, &fast);
		decode_slowly(s, 4, &slow);
		CHECK_MEM(fast.data, fast.len, slow.data, slow.len);
		if (utf8_is_valid(s, 4) != (slow.len == 4 && memcmp(slow.data, s, 4) == 0))
			tap_fail(__FILE__, __LINE__, "validity of %02x %02x %02x %02x", s[0], s[1], s[2], s[3]);
	}
}

/* Text of all widths with some bytes damaged. */
static void make_text(struct random *r, struct buf *out, size_t size, unsigned damage)
{
	while (out->len < size) {
		switch (random_below(r, 6)) {
		case 0:
			utf8_append_codepoint(out, (uint32_t)random_below(r, 0x110000));
			break;
		case 1:
			utf8_append_codepoint(out, 0x80 + (uint32_t)random_below(r, 0xFF80));
			break;
		default:
			for (size_t n = random_below(r, 80); n; n--)
				buf_append_char(out, (char)random_below(r, 128));
		}
	}
	for (unsigned i = 0; i < damage; i++)
		out->data[random_below(r, out->len)] = (char)random_next(r);
}

TEST(long_damaged_texts_in_random_pieces_are_decoded_as_the_standard_says)
{
	struct random r = {4711};

	for (int round = 0; round < 60; round++) {
		cleanup_buf struct buf in = BUF_INIT(BUF_UNBOUNDED), slow = BUF_INIT(BUF_UNBOUNDED),
				       fast = BUF_INIT(BUF_UNBOUNDED);
		struct utf8_repair state = {0};

		make_text(&r, &in, 40000, round % 3 ? 200 : 0);
		for (size_t at = 0, n; at < in.len; at += n) {
			n = random_below(&r, round % 2 ? 50 : 40000);
			n = n < in.len - at ? n : in.len - at;
			CHECK_INT(utf8_repair_append(&state, in.data + at, n, &fast), 0);
		}
		CHECK_INT(utf8_repair_finish(&state, &fast), 0);
		decode_slowly((const unsigned char *)in.data, in.len, &slow);
		CHECK(fast.len == slow.len && memcmp(fast.data, slow.data, slow.len) == 0);
		CHECK(utf8_is_valid(fast.data, fast.len));
		CHECK(utf8_is_valid(in.data, in.len) == (in.len == slow.len && memcmp(in.data, slow.data, in.len) == 0));
	}
}

TEST(characters_survive_at_every_offset_of_a_long_text)
{
	for (size_t at = 16384 - 40; at < 16384 + 40; at++) {
		cleanup_buf struct buf in = BUF_INIT(BUF_UNBOUNDED), out = BUF_INIT(BUF_UNBOUNDED);

		for (size_t i = 0; i < at; i++)
			buf_append_char(&in, 'a');
		buf_append_str(&in, "\xF0\x9F\x98\x80\xE2\x82\xAC\xC3\xA9");
		for (size_t i = 0; i < 100; i++)
			buf_append_char(&in, 'b');
		repair_pieces(in.data, in.len, 0, in.len, &out);
		CHECK_MEM(out.data, out.len, in.data, in.len);
		CHECK(utf8_is_valid(in.data, in.len));
	}
}

TEST(at_the_ceiling_text_and_state_stay_as_they_were)
{
	cleanup_buf struct buf out = BUF_INIT(6);
	struct utf8_repair state = {0};

	CHECK_INT(utf8_repair_append(&state, "ab\xE2\x82", 4, &out), 0);
	CHECK_STR(out.data, "ab");
	CHECK_INT(utf8_repair_append(&state,
				     "\xAC"
				     "cd",
				     3, &out),
		  -1);
	CHECK_INT(out.len, 2);
	CHECK_STR(out.data, "ab");
	CHECK_INT(utf8_repair_append(&state, "\xFF\xFF", 2, &out), -1);
	CHECK_STR(out.data, "ab");
	CHECK_INT(utf8_repair_append(&state,
				     "\xAC"
				     "c",
				     2, &out),
		  0);
	CHECK_STR(out.data, "ab\xE2\x82\xAC"
			    "c");
	CHECK_INT(utf8_repair_append(&state, "\xE2\x82", 2, &out), 0);
	CHECK_INT(utf8_repair_finish(&state, &out), -1);
	CHECK_STR(out.data, "ab\xE2\x82\xAC"
			    "c");
}

TEST(a_cut_is_moved_to_a_character_border)
{
	static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
	/*                          0 1       3           6               10 11 */
	static const size_t floors[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
	static const size_t ceils[] = {0, 1, 3, 3, 6, 6, 6, 10, 10, 10, 10, 11};

	for (size_t n = 0; n <= 11; n++) {
		CHECK_INT(utf8_floor(text, n), floors[n]);
		CHECK_INT(utf8_ceil(text, 11, n), ceils[n]);
	}
	CHECK_INT(utf8_ceil(text, 11, 50), 11);
	CHECK_INT(utf8_floor("", 0), 0);
}

TEST(code_points_are_encoded)
{
	static const struct {
		uint32_t point;
		const char *text;
	} points[] = {
		{'A', "A"},
		{0x7F, "\x7F"},
		{0x80, "\xC2\x80"},
		{0x7FF, "\xDF\xBF"},
		{0x800, "\xE0\xA0\x80"},
		{0xD7FF, "\xED\x9F\xBF"},
		{0xD800, R},
		{0xDFFF, R},
		{0xE000, "\xEE\x80\x80"},
		{0xFFFF, "\xEF\xBF\xBF"},
		{0x10000, "\xF0\x90\x80\x80"},
		{0x10FFFF, "\xF4\x8F\xBF\xBF"},
		{0x110000, R},
		{UINT32_MAX, R},
	};

	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
		cleanup_buf struct buf out = BUF_INIT(10);

		CHECK_INT(utf8_append_codepoint(&out, points[i].point), 0);
		CHECK_STR(out.data, points[i].text);
	}
	struct buf full = BUF_INIT(3);

	CHECK_INT(utf8_append_codepoint(&full, 0x10000), -1);
	CHECK(!full.data);
}

TEST_MAIN()
