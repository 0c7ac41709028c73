#include "base/buf.h"
#include "base/mem.h"
#include "json_cases.h"
#include "protocol/json_read.h"
#include "protocol/json_scan.h"
#include "protocol/json_write.h"
#include "random.h"
#include "tap.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <string.h>

/* Reads an exact copy, so that AddressSanitizer sees a byte read too many. NULL on an error. */
static json_t *read_len(const char *text, size_t len, struct err *err)
{
	json_t *value = NULL;
	cleanup_free char *copy = xmalloc(len);

	memcpy(copy, text, len);
	return json_read(copy, len, &value, err) < 0 ? NULL : value;
}

static json_t *read_text(const char *text)
{
	return read_len(text, strlen(text), NULL);
}

TEST(what_javascript_takes_is_read)
{
	for (size_t i = 0; i < JSON_ACCEPTED; i++) {
		cleanup_json json_t *value = read_len(json_accepted[i].text, json_accepted[i].len, NULL);

		if (!value)
			tap_fail(__FILE__, __LINE__, "refused: %s", json_accepted[i].text);
	}
}

TEST(what_javascript_refuses_is_an_error_with_its_place)
{
	for (size_t i = 0; i < JSON_REFUSED; i++) {
		cleanup_err struct err err = ERR_INIT;
		cleanup_json json_t *value = read_len(json_refused[i].text, json_refused[i].len, &err);

		if (value)
			tap_fail(__FILE__, __LINE__, "taken: %s", json_refused[i].text);
		CHECK(err_is(&err, ERR_PROTOCOL));
		CHECK(strstr(err_text(&err), " at byte "));
	}
}

TEST(an_error_leaves_the_result_alone)
{
	json_t *value = json_null();

	CHECK_INT(json_read("[1,2", 4, &value, NULL), -1);
	CHECK(json_is_null(value));
}

TEST(values_arrive_with_their_type_and_order)
{
	cleanup_json json_t *v = read_text("{\"b\":[1,\"x\",true,false,null,{}],\"a\":{\"n\":{}},\"\":[]}");
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	json_write_value(&out, v);
	CHECK_STR(out.data, "{\"b\":[1,\"x\",true,false,null,{}],\"a\":{\"n\":{}},\"\":[]}");
}

TEST(whole_numbers_are_integers_however_they_are_written)
{
	static const struct {
		const char *text;
		json_int_t value;
	} numbers[] = {
		{"0", 0},
		{"-1", -1},
		{"9007199254740993", INT64_C(9007199254740993)},
		{"9223372036854775807", INT64_MAX},
		{"-9223372036854775808", INT64_MIN},
		{"5.0", 5},
		{"1e3", 1000},
		{"1.5e1", 15},
		{"9007199254740992.0", INT64_C(1) << 53},
		{"0.0", 0},
		{"0e5", 0},
		{"1e-400", 0},
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		cleanup_json json_t *v = read_text(numbers[i].text);

		CHECK(json_is_integer(v));
		CHECK_INT(json_integer_value(v), numbers[i].value);
	}
}

TEST(other_numbers_are_reals)
{
	static const struct {
		const char *text;
		double value;
	} numbers[] = {
		{"1.5", 1.5},
		{"-0.1", -0.1},
		{"9223372036854775808", 9223372036854775808.0},
		{"-9223372036854775809", -9223372036854775808.0},
		{"1180591620717411303424", 1180591620717411303424.0 /* 2^70 */},
		{"1e400", DBL_MAX},
		{"-1e400", -DBL_MAX},
		{"1e99999999999999999999", DBL_MAX},
		{"1e300", 1e300},
		{"5e-324", 5e-324},
		{"9007199254740994.0", 9007199254740994.0},
		{"2.2250738585072011e-308", 2.2250738585072011e-308},
		{"0.1000000000000000055511151231257827021181583404541015625000000000000000000001", 0.1},
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		cleanup_json json_t *v = read_text(numbers[i].text);

		CHECK(json_is_real(v));
		if (json_real_value(v) != numbers[i].value)
			tap_fail(__FILE__, __LINE__, "%s is read as %.17g", numbers[i].text, json_real_value(v));
	}
}

