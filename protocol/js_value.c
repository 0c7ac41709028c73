#include "protocol/js_value.h"

#include "base/cleanup.h"
#include "base/mem.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SAFE_INTEGER_MAX 9007199254740991.0

/* --- trim --- */

/* ECMA-262, WhiteSpace and LineTerminator, beyond ASCII, as UTF-8. */
static const char *const blanks[] = {
	"\xC2\xA0",     /* U+00A0 */
	"\xE1\x9A\x80", /* U+1680 */
	"\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85",
	"\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", /* U+2000-200A */
	"\xE2\x80\xA8", "\xE2\x80\xA9",                                                 /* U+2028, U+2029 */
	"\xE2\x80\xAF", /* U+202F */
	"\xE2\x81\x9F", /* U+205F */
	"\xE3\x80\x80", /* U+3000 */
	"\xEF\xBB\xBF", /* U+FEFF */
};

static bool is_ascii_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Length of the blank that starts (or, from the end, ends) the text; 0: none. */
static size_t blank_at(const char *text, size_t len, bool at_end)
{
	if (len > 0 && is_ascii_blank(at_end ? text[len - 1] : text[0]))
		return 1;
	for (size_t i = 0; i < sizeof(blanks) / sizeof(*blanks); i++) {
		size_t n = strlen(blanks[i]);

		if (n <= len && memcmp(at_end ? text + len - n : text, blanks[i], n) == 0)
			return n;
	}
	return 0;
}

const char *js_trim(const char *text, size_t len, size_t *ret_len)
{
	size_t n;

	while ((n = blank_at(text, len, false)) > 0) {
		text += n;
		len -= n;
	}
	while ((n = blank_at(text, len, true)) > 0)
		len -= n;
	*ret_len = len;
	return text;
}

char *js_trimmed(const json_t *value)
{
	const char *text = json_string_value(value);
	size_t len;

	if (!text)
		return NULL;
	text = js_trim(text, json_string_length(value), &len);
	return len ? xmemdup0(text, len) : NULL;
}

/* --- numbers --- */

static size_t count_digits(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && isdigit((unsigned char)text[n]))
		n++;
	return n;
}

/* StrUnsignedDecimalLiteral without Infinity: 1  1.  1.5  .5  1e3  … */
static bool is_decimal(const char *text, size_t len)
{
	size_t whole = count_digits(text, len), at = whole, fraction = 0;

	if (at < len && text[at] == '.') {
		fraction = count_digits(text + at + 1, len - at - 1);
		at += 1 + fraction;
	}
	if (whole + fraction == 0)
		return false;
	if (at == len)
		return true;
	if (text[at] != 'e' && text[at] != 'E')
		return false;
	at++;
	if (at < len && (text[at] == '+' || text[at] == '-'))
		at++;
	size_t exponent = count_digits(text + at, len - at);

	return exponent > 0 && at + exponent == len;
}

/* 2, 8 or 16 for text that starts with 0b, 0o or 0x; 0: no prefix. */
static int radix_of(const char *text, size_t len)
{
	if (len < 2 || text[0] != '0')
		return 0;
	switch (text[1]) {
	case 'b':
	case 'B':
		return 2;
	case 'o':
	case 'O':
		return 8;
	case 'x':
	case 'X':
		return 16;
	default:
		return 0;
	}
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

/* Digits beyond 2^53 round a little otherwise than in JavaScript; no field of ours is that big. */
static double radix_number(const char *text, size_t len, int radix)
{
	double value = 0;

	if (len == 0)
		return NAN;
	for (size_t i = 0; i < len; i++) {
		int digit = digit_value(text[i]);

		if (digit >= radix)
			return NAN;
		value = value * radix + digit;
	}
	return value;
}

double js_string_number(const char *text, size_t len)
{
	text = js_trim(text, len, &len);
	if (len == 0)
		return 0;
	int radix = radix_of(text, len);

	if (radix)
		return radix_number(text + 2, len - 2, radix);
	bool negative = text[0] == '-';
	size_t sign = text[0] == '+' || text[0] == '-';

	if (len - sign == 8 && memcmp(text + sign, "Infinity", 8) == 0)
		return negative ? -INFINITY : INFINITY;
	if (!is_decimal(text + sign, len - sign))
		return NAN;
	cleanup_free char *copy = xmemdup0(text + sign, len - sign);
	/* (The C locale's object is static in glibc: nothing to free, no failure.) */
	double value = strtod_l(copy, NULL, newlocale(LC_ALL_MASK, "C", (locale_t)0));

	return negative ? -value : value;
}

/* Number([x]) is Number(String([x])): of a single element its text, in which null is empty and true is "true". */
static double array_number(const json_t *array)
{
	while (json_array_size(array) == 1) {
		const json_t *only = json_array_get(array, 0);

		if (json_is_null(only))
			return 0;
		if (json_is_boolean(only))
			return NAN;
		if (!json_is_array(only))
			return js_number(only);
		array = only;
	}
	return json_array_size(array) == 0 ? 0 : NAN;
}

double js_number(const json_t *value)
{
	if (!value)
		return NAN;
	switch (json_typeof(value)) {
	case JSON_NULL:
	case JSON_FALSE:
		return 0;
	case JSON_TRUE:
		return 1;
	case JSON_INTEGER:
		return (double)json_integer_value(value);
	case JSON_REAL:
		return json_real_value(value);
	case JSON_STRING:
		return js_string_number(json_string_value(value), json_string_length(value));
	case JSON_ARRAY:
		return array_number(value);
	case JSON_OBJECT:
	default:
		return NAN;
	}
}

double js_integer(const json_t *value, double fallback)
{
	double number = js_number(value);

	/* + 0: -0.5 truncates to -0, which prints as 0 in JSON. */
	return isfinite(number) ? trunc(number) + 0.0 : fallback;
}

json_t *js_number_json(double number)
{
	if (trunc(number) == number && fabs(number) <= SAFE_INTEGER_MAX)
		return json_integer((json_int_t)number);
	return json_real(number);
}
