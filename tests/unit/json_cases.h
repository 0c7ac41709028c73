/* Texts that JSON.parse takes and refuses; every reader of ours must agree. */
#ifndef TESTS_JSON_CASES_H
#define TESTS_JSON_CASES_H

#include <stddef.h>

struct json_case {
	const char *text;
	size_t len;
};
#define JSON_CASE(literal) {literal, sizeof(literal) - 1}

static const struct json_case json_accepted[] = {
	/* scalars, white space */
	JSON_CASE("null"), JSON_CASE("true"), JSON_CASE("false"), JSON_CASE("0"), JSON_CASE("\"\""), JSON_CASE(" \t\r\n1 \t\r\n"),
	/* numbers */
	JSON_CASE("-0"), JSON_CASE("-1"), JSON_CASE("10"), JSON_CASE("1.0"), JSON_CASE("0.5"), JSON_CASE("-0.0"), JSON_CASE("1e5"),
	JSON_CASE("1E5"), JSON_CASE("1e+5"), JSON_CASE("1e-5"), JSON_CASE("0e0"), JSON_CASE("0e+1"), JSON_CASE("1.5e10"), JSON_CASE("1e400"),
	JSON_CASE("-1e400"), JSON_CASE("1e-400"), JSON_CASE("123456789012345678901234567890"), JSON_CASE("1e00099"),
	JSON_CASE("1e99999999999999999999"), JSON_CASE("0.00000000000000000000000000000000000000000000000000000000000000000000000001"),
	/* strings */
	JSON_CASE("\"abc\""), JSON_CASE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), JSON_CASE("\"\\u0000\""), JSON_CASE("\"\\u00e9\\u20AC\""),
	JSON_CASE("\"\\ud83d\\ude00\""), JSON_CASE("\"\\ud800\""), JSON_CASE("\"\\udc00\\ud800\""), JSON_CASE("\"\\uD800\\n\""),
	JSON_CASE("\"\\ud800\\ud800\\udc00\""), JSON_CASE("\"\x7F\""), JSON_CASE("\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""),
	JSON_CASE("\"\xE2\x80\xA8\xE2\x80\xA9\""), JSON_CASE("\"exactly sixteen!\""), JSON_CASE("\"a string that is longer than a block\""),
	/* arrays and objects */
	JSON_CASE("[]"), JSON_CASE("{}"), JSON_CASE("[ ]"), JSON_CASE("{ }"), JSON_CASE("[1]"), JSON_CASE("[1,2]"), JSON_CASE("[[],[[]],{}]"),
	JSON_CASE("{\"a\":1}"), JSON_CASE("{\"a\":1,\"b\":[{}]}"), JSON_CASE("{\"\":0}"), JSON_CASE("{\"a\":1,\"a\":2}"),
	JSON_CASE("{\"a\\u0000b\":1}"), JSON_CASE(" { \"a\" : [ 1 , 2 ] , \"b\" : { } } "), JSON_CASE("[\"a\",-1.5e3,true,false,null]"),
	JSON_CASE("{\"__proto__\":1}"), JSON_CASE("[[[[[[[[[[]]]]]]]]]]"),
};

