#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/json_number.h"
#include "protocol/json_write.h"
#include "random.h"
#include "tap.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(literal) literal, sizeof(literal) - 1

/* Escapes one character at a time, by the definition. */
static void escape_slowly(const char *s, size_t n, struct buf *out)
{
	static const char shorts[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";

	for (size_t i = 0; i < n; i++) {
		const char *found = s[i] ? strchr(shorts, s[i]) : NULL;

		if (found)
			buf_printf(out, "\\%c", letters[found - shorts]);
		else if ((unsigned char)s[i] < 0x20)
			buf_printf(out, "\\u%04x", (unsigned)s[i]);
		else if (n - i >= 3 && (memcmp(s + i, "\xE2\x80\xA8", 3) == 0 || memcmp(s + i, "\xE2\x80\xA9", 3) == 0))
			buf_append_str(out, s[i += 2] == '\xA8' ? "\\u2028" : "\\u2029");
		else
			buf_append_char(out, s[i]);
	}
}

static void check_escape(const char *text, size_t len)
{
	cleanup_buf struct buf fast = BUF_INIT(BUF_UNBOUNDED), slow = BUF_INIT(BUF_UNBOUNDED), quoted = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *copy = xmalloc(len); /* exact: AddressSanitizer sees a byte read too many */

	memcpy(copy, text, len);
	escape_slowly(text, len, &slow);
	CHECK_INT(json_write_escaped(&fast, copy, len), 0);
	CHECK_MEM(fast.data, fast.len, slow.data, slow.len);
	CHECK_INT(json_escaped_size(copy, len), slow.len);
	CHECK_INT(json_write_string(&quoted, copy, len), 0);
	CHECK_INT(quoted.len, slow.len + 2);
	CHECK(quoted.data[0] == '"' && quoted.data[quoted.len - 1] == '"');
	CHECK_MEM(quoted.data + 1, quoted.len - 2, slow.data, slow.len);
}

TEST(every_control_has_its_escape)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	char all[34];

	for (int i = 0; i < 32; i++)
		all[i] = (char)i;
	all[32] = '\x7F';
	all[33] = '/';
	json_write_string(&out, all, sizeof(all));
	CHECK_STR(
		out.data,
		"\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f"
		"\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f"
		"\x7F/\"");
}

TEST(line_separators_are_escaped_and_their_neighbours_are_not)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	static const char text[] = "a\xE2\x80\xA8"
				   "b\xE2\x80\xA9"
				   "c\xE2\x80\xA7\xE2\x80\xAA\xE2\x81\xA8\xE2\x82\xAC\xE3\x80\xA8";

	json_write_string(&out, text, strlen(text));
	CHECK_STR(out.data, "\"a\\u2028b\\u2029c\xE2\x80\xA7\xE2\x80\xAA\xE2\x81\xA8\xE2\x82\xAC\xE3\x80\xA8\"");
}

TEST(special_characters_are_found_at_every_offset)
{
	static const char *const specials[] = {
		"\"", "\\", "\n", "\x1F", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\x7F", ""};
	char text[120];

	for (size_t s = 0; s < sizeof(specials) / sizeof(*specials); s++) {
		size_t n = strlen(specials[s]);

		for (size_t at = 0; at < 70; at++) {
			for (size_t after = 0; after < 40; after += 13) {
				memset(text, ' ', sizeof(text));
				memcpy(text + at, specials[s], n);
				check_escape(text, at + n + after);
			}
		}
	}
	check_escape(BYTES(""));
}

TEST(random_texts_are_escaped_by_the_definition)
{
	struct random r = {99};

	for (int round = 0; round < 3000; round++) {
		cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
		size_t density = 1 + random_below(&r, 40);

		for (size_t n = 1 + random_below(&r, 300); n; n--) {
			if (random_below(&r, density))
				buf_append_char(&text, (char)('a' + random_below(&r, 26)));
			else
				utf8_append_codepoint(&text, (uint32_t[]){(uint32_t)random_below(&r, 32), '"', '\\', 0x2028,
									  0x2029, 0x20AC, 0xE9, 0x1F600}[random_below(&r, 8)]);
		}
		check_escape(text.data, text.len);
	}
}

TEST(a_string_that_does_not_fit_leaves_the_buffer_as_it_was)
{
	for (size_t max = 2; max < 12; max++) {
		cleanup_buf struct buf out = BUF_INIT(max);
		bool fits = max >= 2 + 8;

		buf_append_str(&out, "[,");
		CHECK_INT(json_write_string(&out, "ab\n\"", 4), fits ? 0 : -1);
		CHECK_STR(out.data, fits ? "[,\"ab\\n\\\"\"" : "[,");
	}
	cleanup_buf struct buf none = BUF_INIT(0);

	CHECK_INT(json_write_string(&none, "", 0), -1);
	CHECK_INT(json_write_escaped(&none, "a", 1), -1);
	CHECK_INT(json_write_escaped(&none, "", 0), 0);
}

TEST(pieces_that_end_at_character_borders_make_the_same_text)
{
	static const char text[] = "one\n\xE2\x80\xA8\"two\" \xF0\x9F\x98\x80 \\ three\t\x01 and some more";
	size_t len = strlen(text);
	cleanup_buf struct buf whole = BUF_INIT(BUF_UNBOUNDED);

	json_write_escaped(&whole, text, len);
	for (size_t cut = 0; cut <= len; cut++) {
		cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
		size_t at = utf8_floor(text, cut);

		json_write_escaped(&out, text, at);
		json_write_escaped(&out, text + at, len - at);
		CHECK_MEM(out.data, out.len, whole.data, whole.len);
	}
}

TEST(values_are_written_compactly_in_order)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	cleanup_json json_t *v = json_pack("{s:[],s:{},s:[i,f,b,b,n],s:{s:{s:i}}}", "z", "a", "list", -5, 0.25, 1, 0, "o\"\n",
					   "\xE2\x80\xA8", "k", 7);

	json_array_append_new(json_object_get(v, "list"), json_stringn_nocheck("x\0y\n", 4));
	CHECK_INT(json_write_value(&out, v), 0);
	CHECK_STR(out.data,
		  "{\"z\":[],\"a\":{},\"list\":[-5,0.25,true,false,null,\"x\\u0000y\\n\"],\"o\\\"\\n\":{\"\\u2028\":{\"k\":7}}}");
}

