#include "json_cases.h"
#include "protocol/json_scan.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

static int scan(const char *text, size_t len, enum json_kind *ret_kind, struct err *err)
{
	/* An exact copy: AddressSanitizer then sees a byte read too many. */
	cleanup_free char *copy = malloc(len ? len : 1);

	memcpy(copy, text, len);
	return json_scan(copy, len, ret_kind, NULL, 0, err);
}

TEST(what_javascript_takes_is_taken)
{
	for (size_t i = 0; i < JSON_ACCEPTED; i++) {
		enum json_kind kind = JSON_KIND_NONE;

		if (scan(json_accepted[i].text, json_accepted[i].len, &kind, NULL) < 0 || kind == JSON_KIND_NONE)
			tap_fail(__FILE__, __LINE__, "refused: %s", json_accepted[i].text);
	}
}

TEST(what_javascript_refuses_is_refused)
{
	for (size_t i = 0; i < JSON_REFUSED; i++) {
		cleanup_err struct err err = ERR_INIT;
		enum json_kind kind;

		if (scan(json_refused[i].text, json_refused[i].len, &kind, &err) == 0)
			tap_fail(__FILE__, __LINE__, "taken: %s", json_refused[i].text);
		CHECK(err_is(&err, ERR_PROTOCOL));
		CHECK(strstr(err_text(&err), " at byte "));
	}
}

TEST(the_kind_of_the_value_is_told)
{
	static const struct {
		const char *text;
		enum json_kind kind;
	} kinds[] = {
		{"null", JSON_KIND_NULL},          {"true", JSON_KIND_TRUE},   {"false", JSON_KIND_FALSE},
		{" -1 ", JSON_KIND_NUMBER},        {"\"\"", JSON_KIND_STRING}, {"[{}]", JSON_KIND_ARRAY},
		{" {\"a\":[]}", JSON_KIND_OBJECT},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		enum json_kind kind = JSON_KIND_NONE;

		CHECK_INT(scan(kinds[i].text, strlen(kinds[i].text), &kind, NULL), 0);
		CHECK_INT(kind, kinds[i].kind);
	}
}

TEST(an_error_says_where_it_is)
{
	static const struct {
		const char *text, *message;
	} errors[] = {
		{"", "unexpected end at byte 0"},
		{"[1,", "unexpected end at byte 3"},
		{"[1,x]", "unexpected character at byte 3"},
		{"trux", "unexpected character at byte 3"},
		{"\"ab\\u12x4\"", "unexpected character at byte 7"},
		{"\"ab\\q\"", "unexpected character at byte 4"},
		{"\"ab", "unexpected end at byte 3"},
		{"{\"a\" 1}", "unexpected character at byte 5"},
		{"1.x", "unexpected character at byte 2"},
		{"{} {}", "unexpected character at byte 3"},
	};

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		cleanup_err struct err err = ERR_INIT;
		enum json_kind kind;

		CHECK_INT(scan(errors[i].text, strlen(errors[i].text), &kind, &err), -1);
		CHECK_STR(err_text(&err), errors[i].message);
	}
}

/* levels of `[` or `{"a":`, closed unless `open`. */
static char *nested(size_t levels, bool objects, bool open, size_t *ret_len)
{
	const char *begin = objects ? "{\"a\":" : "[";
	size_t n = strlen(begin), len = 0;
	char *text = malloc(levels * (n + 1) + 1);

	for (size_t i = 0; i < levels; i++, len += n)
		memcpy(text + len, begin, n);
	if (!open) {
		if (objects)
			text[len++] = '1';
		memset(text + len, objects ? '}' : ']', levels);
		len += levels;
	}
	*ret_len = len;
	return text;
}

TEST(a_million_levels_of_nesting_are_fine)
{
	static const size_t levels[] = {1, 63, 64, 65, 511, 512, 513, 1535, 1536, 1537, 10000, 1000000};

	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
		for (int objects = 0; objects < 2; objects++) {
			enum json_kind kind;
			size_t len;
			cleanup_free char *open = nested(levels[i], objects, true, &len);

			CHECK_INT(json_scan(open, len, &kind, NULL, 0, NULL), -1);

			cleanup_free char *text = nested(levels[i], objects, false, &len);
			CHECK_INT(json_scan(text, len, &kind, NULL, 0, NULL), 0);
			CHECK_INT(kind, objects ? JSON_KIND_OBJECT : JSON_KIND_ARRAY);
			CHECK_INT(json_scan(text, len - 1, &kind, NULL, 0, NULL), -1);
			text[len - 1 - levels[i] / 2] = objects ? ']' : '}';
			CHECK_INT(json_scan(text, len, &kind, NULL, 0, NULL), -1);
		}
	}
}

/* The member's text, or what is the matter with it. */
static void check_member(const char *text, const char *key, const char *want)
{
	struct json_member member = {.key = key, .value = {.kind = JSON_KIND_TRUE, .text = "left over", .len = 9}};
	enum json_kind kind;

	json_scan(text, strlen(text), &kind, &member, 1, NULL);
	if (want)
		CHECK_MEM(member.value.text, member.value.len, want, strlen(want));
	CHECK(want ? member.value.kind != JSON_KIND_NONE : member.value.kind == JSON_KIND_NONE);
}