static const struct json_case json_refused[] = {
	JSON_CASE(""), JSON_CASE(" "), JSON_CASE("\0"), JSON_CASE("nul"), JSON_CASE("nulll"), JSON_CASE("True"), JSON_CASE("NaN"), JSON_CASE("Infinity"),
	JSON_CASE("-Infinity"), JSON_CASE("undefined"), JSON_CASE("1 2"), JSON_CASE("null\0"), JSON_CASE("\xEF\xBB\xBFnull"), JSON_CASE("\xC2\xA0" "1"),
	JSON_CASE("\v1"), JSON_CASE("\f1"), JSON_CASE("// c\n1"), JSON_CASE("/**/1"), JSON_CASE("'a'"), JSON_CASE("a"),
	/* numbers */
	JSON_CASE("-"), JSON_CASE("+1"), JSON_CASE("01"), JSON_CASE("-01"), JSON_CASE("00"), JSON_CASE("1."), JSON_CASE(".5"), JSON_CASE("-.5"),
	JSON_CASE("1.e5"), JSON_CASE("1e"), JSON_CASE("1e+"), JSON_CASE("1e-"), JSON_CASE("1e1.5"), JSON_CASE("0x10"), JSON_CASE("1_000"),
	JSON_CASE("1f"), JSON_CASE("--1"), JSON_CASE("1-"), JSON_CASE("0E"), JSON_CASE("1 e5"), JSON_CASE("- 1"), JSON_CASE("\xEF\xBC\x91"),
	/* strings */
	JSON_CASE("\""), JSON_CASE("\"abc"), JSON_CASE("\"\\\""), JSON_CASE("\"\\"), JSON_CASE("\"\\x41\""), JSON_CASE("\"\\'\""), JSON_CASE("\"\\u\""),
	JSON_CASE("\"\\u12\""), JSON_CASE("\"\\u123\""), JSON_CASE("\"\\u123g\""), JSON_CASE("\"\\u 123\""), JSON_CASE("\"\\U0041\""), JSON_CASE("\"\\u12"),
	JSON_CASE("\"\\ud800\\u\""), JSON_CASE("\"\n\""), JSON_CASE("\"\t\""), JSON_CASE("\"\0\""), JSON_CASE("\"\x1F\""), JSON_CASE("\"\\\0\""),
	JSON_CASE("\"a string longer than a block, then \n\""), JSON_CASE("\"\\\n\""), JSON_CASE("\"a\"b"), JSON_CASE("\"\"\""), JSON_CASE("\"\\a\""),
	/* arrays and objects */
	JSON_CASE("["), JSON_CASE("]"), JSON_CASE("{"), JSON_CASE("}"), JSON_CASE("[}"), JSON_CASE("{]"), JSON_CASE("[1"), JSON_CASE("[1,"), JSON_CASE("[1,]"),
	JSON_CASE("[,1]"), JSON_CASE("[,]"), JSON_CASE("[1,,2]"), JSON_CASE("[1 2]"), JSON_CASE("[1:2]"), JSON_CASE("[1}"), JSON_CASE("[]]"), JSON_CASE("[][]"),
	JSON_CASE("{\"a\"}"), JSON_CASE("{\"a\":}"), JSON_CASE("{\"a\":1"), JSON_CASE("{\"a\":1,"), JSON_CASE("{\"a\":1,}"), JSON_CASE("{,}"),
	JSON_CASE("{,\"a\":1}"), JSON_CASE("{\"a\":1,,\"b\":2}"), JSON_CASE("{a:1}"), JSON_CASE("{'a':1}"), JSON_CASE("{1:1}"), JSON_CASE("{null:1}"),
	JSON_CASE("{\"a\" 1}"), JSON_CASE("{\"a\"::1}"), JSON_CASE("{\"a\",1}"), JSON_CASE("{\"a\":1]"), JSON_CASE("{\"a\":1 \"b\":2}"), JSON_CASE("{}}"),
	JSON_CASE("{\"a\":[1}"), JSON_CASE("[{\"a\":1]"), JSON_CASE("{\"a\n\":1}"), JSON_CASE("{[]:1}"), JSON_CASE("[\"a\":1]"), JSON_CASE("{\"a\":1}x"),
	JSON_CASE("[1],"), JSON_CASE("{\"a\"\0:1}"), JSON_CASE("[tru]"), JSON_CASE("[falsey]"), JSON_CASE("{\"a\":nul}"),
};

#define JSON_ACCEPTED (sizeof(json_accepted) / sizeof(*json_accepted))
#define JSON_REFUSED (sizeof(json_refused) / sizeof(*json_refused))

#endif