TEST(minus_zero_keeps_its_sign)
{
	static const char *texts[] = {"-0", "-0.0", "-0e1", "-1e-400"};

	for (size_t i = 0; i < 4; i++) {
		cleanup_json json_t *v = read_text(texts[i]);

		CHECK(json_is_real(v));
		CHECK(json_real_value(v) == 0 && signbit(json_real_value(v)));
	}
}

TEST(a_number_of_a_million_digits_is_read)
{
	size_t len = 1000000;
	cleanup_free char *text = xmalloc(len);

	memset(text, '9', len);
	cleanup_json json_t *huge = read_len(text, len, NULL);
	CHECK(json_real_value(huge) == DBL_MAX);
	text[1] = '.';
	cleanup_json json_t *ten = read_len(text, len, NULL);
	CHECK_INT(json_integer_value(ten), 10);
}

TEST(the_locale_does_not_change_numbers)
{
	static const char *const with_comma[] = {"de_DE.UTF-8", "de_DE",       "fr_FR.UTF-8",
						 "nl_NL.UTF-8", "pl_PL.UTF-8", "ru_RU.UTF-8"};
	bool found = false;

	for (size_t i = 0; i < sizeof(with_comma) / sizeof(*with_comma) && !found; i++)
		found = setlocale(LC_ALL, with_comma[i]) && strcmp(localeconv()->decimal_point, ",") == 0;
	cleanup_json json_t *v = read_text("[1.5,-2.25e-3]");
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	json_write_value(&out, v);
	setlocale(LC_ALL, "C");
	CHECK_STR(out.data, "[1.5,-0.00225]");
	if (!found)
		tap_skip("no locale with a decimal comma is installed");
}

TEST(strings_keep_nul_and_lose_only_lone_surrogates)
{
	cleanup_json json_t *v = read_text(
		"[\"a\\u0000b\",\"\\ud83d\\ude00\",\"x\\ud800y\",\"\\udc00\",\"\\u2028\xE2\x80\xA9\"]");
	static const struct json_case want[] = {JSON_CASE("a\0b"), JSON_CASE("\xF0\x9F\x98\x80"), JSON_CASE("x\xEF\xBF\xBDy"),
						JSON_CASE("\xEF\xBF\xBD"), JSON_CASE("\xE2\x80\xA8\xE2\x80\xA9")};

	for (size_t i = 0; i < 5; i++) {
		const json_t *s = json_array_get(v, i);

		CHECK_MEM(json_string_value(s), json_string_length(s), want[i].text, want[i].len);
	}
}

TEST(the_last_of_duplicate_keys_counts_in_the_place_of_the_first)
{
	cleanup_json json_t *v = read_text("{\"a\":1,\"b\":{\"x\":[1]},\"\\u0061\":{\"y\":2},\"b\":3}");
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	json_write_value(&out, v);
	CHECK_STR(out.data, "{\"a\":{\"y\":2},\"b\":3}");
}

TEST(a_key_that_holds_nul_is_kept_whole)
{
	cleanup_json json_t *v = read_text("{\"a\\u0000b\":{\"x\":[1]},\"a\":1,\"\\u0000\":[],\"a\\u0000b\":2}");
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	json_write_value(&out, v);
	CHECK_STR(out.data, "{\"a\\u0000b\":2,\"a\":1,\"\\u0000\":[]}");
	CHECK_INT(json_integer_value(json_object_get(v, "a")), 1);
}

