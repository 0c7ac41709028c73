#include "base/err.h"
#include "protocol/js_value.h"

#include "tap.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void check_number(const char *json, double want)
{
	cleanup_json json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
	double got = js_number(value);

	if (isnan(want) ? !isnan(got) : got != want)
		tap_fail(__FILE__, __LINE__, "Number(%s) is %g, want %g", json, got, want);
}

/* wire: e2b, Config; wire: cloudflare, Config. The rest as Node prints it. */
TEST(number_of_any_json_value_as_javascript_has_it)
{
	static const struct {
		const char *json;
		double want;
	} cases[] = {
		{"true", 1}, {"false", 0}, {"null", 0}, {"\"\"", 0}, {"\" \"", 0}, {"[]", 0}, {"[5]", 5}, {"[\"7\"]", 7}, {"[[7]]", 7},
		{"[[[]]]", 0}, {"[null]", 0}, {"[[null]]", 0}, {"[true]", NAN}, {"{}", NAN}, {"[1,2]", NAN}, {"[{}]", NAN}, {"\"12px\"", NAN},
		{"\"1_000\"", NAN}, {"\"1e3\"", 1000}, {"\" 1e3 \"", 1000}, {"\"0x10\"", 16}, {"\"0X1f\"", 31}, {"\"0b11\"", 3},
		{"\"0o17\"", 15}, {"\" 12 \"", 12}, {"\"+5\"", 5}, {"\"-5\"", -5}, {"\".5e3\"", 500}, {"\"5.\"", 5}, {"\".\"", NAN},
		{"\"+\"", NAN}, {"\"0x\"", NAN}, {"\"-0x10\"", NAN}, {"\"0b2\"", NAN}, {"\"1e\"", NAN}, {"\"1e+\"", NAN}, {"\"1 2\"", NAN},
		{"\"Infinity\"", INFINITY}, {"\"-Infinity\"", -INFINITY}, {"\"infinity\"", NAN}, {"\"NaN\"", NAN}, {"\"nan\"", NAN},
		{"\"1e400\"", INFINITY}, {"\"007\"", 7}, {"\"12abc\"", NAN}, {"\"\\u00a012\\ufeff\"", 12}, {"\"1\\u0000\"", NAN},
		{"450000.9", 450000.9}, {"-3", -3}, {"\"450000.9\"", 450000.9}, {"\"0x1.8p1\"", NAN},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		check_number(cases[i].json, cases[i].want);
	CHECK(isnan(js_number(NULL)));
}

TEST(integers_are_truncated_towards_zero_and_fall_back_when_not_finite)
{
	static const struct {
		const char *json;
		double want;
	} cases[] = {{"\"450000.9\"", 450000}, {"-0.5", 0}, {"-1.9", -1}, {"\"x\"", 300000}, {"\"Infinity\"", 300000}, {"{}", 300000}, {"\"\"", 0}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_json json_t *value = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
		double got = js_integer(value, 300000);

		CHECK(got == cases[i].want && !signbit(got) == !(cases[i].want < 0));
	}
}

TEST(trim_takes_all_of_javascripts_blanks_and_no_others)
{
	static const char *const blanks[] = {"\t", "\n", "\v", "\f", "\r", " ", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x8A",
					     "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80", "\xEF\xBB\xBF"};
	static const char *const others[] = {"\xE2\x80\x8B", "\xE1\xA0\x8E", "\x1F", "\xC2\x85", "a", "\xE2\x81\xA0"};
	char text[32];
	size_t len;

	for (size_t i = 0; i < sizeof(blanks) / sizeof(*blanks); i++) {
		snprintf(text, sizeof(text), "%sx %sy%s%s", blanks[i], blanks[i], blanks[i], blanks[i]);
		const char *slice = js_trim(text, strlen(text), &len);

		CHECK(*slice == 'x' && slice[len - 1] == 'y');
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		js_trim(others[i], strlen(others[i]), &len);
		CHECK_INT(len, strlen(others[i]));
	}
}

TEST(trimmed_is_null_for_blank_strings_and_other_types)
{
	cleanup_json json_t *text = json_string(" \xC2\xA0 key \n"), *blank = json_string(" \t"), *number = json_integer(5);
	cleanup_free char *got = js_trimmed(text);

	CHECK_STR(got, "key");
	CHECK(!js_trimmed(blank) && !js_trimmed(number) && !js_trimmed(NULL));
}

TEST(numbers_become_json_integers_where_they_are_whole)
{
	cleanup_json json_t *whole = js_number_json(300000), *part = js_number_json(0.5), *big = js_number_json(1e300);

	CHECK(json_is_integer(whole) && json_integer_value(whole) == 300000);
	CHECK(json_is_real(part) && json_is_real(big));
}

TEST_MAIN()