TEST(no_value_is_null)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	CHECK_INT(json_write_value(&out, NULL), 0);
	CHECK_STR(out.data, "null");
}

TEST(a_value_that_does_not_fit_leaves_the_buffer_as_it_was)
{
	cleanup_json json_t *v = json_pack("{s:[i,s],s:n,s:{s:b}}", "a", 1, "text\n", "b", "c", "d", 1);
	cleanup_buf struct buf whole = BUF_INIT(BUF_UNBOUNDED);

	json_write_value(&whole, v);
	for (size_t max = 1; max <= whole.len + 1; max++) {
		cleanup_buf struct buf out = BUF_INIT(max);
		bool fits = max == whole.len + 1;

		buf_append_char(&out, '>');
		CHECK_INT(json_write_value(&out, v), fits ? 0 : -1);
		CHECK_STR(out.data + 1, fits ? whole.data : "");
	}
}

TEST(deep_values_are_written_without_deep_recursion)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	json_t *v = json_array();

	/* As deep as jansson can free on a small stack. */
	for (int i = 1; i < 2000; i++) {
		json_t *outer = i % 2 ? json_object() : json_array();

		if (i % 2)
			json_object_set_new(outer, "k", v);
		else
			json_array_append_new(outer, v);
		v = outer;
	}
	CHECK_INT(json_write_value(&out, v), 0);
	CHECK_INT(strncmp(out.data, "{\"k\":[{\"k\":[", 12), 0);
	CHECK_INT(out.len, 1000 * 2 + 1000 * 6);
	json_decref(v);
}

TEST(reals_are_written_as_javascript_writes_them)
{
	/* Expected texts: String(value) in Node. */
	static const struct {
		double value;
		const char *text;
	} reals[] = {
		{0.0, "0"},
		{-0.0, "0"},
		{1.0, "1"},
		{-1.0, "-1"},
		{0.1, "0.1"},
		{0.5, "0.5"},
		{1.0 / 3, "0.3333333333333333"},
		{100.0, "100"},
		{1e21, "1e+21"},
		{1e20, "100000000000000000000"},
		{123456789012345680000.0, "123456789012345680000"},
		{1e-6, "0.000001"},
		{1e-7, "1e-7"},
		{1.5e-7, "1.5e-7"},
		{123.456, "123.456"},
		{5e-324, "5e-324"},
		{DBL_MAX, "1.7976931348623157e+308"},
		{DBL_MIN, "2.2250738585072014e-308"},
		{2.225073858507201e-308, "2.225073858507201e-308"},
		{9007199254740992.0, "9007199254740992"},
		{9007199254740994.0, "9007199254740994"},
		{4294967296.5, "4294967296.5"},
		{-1e-300, "-1e-300"},
		{1e300, "1e+300"},
		{0x1p70, "1.1805916207174113e+21"},
		{0.000001234, "0.000001234"},
		{1.0000000000000002, "1.0000000000000002"},
		{0x1p-44, "5.684341886080802e-14"},
		{0x3p-1074, "1.5e-323"},
		{5e-310, "5e-310"},
		{1e23, "1e+23"},
		{8.41e21, "8.41e+21"},
		{9.5e20, "950000000000000000000"},
		{0x1p-24, "5.960464477539063e-8"},
		{12345678901234567890.0, "12345678901234567000"},
		{1e22, "1e+22"},
		{0.30000000000000004, "0.30000000000000004"},
		{(double)NAN, "null"},
		{(double)INFINITY, "null"},
		{-(double)INFINITY, "null"},
	};

	for (size_t i = 0; i < sizeof(reals) / sizeof(*reals); i++) {
		char text[JSON_NUMBER_MAX];
		size_t len = json_number_write(text, reals[i].value);

		CHECK_STR(text, reals[i].text);
		CHECK_INT(len, strlen(text));
	}
}

TEST(every_real_reads_back_as_itself)
{
	struct random r = {31337};

	for (int i = 0; i < 50000; i++) {
		uint64_t bits = random_next(&r);
		char text[JSON_NUMBER_MAX];
		double value;

		memcpy(&value, &bits, sizeof(value));
		if (!isfinite(value))
			continue;
		size_t len = json_number_write(text, value);
		cleanup_json json_t *back = json_number_read(text, len);

		if (json_number_value(back) != value)
			tap_fail(__FILE__, __LINE__, "%.17g is written as %s", value, text);
	}
}

TEST(integers_are_written_exactly)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	cleanup_json json_t *v = json_pack("[I,I,I]", (json_int_t)INT64_MAX, (json_int_t)INT64_MIN, (json_int_t)0);

	json_write_value(&out, v);
	CHECK_STR(out.data, "[9223372036854775807,-9223372036854775808,0]");
}

TEST_MAIN()