TEST(nesting_is_limited_to_512_levels)
{
	static const struct {
		size_t levels;
		enum err_kind kind;
	} depths[] = {{1, ERR_NONE}, {512, ERR_NONE}, {513, ERR_INVALID}, {10000, ERR_INVALID}};
	char text[20000];

	for (size_t i = 0; i < 4; i++) {
		cleanup_err struct err err = ERR_INIT;
		size_t n = depths[i].levels;

		memset(text, '[', n);
		memset(text + n, ']', n);
		cleanup_json json_t *v = read_len(text, 2 * n, &err);

		CHECK_INT(err.kind, depths[i].kind);
		CHECK((v != NULL) == (depths[i].kind == ERR_NONE));
	}
}

TEST(a_string_of_many_megabytes_is_read_whole)
{
	size_t len = 20 * 1000 * 1000;
	cleanup_free char *text = xmalloc(len);

	memset(text, 'x', len);
	text[0] = text[len - 1] = '"';
	memcpy(text + len / 2, "\\n", 2);
	cleanup_json json_t *v = read_len(text, len, NULL);

	CHECK_INT(json_string_length(v), len - 3);
	CHECK_INT(json_string_value(v)[len / 2 - 1], '\n');
}

/* Some bytes replaced, removed, doubled or swapped for what JSON is made of. */
static size_t mutate(struct random *r, char *text, size_t len, size_t room)
{
	static const char bits[] = "{}[]\",:\\u0019-+.eEtfn \n\x01\x7F\xC3\xA9";

	for (size_t n = 1 + random_below(r, 3); n; n--) {
		size_t at = random_below(r, len + 1);

		switch (random_below(r, 3)) {
		case 0:
			if (at < len)
				text[at] = bits[random_below(r, sizeof(bits))];
			break;
		case 1:
			if (at < len)
				memmove(text + at, text + at + 1, --len - at);
			break;
		default:
			if (len < room) {
				memmove(text + at + 1, text + at, len++ - at);
				text[at] = bits[random_below(r, sizeof(bits))];
			}
		}
	}
	return len;
}

/* Scan and read agree, and what was read survives writing and reading. */
static void check_agreement(const char *text, size_t len)
{
	cleanup_err struct err scan_err = ERR_INIT, read_err = ERR_INIT;
	cleanup_buf struct buf first = BUF_INIT(BUF_UNBOUNDED), second = BUF_INIT(BUF_UNBOUNDED);
	cleanup_json json_t *value = NULL, *again = NULL;
	enum json_kind kind;
	int scanned = json_scan(text, len, &kind, NULL, 0, &scan_err);

	if (json_read(text, len, &value, &read_err) != scanned)
		tap_fail(__FILE__, __LINE__, "scan %d, read %d: %.*s", scanned, !scanned, (int)len, text);
	CHECK_STR(err_text(&read_err), err_text(&scan_err));
	if (!value)
		return;
	CHECK_INT(json_write_value(&first, value), 0);
	CHECK_INT(json_read(first.data, first.len, &again, NULL), 0);
	CHECK_INT(json_write_value(&second, again), 0);
	CHECK_MEM(second.data, second.len, first.data, first.len);
}

TEST(scan_and_read_agree_on_every_mutation_and_what_is_read_survives_writing)
{
	static const char *const seeds[] = {
		"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"health\",\"params\":{\"a\":[1,-2.5e3,true,false,null]}}",
		"[\"\\ud83d\\ude00\\u0000\\n\\\"\\\\\",\"\xE2\x80\xA8 \xC3\xA9\",[[],{}],{\"\":{\"a\":1,\"a\":2}}]",
		"[0,-0,1e400,0.1,123456789012345678901234567890,1E-7,5e-324]",
		"\"a string that is longer than a block of sixteen bytes\"",
	};
	struct random r = {20240917};
	char text[200];

	for (int round = 0; round < 40000; round++) {
		const char *seed = seeds[round % 4];
		size_t len = strlen(seed);

		memcpy(text, seed, len);
		check_agreement(text, mutate(&r, text, len, sizeof(text)));
	}
}

TEST_MAIN()