TEST(members_are_cut_out_as_they_stand)
{
	static const char text[] = " { \"a\" : [ 1 , {\"b\":2} ] , \"b\" : \"x\\\"y\" ,\"c\":-1.5e3, \"d\":{ } "
				   ",\"e\":null,\"f\":true,\"g\":false } ";
	struct json_member members[] = {{.key = "a"}, {.key = "b"}, {.key = "c"}, {.key = "d"},
					{.key = "e"}, {.key = "f"}, {.key = "g"}, {.key = "h"}};
	static const char *want[] = {"[ 1 , {\"b\":2} ]", "\"x\\\"y\"", "-1.5e3", "{ }", "null", "true", "false"};
	static const enum json_kind kinds[] = {JSON_KIND_ARRAY, JSON_KIND_STRING, JSON_KIND_NUMBER, JSON_KIND_OBJECT,
					       JSON_KIND_NULL,  JSON_KIND_TRUE,   JSON_KIND_FALSE};
	enum json_kind kind;

	CHECK_INT(json_scan(text, strlen(text), &kind, members, 8, NULL), 0);
	for (size_t i = 0; i < 7; i++) {
		CHECK_INT(members[i].value.kind, kinds[i]);
		CHECK_MEM(members[i].value.text, members[i].value.len, want[i], strlen(want[i]));
	}
	CHECK_INT(members[7].value.kind, JSON_KIND_NONE);
	CHECK(!members[7].value.text);
}

TEST(the_last_of_duplicate_members_counts)
{
	check_member("{\"id\":1,\"id\":[2],\"x\":0,\"id\":\"3\"}", "id", "\"3\"");
}

TEST(keys_are_compared_after_unescaping)
{
	check_member("{\"\\u0069d\":1}", "id", "1");
	check_member("{\"\\u0069\\u0064\\u0000\":1}", "id", NULL);
	check_member("{\"i\\/d\":1}", "i/d", "1");
	check_member("{\"\\ud83d\\ude00\":1}", "\xF0\x9F\x98\x80", "1");
	check_member("{\"ID\":1,\"i\":2,\"idd\":3}", "id", NULL);
}

TEST(only_members_of_the_outermost_object_count)
{
	check_member("{\"a\":{\"id\":1},\"b\":[{\"id\":2}]}", "id", NULL);
	check_member("[{\"id\":1}]", "id", NULL);
	check_member("[\"id\",1]", "id", NULL);
	check_member("{\"id\":{\"id\":1}}", "id", "{\"id\":1}");
	check_member("\"id\"", "id", NULL);
}

TEST(members_before_an_error_are_kept)
{
	check_member("{\"id\":5,\"params\":{\"a\":", "id", "5");
	check_member("{\"id\":\"a\" \"b\"", "id", "\"a\"");
	check_member("{\"id\":{\"a\":[]} x", "id", "{\"a\":[]}");
	check_member("{\"id\":5 x", "id", "5");
}

TEST(members_that_are_not_whole_are_not_kept)
{
	check_member("{\"id\":12", "id", NULL);
	check_member("{\"id\":12x", "id", NULL);
	check_member("{\"id\":1.", "id", NULL);
	check_member("{\"id\":\"ab", "id", NULL);
	check_member("{\"id\":[1", "id", NULL);
	check_member("{\"id\":1,\"id\":x", "id", NULL);
	check_member("{\"id", "id", NULL);
}

TEST(a_member_that_was_begun_can_be_told_from_one_that_is_not_there)
{
	struct json_member members[] = {{.key = "result"}, {.key = "error"}};
	static const char text[] = "{\"result\": {\"a\":";
	enum json_kind kind;

	CHECK_INT(json_scan(text, strlen(text), &kind, members, 2, NULL), -1);
	CHECK_INT(members[0].value.kind, JSON_KIND_NONE);
	CHECK(members[0].value.text);
	CHECK(!members[1].value.text);
}

TEST(string_slices_are_unescaped)
{
	static const struct {
		struct json_case in, out;
	} strings[] = {
		{JSON_CASE("\"\""), JSON_CASE("")},
		{JSON_CASE("\"abc\""), JSON_CASE("abc")},
		{JSON_CASE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), JSON_CASE("\"\\/\b\f\n\r\t")},
		{JSON_CASE("\"a\\u0000b\""), JSON_CASE("a\0b")},
		{JSON_CASE("\"\\u00e9\\u20AC\\uFFFF\""), JSON_CASE("\xC3\xA9\xE2\x82\xAC\xEF\xBF\xBF")},
		{JSON_CASE("\"\\ud83d\\uDE00\""), JSON_CASE("\xF0\x9F\x98\x80")},
		{JSON_CASE("\"\\udbff\\udfff\""), JSON_CASE("\xF4\x8F\xBF\xBF")},
		{JSON_CASE("\"\\ud800\""), JSON_CASE("\xEF\xBF\xBD")},
		{JSON_CASE("\"\\ud800x\""), JSON_CASE("\xEF\xBF\xBDx")},
		{JSON_CASE("\"\\ud800\\n12345\""), JSON_CASE("\xEF\xBF\xBD\n12345")},
		{JSON_CASE("\"\\udc00\\ud800\""), JSON_CASE("\xEF\xBF\xBD\xEF\xBF\xBD")},
		{JSON_CASE("\"\\ud800\\ud800\\udc00\""), JSON_CASE("\xEF\xBF\xBD\xF0\x90\x80\x80")},
		{JSON_CASE("\"\\ud800\\u0041\""), JSON_CASE("\xEF\xBF\xBD"
							    "A")},
	};

	for (size_t i = 0; i < sizeof(strings) / sizeof(*strings); i++) {
		struct json_slice slice = {.kind = JSON_KIND_STRING, .text = strings[i].in.text, .len = strings[i].in.len};
		size_t len;
		cleanup_free char *text = json_slice_string(&slice, &len);

		CHECK_MEM(text, len, strings[i].out.text, strings[i].out.len);
		CHECK(text[len] == '\0');
	}
}

TEST_MAIN()
